//! Reviews of emergency changes that were not made. The cluster keeps them; without a cluster they are not known.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::gate::evidence::{Collected, Unavailability};
use crate::gate::image::Digest;

/// An emergency change that was used and was not reviewed. Its review is overdue from `due` on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OverdueReview {
    /// When the review is due.
    pub due: Timestamp,
    /// The digest of the statement that declares the emergency change.
    pub declaration: Digest,
    /// The id of the incident.
    pub incident: String,
    /// An image that was admitted, as commands accept it: a name with its digest.
    pub image: String,
}

/// The emergency changes of each environment that were not reviewed. Which of them are overdue depends on the time.
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

    /// The review of an environment that is overdue at an instant for the longest time.
    pub fn first_of(&self, environment: &str, at: Timestamp) -> Option<&OverdueReview> {
        let owed = self.0.get(environment)?.iter();
        owed.filter(|review| review.due <= at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_overdue_from_the_instant_on_at_which_it_is_due() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let review = |due: i64| OverdueReview {
            due: at(due),
            declaration: Digest::sha256(&due.to_be_bytes()),
            incident: "INC1".to_owned(),
            image: "registry.example/app".to_owned(),
        };
        let environment = "production".to_owned();
        let reviews = OverdueReviews([(environment, vec![review(200), review(100)])].into());
        assert_eq!(reviews.first_of("production", at(99)), None);
        for now in [100, 200, 300] {
            let first = reviews.first_of("production", at(now));
            assert_eq!(first, Some(&review(100)), "{now}");
        }
        assert_eq!(reviews.first_of("staging", at(300)), None);
    }
}
