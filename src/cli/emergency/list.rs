//! `emergency list`: the emergency changes by which a cluster admitted something, and whether they were reviewed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use promotion_gate_core::gate::{EmergencyWord, ImageReference, ListedDeclaration, People};
use schemars::JsonSchema;
use serde::Serialize;

use super::ListArgs;
use super::about::{About, Case};
use crate::api::WrittenEmergency;
use crate::cli::deciding::Sources;
use crate::cli::render::Output;
use crate::cli::render::human::{GREEN, RED, YELLOW};
use crate::record::{ReadRecord, read_records};
use crate::text::line;

/// The version of the JSON schema.
const VERSION: &str = "promotion-gate.dev/emergencies/v1alpha1";
/// The exit code where a review is overdue.
const OVERDUE: u8 = 2;
/// The exit code where it is not known whether a review is overdue.
const UNKNOWN: u8 = 3;
/// The most images of which reviews are looked for, in one environment.
const MAXIMUM_IMAGES: usize = 200;

/// The emergency changes that were used.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UsedEmergencies {
    /// `promotion-gate.dev/emergencies/v1alpha1`
    version: &'static str,
    /// Those whose review is due first come first.
    emergencies: Vec<UsedEmergency>,
}

/// An emergency change that was used in an environment.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UsedEmergency {
    /// The digest of the statement that declares it.
    declaration: String,
    environment: String,
    /// The id of the incident.
    incident: String,
    /// `verified` if the incident's tracker confirmed it, otherwise `unverified`.
    incident_state: String,
    declared_by: BTreeSet<String>,
    approved_by: BTreeSet<String>,
    authors: BTreeSet<String>,
    /// The Kubernetes users who asked for the changes.
    requesters: BTreeSet<String>,
    /// What was admitted, as `KIND NAMESPACE/NAME`.
    workloads: BTreeSet<String>,
    /// The images, each with its digest.
    images: BTreeSet<String>,
    /// When it was used first.
    #[schemars(with = "String")]
    admitted: Timestamp,
    /// When its review is due.
    #[schemars(with = "String")]
    review_due: Timestamp,
    /// `reviewed`, `due`, `overdue`, or `unknown` if reviews could not be read.
    state: &'static str,
    /// The result of the review: `justified`, `unjustified` or `inconclusive`.
    verdict: Option<&'static str>,
    /// Who reviewed it.
    reviewer: Option<String>,
    /// Why the state is not known.
    why: Option<String>,
}

pub(super) async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut sources = args.deciding.clone().open_without_policies().await?;
    let Some(cluster) = sources.cluster.clone() else {
        bail!(
            "which emergency changes were used is recorded in a cluster alone: give `--from-cluster`"
        );
    };
    let records = read_records(&cluster, sources.place()).await?;
    let mut used = used(&records, args.environment.as_deref());
    let environments: BTreeSet<_> = used.iter().map(|it| it.environment.clone()).collect();
    for environment in environments {
        let own: Vec<_> = used
            .iter_mut()
            .filter(|it| it.environment == environment)
            .collect();
        review_states(own, &environment, &args, &mut sources).await;
    }
    used.sort_by(|a, b| (a.review_due, &a.declaration).cmp(&(b.review_due, &b.declaration)));
    let has = |state: &str| used.iter().any(|it| it.state == state);
    let code = match (has("overdue"), has("unknown")) {
        (true, _) => ExitCode::from(OVERDUE),
        (false, true) => ExitCode::from(UNKNOWN),
        (false, false) => ExitCode::SUCCESS,
    };
    print(&args, used)?;
    Ok(code)
}

/// The emergency changes that records name, each once in each environment.
fn used(records: &[ReadRecord], environment: Option<&str>) -> Vec<UsedEmergency> {
    let mut all: BTreeMap<(String, String), UsedEmergency> = BTreeMap::new();
    for record in records {
        for entry in record.entries.values() {
            let workload = format!(
                "{} {}/{}",
                entry.workload.kind, record.namespace, entry.workload.name
            );
            for mark in &entry.emergency {
                if environment.is_some_and(|only| only != mark.environment) {
                    continue;
                }
                let key = (mark.environment.clone(), mark.declaration.clone());
                let known = all.entry(key).or_insert_with(|| UsedEmergency::of(mark));
                known.add(mark, &workload, &record.image);
            }
        }
    }
    all.into_values().collect()
}

impl UsedEmergency {
    fn of(mark: &WrittenEmergency) -> UsedEmergency {
        UsedEmergency {
            declaration: mark.declaration.clone(),
            environment: mark.environment.clone(),
            incident: mark.incident.clone(),
            incident_state: mark.incident_state.clone(),
            declared_by: BTreeSet::new(),
            approved_by: BTreeSet::new(),
            authors: BTreeSet::new(),
            requesters: BTreeSet::new(),
            workloads: BTreeSet::new(),
            images: BTreeSet::new(),
            admitted: mark.admitted,
            review_due: mark.review_due,
            state: "unknown",
            verdict: None,
            reviewer: None,
            why: None,
        }
    }

    fn add(&mut self, mark: &WrittenEmergency, workload: &str, image: &str) {
        self.declared_by.extend(mark.declared_by.iter().cloned());
        self.approved_by.extend(mark.approved_by.iter().cloned());
        self.authors.extend(mark.authors.iter().cloned());
        self.requesters.extend(mark.requester.iter().cloned());
        self.workloads.insert(workload.to_owned());
        if image.starts_with("sha256:") {
            let named = mark
                .repositories
                .iter()
                .map(|name| format!("{name}@{image}"));
            self.images.extend(named);
        }
        self.admitted = self.admitted.min(mark.admitted);
        self.review_due = self.review_due.min(mark.review_due);
    }

    /// Takes over a review by a person who had no part in the emergency change, by what is signed and by what the records say.
    fn reviewed(&mut self, declared: &ListedDeclaration, people: &People) {
        let mut participants = declared.participants.clone();
        participants
            .declared_by
            .extend(self.declared_by.iter().cloned());
        participants
            .agreed_by
            .extend(self.approved_by.iter().cloned());
        participants.authors.extend(self.authors.iter().cloned());
        for user in &self.requesters {
            participants.add_requester(user, people);
        }
        for statement in &declared.statements {
            let (EmergencyWord::Reviewed(verdict, _), Ok(_), Some(person)) =
                (&statement.word, &statement.counts, &statement.person)
            else {
                continue;
            };
            if participants.why_not_reviewer(person).is_none() {
                self.state = "reviewed";
                self.verdict = Some(verdict.id());
                self.reviewer = Some(person.clone());
            }
        }
    }
}

/// Looks for the reviews of emergency changes of one environment, in the registries.
async fn review_states(
    mut own: Vec<&mut UsedEmergency>,
    environment: &str,
    args: &ListArgs,
    sources: &mut Sources,
) {
    let now = Timestamp::now();
    match reviews(&own, environment, args, sources).await {
        Err(error) => {
            for it in own {
                it.why = Some(format!("{error:#}"));
            }
        }
        Ok((declarations, people)) => {
            for it in &mut own {
                it.state = match it.review_due < now {
                    true => "overdue",
                    false => "due",
                };
                let id = it.declaration.clone();
                for declared in declarations
                    .iter()
                    .filter(|of| of.declaration.to_string() == id)
                {
                    it.reviewed(declared, &people);
                }
            }
        }
    }
}

async fn reviews(
    own: &[&mut UsedEmergency],
    environment: &str,
    args: &ListArgs,
    sources: &mut Sources,
) -> anyhow::Result<(Vec<ListedDeclaration>, People)> {
    let images: BTreeSet<_> = own.iter().flat_map(|it| it.images.iter()).collect();
    if images.len() > MAXIMUM_IMAGES {
        bail!("more than {MAXIMUM_IMAGES} images; name a namespace with `--namespace`");
    }
    let images = images.iter().map(|image| image.parse::<ImageReference>());
    let images: Vec<_> = images.collect::<Result<_, _>>()?;
    let about = About::of_images(
        images,
        environment,
        &args.deciding,
        &args.recorded,
        args.timeout,
    );
    let case = Case::read(&about, sources).await?;
    let people = case.judged.inputs.snapshot.world.people.value();
    let people = people.context("the people directory is not known")?;
    let people = People::clone(people);
    let outlooks = case.outlooks(None).into_iter();
    let declarations = outlooks.flat_map(|it| it.outlook.declarations);
    Ok((declarations.collect(), people))
}

fn print(args: &ListArgs, emergencies: Vec<UsedEmergency>) -> anyhow::Result<()> {
    if args.output == Output::Json {
        let report = UsedEmergencies {
            version: VERSION,
            emergencies,
        };
        return crate::cli::out::write_json(&serde_json::to_value(&report)?);
    }
    if emergencies.is_empty() {
        print_line!("no emergency change was used");
    }
    for it in &emergencies {
        let state = match it.state {
            "reviewed" => format!("{GREEN}reviewed{GREEN:#}"),
            "overdue" => format!("{RED}overdue{RED:#}"),
            other => format!("{YELLOW}{other}{YELLOW:#}"),
        };
        let listed = |names: &BTreeSet<String>| {
            line(
                &names
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
            )
        };
        print_line!(
            "{state} {} of `{}`",
            line(&it.declaration),
            line(&it.environment)
        );
        print_line!(
            "  incident      {} ({})",
            line(&it.incident),
            line(&it.incident_state)
        );
        print_line!(
            "  admitted      {:.0}: {}",
            it.admitted,
            listed(&it.workloads)
        );
        for image in &it.images {
            print_line!("  image         {}", line(image));
        }
        print_line!(
            "  declared by   {}; agreed: {}",
            listed(&it.declared_by),
            listed(&it.approved_by)
        );
        match (&it.verdict, &it.reviewer, &it.why) {
            (Some(verdict), Some(person), _) => {
                print_line!("  reviewed by   {}: {verdict}", line(person))
            }
            (_, _, Some(why)) => print_line!(
                "  review due    {:.0}; whether it was reviewed is not known: {}",
                it.review_due,
                line(why)
            ),
            _ => print_line!("  review due    {:.0}", it.review_due),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_that_of_the_report() {
        crate::cli::render::assert_documented::<UsedEmergencies>("emergencies");
    }
}
