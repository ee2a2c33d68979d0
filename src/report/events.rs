//! Kubernetes Events on the objects that requests are about: denials, and warnings to the deployer. `kubectl describe` shows them,
//! also where a controller got the answer and nobody read it. They are written in the background; no request waits for them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
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
/// The name of the gate in Events.
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
struct Notice {
    about: ObjectReference,
    reason: &'static str,
    note: String,
}

impl Events {
    /// Starts the task that writes Events to a cluster; it ends with the last of the values.
    pub fn start(cluster: &Cluster, metrics: Arc<Metrics>) -> Events {
        let (waiting, notices) = mpsc::channel(WAITING);
        let recorder = Recorder::new(cluster.client(), Reporter::from(NAME));
        tokio::spawn(write_all(recorder, notices, Arc::clone(&metrics)));
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

async fn write_all(recorder: Recorder, mut notices: mpsc::Receiver<Notice>, metrics: Arc<Metrics>) {
    let mut throttle = Throttle::new(Instant::now());
    while let Some(Notice {
        about,
        reason,
        note,
    }) = notices.recv().await
    {
        let key = (
            about.kind.clone(),
            about.namespace.clone(),
            about.name.clone(),
            reason,
        );
        if let Err(refusal) = throttle.admit(key, Instant::now()) {
            metrics.count_event(match refusal {
                Refusal::Repeated => "repeated",
                Refusal::TooMany => "limited",
            });
            continue;
        }
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Admission".to_owned(),
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

/// What an answer tells: a denial, or warnings; nothing about a dry run. What a trusted controller (`by_controller`) may not make was
/// upkeep to it, also where no record showed that.
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
        (true, []) => return None,
        (true, warnings) => ("PromotionWarning", warnings.join("\n")),
    };
    let about = about(change).filter(|_| !change.dry_run)?;
    Some(Notice {
        about,
        reason,
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

    fn shown(
        change: &Change,
        answer: &AdmissionResponse,
    ) -> Option<(String, &'static str, String)> {
        let told = notice(change, ChangeKind::Deploy, false, answer)?;
        let about = told.about;
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
        let about = |object: &str| Some((object.to_owned(), "PromotionDenied", "why".to_owned()));
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
        assert_eq!(reason(ChangeKind::Deploy, true), Some("UpkeepDenied"));
        assert_eq!(reason(upkeep, false), Some("UpkeepDenied"));
        assert_eq!(reason(ChangeKind::Deploy, false), Some("PromotionDenied"));
    }

    #[test]
    fn an_answer_with_warnings_is_told_and_one_without_is_not() {
        let mut allowed = AdmissionResponse::not_judged("");
        assert_eq!(shown(&change("web", "alice"), &allowed), None);
        allowed.warnings = vec!["a freeze begins soon".to_owned()];
        let (_, reason, note) = shown(&change("web", "alice"), &allowed).unwrap();
        assert_eq!(
            (reason, note.as_str()),
            ("PromotionWarning", "a freeze begins soon")
        );
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
    fn a_note_fits_into_an_event() {
        let denied = AdmissionResponse::failed("é".repeat(2000));
        let (_, _, note) = shown(&change("web", "alice"), &denied).unwrap();
        assert!(note.len() <= MAXIMUM_NOTE && note.len() > MAXIMUM_NOTE - 2);
    }
}
