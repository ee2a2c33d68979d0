//! Patterns of images.

use promotion_gate_core::documents::Path;
use promotion_gate_core::gate::{Glob, ImagePattern};
use serde_json::Value;

use super::{Mistakes, texts};

/// Registries whose repositories have at least two parts, such as `ghcr.io/OWNER/NAME`.
const DEEP_REGISTRIES: &[&str] = &[
    "ghcr.io",
    "gcr.io",
    "*.gcr.io",
    "quay.io",
    "registry.gitlab.com",
    "public.ecr.aws",
    "*.pkg.dev",
];

impl Mistakes {
    pub(super) fn allowed_images(&mut self, entry: &Value, here: &Path) {
        for (path, pattern, written) in images(entry, "/allowedImages/patterns", here) {
            self.image(&path, &pattern, &written);
            if let Some(name) = pattern.without_tag() {
                let message = format!(
                    "`{written}` allows no image that is named by digest, because it has a tag, and a tag can be moved; write `{name}`"
                );
                self.refuse(path, message);
            }
        }
    }

    /// Warns about a star that would have to cross a `/` to match anything.
    pub(super) fn image(&mut self, path: &Path, pattern: &ImagePattern, written: &str) {
        let (first, rest) = written.split_once('/').unwrap_or((written, ""));
        if !rest.is_empty() && first.contains(|c: char| c.is_ascii_uppercase()) {
            let lower = first.to_ascii_lowercase();
            let message = format!(
                "`{written}` matches only images that name the registry in the same case; write `{lower}/{rest}`"
            );
            return self.warn(path.clone(), message);
        }
        if !first.contains(['.', ':']) && first.contains('*') && !first.contains("**") {
            let message = format!(
                "`{written}` matches images of Docker Hub alone, because it does not name a registry; write `**` to match every image, or name the registry"
            );
            return self.warn(path.clone(), message);
        }
        let every_image = format!("{first}/**");
        let deep = DEEP_REGISTRIES.iter().any(|registry| {
            let [registry, shape] =
                [(*registry).to_owned(), format!("{registry}/*/**")].map(|text| Glob::parse(&text));
            match (registry, shape) {
                (Ok(registry), Ok(shape)) => registry.matches(first) && !pattern.can_match(&shape),
                _ => false,
            }
        });
        if deep || rest == "*" && first != "docker.io" {
            let remedy = match rest.strip_suffix('*') {
                Some(below) if !below.ends_with('*') => format!("{first}/{below}**"),
                _ => every_image,
            };
            let message = format!(
                "`{written}` matches no image below a further `/`, such as `{first}/team/app`: `*` stays within a part of the name; write `{remedy}` to match those too"
            );
            self.warn(path.clone(), message);
        }
    }
}

/// The image patterns of a list that parse, each with its place and its text.
pub(super) fn images(
    value: &Value,
    pointer: &str,
    here: &Path,
) -> Vec<(Path, ImagePattern, String)> {
    let each = texts(value, pointer, here).into_iter();
    each.filter_map(|(path, written)| Some((path, ImagePattern::parse(&written).ok()?, written)))
        .collect()
}
