//! What became of the workloads that an emergency change let pass, by reading them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use promotion_gate_core::gate::{Digest, Workload};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::Debts;
use super::status::next_outcome;
use crate::api::{
    ChangeOutcome, EmergencyChangeRecordSpec, EmergencyChangeRecordStatus, WorkloadOutcome,
    WrittenWorkload,
};
use crate::cluster::ObjectName;

/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most Pods of a workload that are looked at.
const MAXIMUM_PODS: u32 = 50;
/// How long after its admission a workload is looked at that is neither ready nor failed.
const OBSERVED: SignedDuration = SignedDuration::from_hours(24 * 7);
/// A container that cannot be started for a reason that may pass, such as a Secret that is applied later, counts as failed so long after
/// its Pod came to a node.
const STARTING: SignedDuration = SignedDuration::from_secs(60);

/// A template of a workload that an emergency change let pass.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Changed {
    workload: WrittenWorkload,
    template: String,
    admitted: Timestamp,
    images: Vec<String>,
}

/// What is seen of a workload.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Gone,
    Another {
        ran_before: bool,
    },
    /// It has started nothing yet.
    Waiting,
    This {
        object: Value,
        crashes: Option<String>,
    },
}

/// The templates of a record, each once.
pub(super) fn changed(spec: &EmergencyChangeRecordSpec) -> Vec<Changed> {
    let mut all: Vec<Changed> = Vec::new();
    for used in &spec.uses {
        let known = all
            .iter_mut()
            .find(|it| it.workload == used.workload && it.template == used.template);
        match known {
            Some(known) => known.images.push(used.image.clone()),
            None => all.push(Changed {
                workload: used.workload.clone(),
                template: used.template.clone(),
                admitted: used.admitted,
                images: vec![used.image.clone()],
            }),
        }
    }
    all
}

pub(super) fn workload_of(written: &WrittenWorkload) -> Workload {
    Workload {
        group: written.group.clone(),
        version: written.version.clone(),
        kind: written.kind.clone(),
        namespace: written.namespace.clone(),
        name: written.name.clone(),
    }
}

/// Whether objects of a kind show what became of them.
pub(super) fn is_observed(kind: &str) -> bool {
    let (outcome, _) = readiness(&json!({"kind": kind}));
    kind == "CronJob" || outcome != ChangeOutcome::NotObserved
}

/// Whether it is not known yet what became of a workload of a record.
pub(super) fn is_open(
    spec: &EmergencyChangeRecordSpec,
    status: &EmergencyChangeRecordStatus,
) -> bool {
    let mut known = status.outcomes.iter();
    known.len() < changed(spec).len() || known.any(|it| it.outcome == ChangeOutcome::Pending)
}

impl Debts {
    /// What became of each workload of a record; what could not be read stays as it was known.
    pub(super) async fn outcomes(
        &self,
        spec: &EmergencyChangeRecordSpec,
        known: &EmergencyChangeRecordStatus,
        now: Timestamp,
    ) -> Vec<WorkloadOutcome> {
        let known: BTreeMap<_, _> = known
            .outcomes
            .iter()
            .map(|it| ((it.workload.as_str(), it.template.as_str()), it))
            .collect();
        let mut outcomes = Vec::new();
        for changed in changed(spec) {
            let shown = shown(&changed.workload);
            let before = known.get(&(shown.as_str(), changed.template.as_str()));
            let before = before.copied();
            let seen = match self.look(&changed, now).await {
                Ok(seen) => Some(outcome(&seen)),
                Err(why) => {
                    tracing::debug!(
                        why,
                        workload = shown,
                        "what became of a workload is not known"
                    );
                    let is_late = now.duration_since(changed.admitted) > OBSERVED;
                    is_late.then(|| (ChangeOutcome::NotObserved, Some(cut(&why))))
                }
            };
            let Some(seen) = seen else {
                outcomes.extend(before.cloned());
                continue;
            };
            let (outcome, why) = in_time(seen, changed.admitted, now);
            let new = WorkloadOutcome {
                workload: shown,
                template: changed.template,
                outcome,
                at: Timestamp::from_second(now.as_second()).unwrap_or(now),
                why,
            };
            outcomes.push(next_outcome(before, new));
        }
        outcomes
    }

    async fn look(&self, changed: &Changed, now: Timestamp) -> Result<Seen, String> {
        let written = &changed.workload;
        let workload = workload_of(written);
        let deadline = Instant::now() + PATIENCE;
        let live = self.records.live_workload(&workload, deadline).await;
        let Some(live) = live.map_err(|why| why.to_string())? else {
            return Ok(Seen::Gone);
        };
        if written.uid.is_some() && written.uid != live.uid {
            return Ok(Seen::Gone);
        }
        let template = changed.template.parse::<Digest>().ok();
        if live.template != template {
            let other = live.template.as_ref();
            let ran_before = other.is_some_and(|other| {
                self.records
                    .was_admitted_before(&workload, other, changed.admitted)
            });
            return Ok(Seen::Another { ran_before });
        }
        let object = match written.kind.as_str() {
            "CronJob" => match self.last_job(&live.object, changed, deadline).await? {
                Some(job) => job,
                None => return Ok(Seen::Waiting),
            },
            _ => live.object,
        };
        let crashes = match readiness(&object) {
            (ChangeOutcome::Pending, _) => self.crashing(&workload, &object, changed, now).await?,
            _ => None,
        };
        Ok(Seen::This { object, crashes })
    }

    /// The Job that a CronJob started last, if it did since it was admitted and the Job is still there.
    async fn last_job(
        &self,
        cron_job: &Value,
        changed: &Changed,
        deadline: Instant,
    ) -> Result<Option<Value>, String> {
        let Some(name) = last_job_name(cron_job, changed.admitted) else {
            return Ok(None);
        };
        let job = ObjectName {
            group: "batch".to_owned(),
            version: "v1".to_owned(),
            kind: "Job".to_owned(),
            namespace: changed.workload.namespace.clone(),
            name,
        };
        let job = self.cluster.read(&job, deadline).await;
        let job = job.map_err(|why| why.to_string())?;
        Ok(job.filter(|job| is_started_by(job, cron_job)))
    }

    /// Why Pods of a workload crash or cannot start, if some of its images do not run.
    async fn crashing(
        &self,
        workload: &Workload,
        object: &Value,
        changed: &Changed,
        now: Timestamp,
    ) -> Result<Option<String>, String> {
        let Some(namespace) = &workload.namespace else {
            return Ok(None);
        };
        if workload.kind == "Pod" {
            return Ok(crash(object, &changed.images, now));
        }
        let Some(selector) = selector(object) else {
            return Ok(None);
        };
        let api: Api<Pod> = Api::namespaced(self.cluster.client(), namespace);
        let some = ListParams::default().labels(&selector).limit(MAXIMUM_PODS);
        let listed = timeout(PATIENCE, api.list(&some)).await;
        let listed = listed.map_err(|_| "no answer in time".to_owned())?;
        let listed = listed.map_err(|error| error.to_string())?;
        let pods = listed.items.iter();
        let mut pods = pods.filter_map(|pod| serde_json::to_value(pod).ok());
        Ok(pods.find_map(|pod| crash(&pod, &changed.images, now)))
    }
}

/// The name of the Job that a CronJob started last, if it did at or after an instant: the controller names it after the minute of the
/// schedule.
fn last_job_name(cron_job: &Value, since: Timestamp) -> Option<String> {
    let text = |at: &str| cron_job.pointer(at).and_then(Value::as_str);
    let scheduled: Timestamp = text("/status/lastScheduleTime")?.parse().ok()?;
    let name = text("/metadata/name")?;
    (scheduled >= since).then(|| format!("{name}-{}", scheduled.as_second() / 60))
}

/// Whether the controller of CronJobs made a Job for this one.
fn is_started_by(job: &Value, cron_job: &Value) -> bool {
    let uid = cron_job.pointer("/metadata/uid");
    let owners = job.pointer("/metadata/ownerReferences");
    let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
    uid.is_some() && owners.any(|owner| owner.get("uid") == uid)
}

/// What is said of a workload that is neither ready nor failed: after a time, that it was not observed.
fn in_time(
    seen: (ChangeOutcome, Option<String>),
    admitted: Timestamp,
    now: Timestamp,
) -> (ChangeOutcome, Option<String>) {
    match seen {
        (ChangeOutcome::Pending, _) if now.duration_since(admitted) > OBSERVED => {
            let days = OBSERVED.as_hours() / 24;
            let why = format!("it was neither ready nor failed within {days} days");
            (ChangeOutcome::NotObserved, Some(why))
        }
        seen => seen,
    }
}

/// The label selector of a workload, as a list request takes it; `None` where it has none, or one of expressions.
fn selector(object: &Value) -> Option<String> {
    let selector = object.pointer("/spec/selector")?;
    if selector.get("matchExpressions").is_some() {
        return None;
    }
    let labels = selector
        .get("matchLabels")
        .unwrap_or(selector)
        .as_object()?;
    let pairs = labels.iter();
    let pairs = pairs.map(|(name, value)| Some(format!("{name}={}", value.as_str()?)));
    let pairs: Vec<_> = pairs.collect::<Option<_>>()?;
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// Why a Pod does not run, if a container of one of these images waits to be started again after it ended several times, or cannot be
/// started.
fn crash(pod: &Value, images: &[String], now: Timestamp) -> Option<String> {
    let digest = |image: &str| image.split_once('@').map(|(_, digest)| digest.to_owned());
    let digests: Vec<_> = images.iter().filter_map(|image| digest(image)).collect();
    let text = |value: &Value, at: &str| Some(value.pointer(at)?.as_str()?.to_owned());
    let own: Vec<_> = items(pod, ["/spec/initContainers", "/spec/containers"])
        .filter(|it| {
            let image = text(it, "/image").unwrap_or_default();
            // A tag was resolved when it was judged; the Pod does not say to which digest.
            digest(&image).is_none_or(|digest| digests.contains(&digest))
        })
        .filter_map(|it| text(it, "/name"))
        .collect();
    // From when on a node could start it: it may have waited for a place before.
    let since = text(pod, "/status/startTime").or_else(|| text(pod, "/metadata/creationTimestamp"));
    let since = since.and_then(|at| at.parse::<Timestamp>().ok());
    let has_waited = since.is_none_or(|at| now.duration_since(at) >= STARTING);
    let lists = ["/status/initContainerStatuses", "/status/containerStatuses"];
    items(pod, lists).find_map(|status| {
        let name = text(status, "/name").filter(|name| own.contains(name))?;
        let why = failure(&text(status, "/state/waiting/reason")?, has_waited)?;
        let pod = text(pod, "/metadata/name").unwrap_or_default();
        Some(format!("the container `{name}` of the Pod `{pod}` {why}"))
    })
}

/// What is said of a container that waits for this reason, if that is a failure.
fn failure(reason: &str, has_waited: bool) -> Option<String> {
    match reason {
        "CrashLoopBackOff" => Some("crashes again and again".to_owned()),
        "InvalidImageName" => Some(format!("cannot be started: {reason}")),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "CreateContainerConfigError"
        | "CreateContainerError"
            if has_waited =>
        {
            Some(format!("cannot be started: {reason}"))
        }
        _ => None,
    }
}

/// The items of two lists of an object, as far as it has them.
fn items<'o>(object: &'o Value, lists: [&str; 2]) -> impl Iterator<Item = &'o Value> {
    let lists = lists.map(|list| object.pointer(list).and_then(Value::as_array));
    lists.into_iter().flatten().flatten()
}

fn outcome(seen: &Seen) -> (ChangeOutcome, Option<String>) {
    match seen {
        Seen::Gone => (ChangeOutcome::Gone, None),
        Seen::Another { ran_before: true } => (ChangeOutcome::RolledBack, None),
        Seen::Another { ran_before: false } => (ChangeOutcome::Replaced, None),
        Seen::Waiting => (ChangeOutcome::Pending, None),
        Seen::This {
            crashes: Some(why), ..
        } => (ChangeOutcome::Failed, Some(why.clone())),
        Seen::This {
            object,
            crashes: None,
        } => readiness(object),
    }
}

/// Whether an object runs its present template, by its status.
fn readiness(object: &Value) -> (ChangeOutcome, Option<String>) {
    let number = |at: &str| object.pointer(at).and_then(Value::as_i64);
    // A Rollout writes its generation as a text.
    let as_text = || {
        object
            .pointer("/status/observedGeneration")?
            .as_str()?
            .parse()
            .ok()
    };
    let is_current = match (
        number("/status/observedGeneration").or_else(as_text),
        number("/metadata/generation"),
    ) {
        (Some(observed), Some(now)) => observed >= now,
        (None, Some(_)) => object.pointer("/status/observedGeneration").is_none(),
        _ => true,
    };
    if !is_current {
        return (ChangeOutcome::Pending, None);
    }
    let kind = object.get("kind").and_then(Value::as_str);
    let wanted = number("/spec/replicas").unwrap_or(1);
    let all = |fields: &[&str], wanted: i64| {
        let mut fields = fields.iter();
        fields.all(|field| number(&format!("/status/{field}")).unwrap_or(0) >= wanted)
    };
    let (ready, failed) = match kind {
        Some("Deployment") => (
            all(&["updatedReplicas", "availableReplicas"], wanted)
                && number("/status/replicas").unwrap_or(0) <= wanted,
            condition(object, "Progressing", "False"),
        ),
        Some("StatefulSet") => (all(&["updatedReplicas", "readyReplicas"], wanted), None),
        Some("ReplicaSet" | "ReplicationController") => (all(&["readyReplicas"], wanted), None),
        Some("DaemonSet") => {
            let wanted = number("/status/desiredNumberScheduled").unwrap_or(i64::MAX);
            let ready = all(&["updatedNumberScheduled", "numberReady"], wanted);
            (ready, None)
        }
        Some("Job") => (
            condition(object, "Complete", "True").is_some(),
            condition(object, "Failed", "True"),
        ),
        Some("Pod") => {
            let phase = object.pointer("/status/phase").and_then(Value::as_str);
            let ready = condition(object, "Ready", "True").is_some() || phase == Some("Succeeded");
            let failed = (phase == Some("Failed")).then(|| "the Pod has failed".to_owned());
            (ready, failed)
        }
        Some("Rollout") => {
            let phase = object.pointer("/status/phase").and_then(Value::as_str);
            let failed = (phase == Some("Degraded")).then(|| "the Rollout is degraded".to_owned());
            (phase == Some("Healthy"), failed)
        }
        Some("AnalysisRun" | "Experiment") => {
            let phase = object.pointer("/status/phase").and_then(Value::as_str);
            let failed = phase.filter(|phase| ["Failed", "Error"].contains(phase));
            (
                phase == Some("Successful"),
                failed.map(|phase| format!("its phase is {phase}")),
            )
        }
        // Templates do not run, and of other kinds it is not known what they start.
        kind => {
            let why = format!("what a {} starts is not observed", kind.unwrap_or("object"));
            return (ChangeOutcome::NotObserved, Some(why));
        }
    };
    match (failed, ready) {
        (Some(why), _) => (ChangeOutcome::Failed, Some(why)),
        (None, true) => (ChangeOutcome::Ready, None),
        (None, false) => (ChangeOutcome::Pending, None),
    }
}

/// The reason and the message of a condition that has this status.
fn condition(object: &Value, kind: &str, status: &str) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let mut conditions = conditions.iter();
    let found = conditions.find(|it| {
        it.get("type") == Some(&json!(kind)) && it.get("status") == Some(&json!(status))
    })?;
    let text = |field: &str| found.get(field).and_then(Value::as_str).unwrap_or_default();
    Some(cut(&format!("{}: {}", text("reason"), text("message"))))
}

fn cut(why: &str) -> String {
    why.chars().take(500).collect()
}

/// A workload as people name it.
fn shown(workload: &WrittenWorkload) -> String {
    let WrittenWorkload { kind, name, .. } = workload;
    match &workload.namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(object: Value) -> ChangeOutcome {
        let crashes = None;
        outcome(&Seen::This { object, crashes }).0
    }

    #[test]
    fn a_deployment_is_ready_when_every_replica_runs_the_new_template() {
        let deployment = |status: Value| {
            json!({
                "kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status,
            })
        };
        let ready = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert_eq!(of(deployment(ready.clone())), ChangeOutcome::Ready);
        for (field, value) in [
            ("observedGeneration", 1),
            ("replicas", 3),
            ("updatedReplicas", 1),
            ("availableReplicas", 1),
        ] {
            let mut status = ready.clone();
            status[field] = json!(value);
            assert_eq!(of(deployment(status)), ChangeOutcome::Pending, "{field}");
        }
        let late = json!({"observedGeneration": 2, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
        ]});
        let (outcome, why) = readiness(&deployment(late));
        assert_eq!(outcome, ChangeOutcome::Failed);
        assert_eq!(why.as_deref(), Some("ProgressDeadlineExceeded: timed out"));
    }

    #[test]
    fn the_generation_of_a_rollout_is_a_text() {
        let rollout = |observed: &str| {
            of(json!({
                "kind": "Rollout", "metadata": {"generation": 2}, "status": {"observedGeneration": observed, "phase": "Healthy"},
            }))
        };
        assert_eq!(rollout("2"), ChangeOutcome::Ready);
        assert_eq!(rollout("1"), ChangeOutcome::Pending);
    }

    #[test]
    fn each_kind_is_ready_or_failed_by_its_own_status() {
        use ChangeOutcome::{Failed, NotObserved, Pending, Ready};
        let with = |kind: &str, status: Value| {
            of(json!({"kind": kind, "spec": {"replicas": 1}, "status": status}))
        };
        let condition = |kind: &str, status: &str| json!([{"type": kind, "status": status}]);
        for (kind, status, expected) in [
            (
                "StatefulSet",
                json!({"updatedReplicas": 1, "readyReplicas": 1}),
                Ready,
            ),
            (
                "StatefulSet",
                json!({"updatedReplicas": 0, "readyReplicas": 1}),
                Pending,
            ),
            ("ReplicaSet", json!({"readyReplicas": 1}), Ready),
            (
                "DaemonSet",
                json!({"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberReady": 3}),
                Ready,
            ),
            (
                "DaemonSet",
                json!({"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberReady": 2}),
                Pending,
            ),
            ("DaemonSet", json!({}), Pending),
            (
                "Job",
                json!({"conditions": condition("Complete", "True")}),
                Ready,
            ),
            (
                "Job",
                json!({"conditions": condition("Failed", "True")}),
                Failed,
            ),
            ("Job", json!({}), Pending),
            (
                "Pod",
                json!({"phase": "Running", "conditions": condition("Ready", "True")}),
                Ready,
            ),
            ("Pod", json!({"phase": "Succeeded"}), Ready),
            ("Pod", json!({"phase": "Failed"}), Failed),
            ("Pod", json!({"phase": "Pending"}), Pending),
            ("Rollout", json!({"phase": "Healthy"}), Ready),
            ("Rollout", json!({"phase": "Degraded"}), Failed),
            ("AnalysisRun", json!({"phase": "Successful"}), Ready),
            ("AnalysisRun", json!({"phase": "Running"}), Pending),
            ("Experiment", json!({"phase": "Failed"}), Failed),
            ("PodTemplate", json!({}), NotObserved),
            ("ScaledJob", json!({}), NotObserved),
        ] {
            assert_eq!(with(kind, status.clone()), expected, "{kind} {status}");
        }
    }

    #[test]
    fn the_job_of_a_cron_job_is_the_last_one_since_its_admission_and_its_own() {
        let at = |time: &str| -> Timestamp { time.parse().unwrap() };
        let cron_job = json!({
            "metadata": {"name": "nightly", "uid": "1"},
            "status": {"lastScheduleTime": "2026-11-29T03:10:00Z"},
        });
        let name = last_job_name(&cron_job, at("2026-11-29T03:09:30Z"));
        // The minutes since 1970.
        assert_eq!(name.as_deref(), Some("nightly-29932030"));
        assert_eq!(last_job_name(&cron_job, at("2026-11-29T03:10:30Z")), None);
        let never = json!({"metadata": {"name": "nightly"}, "status": {}});
        assert_eq!(last_job_name(&never, Timestamp::MIN), None);
        let job =
            |uid: &str| json!({"metadata": {"ownerReferences": [{"kind": "CronJob", "uid": uid}]}});
        assert!(is_started_by(&job("1"), &cron_job));
        assert!(!is_started_by(&job("2"), &cron_job));
        assert!(!is_started_by(&json!({"metadata": {}}), &never));
    }

    #[test]
    fn what_is_neither_ready_nor_failed_in_a_week_was_not_observed() {
        let admitted = Timestamp::UNIX_EPOCH;
        let after = |hours| admitted + SignedDuration::from_hours(hours);
        let pending = || outcome(&Seen::Waiting);
        assert_eq!(pending().0, ChangeOutcome::Pending);
        assert_eq!(in_time(pending(), admitted, after(168)), pending());
        let (late, why) = in_time(pending(), admitted, after(169));
        assert_eq!(late, ChangeOutcome::NotObserved);
        assert!(why.unwrap().contains("within 7 days"));
        let ready = (ChangeOutcome::Ready, None);
        assert_eq!(in_time(ready.clone(), admitted, after(169)), ready);
    }

    #[test]
    fn a_template_that_runs_no_more_was_rolled_back_if_an_earlier_one_runs() {
        use ChangeOutcome::{Gone, Replaced, RolledBack};
        assert_eq!(outcome(&Seen::Another { ran_before: true }).0, RolledBack);
        assert_eq!(outcome(&Seen::Another { ran_before: false }).0, Replaced);
        assert_eq!(outcome(&Seen::Gone).0, Gone);
    }

    #[test]
    fn a_container_of_the_image_that_crashes_again_and_again_is_a_failure() {
        let image = "registry.example/app@sha256:1".to_owned();
        let pod = |image: &str, reason: &str| {
            json!({
                "metadata": {"name": "web-1"},
                "spec": {"containers": [{"name": "app", "image": image}, {"name": "proxy", "image": "p@sha256:2"}]},
                "status": {"containerStatuses": [
                    {"name": "proxy", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                    {"name": "app", "state": {"waiting": {"reason": reason}}},
                ]},
            })
        };
        let images = std::slice::from_ref(&image);
        let crash = |pod: &Value| crash(pod, images, Timestamp::UNIX_EPOCH);
        let why = crash(&pod(&image, "CrashLoopBackOff")).unwrap();
        assert!(why.contains("`app`") && why.contains("`web-1`"), "{why}");
        assert!(crash(&pod("app:v1", "CrashLoopBackOff")).is_some());
        assert_eq!(crash(&pod(&image, "ContainerCreating")), None);
        assert_eq!(crash(&pod("app@sha256:3", "CrashLoopBackOff")), None);
    }

    #[test]
    fn a_container_or_init_container_that_crashes_or_cannot_be_started_is_a_failure() {
        let image = "registry.example/app@sha256:1";
        let started: Timestamp = "2026-11-29T03:00:00Z".parse().unwrap();
        for (containers, statuses) in [
            ("containers", "containerStatuses"),
            ("initContainers", "initContainerStatuses"),
        ] {
            let why = |image: &str, reason: &str, after: i64| {
                let waited = started - SignedDuration::from_mins(5);
                let pod = json!({
                    "metadata": {"name": "web-1", "creationTimestamp": waited},
                    "spec": {containers: [{"name": "app", "image": image}]},
                    "status": {"startTime": started, statuses: [{"name": "app", "state": {"waiting": {"reason": reason}}}]},
                });
                let images = ["registry.example/app@sha256:1".to_owned()];
                crash(&pod, &images, started + SignedDuration::from_secs(after))
            };
            assert!(why(image, "CrashLoopBackOff", 0).is_some());
            assert!(why(image, "InvalidImageName", 0).is_some());
            for reason in [
                "ErrImagePull",
                "ImagePullBackOff",
                "CreateContainerConfigError",
                "CreateContainerError",
            ] {
                assert_eq!(why(image, reason, 59), None, "it may pass: {reason}");
                let why = why(image, reason, 60).unwrap();
                assert_eq!(
                    why,
                    format!("the container `app` of the Pod `web-1` cannot be started: {reason}")
                );
            }
            for (image, reason) in [
                (image, "PodInitializing"),
                (image, "ContainerCreating"),
                ("registry.example/mesh@sha256:2", "ImagePullBackOff"),
            ] {
                assert_eq!(why(image, reason, 3600), None, "{image} {reason}");
            }
        }
    }

    #[test]
    fn the_pods_of_a_workload_are_found_by_its_labels_alone() {
        let of = |selector: Value| selector_of(selector);
        assert_eq!(
            of(json!({"matchLabels": {"app": "web", "tier": "a"}})).as_deref(),
            Some("app=web,tier=a")
        );
        assert_eq!(of(json!({"app": "web"})).as_deref(), Some("app=web"));
        for other in [
            json!({}),
            json!({"matchLabels": {}}),
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]}),
        ] {
            assert_eq!(of(other.clone()), None, "{other}");
        }
    }

    fn selector_of(selector: Value) -> Option<String> {
        super::selector(&json!({"spec": {"selector": selector}}))
    }
}
