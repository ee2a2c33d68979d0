//! The table of rights that weaken the gate, by the check that looks for their holders.

use super::super::checks::{self, Check};
use super::Place;

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
pub(super) const ADMISSION: &str = "admissionregistration.k8s.io";
pub(super) const RBAC: &str = "rbac.authorization.k8s.io";
const KYVERNO: &str = "kyverno.io";
const KYVERNO_POLICIES: &str = "policies.kyverno.io";
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
/// The same by Gatekeeper, in the name of its own webhook.
const MUTATORS: &[&str] = &["assign", "assignimage", "assignmetadata", "modifyset"];
const PODS: &[&str] = &["pods", "replicationcontrollers"];
const OF_APPS: &[&str] = &["daemonsets", "deployments", "replicasets", "statefulsets"];
const OF_BATCH: &[&str] = &["cronjobs", "jobs"];
const EPHEMERAL_CONTAINERS: &[&str] = &["pods/ephemeralcontainers"];

/// Rights that nobody needs except those who are known to decide, by the check that looks for their holders.
pub(super) const TABLE: &[Row] = &[
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
        grants: &[
            grant(WRITE, ADMISSION, MUTATING, Over::Cluster),
            grant(PUT, KYVERNO, &["clusterpolicies"], Over::Cluster),
            grant(PUT, KYVERNO, &["policies"], Over::InGateNamespace),
            grant(PUT, KYVERNO_POLICIES, &["mutatingpolicies"], Over::Cluster),
            grant(
                PUT,
                KYVERNO_POLICIES,
                &["namespacedmutatingpolicies"],
                Over::InGateNamespace,
            ),
            grant(PUT, "mutations.gatekeeper.sh", MUTATORS, Over::Cluster),
        ],
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
pub(super) struct Row {
    pub(super) check: &'static Check,
    /// Whether these rights weaken this gate.
    pub(super) counts: fn(&Place<'_>) -> bool,
    pub(super) grants: &'static [Grant],
}

/// Any of some verbs on any of some resources.
pub(super) struct Grant {
    pub(super) verbs: &'static [&'static str],
    pub(super) resources: Resources,
    pub(super) over: Over,
}

pub(super) enum Resources {
    /// The API group and the names in the plural.
    Named(&'static str, &'static [&'static str]),
    /// The custom resources of the gate.
    OfTheGate,
}

/// The objects that a grant is about.
#[derive(Clone, Copy)]
pub(super) enum Over {
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
