//! The platforms of an image index, and the patterns of policies over platforms.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::image::Digest;

/// An image index, reduced to the manifests that a runtime could run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The manifests, without BuildKit's attestations.
    pub manifests: Vec<PlatformManifest>,
    /// Why the index is ambiguous: a runtime could read other manifests in its bytes. The list of manifests is then empty.
    pub refused: Option<String>,
}

/// One manifest of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformManifest {
    /// The platform. Any runtime may pick an entry without a platform.
    pub platform: Option<Platform>,
    /// The digest of the manifest, or of a nested index.
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

/// A platform in a policy: `os/architecture` for every variant, or `os/architecture/variant`.
///
/// The pattern describes nodes, and matches every entry of an index that a runtime on such a node could pick. Runtimes normalise
/// the names (case, `x86_64`, `aarch64`, variants) and fall back to older variants and to 32-bit architectures, each in its own
/// way (containerd's module `platforms`; `internal/pkg/platform` of containers/image). An entry that any runtime may pick
/// matches, because an entry that does not match is not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformPattern(Platform);

impl PlatformPattern {
    /// Whether a runtime on such a node could pick this entry.
    pub fn matches(&self, manifest: &PlatformManifest) -> bool {
        let PlatformPattern(node) = self;
        manifest.platform.as_ref().is_none_or(|entry| {
            could_be_os(&node.os, &entry.os) && could_be_architecture(node, entry)
        })
    }
}

/// Whether a runtime on a node could accept an entry's operating system. An empty name means the node's own system. containerd
/// on FreeBSD and macOS also runs images for Linux.
fn could_be_os(node: &str, entry: &str) -> bool {
    let entry = normalised_os(entry);
    let runs_linux = ["freebsd", "darwin"].contains(&node);
    node == entry || !is_plain(&entry) || (runs_linux && entry == "linux")
}

fn normalised_os(os: &str) -> String {
    let lower = os.to_lowercase();
    match lower.as_str() {
        "macos" => "darwin".to_owned(),
        _ => lower,
    }
}

/// The operating systems and processor architectures that images are built for (Go's `syslist.go`, and WebAssembly's).
const SYSTEMS: [&str; 19] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasi",
    "wasip1",
    "windows",
    "zos",
];
const ARCHITECTURES: [&str; 26] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "sw64",
    "wasm",
    "wasm32",
];

/// Whether every runtime compares a name without normalising it, so that two different plain names never match.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    !name.is_empty() && name.chars().all(plain)
}

/// Architectures that one node can run, or whose names runtimes treat as equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    X86,
    Arm,
}

impl Family {
    fn of(architecture: &str) -> Option<Family> {
        let begins = |prefixes: &[&str]| {
            prefixes
                .iter()
                .any(|prefix| architecture.starts_with(prefix))
        };
        if begins(&["amd64", "x86", "x64", "386", "i386", "i486", "i586", "i686"]) {
            Some(Family::X86)
        } else if begins(&["arm", "aarch"]) {
            Some(Family::Arm)
        } else {
            None
        }
    }
}

fn could_be_architecture(node: &Platform, entry: &Platform) -> bool {
    let wanted = normalised(&node.architecture);
    let found = normalised(&entry.architecture);
    if wanted == found {
        // Some names imply a variant (`armel`), and a runtime then ignores the entry's variant.
        let own_name = entry.architecture.to_lowercase() == found;
        let variant = entry.variant.as_deref().filter(|_| own_name);
        return could_be_variant(node.variant.as_deref(), variant);
    }
    let family = Family::of(&wanted);
    let falls_back = match (wanted.as_str(), found.as_str()) {
        // A 32-bit node cannot run 64-bit images.
        ("386", "amd64") | ("arm", "arm64") => false,
        _ => family.is_some() && family == Family::of(&found),
    };
    falls_back || !is_plain(&found)
}

/// The Go name (`GOARCH`) of an architecture, from any of the names that runtimes accept.
fn normalised(architecture: &str) -> String {
    let lower = architecture.to_lowercase();
    match lower.as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "i386" => "386".to_owned(),
        "armhf" | "armel" => "arm".to_owned(),
        _ => lower,
    }
}

/// Whether a node with one variant could pick an entry with another: a node runs its own variant and older ones. Without a
/// variant in the policy, the nodes may have any variant. Some runtimes pick an entry without a variant on every node.
fn could_be_variant(node: Option<&str>, entry: Option<&str>) -> bool {
    match (node.map(version), entry.map(version)) {
        (Some(Some(node)), Some(Some(entry))) => entry <= node,
        _ => true,
    }
}

/// `v8` or `8` as (8, 0), `v8.1` as (8, 1); `None` where it is not written like that.
fn version(variant: &str) -> Option<(u32, u32)> {
    let lower = variant.to_lowercase();
    let numbers = lower.strip_prefix('v').unwrap_or(&lower);
    let (major, minor) = numbers.split_once('.').unwrap_or((numbers, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl FromStr for PlatformPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<PlatformPattern, String> {
        let parts: Vec<_> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture, variant @ ..]
                if variant.len() <= 1 && parts.iter().all(|part| is_plain(part)) =>
            {
                let variant = variant.first().map(|variant| (*variant).to_owned());
                let (os, architecture) = (normalised_os(os), normalised(architecture));
                // A mistyped name would match no entry, and the entries that it means would not be checked.
                if !SYSTEMS.contains(&os.as_str()) {
                    return Err(format!(
                        "`{text}` names the operating system `{os}`, which is not known; known are `linux`, `windows` and the others of Go's `GOOS`"
                    ));
                }
                if !ARCHITECTURES.contains(&architecture.as_str()) {
                    return Err(format!(
                        "`{text}` names the architecture `{architecture}`, which is not known; known are `amd64`, `arm64` and the others of Go's `GOARCH`"
                    ));
                }
                Ok(PlatformPattern(Platform {
                    os,
                    architecture,
                    variant,
                }))
            }
            _ => Err(format!(
                "`{text}` is not a platform; expected `os/architecture`, such as `linux/amd64`, or `os/architecture/variant`"
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

    /// Whether an entry of a platform, such as `linux/arm/v7`, could be picked on a node of another one.
    fn picked(node: &str, os: &str, architecture: &str, variant: &str) -> bool {
        let variant = Some(variant).filter(|variant| !variant.is_empty());
        let node: PlatformPattern = node.parse().unwrap();
        node.matches(&manifest(Some((os, architecture, variant))))
    }

    #[test]
    fn a_platform_under_another_name_still_matches() {
        for (node, os, architecture, variant) in [
            ("linux/amd64", "linux", "x86_64", ""),
            ("linux/amd64", "linux", "x86-64", ""),
            ("linux/amd64", "Linux", "AMD64", ""),
            ("linux/amd64", "", "amd64", ""),
            ("linux/amd64", "linux", "", ""),
            ("linux/amd64", " linux", "amd64", ""),
            ("linux/amd64", "linux", "amd64\u{0}", ""),
            ("linux/amd64", "linux", "amd64", "v3"),
            ("linux/x86_64", "linux", "amd64", ""),
            ("linux/arm64", "linux", "aarch64", "v8"),
            ("linux/arm64/v8", "linux", "arm64", ""),
            ("linux/arm64/v8", "linux", "arm64", "8"),
            ("linux/arm64/v8", "linux", "arm64", "v8.0"),
            ("linux/arm/v7", "linux", "armhf", ""),
            ("linux/arm/v6", "linux", "armel", ""),
            ("linux/arm/v6", "linux", "armel", "v9"),
            ("linux/arm/v6", "linux", "arm", ""),
            ("darwin/arm64", "macos", "arm64", ""),
            ("macos/arm64", "Darwin", "arm64", ""),
            ("linux/386", "linux", "i386", ""),
            // Go's `strings.ToLower` makes `linux` and `k` of these.
            ("linux/amd64", "l\u{130}nux", "amd64", ""),
            ("linux/arm64", "linux", "aarch64", "\u{212a}"),
        ] {
            assert!(
                picked(node, os, architecture, variant),
                "{node}: {os}/{architecture}/{variant}"
            );
        }
    }

    #[test]
    fn an_entry_that_runtimes_fall_back_to_is_never_passed_over() {
        for (node, architecture, variant) in [
            ("linux/amd64", "386", ""),
            ("linux/amd64", "i686", ""),
            ("linux/amd64/v3", "amd64", "v2"),
            ("linux/amd64/v3", "amd64", ""),
            ("linux/arm64", "arm", "v7"),
            ("linux/arm64/v8", "arm", "v5"),
            ("linux/arm64/v9", "arm64", "v8"),
            ("linux/arm/v7", "arm", "v6"),
            ("linux/arm", "arm", "v8"),
        ] {
            assert!(
                picked(node, "linux", architecture, variant),
                "{node}: {architecture}/{variant}"
            );
        }
    }

    #[test]
    fn linux_entries_match_freebsd_and_macos_as_in_containerd() {
        assert!(picked("freebsd/amd64", "linux", "x86_64", ""));
        assert!(picked("darwin/arm64", "linux", "arm64", "v8"));
        assert!(!picked("windows/amd64", "linux", "amd64", ""));
        assert!(!picked("linux/amd64", "freebsd", "amd64", ""));
    }

    #[test]
    fn an_entry_of_another_platform_is_passed_over() {
        for (node, os, architecture, variant) in [
            ("linux/amd64", "linux", "arm64", ""),
            ("linux/amd64", "linux", "s390x", ""),
            ("linux/amd64", "windows", "amd64", ""),
            ("linux/amd64", "unknown", "unknown", ""),
            ("linux/amd64/v2", "linux", "amd64", "v3"),
            ("linux/386", "linux", "amd64", ""),
            ("linux/arm", "linux", "arm64", ""),
            ("linux/arm/v6", "linux", "arm", "v7"),
            ("linux/arm64/v8", "linux", "arm64", "v9"),
            ("linux/arm64", "linux", "amd64", ""),
            ("linux/ppc64le", "linux", "ppc64", ""),
        ] {
            assert!(
                !picked(node, os, architecture, variant),
                "{node}: {os}/{architecture}/{variant}"
            );
        }
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

    #[test]
    fn a_mistyped_platform_pattern_is_refused() {
        for (text, named) in [
            ("linux/adm64", "architecture `adm64`"),
            ("linux/arm46", "architecture `arm46`"),
            ("linux/armv7", "architecture `armv7`"),
            ("linus/amd64", "operating system `linus`"),
            ("amd64/linux", "operating system `amd64`"),
        ] {
            let error = text.parse::<PlatformPattern>().unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        for text in [
            "linux/x86_64",
            "linux/aarch64",
            "linux/armhf",
            "linux/i386",
            "macos/arm64",
            "wasip1/wasm",
            "linux/loong64",
        ] {
            text.parse::<PlatformPattern>().unwrap();
        }
    }
}
