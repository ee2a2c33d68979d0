//! All that was learned for one review. Absence is knowledge; ignorance is not, and has a type of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::attest::{Unaccepted, VerifiedSignature, VerifiedStatement};

use super::image::Digest;

/// What could be learned about something that had to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collected<T> {
    /// Everything there is.
    Known(T),
    /// Some of it, and what was cut off or could not be read.
    Partial(T, Vec<Trouble>),
    /// Nothing: it could not be asked.
    Unavailable(Trouble),
}

impl<T> Collected<T> {
    /// What is there, complete or not.
    pub fn value(&self) -> Option<&T> {
        match self {
            Collected::Known(value) | Collected::Partial(value, _) => Some(value),
            Collected::Unavailable(_) => None,
        }
    }

    /// What could not be learned; empty when everything is known.
    pub fn troubles(&self) -> &[Trouble] {
        match self {
            Collected::Known(_) => &[],
            Collected::Partial(_, troubles) => troubles,
            Collected::Unavailable(trouble) => std::slice::from_ref(trouble),
        }
    }
}

/// Why something could not be learned, as a sentence that names whom was asked and what was tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble(pub String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What evidence is about: a digest within a repository. The same digest elsewhere may carry other evidence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Registry and repository, such as `ghcr.io/example/app`.
    pub name: String,
    /// The digest of the image or index.
    pub digest: Digest,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.digest)
    }
}

/// Everything collected for one review.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Per image what is attached to it and was verified. A subject that is missing here was never asked for.
    pub images: BTreeMap<Subject, Collected<ImageEvidence>>,
}

impl Evidence {
    /// What is known about a subject; one that was never asked for is unavailable, not empty.
    pub fn about(&self, subject: &Subject) -> Collected<&ImageEvidence> {
        match self.images.get(subject) {
            Some(Collected::Known(evidence)) => Collected::Known(evidence),
            Some(Collected::Partial(evidence, troubles)) => {
                Collected::Partial(evidence, troubles.clone())
            }
            Some(Collected::Unavailable(trouble)) => Collected::Unavailable(trouble.clone()),
            None => {
                Collected::Unavailable(Trouble(format!("no evidence of `{subject}` was asked for")))
            }
        }
    }
}

/// What is attached to one image: verified facts, and what was present but not accepted.
#[derive(Clone, Debug, Default)]
pub struct ImageEvidence {
    /// Verified signatures, each with where it was found.
    pub signatures: Vec<(Source, Arc<VerifiedSignature>)>,
    /// Verified statements, each with where it was found.
    pub statements: Vec<(Source, Arc<VerifiedStatement>)>,
    /// Present, but accepted under none of the anchors asked for.
    pub unaccepted: Vec<(Source, Unaccepted)>,
}

/// Where a piece of evidence was found, such as ``referrer `sha256:…` ``.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(pub String);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
