//! Emergency changes from a registry: what is asked for them, and when.

use std::sync::Mutex;

use futures::future::BoxFuture;
use promotion_gate::incidents::Incidents;
use promotion_gate::sandbox::{SandboxRegistry, attach_bundle, push_image};
use promotion_gate_core::gate::{Age, Freeze, World};
use tokio::time::Instant;

use super::*;
use crate::gate::Gate;
use crate::images::{by_digest, registry};

/// A tracker that knows the incident `INC1`, and remembers what it was asked.
struct Tracker {
    is_open: bool,
    asked: Mutex<Vec<(String, String)>>,
}

impl Incidents for Tracker {
    fn ask<'a>(
        &'a self,
        check: &'a str,
        id: &'a str,
        _: Instant,
    ) -> BoxFuture<'a, Collected<Option<Incident>>> {
        let mut asked = self.asked.lock().unwrap();
        asked.push((check.to_owned(), id.to_owned()));
        let answer = match id {
            "INC1" => incident(|it| it.open = self.is_open),
            _ => Collected::Known(None),
        };
        Box::pin(async move { answer })
    }
}

fn tracker(is_open: bool) -> Arc<Tracker> {
    Arc::new(Tracker {
        is_open,
        asked: Mutex::default(),
    })
}

/// A freeze that lasts.
pub(super) fn freeze() -> Value {
    json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ChangeFreeze",
        "metadata": {"name": "year-end"},
        "spec": {
            "environments": ["production"], "reason": "year end", "timeZone": "UTC",
            "windows": [{"from": "2000-01-01", "until": "2999-01-01"}],
        },
    })
}

/// A gate whose policy asks for nothing but that no freeze lasts.
fn freezing(emergency: Option<Value>, is_frozen: bool) -> Gate {
    let mut spec = json!({"environment": "production", "requirements": [{"noFreeze": {}}]});
    if let Some(emergency) = emergency {
        spec["emergency"] = emergency;
    }
    freezing_under(&spec, is_frozen)
}

/// A gate with this policy, in a freeze or not.
fn freezing_under(spec: &Value, is_frozen: bool) -> Gate {
    let file = ("freeze.yaml".to_owned(), freeze().to_string().into_bytes());
    let set = api::load(&[file], &FACTS.trust_roots());
    let freezes: Vec<Freeze> = set.freezes.into_iter().filter(|_| is_frozen).collect();
    let schedule = Schedule::new(freezes.into_iter().map(|freeze| (freeze, None)), *NOW);
    let gate = Gate::new(FACTS.policy("frozen", spec)).knowing(People::clone(&PEOPLE));
    gate.seeing(|world: &mut World| world.freezes = Collected::Known(schedule.into()))
}

fn section(more: Value) -> Option<Value> {
    let mut section = json!({
        "from": [{"group": "on-call"}, {"group": "security"}],
        "waives": ["noFreeze"], "trustRoots": ["sandbox"],
    });
    let fields = more.as_object().cloned().unwrap_or_default();
    section.as_object_mut().unwrap().extend(fields);
    Some(section)
}

fn attach(registry: &SandboxRegistry, image: &Digest, by: &str, kind: &str, predicate: Value) {
    let minute: Age = "1m".parse().unwrap();
    let bundle = FACTS.attestation(image, by, (kind, predicate), Some(minute));
    let bundle = serde_json::from_slice(&bundle).unwrap();
    attach_bundle(registry, "app", image, &bundle).unwrap();
}

/// Declares an emergency change for an image, with the agreement of another person.
pub(super) fn declare(registry: &SandboxRegistry, image: &Digest) -> String {
    let predicate = declaration(json!({}));
    let subjects = [image.clone()];
    let digest = promotion_gate::sandbox::statement_digest(&subjects, CHANGE, &predicate);
    let digest = digest.to_string();
    attach(registry, image, "ben@example.com", CHANGE, predicate);
    let agreement =
        json!({"environment": "production", "decision": "approved", "emergency": digest});
    attach(registry, image, "cleo@example.com", "approval", agreement);
    digest
}

#[tokio::test]
async fn an_emergency_change_is_looked_for_after_a_denial_that_the_policy_could_waive_alone() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    let name = by_digest(&registry, &image);
    registry.take_requests();
    // Nothing is denied, or nothing can be waived: no registry is asked.
    for gate in [
        freezing(section(json!({})), false),
        freezing(None, true),
        freezing(section(json!({"waives": ["approvals"]})), true),
    ] {
        gate.review(std::slice::from_ref(&name)).await;
        assert_eq!(registry.take_requests(), Vec::<String>::new());
    }
    let gate = freezing(section(json!({})), true);
    let review = gate.review(std::slice::from_ref(&name)).await;
    assert_eq!(review.verdict.decision(), Decision::Deny);
    assert!(!registry.take_requests().is_empty());

    declare(&registry, &image);
    let review = gate.review(std::slice::from_ref(&name)).await;
    assert_eq!(review.verdict.decision(), Decision::Allow);
    let used = review.verdict.emergencies();
    assert_eq!(used.len(), 1);
    assert!(used[0].has_unknown_author, "no policy asks for the authors");
    // A tag is not a digest.
    let by_tag = format!("{}/app:v1", registry.host());
    let review = gate.review(&[by_tag]).await;
    assert_eq!(review.verdict.decision(), Decision::Deny);
}

#[tokio::test]
async fn a_warm_review_under_a_policy_with_emergency_changes_asks_neither_a_registry_nor_a_tracker()
{
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    let signature = FACTS.bundle(&image, "release");
    attach_bundle(&registry, "app", &image, &signature).unwrap();
    // One is declared, and nothing needs it.
    declare(&registry, &image);
    let names = [by_digest(&registry, &image)];
    let waives = json!({"waives": ["signature", "noFreeze"], "incident": {"check": "pager"}});
    let spec = json!({
        "environment": "production",
        "requirements": [{"digestPinned": {}}, super::signature(), {"noFreeze": {}}],
        "emergency": section(waives),
    });
    let tracker = tracker(true);
    let gate = Gate::new(FACTS.policy("built", &spec)).knowing(People::clone(&PEOPLE));
    let open = Schedule::new(std::iter::empty(), *NOW);
    let mut gate = gate.seeing(|world| world.freezes = Collected::Known(open.into()));
    gate.incidents = Some(Arc::clone(&tracker) as Arc<dyn Incidents>);
    gate.review(&names).await;
    registry.take_requests();
    for _ in 0..3 {
        let review = gate.review(&names).await;
        assert_eq!(review.verdict.decision(), Decision::Allow);
        assert_eq!(review.verdict.emergencies(), Vec::new());
    }
    assert_eq!(registry.take_requests(), Vec::<String>::new());
    assert_eq!(tracker.asked.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn the_incident_is_asked_about_once_and_only_when_nothing_else_is_missing() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    let names = [by_digest(&registry, &image)];
    let asking = |tracker: &Arc<Tracker>| {
        let mut gate = freezing(section(json!({"incident": {"check": "pager"}})), true);
        gate.incidents = Some(Arc::clone(tracker) as Arc<dyn Incidents>);
        gate
    };
    let open = tracker(true);
    let gate = asking(&open);
    let denied = gate.review(&names).await;
    assert_eq!(denied.verdict.decision(), Decision::Deny);
    assert!(open.asked.lock().unwrap().is_empty());

    let digest = declare(&registry, &image);
    let review = gate.review(&names).await;
    assert_eq!(review.verdict.decision(), Decision::Allow);
    assert_eq!(
        review.verdict.emergencies()[0].incident_state.id(),
        "verified"
    );
    let asked = open.asked.lock().unwrap().clone();
    assert_eq!(asked, [("pager".to_owned(), "INC1".to_owned())]);

    let reason = |review: &promotion_gate::review::Review| {
        let findings = review.verdict.policies()[0].findings().iter();
        let finding = findings.clone().find(|it| it.rule == "emergency").unwrap();
        finding.reason
    };
    let closed = asking(&tracker(false)).review(&names).await;
    assert_eq!(reason(&closed), "emergency-incident");
    let without = freezing(section(json!({"incident": {"check": "pager"}})), true);
    assert_eq!(
        reason(&without.review(&names).await),
        "emergency-incident-unknown"
    );
    // The end of it is seen at once.
    attach(
        &registry,
        &image,
        "cleo@example.com",
        CLOSURE,
        json!({"emergency": digest}),
    );
    let ended = asking(&tracker(true)).review(&names).await;
    assert_eq!(reason(&ended), "emergency-closed");
}

#[tokio::test]
async fn the_end_of_an_emergency_change_is_seen_at_once_where_nothing_else_asks_again() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    let signature = FACTS.bundle(&image, "release");
    attach_bundle(&registry, "app", &image, &signature).unwrap();
    let names = [by_digest(&registry, &image)];
    // More evidence can only help these requirements, so that an old listing serves them.
    let builder =
        json!({"keyless": {"issuer": ISSUER, "identity": BUILDERS, "trustRoots": ["sandbox"]}});
    let provenance = json!({"provenance": {
        "builders": [{"id": BUILDERS, "signedBy": builder}],
        "sources": ["https://github.com/example/app"],
    }});
    let spec = json!({
        "environment": "production",
        "requirements": [{"digestPinned": {}}, super::signature(), provenance],
        "emergency": section(json!({"waives": ["provenance"]})),
    });
    let gate = Gate::new(FACTS.policy("built", &spec)).knowing(People::clone(&PEOPLE));
    let digest = declare(&registry, &image);
    for _ in 0..2 {
        let review = gate.review(&names).await;
        assert_eq!(review.verdict.decision(), Decision::Allow);
        assert_eq!(
            review.verdict.emergencies()[0].waived,
            ["provenance"].into()
        );
    }
    attach(
        &registry,
        &image,
        "ben@example.com",
        CLOSURE,
        json!({"emergency": digest}),
    );
    let review = gate.review(&names).await;
    assert_eq!(review.verdict.decision(), Decision::Deny);
}

#[tokio::test]
async fn a_governor_ends_an_emergency_change_with_a_key_too() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    let names = [by_digest(&registry, &image)];
    // A governor may not be asked to agree, so that the policy does not name this person.
    let governor = json!({"name": "gus", "identities": [
        {"key": {"pem": FACTS.key.public_pem()}}, {"kubernetes": {"user": "k8s-gus"}},
    ]});
    let gate = freezing(section(json!({})), true).knowing(People::clone(&people(&[governor])));
    let gate = gate.seeing(|world| world.governors.users = ["k8s-gus".to_owned()].into());
    let digest = declare(&registry, &image);
    let review = gate.review(&names).await;
    assert_eq!(review.verdict.decision(), Decision::Allow);
    let closure = json!({"emergency": digest});
    attach(&registry, &image, "key", CLOSURE, closure);
    let review = gate.review(&names).await;
    assert_eq!(review.verdict.decision(), Decision::Deny);
}

/// The finding about the emergency change, as its reason; nothing where there is none.
fn emergency_reason(review: &promotion_gate::review::Review) -> Option<&'static str> {
    let findings = review.verdict.policies()[0].findings().iter();
    let mut own = findings.filter(|it| it.rule == "emergency");
    own.next().map(|it| it.reason)
}

#[tokio::test]
async fn a_person_whom_the_policy_does_not_ask_declares_and_ends_an_emergency_change_with_a_key() {
    let registry = registry().await;
    let image = push_image(&registry, "app", "v1", "v1").unwrap();
    let names = [by_digest(&registry, &image)];
    let declarer = json!({"name": "gus", "identities": [{"key": {"pem": FACTS.key.public_pem()}}]});
    let gate = freezing(section(json!({})), true).knowing(People::clone(&people(&[declarer])));
    let predicate = declaration(json!({}));
    let subjects = [image.clone()];
    let digest = promotion_gate::sandbox::statement_digest(&subjects, CHANGE, &predicate);
    let agreement = json!({
        "environment": "production", "decision": "approved", "emergency": digest.to_string(),
    });
    attach(&registry, &image, "key", CHANGE, predicate);
    attach(
        &registry,
        &image,
        "ben@example.com",
        "approval",
        agreement.clone(),
    );
    let review = gate.review(&names).await;
    assert_eq!(emergency_reason(&review), Some("emergency-not-agreed"));
    attach(&registry, &image, "cleo@example.com", "approval", agreement);
    let review = gate.review(&names).await;
    let used = review.verdict.emergencies();
    assert_eq!(used.len(), 1, "{:#?}", review.verdict);
    assert_eq!(used[0].declared_by, ["gus".to_owned()].into());
    let closure = json!({"emergency": digest.to_string()});
    attach(&registry, &image, "key", CLOSURE, closure);
    let review = gate.review(&names).await;
    assert_eq!(review.verdict.decision(), Decision::Deny);
    assert_eq!(emergency_reason(&review), Some("emergency-closed"));
}

#[tokio::test]
async fn a_workload_none_of_whose_images_the_policy_names_needs_an_emergency_change_about_all_of_them()
 {
    let registry = registry().await;
    let images = ["v1", "v2"].map(|tag| push_image(&registry, "app", tag, tag).unwrap());
    let names = images.clone().map(|image| by_digest(&registry, &image));
    let spec = json!({
        "environment": "production", "match": {"images": ["elsewhere.example/**"]},
        "requirements": [{"noFreeze": {}}], "emergency": section(json!({})),
    });
    let gate = freezing_under(&spec, true);
    let denied = gate.review(&names).await;
    assert_eq!(denied.verdict.decision(), Decision::Deny);
    let findings = denied.verdict.policies()[0].findings().iter();
    let hint = findings.clone().find_map(|it| it.hint.clone()).unwrap();
    assert!(hint.contains("promotion-gate emergency declare"), "{hint}");
    assert!(names.iter().all(|name| hint.contains(name)), "{hint}");

    declare(&registry, &images[0]);
    let half = gate.review(&names).await;
    assert_eq!(emergency_reason(&half), Some("emergency-elsewhere"));

    let predicate = declaration(json!({"reason": "about both"}));
    let digest = promotion_gate::sandbox::statement_digest(&images, CHANGE, &predicate);
    let agreement = json!({
        "environment": "production", "decision": "approved", "emergency": digest.to_string(),
    });
    for (by, kind, predicate) in [
        ("ben@example.com", CHANGE, &predicate),
        (
            "cleo@example.com",
            "https://promotion-gate.dev/approval/v1",
            &agreement,
        ),
    ] {
        let bundle = FACTS.attestation_of(&images, by, (kind, predicate));
        let bundle = serde_json::from_slice(&bundle).unwrap();
        for image in &images {
            attach_bundle(&registry, "app", image, &bundle).unwrap();
        }
    }
    let review = gate.review(&names).await;
    let used = review.verdict.emergencies();
    assert_eq!(used.len(), 1, "{:#?}", review.verdict);
    assert_eq!(used[0].images.len(), 2);
}
