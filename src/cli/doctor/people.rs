//! Who may pass, change or stop the gate?

use std::collections::{BTreeMap, BTreeSet};

use promotion_gate_core::gate::World;

use super::checks::{self, Check, Severity};
use super::guards;
use super::report::DoctorReport;
use super::rights::{Holder, Right, Rights};
use crate::api::Kind;
use crate::snapshot::api_resource;

const CHANGE: &[&str] = &["update", "patch", "delete", "deletecollection"];
const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
const EDIT: &[&str] = &["update", "patch"];
const DELETE: &[&str] = &["delete", "deletecollection"];
const CREATE: &[&str] = &["create"];
const READ: &[&str] = &["get", "list", "watch"];
/// A connection to a Pod or a node is opened by GET or POST.
const CONNECT: &[&str] = &["create", "get"];
const IMPERSONATE: &[&str] = &["impersonate"];
const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const GUARDS: &[&str] = &[
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];
const OF_APPS: &[&str] = &["daemonsets", "deployments", "replicasets", "statefulsets"];
const EPHEMERAL_CONTAINERS: &[&str] = &["pods/ephemeralcontainers"];
/// The namespace of the accounts of Kubernetes' controllers.
const OF_CONTROLLERS: &str = "kube-system";
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
        grants: &[grant(CHANGE, ADMISSION, GUARDS, Over::Guards)],
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
        check: &checks::MAY_RUN_EXEMPT,
        counts: always,
        grants: &[
            grant(
                CREATE,
                "",
                &["pods", "replicationcontrollers"],
                Over::Exempt,
            ),
            grant(CREATE, "apps", OF_APPS, Over::Exempt),
            grant(CREATE, "batch", &["cronjobs", "jobs"], Over::Exempt),
            grant(EDIT, "", EPHEMERAL_CONTAINERS, Over::Exempt),
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
            grant(&["escalate"], RBAC, &["roles"], Over::InGateNamespace),
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
    /// Every object in the namespaces where a missing answer admits.
    Exempt,
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
            Over::Exempt => self
                .place
                .exempt
                .iter()
                .map(|it| Scope::all(Some(it)))
                .collect(),
        }
    }
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
                namespace == OF_CONTROLLERS || is_the_gate || governors.users.contains(&user)
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
        let mut users: Vec<_> = world.governors.users.iter().cloned().collect();
        users.extend(OF_KUBERNETES.map(str::to_owned));
        let mut groups: Vec<_> = world.governors.groups.iter().cloned().collect();
        groups.push("system:masters".to_owned());
        let mut accounts = BTreeMap::from([(OF_CONTROLLERS.to_owned(), Vec::new())]);
        let gate = (place.service.0.to_owned(), place.account.to_owned());
        let controllers = world.trusted_controllers.iter();
        let of_controllers = controllers.filter_map(|controller| {
            let account = controller.username.strip_prefix("system:serviceaccount:")?;
            let (namespace, name) = account.split_once(':')?;
            Some((namespace.to_owned(), name.to_owned()))
        });
        for (namespace, name) in of_controllers.chain([gate]) {
            users.push(format!("system:serviceaccount:{namespace}:{name}"));
            if namespace != OF_CONTROLLERS {
                let names: &mut Vec<String> = accounts.entry(namespace).or_default();
                names.push(name);
            }
        }
        Trusted {
            users,
            groups,
            accounts,
        }
    }
}
