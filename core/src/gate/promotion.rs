//! A requested change ([`Change`]), and the same change with pinned images, its kind and the time of the review
//! ([`Promotion`]).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::evidence::{Collected, Subject};
use super::image::{Digest, ImageReference};
use super::injected::Injected;
use super::policy::Policy;
use super::record::{ImageRecords, Records};
use super::world::TrustedController;

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
    /// The digest of the template that an update replaces.
    pub before: Option<Digest>,
    /// Whether nothing of the object runs after the change: no replicas, paused, suspended.
    pub is_staged: bool,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
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
    /// What an injector added to the Pod that is created.
    pub injected: Option<Injected>,
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
    /// say, and unavailable where there are none (in the CLI, and in a webhook without a cluster); `trusted` are the controllers
    /// that are trusted besides the built-in ones; `at` is the time of the review.
    pub fn new(
        change: Change,
        pins: Vec<Pin>,
        records: Collected<Records>,
        trusted: &[TrustedController],
        at: Timestamp,
    ) -> Promotion {
        Promotion {
            kind: ChangeKind::classify(&change, &records, trusted),
            change,
            at,
            pins,
            records,
            injected: None,
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
    fn classify(
        change: &Change,
        records: &Collected<Records>,
        trusted: &[TrustedController],
    ) -> ChangeKind {
        let creates = change.operation == Operation::Create;
        let starts = change.effect == ChangeEffect::Starts;
        let actor = change.actor.as_ref();
        let is_controller =
            actor.is_some_and(|actor| actor.is_trusted_for(&change.workload, trusted));
        let is_autoscaler = actor.is_some_and(|actor| actor.is_autoscaler(trusted));
        let is_served: Option<fn(&Records, &Change) -> bool> =
            if (creates || starts) && is_controller {
                Some(|records, _| records.serve_upkeep())
            } else if starts && is_autoscaler {
                // Every user may create a ScaledObject, so an autoscaler starts only templates that ran here before. Where records
                // are kept and cannot be read, that is not known.
                let is_known = records.complete().is_some() || !Records::are_kept(records);
                is_known.then_some(Records::has_run)
            } else {
                None
            };
        if let Some(is_served) = is_served {
            match records.complete() {
                Some(records) if is_served(records, change) => {
                    return ChangeKind::Upkeep { recorded: true };
                }
                // A trusted controller that brings an image which was never admitted here, or never ran.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::super::evidence::Unavailability;
    use super::super::record::{AdmittedBy, ImageRecords, RecordEntry};
    use super::super::world::ControllerPreset;
    use super::*;

    const AUTOSCALER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    const REPLICA_SETS: &str = "system:serviceaccount:kube-system:replicaset-controller";
    const KEDA: &str = "system:serviceaccount:keda:keda-operator";
    const CREATED: (Operation, ChangeEffect) = (Operation::Create, ChangeEffect::Runs);
    const STARTED: (Operation, ChangeEffect) = (Operation::Update, ChangeEffect::Starts);
    const UNRECORDED: ChangeKind = ChangeKind::Upkeep { recorded: false };
    const RECORDED: ChangeKind = ChangeKind::Upkeep { recorded: true };

    fn change(user: &str, (group, kind): (&str, &str), how: (Operation, ChangeEffect)) -> Change {
        Change {
            id: "1".to_owned(),
            operation: how.0,
            effect: how.1,
            workload: Workload {
                group: group.to_owned(),
                version: "v1".to_owned(),
                kind: kind.to_owned(),
                namespace: Some("shop".to_owned()),
                name: "web".to_owned(),
            },
            actor: Some(Actor {
                username: user.to_owned(),
                groups: Vec::new(),
            }),
            dry_run: false,
            object: ChangedObject {
                template: Some(Digest::sha256(b"template")),
                ..ChangedObject::default()
            },
            images: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    fn kind(
        user: &str,
        object: (&str, &str),
        how: (Operation, ChangeEffect),
        records: &Collected<Records>,
    ) -> ChangeKind {
        let keda = TrustedController {
            preset: ControllerPreset::Keda,
            username: KEDA.to_owned(),
        };
        ChangeKind::classify(&change(user, object, how), records, &[keda])
    }

    fn no_records() -> Collected<Records> {
        Collected::Unavailable(Unavailability("no record".to_owned()))
    }

    /// One image, admitted for the Deployment `web`.
    fn recorded(running: bool, has_baseline: bool) -> Collected<Records> {
        let admitted = change("alice", DEPLOYMENT, CREATED);
        let entry = Arc::new(RecordEntry {
            digest: None,
            workload: admitted.workload,
            uid: None,
            template: Digest::sha256(b"template"),
            observed: true,
            running,
            complied: BTreeSet::new(),
            by: AdmittedBy::Audit,
            environments: BTreeSet::new(),
            ages_judged: BTreeSet::new(),
            source: None,
            at: Timestamp::UNIX_EPOCH,
        });
        Collected::Known(Records {
            images: vec![ImageRecords {
                entries: vec![Arc::clone(&entry)],
                ..ImageRecords::default()
            }],
            workload: vec![entry],
            has_baseline,
        })
    }

    fn of_another_image() -> Collected<Records> {
        Collected::Known(Records {
            images: vec![ImageRecords::default()],
            workload: Vec::new(),
            has_baseline: true,
        })
    }

    const POD: (&str, &str) = ("", "Pod");
    const DEPLOYMENT: (&str, &str) = ("apps", "Deployment");

    #[test]
    fn a_trusted_controller_keeps_up_what_was_admitted_here() {
        for (records, expected) in [
            (recorded(true, true), RECORDED),
            (recorded(false, true), RECORDED),
            (of_another_image(), ChangeKind::Deploy),
            (no_records(), UNRECORDED),
        ] {
            assert_eq!(kind(REPLICA_SETS, POD, CREATED, &records), expected);
            let person = kind("alice", POD, CREATED, &records);
            assert_eq!(person, ChangeKind::Deploy);
        }
    }

    #[test]
    fn a_template_that_a_controller_changes_is_a_deploy() {
        let changed = (Operation::Update, ChangeEffect::Runs);
        for records in [recorded(true, true), no_records()] {
            let kind = kind(REPLICA_SETS, POD, changed, &records);
            assert_eq!(kind, ChangeKind::Deploy);
        }
    }

    #[test]
    fn an_autoscaler_starts_from_zero_only_what_ran_before() {
        for user in [AUTOSCALER, KEDA] {
            for (records, expected) in [
                (recorded(true, true), RECORDED),
                (recorded(false, true), ChangeKind::Activation),
                (of_another_image(), ChangeKind::Activation),
                // What ran before the gate came is not recorded yet.
                (recorded(false, false), UNRECORDED),
                // An attacker may have made the read of what is recorded fail.
                (no_records(), ChangeKind::Activation),
                (Records::not_kept(), UNRECORDED),
            ] {
                assert_eq!(kind(user, DEPLOYMENT, STARTED, &records), expected);
                let person = kind("alice", DEPLOYMENT, STARTED, &records);
                assert_eq!(person, ChangeKind::Activation);
            }
            let changed = (Operation::Update, ChangeEffect::Runs);
            let changed = kind(user, DEPLOYMENT, changed, &recorded(true, true));
            assert_eq!(changed, ChangeKind::Deploy);
        }
    }
}
