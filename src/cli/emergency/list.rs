//! `emergency list`: the emergency changes by which a cluster admitted something, and whether they were reviewed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use promotion_gate_core::gate::{
    EmergencyWord, ImageReference, ListedDeclaration, People, command_line,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::ListArgs;
use super::about::{About, Case};
use crate::api::{
    ChangeOutcome, EmergencyChangeRecordSpec, EmergencyChangeRecordStatus, EmergencyState, Kind,
    WrittenEmergency,
};
use crate::cli::deciding::Sources;
use crate::cli::render::Output;
use crate::cli::render::human::{GREEN, RED, YELLOW};
use crate::cluster::Cluster;
use crate::record::{ReadRecord, read_records};
use crate::snapshot::{Once, read_emergency_record};
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
    /// When it was used last.
    #[serde(skip)]
    last_admitted: Timestamp,
    /// When its review is due.
    #[schemars(with = "String")]
    review_due: Timestamp,
    /// `reviewed`, `lifted` (a governor deleted its record), `due`, `overdue`, or `unknown` if reviews could not be read.
    state: &'static str,
    /// What became of the change: `ready`, `pending`, `notObserved`, `failed`, `rolledBack`, `replaced` or `gone`; absent where that is not known.
    outcome: Option<&'static str>,
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
    let only = args.environment.as_deref();
    let mut used = used(&records, only);
    add_kept(&mut used, &kept(&cluster).await, only, sources.place());
    let mut used: Vec<_> = used.into_values().collect();
    let owed = used.iter().filter(|it| !it.has_ended());
    let environments: BTreeSet<_> = owed.map(|it| it.environment.clone()).collect();
    for environment in environments {
        let own: Vec<_> = used
            .iter_mut()
            .filter(|it| it.environment == environment && !it.has_ended())
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

/// Emergency changes by environment and declaration.
type AllUsed = BTreeMap<(String, String), UsedEmergency>;

/// A record of an emergency change, and its status.
type Kept = (EmergencyChangeRecordSpec, EmergencyChangeRecordStatus);

/// What the cluster keeps of emergency changes. Where that cannot be read, release records alone are shown.
async fn kept(cluster: &Cluster) -> Vec<Kept> {
    let read = Once::resources(cluster, &[Kind::EmergencyChangeRecord]).await;
    let resources = read.unwrap_or_else(|failure| {
        print_error!("warning: {failure}");
        Vec::new()
    });
    let mut kept = Vec::new();
    for resource in resources {
        match read_emergency_record(&resource) {
            Ok(record) => kept.push(record),
            Err(why) => print_error!(
                "warning: the EmergencyChangeRecord `{}` cannot be read: {why}",
                resource.name.name
            ),
        }
    }
    kept
}

/// Adds what the cluster keeps of emergency changes: also those that no release record names any more.
fn add_kept(all: &mut AllUsed, kept: &[Kept], environment: Option<&str>, namespace: Option<&str>) {
    for (spec, status) in kept {
        let is_there = namespace.is_none_or(|namespace| {
            let mut uses = spec.uses.iter();
            uses.any(|used| used.workload.namespace.as_deref() == Some(namespace))
        });
        if !is_there || environment.is_some_and(|only| only != spec.environment) {
            continue;
        }
        let key = (spec.environment.clone(), spec.declaration.clone());
        let known = all.entry(key);
        let known = known.or_insert_with(|| UsedEmergency::of_record(spec));
        known.add_record(spec, status);
    }
}

/// The emergency changes that records name, each once in each environment.
fn used(records: &[ReadRecord], environment: Option<&str>) -> AllUsed {
    let mut all = AllUsed::new();
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
    all
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
            last_admitted: mark.admitted,
            review_due: mark.review_due,
            state: "unknown",
            outcome: None,
            verdict: None,
            reviewer: None,
            why: None,
        }
    }

    fn of_record(spec: &EmergencyChangeRecordSpec) -> UsedEmergency {
        UsedEmergency {
            declaration: spec.declaration.clone(),
            environment: spec.environment.clone(),
            incident: spec.incident.id.clone(),
            incident_state: spec.incident.state.clone(),
            declared_by: BTreeSet::new(),
            approved_by: BTreeSet::new(),
            authors: BTreeSet::new(),
            requesters: BTreeSet::new(),
            workloads: BTreeSet::new(),
            images: BTreeSet::new(),
            admitted: spec.admitted,
            last_admitted: spec.last_admitted,
            review_due: spec.review_due,
            state: "unknown",
            outcome: None,
            verdict: None,
            reviewer: None,
            why: None,
        }
    }

    /// Whether no review is owed.
    fn has_ended(&self) -> bool {
        ["reviewed", "lifted"].contains(&self.state)
    }

    fn add_record(
        &mut self,
        spec: &EmergencyChangeRecordSpec,
        status: &EmergencyChangeRecordStatus,
    ) {
        self.declared_by.extend(spec.declared_by.iter().cloned());
        self.approved_by.extend(spec.approved_by.iter().cloned());
        self.authors.extend(spec.authors.iter().cloned());
        self.requesters.extend(spec.requesters.iter().cloned());
        for used in &spec.uses {
            let of = &used.workload;
            let namespace = of.namespace.as_deref().unwrap_or_default();
            self.workloads
                .insert(format!("{} {namespace}/{}", of.kind, of.name));
            self.images.insert(used.image.clone());
        }
        self.add_incident_state(&spec.incident.state);
        self.admitted = self.admitted.min(spec.admitted);
        self.last_admitted = self.last_admitted.max(spec.last_admitted);
        self.review_due = self.review_due.min(spec.review_due);
        self.outcome = status.outcome.map(ChangeOutcome::id);
        // Release records may tell of a later use.
        let spec = EmergencyChangeRecordSpec {
            admitted: self.admitted,
            last_admitted: self.last_admitted,
            review_due: self.review_due,
            ..spec.clone()
        };
        self.review_due = spec.due(status);
        let state = spec.state(status, spec.review_due);
        if state.is_ended() {
            self.state = state.id();
        }
        if let (EmergencyState::Reviewed, Some(review)) = (state, &status.review) {
            let verdicts = ["justified", "unjustified", "inconclusive"].into_iter();
            self.verdict = verdicts.into_iter().find(|known| *known == review.verdict);
            self.reviewer = Some(review.reviewer.clone());
        }
    }

    fn add(&mut self, mark: &WrittenEmergency, workload: &str, image: &str) {
        self.declared_by.extend(mark.declared_by.iter().cloned());
        self.approved_by.extend(mark.approved_by.iter().cloned());
        self.authors.extend(mark.authors.iter().cloned());
        self.requesters.extend(mark.requester.iter().cloned());
        self.workloads.insert(workload.to_owned());
        let own = mark.images.iter();
        let own = own.filter(|it| it.ends_with(&format!("@{image}")));
        self.images.extend(own.cloned());
        self.add_incident_state(&mark.incident_state);
        self.admitted = self.admitted.min(mark.admitted);
        self.last_admitted = self.last_admitted.max(mark.admitted);
        self.review_due = self.review_due.min(mark.review_due);
    }

    /// The incident is verified if the tracker confirmed it for each use.
    fn add_incident_state(&mut self, state: &str) {
        if self.incident_state != state {
            self.incident_state = "unverified".to_owned();
        }
    }

    /// The command with which a person reviews it.
    fn review_command(&self, args: &ListArgs) -> String {
        let mut words = ["promotion-gate", "emergency", "review"]
            .map(str::to_owned)
            .to_vec();
        words.extend(self.images.iter().cloned());
        let said = ["--environment", &self.environment, "--declaration"];
        let verdict = ["--verdict", "VERDICT", "--reason", "TEXT"];
        let said = said.into_iter().chain([&*self.declaration]).chain(verdict);
        words.extend(said.map(str::to_owned));
        if let Some(repository) = &args.deciding.repository {
            words.extend(["--repository".to_owned(), repository.to_string()]);
        }
        words.extend(args.deciding.arguments());
        command_line(words.iter().map(String::as_str))
    }

    /// Takes over a review by a person who had no part in the emergency change, by what is signed and by what the records say, if it was signed
    /// after the last use.
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
            let is_later = statement.earliest >= Some(self.last_admitted);
            if is_later && participants.why_not_reviewer(person).is_none() {
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
            ended @ ("reviewed" | "lifted") => format!("{GREEN}{ended}{GREEN:#}"),
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
        if let Some(outcome) = it.outcome {
            print_line!("  outcome       {outcome}");
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
            _ if it.has_ended() => {
                print_line!("  review        not owed: a governor deleted the record")
            }
            _ => {
                print_line!("  review due    {:.0}", it.review_due);
                print_line!("  review with   {}", it.review_command(args));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_keeps_is_listed_also_without_a_release_record() {
        let record = |environment: &str| {
            let spec = serde_json::json!({
                "declaration": "sha256:1", "environment": environment,
                "incident": {"id": "INC1", "state": "verified"},
                "declaredBy": ["ben"], "requesters": ["alice"],
                "admitted": "2026-01-01T00:00:00Z", "lastAdmitted": "2026-01-01T00:00:00Z",
                "expires": "2026-01-01T04:00:00Z", "reviewDue": "2026-01-03T00:00:00Z",
                "uses": [{
                    "workload": {"group": "apps", "version": "v1", "kind": "Deployment", "namespace": "shop", "name": "web"},
                    "template": "sha256:2", "image": "registry.example/app@sha256:3",
                    "admitted": "2026-01-01T00:00:00Z", "decision": "1",
                }],
            });
            let status = serde_json::json!({"outcome": "rolledBack", "review": {
                "verdict": "unjustified", "reviewer": "eve", "at": "2026-01-02T00:00:00Z", "reason": "x",
                "statement": "sha256:4",
            }});
            let spec: EmergencyChangeRecordSpec = serde_json::from_value(spec).unwrap();
            let status: EmergencyChangeRecordStatus = serde_json::from_value(status).unwrap();
            (spec, status)
        };
        let kept = [record("production"), record("staging")];
        let listed = |environment: Option<&str>, namespace: Option<&str>| {
            let mut all = AllUsed::new();
            add_kept(&mut all, &kept, environment, namespace);
            all.into_values().collect::<Vec<_>>()
        };
        let [one] = &listed(Some("production"), Some("shop"))[..] else {
            panic!("one environment is listed");
        };
        assert_eq!(
            (one.state, one.verdict, one.outcome),
            ("reviewed", Some("unjustified"), Some("rolledBack"))
        );
        assert_eq!(one.reviewer.as_deref(), Some("eve"));
        assert!(one.workloads.contains("Deployment shop/web"));
        assert_eq!(listed(None, None).len(), 2);
        assert_eq!(listed(None, Some("other")).len(), 0);
    }

    #[test]
    fn the_uses_of_one_declaration_are_listed_as_one_that_ended_if_its_review_came_after_the_last()
    {
        let at = |minute: i64| Timestamp::from_second(60 * minute).unwrap();
        let used = |requester: &str, state: &str, minute: i64| WrittenEmergency {
            declaration: "sha256:1".to_owned(),
            environment: "production".to_owned(),
            incident: "INC1".to_owned(),
            incident_opened_by: None,
            incident_url: None,
            incident_state: state.to_owned(),
            declared_by: ["ben".to_owned()].into(),
            approved_by: BTreeSet::new(),
            authors: BTreeSet::new(),
            unknown_author: false,
            requester: Some(requester.to_owned()),
            policies: BTreeSet::new(),
            waived: BTreeSet::new(),
            images: BTreeSet::new(),
            admitted: at(minute),
            expires: at(60),
            review_due: at(minute + 100),
        };
        let spec = serde_json::json!({
            "declaration": "sha256:1", "environment": "production",
            "incident": {"id": "INC1", "state": "verified"}, "requesters": ["alice"],
            "admitted": at(10), "lastAdmitted": at(10), "expires": at(60), "reviewDue": at(110),
        });
        let spec: EmergencyChangeRecordSpec = serde_json::from_value(spec).unwrap();
        let status = serde_json::json!({"review": {
            "verdict": "justified", "reviewer": "bob", "at": at(15), "reason": "x", "statement": "sha256:4",
        }});
        let status: EmergencyChangeRecordStatus = serde_json::from_value(status).unwrap();
        let listed = |marks: &[WrittenEmergency]| {
            let mut listed = UsedEmergency::of(&marks[0]);
            for mark in marks {
                listed.add(mark, "Deployment shop/web", "sha256:2");
            }
            listed.add_record(&spec, &status);
            listed
        };
        let first = used("alice", "verified", 10);
        assert!(listed(std::slice::from_ref(&first)).has_ended());
        let again = used("bob", "unverified", 20);
        for marks in [[first.clone(), again.clone()], [again, first]] {
            let both = listed(&marks);
            assert!(!both.has_ended(), "the last use was not reviewed");
            assert_eq!(both.incident_state, "unverified");
            // The time of the first review is not that of the second one.
            assert_eq!((both.admitted, both.review_due), (at(10), at(120)));
            assert_eq!(both.requesters, ["alice", "bob"].map(str::to_owned).into());
            assert_eq!(both.workloads.len(), 1);
        }
    }

    #[test]
    fn the_documented_schema_is_that_of_the_report() {
        crate::cli::render::assert_documented::<UsedEmergencies>("emergencies");
    }
}
