//! Rejections and authors that reviews saw in registries, kept as resources of the cluster, so that deleting them in a registry
//! helps nobody. They are written in the background: no answer waits for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use promotion_gate_core::gate::{ChangeKind, Policy, Snapshot, evidence_to_keep};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::api::{self, AuthorRecordResource, RejectionResource};
use crate::cluster::Cluster;
use crate::metrics::Metrics;
use crate::review::Review;

/// The most reviews that wait. One that finds no room is not looked at; the next review of its images sees the same.
const WAITING: usize = 256;
/// The most resources that are remembered as written, until the watch shows them.
const REMEMBERED: usize = 10_000;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pauses between attempts to write. After the last attempt, the next review that sees the same tries again.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
    Duration::from_secs(40),
];
/// How many names are tried where a resource about something else has the name.
const NAMES: usize = 4;
/// How the gate is named as the writer.
const MANAGER: &str = "promotion-gate";

/// Where reviews go whose evidence may have to be kept.
pub struct Keeper {
    waiting: mpsc::Sender<(Review, Arc<Snapshot>)>,
    metrics: Arc<Metrics>,
}

impl Keeper {
    /// Starts to keep evidence, for as long as the keeper is there.
    pub fn start(cluster: Cluster, metrics: Arc<Metrics>) -> Keeper {
        let (waiting, reviews) = mpsc::channel(WAITING);
        tokio::spawn(keep_all(cluster, reviews, Arc::clone(&metrics)));
        Keeper { waiting, metrics }
    }

    /// Looks at a review in the background. A dry run leaves no trace, and upkeep rests on what was seen before.
    pub fn look_at(&self, review: Review, snapshot: &Arc<Snapshot>) {
        let is_upkeep = matches!(review.promotion.kind, ChangeKind::Upkeep { .. });
        let mut policies = snapshot.policies.iter();
        if review.promotion.change.dry_run || is_upkeep || !policies.any(Policy::requires_approvals)
        {
            return;
        }
        if self
            .waiting
            .try_send((review, Arc::clone(snapshot)))
            .is_err()
        {
            self.metrics.count_kept("no-room");
        }
    }
}

async fn keep_all(
    cluster: Cluster,
    mut reviews: mpsc::Receiver<(Review, Arc<Snapshot>)>,
    metrics: Arc<Metrics>,
) {
    let mut written: HashSet<String> = HashSet::new();
    while let Some((review, snapshot)) = reviews.recv().await {
        let governing = snapshot.governing(&review.promotion.change);
        let kept = evidence_to_keep(&review.promotion, &review.evidence, &governing);
        let rejections = kept.rejections.iter();
        let rejections = rejections.map(|(digest, it)| {
            let kind = ApiResource::erase::<RejectionResource>(&());
            (kind, api::rejection_resource(digest, it))
        });
        let authors = kept.authors.iter();
        let authors = authors.map(|(digest, it)| {
            let kind = ApiResource::erase::<AuthorRecordResource>(&());
            (kind, api::author_record_resource(digest, it))
        });
        for (kind, resource) in rejections.chain(authors).collect::<Vec<_>>() {
            let fingerprint = resource.to_string();
            if written.contains(&fingerprint) {
                continue;
            }
            if keep(&cluster, &kind, &resource, &metrics).await {
                if written.len() >= REMEMBERED {
                    written.clear();
                }
                written.insert(fingerprint);
            }
        }
    }
}

/// Writes a resource; again after a pause where that fails. Says whether it stands.
async fn keep(cluster: &Cluster, kind: &ApiResource, resource: &Value, metrics: &Metrics) -> bool {
    let pauses = PAUSES.iter().map(Some).chain([None]);
    for pause in pauses {
        let tried = timeout(PATIENCE, write(cluster, kind, resource)).await;
        let why = match tried {
            Ok(Ok(name)) => {
                let kind = &kind.kind;
                tracing::info!(kind, name, "evidence is kept in the cluster");
                metrics.count_kept("kept");
                return true;
            }
            Ok(Err(why)) => why,
            Err(_) => "no answer in time".to_owned(),
        };
        match pause {
            Some(pause) => sleep(*pause).await,
            None => {
                let kind = &kind.kind;
                let digest = resource.pointer("/spec/digest").and_then(Value::as_str);
                let digest = digest.unwrap_or_default();
                metrics.alarms.raise(
                    "evidence-not-kept",
                    &format!("the {kind} of `{digest}` that was seen could not be kept in the cluster, so that deleting it in the registry would lift it: {why}"),
                );
            }
        }
    }
    metrics.count_kept("failed");
    false
}

/// Writes a resource, and gives its name. A person can have made a resource of this name about something else, so that others are
/// tried.
async fn write(cluster: &Cluster, kind: &ApiResource, resource: &Value) -> Result<String, String> {
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), kind);
    let mut object: DynamicObject =
        serde_json::from_value(resource.clone()).map_err(|error| error.to_string())?;
    let base = object.metadata.name.clone().unwrap_or_default();
    let nothing = Value::Null;
    let spec = resource.get("spec").unwrap_or(&nothing);
    for attempt in 0..NAMES {
        let name = match attempt {
            0 => base.clone(),
            more => format!("{base}-{more}"),
        };
        object.metadata.name = Some(name.clone());
        let how = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.create(&how, &object).await {
            Ok(_) => return Ok(name),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.to_string()),
        }
        let existing = api.get(&name).await.map_err(|error| error.to_string())?;
        match compared(existing.data.get("spec").unwrap_or(&nothing), spec) {
            Known::Same => return Ok(name),
            Known::Older => {
                let how = PatchParams {
                    field_manager: Some(MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                let patch = Patch::Merge(json!({
                    "metadata": {"resourceVersion": existing.metadata.resource_version},
                    "spec": spec,
                }));
                let patched = api.patch(&name, &how, &patch).await;
                return patched.map(|_| name).map_err(|error| error.to_string());
            }
            Known::Other => {}
        }
    }
    Err(format!(
        "resources about something else have the name `{base}`"
    ))
}

/// What a resource of the same name says.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Same,
    /// The same rejection, given earlier.
    Older,
    Other,
}

fn compared(existing: &Value, new: &Value) -> Known {
    let about = [
        "digest",
        "environment",
        "namespace",
        "person",
        "identities",
        "statements",
    ];
    if about
        .iter()
        .any(|field| existing.get(field) != new.get(field))
    {
        return Known::Other;
    }
    let at = |spec: &Value| -> Option<jiff::Timestamp> { spec.get("at")?.as_str()?.parse().ok() };
    match (at(existing), at(new)) {
        (Some(existing), Some(new)) if existing < new => Known::Older,
        (None, Some(_)) => Known::Older,
        _ => Known::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_that_was_given_again_replaces_the_earlier_one_and_nothing_else() {
        let spec = |person: &str, at: &str| json!({"digest": "sha256:a", "environment": "production", "person": person, "at": at});
        let (early, late) = ("2026-06-01T00:00:00Z", "2026-06-02T00:00:00.5Z");
        let new = spec("ada", late);
        assert_eq!(compared(&spec("ada", early), &new), Known::Older);
        assert_eq!(compared(&new, &spec("ada", early)), Known::Same);
        assert_eq!(compared(&new, &new), Known::Same);
        // Somebody took the name for a rejection of their own.
        assert_eq!(compared(&spec("eve", late), &new), Known::Other);
        assert_eq!(compared(&Value::Null, &new), Known::Other);
    }

    #[test]
    fn authors_are_the_same_only_with_the_same_statements() {
        let spec = |statement: &str| json!({"digest": "sha256:a", "identities": [{"github": {"login": "ada"}}], "statements": [statement]});
        assert_eq!(compared(&spec("sha256:1"), &spec("sha256:1")), Known::Same);
        assert_eq!(compared(&spec("sha256:2"), &spec("sha256:1")), Known::Other);
    }
}
