//! Patterns over images, with the meaning that they have in policy-controller.

use std::fmt;
use std::net::Ipv6Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::glob::Glob;
use super::image::{
    DOCKER_HUB, ImageReference, MAXIMUM_NAME, is_path_component, is_registry, split_registry,
};

/// Docker Hub's other name.
const INDEX: &str = "index.docker.io";

/// A pattern over images: `*` stays within a path segment, `**` crosses them.
///
/// The pattern is compared with the normalised name (registry and repository), and with the tag or digest if the pattern has
/// one. An image without tag and digest has the tag `latest`. An image with a digest has no tag: a tag beside a digest does not
/// decide what runs. A pattern without a registry is of Docker Hub, like an image. A pattern with `**` may also begin within
/// the registry's name: `ghcr**` matches `ghcr.example.com/x` too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePattern {
    written: String,
    /// The name must match at least one of these.
    names: Vec<Glob>,
    tag: Option<Glob>,
    digest: Option<Glob>,
}

/// Why a string is not an image pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{written}` is not an image pattern: {why}")]
pub struct PatternError {
    /// The pattern as written, cut to 200 characters.
    pub written: String,
    /// Why it is not a pattern.
    pub why: String,
}

impl ImagePattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Why the string is not a pattern.
    pub fn parse(written: &str) -> Result<ImagePattern, PatternError> {
        let refused = |why: String| PatternError {
            written: written.chars().take(200).collect(),
            why,
        };
        let glob = |text: &str| Glob::parse(text).map_err(|error| refused(error.to_string()));
        check_characters(written).map_err(refused)?;
        if let Some((scheme, name)) = written.split_once("://") {
            return Err(refused(format!(
                "an image name does not begin with `{scheme}://`; write `{name}`"
            )));
        }
        let (rest, digest) = match written.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (written, None),
        };
        let last = rest.rfind('/').unwrap_or(0);
        let (name, tag) = match rest.get(last..).unwrap_or_default().rfind(':') {
            Some(at) => rest.split_at(last + at),
            None => (rest, ""),
        };
        if name.split('/').any(str::is_empty) {
            return Err(refused("a part of the name is empty".to_owned()));
        }
        check_name(name).map_err(refused)?;
        if let Some(digest) = digest {
            if !tag.is_empty() {
                let why = format!(
                    "a tag does not decide what runs if there is a digest; write `{name}@{digest}`"
                );
                return Err(refused(why));
            }
            check_digest(digest).map_err(refused)?;
        }
        Ok(ImagePattern {
            written: written.to_owned(),
            names: names(name)
                .iter()
                .map(|name| glob(name))
                .collect::<Result<_, _>>()?,
            tag: tag.strip_prefix(':').map(glob).transpose()?,
            digest: digest.map(glob).transpose()?,
        })
    }

    /// The pattern without its tag, if it has one. A pattern with a tag does not match images that are named by digest.
    pub fn without_tag(&self) -> Option<&str> {
        let tag = self.tag.as_ref()?.to_string();
        self.written.strip_suffix(&tag)?.strip_suffix(':')
    }

    /// Whether the pattern can match a normalised image name (registry and repository) that matches `shape`.
    pub fn can_match(&self, shape: &Glob) -> bool {
        self.names.iter().any(|name| name.intersects(shape))
    }

    /// Whether the image matches.
    pub fn matches(&self, image: &ImageReference) -> bool {
        let name = image.name();
        let index = name
            .strip_prefix(DOCKER_HUB)
            .map(|repository| format!("{INDEX}{repository}"));
        let named = self.names.iter().any(|glob| {
            glob.matches(name) || index.as_ref().is_some_and(|index| glob.matches(index))
        });
        let tag = match (image.tag(), image.digest()) {
            (_, Some(_)) => None,
            (tag, None) => Some(tag.unwrap_or("latest")),
        };
        let of_digest = |glob: &Glob| {
            let digest = image.digest().map(ToString::to_string);
            digest.is_some_and(|digest| glob.matches(&digest))
        };
        named
            && self
                .tag
                .as_ref()
                .is_none_or(|glob| tag.is_some_and(|tag| glob.matches(tag)))
            && self.digest.as_ref().is_none_or(of_digest)
    }
}

fn check_characters(written: &str) -> Result<(), String> {
    let text = match written
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => rest,
        _ => written,
    };
    let known = |c: char| c.is_ascii_alphanumeric() || "-_./:@*".contains(c);
    match text.chars().find(|c| !known(*c)) {
        Some(character) => Err(format!(
            "the character `{}` is not allowed; `*` matches any text within a part of the name, `**` any text across parts",
            character.escape_default()
        )),
        None => Ok(()),
    }
}

/// Refuses names that no image can have.
fn check_name(name: &str) -> Result<(), String> {
    let (first, path) = name.split_once('/').unwrap_or((name, ""));
    let registry_alone = path.is_empty() && first.contains('.');
    if registry_alone && !first.contains("**") {
        return Err(format!(
            "it names a registry but not a repository; write `{name}/**` for all images of the registry"
        ));
    }
    let (registry, repository) = split_registry(name);
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "repository names are in lower case; write `{}`",
            name.to_ascii_lowercase()
        ));
    }
    // A star can match one valid character, so the name must be valid with a `0` in its place.
    let filled = |text: &str| text.replace('*', "0");
    let mut parts = repository.split('/');
    if let Some(part) = parts.find(|part| !is_path_component(&filled(part))) {
        return Err(format!(
            "no repository name can have the part `{part}`: a part begins and ends with a letter or a digit, with single separators between; `*` matches any text within a part, but a dot before `*` is not allowed"
        ));
    }
    // A pattern with `**` may begin within the registry's name.
    let is_whole = registry != DOCKER_HUB && !registry.contains("**");
    let (_, port) = registry.rsplit_once(':').unwrap_or_default();
    let is_port = |c: char| c.is_ascii_digit() || c == '*' || c == ']';
    if is_whole && !port.chars().all(is_port) {
        return Err(format!("`{port}` is not a port"));
    }
    if is_whole && !is_registry(&filled(&registry)) {
        return Err(format!(
            "`{registry}` is not a registry; expected a host name, with an optional port"
        ));
    }
    let least = |text: &str| text.chars().filter(|c| *c != '*').count();
    if least(repository) > MAXIMUM_NAME {
        return Err(format!(
            "a repository name has at most {MAXIMUM_NAME} characters"
        ));
    }
    Ok(())
}

/// Refuses patterns that no digest (`ALGORITHM:HEX`) matches.
fn check_digest(digest: &str) -> Result<(), String> {
    let (algorithm, hex) = match digest.split_once(':') {
        Some(parts) => parts,
        None if digest.contains('*') => (digest, digest),
        None => ("", digest),
    };
    let of_algorithm =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+._-*".contains(c);
    let of_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '*');
    let whole = hex.contains('*')
        || matches!(
            (algorithm, hex.len()),
            ("sha256", 64) | ("sha384", 96) | ("sha512", 128)
        );
    let alone = algorithm == hex && hex.chars().all(|c| c == '*');
    if alone
        || !algorithm.is_empty()
            && algorithm.chars().all(of_algorithm)
            && hex.chars().all(of_hex)
            && whole
    {
        return Ok(());
    }
    Err(format!(
        "no digest matches `{digest}`; write `@sha256:` and 64 hexadecimal digits in lower case"
    ))
}

/// The patterns for the name: one with Docker Hub as the registry if none is written, and one as written if `**` can match the
/// registry.
fn names(name: &str) -> Vec<String> {
    let (registry, path) = split_registry(name);
    let hub = registry == DOCKER_HUB;
    let written = path.len() < name.len();
    let normalised = if hub && !path.contains('/') && !(written && path.contains("**")) {
        format!("{DOCKER_HUB}/library/{path}")
    } else {
        format!("{registry}/{path}")
    };
    if hub && name.contains("**") {
        vec![normalised, name.to_owned()]
    } else {
        vec![normalised]
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
        assert!(matches("docker.io/nginx", "nginx"));
        assert!(matches("docker.io/**", "nginx"));
        assert!(matches("example/*", "index.docker.io/example/app"));
        assert!(matches("ghcr.io/example/**", "ghcr.io/example/team/app:v1"));
        assert!(matches("**", "anything.example:5000/a/b"));
        assert!(matches("[::1]:5000/**", "[::1]:5000/a/b"));
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
        assert!(!matches("*/*", "evil.example/app"));
        assert!(!matches("my*/app", "my.evil.example/app"));
    }

    #[test]
    fn a_pattern_with_a_tag_speaks_of_tags_that_decide_what_runs() {
        assert!(matches("nginx:1.*", "nginx:1.27"));
        assert!(matches("nginx:latest", "nginx"));
        assert!(!matches("nginx:1.*", "nginx:2.0"));
        let digest = format!("sha256:{}", "0".repeat(64));
        assert!(!matches("nginx:1.*", &format!("nginx:1.27@{digest}")));
        assert!(matches(
            &format!("nginx@{digest}"),
            &format!("nginx@{digest}")
        ));
        assert!(!matches(&format!("nginx@{digest}"), "nginx"));
        assert!(matches("r.example:5000/a/*:v*", "r.example:5000/a/b:v1"));
    }

    #[test]
    fn characters_without_meaning_are_refused_with_a_remedy() {
        for pattern in ["[a-z]*", ".+", "a b", "nginx?", "{a,b}", "ghcr.io//app", ""] {
            ImagePattern::parse(pattern).unwrap_err();
        }
        let error = ImagePattern::parse("[a-z]*").unwrap_err();
        assert!(error.why.contains("`*` matches any text"), "{error}");
    }

    #[test]
    fn a_pattern_that_no_image_can_match_is_refused_with_a_remedy() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (pattern, remedy) in [
            ("ghcr.io".to_owned(), "write `ghcr.io/**`"),
            ("*.example.com".to_owned(), "write `*.example.com/**`"),
            (
                "ghcr.io/Example/**".to_owned(),
                "write `ghcr.io/example/**`",
            ),
            (
                "https://ghcr.io/example/**".to_owned(),
                "write `ghcr.io/example/**`",
            ),
            (
                "oci://ghcr.io/example/app".to_owned(),
                "write `ghcr.io/example/app`",
            ),
            (
                format!("r.example/app:v1@{digest}"),
                "a tag does not decide",
            ),
            ("r.example/app@v1".to_owned(), "no digest matches `v1`"),
            ("r.example/app@sha256:ABC*".to_owned(), "no digest matches"),
            ("r.example/app@sha256:abc".to_owned(), "no digest matches"),
            (
                "ghcr.io/example/.*".to_owned(),
                "a dot before `*` is not allowed",
            ),
            ("ghcr.io/example/a..b".to_owned(), "the part `a..b`"),
            ("ghcr.io/example/-app".to_owned(), "the part `-app`"),
            ("r.example:port/app".to_owned(), "not a port"),
        ] {
            let error = ImagePattern::parse(&pattern).unwrap_err();
            assert!(error.why.contains(remedy), "{pattern}: {error}");
        }
        for pattern in [
            "r.example/app@sha256:*",
            "r.example/app@*",
            "ghcr**",
            "r.example/app@sha256:ab*",
            "Registry.example/app",
        ] {
            ImagePattern::parse(pattern).unwrap();
        }
    }

    #[test]
    fn a_pattern_that_no_image_name_can_match_is_refused() {
        for pattern in [
            "ghcr.io/.*/app",
            "ghcr.io/example/app.",
            "ghcr.io/a.-*/c",
            "ghcr.io/a___b/c",
            "ghcr.io/example/.**",
            "-r.example/app",
            "r_x.example/app",
            &format!("ghcr.io/{}", "a".repeat(256)),
        ] {
            ImagePattern::parse(pattern).unwrap_err();
        }
        for pattern in [
            "ghcr.io/example/app.*",
            "ghcr.io/example/*.app",
            "ghcr.io/*-app/a__*",
            "ghcr.io/**.x",
            "ghcr.io/a--*/b",
            "*.example.com:*/app",
            "r.example:50*/app",
            "localhost:5000/app",
            "*/*",
            "ghcr**",
            "a**.b/c",
            "docker.io/**",
        ] {
            ImagePattern::parse(pattern).unwrap();
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_is_refused_that_an_image_matches(image in "(r[.]x/|localhost:5/|)[a-c]([._-]?[a-c]){0,4}(/[a-c](__|-{1,3}|)[a-c]){0,2}", from in 0..20_usize, to in 0..20_usize, stars in 1..3_usize) {
            let (from, to) = (from.min(to).min(image.len()), to.max(from).min(image.len()));
            let crosses = stars == 2 || !image[from..to].contains('/');
            let pattern = format!("{}{}{}", &image[..from], "*".repeat(stars), &image[to..]);
            if crosses && image.contains('/') && image.parse::<ImageReference>().is_ok() {
                let read = ImagePattern::parse(&pattern);
                proptest::prop_assert!(read.is_ok(), "{image} {pattern}: {read:?}");
            }
        }
    }

    #[test]
    fn a_pattern_says_what_it_is_without_its_tag() {
        let of = |pattern: &str| {
            ImagePattern::parse(pattern)
                .unwrap()
                .without_tag()
                .map(str::to_owned)
        };
        assert_eq!(
            of("r.example:5000/app:v*").as_deref(),
            Some("r.example:5000/app")
        );
        assert_eq!(of("r.example:5000/app"), None);
        assert_eq!(of("r.example/app@sha256:*"), None);
    }

    #[test]
    fn a_short_name_means_docker_hubs_library_alone() {
        assert!(matches("ngi**", "nginx"));
        assert!(!matches("docker.io/ngi**", "nginx"));
        assert!(matches("docker.io/ngi**", "nginx/app"));
    }

    #[test]
    fn a_pattern_is_shown_as_it_is_written() {
        for written in ["nginx", "docker.io/**:v*", "/x"] {
            match ImagePattern::parse(written) {
                Ok(pattern) => assert_eq!(pattern.to_string(), written),
                Err(error) => assert!(error.to_string().contains(&format!("`{written}`"))),
            }
        }
    }
}
