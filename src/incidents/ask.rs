//! One question to an incident tracker: the request, and what its answer says.
//!
//! The address is checked as that of a registry is: no metadata service, no link-local address, loopback only where the operator allows
//! it. No redirect is followed, so that neither the credential nor the question goes elsewhere.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::LOCATION;
use promotion_gate_core::gate::TrackerAnswer;
use promotion_gate_core::strict_json::{Fields, unambiguous};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;

use super::Told;
use super::credential::{Authenticated, authenticated};
use crate::api::IncidentCheck;
use crate::cluster::Cluster;
use crate::oci::site::rate_limit;
use crate::oci::web::{Asked, Web};
use crate::oci::{ErrorKind, HttpAnswer, RegistryError};

/// The longest that a question takes, however many reviews wait for it.
const PATIENCE: Duration = Duration::from_secs(8);
/// The most bytes of an answer.
const ANSWER_BYTES: u64 = 1 << 20;

/// A question.
pub(super) struct Asking {
    pub(super) web: Arc<Result<Web, String>>,
    pub(super) check: Arc<IncidentCheck>,
    pub(super) id: String,
    pub(super) cluster: Option<Cluster>,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) struct NoAnswer {
    /// For the metrics.
    pub(super) outcome: &'static str,
    /// Whether the tracker could not be reached, whatever the incident is. It is not if the reason may lie in the incident, which the
    /// author of a declaration chooses.
    pub(super) is_unreachable: bool,
    pub(super) why: String,
}

impl NoAnswer {
    /// There is none at this moment.
    pub(super) fn unavailable(why: impl Into<String>) -> NoAnswer {
        NoAnswer {
            outcome: "unavailable",
            is_unreachable: true,
            why: why.into(),
        }
    }

    /// The tracker, or this program, refuses every question.
    pub(super) fn refused(why: impl Into<String>) -> NoAnswer {
        NoAnswer {
            outcome: "refused",
            is_unreachable: true,
            why: why.into(),
        }
    }

    /// The tracker, or this program, refuses this question, perhaps because of the incident.
    fn refused_here(why: impl Into<String>) -> NoAnswer {
        NoAnswer {
            is_unreachable: false,
            ..NoAnswer::refused(why)
        }
    }

    /// There is no such check.
    pub(super) fn missing(why: String) -> NoAnswer {
        NoAnswer::refused_here(why)
    }

    /// The answer cannot be read.
    fn unreadable(why: impl Into<String>) -> NoAnswer {
        NoAnswer {
            outcome: "unreadable",
            is_unreachable: false,
            why: why.into(),
        }
    }

    fn of(error: &RegistryError) -> NoAnswer {
        match error.kind() {
            ErrorKind::Denied => NoAnswer::refused(error.to_string()),
            ErrorKind::TooLarge => NoAnswer::unreadable(error.to_string()),
            _ => NoAnswer::unavailable(error.to_string()),
        }
    }
}

impl Asking {
    /// Asks, for a limited time.
    pub(super) async fn ask(self) -> Result<Told, NoAnswer> {
        let late = |_| {
            let seconds = PATIENCE.as_secs();
            NoAnswer::unavailable(format!("it did not answer within {seconds} seconds"))
        };
        timeout(PATIENCE, self.asked()).await.map_err(late)?
    }

    async fn asked(self) -> Result<Told, NoAnswer> {
        let web = match &*self.web {
            Ok(web) => web,
            Err(why) => return Err(NoAnswer::unavailable(why.as_str())),
        };
        let request = &self.check.request;
        // 1. The id is encoded for its place, and the address stays the one that the document names.
        let url = request.url(&self.id).map_err(NoAnswer::refused_here)?;
        let body = request.body(&self.id);
        // 2. The credential is read anew each time, since credentials are rotated.
        let Authenticated {
            authorization,
            header,
        } = authenticated(self.check.authentication.as_ref(), self.cluster.as_ref()).await?;
        let headers: Vec<_> = request.headers.iter().cloned().chain(header).collect();
        let asked = Asked {
            url: &url,
            accept: &self.check.accept,
            authorization: authorization.as_ref(),
            headers: &headers,
            content: body.as_deref().map(|body| ("application/json", body)),
            limit: ANSWER_BYTES,
        };
        // 3. One exchange. A redirect is an answer, and is not followed.
        let answer = web.exchange(&asked).await;
        let answer = answer.map_err(|error| NoAnswer::of(&error))?;
        // 4. The status. Those that depend on the id say that there is no such incident: the author of a declaration chooses the
        // id, and must not be able to make the tracker look unreachable.
        if let Some(no_answer) = no_answer(&answer, &url) {
            return Err(no_answer);
        }
        if !answer.status.is_success() {
            let why = format!(
                "the tracker answered {}: it has no incident with this id, or the account may not see it",
                answer.status
            );
            return Ok(Told::absent(why));
        }
        // 5. The content, by the expression. An expression may take 50 ms of a core, so it does not run where requests are answered.
        let body = parsed(&answer)?;
        let read = spawn_blocking(move || self.read(answer.status, &body)).await;
        let answer =
            read.map_err(|_| NoAnswer::unreadable("the answer could not be read: a panic"))??;
        Ok(Told {
            answer,
            absent: None,
        })
    }

    fn read(&self, status: StatusCode, body: &Value) -> Result<TrackerAnswer, NoAnswer> {
        let read = self.check.reading.read(&self.id, status.as_u16(), body);
        read.map_err(|why| NoAnswer::unreadable(why.to_string()))
    }
}

/// Why an answer says nothing about the incident; `None` if it does.
fn no_answer(answer: &HttpAnswer, url: &Url) -> Option<NoAnswer> {
    if rate_limit(answer).is_some() {
        let why = format!("it limits the rate of requests ({})", answer.status);
        return Some(NoAnswer::unavailable(why));
    }
    match answer.status {
        status if status.is_success() && answer.is_web_page() => Some(NoAnswer::unreadable(
            "it answered with a web page; this is probably a login, or the address of a page and not of the API",
        )),
        status if status.is_success() => None,
        StatusCode::BAD_REQUEST
        | StatusCode::NOT_FOUND
        | StatusCode::GONE
        | StatusCode::UNPROCESSABLE_ENTITY => None,
        StatusCode::UNAUTHORIZED => Some(NoAnswer::refused(
            "it answered 401 Unauthorized; check the credential under `auth`",
        )),
        StatusCode::FORBIDDEN => Some(NoAnswer::refused_here(
            "it answered 403 Forbidden; the account lacks a permission",
        )),
        status if status.is_redirection() => {
            let to = answer.header(LOCATION.as_str());
            let to = to.and_then(|to| url.join(to).ok());
            let to = to.as_ref().and_then(Url::host_str).unwrap_or("elsewhere");
            Some(NoAnswer::refused_here(format!(
                "it redirects to `{to:.100}`, and redirects are not followed; write the address that it leads to"
            )))
        }
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            Some(NoAnswer::unavailable(format!("it answered {status}")))
        }
        status => Some(NoAnswer::refused_here(format!("it answered {status}"))),
    }
}

/// The JSON of an answer.
fn parsed(answer: &HttpAnswer) -> Result<Value, NoAnswer> {
    let unreadable =
        |why: &dyn std::fmt::Display| NoAnswer::unreadable(format!("the answer {why}"));
    let text = unambiguous(&answer.body, Fields::default()).map_err(|error| unreadable(&error))?;
    serde_json::from_str(text).map_err(|error| unreadable(&format_args!("is not JSON: {error}")))
}
