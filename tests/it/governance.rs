//! The API server asks about changes of what the gate decides by.

use promotion_gate::sandbox::admission_review;
use serde_json::{Value, json};

use crate::serve::{CONFIGURATION, Gate, SIGNED};

/// Asks about an update, or about a creation or deletion where one object is missing.
fn review(before: Value, after: Value) -> String {
    let operation = match (before.is_null(), after.is_null()) {
        (true, _) => "CREATE",
        (_, true) => "DELETE",
        _ => "UPDATE",
    };
    let object = if after.is_null() { &before } else { &after };
    let mut review = admission_review("uid-1", object.clone());
    let request = &mut review["request"];
    request["operation"] = json!(operation);
    request["object"] = after;
    request["oldObject"] = before;
    review.to_string()
}

fn policy(spec: Value) -> Value {
    json!({"apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy", "metadata": {"name": "production"}, "spec": spec})
}

fn sound() -> Value {
    policy(json!({"requirements": [{"digestPinned": {}}]}))
}

fn message(response: &Value) -> &str {
    assert_eq!(response["allowed"], false, "{response}");
    response["status"]["message"].as_str().unwrap()
}

const MISTYPED: &str = "PromotionPolicy production may not be created [invalid]:\n\
    - spec.enforcment: unknown field `enforcment`, did you mean `enforcement`?\n\
    - spec.requirements[0].digestPined: ";

#[tokio::test]
async fn what_is_stored_passes_the_parse_of_files_for_every_user() {
    let gate = Gate::start(SIGNED).await;
    let typo = || policy(json!({"enforcment": "Warn", "requirements": [{"digestPined": {}}]}));
    let created = gate.response(review(Value::Null, typo())).await;
    assert!(message(&created).starts_with(MISTYPED), "{created}");
    let changed = gate.response(review(sound(), typo())).await;
    assert!(message(&changed).contains("`enforcment`"), "{changed}");
    // What slipped in can be repaired, labelled and deleted.
    let mut labelled = typo();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    for (before, after) in [(typo(), sound()), (typo(), labelled), (typo(), Value::Null)] {
        let response = gate.response(review(before, after)).await;
        assert_eq!(response["allowed"], true, "{response}");
    }
    gate.close().await;
}

#[tokio::test]
async fn without_governors_nobody_is_refused_and_everybody_is_warned() {
    let gate = Gate::start(SIGNED).await;
    let response = gate.response(review(sound(), Value::Null)).await;
    assert_eq!(response["allowed"], true, "{response}");
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("no governors are configured"),
        "{warning}"
    );
    assert_eq!(
        response["auditAnnotations"]["loosened"],
        "PromotionPolicy `production` is deleted"
    );
    let (_, metrics) = gate.probe("/metrics").await;
    for line in [
        r#"governance_decisions_total{decision="allow",reason="no-governors",admitted="true"} 1"#,
        "promotion_gate_loosened_total 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    gate.close().await;
}

#[tokio::test]
async fn only_governors_change_policies_and_the_labels_they_select_by() {
    let by_label = SIGNED.replace(
        "spec:\n",
        "spec:\n  match: {namespaces: {selector: {matchLabels: {tier: production}}}}\n",
    );
    let gate = Gate::start(&by_label).await;
    let namespace = |labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}});
    let relabel = || {
        let before = namespace(json!({"tier": "production"}));
        review(before, namespace(json!({})))
    };
    let allowed = async |body: String| gate.response(body).await["allowed"] == true;
    assert!(allowed(relabel()).await);

    gate.configuration(&format!(
        "{CONFIGURATION}governors: {{groups: [platform]}}\n"
    ));
    gate.reloaded("configuration", 1).await;
    let refused = gate.response(relabel()).await;
    assert_eq!(
        message(&refused),
        "Namespace shop may not be changed [not-a-governor]:\n\
         - only governors may change what the gate decides by, and `alice@example.com` is not one\n\
         - the policy `signed` would not govern the namespace any more\n\
         → ask a governor (groups `platform`)\n\
         decision uid-1"
    );
    let refused = gate.response(review(sound(), Value::Null)).await;
    assert!(message(&refused).contains("not-a-governor"), "{refused}");
    let as_governor = |body: String| body.replace("\"developers\"", "\"platform\"");
    assert!(allowed(as_governor(relabel())).await);
    assert!(allowed(as_governor(review(sound(), Value::Null))).await);
    assert!(allowed(review(Value::Null, namespace(json!({})))).await);
    assert!(
        allowed(review(
            namespace(json!({"tier": "production"})),
            Value::Null
        ))
        .await
    );
    gate.close().await;
}
