//! A gate that only records, everywhere or in some namespaces, in front of a real API server: it is never an outage there.

use serde_json::json;

use crate::support::{Address, ControlPlane, Gate, Ran, User, deployment, until};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
const DENIAL: &str = "[not-pinned]";
const NO_ANSWER: &str = "failed calling webhook";

#[test]
fn what_is_only_audited_goes_in_while_no_gate_answers_and_what_is_enforced_does_not() {
    let plane = ControlPlane::start();
    for namespace in ["promotion-gate", "shop", "lab"] {
        plane.create_namespace(namespace);
    }
    for file in ["crds", "manifests/rbac.yaml", "manifests/webhook.yaml"] {
        let file = format!("{DEPLOY}/{file}");
        plane.kubectl(["apply", "--server-side", "-f", &file]).ok();
    }
    let gate = Gate::configured(&json!({}));
    gate.requirements(json!([{"digestPinned": {}}]));
    let kubeconfig = plane.kubeconfig("gate", "gate-account");
    let (kubeconfig, https) = (kubeconfig.display().to_string(), Address::free());
    let url = format!("--webhook-url=https://{https}/validate");
    let serve = |flag: &str| {
        let flags = [
            "--certificates-secret=promotion-gate-certificates",
            "--manage-webhook=promotion-gate",
            &url,
            flag,
        ];
        gate.serve_without_files(&kubeconfig, https, &flags)
    };
    let apply_to = |namespace: &str| -> Ran {
        let tagged = deployment("web", "registry.example/app:1");
        let tagged = tagged.replace("\"shop\"", &format!("{namespace:?}"));
        let create = ["create", "--dry-run=server", "-f", "-"];
        plane.kubectl_as(User::Alice, create, &tagged)
    };

    let mut audits = serve("--audit-only");
    until("the gate is asked", || {
        apply_to("shop").ok();
        audits.log().contains("\"decision\":\"deny\"").then_some(())
    });
    audits.stop();
    apply_to("shop").ok();

    // From Audit to Enforce, but for one namespace.
    let mut enforces = serve("--audit-namespace=lab");
    until("the gate denies", || {
        apply_to("shop").stderr.contains(DENIAL).then_some(())
    });
    let get = ["get", "validatingwebhookconfiguration", "promotion-gate"];
    let policies = "--output=jsonpath={.webhooks[*].failurePolicy}";
    until("a missing answer denies again", || {
        let live = plane.kubectl(get.into_iter().chain([policies])).ok();
        (live == "Fail Ignore Ignore").then_some(())
    });
    apply_to("lab").ok();
    let recorded = |line: &str| {
        let parts = [
            "\"namespace\":\"lab\"",
            "\"decision\":\"deny\"",
            "\"audit_only\":true",
        ];
        parts.iter().all(|part| line.contains(part))
    };
    assert!(enforces.log().lines().any(recorded), "{}", enforces.log());
    enforces.stop();
    until("the API server gets no answer, and denies", || {
        apply_to("shop").stderr.contains(NO_ANSWER).then_some(())
    });
    apply_to("lab").ok();
}
