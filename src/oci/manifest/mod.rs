//! Manifests and indexes, of OCI and of Docker (schema 2), parsed strictly: content that two readers could understand
//! differently is refused.

#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeMap;

use bytes::Bytes;
use promotion_gate_core::gate::{self, Digest, Index, PlatformManifest};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::error::excerpt;
pub(super) use written::sound;
use written::{Shape, Written, WrittenDescriptor, essence, json, known, name_of};

/// Media types of manifests.
pub mod media_type {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The beginning of the media types of Docker's schema 1, which is not read.
    pub const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
}

/// The annotation and value with which BuildKit marks entries that hold its attestations.
const BUILDKIT_KIND: &str = "vnd.docker.reference.type";
const BUILDKIT_ATTESTATION: &str = "attestation-manifest";

/// A reference to content, with facts about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The artifact type, if it is given.
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
    /// The platform, in an index.
    pub platform: Option<DescriptorPlatform>,
}

/// The platform that an index names for one of its manifests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DescriptorPlatform {
    /// Empty if none is named.
    #[serde(default)]
    pub os: String,
    /// The processor; empty if none is named.
    #[serde(default)]
    pub architecture: String,
    /// The variant of the architecture.
    #[serde(default)]
    pub variant: Option<String>,
    /// The version of the operating system.
    #[serde(default, rename = "os.version")]
    pub os_version: Option<String>,
}

/// A manifest or an index, with the bytes that its digest is computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    pub media_type: String,
    /// The bytes as the registry sent them.
    pub bytes: Bytes,
    pub kind: ManifestKind,
}

/// The content of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// One image or artifact.
    Image {
        config: Box<Descriptor>,
        layers: Vec<Descriptor>,
        /// The manifest that this one is attached to.
        subject: Option<Descriptor>,
        artifact_type: Option<String>,
        annotations: BTreeMap<String, String>,
    },
    /// Several manifests under one name, such as one for each platform.
    Index {
        manifests: Vec<Descriptor>,
        /// The manifest that this one is attached to.
        subject: Option<Descriptor>,
        artifact_type: Option<String>,
        annotations: BTreeMap<String, String>,
    },
}

/// The entries of an index that lists attached manifests. An entry that cannot be understood does not hide the others.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) entries: Vec<Descriptor>,
    pub(super) unreadable: usize,
    /// The number of entries past the limit.
    pub(super) beyond: usize,
}

/// The message about a manifest of schema 1, with its remedy.
const SCHEMA_1: &str = "which is not supported: push the image again with a current tool";

impl Descriptor {
    /// Whether a listing calls it a Sigstore bundle or an attachment of cosign.
    pub(super) fn is_likely_evidence(&self) -> bool {
        let of_cosign = [
            "application/vnd.dev.sigstore.",
            "application/vnd.dev.cosign.",
        ];
        let kind = self.artifact_type.as_deref().unwrap_or_default();
        of_cosign.iter().any(|prefix| kind.starts_with(prefix))
    }

    /// Whether this is exactly an attestation of BuildKit: the unknown platform or the annotation alone is not enough.
    fn is_buildkit_attestation(&self) -> bool {
        let unknown = DescriptorPlatform {
            os: "unknown".to_owned(),
            architecture: "unknown".to_owned(),
            variant: None,
            os_version: None,
        };
        let kind = self.annotations.get(BUILDKIT_KIND);
        self.platform.as_ref() == Some(&unknown)
            && kind.is_some_and(|kind| kind == BUILDKIT_ATTESTATION)
    }

    /// The approximate size in memory, in bytes.
    fn weight(&self) -> usize {
        let texts = [Some(&self.media_type), self.artifact_type.as_ref()];
        let texts = texts.into_iter().flatten().map(String::len);
        let platform = self.platform.iter().map(|platform| {
            let optional = [&platform.variant, &platform.os_version];
            let optional = optional.into_iter().flatten().map(String::len);
            platform.os.len() + platform.architecture.len() + optional.sum::<usize>()
        });
        let texts = texts.chain(platform).sum::<usize>();
        size_of_val(self) + ALLOCATED + texts + weight_of(&self.annotations)
    }
}

/// The overhead of a small allocation, in bytes.
const ALLOCATED: usize = 128;

/// The approximate size of annotations in memory, in bytes.
fn weight_of(annotations: &BTreeMap<String, String>) -> usize {
    let each = annotations.iter();
    each.map(|(key, value)| ALLOCATED + key.len() + value.len())
        .sum()
}

impl Manifest {
    /// A copy with its own bytes, for the cache: the original shares its buffer with an answer for which room is reserved.
    pub fn copied(&self) -> Manifest {
        Manifest {
            bytes: Bytes::copy_from_slice(&self.bytes),
            ..self.clone()
        }
    }

    /// The approximate size in memory, parsed and as bytes.
    pub fn weight(&self) -> usize {
        let (config, others, subject) = match &self.kind {
            ManifestKind::Image {
                config,
                layers,
                subject,
                ..
            } => (Some(&**config), layers, subject),
            ManifestKind::Index {
                manifests, subject, ..
            } => (None, manifests, subject),
        };
        // The artifact type and annotations of a descriptor are those of its manifest.
        let own = self.bytes.len() + self.descriptor().weight();
        let others = others.iter().chain(subject).chain(config);
        own + others.map(Descriptor::weight).sum::<usize>()
    }

    /// Parses verified bytes. `content_type` is the registry's `Content-Type`, if it sent one.
    ///
    /// # Errors
    /// What is wrong with the bytes, as a sentence.
    pub fn parse(
        digest: Digest,
        content_type: Option<&str>,
        bytes: Bytes,
    ) -> Result<Manifest, String> {
        let written: Written = json(sound(&bytes)?.as_bytes())?;
        let said = content_type
            .map(essence)
            .filter(|said| known(said).is_some());
        let media_type = written.media_type.as_deref();
        let names = [media_type, content_type].into_iter().flatten();
        if names
            .into_iter()
            .any(|name| name.starts_with(media_type::DOCKER_SCHEMA_1))
        {
            return Err(format!("it is a Docker schema 1 manifest, {SCHEMA_1}"));
        }
        if let Some(field) = written.schema_1_field() {
            return Err(format!(
                "its field `{field}` makes it a Docker schema 1 manifest for some runtimes, {SCHEMA_1}"
            ));
        }
        if written.schema_version != Some(2) {
            return Err("it is not a manifest of schema version 2".to_owned());
        }
        if let (Some(said), Some(inside)) = (&said, media_type)
            && said != inside
        {
            return Err(format!(
                "the registry serves it as `{said}`, but its own media type is `{}`",
                excerpt(inside.as_bytes())
            ));
        }
        let by_fields = written.shape()?;
        let name = media_type.map(str::to_owned).or(said);
        let name = name_of(name, by_fields)?;
        let subject = written
            .subject
            .map(|subject| subject.descriptor("subject"))
            .transpose()?;
        let descriptors =
            |list: Option<Vec<WrittenDescriptor>>, what: &str| -> Result<Vec<_>, String> {
                list.unwrap_or_default()
                    .into_iter()
                    .map(|entry| entry.descriptor(what))
                    .collect()
            };
        let annotations = written.annotations.unwrap_or_default();
        let artifact_type = written.artifact_type;
        let kind = match (by_fields, written.config) {
            (Shape::Image, Some(config)) => ManifestKind::Image {
                config: Box::new(config.descriptor("config")?),
                layers: descriptors(written.layers, "layers")?,
                subject,
                artifact_type,
                annotations,
            },
            _ => {
                let manifests = descriptors(written.manifests, "manifests")?;
                ManifestKind::Index {
                    manifests,
                    subject,
                    artifact_type,
                    annotations,
                }
            }
        };
        Ok(Manifest {
            digest,
            media_type: name,
            bytes,
            kind,
        })
    }

    /// The entries of an index that a runtime could run. A nested index is one entry: evidence about its digest covers all that
    /// it holds. The media type of an entry is ignored, because CRI-O ignores it.
    pub fn index(&self) -> Option<Index> {
        let ManifestKind::Index { manifests, .. } = &self.kind else {
            return None;
        };
        let runnable = manifests
            .iter()
            .filter(|entry| !entry.is_buildkit_attestation());
        let manifests = runnable.map(|entry| PlatformManifest {
            platform: entry.platform.as_ref().map(|platform| gate::Platform {
                os: platform.os.clone(),
                architecture: platform.architecture.clone(),
                variant: platform.variant.clone(),
            }),
            digest: entry.digest.clone(),
        });
        Some(Index {
            manifests: manifests.collect(),
            refused: None,
        })
    }

    /// The manifest that this one is attached to.
    pub fn subject(&self) -> Option<&Descriptor> {
        match &self.kind {
            ManifestKind::Image { subject, .. } | ManifestKind::Index { subject, .. } => {
                subject.as_ref()
            }
        }
    }

    /// A descriptor of this manifest.
    pub fn descriptor(&self) -> Descriptor {
        let (artifact_type, annotations) = match &self.kind {
            ManifestKind::Image {
                artifact_type,
                annotations,
                ..
            }
            | ManifestKind::Index {
                artifact_type,
                annotations,
                ..
            } => (artifact_type, annotations),
        };
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: u64::try_from(self.bytes.len()).unwrap_or(u64::MAX),
            artifact_type: artifact_type.clone(),
            annotations: annotations.clone(),
            platform: None,
        }
    }
}

impl Listed {
    /// The first `limit` entries of an index.
    pub(super) fn parse(bytes: &[u8], limit: usize) -> Result<Listed, String> {
        #[derive(Deserialize)]
        struct Index<'a> {
            // Go writes an empty list as `null`.
            #[serde(borrow, default)]
            manifests: Option<Vec<&'a RawValue>>,
            #[serde(default)]
            layers: Option<IgnoredAny>,
        }
        let index: Index<'_> = json(bytes)?;
        if index.layers.is_some() {
            return Err("it is not an index".to_owned());
        }
        let entries = index.manifests.unwrap_or_default();
        let mut listed = Listed {
            beyond: entries.len().saturating_sub(limit),
            ..Listed::default()
        };
        for entry in entries.into_iter().take(limit) {
            let read = serde_json::from_str::<WrittenDescriptor>(entry.get()).ok();
            match read.and_then(|written| written.descriptor("manifests").ok()) {
                Some(descriptor) => listed.entries.push(descriptor),
                None => listed.unreadable += 1,
            }
        }
        Ok(listed)
    }
}
