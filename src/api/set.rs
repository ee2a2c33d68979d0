//! What some documents say together: policies, people, freezes and everything else that decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::documents::{Path, Problem};
use promotion_gate_core::gate::{
    Collected, Digest, FeedState, Freeze, KeptAuthors, KeptRejection, KeptVex, People, Policy,
    Revocation, Schedule, Snapshot, TrustRoots,
};

use super::files::Skipped;
use super::item::Item;
use super::kinds::Kind;
use super::{GateSettings, IncidentCheck, TrustRootSource, TufRepository};

/// The names of the documents in each file that the snapshot is made from.
pub type Held = BTreeMap<String, BTreeSet<(Kind, String)>>;

/// The policies and people of some files.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// The policies, in the order of the files, without those that have problems.
    pub policies: Vec<Policy>,
    /// All people directories together; `None` if there is none, or if they have problems.
    pub people: Option<Arc<People>>,
    /// The change freezes, in the order of the files, without those that have problems.
    pub freezes: Vec<Freeze>,
    /// The incident checks, by name.
    pub incident_checks: BTreeMap<String, Arc<IncidentCheck>>,
    /// The trust roots, by name.
    pub trust_roots: BTreeMap<String, TrustRootSource>,
    /// What the `GateConfiguration` among the files sets.
    pub settings: GateSettings,
    /// Digests that must not run any more.
    pub revocations: BTreeMap<Digest, Revocation>,
    /// Rejections, by digest.
    pub rejections: BTreeMap<Digest, Vec<KeptRejection>>,
    /// Authors, by digest.
    pub authors: BTreeMap<Digest, KeptAuthors>,
    /// What OpenVEX documents take back, by digest.
    pub vex: BTreeMap<Digest, Vec<KeptVex>>,
    /// All problems of the files.
    pub problems: Vec<Problem>,
    /// For problems within a text, by their text: the line of the file, and a caret below it.
    pub excerpts: BTreeMap<String, String>,
    /// Parts of the policies that probably do not mean what their author meant.
    pub warnings: Vec<Problem>,
    /// Files and documents that were not read.
    pub skipped: Skipped,
    /// Every file that was read, with what is in it.
    pub files: Held,
    /// Names these files: a digest over the names and bytes of those with policies, and one over those of each other kind.
    pub revision: String,
}

/// The people of some files.
#[derive(Clone, Debug, Default)]
pub struct PeopleSet {
    /// All people directories together; `None` if there is none, or if they have problems.
    pub people: Option<Arc<People>>,
    /// All problems of the people directories, and of files that may hold one.
    pub problems: Vec<Problem>,
    /// Files and documents that were not read.
    pub skipped: Skipped,
}

/// The change freezes of some files.
#[derive(Clone, Debug, Default)]
pub struct FreezeSet {
    /// The change freezes, in the order of the files.
    pub freezes: Vec<Freeze>,
    /// All problems of the change freezes, and of files that may hold one.
    pub problems: Vec<Problem>,
    /// Files and documents that were not read.
    pub skipped: Skipped,
}

impl PolicySet {
    /// The set together with the settings of the configuration file: adds the problems that appear only together.
    #[must_use]
    pub fn under(mut self, configured: &GateSettings) -> PolicySet {
        self.problems.extend(self.settings.clashes(configured));
        for settings in [&self.settings, configured] {
            let Some(governors) = &settings.governors else {
                continue;
            };
            let here = Path::default().key("governors");
            let people = self.people.as_deref();
            let approving = people.map(|people| governors.who_approve(&self.policies, people));
            for found in approving.into_iter().flatten() {
                let message = format!(
                    "the governor `{}` is the person `{}`, who approves {} for the policy `{}`; a person who can change what the gate decides by must not approve: remove one of the two",
                    found.user, found.person, found.seat, found.policy
                );
                let at = settings.place_of(&here.key("users"), &found.user);
                self.problems.push(settings.problem(&at, message));
            }
            let asks_people =
                |policy: &Policy| policy.requires_approvals() || policy.emergency.is_some();
            if !governors.groups.is_empty() && self.policies.iter().any(asks_people) {
                let message = "whether members of these groups approve cannot be looked up; make sure that none of them is in a group that `approvals` or `emergency` name";
                self.warnings
                    .push(settings.problem(&here.key("groups"), message));
            }
        }
        self
    }

    /// Adds what is kept about a digest.
    pub(crate) fn keep(&mut self, item: Item) {
        match item {
            Item::Revocation(digest, revocation) => {
                self.revocations.entry(digest).or_insert(revocation);
            }
            Item::Rejection(digest, rejection) => {
                self.rejections.entry(digest).or_default().push(rejection);
            }
            Item::Authors(digest, authors) => self.authors.entry(digest).or_default().add(authors),
            Item::Vex(digest, kept) => self.vex.entry(digest).or_default().push(kept),
            _ => {}
        }
    }

    /// The trust roots that are in the documents themselves.
    pub fn inline_roots(&self) -> TrustRoots {
        let each = self.trust_roots.iter();
        let each = each.filter_map(|(name, source)| match source {
            TrustRootSource::Inline(root) => Some((name.clone(), Arc::clone(root))),
            TrustRootSource::Tuf(_) => None,
        });
        each.collect()
    }

    /// The repositories that hold the other trust roots.
    pub fn tuf_repositories(&self) -> BTreeMap<String, TufRepository> {
        let each = self.trust_roots.iter();
        let each = each.filter_map(|(name, source)| match source {
            TrustRootSource::Inline(_) => None,
            TrustRootSource::Tuf(repository) => Some((name.clone(), repository.clone())),
        });
        each.collect()
    }

    /// The snapshot with these policies, people and freezes, and with the rest of another one. `now` is the present.
    pub fn snapshot(self, rest: Snapshot, feeds: &FeedStates, now: Timestamp) -> Snapshot {
        let roots = self.inline_roots();
        let mut snapshot = Snapshot {
            policies: self.policies,
            revision: self.revision,
            ..rest
        };
        self.settings.apply(&mut snapshot);
        let world = &mut snapshot.world;
        world.trust_roots.extend(roots);
        world.declared_roots = self.trust_roots.into_keys().collect();
        world.revocations = self.revocations;
        world.rejections = self.rejections;
        world.authors = self.authors;
        world.vex = self.vex;
        if let Some(people) = self.people {
            world.people = Collected::Known(people);
        }
        let schedule = schedule(self.freezes, feeds, now);
        world.freezes = Collected::Known(Arc::new(schedule));
        snapshot
    }

    /// Problems of files that held a policy or a people directory before, still exist, and hold none now, where the document is in
    /// no other file either. Such a file may be cut off or overwritten, and its documents would be lost silently.
    pub fn lost(&self, before: &Held) -> Vec<Problem> {
        let faulty: BTreeSet<_> = self.problems.iter().map(|problem| &*problem.file).collect();
        let is_gone = |held: &&(Kind, String)| !self.files.values().any(|now| now.contains(held));
        let lost = before
            .iter()
            .filter(|(file, _)| self.files.get(*file).is_some_and(BTreeSet::is_empty))
            .filter_map(|(file, held)| Some((file, held.iter().find(is_gone)?)))
            .filter(|(file, _)| !faulty.contains(file.as_str()));
        lost.map(|(file, (kind, _))| {
            let noun = kind.noun();
            let message = format!(
                "the file held a {noun} and holds none now; remove the file if the {noun} is to go"
            );
            Problem::with_file(file, message)
        })
        .collect()
    }
}

/// What is known of each feed, by the name of its freeze.
pub type FeedStates = BTreeMap<String, FeedState>;

/// The schedule of some freezes.
pub fn schedule(freezes: Vec<Freeze>, feeds: &FeedStates, now: Timestamp) -> Schedule {
    let with_state = |freeze: Freeze| {
        let state = feeds.get(&freeze.name).cloned();
        (freeze, state)
    };
    Schedule::new(freezes.into_iter().map(with_state), now)
}
