//! Rejections, authors and what OpenVEX documents take back that reviews saw in registries, kept as resources of the cluster, so that
//! deleting them in a registry helps nobody. They are written in the background: no answer waits for it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use futures::{Stream, StreamExt as _, future, stream};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use promotion_gate_core::gate::{
    ChangeKind, Digest, Policy, Snapshot, TakenBack, evidence_to_keep,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::api::{
    self, AuthorRecordResource, MAXIMUM_IDENTITIES, MAXIMUM_STATEMENTS, RejectionResource,
    VexRecordResource, VexRecordSpec,
};
use crate::cluster::Cluster;
use crate::metrics::Metrics;
use crate::review::Review;

/// The most resources that wait to be written, and that wait to be tried again. One that finds no room is given up; the next review of
/// its image sees the same.
const WAITING: usize = 1000;
/// The most resources that are remembered as written or being written.
const REMEMBERED: usize = 10_000;
/// How long. The watch shows a resource soon after it was written; one that was deleted again is written again.
const AFRESH: Duration = Duration::from_secs(300);
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

/// Where evidence goes that has to be kept.
pub struct Keeper {
    waiting: mpsc::Sender<ToKeep>,
    metrics: Arc<Metrics>,
}

/// A resource to write.
struct ToKeep {
    kind: ApiResource,
    resource: Value,
    /// How often that failed.
    failed: usize,
    /// The end of its name where its own is taken.
    unforeseen: Result<String, String>,
}

impl Keeper {
    /// Starts to keep evidence, for as long as the keeper is there.
    pub fn start(cluster: Cluster, metrics: Arc<Metrics>) -> Keeper {
        let (waiting, resources) = mpsc::channel(WAITING);
        let kept = Arc::clone(&metrics);
        tokio::spawn(async move { keep_all(&cluster, resources, &kept).await });
        Keeper { waiting, metrics }
    }

    /// Keeps in the background what a review saw. A dry run leaves no trace, and upkeep rests on what was seen before.
    pub fn look_at(&self, review: &Review, snapshot: &Snapshot) {
        let is_upkeep = matches!(review.promotion.kind, ChangeKind::Upkeep { .. });
        let mut policies = snapshot.policies.iter();
        let may_keep = |policy: &Policy| {
            policy.requires_approvals() || policy.emergency.is_some() || policy.reads_vex()
        };
        if review.promotion.change.dry_run || is_upkeep || !policies.any(may_keep) {
            return;
        }
        for (kind, resource) in to_keep(review, snapshot) {
            if self.waiting.try_send(ToKeep::new(kind, resource)).is_err() {
                self.metrics.count_kept("no-room");
            }
        }
    }
}

impl ToKeep {
    fn new(kind: ApiResource, resource: Value) -> ToKeep {
        ToKeep {
            kind,
            resource,
            failed: 0,
            unforeseen: random(),
        }
    }
}

/// Writes what comes. What fails waits in a list of its own, where it holds no place.
async fn keep_all(cluster: &Cluster, coming: mpsc::Receiver<ToKeep>, metrics: &Metrics) {
    let written = &Written::default();
    let (again, failed) = mpsc::channel(WAITING);
    let again = &again;
    let is_new = |it: &ToKeep| future::ready(written.is_first(&it.resource));
    let coming = arriving(coming).filter(is_new);
    let failed = arriving(failed).map(|it: ToKeep| async move {
        let pause = PAUSES.get(it.failed.saturating_sub(1));
        sleep(pause.copied().unwrap_or_default()).await;
        it
    });
    let failed = failed.buffer_unordered(WAITING);
    // It ends with the keeper, whatever is still to be tried again.
    let coming = coming.map(Some).chain(stream::iter([None]));
    let all = stream::select(coming, failed.map(Some));
    let all = all
        .take_while(|it| future::ready(it.is_some()))
        .filter_map(future::ready);
    let keep_one = |it: ToKeep| async move {
        let Some(left) = keep(cluster, it, metrics).await else {
            return;
        };
        let fingerprint = Written::fingerprint(&left.resource);
        let is_last = left.failed > PAUSES.len();
        let has_no_room = !is_last && again.try_send(left).is_err();
        if has_no_room {
            let why = "too much evidence waits to be kept in the cluster; some is given up, so that deleting it in the registry would lift it";
            metrics.alarms.raise("evidence-not-kept", why);
        }
        if is_last || has_no_room {
            written.forget(&fingerprint);
            metrics.count_kept("failed");
        }
    };
    all.for_each_concurrent(AT_ONCE, keep_one).await;
}

fn arriving<T>(from: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    stream::unfold(
        from,
        |mut from| async move { Some((from.recv().await?, from)) },
    )
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
    let vex = kept.vex.iter().flat_map(|((digest, signer), taken_back)| {
        let resources = api::vex_record_resources(digest, signer, taken_back);
        let kind = ApiResource::erase::<VexRecordResource>(&());
        resources.into_iter().map(move |it| (kind.clone(), it))
    });
    rejections.chain(authors).chain(vex).collect()
}

/// The digests of the resources that this process writes or has just written, with the time.
#[derive(Default)]
struct Written(Mutex<HashMap<Digest, Instant>>);

impl Written {
    fn fingerprint(resource: &Value) -> Digest {
        Digest::sha256(resource.to_string().as_bytes())
    }

    /// Whether this process neither writes it now nor has just written it.
    fn is_first(&self, resource: &Value) -> bool {
        let mut written = self.lock();
        if written.len() >= REMEMBERED {
            written.clear();
        }
        let now = Instant::now();
        let at = written.entry(Written::fingerprint(resource));
        match at {
            Entry::Occupied(known) if now.duration_since(*known.get()) <= AFRESH => false,
            at => {
                at.insert_entry(now);
                true
            }
        }
    }

    fn forget(&self, fingerprint: &Digest) {
        self.lock().remove(fingerprint);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries once to write a resource. `None` where it stands.
async fn keep(cluster: &Cluster, it: ToKeep, metrics: &Metrics) -> Option<ToKeep> {
    let write = async {
        let unforeseen = it.unforeseen.clone()?;
        write(cluster, &it.kind, &it.resource, &unforeseen).await
    };
    let kind = &it.kind.kind;
    let why = match timeout(PATIENCE, write).await {
        Ok(Ok(name)) => {
            tracing::info!(kind, name, "evidence is kept in the cluster");
            metrics.count_kept("kept");
            return None;
        }
        Ok(Err(why)) => why,
        Err(_) => "no answer in time".to_owned(),
    };
    if it.failed == PAUSES.len() {
        let digest = it.resource.pointer("/spec/digest").and_then(Value::as_str);
        let digest = digest.unwrap_or_default();
        metrics.alarms.raise(
            "evidence-not-kept",
            &format!("the {kind} of `{digest}` that was seen could not be kept in the cluster, so that deleting it in the registry would lift it: {why}"),
        );
    }
    Some(ToKeep {
        failed: it.failed + 1,
        ..it
    })
}

/// Writes a resource, and gives its name. Where a resource of this name is about something else, because a person made it, the name
/// is random.
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
        if create(&api, kind, &object, &spec).await? {
            return Ok(name);
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

/// Creates a resource, unless its name is taken. An API server with an older definition of the resource drops the fields that it does
/// not know: a closure would become a rejection, and a rejection of one emergency change one of the digest. So these are tried in a dry
/// run before.
async fn create(
    api: &Api<DynamicObject>,
    kind: &ApiResource,
    object: &DynamicObject,
    spec: &Value,
) -> Result<bool, String> {
    let is_tried = spec.get("emergency").is_some();
    let nothing = Value::Null;
    for dry_run in is_tried.then_some(true).into_iter().chain([false]) {
        let how = PostParams {
            dry_run,
            field_manager: Some(MANAGER.to_owned()),
        };
        let stored = match api.create(&how, object).await {
            Ok(stored) => stored,
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        if compared(stored.data.get("spec").unwrap_or(&nothing), spec) != Known::Same {
            let plural = &kind.plural;
            return Err(format!(
                "the resource definition `{plural}.{}` in the cluster drops fields of it: apply `deploy/crds/{plural}.yaml` of this version",
                kind.group
            ));
        }
    }
    Ok(true)
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
        Known::Full => Err(format!(
            "`{name}` keeps as much as fits, and something is added"
        )),
        Known::Same => Ok(Some(name)),
        Known::Older(spec) => {
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

/// A random text.
fn random() -> Result<String, String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| "the machine has no randomness".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a resource of the same name says.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Same,
    /// The same rejection, given earlier, or fewer authors of the same digest, or less that documents take back; and what it should say.
    Older(Value),
    /// The same digest and signer, without room for what is added.
    Full,
    Other,
}

fn compared(existing: &Value, new: &Value) -> Known {
    if new.get("identities").is_some() {
        return authors_compared(existing, new);
    }
    if new.get("signer").is_some() {
        return vex_compared(existing, new);
    }
    let about = [
        "digest",
        "environment",
        "namespace",
        "emergency",
        "closure",
        "person",
        "identities",
    ];
    if about
        .iter()
        .any(|field| existing.get(field) != new.get(field))
    {
        return Known::Other;
    }
    let at = |spec: &Value| -> Option<jiff::Timestamp> { spec.get("at")?.as_str()?.parse().ok() };
    match (at(existing), at(new)) {
        (Some(existing), Some(at)) if existing < at => Known::Older(new.clone()),
        (None, Some(_)) => Known::Older(new.clone()),
        _ => Known::Same,
    }
}

/// Authors are only ever added.
fn authors_compared(existing: &Value, new: &Value) -> Known {
    if existing.get("digest") != new.get("digest") {
        return Known::Other;
    }
    let list = |spec: &Value, field: &str| {
        let list = spec.get(field).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let (mut joined, mut adds) = (new.clone(), false);
    for (field, most) in [
        ("identities", MAXIMUM_IDENTITIES),
        ("statements", MAXIMUM_STATEMENTS),
    ] {
        let mut all = list(existing, field);
        let known: HashSet<_> = all.iter().map(Value::to_string).collect();
        let added = list(new, field).into_iter();
        let added: Vec<_> = added
            .filter(|it| !known.contains(&it.to_string()))
            .collect();
        adds |= !added.is_empty();
        all.extend(added);
        if all.len() > most {
            return Known::Other;
        }
        if let Some(fields) = joined.as_object_mut() {
            fields.insert(field.to_owned(), Value::Array(all));
        }
    }
    match adds {
        true => Known::Older(joined),
        false => Known::Same,
    }
}

/// What documents take back is only ever added, or said by a newer one.
fn vex_compared(existing: &Value, new: &Value) -> Known {
    let read = |spec: &Value| {
        let spec: VexRecordSpec = serde_json::from_value(spec.clone()).ok()?;
        api::vex_record("", &spec).ok()
    };
    let (Some((of, known)), Some((digest, new))) = (read(existing), read(new)) else {
        return Known::Other;
    };
    if (of, &known.signer) != (digest.clone(), &new.signer) {
        return Known::Other;
    }
    let mut all: TakenBack = known.statements.iter().collect();
    let new: TakenBack = new.statements.iter().collect();
    let added = new.without(&all);
    if added.is_empty() {
        return Known::Same;
    }
    for statement in &added.statements() {
        all.add(statement);
    }
    match api::vex_record_resources(&digest, &known.signer, &all).as_mut_slice() {
        [joined] => Known::Older(joined["spec"].take()),
        _ => Known::Full,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll};

    use futures::future::BoxFuture;
    use http::{Method, Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Bytes;
    use kube::Client;
    use kube::client::Body;
    use promotion_gate_core::gate::{KeptSigner, KeptVexStatement};
    use tokio::sync::Notify;

    use super::*;

    /// The rejections of an API server, by name. A request about one that is called `stuck` is never answered, and it can refuse those
    /// that are called so. It does not know one of the fields.
    #[derive(Clone, Default)]
    struct ApiServer {
        stored: Arc<Mutex<BTreeMap<String, Value>>>,
        written: Arc<Notify>,
        refuses: Arc<AtomicBool>,
        unknown_field: Arc<Mutex<&'static str>>,
    }

    impl ApiServer {
        fn cluster(&self) -> Cluster {
            Cluster::of(Client::new(self.clone(), "promotion-gate"))
        }

        fn store(&self, resource: &Value) {
            let name = resource["metadata"]["name"].as_str().unwrap().to_owned();
            self.stored.lock().unwrap().insert(name, resource.clone());
        }

        fn answer(
            &self,
            method: &Method,
            path: &str,
            is_dry_run: bool,
            resource: Value,
        ) -> (u16, Value) {
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
                _ if is_dry_run => (201, resource),
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
                let mut resource: Value = serde_json::from_slice(&body).unwrap_or_default();
                let unknown_field = *server.unknown_field.lock().unwrap();
                let spec = resource.pointer_mut("/spec");
                if let Some(fields) = spec.and_then(Value::as_object_mut) {
                    fields.remove(unknown_field);
                }
                let query = parts.uri.query().unwrap_or_default();
                let is_dry_run = query.contains("dryRun=All");
                if resource["metadata"]["name"] == "stuck" {
                    std::future::pending::<()>().await;
                }
                let name = resource["metadata"]["name"].as_str().unwrap_or_default();
                let path = parts.uri.path();
                let refuses = server.refuses.load(Ordering::Relaxed) && name.starts_with("refused");
                let (code, answer) = match refuses {
                    true => (
                        500,
                        json!({"status": "Failure", "reason": "InternalError", "code": 500, "message": ""}),
                    ),
                    false => server.answer(&parts.method, path, is_dry_run, resource),
                };
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
    async fn a_closure_of_which_an_older_definition_drops_a_field_is_not_stored_as_something_else()
    {
        let server = ApiServer::default();
        let cluster = server.cluster();
        let mut closure = rejection("closed", "ada");
        closure["spec"]["emergency"] = json!("sha256:e");
        closure["spec"]["closure"] = json!(true);
        for field in ["closure", "emergency"] {
            *server.unknown_field.lock().unwrap() = field;
            let why = write(&cluster, &kind(), &closure, "0a1b")
                .await
                .unwrap_err();
            assert!(why.contains("`deploy/crds/rejections.yaml`"), "{why}");
            assert!(server.stored.lock().unwrap().is_empty());
        }
        // Where no dry run comes before, what was stored is compared all the same.
        *server.unknown_field.lock().unwrap() = "environment";
        let ordinary = rejection("rejected", "ada");
        let why = write(&cluster, &kind(), &ordinary, "0a1b")
            .await
            .unwrap_err();
        assert!(why.contains("`rejections.promotion-gate.dev`"), "{why}");
        *server.unknown_field.lock().unwrap() = "";
        let written = write(&cluster, &kind(), &closure, "0a1b").await;
        assert_eq!(written.as_deref(), Ok("closed"));
        let stored = server.stored.lock().unwrap();
        assert_eq!(stored["closed"]["spec"], closure["spec"]);
    }

    #[tokio::test]
    async fn attack_a9_a_rejection_that_cannot_be_written_does_not_hold_the_others() {
        let server = ApiServer::default();
        let (cluster, metrics) = (server.cluster(), Metrics::default());
        let (keeper, coming) = to_write(["stuck", "next"].map(str::to_owned));
        tokio::select! {
            () = keep_all(&cluster, coming, &metrics) => panic!("the first one was answered"),
            () = server.written.notified() => {}
        }
        assert!(server.stored.lock().unwrap().contains_key("next"));
        drop(keeper);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_is_written_again_later_in_case_it_was_deleted() {
        let written = Written::default();
        let [one, other] = ["one", "other"].map(|name| rejection(name, "ada"));
        assert!(written.is_first(&one) && written.is_first(&other));
        assert!(!written.is_first(&one));
        written.forget(&Written::fingerprint(&one));
        assert!(written.is_first(&one) && !written.is_first(&other));
        tokio::time::advance(2 * AFRESH).await;
        assert!(written.is_first(&one) && !written.is_first(&one));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_waits_where_it_holds_no_place_and_is_written_later() {
        let server = ApiServer::default();
        server.refuses.store(true, Ordering::Relaxed);
        let (cluster, metrics) = (server.cluster(), Metrics::default());
        let refused = (0..3 * AT_ONCE).map(|index| format!("refused-{index}"));
        let (keeper, coming) = to_write(refused.chain(["next".to_owned()]));
        let began = Instant::now();
        tokio::select! {
            () = keep_all(&cluster, coming, &metrics) => panic!("the keeper is still there"),
            () = async {
                server.written.notified().await;
                assert!(server.stored.lock().unwrap().contains_key("next"));
                assert!(began.elapsed() < PAUSES[0]);
                server.refuses.store(false, Ordering::Relaxed);
                while server.stored.lock().unwrap().len() <= 3 * AT_ONCE {
                    server.written.notified().await;
                }
                assert!(began.elapsed() < PAUSES[1]);
            } => {}
        }
        drop(keeper);
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_never_be_written_is_given_up_with_an_alarm() {
        let server = ApiServer::default();
        server.refuses.store(true, Ordering::Relaxed);
        let (cluster, metrics) = (server.cluster(), Metrics::default());
        let (keeper, coming) = to_write(["refused".to_owned()]);
        let told = async {
            while !metrics
                .text()
                .contains(r#"alarms_total{reason="evidence-not-kept"} 1"#)
            {
                sleep(PAUSES[0]).await;
            }
        };
        tokio::select! {
            () = keep_all(&cluster, coming, &metrics) => panic!("the keeper is still there"),
            () = told => drop(keeper),
        }
        assert!(
            metrics
                .text()
                .contains(r#"kept_evidence_total{outcome="failed"} 1"#)
        );
    }

    /// Resources that are to be written, and what keeps more of them coming.
    fn to_write(
        names: impl IntoIterator<Item = String>,
    ) -> (mpsc::Sender<ToKeep>, mpsc::Receiver<ToKeep>) {
        let (keeper, coming) = mpsc::channel(WAITING);
        for name in names {
            let resource = rejection(&name, &name);
            assert!(keeper.try_send(ToKeep::new(kind(), resource)).is_ok());
        }
        (keeper, coming)
    }

    #[test]
    fn a_rejection_that_was_given_again_replaces_the_earlier_one_and_nothing_else() {
        let spec = |person: &str, at: &str| json!({"digest": "sha256:a", "environment": "production", "person": person, "at": at});
        let (early, late) = ("2026-06-01T00:00:00Z", "2026-06-02T00:00:00.5Z");
        let new = spec("ada", late);
        assert_eq!(
            compared(&spec("ada", early), &new),
            Known::Older(new.clone())
        );
        assert_eq!(compared(&new, &spec("ada", early)), Known::Same);
        assert_eq!(compared(&new, &new), Known::Same);
        let mut of_emergency = new.clone();
        of_emergency["emergency"] = json!("sha256:e");
        assert_eq!(compared(&of_emergency, &new), Known::Other);
        assert_eq!(compared(&new, &of_emergency), Known::Other);
        let mut closure = of_emergency.clone();
        closure["closure"] = json!(true);
        assert_eq!(compared(&of_emergency, &closure), Known::Other);
        assert_eq!(compared(&closure, &closure), Known::Same);
        // Somebody took the name for a rejection of their own.
        assert_eq!(compared(&spec("eve", late), &new), Known::Other);
        assert_eq!(compared(&Value::Null, &new), Known::Other);
    }

    #[test]
    fn authors_of_a_digest_are_added_to_the_one_record_that_it_has() {
        let spec = |logins: &[&str], statements: &[&str]| {
            let logins = logins
                .iter()
                .map(|login| json!({"github": {"login": login}}));
            let identities: Vec<_> = logins.collect();
            json!({"digest": "sha256:a", "identities": identities, "statements": statements})
        };
        let known = spec(&["ada", "bob"], &["sha256:1", "sha256:2"]);
        assert_eq!(
            compared(&known, &spec(&["bob"], &["sha256:2"])),
            Known::Same
        );
        assert_eq!(
            compared(&known, &spec(&["eve"], &["sha256:2", "sha256:3"])),
            Known::Older(spec(
                &["ada", "bob", "eve"],
                &["sha256:1", "sha256:2", "sha256:3"]
            ))
        );
        let mut other = known.clone();
        other["digest"] = json!("sha256:b");
        assert_eq!(compared(&other, &known), Known::Other);
        let many: Vec<_> = (0..MAXIMUM_STATEMENTS).map(|it| it.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let full = spec(&["ada"], &many);
        assert_eq!(compared(&full, &known), Known::Other);
    }

    #[test]
    fn what_documents_take_back_is_added_to_the_one_record_that_its_signer_has() {
        let spec = |digit: char, statements: Value| {
            let digest = format!("sha256:{}", digit.to_string().repeat(64));
            let signer = json!({"keyless": {"issuer": "https://issuer.example", "identity": "vex@example.com"}});
            json!({"digest": digest, "signer": signer, "statements": statements})
        };
        let said = |id: &str, day: u8| json!({"vulnerabilities": [id], "at": format!("2026-06-0{day}T00:00:00Z")});
        let known = spec('a', json!([said("CVE-1", 1), said("CVE-2", 2)]));
        for same in [said("CVE-1", 1), said("cve-2", 1)] {
            assert_eq!(compared(&known, &spec('a', json!([same]))), Known::Same);
        }
        let newer = spec('a', json!([said("CVE-1", 3), said("CVE-3", 1)]));
        let joined = json!([said("CVE-3", 1), said("CVE-2", 2), said("CVE-1", 3)]);
        assert_eq!(compared(&known, &newer), Known::Older(spec('a', joined)));
        assert_eq!(
            compared(&spec('b', json!([said("CVE-1", 1)])), &known),
            Known::Other
        );
        let mut by_another = known.clone();
        by_another["signer"]["keyless"]["identity"] = json!("eve@example.com");
        assert_eq!(compared(&by_another, &known), Known::Other);
        let mut broken = known.clone();
        broken["statements"][0]["at"] = json!("yesterday");
        assert_eq!(compared(&broken, &known), Known::Other);
        assert_eq!(compared(&Value::Null, &known), Known::Other);
    }

    #[tokio::test]
    async fn what_has_no_room_in_the_record_of_its_signer_is_an_error_and_changes_nothing() {
        let server = ApiServer::default();
        let digest = Digest::sha256(b"image");
        let signer = KeptSigner::Key(digest.to_string().parse().unwrap());
        let all = |count: i64| -> TakenBack {
            let at = |second| jiff::Timestamp::from_second(second).ok();
            let said =
                |second| KeptVexStatement::new([format!("CVE-{second}")], [], at(second), None);
            (0..count).map(said).collect::<Vec<_>>().iter().collect()
        };
        let write_all = async |count| {
            let mut written = Vec::new();
            for resource in api::vex_record_resources(&digest, &signer, &all(count)) {
                let kind = ApiResource::erase::<VexRecordResource>(&());
                written.push(write(&server.cluster(), &kind, &resource, "0a1b").await);
            }
            written
        };
        let written = write_all(1001).await;
        assert!(written[0].is_ok(), "{written:?}");
        let why = written[1].as_ref().unwrap_err();
        assert!(why.contains("as much as fits"), "{why}");
        let stored = server.stored.lock().unwrap();
        assert_eq!(stored.len(), 1);
        let (_, record) = stored.iter().next().unwrap();
        assert_eq!(record["spec"]["statements"].as_array().unwrap().len(), 1000);
    }

    #[test]
    fn a_record_is_never_larger_than_an_api_server_stores() {
        let digest = Digest::sha256(b"image");
        let signer = KeptSigner::Key(digest.to_string().parse().unwrap());
        let ids = (0..999).map(|number| format!("CVE-{number}-{}", "x".repeat(2000)));
        let statement = |second| {
            let at = jiff::Timestamp::from_second(second).ok();
            KeptVexStatement::new(ids.clone().skip(second as usize).step_by(9), [], at, None)
        };
        let statements: Vec<_> = (0..9).map(statement).collect();
        let taken_back = statements.iter().collect();
        let resources = api::vex_record_resources(&digest, &signer, &taken_back);
        assert!(resources.len() > 3);
        let longest = resources.iter().map(|it| it.to_string().len()).max();
        assert!(longest.is_some_and(|longest| longest < 1 << 20));
    }
}
