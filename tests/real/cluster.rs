//! A real API server asks the gate: what complies is applied, what does not is refused and kubectl shows why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::{
    Certificate, ControlPlane, Cosign, Gate, LocalSigstore, Registry, User, deployment, until,
};

const DEVELOPER: &str = "dev@example.com";

#[test]
fn the_api_server_applies_what_complies_and_shows_denials() {
    let sigstore = LocalSigstore::shared();
    let mut registry = Registry::distribution();
    let signed = registry.push("app", "signed", "signed");
    Cosign::v3()
        .sign_keyless(&signed, DEVELOPER, &sigstore)
        .ok();
    let unsigned = registry.push("app", "unsigned", "unsigned");
    let foreign = registry.push("app", "foreign", "foreign");
    Cosign::v3()
        .sign_keyless(&foreign, "stranger@example.com", &sigstore)
        .ok();
    let attested = registry.push("app", "attested", "attested");
    let predicate = json!({"result": "PASSED"});
    Cosign::v3()
        .attest_keyless(
            &attested,
            "https://example.com/test/v1",
            &predicate,
            DEVELOPER,
            &sigstore,
        )
        .ok();
    let gate = Gate::new(&sigstore);
    let signer = json!([{"keyless": {"issuer": sigstore.issuer.url(), "identity": DEVELOPER, "trustRoots": ["local"]}}]);
    gate.require(signer);
    let serving = gate.serve(&[]);
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    plane.register(&serving);

    let apply = |name: &str, image: &str| {
        plane.kubectl_as(User::Alice, ["apply", "-f", "-"], &deployment(name, image))
    };
    // The API server takes the registration over within moments.
    until("the webhook is asked", || {
        (!apply("probe", &unsigned.by_digest()).is_ok()).then_some(())
    });

    // The API server and `check` ask about the same objects and hear the same.
    let both = |name: &str, image: &str, reason: Option<&str>| {
        let checked = gate.check(image);
        match reason {
            None => {
                apply(name, image).ok();
                assert_eq!(checked.code, Some(0), "{checked}");
            }
            Some(reason) => {
                let refusal = apply(name, image).refused();
                assert!(refusal.contains(reason), "{refusal}");
                assert!(refusal.contains("policy `signed` denies it"), "{refusal}");
                assert_eq!(checked.code, Some(2), "{checked}");
                assert!(checked.stdout.contains(reason), "{checked}");
            }
        }
    };
    both("web", &signed.by_digest(), None);
    both("bad", &unsigned.by_digest(), Some("[unsigned]"));
    both("bad", &signed.by_tag(), Some("[not-pinned]"));
    both("bad", &foreign.by_digest(), Some("[signer-not-accepted]"));
    both("bad", &attested.by_digest(), Some("[not-a-signature]"));
    let elsewhere = format!("registry.example/app@{}", signed.digest);
    both("bad", &elsewhere, Some("[image-not-allowed]"));
    let dry = ["apply", "--dry-run=server", "-f", "-"];
    plane
        .kubectl_as(User::Alice, dry, &deployment("dry", &signed.by_digest()))
        .ok();
    plane
        .kubectl_as(User::Alice, dry, &deployment("dry", &unsigned.by_digest()))
        .refused();

    plane
        .kubectl_as(
            User::Alice,
            ["scale", "deployment", "web", "--replicas=3", "-n", "shop"],
            "",
        )
        .ok();
    plane
        .kubectl_as(
            User::Alice,
            ["label", "deployment", "web", "a=b", "-n", "shop"],
            "",
        )
        .ok();

    let run = |image: &str| {
        let image = format!("--image={image}");
        plane.kubectl_as(User::Alice, ["run", "one", &image, "-n", "shop"], "")
    };
    run(&signed.by_digest()).ok();
    let debug = |image: &str| {
        let image = format!("--image={image}");
        plane.kubectl_as(
            User::Admin,
            ["debug", "one", &image, "-n", "shop", "--attach=false"],
            "",
        )
    };
    let refusal = debug(&unsigned.by_digest()).refused();
    assert!(refusal.contains("ephemeralContainers"), "{refusal}");
    debug(&signed.by_digest()).ok();

    // What was verified stays usable while the registry is down; what was not is called infrastructure trouble.
    registry.stop();
    apply("again", &signed.by_digest()).ok();
    let unknown = format!("{}@sha256:{}", signed.repository, "0".repeat(64));
    let refusal = apply("bad", &unknown).refused();
    assert!(
        refusal.contains("evidence-unavailable") || refusal.contains("evidence-partial"),
        "{refusal}"
    );
    registry.start();

    // A broken edit keeps the last good policies; a sound one is taken over.
    gate.policy(
        "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nspec: {isuer: x}\n",
    );
    until("the broken edit is noticed", || {
        serving
            .probes
            .http_get("/readyz")?
            .contains("broken")
            .then_some(())
    });
    apply("bad", &unsigned.by_digest()).refused();
    gate.policy(
        "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {name: lax}\n\
         spec: {requirements: [{digestPinned: {}}]}\n",
    );
    until("the new policy is in force", || {
        apply("now-good", &unsigned.by_digest())
            .is_ok()
            .then_some(())
    });

    let log = serving.log();
    let decision = log
        .lines()
        .find(|line| line.contains("\"decision\":\"deny\""))
        .unwrap();
    for part in [
        "alice@example.com",
        "unsigned",
        "Deployment",
        &unsigned.digest,
        "registry_requests",
    ] {
        assert!(decision.contains(part), "{part} is not in {decision}");
    }
    plane
        .kubectl_as(
            User::Alice,
            ["delete", "deployment", "web", "-n", "shop"],
            "",
        )
        .ok();
}

#[test]
fn audit_only_admits_and_certificates_rotate_under_load() {
    let sigstore = LocalSigstore::shared();
    let registry = Registry::distribution();
    let unsigned = registry.push("app", "unsigned", "unsigned");
    let gate = Gate::new(&sigstore);
    gate.require(json!([{"keyless": {"issuer": "https://issuer.example", "identity": DEVELOPER, "trustRoots": ["local"]}}]));
    let serving = gate.serve(&["--audit-only"]);
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    let register = |ca_bundle: &str| {
        plane
            .kubectl_as(
                User::Admin,
                ["apply", "-f", "-"],
                &serving.registration(ca_bundle),
            )
            .ok();
    };
    register(&serving.ca_bundle);
    let apply = |name: &str| {
        plane.kubectl_as(
            User::Alice,
            ["apply", "-f", "-"],
            &deployment(name, &unsigned.by_digest()),
        )
    };
    let mut round = 0;
    until("the webhook is asked", || {
        round += 1;
        apply(&format!("audited-{round}")).ok();
        serving
            .log()
            .contains("\"decision\":\"deny\"")
            .then_some(())
    });

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = |name: &'static str| {
            let (apply, done) = (&apply, &done);
            scope.spawn(move || {
                let mut requests = 0;
                while !done.load(Ordering::Relaxed) {
                    requests += 1;
                    apply(&format!("{name}-{requests}")).ok();
                }
                requests
            })
        };
        let loads = [load("one"), load("other")];
        let new = Certificate::new("127.0.0.1");
        // Both are trusted while the change is under way, as an operator does it.
        register(&format!("{}{}", serving.ca_bundle, new.pem));
        std::thread::sleep(Duration::from_secs(2));
        gate.present(&new);
        until("the new certificate is in use", || {
            serving
                .log()
                .contains("the new certificate is in use")
                .then_some(())
        });
        register(&new.pem);
        std::thread::sleep(Duration::from_secs(2));
        done.store(true, Ordering::Relaxed);
        for load in loads {
            assert!(load.join().unwrap() > 10, "there was a load all the while");
        }
    });
}

#[test]
fn an_api_server_accepts_the_deployments_manifests() {
    let plane = ControlPlane::start();
    plane.create_namespace("promotion-gate");
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    for file in ["manifests", "webhook.yaml"] {
        let file = format!("{deploy}/{file}");
        let apply = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            &file,
        ];
        plane.kubectl(apply).ok();
    }
    let apply = [
        "apply",
        "--server-side",
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds"),
    ];
    plane.kubectl(apply).ok();
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
    until("the definitions are served", || {
        let apply = [
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            policies,
        ];
        plane.kubectl(apply).is_ok().then_some(())
    });
    let page = include_str!("../../docs/people.md");
    let directory = page.split("```yaml\n").nth(1).unwrap();
    let directory = directory.split("```").next().unwrap();
    let apply = ["apply", "--validate=strict", "-f", "-"];
    plane.kubectl_as(User::Admin, apply, directory).ok();

    // What the schema can carry is refused by the API server itself, and says what to do.
    let policy = |name: &str, spec: serde_json::Value| {
        let policy = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1",
            "kind": "PromotionPolicy",
            "metadata": {"name": name},
            "spec": spec,
        });
        plane.kubectl_as(
            User::Admin,
            ["apply", "--validate=false", "-f", "-"],
            &policy.to_string(),
        )
    };
    let signer =
        json!({"keyless": {"issuer": "https://issuer.example", "identity": "a@example.com"}});
    for (spec, said) in [
        (
            json!({"requirements": [{"signature": {"anyOf": [signer]}}]}),
            "add `- digestPinned: {}`",
        ),
        (
            json!({"requirements": [{"digestPinned": {}, "allowedImages": {"patterns": ["a/**"]}}]}),
            "exactly one rule per entry",
        ),
        (
            json!({"tags": "Resolve", "requirements": [{"signature": {"anyOf": [signer], "allOf": [signer]}}]}),
            "exactly one of `anyOf` and `allOf`",
        ),
        (
            json!({"tags": "Resolve", "requirements": [{"provenance": {
                "builders": [{"id": "x", "signedBy": {}}], "anySource": true,
            }}]}),
            "exactly one of `keyless` and `key`",
        ),
    ] {
        let refusal = policy("bad", spec).refused();
        assert!(refusal.contains(said), "expected {said}: {refusal}");
    }

    // A mistyped field is kept, for the gate to refuse: pruned, it would silently weaken the policy.
    let typo = json!({"enforcment": "Audit", "requirements": [{"digestPinned": {}}]});
    policy("typo", typo).ok();
    let stored = [
        "get",
        "promotionpolicy",
        "typo",
        "-o",
        "jsonpath={.spec.enforcment}",
    ];
    assert_eq!(plane.kubectl(stored).ok(), "Audit");
}
