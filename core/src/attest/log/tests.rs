use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use super::super::anchor::TrustRoot;
use super::super::samples::{authorities, pem};
use super::super::signed::{Artifact, SignedBy, Stamps};
use super::*;

fn entry<T: DeserializeOwned>(spec: Value) -> T {
    serde_json::from_value(spec).unwrap()
}

fn hash(bytes: &[u8]) -> Value {
    json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes))})
}

#[test]
fn whoever_is_named_is_the_signer_or_the_holder_of_the_signers_key_and_nobody_else() {
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
    let (ours, other) = (Sha256::digest(b"content"), Sha256::digest(b"other"));
    for (format, signed) in [(None, true), (Some("x509"), true), (Some("pgp"), false)] {
        assert_eq!(rekord(format).of(&ours).is_some(), signed, "{format:?}");
        assert!(rekord(format).of(&other).is_none(), "{format:?}");
    }

    let version_2 = |algorithm: &str, verifier: Value| -> HashedRekordV2 {
        entry(json!({"hashedRekordV002": {
            "data": {"algorithm": algorithm, "digest": STANDARD.encode(ours)},
            "signature": {"content": "AA==", "verifier": verifier},
        }}))
    };
    let (key, certificate) = (
        json!({"publicKey": {"rawBytes": "AA=="}}),
        json!({"x509Certificate": {"rawBytes": "AA=="}}),
    );
    let both = json!({"publicKey": {"rawBytes": "AA=="}, "x509Certificate": {"rawBytes": "AA=="}});
    for (algorithm, verifier, of_ours) in [
        ("SHA2_256", &key, true),
        ("SHA2_256", &certificate, true),
        ("SHA2_256", &both, false),
        ("SHA2_256", &json!({}), false),
        ("SHA2_512", &key, false),
    ] {
        let of = |sha256: &[u8]| version_2(algorithm, verifier.clone()).of(sha256).is_some();
        assert_eq!(of(&ours), of_ours, "{algorithm} {verifier}");
        assert!(!of(&other), "{algorithm} {verifier}");
    }

    let intoto = || -> IntotoV2 {
        entry(json!({"content": {
            "payloadHash": hash(b"content"),
            "envelope": {"payloadType": "ours", "signatures": [{"sig": "QUE9PQ==", "publicKey": "AA=="}]},
        }}))
    };
    assert!(intoto().of("ours", b"content").is_some());
    assert!(intoto().of("ours", b"other").is_none());
    assert!(intoto().of("other", b"content").is_none());
}

/// A log of one entry: the root that trusts it, and the proof that it has the entry.
fn log_of(body: &[u8]) -> (TrustRoot, Value) {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let spki = key.public_key().as_der().unwrap().as_ref().to_vec();
    let id = Sha256::digest(&spki);
    let root = json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [{
            "baseUrl": "https://log.example",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": STANDARD.encode(&spki),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "2020-01-01T00:00:00Z"},
            },
            "logId": {"keyId": STANDARD.encode(id)},
        }],
    });
    let tree = STANDARD.encode(Sha256::digest([&[0], body].concat()));
    let text = format!("log.example\n1\n{tree}\n");
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    let note = STANDARD.encode([&id[..4], signature.as_ref()].concat());
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
fn what_a_proof_repeats_of_its_checkpoint_must_agree_in_version_1_and_is_not_asked_in_version_2() {
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
            promise: None,
            proof: Some(serde_json::from_value(proof.clone()).unwrap()),
            promise_suffices: false,
            body: body.to_vec(),
        };
        let seen = entry(b"body", 0).verify(&root.log_keys, None);
        assert_eq!(seen.is_ok(), holds, "{kind:?} {field}");
        assert!(seen.is_err() || seen.is_ok_and(|seen| seen.at.is_none()));
        assert!(entry(b"other", 0).verify(&root.log_keys, None).is_err());
        let moved = entry(b"body", 1).verify(&root.log_keys, None).is_ok();
        assert_eq!(moved, holds && kind == EntryKind::Dsse, "{kind:?} {field}");
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
            promise: None,
            proof: None,
            promise_suffices: false,
            body: body.to_string().into_bytes(),
        };
        let signed = |signature: &[u8], content| Signed {
            content,
            signature: signature.to_vec(),
            by: SignedBy::Key,
            entries: Vec::new(),
            stamps: Stamps::default(),
        };
        let artifact = SubjectDigest::of(Artifact::Bytes(b"content")).unwrap();
        let ours = signed(b"signature", content);
        assert_eq!(entry.records(&ours, &artifact, &certificate).is_ok(), holds);
        assert!(entry.records(&ours, &artifact, &stranger).is_err());
        let other = signed(b"another signature", ours.content);
        assert!(entry.records(&other, &artifact, &certificate).is_err());
    }
}
