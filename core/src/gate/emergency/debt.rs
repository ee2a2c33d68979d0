//! Reviews of emergency changes that are overdue. The cluster keeps them; without a cluster they are not known.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::gate::evidence::{Collected, Unavailability};
use crate::gate::image::Digest;

/// An emergency change that was used and was not reviewed in time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OverdueReview {
    /// When the review was due.
    pub due: Timestamp,
    /// The digest of the statement that declares the emergency change.
    pub declaration: Digest,
    /// The id of the incident.
    pub incident: String,
    /// An image that was admitted, as commands accept it: a name with its digest.
    pub image: String,
}

/// The overdue reviews of each environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverdueReviews(pub BTreeMap<String, Vec<OverdueReview>>);

/// Why they are not known where nothing keeps them.
const NOT_KEPT: &str = "which emergency changes were used is not recorded without a cluster";

impl OverdueReviews {
    /// The overdue reviews where none are kept: in a command without a cluster, and in a webhook on files.
    pub fn not_kept() -> Collected<Arc<OverdueReviews>> {
        Collected::Unavailable(Unavailability(NOT_KEPT.to_owned()))
    }

    /// Whether they are kept here, although they may be unavailable at present.
    pub fn are_kept(reviews: &Collected<Arc<OverdueReviews>>) -> bool {
        !matches!(reviews, Collected::Unavailable(why) if why.0 == NOT_KEPT)
    }

    /// The review of an environment that is overdue for the longest time.
    pub fn first_of(&self, environment: &str) -> Option<&OverdueReview> {
        self.0.get(environment)?.iter().min()
    }
}
