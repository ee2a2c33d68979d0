//! A requested change ([`Change`]), and the same change with pinned images, its kind and the time of the review
//! ([`Promotion`]).

use jiff::Timestamp;

use super::evidence::{Collected, Subject};
use super::image::{Digest, ImageReference};
use super::policy::Policy;
use super::record::{ImageRecords, Records};

/// A request that the gate judges, as the API server or the CLI passed it on. Nothing is fetched yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The id of the request: the `uid` of an AdmissionReview, or an id that the CLI makes.
    pub id: String,
    /// Create or update.
    pub operation: Operation,
    /// The effect on the running Pods.
    pub effect: ChangeEffect,
    /// The object that is created or changed.
    pub workload: Workload,
    /// The requester, if known (`check` without `--as` does not know it).
    pub actor: Option<Actor>,
    /// Whether the request is a dry run (`dryRun`), which does not change the cluster.
    pub dry_run: bool,
    /// The object after the change, besides its images.
    pub object: ChangedObject,
    /// Every image that the object runs or mounts, in document order.
    pub images: Vec<ImageUse>,
    /// The fields of the object that could not be read. They deny the object under every policy that governs it.
    pub unreadable: Vec<UnreadableField>,
}

/// An object after a change, besides its images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedObject {
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// The digest of everything that decides what runs: equal templates run the same, and labels that controllers add do not count.
    pub template: Option<Digest>,
    /// Whether nothing of the object runs after the change: no replicas, paused, suspended.
    pub is_staged: bool,
    /// The owner that `metadata.ownerReferences` names as the controller. Every requester can write it, so that it never decides the
    /// kind of a change; it says which object to read.
    pub owner: Option<Owner>,
}

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind, such as `ReplicaSet`.
    pub kind: String,
    /// Name, in the namespace of the object.
    pub name: String,
    /// `metadata.uid` of the owner.
    pub uid: String,
}

/// A field of an object that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableField {
    /// Field path; empty for the object as a whole.
    pub field: String,
    /// Why the field could not be read.
    pub why: String,
}

/// A change with pinned images, its kind and the time of the review.
#[derive(Clone, Debug)]
pub struct Promotion {
    /// The requested change.
    pub change: Change,
    /// The kind of change.
    pub kind: ChangeKind,
    /// The time of the review.
    pub at: Timestamp,
    /// The digest of each image of the change, in the same order.
    pub pins: Vec<Pin>,
    /// What release records say, where there are any.
    pub records: Collected<Records>,
}

/// The result of pinning one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The manifest names the digest.
    Written(Digest),
    /// The registry resolved the tag, or could not be asked.
    Resolved(Collected<Digest>),
    /// No requirement needs the digest.
    NotNeeded,
}

impl Promotion {
    /// Classifies a change. `pins` holds the digest of each image in the order of `change.images`; `records` is what release records
    /// say, and unavailable where there are none (in the CLI, and in a webhook without a cluster); `at` is the time of the review.
    pub fn new(
        change: Change,
        pins: Vec<Pin>,
        records: Collected<Records>,
        at: Timestamp,
    ) -> Promotion {
        Promotion {
            kind: ChangeKind::classify(&change, &records),
            change,
            at,
            pins,
            records,
        }
    }

    /// Whether a policy does not judge the change, because a record shows what it would judge: of upkeep, that the images were
    /// admitted here; of an activation, that this template ran here and complied with the policy.
    pub fn rests_on_record(&self, policy: &Policy) -> bool {
        match self.kind {
            ChangeKind::Upkeep { recorded } => recorded,
            ChangeKind::Activation => {
                let records = self.records.complete();
                records.is_some_and(|records| records.ran(&self.change, &self.pins, policy))
            }
            ChangeKind::Deploy | ChangeKind::Governance => false,
        }
    }

    /// Whether the change is a rollback for a policy: its workload goes back to a template that ran here before the present one,
    /// complied with the policy, and was replaced within its `rollbackWindow`.
    pub fn is_rollback(&self, policy: &Policy) -> bool {
        self.rolls_back_to(policy).is_some()
    }

    /// Of a rollback: until when ran what the workload goes back to.
    pub fn rolls_back_to(&self, policy: &Policy) -> Option<Timestamp> {
        if self.kind != ChangeKind::Deploy {
            return None;
        }
        let records = self.records.complete()?;
        records.ran_until(&self.change, &self.pins, policy, self.at)
    }

    /// What release records say about each image of the change, also where it is not complete; `None` without records.
    pub(super) fn records_of(&self, image: usize) -> Option<&ImageRecords> {
        self.records.value()?.images.get(image)
    }

    /// Each image of the change with its pin.
    pub fn images(&self) -> impl Iterator<Item = (&ImageUse, &Pin)> {
        self.change.images.iter().zip(&self.pins)
    }
}

impl Pin {
    /// The digest, if it is known.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Pin::Written(digest) => Some(digest),
            Pin::Resolved(collected) => collected.value(),
            Pin::NotNeeded => None,
        }
    }

    /// The subject of the image's evidence, if the digest is known.
    pub fn subject(&self, image: &ImageReference) -> Option<Subject> {
        self.digest().map(|digest| Subject {
            repository: image.repository().clone(),
            digest: digest.clone(),
        })
    }
}

/// The operation of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create a new object.
    Create,
    /// Change an existing object, or its subresource `pods/ephemeralcontainers`.
    Update,
}

/// The effect of a change on the running Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeEffect {
    /// The change decides which images will run.
    Runs,
    /// The change starts images that were staged: more than zero replicas or parallel Pods, no longer paused or suspended, a lower
    /// partition, another schedule, a removed scheduling gate, more nodes of a DaemonSet.
    Starts,
}

/// The object that is created or changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Namespace; `None` for a cluster-scoped object.
    pub namespace: Option<String>,
    /// `metadata.name`, or `metadata.generateName` followed by `*`.
    pub name: String,
}

impl Workload {
    /// Whether both are the same object, in whatever version.
    pub fn is_same_object(&self, other: &Workload) -> bool {
        (&self.group, &self.kind, &self.namespace, &self.name)
            == (&other.group, &other.kind, &other.namespace, &other.name)
    }
}

/// An authenticated requester (Kubernetes `UserInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// User name, such as `system:serviceaccount:argocd:argocd-application-controller`.
    pub username: String,
    /// Groups, in the order given.
    pub groups: Vec<String>,
}

/// A field of an object that names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// Field path, such as `spec.template.spec.containers[0].image`.
    pub field: String,
    /// What the image is used for.
    pub role: Role,
    /// The image, as written and parsed.
    pub reference: ImageReference,
}

/// What an image is used for in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `containers`
    Container,
    /// `initContainers`
    InitContainer,
    /// `ephemeralContainers`
    EphemeralContainer,
    /// `volumes[].image.reference`
    ImageVolume,
}

/// The kind of a change. It depends on the requester and on the release record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A requester creates or changes what runs. All requirements apply.
    Deploy,
    /// A requester starts images that were staged. All requirements apply.
    Activation,
    /// A trusted controller creates the objects that follow from an object that was judged before.
    Upkeep {
        /// Whether a record shows that the images were admitted here. Without a record, the rules of class `Integrity` apply, and
        /// those of class `ChangeControl` do not.
        recorded: bool,
    },
    /// A requester changes the policies or the configuration of the gate.
    Governance,
}

impl ChangeKind {
    /// `deploy`, `activation`, `upkeep`, `upkeep-without-record` or `governance`.
    pub fn id(self) -> &'static str {
        match self {
            ChangeKind::Deploy => "deploy",
            ChangeKind::Activation => "activation",
            ChangeKind::Upkeep { recorded: true } => "upkeep",
            ChangeKind::Upkeep { recorded: false } => "upkeep-without-record",
            ChangeKind::Governance => "governance",
        }
    }

    /// The kind of a change. Only the authenticated requester and the record can make a change upkeep; owner references and labels
    /// do not count, because every requester can write them.
    fn classify(change: &Change, records: &Collected<Records>) -> ChangeKind {
        let creates = change.operation == Operation::Create;
        let starts = change.effect == ChangeEffect::Starts;
        let actor = change.actor.as_ref();
        let is_trusted = actor.is_some_and(|actor| actor.is_trusted_for(&change.workload));
        if (creates || starts) && is_trusted {
            match records.complete() {
                Some(records) if records.serve_upkeep() => {
                    return ChangeKind::Upkeep { recorded: true };
                }
                // A trusted controller that brings an image which was never admitted here.
                Some(records) if records.has_baseline => {}
                _ => return ChangeKind::Upkeep { recorded: false },
            }
        }
        match change.effect {
            ChangeEffect::Runs => ChangeKind::Deploy,
            ChangeEffect::Starts => ChangeKind::Activation,
        }
    }
}

/// The user name of the controllers if `kube-controller-manager` runs without `--use-service-account-credentials`.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// The built-in controllers with the API group and kind of the objects that each creates for an object that was judged before
/// (service accounts of `kube-system`; Kubernetes, `pkg/controlplane/controller` and `bootstrappolicy/controller_policy.go`).
const TRUSTED_CONTROLLERS: &[(&str, &str, &str)] = &[
    ("deployment-controller", "apps", "ReplicaSet"),
    ("replicaset-controller", "", "Pod"),
    ("statefulset-controller", "", "Pod"),
    ("statefulset-controller", "apps", "ControllerRevision"),
    ("daemon-set-controller", "", "Pod"),
    ("daemon-set-controller", "apps", "ControllerRevision"),
    ("job-controller", "", "Pod"),
    ("replication-controller", "", "Pod"),
    ("cronjob-controller", "batch", "Job"),
];

impl Actor {
    /// Whether the requester is a built-in controller, and the object is of a kind that it creates.
    fn is_trusted_for(&self, workload: &Workload) -> bool {
        let account = self
            .username
            .strip_prefix("system:serviceaccount:kube-system:");
        let is_manager = self.username == CONTROLLER_MANAGER;
        TRUSTED_CONTROLLERS.iter().any(|(controller, group, kind)| {
            (is_manager || account == Some(controller))
                && (workload.group.as_str(), workload.kind.as_str()) == (*group, *kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Unavailability;
    use super::*;

    fn kind(user: &str, object: (&str, &str), how: (Operation, ChangeEffect)) -> ChangeKind {
        let change = Change {
            id: "1".to_owned(),
            operation: how.0,
            effect: how.1,
            workload: Workload {
                group: object.0.to_owned(),
                version: "v1".to_owned(),
                kind: object.1.to_owned(),
                namespace: Some("shop".to_owned()),
                name: "web".to_owned(),
            },
            actor: Some(Actor {
                username: user.to_owned(),
                groups: Vec::new(),
            }),
            dry_run: false,
            object: ChangedObject::default(),
            images: Vec::new(),
            unreadable: Vec::new(),
        };
        let no_record = Collected::Unavailable(Unavailability("no record".to_owned()));
        ChangeKind::classify(&change, &no_record)
    }

    const UPKEEP: ChangeKind = ChangeKind::Upkeep { recorded: false };
    const CREATED: (Operation, ChangeEffect) = (Operation::Create, ChangeEffect::Runs);
    const POD: (&str, &str) = ("", "Pod");
    const REPLICA_SET: (&str, &str) = ("apps", "ReplicaSet");

    #[test]
    fn a_built_in_controller_is_trusted_for_the_kind_it_creates() {
        let account = |name: &str| format!("system:serviceaccount:kube-system:{name}");
        for (controller, group, of) in TRUSTED_CONTROLLERS {
            assert_eq!(kind(&account(controller), (group, of), CREATED), UPKEEP);
            assert_eq!(kind(CONTROLLER_MANAGER, (group, of), CREATED), UPKEEP);
        }
        let scaled = (Operation::Update, ChangeEffect::Starts);
        assert_eq!(
            kind(&account("deployment-controller"), REPLICA_SET, scaled),
            UPKEEP
        );
    }

    #[test]
    fn every_other_pair_of_requester_and_kind_is_a_deploy() {
        let account = |name: &str| format!("system:serviceaccount:kube-system:{name}");
        for (user, object) in [
            (account("deployment-controller"), POD),
            (account("replicaset-controller"), REPLICA_SET),
            (account("job-controller"), ("batch", "Job")),
            (account("replicaset-controller"), ("example.com", "Pod")),
            (
                "system:serviceaccount:shop:replicaset-controller".to_owned(),
                POD,
            ),
            ("replicaset-controller".to_owned(), POD),
            ("system:node:replicaset-controller".to_owned(), POD),
            (CONTROLLER_MANAGER.to_owned(), ("apps", "Deployment")),
            ("alice@example.com".to_owned(), POD),
        ] {
            assert_eq!(kind(&user, object, CREATED), ChangeKind::Deploy, "{user}");
        }
    }

    #[test]
    fn a_template_that_a_controller_changes_is_a_deploy() {
        let changed = (Operation::Update, ChangeEffect::Runs);
        assert_eq!(kind(CONTROLLER_MANAGER, POD, changed), ChangeKind::Deploy);
    }
}
