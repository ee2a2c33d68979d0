use serde_json::json;

use super::*;
use crate::attest::samples::{authorities, pem};

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
        let artifact = SubjectDigest::of(Artifact::Bytes(b"content")).unwrap();
        let matches = |signature: &[u8], signer: &[u8]| {
            let checked = entry.check_matches(&content, signature, &artifact, signer);
            checked.is_ok()
        };
        assert_eq!(matches(b"signature", &certificate), holds);
        assert!(!matches(b"signature", &stranger));
        assert!(!matches(b"another signature", &certificate));
    }
}
