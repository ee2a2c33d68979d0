//! The patterns of policies over the source of a build: repositories, and versions of tags.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::attest::predicate::SourceRepository;

use super::glob::Glob;
use super::signer::Matcher;

/// An accepted repository: its address (`https://github.com/example/app`, or without `https://`), or a pattern over
/// addresses. The comparison ignores `git+`, `@ref`, `.git` and a closing slash in a provenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePattern(Matcher);

impl SourcePattern {
    /// Whether this repository is accepted.
    pub fn matches(&self, repository: &SourceRepository) -> bool {
        repository.is_readable() && self.0.matches(repository.as_str())
    }

    fn exact(text: &str) -> Result<SourcePattern, String> {
        let address = with_scheme(text)?;
        match SourceRepository::parse(&address) {
            Some((repository, None)) => Ok(SourcePattern(Matcher::Exact(
                repository.as_str().to_owned(),
            ))),
            Some((repository, Some(git_ref))) => Err(format!(
                "`{text}` names the reference `{git_ref}`; write `{repository}`, and name references under `branches` or `tags`"
            )),
            None => Err(format!(
                "`{text}` is not a repository; expected an address such as `https://github.com/example/app`"
            )),
        }
    }

    fn pattern(text: &str) -> Result<SourcePattern, String> {
        let parse = |text: &str| Glob::parse(text).map_err(|error| error.to_string());
        let glob = parse(&with_scheme(text)?)?;
        if glob.intersects(&parse("**://*/**")?) {
            return Ok(SourcePattern(Matcher::Glob(glob)));
        }
        Err(format!(
            "no source can match `{text}`: a source is an address, and `*` matches within a part of it; write `https://github.com/example/*`, or `**` for every source"
        ))
    }
}

/// The address with `https://`, if it begins with a server. Other texts are refused, because they cannot match a source.
fn with_scheme(text: &str) -> Result<String, String> {
    let text = text.strip_prefix("git+").unwrap_or(text);
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let is_port = |c: char| c.is_ascii_digit() || c == '*';
    let over_ssh =
        |(server, path): &(&str, &str)| server.contains('@') || !path.starts_with(is_port);
    let parts = text.split_once(':').filter(over_ssh);
    if let Some((server, path)) = parts.filter(|_| !text.starts_with('[')) {
        let server = server.rsplit_once('@').map_or(server, |(_, server)| server);
        let path = path.strip_suffix(".git").unwrap_or(path);
        return Err(format!(
            "no source can match `{text}`: a source is an `https` address; write `https://{server}/{path}`"
        ));
    }
    let server = text.split('/').next().unwrap_or_default();
    if !server.contains(['.', ':', '*']) && server != "localhost" {
        return Err(format!(
            "`{text}` does not name a server; write `https://github.com/{text}`, or `https://{text}` if `{server}` is the server"
        ));
    }
    Ok(format!("https://{text}"))
}

impl fmt::Display for SourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for SourcePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SourcePattern, D::Error> {
        let pattern = match Matcher::deserialize(deserializer)? {
            Matcher::Exact(text) => SourcePattern::exact(&text),
            Matcher::Glob(glob) => SourcePattern::pattern(&glob.to_string()),
        };
        pattern.map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for SourcePattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SourcePattern".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Matcher::json_schema(generator)
    }
}

/// A version that a tag must belong to (semantic versioning 2.0.0): the tags `v1.2`, `v1.2.0`, `v1.2.3` and `v1.2.3-rc.1` belong
/// to `v1.2`, the tag `v1.3.0` does not. A version of three parts matches only itself, with any build metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionPattern {
    written: String,
    parts: Vec<u64>,
    prerelease: Option<String>,
}

impl VersionPattern {
    /// Whether a tag belongs to this version.
    pub fn matches(&self, tag: &str) -> bool {
        let Some((mut version, prerelease)) = version(tag) else {
            return false;
        };
        version.resize(3, 0);
        version.starts_with(&self.parts) && (self.parts.len() < 3 || prerelease == self.prerelease)
    }
}

/// The numbers of a version, and its pre-release.
fn version(text: &str) -> Option<(Vec<u64>, Option<String>)> {
    let text = text.strip_prefix('v')?;
    let text = text.split_once('+').map_or(text, |(version, _)| version);
    let (numbers, prerelease) = match text.split_once('-') {
        Some((numbers, prerelease)) => (numbers, Some(prerelease)),
        None => (text, None),
    };
    let parts: Option<Vec<u64>> = numbers.split('.').map(number).collect();
    let parts = parts.filter(|parts| parts.len() <= 3)?;
    let identifier = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    match prerelease {
        Some(prerelease) if parts.len() < 3 || !prerelease.split('.').all(identifier) => None,
        prerelease => Some((parts, prerelease.map(str::to_owned))),
    }
}

/// Digits without a leading zero.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

impl FromStr for VersionPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<VersionPattern, String> {
        let (parts, prerelease) = version(text).ok_or_else(|| {
            format!("`{text}` is not a version; expected `v1`, `v1.2` or `v1.2.3`, with the `v`")
        })?;
        Ok(VersionPattern {
            written: text.to_owned(),
            parts,
            prerelease,
        })
    }
}

impl fmt::Display for VersionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for VersionPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VersionPattern, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for VersionPattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VersionPattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 2})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_belongs_to_the_versions_above_it_and_to_no_other() {
        for (pattern, yes, no) in [
            (
                "v1",
                &["v1", "v1.2", "v1.2.3", "v1.2.3-rc.1", "v1.0.0+build"][..],
                &["v2", "v10.0.0", "1.2.3", "v1.2.3.4", "v01", "release"][..],
            ),
            (
                "v1.2",
                &["v1.2", "v1.2.0", "v1.2.3", "v1.2.3-rc.1"],
                &["v1", "v1.3.0", "v1.20.0", "v2.2.0"],
            ),
            (
                "v1.2.3",
                &["v1.2.3", "v1.2.3+a.b"],
                &["v1.2.3-rc.1", "v1.2", "v1.2.30"],
            ),
            ("v1.0", &["v1"], &["v1.1"]),
            (
                "v1.2.3-rc.1",
                &["v1.2.3-rc.1", "v1.2.3-rc.1+x"],
                &["v1.2.3", "v1.2.3-rc.2"],
            ),
            (
                "v1.2.3-rc-1",
                &["v1.2.3-rc-1"],
                &["v1.2.3-rc", "v1.2.3-rc.1"],
            ),
        ] {
            let version: VersionPattern = pattern.parse().unwrap();
            for tag in yes {
                assert!(version.matches(tag), "{pattern} {tag}");
            }
            for tag in no {
                assert!(!version.matches(tag), "{pattern} {tag}");
            }
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            "v",
            "1.2",
            "v1.",
            "v1.2-rc",
            "v1.x",
            "v1.2.3.4",
            "v1.2.3-",
            "v1.2.3-rc_1",
            "v-1",
        ] {
            assert!(text.parse::<VersionPattern>().is_err(), "{text}");
        }
    }

    fn source(json: &str) -> Result<SourcePattern, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn repositories_are_compared_without_what_does_not_name_them() {
        let accepted = source("\"github.com/example/app\"").unwrap();
        for (uri, same) in [
            ("git+https://github.com/example/app@refs/heads/main", true),
            ("https://GitHub.com/example/app.git", true),
            (
                "https://github.com/example/app.git#refs/heads/main:sub",
                true,
            ),
            ("https://github.com/example/app/", true),
            ("git+https://github.com/example/appA", false),
            ("git+https://github.com/example/App", false),
            ("git+http://github.com/example/app", false),
            ("git+https://github.com.evil.example/example/app", false),
            ("git+https://user@github.com/example/app", false),
            ("git+https://github.com/example", false),
        ] {
            let (repository, _) = SourceRepository::parse(uri).unwrap();
            assert_eq!(accepted.matches(&repository), same, "{uri}");
        }
        let pattern = source("{\"glob\": \"github.com/example/*\"}").unwrap();
        let (repository, _) = SourceRepository::parse("https://github.com/example/app").unwrap();
        assert!(pattern.matches(&repository));
    }

    #[test]
    fn a_source_with_a_reference_or_without_a_path_is_refused() {
        let error = source("\"https://github.com/example/app@refs/heads/main\"").unwrap_err();
        assert!(error.contains("`branches`"), "{error}");
        assert!(source("\"github.com\"").is_err());
    }

    #[test]
    fn an_impossible_source_is_refused_with_what_to_write() {
        for (json, remedy) in [
            (
                "\"git@github.com:example/app.git\"",
                "write `https://github.com/example/app`",
            ),
            (
                "\"github.com:example/app\"",
                "write `https://github.com/example/app`",
            ),
            (
                "{\"glob\": \"git@github.com:example/*\"}",
                "write `https://github.com/example/*`",
            ),
            ("\"example/app\"", "write `https://github.com/example/app`"),
            (
                "{\"glob\": \"example/*\"}",
                "write `https://github.com/example/*`",
            ),
            ("{\"glob\": \"*\"}", "or `**` for every source"),
            ("{\"glob\": \"https://*\"}", "or `**` for every source"),
            (
                "{\"glob\": \"https://github.com\"}",
                "or `**` for every source",
            ),
            (
                "\"https://github.com/example/../app\"",
                "is not a repository",
            ),
        ] {
            let error = source(json).unwrap_err();
            assert!(error.contains(remedy), "{json}: {error}");
        }
        for json in [
            "{\"glob\": \"**\"}",
            "{\"glob\": \"https://**\"}",
            "{\"glob\": \"**/example/*\"}",
            "{\"glob\": \"*://git.example/**\"}",
            "{\"glob\": \"*.example:*/team/*\"}",
            "\"localhost/a/b\"",
            "\"git.example:8443/a/b\"",
            "\"[::1]:8443/a/b\"",
            "\"http://git/a\"",
            "\"ssh://git@git.example/a/b\"",
        ] {
            source(json).unwrap();
        }
    }

    #[test]
    fn what_is_accepted_is_shown_as_it_is_compared() {
        let version: VersionPattern = "v1.2".parse().unwrap();
        assert_eq!(version.to_string(), "v1.2");
        for (json, shown) in [
            (
                "\"github.com/example/app.git\"",
                "https://github.com/example/app",
            ),
            (
                "{\"glob\": \"github.com/example/*\"}",
                "https://github.com/example/*",
            ),
        ] {
            assert_eq!(source(json).unwrap().to_string(), shown);
        }
    }
}
