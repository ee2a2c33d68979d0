//! What people approve with cosign, on registries of both kinds, and what the real controllers then carry out.

use serde_json::{Value, json};

use crate::support::{
    BUILDER, ControlPlane, Cosign, Gate, Key, LocalSigstore, Registry, SOURCE, Tagged, User,
    deployment, provenance_of_generator, until,
};

const CI: &str = "ci@example.com";
const APPROVAL: &str = "https://promotion-gate.dev/approval/v1";

/// The people of the tests: `alice` wrote the change and has two addresses; `bob` and `carol` may approve too; `dora` signs
/// with a key.
fn people(sigstore: &LocalSigstore, key: &Key) -> Value {
    let certificate =
        |email: &str| json!({"certificate": {"issuer": sigstore.issuer.url(), "email": email}});
    json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": "PeopleDirectory",
        "metadata": {"name": "example"},
        "spec": {
            "people": [
                {"name": "alice", "identities": [
                    certificate("alice@example.com"), certificate("alice@private.example"),
                    {"github": {"login": "alice", "id": 1}},
                ]},
                {"name": "bob", "identities": [certificate("bob@example.com")]},
                {"name": "carol", "identities": [certificate("carol@example.com")]},
                {"name": "dora", "identities": [{"key": {"pem": key.public_pem()}}]},
            ],
            "groups": [
                {"name": "security-team", "members": ["alice", "bob", "dora"]},
                {"name": "platform-leads", "members": ["alice", "carol"]},
            ],
        },
    })
}

/// Provenance of a build that `alice` started.
fn provenance() -> Value {
    let mut provenance = provenance_of_generator(BUILDER, SOURCE);
    let environment = &mut provenance["invocation"]["environment"];
    environment["github_actor"] = json!("alice");
    environment["github_actor_id"] = json!("1");
    provenance
}

/// A gate that asks one of each group to approve, none of whom started the build.
fn gate(sigstore: &LocalSigstore, key: &Key, more: Value) -> Gate {
    let gate = Gate::new(sigstore);
    gate.write("policies/people.yaml", &people(sigstore, key).to_string());
    let builders = json!([{"id": BUILDER, "signedBy": {"keyless": {
        "issuer": sigstore.issuer.url(), "identity": CI, "trustRoots": ["local"], "transparency": "Timestamp",
    }}}]);
    let mut approvals = json!({
        "from": [{"group": "security-team"}, {"group": "platform-leads"}],
        "authorsFrom": [{"provenance": {"builders": builders}}],
        "trustRoots": ["local"],
        "transparency": "Timestamp",
    });
    let fields = more.as_object().unwrap().clone();
    approvals.as_object_mut().unwrap().extend(fields);
    gate.spec(
        json!([
            {"digestPinned": {}},
            {"provenance": {"builders": builders, "sources": [SOURCE]}},
            {"approvals": approvals},
        ]),
        json!({"environment": "production"}),
    );
    gate
}

fn approved() -> Value {
    json!({"environment": "production", "decision": "approved"})
}

fn build(cosign: &Cosign, registry: &Registry, name: &str, sigstore: &LocalSigstore) -> Tagged {
    let image = registry.push("app", name, name);
    cosign
        .attest_keyless(&image, "slsaprovenance", &provenance(), CI, sigstore)
        .ok();
    image
}

#[test]
fn two_people_approve_with_every_cosign_and_the_author_does_not_count() {
    let sigstore = LocalSigstore::shared();
    let key = Key::generate();
    let gate = gate(&sigstore, &key, json!({}));
    for registry in Registry::both() {
        for cosign in [Cosign::v3(), Cosign::v2()] {
            let image = build(
                &cosign,
                &registry,
                &format!("of-{}", cosign.name()),
                &sigstore,
            );
            let say = |email: &str, predicate: &Value| {
                cosign
                    .attest_keyless(&image, APPROVAL, predicate, email, &sigstore)
                    .ok();
            };
            let check = || gate.check(&image.by_digest());
            check().denied("[approvals-missing]");
            // The author is a member of both groups, and has a second address.
            say("alice@example.com", &approved());
            check().denied("`alice` does not count: an author of the change");
            say("alice@private.example", &approved());
            check().denied("[approvals-missing]");
            say("bob@example.com", &approved());
            check().denied("1 of group `platform-leads`");
            // For another environment, by a stranger, past its end.
            say(
                "carol@example.com",
                &json!({"environment": "staging", "decision": "approved"}),
            );
            check().denied("the approval is for `staging`");
            say("mallory@example.com", &approved());
            check().denied("[approvals-missing]");
            let ended = json!({"environment": "production", "decision": "approved", "validUntil": "2020-01-01T00:00:00Z"});
            say("carol@example.com", &ended);
            check().denied("[approvals-missing]");
            say("carol@example.com", &approved());
            check().allowed();
            // A rejection blocks until the same person approves later.
            say(
                "bob@example.com",
                &json!({"environment": "production", "decision": "rejected", "reason": "wrong base image"}),
            );
            check().denied("wrong base image");
            std::thread::sleep(std::time::Duration::from_secs(2));
            say("bob@example.com", &approved());
            check().allowed();
        }
    }
}

#[test]
fn a_key_of_a_person_approves_with_a_timestamp_only() {
    let sigstore = LocalSigstore::shared();
    let key = Key::generate();
    let gate = gate(&sigstore, &key, json!({"from": [{"person": "dora"}]}));
    let registry = Registry::distribution();
    for cosign in [Cosign::v3(), Cosign::v2()] {
        let image = build(
            &cosign,
            &registry,
            &format!("key-{}", cosign.name()),
            &sigstore,
        );
        let check = || gate.check(&image.by_digest());
        cosign
            .attest_with_key(&image, APPROVAL, &approved(), &key)
            .ok();
        check().denied("`dora` does not count: the signature lacks a log entry or timestamp");
        cosign
            .attest_with_key_and_time(&image, APPROVAL, &approved(), &key, &sigstore)
            .ok();
        check().allowed();
        let stranger = Key::generate();
        let other = build(
            &cosign,
            &registry,
            &format!("stranger-{}", cosign.name()),
            &sigstore,
        );
        cosign
            .attest_with_key_and_time(&other, APPROVAL, &approved(), &stranger, &sigstore)
            .ok();
        gate.check(&other.by_digest()).denied("[approvals-missing]");
    }
}

#[test]
fn the_controllers_carry_out_what_people_approved_and_a_bare_pod_is_denied() {
    let sigstore = LocalSigstore::shared();
    let key = Key::generate();
    let gate = gate(&sigstore, &key, json!({}));
    let registry = Registry::distribution();
    let cosign = Cosign::v3();
    let image = build(&cosign, &registry, "rollout", &sigstore);
    let waiting = build(&cosign, &registry, "waiting", &sigstore);
    let serving = gate.serve(&[]);
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    plane.register(&serving);
    let apply = |image: &Tagged| {
        let deployment = deployment("web", &image.by_digest());
        plane.kubectl_as(User::Alice, ["apply", "-f", "-"], &deployment)
    };
    until("the webhook is asked", || {
        (!apply(&waiting).is_ok()).then_some(())
    });
    let refusal = apply(&image).refused();
    assert!(refusal.contains("[approvals-missing]"), "{refusal}");
    for person in ["bob@example.com", "carol@example.com"] {
        cosign
            .attest_keyless(&image, APPROVAL, &approved(), person, &sigstore)
            .ok();
    }
    apply(&image).ok();

    plane.start_controllers();
    let pods = || {
        plane
            .kubectl(["get", "pods", "-n", "shop", "-o", "name"])
            .ok()
    };
    until("the controllers have made the Pods", || {
        pods().contains("pod/web-").then_some(())
    });
    let by = plane.requests_of("system:serviceaccount:kube-system:replicaset-controller");
    assert!(
        by.iter().any(|line| line.contains("\"resource\":\"pods\"")),
        "{by:?}"
    );
    // The approval of one digest admits a Deployment; a Pod that a person makes is judged in full, and so is another digest.
    let run = |name: &str, image: &Tagged| {
        let image = format!("--image={}", image.by_digest());
        plane.kubectl_as(User::Alice, ["run", name, &image, "-n", "shop"], "")
    };
    run("approved", &image).ok();
    let refusal = run("bare", &waiting).refused();
    assert!(refusal.contains("[approvals-missing]"), "{refusal}");
    // Integrity is judged for controllers too: a template that was changed behind the gate's back gives no Pods.
    let unknown = deployment("rogue", "127.0.0.1:1/app:latest");
    plane
        .kubectl_as(User::Alice, ["apply", "-f", "-"], &unknown)
        .refused();
}

#[test]
fn approvals_in_an_evidence_repository_count() {
    let sigstore = LocalSigstore::shared();
    let key = Key::generate();
    let gate = gate(&sigstore, &key, json!({"from": [{"person": "bob"}]}));
    for registry in Registry::both() {
        let host = registry.address.to_string();
        let configuration = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "GateConfiguration",
            "trustRoots": [{"name": "local", "file": "local.json"}],
            "registries": [{"host": host, "plainHttp": true, "evidenceRepository": format!("{host}/evidence/{{repository}}")}],
        });
        gate.write("gate.yaml", &configuration.to_string());
        for cosign in [Cosign::v3(), Cosign::v2()] {
            let name = format!("elsewhere-{}", cosign.name());
            let image = build(&cosign, &registry, &name, &sigstore);
            gate.check(&image.by_digest()).denied("[approvals-missing]");
            let approver = cosign.writing_to(&format!("{host}/evidence/app"));
            approver
                .attest_keyless(&image, APPROVAL, &approved(), "bob@example.com", &sigstore)
                .ok();
            gate.check(&image.by_digest()).allowed();
        }
    }
}

#[test]
fn a_rejection_and_the_authors_that_were_seen_are_kept_in_the_cluster() {
    let sigstore = LocalSigstore::shared();
    let gate = gate(&sigstore, &Key::generate(), json!({}));
    let registry = Registry::distribution();
    let image = build(&Cosign::v3(), &registry, "kept", &sigstore);
    let rejected =
        json!({"environment": "production", "decision": "rejected", "reason": "wrong base image"});
    Cosign::v3()
        .attest_keyless(&image, APPROVAL, &rejected, "bob@example.com", &sigstore)
        .ok();
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    let kubeconfig = plane.give_rights();
    let serving = gate.serve(&["--kubeconfig", &kubeconfig.display().to_string()]);
    plane.register(&serving);
    let apply = |dry: &str| {
        let args = ["apply", "-f", "-", dry];
        plane.kubectl_as(User::Alice, args, &deployment("web", &image.by_digest()))
    };
    let kept = |kind: &str| plane.specs_of(kind);
    let refused_with = |dry: &str| apply(dry).stderr.contains("wrong base image");
    until("the webhook is asked", || {
        refused_with("--dry-run=server").then_some(())
    });
    assert!(kept("rejections").is_empty() && kept("authorrecords").is_empty());

    assert!(refused_with("--dry-run=none"));
    let rejections = until("the rejection is kept", || {
        Some(kept("rejections")).filter(|kept| !kept.is_empty())
    });
    let [rejection] = &rejections[..] else {
        panic!("{rejections:?}")
    };
    for (field, value) in [
        ("digest", &*image.digest),
        ("environment", "production"),
        ("person", "bob"),
        ("reason", "wrong base image"),
    ] {
        assert_eq!(rejection[field], value);
    }
    let records = until("the authors are kept", || {
        Some(kept("authorrecords")).filter(|kept| !kept.is_empty())
    });
    assert_eq!(
        records[0]["identities"],
        json!([{"github": {"login": "alice", "id": 1}}])
    );
    assert_eq!(records[0]["statements"].as_array().unwrap().len(), 1);
    // What is kept is not written again.
    assert!(refused_with("--dry-run=none"));
    assert_eq!(
        (kept("rejections"), kept("authorrecords").len()),
        (rejections, 1)
    );
}
