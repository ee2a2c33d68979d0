//! An emergency change as the webhook meets it: the incident is asked about by an `IncidentCheck`.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::gathered::{declare, freeze};
use super::*;
use crate::images::{by_digest, registry};
use crate::serve::Gate;
use crate::server::{Reply, Server};
use promotion_gate::sandbox::push_image;

/// What the tracker answers about the incident.
const OPEN: u16 = 200;
const CLOSED: u16 = 201;
const BROKEN: u16 = 500;

/// Longer than an answer of a tracker counts.
async fn a_minute_later(gate: &Gate) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    // Connections that ended meanwhile are noticed.
    gate.probe("/readyz").await;
}

/// A gate with a policy that asks the tracker about incidents, in a freeze.
async fn gate(tracker: &Server, when_unreachable: &str) -> Gate {
    let document = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        })
    };
    let incident = json!({
        "check": "tracker", "minimumSeverity": "P2", "whenUnreachable": when_unreachable,
    });
    let policy = json!({
        "environment": "production",
        "requirements": [{"digestPinned": {}}, {"noFreeze": {}}],
        "emergency": {
            "from": [{"group": "on-call"}, {"group": "security"}], "waives": ["noFreeze"],
            "trustRoots": ["sandbox"], "incident": incident,
        },
    });
    let check = json!({
        "request": {"url": format!("{}/incidents/{{id}}", tracker.url())},
        "expression": "body.id != id ? null : {'open': body.open, 'severity': body.level}",
    });
    let documents = [
        document("PromotionPolicy", "frozen", policy),
        document("IncidentCheck", "tracker", check),
        freeze(),
        directory(&[]),
    ];
    let documents = documents.map(|it| it.to_string());
    Gate::start(&documents.join("\n---\n")).await
}

#[tokio::test]
async fn the_webhook_admits_while_the_incident_is_open_and_denies_when_it_is_closed() {
    let state = Arc::new(AtomicU16::new(OPEN));
    let answers = Arc::clone(&state);
    let tracker = Server::start(move |seen| {
        let status = answers.load(Ordering::SeqCst);
        let body = match seen.path.as_str() {
            "/incidents/INC1" => json!({"id": "INC1", "open": status == OPEN, "level": "P1"}),
            _ => json!({}),
        };
        Reply::new(status, "application/json", body.to_string())
    })
    .await;
    let gate = gate(&tracker, "Deny").await;
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    let name = by_digest(&registry, &image);

    let (allowed, message) = gate.says(&name).await;
    assert!(!allowed && message.contains("[frozen]"), "{message}");
    assert!(tracker.seen().is_empty(), "nothing was declared");
    declare(&registry, &image);
    for _ in 0..2 {
        assert_eq!(gate.says(&name).await, (true, String::new()));
    }
    assert_eq!(tracker.seen().len(), 1, "an answer counts for a minute");
    let (_, metrics) = gate.probe("/metrics").await;
    let counted =
        r#"promotion_gate_emergency_changes_total{environment="production",incident="verified"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");

    state.store(CLOSED, Ordering::SeqCst);
    a_minute_later(&gate).await;
    let (allowed, message) = gate.says(&name).await;
    assert!(!allowed, "{message}");
    let why = "- emergency [emergency-incident]";
    assert!(
        message.contains(why) && message.contains("is not open"),
        "{message}"
    );

    state.store(BROKEN, Ordering::SeqCst);
    a_minute_later(&gate).await;
    let (allowed, message) = gate.says(&name).await;
    assert!(!allowed, "{message}");
    let why = "- emergency [emergency-incident-unknown]";
    assert!(
        message.contains(why) && message.contains("500"),
        "{message}"
    );

    state.store(OPEN, Ordering::SeqCst);
    assert_eq!(gate.says(&name).await, (true, String::new()));
    gate.close().await;
}

#[tokio::test]
async fn an_incident_that_no_tracker_confirmed_is_told_to_the_deployer_and_counted_as_unverified() {
    let tracker = Server::start(|_| Reply::status(BROKEN)).await;
    let gate = gate(&tracker, "Allow").await;
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    declare(&registry, &image);
    let warnings = gate.warnings(&by_digest(&registry, &image)).await;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("review due"), "{warnings:?}");
    let unverified = warnings[1].strip_prefix("incident INC1 is unverified: ");
    assert!(
        unverified.is_some_and(|why| why.contains("500")),
        "{warnings:?}"
    );
    let (_, metrics) = gate.probe("/metrics").await;
    let counted = r#"promotion_gate_emergency_changes_total{environment="production",incident="unverified"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    gate.close().await;
}
