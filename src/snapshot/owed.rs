//! The reviews of emergency changes that are owed, by what the records of the cluster and their statuses say.

use std::sync::Arc;

use promotion_gate_core::gate::{Collected, OverdueReviews, Unavailability};

use super::resource::Resource;
use crate::api::{EmergencyChangeRecordSpec, EmergencyChangeRecordStatus, Kind};

/// The most records that cannot be read and are named.
const MAXIMUM_SHOWN: usize = 8;

/// The records of emergency changes among some resources.
pub(super) fn emergency_records<'a>(
    resources: impl Iterator<Item = &'a Arc<Resource>>,
) -> Vec<Arc<Resource>> {
    let records = resources.filter(|it| it.name.kind == Kind::EmergencyChangeRecord);
    records.cloned().collect()
}

/// The reviews that these records owe. A record that cannot be read may owe one in any environment. `left_out` says why there may be
/// more records.
pub(super) fn owed_reviews(
    records: &[Arc<Resource>],
    left_out: Option<&str>,
) -> Collected<Arc<OverdueReviews>> {
    let mut owed = OverdueReviews::default();
    let mut unread: Vec<_> = left_out
        .map(|why| Unavailability(why.to_owned()))
        .into_iter()
        .collect();
    for record in records {
        match read(record) {
            Ok((spec, status)) => {
                if let Some(review) = spec.owed(&status) {
                    owed.0.entry(spec.environment).or_default().push(review);
                }
            }
            Err(why) if unread.len() < MAXIMUM_SHOWN => unread.push(Unavailability(format!(
                "the EmergencyChangeRecord `{}` cannot be read: {why}",
                record.name.name
            ))),
            Err(_) => {}
        }
    }
    let owed = Arc::new(owed);
    match unread.is_empty() {
        true => Collected::Known(owed),
        false => Collected::Partial(owed, unread),
    }
}

/// What a record and its status say. A status that cannot be read says nothing, so that the review is owed.
///
/// # Errors
/// Why the record cannot be read.
pub(crate) fn read(
    record: &Resource,
) -> Result<(EmergencyChangeRecordSpec, EmergencyChangeRecordStatus), String> {
    let spec = serde_json::from_value::<EmergencyChangeRecordSpec>(record.spec.clone());
    let spec = spec.map_err(|error| error.to_string())?;
    crate::api::emergency_record(&spec).map_err(|faults| {
        let faults = faults.iter().map(|fault| fault.message.clone());
        faults.collect::<Vec<_>>().join("; ")
    })?;
    let status = serde_json::from_value(record.status.clone());
    Ok((spec, status.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use promotion_gate_core::gate::Digest;
    use serde_json::{Value, json};

    use super::*;

    fn record(name: &str, environment: &str, status: Value) -> Arc<Resource> {
        let object = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "EmergencyChangeRecord",
            "metadata": {"name": name},
            "spec": {
                "declaration": Digest::sha256(name.as_bytes()).to_string(), "environment": environment,
                "incident": {"id": "INC1", "state": "verified"},
                "admitted": "2026-01-01T00:00:00Z", "lastAdmitted": "2026-01-01T00:00:00Z",
                "expires": "2026-01-01T04:00:00Z", "reviewDue": "2026-01-03T00:00:00Z",
            },
            "status": status,
        });
        let object = serde_json::from_value(object).unwrap();
        Arc::new(Resource::of(Kind::EmergencyChangeRecord, object))
    }

    fn reviewed() -> Value {
        json!({"review": {
            "verdict": "justified", "reviewer": "eve", "at": "2026-01-02T00:00:00Z", "reason": "x",
            "statement": "sha256:1",
        }})
    }

    #[test]
    fn a_record_without_a_review_owes_one_in_its_environment() {
        let records = [
            record("a", "production", json!({"state": "open"})),
            record("b", "production", reviewed()),
            record("c", "staging", json!({"review": "forged"})),
        ];
        let Collected::Known(owed) = owed_reviews(&records, None) else {
            panic!("all of them are read");
        };
        let after: Timestamp = "2026-01-03T00:00:00Z".parse().unwrap();
        let declared = |environment: &str| {
            let next = Digest::sha256(b"next");
            let first = owed.first_besides(&next, environment, after);
            first.map(|it| it.declaration.clone())
        };
        assert_eq!(declared("production"), Some(Digest::sha256(b"a")));
        assert_eq!(declared("staging"), Some(Digest::sha256(b"c")));
        assert_eq!(declared("test"), None);
    }

    #[test]
    fn a_record_that_cannot_be_read_leaves_it_unknown_what_is_owed() {
        let mut unreadable = Resource::clone(&record("a", "production", json!({})));
        unreadable.spec["reviewDue"] = json!("soon");
        let owed = owed_reviews(&[Arc::new(unreadable)], None);
        assert_eq!(owed.unavailabilities().len(), 1);
        let mut no_digest = Resource::clone(&record("a", "production", json!({})));
        no_digest.spec["declaration"] = json!("mine");
        let owed = owed_reviews(&[Arc::new(no_digest)], Some("there are too many"));
        assert_eq!(owed.unavailabilities().len(), 2);
    }
}
