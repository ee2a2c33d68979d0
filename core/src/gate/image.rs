//! Image references, digests and image patterns, parsed and normalised like `distribution/reference`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256, Sha512};

use super::glob::Glob;

/// A content digest (OCI image specification, "Digests"): an algorithm that we can compute, and its value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// Why a string is not a digest that can be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits")]
pub struct DigestError(pub String);

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest {
            algorithm: Algorithm::Sha256,
            hex: hex::encode(Sha256::digest(bytes)),
        }
    }

    /// `sha256`, `sha384` or `sha512`.
    pub fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The value, in lower-case hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Whether `bytes` have this digest.
    pub fn verifies(&self, bytes: &[u8]) -> bool {
        let actual = match self.algorithm {
            Algorithm::Sha256 => hex::encode(Sha256::digest(bytes)),
            Algorithm::Sha384 => hex::encode(sha2::Sha384::digest(bytes)),
            Algorithm::Sha512 => hex::encode(Sha512::digest(bytes)),
        };
        actual == self.hex
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let refused = || DigestError(text.chars().take(200).collect());
        let (algorithm, value) = text.split_once(':').ok_or_else(refused)?;
        let (algorithm, length) = match algorithm {
            "sha256" => (Algorithm::Sha256, 64),
            "sha384" => (Algorithm::Sha384, 96),
            "sha512" => (Algorithm::Sha512, 128),
            _ => return Err(refused()),
        };
        let lower_hex = value
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if value.len() != length || !lower_hex {
            return Err(refused());
        }
        Ok(Digest {
            algorithm,
            hex: value.to_owned(),
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// An image reference, as written and normalised (`nginx` is `docker.io/library/nginx`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    written: String,
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{written}` is not an image reference: {why}")]
pub struct ReferenceError {
    /// The string, cut to 200 characters.
    pub written: String,
    /// What is wrong with it.
    pub why: String,
}

impl ImageReference {
    /// The string as it stands in the manifest.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// The registry's host and port, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, such as `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Registry and repository: `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag, where one is written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one is written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

/// The normal form: `docker.io/library/nginx:latest`, `…@sha256:…`; a missing tag is `latest` unless a digest is given.
impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            (Some(tag), _) => write!(f, ":{tag}")?,
            (None, None) => write!(f, ":latest")?,
            (None, Some(_)) => {}
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The longest reference that is parsed, in bytes.
const MAXIMUM_REFERENCE: usize = 1024;
/// The longest repository name, in bytes (`distribution/reference`: `RepositoryNameTotalLengthMax`).
const MAXIMUM_NAME: usize = 255;
/// The registry of names without one.
const DOCKER_HUB: &str = "docker.io";

impl FromStr for ImageReference {
    type Err = ReferenceError;

    /// As `ParseDockerRef` of `distribution/reference`: grammar, then normalisation.
    fn from_str(written: &str) -> Result<ImageReference, ReferenceError> {
        let refused = |why: &str| ReferenceError {
            written: written.chars().take(200).collect(),
            why: why.to_owned(),
        };
        if written.is_empty() {
            return Err(refused("it is empty"));
        }
        if written.len() > MAXIMUM_REFERENCE {
            return Err(refused("it is longer than 1024 bytes"));
        }
        if written.len() == 64 && is_lower_hex(written) {
            return Err(refused(
                "64 hexadecimal digits are an image id, not a reference",
            ));
        }
        let (rest, digest) = match written.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse::<Digest>()
                    .map_err(|error| refused(&error.to_string()))?;
                (rest, Some(digest))
            }
            None => (written, None),
        };
        let (registry, remainder) = split_registry(rest);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refused("the repository name has upper-case letters"));
        }
        if registry != DOCKER_HUB && !is_registry(&registry) {
            return Err(refused("the registry is not a host name"));
        }
        if !path.split('/').all(is_path_component) {
            return Err(refused(
                "a part of the repository name is not made of lower-case letters, digits and single separators",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refused(
                "the tag is not made of letters, digits, `_`, `.` and `-`, 128 at most",
            ));
        }
        let repository = if registry == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + 1 + repository.len() > MAXIMUM_NAME {
            return Err(refused("the name is longer than 255 bytes"));
        }
        Ok(ImageReference {
            written: written.to_owned(),
            registry,
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// The registry, and what follows it (`splitDockerDomain` of `distribution/reference`).
fn split_registry(name: &str) -> (String, &str) {
    let (first, rest) = match name.split_once('/') {
        Some((first, rest)) if is_domain_like(first) => (first, rest),
        Some(_) | None => return (DOCKER_HUB.to_owned(), name),
    };
    let registry = if first == "index.docker.io" {
        DOCKER_HUB
    } else {
        first
    };
    (registry.to_owned(), rest)
}

fn is_domain_like(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first
}

/// A host name or bracketed IPv6 address, and a port where there is one.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) if !address.is_empty() => {
                let hex = address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                if !hex {
                    return false;
                }
                (None, after)
            }
            _ => return false,
        },
        None => match text.find(':') {
            Some(at) => (text.get(..at), text.get(at..).unwrap_or_default()),
            None => (Some(text), ""),
        },
    };
    let host_is_good = host.is_none_or(|host| host.split('.').all(is_domain_component));
    let port_is_good = match port.strip_prefix(':') {
        Some(port) => !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    host_is_good && port_is_good
}

fn is_domain_component(text: &str) -> bool {
    let alphanumeric = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric());
    alphanumeric(text.bytes().next())
        && alphanumeric(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Lower-case letters and digits, separated by `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let is_word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| is_word(b)).count();
        if word == 0 {
            return false;
        }
        rest = rest.get(word..).unwrap_or_default();
        let separator = rest.iter().take_while(|b| !is_word(b)).count();
        match rest.get(..separator).unwrap_or_default() {
            [] => return rest.is_empty(),
            b"." | b"_" | b"__" => {}
            dashes if dashes.iter().all(|b| *b == b'-') => {}
            _ => return false,
        }
        rest = rest.get(separator..).unwrap_or_default();
    }
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A pattern over normalised image names (registry and repository): `*` stays within a path segment, `**` crosses them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePattern {
    written: String,
    glob: Glob,
}

/// Why a string is not an image pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{written}` is not an image pattern: {why}")]
pub struct PatternError {
    /// The pattern as written, cut to 200 characters.
    pub written: String,
    /// What is wrong with it.
    pub why: String,
}

impl ImagePattern {
    /// Parses a pattern; one without a registry is of Docker Hub, as an image would be. `**` alone is every image.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(written: &str) -> Result<ImagePattern, PatternError> {
        let refused = |why: String| PatternError {
            written: written.chars().take(200).collect(),
            why,
        };
        if written.contains('@') {
            return Err(refused(
                "it names a digest, but patterns are over names; use `digestPinned` for digests"
                    .to_owned(),
            ));
        }
        if written
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':') && written.contains('/'))
            || (!written.contains('/') && written.contains(':'))
        {
            return Err(refused(
                "it names a tag, but patterns are over names; leave the tag out".to_owned(),
            ));
        }
        if written.starts_with("**") {
            if written != "**" {
                return Err(refused(
                    "it begins with `**`, which look-alike registries match too; begin with the registry, or write `**` alone"
                        .to_owned(),
                ));
            }
            return Glob::parse(written)
                .map(|glob| ImagePattern {
                    written: written.to_owned(),
                    glob,
                })
                .map_err(|error| refused(error.to_string()));
        }
        if written.split('/').any(str::is_empty) {
            return Err(refused("a part of the name is empty".to_owned()));
        }
        let (registry, rest) = split_registry(written);
        let mut name = match (registry.as_str(), rest.contains('/')) {
            (DOCKER_HUB, false) if rest != "**" => format!("{DOCKER_HUB}/library/{rest}"),
            _ => format!("{registry}/{rest}"),
        };
        // Without a `/` a registry with a star would be taken for a repository of Docker Hub.
        if registry.contains("**") {
            return Err(refused(
                "`**` in the registry would match look-alikes; write the registry out".to_owned(),
            ));
        }
        if let Some((first, _)) = written.split_once('/')
            && first.contains('*')
            && registry == DOCKER_HUB
        {
            name = written.to_owned();
        }
        let glob = Glob::parse(&name).map_err(|error| refused(error.to_string()))?;
        Ok(ImagePattern {
            written: written.to_owned(),
            glob,
        })
    }

    /// Whether the image's normalised name matches.
    pub fn matches(&self, image: &ImageReference) -> bool {
        self.glob.matches(&image.name())
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for ImagePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ImagePattern, D::Error> {
        let written = String::deserialize(deserializer)?;
        ImagePattern::parse(&written).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ImagePattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImagePattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1, "maxLength": 1024})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, image: &str) -> bool {
        ImagePattern::parse(pattern)
            .unwrap()
            .matches(&image.parse().unwrap())
    }

    #[test]
    fn names_are_normalised_before_they_are_matched() {
        assert!(matches("nginx", "docker.io/library/nginx:1.27"));
        assert!(matches("docker.io/library/nginx", "nginx"));
        assert!(matches("example/*", "index.docker.io/example/app"));
        assert!(matches("ghcr.io/example/**", "ghcr.io/example/team/app:v1"));
        assert!(matches("**", "anything.example:5000/a/b"));
    }

    #[test]
    fn a_look_alike_never_matches() {
        assert!(!matches("ghcr.io/example/**", "ghcr.io/example-evil/app"));
        assert!(!matches("ghcr.io/example/*", "ghcr.io/example/a/b"));
        assert!(!matches(
            "ghcr.io/example/**",
            "evil.example/ghcr.io/example/app"
        ));
        assert!(!matches("ghcr.io/**", "ghcr.io.evil.example/app"));
        assert!(!matches("nginx", "evil/nginx"));
        assert!(!matches("*.example/app", "evil/x.example/app"));
    }

    #[test]
    fn tags_and_digests_in_patterns_are_refused_with_a_remedy() {
        assert!(
            ImagePattern::parse("nginx:1")
                .unwrap_err()
                .why
                .contains("leave the tag out")
        );
        assert!(
            ImagePattern::parse("r.example:5000/a/b:1")
                .unwrap_err()
                .why
                .contains("leave the tag out")
        );
        assert!(
            ImagePattern::parse("r.example/a@sha256:0")
                .unwrap_err()
                .why
                .contains("digest")
        );
        assert!(
            ImagePattern::parse("**/app")
                .unwrap_err()
                .why
                .contains("look-alike")
        );
        assert!(ImagePattern::parse("r.example:5000/a/*").is_ok());
    }
}
