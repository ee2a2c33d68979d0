use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256,
};
use serde_json::json;

use super::super::anchor::TrustRoot;
use super::super::samples::{authorities, pem};
use super::super::signed::{Artifact, SignedBy, Witnesses};
use super::*;

fn entry<T: DeserializeOwned>(spec: Value) -> T {
    serde_json::from_value(spec).unwrap()
}

fn hash(bytes: &[u8]) -> Value {
    json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes))})
}

#[test]
fn a_log_entry_names_the_signer_or_the_signers_key() {
    let [signer, stranger] = authorities();
    let key = public_key_of(&signer).unwrap();
    let named = |der: &[u8]| {
        let (as_certificate, as_key) = (pem("CERTIFICATE", der), pem("PUBLIC KEY", der));
        [
            Verifier::Certificate(der.to_vec()),
            Verifier::Key(der.to_vec()),
            Verifier::Pem(as_certificate.into_bytes()),
            Verifier::Pem(as_key.into_bytes()),
        ]
    };
    for verifier in [&signer, &stranger, &key]
        .into_iter()
        .flat_map(|der| named(der))
    {
        let der = match &verifier {
            Verifier::Certificate(der) | Verifier::Key(der) => der.clone(),
            Verifier::Pem(pem) => {
                let text = std::str::from_utf8(pem).unwrap();
                verifier_of_pem(text).unwrap()
            }
        };
        assert_eq!(verifier.is(&signer), der == signer);
        assert_eq!(verifier.is(&key), der == signer || der == key);
    }
    for pem in [&b"\xff"[..], b"", b"-----BEGIN CERTIFICATE-----"] {
        assert!(!Verifier::Pem(pem.to_vec()).is(&signer));
    }
}

#[test]
fn an_entry_is_of_the_content_that_it_names_and_of_no_other() {
    let rekord = |format: Option<&str>| -> Rekord {
        entry(json!({
            "data": {"hash": hash(b"content")},
            "signature": {"content": "AA==", "publicKey": {"content": "AA=="}, "format": format},
        }))
    };
    let of_bytes = |bytes| SubjectDigest::of(Artifact::Bytes(bytes)).unwrap();
    let (ours, other) = (of_bytes(b"content"), of_bytes(b"other"));
    for (format, signed) in [(None, true), (Some("x509"), true), (Some("pgp"), false)] {
        let of = |content| rekord(format).recorded(content).unwrap().is_some();
        assert_eq!(of(&ours), signed, "{format:?}");
        assert!(!of(&other), "{format:?}");
    }

    let version_2 = |verifier: Value| -> HashedRekordV2 {
        entry(json!({"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": STANDARD.encode(Sha256::digest(b"content"))},
            "signature": {"content": "AA==", "verifier": verifier},
        }}))
    };
    let (key, certificate) = (
        json!({"publicKey": {"rawBytes": "AA=="}}),
        json!({"x509Certificate": {"rawBytes": "AA=="}}),
    );
    let both = json!({"publicKey": {"rawBytes": "AA=="}, "x509Certificate": {"rawBytes": "AA=="}});
    for (verifier, of_ours) in [
        (&key, true),
        (&certificate, true),
        (&both, false),
        (&json!({}), false),
    ] {
        let of = |content| {
            version_2(verifier.clone())
                .recorded(content)
                .unwrap()
                .is_some()
        };
        assert_eq!(of(&ours), of_ours, "{verifier}");
        assert!(!of(&other), "{verifier}");
    }

    let intoto = || -> IntotoV2 {
        entry(json!({"content": {
            "payloadHash": hash(b"content"),
            "envelope": {"payloadType": "ours", "signatures": [{"sig": "QUE9PQ==", "publicKey": "AA=="}]},
        }}))
    };
    assert!(intoto().recorded("ours", b"content").is_some());
    assert!(intoto().recorded("ours", b"other").is_none());
    assert!(intoto().recorded("other", b"content").is_none());
}

/// The signers' hashes: P-256, P-384 and P-521 (cosign from version 2.6 on) sign with SHA-256, SHA-384 and SHA-512.
#[test]
fn a_log_entry_with_another_hash_binds_the_same_content() {
    fn recorded(
        version: u8,
        algorithm: &str,
        digest: &[u8],
        content: &SubjectDigest<'_>,
    ) -> Result<bool, UnacceptedReason> {
        let recorded = match version {
            1 => entry::<Rekord>(json!({
                "data": {"hash": {"algorithm": algorithm, "value": hex::encode(digest)}},
                "signature": {"content": "AA==", "publicKey": {"content": "AA=="}},
            }))
            .recorded(content),
            _ => entry::<HashedRekordV2>(json!({"hashedRekordV002": {
                "data": {"algorithm": algorithm, "digest": STANDARD.encode(digest)},
                "signature": {"content": "AA==", "verifier": {"publicKey": {"rawBytes": "AA=="}}},
            }}))
            .recorded(content),
        };
        Ok(recorded?.is_some())
    }

    let of_bytes = |bytes| SubjectDigest::of(Artifact::Bytes(bytes)).unwrap();
    let (ours, other) = (of_bytes(b"content"), of_bytes(b"other"));
    let digest = crate::gate::Digest::sha256(b"content");
    let known = SubjectDigest::of(Artifact::Digest(&digest)).unwrap();
    let sha256 = Sha256::digest(b"content").to_vec();
    let sha384 = sha2::Sha384::digest(b"content").to_vec();
    let sha512 = sha2::Sha512::digest(b"content").to_vec();
    for (version, algorithm, digest) in [
        (1, "sha256", &sha256),
        (1, "sha384", &sha384),
        (1, "sha512", &sha512),
        (2, "SHA2_256", &sha256),
        (2, "SHA2_384", &sha384),
        (2, "SHA2_512", &sha512),
    ] {
        let of = |content| recorded(version, algorithm, digest, content);
        assert_eq!(of(&ours), Ok(true), "{algorithm}");
        assert_eq!(of(&other), Ok(false), "{algorithm}");
        match of(&known) {
            Ok(bound) => assert!(bound && digest == &sha256, "{algorithm}"),
            Err(refused) => {
                assert_eq!(refused.reason, unaccepted::FORMAT_NOT_SUPPORTED);
                assert!(refused.detail.contains("SHA-256 digest"), "{refused}");
                assert_ne!(digest, &sha256, "{algorithm}");
            }
        }
    }
    // A digest counts under the algorithm that the entry names, and under that alone.
    for (version, algorithm, digest) in [
        (1, "sha384", &sha256),
        (1, "sha256", &sha512),
        (1, "sha512", &sha384[..32].to_vec()),
        (2, "SHA2_512", &sha256),
        (2, "SHA2_256", &sha384),
    ] {
        let bound = recorded(version, algorithm, digest, &ours);
        assert_eq!(bound, Ok(false), "{algorithm}");
    }
    for (version, algorithm) in [
        (1, "sha1"),
        (1, "SHA2_256"),
        (1, "SHA256"),
        (1, ""),
        (2, "sha256"),
        (2, "SHA3_256"),
        (2, "HASH_ALGORITHM_UNSPECIFIED"),
        (2, ""),
    ] {
        let refused = recorded(version, algorithm, &sha256, &ours).unwrap_err();
        assert_eq!(
            refused.reason,
            unaccepted::FORMAT_NOT_SUPPORTED,
            "{algorithm}"
        );
    }
}

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
            kind,
            log: Vec::new(),
            index,
            integrated: Some(Timestamp::UNIX_EPOCH),
            set: None,
            proof: Some(serde_json::from_value(proof.clone()).unwrap()),
            set_suffices: false,
            body: body.to_vec(),
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
    let entry = LogEntry {
        kind: EntryKind::HashedRekordV2,
        log: Vec::new(),
        index: 0,
        integrated: None,
        set: None,
        proof: Some(serde_json::from_value(proof).unwrap()),
        set_suffices: false,
        body: b"body".to_vec(),
    };
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
            let entry = LogEntry {
                kind: EntryKind::Dsse,
                log: Vec::new(),
                index: 0,
                integrated: None,
                set: None,
                proof: Some(serde_json::from_value(proof).unwrap()),
                set_suffices: false,
                body: b"body".to_vec(),
            };
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
        let entry = LogEntry {
            kind: EntryKind::Dsse,
            log: Vec::new(),
            index: 0,
            integrated: None,
            set: None,
            proof: Some(serde_json::from_value(proof).unwrap()),
            set_suffices: false,
            body: b"body".to_vec(),
        };
        let seen = entry.verify(&root.instances[0].log_keys, &[]);
        assert_eq!(seen.err().map(|why| why.reason), refused, "{lines}");
    }
}

#[test]
fn an_entry_of_version_2_is_of_an_artifact_or_of_an_envelope() {
    let [certificate, stranger] = authorities();
    let message = || Content::Message { digest: None };
    let envelope = || Content::Envelope {
        payload_type: "type".to_owned(),
        payload: b"content".to_vec(),
        written: None,
    };
    let encoded = b"DSSEv1 4 type 7 content";
    for (content, logged, holds) in [
        (message(), &b"content"[..], true),
        (message(), encoded, false),
        (envelope(), encoded, true),
        (envelope(), b"content", false),
    ] {
        let body = json!({"kind": "hashedrekord", "apiVersion": "0.0.2", "spec": {"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": STANDARD.encode(Sha256::digest(logged))},
            "signature": {"content": STANDARD.encode("signature"), "verifier": {
                "x509Certificate": {"rawBytes": STANDARD.encode(&certificate)},
            }},
        }}});
        let entry = LogEntry {
            kind: EntryKind::HashedRekordV2,
            log: Vec::new(),
            index: 0,
            integrated: None,
            set: None,
            proof: None,
            set_suffices: false,
            body: body.to_string().into_bytes(),
        };
        let signed = |signature: &[u8], content| Signed {
            content,
            signature: signature.to_vec(),
            by: Ok(SignedBy::Key),
            witnesses: Ok(Witnesses::default()),
        };
        let artifact = SubjectDigest::of(Artifact::Bytes(b"content")).unwrap();
        let ours = signed(b"signature", content);
        assert_eq!(
            entry.check_matches(&ours, &artifact, &certificate).is_ok(),
            holds
        );
        assert!(entry.check_matches(&ours, &artifact, &stranger).is_err());
        let other = signed(b"another signature", ours.content);
        assert!(
            entry
                .check_matches(&other, &artifact, &certificate)
                .is_err()
        );
    }
}
