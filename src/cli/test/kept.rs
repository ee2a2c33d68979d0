//! What the cluster remembers, as a case writes it → release records, revocations, kept rejections and kept statements of OpenVEX
//! documents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::attest::predicate::PackageUrl;
use promotion_gate_core::documents::Path;
use promotion_gate_core::gate::{
    AdmittedBy, Age, Change, Digest, ImageRecords, KeptRejection, KeptVex, KeptVexStatement,
    Parent, Pin, RecordEntry, RecordedSource, Records, Revocation, ScanAge, World,
};
use serde_json::{Map, Value};

use super::asked::Used;
use super::format::{CaseSpec, RecordSpec, RecordedReason, Spec};
use super::resolve::SuiteReader;
use super::signers::TestSigners;
use crate::admission;

/// What the cluster remembers in a case.
#[derive(Default)]
pub(super) struct Kept {
    /// The entries of the workload; `None` without release records.
    entries: Option<Vec<GivenEntry>>,
    /// The object for which the Pod of the case is created.
    pub(super) parent: Option<Parent>,
    revocations: BTreeMap<Digest, Revocation>,
    rejections: BTreeMap<Digest, Vec<KeptRejection>>,
    /// What OpenVEX documents took back, by digest, with the names of the signers.
    vex: Vec<(Digest, String, KeptVexStatement)>,
}

/// An entry that is completed for the image and the workload of a change.
struct GivenEntry {
    image: Option<String>,
    digest: Option<Digest>,
    another_template: bool,
    observed: bool,
    running: bool,
    complied: BTreeSet<String>,
    by: AdmittedBy,
    environments: BTreeSet<String>,
    source: Option<RecordedSource>,
    ago: SignedDuration,
}

impl SuiteReader<'_> {
    /// What the cluster remembers in a case that uses these images.
    pub(super) fn kept(
        &mut self,
        case: &CaseSpec,
        test: &Spec,
        used: &[Used],
        at: Timestamp,
        here: &Path,
    ) -> Kept {
        let mut kept = Kept::default();
        if let Some(record) = &case.record {
            let entries = record.iter().enumerate();
            let entries = entries.filter_map(|(index, given)| {
                let here = here.key("record").index(index);
                self.meant(given.image.as_deref(), used, &here);
                self.entry(given, &here)
            });
            kept.entries = Some(entries.collect());
        }
        if let Some(given) = &case.parent {
            kept.parent = self.parent(case, given, &here.key("parent"));
        }
        for (index, given) in case.revocations.iter().enumerate() {
            let here = here.key("revocations").index(index);
            for digest in self.meant(given.image.as_deref(), used, &here) {
                let revocation = Revocation {
                    name: format!("revocation-{}", index + 1),
                    reason: given.reason.clone(),
                };
                kept.revocations.insert(digest, revocation);
            }
        }
        for (index, given) in case.rejections.iter().enumerate() {
            let here = here.key("rejections").index(index);
            let environment = given.environment.clone().or(self.environment.clone());
            let Some(environment) = environment else {
                self.refuse(
                    here,
                    "the tested policies do not name one environment; add `environment`",
                );
                continue;
            };
            let people = self.people.clone();
            if people.is_none_or(|people| people.person(&given.by).is_none()) {
                let why = format!("the people directories do not name `{}`", given.by);
                self.refuse(here.key("by"), why);
            }
            let before = self.before(given.ago.as_deref(), at, &here);
            for digest in self.meant(given.image.as_deref(), used, &here) {
                let rejection = KeptRejection {
                    name: format!("rejection-{}", index + 1),
                    environment: environment.clone(),
                    namespace: None,
                    emergency: None,
                    is_closure: false,
                    person: given.by.clone(),
                    at: before.unwrap_or(at),
                    reason: given.reason.clone(),
                };
                kept.rejections.entry(digest).or_default().push(rejection);
            }
        }
        for (index, given) in case.vex_records.iter().enumerate() {
            let here = here.key("vexRecords").index(index);
            self.known_signer(&given.by, test, &here);
            let mut packages = Vec::new();
            for (index, written) in given.packages.iter().enumerate() {
                match PackageUrl::parse(written) {
                    Some(read) => packages.push(read.package().clone()),
                    None => self.refuse(
                        here.key("packages").index(index),
                        format!("`{written:.200}` is not a package URL"),
                    ),
                }
            }
            let ids = given.vulnerabilities.iter().cloned();
            let before = self.before(given.ago.as_deref(), at, &here);
            let said = KeptVexStatement::new(ids, packages, before, None);
            for digest in self.meant(given.image.as_deref(), used, &here) {
                kept.vex.push((digest, given.by.clone(), said.clone()));
            }
        }
        kept
    }

    /// The time so long before the review.
    fn before(&mut self, ago: Option<&str>, at: Timestamp, here: &Path) -> Option<Timestamp> {
        let ago = self.parse::<Age>(here.key("ago"), ago?)?;
        Some(at.saturating_sub(ago.duration()).unwrap_or(at))
    }

    /// The digests of the images that a name means; of every image without one.
    fn meant(&mut self, name: Option<&str>, used: &[Used], here: &Path) -> Vec<Digest> {
        let meant = used.iter();
        let meant = meant.filter(|used| name.is_none_or(|name| used.is_called(name)));
        let meant: Vec<_> = meant.collect();
        if let (Some(name), true) = (name, meant.is_empty()) {
            let why = format!("the case has no image `{name}`");
            let known = used.iter().map(|used| used.reference.as_written());
            let problem = self.document.problem(here.key("image"), why);
            self.problems.push(problem.suggesting(name, known));
        }
        let digests = meant.into_iter().filter_map(|used| used.digest.clone());
        digests.collect()
    }

    /// The object for which a Pod is created.
    fn parent(
        &mut self,
        case: &CaseSpec,
        given: &Map<String, Value>,
        here: &Path,
    ) -> Option<Parent> {
        if case.record.is_none() {
            let why = "without release records nothing tells what was added; add `record`";
            self.refuse(here.clone(), why);
        }
        let mut object = Value::Object(given.clone());
        // A manifest has none.
        if object.pointer("/metadata/uid").is_none()
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("uid".to_owned(), "parent".into());
        }
        let parent = admission::parent(&object);
        if parent.is_none() {
            let why = "expected an object with a pod template, such as a ReplicaSet, with `apiVersion`, `kind` and `metadata.name`";
            self.refuse(here.clone(), why);
        }
        parent
    }

    fn entry(&mut self, given: &RecordSpec, here: &Path) -> Option<GivenEntry> {
        let ago = self.parse::<Age>(here.key("ago"), &given.ago)?;
        let digest = match &given.digest {
            Some(digest) => Some(self.parse::<Digest>(here.key("digest"), digest)?),
            None => None,
        };
        let by = given.by.unwrap_or_default();
        let complied = match (&given.complied, by) {
            (Some(complied), _) => complied.clone(),
            (None, RecordedReason::Policy) => self.policy_names.clone(),
            (None, _) => BTreeSet::new(),
        };
        let environments = match (&given.environments, complied.is_empty()) {
            (Some(environments), _) => environments.clone(),
            (None, false) => self.environments.clone(),
            (None, true) => BTreeSet::new(),
        };
        Some(GivenEntry {
            image: given.image.clone(),
            digest,
            another_template: given.another_template,
            observed: given.observed.unwrap_or(true),
            running: !given.staged,
            complied,
            by: by.into(),
            environments,
            source: given.source.as_ref().map(|source| RecordedSource {
                repository: source.repository.clone(),
                commit: source.commit.clone(),
            }),
            ago: ago.duration(),
        })
    }
}

impl Kept {
    /// Whether the case has release records.
    pub(super) fn has_records(&self) -> bool {
        self.entries.is_some()
    }

    /// Whether it names signers of the sandbox.
    pub(super) fn names_signers(&self) -> bool {
        !self.vex.is_empty()
    }

    /// Adds what is kept about digests to what a review knows.
    pub(super) fn add_to(&self, world: &mut World, signers: Option<&TestSigners>) {
        for (index, (digest, by, said)) in self.vex.iter().enumerate() {
            let signer = signers.and_then(|signers| signers.kept(by));
            let kept = signer.map(|signer| KeptVex {
                name: format!("vex-record-{}", index + 1),
                signer,
                statements: vec![said.clone()],
            });
            world.vex.entry(digest.clone()).or_default().extend(kept);
        }
        world.revocations.extend(self.revocations.clone());
        for (digest, kept) in &self.rejections {
            let known = world.rejections.entry(digest.clone()).or_default();
            known.extend(kept.iter().cloned());
        }
    }

    /// The template that the workload has now: that of its last admission.
    pub(super) fn present(&self, change: &Change) -> Option<Digest> {
        let entries = self.entries.iter().flatten();
        let present = entries.min_by_key(|given| given.ago)?;
        Some(present.template(change))
    }

    /// What release records say about a change.
    pub(super) fn records(&self, change: &Change, pins: &[Pin], at: Timestamp) -> Records {
        let mut records = Records {
            has_baseline: true,
            ..Records::default()
        };
        for (image, pin) in change.images.iter().zip(pins) {
            let used = Used {
                reference: image.reference.clone(),
                repository: image.reference.repository().clone(),
                digest: pin.digest().cloned(),
            };
            let given = self.entries.iter().flatten();
            let given =
                given.filter(|it| it.image.as_ref().is_none_or(|name| used.is_called(name)));
            let mut own = ImageRecords::default();
            for given in given {
                let entry = Arc::new(given.entry(change, pin, at));
                let is_of_digest = entry.digest.is_some() && entry.digest.as_ref() == pin.digest();
                if is_of_digest && entry.by == AdmittedBy::Policy && !entry.complied.is_empty() {
                    own.environments.extend(entry.environments.iter().cloned());
                    own.ages_judged.extend(entry.ages_judged.iter().cloned());
                }
                if is_of_digest || image.reference.digest().is_none() {
                    own.entries.push(Arc::clone(&entry));
                }
                records.workload.push(entry);
            }
            records.images.push(own);
        }
        records
    }
}

impl GivenEntry {
    fn template(&self, change: &Change) -> Digest {
        let own = change.object.template.clone();
        match self.another_template {
            true => Digest::sha256(b"another template"),
            false => own.unwrap_or_else(|| Digest::sha256(b"template")),
        }
    }

    fn entry(&self, change: &Change, pin: &Pin, at: Timestamp) -> RecordEntry {
        RecordEntry {
            digest: self.digest.clone().or_else(|| pin.digest().cloned()),
            workload: change.workload.clone(),
            uid: None,
            template: self.template(change),
            observed: self.observed,
            running: self.running,
            complied: self.complied.clone(),
            by: self.by,
            environments: self.environments.clone(),
            ages_judged: ages_judged_by(&self.complied),
            source: self.source.clone(),
            at: at.saturating_sub(self.ago).unwrap_or(at),
        }
    }
}

/// The record that policies judged the ages of scans.
fn ages_judged_by(policies: &BTreeSet<String>) -> BTreeSet<String> {
    let each = policies.iter();
    let ages =
        each.flat_map(|name| [ScanAge::Scan, ScanAge::Database].map(|age| age.judged_by(name)));
    ages.collect()
}

impl From<RecordedReason> for AdmittedBy {
    fn from(reason: RecordedReason) -> AdmittedBy {
        match reason {
            RecordedReason::Policy => AdmittedBy::Policy,
            RecordedReason::Waiver => AdmittedBy::Waiver,
            RecordedReason::Audit => AdmittedBy::Audit,
            RecordedReason::Ungoverned => AdmittedBy::Ungoverned,
            RecordedReason::Baseline => AdmittedBy::Baseline,
        }
    }
}
