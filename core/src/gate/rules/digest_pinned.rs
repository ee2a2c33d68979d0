//! `digestPinned`: the manifest names digests.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ChangeKind, FromEntry, ImageInQuestion, Judgement, Need, Rule, TrustRoots};

/// **What it requires**: every image of the workload is named by digest (`name@sha256:…`, a tag beside it does no harm).
///
/// **Why**: a tag can be moved between the moment it is judged and the moment the kubelet pulls it, and again at every
/// restart. A digest cannot.
///
/// **Example**: `- digestPinned: {}`
///
/// **How to satisfy it**: write the digest that your pipeline built into the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigestPinned {}

impl FromEntry for DigestPinned {
    type Entry = DigestPinned;

    fn from_entry(entry: DigestPinned, _: &TrustRoots) -> Result<DigestPinned, String> {
        Ok(entry)
    }
}

impl Rule for DigestPinned {
    fn applies_to(&self, kind: ChangeKind) -> bool {
        match kind {
            ChangeKind::Deploy | ChangeKind::Activation => true,
            ChangeKind::Upkeep | ChangeKind::Governance => false,
        }
    }

    fn need(&self) -> Option<Need> {
        None
    }

    fn check(&self, question: &ImageInQuestion<'_>) -> Judgement {
        let reference = &question.image.reference;
        if reference.digest().is_some() {
            return Judgement::pass("pinned", "named by digest".to_owned());
        }
        let named_by = match reference.tag() {
            Some(tag) => format!("named by tag `{tag}` alone"),
            None => "named by neither tag nor digest, which means `latest`".to_owned(),
        };
        let pinned = match question.pin.digest() {
            Some(digest) => format!("write `{reference}@{digest}` if that is the image you mean"),
            None => format!("write `{reference}@sha256:…` with the digest that the pipeline built"),
        };
        Judgement::fail("not-pinned", named_by).hint(pinned)
    }
}
