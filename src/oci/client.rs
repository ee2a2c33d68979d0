//! A registry over HTTP (OCI distribution specification 1.1).

mod attached;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use promotion_gate_core::gate::{Digest, is_tag};
use tokio::time::timeout;
use url::Url;

use super::address::{authority, shown};
use super::answer::{CONTENT_DIGEST, HttpAnswer, mismatch, read_manifest, redirected};
use super::auth::{self, Access, Challenge, Reply, Tokens};
use super::credentials::{Credentials, Secret};
use super::error::excerpt;
use super::transport::{Call, Sent, Transport};
use super::{
    Attached, ClientOptions, Descriptor, ErrorKind, Manifest, Reference, Registry, RegistryError,
    Repository, Via, is_repository_name, tag_about,
};
use crate::metrics::failed_to_read;
use attached::LookUp;

/// The host of Docker Hub's API.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// Reads registries over HTTP. A credential belongs to one repository and is never sent to another host.
pub struct Client {
    pub(super) transport: Transport,
    credentials: Credentials,
    tokens: Tokens,
    /// Hosts that have answered the referrers API. If one answers with a web page later, that is trouble and not a registry
    /// without the API: such a page must not hide a rejection.
    with_referrers: Mutex<BTreeSet<(String, String)>>,
}

/// One request of a registry.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: &'a str,
    pub(super) access: Access,
    pub(super) conditions: &'a [(HeaderName, HeaderValue)],
    pub(super) content: Option<Sent>,
    pub(super) limit: u64,
}

impl Client {
    /// Makes a client; no request is made yet.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn new(options: ClientOptions) -> Result<Client, RegistryError> {
        Ok(Client {
            transport: Transport::new(&options)?,
            credentials: Credentials::new(options.credentials, options.ignored_credentials),
            tokens: Tokens::default(),
            with_referrers: Mutex::default(),
        })
    }

    pub(super) fn url(&self, repository: &Repository, path: &str) -> Result<Url, RegistryError> {
        let host = match repository.registry() {
            "docker.io" => DOCKER_HUB_API,
            host => host,
        };
        let scheme = if self.transport.is_plain(host) {
            "http"
        } else {
            "https"
        };
        let name = repository.path();
        let refused = || {
            RegistryError::new(
                ErrorKind::Malformed,
                format!("`{repository}`"),
                "this is not a repository name",
            )
        };
        if !is_repository_name(name) {
            return Err(refused());
        }
        let url =
            Url::parse(&format!("{scheme}://{host}/v2/{name}/{path}")).map_err(|_| refused())?;
        let as_written =
            url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if as_written { Ok(url) } else { Err(refused()) }
    }

    /// Makes a request and follows what the registry answers: each challenge once, and a few redirects.
    async fn ask(
        &self,
        repository: &Repository,
        request: Request<'_>,
    ) -> Result<HttpAnswer, RegistryError> {
        let secret = self.credentials.of(repository);
        // The registry's own origin, also where the request goes to a place that it named.
        let home = origin(&self.url(repository, "")?);
        let mut url = request.url;
        let reply = Reply {
            transport: &self.transport,
            tokens: &self.tokens,
            credentials: &self.credentials,
            repository,
            access: request.access,
            local: self.transport.is_local(&url),
        };
        let mut authorization = match secret {
            Some(Secret::Bearer(token)) => auth::bearer(token),
            _ => self.tokens.known(repository, request.access),
        };
        let mut challenges = None;
        let mut redirects = 0;
        loop {
            // 1. Credentials are sent to the registry's own origin alone, so that a redirect cannot collect them.
            let at_home = origin(&url) == home;
            let header = authorization.as_ref().filter(|_| at_home);
            let call = Call {
                method: request.method.clone(),
                url: &url,
                accept: request.accept,
                authorization: header,
                headers: request.conditions,
                local: reply.local,
                content: request.content.clone(),
                limit: request.limit,
            };
            let mut answer = self.transport.exchange(&call).await?;
            // 2. Each challenge is answered once, so that a registry cannot keep this loop going.
            if answer.status == StatusCode::UNAUTHORIZED && at_home {
                let challenges =
                    challenges.get_or_insert_with(|| Challenge::all(&answer).into_iter());
                if let Some(header) = reply.to(challenges).await? {
                    authorization = Some(header);
                    continue;
                }
            }
            if !answer.status.is_redirection() || answer.status == StatusCode::NOT_MODIFIED {
                if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status) {
                    let sent = secret.is_some() && header.is_some();
                    answer.credential = self.credentials.words(repository, sent);
                }
                return Ok(answer);
            }
            // 3. Redirects are bounded, and do not lead from https to http.
            redirects += 1;
            if redirects > self.transport.limits.redirects {
                let why = format!(
                    "there are more than {} redirects",
                    self.transport.limits.redirects
                );
                return Err(RegistryError::new(
                    ErrorKind::Unavailable,
                    answer.tried,
                    why,
                ));
            }
            url = redirected(&url, &answer)?;
        }
    }

    /// Reads something.
    async fn get(
        &self,
        repository: &Repository,
        method: Method,
        path: &str,
        accept: &str,
        limit: u64,
    ) -> Result<HttpAnswer, RegistryError> {
        let request = Request {
            method,
            url: self.url(repository, path)?,
            accept,
            access: Access::Pull,
            conditions: &[],
            content: None,
            limit,
        };
        self.request(repository, request).await
    }

    /// Makes a request under the time limit of one question.
    pub(super) async fn request(
        &self,
        repository: &Repository,
        request: Request<'_>,
    ) -> Result<HttpAnswer, RegistryError> {
        let tried = format!("`{} {}`", request.method, shown(&request.url));
        let total = self.transport.timeouts.total;
        let asked = timeout(total, self.ask(repository, request)).await;
        let asked = asked.unwrap_or_else(|_| {
            let why = "there was no answer in time";
            Err(RegistryError::new(ErrorKind::TimedOut, tried, why))
        });
        asked.inspect_err(|error| failed_to_read(error.kind().id()))
    }

    async fn resolve_now(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Descriptor, RegistryError> {
        if let Reference::Tag(tag) = reference
            && !is_tag(tag)
        {
            let tried = format!("`{repository}:{}`", excerpt(tag.as_bytes()));
            return Err(RegistryError::new(
                ErrorKind::Malformed,
                tried,
                "this is not a tag",
            ));
        }
        let path = format!("manifests/{reference}");
        let limit = self.transport.limits.manifest_bytes;
        let answer = self
            .get(repository, Method::HEAD, &path, MANIFESTS, limit)
            .await?;
        let digest = answer
            .header(CONTENT_DIGEST)
            .and_then(|digest| digest.parse::<Digest>().ok());
        if let (true, Some(digest)) = (answer.status.is_success(), digest) {
            if let Reference::Digest(asked) = reference
                && *asked != digest
            {
                return Err(mismatch(&answer, asked));
            }
            let length = answer
                .header(CONTENT_LENGTH.as_str())
                .and_then(|length| length.parse().ok());
            return Ok(Descriptor {
                media_type: answer
                    .header(CONTENT_TYPE.as_str())
                    .map(|text| excerpt(text.as_bytes()))
                    .unwrap_or_default(),
                digest,
                size: length.unwrap_or_default(),
                artifact_type: None,
                annotations: BTreeMap::new(),
                platform: None,
            });
        }
        match answer.status {
            // The registry does not support HEAD, or does not send the digest header.
            status if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED => {}
            _ => return Err(answer.failure()),
        }
        let answer = self
            .get(repository, Method::GET, &path, MANIFESTS, limit)
            .await?;
        let manifest = self.read(&answer, reference.clone()).await?;
        Ok(manifest.descriptor())
    }

    /// Runs `job` on an answer; large answers are processed outside of the threads that serve requests.
    async fn work<T: Send + 'static>(
        &self,
        answer: &HttpAnswer,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RegistryError> {
        let host = authority(&answer.at);
        let done = self.transport.work.done(&host, answer.body.len(), job);
        done.await.ok_or_else(|| {
            let why = "processing the answer failed";
            RegistryError::new(ErrorKind::Malformed, answer.tried.clone(), why)
        })
    }

    /// Reads a manifest. As long as it is held, it keeps room reserved for its bytes and its parsed form.
    async fn read(
        &self,
        answer: &HttpAnswer,
        reference: Reference,
    ) -> Result<Manifest, RegistryError> {
        let whole = answer.clone();
        let manifest = self
            .work(answer, move || read_manifest(&whole, &reference))
            .await??;
        let parsed = manifest.weight().saturating_sub(manifest.bytes.len());
        let bytes = manifest.bytes.clone();
        let bytes = self.transport.with_room(bytes, parsed, answer).await?;
        Ok(Manifest { bytes, ..manifest })
    }
}

impl Registry for Client {
    fn resolve<'a>(
        &'a self,
        repository: &'a Repository,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Descriptor, RegistryError>> {
        self.resolve_now(repository, reference).boxed()
    }

    fn manifest<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, RegistryError>> {
        async move {
            let path = format!("manifests/{digest}");
            let limit = self.transport.limits.manifest_bytes;
            let answer = self
                .get(repository, Method::GET, &path, MANIFESTS, limit)
                .await?;
            self.read(&answer, Reference::Digest(digest.clone())).await
        }
        .boxed()
    }

    fn blob<'a>(
        &'a self,
        repository: &'a Repository,
        descriptor: &'a Descriptor,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, RegistryError>> {
        async move {
            let digest = &descriptor.digest;
            if descriptor.size > limit {
                let why = format!(
                    "it has {} bytes, more than the {limit} that are read",
                    descriptor.size
                );
                return Err(RegistryError::new(
                    ErrorKind::TooLarge,
                    format!("`{repository}@{digest}`"),
                    why,
                ));
            }
            let path = format!("blobs/{digest}");
            let answer = self
                .get(repository, Method::GET, &path, "*/*", descriptor.size)
                .await?;
            if !answer.status.is_success() {
                return Err(answer.failure());
            }
            let (named, body) = (digest.clone(), answer.body.clone());
            let verified = self.work(&answer, move || named.verifies(&body)).await?;
            if verified {
                Ok(answer.body)
            } else {
                Err(mismatch(&answer, digest))
            }
        }
        .boxed()
    }

    fn attached_in<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
        place: Via,
    ) -> BoxFuture<'a, Attached> {
        async move {
            let (look_up, found) = match place {
                Via::Referrers => self.by_api(repository, digest).await,
                Via::FallbackTag | Via::SigTag | Via::AttTag => {
                    let tag = tag_about(digest, place);
                    self.by_tag(repository, digest, place, tag).await
                }
            };
            Attached {
                answered: look_up == LookUp::Answered,
                ..found
            }
        }
        .boxed()
    }

    fn evidence_repository(&self, images: &Repository) -> Option<Repository> {
        self.transport.evidence_repository(images)
    }

    fn credential_id(&self, repository: &Repository) -> String {
        self.credentials.id(repository)
    }
}

/// Scheme, host and port.
pub(super) fn origin(url: &Url) -> (String, String) {
    (url.scheme().to_owned(), authority(url))
}
