//! Alarms: what an operator has to look at. Each is counted, logged as an error, and written as an Event on the gate's Deployment. What
//! becomes of an emergency change is an Event on its record too.

use std::sync::{Mutex, PoisonError};

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
    told: Mutex<Told>,
}

/// The most Events that wait for a cluster.
const BEFORE: usize = 64;

/// Where Events are told.
#[derive(Debug)]
enum Told {
    /// No task writes Events yet: a replica reads what it needs, and can raise alarms, before it has begun to tell.
    Before(Vec<Notice>),
    /// The task that writes them.
    Writer(mpsc::Sender<Notice>),
}

impl Default for Told {
    fn default() -> Told {
        Told::Before(Vec::new())
    }
}

impl Alarms {
    /// Raises an alarm: a reason in kebab case, and what happened as a sentence.
    pub fn raise(&self, reason: &'static str, what: &str) {
        self.raised.get_or_create(&AlarmLabels { reason }).inc();
        tracing::error!(alarm = reason, "{what}");
        self.queue(Notice::of_alarm(reason, what));
    }

    /// Tells what became of an emergency change, as an Event on its record.
    pub(crate) fn tell_record(
        &self,
        record: ObjectReference,
        kind: EventType,
        reason: &str,
        what: &str,
    ) {
        self.queue(Notice::of_record(record, kind, reason, what));
    }

    /// Queues an Event, and drops it if the queue is full: an alarm is still logged and counted, and the outcome of an emergency change is still
    /// in the status of its record.
    fn queue(&self, notice: Notice) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *told {
            Told::Writer(events) => drop(events.try_send(notice)),
            Told::Before(waiting) if waiting.len() < BEFORE => waiting.push(notice),
            Told::Before(_) => {}
        }
    }

    /// The counter, by reason.
    pub(crate) fn raised(&self) -> Family<AlarmLabels, Counter> {
        self.raised.clone()
    }

    /// Tells alarms as Events, also those that were raised before.
    pub(super) fn tell(&self, events: mpsc::Sender<Notice>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Told::Before(waiting) = &mut *told {
            for notice in waiting.drain(..) {
                let _ = events.try_send(notice);
            }
        }
        *told = Told::Writer(events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_that_is_raised_before_events_are_written_is_told_once_they_are() {
        let alarms = Alarms::default();
        for _ in 0..BEFORE + 1 {
            alarms.raise("record-state-lost", "before");
        }
        let (events, mut told) = mpsc::channel(2 * BEFORE);
        alarms.tell(events);
        assert_eq!(told.len(), BEFORE);
        alarms.raise("record-key-lost", "after");
        assert_eq!(told.len(), BEFORE + 1);
        let first = told.try_recv().unwrap();
        assert_eq!(first, Notice::of_alarm("record-state-lost", "before"));
    }
}
