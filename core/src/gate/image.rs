//! Image references and digests, parsed and normalised in the same way as `distribution/reference`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256, Sha512};

/// A content digest (OCI image specification, "Digests") with SHA-256, SHA-384 or SHA-512.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Arc<str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// Why a string is not a digest that the gate can verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits")]
pub struct DigestError(pub String);

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest {
            algorithm: Algorithm::Sha256,
            hex: hex::encode(Sha256::digest(bytes)).into(),
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
        actual == *self.hex
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
            hex: value.into(),
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

/// A repository within a registry, by its normalised name: `docker.io/library/nginx`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

impl Repository {
    /// The repository `path` (such as `library/nginx`) of the registry `registry` (host and port, `docker.io` for Docker Hub). A
    /// name that no registry could have is refused when the registry is asked.
    pub fn new(registry: impl fmt::Display, path: impl fmt::Display) -> Repository {
        Repository(format!("{registry}/{path}").into())
    }

    /// The repository of a normalised name.
    pub fn named(name: &str) -> Repository {
        Repository(name.into())
    }

    /// Registry and path.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The registry's host and port as images name it.
    pub fn registry(&self) -> &str {
        self.split().0
    }

    /// The name within the registry.
    pub fn path(&self) -> &str {
        self.split().1
    }

    /// A registry has no slash.
    fn split(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or((&self.0, ""))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image reference, as written and normalised (`nginx` is `docker.io/library/nginx`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    written: String,
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{written}` is not an image reference: {why}")]
pub struct ReferenceError {
    /// The string, cut to 200 characters.
    pub written: String,
    /// Why it is not an image reference.
    pub why: String,
}

impl ImageReference {
    /// The reference as written in the manifest.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// The repository that holds the image.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The registry's host and port, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        self.repository.registry()
    }

    /// Registry and repository: `docker.io/library/nginx`.
    pub fn name(&self) -> &str {
        self.repository.name()
    }

    /// The tag, if one is written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

/// The normal form, such as `docker.io/library/nginx:latest`. The tag of a reference without tag and digest is `latest`.
impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
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

/// The longest reference, in bytes.
const MAXIMUM_REFERENCE: usize = 1024;
/// The longest repository name, in bytes (`distribution/reference`: `RepositoryNameTotalLengthMax`).
pub(super) const MAXIMUM_NAME: usize = 255;
/// The registry of names without a registry.
pub(super) const DOCKER_HUB: &str = "docker.io";

impl FromStr for ImageReference {
    type Err = ReferenceError;

    /// Parses and normalises in the same way as `ParseDockerRef` of `distribution/reference`.
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
                "64 hexadecimal digits are an image ID, not a reference",
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
                "a part of the repository name has other characters than lower-case letters, digits and single separators",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refused(
                "the tag has more than 128 characters, or other characters than letters, digits, `_`, `.` and `-`",
            ));
        }
        let repository = if registry == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if registry.len().max(repository.len()) > MAXIMUM_NAME {
            return Err(refused("the name is longer than 255 bytes"));
        }
        Ok(ImageReference {
            written: written.to_owned(),
            repository: Repository::new(&registry, &repository),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// Splits a name into its registry and the rest (`splitDockerDomain` of `distribution/reference`).
pub(super) fn split_registry(name: &str) -> (String, &str) {
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

/// Whether a text is a host name or a bracketed IPv6 address, with an optional port.
pub(super) fn is_registry(text: &str) -> bool {
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

/// Whether a text has only lower-case letters and digits, separated by `.`, `_`, `__` or any number of `-`.
pub(super) fn is_path_component(text: &str) -> bool {
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

/// Whether a registry could know a tag of this name (OCI distribution specification, "Pulling manifests").
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_as_long_as_its_algorithm_makes_it_and_lower_case() {
        let hello = [
            ("sha256", hex::encode(Sha256::digest("hello"))),
            ("sha384", hex::encode(sha2::Sha384::digest("hello"))),
            ("sha512", hex::encode(Sha512::digest("hello"))),
        ];
        for (algorithm, hex) in hello {
            let text = format!("{algorithm}:{hex}");
            let digest: Digest = text.parse().unwrap();
            assert_eq!(
                (digest.algorithm(), digest.hex()),
                (algorithm, hex.as_str())
            );
            assert_eq!(digest.to_string(), text);
            assert!(digest.verifies(b"hello") && !digest.verifies(b"hello "));
            for refused in [
                format!("{text}0"),
                text[..text.len() - 1].to_owned(),
                format!("{algorithm}:{}", hex.to_uppercase()),
                format!("md5:{hex}"),
                hex,
            ] {
                assert!(refused.parse::<Digest>().is_err(), "{refused}");
            }
        }
    }

    fn why(reference: &str) -> Option<String> {
        let parsed = reference.parse::<ImageReference>();
        parsed.err().map(|error| error.why)
    }

    #[test]
    fn names_are_as_long_as_registries_take_them() {
        let part = |length: usize| "a".repeat(length);
        assert_eq!(why(&format!("r.example/{}", part(MAXIMUM_NAME))), None);
        for (reference, wanted) in [
            (format!("r.example/{}", part(MAXIMUM_NAME + 1)), "255 bytes"),
            (part(MAXIMUM_REFERENCE), "255 bytes"),
            (part(MAXIMUM_REFERENCE + 1), "1024 bytes"),
        ] {
            let why = why(&reference).unwrap();
            assert!(why.contains(wanted), "{why}");
        }
    }

    #[test]
    fn a_registry_is_a_host_name_or_an_address_with_a_port() {
        for (registry, accepted) in [
            ("r.example", true),
            ("r.example:5000", true),
            ("localhost", true),
            ("[::1]", true),
            ("[::1]:5000", true),
            ("[]:5000", false),
            ("[::1", false),
            ("[::g]:5000", false),
            ("[::1]5000", false),
            ("r.example:", false),
            ("r.example:http", false),
            ("-r.example", false),
            ("r..example", false),
        ] {
            assert_eq!(
                why(&format!("{registry}/app")).is_none(),
                accepted,
                "{registry}"
            );
        }
    }

    #[test]
    fn paths_and_tags_are_those_that_registries_take() {
        let id = "a1".repeat(32);
        let long = |length: usize| format!("a:{}", "1".repeat(length));
        for (reference, accepted) in [
            ("a", true),
            ("a/b-c__d.e_f---g/0", true),
            ("a/b___c", false),
            ("a/b..c", false),
            ("a/b.-c", false),
            ("a/-b", false),
            ("a/b-", false),
            ("a//b", false),
            ("a/b!c", false),
            ("a/B", false),
            ("a:v1.2-rc_3", true),
            ("a:_", true),
            ("a:V", true),
            ("a:", false),
            ("a:.1", false),
            ("a:-1", false),
            ("a:1+2", false),
            ("a:1:2", false),
            (&long(128), true),
            (&long(129), false),
            (&id, false),
            (&format!("{id}0"), true),
            (&id.replace('a', "g"), true),
            (&id.replace('1', "_"), false),
        ] {
            assert_eq!(
                why(reference).is_none(),
                accepted,
                "{reference}: {:?}",
                why(reference)
            );
        }
        assert!(why(&id).unwrap().contains("image ID"));
    }
}
