//! Evidence made in the sandbox, verified; and every way of forging it that has a name.

mod log;
mod trusted_root;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{
    Curve, EnvelopeEntry, SandboxIdentity, SandboxKey, SandboxSigner, Signing, Sigstore,
    SimpleSignature,
};
use promotion_gate_core::attest::predicate::Predicate;
use promotion_gate_core::attest::{
    self, Anchor, KeyRing, Material, PublicKey, SignatureForm, Transparency, TrustRoot,
    UnacceptedReason, Verified, VerifiedSignature,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

const WORKFLOW: &str =
    "https://github.com/example/app/.github/workflows/release.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

struct Bench {
    sigstore: Sigstore,
    root: Arc<TrustRoot>,
    identity: SandboxIdentity,
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
            identity: SandboxIdentity::new(WORKFLOW, ISSUER),
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
fn a_wrong_key_hint_hides_no_signature() {
    let bench = Bench::new();
    let keys: Vec<_> = (0..20).map(|_| SandboxKey::generate().unwrap()).collect();
    let anchors = keys.iter().chain([&bench.key]).map(|key| Anchor::Key {
        key: Arc::new(PublicKey::from_pem(&key.public_pem()).unwrap()),
        root: None,
    });
    let anchors: Vec<_> = anchors.collect();
    let ring = KeyRing::of(anchors.iter().chain(&anchors));
    assert_eq!(ring.count(), 21);
    let fingerprint = |key: &SandboxKey| {
        let key = PublicKey::from_pem(&key.public_pem()).unwrap();
        key.fingerprint().to_string()
    };
    let [own, other] = [&bench.key, &keys[0]].map(fingerprint);
    let in_base64 = |hash: &str| STANDARD.encode(hex::decode(&hash["sha256:".len()..]).unwrap());
    let signing = bench.sigstore.signing();
    let key = SandboxSigner::Key(&bench.key);
    let signed = signing.sign(key, &bench.image, &BTreeMap::new()).unwrap();
    for hint in [
        "",
        "some-key",
        &own,
        &other,
        &in_base64(&own),
        &in_base64(&other),
        &in_base64(&Digest::sha256(b"of nobody").to_string()),
    ] {
        let mut bundle = signed.clone();
        bundle["verificationMaterial"]["publicKey"]["hint"] = json!(hint);
        bundle["dsseEnvelope"]["signatures"][0]["keyid"] = json!(hint);
        let found = ring.signer(&material(&bundle), &bench.image);
        assert_eq!(found.unwrap().to_string(), own, "{hint}");
    }
    let by_certificate = material(&bench.bundle());
    for unknown in [by_certificate, Material::Bundle(b"junk".to_vec())] {
        assert_eq!(ring.signer(&unknown, &bench.image), None);
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
        layer
            .annotations
            .insert(name.clone(), "not JSON".to_owned());
        let material = simple(layer);
        bench.accepted(&material, &bench.by_key(false));
        let under_root = attest::verify(&material, &bench.image, &bench.by_key(true));
        match name.ends_with("rfc3161timestamp") {
            // The log entry beside it is sound.
            true => drop(under_root.unwrap()),
            false => assert_eq!(under_root.unwrap_err().reason.id, "malformed"),
        }
    }
}

#[test]
fn an_unreadable_witness_beside_sound_ones_is_reported() {
    let bench = Bench::new();
    let sound = bench
        .sigstore
        .signing()
        .sign(bench.workflow(), &bench.image, &BTreeMap::new())
        .unwrap();
    let entry = &sound["verificationMaterial"]["tlogEntries"][0];
    let but = |place: &str, value: Value| {
        let mut entry = entry.clone();
        *entry.pointer_mut(place).unwrap() = value;
        entry
    };
    for (list, odd) in [
        ("tlogEntries", json!({})),
        ("tlogEntries", json!(null)),
        ("tlogEntries", json!("entry")),
        (
            "tlogEntries",
            but("/kindVersion", json!({"kind": "hashedrekord"})),
        ),
        ("tlogEntries", but("/logId/keyId", json!("no base64"))),
        (
            "tlogEntries",
            but("/inclusionProof/checkpoint/envelope", json!("no note")),
        ),
        (
            "timestampVerificationData/rfc3161Timestamps",
            json!({"signedTimestamp": "no base64"}),
        ),
        ("timestampVerificationData/rfc3161Timestamps", json!(null)),
    ] {
        for first in [true, false] {
            let mut bundle = sound.clone();
            let list = format!("/verificationMaterial/{list}");
            let list = bundle.pointer_mut(&list).unwrap().as_array_mut().unwrap();
            list.insert(if first { 0 } else { 1 }, odd.clone());
            let material = Material::Bundle(bundle.to_string().into_bytes());
            let verified = attest::verify(&material, &bench.image, &bench.by_root());
            let Verified::Signature(signature) = verified.unwrap() else {
                panic!("not a signature");
            };
            let reasons: Vec<_> = signature
                .ignored()
                .iter()
                .map(|why| why.reason.id)
                .collect();
            assert_eq!(reasons, ["malformed"], "{odd}");
            // Alone, it is no witness.
            let list = bundle
                .pointer_mut("/verificationMaterial/tlogEntries")
                .unwrap();
            list.as_array_mut().unwrap().retain(|other| *other == odd);
            let material = Material::Bundle(bundle.to_string().into_bytes());
            let alone = attest::verify(&material, &bench.image, &bench.by_root());
            let transparency = alone.map(|verified| match verified {
                Verified::Signature(signature) => signature.transparency(),
                Verified::Statement(_) => panic!("a statement"),
            });
            assert_ne!(
                transparency.ok(),
                Some(Transparency::InclusionProof),
                "{odd}"
            );
        }
    }
}

#[test]
fn a_list_of_witnesses_that_is_no_list_hurts_no_other_witness() {
    let bench = Bench::new();
    let sound = bench
        .sigstore
        .signing()
        .sign(bench.workflow(), &bench.image, &BTreeMap::new())
        .unwrap();
    let key = SandboxSigner::Key(&bench.key);
    let by_key = bench
        .sigstore
        .signing()
        .sign(key, &bench.image, &BTreeMap::new())
        .unwrap();
    let but = |bundle: &Value, field: &str, odd: &Value| {
        let mut bundle = bundle.clone();
        bundle["verificationMaterial"][field] = odd.clone();
        Material::Bundle(bundle.to_string().into_bytes())
    };
    for (field, odd, ignored) in [
        ("timestampVerificationData", json!(null), 0),
        ("timestampVerificationData", json!("odd"), 1),
        (
            "timestampVerificationData",
            json!({"rfc3161Timestamps": null}),
            0,
        ),
        (
            "timestampVerificationData",
            json!({"rfc3161Timestamps": "odd"}),
            1,
        ),
        (
            "timestampVerificationData",
            json!({"rfc3161Timestamps": {}}),
            1,
        ),
    ] {
        let material = but(&sound, field, &odd);
        let verified = attest::verify(&material, &bench.image, &bench.by_root());
        let Verified::Signature(signature) = verified.unwrap() else {
            panic!("not a signature");
        };
        assert_eq!(signature.ignored().len(), ignored, "{odd}");
        bench.accepted(&but(&by_key, field, &odd), &bench.by_key(false));
    }
    for odd in [json!(null), json!("odd"), json!({}), json!([])] {
        let material = but(&by_key, "tlogEntries", &odd);
        bench.accepted(&material, &bench.by_key(false));
        // Without an entry, a certificate has only the time of its timestamps; a list that is no list adds none.
        let verified = attest::verify(
            &but(&sound, "tlogEntries", &odd),
            &bench.image,
            &bench.by_root(),
        );
        let record = verified.map(|verified| match verified {
            Verified::Signature(signature) => signature.transparency(),
            Verified::Statement(_) => panic!("a statement"),
        });
        match odd {
            Value::Null | Value::Array(_) => assert_eq!(record, Ok(Transparency::Absent), "{odd}"),
            _ => assert_eq!(record.unwrap_err().reason.id, "malformed", "{odd}"),
        }
    }
}

#[test]
fn an_unreadable_certificate_in_a_bundle_hides_no_signature_by_a_key() {
    let bench = Bench::new();
    let key = SandboxSigner::Key(&bench.key);
    let signed = bench
        .sigstore
        .signing()
        .sign(key, &bench.image, &BTreeMap::new());
    for odd in [
        json!({"certificate": {"rawBytes": "no base64"}}),
        json!({"certificate": null}),
        json!({"x509CertificateChain": {"certificates": [{"rawBytes": "no base64"}]}}),
    ] {
        let mut bundle = signed.as_ref().unwrap().clone();
        let material = bundle["verificationMaterial"].as_object_mut().unwrap();
        material.remove("publicKey");
        material.extend(odd.as_object().unwrap().clone());
        let material = Material::Bundle(bundle.to_string().into_bytes());
        for anchor in [bench.by_key(true), bench.by_key(false)] {
            bench.accepted(&material, &anchor);
        }
        let refused = attest::verify(&material, &bench.image, &bench.by_root()).unwrap_err();
        assert_eq!(refused.reason.id, "malformed", "{odd}");
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
fn a_bundle_replayed_for_another_digest_is_rejected() {
    let mut bench = Bench::new();
    let (bundle, layer) = (bench.bundle(), bench.simple());
    bench.image = Digest::sha256(b"another image");
    assert_eq!(bench.refused(&bundle).reason.id, "wrong-subject");
    assert_eq!(bench.refused_simple(layer).reason.id, "wrong-subject");
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
    bundle["padding"] = json!("x".repeat(16 << 20));
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
