//! `emergency declare`: what would be waived, who has to agree, what the incident's tracker says; then the declaration.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use promotion_gate_core::attest::predicate::{EmergencyChange, IncidentReference};
use promotion_gate_core::gate::{Age, Enforcement, Subject};
use promotion_gate_sign::SignedWord;

use super::about::Outlook;
use super::{DeclareArgs, Desk, code, incidents, shown};
use crate::text::line;

pub(super) async fn run(args: DeclareArgs) -> anyhow::Result<ExitCode> {
    let mut desk = Desk::open(&args.about, &args.scopes, &args.signs).await?;
    let outlooks = desk.case.outlooks(Some(&desk.approver));
    let denying: Vec<_> = outlooks.iter().filter(|it| it.outlook.denies).collect();
    if denying.is_empty() {
        bail!(
            "no policy with a section `emergency` denies these images now, so that there is nothing to declare"
        );
    }
    let images: BTreeSet<Subject> = denying
        .iter()
        .flat_map(|it| it.outlook.images.iter().cloned())
        .collect();
    let said = said(&args, &denying)?;
    // 1. What is declared.
    print_line!(
        "Declaring an emergency change for `{}`:\n",
        line(&args.about.environment)
    );
    shown::said(&said);
    print_line!("");
    desk.show_images(&images).await?;
    // 2. What each policy waives, who has to agree, and why nothing would pass.
    let mut problems: Vec<_> = desk.case.denied_for_good().into_iter().collect();
    for outlook in &denying {
        shown::outlook(outlook);
        problems.extend(why_useless(outlook));
    }
    // 3. The incident, as its trackers know it.
    problems.extend(incident(&args, &desk, &said, &denying).await);
    desk.show_plan("declaration");
    if desk.refuses(&problems, &args.signs) {
        return Ok(ExitCode::from(super::NOT_SIGNED));
    }
    // 4. Sign, attach, read back; then the commands for the others.
    let word = SignedWord::EmergencyChange(said);
    let signed = desk.sign(&word, &images, &args.signs).await?;
    if let Some(id) = &signed {
        show_next(&desk, &images, &denying, &id.to_string());
    }
    Ok(code(signed.as_ref(), &args.signs))
}

/// Shows what trackers say of the incident now, and why a declaration would let nothing pass then.
async fn incident(
    args: &DeclareArgs,
    desk: &Desk,
    said: &EmergencyChange,
    denying: &[&Outlook],
) -> Vec<String> {
    let each = denying.iter().map(|it| (*it, it.outlook.own.as_ref()));
    let each = each.map(|(it, own)| (it, own.and_then(|own| own.person.as_deref().ok())));
    let outlooks: Vec<_> = each.collect();
    let declared = incidents::Declared::now(said);
    incidents::show(&args.about, desk, &declared, &outlooks).await
}

/// Shows what others have to do about a declaration that was signed.
fn show_next(desk: &Desk, images: &BTreeSet<Subject>, denying: &[&Outlook], id: &str) {
    let command = |verb: &str, said: &[&str]| desk.case.command(&desk.sources, verb, images, said);
    print_line!("\ndeclared as {id}");
    let open: BTreeSet<_> = denying.iter().filter_map(|it| open_seats(it)).collect();
    for open in &open {
        print_line!("Still to agree: {}", line(open));
    }
    match open.is_empty() {
        true => print_line!("Every seat is filled: deploy it"),
        false => print_line!("  {}", command("approve", &["--declaration", id])),
    }
    print_line!("What is missing:\n  {}", command("status", &[]));
    let verdict = ["--verdict", "VERDICT", "--reason", "TEXT"];
    let review = command("review", &[&["--declaration", id], &verdict[..]].concat());
    print_line!("The review afterwards, by a person who had no part in it:\n  {review}");
}

/// What is declared. It ends as soon as the strictest policy asks, unless it is to end sooner.
fn said(args: &DeclareArgs, denying: &[&Outlook]) -> anyhow::Result<EmergencyChange> {
    let most = denying.iter().map(|it| it.outlook.maximum_validity).min();
    let most = most.unwrap_or(Age::FOUR_HOURS);
    let valid = args.valid.unwrap_or(most);
    if valid > most {
        bail!("`--valid {valid}` is longer than the policies accept: at most `{most}`");
    }
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    let expires = now.checked_add(valid.duration());
    let scopes: BTreeMap<_, _> = args.scopes.iter().cloned().collect();
    if scopes.len() < args.scopes.len() {
        bail!("`--scope` names a scope twice");
    }
    Ok(EmergencyChange {
        environment: args.about.environment.clone(),
        incident: IncidentReference {
            id: args.incident.clone(),
            url: args.incident_url.clone(),
        },
        reason: args.reason.clone(),
        expires: expires.context("`--valid` is too long")?,
        scopes,
    })
}

/// Why a declaration by this person would let nothing pass under a policy that enforces.
fn why_useless(it: &Outlook) -> Vec<String> {
    if it.enforcement != Enforcement::Enforce {
        return Vec::new();
    }
    let policy = &it.outlook.policy;
    let refused = it.outlook.refused.as_ref();
    let refused =
        refused.map(|why| format!("no emergency change passes the policy `{policy}`: {why}"));
    let person = it
        .outlook
        .own
        .as_ref()
        .and_then(|own| own.person.as_ref().err());
    let person = person
        .map(|why| format!("your declaration would not count under the policy `{policy}`: {why}"));
    refused.into_iter().chain(person).collect()
}

fn open_seats(it: &Outlook) -> Option<String> {
    let open = &it.outlook.own.as_ref()?.open;
    shown::open_seats(open)
}
