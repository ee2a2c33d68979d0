//! What the rule tells people: which seats are open, who approved, whose approval does not count and why, and until when to wait.

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::gate::Validity;
use serde_json::{Value, json};

use super::authors::{changed, recorded, rows};
use super::{World, ago, approvals, between, directory_of, record, signed, usual_groups, word};
use crate::facts::Attached;

/// A time as messages show it: the first minute that is not before it.
fn minute(time: Timestamp) -> String {
    let up = time + SignedDuration::from_secs(59);
    up.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn approved_by(name: &str, more: Value) -> Attached {
    word(&format!("{name}@example.com"), "approved", 90, more)
}

#[test]
fn a_denial_names_the_open_seats_who_approved_and_why_the_others_do_not_count() {
    let from = json!([{"group": "left", "count": 3}, {"person": "dan"}, {"group": "right"}]);
    let mut world = World::new(json!({ "from": from }), approvals(&[("ada", 100)]));
    let end = ago(30);
    world.further = vec![
        approved_by("eve", json!({})),
        approved_by("ben", json!({"environment": "staging"})),
        approved_by("dan", json!({"validUntil": end.to_string()})),
        approved_by("cleo", json!({"environment": "staging"})),
    ];
    let finding = world.finding();
    assert_eq!(
        finding.detail,
        format!(
            "missing: 2 of group `left`, `dan`, 1 of group `right`; approved by `ada` (left); \
             `dan` does not count: the approval was valid until {}, \
             `ben` does not count: the approval is for `staging`, not `production`, \
             `cleo` does not count: the approval is for `staging`, not `production`, \
             `eve@example.com` (issuer `https://issuer.example`) does not count: the people directory does not list it as a person's",
            minute(end)
        )
    );
    let hint = finding.hint.unwrap_or_default();
    assert!(
        hint.starts_with("ask them to review and approve: `promotion-gate approve "),
        "{hint}"
    );
}

#[test]
fn a_denial_without_any_approval_names_the_open_seats_alone() {
    let world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
    assert_eq!(world.finding().detail, "missing: 1 of group `left`");
}

#[test]
fn a_person_who_left_is_told_from_one_who_is_in_another_group() {
    let told = |people| {
        let rule = json!({"from": [{"group": "left"}]});
        let mut world = World::new(rule, approvals(&[("ada", 100)]));
        world.people = people;
        let detail = world.finding().detail;
        let (_, why) = detail.split_once("`ada` does not count: ").unwrap();
        why.to_owned()
    };
    let (always, ended) = (Validity::default(), between(ago(300), ago(50)));
    assert_eq!(
        told(directory_of(&usual_groups(), ended, &[always])),
        "the directory does not list the person as active, both at the time of the approval and now"
    );
    assert_eq!(
        told(directory_of(&usual_groups(), always, &[ended])),
        "the policy does not ask this person, or the person was not in the group at the time of the approval"
    );
}

#[test]
fn of_approvals_that_fail_alike_the_same_one_is_explained_in_every_order() {
    let [one, other] =
        ["staging", "test"].map(|name| approved_by("ada", json!({"environment": name})));
    for further in [[one.clone(), other.clone()], [other, one]] {
        let mut world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
        world.further = further.into();
        assert_eq!(
            world.finding().detail,
            "missing: 1 of group `left`; `ada` does not count: the approval is for `staging`, not `production`"
        );
    }
}

#[test]
fn a_pass_names_who_approved_and_the_commits_whose_authors_are_known() {
    let passes = |more: Value| {
        let mut world = recorded(vec![changed(more)]);
        world.rule["from"] = json!([{"group": "left"}, {"person": "ben"}]);
        world.attached = approvals(&[("ada", 100), ("ben", 100)]);
        let finding = world.finding();
        assert_eq!(finding.reason, "approved", "{}", finding.detail);
        finding.detail
    };
    let (before, commit) = ("0".repeat(40), super::COMMIT);
    assert_eq!(
        passes(json!({})),
        format!(
            "approved by `ada` (left), `ben`; the change record covers all commits up to `{commit}`"
        )
    );
    assert_eq!(
        passes(json!({ "from": before })),
        format!(
            "approved by `ada` (left), `ben`; the change record covers the commits after `{before}` up to `{commit}`"
        )
    );
    let world = World::new(
        json!({"from": [{"group": "left"}]}),
        approvals(&[("ada", 100)]),
    );
    assert_eq!(world.finding().detail, "approved by `ada` (left)");
}

#[test]
fn a_wait_says_when_it_is_over() {
    let rule = json!({"from": [{"group": "left"}], "minimumAge": "150m"});
    let finding = World::new(rule, approvals(&[("ada", 100)])).finding();
    let from = minute(ago(-50));
    assert_eq!(
        (finding.detail, finding.hint),
        (
            format!(
                "approved by `ada` (left), but the policy has a waiting time of 150m: from {from} on"
            ),
            Some(format!("deploy from {from} on"))
        )
    );
}

#[test]
fn all_rejections_are_told_before_what_could_be_one() {
    let said = |by: &str, decision: &str, more: Value| {
        word(&format!("{by}@example.com"), decision, 90, more)
    };
    let mut world = World::new(json!({"from": [{"group": "left"}]}), Vec::new());
    world.further = vec![
        said("ben", "rejected", json!({})),
        said("kim", "maybe", json!({})),
        said("ada", "rejected", json!({"reason": "it is broken"})),
    ];
    let at = minute(ago(90));
    let finding = world.finding();
    assert_eq!(
        (finding.reason, finding.detail),
        (
            "rejected",
            format!(
                "`ada` rejected this digest on {at}: it is broken, `ben` rejected this digest on {at}"
            )
        )
    );
    world
        .further
        .retain(|it| it.statement.as_ref().unwrap().1["decision"] == "maybe");
    let finding = world.finding();
    assert_eq!(finding.reason, "approval-unreadable");
    assert!(
        finding.detail.starts_with(
            "`kim` signed a statement about this digest that cannot be read and could be a rejection: "
        ),
        "{}",
        finding.detail
    );
}

#[test]
fn an_author_is_told_with_the_role_that_proves_most() {
    let told = |authors: Value| {
        let finding = recorded(vec![rows(&authors)]).finding();
        let (_, why) = finding.detail.split_once("`ada` does not count: ").unwrap();
        why.to_owned()
    };
    let ada = |role: &str, number: Option<u64>| json!({"identity": {"github": {"login": "ada"}}, "role": role, "pullRequest": number});
    let row = |role: &str| json!({"identity": {"github": {"login": "ada"}}, "role": role});
    for (role, verb) in [
        ("opened", "opened"),
        ("pushed", "pushed to"),
        ("merged", "merged"),
        ("signed", "signed a commit of"),
    ] {
        assert_eq!(
            told(json!([row(role)])),
            format!("an author of the change ({verb} the change)")
        );
        assert_eq!(
            told(json!([ada(role, Some(12))])),
            format!("an author of the change ({verb} pull request 12)")
        );
    }
    let opened = json!({"identity": {"github": {"login": "dan"}}, "role": "opened"});
    for (role, says) in [
        ("triggered", "started the build"),
        ("committed", "is named by a commit of the change"),
        ("added", "was added as an author of the change"),
    ] {
        assert_eq!(
            told(json!([opened, row(role)])),
            format!("an author of the change ({says})")
        );
    }
    // Of roles that prove as much, the first in the alphabet is reported.
    for both in [["signed", "committed"], ["committed", "signed"]] {
        assert_eq!(
            told(both.map(row).into_iter().collect()),
            "an author of the change (signed a commit of the change)"
        );
    }
    for both in [["signed", "merged"], ["merged", "signed"]] {
        assert_eq!(
            told(both.map(row).into_iter().collect()),
            "an author of the change (merged the change)"
        );
    }
}

#[test]
fn a_record_that_does_not_count_is_told_with_the_commit_that_is_missing() {
    let other = "2".repeat(40);
    let finding = recorded(vec![record(&other, &["dan"])]).finding();
    let expected = format!(
        "ends with the commit `{}`; records that do not count: it ends with the commit `{other}`",
        super::COMMIT
    );
    assert!(finding.detail.ends_with(&expected), "{}", finding.detail);
    let none = recorded(Vec::new()).finding().detail;
    let expected = format!("ends with the commit `{}`", super::COMMIT);
    assert!(none.ends_with(&expected), "{none}");
    let unreadable = signed(
        super::RELEASE_TOOLS,
        "change",
        json!({"complete": true}),
        210,
    );
    let detail = recorded(vec![unreadable]).finding().detail;
    assert!(detail.contains("cannot be read: "), "{detail}");
    let mut world = recorded(vec![record(super::COMMIT, &["dan"])]);
    world.rule["authorsFrom"][0]["changeRecord"]["requires"] = json!(["backOutPlan"]);
    let detail = world.finding().detail;
    let expected = "records that do not count: it lacks `backOutPlan`";
    assert!(detail.ends_with(expected), "{detail}");
}

#[test]
fn an_approval_names_a_change_as_the_policy_says() {
    let told = |reference: Value, change: Value| {
        let rule = json!({"from": [{"group": "left"}], "change": reference});
        let mut world = World::new(rule, Vec::new());
        world.further = vec![approved_by("ada", change)];
        let detail = world.finding().detail;
        match detail.split_once("`ada` does not count: ") {
            Some((_, why)) => why.to_owned(),
            None => detail,
        }
    };
    let ticket = || json!({"change": {"id": "CHG7"}});
    let address = || json!({"change": {"url": "https://itsm.example/7"}});
    let counts = "approved by `ada` (left)";
    let lacks = "the approval does not name the id of a change";
    let other = "the approval names the change `CHG7`, which the policy's pattern does not match";
    for (reference, change, says) in [
        (json!({}), ticket(), counts),
        (json!({}), address(), lacks),
        (json!({}), json!({}), lacks),
        (json!({"pattern": "CHG*"}), ticket(), counts),
        (json!({"pattern": "INC*"}), ticket(), other),
        (
            json!({"required": false, "pattern": "INC*"}),
            ticket(),
            other,
        ),
        (json!({"required": false}), json!({}), counts),
    ] {
        assert_eq!(
            told(reference.clone(), change.clone()),
            says,
            "{reference} {change}"
        );
    }
}
