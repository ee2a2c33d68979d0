//! The definitions of the gate's kinds at a real API server: what documentation and `deploy/` show passes its strict validation, and
//! what is mistyped is stored as it was written, so that the gate can say so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{ControlPlane, Ran, User, until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = "promotion-gate.dev/v1alpha1";

/// A control plane with the definitions, and no webhook.
fn plane() -> ControlPlane {
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    let crds = format!("{ROOT}/deploy/crds");
    plane.kubectl(["apply", "--server-side", "-f", &crds]).ok();
    let wait = ["wait", "--for=condition=Established", "crd", "--all"];
    plane.kubectl(wait).ok();
    until("the definitions are served", || {
        let strict = apply(&plane, &sample("Revocation"), "strict");
        strict.is_ok().then_some(())
    });
    plane
}

fn apply(plane: &ControlPlane, object: &Value, validation: &str) -> Ran {
    let validate = format!("--validate={validation}");
    let dry = ["apply", "--dry-run=server", "--namespace=shop"];
    let args = dry.into_iter().chain([&*validate, "-f", "-"]);
    plane.kubectl_as(User::Admin, args, &object.to_string())
}

/// The files of a folder and below it, with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The resources of our kinds in a text, as far as it is complete: examples leave parts out with `…`.
fn resources(name: &str, text: &str) -> Vec<Value> {
    let (documents, problems) = promotion_gate_core::documents::read(name, text.as_bytes());
    if !problems.is_empty() || text.contains('…') {
        return Vec::new();
    }
    let values = documents.into_iter().map(|document| document.value);
    let is_ours = |value: &Value| value["apiVersion"] == VERSION && value["spec"].is_object();
    values
        .filter(|value| is_ours(value) && value["kind"] != "PolicyTest")
        .collect()
}

#[test]
fn every_example_passes_strict_validation() {
    let plane = plane();
    let mut examples = Vec::new();
    for folder in ["policies", "deploy"] {
        for file in files(&Path::new(ROOT).join(folder), "yaml") {
            if !file.components().any(|part| part.as_os_str() == "crds") {
                let text = fs::read_to_string(&file).unwrap();
                examples.extend(resources(&file.display().to_string(), &text));
            }
        }
    }
    let mut pages = files(&Path::new(ROOT).join("docs"), "md");
    pages.extend(
        ["README.md", "deploy/README.md", "policies/README.md"]
            .map(|page| Path::new(ROOT).join(page)),
    );
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let blocks = text.split("```yaml\n").skip(1);
        for block in blocks.filter_map(|rest| rest.split("```").next()) {
            examples.extend(resources(&page.display().to_string(), block));
        }
    }
    examples.extend(KINDS.map(sample));
    for example in &examples {
        let ran = apply(&plane, example, "strict");
        assert!(ran.is_ok(), "{ran}\n{example:#}");
    }
    let kinds: BTreeSet<_> = examples
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.len(), KINDS.len(), "{kinds:?}");
    assert!(examples.len() > 3 * KINDS.len(), "{}", examples.len());
}

const KINDS: [&str; 12] = [
    "PromotionPolicy",
    "PeopleDirectory",
    "ChangeFreeze",
    "IncidentCheck",
    "TrustRoot",
    "Rejection",
    "Revocation",
    "AuthorRecord",
    "VexRecord",
    "EmergencyChangeRecord",
    "GateConfiguration",
    "ReleaseRecord",
];

fn sample(kind: &str) -> Value {
    let digest = format!("sha256:{}", "a".repeat(64));
    let alice =
        json!({"name": "alice", "identities": [{"kubernetes": {"user": "alice@example.com"}}]});
    let window = json!({"from": "2026-12-20T00:00:00Z", "until": "2027-01-02T00:00:00Z"});
    let root = || {
        promotion_gate::sandbox::Sigstore::create()
            .unwrap()
            .trusted_root()
    };
    let spec = match kind {
        "PromotionPolicy" => json!({"requirements": [{"digestPinned": {}}]}),
        "PeopleDirectory" => json!({"people": [alice]}),
        "ChangeFreeze" => json!({"environments": ["x"], "reason": "x", "windows": [window]}),
        "IncidentCheck" => json!({"preset": "PagerDuty", "url": "https://api.pagerduty.com"}),
        "TrustRoot" => json!({"inline": root()}),
        "Rejection" => json!({"digest": digest, "environment": "x", "person": "alice"}),
        "Revocation" => json!({"digest": digest, "reason": "x"}),
        "AuthorRecord" => json!({"digest": digest, "identities": [{"github": {"login": "a"}}]}),
        "VexRecord" => {
            json!({"digest": digest, "signer": {"key": digest}, "statements": [{"vulnerabilities": ["CVE-2026-1"]}]})
        }
        "EmergencyChangeRecord" => json!({
            "declaration": digest, "environment": "x", "incident": {"id": "INC1", "state": "verified"},
            "admitted": "2026-12-20T00:00:00Z", "lastAdmitted": "2026-12-20T00:00:00Z",
            "expires": "2026-12-20T04:00:00Z", "reviewDue": "2026-12-22T00:00:00Z",
        }),
        "ReleaseRecord" => json!({"digest": digest, "entries": {}}),
        _ => json!({"governors": {"users": ["alice@example.com"]}}),
    };
    let name = match kind {
        "GateConfiguration" => "promotion-gate",
        _ => "sample",
    };
    json!({"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// The API server drops fields that a definition does not know, unless the definition says otherwise.
#[test]
fn a_typo_is_stored_as_it_was_written_until_the_gate_has_seen_it() {
    let plane = plane();
    for kind in KINDS {
        let mut object = sample(kind);
        object["spec"]["mistyped"] = json!({"deeply": [{"mistyped": true}]});
        let create = ["create", "--validate=false", "--namespace=shop", "-f", "-"];
        plane
            .kubectl_as(User::Admin, create, &object.to_string())
            .ok();
        let name = object["metadata"]["name"].as_str().unwrap();
        let get = ["get", "--namespace=shop", "-o=json", kind, name];
        let stored: Value = serde_json::from_str(&plane.kubectl(get).ok()).unwrap();
        let (stored, written) = (&stored["spec"]["mistyped"], &object["spec"]["mistyped"]);
        assert_eq!(stored, written, "{kind}");
    }
}
