//! Kubernetes Events on the objects that requests are about: denials, and warnings to the deployer. `kubectl describe` shows them,
//! also where a controller got the answer and nobody read it. Events about alarms are on the gate's own Deployment, and what becomes of an
//! emergency change on its record. All are written in the background; no request waits for them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::Api;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use promotion_gate_core::gate::{Change, ChangeKind, Operation};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::throttle::{Refusal, Throttle};
use crate::admission::AdmissionResponse;
use crate::cluster::Cluster;
use crate::metrics::Metrics;

/// The most Events that wait to be written.
const WAITING: usize = 500;
/// How long the API server may take to store one.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of a note: the API server refuses more than 1,024.
const MAXIMUM_NOTE: usize = 1000;
/// The name of the gate in Events, and of its Deployment.
const NAME: &str = "promotion-gate";
/// The user names of built-in controllers begin with this.
const CONTROLLERS: &str = "system:serviceaccount:kube-system:";

/// Writes Events.
#[derive(Clone)]
pub struct Events {
    waiting: mpsc::Sender<Notice>,
    metrics: Arc<Metrics>,
}

/// One Event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    about: About,
    kind: EventType,
    reason: String,
    note: String,
}

impl Notice {
    /// An alarm, on the gate's Deployment. The reason is in kebab case.
    pub(super) fn of_alarm(reason: &str, what: &str) -> Notice {
        Notice {
            about: About::Gate,
            kind: EventType::Warning,
            reason: camel_case(reason),
            note: cut(what),
        }
    }

    /// What became of an emergency change, on its record.
    pub(super) fn of_record(
        record: ObjectReference,
        kind: EventType,
        reason: &str,
        what: &str,
    ) -> Notice {
        Notice {
            about: About::Record(record),
            kind,
            reason: reason.to_owned(),
            note: cut(what),
        }
    }
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq)]
enum About {
    /// The object of a request, or its owner.
    Object(ObjectReference),
    /// The record of an emergency change.
    Record(ObjectReference),
    /// The gate itself.
    Gate,
}

impl Events {
    /// Starts the task that writes Events to a cluster; alarms are among them from now on.
    pub fn start(cluster: &Cluster, metrics: Arc<Metrics>) -> Events {
        let (waiting, notices) = mpsc::channel(WAITING);
        let gate = GateDeployment {
            cluster: cluster.clone(),
            uid: None,
        };
        tokio::spawn(write_all(gate, notices, Arc::clone(&metrics)));
        metrics.alarms.tell(waiting.clone());
        Events { waiting, metrics }
    }

    /// Tells what was answered to a request, if the deployer or the owner of the workload should know it.
    pub fn tell(
        &self,
        change: &Change,
        kind: ChangeKind,
        by_controller: bool,
        answer: &AdmissionResponse,
    ) {
        if let Some(notice) = notice(change, kind, by_controller, answer) {
            self.queue(notice);
        }
    }

    fn queue(&self, notice: Notice) {
        if self.waiting.try_send(notice).is_err() {
            self.metrics.count_event("dropped");
        }
    }
}

/// The Deployment of the gate.
struct GateDeployment {
    cluster: Cluster,
    /// Its UID, once it was read: `kubectl describe` shows the Events of this UID.
    uid: Option<String>,
}

impl GateDeployment {
    async fn reference(&mut self) -> ObjectReference {
        if self.uid.is_none() {
            let api: Api<Deployment> =
                Api::namespaced(self.cluster.client(), self.cluster.namespace());
            let read = timeout(PATIENCE, api.get_metadata_opt(NAME)).await;
            let read = read.ok().and_then(Result::ok).flatten();
            self.uid = read.and_then(|read| read.metadata.uid);
        }
        ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
            name: Some(NAME.to_owned()),
            namespace: Some(self.cluster.namespace().to_owned()),
            uid: self.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

async fn write_all(
    mut gate: GateDeployment,
    mut notices: mpsc::Receiver<Notice>,
    metrics: Arc<Metrics>,
) {
    let recorder = Recorder::new(gate.cluster.client(), Reporter::from(NAME));
    let mut throttle = Throttle::new(Instant::now());
    while let Some(Notice {
        about,
        kind,
        reason,
        note,
    }) = notices.recv().await
    {
        let (about, action) = match about {
            About::Object(about) => (about, "Admission"),
            About::Record(about) => (about, "EmergencyChange"),
            About::Gate => (gate.reference().await, "Alarm"),
        };
        let key = (
            about.kind.clone(),
            about.namespace.clone(),
            about.name.clone(),
            reason.clone(),
        );
        if let Err(refusal) = throttle.admit(key, Instant::now()) {
            metrics.count_event(match refusal {
                Refusal::Repeated => "repeated",
                Refusal::TooMany => "limited",
            });
            continue;
        }
        let event = Event {
            type_: kind,
            reason,
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        let published = timeout(PATIENCE, recorder.publish(&event, &about)).await;
        let problem = match published {
            Ok(Ok(())) => {
                metrics.count_event("written");
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the API server does not answer".to_owned(),
        };
        metrics.count_event("failed");
        tracing::warn!(problem, "an Event cannot be written");
    }
}

/// What an answer tells: a denial, an emergency change, or warnings; nothing about a dry run. What a trusted controller
/// (`by_controller`) may not make was upkeep to it, also where no record showed that.
fn notice(
    change: &Change,
    kind: ChangeKind,
    by_controller: bool,
    answer: &AdmissionResponse,
) -> Option<Notice> {
    let is_upkeep = by_controller || matches!(kind, ChangeKind::Upkeep { .. });
    let (reason, note) = match (answer.allowed, answer.warnings.as_slice()) {
        (false, _) if is_upkeep => ("UpkeepDenied", answer.message.clone()),
        (false, _) => ("PromotionDenied", answer.message.clone()),
        (true, _) if !answer.emergencies.is_empty() => {
            ("EmergencyChange", answer.emergencies.join("\n"))
        }
        (true, []) => return None,
        (true, warnings) => ("PromotionWarning", warnings.join("\n")),
    };
    let about = about(change).filter(|_| !change.dry_run)?;
    Some(Notice {
        about: About::Object(about),
        kind: EventType::Warning,
        reason: reason.to_owned(),
        note: cut(&note),
    })
}

/// The object that an Event is about: that of the request; its owner, where a built-in controller creates it. The names of its attempts
/// differ, and none of them ever exists: Events about them would never be repeated ones.
fn about(change: &Change) -> Option<ObjectReference> {
    let workload = &change.workload;
    let namespace = workload.namespace.clone();
    let of = |group: &str, version: &str, kind: &str, name: &str, uid: Option<&String>| {
        ObjectReference {
            api_version: Some(match group {
                "" => version.to_owned(),
                group => format!("{group}/{version}"),
            }),
            kind: Some(kind.to_owned()),
            name: Some(name.to_owned()),
            namespace: namespace.clone(),
            uid: uid.cloned(),
            ..ObjectReference::default()
        }
    };
    let user = change.actor.as_ref().map(|actor| actor.username.as_str());
    let by_controller = user.is_some_and(|user| {
        user.starts_with(CONTROLLERS) || user == "system:kube-controller-manager"
    });
    let creates = change.operation == Operation::Create;
    match (&change.object.owner, workload.name.ends_with('*')) {
        (Some(owner), _) if by_controller && creates => Some(of(
            &owner.group,
            &owner.version,
            &owner.kind,
            &owner.name,
            Some(&owner.uid),
        )),
        (_, false) if !workload.name.is_empty() => Some(of(
            &workload.group,
            &workload.version,
            &workload.kind,
            &workload.name,
            change.object.uid.as_ref(),
        )),
        _ => None,
    }
}

/// A text in kebab case as reasons of Events are written.
fn camel_case(kebab: &str) -> String {
    let words = kebab.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

fn cut(note: &str) -> String {
    let end = note.floor_char_boundary(MAXIMUM_NOTE);
    note.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use promotion_gate_core::gate::{
        Actor, ChangeEffect, ChangedObject, Operation, Owner, Workload,
    };

    use super::*;

    fn change(name: &str, user: &str) -> Change {
        Change {
            id: "1".to_owned(),
            operation: Operation::Create,
            effect: ChangeEffect::Runs,
            workload: Workload {
                group: String::new(),
                version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                namespace: Some("shop".to_owned()),
                name: name.to_owned(),
            },
            actor: Some(Actor {
                username: user.to_owned(),
                groups: Vec::new(),
            }),
            dry_run: false,
            object: ChangedObject {
                owner: Some(Owner {
                    group: "apps".to_owned(),
                    version: "v1".to_owned(),
                    kind: "ReplicaSet".to_owned(),
                    name: "web-1".to_owned(),
                    uid: "2".to_owned(),
                }),
                ..ChangedObject::default()
            },
            images: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    fn shown(change: &Change, answer: &AdmissionResponse) -> Option<(String, String, String)> {
        let told = notice(change, ChangeKind::Deploy, false, answer)?;
        let About::Object(about) = told.about else {
            panic!("{told:?}");
        };
        let about = format!(
            "{} {} {}",
            about.api_version.unwrap(),
            about.kind.unwrap(),
            about.name.unwrap()
        );
        Some((about, told.reason, told.note))
    }

    #[test]
    fn a_denial_is_told_on_the_object_or_on_the_owner_for_which_a_controller_made_it() {
        let denied = AdmissionResponse::failed("why".to_owned());
        let replicaset = "system:serviceaccount:kube-system:replicaset-controller";
        let told = |name: &str, user: &str| shown(&change(name, user), &denied);
        let about = |object: &str| {
            Some((
                object.to_owned(),
                "PromotionDenied".to_owned(),
                "why".to_owned(),
            ))
        };
        assert_eq!(told("web", "alice"), about("v1 Pod web"));
        for name in ["web-1-*", "web-1-x7k2p"] {
            let owner = about("apps/v1 ReplicaSet web-1");
            assert_eq!(told(name, replicaset), owner, "{name}");
        }
        let update = Change {
            operation: Operation::Update,
            ..change("web-1-x7k2p", replicaset)
        };
        assert_eq!(shown(&update, &denied), about("v1 Pod web-1-x7k2p"));
        // Everybody can write owner references.
        assert_eq!(told("web-1-*", "alice"), None);
    }

    #[test]
    fn a_denied_request_of_a_trusted_controller_is_denied_upkeep_also_without_a_record() {
        let denied = AdmissionResponse::failed("why".to_owned());
        let reason = |kind, by_controller| {
            let told = notice(&change("web", "alice"), kind, by_controller, &denied);
            told.map(|told| told.reason)
        };
        let upkeep = ChangeKind::Upkeep { recorded: false };
        assert_eq!(
            reason(ChangeKind::Deploy, true).as_deref(),
            Some("UpkeepDenied")
        );
        assert_eq!(reason(upkeep, false).as_deref(), Some("UpkeepDenied"));
        assert_eq!(
            reason(ChangeKind::Deploy, false).as_deref(),
            Some("PromotionDenied")
        );
    }

    #[test]
    fn an_answer_with_warnings_is_told_and_one_without_is_not() {
        let mut allowed = AdmissionResponse::not_judged("");
        assert_eq!(shown(&change("web", "alice"), &allowed), None);
        allowed.warnings = vec!["a freeze begins soon".to_owned()];
        let (_, reason, note) = shown(&change("web", "alice"), &allowed).unwrap();
        assert_eq!(
            (reason.as_str(), note.as_str()),
            ("PromotionWarning", "a freeze begins soon")
        );
    }

    #[test]
    fn an_admission_by_emergency_changes_is_told_as_such_whatever_else_is_warned_of() {
        let mut allowed = AdmissionResponse::not_judged("");
        allowed.warnings = vec!["admitted as an emergency".to_owned()];
        allowed.emergencies = vec!["admitted by one".to_owned(), "and another".to_owned()];
        let (about, reason, note) = shown(&change("web", "alice"), &allowed).unwrap();
        assert_eq!(
            (about.as_str(), reason.as_str(), note.as_str()),
            (
                "v1 Pod web",
                "EmergencyChange",
                "admitted by one\nand another"
            )
        );
        let dry = Change {
            dry_run: true,
            ..change("web", "alice")
        };
        assert_eq!(shown(&dry, &allowed), None);
    }

    #[test]
    fn a_dry_run_leaves_no_event() {
        let dry = Change {
            dry_run: true,
            ..change("web", "alice")
        };
        assert_eq!(
            shown(&dry, &AdmissionResponse::failed("why".to_owned())),
            None
        );
    }

    #[test]
    fn an_alarm_has_a_reason_as_events_have_it() {
        assert_eq!(camel_case("record-key-lost"), "RecordKeyLost");
        assert_eq!(camel_case("loosened"), "Loosened");
    }

    #[test]
    fn a_note_fits_into_an_event() {
        let denied = AdmissionResponse::failed("é".repeat(2000));
        let (_, _, note) = shown(&change("web", "alice"), &denied).unwrap();
        assert!(note.len() <= MAXIMUM_NOTE && note.len() > MAXIMUM_NOTE - 2);
    }
}
