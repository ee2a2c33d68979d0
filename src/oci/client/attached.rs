//! What is attached to an image: by the referrers API, and under the tags that stand in for it.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use http::{Method, StatusCode};
use promotion_gate_core::gate::Digest;
use serde::de::IgnoredAny;
use tokio::time::timeout;

use super::{Client, MANIFESTS, Request, origin};
use crate::oci::address::shown;
use crate::oci::answer::{HttpAnswer, next_page, not_from_a_registry};
use crate::oci::auth::Access;
use crate::oci::manifest::Listed;
use crate::oci::{
    Attached, AttachedManifest, Descriptor, ErrorKind, Reference, RegistryError, Repository, Via,
    media_type,
};

/// The most hosts that are known to have the referrers API.
const MAXIMUM_HOSTS: usize = 10_000;

/// What one look-up for attached manifests says about the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookUp {
    /// A registry answered, so everything in this place is known.
    Answered,
    /// The look-up does not show whether a registry answers for this repository.
    Unknown,
}

impl Client {
    pub(super) async fn by_api(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> (LookUp, Attached) {
        let mut found = Attached::default();
        let asked = timeout(
            self.transport.timeouts.total,
            self.referrers(repository, digest, &mut found),
        )
        .await;
        let error = match asked {
            Ok(Ok(look_up)) => return (look_up, found),
            Ok(Err(error)) => error,
            Err(_) => RegistryError::new(
                ErrorKind::TimedOut,
                format!("the referrers of `{repository}@{digest}`"),
                "there was no answer in time",
            ),
        };
        found.unavailability.push(error);
        (LookUp::Unknown, found)
    }

    pub(super) async fn by_tag(
        &self,
        repository: &Repository,
        digest: &Digest,
        via: Via,
        tag: Option<String>,
    ) -> (LookUp, Attached) {
        let mut found = Attached::default();
        let Some(tag) = tag else {
            return (LookUp::Unknown, found);
        };
        let path = format!("manifests/{tag}");
        let limit = self.transport.limits.manifest_bytes;
        let answer = self
            .get(repository, Method::GET, &path, MANIFESTS, limit)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                found.unavailability.push(error);
                return (LookUp::Unknown, found);
            }
        };
        if let Some(error) = not_from_a_registry(&answer, &path) {
            found.unsupported.push(error);
            return (LookUp::Unknown, found);
        }
        if answer.status == StatusCode::NOT_FOUND {
            return (LookUp::Answered, found);
        }
        if !answer.status.is_success() {
            found.unavailability.push(answer.failure());
            return (LookUp::Unknown, found);
        }
        // Some registries (GitLab's) read the fallback tag as the digest that it is made from, and answer with the image.
        if via == Via::FallbackTag && digest.verifies(&answer.body) {
            return (LookUp::Answered, found);
        }
        let read = match via {
            Via::FallbackTag => self.list(&mut found, &answer, via).await,
            Via::Referrers | Via::SigTag | Via::AttTag => {
                let manifest = self.read(&answer, Reference::Tag(tag)).await;
                manifest.map(|manifest| {
                    found.listing.push(AttachedManifest {
                        digest: manifest.digest.clone(),
                        likely: true,
                        via,
                        manifest: Some(manifest),
                    });
                })
            }
        };
        if let Err(error) = read {
            // The content of this tag can never be evidence. It is reported, and does not hide other evidence.
            found.cut = Some(error.to_string());
            return (LookUp::Unknown, found);
        }
        (LookUp::Answered, found)
    }

    fn has_referrers(&self, origin: &(String, String)) -> bool {
        let known = self.with_referrers.lock();
        known
            .unwrap_or_else(PoisonError::into_inner)
            .contains(origin)
    }

    fn remember_referrers(&self, origin: &(String, String)) {
        let known = self.with_referrers.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAXIMUM_HOSTS {
            known.insert(origin.clone());
        }
    }

    /// Reads the referrers API, page by page. A registry without it lists nothing, and that is not an unavailability.
    async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        found: &mut Attached,
    ) -> Result<LookUp, RegistryError> {
        let limits = self.transport.limits;
        let path = format!("referrers/{digest}");
        let mut url = self.url(repository, &path)?;
        let home = origin(&url);
        let mut bytes = 0_u64;
        for page in 0..limits.listing_pages {
            let answer = self
                .ask(
                    repository,
                    Request {
                        method: Method::GET,
                        url: url.clone(),
                        accept: media_type::OCI_INDEX,
                        access: Access::Pull,
                        conditions: &[],
                        content: None,
                        limit: limits.manifest_bytes,
                    },
                )
                .await?;
            if page == 0 {
                if let Some(error) = not_from_a_registry(&answer, &path) {
                    match self.has_referrers(&home) {
                        true => found.unavailability.push(error),
                        false => found.unsupported.push(error),
                    }
                    return Ok(LookUp::Unknown);
                }
                match answer.status {
                    StatusCode::NOT_FOUND => return Ok(LookUp::Answered),
                    StatusCode::BAD_REQUEST
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_ACCEPTABLE
                    | StatusCode::NOT_IMPLEMENTED => return Ok(LookUp::Unknown),
                    _ => {}
                }
            }
            if !answer.status.is_success() {
                return Err(answer.failure());
            }
            bytes = bytes.saturating_add(u64::try_from(answer.body.len()).unwrap_or(u64::MAX));
            if bytes > limits.listing_bytes {
                found.cut = Some(format!(
                    "`{repository}@{digest}` has a listing of more than {} bytes",
                    limits.listing_bytes
                ));
                return Ok(LookUp::Answered);
            }
            self.list(found, &answer, Via::Referrers).await?;
            self.remember_referrers(&home);
            match next_page(&answer) {
                None => return Ok(LookUp::Answered),
                Some(next) if origin(&next) == home => url = next,
                Some(next) => {
                    let why = format!("its next page is on another host (`{}`)", shown(&next));
                    return Err(RegistryError::new(ErrorKind::Denied, answer.tried, why));
                }
            }
        }
        found.cut = Some(format!(
            "`{repository}@{digest}` has a listing of more than {} pages",
            limits.listing_pages
        ));
        Ok(LookUp::Answered)
    }

    /// Adds the entries of a listing.
    async fn list(
        &self,
        found: &mut Attached,
        answer: &HttpAnswer,
        via: Via,
    ) -> Result<(), RegistryError> {
        let limit = self.transport.limits.listing_entries;
        let room = limit.saturating_sub(found.listing.len());
        let body = answer.body.clone();
        let listed = self.work(answer, move || {
            let listed = Listed::parse(&body, room)?;
            // Without this check, any JSON, such as an error message, would be an empty listing.
            let fields = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&body);
            match fields.is_ok_and(|fields| fields.contains_key("manifests")) {
                true => Ok(listed),
                false => Err("it is not an index".to_owned()),
            }
        });
        let listed = listed
            .await?
            .map_err(|why| RegistryError::new(ErrorKind::Malformed, answer.tried.clone(), why))?;
        let new = |entry: Descriptor| AttachedManifest {
            likely: entry.is_likely_evidence(),
            digest: entry.digest,
            via,
            manifest: None,
        };
        found.listing.extend(listed.entries.into_iter().map(new));
        if listed.beyond > 0 {
            found.cut = Some(format!(
                "{} lists {} entries more than the {limit} that are read",
                answer.tried, listed.beyond
            ));
        }
        if listed.unreadable > 0 && found.cut.is_none() {
            found.cut = Some(format!(
                "{} lists {} entries that cannot be understood",
                answer.tried, listed.unreadable
            ));
        }
        Ok(())
    }
}
