//! What a review knows besides the images and their evidence. One review sees one state of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::emergency::OverdueReviews;
use super::evidence::{Collected, Unavailability};
use super::image::Digest;
use super::kept_vex::{KeptSigner, KeptVex, TakenBack};
use super::namespaces::Namespaces;
use super::people::{Identity, People};
use super::schedule::Schedule;
use super::signer::TrustRoots;

/// The operator's configuration and the state of the cluster, as far as rules and policies use them. A part is `Collected` where
/// it can be unknown: a part that was never read is not an empty one.
#[derive(Clone, Debug)]
pub struct World {
    /// The trust roots by the names that policies use. Evidence under a name that is missing here does not count.
    pub trust_roots: TrustRoots,
    /// The names of those among them that resources declare. A root in a repository that was never read is missing above.
    pub declared_roots: BTreeSet<String>,
    /// The labels of each known namespace, by the namespace's name.
    pub namespaces: Namespaces,
    /// Who is who, from all people directories together.
    pub people: Collected<Arc<People>>,
    /// When changes have to wait, from all change freezes together.
    pub freezes: Collected<Arc<Schedule>>,
    /// The name of the cluster, which approvals can be limited to.
    pub cluster: Collected<String>,
    /// The UID of the cluster's namespace `kube-system`, which approvals can be limited to.
    pub cluster_uid: Collected<String>,
    /// Who may change what the gate decides by.
    pub governors: Governors,
    /// Controllers that are trusted besides the built-in ones.
    pub trusted_controllers: Vec<TrustedController>,
    /// Namespaces in which the cluster's own infrastructure runs.
    pub infrastructure_namespaces: BTreeSet<String>,
    /// Digests that must not run any more.
    pub revocations: BTreeMap<Digest, Revocation>,
    /// Rejections that are kept in the cluster, by digest.
    pub rejections: BTreeMap<Digest, Vec<KeptRejection>>,
    /// The authors that evidence named which was seen before, by digest.
    pub authors: BTreeMap<Digest, KeptAuthors>,
    /// What OpenVEX documents took back that were seen before, by digest.
    pub vex: BTreeMap<Digest, Vec<KeptVex>>,
    /// Why these are not all of the rejections and authors that the cluster keeps, if they are not.
    pub kept_partly: Option<Unavailability>,
    /// Why this is not all that the cluster keeps of OpenVEX documents, if it is not.
    pub vex_partly: Option<Unavailability>,
    /// What is kept and cannot be read, by digest.
    pub unreadable_kept: BTreeMap<Digest, Vec<UnreadableKept>>,
    /// The arguments with which `promotion-gate approve` judges by the same policies, for hints.
    pub approve_arguments: Vec<String>,
    /// Emergency changes that were used and not reviewed.
    pub overdue_reviews: Collected<Arc<OverdueReviews>>,
}

/// The Kubernetes users and groups that may change what the gate decides by. Nobody is refused while there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Governors {
    /// User names.
    pub users: BTreeSet<String>,
    /// Group names.
    pub groups: BTreeSet<String>,
}

/// A controller that is trusted to make objects of parents which are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedController {
    /// What it makes, and which of its parents are judged.
    pub preset: ControllerPreset,
    /// Its user name, such as `system:serviceaccount:argo-rollouts:argo-rollouts`.
    pub username: String,
}

/// A known controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ControllerPreset {
    /// Argo Rollouts: ReplicaSets, AnalysisRuns, Experiments and Jobs of Rollouts.
    ArgoRollouts,
    /// KEDA: Jobs of ScaledJobs, and the number of replicas.
    Keda,
}

/// A digest that must not run any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The name of the resource.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A rejection, or the early end of an emergency change, that is kept in the cluster, so that deleting it in a registry lifts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRejection {
    /// The name of the resource.
    pub name: String,
    /// The environment that it is about.
    pub environment: String,
    /// The only namespace that it is about; `None` for all. A closure with a namespace counts wherever a policy lets the person end the
    /// emergency change.
    pub namespace: Option<String>,
    /// The declaration of an emergency change that it is about; `None` for the digest in general.
    pub emergency: Option<Digest>,
    /// Whether the person ended this emergency change early. Nothing lifts that.
    pub is_closure: bool,
    /// The name of the person in the people directory.
    pub person: String,
    /// When it was given: the latest verified time of the statement, or the creation of the resource.
    pub at: Timestamp,
    /// What the person wrote.
    pub reason: Option<String>,
}

/// A resource about a digest that cannot be read: what it says could deny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableKept {
    /// Its kind and name.
    pub resource: String,
    /// What it may say.
    pub may_be: MayBe,
    /// Why it cannot be read.
    pub why: String,
}

/// What a resource may say that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MayBe {
    /// A rejection of the digest, in this environment or in any.
    Rejection(Option<String>),
    /// Who the authors of the digest are.
    Authors,
    /// What OpenVEX documents take back, of this signer or of any.
    Vex(Option<KeptSigner>),
}

/// The authors of a digest, kept in the cluster, so that deleting their evidence in a registry hides nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptAuthors {
    /// Every identity that a statement named.
    pub identities: Vec<Identity>,
    /// The digests of these statements.
    pub statements: BTreeSet<Digest>,
}

impl KeptAuthors {
    /// Adds what another record names: authors are only ever added.
    pub fn add(&mut self, other: KeptAuthors) {
        let before = std::mem::take(&mut self.identities).into_iter();
        let all: BTreeSet<_> = before.chain(other.identities).collect();
        self.identities = all.into_iter().collect();
        self.statements.extend(other.statements);
    }
}

/// What the evidence of a review says that has to be kept in the cluster and is not yet, because deleting it in a registry would
/// turn a denial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvidenceToKeep {
    /// Rejections by people who may approve, or who may agree to an emergency change, and closures of emergency changes, each with its
    /// digest. Their names are empty.
    pub rejections: Vec<(Digest, KeptRejection)>,
    /// Authors, with the statements that name them.
    pub authors: BTreeMap<Digest, KeptAuthors>,
    /// What OpenVEX documents take back, by digest and signer.
    pub vex: BTreeMap<(Digest, KeptSigner), TakenBack>,
}

impl EvidenceToKeep {
    /// Whether nothing has to be kept.
    pub fn is_empty(&self) -> bool {
        self.rejections.is_empty() && self.authors.is_empty() && self.vex.is_empty()
    }

    pub(super) fn add(&mut self, other: EvidenceToKeep) {
        let rejections = other.rejections.into_iter();
        for rejection in rejections {
            if !self.rejections.contains(&rejection) {
                self.rejections.push(rejection);
            }
        }
        for (digest, authors) in other.authors {
            self.authors.entry(digest).or_default().add(authors);
        }
        for (about, taken_back) in other.vex {
            let known = self.vex.entry(about).or_default();
            for statement in taken_back.statements() {
                known.add(&statement);
            }
        }
    }
}

impl World {
    /// What the cluster keeps of the OpenVEX documents of a signer about a digest.
    pub(super) fn taken_back(&self, digest: &Digest, signer: &KeptSigner) -> TakenBack {
        let kept = self.vex.get(digest).into_iter().flatten();
        let by_signer = kept.filter(|kept| kept.signer == *signer);
        by_signer.flat_map(|kept| &kept.statements).collect()
    }

    /// Whether the cluster keeps this rejection by this person; where its time is verified (`is_timed`), one that is as recent. Of a
    /// closure, whether it keeps one of the same emergency change that counts under every policy, or by the same person.
    pub(super) fn keeps_rejection(
        &self,
        digest: &Digest,
        rejection: &KeptRejection,
        is_timed: bool,
    ) -> bool {
        let mut kept = self.rejections.get(digest).into_iter().flatten();
        kept.any(|kept| {
            let is_by_the_same = kept.person == rejection.person;
            let is_kept = match kept.is_closure {
                true => kept.namespace.is_none() || rejection.namespace.is_some() && is_by_the_same,
                false => {
                    kept.namespace == rejection.namespace
                        && is_by_the_same
                        && (!is_timed || kept.at >= rejection.at)
                }
            };
            is_kept
                && kept.environment == rejection.environment
                && kept.emergency == rejection.emergency
                && kept.is_closure == rejection.is_closure
        })
    }

    /// Whether the cluster keeps all of these authors.
    pub(super) fn keeps_authors(&self, digest: &Digest, authors: &KeptAuthors) -> bool {
        let kept = self.authors.get(digest);
        kept.is_some_and(|kept| {
            let known: BTreeSet<_> = kept.identities.iter().collect();
            let mut identities = authors.identities.iter();
            identities.all(|it| known.contains(it))
                && authors.statements.is_subset(&kept.statements)
        })
    }
}

impl Default for World {
    fn default() -> World {
        let missing = |why: &str| Unavailability(why.to_owned());
        World {
            trust_roots: TrustRoots::new(),
            declared_roots: BTreeSet::new(),
            namespaces: Namespaces::default(),
            people: Collected::Unavailable(missing(
                "no people directory is configured; add a `PeopleDirectory` beside the policies",
            )),
            freezes: Collected::Unavailable(missing("the change freezes were not read")),
            cluster: Collected::Unavailable(missing(
                "the cluster has no name; set `cluster` in the configuration",
            )),
            cluster_uid: Collected::Unavailable(missing(
                "the cluster's UID is not known; set `clusterUid` in the configuration",
            )),
            governors: Governors::default(),
            trusted_controllers: Vec::new(),
            infrastructure_namespaces: BTreeSet::new(),
            revocations: BTreeMap::new(),
            rejections: BTreeMap::new(),
            authors: BTreeMap::new(),
            vex: BTreeMap::new(),
            kept_partly: None,
            vex_partly: None,
            unreadable_kept: BTreeMap::new(),
            // The approver has the policies somewhere else.
            approve_arguments: ["--policy", "PATH"].map(str::to_owned).to_vec(),
            overdue_reviews: OverdueReviews::not_kept(),
        }
    }
}
