//! Images in the sandbox's registry, and what is attached to them.

use promotion_gate_core::attest::media_type::{BUNDLE, ENVELOPE, SIMPLE_SIGNING};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use super::SandboxError;
use super::registry::SandboxRegistry;
use super::signing::SimpleSignature;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Pushes an image with one layer that holds `content`. Returns its digest.
///
/// # Errors
/// If the registry gives no sound digest.
pub fn push_image(
    registry: &SandboxRegistry,
    repository: &str,
    tag: &str,
    content: &str,
) -> Result<Digest, SandboxError> {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(content.as_bytes()).to_string()]},
    });
    let config = descriptor(registry, repository, CONFIG, config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [descriptor(registry, repository, LAYER, content.as_bytes())],
    });
    put(registry, repository, Some(tag), MANIFEST, &manifest)
}

/// Attaches a bundle to an image as cosign 3 does: as a referrer.
///
/// # Errors
/// If the registry gives no sound digest.
pub fn attach_bundle(
    registry: &SandboxRegistry,
    repository: &str,
    subject: &Digest,
    bundle: &Value,
) -> Result<Digest, SandboxError> {
    let layer = descriptor(registry, repository, BUNDLE, bundle.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": descriptor(registry, repository, EMPTY, b"{}"),
        "layers": [layer],
        "subject": {"mediaType": MANIFEST, "digest": subject.to_string(), "size": 0},
        "annotations": {"dev.sigstore.bundle.content": "dsse-envelope"},
    });
    put(registry, repository, None, MANIFEST, &manifest)
}

/// Attaches signatures to an image as cosign 2 does: under the tag `sha256-….sig`.
///
/// # Errors
/// If the registry gives no sound digest.
pub fn attach_signatures(
    registry: &SandboxRegistry,
    repository: &str,
    subject: &Digest,
    signatures: &[SimpleSignature],
) -> Result<Digest, SandboxError> {
    attach_layers(
        registry,
        repository,
        subject,
        (".sig", SIMPLE_SIGNING),
        signatures,
    )
}

/// Attaches attestations to an image as cosign 2 does: under the tag `sha256-….att`.
///
/// # Errors
/// If the registry gives no sound digest.
pub fn attach_attestations(
    registry: &SandboxRegistry,
    repository: &str,
    subject: &Digest,
    attestations: &[SimpleSignature],
) -> Result<Digest, SandboxError> {
    attach_layers(
        registry,
        repository,
        subject,
        (".att", ENVELOPE),
        attestations,
    )
}

fn attach_layers(
    registry: &SandboxRegistry,
    repository: &str,
    subject: &Digest,
    (suffix, media_type): (&str, &str),
    layers: &[SimpleSignature],
) -> Result<Digest, SandboxError> {
    let layers: Vec<_> = layers
        .iter()
        .map(|signed| {
            let mut layer = descriptor(registry, repository, media_type, &signed.payload);
            if let Some(layer) = layer.as_object_mut() {
                layer.insert("annotations".to_owned(), json!(signed.annotations));
            }
            layer
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(registry, repository, CONFIG, b"{}"),
        "layers": layers,
    });
    let tag = format!("{}-{}{suffix}", subject.algorithm(), subject.hex());
    put(registry, repository, Some(&tag), MANIFEST, &manifest)
}

/// Pushes an index of these manifests, each with its platform as `os/architecture`, or without one.
///
/// # Errors
/// If the registry gives no sound digest.
pub fn push_index(
    registry: &SandboxRegistry,
    repository: &str,
    tag: &str,
    manifests: &[(Option<&str>, &Digest)],
) -> Result<Digest, SandboxError> {
    let entries = manifests.iter().map(|(platform, digest)| {
        let mut entry = json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": 0});
        let platform = platform.and_then(|platform| platform.split_once('/'));
        if let (Some(entry), Some((os, architecture))) = (entry.as_object_mut(), platform) {
            let platform = json!({"os": os, "architecture": architecture});
            entry.insert("platform".to_owned(), platform);
        }
        entry
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": entries.collect::<Vec<_>>(),
    });
    put(registry, repository, Some(tag), INDEX, &index)
}

fn put(
    registry: &SandboxRegistry,
    repository: &str,
    tag: Option<&str>,
    media_type: &str,
    manifest: &Value,
) -> Result<Digest, SandboxError> {
    registry
        .put_manifest(repository, tag, media_type, manifest.to_string())
        .parse()
        .map_err(SandboxError::of)
}

fn descriptor(
    registry: &SandboxRegistry,
    repository: &str,
    media_type: &str,
    bytes: &[u8],
) -> Value {
    json!({
        "mediaType": media_type,
        "digest": registry.put_blob(repository, bytes.to_vec()),
        "size": bytes.len(),
    })
}
