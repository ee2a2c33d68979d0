//! The kinds that are judged, as one table: the places of their pod templates, the other fields that decide what runs, and the
//! changes that start a staged workload. A kind that is not in the table carries no images.

use promotion_gate_core::gate::Role;
use serde_json::Value;

/// A row of the table.
pub(super) struct WorkloadKind {
    /// The API groups that have it or had it, the present one first.
    groups: &'static [&'static str],
    /// The API version that is asked for.
    pub(super) version: &'static str,
    pub(super) name: &'static str,
    /// The name of the resource in paths and in the rules of webhook configurations.
    pub(super) plural: &'static str,
    /// Paths of pod specifications; `*` stands for every item of a list.
    pub(super) pod_specs: &'static [&'static [&'static str]],
    /// Fields outside of pod templates that decide what runs, as JSON pointers.
    pub(super) runtime_fields: &'static [&'static str],
    /// Those of them that are a part of the template, as JSON pointers.
    pub(super) template_fields: &'static [&'static str],
    /// Changes that start a staged workload.
    pub(super) activations: &'static [Activation],
    /// Where an object names another one whose template it runs, as a JSON pointer.
    pub(super) workload_ref: Option<&'static str>,
    /// Changes of `status` by which people let run what was staged.
    pub(super) steering: &'static [Activation],
    /// The built-in controllers for whose objects of this kind nothing is judged, since they are copies of judged ones.
    pub(super) copied_by: &'static [&'static str],
    pub(super) is_namespaced: bool,
}

/// A change, mostly of one field (a JSON pointer), that starts a staged workload. Of every kind, so does a scheduling gate that is
/// removed.
pub(super) enum Activation {
    /// A number (1 when absent) rises from 0; `/*` stands for every item of a list.
    FromZero(&'static str),
    /// A flag was set and is not set any more.
    Cleared(&'static str),
    /// A number (0 when absent) falls.
    Lowered(&'static str),
    /// A value changes.
    Changed(&'static str),
    /// A text was one of these and is not any more.
    Left(&'static str, &'static [&'static str]),
    /// A text was none of these, and is one of these or absent.
    Freed(&'static str, &'static [&'static str]),
    /// A number (1 when absent) exceeds another one (0 when absent), which it did not before.
    Exceeds(&'static str, &'static str),
}

use Activation::{Changed, Cleared, Exceeds, Freed, FromZero, Left, Lowered};

/// API groups and a version.
type Api = (&'static [&'static str], &'static str);
const APPS: Api = (&["apps", "extensions"], "v1");
const BATCH: Api = (&["batch"], "v1");
const CORE: Api = (&[""], "v1");
const ARGO: Api = (&["argoproj.io"], "v1alpha1");
const KEDA: Api = (&["keda.sh"], "v1alpha1");
const TEMPLATE: &[&[&str]] = &[&["spec", "template", "spec"]];
const METRICS: &[&[&str]] = &[&[
    "spec", "metrics", "*", "provider", "job", "spec", "template", "spec",
]];
/// Arguments are inserted into the commands of jobs, and a measurement can be something else than a job.
const ANALYSIS: &[&str] = &["/spec/metrics", "/spec/args"];
const REPLICAS_FIELD: &str = "/spec/replicas";
const REPLICAS: Activation = FromZero(REPLICAS_FIELD);
/// The number of Pods that a StatefulSet keeps on its earlier template: those with the lowest ordinals. All others run the present one.
const PARTITION: &str = "/spec/updateStrategy/rollingUpdate/partition";
/// The update strategy under which a StatefulSet or DaemonSet controller replaces a Pod only after it was deleted.
const ON_DELETE: Activation = Left("/spec/updateStrategy/type", &["OnDelete"]);
/// What Go reads as a flag that is not set (`strconv.ParseBool`). KEDA pauses for every other text.
const GO_FALSE: &[&str] = &["0", "f", "F", "FALSE", "false", "False"];
/// The controller that makes the Pods of a Job without `managedBy`.
const JOB_CONTROLLER: &[&str] = &["kubernetes.io/job-controller"];
/// `promote`, `promote --full`, `resume` and `retry` of the Argo Rollouts plugin write some of these fields. By the others the
/// controller decides whether steps and analyses are done: whether the stable template is the present one, and how the analyses of a
/// canary or a blue-green release ended. To abort is free.
const ROLLOUT_STEERING: &[Activation] = &[
    Changed("/status/promoteFull"),
    Changed("/status/currentStepIndex"),
    Changed("/status/pauseConditions"),
    Changed("/status/controllerPause"),
    Changed("/status/stableRS"),
    Changed("/status/currentPodHash"),
    Changed("/status/canary"),
    Changed("/status/blueGreen"),
    Cleared("/status/abort"),
];

/// A namespaced kind in which only pod specifications decide what runs.
const fn kind(
    (groups, version): Api,
    (name, plural): (&'static str, &'static str),
    pod_specs: &'static [&'static [&'static str]],
) -> WorkloadKind {
    WorkloadKind {
        groups,
        version,
        name,
        plural,
        pod_specs,
        runtime_fields: &[],
        template_fields: &[],
        activations: &[],
        workload_ref: None,
        steering: &[],
        copied_by: &[],
        is_namespaced: true,
    }
}

pub(super) const TABLE: &[WorkloadKind] = &[
    kind(CORE, ("Pod", "pods"), &[&["spec"]]),
    kind(
        CORE,
        ("PodTemplate", "podtemplates"),
        &[&["template", "spec"]],
    ),
    WorkloadKind {
        activations: &[REPLICAS],
        ..kind(
            CORE,
            ("ReplicationController", "replicationcontrollers"),
            TEMPLATE,
        )
    },
    WorkloadKind {
        activations: &[REPLICAS],
        ..kind(APPS, ("ReplicaSet", "replicasets"), TEMPLATE)
    },
    WorkloadKind {
        activations: &[REPLICAS, Cleared("/spec/paused")],
        ..kind(APPS, ("Deployment", "deployments"), TEMPLATE)
    },
    WorkloadKind {
        activations: &[
            REPLICAS,
            Lowered(PARTITION),
            Exceeds(REPLICAS_FIELD, PARTITION),
            ON_DELETE,
        ],
        ..kind(APPS, ("StatefulSet", "statefulsets"), TEMPLATE)
    },
    WorkloadKind {
        activations: &[
            Changed("/spec/template/spec/nodeSelector"),
            Changed("/spec/template/spec/affinity"),
            Changed("/spec/template/spec/tolerations"),
            Changed("/spec/template/spec/nodeName"),
            ON_DELETE,
        ],
        ..kind(APPS, ("DaemonSet", "daemonsets"), TEMPLATE)
    },
    // The StatefulSet controller makes Pods from an earlier revision, not only from the StatefulSet.
    WorkloadKind {
        copied_by: &["statefulset-controller", "daemon-set-controller"],
        ..kind(
            APPS,
            ("ControllerRevision", "controllerrevisions"),
            &[&["data", "spec", "template", "spec"]],
        )
    },
    WorkloadKind {
        activations: &[Cleared("/spec/suspend"), FromZero("/spec/parallelism")],
        ..kind(BATCH, ("Job", "jobs"), TEMPLATE)
    },
    WorkloadKind {
        activations: &[
            Cleared("/spec/suspend"),
            Changed("/spec/schedule"),
            Changed("/spec/timeZone"),
            Cleared("/spec/jobTemplate/spec/suspend"),
            FromZero("/spec/jobTemplate/spec/parallelism"),
            FromZero("/spec/jobTemplate/spec/completions"),
            Freed("/spec/jobTemplate/spec/managedBy", JOB_CONTROLLER),
        ],
        ..kind(
            BATCH,
            ("CronJob", "cronjobs"),
            &[&["spec", "jobTemplate", "spec", "template", "spec"]],
        )
    },
    WorkloadKind {
        runtime_fields: &["/spec/strategy", "/spec/workloadRef"],
        activations: &[REPLICAS, Cleared("/spec/paused")],
        workload_ref: Some("/spec/workloadRef"),
        steering: ROLLOUT_STEERING,
        ..kind(ARGO, ("Rollout", "rollouts"), TEMPLATE)
    },
    WorkloadKind {
        runtime_fields: ANALYSIS,
        template_fields: ANALYSIS,
        ..kind(ARGO, ("AnalysisTemplate", "analysistemplates"), METRICS)
    },
    WorkloadKind {
        runtime_fields: ANALYSIS,
        template_fields: ANALYSIS,
        is_namespaced: false,
        ..kind(
            ARGO,
            ("ClusterAnalysisTemplate", "clusteranalysistemplates"),
            METRICS,
        )
    },
    WorkloadKind {
        runtime_fields: ANALYSIS,
        template_fields: ANALYSIS,
        ..kind(ARGO, ("AnalysisRun", "analysisruns"), METRICS)
    },
    WorkloadKind {
        runtime_fields: &["/spec/analyses"],
        template_fields: &["/spec/analyses"],
        activations: &[FromZero("/spec/templates/*/replicas")],
        ..kind(
            ARGO,
            ("Experiment", "experiments"),
            &[&["spec", "templates", "*", "template", "spec"]],
        )
    },
    WorkloadKind {
        activations: &[
            FromZero("/spec/maxReplicaCount"),
            Changed("/spec/minReplicaCount"),
            FromZero("/spec/jobTargetRef/parallelism"),
            FromZero("/spec/jobTargetRef/completions"),
            Freed("/spec/jobTargetRef/managedBy", JOB_CONTROLLER),
            Cleared("/spec/jobTargetRef/suspend"),
            Changed("/spec/triggers"),
            Freed(
                "/metadata/annotations/autoscaling.keda.sh~1paused",
                GO_FALSE,
            ),
        ],
        ..kind(
            KEDA,
            ("ScaledJob", "scaledjobs"),
            &[&["spec", "jobTargetRef", "template", "spec"]],
        )
    },
];

/// The lists of containers in a pod specification.
pub(super) const CONTAINERS: &[(&str, Role)] = &[
    ("containers", Role::Container),
    ("initContainers", Role::InitContainer),
    ("ephemeralContainers", Role::EphemeralContainer),
];

/// Subresources that do not change what runs, of any kind.
pub(super) const HARMLESS_SUBRESOURCES: &[&str] = &[
    STATUS,
    "finalizers",
    "binding",
    "eviction",
    "resize",
    "token",
    "approve",
    "approval",
    "finalize",
];
/// The subresource that says how many replicas run, without saying of what.
pub(super) const SCALE: &str = "scale";
/// The subresource that says what came of an object. Of some kinds, people steer by it.
pub(super) const STATUS: &str = "status";
/// Subresources of a namespace that an API server stores with the labels of the request.
pub(super) const NAMESPACE_SUBRESOURCES: &[&str] = &[STATUS, "finalize"];
/// The subresource that adds containers to a Pod.
pub(super) const EPHEMERAL_CONTAINERS: &str = "ephemeralcontainers";

/// Fields of a pod specification that do not change what runs: resources, scheduling, termination grace.
pub(super) const HARMLESS_POD_FIELDS: &[&str] = &[
    "affinity",
    "nodeName",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "resources",
    "schedulerName",
    "schedulingGates",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
];
/// The same for a container.
pub(super) const HARMLESS_CONTAINER_FIELDS: &[&str] = &["resizePolicy", "resources"];
/// Annotations of a template that no injector reads.
pub(super) const HARMLESS_ANNOTATIONS: &[&str] = &["kubectl.kubernetes.io/restartedAt"];

/// Labels that controllers add to the templates of the objects that they create.
pub(super) const CONTROLLER_LABELS: &[&str] = &[
    "pod-template-hash",
    "rollouts-pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
];

impl Activation {
    /// The field that it is about.
    pub(super) fn field(&self) -> &'static str {
        match self {
            FromZero(field)
            | Cleared(field)
            | Lowered(field)
            | Changed(field)
            | Left(field, _)
            | Freed(field, _)
            | Exceeds(field, _) => field,
        }
    }
}

/// Whether a field of `status` steers objects of some kind.
pub(super) fn steers_some_kind(field: &str) -> bool {
    let mut steering = TABLE.iter().flat_map(|kind| kind.steering);
    steering.any(|activation| activation.field().strip_prefix("/status/") == Some(field))
}

impl WorkloadKind {
    pub(super) fn is_pod(&self) -> bool {
        self.name == "Pod"
    }

    /// Whether its objects keep earlier templates of other objects.
    pub(super) fn is_revision(&self) -> bool {
        self.name == "ControllerRevision"
    }

    /// The API group.
    pub(super) fn group(&self) -> &'static str {
        self.groups.first().copied().unwrap_or_default()
    }

    /// Whether it has the subresource `scale`.
    pub(super) fn scales(&self) -> bool {
        let is_replicas =
            |it: &Activation| matches!(it, FromZero(field) if *field == REPLICAS_FIELD);
        self.activations.iter().any(is_replicas)
    }

    /// Whether more replicas can start a staged template although some run already.
    pub(super) fn is_partitioned(&self) -> bool {
        let mut activations = self.activations.iter();
        activations.any(|it| matches!(it, Exceeds(..)))
    }
}

/// The resources of which more replicas can start a staged template although some run already.
pub(super) fn partitioned() -> impl Iterator<Item = &'static str> {
    let rows = TABLE.iter().filter(|kind| kind.is_partitioned());
    rows.map(|kind| kind.plural)
}

/// The row of a resource that has the subresource `scale`.
pub(super) fn row_of_scaled(group: &str, plural: &str) -> Option<&'static WorkloadKind> {
    let mut rows = TABLE.iter().filter(|kind| kind.scales());
    rows.find(|kind| kind.plural == plural && kind.groups.contains(&group))
}

/// The row of a kind; `None` for a kind without images.
pub(super) fn row(group: &str, name: &str) -> Option<&'static WorkloadKind> {
    TABLE
        .iter()
        .find(|kind| kind.name == name && kind.groups.contains(&group))
}

/// API group and kind of everything that runs images or names those that will run.
pub fn running_kinds() -> Vec<(&'static str, &'static str)> {
    // Revisions are the history of what a controller runs.
    let rows = TABLE.iter().filter(|row| !row.is_revision());
    rows.map(|row| (row.group(), row.name)).collect()
}

/// The name of a kind's resource, such as `deployments`; `None` for a kind without images.
pub fn plural(group: &str, name: &str) -> Option<&'static str> {
    row(group, name).map(|kind| kind.plural)
}

/// A kind with its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindOfTable {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// The version in which its objects are listed.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// The name of the resource.
    pub plural: &'static str,
    /// Whether it has the subresource `scale`.
    pub scales: bool,
}

/// Every kind that is judged, in the API group that serves it now.
pub fn kinds() -> impl Iterator<Item = KindOfTable> {
    TABLE.iter().map(|row| KindOfTable {
        group: row.group(),
        version: row.version,
        kind: row.name,
        plural: row.plural,
        scales: row.scales(),
    })
}

/// The version in which the gate reads a kind; `None` for kinds that are not judged.
pub fn version(group: &str, kind: &str) -> Option<&'static str> {
    row(group, kind).map(|row| row.version)
}

/// API group and kind; `None` if one of them is absent or empty, as for `kubectl`.
pub(super) fn group_and_kind(object: &Value) -> Option<(String, String)> {
    let said = |field: &str| {
        let text = object.get(field)?.as_str()?;
        (!text.is_empty()).then_some(text)
    };
    let group = said("apiVersion")?
        .split_once('/')
        .map_or("", |(group, _)| group);
    Some((group.to_owned(), said("kind")?.to_owned()))
}
