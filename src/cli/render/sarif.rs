//! The SARIF form (2.1.0) of `check`, for code scanning: one result for each requirement that is not met. One that an emergency change
//! waives is a result too, and is suppressed by its declaration.

use std::collections::BTreeMap;

use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use super::json::{CheckReport, EmergencyReport, FindingReport, ObjectReport, PolicyReport};
use crate::cli::explain::meaning;
use crate::text::line;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The report as SARIF.
pub(in crate::cli) fn sarif(report: &CheckReport) -> Value {
    let (mut rules, mut results) = (BTreeMap::new(), Vec::new());
    for object in &report.objects {
        for policy in &object.policies {
            let findings = policy.findings.iter();
            let unmet = findings.filter(|it| matches!(it.outcome, "fail" | "undecided" | "waived"));
            for finding in unmet {
                let id = rule_id(finding);
                rules
                    .entry(id.clone())
                    .or_insert_with(|| rule(&id, finding));
                results.push(result(&id, object, policy, finding));
            }
        }
    }
    let problems = report
        .problems
        .iter()
        .map(|problem| json!({"level": "error", "message": {"text": line(problem)}}));
    let unknown = report.unknown.iter().map(|it| {
        let text = format!(
            "{} {} is of a kind that is not known, and its field `{}` seems to name an image: its images are not checked",
            it.kind, it.name, it.field
        );
        let notification = json!({"level": "warning", "message": {"text": line(&text)}});
        located(notification, &it.file, it.line, None)
    });
    let notifications: Vec<_> = problems.chain(unknown).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "promotion-gate",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.into_values().collect::<Vec<_>>(),
            }},
            "invocations": [{
                "executionSuccessful": report.problems.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
            "properties": {
                "decision": report.decision,
                "at": report.at,
                "policyRevision": report.policy_revision,
            },
        }],
    })
}

fn rule_id(finding: &FindingReport) -> String {
    format!("{}/{}", finding.rule, finding.reason)
}

fn rule(id: &str, finding: &FindingReport) -> Value {
    let rule = json!({"id": id});
    let Some((means, remedy)) = meaning(finding.reason) else {
        return rule;
    };
    let rule = with(rule, "shortDescription", json!({"text": means}));
    match remedy.is_empty() {
        true => rule,
        false => with(rule, "help", json!({"text": remedy})),
    }
}

fn result(
    id: &str,
    object: &ObjectReport,
    policy: &PolicyReport,
    finding: &FindingReport,
) -> Value {
    let name = match &object.namespace {
        Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
        None => format!("{} {}", object.kind, object.name),
    };
    let mut text = format!("{name}: policy `{}`: {}", policy.policy, finding.detail);
    if let Some(hint) = &finding.hint {
        text.push_str(&format!("; {hint}"));
    }
    let level = match policy.enforcement.as_str() {
        "Enforce" => "error",
        "Warn" => "warning",
        _ => "note",
    };
    // The same finding has the same fingerprint although lines move.
    let parts = json!([
        object.file,
        name,
        policy.policy,
        id,
        finding.requirement,
        finding.field
    ]);
    let fingerprint = Digest::sha256(parts.to_string().as_bytes());
    let result = json!({
        "ruleId": id,
        "level": level,
        "message": {"text": line(&text)},
        "partialFingerprints": {"promotion-gate/v1": fingerprint.hex()},
        "suppressions": suppressions(policy, finding),
        "properties": {
            "policy": policy.policy,
            "enforcement": policy.enforcement,
            "outcome": finding.outcome,
        },
    });
    let place = format!("{name}{}", field(finding));
    located(result, &object.file, object.line, Some(&place))
}

fn field(finding: &FindingReport) -> String {
    let field = finding.field.as_ref();
    field.map(|field| format!(" {field}")).unwrap_or_default()
}

/// The emergency change that waives a requirement, with its declaration.
fn suppressions(policy: &PolicyReport, finding: &FindingReport) -> Vec<Value> {
    let (Some(declaration), Some(used)) = (&finding.waived_by, &policy.emergency) else {
        return Vec::new();
    };
    let EmergencyReport {
        incident,
        incident_state,
        reason,
        ..
    } = used;
    let why = format!(
        "waived by the emergency change {declaration} (incident {incident}, {incident_state}): {reason}"
    );
    vec![json!({
        "kind": "external",
        "status": "accepted",
        "justification": line(&why),
        "properties": {
            "declaration": declaration,
            "incident": incident,
            "declaredBy": used.declared_by,
            "approvedBy": used.approved_by,
            "expires": used.expires,
            "reviewDue": used.review_due,
        },
    })]
}

fn located(about: Value, file: &str, line: u64, place: Option<&str>) -> Value {
    let mut location = json!({"physicalLocation": {
        "artifactLocation": {"uri": uri(file)},
        "region": {"startLine": line.max(1)},
    }});
    if let Some(place) = place {
        let place = json!([{"fullyQualifiedName": place}]);
        location = with(location, "logicalLocations", place);
    }
    with(about, "locations", json!([location]))
}

/// The object with one more field.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    object
}

/// A path as a relative reference of RFC 3986.
fn uri(file: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    file.bytes().map(encode).collect()
}
