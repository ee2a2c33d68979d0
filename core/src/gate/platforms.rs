//! Whether the evidence of an index's platforms replaces the evidence of the index.

use super::evidence::{Collected, Evidence, Subject, Unavailability};
use super::finding::{Judgement, Outcome};
use super::platform::{Index, PlatformManifest};
use super::policy::Policy;
use super::rules::EVIDENCE_UNAVAILABLE;
use crate::reason::reasons;

reasons! {
    /// The reasons for the platforms of an index.
    OF_PLATFORMS:
    MANIFEST_REFUSED = "manifest-refused",
        "The image's manifest or index is ambiguous: a runtime could read it differently and run another image than the one that was checked.",
        "Build and push the image again with a current tool. This can be an attempt to run another image.";
    NO_SUCH_PLATFORM = "no-such-platform",
        "The index does not carry evidence, and does not list any of the platforms that the policy names.",
        "Build the image for one of these platforms, or sign the index.";
}

/// The platforms of an index that the policy names, as far as the index was read.
pub(super) fn platforms_of(policy: &Policy, evidence: &Evidence, index: &Subject) -> Vec<Subject> {
    let platforms = evidence.index(index);
    let platforms = platforms.value().and_then(Option::as_ref);
    let manifests = platforms.into_iter().flat_map(|it| &it.manifests);
    let matched = manifests.filter(|manifest| policy.matches_platform(manifest));
    matched
        .map(|manifest| platform_of(index, manifest))
        .collect()
}

fn platform_of(index: &Subject, manifest: &PlatformManifest) -> Subject {
    Subject {
        repository: index.repository.clone(),
        digest: manifest.digest.clone(),
    }
}

/// The judgement of an index that does not meet a requirement. `on_index` is the denial; `check` judges one platform.
pub(super) fn instead_of_index(
    policy: &Policy,
    evidence: &Evidence,
    index: &Subject,
    on_index: Judgement,
    check: impl Fn(&Subject) -> Judgement,
) -> Judgement {
    let check = |manifest: &PlatformManifest| check(&platform_of(index, manifest));
    let platforms = evidence.index(index);
    if !policy.allow_unsigned_index {
        return match platforms.value() {
            Some(Some(platforms)) => mention_platforms(index, platforms, on_index, check),
            Some(None) | None => on_index,
        };
    }
    match platforms {
        Collected::Known(None) => on_index,
        Collected::Known(Some(platforms)) => {
            let of_platforms = check_platforms(policy, &platforms, check);
            let own = evidence.about(index);
            let carries = own.value().is_some_and(|own| !own.is_empty());
            // The denial names both, so that the evidence of the index is not hidden behind that of its platforms.
            if of_platforms.outcome.denies() && (carries || on_index.outcome == Outcome::Undecided)
            {
                let detail = format!("{}; and {}", on_index.detail, of_platforms.detail);
                // Platforms that could not be read may meet the requirement, whatever else the index carries.
                let denial = match of_platforms.outcome {
                    Outcome::Undecided if on_index.outcome == Outcome::Fail => of_platforms,
                    _ => on_index,
                };
                return Judgement { detail, ..denial };
            }
            of_platforms
        }
        Collected::Partial(_, unavailabilities) => {
            platforms_unknown(unavailabilities.first().cloned().unwrap_or_default())
        }
        Collected::Unavailable(unavailability) => platforms_unknown(unavailability),
    }
}

/// Adds to the denial of an index how many of its platforms meet the requirement, as far as their evidence was read.
fn mention_platforms(
    index: &Subject,
    platforms: &Index,
    on_index: Judgement,
    check: impl Fn(&PlatformManifest) -> Judgement,
) -> Judgement {
    let all = &platforms.manifests;
    let passes = |manifest: &&PlatformManifest| check(manifest).outcome == Outcome::Pass;
    let passing = all.iter().filter(passes).count();
    if passing == 0 {
        return on_index;
    }
    Judgement {
        detail: format!(
            "{}; it is an index, and {passing} of its {} platforms meet the requirement, which counts only if the policy sets `allowUnsignedIndex: true`",
            on_index.detail,
            all.len()
        ),
        hint: Some(format!(
            "provide the evidence for the index (`{index}`), or set `allowUnsignedIndex: true` in the policy"
        ).into()),
        ..on_index
    }
}

/// Judges every entry that a runtime could pick on the platforms that the policy names. The worst judgement counts.
fn check_platforms(
    policy: &Policy,
    index: &Index,
    check: impl Fn(&PlatformManifest) -> Judgement,
) -> Judgement {
    if let Some(why) = &index.refused {
        let detail = format!("the manifest is refused: {why}");
        return Judgement::fail(MANIFEST_REFUSED, detail)
            .hint("build and push the image again with a current tool");
    }
    let matched: Vec<_> = index
        .manifests
        .iter()
        .filter(|manifest| policy.matches_platform(manifest))
        .collect();
    let judged: Vec<_> = matched
        .iter()
        .map(|manifest| (check(manifest), manifest))
        .collect();
    let warnings = judged.iter().flat_map(|(judgement, _)| &judgement.warnings);
    let warnings = warnings.cloned().collect();
    let worst = judged.into_iter().min_by_key(|(judgement, manifest)| {
        (
            judgement.outcome,
            judgement.detail.clone(),
            manifest.to_string(),
        )
    });
    match worst {
        None => Judgement::fail(
            NO_SUCH_PLATFORM,
            "the index does not carry evidence that counts, and does not list any platform that the policy names".to_owned(),
        ),
        Some((judgement, _)) if !judgement.outcome.denies() => Judgement {
            detail: format!("each of {} platforms: {}", matched.len(), judgement.detail),
            warnings,
            ..judgement
        },
        Some((judgement, manifest)) => Judgement {
            detail: format!("{manifest}: {}", judgement.detail),
            ..judgement
        },
    }
}

fn platforms_unknown(unavailability: Unavailability) -> Judgement {
    Judgement::undecided(
        EVIDENCE_UNAVAILABLE,
        format!("the index does not carry evidence that counts, and its platforms could not be read: {unavailability}"),
    )
    .hint("this is an infrastructure problem, not missing evidence; try again when the problem is solved")
}
