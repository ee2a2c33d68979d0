//! Manifests and indexes, of OCI and of Docker (schema 2), parsed strictly: content that two readers could understand
//! differently is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use promotion_gate_core::gate::{self, Digest, Index, PlatformManifest};
use promotion_gate_core::strict_json::{Fields, StrictJsonError, unambiguous};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::error::excerpt;

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

impl Written {
    /// What kind of manifest this is by its fields.
    fn shape(&self) -> Result<Shape, String> {
        Ok(match (&self.manifests, &self.config, &self.layers) {
            (Some(_), None, None) => Shape::Index,
            (None, Some(_), Some(_)) => Shape::Image,
            (Some(_), _, _) => return Err("it is an index and an image at once".to_owned()),
            (None, _, _) => return Err("it is neither an image manifest nor an index".to_owned()),
        })
    }

    /// A field of Docker's schema 1. If the registry serves it as schema 1, containerd 1 replaces the whole manifest with the
    /// content of its `signatures`, without verifying them.
    fn schema_1_field(&self) -> Option<&'static str> {
        let fields = [
            ("fsLayers", &self.fs_layers),
            ("history", &self.history),
            ("signatures", &self.signatures),
        ];
        let found = fields.into_iter().find(|(_, value)| value.is_some());
        found.map(|(field, _)| field)
    }
}

/// The message about a manifest of schema 1, with its remedy.
const SCHEMA_1: &str = "which is not supported: push the image again with a current tool";

/// The media type, if the manifest names one; otherwise that of OCI.
fn name_of(name: Option<String>, by_fields: Shape) -> Result<String, String> {
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

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    config: Option<WrittenDescriptor>,
    layers: Option<Vec<WrittenDescriptor>>,
    manifests: Option<Vec<WrittenDescriptor>>,
    subject: Option<WrittenDescriptor>,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
    history: Option<IgnoredAny>,
    signatures: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct WrittenDescriptor {
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
    fn descriptor(self, field: &str) -> Result<Descriptor, String> {
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
enum Shape {
    Image,
    Index,
}

fn known(media_type: &str) -> Option<Shape> {
    match media_type {
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Some(Shape::Image),
        media_type::OCI_INDEX | media_type::DOCKER_LIST => Some(Shape::Index),
        _ => None,
    }
}

/// A media type without its parameters.
fn essence(content_type: &str) -> String {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// The bytes as text, if every runtime reads them in the same way.
pub(super) fn sound(bytes: &[u8]) -> Result<&str, String> {
    unambiguous(bytes, FIELDS).map_err(|error| match error {
        StrictJsonError::Malformed(why) => {
            format!("it is not a manifest: {}", excerpt(why.as_bytes()))
        }
        other => format!("it {other}"),
    })
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use promotion_gate_core::gate::Digest;

    use super::{Listed, Manifest, ManifestKind, media_type};

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(content_type: Option<&str>, text: &str) -> Result<Manifest, String> {
        let bytes = Bytes::from(text.replace("DIGEST", DIGEST));
        Manifest::parse(Digest::sha256(&bytes), content_type, bytes)
    }

    const IMAGE: &str =
        r#"{"schemaVersion":2,"config":{"mediaType":"c","digest":"DIGEST","size":0},"layers":[]}"#;
    const INDEX: &str = r#"{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"DIGEST","size":0,
        "platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}"#;

    #[test]
    fn images_and_indexes_differ_by_media_type_or_fields() {
        assert_eq!(
            parse(None, IMAGE).unwrap().media_type,
            media_type::OCI_MANIFEST
        );
        let docker = format!("{}; charset=utf-8", media_type::DOCKER_MANIFEST);
        assert_eq!(
            parse(Some(&docker), IMAGE).unwrap().media_type,
            media_type::DOCKER_MANIFEST
        );
        let index = parse(Some("application/json"), INDEX).unwrap();
        assert_eq!(index.media_type, media_type::OCI_INDEX);
        let ManifestKind::Index { manifests, .. } = index.kind else {
            panic!("not an index")
        };
        assert_eq!(
            manifests[0].platform.as_ref().unwrap().variant.as_deref(),
            Some("v7")
        );
    }

    #[test]
    fn a_manifest_that_is_an_index_as_well_is_refused() {
        let both = IMAGE.replace("\"layers\":[]", "\"layers\":[],\"manifests\":[]");
        assert!(parse(None, &both).unwrap_err().contains("at once"));
        assert!(
            parse(Some(media_type::OCI_INDEX), IMAGE)
                .unwrap_err()
                .contains("media type")
        );
        let claims = IMAGE.replace(
            "\"layers\"",
            &format!("\"mediaType\":\"{}\",\"layers\"", media_type::OCI_MANIFEST),
        );
        assert!(
            parse(Some(media_type::DOCKER_MANIFEST), &claims)
                .unwrap_err()
                .contains("its own media type")
        );
        assert!(parse(Some(media_type::OCI_MANIFEST), &claims).is_ok());
    }

    #[test]
    fn a_field_in_another_case_or_written_twice_is_refused() {
        let case = IMAGE.replace("\"layers\":[]", "\"layers\":[],\"Manifests\":[]");
        assert!(parse(None, &case).unwrap_err().contains("in another case"));
        let twice = IMAGE.replace("\"layers\":[]", "\"layers\":[],\"layers\":[]");
        assert!(parse(None, &twice).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_digest_or_platform_under_a_look_alike_key_is_refused() {
        for (honest, hostile) in [
            ("\"size\":0", "\"size\":0,\"Digest\":\"sha256:evil\""),
            ("\"size\":0", "\"size\":0,\"digest\":\"DIGEST\""),
            ("\"size\":0", "\"size\":0,\"dige\u{17f}t\":\"x\""),
            ("\"size\":0", "\"size\":0,\"Platform\":{}"),
            ("\"os\":\"linux\"", "\"os\":\"linux\",\"OS\":\"windows\""),
            (
                "\"os\":\"linux\"",
                "\"os\":\"linux\",\"o\u{17f}\":\"windows\"",
            ),
            (
                "\"variant\":\"v7\"",
                "\"variant\":\"v7\",\"Architecture\":\"amd64\"",
            ),
            ("\"manifests\":[", "\"manife\u{17f}ts\":[],\"manifests\":["),
            (
                "\"mediaType\":\"m\"",
                "\"mediaType\":\"m\",\"MediaType\":\"n\"",
            ),
        ] {
            let text = INDEX.replacen(honest, hostile, 1);
            assert_ne!(text, INDEX);
            let error = parse(None, &text).unwrap_err();
            assert!(
                error.contains("in another case") || error.contains("twice"),
                "{hostile}: {error}"
            );
        }
        let annotated = INDEX.replace(
            "\"size\":0",
            "\"size\":0,\"annotations\":{\"Digest\":\"x\",\"OS\":\"y\"}",
        );
        parse(None, &annotated).unwrap();
    }

    #[test]
    fn docker_schema_1_is_refused_with_a_remedy() {
        let schema_1 = r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#;
        for content_type in [
            None,
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ] {
            let error = parse(content_type, schema_1).unwrap_err();
            assert!(error.contains("push the image again"), "{error}");
        }
    }

    /// containerd 1 takes `formatLength` bytes and `formatTail` of the first signature for the manifest, unverified, where
    /// the registry calls the index a manifest of schema 1.
    #[test]
    fn an_index_that_is_also_a_schema_1_manifest_is_refused() {
        for field in [
            r#""signatures":[{"protected":"eyJmb3JtYXRMZW5ndGgiOjF9"}]"#,
            r#""signatures":[]"#,
            r#""fsLayers":[{"blobSum":"DIGEST"}]"#,
            r#""history":[{"v1Compatibility":"{}"}]"#,
        ] {
            let text = INDEX.replace("\"manifests\"", &format!("{field},\"manifests\""));
            let error = parse(None, &text).unwrap_err();
            assert!(error.contains("schema 1"), "{field}: {error}");
        }
        let text = INDEX.replace("\"manifests\"", "\"Signatures\":[],\"manifests\"");
        assert!(parse(None, &text).unwrap_err().contains("in another case"));
    }

    /// The entries of an index that a runtime could run, by the media types that they were given.
    fn runnable(entries: &[&str]) -> usize {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            entries.join(",")
        );
        parse(None, &text).unwrap().index().unwrap().manifests.len()
    }

    #[test]
    fn an_index_entry_of_any_media_type_is_a_platform() {
        let entries = [
            media_type::OCI_MANIFEST,
            media_type::DOCKER_MANIFEST,
            media_type::OCI_INDEX,
            media_type::DOCKER_LIST,
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            "APPLICATION/VND.OCI.IMAGE.MANIFEST.V1+JSON",
            "",
        ];
        let entries = entries.map(|name| {
            format!(r#"{{"mediaType":"{name}","digest":"DIGEST","size":0,"artifactType":"x/y"}}"#)
        });
        assert_eq!(runnable(&entries.each_ref().map(String::as_str)), 7);
        assert_eq!(runnable(&[r#"{"digest":"DIGEST","size":0}"#]), 1);
    }

    #[test]
    fn a_look_alike_of_buildkits_attestation_is_a_platform() {
        const KIND: &str = r#""vnd.docker.reference.type":"attestation-manifest""#;
        const UNKNOWN: &str = r#""os":"unknown","architecture":"unknown""#;
        let entry = |platform: &str, annotation: &str| {
            format!(
                r#"{{"digest":"DIGEST","size":0,"platform":{{{platform}}},"annotations":{{{annotation}}}}}"#
            )
        };
        assert_eq!(runnable(&[&entry(UNKNOWN, KIND)]), 0);
        for (platform, annotation) in [
            (UNKNOWN, ""),
            (
                UNKNOWN,
                r#""vnd.docker.reference.type":"Attestation-manifest""#,
            ),
            (
                UNKNOWN,
                r#""Vnd.docker.reference.type":"attestation-manifest""#,
            ),
            ("", KIND),
            (r#""os":"unknown""#, KIND),
            (r#""architecture":"unknown""#, KIND),
            (r#""os":"Unknown","architecture":"unknown""#, KIND),
            (r#""os":"unknown","architecture":"unknown ""#, KIND),
            (r#""os":"","architecture":"unknown""#, KIND),
            (r#""os":"unknown","architecture":"amd64""#, KIND),
            (r#""os":"linux","architecture":"unknown""#, KIND),
            (
                r#""os":"unknown","architecture":"unknown","variant":"v8""#,
                KIND,
            ),
            (
                r#""os":"unknown","architecture":"unknown","os.version":"1""#,
                KIND,
            ),
        ] {
            assert_eq!(
                runnable(&[&entry(platform, annotation)]),
                1,
                "{platform} {annotation}"
            );
        }
    }

    #[test]
    fn one_unreadable_entry_does_not_hide_the_others_in_a_listing() {
        let text = format!(
            r#"{{"manifests":[{{"digest":"md5:x","size":1}},7,{{"digest":"{DIGEST}","size":1}},{{"digest":"{DIGEST}","size":2}}]}}"#
        );
        let listed = Listed::parse(text.as_bytes(), 3).unwrap();
        assert_eq!(
            (listed.entries.len(), listed.unreadable, listed.beyond),
            (1, 2, 1)
        );
        assert!(
            Listed::parse(br#"{"manifests":null}"#, 3)
                .unwrap()
                .entries
                .is_empty()
        );
        assert!(Listed::parse(b"<html>", 3).is_err());
        assert!(Listed::parse("[".repeat(100_000).as_bytes(), 3).is_err());
    }
}
