//! What runs now, as release records and statuses show it: the images of a workload that were admitted, complied and were seen in the
//! cluster, and since when.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::gate::{ChangedObject, Digest, ImageReference, Repository, Workload};
use serde_json::{Value, json};

use super::duties::{DAY, KEPT};
use super::names::RecordSubject;
use super::reading::ReadRecord;
use crate::api::{EntryRuns, EntryState, WrittenBy, WrittenEntry};

/// How long an entry that was not seen yet may still be about an object that comes, in seconds.
const PENDING: i64 = 300;

/// A workload as the API server gives it now.
#[derive(Clone, Copy, Debug)]
pub struct RunningWorkload<'a> {
    /// Its name.
    pub workload: &'a Workload,
    /// What it says besides its images.
    pub object: &'a ChangedObject,
    /// The object itself.
    pub stored: &'a Value,
    /// The images of its template.
    pub images: &'a [ImageReference],
}

/// An image that runs and complied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningImage {
    /// The repository that the workload names.
    pub repository: Repository,
    /// The digest.
    pub digest: Digest,
    /// The policies with which it complied.
    pub complied: BTreeSet<String>,
    /// The revision of the policies that were applied.
    pub revision: String,
    /// Since when the workload has had this template: not before it was seen in the cluster with it. `None` if the records do not show it.
    pub since: Option<Timestamp>,
}

/// The images of a workload, each with what its record shows. All of them must have been admitted by `required` policies, by no
/// waiver, and seen with the present template; and the status of the workload must say that it runs.
///
/// # Errors
/// Why an image cannot be attested, as a sentence.
pub fn running_images(
    records: &[ReadRecord],
    live: RunningWorkload<'_>,
    required: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Vec<RunningImage>, String> {
    let Workload { kind, name, .. } = live.workload;
    let shown = format!("{kind} `{name}`");
    // 1. What is staged does not run.
    if live.object.is_staged {
        return Err(format!(
            "{shown} does not run: it has no replicas, is paused or suspended"
        ));
    }
    is_running(live.stored).map_err(|why| format!("{shown} {why}"))?;
    let Some(template) = &live.object.template else {
        return Err(format!("the template of {shown} is not known"));
    };
    if live.images.is_empty() {
        return Err(format!("{shown} has no image"));
    }
    let mut running: Vec<RunningImage> = Vec::new();
    for image in live.images {
        let subject = RecordSubject::of_reference(image);
        let record = records.iter().find(|it| it.name == subject.name());
        let entries = record.into_iter().flat_map(|it| it.entries.values());
        let own: Vec<_> = entries.filter(|it| is_of(it, live)).collect();
        let of_template = own.iter().filter(|it| it.template == template.to_string());
        let of_template: Vec<&WrittenEntry> = of_template.copied().collect();
        // 2. Admitted, seen and complied, with the template that runs now.
        let (good, refused): (Vec<_>, Vec<_>) = of_template
            .iter()
            .map(|entry| (*entry, refusal(entry, required)))
            .partition(|(_, refusal)| refusal.is_none());
        let Some(first) = good.iter().min_by_key(|(entry, _)| entry.observed_at) else {
            let why = refused.into_iter().find_map(|(_, refusal)| refusal);
            let why = why.unwrap_or_else(|| match own.is_empty() {
                true => "no release record that counts names it".to_owned(),
                false => {
                    "its release record is of another template than the present one".to_owned()
                }
            });
            return Err(format!("`{}` of {shown}: {why}", image.as_written()));
        };
        // 3. Since when: not before it was seen, and not if another template was admitted afterwards. An admission that another
        //    template followed says nothing about a later one, which can be an entry of its own.
        let template = template.to_string();
        let is_unbroken = |since: Timestamp| !was_replaced(records, live, &template, (since, now));
        let unbroken = good
            .iter()
            .filter(|(entry, _)| entry.observed_at.is_some_and(is_unbroken));
        let unbroken = unbroken.min_by_key(|(entry, _)| entry.observed_at);
        let since = unbroken.and_then(|(entry, _)| entry.observed_at);
        let since = since.map(|since| as_far_as_is_kept(since, &of_template, now));
        let (present, _) = unbroken.unwrap_or(first);
        let recorded = || present.digest.as_ref()?.parse().ok();
        let Some(digest) = image.digest().cloned().or_else(recorded) else {
            return Err(format!(
                "`{}` of {shown} has no digest, and its release record does not say which one it named",
                image.as_written()
            ));
        };
        let found = RunningImage {
            repository: image.repository().clone(),
            digest,
            complied: present.complied.clone(),
            revision: present.revision.clone(),
            since,
        };
        if !running.contains(&found) {
            running.push(found);
        }
    }
    Ok(running)
}

/// The start of a run, as far as records show it. The record of a template that ran more than 29 days ago may be gone. A run that began
/// earlier counts from the last admission of this template on record, or from 29 days ago, whichever is earlier.
fn as_far_as_is_kept(since: Timestamp, of_template: &[&WrittenEntry], now: Timestamp) -> Timestamp {
    let kept = now.checked_sub(SignedDuration::from_secs(KEPT - DAY));
    let kept = kept.unwrap_or(now);
    if since >= kept {
        return since;
    }
    let admitted = of_template.iter().map(|entry| last_known(entry));
    let last = admitted.max().unwrap_or(kept);
    last.min(kept)
}

/// When an entry's object was last admitted or seen, as far as the entry says it.
fn last_known(entry: &WrittenEntry) -> Timestamp {
    entry
        .observed_at
        .map_or(entry.at, |seen| seen.max(entry.at))
}

fn is_of(entry: &WrittenEntry, live: RunningWorkload<'_>) -> bool {
    let Workload {
        group,
        version: _,
        kind,
        namespace,
        name,
    } = live.workload;
    let recorded = &entry.workload;
    (
        &recorded.group,
        &recorded.kind,
        &recorded.namespace,
        &recorded.name,
    ) == (group, kind, namespace, name)
        && (recorded.uid.is_none() || recorded.uid == live.object.uid)
}

/// Why an entry of the present template does not show that the image complied and ran.
fn refusal(entry: &WrittenEntry, required: &BTreeSet<String>) -> Option<String> {
    if entry.by != WrittenBy::Policy {
        let by = match entry.by {
            WrittenBy::Waiver => "by an emergency change",
            WrittenBy::Audit => "although a policy denied it",
            WrittenBy::Ungoverned => "without a policy",
            WrittenBy::Baseline => "before the gate recorded anything",
            WrittenBy::Injected | WrittenBy::Policy => "by an injector",
        };
        return Some(format!("it was admitted {by}"));
    }
    if entry.runs == EntryRuns::Staged {
        return Some("it was admitted without being started".to_owned());
    }
    if entry.state != EntryState::Observed {
        return Some("the gate has not seen it in the cluster yet".to_owned());
    }
    let missing: Vec<_> = required.difference(&entry.complied).cloned().collect();
    let missing = missing.join("`, `");
    (!missing.is_empty()).then(|| format!("it was not judged by `{missing}`, or did not comply"))
}

/// Whether another template of the workload was admitted after `since`: it may have run in between. What was admitted and never seen
/// was refused by others.
fn was_replaced(
    records: &[ReadRecord],
    live: RunningWorkload<'_>,
    template: &str,
    (since, now): (Timestamp, Timestamp),
) -> bool {
    let mut entries = records.iter().flat_map(|record| record.entries.values());
    entries.any(|entry| {
        let waits = now.as_second().saturating_sub(entry.at.as_second()) <= PENDING;
        let may_have_run = entry.state == EntryState::Observed || waits;
        let is_later = last_known(entry) > since;
        is_of(entry, live) && entry.template != template && may_have_run && is_later
    })
}

/// Whether the status of an object says that something of it runs, and nothing of an earlier template.
fn is_running(object: &Value) -> Result<(), String> {
    let number = |at: &str| object.pointer(at).and_then(Value::as_i64);
    let text = |at: &str| object.pointer(at).and_then(Value::as_str);
    // A Rollout writes its generation as a text.
    let observed = number("/status/observedGeneration")
        .or_else(|| text("/status/observedGeneration")?.parse().ok());
    if observed
        .is_some_and(|observed| number("/metadata/generation").is_some_and(|it| it > observed))
    {
        return Err(
            "was changed a moment ago, and its controller has not seen that yet".to_owned(),
        );
    }
    let count = |field: &str| number(&format!("/status/{field}")).unwrap_or(0);
    let is_of_template = |updated: &str, all: &str| count(updated) >= count(all).max(1);
    let kind = text("/kind").unwrap_or_default();
    let (is_new, runs) = match kind {
        "Deployment" | "Rollout" => (
            is_of_template("updatedReplicas", "replicas"),
            count("availableReplicas") > 0,
        ),
        "StatefulSet" => (
            text("/status/currentRevision") == text("/status/updateRevision")
                || is_of_template("updatedReplicas", "replicas"),
            count("readyReplicas") > 0,
        ),
        "DaemonSet" => (
            is_of_template("updatedNumberScheduled", "currentNumberScheduled"),
            count("numberReady") > 0,
        ),
        "ReplicaSet" | "ReplicationController" => (true, count("readyReplicas") > 0),
        "Job" => (true, count("ready") > 0 || count("succeeded") > 0),
        "CronJob" => (true, text("/status/lastSuccessfulTime").is_some()),
        "Pod" => {
            let conditions = object
                .pointer("/status/conditions")
                .and_then(Value::as_array);
            let ready = |it: &Value| {
                it.get("type") == Some(&json!("Ready")) && it.get("status") == Some(&json!("True"))
            };
            let is_ready = conditions.is_some_and(|it| it.iter().any(ready));
            (true, is_ready || text("/status/phase") == Some("Succeeded"))
        }
        _ => return Err("is of a kind whose status does not say whether it runs".to_owned()),
    };
    match (runs, is_new, kind) {
        (true, true, _) => Ok(()),
        (false, _, "Job" | "CronJob") => Err("has not run with success yet".to_owned()),
        (false, ..) => Err("has no Pod that is ready".to_owned()),
        (true, false, _) => Err("still has Pods of an earlier template".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::WrittenWorkload;

    fn workload() -> Workload {
        Workload {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some("shop".to_owned()),
            name: "web".to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn entry(template: &[u8], second: i64) -> WrittenEntry {
        WrittenEntry {
            workload: WrittenWorkload::new(&workload(), Some(&"7".to_owned())),
            template: Digest::sha256(template).to_string(),
            state: EntryState::Observed,
            runs: EntryRuns::Running,
            by: WrittenBy::Policy,
            complied: ["staging".to_owned(), "base".to_owned()].into(),
            environments: BTreeSet::new(),
            ages_judged: BTreeSet::new(),
            source: None,
            digest: None,
            at: at(second),
            observed_at: Some(at(second + 10)),
            emergency: Vec::new(),
            decision: "1".to_owned(),
            revision: "r".to_owned(),
        }
    }

    fn record(image: &str, entries: Vec<WrittenEntry>) -> ReadRecord {
        let subject = RecordSubject::of_reference(&image.parse().unwrap());
        let entries = entries.into_iter().enumerate();
        ReadRecord {
            namespace: "shop".to_owned(),
            name: subject.name(),
            image: image.to_owned(),
            last_used: None,
            entries: entries.map(|(at, it)| (at.to_string(), it)).collect(),
            refused: BTreeMap::new(),
        }
    }

    fn image() -> String {
        format!("ghcr.io/example/app@{}", Digest::sha256(b"image"))
    }

    fn running(records: &[ReadRecord], image: &str) -> Result<Vec<RunningImage>, String> {
        running_at(records, image, 10_000)
    }

    fn running_at(
        records: &[ReadRecord],
        image: &str,
        now: i64,
    ) -> Result<Vec<RunningImage>, String> {
        let images = [image.parse().unwrap()];
        let object = ChangedObject {
            uid: Some("7".to_owned()),
            template: Some(Digest::sha256(b"v1")),
            ..ChangedObject::default()
        };
        let workload = workload();
        let live = RunningWorkload {
            workload: &workload,
            object: &object,
            stored: &ready(),
            images: &images,
        };
        running_images(records, live, &["staging".to_owned()].into(), at(now))
    }

    fn ready() -> Value {
        json!({"kind": "Deployment", "status": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}})
    }

    #[test]
    fn only_a_status_that_says_so_shows_that_a_workload_runs() {
        for (object, expected) in [
            (ready(), ""),
            (
                json!({"kind": "Deployment", "status": {}}),
                "no Pod that is ready",
            ),
            (
                json!({"kind": "Deployment", "metadata": {"generation": 3}, "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}}),
                "changed a moment ago",
            ),
            (
                json!({"kind": "Deployment", "status": {"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2}}),
                "an earlier template",
            ),
            (
                json!({"kind": "Rollout", "metadata": {"generation": 3}, "status": {"observedGeneration": "3", "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}}),
                "",
            ),
            (
                json!({"kind": "Rollout", "metadata": {"generation": 4}, "status": {"observedGeneration": "3", "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}}),
                "changed a moment ago",
            ),
            (
                json!({"kind": "StatefulSet", "status": {"currentRevision": "a", "updateRevision": "a", "replicas": 2, "readyReplicas": 1}}),
                "",
            ),
            (
                json!({"kind": "StatefulSet", "status": {"currentRevision": "a", "updateRevision": "b", "replicas": 2, "updatedReplicas": 1, "readyReplicas": 2}}),
                "an earlier template",
            ),
            (
                json!({"kind": "DaemonSet", "status": {"currentNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 1}}),
                "",
            ),
            (
                json!({"kind": "DaemonSet", "status": {"currentNumberScheduled": 0, "updatedNumberScheduled": 0, "numberReady": 0}}),
                "no Pod that is ready",
            ),
            (
                json!({"kind": "ReplicaSet", "status": {"readyReplicas": 1}}),
                "",
            ),
            (
                json!({"kind": "Job", "status": {"active": 1}}),
                "has not run with success yet",
            ),
            (json!({"kind": "Job", "status": {"succeeded": 1}}), ""),
            (
                json!({"kind": "CronJob", "status": {"lastScheduleTime": "2026-11-29T00:00:00Z"}}),
                "has not run with success yet",
            ),
            (
                json!({"kind": "CronJob", "status": {"lastSuccessfulTime": "2026-11-29T00:00:00Z"}}),
                "",
            ),
            (
                json!({"kind": "Pod", "status": {"phase": "Running"}}),
                "no Pod that is ready",
            ),
            (
                json!({"kind": "Pod", "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
                "",
            ),
            (
                json!({"kind": "PodTemplate"}),
                "a kind whose status does not say",
            ),
        ] {
            match (is_running(&object), expected) {
                (Ok(()), "") => {}
                (Err(why), expected) if !expected.is_empty() && why.contains(expected) => {}
                (found, _) => panic!("{object}: {found:?}"),
            }
        }
    }

    #[test]
    fn what_returned_from_another_template_has_run_since_it_returned() {
        let back = WrittenEntry {
            observed_at: Some(at(500)),
            ..entry(b"v1", 100)
        };
        let other = record("ghcr.io/example/app:v2", vec![entry(b"v2", 300)]);
        let own = record(&image(), vec![back.clone()]);
        let since = running(&[own, other], &image()).unwrap()[0].since;
        assert_eq!(since, Some(at(500)));
        // The other template ran once before, and again now.
        let again = WrittenEntry {
            observed_at: Some(at(600)),
            ..entry(b"v2", 300)
        };
        let other = record("ghcr.io/example/app:v2", vec![again]);
        let own = record(&image(), vec![back]);
        assert_eq!(running(&[own, other], &image()).unwrap()[0].since, None);
    }

    #[test]
    fn what_returned_under_other_policies_has_run_since_it_returned() {
        let [monday, wednesday, thursday] = [100, 300, 500];
        let again = WrittenEntry {
            complied: ["staging".to_owned()].into(),
            revision: "of Thursday".to_owned(),
            ..entry(b"v1", thursday)
        };
        let other = |second| record("ghcr.io/example/app:v2", vec![entry(b"v2", second)]);
        let found = |own: Vec<WrittenEntry>, second| {
            let records = [record(&image(), own), other(second)];
            running(&records, &image()).unwrap().remove(0)
        };
        for own in [
            vec![entry(b"v1", monday), again.clone()],
            vec![again.clone(), entry(b"v1", monday)],
        ] {
            let of_thursday = found(own.clone(), wednesday);
            assert_eq!(of_thursday.since, Some(at(thursday + 10)));
            assert_eq!(of_thursday.revision, "of Thursday");
            assert_eq!(found(own.clone(), thursday + 50).since, None);
            assert_eq!(found(own, monday - 50).since, Some(at(monday + 10)));
        }
        // An entry without a time neither hides another one nor stands in for it.
        let without = WrittenEntry {
            observed_at: None,
            ..entry(b"v1", monday)
        };
        let since = found(vec![without, again], wednesday).since;
        assert_eq!(since, Some(at(thursday + 10)));
    }

    #[test]
    fn a_run_that_began_before_records_are_kept_for_counts_from_the_last_admission_or_from_then() {
        let again = |day: i64| WrittenEntry {
            complied: ["staging".to_owned()].into(),
            ..entry(b"v1", day * DAY)
        };
        let since = |own: Vec<WrittenEntry>| {
            let found = running_at(&[record(&image(), own)], &image(), 100 * DAY);
            found.unwrap()[0].since
        };
        // The record of what ran in between may be gone.
        let first = entry(b"v1", DAY);
        let seen = |day: i64| Some(at(day * DAY + 10));
        assert_eq!(since(vec![first.clone(), again(50)]), seen(50));
        let kept = Some(at(71 * DAY));
        assert_eq!(since(vec![first.clone(), again(90)]), kept);
        assert_eq!(since(vec![again(80), again(90)]), seen(80));
        // A return under the same policies would have begun the entry anew.
        assert_eq!(since(vec![first]), seen(1));
    }

    #[test]
    fn what_was_admitted_and_never_stored_has_replaced_nothing() {
        let refused = |second| WrittenEntry {
            state: EntryState::Pending,
            observed_at: None,
            ..entry(b"v2", second)
        };
        let own = || record(&image(), vec![entry(b"v1", 100)]);
        let since = |second| {
            let other = record("ghcr.io/example/app:v2", vec![refused(second)]);
            running(&[own(), other], &image()).unwrap()[0].since
        };
        assert_eq!(since(5000), Some(at(110)));
        assert_eq!(since(9900), None, "it may come yet");
    }

    #[test]
    fn what_complied_and_was_seen_has_run_since_it_was_seen() {
        let found = running(&[record(&image(), vec![entry(b"v1", 100)])], &image()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].digest, Digest::sha256(b"image"));
        assert_eq!(found[0].since, Some(at(110)));
        // Another entry of the same template, for other policies, does not begin anew.
        let again = WrittenEntry {
            complied: ["staging".to_owned()].into(),
            ..entry(b"v1", 500)
        };
        let found = running(
            &[record(&image(), vec![entry(b"v1", 100), again])],
            &image(),
        );
        assert_eq!(found.unwrap()[0].since, Some(at(110)));
    }

    #[test]
    fn what_another_template_replaced_meanwhile_has_not_run_since_then() {
        let other = record("ghcr.io/example/app:v2", vec![entry(b"v2", 300)]);
        let own = record(&image(), vec![entry(b"v1", 100)]);
        assert_eq!(
            running(&[own.clone(), other], &image()).unwrap()[0].since,
            None
        );
        let before = record("ghcr.io/example/app:v0", vec![entry(b"v0", 50)]);
        let since = running(&[own, before], &image()).unwrap()[0].since;
        assert_eq!(since, Some(at(110)));
        let older = WrittenEntry {
            observed_at: None,
            ..entry(b"v1", 100)
        };
        let since = running(&[record(&image(), vec![older])], &image()).unwrap()[0].since;
        assert_eq!(since, None, "an older version wrote the entry");
    }

    #[test]
    fn an_image_by_tag_has_the_digest_that_was_judged() {
        let by_tag = WrittenEntry {
            digest: Some(Digest::sha256(b"image").to_string()),
            ..entry(b"v1", 100)
        };
        let tag = "ghcr.io/example/app:v1";
        let found = running(&[record(tag, vec![by_tag])], tag).unwrap();
        assert_eq!(found[0].digest, Digest::sha256(b"image"));
        let found = running(&[record(tag, vec![entry(b"v1", 100)])], tag);
        assert!(found.unwrap_err().contains("has no digest"));
    }

    #[test]
    fn what_was_not_admitted_by_the_policies_or_not_seen_is_not_attested() {
        let but = |change: fn(&mut WrittenEntry)| {
            let mut changed = entry(b"v1", 100);
            change(&mut changed);
            running(&[record(&image(), vec![changed])], &image()).unwrap_err()
        };
        for (why, expected) in [
            (but(|it| it.by = WrittenBy::Waiver), "emergency change"),
            (but(|it| it.by = WrittenBy::Audit), "a policy denied it"),
            (but(|it| it.by = WrittenBy::Ungoverned), "without a policy"),
            (but(|it| it.by = WrittenBy::Baseline), "before the gate"),
            (
                but(|it| it.runs = EntryRuns::Staged),
                "without being started",
            ),
            (but(|it| it.state = EntryState::Pending), "has not seen it"),
            (
                but(|it| it.complied = ["base".to_owned()].into()),
                "not judged by `staging`",
            ),
            (
                but(|it| it.template = Digest::sha256(b"v2").to_string()),
                "another template",
            ),
            (
                but(|it| it.workload.name = "other".to_owned()),
                "no release record",
            ),
            (
                but(|it| it.workload.uid = Some("8".to_owned())),
                "no release record",
            ),
        ] {
            assert!(why.contains(expected), "{why}");
        }
        assert!(running(&[], &image()).is_err());
    }
}
