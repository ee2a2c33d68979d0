use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_types::TimeRange;

use super::*;
use crate::attest::trust_root::TrustRoot;

/// A log of one entry: the root that trusts it, and the proof that it has the entry.
fn log_of(body: &[u8]) -> (TrustRoot, Value) {
    let (key, sign) = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING);
    log_by(&key, sign, body)
}

/// A key as a trust root writes it, and how to sign with it.
fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, impl Fn(&[u8]) -> Vec<u8>) {
    let key = EcdsaKeyPair::generate(algorithm).unwrap();
    let spki = key.public_key().as_der().unwrap().as_ref().to_vec();
    let sign = move |bytes: &[u8]| {
        let signature = key.sign(&SystemRandom::new(), bytes).unwrap();
        signature.as_ref().to_vec()
    };
    (spki, sign)
}

fn log_by(key: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>, body: &[u8]) -> (TrustRoot, Value) {
    let id = Sha256::digest(key);
    let root = json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [{
            "baseUrl": "https://log.example",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": STANDARD.encode(key),
                "validFor": {"start": "2020-01-01T00:00:00Z"},
            },
            "logId": {"keyId": STANDARD.encode(id)},
        }],
    });
    let tree = STANDARD.encode(Sha256::digest([&[0], body].concat()));
    let text = format!("log.example\n1\n{tree}\n");
    let note = STANDARD.encode([&id[..4], &sign(text.as_bytes())].concat());
    let proof = json!({
        "logIndex": "0",
        "rootHash": tree,
        "treeSize": "1",
        "hashes": [],
        "checkpoint": {"envelope": format!("{text}\n\u{2014} log.example {note}\n")},
    });
    let root = TrustRoot::parse("log", root.to_string().as_bytes()).unwrap();
    (root, proof)
}

/// An entry that a log contains, with nothing else to show it.
fn proven(kind: EntryKind, proof: Value) -> LogEntry {
    LogEntry {
        kind,
        log: Vec::new(),
        index: 0,
        integrated: None,
        set: None,
        proof: Some(serde_json::from_value(proof).unwrap()),
        set_suffices: false,
        body: b"body".to_vec(),
    }
}

#[test]
fn an_inclusion_proof_of_version_1_agrees_with_its_checkpoint() {
    let (root, proof) = log_of(b"body");
    let other = STANDARD.encode([0; 32]);
    for (kind, field, value, holds) in [
        (EntryKind::Dsse, "logIndex", json!("0"), true),
        (EntryKind::Dsse, "logIndex", json!("1"), false),
        (EntryKind::Dsse, "rootHash", json!(other), false),
        (EntryKind::Dsse, "treeSize", json!("2"), false),
        (EntryKind::HashedRekordV2, "logIndex", json!("0"), true),
        (EntryKind::HashedRekordV2, "logIndex", json!("1"), true),
        (EntryKind::HashedRekordV2, "rootHash", json!(other), true),
        (EntryKind::HashedRekordV2, "treeSize", json!("2"), true),
    ] {
        let mut proof = proof.clone();
        proof[field] = value;
        let entry = |body: &[u8], index| LogEntry {
            index,
            integrated: Some(Timestamp::UNIX_EPOCH),
            body: body.to_vec(),
            ..proven(kind, proof.clone())
        };
        let seen = entry(b"body", 0).verify(&root.instances[0].log_keys, &[]);
        assert_eq!(seen.is_ok(), holds, "{kind:?} {field}");
        assert!(seen.is_err() || seen.is_ok_and(|seen| seen.at.is_none()));
        assert!(
            entry(b"other", 0)
                .verify(&root.instances[0].log_keys, &[])
                .is_err()
        );
        let moved = entry(b"body", 1)
            .verify(&root.instances[0].log_keys, &[])
            .is_ok();
        assert_eq!(moved, holds && kind == EntryKind::Dsse, "{kind:?} {field}");
    }
}

#[test]
fn a_checkpoint_by_an_expired_log_key_is_rejected() {
    let (mut root, proof) = log_of(b"body");
    let entry = proven(EntryKind::HashedRekordV2, proof);
    let year = |year: i16| -> Timestamp { format!("{year}-01-01T00:00:00Z").parse().unwrap() };
    let retired = Some(TimeRange::new(year(2022), Some(year(2024))));
    let current = Some(TimeRange::new(year(2022), None));
    for (valid_for, times, holds) in [
        (retired, vec![year(2023)], true),
        (retired, vec![year(2022), year(2024)], true),
        (retired, vec![year(2021)], false),
        (retired, vec![year(2025)], false),
        (retired, vec![year(2023), year(2025)], false),
        (retired, vec![], false),
        (current, vec![year(2025)], true),
        (current, vec![year(2021)], false),
        (current, vec![], true),
        (None, vec![year(2021)], true),
        (None, vec![], true),
    ] {
        let known = Arc::get_mut(&mut root.instances[0]).unwrap();
        known.log_keys[0].valid_for = valid_for;
        match entry.verify(&root.instances[0].log_keys, &times) {
            Ok(_) => assert!(holds, "{valid_for:?} {times:?}"),
            Err(refused) => {
                assert!(!holds, "{valid_for:?} {times:?}");
                assert_eq!(refused.reason, unaccepted::UNKNOWN_LOG);
            }
        }
    }
}

#[test]
fn a_log_key_on_p521_or_in_pkcs1_verifies_its_own_entries() {
    let (p384, by_p384) = ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING);
    let (p521, by_p521) = ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING);
    let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let by_rsa = |bytes: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            bytes,
            &mut signature,
        )
        .unwrap();
        signature
    };
    let pkcs1 = rsa.public_key().as_ref();
    for (root, proof) in [
        log_by(&p384, by_p384, b"body"),
        log_by(&p521, by_p521, b"body"),
        log_by(pkcs1, by_rsa, b"body"),
    ] {
        let keys = &root.instances[0].log_keys;
        let mut forged = proof.clone();
        let envelope = proof["checkpoint"]["envelope"].as_str().unwrap();
        forged["checkpoint"]["envelope"] = json!(envelope.replace("log.example\n", "log.other\n"));
        for (proof, holds) in [(proof, true), (forged, false)] {
            let entry = proven(EntryKind::Dsse, proof);
            assert_eq!(entry.verify(keys, &[]).is_ok(), holds);
        }
    }
}

#[test]
fn a_checkpoint_with_too_many_signatures_is_rejected() {
    let (root, proof) = log_of(b"body");
    let envelope = proof["checkpoint"]["envelope"].as_str().unwrap();
    let (text, own) = envelope.split_once("\n\n").unwrap();
    let hint = &root.instances[0].log_keys[0].id.as_bytes()[..4];
    let line = |hint: &[u8]| {
        let note = STANDARD.encode([hint, &[7; 70]].concat());
        format!("\u{2014} log.example {note}\n")
    };
    for (hint, lines, refused) in [
        (hint, MAXIMUM_SIGNATURES - 1, None),
        (hint, MAXIMUM_SIGNATURES, Some(unaccepted::TOO_LARGE)),
        (&[0; 4], 2 * MAXIMUM_SIGNATURES, None),
    ] {
        let mut proof = proof.clone();
        let others = line(hint).repeat(lines);
        proof["checkpoint"]["envelope"] = json!(format!("{text}\n\n{others}{own}"));
        let entry = proven(EntryKind::Dsse, proof);
        let seen = entry.verify(&root.instances[0].log_keys, &[]);
        assert_eq!(seen.err().map(|why| why.reason), refused, "{lines}");
    }
}
