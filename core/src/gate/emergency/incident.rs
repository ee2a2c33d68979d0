//! Whether the incident that a declaration names is what the policy asks for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::policy::{IncidentRequirement, WhenUnreachable};
use super::reasons::{EMERGENCY_INCIDENT, EMERGENCY_INCIDENT_UNKNOWN};
use super::refused::{Refused, Step};
use super::signed::Agreed;
use super::used::IncidentState;
use crate::attest::predicate::EmergencyChange;
use crate::gate::evidence::Collected;
use crate::gate::incident::Incident;
use crate::gate::people::{Identity, People, Person};
use crate::gate::rules::listed;

/// The most characters of an account's name that are shown.
const MAXIMUM_ACCOUNT: usize = 100;

/// What an incident check is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IncidentQuestion {
    /// The name of the check.
    pub check: String,
    /// The id of the incident.
    pub id: String,
}

/// The answers of the incident checks:
/// * `Known(None)`: the tracker does not have this incident
/// * `Unavailable`: the tracker could not be reached
/// * `Partial`: the tracker was reached, and its answer cannot be used
pub type IncidentAnswers = BTreeMap<IncidentQuestion, Collected<Option<Incident>>>;

/// Whether the incident is verified, and the tracker's answer about it.
///
/// # Errors
/// Why it is not what the policy asks for. A question that was not asked yet is added to `asks`.
pub(super) fn verify_incident<'i>(
    required: Option<&IncidentRequirement>,
    agreed: &Agreed<'_>,
    people: &[&Person],
    namespace: Option<&str>,
    answers: &'i IncidentAnswers,
    asks: &mut BTreeSet<IncidentQuestion>,
) -> Result<(IncidentState, Option<&'i Incident>), Refused> {
    let Some(required) = required else {
        let why = "the policy does not ask an incident check".to_owned();
        return Ok((IncidentState::Unverified(why), None));
    };
    let id = &agreed.said.incident.id;
    let question = IncidentQuestion {
        check: required.check.clone(),
        id: id.clone(),
    };
    let Some(answer) = answers.get(&question) else {
        let check = &required.check;
        asks.insert(question);
        return Err(Refused::undecided(
            Step::Incident,
            EMERGENCY_INCIDENT_UNKNOWN,
            format!("the incident check `{check}` was not asked about `{id}`"),
        ));
    };
    match (answer, required.when_unreachable) {
        (Collected::Known(Some(incident)), _) => {
            let wrong = wrong(required, incident, agreed, people, namespace);
            if wrong.is_empty() {
                return Ok((IncidentState::Verified, Some(incident)));
            }
            let detail = format!("the incident `{id}` {}", listed(wrong, 4));
            Err(Refused::failed(Step::Incident, EMERGENCY_INCIDENT, detail))
        }
        (Collected::Known(None), _) => Err(Refused::failed(
            Step::Incident,
            EMERGENCY_INCIDENT,
            format!(
                "the incident check `{}` knows no incident `{id}`",
                required.check
            ),
        )),
        (Collected::Unavailable(why), WhenUnreachable::Allow) => {
            Ok((IncidentState::Unverified(why.to_string()), None))
        }
        // `whenUnreachable: Allow` does not accept an answer that cannot be used. The author of a declaration chooses the incident, and
        // could choose one with such an answer.
        (Collected::Partial(..) | Collected::Unavailable(_), _) => {
            let why = answer.unavailabilities().first();
            let why = why.map(ToString::to_string).unwrap_or_default();
            Err(Refused::undecided(
                Step::Incident,
                EMERGENCY_INCIDENT_UNKNOWN,
                format!("whether the incident `{id}` is open is not known: {why}"),
            ))
        }
    }
}

/// What is wrong with an incident for a declaration that was signed at `declared_at`, each as the end of a sentence about it. `people`
/// are those who declare it and agree to it.
pub fn incident_outlook(
    required: &IncidentRequirement,
    said: &EmergencyChange,
    incident: &Incident,
    people: &[&Person],
    namespace: Option<&str>,
    declared_at: Timestamp,
) -> Vec<String> {
    let declared = Agreed {
        said,
        declared_by: BTreeSet::new(),
        agreed: BTreeSet::new(),
        declared_at,
        ends: said.expires,
    };
    wrong(required, incident, &declared, people, namespace)
}

/// What is wrong with an incident, each as the end of a sentence about it.
fn wrong(
    required: &IncidentRequirement,
    incident: &Incident,
    agreed: &Agreed<'_>,
    people: &[&Person],
    namespace: Option<&str>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    if incident.id != agreed.said.incident.id {
        wrong.push(format!("was answered as `{}`", incident.id));
    }
    if !incident.open {
        wrong.push("is not open".to_owned());
    }
    if let Some(minimum) = required.minimum_severity {
        match incident.severity {
            Some(severity) if severity.reaches(minimum) => {}
            Some(severity) => wrong.push(format!("is `{severity}`, below `{minimum}`")),
            None => wrong.push(format!(
                "has no severity, and the policy asks for `{minimum}`"
            )),
        }
    }
    if required.opened_before_declaration
        && incident
            .created_at
            .is_none_or(|at| at >= agreed.declared_at)
    {
        wrong.push("was not opened before the emergency change was declared".to_owned());
    }
    if required.opened_by_other {
        let by = incident
            .created_by
            .as_deref()
            .filter(|by| !by.trim().is_empty());
        let theirs = by.and_then(|by| people.iter().find(|person| is_account_of(person, by)));
        match (by, theirs) {
            (None, _) => wrong.push("does not say who opened it".to_owned()),
            (Some(by), Some(person)) => wrong.push(format!(
                "was opened by `{by:.100}`, who is `{}` and agreed to the emergency change",
                person.name
            )),
            (Some(_), None) => {}
        }
    }
    if let Some(services) = &required.services {
        let service = incident.service.as_deref();
        let is_ours = service.is_some_and(|service| {
            let mut patterns = services.iter();
            patterns.any(|pattern| pattern.matches(service, namespace))
        });
        if !is_ours {
            let service = service.map_or("no service".to_owned(), |it| format!("`{it:.100}`"));
            let asked = services.iter().map(|it| format!("`{}`", it.as_str()));
            wrong.push(format!(
                "is about {service}, and the policy asks for {}",
                listed(asked, 3)
            ));
        }
    }
    wrong
}

/// The account that opened an incident, if neither a person nor an automation in the people directory has that account. The gate
/// cannot know to whom it belongs.
pub fn unlisted_opener(incident: &Incident, people: &People) -> Option<String> {
    let account = incident.created_by.as_deref()?.trim();
    let mut bots = people.automation().iter();
    let is_listed = people.people().iter().any(|it| is_account_of(it, account))
        || bots.any(|it| is_named(account, &it.name) || is_among(&it.identities, account));
    let shown: String = account.chars().take(MAXIMUM_ACCOUNT).collect();
    (!is_listed && !account.is_empty()).then(|| shown.replace(char::is_control, " "))
}

/// Whether an account of a tracker has a name that the directory lists for a person, in whatever case.
fn is_account_of(person: &Person, account: &str) -> bool {
    let shown = person.display_name.as_deref();
    is_named(account, &person.name)
        || shown.is_some_and(|name| is_named(account, name))
        || is_among(person.identities(), account)
}

fn is_among<'i>(identities: impl IntoIterator<Item = &'i Identity>, account: &str) -> bool {
    let mut identities = identities.into_iter();
    identities.any(|identity| match identity {
        Identity::Certificate { name, .. } | Identity::KubernetesUser(name) => {
            let local = name.split_once('@').map_or("", |(local, _)| local);
            is_named(account, name) || is_named(account, local)
        }
        Identity::Account(known) => is_named(account, known.login()),
        Identity::Key(_) => false,
    })
}

fn is_named(account: &str, name: &str) -> bool {
    !name.is_empty() && name.to_lowercase() == account.trim().to_lowercase()
}
