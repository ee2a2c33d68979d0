//! Images that injectors add to Pods: when a Pod with one is upkeep, and who judges the image.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::gate::{
    Actor, AdmittedBy, Change, ChangeKind, Collected, Decision, Digest, Evidence, ImageEvidence,
    ImageRecords, Parent, Pin, Policy, Promotion, RecordEntry, Records, Role, Snapshot, Verdict,
    Workload,
};
use serde_json::{Value, json};

use crate::facts::{self, Attached, FACTS, judge, snapshot};

const REPLICA_SETS: &str = "system:serviceaccount:kube-system:replicaset-controller";

fn image(name: &str) -> String {
    let digest = Digest::sha256(name.as_bytes());
    format!("registry.example/{name}@{digest}")
}

/// An entry for images whose name matches, signed by somebody.
fn entry(pattern: &str, by: &str) -> Value {
    let signer = facts::keyless(&format!("{by}@example.com"));
    json!({"patterns": [pattern], "signature": {"anyOf": [signer]}})
}

/// A policy that nothing but its `injected` entries lets pass.
fn policy(enforcement: &str, injected: Value) -> Policy {
    let never = json!({"allowedImages": {"patterns": ["nowhere.example/*"]}});
    let mut spec =
        json!({"enforcement": enforcement, "requirements": [never, {"digestPinned": {}}]});
    if injected != json!([]) {
        spec["injected"] = injected;
    }
    FACTS.policy(&enforcement.to_lowercase(), &spec)
}

fn mesh(enforcement: &str) -> Policy {
    policy(
        enforcement,
        json!([entry("registry.example/mesh*", "release")]),
    )
}

fn workload(group: &str, kind: &str, name: &str) -> Workload {
    Workload {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: Some("shop".to_owned()),
        name: name.to_owned(),
    }
}

/// A Pod with these images that a controller creates. All but the last are recorded.
fn pod(names: &[&str], user: &str, snapshot: &Snapshot) -> Promotion {
    let images: Vec<_> = names.iter().map(|name| image(name)).collect();
    let change = Change {
        workload: workload("", "Pod", "web-1-*"),
        actor: Some(Actor {
            username: user.to_owned(),
            groups: Vec::new(),
        }),
        ..facts::promotion(&images).change
    };
    let pins = change
        .images
        .iter()
        .map(|image| Pin::Written(image.reference.digest().unwrap().clone()));
    let pins = pins.collect();
    promoted(change, pins, snapshot)
}

fn promoted(change: Change, pins: Vec<Pin>, snapshot: &Snapshot) -> Promotion {
    let recorded = Arc::new(RecordEntry {
        digest: None,
        workload: workload("apps", "Deployment", "web"),
        uid: None,
        template: Digest::sha256(b"template"),
        observed: true,
        running: true,
        complied: BTreeSet::new(),
        by: AdmittedBy::Audit,
        environments: BTreeSet::new(),
        ages_judged: BTreeSet::new(),
        source: None,
        at: Timestamp::UNIX_EPOCH,
    });
    let last = change.images.len() - 1;
    let of_image = |at| match at == last {
        true => ImageRecords::default(),
        false => ImageRecords {
            entries: vec![Arc::clone(&recorded)],
            ..ImageRecords::default()
        },
    };
    let records = Records {
        images: (0..change.images.len()).map(of_image).collect(),
        workload: Vec::new(),
        has_baseline: true,
    };
    let trusted = &snapshot.world.trusted_controllers;
    let records = Collected::Known(records);
    Promotion::new(change, pins, records, trusted, Timestamp::now())
}

/// The ReplicaSet of the Pod, with these images in its template.
fn parent(names: &[&str]) -> Parent {
    Parent {
        workload: workload("apps", "ReplicaSet", "web-1"),
        uid: "2".to_owned(),
        template: Digest::sha256(b"template"),
        images: names.iter().map(|name| image(name)).collect(),
    }
}

fn reviewed(promotion: Promotion, parent: Parent, snapshot: &Snapshot) -> Promotion {
    let governing = snapshot.governing(&promotion.change.clone());
    match promotion.asks_for_parent(&governing) {
        true => promotion.leaving_out_injected(parent, &governing),
        false => promotion,
    }
}

/// The verdict where somebody signed an image.
fn verdict(promotion: &Promotion, signed: &str, by: &str, snapshot: &Snapshot) -> Verdict {
    let mut evidence = Evidence::default();
    let change = &promotion.change;
    let governing = snapshot.governing(change);
    for subject in governing.needs(promotion).into_keys() {
        let mut attached = ImageEvidence::default();
        if subject.digest == Digest::sha256(signed.as_bytes()) {
            FACTS.add(&mut attached, &subject.digest, &Attached::by(by));
        }
        evidence
            .images
            .insert(subject, Collected::Known(Arc::new(attached)));
    }
    judge(promotion, &evidence, snapshot)
}

const UPKEEP: ChangeKind = ChangeKind::Upkeep { recorded: true };

#[test]
fn a_sidecar_that_an_entry_names_is_left_out_and_judged_by_the_entry_alone() {
    let snapshot = snapshot(vec![mesh("Enforce"), policy("Audit", json!([]))]);
    let pod = pod(&["web", "mesh"], REPLICA_SETS, &snapshot);
    assert_eq!(pod.kind, ChangeKind::Deploy);
    let pod = reviewed(pod, parent(&["web"]), &snapshot);
    assert_eq!(pod.kind, UPKEEP);
    assert!(pod.is_injected(1) && !pod.is_injected(0));
    // What was admitted is not asked about.
    let governing = snapshot.governing(&pod.change);
    let asked: Vec<_> = governing
        .needs(&pod)
        .into_keys()
        .map(|it| it.digest)
        .collect();
    assert_eq!(asked, [Digest::sha256(b"mesh")]);

    let signed = verdict(&pod, "mesh", "release", &snapshot);
    assert_eq!(signed.decision(), Decision::Allow, "{signed:?}");
    assert_eq!(
        signed.denials().count(),
        0,
        "no other policy judges it: {signed:?}"
    );
    for by in ["stranger", "nobody"] {
        let signed = if by == "nobody" { "other" } else { "mesh" };
        let verdict = verdict(&pod, signed, "stranger", &snapshot);
        assert_eq!(verdict.decision(), Decision::Deny, "{by}");
        let findings = verdict.policies()[1].findings().iter();
        let denying: Vec<_> = findings.filter(|it| it.outcome.denies()).collect();
        assert!(denying.iter().all(|finding| finding.rule == "injected"));
        assert_eq!(denying.len(), 1);
    }
}

#[test]
fn one_of_several_entries_is_enough() {
    let entries = json!([
        entry("registry.example/mesh*", "build"),
        entry("registry.example/*", "release"),
        entry("registry.example/other", "stranger"),
    ]);
    let snapshot = snapshot(vec![policy("Enforce", entries)]);
    let pod = reviewed(
        pod(&["web", "mesh"], REPLICA_SETS, &snapshot),
        parent(&["web"]),
        &snapshot,
    );
    for (by, decision) in [
        ("build", Decision::Allow),
        ("release", Decision::Allow),
        ("stranger", Decision::Deny),
    ] {
        let verdict = verdict(&pod, "mesh", by, &snapshot);
        assert_eq!(verdict.decision(), decision, "{by}");
    }
}

#[test]
fn whatever_no_injector_may_add_makes_a_pod_a_deploy() {
    let snapshot = snapshot(vec![mesh("Enforce")]);
    let kind = |names: &[&str], user: &str, template: &[&str]| {
        let pod = pod(names, user, &snapshot);
        reviewed(pod, parent(template), &snapshot).kind
    };
    assert_eq!(kind(&["web", "mesh"], REPLICA_SETS, &["web"]), UPKEEP);
    // An image that no entry matches.
    assert_eq!(
        kind(&["web", "miner"], REPLICA_SETS, &["web"]),
        ChangeKind::Deploy
    );
    // An image that the owner's template has: the author of the template brought it.
    assert_eq!(
        kind(&["web", "mesh"], REPLICA_SETS, &["web", "mesh"]),
        ChangeKind::Deploy
    );
    // A Pod that a person creates, or a controller that makes no Pods.
    let replica_sets = "system:serviceaccount:kube-system:deployment-controller";
    for user in ["alice@example.com", replica_sets] {
        assert_eq!(kind(&["web", "mesh"], user, &["web"]), ChangeKind::Deploy);
    }
    // One more image that is not recorded.
    let unrecorded = |role: Role, name: &str| {
        let mut pod = pod(&["web", "mesh"], REPLICA_SETS, &snapshot);
        let mut more = pod.change.images[0].clone();
        (more.role, more.reference) = (role, image(name).parse().unwrap());
        let pin = Pin::Written(more.reference.digest().unwrap().clone());
        pod.change.images.push(more);
        pod.pins.push(pin);
        let mut records = pod.records.complete().unwrap().clone();
        records.images.push(ImageRecords::default());
        pod.records = Collected::Known(records);
        reviewed(pod, parent(&["web"]), &snapshot).kind
    };
    assert_eq!(unrecorded(Role::InitContainer, "mesh-init"), UPKEEP);
    for (role, name) in [
        (Role::InitContainer, "miner"),
        (Role::Container, "miner"),
        (Role::ImageVolume, "mesh-volume"),
        (Role::EphemeralContainer, "mesh-debug"),
    ] {
        assert_eq!(
            unrecorded(role, name),
            ChangeKind::Deploy,
            "{role:?} {name}"
        );
    }
}

#[test]
fn an_entry_of_a_policy_that_only_audits_opens_no_policy_that_enforces() {
    for (policies, kind) in [
        (
            vec![mesh("Audit"), policy("Enforce", json!([]))],
            ChangeKind::Deploy,
        ),
        (vec![mesh("Warn"), policy("Audit", json!([]))], UPKEEP),
        (vec![mesh("Audit")], UPKEEP),
    ] {
        let snapshot = snapshot(policies);
        let pod = pod(&["web", "mesh"], REPLICA_SETS, &snapshot);
        assert_eq!(reviewed(pod, parent(&["web"]), &snapshot).kind, kind);
    }
}

#[test]
fn a_sidecar_with_a_revoked_digest_is_refused() {
    let mut snapshot = snapshot(vec![mesh("Enforce")]);
    let pod = pod(&["web", "mesh"], REPLICA_SETS, &snapshot);
    let pod = reviewed(pod, parent(&["web"]), &snapshot);
    let revocation = promotion_gate_core::gate::Revocation {
        name: "mesh".to_owned(),
        reason: "stolen key".to_owned(),
    };
    let revoked = (Digest::sha256(b"mesh"), revocation);
    snapshot.world.revocations.extend([revoked]);
    let verdict = verdict(&pod, "mesh", "release", &snapshot);
    assert_eq!(verdict.decision(), Decision::Deny);
}

#[test]
fn a_policy_that_cannot_be_read_denies_what_was_added() {
    let mut snapshot = snapshot(vec![mesh("Enforce")]);
    let pod = pod(&["web", "mesh"], REPLICA_SETS, &snapshot);
    let pod = reviewed(pod, parent(&["web"]), &snapshot);
    let unreadable = promotion_gate_core::gate::Unreadable {
        source: "broken.yaml".to_owned(),
        why: "cut".to_owned(),
        namespaces: Default::default(),
    };
    snapshot.unreadable.push(unreadable);
    let added = verdict(&pod, "mesh", "release", &snapshot);
    assert_eq!(added.decision(), Decision::Deny);
}
