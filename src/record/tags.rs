//! Recorded tags that were moved. Upkeep passes on the record of a reference and does not resolve its tag again, so that what a moved
//! tag names runs unverified from the next Pod on. The replica with the duties resolves recorded tags once an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use promotion_gate_core::gate::{Collected, Digest, ImageReference};
use tokio::time::{Instant, sleep};

use super::ReleaseRecords;
use super::counted::CountedUnderLease;
use super::names::RecordSubject;
use crate::collect::Collector;

/// How often tags are resolved.
const HOURLY: Duration = Duration::from_secs(3600);
/// How often it is looked whether that is due.
const TICK: Duration = Duration::from_secs(5);
/// How long a registry may take for one tag.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many tags are resolved at once.
const AT_ONCE: usize = 4;
/// The most tags that are resolved in an hour.
const MAXIMUM_TAGS: usize = 10_000;
/// A record that was not used for this time does not run any more, in seconds. Use is noted once a day.
const IN_USE: i64 = 2 * 24 * 3600;

/// The digests with which references without a digest were admitted, by the reference and the namespace.
pub type RecordedTags = BTreeMap<String, BTreeMap<String, BTreeSet<Digest>>>;

/// What became of recorded tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedTags {
    /// The references that name another digest now, with that digest and the namespaces in which it was not admitted.
    pub moved: BTreeMap<String, (Digest, Vec<String>)>,
    /// The references that could not be resolved, with why.
    pub unknown: BTreeMap<String, String>,
    /// How many references were left out, because there are too many.
    pub left_out: usize,
}

/// Resolves each reference once, a few at a time.
pub async fn check_tags(collector: &Collector, recorded: &RecordedTags) -> CheckedTags {
    let mut checked = CheckedTags {
        left_out: recorded.len().saturating_sub(MAXIMUM_TAGS),
        ..CheckedTags::default()
    };
    let references: Vec<_> = recorded.keys().take(MAXIMUM_TAGS).collect();
    for some in references.chunks(AT_ONCE) {
        let answers = some.iter().map(|reference| resolve(collector, reference));
        for (reference, answer) in some.iter().zip(join_all(answers).await) {
            let reference = (*reference).clone();
            let digest = match answer {
                Ok(digest) => digest,
                Err(why) => {
                    checked.unknown.insert(reference, why);
                    continue;
                }
            };
            let admitted = recorded.get(&reference).into_iter().flatten();
            let moved = admitted.filter(|(_, digests)| !digests.contains(&digest));
            let namespaces: Vec<_> = moved.map(|(namespace, _)| namespace.clone()).collect();
            if !namespaces.is_empty() {
                checked.moved.insert(reference, (digest, namespaces));
            }
        }
    }
    checked
}

/// The digest that a reference names now.
async fn resolve(collector: &Collector, reference: &str) -> Result<Digest, String> {
    let parsed = reference.parse::<ImageReference>();
    let parsed = parsed.map_err(|_| "it is not a reference".to_owned())?;
    match collector.resolve(&parsed, Instant::now() + PATIENCE).await {
        Collected::Known(digest) | Collected::Partial(digest, _) => Ok(digest),
        Collected::Unavailable(why) => Err(why.to_string()),
    }
}

impl ReleaseRecords {
    /// Resolves the recorded tags once an hour while this replica has the duties, until the process ends.
    pub async fn watch_tags(
        self: Arc<ReleaseRecords>,
        has_duties: impl Fn() -> bool + Send,
        collector: Arc<Collector>,
    ) {
        let (mut checked, mut known) = (None::<Instant>, BTreeMap::new());
        let mut moved = CountedUnderLease::new(&self.metrics.tags_moved);
        loop {
            sleep(TICK).await;
            let has_duties = has_duties();
            moved.follow(has_duties);
            let is_due = checked.is_none_or(|at| at.elapsed() >= HOURLY);
            if !is_due || !has_duties || self.unknown().is_some() {
                continue;
            }
            let recorded = self.recorded_tags(Timestamp::now());
            let found = check_tags(&collector, &recorded).await;
            self.report_tags(&found, &known);
            known = found.moved;
            checked = Some(Instant::now());
        }
    }

    /// The tags that run, as far as policies resolved them.
    fn recorded_tags(&self, now: Timestamp) -> RecordedTags {
        let mut tags = RecordedTags::new();
        let memory = self.memory();
        for (name, record) in memory.iter() {
            let RecordSubject::Reference(reference) = &record.subject else {
                continue;
            };
            let is_old = |at: Timestamp| now.as_second().saturating_sub(at.as_second()) > IN_USE;
            if record.last_used.is_some_and(is_old) {
                continue;
            }
            let entries = record.entries.values();
            let digests: BTreeSet<_> = entries.filter_map(|kept| kept.digest.clone()).collect();
            if !digests.is_empty() {
                let namespaces = tags.entry(reference.clone()).or_default();
                namespaces.insert(name.namespace.clone(), digests);
            }
        }
        tags
    }

    /// Raises an alarm for each tag that was moved since the last time.
    fn report_tags(&self, found: &CheckedTags, known: &BTreeMap<String, (Digest, Vec<String>)>) {
        let count = i64::try_from(found.moved.len()).unwrap_or(i64::MAX);
        self.metrics.tags_moved.set(count);
        for (reference, moved) in &found.moved {
            if known.get(reference) == Some(moved) {
                continue;
            }
            let (digest, namespaces) = moved;
            let shown: Vec<_> = namespaces.iter().take(5).map(String::as_str).collect();
            let (shown, number) = (shown.join(", "), namespaces.len());
            let what = format!(
                "the tag of `{reference}` was moved: it names `{digest}` now, which was not admitted under it in {number} of the namespaces where it runs ({shown}) and runs there without a review from the next Pod on; deploy it by digest"
            );
            self.metrics.alarms.raise("tag-moved", &what);
        }
        if let Some((reference, why)) = found.unknown.first_key_value() {
            let (count, left_out) = (found.unknown.len(), found.left_out);
            tracing::warn!(
                count,
                left_out,
                reference,
                why,
                "whether recorded tags were moved is not known for all of them"
            );
        }
    }
}
