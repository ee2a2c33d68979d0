//! What the status of a record says: its state, the review that counts or why none does, and what became of the change.

use jiff::Timestamp;
use promotion_gate_core::gate::{CountedReview, ReviewSearch};
use serde_json::{Map, Value, json};

use crate::api::{
    ChangeOutcome, EmergencyChangeRecordSpec, EmergencyChangeRecordStatus, EmergencyState,
    LiftedReview, RecordedReview, WorkloadOutcome,
};

/// The condition that says whether a review is owed.
const REVIEWED: &str = "Reviewed";
/// The most reviews that do not count and are named.
const MAXIMUM_REFUSED: usize = 20;
/// The most characters of one sentence.
const MAXIMUM_SENTENCE: usize = 1000;
/// The most characters of a message.
const MAXIMUM_MESSAGE: usize = 8000;

/// What this replica found out about one record. What is `None` was not looked for yet, and stays as the status says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Findings {
    /// What is known of its review.
    pub(super) search: Option<Result<ReviewSearch, String>>,
    /// What became of its workloads.
    pub(super) outcomes: Option<Vec<WorkloadOutcome>>,
}

/// The status that a record should have.
pub(super) fn desired(
    spec: &EmergencyChangeRecordSpec,
    present: &Value,
    findings: &Findings,
    now: Timestamp,
) -> Value {
    let mut status: EmergencyChangeRecordStatus =
        serde_json::from_value(present.clone()).unwrap_or_default();
    // 1. A review that was found stays, also when its statement is deleted. One of an earlier use stays until there is another: it says
    //    from when on the time for that one counts.
    let counts = |review: &RecordedReview| review.at >= spec.last_admitted;
    let search = findings.search.as_ref();
    if !status.review.as_ref().is_some_and(counts) {
        let found = search.and_then(|search| search.as_ref().ok()?.counted.as_ref());
        let found = found.map(recorded).filter(counts);
        status.review = found.or(status.review);
    }
    match search {
        None => {}
        Some(Err(why)) => status.problem = Some(cut(why, MAXIMUM_SENTENCE)),
        Some(Ok(search)) => {
            let refused = search.refused.iter().take(MAXIMUM_REFUSED);
            status.refused_reviews = refused.map(|why| cut(why, MAXIMUM_SENTENCE)).collect();
            let unread = search.unread.iter().next();
            status.problem = unread.map(|why| cut(why, MAXIMUM_SENTENCE));
        }
    }
    // 2. What became of the change.
    if let Some(outcomes) = &findings.outcomes {
        status.outcomes.clone_from(outcomes);
    }
    status.outcome = worst(&status.outcomes);
    // 3. The state follows.
    let state = spec.state(&status, now);
    status.state = Some(state);
    if state.is_ended() {
        status.problem = None;
    }
    let mut fields = match present {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    for field in [
        "review",
        "lifted",
        "refusedReviews",
        "problem",
        "outcome",
        "outcomes",
    ] {
        fields.remove(field);
    }
    let conditions = conditions(spec, &status, state, fields.get("conditions"), now);
    fields.insert("conditions".to_owned(), conditions);
    if let Ok(Value::Object(own)) = serde_json::to_value(&status) {
        fields.extend(own);
    }
    Value::Object(fields)
}

/// The status of a record that a governor deleted: no review is owed for what it was used for so far.
pub(super) fn lifted(
    spec: &EmergencyChangeRecordSpec,
    present: &Value,
    by: LiftedReview,
    now: Timestamp,
) -> Value {
    let mut present = present.clone();
    if !present.is_object() {
        present = json!({});
    }
    if let (Value::Object(fields), Ok(by)) = (&mut present, serde_json::to_value(by)) {
        fields.insert("lifted".to_owned(), by);
    }
    desired(spec, &present, &Findings::default(), now)
}

/// What became of a workload, by what was known before: what became ready and was replaced in time by another change stays ready.
pub(super) fn next_outcome(
    known: Option<&WorkloadOutcome>,
    new: WorkloadOutcome,
) -> WorkloadOutcome {
    use ChangeOutcome::{Failed, Gone, NotObserved, Pending, Ready, Replaced, RolledBack};
    match known {
        Some(known) if known.outcome == new.outcome => known.clone(),
        Some(known)
            if matches!(known.outcome, Ready | Failed | RolledBack)
                && matches!(new.outcome, Pending | NotObserved | Replaced | Gone) =>
        {
            known.clone()
        }
        _ => new,
    }
}

fn worst(outcomes: &[WorkloadOutcome]) -> Option<ChangeOutcome> {
    outcomes.iter().map(|it| it.outcome).max()
}

fn recorded(review: &CountedReview) -> RecordedReview {
    RecordedReview {
        verdict: review.verdict.id().to_owned(),
        reviewer: review.reviewer.clone(),
        at: review.at,
        reason: review.reason.clone(),
        follow_ups: review.follow_ups.clone(),
        statement: review.statement.to_string(),
    }
}

/// The conditions, with the one that says whether a review is owed. The others stay as they are.
fn conditions(
    spec: &EmergencyChangeRecordSpec,
    status: &EmergencyChangeRecordStatus,
    state: EmergencyState,
    present: Option<&Value>,
    now: Timestamp,
) -> Value {
    let mut conditions = present
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let is_own = |condition: &Value| condition.get("type") == Some(&json!(REVIEWED));
    let before = conditions.iter().find(|it| is_own(it)).cloned();
    conditions.retain(|condition| !is_own(condition));
    let said = match state.is_ended() {
        true => "True",
        false => "False",
    };
    let is_same = |before: &&Value| before.get("status") == Some(&json!(said));
    let since = before.as_ref().filter(is_same);
    let since = since.and_then(|before| before.get("lastTransitionTime"));
    let since = since.cloned().unwrap_or_else(|| json!(format!("{now:.0}")));
    let (reason, message) = told(spec, status, state);
    conditions.push(json!({
        "type": REVIEWED,
        "status": said,
        "reason": reason,
        "message": cut(&message, MAXIMUM_MESSAGE),
        "lastTransitionTime": since,
    }));
    Value::Array(conditions)
}

/// The reason and the message of the condition.
fn told(
    spec: &EmergencyChangeRecordSpec,
    status: &EmergencyChangeRecordStatus,
    state: EmergencyState,
) -> (&'static str, String) {
    if let (EmergencyState::Reviewed, Some(review)) = (state, &status.review) {
        let message = format!("`{}` reviewed it: {}", review.reviewer, review.verdict);
        return ("Reviewed", message);
    }
    if let (EmergencyState::Lifted, Some(lifted)) = (state, &status.lifted) {
        let message = format!(
            "`{}` deleted the record, so that no review is owed",
            lifted.by
        );
        return ("Lifted", message);
    }
    let reason = match state {
        EmergencyState::Overdue => "Overdue",
        EmergencyState::Due => "Due",
        _ => "Open",
    };
    let mut message = format!(
        "the review is due on {:.0}, by a person who neither declared the emergency change, agreed to it, wrote the change nor asked for it",
        spec.due(status)
    );
    for why in &status.refused_reviews {
        message.push_str(&format!("; a review does not count: {why}"));
    }
    if let Some(why) = &status.problem {
        message.push_str(&format!("; reviews cannot be read: {why}"));
    }
    (reason, message)
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::attest::predicate::ReviewVerdict;
    use promotion_gate_core::gate::Digest;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(60 * minute).unwrap()
    }

    fn spec() -> EmergencyChangeRecordSpec {
        let spec = json!({
            "declaration": Digest::sha256(b"one").to_string(), "environment": "production",
            "incident": {"id": "INC1", "state": "verified"},
            "admitted": at(10), "lastAdmitted": at(20), "expires": at(60), "reviewDue": at(100),
        });
        serde_json::from_value(spec).unwrap()
    }

    fn found(minute: i64) -> Findings {
        let counted = CountedReview {
            verdict: ReviewVerdict::Unjustified,
            reviewer: "eve".to_owned(),
            at: at(minute),
            reason: "the table was not locked".to_owned(),
            follow_ups: vec!["add a test".to_owned()],
            statement: Digest::sha256(b"review"),
        };
        Findings {
            search: Some(Ok(ReviewSearch {
                counted: Some(counted),
                ..ReviewSearch::default()
            })),
            outcomes: None,
        }
    }

    fn condition(status: &Value) -> (String, String, String) {
        let conditions = status["conditions"].as_array().unwrap();
        let own = conditions.iter().find(|it| it["type"] == REVIEWED).unwrap();
        let text = |field: &str| own[field].as_str().unwrap().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    #[test]
    fn a_review_that_was_found_closes_a_record_and_stays_when_it_is_deleted() {
        let spec = spec();
        let open = desired(&spec, &json!({}), &Findings::default(), at(30));
        assert_eq!(open["state"], "open");
        assert_eq!(condition(&open).0, "False");
        let closed = desired(&spec, &open, &found(50), at(200));
        assert_eq!(
            (&closed["state"], &closed["review"]["verdict"]),
            (&json!("reviewed"), &json!("unjustified"))
        );
        assert_eq!(
            condition(&closed),
            (
                "True".to_owned(),
                "Reviewed".to_owned(),
                "`eve` reviewed it: unjustified".to_owned()
            )
        );
        let gone = Findings {
            search: Some(Ok(ReviewSearch::default())),
            outcomes: None,
        };
        assert_eq!(desired(&spec, &closed, &gone, at(300)), closed);
        // Used again: the review is not one of that.
        let mut again = spec.clone();
        again.last_admitted = at(55);
        for (now, state) in [(144, "due"), (145, "overdue")] {
            let open = desired(&again, &closed, &found(50), at(now));
            assert_eq!(open["state"], state);
            assert_eq!(condition(&open).0, "False");
            // That the earlier use was reviewed is not forgotten.
            assert_eq!(desired(&again, &open, &found(50), at(now)), open);
            let closed = desired(&again, &open, &found(60), at(300));
            assert_eq!(closed["state"], "reviewed");
        }
    }

    #[test]
    fn a_record_says_why_a_review_does_not_count_and_what_could_not_be_read() {
        let search = ReviewSearch {
            counted: None,
            refused: ["`ben` agreed to the emergency change".to_owned()].into(),
            unread: ["the registry did not answer".to_owned()].into(),
        };
        let findings = Findings {
            search: Some(Ok(search)),
            outcomes: None,
        };
        let status = desired(&spec(), &json!({}), &findings, at(100));
        let (_, reason, message) = condition(&status);
        assert_eq!(reason, "Overdue");
        assert!(
            message.contains("`ben` agreed") && message.contains("did not answer"),
            "{message}"
        );
        let unknown = Findings {
            search: Some(Err("no people directory is configured".to_owned())),
            outcomes: None,
        };
        let status = desired(&spec(), &status, &unknown, at(100));
        assert_eq!(status["problem"], "no people directory is configured");
        assert_eq!(status["refusedReviews"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_record_that_a_governor_deleted_owes_nothing_until_it_is_used_again() {
        let by = LiftedReview {
            by: "admin".to_owned(),
            at: at(30),
        };
        let status = lifted(&spec(), &Value::Null, by, at(200));
        assert_eq!(status["state"], "lifted");
        assert!(condition(&status).2.contains("`admin`"));
        let mut again = spec();
        again.last_admitted = at(40);
        let status = desired(&again, &status, &Findings::default(), at(200));
        assert_eq!(status["state"], "overdue");
    }

    #[test]
    fn what_others_wrote_into_a_status_stays_and_nothing_is_written_twice() {
        let ready =
            json!({"conditions": [{"type": "Ready", "status": "True"}], "observedGeneration": 1});
        let status = desired(&spec(), &ready, &Findings::default(), at(30));
        assert_eq!(status["observedGeneration"], 1);
        assert_eq!(status["conditions"].as_array().unwrap().len(), 2);
        assert_eq!(
            desired(&spec(), &status, &Findings::default(), at(31)),
            status
        );
    }

    #[test]
    fn what_became_of_a_change_is_not_forgotten_when_another_one_replaces_it() {
        let of = |outcome| WorkloadOutcome {
            workload: "Deployment shop/web".to_owned(),
            template: "sha256:1".to_owned(),
            outcome,
            at: at(1),
            why: None,
        };
        use ChangeOutcome::{Failed, Gone, NotObserved, Pending, Ready, Replaced, RolledBack};
        for (known, new, expected) in [
            (Pending, Ready, Ready),
            (Ready, Replaced, Ready),
            (Ready, Gone, Ready),
            (Ready, RolledBack, RolledBack),
            (Failed, Replaced, Failed),
            (Failed, Ready, Ready),
            (Pending, Replaced, Replaced),
            (Pending, NotObserved, NotObserved),
            (Ready, NotObserved, Ready),
            (NotObserved, Ready, Ready),
        ] {
            let next = next_outcome(Some(&of(known)), of(new));
            assert_eq!(next.outcome, expected, "{known:?} {new:?}");
        }
        assert_eq!(next_outcome(None, of(Gone)).outcome, Gone);
        assert_eq!(worst(&[of(Ready), of(Failed), of(Pending)]), Some(Failed));
    }
}
