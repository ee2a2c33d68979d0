//! An emergency change that is declared with the command `emergency` and agreed to with cosign, and the reverse.

use serde_json::json;

use crate::approve::{People, build, gate};
use crate::support::{BUILDER, Cosign, Gate, LocalSigstore, Ran, Registry, SOURCE, Tagged};

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
    let image = image.by_digest();
    let about = ["emergency", verb, &image, "--environment", "production"];
    let policies = ["--policy", "policies", "--config", "gate.yaml"];
    let signer = [
        "--signing-config",
        "signing.json",
        "--yes",
        "--identity-token",
        who,
    ];
    gate.run_with(&[&about[..], &policies, &signer, more].concat(), "", &[])
}

#[test]
fn cosign_agrees_to_a_declaration_and_an_author_does_not_count() {
    let sigstore = LocalSigstore::shared();
    let gate = gate_with_emergencies(&sigstore);
    let cosign = Cosign::v3();
    for registry in Registry::both() {
        let image = build(&registry, "mended", &sigstore);
        gate.check(&image.by_digest()).denied("[approvals-missing]");
        let bob = sigstore.issuer.token("bob@example.com");
        let said = ["--incident", "INC1", "--reason", "reverts the query"];
        let shown = emergency(&gate, "declare", &image, &bob, &said).ok();
        let declaration = shown
            .lines()
            .find_map(|line| line.strip_prefix("declared as "));
        let declaration = declaration.unwrap_or_else(|| panic!("{shown}"));
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
