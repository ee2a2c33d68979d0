//! Does the gate run so that it answers, denies, and can be reached by the API server alone?

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerPort, Pod, Service};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::checks;
use super::report::DoctorReport;
use crate::admission::Audited;

/// What runs in the namespace of the gate.
#[derive(Debug, Default)]
pub(super) struct Installation {
    pub(super) service: Option<Service>,
    pub(super) deployments: Vec<Deployment>,
    pub(super) pods: Vec<Pod>,
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

    /// The namespaces of the infrastructure that its arguments name; `None` if it does not write the webhook configuration.
    pub(super) fn infrastructure(&self) -> Option<BTreeSet<String>> {
        let arguments = arguments(self.deployment()?);
        let writes = has(&arguments, "--manage-webhook");
        writes.then(|| values(&arguments, "--infrastructure-namespace"))
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
    let spec = found.service.as_ref().and_then(|it| it.spec.as_ref());
    if let Some(spec) = spec.filter(|it| it.type_.as_deref() == Some("ExternalName")) {
        let host = spec.external_name.as_deref().unwrap_or_default();
        let about = format!("the Service `{namespace}/{name}` leads to `{host}`");
        return report.find(&checks::GATE_MISSING, [about]);
    }
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
    let node = only_node(found).map(|node| format!("{shown}: node `{node}`"));
    report.find_any(&checks::GATE_ON_ONE_NODE, node.into_iter().collect());
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

    let template = deployment.spec.as_ref().map(|it| &it.template);
    let pods = template.and_then(|it| it.spec.as_ref());
    // No NetworkPolicy is about Pods in the network of their node.
    let in_pod_network = pods.is_none_or(|it| it.host_network != Some(true));
    let ports = webhook_ports(found.service.as_ref(), deployment);
    let networks = found.networks.iter();
    let networks: Vec<_> = networks.filter(|it| is_of(it, labels)).collect();
    // What any of them allows is allowed.
    let is_open = networks.iter().any(|network| is_open(network, &ports));
    let is_limited = in_pod_network && !networks.is_empty() && !is_open;
    if !is_limited && !has(&arguments(deployment), "--client-ca") {
        let about = format!(
            "no NetworkPolicy of `{namespace}` limits who reaches its Pods, and it asks for no client certificate"
        );
        report.find(&checks::PORT_OPEN, [about]);
    }
}

/// The node that holds all ready Pods of the Service, if it has several.
fn only_node(found: &Installation) -> Option<&str> {
    let selector = found.service.as_ref()?.spec.as_ref()?.selector.as_ref()?;
    let is_selected = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        let mut selector = selector.iter();
        labels.is_some_and(|labels| selector.all(|(key, value)| labels.get(key) == Some(value)))
    };
    let ready = found
        .pods
        .iter()
        .filter(|pod| is_ready(pod) && is_selected(pod));
    let nodes = ready.filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref());
    let nodes: Vec<_> = nodes.collect();
    let first = *nodes.first()?;
    (nodes.len() > 1 && nodes.iter().all(|node| *node == first)).then_some(first)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter();
    let mut conditions = conditions.flat_map(|it| it.conditions.iter().flatten());
    let is_ready = conditions.any(|it| it.type_ == "Ready" && it.status == "True");
    is_ready && pod.metadata.deletion_timestamp.is_none()
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
    let Some(spec) = &budget.spec else {
        return false;
    };
    let percent = |text: &str| text.trim().strip_suffix('%')?.parse::<i64>().ok();
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(IntOrString::Int(most)), _) => *most <= 0,
        (Some(IntOrString::String(most)), _) => percent(most) == Some(0),
        (None, Some(IntOrString::Int(least))) => *least >= replicas,
        // Rounded up: 67 % of three replicas are all three.
        (None, Some(IntOrString::String(least))) => {
            let replicas = i64::from(replicas);
            percent(least).is_some_and(|it| it.saturating_mul(replicas) > (replicas - 1) * 100)
        }
        (None, None) => false,
    }
}

/// The ports of the Pods that the Service leads to; none if the Pods do not name them.
fn webhook_ports<'d>(
    service: Option<&Service>,
    deployment: &'d Deployment,
) -> Vec<&'d ContainerPort> {
    let spec = service.and_then(|it| it.spec.as_ref());
    let ports = spec.and_then(|it| it.ports.as_ref()).into_iter().flatten();
    let targets: Vec<_> = ports
        .map(|port| {
            let same = IntOrString::Int(port.port);
            port.target_port.clone().unwrap_or(same)
        })
        .collect();
    let pods = deployment.spec.as_ref();
    let pods = pods.and_then(|it| it.template.spec.as_ref());
    let containers = pods.into_iter().flat_map(|it| &it.containers);
    let ports = containers.flat_map(|it| it.ports.iter().flatten());
    ports
        .filter(|port| targets.iter().any(|target| is_named(port, target)))
        .collect()
}

fn is_named(port: &ContainerPort, name: &IntOrString) -> bool {
    match name {
        IntOrString::Int(number) => port.container_port == *number,
        IntOrString::String(name) => port.name.as_ref() == Some(name),
    }
}

/// Whether a network policy is about who reaches these Pods.
fn is_of(network: &NetworkPolicy, labels: &Labels) -> bool {
    let Some(spec) = &network.spec else {
        return false;
    };
    let mut types = spec.policy_types.iter().flatten();
    // Without a list, a policy is about what comes in.
    let is_of_ingress = spec.policy_types.is_none() || types.any(|it| it == "Ingress");
    let selected = spec.pod_selector.as_ref();
    is_of_ingress && selected.is_none_or(|it| selects(it, labels))
}

/// Whether a network policy lets every Pod reach one of these ports.
fn is_open(network: &NetworkPolicy, ports: &[&ContainerPort]) -> bool {
    let rules = network
        .spec
        .iter()
        .flat_map(|it| it.ingress.iter().flatten());
    let mut rules = rules.filter(|rule| match rule.ports.as_deref() {
        None | Some([]) => true,
        Some(allowed) => allowed.iter().any(|it| includes(it, ports)),
    });
    rules.any(|rule| match rule.from.as_deref() {
        None | Some([]) => true,
        Some(peers) => peers.iter().any(is_everybody),
    })
}

/// Whether a rule's port is one of these, or may be while these are not known.
fn includes(allowed: &NetworkPolicyPort, ports: &[&ContainerPort]) -> bool {
    let Some(first) = &allowed.port else {
        return true;
    };
    ports.is_empty()
        || ports.iter().any(|port| match (first, allowed.end_port) {
            (IntOrString::Int(first), Some(last)) => (*first..=last).contains(&port.container_port),
            _ => is_named(port, first),
        })
}

/// Whether a peer is every address, or Pods of every namespace, whose authors choose their labels.
fn is_everybody(peer: &NetworkPolicyPeer) -> bool {
    let every_address = peer.ip_block.as_ref().is_some_and(|block| {
        let is_all = matches!(block.cidr.as_str(), "0.0.0.0/0" | "::/0");
        is_all && block.except.as_deref().is_none_or(<[_]>::is_empty)
    });
    let namespaces = peer.namespace_selector.as_ref();
    let every_namespace = namespaces.is_some_and(|it| {
        let labels = it.match_labels.as_ref().is_none_or(BTreeMap::is_empty);
        labels && it.match_expressions.as_deref().is_none_or(<[_]>::is_empty)
    });
    every_address || every_namespace
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
            pods: Vec::new(),
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
        let holes: [(&str, Change); 17] = [
            ("gate-missing", |[service, ..]| {
                service["spec"]["type"] = json!("ExternalName");
                service["spec"]["externalName"] = json!("evil.example");
            }),
            ("drains-blocked", |[_, _, it, _]| {
                it["spec"] = json!({"minAvailable": "67%", "selector": it["spec"]["selector"]});
            }),
            ("drains-blocked", |[_, _, it, _]| {
                it["spec"] = json!({"minAvailable": "100%", "selector": it["spec"]["selector"]});
            }),
            ("port-open", |[.., it]| {
                it["spec"]["ingress"][0]["from"] = json!([{"namespaceSelector": {}}]);
            }),
            ("port-open", |[.., it]| {
                it["spec"]["ingress"][0]["from"] = json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "x"}}}]);
            }),
            ("port-open", |[.., it]| {
                it["spec"]["ingress"][1] = json!({"ports": [{"port": 1, "endPort": 65535}]});
            }),
            ("port-open", |[.., it]| {
                it["spec"]["ingress"][1] = json!({"ports": [{"protocol": "TCP"}]});
            }),
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
    fn replicas_that_are_all_on_one_node_are_found() {
        let [service, deployment, _, network] = installed();
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let pod = |node: &str, ready: &str| {
            json!({
                "metadata": {"labels": labels}, "spec": {"nodeName": node, "containers": []},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            })
        };
        let found = |pods: &[Value]| {
            let pods = pods.iter().cloned();
            let found = Installation {
                service: serde_json::from_value(service.clone()).unwrap(),
                deployments: vec![serde_json::from_value(deployment.clone()).unwrap()],
                pods: pods.map(|it| serde_json::from_value(it).unwrap()).collect(),
                networks: vec![serde_json::from_value(network.clone()).unwrap()],
                ..Installation::default()
            };
            let mut report = DoctorReport::new();
            check(&found, ("promotion-gate", "promotion-gate"), &mut report);
            let findings = report.findings().iter();
            findings.map(|finding| finding.id).collect::<Vec<_>>()
        };
        let mut other = pod("two", "True");
        let both = [pod("one", "True"), pod("one", "True"), pod("two", "False")];
        assert_eq!(found(&both), ["gate-on-one-node"]);
        assert_eq!(found(&both[..1]), Vec::<&str>::new());
        let spread = [both[0].clone(), other.clone()];
        assert_eq!(found(&spread), Vec::<&str>::new());
        // Of something else in the namespace.
        other["metadata"]["labels"] = json!({"app": "x"});
        let beside = [both[0].clone(), both[1].clone(), other];
        assert_eq!(found(&beside), ["gate-on-one-node"]);
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
    fn a_second_network_policy_that_lets_everybody_in_opens_the_port() {
        let objects = installed();
        let [service, deployment, _, network] = &objects;
        let mut open = network.clone();
        open["spec"]["ingress"] = json!([{}]);
        let found = |second: &Value| {
            let networks = [network, second].map(|it| serde_json::from_value(it.clone()).unwrap());
            let found = Installation {
                service: serde_json::from_value(service.clone()).unwrap(),
                deployments: vec![serde_json::from_value(deployment.clone()).unwrap()],
                networks: networks.into(),
                ..Installation::default()
            };
            let mut report = DoctorReport::new();
            check(&found, ("promotion-gate", "promotion-gate"), &mut report);
            let findings = report.findings().iter();
            findings.map(|finding| finding.id).collect::<Vec<_>>()
        };
        assert_eq!(found(&open), ["port-open"]);
        open["spec"]["podSelector"] = json!({"matchLabels": {"app": "x"}});
        assert_eq!(found(&open), Vec::<&str>::new());
    }

    #[test]
    fn a_rule_for_the_probes_alone_does_not_open_the_port() {
        let found = found(|[.., network]| {
            network["spec"]["ingress"][1] = json!({"ports": [{"port": "probes"}]});
        });
        assert_eq!(found, Vec::<&str>::new());
    }

    #[test]
    fn a_budget_that_lets_one_replica_go_does_not_block_drains() {
        let found = found(|[_, _, budget, _]| {
            budget["spec"] = json!({"minAvailable": "66%", "selector": budget["spec"]["selector"]});
        });
        assert_eq!(found, Vec::<&str>::new());
    }

    #[test]
    fn namespaces_of_the_infrastructure_are_known_where_the_gate_writes_the_webhook() {
        let of = |arguments: Value| {
            let mut objects = installed();
            objects[1]["spec"]["template"]["spec"]["containers"][0]["args"] = arguments;
            let [service, deployment, ..] = objects;
            let found = Installation {
                service: serde_json::from_value(service).unwrap(),
                deployments: vec![serde_json::from_value(deployment).unwrap()],
                ..Installation::default()
            };
            found.infrastructure().map(Vec::from_iter)
        };
        assert_eq!(of(json!(["serve"])), None);
        let written = ["--manage-webhook=x", "--infrastructure-namespace=cilium"];
        assert_eq!(of(json!(written)), Some(vec!["cilium".to_owned()]));
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
