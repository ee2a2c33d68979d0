//! By what facts are cached and remembered, and how much an entry weighs.

use std::collections::BTreeMap;

use promotion_gate_core::attest::{Anchor, AnchorId};
use promotion_gate_core::gate::Digest;

/// What evidence is verified under.
pub(super) type Anchors = BTreeMap<AnchorId, Anchor>;

/// A piece of evidence as it was fetched, and the subject that it must be about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PieceKey {
    pub(super) blob: Digest,
    pub(super) media_type: String,
    /// Of the layer's annotations: in old formats, they are part of the material.
    pub(super) annotations: Digest,
    pub(super) subject: Digest,
}

/// What a fact was verified from, and under which anchor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FactKey {
    pub(super) piece: PieceKey,
    pub(super) anchor: AnchorId,
}

/// A piece, and the ring of keys among which its signer was looked for.
pub(super) type SignerKey = (PieceKey, Digest);

/// The overhead of an entry, in bytes.
pub(super) const ENTRY: usize = 512;
pub(super) fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes.saturating_add(ENTRY)).unwrap_or(u32::MAX)
}
