//! Evidence made in the sandbox, verified; and every way of forging it that has a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{
    Curve, EnvelopeEntry, Identity, SandboxKey, SandboxSigner, Signing, Sigstore, SimpleSignature,
};
use promotion_gate_core::attest::{
    self, Anchor, Material, PublicKey, SignatureForm, TimeSource, Transparency, TrustRoot,
    UnacceptedReason, Verified, VerifiedSignature, predicate::Predicate,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

const WORKFLOW: &str =
    "https://github.com/example/app/.github/workflows/release.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

struct Bench {
    sigstore: Sigstore,
    root: Arc<TrustRoot>,
    identity: Identity,
    key: SandboxKey,
    image: Digest,
}

impl Bench {
    fn new() -> Bench {
        let sigstore = Sigstore::create().unwrap();
        let root = root_of(&sigstore);
        Bench {
            root,
            sigstore,
            identity: Identity::new(WORKFLOW, ISSUER),
            key: SandboxKey::generate().unwrap(),
            image: Digest::sha256(b"image"),
        }
    }

    fn by_root(&self) -> Anchor {
        Anchor::Root(Arc::clone(&self.root))
    }

    fn by_key(&self, root: bool) -> Anchor {
        let key = PublicKey::from_pem(&self.key.public_pem()).unwrap();
        Anchor::Key {
            key: Arc::new(key),
            root: root.then(|| Arc::clone(&self.root)),
        }
    }

    fn workflow(&self) -> SandboxSigner<'_> {
        SandboxSigner::Identity(&self.identity)
    }

    fn bundle(&self) -> Value {
        self.sigstore
            .signing()
            .sign(self.workflow(), &self.image, &BTreeMap::new())
            .unwrap()
    }

    fn simple(&self) -> SimpleSignature {
        self.sigstore
            .signing()
            .sign_simply(self.workflow(), &self.image, &BTreeMap::new())
            .unwrap()
    }

    #[track_caller]
    fn accepted(&self, material: &Material, anchor: &Anchor) -> VerifiedSignature {
        match attest::verify(material, &self.image, anchor).unwrap() {
            Verified::Signature(signature) => signature,
            Verified::Statement(statement) => panic!("not a signature: {statement:?}"),
        }
    }

    #[track_caller]
    fn refused(&self, bundle: &Value) -> UnacceptedReason {
        attest::verify(&material(bundle), &self.image, &self.by_root()).unwrap_err()
    }

    #[track_caller]
    fn refused_simple(&self, signature: SimpleSignature) -> UnacceptedReason {
        attest::verify(&simple(signature), &self.image, &self.by_root()).unwrap_err()
    }
}

fn root_of(sigstore: &Sigstore) -> Arc<TrustRoot> {
    let json = sigstore.trusted_root().to_string();
    Arc::new(TrustRoot::parse("sandbox", json.as_bytes()).unwrap())
}

fn material(bundle: &Value) -> Material {
    Material::Bundle(bundle.to_string().into_bytes())
}

fn simple(signature: SimpleSignature) -> Material {
    Material::SimpleSigning {
        payload: signature.payload,
        annotations: signature.annotations,
    }
}

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
const STAMPS: &str = "/verificationMaterial/timestampVerificationData";

#[test]
fn what_the_sandbox_signs_is_accepted_in_every_form() {
    let bench = Bench::new();
    let annotations = BTreeMap::from([("stage".to_owned(), "tested".to_owned())]);
    let signing = bench.sigstore.signing();
    let proofs: [(Signing<'_>, Transparency, usize); 3] = [
        (signing, Transparency::InclusionProof, 2),
        (signing.unlogged(), Transparency::Absent, 1),
        (signing.unstamped(), Transparency::InclusionProof, 1),
    ];
    let key = SandboxSigner::Key(&bench.key);
    for (signer, anchor) in [
        (bench.workflow(), bench.by_root()),
        (key, bench.by_key(true)),
    ] {
        for (signing, transparency, times) in proofs {
            let bundle = signing.sign(signer, &bench.image, &annotations).unwrap();
            let accepted = bench.accepted(&material(&bundle), &anchor);
            assert_eq!(accepted.form(), SignatureForm::CosignBundle);
            assert_eq!(accepted.annotations(), &annotations);
            assert_eq!(accepted.transparency(), transparency);
            assert_eq!(accepted.times().len(), times);

            let layer = signing
                .sign_simply(signer, &bench.image, &annotations)
                .unwrap();
            let accepted = bench.accepted(&simple(layer), &anchor);
            assert_eq!(accepted.form(), SignatureForm::SimpleSigning);
            assert_eq!(accepted.annotations(), &annotations);
            assert_eq!(accepted.times().len(), times);
        }
    }
}

#[test]
fn keys_on_p384_and_p521_need_their_own_log_entry() {
    for curve in [Curve::P256, Curve::P384, Curve::P521] {
        let mut bench = Bench::new();
        bench.key = SandboxKey::generate_on(curve).unwrap();
        let sign = || {
            let key = SandboxSigner::Key(&bench.key);
            let signing = bench.sigstore.signing();
            signing.sign_simply(key, &bench.image, &BTreeMap::new())
        };
        let mut layer = sign().unwrap();
        let accepted = bench.accepted(&simple(layer.clone()), &bench.by_key(true));
        assert_eq!(accepted.transparency(), Transparency::SignedEntry);
        assert_eq!(accepted.times().len(), 2, "{curve:?}");
        let name = "dev.sigstore.cosign/bundle";
        let other = sign().unwrap().annotations[name].clone();
        layer.annotations.insert(name.to_owned(), other);
        let anchor = bench.by_key(true);
        let refused = attest::verify(&simple(layer), &bench.image, &anchor).unwrap_err();
        assert_eq!(refused.reason.id, "bad-log-entry", "{curve:?}");
    }
}

#[test]
fn a_key_alone_is_enough_where_no_root_is_asked() {
    let bench = Bench::new();
    let signing = bench.sigstore.signing().unlogged().unstamped();
    let key = SandboxSigner::Key(&bench.key);
    let bundle = signing.sign(key, &bench.image, &BTreeMap::new()).unwrap();
    let layer = signing
        .sign_simply(key, &bench.image, &BTreeMap::new())
        .unwrap();
    for material in [material(&bundle), simple(layer)] {
        assert!(
            bench
                .accepted(&material, &bench.by_key(false))
                .times()
                .is_empty()
        );
        let stranger = PublicKey::from_pem(&SandboxKey::generate().unwrap().public_pem()).unwrap();
        let stranger = Anchor::Key {
            key: Arc::new(stranger),
            root: None,
        };
        let refused = attest::verify(&material, &bench.image, &stranger).unwrap_err();
        assert_eq!(refused.reason.id, "bad-signature");
    }
}

#[test]
fn an_unreadable_certificate_does_not_hide_a_keys_signature() {
    let bench = Bench::new();
    let key = SandboxSigner::Key(&bench.key);
    let signing = bench.sigstore.signing();
    let layer = signing.sign_simply(key, &bench.image, &BTreeMap::new());
    let layer = layer.unwrap();
    let attested = signing.attest_simply(
        key,
        &bench.image,
        "https://example.com/v1",
        &json!({}),
        EnvelopeEntry::Dsse,
    );
    let attested = attested.unwrap();
    let certificate = bench.simple().annotations["dev.sigstore.cosign/certificate"].clone();
    let twice = certificate.repeat(2);
    let mut materials = Vec::new();
    for annotations in [
        [("certificate", "a company's own"), ("chain", "")],
        [("certificate", twice.as_str()), ("chain", "")],
        [("certificate", certificate.as_str()), ("chain", "none")],
        [
            ("certificate", certificate.as_str()),
            ("chain", &certificate.repeat(17)),
        ],
    ] {
        let beside = |mut signed: SimpleSignature| {
            let named = annotations.map(|(name, text)| {
                let name = format!("dev.sigstore.cosign/{name}");
                (name, text.to_owned())
            });
            signed.annotations.extend(named);
            signed
        };
        materials.push(simple(beside(layer.clone())));
        let SimpleSignature {
            payload,
            annotations,
        } = beside(attested.clone());
        materials.push(Material::Attestation {
            envelope: payload,
            annotations,
        });
    }
    let mut bundle = signing.sign(key, &bench.image, &BTreeMap::new()).unwrap();
    let carried = bundle["verificationMaterial"].as_object_mut().unwrap();
    carried.remove("publicKey");
    carried.insert(
        "x509CertificateChain".to_owned(),
        json!({"certificates": []}),
    );
    materials.push(material(&bundle));
    let stranger = PublicKey::from_pem(&SandboxKey::generate().unwrap().public_pem()).unwrap();
    let stranger = Anchor::Key {
        key: Arc::new(stranger),
        root: None,
    };
    for material in &materials {
        for anchor in [bench.by_key(true), bench.by_key(false)] {
            attest::verify(material, &bench.image, &anchor).unwrap();
        }
        let refused = |anchor: &Anchor| attest::verify(material, &bench.image, anchor).unwrap_err();
        let by_root = refused(&bench.by_root());
        assert!(["malformed", "too-large"].contains(&by_root.reason.id));
        assert_eq!(refused(&stranger).reason.id, "other-kind-of-signer");
    }
}

#[test]
fn broken_extras_do_not_hide_a_signature_by_a_key_alone() {
    let bench = Bench::new();
    let key = SandboxSigner::Key(&bench.key);
    let signing = bench.sigstore.signing();
    for name in ["bundle", "rfc3161timestamp"] {
        let layer = signing.sign_simply(key, &bench.image, &BTreeMap::new());
        let mut layer = layer.unwrap();
        let name = format!("dev.sigstore.cosign/{name}");
        layer.annotations.insert(name, "not JSON".to_owned());
        let material = simple(layer);
        bench.accepted(&material, &bench.by_key(false));
        let refused = attest::verify(&material, &bench.image, &bench.by_key(true)).unwrap_err();
        assert_eq!(refused.reason.id, "malformed");
    }
}

#[test]
fn a_certificate_without_a_verified_time_is_refused() {
    let bench = Bench::new();
    let signing = bench.sigstore.signing().unlogged().unstamped();
    let bundle = signing
        .sign(bench.workflow(), &bench.image, &BTreeMap::new())
        .unwrap();
    let refused = bench.refused(&bundle);
    assert_eq!(refused.reason.id, "no-verified-time");
    assert!(refused.detail.contains("neither a log entry"), "{refused}");
    let layer = signing
        .sign_simply(bench.workflow(), &bench.image, &BTreeMap::new())
        .unwrap();
    assert_eq!(bench.refused_simple(layer).reason.id, "no-verified-time");
}

#[test]
fn a_signature_from_before_the_root_counted_is_refused() {
    let bench = Bench::new();
    let long_ago = Timestamp::now() - SignedDuration::from_hours(24 * 400);
    let signing = bench.sigstore.signing().at(long_ago);
    let bundle = signing
        .sign(bench.workflow(), &bench.image, &BTreeMap::new())
        .unwrap();
    bench.refused(&bundle);
}

#[test]
fn an_old_signature_stays_valid_after_its_certificate_ended() {
    let bench = Bench::new();
    let then = Timestamp::now() - SignedDuration::from_hours(24 * 30);
    let signing = bench.sigstore.signing().at(then);
    let bundle = signing
        .sign(bench.workflow(), &bench.image, &BTreeMap::new())
        .unwrap();
    let accepted = bench.accepted(&material(&bundle), &bench.by_root());
    assert!(
        accepted
            .times()
            .iter()
            .all(|time| time.at.as_second() == then.as_second())
    );
}

#[test]
fn a_signature_made_under_another_root_is_refused() {
    let bench = Bench::new();
    let other = Bench::new();
    bench.refused(&other.bundle());
    bench.refused_simple(other.simple());
}

#[test]
fn a_certificate_that_no_certificate_log_has_seen_is_refused() {
    let bench = Bench::new();
    let mut root = bench.sigstore.trusted_root();
    root["ctlogs"] = Sigstore::create().unwrap().trusted_root()["ctlogs"].clone();
    let root = TrustRoot::parse("sandbox", root.to_string().as_bytes()).unwrap();
    let anchor = Anchor::Root(Arc::new(root));
    let refused = attest::verify(&material(&bench.bundle()), &bench.image, &anchor).unwrap_err();
    assert_eq!(refused.reason.id, "bad-certificate-timestamp", "{refused}");
}

impl Bench {
    fn under(&self, change: impl FnOnce(&mut Value)) -> Result<VerifiedSignature, &'static str> {
        self.under_root(change, &material(&self.bundle()))
    }

    fn under_root(
        &self,
        change: impl FnOnce(&mut Value),
        material: &Material,
    ) -> Result<VerifiedSignature, &'static str> {
        let mut root = self.sigstore.trusted_root();
        change(&mut root);
        let root = TrustRoot::parse("changed", root.to_string().as_bytes()).unwrap();
        let anchor = Anchor::Root(Arc::new(root));
        match attest::verify(material, &self.image, &anchor) {
            Ok(Verified::Signature(signature)) => Ok(signature),
            Ok(Verified::Statement(statement)) => panic!("not a signature: {statement:?}"),
            Err(refused) => Err(refused.reason.id),
        }
    }
}

#[test]
fn a_log_entry_outside_its_keys_validity_is_ignored() {
    let bench = Bench::new();
    let window = |start: i64, end: i64| {
        let at = |hours| {
            format!(
                "{:.0}",
                Timestamp::now() + SignedDuration::from_hours(hours)
            )
        };
        json!({"start": at(start), "end": at(end)})
    };
    for (valid_for, holds) in [
        (window(-2, 2), true),
        (window(-2, -1), false),
        (window(1, 2), false),
    ] {
        let root = |root: &mut Value| root["tlogs"][0]["publicKey"]["validFor"] = valid_for.clone();
        let accepted = bench.under(root).unwrap();
        let ignored: Vec<_> = accepted.ignored().iter().map(|why| why.reason.id).collect();
        let (transparency, times, wanted) = match holds {
            true => (Transparency::InclusionProof, 2, vec![]),
            false => (Transparency::Absent, 1, vec!["unknown-log"]),
        };
        assert_eq!(accepted.transparency(), transparency);
        assert_eq!(accepted.times().len(), times);
        assert_eq!(ignored, wanted);

        // Alone, it vouches for nothing.
        let signing = bench.sigstore.signing().unstamped();
        let bundle = signing.sign(bench.workflow(), &bench.image, &BTreeMap::new());
        let refused = bench.under_root(root, &material(&bundle.unwrap())).err();
        assert_eq!(refused, (!holds).then_some("unknown-log"));
    }
}

#[test]
fn a_lone_certificate_chains_through_the_roots_intermediates() {
    const CHAIN: &str = "/certificateAuthorities/0/certChain/certificates";
    let bench = Bench::new();
    let chain = |keep: &[usize]| {
        bench.under(|root| {
            let chain = root.pointer_mut(CHAIN).unwrap();
            let kept: Vec<_> = keep.iter().map(|at| chain[*at].clone()).collect();
            *chain = json!(kept);
        })
    };
    for (keep, refused) in [
        (&[0, 1][..], None),
        (&[1, 0], None),
        (&[0], None),
        (&[1], Some("untrusted-certificate")),
    ] {
        assert_eq!(chain(keep).err(), refused, "{keep:?}");
    }
}

#[test]
fn an_expired_intermediate_of_the_trust_root_leads_nowhere() {
    const INTERMEDIATE: &str = "/certificateAuthorities/0/certChain/certificates/0/rawBytes";
    let bench = Bench::new();
    for (hours, refused) in [(1, None), (-1, Some("certificate-not-valid-at-signing"))] {
        let end = Timestamp::now() + SignedDuration::from_hours(hours);
        let der = bench.sigstore.intermediate_until(end).unwrap();
        let verified = bench.under(|root| {
            *root.pointer_mut(INTERMEDIATE).unwrap() = json!(STANDARD.encode(&der));
        });
        assert_eq!(verified.err(), refused, "{hours}");
    }
}

const ROOT_CERTIFICATE: &str = "/certificateAuthorities/0/certChain/certificates/1/rawBytes";

#[test]
fn a_chain_longer_than_the_root_lets_it_be_is_rejected() {
    let bench = Bench::new();
    for (most, refused) in [(0, Some("untrusted-certificate")), (1, None), (2, None)] {
        let root = json!(STANDARD.encode(bench.sigstore.root_above(most).unwrap()));
        let written =
            |json: &mut Value| *json.pointer_mut(ROOT_CERTIFICATE).unwrap() = root.clone();
        assert_eq!(bench.under(written).err(), refused, "{most}");

        // The certificate between them comes with the signature.
        let intermediate = bench.sigstore.trusted_root();
        let place = "/certificateAuthorities/0/certChain/certificates/0";
        let mut carried = of_version_0_1(bench.bundle());
        let chain = "/verificationMaterial/x509CertificateChain/certificates";
        let chain = carried.pointer_mut(chain).and_then(Value::as_array_mut);
        let between = intermediate.pointer(place).unwrap().clone();
        chain.unwrap().push(between);
        let alone = |json: &mut Value| {
            written(json);
            let chain = &mut json["certificateAuthorities"][0]["certChain"]["certificates"];
            chain.as_array_mut().unwrap().remove(0);
        };
        let verified = bench.under_root(alone, &material(&carried));
        assert_eq!(verified.err(), refused, "{most}");
    }
}

#[test]
fn an_expired_authority_counts_for_signatures_before_its_end() {
    let bench = Bench::new();
    let hours = |hours| Timestamp::now() + SignedDuration::from_hours(hours);
    for (end, signed, refused) in [
        (1, 0, None),
        (-1, 0, Some("untrusted-certificate")),
        (-1, -2, None),
    ] {
        let root = json!(STANDARD.encode(bench.sigstore.root_until(hours(end)).unwrap()));
        let signing = bench.sigstore.signing().at(hours(signed));
        let bundle = signing.sign(bench.workflow(), &bench.image, &BTreeMap::new());
        let written = |json: &mut Value| *json.pointer_mut(ROOT_CERTIFICATE).unwrap() = root;
        let verified = bench.under_root(written, &material(&bundle.unwrap()));
        assert_eq!(verified.err(), refused, "{end} {signed}");
    }
}

#[test]
fn an_expired_intermediate_counts_for_signatures_before_its_end() {
    const INTERMEDIATE: &str = "/certificateAuthorities/0/certChain/certificates/0/rawBytes";
    let bench = Bench::new();
    let hours = |hours| Timestamp::now() + SignedDuration::from_hours(hours);
    let ended = bench.sigstore.intermediate_until(hours(-1)).unwrap();
    for (signed, refused) in [(0, Some("certificate-not-valid-at-signing")), (-2, None)] {
        let signing = bench.sigstore.signing().at(hours(signed));
        let bundle = signing.sign(bench.workflow(), &bench.image, &BTreeMap::new());
        let written = |json: &mut Value| {
            *json.pointer_mut(INTERMEDIATE).unwrap() = json!(STANDARD.encode(&ended));
        };
        let verified = bench.under_root(written, &material(&bundle.unwrap()));
        assert_eq!(verified.err(), refused, "{signed}");
    }
}

#[test]
fn the_chain_of_a_timestamp_authority_stands_in_any_order() {
    const CHAIN: &str = "/timestampAuthorities/0/certChain/certificates";
    let bench = Bench::new();
    let verified = bench.under(|root| {
        let chain = root.pointer_mut(CHAIN).unwrap().as_array_mut().unwrap();
        chain.reverse();
    });
    assert_eq!(verified.unwrap().times().len(), 2);
}

#[test]
fn one_authority_of_several_with_the_same_subject_is_enough() {
    let bench = Bench::new();
    let other = Bench::new().sigstore.trusted_root()["certificateAuthorities"][0].clone();
    for at in [0, 1] {
        let verified = bench.under(|root| {
            let authorities = root["certificateAuthorities"].as_array_mut().unwrap();
            authorities.insert(at, other.clone());
        });
        assert_eq!(verified.err(), None, "{at}");
    }
    // The authority that issued the certificate has been retired, and its intermediate does not count for another one.
    let verified = bench.under(|root| {
        let own = &mut root["certificateAuthorities"][0];
        own["validFor"] = json!({"start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z"});
        let authorities = root["certificateAuthorities"].as_array_mut().unwrap();
        authorities.push(other);
    });
    assert_eq!(verified.err(), Some("untrusted-certificate"));
}

#[test]
fn each_root_of_a_file_asks_its_own_transparency() {
    let (with_logs, without) = (Bench::new(), Bench::new());
    let mut bare = without.sigstore.trusted_root();
    for list in ["tlogs", "ctlogs"] {
        bare.as_object_mut().unwrap().remove(list);
    }
    let both = format!("{}\n{bare}\n", with_logs.sigstore.trusted_root());
    let anchor = Anchor::Root(Arc::new(TrustRoot::parse("both", both.as_bytes()).unwrap()));
    for (bench, has_logs) in [(&with_logs, true), (&without, false)] {
        let signing = bench.sigstore.signing().unlogged();
        let bundle = signing.sign(bench.workflow(), &bench.image, &BTreeMap::new());
        let accepted = bench.accepted(&material(&bundle.unwrap()), &anchor);
        assert_eq!(accepted.has_logs(), has_logs);
    }
}

/// The roots of several sandboxes in one file, one a line.
fn file_of(benches: &[&Bench]) -> Arc<TrustRoot> {
    let lines = benches.iter();
    let lines: Vec<_> = lines
        .map(|bench| bench.sigstore.trusted_root().to_string())
        .collect();
    Arc::new(TrustRoot::parse("several", lines.join("\n").as_bytes()).unwrap())
}

#[test]
fn a_log_or_timestamp_of_another_root_of_the_file_is_rejected() {
    let (bench, other) = (Bench::new(), Bench::new());
    let own = bench.sigstore.signing();
    let foreign = own.witnessed_by(&other.sigstore);
    for file in [[&bench, &other], [&other, &bench]] {
        let anchor = Anchor::Root(file_of(&file));
        let verify = |signing: Signing<'_>| {
            let bundle = signing.sign(bench.workflow(), &bench.image, &BTreeMap::new());
            let material = material(&bundle.unwrap());
            attest::verify(&material, &bench.image, &anchor)
        };
        for signing in [own, own.unlogged(), own.unstamped()] {
            verify(signing).unwrap();
        }
        for signing in [foreign, foreign.unlogged(), foreign.unstamped()] {
            let refused = verify(signing).unwrap_err();
            assert!(
                refused
                    .detail
                    .contains("not valid under any of the 2 roots"),
                "{refused}"
            );
        }
        // One half by its own root, the other by a foreign one: the foreign half counts for nothing.
        let mut bundle = bench.bundle();
        let stamps = other.bundle().pointer(STAMPS).unwrap().clone();
        *bundle.pointer_mut(STAMPS).unwrap() = stamps;
        let accepted = bench.accepted(&material(&bundle), &anchor);
        assert_eq!(accepted.times().len(), 1);
        assert_eq!(accepted.ignored().len(), 1);
    }
}

#[test]
fn a_keys_log_and_timestamp_come_from_one_root_of_a_file() {
    let (bench, other) = (Bench::new(), Bench::new());
    let key = SandboxSigner::Key(&bench.key);
    let sign = |signing: Signing<'_>| {
        let bundle = signing.sign(key, &bench.image, &BTreeMap::new());
        bundle.unwrap()
    };
    let own = bench.sigstore.signing();
    let mut mixed = sign(own.unstamped());
    let signature = mixed.pointer("/dsseEnvelope/signatures/0/sig").unwrap();
    let signature = STANDARD.decode(signature.as_str().unwrap()).unwrap();
    let stamp = other.sigstore.stamp(&signature, Timestamp::now()).unwrap();
    mixed["verificationMaterial"]["timestampVerificationData"] =
        json!({"rfc3161Timestamps": [{"signedTimestamp": STANDARD.encode(stamp)}]});
    for file in [[&bench, &other], [&other, &bench]] {
        let Anchor::Key { key, .. } = bench.by_key(false) else {
            unreachable!("it is a key");
        };
        let anchor = Anchor::Key {
            key,
            root: Some(file_of(&file)),
        };
        for (bundle, times) in [(&sign(own), 2), (&mixed, 1)] {
            let accepted = bench.accepted(&material(bundle), &anchor);
            assert_eq!(accepted.transparency(), Transparency::InclusionProof);
            assert_eq!(accepted.times().len(), times);
        }
    }
}

#[test]
fn a_bundle_replayed_for_another_digest_is_rejected() {
    let mut bench = Bench::new();
    let (bundle, layer) = (bench.bundle(), bench.simple());
    bench.image = Digest::sha256(b"another image");
    assert_eq!(bench.refused(&bundle).reason.id, "wrong-subject");
    assert_eq!(bench.refused_simple(layer).reason.id, "wrong-subject");
}

/// The class of CVE-2022-36056: something in the log, but not this.
#[test]
fn a_log_entry_of_another_signature_is_rejected() {
    let bench = Bench::new();
    let mut bundle = bench.bundle();
    let other = bench.bundle();
    *bundle.pointer_mut(ENTRY).unwrap() = other.pointer(ENTRY).unwrap().clone();
    assert_eq!(bench.refused(&bundle).reason.id, "bad-log-entry");

    let (mut layer, other) = (bench.simple(), bench.simple());
    let name = "dev.sigstore.cosign/bundle";
    layer
        .annotations
        .insert(name.to_owned(), other.annotations[name].clone());
    assert_eq!(bench.refused_simple(layer).reason.id, "bad-log-entry");
}

/// A bundle that carries the timestamp of another one.
fn with_the_timestamp_of_another(bench: &Bench, signing: Signing<'_>) -> Value {
    let signer = bench.workflow();
    let mut bundle = signing
        .sign(signer, &bench.image, &BTreeMap::new())
        .unwrap();
    let other = bench.bundle().pointer(STAMPS).unwrap().clone();
    bundle["verificationMaterial"]["timestampVerificationData"] = other;
    bundle
}

#[test]
fn a_timestamp_of_another_signature_alone_is_rejected() {
    let bench = Bench::new();
    let signing = bench.sigstore.signing().unlogged();
    let refused = bench.refused(&with_the_timestamp_of_another(&bench, signing));
    assert_eq!(refused.reason.id, "bad-timestamp");
    assert!(
        refused
            .detail
            .contains("no other log entry or timestamp is valid"),
        "{refused}"
    );
}

#[test]
fn a_timestamp_of_another_signature_is_reported_and_ignored() {
    let bench = Bench::new();
    let then = Timestamp::now() - SignedDuration::from_hours(24 * 30);
    let bundle = with_the_timestamp_of_another(&bench, bench.sigstore.signing().at(then));
    let accepted = bench.accepted(&material(&bundle), &bench.by_root());
    let times: Vec<_> = accepted.times().iter().map(|time| time.by).collect();
    assert_eq!(times, [TimeSource::Log]);
    assert_eq!(accepted.times()[0].at.as_second(), then.as_second());
    let ignored: Vec<_> = accepted.ignored().iter().map(|why| why.reason.id).collect();
    assert_eq!(ignored, ["bad-timestamp"]);
}

#[test]
fn a_timestamp_of_another_signature_gives_no_time() {
    let bench = Bench::new();
    let mut bundle = with_the_timestamp_of_another(&bench, bench.sigstore.signing());
    let entry = bundle.pointer_mut(ENTRY).unwrap();
    entry.as_object_mut().unwrap().remove("inclusionPromise");
    let refused = bench.refused(&bundle);
    assert_eq!(refused.reason.id, "no-verified-time");
    assert!(
        refused.detail.contains("timestamp is not valid"),
        "{refused}"
    );
}

/// With the entries of another log's before and behind.
fn between_entries(bundle: &Value, others: &[&Value]) -> Value {
    let mut bundle = bundle.clone();
    let entries = bundle
        .pointer_mut("/verificationMaterial/tlogEntries")
        .unwrap();
    let own = entries.as_array().unwrap().clone();
    let others: Vec<_> = others.iter().copied().cloned().collect();
    *entries = json!([others.clone(), own, others].concat());
    bundle
}

#[test]
fn a_log_entry_of_an_unknown_log_is_reported_and_ignored() {
    let bench = Bench::new();
    let stranger = Bench::new().bundle().pointer(ENTRY).unwrap().clone();
    let signing = bench.sigstore.signing();
    for signer in [bench.workflow(), SandboxSigner::Key(&bench.key)] {
        let anchor = match signer {
            SandboxSigner::Identity(_) => bench.by_root(),
            SandboxSigner::Key(_) => bench.by_key(true),
        };
        let sign = |signing: Signing<'_>| {
            let signed = signing.sign(signer, &bench.image, &BTreeMap::new());
            signed.unwrap()
        };
        let bundle = between_entries(&sign(signing), &[&stranger]);
        let accepted = bench.accepted(&material(&bundle), &anchor);
        assert_eq!(accepted.transparency(), Transparency::InclusionProof);
        assert_eq!(accepted.times().len(), 2);
        let ignored: Vec<_> = accepted.ignored().iter().map(|why| why.reason.id).collect();
        assert_eq!(ignored, ["unknown-log"; 2]);

        // Beside a timestamp alone, the signature is not public; alone, the entry vouches for nothing.
        let mut stamped = sign(signing.unlogged());
        stamped["verificationMaterial"]["tlogEntries"] = json!([stranger]);
        let accepted = bench.accepted(&material(&stamped), &anchor);
        assert_eq!(accepted.transparency(), Transparency::Absent);
        assert_eq!(accepted.times().len(), 1);
        let mut alone = sign(signing.unlogged().unstamped());
        alone["verificationMaterial"]["tlogEntries"] = json!([stranger]);
        let refused = attest::verify(&material(&alone), &bench.image, &anchor).unwrap_err();
        assert_eq!(refused.reason.id, "unknown-log", "{refused}");
    }
}

#[test]
fn an_invalid_log_entry_beside_a_sound_one_is_rejected() {
    let bench = Bench::new();
    let bundle = bench.bundle();
    let own = bundle.pointer(ENTRY).unwrap().clone();
    let of_another = bench.bundle().pointer(ENTRY).unwrap().clone();
    let changed = |place: &str, value: Value| {
        let mut entry = own.clone();
        *entry.pointer_mut(place).unwrap() = value;
        entry
    };
    let stranger = Bench::new().bundle().pointer(ENTRY).unwrap().clone();
    for entry in [
        of_another,
        // It calls itself an entry of another log, but its checkpoint is of a log that is known.
        changed("/logId/keyId", stranger["logId"]["keyId"].clone()),
        changed("/integratedTime", json!("1700000000")),
        changed("/inclusionPromise/signedEntryTimestamp", json!("AAAA")),
        changed(
            "/inclusionProof/checkpoint",
            stranger["inclusionProof"]["checkpoint"].clone(),
        ),
        changed("/canonicalizedBody", stranger["canonicalizedBody"].clone()),
    ] {
        let refused = bench.refused(&between_entries(&bundle, &[&entry]));
        assert_eq!(refused.reason.id, "bad-log-entry", "{refused}");
    }
}

#[test]
fn a_log_entry_of_an_unknown_kind_is_reported_and_ignored() {
    let bench = Bench::new();
    let signing = bench.sigstore.signing();
    let stranger = Bench::new().bundle().pointer(ENTRY).unwrap().clone();
    for signer in [bench.workflow(), SandboxSigner::Key(&bench.key)] {
        let anchor = match signer {
            SandboxSigner::Identity(_) => bench.by_root(),
            SandboxSigner::Key(_) => bench.by_key(true),
        };
        let sign = |signing: Signing<'_>| {
            let signed = signing.sign(signer, &bench.image, &BTreeMap::new());
            signed.unwrap()
        };
        let bundle = sign(signing);
        for (entry, kind, version) in [
            (bundle.pointer(ENTRY).unwrap(), "dsse", "0.0.2"),
            (bundle.pointer(ENTRY).unwrap(), "intoto", "0.0.1"),
            (&stranger, "later", "1.0.0"),
        ] {
            let mut entry = entry.clone();
            entry["kindVersion"] = json!({"kind": kind, "version": version});
            entry["ofLater"] = json!({"kind": 7});
            let accepted = bench.accepted(&material(&between_entries(&bundle, &[&entry])), &anchor);
            assert_eq!(accepted.transparency(), Transparency::InclusionProof);
            assert_eq!(accepted.times().len(), 2);
            let ignored: Vec<_> = accepted.ignored().iter().map(|why| why.reason.id).collect();
            assert_eq!(ignored, ["format-not-supported"; 2]);
            assert!(accepted.ignored()[0].detail.contains(kind));

            // Beside a timestamp alone, the signature is not public; alone, the entry vouches for nothing.
            let mut stamped = sign(signing.unlogged());
            stamped["verificationMaterial"]["tlogEntries"] = json!([entry]);
            let accepted = bench.accepted(&material(&stamped), &anchor);
            assert_eq!(accepted.transparency(), Transparency::Absent);
            let mut alone = sign(signing.unlogged().unstamped());
            alone["verificationMaterial"]["tlogEntries"] = json!([entry]);
            let refused = attest::verify(&material(&alone), &bench.image, &anchor).unwrap_err();
            assert_eq!(refused.reason.id, "format-not-supported", "{refused}");
            let many = vec![entry; 33];
            alone["verificationMaterial"]["tlogEntries"] = json!(many);
            let refused = attest::verify(&material(&alone), &bench.image, &anchor).unwrap_err();
            assert_eq!(refused.reason.id, "too-large", "{refused}");
        }
    }
}

#[test]
fn an_unknown_log_entry_in_cosigns_layout_is_reported() {
    let bench = Bench::new();
    let name = "dev.sigstore.cosign/bundle";
    let of_later = |signing: Signing<'_>| {
        let mut layer = signing
            .sign_simply(bench.workflow(), &bench.image, &BTreeMap::new())
            .unwrap();
        let entry = bench.simple().annotations.remove(name).unwrap();
        let mut entry: Value = serde_json::from_str(&entry).unwrap();
        let body = json!({"kind": "later", "apiVersion": "1.0.0", "spec": {}});
        entry["Payload"]["body"] = json!(STANDARD.encode(body.to_string()));
        layer.annotations.insert(name.to_owned(), entry.to_string());
        layer
    };
    let signing = bench.sigstore.signing().unlogged();
    let accepted = bench.accepted(&simple(of_later(signing)), &bench.by_root());
    assert_eq!(accepted.transparency(), Transparency::Absent);
    let ignored: Vec<_> = accepted.ignored().iter().map(|why| why.reason.id).collect();
    assert_eq!(ignored, ["format-not-supported"]);
    let refused = bench.refused_simple(of_later(signing.unstamped()));
    assert_eq!(refused.reason.id, "format-not-supported");
}

#[test]
fn a_certificate_put_in_the_place_of_another_is_rejected() {
    let bench = Bench::new();
    let certificate = "/verificationMaterial/certificate";
    let mut bundle = bench.bundle();
    *bundle.pointer_mut(certificate).unwrap() =
        bench.bundle().pointer(certificate).unwrap().clone();
    bench.refused(&bundle);
    let (mut layer, other) = (bench.simple(), bench.simple());
    let name = "dev.sigstore.cosign/certificate";
    layer
        .annotations
        .insert(name.to_owned(), other.annotations[name].clone());
    bench.refused_simple(layer);
}

#[test]
fn a_log_entry_without_an_inclusion_proof_is_rejected() {
    let bench = Bench::new();
    let mut bundle = bench.bundle();
    bundle
        .pointer_mut(ENTRY)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove("inclusionProof");
    bench.refused(&bundle);
}

#[test]
fn a_forged_checkpoint_promise_or_log_path_is_rejected() {
    let bench = Bench::new();
    // So that the path is not empty.
    bench.bundle();
    let other = Bench::new();
    other.bundle();
    let (good, forged) = (bench.bundle(), other.bundle());
    for part in [
        "inclusionProof/checkpoint/envelope",
        "inclusionProof/hashes",
        "inclusionProof/rootHash",
        "inclusionPromise/signedEntryTimestamp",
        "logId/keyId",
    ] {
        let mut bundle = good.clone();
        let place = format!("{ENTRY}/{part}");
        *bundle.pointer_mut(&place).unwrap() = forged.pointer(&place).unwrap().clone();
        bench.refused(&bundle);
    }
}

#[test]
fn a_time_in_the_log_that_the_log_did_not_promise_is_rejected() {
    let bench = Bench::new();
    let mut bundle = bench.bundle();
    let later = (Timestamp::now().as_second() - 60).to_string();
    *bundle
        .pointer_mut(&format!("{ENTRY}/integratedTime"))
        .unwrap() = json!(later);
    bench.refused(&bundle);
}

#[test]
fn too_many_log_entries_timestamps_or_bytes_are_rejected() {
    let bench = Bench::new();
    for (list, item) in [
        (
            "/verificationMaterial/tlogEntries".to_owned(),
            ENTRY.to_owned(),
        ),
        (
            format!("{STAMPS}/rfc3161Timestamps"),
            format!("{STAMPS}/rfc3161Timestamps/0"),
        ),
    ] {
        let mut bundle = bench.bundle();
        let item = bundle.pointer(&item).unwrap().clone();
        *bundle.pointer_mut(&list).unwrap() = json!(vec![item; 33]);
        assert_eq!(bench.refused(&bundle).reason.id, "too-large");
    }
    let mut bundle = bench.bundle();
    bundle["padding"] = json!("x".repeat(5 << 20));
    assert_eq!(bench.refused(&bundle).reason.id, "too-large");
    let mut layer = bench.simple();
    layer
        .annotations
        .insert("padding".to_owned(), "x".repeat(2 << 20));
    assert_eq!(bench.refused_simple(layer).reason.id, "too-large");
}

#[test]
fn an_envelope_with_two_signatures_or_none_is_rejected() {
    let bench = Bench::new();
    let mut bundle = bench.bundle();
    let signatures = bundle.pointer_mut("/dsseEnvelope/signatures").unwrap();
    let one = signatures[0].clone();
    *signatures = json!([one, one]);
    bench.refused(&bundle);
    *bundle.pointer_mut("/dsseEnvelope/signatures").unwrap() = json!([]);
    bench.refused(&bundle);
}

#[test]
fn json_that_two_readers_understand_differently_is_rejected() {
    let bench = Bench::new();
    let text = bench.bundle().to_string();
    let twice = text.replacen('{', r#"{"mediaType": "x", "#, 1);
    let trailing = format!("{text} {{}}");
    let cut = text[..text.len() - 1].to_owned();
    for text in [
        twice,
        trailing,
        cut,
        String::new(),
        "[]".to_owned(),
        "[".repeat(100_000),
    ] {
        let material = Material::Bundle(text.into_bytes());
        let refused = attest::verify(&material, &bench.image, &bench.by_root()).unwrap_err();
        assert_eq!(refused.reason.id, "malformed");
    }
}

#[test]
fn an_envelope_of_a_foreign_payload_type_is_rejected() {
    let bench = Bench::new();
    let mut bundle = bench.bundle();
    bundle["dsseEnvelope"]["payloadType"] = json!("application/json");
    assert_eq!(bench.refused(&bundle).reason.id, "wrong-payload-type");
}

#[test]
fn a_payload_that_somebody_else_signed_is_rejected() {
    let bench = Bench::new();
    let (mut layer, other) = (bench.simple(), bench.simple());
    let payload = String::from_utf8(other.payload).unwrap();
    layer.payload = payload.replace("\"\"", "\"x\"").into_bytes();
    assert_ne!(layer.payload, payload.into_bytes());
    bench.refused_simple(layer);
}

#[test]
fn an_attestation_is_a_statement_and_no_signature() {
    let bench = Bench::new();
    let predicate = json!({"result": "PASSED"});
    let bundle = bench
        .sigstore
        .signing()
        .attest(
            bench.workflow(),
            &bench.image,
            "https://example.com/test/v1",
            &predicate,
        )
        .unwrap();
    match attest::verify(&material(&bundle), &bench.image, &bench.by_root()).unwrap() {
        Verified::Statement(statement) => {
            assert_eq!(statement.predicate_type(), "https://example.com/test/v1");
            let Predicate::Other(Some(written)) = statement.predicate() else {
                panic!("read as something else: {:?}", statement.predicate());
            };
            assert_eq!(written.get(), predicate.to_string());
        }
        Verified::Signature(signature) => panic!("a signature: {signature:?}"),
    }
}

#[test]
fn cut_bundles_are_rejected_and_changed_ones_do_not_panic() {
    let bench = Bench::new();
    let text = bench.bundle().to_string().into_bytes();
    for at in (0..text.len()).step_by(97) {
        let cut = Material::Bundle(text[..at].to_vec());
        attest::verify(&cut, &bench.image, &bench.by_root()).unwrap_err();
        let mut changed = text.clone();
        changed[at] ^= 0x11;
        // What is not signed may change: hints, and the duplicate fields of a proof.
        let _ = attest::verify(&Material::Bundle(changed), &bench.image, &bench.by_root());
    }
}

#[test]
fn the_time_of_a_log_counts_only_where_the_log_promised_it() {
    let bench = Bench::new();
    let unpromised = |signing: Signing<'_>| {
        let mut bundle = signing
            .sign(bench.workflow(), &bench.image, &BTreeMap::new())
            .unwrap();
        let entry = bundle.pointer_mut(ENTRY).unwrap();
        entry.as_object_mut().unwrap().remove("inclusionPromise");
        bundle
    };
    let signing = bench.sigstore.signing();
    let accepted = bench.accepted(&material(&unpromised(signing)), &bench.by_root());
    let by: Vec<_> = accepted.times().iter().map(|time| time.by).collect();
    assert_eq!(by, [TimeSource::TimestampAuthority]);
    let refused = bench.refused(&unpromised(signing.unstamped()));
    assert_eq!(refused.reason.id, "no-verified-time");
    assert!(
        refused.detail.contains("does not carry a time"),
        "{refused}"
    );
}

#[test]
fn a_bundle_of_megabytes_is_refused_before_it_takes_memory() {
    let bench = Bench::new();
    for junk in [json!({"": {"": 0}}), json!([[0], [0]])] {
        for place in ["", "/verificationMaterial", ENTRY, "/messageSignature"] {
            let mut bundle = bench.bundle();
            let Some(object) = bundle.pointer_mut(place) else {
                continue;
            };
            object["unknown"] = Value::Array(vec![junk.clone(); 30_000]);
            assert_eq!(bench.refused(&bundle).reason.id, "too-large", "{place}");
        }
    }
}

/// As the oldest clients wrote it.
fn of_version_0_1(mut bundle: Value) -> Value {
    bundle["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.1");
    let material_of = bundle["verificationMaterial"].as_object_mut().unwrap();
    let certificate = material_of.remove("certificate").unwrap();
    let chain = json!({"certificates": [certificate]});
    material_of.insert("x509CertificateChain".to_owned(), chain);
    bundle
}

#[test]
fn a_bundle_v01_with_an_unknown_logs_promise_is_rejected() {
    let bench = Bench::new();
    let signing = bench.sigstore.signing().unlogged();
    let stamped = signing.sign(bench.workflow(), &bench.image, &BTreeMap::new());
    let mut stamped = of_version_0_1(stamped.unwrap());
    let stranger = Bench::new().bundle().pointer(ENTRY).unwrap().clone();
    for entries in [json!([]), json!([stranger]), json!([stranger, stranger])] {
        stamped["verificationMaterial"]["tlogEntries"] = entries;
        let refused = bench.refused(&stamped);
        assert_eq!(refused.reason.id, "malformed");
        assert!(refused.detail.contains("promise"), "{refused}");
    }
    let mut bundle = of_version_0_1(bench.bundle());
    let own = bundle.pointer(ENTRY).unwrap().clone();
    bundle["verificationMaterial"]["tlogEntries"] = json!([stranger, own]);
    bench.accepted(&material(&bundle), &bench.by_root());
    let fields = bundle.pointer_mut("/verificationMaterial/tlogEntries/1");
    fields
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove("inclusionPromise");
    let refused = bench.refused(&bundle);
    assert_eq!(refused.reason.id, "malformed", "{refused}");
}

#[test]
fn what_is_proven_once_is_public_whatever_else_vouches_for_it() {
    let bench = Bench::new();
    let mut bundle = of_version_0_1(bench.bundle());
    let proven = bundle.pointer(ENTRY).unwrap().clone();
    let mut promised = proven.clone();
    promised.as_object_mut().unwrap().remove("inclusionProof");
    for (entries, transparency) in [
        (vec![&proven, &promised], Transparency::InclusionProof),
        (vec![&promised, &proven], Transparency::InclusionProof),
        (vec![&promised, &promised], Transparency::SignedEntry),
    ] {
        bundle["verificationMaterial"]["tlogEntries"] = json!(entries);
        let accepted = bench.accepted(&material(&bundle), &bench.by_root());
        assert_eq!(accepted.transparency(), transparency);
    }
}

#[test]
fn evidence_about_another_digest_algorithm_is_unsupported() {
    let bench = Bench::new();
    let subject: Digest = format!("sha512:{}", "a1".repeat(64)).parse().unwrap();
    for material in [material(&bench.bundle()), simple(bench.simple())] {
        let refused = attest::verify(&material, &subject, &bench.by_root()).unwrap_err();
        let wanted = match material {
            Material::Bundle(_) => "format-not-supported",
            _ => "wrong-subject",
        };
        assert_eq!(refused.reason.id, wanted, "{refused}");
    }
}
