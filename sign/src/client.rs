//! The exchange with a service, which the shell implements.

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use url::Url;

use crate::error::SignError;

/// The most bytes of an answer.
const MAXIMUM_ANSWER: u64 = 1 << 20;
/// The most characters of a refusal that are shown.
const MAXIMUM_TOLD: usize = 300;

/// Sends requests to the services of a Sigstore. It bounds the time and the bytes of each, follows no redirect, and refuses
/// addresses without TLS except on loopback or where the operator allows it.
pub trait ServiceClient: Send + Sync {
    /// Makes a request. An error says why there is no answer.
    fn exchange<'a>(
        &'a self,
        request: ServiceRequest<'a>,
    ) -> BoxFuture<'a, Result<ServiceAnswer, String>>;
}

/// One request: a POST with content, or a GET without.
#[derive(Clone, Copy, Debug)]
pub struct ServiceRequest<'a> {
    /// Where it goes.
    pub url: &'a Url,
    /// The media type that is accepted.
    pub accept: &'static str,
    /// The token of the header `Authorization: Bearer`.
    pub bearer: Option<&'a str>,
    /// What is sent.
    pub content: Option<ServiceContent<'a>>,
    /// The most bytes of the answer.
    pub limit: u64,
}

/// The content of a request.
#[derive(Clone, Copy, Debug)]
pub struct ServiceContent<'a> {
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// The answer of a service.
#[derive(Clone, Debug)]
pub struct ServiceAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The header `Location`.
    pub location: Option<String>,
    /// The content.
    pub body: Vec<u8>,
}

/// A service, for messages: what it is and where.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) client: &'a dyn ServiceClient,
    pub(crate) what: &'static str,
    pub(crate) url: &'a Url,
}

impl Asked<'_> {
    pub(crate) async fn get(&self, bearer: Option<&str>) -> Result<ServiceAnswer, SignError> {
        self.send("application/json", bearer, None).await
    }

    pub(crate) async fn post(
        &self,
        accept: &'static str,
        media_type: &'static str,
        bytes: &[u8],
    ) -> Result<ServiceAnswer, SignError> {
        let content = ServiceContent { media_type, bytes };
        self.send(accept, None, Some(content)).await
    }

    async fn send(
        &self,
        accept: &'static str,
        bearer: Option<&str>,
        content: Option<ServiceContent<'_>>,
    ) -> Result<ServiceAnswer, SignError> {
        let request = ServiceRequest {
            url: self.url,
            accept,
            bearer,
            content,
            limit: MAXIMUM_ANSWER,
        };
        let answer = self.client.exchange(request).await;
        answer.map_err(|why| self.failed(&format!("gave no answer: {why}")))
    }

    /// The JSON of an answer with success.
    pub(crate) fn json<T: DeserializeOwned>(&self, answer: &ServiceAnswer) -> Result<T, SignError> {
        if !(200..300).contains(&answer.status) {
            return Err(self.refused(answer));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.failed(&format!("answered what cannot be read: {error}")))
    }

    pub(crate) fn refused(&self, answer: &ServiceAnswer) -> SignError {
        let said = String::from_utf8_lossy(answer.body.get(..4096).unwrap_or(&answer.body));
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let said: String = said.chars().map(printable).take(MAXIMUM_TOLD).collect();
        self.failed(&format!("answered {}: {}", answer.status, said.trim()))
    }

    pub(crate) fn failed(&self, why: &str) -> SignError {
        SignError::Service(format!("the {} `{}` {why}", self.what, shown(self.url)))
    }
}

/// A URL without what may be secret in it.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // This fails for a URL that cannot hold them.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

/// A URL below the path of a service.
pub(crate) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}
