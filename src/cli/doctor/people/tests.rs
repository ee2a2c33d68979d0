use promotion_gate_core::gate::{ControllerPreset, Governors, TrustedController};
use serde_json::{Value, json};

use super::table::{ADMISSION, RBAC};
use super::*;

/// A role, bound to somebody in a namespace or in the whole cluster.
fn bound(subject: &Value, namespace: Option<&str>, rules: &Value) -> Rights {
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    let binding = json!({
        "metadata": {"name": "b", "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "r"},
        "subjects": [subject],
    });
    let roles = vec![serde_json::from_value(role).unwrap()];
    match namespace {
        None => {
            let binding = serde_json::from_value(binding).unwrap();
            Rights::new(roles, vec![], vec![binding], vec![])
        }
        Some(_) => {
            let binding = serde_json::from_value(binding).unwrap();
            Rights::new(roles, vec![], vec![], vec![binding])
        }
    }
}

/// Governors are Gina, the service account of Flux and those of a namespace of Argo CD; a controller is trusted; the guards let
/// cert-manager in.
fn world() -> World {
    World {
        governors: Governors {
            users: ["gina", "system:serviceaccount:flux-system:kustomize"]
                .map(str::to_owned)
                .into(),
            groups: ["platform", "system:serviceaccounts:argocd"]
                .map(str::to_owned)
                .into(),
        },
        trusted_controllers: vec![TrustedController {
            preset: ControllerPreset::Keda,
            username: "system:serviceaccount:keda:keda".to_owned(),
        }],
        ..World::default()
    }
}

fn found(rights: &Rights, world: &World, in_force: bool) -> Vec<&'static str> {
    let report = report(rights, world, in_force);
    report.findings().iter().map(|finding| finding.id).collect()
}

fn report(rights: &Rights, world: &World, in_force: bool) -> DoctorReport {
    let place = Place {
        service: ("gate", "gate"),
        account: "gate",
        configuration: "promotion-gate",
        exempt: BTreeSet::from(["gate", "kube-system"]),
        world,
        selects_by_label: true,
        guards: guards::InForce(in_force),
        let_in: BTreeSet::from(["system:serviceaccount:cert-manager:cainjector".to_owned()]),
    };
    let mut report = DoctorReport::new();
    check(rights, &place, &mut report);
    report
}

/// What is found of Eve, who has one right.
fn of_eve(namespace: Option<&str>, rule: &Value, in_force: bool) -> Vec<&'static str> {
    let eve = json!({"kind": "User", "name": "eve"});
    let rights = bound(&eve, namespace, &json!([rule]));
    found(&rights, &world(), in_force)
}

fn rule(verb: &str, group: &str, resource: &str) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
}

#[test]
fn each_right_that_leads_past_the_gate_is_found_under_its_check() {
    let everywhere = None;
    for (namespace, verb, group, resource, id) in [
        // A governor's, a trusted controller's and cert-manager's account is used by what runs beside it, or by its token.
        (
            Some("flux-system"),
            "create",
            "",
            "serviceaccounts/token",
            "may-mint-tokens",
        ),
        (Some("flux-system"), "get", "", "secrets", "may-mint-tokens"),
        (
            Some("argocd"),
            "create",
            "",
            "serviceaccounts/token",
            "may-mint-tokens",
        ),
        (
            Some("cert-manager"),
            "create",
            "",
            "serviceaccounts/token",
            "may-mint-tokens",
        ),
        (
            Some("flux-system"),
            "impersonate",
            "",
            "serviceaccounts",
            "may-impersonate",
        ),
        (everywhere, "impersonate", "", "groups", "may-impersonate"),
        (
            Some("flux-system"),
            "create",
            "",
            "pods",
            "may-run-in-exempt-namespaces",
        ),
        (
            Some("flux-system"),
            "create",
            "",
            "pods/exec",
            "may-run-in-exempt-namespaces",
        ),
        (
            Some("keda"),
            "patch",
            "apps",
            "deployments",
            "may-run-in-exempt-namespaces",
        ),
        (
            Some("kube-system"),
            "patch",
            "apps",
            "daemonsets",
            "may-run-in-exempt-namespaces",
        ),
        (
            Some("kube-system"),
            "update",
            "",
            "pods",
            "may-run-in-exempt-namespaces",
        ),
        (
            Some("kube-system"),
            "get",
            "",
            "pods/attach",
            "may-run-in-exempt-namespaces",
        ),
        // Certificates, and what is served.
        (
            everywhere,
            "approve",
            "certificates.k8s.io",
            "signers",
            "may-approve-certificates",
        ),
        (
            everywhere,
            "patch",
            ADMISSION,
            "validatingadmissionpolicybindings",
            "may-change-guards",
        ),
        (
            everywhere,
            "patch",
            "apiregistration.k8s.io",
            "apiservices",
            "may-change-guards",
        ),
        (
            Some("kube-system"),
            "bind",
            RBAC,
            "clusterroles",
            "may-grant-rights",
        ),
        (Some("gate"), "bind", RBAC, "roles", "may-grant-rights"),
        (everywhere, "bind", RBAC, "clusterroles", "may-grant-rights"),
        // What stops the gate.
        (
            Some("gate"),
            "update",
            "coordination.k8s.io",
            "leases",
            "may-change-gate",
        ),
        (Some("gate"), "delete", "", "pods", "may-change-gate"),
        (
            Some("gate"),
            "delete",
            "",
            "serviceaccounts",
            "may-change-gate",
        ),
        (
            Some("gate"),
            "create",
            "",
            "resourcequotas",
            "may-change-gate",
        ),
        (
            Some("gate"),
            "create",
            "discovery.k8s.io",
            "endpointslices",
            "may-change-gate",
        ),
        (
            Some("gate"),
            "create",
            "networking.k8s.io",
            "networkpolicies",
            "may-change-gate",
        ),
        (
            Some("gate"),
            "delete",
            RBAC,
            "rolebindings",
            "may-change-gate",
        ),
    ] {
        let found = of_eve(namespace, &rule(verb, group, resource), true);
        assert_eq!(found, [id], "{verb} {resource} in {namespace:?}");
    }
}

#[test]
fn who_may_have_requests_of_others_changed_is_found_also_where_a_policy_engine_does_it() {
    for (namespace, verb, group, resource) in [
        (None, "create", ADMISSION, "mutatingwebhookconfigurations"),
        (None, "patch", ADMISSION, "mutatingadmissionpolicies"),
        (None, "create", ADMISSION, "mutatingadmissionpolicybindings"),
        (None, "create", "kyverno.io", "clusterpolicies"),
        (Some("gate"), "create", "kyverno.io", "policies"),
        (None, "update", "policies.kyverno.io", "mutatingpolicies"),
        (
            Some("gate"),
            "patch",
            "policies.kyverno.io",
            "namespacedmutatingpolicies",
        ),
        (None, "create", "mutations.gatekeeper.sh", "assign"),
    ] {
        let found = of_eve(namespace, &rule(verb, group, resource), true);
        assert_eq!(found, ["may-mutate-requests"], "{verb} {resource}");
    }
}

#[test]
fn a_holder_is_named_with_the_verbs_that_it_has() {
    let eve = json!({"kind": "User", "name": "eve"});
    let mut rule = rule("get", "coordination.k8s.io", "leases");
    rule["verbs"] = json!(["get", "create", "patch"]);
    let rights = bound(&eve, Some("gate"), &json!([rule]));
    let report = report(&rights, &world(), true);
    let about: Vec<_> = report.findings().iter().flat_map(|it| &it.about).collect();
    assert_eq!(
        about,
        ["user `eve`: create/patch leases.coordination.k8s.io in `gate`"]
    );
}

#[test]
fn definitions_and_the_webhook_count_while_the_guards_are_not_in_force() {
    for (group, resource, name, id) in [
        (
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "promotionpolicies.promotion-gate.dev",
            "may-change-definitions",
        ),
        (
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "releaserecords.promotion-gate.dev",
            "may-change-definitions",
        ),
        (
            "apiregistration.k8s.io",
            "apiservices",
            "v1alpha1.promotion-gate.dev",
            "may-change-definitions",
        ),
        (
            ADMISSION,
            "validatingwebhookconfigurations",
            "promotion-gate",
            "may-change-webhook",
        ),
    ] {
        let mut rule = rule("patch", group, resource);
        rule["resourceNames"] = json!([name]);
        assert_eq!(of_eve(None, &rule, false), [id], "{name}");
        assert_eq!(of_eve(None, &rule, true), Vec::<&str>::new(), "{name}");
    }
}

#[test]
fn rights_that_lead_nowhere_are_no_finding() {
    for (namespace, verb, group, resource, name) in [
        (Some("shop"), "create", "", "pods", None),
        (Some("shop"), "create", "", "serviceaccounts/token", None),
        (Some("kube-system"), "get", "", "pods", None),
        (Some("kube-system"), "delete", "", "pods", None),
        (Some("gate"), "create", "", "pods/eviction", None),
        (
            None,
            "patch",
            "certificates.k8s.io",
            "certificatesigningrequests/approval",
            None,
        ),
        (
            None,
            "approve",
            "certificates.k8s.io",
            "signers",
            Some("kubernetes.io/kubelet-serving"),
        ),
        (
            None,
            "patch",
            "apiregistration.k8s.io",
            "apiservices",
            Some("v1beta1.metrics.k8s.io"),
        ),
        (
            None,
            "create",
            "apiregistration.k8s.io",
            "apiservices",
            None,
        ),
        (
            None,
            "patch",
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            Some("rollouts.argoproj.io"),
        ),
    ] {
        let mut rule = rule(verb, group, resource);
        if let Some(name) = name {
            rule["resourceNames"] = json!([name]);
        }
        let found = of_eve(namespace, &rule, false);
        assert_eq!(
            found,
            Vec::<&str>::new(),
            "{verb} {resource} in {namespace:?}"
        );
    }
}

#[test]
fn governors_controllers_of_kubernetes_and_the_gate_are_not_named() {
    let account = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    for subject in [
        json!({"kind": "User", "name": "gina"}),
        json!({"kind": "Group", "name": "platform"}),
        json!({"kind": "Group", "name": "system:masters"}),
        json!({"kind": "User", "name": "system:kube-scheduler"}),
        account("flux-system", "kustomize"),
        account("argocd", "argocd-application-controller"),
        account("kube-system", "daemon-set-controller"),
        account("gate", "gate"),
    ] {
        let rights = bound(&subject, None, &everything);
        assert_eq!(
            found(&rights, &world(), true),
            Vec::<&str>::new(),
            "{subject}"
        );
    }
    let stranger = bound(&account("flux-system", "default"), None, &everything);
    assert_eq!(found(&stranger, &world(), true), ["administrators"]);
}
