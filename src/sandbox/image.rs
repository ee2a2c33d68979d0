//! Images in the sandbox's registry, and what hangs on them.

use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};

use super::SandboxError;
use super::registry::Registry;
use super::signing::SimpleSignature;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Pushes an image of one layer with `content`; gives its digest.
///
/// # Errors
/// If the registry gives no sound digest.
pub fn push_image(
    registry: &Registry,
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
    put(registry, repository, Some(tag), &manifest)
}

/// Attaches a bundle to an image as cosign 3 does: as a referrer.
///
/// # Errors
/// If the registry gives no sound digest.
pub fn attach_bundle(
    registry: &Registry,
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
    put(registry, repository, None, &manifest)
}

/// Attaches signatures to an image as cosign 2 does: under the tag `sha256-….sig`.
///
/// # Errors
/// If the registry gives no sound digest.
pub fn attach_signatures(
    registry: &Registry,
    repository: &str,
    subject: &Digest,
    signatures: &[SimpleSignature],
) -> Result<Digest, SandboxError> {
    let layers: Vec<_> = signatures
        .iter()
        .map(|signature| {
            let mut layer = descriptor(registry, repository, SIMPLE_SIGNING, &signature.payload);
            if let Some(layer) = layer.as_object_mut() {
                layer.insert("annotations".to_owned(), json!(signature.annotations));
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
    let tag = format!("{}-{}.sig", subject.algorithm(), subject.hex());
    put(registry, repository, Some(&tag), &manifest)
}

fn put(
    registry: &Registry,
    repository: &str,
    tag: Option<&str>,
    manifest: &Value,
) -> Result<Digest, SandboxError> {
    registry
        .put_manifest(repository, tag, MANIFEST, manifest.to_string())
        .parse()
        .map_err(SandboxError::of)
}

fn descriptor(registry: &Registry, repository: &str, media_type: &str, bytes: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": registry.put_blob(repository, bytes.to_vec()),
        "size": bytes.len(),
    })
}
