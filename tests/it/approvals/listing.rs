//! The statements as people read them, beside the judgement: both say the same of every world.

use std::collections::BTreeSet;

use promotion_gate_core::gate::{ApprovalEffect, ListedWord};

use super::*;

fn of_people(listed: &ListedApprovals, is: impl Fn(&ApprovalEffect) -> bool) -> BTreeSet<&str> {
    let statements = listed.listing.statements.iter();
    let found = statements.filter(|statement| is(&statement.effect));
    found
        .filter_map(|statement| statement.person.as_deref())
        .collect()
}

#[test]
fn what_is_listed_is_what_the_judgement_rests_on() {
    let (approved, missing, rejected) = (Often::default(), Often::default(), Often::default());
    run(300, worlds(), |world| {
        let case = (*NOW, world.attached.clone());
        let (finding, listed) = world.judged_and_listed([case]).remove(0);
        prop_assert_eq!(&finding, &listed.finding);
        let seated = of_people(&listed, |it| matches!(it, ApprovalEffect::FillsSeat(_)));
        let blocking = of_people(&listed, |it| *it == ApprovalEffect::Blocks);
        let blocks = ["rejected", "approval-unreadable"].contains(&finding.reason);
        prop_assert_eq!(
            blocks || finding.reason == "scope-unknown" && !blocking.is_empty(),
            !blocking.is_empty()
        );
        match finding.reason {
            "approved" => {
                prop_assert_eq!(&listed.listing.open_seats, "");
                prop_assert!(!seated.is_empty());
                approved.count();
            }
            "approvals-missing" => {
                let open = format!("missing: {}", listed.listing.open_seats);
                prop_assert!(finding.detail.starts_with(&open), "{}", finding.detail);
                missing.count();
            }
            "rejected" => rejected.count(),
            _ => {}
        }
        if ["approved", "approvals-missing"].contains(&finding.reason) {
            let says = finding
                .detail
                .split("approved by ")
                .nth(1)
                .unwrap_or_default();
            let says = says.split(';').next().unwrap();
            let named: BTreeSet<_> = says.split('`').skip(1).step_by(2).collect();
            prop_assert_eq!(&named, &seated, "{}", finding.detail);
        }
        // Each statement is listed once.
        prop_assert!(listed.listing.statements.len() <= world.attached.len());
        Ok(())
    });
    approved.at_least(10);
    missing.at_least(10);
    rejected.at_least(5);
}

#[test]
fn every_statement_says_why_it_does_not_count() {
    let mut world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
    world.further = vec![
        word(
            "ada@example.com",
            "approved",
            100,
            json!({"environment": "staging"}),
        ),
        word(
            "ben@example.com",
            "approved",
            90,
            json!({"validUntil": ago(30).to_string()}),
        ),
        word(
            "dan@example.com",
            "rejected",
            80,
            json!({"reason": "too late"}),
        ),
        word("eve@example.com", "approved", 70, json!({})),
    ];
    let (_, listed) = world.judged_and_listed([(*NOW, Vec::new())]).remove(0);
    let said: Vec<_> = listed
        .listing
        .statements
        .iter()
        .map(|statement| match &statement.effect {
            ApprovalEffect::DoesNotCount(why) => (statement.person.as_deref(), why.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        said[0],
        (
            Some("ada"),
            "the approval is for `staging`, not `production`"
        )
    );
    assert!(
        said[1].1.starts_with("the approval was valid until"),
        "{said:?}"
    );
    assert!(
        said[2].1.contains("the rejection does not block"),
        "{said:?}"
    );
    assert_eq!(said[3].0, None);
    assert!(
        said[3].1.contains("does not list it as a person's"),
        "{said:?}"
    );
    let words = listed
        .listing
        .statements
        .iter()
        .map(|statement| &statement.word);
    let reasons = words.filter_map(|word| match word {
        ListedWord::Decision { reason, .. } => reason.as_deref(),
        ListedWord::Unreadable(_) => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), ["too late"]);
}
