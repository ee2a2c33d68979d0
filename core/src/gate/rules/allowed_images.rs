//! `allowedImages`: the image's registry and repository match a pattern.

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::listed;
use super::{Class, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Rule, Scope};
use crate::gate::image::ImageReference;
use crate::gate::pattern::ImagePattern;
use crate::reason::{Reason, reasons};

/// **What it requires**: every image of the workload matches one of the patterns. Names are normalised first (`nginx` is
/// `docker.io/library/nginx`), so that another spelling cannot avoid a pattern. `*` matches within a path segment, `**`
/// across segments.
///
/// **Why**: the rule keeps out images from repositories that were not approved, without a signature. If the policy
/// enforces, the gate does not send requests to a registry for an image that this rule refuses.
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
        "The image's normalised name does not match any of the patterns.",
        "Push the image to an allowed repository, or have the repository added to the policy.";
}

impl Entry for AllowedImages {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = None;

    fn validate(&self) -> Result<(), String> {
        if self.patterns.is_empty() {
            return Err("`patterns` is empty, so no image can pass".to_owned());
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
            return Judgement::pass(ALLOWED, format!("the name matches `{pattern}`"));
        }
        let name = reference.name();
        let allowed = self.patterns.iter().map(|pattern| format!("`{pattern}`"));
        Judgement::fail(
            IMAGE_NOT_ALLOWED,
            format!("`{name}` does not match any of the allowed patterns"),
        )
        .hint(format!("allowed patterns: {}", listed(allowed, 5)))
    }
}
