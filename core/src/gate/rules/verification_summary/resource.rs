//! Whether the resource of a summary is the image: the forms in which verifiers name images.

use crate::gate::evidence::Subject;
use crate::gate::image::{Digest, ImageReference};

/// Whether a resource URI names the repository of an image, and no other digest than the image's. An image is named as manifests
/// name it, with or without `oci://`, `docker://` or `https://`, or as a package URL of the type `oci`.
pub(super) fn names_image(uri: &str, subject: &Subject) -> bool {
    let reference = match uri.strip_prefix("pkg:oci/") {
        Some(package) => of_package(package),
        None => {
            let prefixes = ["oci://", "docker://", "https://"];
            let stripped = prefixes.iter().find_map(|prefix| uri.strip_prefix(prefix));
            let named = stripped.unwrap_or(uri);
            // Without a host, a name would mean Docker Hub, which few verifiers mean.
            named.contains('/').then(|| named.to_owned())
        }
    };
    let parsed = reference.and_then(|text| text.parse::<ImageReference>().ok());
    parsed.is_some_and(|named| {
        let same_digest = |digest: &Digest| *digest == subject.digest;
        *named.repository() == subject.repository && named.digest().is_none_or(same_digest)
    })
}

/// `NAME@sha256%3A…?repository_url=HOST/PATH` as an image reference (package-url, `types/oci-definition`).
fn of_package(package: &str) -> Option<String> {
    let (before, qualifiers) = package.split_once('?')?;
    let (name, digest) = match before.split_once('@') {
        Some((name, digest)) => (name, Some(decoded(digest)?)),
        None => (before, None),
    };
    let qualifiers = qualifiers.split('#').next()?.split('&');
    let mut repositories = qualifiers.filter_map(|it| it.strip_prefix("repository_url="));
    let repository = decoded(repositories.next()?)?;
    // Two repositories are none.
    if repositories.next().is_some() {
        return None;
    }
    // The specification's examples contain the name in the address, and some tools leave it out.
    let name = decoded(name)?;
    let repository = match repository.rsplit('/').next() == Some(name.as_str()) {
        true => repository,
        false => format!("{}/{name}", repository.trim_end_matches('/')),
    };
    Some(match digest {
        Some(digest) => format!("{repository}@{digest}"),
        None => repository,
    })
}

/// A text without percent-encoding; `None` if the result is not ASCII.
fn decoded(text: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let (digits, after) = after.split_at_checked(2)?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)?;
        decoded.push_str(before);
        decoded.push(char::from(byte));
        rest = after;
    }
    decoded.push_str(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::image::Repository;

    #[test]
    fn a_resource_names_the_image_in_each_form_that_verifiers_write() {
        let digest = Digest::sha256(b"image");
        let other = Digest::sha256(b"another image");
        let subject = Subject {
            repository: Repository::named("ghcr.io/example/app"),
            digest: digest.clone(),
        };
        for (uri, expected) in [
            ("ghcr.io/example/app".to_owned(), true),
            ("ghcr.io/example/app:v1".to_owned(), true),
            (format!("ghcr.io/example/app@{digest}"), true),
            (format!("oci://ghcr.io/example/app:v1@{digest}"), true),
            ("docker://ghcr.io/example/app".to_owned(), true),
            ("https://ghcr.io/example/app".to_owned(), true),
            (
                format!(
                    "pkg:oci/app@{}?repository_url=ghcr.io/example/app",
                    digest.to_string().replace(':', "%3A")
                ),
                true,
            ),
            (
                "pkg:oci/app?arch=amd64&repository_url=ghcr.io%2Fexample".to_owned(),
                true,
            ),
            (format!("ghcr.io/example/app@{other}"), false),
            ("ghcr.io/example/other".to_owned(), false),
            ("ghcr.io/example/app/more".to_owned(), false),
            ("registry.example/example/app".to_owned(), false),
            ("https://ghcr.io/example/app?x=1".to_owned(), false),
            ("app".to_owned(), false),
            (String::new(), false),
            ("pkg:oci/app".to_owned(), false),
            (
                "pkg:oci/app?repository_url=ghcr.io/example/app&repository_url=evil.example/app"
                    .to_owned(),
                false,
            ),
            (
                "pkg:oci/app?repository_url=%zz.io/example/app".to_owned(),
                false,
            ),
            ("pkg:docker/example/app".to_owned(), false),
        ] {
            assert_eq!(names_image(&uri, &subject), expected, "{uri}");
        }
    }
}
