use std::fs;

use promotion_gate::sandbox::SandboxRegistry;
use promotion_gate::sandbox::registry::SandboxRegistryOptions;
use promotion_gate_core::gate::Outcome;
use serde_json::{Value, json};

use super::{Tally, folder, read};
use crate::facts::FACTS;
use crate::gate::Gate;

const REPOSITORY: &str = "securesystemsengineering/testimage";

#[tokio::test]
async fn connaisseurs_test_images_are_judged_as_there() {
    let Some(folder) = folder("connaisseur") else {
        return;
    };
    let registry = SandboxRegistry::start(SandboxRegistryOptions {
        referrers_api: false,
    })
    .await
    .unwrap();
    let content = folder.join("cosign").join(REPOSITORY);
    for entry in fs::read_dir(content.join("blobs")).unwrap() {
        registry.put_blob(REPOSITORY, fs::read(entry.unwrap().path()).unwrap());
    }
    for entry in fs::read_dir(content.join("manifests")).unwrap() {
        let path = entry.unwrap().path();
        let tag = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let media_type = manifest["mediaType"]
            .as_str()
            .unwrap_or("application/vnd.oci.image.manifest.v1+json");
        registry.put_manifest(REPOSITORY, Some(&tag), media_type, bytes.clone());
    }
    let keys = keys(&folder);

    let mut tally = Tally::of("connaisseur");
    let cases: Vec<Value> = serde_json::from_slice(&read(&folder, "outcomes.json")).unwrap();
    for case in &cases {
        let policy = FACTS.policy(
            "connaisseur",
            &json!({
                "tags": "Resolve",
                "requirements": [{"signature": signature(case, &keys)}],
            }),
        );
        let image = format!(
            "{}/{REPOSITORY}:{}",
            registry.host(),
            case["image"].as_str().unwrap()
        );
        let review = Gate::new(policy).review(&[image]).await;
        let finding = &review.verdict.policies()[0].findings()[0];
        let said = match finding.outcome {
            Outcome::Pass => "accept",
            Outcome::Fail => "reject",
            Outcome::Undecided if finding.detail.contains("does not exist") => {
                "error: image does not exist"
            }
            _ => "error",
        };
        tally.expect(
            format!("{case}: {}", finding.detail),
            said,
            case["expect"].as_str().unwrap(),
        );
        if let Some(digest) = case["digest"].as_str() {
            let pinned = review.promotion.pins[0].digest().map(ToString::to_string);
            assert_eq!(pinned.as_deref(), Some(digest), "{case}");
        }
    }
    tally.close(cases.len());
}

fn keys(folder: &std::path::Path) -> Value {
    let text = String::from_utf8(read(folder, "cosign/01_cosign.yaml")).unwrap();
    let (documents, problems) = promotion_gate_core::documents::read("keys", text.as_bytes());
    assert!(problems.is_empty(), "{problems:?}");
    let roots = documents[0].value["trustRoots"].as_array().unwrap().clone();
    let named = roots.into_iter().map(|root| {
        let name = root["name"].as_str().unwrap().to_owned();
        (name, root["key"].clone())
    });
    Value::Object(named.collect())
}

fn signature(case: &Value, keys: &Value) -> Value {
    if let Some(keyless) = case.get("keyless") {
        let matcher = |exact: &str, regex: &str| match keyless.get(regex) {
            Some(regex) => json!({"glob": format!("**{}**", regex.as_str().unwrap())}),
            None => keyless[exact].clone(),
        };
        return json!({"anyOf": [{"keyless": {
            "issuer": matcher("issuer", "issuerRegex"),
            "identity": matcher("subject", "subjectRegex"),
        }}]});
    }
    let signers = |names: &Value| -> Vec<Value> {
        let names = names.as_array().unwrap().iter();
        let signer = |name: &Value| json!({"key": {"pem": keys[name.as_str().unwrap()], "transparency": "None"}});
        names.map(signer).collect()
    };
    match (case.get("required"), case.get("threshold")) {
        (Some(required), _) => json!({"allOf": signers(required)}),
        (None, Some(threshold)) => json!({"anyOf": signers(&case["keys"]), "threshold": threshold}),
        (None, None) => json!({"anyOf": signers(&case["keys"])}),
    }
}
