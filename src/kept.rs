//! Rejections and authors that reviews saw in registries, kept as resources of the cluster, so that deleting them in a registry
//! helps nobody. They are written in the background: no answer waits for it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use futures::{Stream, StreamExt as _, stream};
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
/// The most resources that are remembered as written or being written, until the watch shows them.
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
/// How many resources are written at the same time, so that one slow write does not hold the others.
const AT_ONCE: usize = 8;
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
        let kept = Arc::clone(&metrics);
        tokio::spawn(async move {
            let resources = resources(reviews);
            keep_all(&cluster, resources, &kept).await;
        });
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

/// What the reviews saw that is to be kept.
fn resources(
    reviews: mpsc::Receiver<(Review, Arc<Snapshot>)>,
) -> impl Stream<Item = (ApiResource, Value)> {
    let reviews = stream::unfold(reviews, |mut reviews| async move {
        Some((reviews.recv().await?, reviews))
    });
    reviews.flat_map(|(review, snapshot)| stream::iter(to_keep(&review, &snapshot)))
}

async fn keep_all(
    cluster: &Cluster,
    resources: impl Stream<Item = (ApiResource, Value)>,
    metrics: &Metrics,
) {
    let written: Mutex<HashSet<String>> = Mutex::default();
    let written = &written;
    let keep_one = |(kind, resource): (ApiResource, Value)| async move {
        let fingerprint = resource.to_string();
        if is_first(written, &fingerprint) && !keep(cluster, &kind, &resource, metrics).await {
            lock(written).remove(&fingerprint);
        }
    };
    resources.for_each_concurrent(AT_ONCE, keep_one).await;
}

/// What a review saw that the cluster does not keep yet.
fn to_keep(review: &Review, snapshot: &Snapshot) -> Vec<(ApiResource, Value)> {
    let governing = snapshot.governing(&review.promotion.change);
    let kept = evidence_to_keep(&review.promotion, &review.evidence, &governing);
    let rejections = kept.rejections.iter().map(|(digest, it)| {
        let kind = ApiResource::erase::<RejectionResource>(&());
        (kind, api::rejection_resource(digest, it))
    });
    let authors = kept.authors.iter().map(|(digest, it)| {
        let kind = ApiResource::erase::<AuthorRecordResource>(&());
        (kind, api::author_record_resource(digest, it))
    });
    rejections.chain(authors).collect()
}

/// Whether nobody here writes or wrote it before.
fn is_first(written: &Mutex<HashSet<String>>, fingerprint: &str) -> bool {
    let mut written = lock(written);
    if written.len() >= REMEMBERED {
        written.clear();
    }
    written.insert(fingerprint.to_owned())
}

fn lock(written: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a resource; again after a pause where that fails. Says whether it stands.
async fn keep(cluster: &Cluster, kind: &ApiResource, resource: &Value, metrics: &Metrics) -> bool {
    let unforeseen = random();
    let pauses = PAUSES.iter().map(Some).chain([None]);
    for pause in pauses {
        let write = async {
            let unforeseen = unforeseen.clone()?;
            write(cluster, kind, resource, &unforeseen).await
        };
        let why = match timeout(PATIENCE, write).await {
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

/// Writes a resource, and gives its name. A person can have made a resource of this name about something else: then it gets a name
/// that nobody foresees.
async fn write(
    cluster: &Cluster,
    kind: &ApiResource,
    resource: &Value,
    unforeseen: &str,
) -> Result<String, String> {
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), kind);
    let mut object: DynamicObject =
        serde_json::from_value(resource.clone()).map_err(|error| error.to_string())?;
    let base = object.metadata.name.clone().unwrap_or_default();
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    for name in [base.clone(), format!("{base}-{unforeseen}")] {
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
        if let Some(name) = renew(&api, &existing, &spec).await? {
            return Ok(name);
        }
        // Another replica, or this one before it was started again, may keep it by another name.
        for existing in cluster.list(kind).await.unwrap_or_default() {
            if let Some(name) = renew(&api, &existing, &spec).await? {
                return Ok(name);
            }
        }
    }
    Err(format!(
        "resources about something else have the names `{base}` and `{base}-{unforeseen}`"
    ))
}

/// Lets a resource that keeps the same say the latest time. `None` for one that is about something else.
async fn renew(
    api: &Api<DynamicObject>,
    existing: &DynamicObject,
    spec: &Value,
) -> Result<Option<String>, String> {
    let name = existing.metadata.name.clone().unwrap_or_default();
    let nothing = Value::Null;
    match compared(existing.data.get("spec").unwrap_or(&nothing), spec) {
        Known::Other => Ok(None),
        Known::Same => Ok(Some(name)),
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
            patched
                .map(|_| Some(name))
                .map_err(|error| error.to_string())
        }
    }
}

/// A text that nobody can foresee.
fn random() -> Result<String, String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| "the machine has no randomness".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use futures::future::BoxFuture;
    use http::{Method, Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Bytes;
    use kube::Client;
    use kube::client::Body;
    use tokio::sync::Notify;

    use super::*;

    /// The rejections of an API server, by name. A request about one that is called `stuck` is never answered.
    #[derive(Clone, Default)]
    struct ApiServer {
        stored: Arc<Mutex<BTreeMap<String, Value>>>,
        written: Arc<Notify>,
    }

    impl ApiServer {
        fn cluster(&self) -> Cluster {
            Cluster::of(Client::new(self.clone(), "promotion-gate"))
        }

        fn store(&self, resource: &Value) {
            let name = resource["metadata"]["name"].as_str().unwrap().to_owned();
            self.stored.lock().unwrap().insert(name, resource.clone());
        }

        fn answer(&self, method: &Method, path: &str, resource: Value) -> (u16, Value) {
            let (_, last) = path.rsplit_once('/').unwrap();
            let stored = self.stored.lock().unwrap();
            match (method, stored.get(last)) {
                (&Method::GET, Some(found)) => (200, found.clone()),
                (&Method::GET, None) => {
                    let items: Vec<_> = stored.values().collect();
                    let kind = "RejectionList";
                    (
                        200,
                        json!({"apiVersion": API, "kind": kind, "metadata": {}, "items": items}),
                    )
                }
                _ if stored.contains_key(resource["metadata"]["name"].as_str().unwrap()) => {
                    let status = json!({"status": "Failure", "reason": "AlreadyExists", "code": 409, "message": ""});
                    (409, status)
                }
                _ => {
                    drop(stored);
                    self.store(&resource);
                    self.written.notify_one();
                    (201, resource)
                }
            }
        }
    }

    impl tower::Service<Request<Body>> for ApiServer {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let server = self.clone();
            Box::pin(async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let resource: Value = serde_json::from_slice(&body).unwrap_or_default();
                if resource["metadata"]["name"] == "stuck" {
                    std::future::pending::<()>().await;
                }
                let (code, answer) = server.answer(&parts.method, parts.uri.path(), resource);
                let answer = Full::new(Bytes::from(answer.to_string()));
                Ok(Response::builder().status(code).body(answer).unwrap())
            })
        }
    }

    const API: &str = "promotion-gate.dev/v1alpha1";

    fn rejection(name: &str, person: &str) -> Value {
        json!({
            "apiVersion": API, "kind": "Rejection", "metadata": {"name": name},
            "spec": {"digest": "sha256:a", "environment": "production", "person": person, "at": "2026-06-01T00:00:00Z"},
        })
    }

    fn kind() -> ApiResource {
        ApiResource::erase::<RejectionResource>(&())
    }

    #[tokio::test]
    async fn attack_a9_whoever_takes_the_names_that_can_be_foreseen_keeps_no_rejection_out() {
        let server = ApiServer::default();
        for name in ["mine", "mine-1", "mine-2", "mine-3"] {
            server.store(&rejection(name, "eve"));
        }
        let cluster = server.cluster();
        let ada = rejection("mine", "ada");
        let written = write(&cluster, &kind(), &ada, "0a1b").await;
        assert_eq!(written.as_deref(), Ok("mine-0a1b"));
        // Another replica finds what is kept by a name that it cannot foresee either.
        let again = write(&cluster, &kind(), &ada, "2c3d").await;
        assert_eq!(again.as_deref(), Ok("mine-0a1b"));
        assert_eq!(server.stored.lock().unwrap().len(), 5);
        let (one, other) = (random().unwrap(), random().unwrap());
        assert!(one.len() == 32 && one != other);
    }

    #[tokio::test]
    async fn attack_a9_a_rejection_that_cannot_be_written_does_not_hold_the_others() {
        let server = ApiServer::default();
        let (cluster, metrics) = (server.cluster(), Metrics::default());
        let all = ["stuck", "next"].map(|name| (kind(), rejection(name, name)));
        tokio::select! {
            () = keep_all(&cluster, stream::iter(all), &metrics) => panic!("the first one was answered"),
            () = server.written.notified() => {}
        }
        assert!(server.stored.lock().unwrap().contains_key("next"));
    }

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
