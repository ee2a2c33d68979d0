//! Registries: tags, manifests, blobs and what is attached to an image, read over HTTP or from a directory. Every read is
//! bounded, and all content that a digest names is verified against it.
//!
//! * [`Client`] — a registry over HTTP
//! * [`Layout`] — an OCI image layout directory
//! * [`Memory`] — images that do not need to exist, for tests of policies
//! * [`metered`] — the number of requests that something costs

mod address;
mod answer;
mod auth;
mod client;
mod connections;
mod credentials;
mod dns;
mod error;
mod evidence_repository;
pub(crate) mod fair;
mod guard;
mod layout;
mod manifest;
mod memory;
pub(crate) mod meter;
mod options;
mod push;
pub(crate) mod site;
mod transport;
pub(crate) mod web;
pub(crate) mod work;

use std::fmt;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use promotion_gate_core::gate::Digest;

pub use promotion_gate_core::gate::Repository;

pub(crate) use answer::HttpAnswer;

pub use client::Client;
pub use credentials::{CredentialEntry, CredentialsError, DockerConfig, IgnoredCredential, Secret};
pub use error::{ErrorKind, RegistryError};
pub use evidence_repository::{EvidenceRepository, WithEvidence};
pub use layout::Layout;
pub use manifest::{Descriptor, DescriptorPlatform, Manifest, ManifestKind, media_type};
pub use memory::{Layer, Memory};
pub use meter::{Meter, metered};
pub use options::{ClientOptions, Limits, RegistryOptions, Timeouts};
pub use push::{Attachment, Pushed, READ_BACK};

/// A source of images and of what is attached to them.
pub trait Registry: Send + Sync {
    /// What a tag or a digest names at this moment.
    fn resolve<'a>(
        &'a self,
        repository: &'a Repository,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Descriptor, RegistryError>>;

    /// The manifest with this digest.
    fn manifest<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, RegistryError>>;

    /// The bytes of a blob; more than `limit` bytes are an error.
    fn blob<'a>(
        &'a self,
        repository: &'a Repository,
        descriptor: &'a Descriptor,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, RegistryError>>;

    /// The manifests that are attached to a manifest in one place. An implementation without places returns all of them for the
    /// first.
    fn attached_in<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
        place: Via,
    ) -> BoxFuture<'a, Attached>;

    /// Everything that is attached to a manifest, from all places.
    fn attached<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Attached> {
        let places = Via::ALL.map(|place| self.attached_in(repository, digest, place));
        async move {
            let mut all = Attached::default();
            for part in join_all(places).await {
                all.listing.extend(part.listing);
                all.unavailability.extend(part.unavailability);
                all.unsupported.extend(part.unsupported);
                all.answered |= part.answered;
                all.cut = all.cut.or(part.cut);
            }
            // If no look-up was answered by a registry, all answers came from a login page or a portal.
            if !all.answered {
                all.unavailability.append(&mut all.unsupported);
            }
            all
        }
        .boxed()
    }

    /// Another repository that also holds evidence of the images of a repository.
    fn evidence_repository(&self, _images: &Repository) -> Option<Repository> {
        None
    }

    /// Identifies the credential for a repository without disclosing it: a key for caches.
    fn credential_id(&self, repository: &Repository) -> String;
}

/// How a manifest is named within its repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// A name that can be moved.
    Tag(String),
    /// The digest of the content.
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => f.write_str(tag),
            Reference::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// What is attached to a manifest, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// Whether a registry answered a look-up, even if nothing was found.
    pub answered: bool,
    /// The manifests that were found, by place; one manifest can be found in several places.
    pub listing: Vec<AttachedManifest>,
    /// The look-ups without an answer: there may be more than the listing shows.
    pub unavailability: Vec<RegistryError>,
    /// The look-ups that this registry does not support: something other than a registry answered them (a web page, or a host
    /// that the registry redirects to), while a registry answers other look-ups. Another attempt would give the same answer.
    /// Therefore this counts as absence if more evidence could only help, but it does not prove absence.
    pub unsupported: Vec<RegistryError>,
    /// What was left out because a limit was reached or an entry could not be understood.
    pub cut: Option<String>,
}

/// A manifest that is attached to another one.
#[derive(Clone, Debug)]
pub struct AttachedManifest {
    /// The digest of the manifest. Other fields of a listing are hints at best, and not kept.
    pub digest: Digest,
    /// Whether the place or the listing makes it likely to be evidence; such manifests are read first.
    pub likely: bool,
    /// Where it was found.
    pub via: Via,
    /// The manifest, if the look-up returned it.
    pub manifest: Option<Manifest>,
}

/// Where an attached manifest was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// The referrers API (OCI distribution specification 1.1).
    Referrers,
    /// The tag `sha256-HEX` that stands in for the referrers API.
    FallbackTag,
    /// cosign's tag `sha256-HEX.sig`.
    SigTag,
    /// cosign's tag `sha256-HEX.att`.
    AttTag,
}

impl Via {
    /// Every place.
    pub const ALL: [Via; 4] = [Via::Referrers, Via::FallbackTag, Via::SigTag, Via::AttTag];
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Via::Referrers => "referrer",
            Via::FallbackTag => "referrers tag",
            Via::SigTag => "`.sig` tag",
            Via::AttTag => "`.att` tag",
        })
    }
}

/// The tag for something attached to `digest` in a place; `None` if that tag is not possible.
fn tag_about(digest: &Digest, place: Via) -> Option<String> {
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    let legacy =
        |suffix: &str| Some(format!("{algorithm}-{hex}{suffix}")).filter(|tag| tag.len() <= 128);
    match place {
        Via::Referrers => None,
        Via::FallbackTag => Some(format!("{algorithm}-{}", hex.get(..64).unwrap_or(hex))),
        Via::SigTag => legacy(".sig"),
        Via::AttTag => legacy(".att"),
    }
}

/// Whether `name` is a possible repository name.
fn is_repository_name(name: &str) -> bool {
    let segment = |segment: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(segment.bytes().next())
            && edge(segment.bytes().last())
            && segment.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-')
            })
            && !segment.contains("..")
    };
    name.len() <= 255 && name.split('/').all(segment)
}
