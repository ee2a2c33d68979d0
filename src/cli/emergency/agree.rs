//! `emergency approve`: the declaration as it was verified, whether the person's agreement counts, and then the agreement.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use promotion_gate_core::attest::predicate::{Approval, ApprovalDecision};
use promotion_gate_core::gate::{Enforcement, ListedDeclaration, Subject};
use promotion_gate_sign::SignedWord;

use super::about::{Outlook, declared_images};
use super::{AgreeArgs, Desk, code, incidents, shown};
use crate::cli::approve::Decision;
use crate::text::line;

pub(super) async fn run(args: AgreeArgs) -> anyhow::Result<ExitCode> {
    let mut desk = Desk::open(&args.about, &[], &args.signs).await?;
    let outlooks = desk.case.outlooks(Some(&desk.approver));
    let named = args.which.declaration.as_ref();
    let found = desk
        .case
        .declaration(&outlooks, named, |it| it.ended.is_none())?;
    let Some((_, declared)) = found.first() else {
        return Ok(ExitCode::from(super::NOT_SIGNED));
    };
    // 1. What was declared, of which images, and what it waives.
    let images = declared_images(&found);
    show_declared(&args, declared);
    desk.show_images(&images).await?;
    for (outlook, declared) in &found {
        shown::outlook(outlook);
        shown::own(&outlook.outlook.policy, declared.own.as_ref());
    }
    // 2. Why this agreement would let nothing pass.
    let mut problems = why_useless(&args, &found);
    problems.extend(not_declared(&outlooks, &images));
    problems.extend(incident(&args, &desk, &found).await);
    desk.show_plan("agreement");
    if desk.refuses(&problems, &args.signs) {
        return Ok(ExitCode::from(super::NOT_SIGNED));
    }
    // 3. Sign, attach, read back; then who is still to agree.
    let word = word(&args, declared);
    let signed = desk.sign(&word, &images, &args.signs).await?;
    if signed.is_some() {
        if let Decision::Approved = args.decision {
            show_open_seats(&found);
        }
        let status = desk.case.command(&desk.sources, "status", &images, &[]);
        print_line!("Whether it passes now:\n  {status}");
    }
    Ok(code(signed.as_ref(), &args.signs))
}

fn show_declared(args: &AgreeArgs, declared: &ListedDeclaration) {
    let verb = match args.decision {
        Decision::Approved => "Agreeing to",
        Decision::Rejected => "Rejecting",
    };
    print_line!(
        "{verb} the emergency change {} for `{}`:\n",
        declared.declaration,
        line(&args.about.environment)
    );
    shown::said(&declared.said);
    for statement in &declared.statements {
        shown::statement(statement);
    }
    print_line!("");
}

/// Why the agreement would let nothing pass under policies that enforce, by the declaration and the person who signs.
fn why_useless(args: &AgreeArgs, found: &[(&Outlook, &ListedDeclaration)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (outlook, declared) in found {
        if outlook.enforcement != Enforcement::Enforce {
            continue;
        }
        let policy = &outlook.outlook.policy;
        let of_policy = |why: &String| format!("under the policy `{policy}`: {why}");
        problems.extend(declared.ended.as_ref().map(&of_policy));
        let seat = declared.own.as_ref().map(|own| &own.seat);
        if let (Decision::Approved, Some(Err(why))) = (args.decision, seat) {
            problems.push(format!("your agreement would not count {}", of_policy(why)));
        }
    }
    problems
}

fn word(args: &AgreeArgs, declared: &ListedDeclaration) -> SignedWord {
    SignedWord::Approval(Approval {
        environment: args.about.environment.clone(),
        decision: match args.decision {
            Decision::Approved => ApprovalDecision::Approved,
            Decision::Rejected => ApprovalDecision::Rejected,
        },
        change: None,
        reason: args.reason.clone(),
        valid_until: None,
        scopes: BTreeMap::new(),
        despite: Vec::new(),
        emergency: Some(declared.declaration.clone()),
    })
}

fn show_open_seats(found: &[(&Outlook, &ListedDeclaration)]) {
    for (outlook, declared) in found {
        let own = declared.own.as_ref();
        if let Some(open) = own.and_then(|own| shown::open_seats(&own.open)) {
            print_line!(
                "Still to agree under the policy `{}`: {}",
                line(&outlook.outlook.policy),
                line(&open)
            );
        }
    }
}

/// Shows what trackers say of the incident now, and why an agreement would let nothing pass then.
async fn incident(
    args: &AgreeArgs,
    desk: &Desk,
    found: &[(&Outlook, &ListedDeclaration)],
) -> Vec<String> {
    let Some((_, declared)) = found.first() else {
        return Vec::new();
    };
    let outlooks = found.iter().map(|(outlook, declared)| {
        let own = declared.own.as_ref();
        (*outlook, own.and_then(|own| own.person.as_deref().ok()))
    });
    let outlooks: Vec<_> = outlooks.collect();
    let declared = incidents::Declared::before(declared);
    let problems = incidents::show(&args.about, desk, &declared, &outlooks).await;
    match args.decision {
        Decision::Approved => problems,
        Decision::Rejected => Vec::new(),
    }
}

/// An image that needs the emergency change, and for which it is not declared.
fn not_declared(outlooks: &[Outlook], images: &BTreeSet<Subject>) -> Option<String> {
    let denied = outlooks.iter().filter(|it| it.outlook.denies);
    let mut needing = denied.flat_map(|it| &it.outlook.images);
    let image = needing.find(|image| !images.contains(image))?;
    Some(format!(
        "the emergency change is not declared for {image}, so that it lets nothing pass that runs this image too"
    ))
}
