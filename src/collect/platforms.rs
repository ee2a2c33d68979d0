//! Indexes: the platforms of an image, and the index that holds a platform.

use std::collections::BTreeMap;

use futures::future::join_all;
use promotion_gate_core::gate::{
    Collected, Digest, Evidence, ImageReference, Index, Platform, PlatformManifest, Promotion,
    Subject, Trouble,
};
use tokio::time::Instant;

use super::statements::{self, Unread};
use super::{Collector, resolve};
use crate::oci::{Descriptor, Manifest, ManifestKind, Repository};

/// The most manifests of an index whose evidence is read.
const MAXIMUM_PLATFORMS: usize = 64;
/// How BuildKit marks the entries that hold its attestations.
const BUILDKIT_KIND: &str = "vnd.docker.reference.type";
const BUILDKIT_ATTESTATION: &str = "attestation-manifest";

/// The platforms of an index.
pub(super) fn of(subject: &Subject, index: &Collected<Option<Index>>) -> Vec<Subject> {
    let manifests = match index {
        Collected::Known(Some(index)) => index.manifests.as_slice(),
        _ => &[],
    };
    let platform = |manifest: &PlatformManifest| Subject {
        name: subject.name.clone(),
        digest: manifest.digest.clone(),
    };
    manifests.iter().map(platform).collect()
}

pub(super) async fn index(
    collector: &Collector,
    subject: &Subject,
    deadline: Instant,
) -> Collected<Option<Index>> {
    let repository = Repository::named(&subject.name);
    match statements::manifest(collector, &repository, &subject.digest, deadline).await {
        Ok((manifest, _held)) => match index_in(&manifest) {
            Some(index) if index.manifests.len() > MAXIMUM_PLATFORMS => {
                Collected::Unavailable(Trouble(format!(
                    "the index `{subject}` holds {} manifests, more than the {MAXIMUM_PLATFORMS} that are read",
                    index.manifests.len()
                )))
            }
            index => Collected::Known(index),
        },
        Err(Unread::Trouble(trouble)) => Collected::Unavailable(trouble),
        Err(Unread::Broken(why)) => Collected::Unavailable(Trouble(why)),
    }
}

/// What of a manifest a runtime could run, where it is an index.
fn index_in(manifest: &Manifest) -> Option<Index> {
    let ManifestKind::Index { manifests, .. } = &manifest.kind else {
        return None;
    };
    let runnable = manifests.iter().filter(|entry| !is_buildkits(entry));
    let manifests = runnable.map(|entry| PlatformManifest {
        platform: entry.platform.as_ref().map(|platform| Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
        }),
        digest: entry.digest.clone(),
    });
    Some(Index {
        manifests: manifests.collect(),
    })
}

/// Exactly BuildKit's attestations are no platforms: neither an unknown platform alone nor the annotation alone is enough.
fn is_buildkits(entry: &Descriptor) -> bool {
    let unknown = entry.platform.as_ref().is_some_and(|platform| {
        (platform.os.as_str(), platform.architecture.as_str()) == ("unknown", "unknown")
    });
    let kind = entry.annotations.get(BUILDKIT_KIND);
    unknown && kind.is_some_and(|kind| kind == BUILDKIT_ATTESTATION)
}

/// Of each image that carries nothing and is named by tag and digest: the index that the tag names, where the digest is one
/// of its platforms. It only helps to say what to do, so what cannot be learned is left out.
pub(super) async fn holding(
    collector: &Collector,
    promotion: &Promotion,
    learned: &Evidence,
    deadline: Instant,
) -> BTreeMap<Subject, Digest> {
    let candidates = promotion.images().filter_map(|(image, pin)| {
        let subject = pin.subject(&image.reference)?;
        let empty = learned.about(&subject).value().is_some_and(|evidence| {
            evidence.signatures.is_empty() && evidence.statements.is_empty()
        });
        let tag = image.reference.tag()?;
        let written = format!("{}:{tag}", image.reference.name());
        let tagged = written.parse::<ImageReference>().ok()?;
        (empty && image.reference.digest().is_some()).then_some((subject, tagged))
    });
    let candidates: BTreeMap<_, _> = candidates.collect();
    let found = candidates.into_iter().map(|(subject, tagged)| async move {
        let named = resolve::tag(&*collector.registry(), &tagged, deadline).await;
        let named = named
            .value()
            .filter(|named| **named != subject.digest)?
            .clone();
        let holder = Subject {
            name: subject.name.clone(),
            digest: named.clone(),
        };
        let index = index(collector, &holder, deadline).await;
        let index = index.value().cloned().flatten()?;
        let holds = |manifest: &PlatformManifest| manifest.digest == subject.digest;
        index
            .manifests
            .iter()
            .any(holds)
            .then_some((subject, named))
    });
    join_all(found).await.into_iter().flatten().collect()
}
