//! Whether another version of a workload was admitted since the wait began.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use promotion_gate_core::gate::Workload;

use crate::admission;
use crate::record::{Admission, RecordsOnce};
use crate::review::Review;

/// The admissions of each workload when the wait began.
pub(super) struct Before(BTreeMap<Workload, BTreeSet<Admission>>);

impl Before {
    pub(super) fn of(workloads: &[Workload], records: &RecordsOnce) -> Before {
        let known = workloads.iter();
        let known = known.map(|workload| (workload.clone(), records.complied(workload, false)));
        Before(known.collect())
    }

    /// The first workload of which another version was admitted and complied since, as a sentence. Images that wait themselves are
    /// no other version.
    pub(super) fn superseded(&self, reviews: &[Review], records: &RecordsOnce) -> Option<String> {
        let waiting: BTreeSet<_> = reviews.iter().flat_map(images).collect();
        self.0.iter().find_map(|(workload, before)| {
            // What was never stored is no other version.
            let now = records.complied(workload, true);
            let mut since = now.difference(before);
            let (image, _, at) = since.find(|(image, ..)| !waiting.contains(image))?;
            Some(format!(
                "`{image}` was admitted to {} `{}` at {at:.0}",
                workload.kind, workload.name
            ))
        })
    }
}

/// A workload as `KIND/NAME`.
pub(super) fn workload(written: &str, namespace: &str) -> anyhow::Result<Workload> {
    let named = written.split_once('/').and_then(|(kind, name)| {
        let kinds = admission::running_kinds();
        let (group, kind) = kinds.into_iter().find(|(_, known)| *known == kind)?;
        Some((group, kind, name))
    });
    let Some((group, kind, name)) = named.filter(|(.., name)| !name.is_empty()) else {
        bail!("`--workload {written}`: expected a kind and a name, such as `Deployment/web`");
    };
    Ok(Workload {
        group: group.to_owned(),
        version: String::new(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    })
}

/// The digests of a review, and the references of images without one, as records name them.
fn images(review: &Review) -> impl Iterator<Item = String> {
    review.promotion.images().flat_map(|(image, pin)| {
        let digest = pin.digest().map(ToString::to_string);
        digest.into_iter().chain([image.reference.to_string()])
    })
}
