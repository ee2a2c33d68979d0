//! Who may pass, change or stop the gate?

use std::collections::{BTreeMap, BTreeSet};

use promotion_gate_core::gate::World;

use super::checks::{self, Check, Severity};
use super::guards::{self, ACCOUNT};
use super::report::DoctorReport;
use super::rights::{Holder, Right, Rights};
use super::served;
use crate::api::{Kind, definitions};
use crate::snapshot::api_resource;

const CHANGE: &[&str] = &["update", "patch", "delete", "deletecollection"];
const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
const PUT: &[&str] = &["create", "update", "patch"];
const EDIT: &[&str] = &["update", "patch"];
const DELETE: &[&str] = &["delete", "deletecollection"];
const CREATE: &[&str] = &["create"];
const READ: &[&str] = &["get", "list", "watch"];
/// A connection to a Pod or a node is opened by GET or POST.
const CONNECT: &[&str] = &["create", "get"];
const IMPERSONATE: &[&str] = &["impersonate"];
const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const REGISTRATION: &str = "apiregistration.k8s.io";
const GUARDS: &[&str] = &[
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];
/// What changes the objects of others before they are judged and stored.
const MUTATING: &[&str] = &[
    "mutatingwebhookconfigurations",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];
/// Who signs the certificates that clients of the API server have; `approve` is also given for every signer of a domain.
const SIGNERS: [&str; 2] = ["kubernetes.io/kube-apiserver-client", "kubernetes.io/*"];
const PODS: &[&str] = &["pods", "replicationcontrollers"];
const OF_APPS: &[&str] = &["daemonsets", "deployments", "replicasets", "statefulsets"];
const OF_BATCH: &[&str] = &["cronjobs", "jobs"];
const EPHEMERAL_CONTAINERS: &[&str] = &["pods/ephemeralcontainers"];
/// The namespace of the accounts of Kubernetes' controllers.
const OF_CONTROLLERS: &str = "kube-system";
/// The group of the service accounts of a namespace, before its name.
const ACCOUNTS_OF: &str = "system:serviceaccounts:";
/// Users as whom parts of Kubernetes itself act, and the group that no authorizer refuses.
const OF_KUBERNETES: [&str; 4] = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:masters",
];

/// Rights that nobody needs except those who are known to decide, by the check that looks for their holders.
const TABLE: &[Row] = &[
    Row {
        check: &checks::MAY_CHANGE_GUARDS,
        counts: always,
        grants: &[
            grant(CHANGE, ADMISSION, GUARDS, Over::Guards),
            grant(CHANGE, REGISTRATION, &["apiservices"], Over::BuiltInApis),
        ],
    },
    Row {
        check: &checks::MAY_CHANGE_DEFINITIONS,
        counts: |place| !place.guards.0 || ungoverned(place),
        grants: &[
            grant(
                CHANGE,
                "apiextensions.k8s.io",
                &["customresourcedefinitions"],
                Over::Definitions,
            ),
            grant(CHANGE, REGISTRATION, &["apiservices"], Over::OwnApi),
        ],
    },
    Row {
        check: &checks::MAY_MUTATE,
        counts: always,
        grants: &[grant(WRITE, ADMISSION, MUTATING, Over::Cluster)],
    },
    Row {
        check: &checks::MAY_CHANGE_WEBHOOK,
        counts: |place| !place.guards.0 || ungoverned(place),
        grants: &[grant(
            CHANGE,
            ADMISSION,
            &["validatingwebhookconfigurations"],
            Over::WebhookConfiguration,
        )],
    },
    Row {
        check: &checks::MAY_CHANGE_RESOURCES,
        counts: ungoverned,
        grants: &[Grant {
            verbs: WRITE,
            resources: Resources::OfTheGate,
            over: Over::Cluster,
        }],
    },
    Row {
        check: &checks::MAY_RELABEL,
        counts: |place| ungoverned(place) && place.selects_by_label,
        grants: &[grant(EDIT, "", &["namespaces"], Over::Cluster)],
    },
    Row {
        check: &checks::MAY_CHANGE_GATE,
        counts: always,
        grants: &[
            grant(CHANGE, "apps", &["deployments"], Over::Gate),
            grant(EDIT, "apps", &["deployments/scale"], Over::Gate),
            grant(CHANGE, "", &["services"], Over::Gate),
            grant(EDIT, "", &["configmaps"], Over::InGateNamespace),
            grant(CONNECT, "", &["pods/exec"], Over::InGateNamespace),
            grant(CONNECT, "", &["pods/attach"], Over::InGateNamespace),
            grant(EDIT, "", EPHEMERAL_CONTAINERS, Over::InGateNamespace),
            grant(READ, "", &["secrets"], Over::InGateNamespace),
            grant(CHANGE, "", &["secrets"], Over::InGateNamespace),
            grant(
                DELETE,
                "",
                &["pods", "serviceaccounts"],
                Over::InGateNamespace,
            ),
            grant(WRITE, "", &["resourcequotas"], Over::InGateNamespace),
            grant(
                WRITE,
                "coordination.k8s.io",
                &["leases"],
                Over::InGateNamespace,
            ),
            grant(
                WRITE,
                "discovery.k8s.io",
                &["endpointslices"],
                Over::InGateNamespace,
            ),
            grant(
                WRITE,
                "networking.k8s.io",
                &["networkpolicies"],
                Over::InGateNamespace,
            ),
            grant(
                CHANGE,
                RBAC,
                &["roles", "rolebindings"],
                Over::InGateNamespace,
            ),
            grant(DELETE, "", &["namespaces"], Over::GateNamespace),
            grant(CONNECT, "", &["nodes/proxy"], Over::Cluster),
        ],
    },
    Row {
        check: &checks::MAY_IMPERSONATE,
        counts: always,
        grants: &[
            grant(IMPERSONATE, "", &["users"], Over::TrustedUsers),
            grant(IMPERSONATE, "", &["groups"], Over::TrustedGroups),
            grant(IMPERSONATE, "", &["serviceaccounts"], Over::TrustedAccounts),
        ],
    },
    Row {
        check: &checks::MAY_MINT_TOKENS,
        counts: always,
        grants: &[
            grant(
                CREATE,
                "",
                &["serviceaccounts/token"],
                Over::TrustedAccounts,
            ),
            // A Secret of the type `kubernetes.io/service-account-token` is filled with the token of the account that it names.
            grant(CREATE, "", &["secrets"], Over::NamespacesOfAccounts),
            grant(READ, "", &["secrets"], Over::NamespacesOfAccounts),
        ],
    },
    Row {
        check: &checks::MAY_GET_CERTIFICATES,
        counts: always,
        grants: &[grant(
            &["approve"],
            CERTIFICATES,
            &["signers"],
            Over::Signers,
        )],
    },
    Row {
        check: &checks::MAY_RUN_EXEMPT,
        counts: always,
        grants: &[
            grant(PUT, "", PODS, Over::ExemptOrTrusted),
            grant(PUT, "apps", OF_APPS, Over::ExemptOrTrusted),
            grant(PUT, "batch", OF_BATCH, Over::ExemptOrTrusted),
            grant(EDIT, "", EPHEMERAL_CONTAINERS, Over::ExemptOrTrusted),
            grant(
                CONNECT,
                "",
                &["pods/exec", "pods/attach"],
                Over::ExemptOrTrusted,
            ),
        ],
    },
    Row {
        check: &checks::MAY_GRANT,
        counts: always,
        grants: &[
            grant(
                &["escalate", "bind"],
                RBAC,
                &["clusterroles"],
                Over::Cluster,
            ),
            grant(&["bind"], RBAC, &["clusterroles"], Over::ExemptOrTrusted),
            grant(
                &["escalate", "bind"],
                RBAC,
                &["roles"],
                Over::ExemptOrTrusted,
            ),
        ],
    },
];

/// A line of the table.
struct Row {
    check: &'static Check,
    /// Whether these rights weaken this gate.
    counts: fn(&Place<'_>) -> bool,
    grants: &'static [Grant],
}

/// Any of some verbs on any of some resources.
struct Grant {
    verbs: &'static [&'static str],
    resources: Resources,
    over: Over,
}

enum Resources {
    /// The API group and the names in the plural.
    Named(&'static str, &'static [&'static str]),
    /// The custom resources of the gate.
    OfTheGate,
}

/// The objects that a grant is about.
#[derive(Clone, Copy)]
enum Over {
    /// Every object of the cluster, or every one without a namespace.
    Cluster,
    Guards,
    WebhookConfiguration,
    /// The definitions of the gate's resources.
    Definitions,
    /// Where the gate's resources are served.
    OwnApi,
    /// Where the resources of Kubernetes itself are served.
    BuiltInApis,
    Signers,
    /// The objects in the namespace of the gate that have the name of its Service.
    Gate,
    /// Every object in the namespace of the gate.
    InGateNamespace,
    /// That namespace itself.
    GateNamespace,
    TrustedUsers,
    TrustedGroups,
    TrustedAccounts,
    /// Every object in the namespaces of trusted accounts, except that of the gate, which has a check of its own.
    NamespacesOfAccounts,
    /// Every object in the namespaces where a missing answer admits, and in those of trusted accounts, which Pods there can use.
    ExemptOrTrusted,
}

const fn grant(
    verbs: &'static [&'static str],
    group: &'static str,
    resources: &'static [&'static str],
    over: Over,
) -> Grant {
    Grant {
        verbs,
        resources: Resources::Named(group, resources),
        over,
    }
}

fn always(_: &Place<'_>) -> bool {
    true
}

fn ungoverned(place: &Place<'_>) -> bool {
    place.world.governors.is_empty()
}

/// What the rights are compared with.
pub(super) struct Place<'a> {
    /// Namespace and name of the Service of the gate.
    pub(super) service: (&'a str, &'a str),
    /// The name of the gate's service account.
    pub(super) account: &'a str,
    /// The name of the webhook configuration.
    pub(super) configuration: &'a str,
    /// The namespaces where a missing answer admits, and the gate's own.
    pub(super) exempt: BTreeSet<&'a str>,
    pub(super) world: &'a World,
    /// Whether a policy selects namespaces by labels.
    pub(super) selects_by_label: bool,
    pub(super) guards: guards::InForce,
    /// The user names of the service accounts that the guards let in.
    pub(super) let_in: BTreeSet<String>,
}

/// Names who holds a right that weakens the gate, and is not known to decide.
pub(super) fn check(rights: &Rights, place: &Place<'_>, report: &mut DoctorReport) {
    let everything = Right {
        verbs: &["*"],
        group: "*",
        resource: "*",
        namespace: None,
        names: &[],
    };
    let administrators = place.strangers(rights.holders(everything));
    let mut look = Look {
        rights,
        place,
        trusted: Trusted::of(place),
        administrators: &administrators,
        report,
    };
    for row in TABLE.iter().filter(|row| (row.counts)(place)) {
        look.at(row);
    }
    if !administrators.is_empty() {
        let worst = worst(&checks::ADMINISTRATORS, administrators.iter().copied());
        let about = administrators.iter().map(ToString::to_string);
        report.find_as(worst, &checks::ADMINISTRATORS, about);
    }
}

/// A right that everybody has lets everybody pass.
fn worst<'h>(check: &Check, mut holders: impl Iterator<Item = &'h Holder>) -> Severity {
    match holders.any(Holder::is_everybody) {
        true => Severity::Critical,
        false => check.severity,
    }
}

struct Look<'a> {
    rights: &'a Rights,
    place: &'a Place<'a>,
    trusted: Trusted,
    administrators: &'a BTreeSet<&'a Holder>,
    report: &'a mut DoctorReport,
}

impl Look<'_> {
    /// Reports who holds any of the rights, each holder once with what it may do.
    fn at(&mut self, row: &Row) {
        let mut may: BTreeMap<&Holder, Vec<String>> = BTreeMap::new();
        for grant in row.grants {
            let resources = grant.resources.named();
            for Scope { namespace, names } in self.scopes(grant.over) {
                for (group, resource) in &resources {
                    let right = Right {
                        verbs: grant.verbs,
                        group,
                        resource,
                        namespace: namespace.as_deref(),
                        names: &names,
                    };
                    let holders = self.place.strangers(self.rights.holders(right));
                    for holder in holders.difference(self.administrators) {
                        may.entry(*holder).or_default().push(right.to_string());
                    }
                }
            }
        }
        if may.is_empty() {
            return;
        }
        let severity = worst(row.check, may.keys().copied());
        let about = may.iter().map(|(holder, rights)| {
            let shown: Vec<_> = rights.iter().take(4).map(String::as_str).collect();
            let more = match rights.len().saturating_sub(shown.len()) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("{holder}: {}{more}", shown.join(", "))
        });
        self.report.find_as(severity, row.check, about);
    }

    fn scopes(&self, over: Over) -> Vec<Scope> {
        let (namespace, gate) = self.place.service;
        let accounts = self.trusted.accounts.iter();
        match over {
            Over::Cluster => vec![Scope::all(None)],
            Over::Guards => vec![Scope::new(None, &guards::NAMES)],
            Over::WebhookConfiguration => vec![Scope::new(None, &[self.place.configuration])],
            Over::Definitions => vec![Scope::new(None, &names_of_definitions())],
            Over::OwnApi => vec![Scope::new(None, &[served::OWN])],
            Over::BuiltInApis => vec![Scope::new(None, &served::BUILT_IN)],
            Over::Signers => vec![Scope::new(None, &SIGNERS)],
            Over::Gate => vec![Scope::new(Some(namespace), &[gate])],
            Over::InGateNamespace => vec![Scope::all(Some(namespace))],
            Over::GateNamespace => vec![Scope::new(None, &[namespace])],
            Over::TrustedUsers => vec![Scope::new(None, &self.trusted.users)],
            Over::TrustedGroups => vec![Scope::new(None, &self.trusted.groups)],
            Over::TrustedAccounts => accounts
                .map(|(namespace, names)| Scope::new(Some(namespace), names))
                .collect(),
            Over::NamespacesOfAccounts => accounts
                .filter(|(of_account, _)| *of_account != namespace)
                .map(|(of_account, _)| Scope::all(Some(of_account)))
                .collect(),
            Over::ExemptOrTrusted => {
                let trusted = accounts.map(|(namespace, _)| namespace.as_str());
                let all: BTreeSet<_> = trusted.chain(self.place.exempt.iter().copied()).collect();
                all.into_iter().map(|it| Scope::all(Some(it))).collect()
            }
        }
    }
}

fn names_of_definitions() -> Vec<String> {
    let definitions = definitions().unwrap_or_default();
    let names = definitions.iter().filter_map(|definition| {
        let name = definition.pointer("/metadata/name")?.as_str()?;
        Some(name.to_owned())
    });
    names.collect()
}

impl Resources {
    /// The API group and the name of each.
    fn named(&self) -> Vec<(String, String)> {
        match self {
            Resources::Named(group, names) => {
                let names = names.iter();
                names
                    .map(|&name| ((*group).to_owned(), name.to_owned()))
                    .collect()
            }
            Resources::OfTheGate => {
                let resources = Kind::ALL.into_iter().filter_map(api_resource);
                resources.map(|it| (it.group, it.plural)).collect()
            }
        }
    }
}

/// Where objects are, and their names; without names, all of them.
struct Scope {
    namespace: Option<String>,
    names: Vec<String>,
}

impl Scope {
    fn all(namespace: Option<&str>) -> Scope {
        Scope::new::<&str>(namespace, &[])
    }

    fn new<S: AsRef<str>>(namespace: Option<&str>, names: &[S]) -> Scope {
        Scope {
            namespace: namespace.map(str::to_owned),
            names: names.iter().map(|name| name.as_ref().to_owned()).collect(),
        }
    }
}

impl Place<'_> {
    /// The holders who are neither governors, nor the gate, nor parts of Kubernetes.
    fn strangers<'h>(&self, holders: BTreeSet<&'h Holder>) -> BTreeSet<&'h Holder> {
        let governors = &self.world.governors;
        let is_known = |holder: &Holder| match holder {
            Holder::User(name) => {
                governors.users.contains(name) || OF_KUBERNETES.contains(&name.as_str())
            }
            Holder::Group(name) => {
                governors.groups.contains(name) || OF_KUBERNETES.contains(&name.as_str())
            }
            Holder::ServiceAccount { namespace, name } => {
                let user = format!("system:serviceaccount:{namespace}:{name}");
                let is_the_gate = namespace == self.service.0 && name == self.account;
                namespace == OF_CONTROLLERS
                    || is_the_gate
                    || governors.users.contains(&user)
                    || governors
                        .groups
                        .contains(&format!("{ACCOUNTS_OF}{namespace}"))
            }
        };
        let mut holders = holders;
        holders.retain(|holder| !is_known(holder));
        holders
    }
}

/// The identities that the gate trusts.
struct Trusted {
    users: Vec<String>,
    groups: Vec<String>,
    /// Names of service accounts, by namespace; without names, every account of the namespace.
    accounts: BTreeMap<String, Vec<String>>,
}

impl Trusted {
    fn of(place: &Place<'_>) -> Trusted {
        let world = place.world;
        let governors = &world.governors;
        let gate = format!("{ACCOUNT}{}:{}", place.service.0, place.account);
        let mut users: BTreeSet<_> = governors.users.clone();
        users.extend(OF_KUBERNETES.map(str::to_owned));
        let controllers = world.trusted_controllers.iter();
        users.extend(controllers.map(|controller| controller.username.clone()));
        users.extend(place.let_in.iter().cloned());
        users.insert(gate);
        let mut groups: Vec<_> = governors.groups.iter().cloned().collect();
        groups.push("system:masters".to_owned());

        let mut accounts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for user in &users {
            let account = user.strip_prefix(ACCOUNT);
            if let Some((namespace, name)) = account.and_then(|it| it.split_once(':')) {
                let names = accounts.entry(namespace.to_owned()).or_default();
                names.push(name.to_owned());
            }
        }
        let of_groups = governors
            .groups
            .iter()
            .filter_map(|it| it.strip_prefix(ACCOUNTS_OF));
        for namespace in of_groups.chain([OF_CONTROLLERS]) {
            accounts.insert(namespace.to_owned(), Vec::new());
        }
        Trusted {
            users: users.into_iter().collect(),
            groups,
            accounts,
        }
    }
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::gate::{ControllerPreset, Governors, TrustedController};
    use serde_json::{Value, json};

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
        report.findings().iter().map(|finding| finding.id).collect()
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
            // Certificates, what changes requests, and what is served.
            (
                everywhere,
                "approve",
                "certificates.k8s.io",
                "signers",
                "may-approve-certificates",
            ),
            (
                everywhere,
                "create",
                ADMISSION,
                "mutatingwebhookconfigurations",
                "may-mutate-requests",
            ),
            (
                everywhere,
                "patch",
                ADMISSION,
                "mutatingadmissionpolicies",
                "may-mutate-requests",
            ),
            (
                everywhere,
                "create",
                ADMISSION,
                "mutatingadmissionpolicybindings",
                "may-mutate-requests",
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
}
