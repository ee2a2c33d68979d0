//! What people approve with the command `approve`, signed by the real services: cosign verifies it, the gate counts it.

use std::fs;

use promotion_gate::sandbox::Sigstore;
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};

use crate::support::{
    BUILDER, Cosign, Gate, Key, LocalSigstore, Ran, Registry, SOURCE, Tagged, TokenServer,
    provenance_of_generator,
};

const CI: &str = "ci@example.com";
const APPROVAL: &str = "https://promotion-gate.dev/approval/v1";

/// People who approve, and the files of their keys.
pub struct People {
    cosign: Key,
    p384: KeyPair,
    ed25519: KeyPair,
}

impl People {
    pub fn new() -> People {
        People {
            cosign: Key::generate(),
            p384: KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
            ed25519: KeyPair::generate_for(&PKCS_ED25519).unwrap(),
        }
    }

    fn directory(&self, sigstore: &LocalSigstore) -> Value {
        let certificate =
            |email: &str| json!({"certificate": {"issuer": sigstore.issuer.url(), "email": email}});
        let person = |name: &str, identity: Value| json!({"name": name, "identities": [identity]});
        let key = |pem: String| json!({"key": {"pem": pem}});
        json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "PeopleDirectory",
            "metadata": {"name": "example"},
            "spec": {
                "people": [
                    {"name": "alice", "identities": [certificate("alice@example.com"), {"github": {"login": "alice", "id": 1}}]},
                    person("bob", certificate("bob@example.com")),
                    person("carol", certificate("carol@example.com")),
                    person("dora", key(self.cosign.public_pem())),
                    person("eve", key(self.p384.public_key_pem())),
                    person("fay", key(self.ed25519.public_key_pem())),
                ],
                "groups": [{"name": "all", "members": ["alice", "bob", "carol", "dora", "eve", "fay"]}],
            },
        })
    }
}

/// A gate that asks `count` people to approve, none of whom started the build.
pub fn gate(sigstore: &LocalSigstore, people: &People, count: u32) -> Gate {
    let gate = Gate::new(sigstore);
    gate.write(
        "policies/people.yaml",
        &people.directory(sigstore).to_string(),
    );
    gate.write(
        "dora.key",
        &fs::read_to_string(people.cosign.private()).unwrap(),
    );
    gate.write("eve.key", &people.p384.serialize_pem());
    gate.write("fay.key", &people.ed25519.serialize_pem());
    fs::copy(sigstore.signing_config(), gate.path("signing.json")).unwrap();
    let builders = json!([{"id": BUILDER, "signedBy": {"keyless": {
        "issuer": sigstore.issuer.url(), "identity": CI, "trustRoots": ["local"], "transparency": "Timestamp",
    }}}]);
    gate.spec(
        json!([
            {"digestPinned": {}},
            {"provenance": {"builders": builders, "sources": [SOURCE]}},
            {"approvals": {
                "from": [{"group": "all", "count": count}],
                "authorsFrom": [{"provenance": {"builders": builders}}],
                "trustRoots": ["local"],
            }},
        ]),
        json!({"environment": "production"}),
    );
    gate
}

/// Provenance of a build that `alice` started.
pub fn build(registry: &Registry, name: &str, sigstore: &LocalSigstore) -> Tagged {
    let image = registry.push("app", name, name);
    let mut provenance = provenance_of_generator(BUILDER, SOURCE);
    let environment = &mut provenance["invocation"]["environment"];
    environment["github_actor"] = json!("alice");
    environment["github_actor_id"] = json!("1");
    Cosign::v3()
        .attest_keyless(&image, "slsaprovenance", &provenance, CI, sigstore)
        .ok();
    image
}

fn approve(gate: &Gate, image: &str, more: &[&str]) -> Ran {
    let mut args = vec!["approve", image, "--environment", "production"];
    args.extend(["--policy", "policies", "--config", "gate.yaml"]);
    args.extend(["--signing-config", "signing.json", "--yes"]);
    args.extend(more);
    gate.run_with(&args, "", &[("COSIGN_PASSWORD", "")])
}

#[test]
fn cosign_verifies_what_people_approve_and_the_gate_counts_it() {
    let sigstore = LocalSigstore::shared();
    let people = People::new();
    let gate = gate(&sigstore, &people, 4);
    for registry in Registry::both() {
        let image = build(&registry, "approved", &sigstore);
        let check = || gate.check(&image.by_digest());
        let token = sigstore.issuer.token("bob@example.com");
        let said = approve(
            &gate,
            &image.by_tag(),
            &["--identity-token", &token, "--reason", "looks good"],
        );
        let shown = said.ok();
        for part in [
            &image.digest,
            SOURCE,
            BUILDER,
            "counts",
            "`bob` fills a seat: 1 of group `all`",
            "read back",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        check().denied("3 of group `all`");
        for cosign in [Cosign::v3(), Cosign::v2()] {
            cosign
                .verify_attestation_keyless(&image, APPROVAL, "bob@example.com", &sigstore)
                .ok();
        }
        for (who, left) in [("dora", Some("2 of")), ("eve", Some("1 of")), ("fay", None)] {
            let file = format!("{who}.key");
            approve(
                &gate,
                &image.by_digest(),
                &["--key", &file, "--valid", "3d", "--change", "CHG1"],
            )
            .ok();
            match left {
                Some(left) => check().denied(left),
                None => check().allowed(),
            };
        }
        // cosign verifies no attestation by a P-384 key, its own included.
        fs::write(gate.path("dora.pub"), people.cosign.public_pem()).unwrap();
        for cosign in [Cosign::v3(), Cosign::v2()] {
            cosign
                .verify_attestation_with_key(&image, APPROVAL, &gate.path("dora.pub"), &sigstore)
                .ok();
        }
    }
}

#[test]
fn an_approval_in_the_evidence_repository_of_the_configuration_counts() {
    let sigstore = LocalSigstore::shared();
    let people = People::new();
    let gate = gate(&sigstore, &people, 1);
    for registry in Registry::both() {
        let host = registry.address.to_string();
        let configuration = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "GateConfiguration",
            "trustRoots": [{"name": "local", "file": "local.json"}],
            "registries": [{"host": host, "plainHttp": true, "evidenceRepository": format!("{host}/evidence/{{repository}}")}],
        });
        gate.write("gate.yaml", &configuration.to_string());
        let image = build(&registry, "elsewhere", &sigstore);
        let said = approve(&gate, &image.by_digest(), &["--key", "fay.key"]).ok();
        assert!(said.contains(&format!("in {host}/evidence/app")), "{said}");
        gate.check(&image.by_digest()).allowed();
    }
}

#[test]
fn a_person_without_the_right_to_push_images_approves_in_the_evidence_repository() {
    let sigstore = LocalSigstore::shared();
    let people = People::new();
    let gate = gate(&sigstore, &people, 1);
    let mut registry = Registry::distribution();
    let image = build(&registry, "readable", &sigstore);
    let tokens = TokenServer::start("approvals/");
    registry.require_tokens(&tokens);
    let by_dora = |more: &[&str]| {
        let args = [&["--key", "dora.key"], more].concat();
        approve(&gate, &image.by_digest(), &args)
    };
    let refused = by_dora(&[]);
    let hint = "attach the approval to a repository for evidence: `--repository HOST/PATH`";
    refused.failed(1, hint);
    let elsewhere = format!("{}/elsewhere/app", registry.address);
    by_dora(&["--repository", &elsewhere]).failed(1, "check that your account may push");
    gate.check(&image.by_digest()).denied("[approvals-missing]");
    let host = registry.address.to_string();
    let evidence = format!("{host}/approvals/app");
    let asked = tokens.asked();
    let approved = by_dora(&["--repository", &evidence]).ok();
    assert!(approved.contains(&format!("in {evidence}")), "{approved}");
    // The registry has no referrers API, so that the entry is read back after some seconds. Tokens were renewed meanwhile.
    assert!(tokens.asked() >= asked + 2, "{}", tokens.asked());
    gate.check(&image.by_digest()).denied("[approvals-missing]");
    let configuration = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": "GateConfiguration",
        "trustRoots": [{"name": "local", "file": "local.json"}],
        "registries": [{"host": host, "plainHttp": true, "evidenceRepository": format!("{host}/approvals/{{repository}}")}],
    });
    gate.write("gate.yaml", &configuration.to_string());
    gate.check(&image.by_digest()).allowed();
}

#[test]
fn what_would_not_count_is_said_before_anything_is_signed() {
    let sigstore = LocalSigstore::shared();
    let people = People::new();
    let gate = gate(&sigstore, &people, 1);
    let registry = Registry::distribution();
    let image = build(&registry, "author", &sigstore);
    let dry = |email: &str| {
        let token = sigstore.issuer.token(email);
        approve(
            &gate,
            &image.by_digest(),
            &["--dry-run", "--identity-token", &token],
        )
        .ok()
    };
    let author = dry("alice@example.com");
    assert!(
        author.contains("would not count") && author.contains("`alice` is an author of the change"),
        "{author}"
    );
    let stranger = dry("mallory@example.com");
    assert!(
        stranger.contains("the people directory does not list it"),
        "{stranger}"
    );
    assert!(dry("bob@example.com").contains("every seat is filled then"));
    gate.check(&image.by_digest()).denied("[approvals-missing]");
    // A key without a timestamp authority gets no time.
    let mut config: Value =
        serde_json::from_slice(&fs::read(gate.path("signing.json")).unwrap()).unwrap();
    config["tsaUrls"] = json!([]);
    gate.write("signing.json", &config.to_string());
    let timeless = approve(
        &gate,
        &image.by_digest(),
        &["--dry-run", "--key", "dora.key"],
    )
    .ok();
    assert!(
        timeless.contains("nothing proves the time of the signature"),
        "{timeless}"
    );
}

#[test]
fn rules_that_deny_refuse_the_approval_unless_it_is_given_anyway_and_recorded() {
    let sigstore = LocalSigstore::shared();
    let people = People::new();
    let gate = gate(&sigstore, &people, 1);
    let registry = Registry::distribution();
    let image = registry.push("app", "unproven", "unproven");
    let refused = approve(&gate, &image.by_digest(), &["--key", "dora.key"]);
    refused.failed(2, "provenance: no-provenance");
    gate.check(&image.by_digest()).denied("[approvals-missing]");
    let anyway = ["--key", "dora.key", "--anyway"];
    let written = approve(
        &gate,
        &image.by_digest(),
        &[&anyway[..], &["--dry-run"]].concat(),
    )
    .ok();
    assert!(
        written.contains(r#""despite":["provenance: no-provenance"]"#),
        "{written}"
    );
    approve(&gate, &image.by_digest(), &anyway).ok();
    gate.check(&image.by_digest()).denied("[no-provenance]");
}

#[test]
fn two_approvals_at_the_same_time_both_survive() {
    let sigstore = LocalSigstore::shared();
    let people = People::new();
    let gate = gate(&sigstore, &people, 3);
    for registry in Registry::both() {
        let image = build(&registry, "together", &sigstore);
        let (gate, image) = (&gate, &image);
        std::thread::scope(|scope| {
            let by = |who: &'static str| {
                scope.spawn(move || approve(gate, &image.by_digest(), &["--key", who]).ok())
            };
            let all = ["dora.key", "eve.key", "fay.key"].map(by);
            for one in all {
                one.join().unwrap();
            }
        });
        gate.check(&image.by_digest()).allowed();
    }
}

#[test]
fn a_rejection_blocks_and_a_later_approval_by_the_same_person_lifts_it() {
    let sigstore = LocalSigstore::shared();
    let people = People::new();
    let gate = gate(&sigstore, &people, 1);
    let registry = Registry::with_referrers();
    let image = build(&registry, "rejected", &sigstore);
    let by = |email: &str, more: &[&str]| {
        let token = sigstore.issuer.token(email);
        let args = [&["--identity-token", &token], more].concat();
        approve(&gate, &image.by_digest(), &args).ok()
    };
    by("bob@example.com", &[]);
    gate.check(&image.by_digest()).allowed();
    by(
        "carol@example.com",
        &["--decision", "rejected", "--reason", "not tested"],
    );
    gate.check(&image.by_digest()).denied("not tested");
    std::thread::sleep(std::time::Duration::from_secs(2));
    by("carol@example.com", &[]);
    gate.check(&image.by_digest()).allowed();
}

#[test]
fn an_expired_token_and_services_of_another_root_sign_nothing() {
    let sigstore = LocalSigstore::shared();
    let people = People::new();
    let gate = gate(&sigstore, &people, 1);
    let registry = Registry::distribution();
    let image = build(&registry, "expired", &sigstore);
    let old = sigstore.issuer.token_for("bob@example.com", 0);
    let expired = approve(&gate, &image.by_digest(), &["--identity-token", &old]);
    expired.failed(1, "expired");
    let other = Sigstore::create().unwrap().trusted_root();
    gate.write("other.json", &other.to_string());
    let root = "other.json";
    let token = sigstore.issuer.token("bob@example.com");
    let odd = approve(
        &gate,
        &image.by_digest(),
        &["--identity-token", &token, "--trust-root", root],
    );
    odd.failed(
        1,
        "give the `--trust-root` that belongs to the `--signing-config`",
    );
    gate.check(&image.by_digest()).denied("[approvals-missing]");
}
