//! `digestPinned`: the manifest names digests.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Class, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Rule, Scope};
use crate::reason::{Reason, reasons};

/// **What it requires**: every image of the workload is named by digest (`name@sha256:…`, a tag beside it does no harm).
///
/// **Why**: a tag can be moved between the moment it is judged and the moment the kubelet pulls it, and again at every
/// restart. A digest cannot.
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
        "The manifest names a tag alone, which can be moved after it was judged.",
        "Write the digest into the manifest: `promotion-gate pin --write FILE` does it for every image.";
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
            return Judgement::pass(PINNED, "named by digest".to_owned());
        }
        let named_by = match reference.tag() {
            Some(tag) => format!("named by tag `{tag}` alone"),
            None => "named by neither tag nor digest, which means `latest`".to_owned(),
        };
        let pinned = match check.pin.digest() {
            Some(digest) => format!("write `{reference}@{digest}` if that is the image you mean"),
            None => format!("write `{reference}@sha256:…` with the digest that the pipeline built"),
        };
        Judgement::fail(NOT_PINNED, named_by).hint(pinned)
    }
}
