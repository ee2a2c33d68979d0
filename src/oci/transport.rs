//! One HTTP exchange with a host: the transport, the timeouts, and how much of the answer is read.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Certificate, RequestBuilder, Response};
use tokio::time::{sleep, timeout};
use url::Url;

use super::address::{authority, is_loopback, shown};
use super::answer::HttpAnswer;
use super::connections::{Kept, Pools};
use super::credentials::{canonical, matches};
use super::error::excerpt;
use super::fair::{Fair, Share, Sharing};
use super::guard::{Guarded, Hosts, Locality, Refused, locality_of};
use super::meter::note;
use super::options::{ClientOptions, Limits, RegistryOptions, Timeouts};
use super::work::Work;
use super::{ErrorKind, EvidenceRepository, RegistryError, Repository};
use crate::metrics::shed;

/// The longest `Retry-After` that is waited for.
const SHORT_WHILE: Duration = Duration::from_secs(2);
/// Bytes that are read of an answer that reports a failure.
const FAILURE_BYTES: u64 = 4096;
/// How long an answer waits for room.
const ROOM: Duration = Duration::from_secs(2);

pub(super) struct Transport {
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    user_agent: String,
    /// For hosts with certificates of the system's authorities. Built at first use, since that needs these authorities.
    public: ByReach<OnceLock<Result<Pools, String>>>,
    plain: ByReach<Pools>,
    special: Vec<Special>,
    loopback: bool,
    hosts: Hosts,
    kept: Kept,
    turns: Arc<Fair>,
    /// Room for answers, in KiB.
    room: Arc<Fair>,
    pub(super) work: Work,
}

/// One value for hosts whose addresses are checked, and one for hosts that the operator names.
#[derive(Default)]
struct ByReach<T> {
    checked: T,
    any: T,
}

impl<T> ByReach<T> {
    fn of(&self, any: bool) -> &T {
        if any { &self.any } else { &self.checked }
    }
}

struct Special {
    host: String,
    plain_http: bool,
    /// For a registry with its own certificate authority.
    private: Option<Pools>,
    evidence: Option<EvidenceRepository>,
}

/// One request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    pub(super) accept: &'a str,
    pub(super) authorization: Option<&'a HeaderValue>,
    /// Further headers, such as those that ask for the content only if it changed.
    pub(super) headers: &'a [(HeaderName, HeaderValue)],
    /// Whether the image's own registry is on loopback, so that it may redirect there.
    pub(super) local: bool,
    /// What is sent. A request with content is not repeated.
    pub(super) content: Option<Sent>,
    /// The most bytes of a successful answer; more are an error.
    pub(super) limit: u64,
}

/// The content of a request.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) media_type: &'static str,
    pub(super) bytes: Bytes,
}

/// The media type of an encoded form.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

impl Transport {
    pub(super) fn new(options: &ClientOptions) -> Result<Transport, RegistryError> {
        let hosts: Hosts = Arc::new(options.hosts.clone());
        let builder = |any| builder(options.timeouts, &options.user_agent, &hosts, any);
        let failed = |what: &str, error: &reqwest::Error| {
            RegistryError::new(ErrorKind::Malformed, what.to_owned(), chain(error))
        };
        let plain = |any| {
            let pools = Pools::new(|| builder(any).no_proxy().tls_certs_only([]));
            pools.map_err(|error| failed("the client for plain HTTP cannot be built", &error))
        };
        let plain = ByReach {
            checked: plain(false)?,
            any: plain(true)?,
        };
        let special = |registry: &RegistryOptions| {
            let what = format!(
                "the certificate authority of `{}` cannot be used",
                registry.host
            );
            let host = registry.host.trim().to_ascii_lowercase();
            let private = match &registry.ca_pem {
                None => None,
                Some(pem) => {
                    let certificates =
                        Certificate::from_pem_bundle(pem).map_err(|error| failed(&what, &error))?;
                    if certificates.is_empty() {
                        let why = "it holds no certificate: expected `-----BEGIN CERTIFICATE-----`";
                        return Err(RegistryError::new(ErrorKind::Malformed, what, why));
                    }
                    let any = is_exact(&host);
                    let pools = Pools::new(|| builder(any).tls_certs_only(certificates.clone()));
                    Some(pools.map_err(|error| failed(&what, &error))?)
                }
            };
            Ok(Special {
                host,
                plain_http: registry.plain_http,
                private,
                evidence: registry.evidence_repository.clone(),
            })
        };
        Ok(Transport {
            limits: options.limits,
            timeouts: options.timeouts,
            user_agent: options.user_agent.clone(),
            public: ByReach::default(),
            plain,
            loopback: options.loopback,
            hosts: Arc::clone(&hosts),
            special: options
                .registries
                .iter()
                .map(special)
                .collect::<Result<_, _>>()?,
            kept: Kept::default(),
            turns: Fair::with_most_per_host(
                options.limits.requests,
                options.limits.concurrency,
                Sharing::LeaveAsMuch,
            ),
            room: Fair::new(
                kibibytes(u64::from(options.limits.held_bytes)),
                Sharing::LeaveAsMuch,
            ),
            work: Work::shared(),
        })
    }

    /// Whether a host (and port) is reached without TLS.
    pub(super) fn is_plain(&self, host: &str) -> bool {
        let exact = self.special.iter().find(|special| special.host == host);
        let loopback = Url::parse(&format!("http://{host}/")).is_ok_and(|url| is_loopback(&url));
        match exact {
            Some(special) => special.plain_http,
            None if loopback => true,
            None => self
                .special_for(host)
                .is_some_and(|special| special.plain_http),
        }
    }

    /// Whether the operator names exactly this host, so that all its addresses may be asked. A pattern is not enough: another
    /// party may choose the name that matches it.
    fn is_named(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let names = [authority(url), format!("{host}:{port}")];
        self.special.iter().any(|special| {
            is_exact(&special.host) && names.iter().any(|name| matches(&special.host, name))
        })
    }

    /// Whether an image names a registry on loopback that may be asked.
    pub(super) fn is_local(&self, image: &Url) -> bool {
        locality_of(image) == Locality::Loopback && (self.loopback || self.is_named(image))
    }

    /// Makes a request. A request without content is repeated once if the connection broke or the registry asks for a short
    /// wait.
    pub(super) async fn exchange(&self, call: &Call<'_>) -> Result<HttpAnswer, RegistryError> {
        let repeatable = call.content.is_none();
        match self.exchange_once(call).await {
            Ok(answer) if repeatable && answer.status == StatusCode::TOO_MANY_REQUESTS => {
                let wait = answer
                    .header(RETRY_AFTER.as_str())
                    .and_then(|text| text.trim().parse().ok());
                match wait.map(Duration::from_secs) {
                    Some(wait) if wait <= SHORT_WHILE => {
                        sleep(wait).await;
                        self.exchange_once(call)
                            .await
                            .map_err(|failure| failure.error)
                    }
                    _ => Ok(answer),
                }
            }
            Err(failure) if repeatable && failure.repeat => self
                .exchange_once(call)
                .await
                .map_err(|failure| failure.error),
            other => other.map_err(|failure| failure.error),
        }
    }

    async fn exchange_once(&self, call: &Call<'_>) -> Result<HttpAnswer, Failure> {
        let tried = format!("`{} {}`", call.method, shown(call.url));
        let late = || {
            let seconds = self.timeouts.request.as_secs_f32();
            Failure::last(
                ErrorKind::TimedOut,
                &tried,
                format!("there was no answer within {seconds} seconds"),
            )
        };
        let host = authority(call.url);
        let turn = timeout(self.timeouts.request, self.turns.take(1, &host));
        let Ok(_turn) = turn.await else {
            shed("request");
            let why = "too many requests to registries are under way";
            return Err(Failure::last(ErrorKind::TimedOut, &tried, why));
        };
        timeout(self.timeouts.request, self.send(call, &tried))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn send(&self, call: &Call<'_>, tried: &str) -> Result<HttpAnswer, Failure> {
        let request = self.request(call, tried)?;
        note();
        let response = request
            .send()
            .await
            .map_err(|error| Failure::of(&error, tried))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = if call.method == Method::HEAD {
            Bytes::new()
        } else {
            self.read_body(response, call, tried).await?
        };
        Ok(HttpAnswer {
            status,
            headers,
            body,
            tried: tried.to_owned(),
            at: call.url.clone(),
            credential: String::new(),
        })
    }

    fn request(&self, call: &Call<'_>, tried: &str) -> Result<RequestBuilder, Failure> {
        let named = self.is_named(call.url);
        let place = locality_of(call.url);
        if !(named || place == Locality::Elsewhere || place == Locality::Loopback && call.local) {
            let host = call.url.host_str().unwrap_or_default();
            let why = Refused::new(host, place).to_string();
            return Err(Failure::last(ErrorKind::Denied, tried, why));
        }
        let client = self
            .client(call.url, named || place == Locality::Loopback)
            .map_err(|why| Failure::last(ErrorKind::Unavailable, tried, why))?;
        let mut request = client
            .request(call.method.clone(), call.url.clone())
            .header(ACCEPT, call.accept);
        if let Some(authorization) = call.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(content) = &call.content {
            request = request
                .header(CONTENT_TYPE, content.media_type)
                .body(content.bytes.clone());
        }
        Ok(request)
    }

    /// Reads an answer's body up to its limit, and reserves room for it. The rest of a failed request's longer body is left.
    async fn read_body(
        &self,
        mut response: Response,
        call: &Call<'_>,
        tried: &str,
    ) -> Result<Bytes, Failure> {
        let success = response.status().is_success();
        let limit = if success { call.limit } else { FAILURE_BYTES };
        let too_large = || {
            let why = format!("the answer is larger than the {limit} bytes that are read");
            Failure::last(ErrorKind::TooLarge, tried, why)
        };
        let announced = response.content_length();
        if success && announced.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        let mut room = Room::default();
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(_) if !success => break,
                Err(error) => return Err(Failure::of(&error, tried)),
            };
            let rest = limit.saturating_sub(length(&body));
            if length(&chunk) > rest {
                if success {
                    return Err(too_large());
                }
                let rest = usize::try_from(rest).unwrap_or_default();
                body.extend_from_slice(chunk.get(..rest).unwrap_or_default());
                break;
            }
            let needed = kibibytes(length(&body) + length(&chunk));
            if needed > room.kibibytes {
                // The reservation doubles each time, so that an answer in many pieces needs few turns.
                let doubled = (room.kibibytes * 2).min(kibibytes(limit)).max(needed);
                let more = doubled - room.kibibytes;
                self.reserve_bytes(&mut room, more, call.url, tried).await?;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Bytes::from_owner(BudgetedBody { body, _room: room }))
    }

    /// Reserves room for so many KiB more of an answer, until its last byte is dropped.
    async fn reserve_bytes(
        &self,
        room: &mut Room,
        kibibytes: usize,
        url: &Url,
        tried: &str,
    ) -> Result<(), Failure> {
        let host = authority(url);
        let share = timeout(ROOM, self.room.take(kibibytes, &host));
        let Ok(share) = share.await else {
            shed("room");
            let why = "too many bytes of answers are in memory at this moment";
            return Err(Failure::last(ErrorKind::Unavailable, tried, why));
        };
        room.kibibytes += kibibytes;
        room.shares.push(share);
        Ok(())
    }

    /// The same bytes, with room reserved for their parsed form too.
    pub(super) async fn with_room(
        &self,
        bytes: Bytes,
        parsed: usize,
        answer: &HttpAnswer,
    ) -> Result<Bytes, RegistryError> {
        let mut room = Room::default();
        let more = kibibytes(u64::try_from(parsed).unwrap_or(u64::MAX));
        self.reserve_bytes(&mut room, more, &answer.at, &answer.tried)
            .await
            .map_err(|failure| failure.error)?;
        Ok(Bytes::from_owner(BudgetedBody {
            body: bytes,
            _room: room,
        }))
    }

    /// The client for a URL; `any` allows all addresses of its host.
    fn client(&self, url: &Url, any: bool) -> Result<reqwest::Client, String> {
        let host = authority(url);
        let keep = self.kept.keeps(&host);
        if url.scheme() == "http" {
            return Ok(self.plain.of(any).client(keep));
        }
        if let Some(private) = self
            .special_for(&host)
            .and_then(|special| special.private.as_ref())
        {
            return Ok(private.client(keep));
        }
        let public = self.public.of(any).get_or_init(|| {
            let pools = Pools::new(|| builder(self.timeouts, &self.user_agent, &self.hosts, any));
            pools.map_err(|error| {
                format!("the system's certificate authorities cannot be used ({}); name one for this registry", chain(&error))
            })
        });
        let public = public.as_ref().map_err(String::clone)?;
        Ok(public.client(keep))
    }

    /// The second repository that the operator names for evidence of these images.
    pub(super) fn evidence_repository(&self, images: &Repository) -> Option<Repository> {
        let registry = images.registry();
        let mut each = self.special.iter();
        let exact = each.find(|special| canonical(&special.host) == registry);
        let special = exact.or_else(|| self.special_for(registry))?;
        special.evidence.as_ref()?.of(images)
    }

    fn special_for(&self, host: &str) -> Option<&Special> {
        let exact = self.special.iter().find(|special| special.host == host);
        exact.or_else(|| {
            self.special
                .iter()
                .find(|special| matches(&special.host, host))
        })
    }
}

/// The bytes of an answer, with the room that is reserved for them.
struct BudgetedBody<B> {
    body: B,
    _room: Room,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for BudgetedBody<B> {
    fn as_ref(&self) -> &[u8] {
        self.body.as_ref()
    }
}

#[derive(Default)]
struct Room {
    kibibytes: usize,
    shares: Vec<Share>,
}

/// An error, and whether the request may be repeated.
struct Failure {
    error: RegistryError,
    repeat: bool,
}

impl Failure {
    fn last(kind: ErrorKind, tried: &str, why: impl Into<String>) -> Failure {
        Failure {
            error: RegistryError::new(kind, tried, why),
            repeat: false,
        }
    }

    fn of(error: &reqwest::Error, tried: &str) -> Failure {
        let refused = causes(error).find_map(|cause| cause.downcast_ref::<Refused>());
        if let Some(refused) = refused {
            return Failure::last(ErrorKind::Denied, tried, refused.to_string());
        }
        let mut why = chain(error);
        if causes(error).any(is_answer_without_tls)
            && let Some(host) = error.url().map(authority)
        {
            why = format!(
                "the host answers without TLS; if that is intended, set `plainHttp: true` for `{host}` under `registries` of the configuration"
            );
        }
        if error.is_timeout() {
            return Failure::last(ErrorKind::TimedOut, tried, why);
        }
        // A failed connection attempt is not repeated; an exchange that broke later is.
        Failure {
            error: RegistryError::new(ErrorKind::Unavailable, tried, why),
            repeat: !error.is_connect(),
        }
    }
}

/// Whether an entry names one host, with any port.
fn is_exact(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    !name.contains('*') && (port == "*" || !port.contains('*'))
}

fn builder(
    timeouts: Timeouts,
    user_agent: &str,
    hosts: &Hosts,
    any: bool,
) -> reqwest::ClientBuilder {
    let hosts = Arc::clone(hosts);
    reqwest::Client::builder()
        .dns_resolver(Guarded { hosts, any })
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(timeouts.connect)
        .user_agent(user_agent)
}

/// The causes of an error, the outermost first.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source()).take(8)
}

/// Whether the first bytes of an answer were not those of TLS, such as those of plain HTTP.
fn is_answer_without_tls(cause: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = cause;
    // An I/O error is not among its own causes, and can hold another one.
    while let Some(inner) = cause.downcast_ref().and_then(std::io::Error::get_ref) {
        cause = inner;
    }
    let tls = cause.downcast_ref::<rustls::Error>();
    tls == Some(&rustls::Error::InvalidMessage(
        rustls::InvalidMessage::InvalidContentType,
    ))
}

/// The causes of an error in words. Its own message repeats the URL, which may contain a signature.
fn chain(error: &reqwest::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = excerpt(cause.to_string().as_bytes());
        if !said.iter().any(|earlier| earlier.contains(&text)) {
            said.push(text);
        }
    }
    let causes = said;
    match (causes.is_empty(), error.is_connect()) {
        (true, true) => "cannot connect".to_owned(),
        (true, false) => "the exchange failed".to_owned(),
        (false, true) => format!("cannot connect: {}", causes.join(": ")),
        (false, false) => causes.join(": "),
    }
}

fn kibibytes(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
