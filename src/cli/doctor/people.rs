//! Who may pass, change or stop the gate?
//!
//! * `table` — the rights that are looked for, by check

mod table;

use std::collections::{BTreeMap, BTreeSet};

use promotion_gate_core::gate::World;

use super::checks::{self, Check, Severity};
use super::guards::{self, ACCOUNT};
use super::report::DoctorReport;
use super::rights::{Holder, Right, Rights};
use super::served;
use crate::api::{Kind, definitions};
use crate::snapshot::api_resource;
use table::{Over, Resources, Row, TABLE};

/// Who signs the certificates that clients of the API server have; `approve` is also given for every signer of a domain.
const SIGNERS: [&str; 2] = ["kubernetes.io/kube-apiserver-client", "kubernetes.io/*"];
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

impl<'a> Look<'a> {
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
                    for (holder, held) in self.held(right) {
                        may.entry(holder).or_default().push(held);
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

    /// Who holds a right, each with the verbs that it has.
    fn held(&self, right: Right<'_>) -> BTreeMap<&'a Holder, String> {
        let mut verbs_of: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for verb in right.verbs.chunks(1) {
            let of_verb = Right {
                verbs: verb,
                ..right
            };
            let holders = self.place.strangers(self.rights.holders(of_verb));
            for holder in holders.difference(self.administrators) {
                verbs_of.entry(*holder).or_default().extend(verb);
            }
        }
        let each = verbs_of.into_iter().map(|(holder, verbs)| {
            let verbs = &verbs[..];
            (holder, Right { verbs, ..right }.to_string())
        });
        each.collect()
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
mod tests;
