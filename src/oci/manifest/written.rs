//! The JSON of manifests, as registries serve it, and which media types stand for it.

use std::collections::BTreeMap;

use promotion_gate_core::gate::Digest;
use promotion_gate_core::strict_json::{Fields, StrictJsonError, unambiguous};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Descriptor, DescriptorPlatform, media_type};
use crate::oci::error::excerpt;

/// The fields of manifests, indexes, descriptors and platforms (OCI image specification, `specs-go/v1`; Docker's manifest
/// schemas 1 and 2). The keys of annotations are free.
const FIELDS: Fields = Fields {
    known: &[
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "digest",
        "size",
        "urls",
        "data",
        "platform",
        "architecture",
        "os",
        "os.version",
        "os.features",
        "variant",
        "features",
        "fsLayers",
        "blobs",
        "history",
        "signatures",
    ],
    free: &["annotations"],
};

#[derive(Deserialize)]
pub(super) struct Written {
    #[serde(rename = "schemaVersion")]
    pub(super) schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    pub(super) media_type: Option<String>,
    #[serde(rename = "artifactType")]
    pub(super) artifact_type: Option<String>,
    pub(super) config: Option<WrittenDescriptor>,
    pub(super) layers: Option<Vec<WrittenDescriptor>>,
    pub(super) manifests: Option<Vec<WrittenDescriptor>>,
    pub(super) subject: Option<WrittenDescriptor>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
    history: Option<IgnoredAny>,
    signatures: Option<IgnoredAny>,
}

impl Written {
    /// What kind of manifest this is by its fields.
    pub(super) fn shape(&self) -> Result<Shape, String> {
        Ok(match (&self.manifests, &self.config, &self.layers) {
            (Some(_), None, None) => Shape::Index,
            (None, Some(_), Some(_)) => Shape::Image,
            (Some(_), _, _) => return Err("it is an index and an image at once".to_owned()),
            (None, _, _) => return Err("it is neither an image manifest nor an index".to_owned()),
        })
    }

    /// A field of Docker's schema 1. If the registry serves it as schema 1, containerd 1 replaces the whole manifest with the
    /// content of its `signatures`, without verifying them.
    pub(super) fn schema_1_field(&self) -> Option<&'static str> {
        let fields = [
            ("fsLayers", &self.fs_layers),
            ("history", &self.history),
            ("signatures", &self.signatures),
        ];
        let found = fields.into_iter().find(|(_, value)| value.is_some());
        found.map(|(field, _)| field)
    }
}

#[derive(Deserialize)]
pub(super) struct WrittenDescriptor {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<DescriptorPlatform>,
}

impl WrittenDescriptor {
    pub(super) fn descriptor(self, field: &str) -> Result<Descriptor, String> {
        let digest = self.digest.parse::<Digest>();
        let digest = digest.map_err(|_| {
            format!(
                "`{}` in `{field}` is not a digest",
                excerpt(self.digest.as_bytes())
            )
        })?;
        Ok(Descriptor {
            media_type: self.media_type,
            digest,
            size: self.size,
            artifact_type: self.artifact_type,
            annotations: self.annotations.unwrap_or_default(),
            platform: self.platform,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Image,
    Index,
}

pub(super) fn known(media_type: &str) -> Option<Shape> {
    match media_type {
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Some(Shape::Image),
        media_type::OCI_INDEX | media_type::DOCKER_LIST => Some(Shape::Index),
        _ => None,
    }
}

/// The media type, if the manifest names one; otherwise that of OCI.
pub(super) fn name_of(name: Option<String>, by_fields: Shape) -> Result<String, String> {
    Ok(match name {
        Some(name) => match known(&name) {
            Some(shape) if shape == by_fields => name,
            Some(_) => return Err(format!("its fields do not match its media type `{name}`")),
            None => {
                return Err(format!(
                    "its media type `{}` is not supported",
                    excerpt(name.as_bytes())
                ));
            }
        },
        None if by_fields == Shape::Index => media_type::OCI_INDEX.to_owned(),
        None => media_type::OCI_MANIFEST.to_owned(),
    })
}

/// A media type without its parameters.
pub(super) fn essence(content_type: &str) -> String {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// The bytes as text, if every runtime reads them in the same way.
pub(in crate::oci) fn sound(bytes: &[u8]) -> Result<&str, String> {
    unambiguous(bytes, FIELDS).map_err(|error| match error {
        StrictJsonError::Malformed(why) => {
            format!("it is not a manifest: {}", excerpt(why.as_bytes()))
        }
        other => format!("it {other}"),
    })
}

pub(super) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!(
            "it is not a manifest: {} (line {line}, column {column})",
            excerpt(plain(&error).as_bytes())
        )
    })
}

/// The message of a JSON error without its position.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}
