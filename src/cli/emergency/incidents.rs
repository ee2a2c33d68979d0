//! What the incident checks of policies answer now about the incident of a declaration, for people who declare and agree.

use std::collections::BTreeSet;

use jiff::Timestamp;
use promotion_gate_core::attest::predicate::EmergencyChange;
use promotion_gate_core::gate::{
    Collected, EmergencyWord, Enforcement, IncidentRequirement, ListedDeclaration, Person,
    WhenUnreachable, incident_outlook, unlisted_opener,
};
use tokio::time::Instant;

use super::Desk;
use super::about::{About, Outlook};
use crate::cli::render::human::{GREEN, RED, YELLOW};
use crate::text::line;

/// The declaration whose incident is asked about.
pub(super) struct Declared<'a> {
    pub(super) said: &'a EmergencyChange,
    /// Those who declare it and agree to it, by name in the people directory: none of them may have opened the incident where a policy
    /// asks for that.
    people: BTreeSet<&'a str>,
    at: Timestamp,
}

/// What is known of an incident.
enum State {
    /// It is what the policy asks for; with the account that opened it, where the policy asks about that and the people directory does not
    /// list the account.
    Open(Option<String>),
    /// It is not asked about, or the tracker cannot be reached from here.
    NotAsked(String),
    /// It is not what the policy asks for, or the answer cannot be used.
    Wrong(String),
}

impl<'a> Declared<'a> {
    /// The declaration that is about to be signed.
    pub(super) fn now(said: &'a EmergencyChange) -> Declared<'a> {
        Declared {
            said,
            people: BTreeSet::new(),
            at: Timestamp::now(),
        }
    }

    /// A declaration that was signed.
    pub(super) fn before(declared: &'a ListedDeclaration) -> Declared<'a> {
        let signed = declared.statements.iter();
        let signed = signed.filter(|it| it.word == EmergencyWord::Declared && it.counts.is_ok());
        let people = &declared.participants;
        let people = people.declared_by.iter().chain(&people.agreed_by);
        Declared {
            said: &declared.said,
            people: people.map(String::as_str).collect(),
            at: signed
                .filter_map(|it| it.at)
                .min()
                .unwrap_or_else(Timestamp::now),
        }
    }
}

/// Shows what the checks answer. `own` is the person who is about to sign, under each policy. Returns why the incident is not enough,
/// for policies that enforce.
pub(super) async fn show(
    about: &About,
    desk: &Desk,
    declared: &Declared<'_>,
    outlooks: &[(&Outlook, Option<&str>)],
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut told = BTreeSet::new();
    let id = line(&declared.said.incident.id);
    for (it, own) in outlooks {
        let Some(required) = &it.outlook.incident else {
            continue;
        };
        let check = line(&required.check);
        let by = format!("incident `{id}`, by the check `{check}`");
        let (text, problem) = match ask(about, desk, declared, required, (it, *own)).await {
            State::Open(None) => (format!("{GREEN}open{GREEN:#} {by}"), None),
            State::Open(Some(account)) => {
                let account = line(&account);
                let unlisted = format!(
                    "opened by the account `{account}`, which the people directory does not list, so that nothing shows whose it is"
                );
                let text = format!("{GREEN}open{GREEN:#} {by}; {YELLOW}{unlisted}{YELLOW:#}");
                (text, None)
            }
            State::NotAsked(why) => {
                let why = line(&why);
                let then = match required.when_unreachable {
                    WhenUnreachable::Deny => {
                        "the gate asks it itself, and denies without an answer"
                    }
                    WhenUnreachable::Allow => {
                        "the gate asks it itself, and records the incident as unverified if it cannot reach the tracker"
                    }
                };
                let text = format!("{YELLOW}not known here{YELLOW:#} {by}: {why}; {then}");
                (text, None)
            }
            State::Wrong(why) => {
                let text = format!("{RED}not enough{RED:#} {by}: {}", line(&why));
                (text, Some(why))
            }
        };
        if told.insert(text.clone()) {
            print_line!("{text}");
        }
        if let (Some(why), Enforcement::Enforce) = (problem, it.enforcement) {
            let policy = &it.outlook.policy;
            problems.push(format!(
                "the incident `{id}` is not enough for the policy `{policy}`: {why}"
            ));
        }
    }
    if told.is_empty() {
        print_line!("No policy asks a tracker about the incident: it is recorded as unverified");
    }
    print_line!("");
    problems
}

async fn ask(
    about: &About,
    desk: &Desk,
    declared: &Declared<'_>,
    required: &IncidentRequirement,
    (it, own): (&Outlook, Option<&str>),
) -> State {
    let inputs = &desk.case.judged.inputs;
    let Some(incidents) = &inputs.incidents else {
        return State::NotAsked("the incident was not asked about".to_owned());
    };
    let id = &declared.said.incident.id;
    let deadline = Instant::now() + about.timeout();
    let incident = match incidents.ask(&required.check, id, deadline).await {
        Collected::Known(Some(incident)) => incident,
        Collected::Known(None) => return State::Wrong("there is no such incident".to_owned()),
        Collected::Partial(_, why) => {
            let why = why.first().map(ToString::to_string);
            return State::Wrong(why.unwrap_or_default());
        }
        Collected::Unavailable(why) => return State::NotAsked(why.to_string()),
    };
    let names = declared.people.iter().copied().chain(own);
    let known = inputs.snapshot.world.people.value();
    let people: Vec<&Person> = match known {
        Some(known) => names.filter_map(|name| known.person(name)).collect(),
        None => Vec::new(),
    };
    let namespace = it.namespace.as_deref();
    let (said, at) = (declared.said, declared.at);
    match incident_outlook(required, said, &incident, &people, namespace, at) {
        wrong if wrong.is_empty() => {
            let known = known.filter(|_| required.opened_by_other);
            State::Open(known.and_then(|people| unlisted_opener(&incident, people)))
        }
        wrong => State::Wrong(format!("it {}", wrong.join(", "))),
    }
}
