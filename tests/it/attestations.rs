//! Attestations in cosign's `.att` layout, the log entries that they came with over the years, the keys that sign, and the
//! ways of forging them that have a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA256_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use promotion_gate::sandbox::{
    EnvelopeEntry, SandboxIdentity, SandboxKey, SandboxSigner, Sigstore, SimpleSignature,
};
use promotion_gate_core::attest::predicate::Predicate;
use promotion_gate_core::attest::{
    self, Anchor, Artifact, KeyRing, Material, PublicKey, TrustRoot, UnacceptedReason, Verified,
    VerifiedStatement, verify_artifact,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

const ENTRIES: [EnvelopeEntry; 3] = [
    EnvelopeEntry::IntotoV1,
    EnvelopeEntry::IntotoV2,
    EnvelopeEntry::Dsse,
];
const KIND: &str = "https://example.com/test/v1";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";

struct Bench {
    sigstore: Sigstore,
    root: Arc<TrustRoot>,
    identity: SandboxIdentity,
    image: Digest,
}

impl Bench {
    fn new() -> Bench {
        let sigstore = Sigstore::create().unwrap();
        let json = sigstore.trusted_root().to_string();
        Bench {
            root: Arc::new(TrustRoot::parse("sandbox", json.as_bytes()).unwrap()),
            sigstore,
            identity: SandboxIdentity::new("release@example.com", "https://issuer.example"),
            image: Digest::sha256(b"image"),
        }
    }

    fn attestation(&self, entry: EnvelopeEntry, result: &str) -> SimpleSignature {
        let signer = SandboxSigner::Identity(&self.identity);
        let predicate = json!({ "result": result });
        self.sigstore
            .signing()
            .unstamped()
            .attest_simply(signer, &self.image, KIND, &predicate, entry)
            .unwrap()
    }

    fn verify(&self, layer: SimpleSignature) -> Result<Verified, UnacceptedReason> {
        let anchor = Anchor::Root(Arc::clone(&self.root));
        attest::verify(&material(layer), &self.image, &anchor)
    }

    #[track_caller]
    fn refused(&self, layer: SimpleSignature) -> &'static str {
        self.verify(layer).unwrap_err().reason.id
    }
}

fn material(layer: SimpleSignature) -> Material {
    Material::Attestation {
        envelope: layer.payload,
        annotations: layer.annotations,
    }
}

#[track_caller]
fn statement(verified: Result<Verified, UnacceptedReason>) -> VerifiedStatement {
    match verified.unwrap() {
        Verified::Statement(statement) => statement,
        Verified::Signature(signature) => panic!("a signature: {signature:?}"),
    }
}

#[test]
fn an_attestation_with_a_log_entry_of_any_age_is_accepted() {
    let bench = Bench::new();
    for entry in ENTRIES {
        let statement = statement(bench.verify(bench.attestation(entry, "PASSED")));
        assert_eq!(statement.predicate_type(), KIND, "{entry:?}");
        assert_eq!(statement.times().len(), 1, "{entry:?}");
    }
}

#[test]
fn a_timestamp_over_envelope_or_signature_is_accepted() {
    let bench = Bench::new();
    let signer = SandboxSigner::Identity(&bench.identity);
    let signing = bench.sigstore.signing().unlogged();
    let layer = signing
        .attest_simply(signer, &bench.image, KIND, &json!({}), EnvelopeEntry::Dsse)
        .unwrap();
    statement(bench.verify(layer.clone()));

    // cosign 2 stamps the envelope.
    let stamp = bench
        .sigstore
        .stamp(&layer.payload, Timestamp::now())
        .unwrap();
    let mut over_envelope = layer;
    let stamp = json!({"SignedRFC3161Timestamp": STANDARD.encode(stamp)});
    let name = "dev.sigstore.cosign/rfc3161timestamp".to_owned();
    over_envelope
        .annotations
        .insert(name.clone(), stamp.to_string());
    statement(bench.verify(over_envelope.clone()));

    let other = bench
        .sigstore
        .stamp(b"something else", Timestamp::now())
        .unwrap();
    let other = json!({"SignedRFC3161Timestamp": STANDARD.encode(other)});
    over_envelope.annotations.insert(name, other.to_string());
    assert_eq!(bench.refused(over_envelope), "bad-timestamp");
}

#[test]
fn the_log_entry_of_another_attestation_fails_cve_2022_36056() {
    let bench = Bench::new();
    for entry in ENTRIES {
        for donor in ENTRIES {
            let (mut layer, other) = (
                bench.attestation(entry, "PASSED"),
                bench.attestation(donor, "FAILED"),
            );
            let stolen = other.annotations[LOG_ENTRY].clone();
            layer.annotations.insert(LOG_ENTRY.to_owned(), stolen);
            // The certificate is another one as well; even with that of the entry, the signature is not.
            assert!(
                ["bad-log-entry", "certificate-not-valid-at-signing"]
                    .contains(&bench.refused(layer)),
                "{entry:?} {donor:?}"
            );
        }
    }
}

#[test]
fn an_envelope_reformatted_after_logging_is_rejected() {
    let bench = Bench::new();
    for (entry, accepted) in [
        (EnvelopeEntry::IntotoV1, false),
        (EnvelopeEntry::IntotoV2, true),
        (EnvelopeEntry::Dsse, true),
    ] {
        let mut layer = bench.attestation(entry, "PASSED");
        let envelope: Value = serde_json::from_slice(&layer.payload).unwrap();
        layer.payload = serde_json::to_vec_pretty(&envelope).unwrap();
        assert_eq!(bench.verify(layer).is_ok(), accepted, "{entry:?}");
    }
}

#[test]
fn an_envelope_with_two_signatures_or_none_is_rejected() {
    let bench = Bench::new();
    let layer = bench.attestation(EnvelopeEntry::Dsse, "PASSED");
    let envelope: Value = serde_json::from_slice(&layer.payload).unwrap();
    let signature = envelope["signatures"][0].clone();
    for signatures in [json!([]), json!([signature, signature])] {
        let mut envelope = envelope.clone();
        envelope["signatures"] = signatures;
        let layer = SimpleSignature {
            payload: envelope.to_string().into_bytes(),
            ..layer.clone()
        };
        assert_eq!(bench.refused(layer), "malformed");
    }
}

#[test]
fn a_payload_changed_after_signing_is_rejected() {
    let bench = Bench::new();
    for entry in ENTRIES {
        let layer = bench.attestation(entry, "FAILED");
        let mut envelope: Value = serde_json::from_slice(&layer.payload).unwrap();
        let payload = STANDARD
            .decode(envelope["payload"].as_str().unwrap())
            .unwrap();
        let payload = String::from_utf8(payload)
            .unwrap()
            .replace("FAILED", "PASSED");
        envelope["payload"] = json!(STANDARD.encode(payload));
        let layer = SimpleSignature {
            payload: envelope.to_string().into_bytes(),
            ..layer
        };
        assert_eq!(bench.refused(layer), "bad-signature");
    }
}

#[test]
fn an_attestation_about_another_digest_is_rejected() {
    let bench = Bench::new();
    let layer = bench.attestation(EnvelopeEntry::Dsse, "PASSED");
    let anchor = Anchor::Root(Arc::clone(&bench.root));
    let other = Digest::sha256(b"another image");
    let refused = attest::verify(&material(layer), &other, &anchor).unwrap_err();
    assert_eq!(refused.reason.id, "wrong-subject");
}

#[test]
fn a_log_entry_that_cannot_hold_an_envelope_is_rejected() {
    let bench = Bench::new();
    let mut layer = bench.attestation(EnvelopeEntry::Dsse, "PASSED");
    let signed = bench
        .sigstore
        .signing()
        .sign_simply(
            SandboxSigner::Identity(&bench.identity),
            &bench.image,
            &Default::default(),
        )
        .unwrap();
    layer
        .annotations
        .insert(LOG_ENTRY.to_owned(), signed.annotations[LOG_ENTRY].clone());
    assert!(
        ["format-not-supported", "certificate-not-valid-at-signing"]
            .contains(&bench.refused(layer))
    );
}

#[test]
fn verification_reads_no_clock_and_rules_judge_the_time() {
    let bench = Bench::new();
    let signer = SandboxSigner::Identity(&bench.identity);
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 365);
    let bundle = bench
        .sigstore
        .signing()
        .at(later)
        .attest(signer, &bench.image, KIND, &json!({}))
        .unwrap();
    let anchor = Anchor::Root(Arc::clone(&bench.root));
    let material = Material::Bundle(bundle.to_string().into_bytes());
    let statement = statement(attest::verify(&material, &bench.image, &anchor));
    assert!(
        statement
            .times()
            .iter()
            .all(|time| time.at.as_second() == later.as_second())
    );
}

/// Something signed by a key alone, in both of cosign's layouts and in a bundle.
fn signed_by(sign: impl Fn(&[u8]) -> Vec<u8>, image: &Digest) -> [Material; 3] {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": ""},
            "image": {"docker-manifest-digest": image.to_string()},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
    .into_bytes();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.hex()}}],
        "predicateType": KIND,
        "predicate": {},
    })
    .to_string();
    let envelope = envelope_of(&statement, &sign);
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": ""}},
        "dsseEnvelope": envelope,
    });
    let signature = STANDARD.encode(sign(&payload));
    [
        Material::SimpleSigning {
            payload,
            annotations: [("dev.cosignproject.cosign/signature".to_owned(), signature)].into(),
        },
        Material::Attestation {
            envelope: envelope.to_string().into_bytes(),
            annotations: Default::default(),
        },
        Material::Bundle(bundle.to_string().into_bytes()),
    ]
}

/// A DSSE envelope with this statement.
fn envelope_of(statement: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> Value {
    let kind = "application/vnd.in-toto+json";
    let encoded = format!(
        "DSSEv1 {} {kind} {} {statement}",
        kind.len(),
        statement.len()
    );
    json!({
        "payload": STANDARD.encode(statement),
        "payloadType": kind,
        "signatures": [{"sig": STANDARD.encode(sign(encoded.as_bytes()))}],
    })
}

fn key_of(spki: &[u8]) -> Anchor {
    Anchor::Key {
        key: Arc::new(PublicKey::from_pem(&pem(spki)).unwrap()),
        root: None,
    }
}

#[track_caller]
fn holds(name: &str, spki: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) {
    let image = Digest::sha256(b"image");
    let stranger = SandboxKey::generate().unwrap();
    let stranger = Anchor::Key {
        key: Arc::new(PublicKey::from_pem(&stranger.public_pem()).unwrap()),
        root: None,
    };
    let key = key_of(spki);
    let ring = KeyRing::of([&stranger, &key].into_iter());
    let fingerprint = PublicKey::from_pem(&pem(spki))
        .unwrap()
        .fingerprint()
        .clone();
    for material in signed_by(sign, &image) {
        attest::verify(&material, &image, &key).unwrap_or_else(|why| panic!("{name}: {why}"));
        let signer = ring.signer(&material, &image);
        assert_eq!(signer.as_ref(), Some(&fingerprint), "{name}");
        let refused = attest::verify(&material, &image, &stranger).unwrap_err();
        assert_eq!(refused.reason.id, "bad-signature", "{name}");
    }
}

#[test]
fn keys_on_every_curve_sign_with_old_and_new_hashes() {
    let random = SystemRandom::new();
    for (name, algorithm) in [
        ("P-256", &ECDSA_P256_SHA256_ASN1_SIGNING),
        ("P-384", &ECDSA_P384_SHA384_ASN1_SIGNING),
        ("P-521 with SHA-512", &ECDSA_P521_SHA512_ASN1_SIGNING),
        ("P-521 with SHA-256", &ECDSA_P521_SHA256_ASN1_SIGNING),
    ] {
        let key = EcdsaKeyPair::generate(algorithm).unwrap();
        let spki = key.public_key().as_der().unwrap();
        holds(name, spki.as_ref(), |bytes| {
            key.sign(&random, bytes).unwrap().as_ref().to_vec()
        });
    }
}

/// Some verifiers publish summaries with signatures of the two numbers alone (IEEE P1363), and not in DER.
#[test]
fn a_verification_summary_whose_signature_is_two_numbers_is_verified() {
    let random = SystemRandom::new();
    let image = Digest::sha256(b"image");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.hex()}}],
        "predicateType": "https://slsa.dev/verification_summary/v1",
        "predicate": {
            "verifier": {"id": "https://verifier.example"},
            "timeVerified": "2026-11-01T00:00:00Z",
            "resourceUri": "registry.example/app",
            "policy": {"uri": "https://verifier.example/policy"},
            "verificationResult": "PASSED",
            "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
        },
    })
    .to_string();
    for (name, form, length) in [
        ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING, 64),
        ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING, 96),
        ("P-521", &ECDSA_P521_SHA512_FIXED_SIGNING, 132),
    ] {
        let key = EcdsaKeyPair::generate(form).unwrap();
        let spki = key.public_key().as_der().unwrap();
        let sign = |bytes: &[u8]| key.sign(&random, bytes).unwrap().as_ref().to_vec();
        assert_eq!(sign(b"message").len(), length, "{name}");
        holds(name, spki.as_ref(), sign);
        let verified = |statement: &str, signed: &str| {
            let mut envelope = envelope_of(signed, sign);
            envelope["payload"] = json!(STANDARD.encode(statement));
            let material = Material::Attestation {
                envelope: envelope.to_string().into_bytes(),
                annotations: Default::default(),
            };
            attest::verify(&material, &image, &key_of(spki.as_ref()))
        };
        let Verified::Statement(summary) = verified(&statement, &statement).unwrap() else {
            panic!("{name}: a signature");
        };
        let is_summary = matches!(summary.predicate(), Predicate::VerificationSummary(_));
        assert!(is_summary, "{name}: {:?}", summary.predicate());
        let failed = statement.replace("PASSED", "FAILED");
        let refused = verified(&statement, &failed).unwrap_err();
        assert_eq!(refused.reason.id, "bad-signature", "{name}");
    }
}

#[test]
fn rsa_keys_of_2048_to_4096_bits_sign_with_either_padding() {
    let random = SystemRandom::new();
    let paddings: [(&str, &'static dyn RsaEncoding); 2] =
        [("PKCS#1 v1.5", &RSA_PKCS1_SHA256), ("PSS", &RSA_PSS_SHA256)];
    for size in [KeySize::Rsa2048, KeySize::Rsa3072, KeySize::Rsa4096] {
        let key = RsaKeyPair::generate(size).unwrap();
        let spki = key.public_key().as_der().unwrap();
        for (padding, encoding) in paddings {
            holds(&format!("{size:?} {padding}"), spki.as_ref(), |bytes| {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, bytes, &mut signature).unwrap();
                signature
            });
        }
    }
}

#[test]
fn ed25519_keys_sign_messages() {
    let key = Ed25519KeyPair::generate().unwrap();
    let spki = key.public_key().as_der().unwrap();
    holds("Ed25519", spki.as_ref(), |bytes| {
        key.sign(bytes).as_ref().to_vec()
    });
}

/// A bare signature of some bytes, with the digest that stands beside it.
fn message(signature: &[u8], digest: Option<(&str, &[u8])>) -> Vec<u8> {
    let digest = digest.map(
        |(algorithm, digest)| json!({"algorithm": algorithm, "digest": STANDARD.encode(digest)}),
    );
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": ""}},
        "messageSignature": {"messageDigest": digest, "signature": STANDARD.encode(signature)},
    })
    .to_string()
    .into_bytes()
}

#[test]
fn a_message_digest_of_any_algorithm_names_the_artifact() {
    use sha2::{Digest as _, Sha256, Sha384, Sha512};
    let content = b"content";
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let signature = key.sign(&SystemRandom::new(), content).unwrap();
    let anchor = key_of(key.public_key().as_der().unwrap().as_ref());
    let digest = Digest::sha256(content);
    let wrong = Some("wrong-subject");
    let unsupported = Some("format-not-supported");
    for (algorithm, written, by_bytes, by_digest) in [
        ("SHA2_256", Sha256::digest(content).to_vec(), None, None),
        (
            "SHA2_384",
            Sha384::digest(content).to_vec(),
            None,
            unsupported,
        ),
        (
            "SHA2_512",
            Sha512::digest(content).to_vec(),
            None,
            unsupported,
        ),
        ("SHA2_256", Sha256::digest(b"other").to_vec(), wrong, wrong),
        (
            "SHA2_384",
            Sha384::digest(b"other").to_vec(),
            wrong,
            unsupported,
        ),
        (
            "SHA2_512",
            Sha512::digest(b"other").to_vec(),
            wrong,
            unsupported,
        ),
    ] {
        let bundle = message(signature.as_ref(), Some((algorithm, &written)));
        let reason = |artifact| {
            let read = verify_artifact(&bundle, artifact, &anchor);
            read.err().map(|why| why.reason.id)
        };
        assert_eq!(reason(Artifact::Bytes(content)), by_bytes, "{algorithm}");
        assert_eq!(reason(Artifact::Digest(&digest)), by_digest, "{algorithm}");
    }
}

#[test]
fn a_signature_over_the_message_is_unsupported_by_digest() {
    let content = b"content";
    let key = Ed25519KeyPair::generate().unwrap();
    let anchor = key_of(key.public_key().as_der().unwrap().as_ref());
    let bundle = message(key.sign(content).as_ref(), None);
    verify_artifact(&bundle, Artifact::Bytes(content), &anchor).unwrap();
    let digest = Digest::sha256(content);
    let refused = verify_artifact(&bundle, Artifact::Digest(&digest), &anchor).unwrap_err();
    assert_eq!(refused.reason.id, "format-not-supported");
}

#[test]
fn keys_of_other_kinds_and_sizes_are_refused() {
    for bytes in [255, 1024] {
        let error = PublicKey::from_pem(&pem(&rsa_key(bytes))).unwrap_err();
        let named = format!("RSA of {} bits", bytes * 8);
        assert!(error.to_string().contains(&named), "{error}");
    }
}

/// A key with some modulus of so many bytes.
fn rsa_key(bytes: usize) -> Vec<u8> {
    const RSA_ENCRYPTION: [u8; 15] = [
        0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0,
    ];
    let element = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], content].concat()
    };
    let modulus = element(2, &[&[0], vec![0xa5; bytes].as_slice()].concat());
    let key = element(0x30, &[&modulus[..], &[2, 3, 1, 0, 1]].concat());
    let bits = element(3, &[&[0], key.as_slice()].concat());
    element(0x30, &[&RSA_ENCRYPTION[..], &bits].concat())
}

fn pem(spki: &[u8]) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(spki)
    )
}

/// Every single change to a sound bundle, held against the library that verifies them as other clients do: what it refuses,
/// we refuse.
#[test]
fn no_changed_bundle_is_accepted_that_the_library_refuses() {
    use sigstore_trust_root::TrustedRoot;
    use sigstore_types::{Bundle, Sha256Hash};
    use sigstore_verify::{VerificationPolicy, Verifier};

    let bench = Bench::new();
    let root = TrustedRoot::from_json(&bench.sigstore.trusted_root().to_string()).unwrap();
    let library = Verifier::new(&root).unwrap();
    let digest = Sha256Hash::from_hex(bench.image.hex()).unwrap();
    let policy = VerificationPolicy::any_identity();
    let by_library = |bundle: &Value| {
        let parsed = Bundle::from_json(&bundle.to_string()).ok()?;
        library.verify(digest, &parsed, &policy).ok().map(drop)
    };
    let anchor = Anchor::Root(Arc::clone(&bench.root));
    let by_us = |bundle: &Value| {
        let bytes = bundle.to_string();
        verify_artifact(bytes.as_bytes(), Artifact::Digest(&bench.image), &anchor).ok()
    };
    let signer = SandboxSigner::Identity(&bench.identity);
    let make = || {
        let signing = bench.sigstore.signing();
        signing
            .attest(signer, &bench.image, KIND, &json!({"n": 1}))
            .unwrap()
    };
    let (sound, other) = (make(), make());
    assert!(by_library(&sound).is_some() && by_us(&sound).is_some());

    let mut agreed = [0, 0];
    for path in leaves(&sound, String::new()) {
        for replacement in replacements(&sound, &other, &path) {
            let mut changed = sound.clone();
            match replacement {
                Some(value) => *changed.pointer_mut(&path).unwrap() = value,
                None => remove(&mut changed, &path),
            }
            let (theirs, ours) = (by_library(&changed).is_some(), by_us(&changed));
            // The library refuses what stands beside a sound log entry and does not hold; to us it is as good as absent.
            let ours = ours.is_some_and(|signature| signature.ignored.is_empty());
            assert!(theirs || !ours, "only we accept another `{path}`");
            agreed[usize::from(theirs)] += usize::from(theirs == ours);
        }
    }
    let [refused, accepted] = agreed;
    assert!(refused > 50 && accepted > 0, "{refused} {accepted}");
}

fn leaves(value: &Value, here: String) -> Vec<String> {
    let below = |key: String, value: &Value| leaves(value, format!("{here}/{key}"));
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| below(key.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .enumerate()
            .flat_map(|(index, value)| below(index.to_string(), value))
            .collect(),
        _ => vec![here],
    }
}

/// Other values for a leaf: another text, its first half, that of another bundle, none.
fn replacements(sound: &Value, other: &Value, path: &str) -> Vec<Option<Value>> {
    let mut replacements = vec![None, Some(Value::Null)];
    replacements.extend(other.pointer(path).cloned().map(Some));
    if let Some(text) = sound.pointer(path).and_then(Value::as_str) {
        let half = text
            .chars()
            .take(text.chars().count() / 2)
            .collect::<String>();
        replacements.push(Some(json!(half)));
        if let Ok(mut bytes) = STANDARD.decode(text) {
            for at in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1;
                    replacements.push(Some(json!(STANDARD.encode(&bytes))));
                }
            }
        }
        if let Ok(number) = text.parse::<i64>() {
            replacements
                .extend([number + 1, number - 1, -1, 0].map(|n| Some(json!(n.to_string()))));
        }
    }
    replacements
}

fn remove(value: &mut Value, path: &str) {
    let (above, last) = path.rsplit_once('/').unwrap();
    match value.pointer_mut(above).unwrap() {
        Value::Object(fields) => drop(fields.remove(last)),
        Value::Array(items) => drop(items.remove(last.parse().unwrap())),
        _ => unreachable!(),
    }
}

#[test]
fn a_companys_certificate_does_not_hide_a_keys_signature() {
    let bench = Bench::new();
    let key = SandboxKey::generate().unwrap();
    let company = rcgen::generate_simple_self_signed(["signing.example".to_owned()]).unwrap();
    let sign = |signer: SandboxSigner<'_>| {
        let mut layer = bench
            .sigstore
            .signing()
            .sign_simply(signer, &bench.image, &BTreeMap::new())
            .unwrap();
        let certificate = company.cert.pem();
        layer
            .annotations
            .insert("dev.sigstore.cosign/certificate".to_owned(), certificate);
        Material::SimpleSigning {
            payload: layer.payload,
            annotations: layer.annotations,
        }
    };
    let anchor = Anchor::Key {
        key: Arc::new(PublicKey::from_pem(&key.public_pem()).unwrap()),
        root: Some(Arc::clone(&bench.root)),
    };
    let verified = attest::verify(&sign(SandboxSigner::Key(&key)), &bench.image, &anchor).unwrap();
    assert!(matches!(verified, Verified::Signature(_)));
    let other = SandboxKey::generate().unwrap();
    for signer in [
        SandboxSigner::Key(&other),
        SandboxSigner::Identity(&bench.identity),
    ] {
        let refused = attest::verify(&sign(signer), &bench.image, &anchor).unwrap_err();
        assert_eq!(refused.reason.id, "other-kind-of-signer");
    }
    // The certificate of a company is no certificate of the trust root.
    let root = Anchor::Root(Arc::clone(&bench.root));
    attest::verify(&sign(SandboxSigner::Key(&key)), &bench.image, &root).unwrap_err();
}
