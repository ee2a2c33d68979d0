//! What an API server sends.

use serde_json::{Value, json};

/// The `AdmissionReview` for the creation of an object by a developer.
pub fn admission_review(id: &str, object: Value) -> Value {
    let field = |path: &str| object.pointer(path).and_then(Value::as_str);
    let api_version = field("/apiVersion").unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = field("/kind").unwrap_or_default();
    let resource = format!("{}s", kind.to_lowercase());
    let kind = json!({"group": group, "version": version, "kind": kind});
    let resource = json!({"group": group, "version": version, "resource": resource});
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": id,
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": field("/metadata/name"),
            "namespace": field("/metadata/namespace"),
            "operation": "CREATE",
            "userInfo": {"username": "alice@example.com", "groups": ["developers", "system:authenticated"]},
            "object": object,
            "oldObject": null,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}
