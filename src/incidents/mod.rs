//! Asks incident trackers whether the incident that an emergency change names is open, and how severe it is.
//!
//! * `ask` — one question to a tracker
//! * `credential` — what the gate authenticates with

mod ask;
mod credential;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use promotion_gate_core::documents::nearest;
use promotion_gate_core::gate::{Collected, Incident, TrackerAnswer, Unavailability};
use tokio::time::{Instant, timeout_at};

use crate::api::IncidentCheck;
use crate::cluster::Cluster;
use crate::collect::SingleFlight;
use crate::feeds;
use crate::metrics::IncidentQuestions;
use crate::oci::ClientOptions;
use crate::oci::web::Web;
use ask::{Asking, NoAnswer};

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(60);
/// The most answers that are kept.
const MAXIMUM_KEPT: usize = 1000;

/// What can be asked about incidents: the incident checks that the operator configured.
pub trait Incidents: Send + Sync {
    /// Asks the incident check of this name about the incident `id`, at most until `deadline`.
    ///
    /// `Known(None)` says that there is no such incident: the tracker says so, or the check does not accept the id, which is the
    /// declarer's choice. A tracker that cannot be reached is `Unavailable`, with the check, the host and the reason. A check that does
    /// not exist, and an answer that cannot be used, is `Partial`: in these cases a policy must not go on without the answer.
    fn ask<'a>(
        &'a self,
        check: &'a str,
        id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Collected<Option<Incident>>>;
}

/// The incident checks of the operator.
///
/// An incident that a tracker has counts for 60 s. That there is none is asked each time, since somebody may just open it, and an error
/// is never remembered.
pub struct IncidentChecks {
    asking: ArcSwap<Result<Web, String>>,
    checks: ArcSwap<BTreeMap<String, Arc<IncidentCheck>>>,
    /// Where the Secret with credentials is.
    cluster: Option<Cluster>,
    under_way: SingleFlight<Key, Result<Told, NoAnswer>>,
    kept: Mutex<HashMap<Key, (Instant, Told)>>,
    questions: IncidentQuestions,
}

/// A question: the check with its revision, and the incident's id.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    check: String,
    revision: String,
    id: String,
}

/// What a check says of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The incident, if there is one.
    pub answer: TrackerAnswer,
    /// Why there is none, where the check knows more than that.
    pub absent: Option<String>,
}

impl Told {
    fn absent(why: String) -> Told {
        Told {
            answer: TrackerAnswer {
                incident: None,
                notes: Vec::new(),
            },
            absent: Some(why),
        }
    }
}

impl IncidentChecks {
    /// No checks yet.
    pub fn new(
        options: &ClientOptions,
        cluster: Option<Cluster>,
        questions: IncidentQuestions,
    ) -> IncidentChecks {
        IncidentChecks {
            asking: ArcSwap::from_pointee(feeds::web(options)),
            checks: ArcSwap::default(),
            cluster,
            under_way: SingleFlight::new(),
            kept: Mutex::default(),
            questions,
        }
    }

    /// Replaces the checks. What was answered to the same question counts on.
    pub fn replace(&self, checks: BTreeMap<String, Arc<IncidentCheck>>) {
        self.checks.store(Arc::new(checks));
    }

    /// Replaces the options, after the configuration changed.
    pub fn replace_options(&self, options: &ClientOptions) {
        self.asking.store(Arc::new(feeds::web(options)));
    }

    /// What a check says of an incident.
    ///
    /// # Errors
    /// Why nothing is known, with the check and the host.
    pub async fn tell(&self, check: &str, id: &str, deadline: Instant) -> Result<Told, String> {
        let told = self.told(check, id, deadline).await;
        told.map_err(|failed| failed.why)
    }

    async fn told(&self, check: &str, id: &str, deadline: Instant) -> Result<Told, NoAnswer> {
        let checks = self.checks.load_full();
        let Some(known) = checks.get(check) else {
            let names = checks.keys().map(String::as_str);
            let meant = nearest(check, names);
            let meant = meant.map_or_else(String::new, |it| format!("; did you mean `{it}`?"));
            let why = format!("there is no incident check `{check:.80}`{meant}");
            return Err(NoAnswer::missing(why));
        };
        if let Some(why) = known.refuse_id(id) {
            self.questions.count("id-refused");
            return Ok(Told::absent(why));
        }
        let key = Key {
            check: check.to_owned(),
            revision: known.revision.clone(),
            id: id.to_owned(),
        };
        if let Some(told) = self.recent(&key, Instant::now()) {
            self.questions.count("remembered");
            return Ok(told);
        }
        let flight = self.under_way.join(key.clone(), || {
            let asking = Asking {
                web: self.asking.load_full(),
                check: Arc::clone(known),
                id: id.to_owned(),
                cluster: self.cluster.clone(),
            };
            asking.ask().boxed()
        });
        let late =
            || NoAnswer::unavailable("there was no answer before the request has to be answered");
        let told = match timeout_at(deadline, flight).await {
            Ok(Some(told)) => told,
            Ok(None) => Err(NoAnswer::unavailable(
                "the question could not be asked: a panic",
            )),
            Err(_) => Err(late()),
        };
        self.questions.count(match &told {
            Ok(told) if told.answer.incident.is_some() => "found",
            Ok(_) => "absent",
            Err(failed) => failed.outcome,
        });
        if let Ok(told) = &told
            && told.answer.incident.is_some()
        {
            self.keep(key, told.clone(), Instant::now());
        }
        told.map_err(|failed| {
            let (host, why) = (known.host(), failed.why);
            NoAnswer {
                why: format!("the incident check `{check}` ({host}) has no answer: {why}"),
                ..failed
            }
        })
    }

    fn recent(&self, key: &Key, now: Instant) -> Option<Told> {
        let kept = self.kept();
        let (at, told) = kept.get(key)?;
        (now.saturating_duration_since(*at) < FRESH).then(|| told.clone())
    }

    fn keep(&self, key: Key, told: Told, now: Instant) {
        let mut kept = self.kept();
        kept.retain(|_, (at, _)| now.saturating_duration_since(*at) < FRESH);
        if kept.len() < MAXIMUM_KEPT {
            kept.insert(key, (now, told));
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Key, (Instant, Told)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Incidents for IncidentChecks {
    fn ask<'a>(
        &'a self,
        check: &'a str,
        id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Collected<Option<Incident>>> {
        async move {
            match self.told(check, id, deadline).await {
                Ok(told) => {
                    for note in &told.answer.notes {
                        tracing::warn!(check, id, note, "a part of an incident is not known");
                    }
                    if let Some(why) = &told.absent {
                        tracing::info!(check, id, why, "there is no such incident");
                    }
                    Collected::Known(told.answer.incident)
                }
                Err(NoAnswer {
                    why,
                    is_unreachable,
                    ..
                }) => {
                    tracing::warn!(check, id, why, "an incident is not known");
                    match is_unreachable {
                        true => Collected::Unavailable(Unavailability(why)),
                        false => Collected::Partial(None, vec![Unavailability(why)]),
                    }
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: usize) -> Key {
        Key {
            check: "tracker".to_owned(),
            revision: "1".to_owned(),
            id: id.to_string(),
        }
    }

    #[test]
    fn an_answer_counts_for_a_minute_and_only_so_many_are_kept() {
        let checks = IncidentChecks::new(
            &ClientOptions::default(),
            None,
            IncidentQuestions::default(),
        );
        let start = Instant::now();
        let told = Told::absent("x".to_owned());
        checks.keep(key(0), told.clone(), start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(checks.recent(&key(0), after(59)), Some(told.clone()));
        assert_eq!(checks.recent(&key(0), after(60)), None);
        for id in 0..MAXIMUM_KEPT + 10 {
            checks.keep(key(id), told.clone(), after(1));
        }
        assert_eq!(checks.kept().len(), MAXIMUM_KEPT);
        checks.keep(key(0), told, after(61));
        assert_eq!(checks.kept().len(), 1);
    }
}
