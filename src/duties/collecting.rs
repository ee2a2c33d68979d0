//! Collecting AuthorRecords and VexRecords that nothing needs any more: they are written for digests that are reviewed, and nobody else
//! deletes them.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Preconditions};
use promotion_gate_core::gate::{Digest, Snapshot};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{BETWEEN_WRITES, PATIENCE};
use crate::cluster::{Cluster, cause};
use crate::record::ReleaseRecords;
use crate::snapshot::{Judged, Resource, Sources, api_resource};

/// How often it is looked for them.
const EVERY: Duration = Duration::from_secs(600);
/// How long they are kept at least, in seconds.
const KEPT: i64 = 30 * 24 * 3600;

/// Collects them for ever.
pub(super) async fn collect(
    cluster: &Cluster,
    sources: &Sources,
    records: &ReleaseRecords,
) -> Infallible {
    loop {
        sleep(EVERY).await;
        let Some(named) = records.named_digests() else {
            continue;
        };
        let judged = Arc::clone(&sources.judged().borrow());
        let kept = kept(&sources.snapshot());
        let now = Timestamp::now();
        for resource in unneeded(&judged, &named, now, kept) {
            let (kind, name) = (resource.name.kind.name(), &resource.name.name);
            match delete(cluster, resource).await {
                Ok(()) => tracing::info!(kind, name, "a record that no release needs is deleted"),
                Err(error) => {
                    tracing::warn!(kind, name, error, "a record cannot be deleted");
                    break;
                }
            }
            sleep(BETWEEN_WRITES).await;
        }
    }
}

/// How long they are kept, in seconds: as long as a release may be gone back to.
fn kept(snapshot: &Snapshot) -> i64 {
    let policies = snapshot.policies.iter();
    let windows = policies.map(|policy| policy.rollback_window.duration().as_secs());
    windows.max().unwrap_or(KEPT).max(KEPT)
}

/// The records that the gate wrote long ago about digests which no release record names.
fn unneeded<'a>(
    judged: &'a [Judged],
    named: &HashSet<Digest>,
    now: Timestamp,
    kept: i64,
) -> Vec<&'a Resource> {
    let resources = judged.iter().map(|judged| &*judged.resource);
    let unneeded = resources.filter(|resource| {
        let digest = resource.spec.get("digest").and_then(Value::as_str);
        let digest: Option<Digest> = digest.and_then(|digest| digest.parse().ok());
        let age = last_written(resource).map(|at| now.as_second() - at.as_second());
        let prefix = resource.name.kind.collected_prefix();
        prefix.is_some_and(|prefix| resource.name.name.starts_with(prefix))
            && digest.is_some_and(|digest| !named.contains(&digest))
            && age.is_some_and(|age| age > kept)
    });
    unneeded.collect()
}

/// When a record was written the last time, as far as that is known: something new is added to records that were created long ago.
fn last_written(resource: &Resource) -> Option<Timestamp> {
    let statements = resource.spec.get("statements").and_then(Value::as_array);
    let said = statements.into_iter().flatten();
    let said = said.filter_map(|it| it.get("at")?.as_str()?.parse().ok());
    said.chain(resource.created_at()).max()
}

/// Deletes a record, if it is still as it was seen.
async fn delete(cluster: &Cluster, resource: &Resource) -> Result<(), String> {
    let Some(definition) = api_resource(resource.name.kind) else {
        return Ok(());
    };
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &definition);
    let unchanged = DeleteParams::default().preconditions(Preconditions {
        uid: Some(resource.uid.clone()),
        resource_version: Some(resource.version.clone()),
    });
    let name = &resource.name.name;
    match timeout(PATIENCE, api.delete(name, &unchanged)).await {
        Ok(Ok(_)) => Ok(()),
        // Another request wrote it meanwhile, or it has new content.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
        Ok(Err(error)) => Err(cause(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Kind;
    use crate::snapshot::Version;

    fn record(kind: Kind, name: &str, of: &str, created: &str) -> Judged {
        let object = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind.name(),
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"digest": Digest::sha256(of.as_bytes()).to_string()},
        });
        let object = serde_json::from_value(object).unwrap();
        Judged {
            resource: Arc::new(Resource::of(kind, object)),
            version: Version::Current,
            why: Vec::new(),
            freeze: None,
            last_valid: None,
        }
    }

    #[test]
    fn what_is_kept_is_collected_once_it_is_old_and_no_release_record_names_its_digest() {
        let (old, young) = ("2026-01-01T00:00:00Z", "2026-05-20T00:00:00Z");
        let of_kind = |(kind, prefix): (Kind, &str)| {
            [
                record(kind, &format!("{prefix}-1"), "gone", old),
                record(kind, &format!("{prefix}-2"), "gone", young),
                record(kind, &format!("{prefix}-3"), "runs", old),
                record(kind, "by-a-governor", "gone", old),
            ]
        };
        let kinds = [
            (Kind::AuthorRecord, "authors"),
            (Kind::VexRecord, "vex"),
            (Kind::Rejection, "rejection"),
        ];
        // Something was added to it of late.
        let mut extended = record(Kind::VexRecord, "vex-extended", "gone", old);
        let of = Digest::sha256(b"gone").to_string();
        let spec = json!({"digest": of, "statements": [{"at": young}, {"at": old}, {}]});
        let object = json!({
            "apiVersion": "v1", "kind": "VexRecord", "spec": spec,
            "metadata": {"name": "vex-extended", "creationTimestamp": old},
        });
        let object = serde_json::from_value(object).unwrap();
        extended.resource = Arc::new(Resource::of(Kind::VexRecord, object));
        let judged = kinds.into_iter().flat_map(of_kind).chain([extended]);
        let judged: Vec<_> = judged.collect();
        let named = HashSet::from([Digest::sha256(b"runs")]);
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let names = |kept| -> Vec<_> {
            let unneeded = unneeded(&judged, &named, now, kept);
            unneeded.iter().map(|it| it.name.name.as_str()).collect()
        };
        assert_eq!(names(KEPT), ["authors-1", "vex-1"]);
        assert!(names(400 * 24 * 3600).is_empty());
        assert_eq!(kept(&Snapshot::default()), KEPT);
    }
}
