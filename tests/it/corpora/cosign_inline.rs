use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promotion_gate_core::attest::{
    self, Anchor, Artifact, Material, PublicKey, TrustRoot, verify_artifact,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

use super::{Tally, folder, read};

#[test]
fn inline_cosign_signatures_verify_as_expected() {
    let Some(folder) = folder("cosign-inline") else {
        return;
    };
    let mut tally = Tally::of("cosign-inline");
    let cases: Vec<Value> = serde_json::from_slice(&read(&folder, "cases.json")).unwrap();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let wanted = case["expect"].as_str().unwrap() != "fail";
        let said = match case.get("cosign_bundle") {
            Some(bundle) => blob(bundle).map_err(|why| why.reason),
            None => image(case).map_err(|why| why.reason),
        };
        tally.expect(format!("{name} ({said:?})"), said.is_ok(), wanted);
    }
    tally.close(cases.len());
}

fn image(case: &Value) -> Result<(), attest::UnacceptedReason> {
    let field = |name: &str| case[name].as_str().map(str::to_owned);
    let payload = field("payload").unwrap();
    let subject = serde_json::from_str::<Value>(&payload)
        .ok()
        .and_then(|payload| {
            let digest = &payload["critical"]["image"]["docker-manifest-digest"];
            digest.as_str()?.parse::<Digest>().ok()
        });
    let mut annotations = BTreeMap::from([(
        "dev.cosignproject.cosign/signature".to_owned(),
        field("signature").unwrap(),
    )]);
    let certificate = field("certificate").map(|pem| ("dev.sigstore.cosign/certificate", pem));
    let entry = case.get("rekor_bundle").map(Value::to_string);
    let entry = entry.map(|entry| ("dev.sigstore.cosign/bundle", entry));
    for (key, value) in certificate.into_iter().chain(entry) {
        annotations.insert(key.to_owned(), value);
    }
    let material = Material::SimpleSigning {
        payload: payload.into_bytes(),
        annotations,
    };
    let anchor = match field("key") {
        Some(pem) => Anchor::Key {
            key: Arc::new(PublicKey::from_pem(&pem).unwrap()),
            root: None,
        },
        None => before_certificate_timestamps(),
    };
    let subject = subject.unwrap_or_else(|| Digest::sha256(b"some image"));
    attest::verify(&material, &subject, &anchor).map(drop)
}

/// A signature of a blob as `cosign sign-blob --bundle` wrote it in 2022; the blob is known by its hash in the log alone.
fn blob(bundle: &Value) -> Result<(), attest::UnacceptedReason> {
    let payload = &bundle["rekorBundle"]["Payload"];
    let entry = STANDARD.decode(payload["body"].as_str().unwrap()).unwrap();
    let entry: Value = serde_json::from_slice(&entry).unwrap();
    let hash = entry["spec"]["data"]["hash"]["value"].as_str().unwrap();
    let pem = STANDARD.decode(bundle["cert"].as_str().unwrap()).unwrap();
    let pem = String::from_utf8(pem).unwrap();
    let certificate: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": {
            "x509CertificateChain": {"certificates": [{"rawBytes": certificate}]},
            "tlogEntries": [{
                "logIndex": payload["logIndex"].to_string(),
                "logId": {"keyId": STANDARD.encode(hex::decode(payload["logID"].as_str().unwrap()).unwrap())},
                "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
                "integratedTime": payload["integratedTime"].to_string(),
                "inclusionPromise": {"signedEntryTimestamp": bundle["rekorBundle"]["SignedEntryTimestamp"]},
                "canonicalizedBody": payload["body"],
            }],
        },
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(hex::decode(hash).unwrap())},
            "signature": bundle["base64Signature"],
        },
    });
    let digest: Digest = format!("sha256:{hash}").parse().unwrap();
    let bytes = bundle.to_string();
    verify_artifact(bytes.as_bytes(), Artifact::Digest(&digest), &public_good()).map(drop)
}

/// The public-good instance as it was when its certificates carried no timestamps, and named no issuer.
fn before_certificate_timestamps() -> Anchor {
    let mut root: Value = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
    root["ctlogs"] = json!([]);
    let root = TrustRoot::parse("2021", root.to_string().as_bytes()).unwrap();
    Anchor::Root(Arc::new(root))
}

fn public_good() -> Anchor {
    Anchor::Root(Arc::new(TrustRoot::public_good().unwrap()))
}
