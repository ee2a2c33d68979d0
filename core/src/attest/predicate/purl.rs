//! Package URLs (purl specification, ECMA-427): `pkg:type/namespace/name@version?qualifiers#subpath`.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// A package URL, with its parts decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageUrl {
    kind: String,
    namespace: String,
    name: String,
    version: Option<String>,
    qualifiers: BTreeMap<String, String>,
}

impl PackageUrl {
    /// Parses a package URL. `None` where the text is not one.
    pub fn parse(text: &str) -> Option<PackageUrl> {
        let rest = text.strip_prefix("pkg:")?.trim_start_matches('/');
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, rest) = rest.split_once('/')?;
        let rest = rest.trim_matches('/');
        let (namespace, last) = rest.rsplit_once('/').unwrap_or(("", rest));
        // A scope of npm begins with `@`, and `sha256:` in a version contains no `/`.
        let (name, version) = match last.char_indices().skip(1).find(|(_, c)| *c == '@') {
            Some((at, _)) => (last.get(..at)?, last.get(at + 1..)),
            None => (last, None),
        };
        let qualifiers = qualifiers.split('&').filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((key.to_ascii_lowercase(), decoded(value)?.into_owned()))
        });
        let purl = PackageUrl {
            kind: kind.to_ascii_lowercase(),
            namespace: decoded(namespace)?.into_owned(),
            name: decoded(name)?.into_owned(),
            version: match version {
                Some(version) => Some(decoded(version)?.into_owned()).filter(|it| !it.is_empty()),
                None => None,
            },
            qualifiers: qualifiers.collect(),
        };
        let is_whole = !purl.kind.is_empty() && !purl.name.is_empty();
        is_whole.then_some(purl)
    }

    /// The type, such as `oci`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The version.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether `other` is this package. A version or a qualifier that this one does not name may be any.
    pub fn includes(&self, other: &PackageUrl) -> bool {
        let PackageUrl {
            kind,
            namespace,
            name,
            version,
            qualifiers,
        } = self;
        (kind, namespace, name) == (&other.kind, &other.namespace, &other.name)
            && (version.is_none() || *version == other.version)
            && qualifiers
                .iter()
                .all(|(key, value)| other.qualifiers.get(key) == Some(value))
    }

    /// Type, namespace and name, and the version if there is one, decoded and in lower case: `pkg:npm/@angular/core@1.0.0`.
    pub fn names(&self) -> (String, Option<String>) {
        let namespace = match self.namespace.as_str() {
            "" => String::new(),
            namespace => format!("{namespace}/"),
        };
        let name = format!("pkg:{}/{namespace}{}", self.kind, self.name).to_lowercase();
        let versioned = self.version.as_ref();
        let versioned = versioned.map(|version| format!("{name}@{}", version.to_lowercase()));
        (name, versioned)
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
        for (text, namespace, name, version) in [
            (
                "pkg:apk/alpine/musl@1.2.5-r10?arch=x86_64",
                "alpine",
                "musl",
                Some("1.2.5-r10"),
            ),
            (
                "pkg:npm/%40angular/core@1.0.0",
                "@angular",
                "core",
                Some("1.0.0"),
            ),
            (
                "pkg:npm/@angular/core@1.0.0",
                "@angular",
                "core",
                Some("1.0.0"),
            ),
            (
                "pkg:golang/github.com/a/b@v1.0#sub/path",
                "github.com/a",
                "b",
                Some("v1.0"),
            ),
            (
                "pkg:oci/alpine@sha256%3A12",
                "",
                "alpine",
                Some("sha256:12"),
            ),
            (
                "pkg:oci/alpine@sha256:12?repository_url=index.docker.io/library",
                "",
                "alpine",
                Some("sha256:12"),
            ),
            ("pkg:oci/debian", "", "debian", None),
            ("pkg:OCI/debian@", "", "debian", None),
        ] {
            let purl = parsed(text);
            let parts = (&*purl.namespace, &*purl.name, purl.version());
            assert_eq!(parts, (namespace, name, version), "{text}");
        }
        for text in [
            "",
            "musl",
            "pkg:",
            "pkg:apk",
            "pkg:apk/",
            "cpe:2.3:a",
            "pkg:npm/a%4",
            "pkg:npm/a%ff",
        ] {
            assert_eq!(PackageUrl::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_package_url_includes_what_it_does_not_narrow() {
        let found = parsed("pkg:apk/alpine/musl@1.2?arch=x86_64&distro=3.22");
        for (pattern, includes) in [
            ("pkg:apk/alpine/musl", true),
            ("pkg:apk/alpine/musl@1.2", true),
            ("pkg:apk/alpine/musl@1.2?arch=x86_64", true),
            ("pkg:apk/alpine/musl@1.2?arch=aarch64", false),
            ("pkg:apk/alpine/musl@1.2?epoch=1", false),
            ("pkg:apk/alpine/musl@1.3", false),
            ("pkg:apk/alpine/musl-dev", false),
            ("pkg:apk/wolfi/musl", false),
            ("pkg:deb/alpine/musl", false),
        ] {
            assert_eq!(parsed(pattern).includes(&found), includes, "{pattern}");
        }
    }
}
