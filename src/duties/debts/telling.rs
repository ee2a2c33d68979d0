//! What is reported when the state of a record changes: alarms on the gate's Deployment, and Events on the record itself.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::EventType;
use serde_json::Value;

use super::{Debts, Record};
use crate::api::{
    API_VERSION, EmergencyChangeRecordSpec, EmergencyChangeRecordStatus, EmergencyState,
    LiftedReview,
};
use crate::snapshot::Resource;

impl Debts {
    /// Tells the state that a record has from now on, if it had another one before.
    pub(super) fn tell(&self, record: &Record, status: &Value) {
        let status: EmergencyChangeRecordStatus =
            serde_json::from_value(status.clone()).unwrap_or_default();
        let (spec, before) = (&record.spec, record.status.state);
        let is_new = before != status.state;
        match (status.state, &status.review) {
            (Some(EmergencyState::Overdue), _) if is_new => {
                let what = format!(
                    "the review of {} was due on {:.0}: let somebody who had no part in it review it: `{}`",
                    named(spec),
                    spec.due(&status),
                    review_command(spec)
                );
                let alarms = &self.metrics.alarms;
                alarms.raise("emergency-review-overdue", &what);
                self.tell_on(&record.resource, EventType::Warning, "ReviewOverdue", &what);
            }
            (Some(EmergencyState::Reviewed), Some(review)) if is_new => {
                let (verdict, by) = (&review.verdict, &review.reviewer);
                tracing::info!(
                    name = record.name(),
                    verdict,
                    by,
                    "an emergency change was reviewed"
                );
                let what = format!("`{by}` reviewed it: {verdict}: {}", review.reason);
                let kind = match verdict.as_str() {
                    "unjustified" => EventType::Warning,
                    _ => EventType::Normal,
                };
                self.tell_on(&record.resource, kind, "Reviewed", &what);
                if verdict == "unjustified" {
                    let told = format!(
                        "`{by}` reviewed {}, and it was not justified: {}",
                        named(spec),
                        review.reason
                    );
                    self.metrics.alarms.raise("emergency-unjustified", &told);
                }
            }
            (Some(EmergencyState::Open | EmergencyState::Due), _)
                if before.is_none_or(EmergencyState::is_ended) =>
            {
                self.tell_use(record, spec.due(&status));
            }
            _ => {}
        }
    }

    fn tell_use(&self, record: &Record, due: Timestamp) {
        let spec = &record.spec;
        let people = spec.declared_by.union(&spec.approved_by);
        let people: Vec<_> = people.map(|name| format!("`{name}`")).collect();
        let what = format!(
            "{} was used; {} signed it; the review is due on {:.0}, by somebody who had no part in it: `{}`",
            named(spec),
            people.join(", "),
            due,
            review_command(spec)
        );
        let kind = EventType::Warning;
        self.tell_on(&record.resource, kind, "EmergencyChangeUsed", &what);
    }

    /// Tells that a governor deleted a record, on the one that is written in its place.
    pub(super) fn tell_lifted(&self, record: &Resource, by: &LiftedReview) {
        let what = format!("`{}` deleted the record, so that no review is owed", by.by);
        self.tell_on(record, EventType::Warning, "Lifted", &what);
    }

    fn tell_on(&self, record: &Resource, kind: EventType, reason: &str, what: &str) {
        let about = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some("EmergencyChangeRecord".to_owned()),
            name: Some(record.name.name.clone()),
            uid: Some(record.uid.clone()),
            ..ObjectReference::default()
        };
        let alarms = &self.metrics.alarms;
        alarms.tell_record(about, kind, reason, what);
    }
}

fn named(spec: &EmergencyChangeRecordSpec) -> String {
    format!(
        "the emergency change `{}` of `{}` for the incident `{}`",
        spec.declaration, spec.environment, spec.incident.id
    )
}

fn review_command(spec: &EmergencyChangeRecordSpec) -> String {
    let image = spec.uses.first().map_or("IMAGE", |used| &used.image);
    format!(
        "promotion-gate emergency review {image} --environment {} --declaration {} --verdict VERDICT --reason TEXT --from-cluster",
        spec.environment, spec.declaration
    )
}
