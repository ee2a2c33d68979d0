//! Does the gate run so that it answers, denies, and can be reached by the API server alone?

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::checks;
use super::report::DoctorReport;
use crate::admission::Audited;

/// What runs in the namespace of the gate.
#[derive(Debug, Default)]
pub(super) struct Installation {
    pub(super) service: Option<Service>,
    pub(super) deployments: Vec<Deployment>,
    pub(super) budgets: Vec<PodDisruptionBudget>,
    pub(super) networks: Vec<NetworkPolicy>,
}

type Labels = BTreeMap<String, String>;

impl Installation {
    /// The Deployment whose Pods the Service selects.
    pub(super) fn deployment(&self) -> Option<&Deployment> {
        let selector = self.service.as_ref()?.spec.as_ref()?.selector.as_ref()?;
        let mut deployments = self.deployments.iter();
        deployments.find(|deployment| {
            let labels = labels(deployment);
            let mut selector = selector.iter();
            labels.is_some_and(|labels| selector.all(|(key, value)| labels.get(key) == Some(value)))
        })
    }

    /// Where its arguments say that it only records.
    pub(super) fn audited(&self) -> Audited {
        let arguments = self.deployment().map(arguments).unwrap_or_default();
        Audited {
            everywhere: has(&arguments, "--audit-only"),
            namespaces: values(&arguments, "--audit-namespace"),
        }
    }

    /// The service account of its Pods.
    pub(super) fn account(&self) -> Option<&str> {
        let template = &self.deployment()?.spec.as_ref()?.template;
        template.spec.as_ref()?.service_account_name.as_deref()
    }
}

fn labels(deployment: &Deployment) -> Option<&Labels> {
    let template = &deployment.spec.as_ref()?.template;
    template.metadata.as_ref()?.labels.as_ref()
}

/// Looks at the Deployment of the gate and what protects it. `service` is its namespace and name.
pub(super) fn check(found: &Installation, service: (&str, &str), report: &mut DoctorReport) {
    let (namespace, name) = service;
    let Some(deployment) = found.deployment() else {
        let about = match &found.service {
            Some(_) => {
                format!("the selector of the Service `{namespace}/{name}` matches no Deployment")
            }
            None => format!("there is no Service `{namespace}/{name}`"),
        };
        return report.find(&checks::GATE_MISSING, [about]);
    };
    let shown = deployment.metadata.name.as_deref().unwrap_or_default();
    let shown = format!("Deployment `{namespace}/{shown}`");
    let ready = deployment.status.as_ref();
    let ready = ready.and_then(|it| it.ready_replicas).unwrap_or(0);
    match ready {
        0 => report.find(&checks::GATE_DOWN, [shown.clone()]),
        1 => report.find(&checks::GATE_ALONE, [shown.clone()]),
        _ => {}
    }
    let audited = found.audited();
    if audited.everywhere {
        report.find(&checks::AUDIT_ONLY, [shown]);
    }
    let namespaces = audited.namespaces.iter();
    let namespaces = namespaces.map(|name| format!("Namespace `{name}`"));
    report.find_any(&checks::NAMESPACES_AUDITED, namespaces.collect());
    let empty = Labels::new();
    let labels = labels(deployment).unwrap_or(&empty);
    let desired = deployment.spec.as_ref().and_then(|it| it.replicas);
    let blocking = found.budgets.iter().filter(|budget| {
        let spec = budget.spec.as_ref();
        let selector = spec.and_then(|it| it.selector.as_ref());
        selector.is_some_and(|it| selects(it, labels)) && blocks(budget, desired.unwrap_or(1))
    });
    let blocking = blocking.filter_map(|budget| budget.metadata.name.as_deref());
    let blocking = blocking.map(|name| format!("PodDisruptionBudget `{namespace}/{name}`"));
    report.find_any(&checks::DRAINS_BLOCKED, blocking.collect());

    let mut networks = found.networks.iter();
    let template = deployment.spec.as_ref().map(|it| &it.template);
    let pods = template.and_then(|it| it.spec.as_ref());
    // No NetworkPolicy is about Pods in the network of their node.
    let in_pod_network = pods.is_none_or(|it| it.host_network != Some(true));
    let is_limited = in_pod_network && networks.any(|network| limits(network, labels));
    if !is_limited && !has(&arguments(deployment), "--client-ca") {
        let about = format!(
            "no NetworkPolicy of `{namespace}` limits who reaches its Pods, and it asks for no client certificate"
        );
        report.find(&checks::PORT_OPEN, [about]);
    }
}

fn arguments(deployment: &Deployment) -> Vec<&str> {
    let spec = deployment.spec.as_ref();
    let pods = spec.and_then(|spec| spec.template.spec.as_ref());
    let containers = pods.into_iter().flat_map(|pods| &pods.containers);
    let arguments = containers.flat_map(|it| it.command.iter().chain(&it.args));
    arguments.flatten().map(String::as_str).collect()
}

fn has(arguments: &[&str], flag: &str) -> bool {
    let mut arguments = arguments.iter();
    arguments.any(|argument| argument.split('=').next() == Some(flag))
}

/// The values of a flag, written as `--flag=value` or as two arguments.
fn values(arguments: &[&str], flag: &str) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.split_once('=') {
            Some((name, value)) if name == flag => {
                values.insert(value.to_owned());
            }
            None if *argument == flag => values.extend(arguments.next().map(|&it| it.to_owned())),
            _ => {}
        }
    }
    values
}

/// Whether a selector with labels and expressions matches.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let mut exact = selector.match_labels.iter().flatten();
    let mut terms = selector.match_expressions.iter().flatten();
    exact.all(|(key, value)| labels.get(key) == Some(value))
        && terms.all(|term| {
            let value = labels.get(&term.key);
            let is_listed = value.is_some_and(|it| term.values.iter().flatten().any(|of| of == it));
            match term.operator.as_str() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a budget lets no Pod of so many go.
fn blocks(budget: &PodDisruptionBudget, replicas: i32) -> bool {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let Some(spec) = &budget.spec else {
        return false;
    };
    let is = |text: &str, percent: &str| text.trim() == percent;
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(IntOrString::Int(most)), _) => *most <= 0,
        (Some(IntOrString::String(most)), _) => is(most, "0%"),
        (None, Some(IntOrString::Int(least))) => *least >= replicas,
        (None, Some(IntOrString::String(least))) => is(least, "100%"),
        (None, None) => false,
    }
}

/// Whether a network policy lets only some peers reach these Pods.
fn limits(network: &NetworkPolicy, labels: &Labels) -> bool {
    let Some(spec) = &network.spec else {
        return false;
    };
    let mut types = spec.policy_types.iter().flatten();
    // Without a list, a policy is about what comes in.
    let is_of_ingress = spec.policy_types.is_none() || types.any(|it| it == "Ingress");
    let selected = spec.pod_selector.as_ref();
    let is_of_gate = selected.is_none_or(|it| selects(it, labels));
    let mut rules = spec.ingress.iter().flatten();
    let is_open = rules.any(|rule| match rule.from.as_deref() {
        None | Some([]) => true,
        Some(peers) => peers.iter().any(|peer| {
            let block = peer.ip_block.as_ref();
            block.is_some_and(|block| {
                let is_all = matches!(block.cidr.as_str(), "0.0.0.0/0" | "::/0");
                is_all && block.except.as_deref().is_none_or(<[_]>::is_empty)
            })
        }),
    });
    is_of_ingress && is_of_gate && !is_open
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::documents;
    use serde_json::{Value, json};

    use super::*;

    fn shipped(file: &str) -> Vec<Value> {
        let path = format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(path).unwrap();
        let (documents, _) = documents::read(file, &text);
        documents
            .into_iter()
            .map(|document| document.value)
            .collect()
    }

    /// What is shipped, with three ready replicas.
    fn installed() -> [Value; 4] {
        let of = |file: &str, kind: &str| {
            let mut objects = shipped(&format!("manifests/{file}.yaml")).into_iter();
            objects.find(|it| it["kind"] == kind).unwrap()
        };
        let mut deployment = of("deployment", "Deployment");
        deployment["status"] = json!({"readyReplicas": 3});
        [
            of("service", "Service"),
            deployment,
            of("availability", "PodDisruptionBudget"),
            of("network-policy", "NetworkPolicy"),
        ]
    }

    fn found(change: impl FnOnce(&mut [Value; 4])) -> Vec<&'static str> {
        let mut objects = installed();
        change(&mut objects);
        let [service, deployment, budget, network] = objects;
        let found = Installation {
            service: serde_json::from_value(service).unwrap(),
            deployments: vec![serde_json::from_value(deployment).unwrap()],
            budgets: vec![serde_json::from_value(budget).unwrap()],
            networks: vec![serde_json::from_value(network).unwrap()],
        };
        let mut report = DoctorReport::new();
        check(&found, ("promotion-gate", "promotion-gate"), &mut report);
        report.findings().iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn the_installation_as_shipped_has_no_hole() {
        assert_eq!(found(|_| {}), Vec::<&str>::new());
    }

    #[test]
    fn each_hole_in_the_installation_is_found() {
        type Change = fn(&mut [Value; 4]);
        let holes: [(&str, Change); 10] = [
            ("port-open", |[_, it, ..]| {
                it["spec"]["template"]["spec"]["hostNetwork"] = json!(true)
            }),
            ("namespaces-audited", |[_, it, ..]| {
                let container = &mut it["spec"]["template"]["spec"]["containers"][0];
                container["args"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!("--audit-namespace=lab"));
            }),
            ("gate-missing", |[service, ..]| {
                service["spec"]["selector"] = json!({"app": "x"})
            }),
            ("gate-missing", |[service, ..]| *service = Value::Null),
            ("gate-down", |[_, it, ..]| it["status"] = json!({})),
            ("gate-alone", |[_, it, ..]| {
                it["status"]["readyReplicas"] = json!(1)
            }),
            ("audit-only", |[_, it, ..]| {
                let container = &mut it["spec"]["template"]["spec"]["containers"][0];
                container["args"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!("--audit-only"));
            }),
            ("drains-blocked", |[_, _, it, _]| {
                it["spec"]["maxUnavailable"] = json!(0)
            }),
            ("port-open", |[.., it]| {
                it["spec"]["podSelector"] = json!({"matchLabels": {"app": "x"}})
            }),
            ("port-open", |[.., it]| {
                it["spec"]["ingress"][0]["from"] = Value::Null
            }),
        ];
        for (id, hole) in holes {
            assert_eq!(found(hole), [id]);
        }
    }

    #[test]
    fn audited_namespaces_are_found_in_both_spellings_of_the_argument() {
        let mut objects = installed();
        let container = &mut objects[1]["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array_mut().unwrap();
        arguments.extend(["--audit-namespace=lab", "--audit-namespace", "play"].map(Value::from));
        let [service, deployment, ..] = objects;
        let found = Installation {
            service: serde_json::from_value(service).unwrap(),
            deployments: vec![serde_json::from_value(deployment).unwrap()],
            ..Installation::default()
        };
        let audited = found.audited();
        assert!(!audited.everywhere);
        assert_eq!(Vec::from_iter(audited.namespaces), ["lab", "play"]);
    }

    #[test]
    fn client_certificates_keep_strangers_out_as_a_network_policy_does() {
        let found = found(|[_, deployment, _, network]| {
            network["spec"]["podSelector"] = json!({"matchLabels": {"app": "x"}});
            let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
            let arguments = container["args"].as_array_mut().unwrap();
            arguments.push(json!("--client-ca=/tls/clients.crt"));
        });
        assert_eq!(found, Vec::<&str>::new());
    }
}
