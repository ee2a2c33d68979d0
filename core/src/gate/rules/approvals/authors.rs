//! Who wrote or started the change: the union of what all sources of the policy say.

use std::collections::{BTreeMap, BTreeSet};

use super::super::check::listed;
use super::super::provenance::{Provenance, is_isolated, is_of_builder};
use super::change_record::{AuthorAction, identities_of, range, record_fits};
use super::{
    AUTHOR_UNKNOWN, Approvals, AuthorSource, AuthorsOfProvenance, AuthorsOfRecord, ImageCheck,
    Judgement, Requirement,
};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{self, ChangeRole, Predicate};
use crate::gate::evidence::ImageEvidence;
use crate::gate::people::{Identity, Lookup, People, SourcePlatform};
use crate::gate::world::KeptAuthors;

/// The authors of a change, all of whom are known.
#[derive(Default)]
pub(in crate::gate) struct Authors<'p> {
    /// The people, each with the strongest evidence and what the person did.
    people: BTreeMap<&'p str, (Standing, AuthorAction)>,
    /// The commits that the change records cover, such as ``the commits after `…` up to `…` ``.
    ranges: BTreeSet<String>,
}

/// What the sources say, while they are read.
#[derive(Default)]
struct Found<'p> {
    people: BTreeMap<&'p str, (Standing, AuthorAction)>,
    automation: BTreeSet<&'p str>,
    ranges: BTreeSet<String>,
    /// Every identity that evidence names, and the statements that do; `None` if they are not asked for.
    named: Option<KeptAuthors>,
    /// What is not known, one sentence each.
    unknown: BTreeSet<String>,
}

/// Whether an identity establishes an author, or only adds one whom the directory knows; the stronger first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Establishes,
    Adds,
}

impl<'p> Authors<'p> {
    /// The authors, from every source that the policy lists.
    ///
    /// # Errors
    /// The undecided judgement, if a source does not speak or an author is not known.
    pub(super) fn find(
        rule: &Approvals,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
        people: &'p People,
    ) -> Result<Authors<'p>, Judgement> {
        let (authors, unknown) = Authors::known(rule, check, evidence, people);
        if unknown.is_empty() {
            return Ok(authors);
        }
        let detail = format!(
            "it is not known who wrote the change: {}{}",
            listed(unknown, 3),
            evidence.also_attached()
        );
        Err(Judgement::undecided(AUTHOR_UNKNOWN, detail).hint(format!(
            "add every author to a `PeopleDirectory`; attest the authors with `promotion-gate attest change {}`",
            check.name()
        )))
    }

    /// The authors as far as they are known, and why there may be others, one sentence each.
    pub(in crate::gate) fn known(
        rule: &Approvals,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
        people: &'p People,
    ) -> (Authors<'p>, BTreeSet<String>) {
        let mut found = Found::default();
        found.add_sources(rule, check, evidence, people);
        match &check.promotion.change.actor {
            Some(actor) if rule.deployer_is_author => {
                let deployer = Identity::KubernetesUser(actor.username.clone());
                found.add(&deployer, AuthorAction::DEPLOYS, Standing::Adds, people);
            }
            None if rule.deployer_is_author => {
                found.unknown.insert(
                    "the policy counts the deployer as an author, and the deployer is not known (`check --as USER`)"
                        .to_owned(),
                );
            }
            _ => {}
        }
        if found.unknown.is_empty() && found.people.is_empty() {
            if found.automation.is_empty() {
                found.unknown.insert("no source names an author".to_owned());
            } else if !rule.automation_may_author {
                let names = listed(found.automation.iter().map(|name| format!("`{name}`")), 3);
                found.unknown.insert(format!(
                    "the only known author is automation ({names}), which the policy does not accept (`automationMayAuthor`)"
                ));
            }
        }
        // What the cluster keeps only adds authors: it never makes up for a source that does not speak.
        let digest = check.subject.map(|subject| &subject.digest);
        let kept = digest.and_then(|digest| check.world.authors.get(digest));
        for identity in kept.into_iter().flat_map(|kept| &kept.identities) {
            found.add(identity, AuthorAction::KEPT, Standing::Adds, people);
        }
        let authors = Authors {
            people: found.people,
            ranges: found.ranges,
        };
        (authors, found.unknown)
    }

    /// Every identity that the sources of the policy name, and the statements that do.
    pub(super) fn to_keep(
        rule: &Approvals,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
    ) -> KeptAuthors {
        let no_people = People::default();
        let mut found = Found {
            named: Some(KeptAuthors::default()),
            ..Found::default()
        };
        found.add_sources(rule, check, evidence, &no_people);
        found.named.unwrap_or_default()
    }

    /// The commits whose authors are known, as the end of a sentence; empty without a change record. Without release records,
    /// which commit ran before is not known, so that the first commit is reported and not checked.
    pub(super) fn covered(&self) -> String {
        match self.ranges.is_empty() {
            true => String::new(),
            false => format!("; the change record covers {}", listed(&self.ranges, 2)),
        }
    }

    /// The names of the people, each with what the person did.
    pub(in crate::gate) fn people(&self) -> impl Iterator<Item = (&str, AuthorAction)> {
        self.people.iter().map(|(name, (_, did))| (*name, *did))
    }

    pub(super) fn contains(&self, person: &str) -> bool {
        self.people.contains_key(person)
    }

    /// Why an approval by this person does not count; `None` if the person is not an author.
    pub(super) fn why(&self, person: &str) -> Option<String> {
        let (_, did) = self.people.get(person)?;
        Some(format!("an author of the change ({did})"))
    }
}

impl<'p> Found<'p> {
    fn add_sources(
        &mut self,
        rule: &Approvals,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
        people: &'p People,
    ) {
        for source in &rule.authors_from {
            match source {
                AuthorSource {
                    provenance: Some(source),
                    ..
                } => {
                    self.add_provenance(source, check, evidence, people);
                }
                AuthorSource {
                    change_record: Some(source),
                    ..
                } => {
                    self.add_records(source, check, evidence, people);
                }
                _ => {}
            }
        }
    }

    /// Remembers that a statement names authors, where that is asked for.
    fn is_named_by(&mut self, statement: &VerifiedStatement) {
        if let Some(named) = &mut self.named {
            named.statements.insert(statement.digest().clone());
        }
    }

    /// Adds an identity that a statement names.
    fn add_named(
        &mut self,
        identity: Identity,
        did: AuthorAction,
        standing: Standing,
        people: &'p People,
    ) {
        self.add(&identity, did, standing, people);
        if let Some(named) = &mut self.named {
            named.identities.push(identity);
        }
    }

    fn add(
        &mut self,
        identity: &Identity,
        did: AuthorAction,
        standing: Standing,
        people: &'p People,
    ) {
        match people.person_of(identity) {
            // An identity that may be a person's is held against the person.
            Lookup::Person(person) | Lookup::Similar(person) => {
                let told = (standing, did);
                let known = self.people.entry(&person.name).or_insert(told);
                *known = told.min(*known);
            }
            Lookup::Automation(name) => {
                self.automation.insert(name);
            }
            Lookup::Unknown if standing == Standing::Establishes => {
                self.unknown
                    .insert(format!("{identity} ({did}) is not in the people directory"));
            }
            Lookup::Unknown => {}
        }
    }

    /// Adds who started the builds of which an accepted builder made provenance.
    fn add_provenance(
        &mut self,
        source: &AuthorsOfProvenance,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
        people: &'p People,
    ) {
        let mut speaks = false;
        for (_, statement) in &evidence.statements {
            let Predicate::Provenance(provenance) = statement.predicate() else {
                continue;
            };
            if !is_of_builder(&source.builders, statement, provenance, check) {
                continue;
            }
            // A workflow of the source's own repository can write any name into its provenance.
            let isolated = is_isolated(provenance, statement.signer());
            let standing = match isolated {
                true => Standing::Establishes,
                false => Standing::Adds,
            };
            self.is_named_by(statement);
            self.add_actors(provenance, standing, people);
            // A build whose provenance does not say who started it is not made known by that of another build.
            if isolated && provenance.actors.is_empty() {
                let by = statement.signer();
                self.unknown.insert(format!(
                    "the provenance by {by} does not name who started the build"
                ));
            }
            speaks |= isolated;
        }
        if !speaks {
            self.unknown.insert(
                "no provenance by an accepted and isolated builder names who started the build"
                    .to_owned(),
            );
        }
    }

    fn add_actors(
        &mut self,
        provenance: &predicate::SlsaProvenance,
        standing: Standing,
        people: &'p People,
    ) {
        for actor in &provenance.actors {
            match identity_of(actor) {
                Ok(identity) => self.add_named(identity, AuthorAction::STARTED, standing, people),
                Err(why) if standing == Standing::Establishes => {
                    self.unknown.insert(format!(
                        "the provenance names an account that cannot be looked up: {why}"
                    ));
                }
                Err(_) => {}
            }
        }
    }

    /// Adds the authors of signed change records.
    fn add_records(
        &mut self,
        source: &AuthorsOfRecord,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
        people: &'p People,
    ) {
        // The commits from which the image was built, as the policy's provenance proves them.
        let proven: Vec<_> = proven(check, evidence).collect();
        let mut open: BTreeSet<&str> = BTreeSet::new();
        for (statement, provenance) in &proven {
            open.extend(provenance.commits.iter().map(|(_, commit)| commit.as_str()));
            // Who started the build is an author too, where the provenance says it.
            self.is_named_by(statement);
            self.add_actors(provenance, Standing::Adds, people);
            if provenance.commits.is_empty() {
                let by = statement.signer();
                self.unknown.insert(format!(
                    "the provenance by {by} does not name the commit, which a change record must end with"
                ));
            }
        }
        if proven.is_empty() {
            self.unknown.insert(
                "no accepted provenance names the commit, which a change record must end with"
                    .to_owned(),
            );
        }
        let mut refused: BTreeSet<String> = BTreeSet::new();
        for (_, statement) in &evidence.statements {
            let roots = &check.world.trust_roots;
            let by_source = || source.signed_by.signed(statement, roots).is_ok();
            let record = match statement.predicate() {
                Predicate::Change(record) if by_source() => &**record,
                Predicate::Unreadable(why)
                    if predicate::is_change(statement.predicate_type()) && by_source() =>
                {
                    self.unknown.insert(format!(
                        "a change record by {} cannot be read: {why}",
                        statement.signer()
                    ));
                    continue;
                }
                _ => continue,
            };
            // 1. The record's authors count in any case: a record that does not fit can only add.
            self.is_named_by(statement);
            let fits = record_fits(source, record, statement, &proven, check);
            let standing = match &fits {
                Ok(()) => Standing::Establishes,
                Err(_) => Standing::Adds,
            };
            self.add_authors(record, standing, people);
            // 2. A record that fits says who the authors of its commit are.
            match fits {
                Ok(()) => {
                    self.ranges.insert(range(record));
                    open.retain(|commit| !commit.eq_ignore_ascii_case(record.to.as_str()));
                }
                Err(why) => {
                    refused.insert(why);
                }
            }
        }
        if !open.is_empty() {
            let commits = listed(open.into_iter().map(|commit| format!("`{commit}`")), 2);
            let but = match refused.is_empty() {
                true => String::new(),
                false => format!("; records that do not count: {}", listed(refused, 2)),
            };
            self.unknown.insert(format!(
                "no change record by {} ends with the commit {commits}{but}",
                source.signed_by
            ));
        }
    }

    fn add_authors(
        &mut self,
        record: &predicate::ChangeRecord,
        standing: Standing,
        people: &'p People,
    ) {
        let rows = record.authors.iter();
        let rows = rows.map(|row| (&row.identity, row.role, row.pull_request));
        // The pull requests name authors too, so that a record without the rows hides nobody.
        let pulls = record.pull_requests.iter().flat_map(|pull| {
            let opened = pull.opened_by.iter().map(|by| (by, ChangeRole::Opened));
            let merged = pull.merged_by.iter().map(|by| (by, ChangeRole::Merged));
            let both = opened.chain(merged);
            both.map(|(by, role)| (by, role, Some(pull.number)))
        });
        // Who a commit names, from git: they can only add.
        let named = record.commits.iter().flat_map(|commit| &commit.authors);
        let named = named.map(|identity| (identity, ChangeRole::Committed, None));
        let mut names_author = false;
        for (identity, role, pull_request) in rows.chain(pulls).chain(named) {
            let did = AuthorAction::of(role, pull_request);
            let is_vouched = role.is_vouched() && !identity.is_claimed();
            names_author |= is_vouched;
            let standing = match is_vouched {
                true => standing,
                false => Standing::Adds,
            };
            match identities_of(identity) {
                Ok(identities) => {
                    for identity in identities {
                        self.add_named(identity, did, standing, people);
                    }
                }
                Err(why) if standing == Standing::Establishes => {
                    self.unknown.insert(format!(
                        "an author of the change record cannot be looked up: {why}"
                    ));
                }
                Err(_) => {}
            }
        }
        if standing == Standing::Establishes {
            let unknown = record.unknown_authors.iter();
            self.unknown
                .extend(unknown.map(|why| format!("the change record says: {why}")));
            if !names_author {
                self.unknown.insert(
                    "the change record does not name an author for whom the platform vouches"
                        .to_owned(),
                );
            }
        }
    }
}

/// The account that provenance of GitHub Actions names.
fn identity_of(actor: &predicate::BuildActor) -> Result<Identity, String> {
    let host = Some(actor.host.as_str());
    match (&actor.login, actor.id) {
        (Some(login), id) => Identity::account(SourcePlatform::GitHub, host, login, id),
        (None, Some(id)) => Identity::account_by_id(SourcePlatform::GitHub, host, id),
        (None, None) => Err("it has neither a login nor a number".to_owned()),
    }
}

/// The provenance that the policy's own requirement `provenance` accepts.
fn proven<'e>(
    check: &ImageCheck<'_>,
    evidence: &'e ImageEvidence,
) -> impl Iterator<Item = (&'e VerifiedStatement, &'e predicate::SlsaProvenance)> {
    let requirements = check.policy.requirements.iter();
    let rules = requirements.filter_map(|named| match &named.requirement {
        Requirement::Provenance(rule) => Some(rule),
        _ => None,
    });
    rules.flat_map(move |rule: &Provenance| rule.accepted(evidence, check))
}
