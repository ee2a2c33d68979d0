//! Package URLs (purl specification, ECMA-427): `pkg:type/namespace/name@version?qualifiers#subpath`.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// What begins a package URL, in letters of any case.
const SCHEME: &str = "pkg:";

/// Whether a text is meant to be a package URL.
pub fn is_package_url(text: &str) -> bool {
    let scheme = text.trim_start().get(..SCHEME.len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
        let text = text.trim();
        let rest = text.get(SCHEME.len()..).filter(|_| is_package_url(text))?;
        let (rest, subpath) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, rest) = rest.trim_start_matches('/').split_once('/')?;
        let (name, version) = name_and_version(rest.trim_start_matches('/'));
        Some(Parts {
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
        let parts = parts.filter(|part| !part.is_empty()).map(decoded);
        let path = parts.collect::<Option<Vec<_>>>()?.join("/");
        let version = match self.version {
            Some(version) => Some(decoded(version)?).filter(|it| !it.is_empty()),
            None => None,
        };
        let is_whole = !kind.is_empty() && !path.is_empty();
        is_whole.then(|| PackageName {
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

/// Decodes `%XX`. `None` where a `%` is not followed by two digits, or the result is not UTF-8.
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
    String::from_utf8(decoded).ok().map(Cow::Owned)
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
