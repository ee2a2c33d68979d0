//! The table of kinds → the `ValidatingWebhookConfiguration` by which an API server asks the gate.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::conditions::match_conditions;
use super::governance::WRITTEN_BY_THE_GATE;
use super::kinds::{EPHEMERAL_CONTAINERS, NAMESPACE_SUBRESOURCES, SCALE, STATUS, TABLE};
use crate::api::definitions;

/// Where the API server reaches the gate.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A Service, by namespace and name.
    Service {
        /// The namespace, which is the gate's own.
        namespace: String,
        /// The name.
        name: String,
    },
    /// A URL with its path.
    Url(String),
}

/// Where denials are only recorded, and an answer that does not come lets in.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// Everywhere (`--audit-only`).
    pub everywhere: bool,
    /// In these namespaces (`--audit-namespace`).
    pub namespaces: BTreeSet<String>,
}

impl Audited {
    /// Whether denials are only recorded in this namespace, or about an object without one.
    #[must_use]
    pub fn includes(&self, namespace: Option<&str>) -> bool {
        self.everywhere || namespace.is_some_and(|it| self.namespaces.contains(it))
    }
}

/// What a webhook configuration says besides what it asks about.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Where the API server reaches the gate.
    pub endpoint: Endpoint,
    /// The authority of the certificate (PEM, in base64); `None` where cert-manager writes it.
    pub ca_bundle: Option<String>,
    /// The namespaces in which an answer that does not come lets in.
    pub infrastructure: BTreeSet<String>,
    /// Where denials are only recorded.
    pub audited: Audited,
}

/// What becomes of a request without an answer, and how many seconds the API server waits for one.
type WithoutAnswer = (&'static str, u8);
const DENY: WithoutAnswer = ("Fail", 10);
/// An audited namespace is not held up for longer.
const ADMIT: WithoutAnswer = ("Ignore", 5);
const ADMIT_SOON: WithoutAnswer = ("Ignore", 3);

const CREATE: &str = "CREATE";
const UPDATE: &str = "UPDATE";
const DELETE: &str = "DELETE";
/// The scope of objects in namespaces.
const NAMESPACED: &str = "Namespaced";
/// The scope of all other objects, namespaces among them.
const CLUSTER: &str = "Cluster";

/// A rule: API group and version, scope, operations; and its resources.
type Rule = (
    (String, String, &'static str, &'static [&'static str]),
    Vec<String>,
);

impl Registration {
    /// The configuration. An answer that does not come denies, with two exceptions, which have entries of their own: in the namespaces of
    /// the infrastructure, so that the cluster and the gate can always start, and where denials are only recorded.
    ///
    /// # Errors
    /// The definitions of our own resources cannot be made.
    pub fn configuration(&self) -> Result<Value, serde_json::Error> {
        let rules = rules()?;
        let in_namespaces: Vec<_> = rules
            .iter()
            .filter(|((_, _, scope, _), resources)| {
                *scope == NAMESPACED || resources.iter().any(|it| it == "namespaces")
            })
            .cloned()
            .collect();
        let metadata = match (&self.endpoint, &self.ca_bundle) {
            (Endpoint::Service { namespace, name }, None) => {
                let certificate = format!("{namespace}/{name}-tls");
                json!({
                    "name": "promotion-gate",
                    "annotations": {"cert-manager.io/inject-ca-from": certificate},
                })
            }
            _ => json!({"name": "promotion-gate"}),
        };
        let infrastructure = &self.infrastructure;
        let audited = self.audited.namespaces.difference(infrastructure);
        let audited: BTreeSet<_> = audited.cloned().collect();
        let all_others: BTreeSet<_> = infrastructure.union(&audited).cloned().collect();
        let without_answer = if self.audited.everywhere { ADMIT } else { DENY };
        let mut entries = vec![
            self.entry("validate", without_answer, ("NotIn", &all_others), &rules),
            self.entry(
                "infrastructure",
                ADMIT_SOON,
                ("In", infrastructure),
                &in_namespaces,
            ),
        ];
        if !audited.is_empty() {
            entries.push(self.entry("audited", ADMIT, ("In", &audited), &in_namespaces));
        }
        Ok(json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": metadata,
            "webhooks": entries,
        }))
    }

    fn entry(
        &self,
        name: &str,
        (failure_policy, seconds): WithoutAnswer,
        (operator, namespaces): (&str, &BTreeSet<String>),
        rules: &[Rule],
    ) -> Value {
        let mut client = match &self.endpoint {
            Endpoint::Service { namespace, name } => json!({"service": {
                "namespace": namespace, "name": name, "path": "/validate", "port": 443,
            }}),
            Endpoint::Url(url) => json!({"url": url}),
        };
        if let (Some(bundle), Value::Object(fields)) = (&self.ca_bundle, &mut client) {
            fields.insert("caBundle".to_owned(), json!(bundle));
        }
        // The API server sets this label, and nobody can change it.
        let by_name = json!({
            "key": "kubernetes.io/metadata.name", "operator": operator, "values": namespaces,
        });
        let rules = rules
            .iter()
            .map(|((group, version, scope, operations), resources)| {
                json!({
                    "apiGroups": [group], "apiVersions": [version], "resources": resources,
                    "operations": operations, "scope": scope,
                })
            });
        json!({
            "name": format!("{name}.promotion-gate.dev"),
            "clientConfig": client,
            "rules": rules.collect::<Vec<_>>(),
            "matchConditions": match_conditions(),
            "matchPolicy": "Equivalent",
            "namespaceSelector": {"matchExpressions": [by_name]},
            "failurePolicy": failure_policy,
            "timeoutSeconds": seconds,
            "sideEffects": "NoneOnDryRun",
            "admissionReviewVersions": ["v1"],
        })
    }
}

/// What is asked about: every kind of the table with its subresources, our own resources, and the labels of namespaces.
fn rules() -> Result<Vec<Rule>, serde_json::Error> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut add = |group: &str, version: &str, scope, operations, resource: String| {
        let key = (group.to_owned(), version.to_owned(), scope, operations);
        match rules.iter_mut().find(|(other, _)| *other == key) {
            Some((_, resources)) => resources.push(resource),
            None => rules.push((key, vec![resource])),
        }
    };
    for kind in TABLE {
        let scope = if kind.is_namespaced {
            NAMESPACED
        } else {
            CLUSTER
        };
        let (group, version, plural) = (kind.group(), kind.version, kind.plural);
        add(group, version, scope, &[CREATE, UPDATE], plural.to_owned());
        for (subresource, has) in [
            (EPHEMERAL_CONTAINERS, kind.is_pod()),
            (SCALE, kind.scales()),
            (STATUS, !kind.steering.is_empty()),
        ] {
            if has {
                add(
                    group,
                    version,
                    scope,
                    &[UPDATE],
                    format!("{plural}/{subresource}"),
                );
            }
        }
    }
    let subresources = NAMESPACE_SUBRESOURCES.iter();
    let subresources = subresources.map(|subresource| format!("namespaces/{subresource}"));
    for resource in ["namespaces".to_owned()].into_iter().chain(subresources) {
        add("", "v1", CLUSTER, &[UPDATE], resource);
    }
    for definition in definitions()? {
        let text = |pointer: &str| {
            let text = definition.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        if !WRITTEN_BY_THE_GATE.contains(&text("/spec/names/kind").as_str()) {
            let (group, version) = (text("/spec/group"), text("/spec/versions/0/name"));
            let operations = &[CREATE, UPDATE, DELETE];
            add(
                &group,
                &version,
                CLUSTER,
                operations,
                text("/spec/names/plural"),
            );
        }
    }
    Ok(rules)
}
