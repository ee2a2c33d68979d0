//! `allowedImages`: registries and repositories by pattern.

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::listed;
use super::{Class, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Rule, Scope};
use crate::gate::image::ImageReference;
use crate::gate::pattern::ImagePattern;
use crate::reason::{Reason, reasons};

/// **What it requires**: every image of the workload matches one of the patterns. Names are normalised first (`nginx` is
/// `docker.io/library/nginx`), so no look-alike slips by. `*` stays within a path segment, `**` crosses them.
///
/// **Why**: it is the cheapest way to keep images out that nobody vetted, and it keeps the gate from asking registries
/// that it has no business with.
///
/// **Example**: `- allowedImages: {patterns: ["ghcr.io/example/**", "registry.k8s.io/**"]}`
///
/// **How to satisfy it**: push the image to an allowed repository, or have the repository added to the policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedImages {
    /// Patterns over image names; an image needs to match one.
    #[schemars(length(min = 1))]
    pub patterns: Vec<ImagePattern>,
}

reasons! {
    OF_THIS_RULE:
    ALLOWED = "allowed", "The image's name matches one of the patterns.", "";
    IMAGE_NOT_ALLOWED = "image-not-allowed",
        "The image's name, normalised, matches none of the patterns.",
        "Push the image to an allowed repository, or have the repository added to the policy.";
}

impl Entry for AllowedImages {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = None;

    fn sound(&self) -> Result<(), String> {
        if self.patterns.is_empty() {
            return Err("`patterns` is empty: no image could pass".to_owned());
        }
        Ok(())
    }
}

impl Rule for AllowedImages {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn refuses_by_name(&self, image: &ImageReference) -> bool {
        !self.patterns.iter().any(|pattern| pattern.matches(image))
    }
}

impl ImageRule for AllowedImages {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let reference = &check.image.reference;
        if let Some(pattern) = self
            .patterns
            .iter()
            .find(|pattern| pattern.matches(reference))
        {
            return Judgement::pass(ALLOWED, format!("matches `{pattern}`"));
        }
        let name = reference.name();
        let allowed = self.patterns.iter().map(|pattern| format!("`{pattern}`"));
        Judgement::fail(
            IMAGE_NOT_ALLOWED,
            format!("`{name}` matches none of the allowed patterns"),
        )
        .hint(format!("allowed are {}", listed(allowed, 5)))
    }
}
