//! Alarms: what an operator has to look at. Each is counted, logged as an error, and written as an Event on the gate's Deployment. What
//! becomes of an emergency change is an Event on its record too.

use std::sync::OnceLock;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::EventType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use tokio::sync::mpsc;

use super::events::Notice;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct AlarmLabels {
    reason: &'static str,
}

/// Raises alarms.
#[derive(Debug, Default)]
pub struct Alarms {
    raised: Family<AlarmLabels, Counter>,
    /// Where their Events are written, once there is a cluster.
    events: OnceLock<mpsc::Sender<Notice>>,
}

impl Alarms {
    /// Raises an alarm: a reason in kebab case, and what happened as a sentence.
    pub fn raise(&self, reason: &'static str, what: &str) {
        self.raised.get_or_create(&AlarmLabels { reason }).inc();
        tracing::error!(alarm = reason, "{what}");
        if let Some(events) = self.events.get() {
            // Where there is no room, the log and the counter tell it.
            let _ = events.try_send(Notice::of_alarm(reason, what));
        }
    }

    /// Tells what became of an emergency change, as an Event on its record.
    pub(crate) fn tell_record(
        &self,
        record: ObjectReference,
        kind: EventType,
        reason: &str,
        what: &str,
    ) {
        if let Some(events) = self.events.get() {
            // Where there is no room, the record's status tells it.
            let _ = events.try_send(Notice::of_record(record, kind, reason, what));
        }
    }

    /// The counter, by reason.
    pub(crate) fn raised(&self) -> Family<AlarmLabels, Counter> {
        self.raised.clone()
    }

    /// Tells alarms as Events from now on.
    pub(super) fn tell(&self, events: mpsc::Sender<Notice>) {
        // Events are started once.
        let _ = self.events.set(events);
    }
}
