//! Who wrote or started the change: the union of what all sources of the policy say.

use std::collections::{BTreeMap, BTreeSet};

use super::super::check::listed;
use super::super::provenance::{Provenance, is_isolated, is_of_builder};
use super::{
    AUTHOR_UNKNOWN, Approvals, AuthorSource, AuthorsOfProvenance, AuthorsOfRecord, ImageCheck,
    Judgement, Requirement,
};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{self, Predicate};
use crate::gate::evidence::ImageEvidence;
use crate::gate::people::{Identity, Lookup, People, Platform as SourcePlatform};

/// The authors of a change, all of whom are known.
pub(super) struct Authors {
    /// The people, each with what they did.
    people: BTreeMap<String, String>,
}

/// What the sources say, while they are read.
#[derive(Default)]
struct Found {
    people: BTreeMap<String, String>,
    automation: BTreeSet<String>,
    /// What is not known, one sentence each.
    unknown: BTreeSet<String>,
}

/// Whether an identity establishes an author, or only adds one whom the directory knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Establishes,
    Adds,
}

impl Authors {
    /// The authors, from every source that the policy lists.
    ///
    /// # Errors
    /// The undecided judgement, if a source does not speak or an author is not known.
    pub(super) fn find(
        rule: &Approvals,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
        people: &People,
    ) -> Result<Authors, Judgement> {
        let mut found = Found::default();
        for source in &rule.authors_from {
            match source {
                AuthorSource {
                    provenance: Some(source),
                    ..
                } => {
                    found.add_provenance(source, check, evidence, people);
                }
                AuthorSource {
                    change_record: Some(source),
                    ..
                } => {
                    found.add_records(source, check, evidence, people);
                }
                _ => {}
            }
        }
        if rule.deployer_is_author
            && let Some(actor) = &check.promotion.change.actor
        {
            let deployer = Identity::KubernetesUser(actor.username.clone());
            found.add(&deployer, "deploys the change", Standing::Adds, people);
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
        if found.unknown.is_empty() {
            return Ok(Authors {
                people: found.people,
            });
        }
        let detail = format!(
            "it is not known who wrote the change: {}",
            listed(found.unknown, 3)
        );
        Err(Judgement::undecided(AUTHOR_UNKNOWN, detail).hint(format!(
            "add every author to a `PeopleDirectory`; attest the authors with `promotion-gate attest change {}`",
            check.name()
        )))
    }

    pub(super) fn contains(&self, person: &str) -> bool {
        self.people.contains_key(person)
    }

    /// Why an approval by this person does not count; `None` if the person is not an author.
    pub(super) fn why(&self, person: &str) -> Option<String> {
        let did = self.people.get(person)?;
        Some(format!("an author of the change ({did})"))
    }
}

impl Found {
    fn add(&mut self, identity: &Identity, did: &str, standing: Standing, people: &People) {
        match people.person_of(identity) {
            // An identity that may be a person's is held against the person.
            Lookup::Person(person) | Lookup::Similar(person) => {
                let known = self.people.entry(person.name.clone());
                let known = known.or_insert_with(|| did.to_owned());
                if did < known.as_str() {
                    *known = did.to_owned();
                }
            }
            Lookup::Automation(name) => {
                self.automation.insert(name.to_owned());
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
        people: &People,
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
            for actor in &provenance.actors {
                match identity_of(actor) {
                    Ok(identity) => self.add(&identity, "started the build", standing, people),
                    Err(why) if isolated => {
                        self.unknown.insert(format!(
                            "the provenance names an account that cannot be looked up: {why}"
                        ));
                    }
                    Err(_) => {}
                }
                speaks |= isolated;
            }
        }
        if !speaks {
            self.unknown.insert(
                "no provenance by an accepted and isolated builder names who started the build"
                    .to_owned(),
            );
        }
    }

    /// Adds the authors of signed change records.
    fn add_records(
        &mut self,
        _source: &AuthorsOfRecord,
        check: &ImageCheck<'_>,
        evidence: &ImageEvidence,
        _people: &People,
    ) {
        let _ = proven(check, evidence).count();
        self.unknown
            .insert("change records are not read yet".to_owned());
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
