//! An OCI registry on loopback, in memory, read-only for its clients (distribution-spec 1.1).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

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
    /// The task that serves, and the flag that lets it answer.
    server: Mutex<Option<(JoinHandle<()>, Arc<AtomicBool>)>>,
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
}

impl SandboxRegistry {
    /// Starts on a free port of loopback.
    ///
    /// # Errors
    /// If nothing can listen there.
    pub async fn start(options: SandboxRegistryOptions) -> io::Result<SandboxRegistry> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let shared = Arc::new(Shared {
            options,
            content: Mutex::default(),
            requests: Mutex::default(),
        });
        let registry = SandboxRegistry {
            address: listener.local_addr()?,
            server: Mutex::new(None),
            shared,
        };
        registry.serve(listener);
        Ok(registry)
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
        if let Some((server, open)) = &*locked(&self.server) {
            // The task ends a moment later.
            open.store(false, Ordering::SeqCst);
            server.abort();
        }
    }

    /// Answers again, on the same port.
    ///
    /// # Errors
    /// Another process took the port.
    pub async fn resume(&self) -> io::Result<()> {
        self.stop();
        let before = locked(&self.server).take();
        if let Some((server, _)) = before {
            // The task releases the port when it ends.
            let _ = server.await;
        }
        self.serve(TcpListener::bind(self.address).await?);
        Ok(())
    }

    fn serve(&self, listener: TcpListener) {
        let open = Arc::new(AtomicBool::new(true));
        let serving = accept(listener, Arc::clone(&self.shared), Arc::clone(&open));
        *locked(&self.server) = Some((tokio::spawn(serving), open));
    }

    /// Adds a blob. Returns its digest.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes).to_string();
        let key = (repository.to_owned(), digest.clone());
        locked(&self.shared.content).blobs.insert(key, bytes);
        digest
    }

    /// Adds a manifest, with a tag if one is given. Returns its digest. A manifest with a `subject` is listed as its referrer.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> String {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes).to_string();
        let parsed: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let size = bytes.len();
        let mut content = locked(&self.shared.content);
        if let Some(subject) = parsed.pointer("/subject/digest").and_then(Value::as_str) {
            let listed = content
                .referrers
                .entry((repository.to_owned(), subject.to_owned()))
                .or_default();
            listed.push(json!({
                "mediaType": media_type,
                "digest": digest,
                "size": size,
                "artifactType": parsed.get("artifactType"),
            }));
        }
        if let Some(tag) = tag {
            let key = (repository.to_owned(), tag.to_owned());
            content.tags.insert(key, digest.clone());
        }
        let key = (repository.to_owned(), digest.clone());
        content
            .manifests
            .insert(key, (media_type.to_owned(), bytes));
        digest
    }

    /// Adds a tag that names a manifest.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) {
        let key = (repository.to_owned(), tag.to_owned());
        locked(&self.shared.content)
            .tags
            .insert(key, digest.to_owned());
    }
}

impl Drop for SandboxRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Its connections end with this task.
async fn accept(listener: TcpListener, shared: Arc<Shared>, open: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (shared, open) = (Arc::clone(&shared), Arc::clone(&open));
        connections.spawn(async move {
            let service = service_fn(|request| {
                let open = open.load(Ordering::SeqCst);
                let response = open.then(|| answer(&shared, &request));
                async { response.ok_or(io::Error::from(io::ErrorKind::ConnectionAborted)) }
            });
            // A broken connection does not affect other clients.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return failure(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
    }
    let path = request.uri().path();
    locked(&shared.requests).push(format!("{} {path}", request.method()));
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
