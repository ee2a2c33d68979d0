//! Package URLs (purl specification, ECMA-427): `pkg:type/namespace/name@version?qualifiers#subpath`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// What begins a package URL, in letters of any case.
const SCHEME: &str = "pkg:";

/// Whether a text is meant to be a package URL, also where it begins with characters that cannot be seen.
pub fn is_package_url(text: &str) -> bool {
    after_scheme(text).is_some()
}

fn after_scheme(text: &str) -> Option<&str> {
    let text = text.trim_start_matches(|it: char| it.is_whitespace() || is_unseen(it));
    let scheme = text.get(..SCHEME.len())?;
    let rest = text.get(SCHEME.len()..)?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

/// Whether a character is a control character, an invisible one, or the one that stands for a character that could not be read.
pub fn is_unseen(character: char) -> bool {
    // Unicode's `Default_Ignorable_Code_Point`, and what changes the direction of a text.
    let is_invisible = matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{fffd}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    );
    is_invisible || character.is_control()
}

/// Whether a text is the type of a package URL. It is never written with `%`.
pub fn is_type(kind: &str) -> bool {
    let mut others = kind.chars();
    let first = others.next();
    first.is_some_and(|it| it.is_ascii_alphabetic())
        && others.all(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | '+' | '-'))
}

/// Whether a version says that there is none: as SPDX (`NOASSERTION`, `NONE`) and Syft (`UNKNOWN`) write it.
pub fn is_no_version(version: &str) -> bool {
    ["", "NOASSERTION", "NONE", "UNKNOWN"]
        .iter()
        .any(|it| it.eq_ignore_ascii_case(version))
}

/// The package URL with the version that a document gives beside it, if it has no version itself.
pub(super) fn with_version(url: Box<str>, version: &str) -> Box<str> {
    let version = version.trim();
    if is_no_version(version) || version.contains(is_unseen) {
        return url;
    }
    let separator = match Parts::of(&url).map(|parts| parts.version) {
        Some(None) => "@",
        Some(Some("")) => "",
        Some(Some(_)) | None => return url,
    };
    let (package, rest) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let package = package.trim_end();
    let version = version.replace('%', "%25");
    let version = version.replace('?', "%3F").replace('#', "%23");
    format!("{package}{separator}{version}{rest}").into()
}

/// Whether a text is the package URL of something else than an image.
pub(super) fn is_url_of_software(text: &str) -> bool {
    let of_image = |kind: &str| {
        ["oci", "docker"]
            .iter()
            .any(|it| kind.eq_ignore_ascii_case(it))
    };
    Parts::of(text).is_some_and(|parts| !of_image(parts.kind))
}

/// A package URL, with its parts decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageUrl {
    package: PackageName,
    qualifiers: BTreeMap<String, String>,
    subpath: String,
}

/// The package that a package URL is about. Spellings of one package are the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageName {
    /// Type, namespace and name: `npm/@angular/core`.
    pub name: String,
    /// The version.
    pub version: Option<String>,
}

/// The parts of a package URL as they are written.
struct Parts<'t> {
    kind: &'t str,
    name: &'t str,
    version: Option<&'t str>,
    qualifiers: &'t str,
    subpath: &'t str,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Option<Parts<'t>> {
        let rest = after_scheme(text)?.trim_end();
        let (rest, subpath) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, rest) = rest.trim_start_matches('/').split_once('/')?;
        let (name, version) = name_and_version(rest.trim_start_matches('/'));
        let is_readable = is_type(kind) && !text.contains(is_unseen);
        is_readable.then_some(Parts {
            kind,
            name,
            version,
            qualifiers,
            subpath,
        })
    }

    fn package(&self) -> Option<PackageName> {
        let kind = self.kind.to_ascii_lowercase();
        // Syft writes what follows the third part of a Go module's path as the subpath, and other programs as the name.
        let more = match kind.as_str() {
            "golang" => self.subpath,
            _ => "",
        };
        let parts = self.name.split('/').chain(more.split('/'));
        let parts = parts.filter(|part| !part.is_empty());
        // Another reader could leave out white space or an encoded `/` at an end, and read another package.
        let is_usual = |part: &str| !part.is_empty() && part.trim() == part;
        let parts = parts.map(|part| decoded(part).filter(|it| it.split('/').all(is_usual)));
        let path = parts.collect::<Option<Vec<_>>>()?.join("/");
        let version = match self.version {
            Some("") | None => None,
            Some(version) => Some(decoded(version).filter(|it| is_usual(it))?),
        };
        (!path.is_empty()).then(|| PackageName {
            name: format!("{kind}/{}", usual_name(&kind, &path)),
            version: version.map(|it| usual_version(&kind, &it).to_owned()),
        })
    }
}

/// Splits a name with its namespace from the version, at the first `@` that is not the first character: a scope of npm begins with
/// one, and some programs write `/` and `@` in a version as they are.
pub fn name_and_version(text: &str) -> (&str, Option<&str>) {
    let mut characters = text.char_indices().skip(1);
    let at = characters.find_map(|(at, c)| (c == '@').then_some(at));
    match at.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?))) {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}

/// The name in the one spelling of its type: PyPI does not tell `-`, `_` and `.` nor upper and lower case apart (PEP 503).
pub fn usual_name<'n>(kind: &str, name: &'n str) -> Cow<'n, str> {
    if kind != "pypi" {
        return Cow::Borrowed(name);
    }
    let mut usual = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '-' | '_' | '.' if usual.ends_with('-') => {}
            '-' | '_' | '.' => usual.push('-'),
            other => usual.extend(other.to_lowercase()),
        }
    }
    Cow::Owned(usual)
}

/// The version in the one spelling of its type: some programs leave out the `v` of Go's versions.
pub fn usual_version<'v>(kind: &str, version: &'v str) -> &'v str {
    match version.strip_prefix('v') {
        Some(rest) if kind == "golang" => rest,
        _ => version,
    }
}

impl PackageName {
    /// The name of the package of a package URL. `None` where the text is not one.
    pub fn of(url: &str) -> Option<PackageName> {
        Parts::of(url)?.package()
    }
}

impl fmt::Display for PackageName {
    /// The package URL without qualifiers and subpath.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", encoded(&self.name))?;
        match &self.version {
            Some(version) => write!(f, "@{}", encoded(version)),
            None => Ok(()),
        }
    }
}

impl From<PackageName> for PackageUrl {
    fn from(package: PackageName) -> PackageUrl {
        PackageUrl {
            package,
            qualifiers: BTreeMap::new(),
            subpath: String::new(),
        }
    }
}

impl PackageUrl {
    /// Parses a package URL. `None` where the text is not one.
    pub fn parse(text: &str) -> Option<PackageUrl> {
        let parts = Parts::of(text)?;
        let package = parts.package()?;
        let qualifiers = parts.qualifiers.split('&');
        let qualifiers = qualifiers.filter_map(|pair| pair.split_once('='));
        let qualifiers = qualifiers.map(|(key, value)| {
            let value = decoded(value)?.into_owned();
            Some((key.to_ascii_lowercase(), value))
        });
        Some(PackageUrl {
            package,
            qualifiers: qualifiers.collect::<Option<_>>()?,
            subpath: decoded(parts.subpath.trim_matches('/'))?.into_owned(),
        })
    }

    /// The package.
    pub fn package(&self) -> &PackageName {
        &self.package
    }

    /// The type, such as `oci`.
    pub fn kind(&self) -> &str {
        let name = &self.package.name;
        name.split_once('/').map_or("", |(kind, _)| kind)
    }

    /// The version.
    pub fn version(&self) -> Option<&str> {
        self.package.version.as_deref()
    }

    /// Whether `other` is this package. A version, a qualifier or a subpath that this one does not name may be any.
    pub fn includes(&self, other: &PackageUrl) -> bool {
        let mut qualifiers = self.qualifiers.iter();
        self.package.name == other.package.name
            && (self.version().is_none() || self.version() == other.version())
            && (self.subpath.is_empty() || self.subpath == other.subpath)
            && qualifiers.all(|(key, value)| other.qualifiers.get(key) == Some(value))
    }

    /// Whether `other` could be this package: programs do not write the same qualifiers and letters for one package.
    pub fn may_be(&self, other: &PackageUrl) -> bool {
        let versions = self.version().zip(other.version());
        self.package.name.eq_ignore_ascii_case(&other.package.name)
            && versions.is_none_or(|(one, another)| one == another)
    }
}

/// Writes every character as `%XX` that could have a meaning in a package URL, except `/`.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' | b'+' => encoded.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Decodes `%XX`. `None` where a `%` is not followed by two digits, or the result is not UTF-8 or cannot be seen.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        decoded.extend(hex::decode(digits).ok()?);
    }
    let decoded = String::from_utf8(decoded).ok()?;
    (!decoded.contains(is_unseen)).then_some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> PackageUrl {
        PackageUrl::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn the_parts_of_a_package_url_are_decoded() {
        for (text, name, version) in [
            (
                "pkg:apk/alpine/musl@1.2.5-r10?arch=x86_64",
                "apk/alpine/musl",
                Some("1.2.5-r10"),
            ),
            (
                "pkg:npm/%40angular/core@1.0.0",
                "npm/@angular/core",
                Some("1.0.0"),
            ),
            (
                "pkg:npm/@angular/core@1.0.0",
                "npm/@angular/core",
                Some("1.0.0"),
            ),
            ("pkg:npm/@angular/core", "npm/@angular/core", None),
            ("pkg:npm//@angular/core@1", "npm/@angular/core", Some("1")),
            ("PKG:NPM/left-pad@1", "npm/left-pad", Some("1")),
            (" pkg://npm//left-pad/@1 ", "npm/left-pad", Some("1")),
            ("pkg:npm/left-pad@3.3.6/x", "npm/left-pad", Some("3.3.6/x")),
            (
                "pkg:npm/left-pad@git+https://git@host.example/x",
                "npm/left-pad",
                Some("git+https://git@host.example/x"),
            ),
            (
                "pkg:golang/github.com/a/b@v1.0#sub/path",
                "golang/github.com/a/b/sub/path",
                Some("1.0"),
            ),
            (
                "pkg:golang/github.com%2Fa/b/sub/path@1.0",
                "golang/github.com/a/b/sub/path",
                Some("1.0"),
            ),
            ("pkg:npm/a@v1#lib", "npm/a", Some("v1")),
            (
                "pkg:pypi/Zope._interface@5",
                "pypi/zope-interface",
                Some("5"),
            ),
            (
                "pkg:oci/alpine@sha256%3A12",
                "oci/alpine",
                Some("sha256:12"),
            ),
            (
                "pkg:oci/alpine@sha256:12?repository_url=index.docker.io/library",
                "oci/alpine",
                Some("sha256:12"),
            ),
            ("pkg:oci/debian", "oci/debian", None),
            ("pkg:OCI/debian@", "oci/debian", None),
        ] {
            let purl = parsed(text);
            let (kind, _) = name.split_once('/').unwrap();
            let parts = (purl.kind(), &*purl.package.name, purl.version());
            assert_eq!(parts, (kind, name, version), "{text}");
            let written = purl.package.to_string();
            assert_eq!(
                PackageName::of(&written).as_ref(),
                Some(&purl.package),
                "{written}"
            );
            assert_eq!(PackageName::of(text), Some(purl.package), "{text}");
        }
        for text in [
            "",
            "musl",
            "pkg",
            "pk\u{e9}",
            "pkg:",
            "pkg:apk",
            "pkg:apk/",
            "cpe:2.3:a",
            "pkg:npm/a%4",
            "pkg:npm/a%ff",
            "pkg:npm/a?arch=%4",
        ] {
            assert_eq!(PackageUrl::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_package_url_in_an_odd_spelling_is_meant_to_be_one_and_cannot_be_read() {
        for text in [
            "\u{fffd}pkg:npm/a@1",
            "\tpkg:npm/a@1",
            "\u{feff}pkg:npm/a@1",
            "pkg:npm/a@1\u{fffd}",
            "pkg:npm/a\u{200b}@1",
            "pkg:npm/a%0a@1",
            "pkg:npm/a%EF%BF%BD@1",
            "pkg:npm/a@1%00",
            "pkg:np%6d/a@1",
            "pkg:1npm/a@1",
            "pkg: npm/a@1",
            "pkg:npm /a@1",
            "pkg:npm/ a@1",
            "pkg:npm/a @1",
            "pkg:npm/a%20@1",
            "pkg:npm/a@ 1",
            "pkg:npm/a%2F@1",
            "pkg:npm/%2Fa@1",
        ] {
            assert!(is_package_url(text), "{text:?}");
            assert_eq!(PackageName::of(text), None, "{text:?}");
            assert_eq!(PackageUrl::parse(text), None, "{text:?}");
        }
        assert!(!is_package_url("\u{fffd}npm/a@1"));
        assert!(PackageName::of("pkg:npm/a b@1 2").is_some());
        assert!(PackageName::of("pkg:a1.b+c-d/e").is_some());
    }

    #[test]
    fn the_version_beside_a_package_url_counts_where_the_url_has_none() {
        for (url, version, with) in [
            ("pkg:npm/a", "1", "pkg:npm/a@1"),
            ("pkg:npm/a ", " 1 ", "pkg:npm/a@1"),
            ("pkg:npm/a@", "1", "pkg:npm/a@1"),
            ("pkg:npm/a@?b=c#d", "1", "pkg:npm/a@1?b=c#d"),
            ("pkg:npm/a#d", "1", "pkg:npm/a@1#d"),
            ("pkg:npm/a?b=c@d", "1", "pkg:npm/a@1?b=c@d"),
            ("pkg:npm/@a/b", "1", "pkg:npm/@a/b@1"),
            ("pkg:npm/a", "1%2#3?", "pkg:npm/a@1%252%233%3F"),
            ("pkg:npm/a@2", "1", "pkg:npm/a@2"),
            ("pkg:npm/a", "", "pkg:npm/a"),
            ("pkg:npm/a", "NOASSERTION", "pkg:npm/a"),
            ("pkg:npm/a", "None", "pkg:npm/a"),
            ("pkg:npm/a", "UNKNOWN", "pkg:npm/a"),
            ("pkg:npm/a", "1\u{fffd}", "pkg:npm/a"),
            ("pkg:np%6d/a", "1", "pkg:np%6d/a"),
        ] {
            assert_eq!(&*with_version(url.into(), version), with);
        }
        let package = PackageName::of("pkg:npm/a@1%252%233%3F");
        let version = package.and_then(|it| it.version);
        assert_eq!(version.as_deref(), Some("1%2#3?"));
    }

    #[test]
    fn a_package_url_includes_what_it_does_not_narrow() {
        let found = parsed("pkg:apk/alpine/musl@1.2?arch=x86_64&distro=3.22");
        for (pattern, includes, may_be) in [
            ("pkg:apk/alpine/musl", true, true),
            ("pkg:apk/alpine/musl@1.2", true, true),
            ("pkg:apk/alpine/musl@1.2?arch=x86_64", true, true),
            ("pkg:apk/alpine/musl@1.2?arch=aarch64", false, true),
            ("pkg:apk/alpine/musl@1.2?epoch=1", false, true),
            ("pkg:apk/alpine/musl#lib", false, true),
            ("pkg:apk/Alpine/musl", false, true),
            ("pkg:apk/alpine/musl@1.3", false, false),
            ("pkg:apk/alpine/musl-dev", false, false),
            ("pkg:apk/wolfi/musl", false, false),
            ("pkg:deb/alpine/musl", false, false),
        ] {
            let pattern_url = parsed(pattern);
            assert_eq!(pattern_url.includes(&found), includes, "{pattern}");
            assert_eq!(pattern_url.may_be(&found), may_be, "{pattern}");
        }
    }

    #[test]
    fn a_go_module_of_another_subpath_is_another_package() {
        let found =
            parsed("pkg:golang/example.org/contrib/instrumentation@v0.44.0#net/http/otelhttp");
        for (pattern, is) in [
            ("pkg:golang/example.org/contrib/instrumentation", false),
            (
                "pkg:golang/example.org/contrib/instrumentation#gin/otelgin",
                false,
            ),
            (
                "pkg:golang/example.org/contrib/instrumentation#net/http/otelhttp",
                true,
            ),
            (
                "pkg:golang/example.org/contrib/instrumentation/net/http/otelhttp@0.44.0",
                true,
            ),
        ] {
            assert_eq!(parsed(pattern).includes(&found), is, "{pattern}");
            assert_eq!(parsed(pattern).may_be(&found), is, "{pattern}");
        }
    }
}
