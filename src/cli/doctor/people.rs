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
const CREATE: &[&str] = &["create"];
const READ: &[&str] = &["get", "list", "watch"];
const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
/// The namespace of the accounts of Kubernetes' controllers.
const OF_CONTROLLERS: &str = "kube-system";
/// Users as whom parts of Kubernetes itself act, and the group that no authorizer refuses.
const OF_KUBERNETES: [&str; 4] = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:masters",
];
/// Resources whose Pods run in the namespace where they are created, by API group.
const WORKLOADS: [(&str, &[&str]); 3] = [
    ("", &["pods", "replicationcontrollers"]),
    (
        "apps",
        &["daemonsets", "deployments", "replicasets", "statefulsets"],
    ),
    ("batch", &["cronjobs", "jobs"]),
];

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
    let (namespace, _) = place.service;
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
        administrators: &administrators,
        report,
    };
    let named = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };

    let guards = named(&guards::NAMES);
    let kinds = [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ];
    let of_guards = kinds.map(|kind| right(CHANGE, ADMISSION, kind, None, &guards));
    look.at(&checks::MAY_CHANGE_GUARDS, &of_guards);

    let configuration = named(&[place.configuration]);
    if !place.guards.0 || place.world.governors.is_empty() {
        let webhooks = "validatingwebhookconfigurations";
        let of_webhook = [right(CHANGE, ADMISSION, webhooks, None, &configuration)];
        look.at(&checks::MAY_CHANGE_WEBHOOK, &of_webhook);
    }
    if place.world.governors.is_empty() {
        let kinds: Vec<_> = Kind::ALL.into_iter().filter_map(api_resource).collect();
        let kinds = kinds.iter();
        let of_kinds = kinds.map(|kind| right(WRITE, &kind.group, &kind.plural, None, &[]));
        look.at(&checks::MAY_CHANGE_RESOURCES, &of_kinds.collect::<Vec<_>>());
        if place.selects_by_label {
            let of_labels = [right(&["update", "patch"], "", "namespaces", None, &[])];
            look.at(&checks::MAY_RELABEL, &of_labels);
        }
    }

    let (own, gate) = (named(&[namespace]), named(&[place.service.1]));
    let here = |verbs, group, resource| right(verbs, group, resource, Some(namespace), &[]);
    let of_gate = [
        right(CHANGE, "apps", "deployments", Some(namespace), &gate),
        right(
            &["update", "patch"],
            "apps",
            "deployments/scale",
            Some(namespace),
            &gate,
        ),
        right(CHANGE, "", "services", Some(namespace), &gate),
        here(&["update", "patch"], "", "configmaps"),
        here(&["create", "get"], "", "pods/exec"),
        here(&["create", "get"], "", "pods/attach"),
        here(&["update", "patch"], "", "pods/ephemeralcontainers"),
        here(READ, "", "secrets"),
        here(
            &["update", "patch", "delete", "deletecollection"],
            "",
            "secrets",
        ),
        right(
            &["delete", "deletecollection"],
            "",
            "namespaces",
            None,
            &own,
        ),
        right(&["create", "get"], "", "nodes/proxy", None, &[]),
    ];
    look.at(&checks::MAY_CHANGE_GATE, &of_gate);

    let trusted = Trusted::of(place);
    let of_identities = [
        right(&["impersonate"], "", "users", None, &trusted.users),
        right(&["impersonate"], "", "groups", None, &trusted.groups),
    ];
    let accounts = trusted.accounts.iter();
    let of_accounts = accounts.clone().map(|(namespace, names)| {
        right(
            &["impersonate"],
            "",
            "serviceaccounts",
            Some(namespace),
            names,
        )
    });
    let impersonation: Vec<_> = of_identities.into_iter().chain(of_accounts).collect();
    look.at(&checks::MAY_IMPERSONATE, &impersonation);

    let tokens = accounts.clone().flat_map(|(namespace, names)| {
        [
            right(CREATE, "", "serviceaccounts/token", Some(namespace), names),
            // A Secret of the type `kubernetes.io/service-account-token` is filled with the token of the account that it names.
            right(CREATE, "", "secrets", Some(namespace), &[]),
            right(READ, "", "secrets", Some(namespace), &[]),
        ]
    });
    // Those of the gate are above.
    let elsewhere = tokens.filter(|token| {
        token.namespace != Some(namespace) || token.resource == "serviceaccounts/token"
    });
    look.at(&checks::MAY_MINT_TOKENS, &elsewhere.collect::<Vec<_>>());

    let exempt = place.exempt.iter().flat_map(|&namespace| {
        let kinds = WORKLOADS.iter();
        let created = kinds.flat_map(move |(group, kinds)| {
            let kinds = kinds.iter();
            kinds.map(move |kind| right(CREATE, group, kind, Some(namespace), &[]))
        });
        let added = right(
            &["update", "patch"],
            "",
            "pods/ephemeralcontainers",
            Some(namespace),
            &[],
        );
        created.chain([added])
    });
    look.at(&checks::MAY_RUN_EXEMPT, &exempt.collect::<Vec<_>>());

    let of_roles = [
        right(&["escalate", "bind"], RBAC, "clusterroles", None, &[]),
        right(&["escalate"], RBAC, "roles", Some(namespace), &[]),
    ];
    look.at(&checks::MAY_GRANT, &of_roles);

    let worst = worst(&checks::ADMINISTRATORS, administrators.iter().copied());
    if !administrators.is_empty() {
        let about = administrators.iter().map(ToString::to_string);
        report.find_as(worst, &checks::ADMINISTRATORS, about);
    }
}

fn right<'a>(
    verbs: &'a [&'a str],
    group: &'a str,
    resource: &'a str,
    namespace: Option<&'a str>,
    names: &'a [String],
) -> Right<'a> {
    Right {
        verbs,
        group,
        resource,
        namespace,
        names,
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
    administrators: &'a BTreeSet<&'a Holder>,
    report: &'a mut DoctorReport,
}

impl Look<'_> {
    /// Reports who holds any of these rights, each holder once with what it may do.
    fn at(&mut self, check: &Check, rights: &[Right<'_>]) {
        let mut may: BTreeMap<&Holder, Vec<String>> = BTreeMap::new();
        for right in rights {
            let holders = self.place.strangers(self.rights.holders(*right));
            for holder in holders.difference(self.administrators) {
                may.entry(*holder).or_default().push(right.to_string());
            }
        }
        if may.is_empty() {
            return;
        }
        let severity = worst(check, may.keys().copied());
        let about = may.iter().map(|(holder, rights)| {
            let shown: Vec<_> = rights.iter().take(4).map(String::as_str).collect();
            let more = match rights.len().saturating_sub(shown.len()) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("{holder}: {}{more}", shown.join(", "))
        });
        self.report.find_as(severity, check, about);
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
