//! The look-up of reviews in registries, for emergency changes that were not reviewed.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use promotion_gate_core::gate::{
    EmergencyParticipants, ImageReference, ReviewSearch, Subject, UsedEmergency,
};
use tokio::time::Instant;

use super::Debts;
use crate::api::EmergencyChangeRecordSpec;
use crate::collect::Freshness;
use crate::oci::Meter;

/// How long the look-up for one record may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most images of one record whose statements are read. A review is attached to each image that it is about.
const MAXIMUM_IMAGES: usize = 20;

impl Debts {
    /// What is attached to the images of a record and reviews the emergency change, verified in full.
    ///
    /// # Errors
    /// Why no review can be verified at present.
    pub(super) async fn search(
        &self,
        spec: &EmergencyChangeRecordSpec,
    ) -> Result<ReviewSearch, String> {
        let used = used(spec)?;
        let snapshot = self.sources.snapshot();
        let needs = snapshot.emergency_review_needs(&used)?;
        let began = Instant::now();
        let mut allowance = self.collector.allowance(began + PATIENCE);
        let asked = Freshness::AskedSince(began);
        let gather = self.collector.gather(&needs, asked, &mut allowance);
        let gathered = Meter::default().count(gather).await;
        snapshot.find_emergency_review(&used, &gathered.evidence, Timestamp::now())
    }
}

/// A record as far as its review needs it.
fn used(spec: &EmergencyChangeRecordSpec) -> Result<UsedEmergency, String> {
    let images = spec.uses.iter();
    let images = images.filter_map(|used| used.image.parse::<ImageReference>().ok());
    let images = images.filter_map(|image| {
        Some(Subject {
            repository: image.repository().clone(),
            digest: image.digest()?.clone(),
        })
    });
    let images: BTreeSet<_> = images.collect();
    if images.is_empty() {
        return Err("the record names no image with a digest".to_owned());
    }
    let declaration = spec.declaration.parse();
    Ok(UsedEmergency {
        declaration: declaration.map_err(|_| "the declaration is not a digest".to_owned())?,
        environment: spec.environment.clone(),
        policies: spec.policies.clone(),
        images: images.into_iter().take(MAXIMUM_IMAGES).collect(),
        participants: EmergencyParticipants {
            declared_by: spec.declared_by.clone(),
            agreed_by: spec.approved_by.clone(),
            authors: spec.authors.clone(),
            requesters: BTreeSet::new(),
        },
        requesters: spec.requesters.clone(),
        last_used: spec.last_admitted,
    })
}
