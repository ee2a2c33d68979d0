//! Platforms: what an index names for its manifests, and which of them a policy speaks of.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::image::Digest;

/// An image index, as far as it matters: everything in it that a runtime could run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its manifests, without BuildKit's attestations.
    pub manifests: Vec<PlatformManifest>,
}

/// One manifest of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformManifest {
    /// The platform; where none is named, any runtime may take it.
    pub platform: Option<Platform>,
    /// The manifest, or an index within the index.
    pub digest: Digest,
}

impl fmt::Display for PlatformManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.platform {
            Some(platform) => write!(f, "platform `{platform}` (`{}`)", self.digest),
            None => write!(f, "the entry without a platform (`{}`)", self.digest),
        }
    }
}

/// A platform (OCI image specification, "Image Index").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor architecture, such as `arm64`.
    pub architecture: String,
    /// The variant of the architecture, such as `v8`.
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// A platform as policies name it: `os/architecture`, with any variant, or `os/architecture/variant`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformPattern(Platform);

impl PlatformPattern {
    /// Whether a manifest of this platform is spoken of. One without a platform always is: a runtime may take it.
    pub fn matches(&self, manifest: &PlatformManifest) -> bool {
        manifest.platform.as_ref().is_none_or(|platform| {
            let PlatformPattern(wanted) = self;
            wanted.os == platform.os
                && wanted.architecture == platform.architecture
                && (wanted.variant.is_none() || wanted.variant == platform.variant)
        })
    }
}

impl FromStr for PlatformPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<PlatformPattern, String> {
        let parts: Vec<_> = text.split('/').collect();
        let part = |part: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
            !part.is_empty() && part.chars().all(fits)
        };
        match parts.as_slice() {
            [os, architecture, variant @ ..]
                if variant.len() <= 1 && parts.iter().all(|text| part(text)) =>
            {
                Ok(PlatformPattern(Platform {
                    os: (*os).to_owned(),
                    architecture: (*architecture).to_owned(),
                    variant: variant.first().map(|variant| (*variant).to_owned()),
                }))
            }
            _ => Err(format!(
                "`{text}` is no platform; expected `os/architecture`, such as `linux/amd64`, or `os/architecture/variant`"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for PlatformPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PlatformPattern, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for PlatformPattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PlatformPattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 3})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(platform: Option<(&str, &str, Option<&str>)>) -> PlatformManifest {
        PlatformManifest {
            platform: platform.map(|(os, architecture, variant)| Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.map(str::to_owned),
            }),
            digest: Digest::sha256(b""),
        }
    }

    #[test]
    fn a_variant_counts_only_where_it_is_named() {
        let any: PlatformPattern = "linux/arm".parse().unwrap();
        let v7: PlatformPattern = "linux/arm/v7".parse().unwrap();
        let (plain, seven, six) = (
            manifest(Some(("linux", "arm", None))),
            manifest(Some(("linux", "arm", Some("v7")))),
            manifest(Some(("linux", "arm", Some("v6")))),
        );
        assert!([&plain, &seven, &six].map(|of| any.matches(of)) == [true; 3]);
        assert!([&plain, &seven, &six].map(|of| v7.matches(of)) == [false, true, false]);
        assert!(!any.matches(&manifest(Some(("windows", "arm", None)))));
    }

    #[test]
    fn an_entry_without_a_platform_is_always_spoken_of() {
        let pattern: PlatformPattern = "linux/amd64".parse().unwrap();
        assert!(pattern.matches(&manifest(None)));
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/arm/v7/x",
            "Linux/amd64",
            "linux/*",
        ] {
            assert!(text.parse::<PlatformPattern>().is_err(), "{text}");
        }
    }
}
