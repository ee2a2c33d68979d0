use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use promotion_gate_core::attest::{
    Anchor, Artifact, ArtifactSignature, PublicKey, Signer, TrustRoot, verify_artifact,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use super::{Tally, folder, read};

const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

#[test]
fn bundles_of_the_conformance_suite_verify_as_expected() {
    let Some(folder) = folder("sigstore-conformance") else {
        return;
    };
    let folder = folder.join("assets/bundle-verify");
    let mut tally = Tally::of("sigstore-conformance");
    let mut cases = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let case = entry.unwrap().path();
        if !case.is_dir() {
            continue;
        }
        let name = case.file_name().unwrap().to_str().unwrap();
        let beside = folder.join("a.txt");
        let own = case.join("artifact");
        let artifact = fs::read(if own.exists() { own } else { beside }).unwrap();
        let digest = Digest::sha256(&artifact);
        for (how, artifact) in [
            ("bytes", Artifact::Bytes(&artifact)),
            ("digest", Artifact::Digest(&digest)),
        ] {
            let wanted = !name.ends_with("_fail");
            tally.expect(
                format!("{name} by its {how}"),
                accepted(&case, artifact),
                wanted,
            );
            cases += 1;
        }
    }
    tally.close(cases);
}

#[test]
fn an_inclusion_proof_of_version_2_may_repeat_anything() {
    let Some(folder) = folder("sigstore-conformance") else {
        return;
    };
    let folder = folder.join("assets/bundle-verify");
    let artifact = fs::read(folder.join("a.txt")).unwrap();
    for (case, said) in [("rekor2-happy-path", true), ("happy-path-v0.3", false)] {
        let case = folder.join(case);
        let mut bundle: Value =
            serde_json::from_slice(&read(&case, "bundle.sigstore.json")).unwrap();
        let proof = bundle
            .pointer_mut("/verificationMaterial/tlogEntries/0/inclusionProof")
            .unwrap();
        proof["rootHash"] = json!(STANDARD.encode([0; 32]));
        let bundle = bundle.to_string();
        let artifact = Artifact::Bytes(&artifact);
        assert_eq!(by_expected(&case, bundle.as_bytes(), artifact), said);
    }
}

fn accepted(case: &Path, artifact: Artifact<'_>) -> bool {
    by_expected(case, &read(case, "bundle.sigstore.json"), artifact)
}

/// Whether the bundle is accepted under the root or the key of a case, and by its signer.
fn by_expected(case: &Path, bundle: &[u8], artifact: Artifact<'_>) -> bool {
    let text = |name: &str| fs::read_to_string(case.join(name)).ok();
    let root = match text("trusted_root.json") {
        Some(json) => TrustRoot::parse("conformance", json.as_bytes()),
        None => TrustRoot::public_good(),
    };
    let Ok(root) = root.map(Arc::new) else {
        return false;
    };
    let anchor = match text("key.pub").map(|pem| PublicKey::from_pem(&pem)) {
        Some(Ok(key)) => Anchor::Key {
            key: Arc::new(key),
            root: Some(root),
        },
        Some(Err(_)) => return false,
        None => Anchor::Root(root),
    };
    let Ok(ArtifactSignature { signer, times, .. }) = verify_artifact(bundle, artifact, &anchor)
    else {
        return false;
    };
    let expected = |name: &str, usually: &str| {
        text(name).map_or_else(|| usually.to_owned(), |text| text.trim().to_owned())
    };
    let by = match &signer {
        Signer::Certificate(signer) => {
            signer.identity() == expected("identity", IDENTITY)
                && signer.issuer() == Some(expected("issuer", ISSUER).as_str())
        }
        Signer::Key(_) => true,
    };
    by && times.iter().all(|time| time.at <= Timestamp::now())
}
