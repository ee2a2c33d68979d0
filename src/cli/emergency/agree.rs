//! `emergency approve`: the declaration as it was verified, whether the person's agreement counts, and then the agreement.

use std::collections::BTreeMap;
use std::process::ExitCode;

use promotion_gate_core::attest::predicate::{Approval, ApprovalDecision};
use promotion_gate_core::gate::Enforcement;
use promotion_gate_sign::SignedWord;

use super::about::declared_images;
use super::{AgreeArgs, Desk, code, shown};
use crate::cli::approve::{self, Decision};
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
    let images = declared_images(&found);
    let asked = desk.case.images(&images);
    for asked in &asked {
        approve::shown::asked(asked, &desk.sources.client).await?;
    }
    let mut problems = Vec::new();
    for (outlook, declared) in &found {
        shown::outlook(outlook);
        let own = declared.own.as_ref();
        shown::own(&outlook.outlook.policy, own);
        if outlook.enforcement != Enforcement::Enforce {
            continue;
        }
        let policy = &outlook.outlook.policy;
        let of_policy = |why: &String| format!("under the policy `{policy}`: {why}");
        problems.extend(declared.ended.as_ref().map(&of_policy));
        if let (Decision::Approved, Some(Err(why))) = (args.decision, own.map(|own| &own.seat)) {
            problems.push(format!("your agreement would not count {}", of_policy(why)));
        }
    }
    let missing: Vec<_> = outlooks
        .iter()
        .filter(|it| it.outlook.denies)
        .flat_map(|it| &it.outlook.images)
        .filter(|image| !images.contains(image))
        .map(|image| format!("the emergency change is not declared for {image}, so that it lets nothing pass that runs this image too"))
        .collect();
    problems.extend(missing.into_iter().take(1));
    let without_time = "the agreement counts nowhere";
    approve::shown::plan(desk.signing.plan(), desk.signing.origin(), without_time);
    if desk.refuses(&problems, &args.signs) {
        return Ok(ExitCode::from(super::NOT_SIGNED));
    }
    let word = SignedWord::Approval(Approval {
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
    });
    let status = desk.case.command(&desk.sources, "status", &images, &[]);
    let signed = Desk::sign_with(
        &mut desk.signing,
        &desk.sources,
        desk.terminal.as_ref(),
        &word,
        &asked,
        &args.signs,
    )
    .await?;
    if signed.is_some() {
        for (outlook, declared) in &found {
            let open = declared
                .own
                .as_ref()
                .and_then(|own| shown::open_seats(&own.open));
            if let (Decision::Approved, Some(open)) = (args.decision, open) {
                print_line!(
                    "Still to agree under the policy `{}`: {}",
                    line(&outlook.outlook.policy),
                    line(&open)
                );
            }
        }
        print_line!("Whether it passes now:\n  {status}");
    }
    Ok(code(signed.as_ref(), &args.signs))
}
