//! Attaching content to an image: a manifest with a `subject` (OCI distribution specification 1.1), and on registries without
//! the referrers API an entry in the index under the tag `sha256-HEX`.
//!
//! That index is one document, which every writer reads and writes as a whole. A registry that honours `If-Match` keeps writers
//! apart; on others, one of two writers at the same time can remove the entry of the other. Therefore each reads the index again
//! after a random while and adds its entry again, up to three times. What remains: a writer that does not look again can remove
//! an entry later.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use http::header::{ETAG, IF_MATCH, LOCATION};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tokio::time::sleep;
use url::Url;

use super::answer::HttpAnswer;
use super::auth::Access;
use super::client::Request;
use super::transport::Sent;
use super::{
    Client, Descriptor, ErrorKind, Registry as _, RegistryError, Repository, Via, media_type,
    tag_about,
};

/// How long is waited before the index under the tag is read again.
pub const READ_BACK: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(5);

/// How often an entry is added to the index under the tag.
const ROUNDS: usize = 3;
/// The empty configuration of an artifact.
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const OCI_SUBJECT: &str = "oci-subject";

/// Something that is attached to an image.
#[derive(Clone, Debug)]
pub struct Attachment<'a> {
    /// What it is attached to.
    pub subject: &'a Descriptor,
    /// The media type of the content, and the artifact type of its manifest.
    pub media_type: &'static str,
    pub content: Bytes,
    /// Hints for people and tools.
    pub annotations: BTreeMap<&'static str, String>,
}

/// What was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Where it is listed.
    pub via: Via,
}

impl Client {
    /// Attaches content to an image in a repository, which need not be the image's own. `pause` is how long is waited before
    /// the index under the tag is read again, on registries without the referrers API.
    ///
    /// # Errors
    /// Why it could not be attached. What was pushed before stays there, and nothing lists it.
    pub async fn attach(
        &self,
        repository: &Repository,
        attachment: &Attachment<'_>,
        pause: RangeInclusive<Duration>,
    ) -> Result<Pushed, RegistryError> {
        self.put_blob(repository, &Bytes::from_static(EMPTY))
            .await?;
        self.put_blob(repository, &attachment.content).await?;
        let manifest = Bytes::from(attachment.manifest().to_string());
        let digest = Digest::sha256(&manifest);
        let size = manifest.len();
        let path = format!("manifests/{digest}");
        let put = self.put(repository, &path, media_type::OCI_MANIFEST, manifest, &[]);
        let answer = put.await?;
        if !answer.status.is_success() {
            return Err(refused(&answer));
        }
        let subject = &attachment.subject.digest;
        let pushed = |via| Pushed {
            manifest: digest.clone(),
            via,
        };
        // Some registries list referrers and do not say so here.
        if answer.header(OCI_SUBJECT).is_some()
            || self
                .lists(repository, subject, Via::Referrers, &digest)
                .await
        {
            return Ok(pushed(Via::Referrers));
        }
        let entry = json!({
            "mediaType": media_type::OCI_MANIFEST,
            "digest": digest.to_string(),
            "size": size,
            "artifactType": attachment.media_type,
            "annotations": attachment.annotations,
        });
        self.list_under_tag(repository, subject, &entry, pause)
            .await?;
        Ok(pushed(Via::FallbackTag))
    }

    /// Reads back what was attached.
    ///
    /// # Errors
    /// If it is not listed, or the registry answers with other content.
    pub async fn read_back(
        &self,
        repository: &Repository,
        attachment: &Attachment<'_>,
        pushed: &Pushed,
    ) -> Result<Bytes, RegistryError> {
        let Pushed { manifest, via } = pushed;
        let other = |why: &str| {
            RegistryError::new(
                ErrorKind::DigestMismatch,
                format!("`{repository}@{manifest}`"),
                why,
            )
        };
        self.manifest(repository, manifest).await?;
        let layer = attachment.layer();
        let limit = layer.size;
        let content = self.blob(repository, &layer, limit).await?;
        if content != attachment.content {
            return Err(other(
                "the registry answers with other content than was pushed",
            ));
        }
        match self
            .lists(repository, &attachment.subject.digest, *via, manifest)
            .await
        {
            true => Ok(content),
            false => Err(other(&format!(
                "the registry does not list what was pushed ({via})"
            ))),
        }
    }

    async fn lists(
        &self,
        repository: &Repository,
        subject: &Digest,
        place: Via,
        manifest: &Digest,
    ) -> bool {
        let attached = self.attached_in(repository, subject, place).await;
        attached
            .listing
            .iter()
            .any(|listed| listed.digest == *manifest)
    }

    async fn put_blob(&self, repository: &Repository, bytes: &Bytes) -> Result<(), RegistryError> {
        let digest = Digest::sha256(bytes);
        let head = self.asked(
            Method::HEAD,
            self.url(repository, &format!("blobs/{digest}"))?,
        );
        let there = self.request(repository, head).await?;
        if there.status.is_success() {
            return Ok(());
        }
        let post = self.asked(Method::POST, self.url(repository, "blobs/uploads/")?);
        let answer = self.request(repository, post).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Err(refused(&answer));
        }
        let url = upload_at(&answer, &digest)?;
        let put = Request {
            content: Some(Sent {
                media_type: "application/octet-stream",
                bytes: bytes.clone(),
            }),
            ..self.asked(Method::PUT, url)
        };
        let answer = self.request(repository, put).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(refused(&answer)),
        }
    }

    async fn put(
        &self,
        repository: &Repository,
        path: &str,
        media_type: &'static str,
        bytes: Bytes,
        conditions: &[(HeaderName, HeaderValue)],
    ) -> Result<HttpAnswer, RegistryError> {
        let request = Request {
            content: Some(Sent { media_type, bytes }),
            conditions,
            ..self.asked(Method::PUT, self.url(repository, path)?)
        };
        self.request(repository, request).await
    }

    fn asked(&self, method: Method, url: Url) -> Request<'static> {
        Request {
            method,
            url,
            accept: "*/*",
            access: Access::Push,
            conditions: &[],
            content: None,
            limit: self.transport.limits.manifest_bytes,
        }
    }

    /// Adds an entry to the index under the tag that stands in for the referrers API.
    async fn list_under_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
        entry: &Value,
        pause: RangeInclusive<Duration>,
    ) -> Result<(), RegistryError> {
        let failed = |kind, why: &str| {
            RegistryError::new(
                kind,
                format!("the referrers tag of `{repository}@{subject}`"),
                why,
            )
        };
        let tag = tag_about(subject, Via::FallbackTag);
        let tag = tag.ok_or_else(|| failed(ErrorKind::Malformed, "it cannot exist"))?;
        let path = format!("manifests/{tag}");
        for round in 0..=ROUNDS {
            let get = Request {
                accept: media_type::OCI_INDEX,
                ..self.asked(Method::GET, self.url(repository, &path)?)
            };
            let answer = self.request(repository, get).await?;
            if subject.verifies(&answer.body) {
                let why = "the registry has no referrers API, and reads this tag as the image itself; use another repository for evidence (`--repository`)";
                return Err(failed(ErrorKind::Denied, why));
            }
            let mut index = match answer.status {
                StatusCode::NOT_FOUND => empty_index(),
                status if status.is_success() => serde_json::from_slice(&answer.body)
                    .map_err(|_| failed(ErrorKind::Malformed, "it does not hold an index"))?,
                _ => return Err(answer.failure()),
            };
            let entries = index.get_mut("manifests").and_then(Value::as_array_mut);
            let entries =
                entries.ok_or_else(|| failed(ErrorKind::Malformed, "it does not hold an index"))?;
            if entries
                .iter()
                .any(|other| other.get("digest") == entry.get("digest"))
            {
                return Ok(());
            }
            if round == ROUNDS {
                break;
            }
            entries.push(entry.clone());
            let conditions: Vec<_> = unchanged(&answer).into_iter().collect();
            let index = Bytes::from(index.to_string());
            let put = self.put(repository, &path, media_type::OCI_INDEX, index, &conditions);
            let answer = put.await?;
            let is_late = answer.status == StatusCode::PRECONDITION_FAILED;
            if !answer.status.is_success() && !is_late {
                return Err(refused(&answer));
            }
            sleep(some_time_in(&pause)).await;
        }
        let why = format!(
            "others removed the entry {ROUNDS} times while it was added; repeat the command"
        );
        Err(failed(ErrorKind::Unavailable, &why))
    }
}

impl Attachment<'_> {
    fn layer(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.to_owned(),
            digest: Digest::sha256(&self.content),
            size: u64::try_from(self.content.len()).unwrap_or(u64::MAX),
            artifact_type: None,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    /// The manifest, as cosign 3 writes it for a bundle.
    fn manifest(&self) -> Value {
        let described = |media_type: &str, digest: &Digest, size: u64| json!({"mediaType": media_type, "digest": digest.to_string(), "size": size});
        let (layer, subject) = (self.layer(), self.subject);
        json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "artifactType": self.media_type,
            "config": described(EMPTY_TYPE, &Digest::sha256(EMPTY), 2),
            "layers": [described(&layer.media_type, &layer.digest, layer.size)],
            "subject": described(&subject.media_type, &subject.digest, subject.size),
            "annotations": self.annotations,
        })
    }
}

fn empty_index() -> Value {
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []})
}

/// The condition that content is still what was read. A weak tag never meets it.
fn unchanged(answer: &HttpAnswer) -> Option<(HeaderName, HeaderValue)> {
    let tag = answer.header(ETAG.as_str())?;
    let strong = answer.status.is_success() && !tag.starts_with("W/");
    strong.then(|| Some((IF_MATCH, HeaderValue::from_str(tag).ok()?)))?
}

/// Where an upload is sent.
fn upload_at(answer: &HttpAnswer, digest: &Digest) -> Result<Url, RegistryError> {
    let location = answer.header(LOCATION.as_str());
    let url = location.and_then(|location| answer.at.join(location).ok());
    let url = url.filter(|url| url.scheme() == "https" || answer.at.scheme() == "http");
    let Some(mut url) = url else {
        let why = "the registry does not say where the upload goes (`Location`)";
        return Err(RegistryError::new(
            ErrorKind::Malformed,
            answer.tried.clone(),
            why,
        ));
    };
    url.query_pairs_mut()
        .append_pair("digest", &digest.to_string());
    Ok(url)
}

/// The error of a push that was refused.
fn refused(answer: &HttpAnswer) -> RegistryError {
    let failure = answer.failure();
    let (kind, hint) = match answer.status {
        StatusCode::NOT_FOUND => (
            ErrorKind::NotFound,
            "; the repository does not exist, or this account may not push to it",
        ),
        StatusCode::METHOD_NOT_ALLOWED => (
            ErrorKind::Denied,
            "; nothing can be pushed here: it may be a mirror or a cache",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorKind::TooLarge, ""),
        _ => (failure.kind(), ""),
    };
    RegistryError::new(
        kind,
        answer.tried.clone(),
        format!("{}{hint}", failure.why()),
    )
}

/// A random time in a range, so that writers at the same time do not meet again.
fn some_time_in(range: &RangeInclusive<Duration>) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness, the longest time is waited.
    if rand::fill(&mut bytes).is_err() {
        return *range.end();
    }
    let part = f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX);
    *range.start() + range.end().saturating_sub(*range.start()).mul_f64(part)
}
