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

    /// The review of an environment that is overdue at an instant for the longest time, of another emergency change than this one: it blocks
    /// the next one, and not itself.
    pub fn first_besides(
        &self,
        declaration: &Digest,
        environment: &str,
        at: Timestamp,
    ) -> Option<&OverdueReview> {
        let owed = self.0.get(environment)?.iter();
        let owed = owed.filter(|review| review.declaration != *declaration);
        owed.filter(|review| review.due <= at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn review(due: i64) -> OverdueReview {
        OverdueReview {
            due: at(due),
            declaration: Digest::sha256(&due.to_be_bytes()),
            incident: "INC1".to_owned(),
            image: "registry.example/app".to_owned(),
        }
    }

    fn owed(dues: &[i64]) -> OverdueReviews {
        let reviews = dues.iter().copied().map(review).collect();
        OverdueReviews([("production".to_owned(), reviews)].into())
    }

    #[test]
    fn a_review_is_overdue_from_the_instant_on_at_which_it_is_due() {
        let (reviews, next) = (owed(&[200, 100]), Digest::sha256(b"next"));
        assert_eq!(reviews.first_besides(&next, "production", at(99)), None);
        for now in [100, 200, 300] {
            let first = reviews.first_besides(&next, "production", at(now));
            assert_eq!(first, Some(&review(100)), "{now}");
        }
        assert_eq!(reviews.first_besides(&next, "staging", at(300)), None);
    }

    #[test]
    fn an_emergency_change_is_not_blocked_by_its_own_review() {
        let own = review(100).declaration;
        let first = |dues: &[i64]| {
            let reviews = owed(dues);
            reviews
                .first_besides(&own, "production", at(300))
                .map(|review| review.due)
        };
        assert_eq!(first(&[100]), None);
        assert_eq!(first(&[100, 200]), Some(at(200)));
    }
}
