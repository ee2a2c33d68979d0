//! Log entries and timestamps: what they prove, and those that are forged, of others, or unknown.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{SandboxSigner, Signing};
use promotion_gate_core::attest::{self, TimeSource, Transparency};
use serde_json::{Value, json};

use super::{Bench, ENTRY, STAMPS, material, of_version_0_1, simple};

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
