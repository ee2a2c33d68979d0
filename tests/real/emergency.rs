//! An emergency change that is declared with the command `emergency` and agreed to with cosign, and the reverse.

mod on_call;
mod outcomes;

use serde_json::{Value, json};

use crate::approve::{People, build, gate};
use crate::support::{
    BUILDER, ControlPlane, Cosign, Gate, LocalSigstore, Ran, Registry, SOURCE, Tagged, User,
    deployment, until,
};

const CHANGE: &str = "https://promotion-gate.dev/emergency-change/v1";
const APPROVAL: &str = "https://promotion-gate.dev/approval/v1";

/// A gate whose policy asks for more approvals than there are people, and lets an emergency change pass that two people agreed to.
fn gate_with_emergencies(sigstore: &LocalSigstore) -> Gate {
    let gate = gate(sigstore, &People::new(), 1);
    let builders = json!([{"id": BUILDER, "signedBy": {"keyless": {
        "issuer": sigstore.issuer.url(), "identity": "ci@example.com", "trustRoots": ["local"], "transparency": "Timestamp",
    }}}]);
    gate.spec(
        json!([
            {"digestPinned": {}},
            {"provenance": {"builders": builders, "sources": [SOURCE]}},
            {"approvals": {
                "from": [{"group": "all", "count": 6}],
                "authorsFrom": [{"provenance": {"builders": builders}}],
                "trustRoots": ["local"],
            }},
        ]),
        json!({
            "environment": "production",
            "emergency": {"from": [{"group": "all", "count": 2}], "waives": ["approvals"]},
        }),
    );
    gate
}

fn emergency(gate: &Gate, verb: &str, image: &Tagged, who: &str, more: &[&str]) -> Ran {
    let signer = ["--identity-token", who];
    emergency_by(gate, verb, image, &[&signer, more].concat())
}

fn emergency_by(gate: &Gate, verb: &str, image: &Tagged, more: &[&str]) -> Ran {
    let image = image.by_digest();
    let about = ["emergency", verb, &image, "--environment", "production"];
    let policies = ["--policy", "policies", "--config", "gate.yaml"];
    let signing = ["--signing-config", "signing.json", "--yes"];
    gate.run_with(&[&about[..], &policies, &signing, more].concat(), "", &[])
}

fn declare(gate: &Gate, image: &Tagged, sigstore: &LocalSigstore) -> (String, String) {
    let bob = sigstore.issuer.token("bob@example.com");
    let said = ["--incident", "INC1", "--reason", "reverts the query"];
    let shown = emergency(gate, "declare", image, &bob, &said).ok();
    let mut lines = shown.lines();
    let declaration = lines.find_map(|line| line.strip_prefix("declared as "));
    let declaration = declaration.unwrap_or_else(|| panic!("{shown}")).to_owned();
    (shown, declaration)
}

#[test]
fn cosign_agrees_to_a_declaration_and_an_author_does_not_count() {
    let sigstore = LocalSigstore::shared();
    let gate = gate_with_emergencies(&sigstore);
    let cosign = Cosign::v3();
    for registry in Registry::both() {
        let image = build(&registry, "mended", &sigstore);
        gate.check(&image.by_digest()).denied("[approvals-missing]");
        let (shown, declaration) = declare(&gate, &image, &sigstore);
        assert!(
            shown.contains("alice (") && shown.contains("fills no seat"),
            "{shown}"
        );
        cosign
            .verify_attestation_keyless(&image, CHANGE, "bob@example.com", &sigstore)
            .ok();
        let said =
            json!({"environment": "production", "decision": "approved", "emergency": declaration});
        let agree = |who: &str| {
            cosign
                .attest_keyless(&image, APPROVAL, &said, who, &sigstore)
                .ok()
        };
        agree("alice@example.com");
        gate.check(&image.by_digest())
            .denied("`alice` does not count: an author of the change");
        agree("carol@example.com");
        gate.check(&image.by_digest()).allowed();
    }
}

#[test]
fn the_command_agrees_to_a_declaration_by_cosign() {
    let sigstore = LocalSigstore::shared();
    let gate = gate_with_emergencies(&sigstore);
    let registry = Registry::distribution();
    let image = build(&registry, "by-cosign", &sigstore);
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(90);
    let said = json!({
        "environment": "production", "incident": {"id": "INC2"}, "reason": "reverts the query",
        "expires": format!("{expires:.0}"),
    });
    let carol = "carol@example.com";
    Cosign::v3()
        .attest_keyless(&image, CHANGE, &said, carol, &sigstore)
        .ok();
    let bob = sigstore.issuer.token("bob@example.com");
    let shown = emergency(&gate, "approve", &image, &bob, &[]).ok();
    assert!(
        shown.contains("INC2") && shown.contains("every seat is filled then"),
        "{shown}"
    );
    gate.check(&image.by_digest()).allowed();
}

#[test]
fn a_rejection_of_a_declaration_blocks_it_when_it_is_deleted_from_the_registry_and_the_gate_is_replaced()
 {
    let reason = "it is another table";
    blocks_although_it_is_deleted(
        "rejected",
        &["approve", "--decision", "rejected", "--reason", reason],
        "`eve` rejected it",
        &[("reason", json!(reason)), ("closure", Value::Null)],
    );
}

#[test]
fn the_closure_of_an_emergency_change_ends_it_when_it_is_deleted_from_the_registry_and_the_gate_is_replaced()
 {
    let reason = "mended otherwise";
    blocks_although_it_is_deleted(
        "closed",
        &["close", "--reason", reason],
        "`eve` ended it",
        &[("reason", json!(reason)), ("closure", json!(true))],
    );
}

/// `eve` signs something with the command `emergency` that ends an emergency change; a gate in a cluster sees it and says so, and it is
/// kept. Then somebody deletes it from the registry, and another gate takes the place of the first.
fn blocks_although_it_is_deleted(
    repository: &str,
    command: &[&str],
    says: &str,
    kept_fields: &[(&str, Value)],
) {
    let sigstore = LocalSigstore::shared();
    let gate = gate_with_emergencies(&sigstore);
    let registry = Registry::distribution();
    let image = build(&registry, repository, &sigstore);
    let (_, declaration) = declare(&gate, &image, &sigstore);
    let carol = sigstore.issuer.token("carol@example.com");
    emergency(&gate, "approve", &image, &carol, &[]).ok();
    gate.check(&image.by_digest()).allowed();
    // The list of what is attached, as it is without what ends it.
    let list = image.attached("");
    let before = registry.crane(["digest", &list]).ok();
    let (verb, said) = command.split_first().unwrap();
    emergency_by(&gate, verb, &image, &[&["--key", "eve.key"], said].concat()).ok();

    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    plane.create_namespace("promotion-gate");
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
    plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
    let kubeconfig = plane.admin_kubeconfig();
    let mut serving = gate.serve(&["--kubeconfig", &kubeconfig]);
    plane.register(&serving);
    let apply = || {
        let object = deployment("web", &image.by_digest());
        plane.kubectl_as(User::Alice, ["apply", "-f", "-"], &object)
    };
    let refuses = || apply().stderr.contains(says);
    until("the webhook refuses it", || refuses().then_some(()));
    let kept = until("what ends it is kept", || {
        let list = plane.kubectl(["get", "rejections", "-o", "json"]).ok();
        let list: Value = serde_json::from_str(&list).unwrap();
        list["items"].get(0).cloned()
    });
    let (name, spec) = (kept["metadata"]["name"].as_str().unwrap(), &kept["spec"]);
    for (field, value) in [
        ("digest", &*image.digest),
        ("environment", "production"),
        ("emergency", &*declaration),
        ("person", "eve"),
    ] {
        assert_eq!(spec[field], value, "{kept}");
    }
    for (field, value) in kept_fields {
        assert_eq!(spec[field], *value, "{kept}");
    }

    // Somebody who may write to the registry puts the earlier list in the place of the present one.
    let (repository, tag) = list.rsplit_once(':').unwrap();
    let before = format!("{repository}@{}", before.trim());
    registry.crane(["tag", &before, tag]).ok();
    gate.check(&image.by_digest()).allowed();
    serving.stop();
    let serving = gate.serve(&["--kubeconfig", &kubeconfig]);
    plane.register(&serving);
    until("the new gate refuses it too", || {
        let ran = apply();
        assert!(!ran.is_ok(), "{ran}");
        let contains = |part: &str| ran.stderr.contains(part);
        (contains(says) && contains(name)).then_some(())
    });
    plane.kubectl(["delete", "rejection", name]).ok();
    until("what is not kept counts no more", || {
        apply().is_ok().then_some(())
    });
}
