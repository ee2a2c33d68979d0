//! An OCI registry on loopback, in memory (distribution-spec 1.1).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use super::loopback::LoopbackServer;

/// The most bytes that clients push.
const MAXIMUM_PUSHED: usize = 256 << 20;
/// What an upload that holds nothing counts as, in bytes.
const UPLOAD: usize = 1 << 10;

/// How the registry behaves.
#[derive(Clone, Debug)]
pub struct SandboxRegistryOptions {
    /// Whether it serves the referrers API; otherwise, clients use the fallback tag.
    pub referrers_api: bool,
}

impl Default for SandboxRegistryOptions {
    fn default() -> SandboxRegistryOptions {
        SandboxRegistryOptions {
            referrers_api: true,
        }
    }
}

/// A registry that stops when it is dropped.
pub struct SandboxRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Mutex<Option<LoopbackServer>>,
}

struct Shared {
    options: SandboxRegistryOptions,
    content: Mutex<Content>,
    requests: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Content {
    /// By repository and digest.
    blobs: BTreeMap<(String, String), Bytes>,
    /// By repository and digest: media type and bytes.
    manifests: BTreeMap<(String, String), (String, Bytes)>,
    /// By repository and tag.
    tags: BTreeMap<(String, String), String>,
    /// By repository and the digest of the subject.
    referrers: BTreeMap<(String, String), Vec<Value>>,
    /// Blobs that clients have begun to push, by number.
    uploads: BTreeMap<String, Vec<u8>>,
    /// Bytes that clients have pushed.
    pushed: usize,
}

impl SandboxRegistry {
    /// Starts on a free port of loopback.
    ///
    /// # Errors
    /// If nothing can listen there.
    pub async fn start(options: SandboxRegistryOptions) -> io::Result<SandboxRegistry> {
        let shared = Arc::new(Shared {
            options,
            content: Mutex::default(),
            requests: Mutex::default(),
        });
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = serve(anywhere, &shared).await?;
        Ok(SandboxRegistry {
            address: server.address(),
            server: Mutex::new(Some(server)),
            shared,
        })
    }

    /// Host and port, as images name them.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `METHOD path` of every request since the last call, in order.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut locked(&self.shared.requests))
    }

    /// Stops answering; connections are refused.
    pub fn stop(&self) {
        if let Some(server) = &*locked(&self.server) {
            server.stop();
        }
    }

    /// Answers again, on the same port.
    ///
    /// # Errors
    /// Another process took the port.
    pub async fn resume(&self) -> io::Result<()> {
        let before = locked(&self.server).take();
        if let Some(server) = before {
            server.end().await;
        }
        let server = serve(self.address, &self.shared).await?;
        *locked(&self.server) = Some(server);
        Ok(())
    }

    /// Adds a blob. Returns its digest.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> String {
        locked(&self.shared.content).put_blob(repository, bytes.into())
    }

    /// Adds a manifest, with a tag if one is given. Returns its digest. A manifest with a `subject` is listed as its referrer.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> String {
        locked(&self.shared.content).put_manifest(repository, tag, media_type, bytes.into())
    }

    /// Adds a tag that names a manifest.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) {
        let key = (repository.to_owned(), tag.to_owned());
        locked(&self.shared.content)
            .tags
            .insert(key, digest.to_owned());
    }
}

impl Content {
    fn put_blob(&mut self, repository: &str, bytes: Bytes) -> String {
        let digest = Digest::sha256(&bytes).to_string();
        let key = (repository.to_owned(), digest.clone());
        self.blobs.insert(key, bytes);
        digest
    }

    fn put_manifest(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> String {
        let digest = Digest::sha256(&bytes).to_string();
        if let Some(subject) = subject(&bytes) {
            let parsed: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let listed = self
                .referrers
                .entry((repository.to_owned(), subject))
                .or_default();
            // A manifest that is pushed again is listed once.
            listed.retain(|entry| entry.get("digest") != Some(&json!(digest)));
            listed.push(json!({
                "mediaType": media_type,
                "digest": digest,
                "size": bytes.len(),
                "artifactType": parsed.get("artifactType"),
            }));
        }
        if let Some(tag) = tag {
            let key = (repository.to_owned(), tag.to_owned());
            self.tags.insert(key, digest.clone());
        }
        let key = (repository.to_owned(), digest.clone());
        self.manifests.insert(key, (media_type.to_owned(), bytes));
        digest
    }
}

/// The digest that a manifest names as its subject.
fn subject(manifest: &[u8]) -> Option<String> {
    let parsed: Value = serde_json::from_slice(manifest).ok()?;
    let subject = parsed.pointer("/subject/digest")?;
    Some(subject.as_str()?.to_owned())
}

async fn serve(address: SocketAddr, shared: &Arc<Shared>) -> io::Result<LoopbackServer> {
    let shared = Arc::clone(shared);
    LoopbackServer::start(address, move |request| answer(&shared, request)).await
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(shared: &Shared, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    locked(&shared.requests).push(format!("{} {path}", request.method()));
    match *request.method() {
        Method::GET | Method::HEAD => read(shared, path),
        Method::POST | Method::PATCH | Method::PUT => push(shared, request),
        _ => failure(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
    }
}

fn read(shared: &Shared, path: &str) -> Response<Full<Bytes>> {
    if path == "/v2/" {
        return found("application/json", None, Bytes::from_static(b"{}"));
    }
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    let content = locked(&shared.content);
    let split = |kind: &str| {
        let (repository, reference) = rest.rsplit_once(kind)?;
        Some((repository.to_owned(), reference.to_owned()))
    };
    if let Some((repository, reference)) = split("/manifests/") {
        let tagged = content.tags.get(&(repository.clone(), reference.clone()));
        let digest = tagged.cloned().unwrap_or(reference);
        return match content.manifests.get(&(repository, digest.clone())) {
            Some((media_type, bytes)) => found(media_type, Some(&digest), bytes.clone()),
            None => failure(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        };
    }
    if let Some(key) = split("/blobs/") {
        return match content.blobs.get(&key) {
            Some(bytes) => found("application/octet-stream", Some(&key.1), bytes.clone()),
            None => failure(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        };
    }
    match split("/referrers/") {
        Some(key) if shared.options.referrers_api => {
            let index = json!({
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": content.referrers.get(&key).cloned().unwrap_or_default(),
            });
            found(INDEX, None, index.to_string().into())
        }
        _ => failure(StatusCode::NOT_FOUND, "NOT_FOUND"),
    }
}

/// Takes a blob (begun with POST, continued with PATCH, ended with PUT) or a manifest.
fn push(shared: &Shared, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let (path, body) = (request.uri().path(), request.body());
    let mut content = locked(&shared.content);
    content.pushed = content.pushed.saturating_add(body.len() + UPLOAD);
    if content.pushed > MAXIMUM_PUSHED {
        return failure(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID");
    }
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    if let Some((repository, upload)) = rest.rsplit_once("/blobs/uploads/") {
        return push_blob(&mut content, repository, upload, request);
    }
    match rest.rsplit_once("/manifests/") {
        Some((repository, reference)) if *request.method() == Method::PUT => {
            let digest = Digest::sha256(body).to_string();
            let tag = (!reference.contains(':')).then_some(reference);
            if tag.is_none() && reference != digest {
                return failure(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
            }
            let media_type = request.headers().get(header::CONTENT_TYPE);
            let media_type = media_type.and_then(|it| it.to_str().ok());
            content.put_manifest(
                repository,
                tag,
                media_type.unwrap_or(MANIFEST),
                body.clone(),
            );
            let subject = subject(body).filter(|_| shared.options.referrers_api);
            let subject = subject.map(|subject| ("oci-subject", subject));
            taken(StatusCode::CREATED, path, subject)
        }
        _ => failure(StatusCode::NOT_FOUND, "NOT_FOUND"),
    }
}

fn push_blob(
    content: &mut Content,
    repository: &str,
    upload: &str,
    request: &Request<Bytes>,
) -> Response<Full<Bytes>> {
    let place = |upload: &str| format!("/v2/{repository}/blobs/uploads/{upload}");
    if *request.method() == Method::POST {
        // Every push counts bytes, so that the number is new.
        let upload = content.pushed.to_string();
        let location = place(&upload);
        content.uploads.insert(upload, Vec::new());
        return taken(StatusCode::ACCEPTED, &location, None);
    }
    let Some(mut bytes) = content.uploads.remove(upload) else {
        return failure(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    };
    bytes.extend_from_slice(request.body());
    if *request.method() == Method::PATCH {
        let range = format!("0-{}", bytes.len().saturating_sub(1));
        content.uploads.insert(upload.to_owned(), bytes);
        return taken(StatusCode::ACCEPTED, &place(upload), Some(("range", range)));
    }
    let mut query =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let expected = query.find(|(name, _)| name == "digest");
    let digest = Digest::sha256(&bytes).to_string();
    if expected.is_none_or(|(_, expected)| expected != digest) {
        return failure(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    }
    content.put_blob(repository, bytes.into());
    let location = format!("/v2/{repository}/blobs/{digest}");
    taken(StatusCode::CREATED, &location, None)
}

/// The answer to a push.
fn taken(
    status: StatusCode,
    location: &str,
    more: Option<(&str, String)>,
) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(status)
        .header(header::LOCATION, location);
    if let Some((name, value)) = more {
        response = response.header(name, value);
    }
    // This fails for a subject that no header can hold.
    response
        .body(Full::default())
        .unwrap_or_else(|_| failure(StatusCode::BAD_REQUEST, "MANIFEST_INVALID"))
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn found(media_type: &str, digest: Option<&str>, bytes: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CONTENT_LENGTH, bytes.len());
    if let Some(digest) = digest {
        response = response.header("docker-content-digest", digest);
    }
    // This does not fail: every header holds a media type or a digest.
    response.body(Full::new(bytes)).unwrap_or_default()
}

fn failure(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    let body = json!({"errors": [{"code": code, "message": code}]});
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response
}
