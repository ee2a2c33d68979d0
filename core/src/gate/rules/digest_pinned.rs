//! `digestPinned`: the manifest names every image by digest.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Class, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Rule, Scope};
use crate::reason::{Reason, reasons};

/// **What it requires**: every image of the workload is named by digest (`name@sha256:…`). A tag beside the digest is allowed.
///
/// **Why**: a tag can be moved after the gate has judged it and before the kubelet pulls the image, and again before every
/// restart. A digest always names the same image.
///
/// **Example**: `- digestPinned: {}`
///
/// **How to satisfy it**: write the digest that your pipeline built into the manifest, or have `promotion-gate pin --write` do it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigestPinned {}

reasons! {
    OF_THIS_RULE:
    PINNED = "pinned", "The manifest names the digest.", "";
    NOT_PINNED = "not-pinned",
        "The manifest does not name a digest. A tag can be moved after the gate has judged the image.",
        "Write the digest into the manifest: `promotion-gate pin --write FILE` does this for every image.";
}

impl Entry for DigestPinned {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = None;
}

impl Rule for DigestPinned {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }
}

impl ImageRule for DigestPinned {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let reference = &check.image.reference;
        if reference.digest().is_some() {
            return Judgement::pass(PINNED, "the image is named by digest".to_owned());
        }
        let named_by = match reference.tag() {
            Some(tag) => format!("the image is named by the tag `{tag}`, without a digest"),
            None => "the image is named without a tag and without a digest, which means `latest`"
                .to_owned(),
        };
        let hint = match check.pin.digest() {
            Some(digest) => {
                format!("write `{reference}@{digest}` if this is the image that you want")
            }
            None => format!("write `{reference}@sha256:…` with the digest that the pipeline built"),
        };
        Judgement::fail(NOT_PINNED, named_by).hint(hint)
    }
}
