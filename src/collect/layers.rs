//! An attached manifest → its layers that are evidence, and its other content by what its media types say.

use promotion_gate_core::attest::UnacceptedReason;
use promotion_gate_core::attest::unaccepted::FORMAT_NOT_SUPPORTED;
use promotion_gate_core::gate::{EvidenceSource, Form, UnacceptedEvidence};

use super::verify::is_evidence;
use crate::oci::{Descriptor, Manifest, ManifestKind, Via};
use crate::text::line;

/// The media type of an empty configuration.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The most unread layers of one manifest that are reported by name.
const MAXIMUM_UNKNOWN: usize = 4;

/// The layers of an attached manifest.
pub(super) struct Layers {
    /// The layers with evidence that are read.
    pub(super) evidence: Vec<Descriptor>,
    /// The number of layers past the limit.
    pub(super) more: usize,
    /// Layers in forms that are not read.
    pub(super) unknown: Vec<Unknown>,
}

/// A part of an attached manifest that is not read.
pub(super) enum Unknown {
    /// Evidence in a form that is not supported.
    Refused(UnacceptedEvidence),
    /// Not evidence by its declared type.
    Other(String),
}

/// The layers of a manifest that are evidence, up to `limit`, and its other content. Content that is not evidence (an SBOM, a
/// build cache) is counted by type.
pub(super) fn layers_of(
    manifest: &Manifest,
    source: &EvidenceSource,
    via: Via,
    limit: usize,
) -> Layers {
    let layers = match &manifest.kind {
        ManifestKind::Image { layers, .. } => layers.as_slice(),
        ManifestKind::Index { .. } => &[],
    };
    let of_evidence = |layer: &&Descriptor| is_evidence(&layer.media_type);
    let evidence: Vec<_> = layers
        .iter()
        .filter(of_evidence)
        .take(limit)
        .cloned()
        .collect();
    Layers {
        more: layers.iter().filter(of_evidence).count() - evidence.len(),
        evidence,
        unknown: unknown(source, via, manifest),
    }
}

/// The parts of an attached manifest in forms that are not read. A part is refused if its media type or place declares it as
/// evidence; otherwise it is counted by type.
fn unknown(source: &EvidenceSource, via: Via, manifest: &Manifest) -> Vec<Unknown> {
    let refused = |form: Form, kind: &str| {
        let detail = format!("`{}` is not a supported form of evidence", printable(kind));
        Unknown::Refused(UnacceptedEvidence {
            source: source.clone(),
            form,
            why: UnacceptedReason::new(FORMAT_NOT_SUPPORTED, detail),
        })
    };
    let (artifact_type, config, layers) = match &manifest.kind {
        ManifestKind::Image {
            artifact_type,
            config,
            layers,
            ..
        } => (artifact_type, &config.media_type, layers.as_slice()),
        ManifestKind::Index { artifact_type, .. } => (artifact_type, &manifest.media_type, &[][..]),
    };
    let kinds = layers.iter().map(|layer| layer.media_type.as_str());
    let (read, rest): (Vec<_>, Vec<_>) = kinds.partition(|kind| is_evidence(kind));
    let called: Vec<_> = rest
        .iter()
        .filter_map(|kind| Some(refused(form_by_name(kind)?, kind)))
        .take(MAXIMUM_UNKNOWN)
        .collect();
    if !read.is_empty() || !called.is_empty() {
        return called;
    }
    let kinds = artifact_type.iter().map(String::as_str);
    let kinds = kinds.chain([config.as_str()]).chain(rest);
    let kinds: Vec<_> = kinds.filter(|kind| !kind.is_empty()).collect();
    let by_name = kinds
        .iter()
        .find_map(|kind| Some(refused(form_by_name(kind)?, kind)));
    let kind = kinds.iter().find(|kind| **kind != EMPTY).unwrap_or(&EMPTY);
    let by_place = match via {
        Via::SigTag => Some(Form::Signature),
        Via::AttTag => Some(Form::Statement),
        Via::Referrers | Via::FallbackTag => None,
    };
    let by_place = by_place.map(|form| refused(form, kind));
    vec![
        by_name
            .or(by_place)
            .unwrap_or_else(|| Unknown::Other(printable(kind))),
    ]
}

/// The form of evidence that the name of an unsupported media type suggests: Notation's signatures, bundles and envelopes under
/// other names, and any type that names signatures or provenance.
fn form_by_name(media_type: &str) -> Option<Form> {
    let name = media_type.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if says(&["sbom", "spdx", "cyclonedx"]) {
        return None;
    }
    if says(&[
        "in-toto",
        "intoto",
        "dsse",
        "slsa",
        "provenance",
        "attestation",
    ]) {
        return Some(Form::Statement);
    }
    if says(&[
        "signature",
        "simplesigning",
        "notary",
        "/jose",
        "/cose",
        "pkcs7",
        "pgp",
    ]) {
        return Some(Form::Signature);
    }
    says(&["sigstore", "cosign", "bundle"]).then_some(Form::Either)
}

/// A media type that is safe to print.
fn printable(media_type: &str) -> String {
    line(media_type).chars().take(100).collect()
}
