//! Indexes: the platforms of an image, and the index that contains a platform.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use promotion_gate_core::gate::{
    Collected, Digest, Evidence, ImageEvidence, ImageNeeds, ImageReference, Index,
    PlatformManifest, Promotion, Subject, Unavailability,
};
use tokio::time::Instant;

use super::budget::Amounts;
use super::listing::Freshness;
use super::registry::{CachedRegistry, Unread};
use super::verify::SubjectReader;
use super::{attached, resolve};

/// The most manifests of an index whose evidence is read.
const MAXIMUM_PLATFORMS: usize = 64;
/// To explain a denial, the platforms of at most so many images are read, and at most so many platforms of each.
pub(super) const EXPLAINED: usize = 4;
pub(super) const EXPLAINED_PLATFORMS: usize = 16;

/// The platforms of an index.
pub(super) fn of(subject: &Subject, index: &Collected<Option<Index>>) -> Vec<Subject> {
    let manifests = match index {
        Collected::Known(Some(index)) => index.manifests.as_slice(),
        _ => &[],
    };
    let platform = |manifest: &PlatformManifest| Subject {
        repository: subject.repository.clone(),
        digest: manifest.digest.clone(),
    };
    manifests.iter().map(platform).collect()
}

pub(super) async fn index(
    registry: &CachedRegistry,
    subject: &Subject,
    deadline: Instant,
) -> Collected<Option<Index>> {
    let repository = &subject.repository;
    match registry
        .manifest(repository, &subject.digest, deadline)
        .await
    {
        Ok((manifest, _held)) => match manifest.index() {
            Some(index) if index.manifests.len() > MAXIMUM_PLATFORMS => {
                Collected::Unavailable(Unavailability(format!(
                    "the index `{subject}` holds {} manifests, more than the {MAXIMUM_PLATFORMS} that are read",
                    index.manifests.len()
                )))
            }
            index => Collected::Known(index),
        },
        Err(Unread::Unavailability(unavailability)) => Collected::Unavailable(unavailability),
        Err(Unread::Broken(why) | Unread::TooLarge(why)) => Collected::Known(Some(Index {
            manifests: Vec::new(),
            refused: Some(why),
        })),
    }
}

/// An index, and the evidence on its platforms.
pub(super) type PlatformEvidence = (
    Subject,
    Collected<Option<Index>>,
    Vec<(Subject, Collected<Arc<ImageEvidence>>)>,
);

/// For images without evidence whose platforms were not needed: whether they are indexes, and the evidence on their platforms.
/// This only explains a denial. A pipeline that signs platforms signs all of them, so if the first one has no evidence, the
/// others are not read.
pub(super) async fn platform_evidence(
    registry: &CachedRegistry,
    needs: &BTreeMap<Subject, ImageNeeds>,
    learned: &Evidence,
    part: Amounts,
    deadline: Instant,
) -> Vec<PlatformEvidence> {
    let lacking = needs.iter().filter(|(subject, needs)| {
        let about = learned.about(subject);
        let lacks = |evidence: &&ImageEvidence| {
            evidence.signatures.is_empty() || evidence.statements.is_empty()
        };
        !needs.platforms && about.value().is_some_and(lacks)
    });
    let found = lacking.take(EXPLAINED).map(|(subject, needs)| async move {
        let index = index(registry, subject, deadline).await;
        let manifests = match &index {
            Collected::Known(Some(index)) => index.manifests.as_slice(),
            _ => &[],
        };
        let about = manifests
            .iter()
            .take(EXPLAINED_PLATFORMS)
            .map(|manifest| async {
                let subject = Subject {
                    repository: subject.repository.clone(),
                    digest: manifest.digest.clone(),
                };
                let readers = SubjectReader::each(registry, &subject, needs, part, deadline);
                let found = attached::collect(&readers, Freshness::FromCache).await;
                (subject.clone(), found.collected)
            });
        let mut about = about.into_iter();
        let first = about.next()?.await;
        let carries = |evidence: &Arc<ImageEvidence>| {
            !(evidence.signatures.is_empty() && evidence.statements.is_empty())
        };
        if !first.1.value().is_some_and(carries) {
            return None;
        }
        let rest = join_all(about).await;
        let platforms = std::iter::once(first).chain(rest).collect();
        Some((subject.clone(), index, platforms))
    });
    join_all(found).await.into_iter().flatten().collect()
}

/// For images without evidence that are named by tag and digest: the index that the tag names, if the digest is one of its
/// platforms. This only explains a denial, so failures are ignored.
pub(super) async fn parent_indexes(
    registry: &CachedRegistry,
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
        let named = resolve::tag(&*registry.registry(), &tagged, deadline).await;
        let named = named
            .value()
            .filter(|named| **named != subject.digest)?
            .clone();
        let holder = Subject {
            repository: subject.repository.clone(),
            digest: named.clone(),
        };
        let index = index(registry, &holder, deadline).await;
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
