//! Trust roots: their chains, their times, and several of them in one file.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{SandboxSigner, Signing, Sigstore};
use promotion_gate_core::attest::{
    self, Anchor, Material, Transparency, TrustRoot, Verified, VerifiedSignature,
};
use serde_json::{Value, json};

use super::{Bench, STAMPS, material, of_version_0_1};

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

#[test]
fn a_log_that_is_added_to_a_root_counts_beside_the_one_that_it_had() {
    let bench = Bench::new();
    let added = Sigstore::create().unwrap().trusted_root()["tlogs"][0].clone();
    let own = bench.sigstore.trusted_root()["tlogs"][0].clone();
    for (logs, transparency) in [
        (json!([own, added]), Transparency::InclusionProof),
        (json!([added, own]), Transparency::InclusionProof),
        (json!([added]), Transparency::Absent),
    ] {
        let accepted = bench.under(|root| root["tlogs"] = logs).unwrap();
        assert_eq!(accepted.transparency(), transparency);
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
