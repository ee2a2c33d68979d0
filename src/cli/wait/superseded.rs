//! Whether another version of a workload was admitted since the wait began.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use promotion_gate_core::gate::Workload;

use crate::record::{Admission, RecordsOnce};
use crate::review::Review;

/// The admissions of each workload when the wait began.
pub(super) struct Before(BTreeMap<Workload, BTreeSet<Admission>>);

impl Before {
    /// What the records say. Where they could not be read when the wait `began`, what was admitted later is left out: it came since.
    pub(super) async fn of(
        workloads: &[Workload],
        records: &RecordsOnce,
        began: Option<Timestamp>,
    ) -> Before {
        let mut known = BTreeMap::new();
        for workload in workloads {
            let mut admitted = records.complied(workload, false).await;
            admitted.retain(|(.., at)| began.is_none_or(|began| *at <= began));
            known.insert(workload.clone(), admitted);
        }
        Before(known)
    }

    /// The first workload of which another version was admitted and complied since, as a sentence. Images that wait themselves are
    /// no other version.
    pub(super) async fn superseded(
        &self,
        reviews: &[Review],
        records: &RecordsOnce,
    ) -> Option<String> {
        let waiting: BTreeSet<_> = reviews.iter().flat_map(images).collect();
        for (workload, before) in &self.0 {
            // A version that was never stored does not supersede.
            let now = records.complied(workload, true).await;
            let mut since = now.difference(before);
            if let Some((image, _, at)) = since.find(|(image, ..)| !waiting.contains(image)) {
                return Some(format!(
                    "`{image}` was admitted to {} `{}` at {at:.0}",
                    workload.kind, workload.name
                ));
            }
        }
        None
    }
}

/// The digests of a review, and the references of images without one, as records name them.
fn images(review: &Review) -> impl Iterator<Item = String> {
    review.promotion.images().flat_map(|(image, pin)| {
        let digest = pin.digest().map(ToString::to_string);
        digest.into_iter().chain([image.reference.to_string()])
    })
}
