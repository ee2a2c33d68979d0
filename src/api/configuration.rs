//! `GateConfiguration` as written: the settings that decide. They are in a resource, or at the top level of the configuration
//! file; each of them in one place only.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::CustomResource;
use promotion_gate_core::documents::{Document, Fault, Path, Problem};
use promotion_gate_core::gate::{
    Collected, ControllerPreset, DnsLabel, Governors, Snapshot, TrustedController, Ungoverned,
    World,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Written;
use super::faults::Faults;

/// The name of the one resource.
pub const CONFIGURATION_NAME: &str = "promotion-gate";
/// Groups that everybody is in, or every service account.
const GROUPS_OF_ALL: [&str; 3] = [
    "system:authenticated",
    "system:unauthenticated",
    "system:serviceaccounts",
];

/// What decides besides policies, in the one resource named `promotion-gate`. How the process runs (registries, credentials,
/// paths) is in the configuration file.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "GateConfiguration",
    root = "GateConfigurationResource",
    plural = "gateconfigurations",
    shortname = "pgc",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Ungoverned", type_ = "string", json_path = ".spec.ungoverned"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateConfigurationSpec {
    /// Who may change what the gate decides by. While nobody is named, nobody is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governors: Option<WrittenGovernors>,
    /// Controllers that are trusted besides those of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub trusted_controllers: Option<Vec<WrittenController>>,
    /// The name of the cluster, which approvals can be limited to: at most 63 lower-case letters, digits and `-`. Clusters of one
    /// name share approvals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Written<DnsLabel>>,
    /// The UID of the cluster's namespace `kube-system` (`kubectl get namespace kube-system -o jsonpath={.metadata.uid}`), which
    /// approvals can be limited to where two clusters have one name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub cluster_uid: Option<String>,
    /// What happens to a workload that no policy governs; `Allow` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ungoverned: Option<WrittenUngoverned>,
    /// Namespaces in which the cluster's own infrastructure runs, besides `kube-system` and the gate's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub infrastructure_namespaces: Option<Vec<Written<DnsLabel>>>,
    /// What a governor lets be recorded as it runs, without a review (`promotion-gate record adopt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub adopt: Option<Vec<WrittenAdoption>>,
}

/// What ran before a time in some namespaces, and is recorded as baseline: it goes on running, and serves nothing else.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenAdoption {
    /// Names of namespaces; `*` for every namespace.
    #[schemars(length(min = 1, max = 100))]
    pub namespaces: Vec<String>,
    /// Objects that were created before this time.
    #[schemars(with = "String")]
    pub created_before: Timestamp,
}

/// Users and groups of Kubernetes, as the API server authenticates them; compared exactly.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenGovernors {
    /// User names. A governor fills no seat of an approval.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub users: Vec<String>,
    /// Group names. Whether their members fill seats cannot be looked up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub groups: Vec<String>,
}

/// A trusted controller.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenController {
    /// What it may make, and which of its parents are judged.
    pub preset: WrittenPreset,
    /// The account that it runs as.
    pub service_account: ServiceAccount,
}

/// A known controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WrittenPreset {
    /// Argo Rollouts: ReplicaSets, AnalysisRuns, Experiments and Jobs of Rollouts.
    ArgoRollouts,
    /// KEDA: Jobs of ScaledJobs, and the number of replicas.
    Keda,
}

/// A service account.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: Written<DnsLabel>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What happens to a workload that no policy governs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WrittenUngoverned {
    /// It is allowed, and reported.
    Allow,
    /// It is denied.
    Deny,
}

/// What one place sets; `None` for what it does not.
#[derive(Clone, Debug, Default)]
pub struct GateSettings {
    /// Who may change what the gate decides by.
    pub governors: Option<Governors>,
    /// Controllers that are trusted besides the built-in ones.
    pub trusted_controllers: Option<Vec<TrustedController>>,
    /// The name of the cluster.
    pub cluster: Option<String>,
    /// The UID of the cluster's namespace `kube-system`.
    pub cluster_uid: Option<String>,
    /// The decision for a workload that no policy governs.
    pub ungoverned: Option<Ungoverned>,
    /// Namespaces in which the cluster's own infrastructure runs.
    pub infrastructure_namespaces: Option<BTreeSet<String>>,
    /// The document that sets them, and the field that they are below.
    written: Option<(Document, Path)>,
}

impl GateSettings {
    /// Adds the document that sets them, and the field that they are below.
    #[must_use]
    pub fn written_in(self, document: Document, below: Path) -> GateSettings {
        GateSettings {
            written: Some((document, below)),
            ..self
        }
    }

    /// Sets in a snapshot what is set here.
    pub fn apply(&self, snapshot: &mut Snapshot) {
        self.apply_to(&mut snapshot.world);
        if let Some(ungoverned) = self.ungoverned {
            snapshot.ungoverned = ungoverned;
        }
    }

    /// Sets what rules look at.
    pub fn apply_to(&self, world: &mut World) {
        let GateSettings {
            governors,
            trusted_controllers,
            cluster,
            cluster_uid,
            ungoverned: _,
            infrastructure_namespaces,
            written: _,
        } = self;
        if let Some(governors) = governors {
            world.governors.clone_from(governors);
        }
        if let Some(controllers) = trusted_controllers {
            world.trusted_controllers.clone_from(controllers);
        }
        if let Some(name) = cluster {
            world.cluster = Collected::Known(name.clone());
        }
        if let Some(uid) = cluster_uid {
            world.cluster_uid = Collected::Known(uid.clone());
        }
        if let Some(namespaces) = infrastructure_namespaces {
            world.infrastructure_namespaces.clone_from(namespaces);
        }
    }

    /// Problems of what is set here and in another place as well.
    pub(super) fn clashes(&self, other: &GateSettings) -> Vec<Problem> {
        let both = other.fields();
        let both = self
            .fields()
            .into_iter()
            .filter(|field| both.contains(field));
        let problem = |field: &str| {
            let path = Path::default().key(field);
            let there = other.problem(&path, "");
            let message = format!(
                "`{field}` is set in {}:{}:{} too; set it in one of the two places",
                there.file, there.line, there.column
            );
            self.problem(&path, message)
        };
        both.map(problem).collect()
    }

    /// A problem with a field that is set here.
    pub(super) fn problem(&self, field: &Path, message: impl Into<String>) -> Problem {
        match &self.written {
            Some((document, below)) => document.problem(below.join(field), message),
            None => Problem::with_file("the configuration", message),
        }
    }

    /// The place of a text in a list that is set here.
    pub(super) fn place_of(&self, list: &Path, text: &str) -> Path {
        let (document, below) = match &self.written {
            Some((document, below)) => (document, below),
            None => return list.clone(),
        };
        let written = below.join(list);
        let written = written.find(&document.value).and_then(Value::as_array);
        let index = written.and_then(|written| written.iter().position(|each| *each == *text));
        index.map_or_else(|| list.clone(), |index| list.index(index))
    }

    /// The names of the fields that are set here.
    fn fields(&self) -> Vec<&'static str> {
        let set = [
            ("governors", self.governors.is_some()),
            ("trustedControllers", self.trusted_controllers.is_some()),
            ("cluster", self.cluster.is_some()),
            ("clusterUid", self.cluster_uid.is_some()),
            ("ungoverned", self.ungoverned.is_some()),
            (
                "infrastructureNamespaces",
                self.infrastructure_namespaces.is_some(),
            ),
        ];
        let set = set.into_iter().filter(|(_, is_set)| *is_set);
        set.map(|(field, _)| field).collect()
    }
}

/// The settings that a resource, or the configuration file, describes.
///
/// # Errors
/// What is wrong with them, each with its path below the place where they are.
pub fn settings(spec: &GateConfigurationSpec) -> Result<GateSettings, Vec<Fault>> {
    let mut faults = Faults::default();
    let governors = spec.governors.as_ref().map(|written| Governors {
        users: faults.names("users", &written.users),
        groups: faults.names("groups", &written.groups),
    });
    let controllers = spec.trusted_controllers.as_ref();
    let trusted_controllers = controllers.map(|written| faults.controllers(written));
    let cluster = faults.parsed(spec.cluster.as_ref(), || key("cluster"));
    let cluster_uid = spec.cluster_uid.as_ref();
    let cluster_uid = cluster_uid.and_then(|uid| faults.text(uid, || key("clusterUid")));
    let namespaces = spec.infrastructure_namespaces.as_ref().map(|written| {
        let read = faults.list(written, &key("infrastructureNamespaces"));
        read.into_iter().map(DnsLabel::into_string).collect()
    });
    faults.finish(Some(GateSettings {
        governors,
        trusted_controllers,
        cluster: cluster.map(DnsLabel::into_string),
        cluster_uid,
        ungoverned: spec.ungoverned.map(|written| match written {
            WrittenUngoverned::Allow => Ungoverned::Allow,
            WrittenUngoverned::Deny => Ungoverned::Deny,
        }),
        infrastructure_namespaces: namespaces,
        written: None,
    }))
}

impl Faults {
    fn names(&mut self, list: &str, written: &[String]) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (index, name) in written.iter().enumerate() {
            let here = key("governors").key(list).index(index);
            if name.trim().is_empty() {
                self.add(here, "the text is empty");
            } else if name.contains('*') {
                let why = format!(
                    "`{name:.80}` contains `*`, and names are compared exactly; list each one"
                );
                self.add(here, why);
            } else if list == "groups" && GROUPS_OF_ALL.contains(&name.as_str()) {
                let why = format!(
                    "the group `{name}` holds users whom nobody named; name a group of your governors"
                );
                self.add(here, why);
            } else if !names.insert(name.clone()) {
                self.add(here, format!("`{name:.80}` is listed twice"));
            }
        }
        names
    }

    fn controllers(&mut self, written: &[WrittenController]) -> Vec<TrustedController> {
        let mut controllers: Vec<TrustedController> = Vec::new();
        for (index, entry) in written.iter().enumerate() {
            let here = key("trustedControllers").index(index).key("serviceAccount");
            let account = &entry.service_account;
            let namespace = self.parsed(Some(&account.namespace), || here.key("namespace"));
            let fits =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            if account.name.is_empty() || !account.name.chars().all(fits) {
                let why = format!(
                    "`{:.80}` is not the name of a service account",
                    account.name
                );
                self.add(here.key("name"), why);
                continue;
            }
            let Some(namespace) = namespace else {
                continue;
            };
            let controller = TrustedController {
                preset: match entry.preset {
                    WrittenPreset::ArgoRollouts => ControllerPreset::ArgoRollouts,
                    WrittenPreset::Keda => ControllerPreset::Keda,
                },
                username: format!(
                    "system:serviceaccount:{}:{}",
                    namespace.into_string(),
                    account.name
                ),
            };
            if controllers.contains(&controller) {
                self.add(here, "the controller is listed twice");
            }
            controllers.push(controller);
        }
        controllers
    }
}

fn key(name: &str) -> Path {
    Path::default().key(name)
}
