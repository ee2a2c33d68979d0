//! `emergency close` and `emergency review`: the early end of an emergency change, and its review after it was used.

use std::process::ExitCode;

use promotion_gate_core::attest::predicate::{EmergencyClosure, EmergencyReview};
use promotion_gate_core::gate::{Digest, ListedDeclaration};
use promotion_gate_sign::SignedWord;

use super::about::{About, Outlook, declared_images};
use super::{CloseArgs, Desk, ReviewArgs, SignsArgs, code, shown};
use crate::text::line;

pub(super) async fn close(args: CloseArgs) -> anyhow::Result<ExitCode> {
    let desk = Desk::open(&args.about, &[], &args.signs).await?;
    let outlooks = desk.case.outlooks(Some(&desk.approver));
    let named = args.which.declaration.as_ref();
    let found = desk
        .case
        .declaration(&outlooks, named, |it| it.ended.is_none())?;
    let own = found
        .iter()
        .filter_map(|(_, declared)| declared.own.as_ref());
    let mut problems = Vec::new();
    if !own.clone().any(|own| own.may_close) {
        let why = own.clone().find_map(|own| own.person.clone().err());
        let otherwise = || {
            "you neither declared it nor are you a person of `emergency.from` or a governor"
                .to_owned()
        };
        problems.push(format!(
            "your closure would not count: {}",
            why.unwrap_or_else(otherwise)
        ));
    }
    problems.extend(
        found
            .iter()
            .find_map(|(_, declared)| declared.ended.clone())
            .map(|why| format!("it has ended already: {why}")),
    );
    let word = |emergency: Digest| {
        SignedWord::EmergencyClosure(EmergencyClosure {
            emergency,
            reason: args.reason.clone(),
        })
    };
    sign(
        desk,
        &args.about,
        &args.signs,
        &found,
        &problems,
        ("Ending", &word),
    )
    .await
}

pub(super) async fn review(args: ReviewArgs) -> anyhow::Result<ExitCode> {
    let desk = Desk::open(&args.about, &[], &args.signs).await?;
    let outlooks = desk.case.outlooks(Some(&desk.approver));
    let named = args.which.declaration.as_ref();
    let found = desk.case.declaration(&outlooks, named, |_| true)?;
    let own = found
        .iter()
        .filter_map(|(_, declared)| Some((declared, declared.own.as_ref()?)));
    let problems = own.filter_map(|(declared, own)| match &own.person {
        Ok(person) => declared.participants.why_not_reviewer(person),
        Err(why) => Some(why.clone()),
    });
    let problems = problems.map(|why| format!("your review would not count: {why}"));
    let mut problems: Vec<_> = problems.collect();
    problems.sort();
    problems.dedup();
    let word = |emergency: Digest| {
        SignedWord::EmergencyReview(EmergencyReview {
            emergency,
            verdict: args.verdict.into(),
            reason: args.reason.clone(),
            follow_ups: args.follow_ups.clone(),
        })
    };
    sign(
        desk,
        &args.about,
        &args.signs,
        &found,
        &problems,
        ("Reviewing", &word),
    )
    .await
}

/// Shows the declaration, and signs what is said about it.
async fn sign(
    mut desk: Desk,
    about: &About,
    signs: &SignsArgs,
    found: &[(&Outlook, &ListedDeclaration)],
    problems: &[String],
    (verb, word): (&str, &dyn Fn(Digest) -> SignedWord),
) -> anyhow::Result<ExitCode> {
    let Some((_, declared)) = found.first() else {
        return Ok(ExitCode::from(super::NOT_SIGNED));
    };
    print_line!(
        "{verb} the emergency change {} of `{}`:\n",
        declared.declaration,
        line(&about.environment)
    );
    shown::said(&declared.said);
    for statement in &declared.statements {
        shown::statement(statement);
    }
    print_line!("");
    let word = word(declared.declaration.clone());
    desk.show_plan(word.noun());
    if desk.refuses(problems, signs) {
        return Ok(ExitCode::from(super::NOT_SIGNED));
    }
    let signed = desk.sign(&word, &declared_images(found), signs).await?;
    Ok(code(signed.as_ref(), signs))
}
