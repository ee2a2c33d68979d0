//! A registry that accepts pushes, and answers otherwise where a test says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use super::server::{Reply, Seen, Server};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a registry holds, and how it behaves.
#[derive(Default)]
pub struct Store {
    /// By repository and digest.
    blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and digest or tag: media type and bytes.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    referrers: bool,
    /// Whether it names versions and honours `If-Match`.
    etags: bool,
}

type Shared = Arc<Mutex<Store>>;

/// A registry on loopback, until it is dropped.
pub struct Pushable {
    pub server: Server,
    pub store: Shared,
}

impl Pushable {
    /// `before` may answer in place of the registry, or change what it holds.
    pub async fn start(
        referrers: bool,
        etags: bool,
        before: impl Fn(&Seen, &mut Store) -> Option<Reply> + Send + Sync + 'static,
    ) -> Pushable {
        let store = Store {
            referrers,
            etags,
            ..Store::default()
        };
        let store = Arc::new(Mutex::new(store));
        let shared = Arc::clone(&store);
        let server = Server::start(move |seen| {
            let mut store = shared.lock().unwrap();
            let answered = before(seen, &mut store);
            answered.unwrap_or_else(|| store.answer(seen))
        });
        Pushable {
            server: server.await,
            store,
        }
    }

    /// Puts an image there. Returns its digest.
    pub fn push(&self, repository: &str, tag: &str, content: &str) -> Digest {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(b"{}").to_string(), "size": 2},
            "annotations": {"content": content},
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        let mut store = self.store.lock().unwrap();
        store.put(repository, tag, MANIFEST, &bytes);
        store.put(repository, &digest.to_string(), MANIFEST, &bytes);
        digest
    }

    /// Attaches a bundle to an image.
    pub fn attach(&self, repository: &str, subject: &Digest, bundle: &Value) {
        const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let bytes = bundle.to_string().into_bytes();
        let digest = Digest::sha256(&bytes).to_string();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}").to_string(), "size": 2},
            "layers": [{"mediaType": BUNDLE, "digest": digest, "size": bytes.len()}],
            "subject": {"mediaType": MANIFEST, "digest": subject.to_string(), "size": 1},
        });
        let manifest = manifest.to_string().into_bytes();
        let mut store = self.store.lock().unwrap();
        store.blobs.insert((repository.to_owned(), digest), bytes);
        store.put(
            repository,
            &Digest::sha256(&manifest).to_string(),
            MANIFEST,
            &manifest,
        );
    }

    pub fn image(&self, repository: &str, digest: &Digest) -> String {
        format!("{}/{repository}@{digest}", self.server.host())
    }
}

impl Store {
    pub fn put(&mut self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) {
        let key = (repository.to_owned(), reference.to_owned());
        self.manifests
            .insert(key, (media_type.to_owned(), bytes.to_vec()));
    }

    /// The entries of the index under a tag.
    pub fn entries(&self, repository: &str, tag: &str) -> Vec<Value> {
        let key = (repository.to_owned(), tag.to_owned());
        let index = self.manifests.get(&key).map(|(_, bytes)| bytes.clone());
        let index: Value = serde_json::from_slice(&index.unwrap_or_default()).unwrap_or_default();
        index["manifests"].as_array().cloned().unwrap_or_default()
    }

    /// The manifests whose subject is a digest.
    pub fn attached(&self, repository: &str, subject: &str) -> Vec<Value> {
        let mine = self.manifests.iter().filter(|((name, reference), _)| {
            name == repository && reference.starts_with("sha256:")
        });
        let parsed = mine.map(|((_, digest), (_, bytes))| {
            let manifest: Value = serde_json::from_slice(bytes).unwrap_or_default();
            (digest, bytes.len(), manifest)
        });
        let about = parsed.filter(|(.., manifest)| manifest["subject"]["digest"] == subject);
        about
            .map(|(digest, size, manifest)| json!({"mediaType": MANIFEST, "digest": digest, "size": size, "artifactType": manifest["artifactType"]}))
            .collect()
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let Some(rest) = path.strip_prefix("/v2/") else {
            return Reply::status(404);
        };
        let split = |kind: &str| {
            let (repository, reference) = rest.rsplit_once(kind)?;
            Some((repository.to_owned(), reference.to_owned()))
        };
        let digest = query
            .split('&')
            .find_map(|part| part.strip_prefix("digest="));
        match seen.method.as_str() {
            "POST" => Reply::status(202).with("location", format!("{path}id?state=a")),
            "PUT"
                if let (Some((repository, _)), Some(digest)) =
                    (split("/blobs/uploads/"), digest) =>
            {
                let digest = digest.replace("%3A", ":");
                let is_sound = Digest::sha256(&seen.bytes).to_string() == digest;
                self.blobs.insert((repository, digest), seen.bytes.clone());
                Reply::status(if is_sound { 201 } else { 400 })
            }
            "PUT" if let Some(key) = split("/manifests/") => self.put_manifest(key, seen),
            _ if let Some(key) = split("/blobs/") => match self.blobs.get(&key) {
                Some(bytes) => Reply::new(200, "application/octet-stream", bytes.clone()),
                None => Reply::status(404),
            },
            _ if let Some(key) = split("/manifests/") => match self.manifests.get(&key) {
                Some((media_type, bytes)) => {
                    let digest = Digest::sha256(bytes).to_string();
                    let reply = Reply::new(200, media_type, bytes.clone());
                    let reply = match self.etags {
                        true => reply.with("etag", format!("\"{digest}\"")),
                        false => reply,
                    };
                    reply.with("docker-content-digest", digest)
                }
                None => Reply::status(404),
            },
            _ if let (Some((repository, subject)), true) =
                (split("/referrers/"), self.referrers) =>
            {
                let manifests = self.attached(&repository, &subject);
                let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
                Reply::new(200, INDEX, index.to_string())
            }
            _ => Reply::status(404),
        }
    }

    fn put_manifest(&mut self, (repository, reference): (String, String), seen: &Seen) -> Reply {
        let key = (repository, reference);
        let there = self
            .manifests
            .get(&key)
            .map(|(_, bytes)| Digest::sha256(bytes).to_string());
        let expected = seen
            .headers
            .get("if-match")
            .map(|tag| tag.trim_matches('"').to_owned());
        if self.etags && expected.is_some() && expected != there {
            return Reply::status(412);
        }
        let media_type = seen.headers["content-type"].clone();
        self.manifests.insert(key, (media_type, seen.bytes.clone()));
        let manifest: Value = serde_json::from_slice(&seen.bytes).unwrap_or_default();
        let reply = Reply::status(201);
        match (self.referrers, manifest["subject"]["digest"].as_str()) {
            (true, Some(subject)) => reply.with("oci-subject", subject),
            _ => reply,
        }
    }
}
