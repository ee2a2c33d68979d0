//! An OCI image layout directory as a registry (OCI image specification, "Image Layout"): for images that no network reaches.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use promotion_gate_core::gate::{Digest, ImageReference};

use super::manifest::{Listed, sound};
use super::{
    Attached, AttachedManifest, Descriptor, ErrorKind, Manifest, ManifestKind, Reference, Registry,
    RegistryError, Repository, Via, tag_about,
};
use crate::files::read_file;

/// The largest manifest, in bytes.
const MAXIMUM_MANIFEST: u64 = 4 << 20;
/// The most manifests of a layout that are read.
const MAXIMUM_ENTRIES: usize = 1024;
/// The annotation that names a manifest within a layout.
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
/// The last part of the annotation that `cosign save` writes to the entries of a layout.
const COSIGN_KIND: &str = "kind";
/// The image name under which images of a layout are judged.
const NAME: &str = "oci-layout.invalid/image";

/// An OCI image layout directory. It holds one repository, which answers to every name.
pub struct Layout {
    directory: PathBuf,
    entries: Vec<Descriptor>,
}

impl Layout {
    /// Opens a layout.
    ///
    /// # Errors
    /// What is wrong with the layout.
    pub fn open(directory: &Path) -> Result<Layout, RegistryError> {
        let shown = format!("the image layout `{}`", directory.display());
        let refused = |why: String| RegistryError::new(ErrorKind::Malformed, shown.clone(), why);
        let directory = directory
            .canonicalize()
            .map_err(|error| refused(error.to_string()))?;
        let bytes = read(&directory, &directory.join("index.json"), MAXIMUM_MANIFEST)?;
        sound(&bytes).map_err(refused)?;
        let listed = Listed::parse(&bytes, MAXIMUM_ENTRIES).map_err(refused)?;
        Ok(Layout {
            directory,
            entries: listed.entries,
        })
    }

    /// Opens `DIR[:tag|@digest]`, and returns the image that it names; without a name, the only image of the layout.
    ///
    /// # Errors
    /// What is wrong with the layout or the name.
    pub fn named(written: &str) -> Result<(Layout, ImageReference), RegistryError> {
        let (directory, reference) = match (written.split_once('@'), written.rsplit_once(':')) {
            (Some((directory, digest)), _) => (directory, Some(format!("@{digest}"))),
            (None, Some((directory, tag))) if !tag.contains('/') => {
                (directory, Some(format!(":{tag}")))
            }
            _ => (written, None),
        };
        let layout = Layout::open(Path::new(directory))?;
        let refused = |why: &str| {
            RegistryError::new(ErrorKind::NotFound, format!("`oci-layout:{written}`"), why)
        };
        let reference = match (reference, layout.images().as_slice()) {
            (Some(reference), _) => reference,
            (None, [only]) => format!("@{}", only.digest),
            (None, []) => return Err(refused("it holds no image")),
            (None, _) => {
                return Err(refused(
                    "it holds several images; name one by `:tag` or `@digest`",
                ));
            }
        };
        let image = format!("{NAME}{reference}")
            .parse()
            .map_err(|_| refused("this is neither a tag nor a digest"))?;
        Ok((layout, image))
    }

    /// The entries that are not attached to another one.
    fn images(&self) -> Vec<&Descriptor> {
        let attached = |entry: &Descriptor| {
            let name = entry.annotations.get(REFERENCE_NAME);
            let by_name = name.is_some_and(|name| name.starts_with("sha256-"));
            let by_kind = ["/sigs", "/atts", "/sboms"]
                .iter()
                .any(|end| kind_of(entry).ends_with(end));
            let manifest = self.read_manifest(&entry.digest).ok();
            by_name || by_kind || manifest.is_some_and(|manifest| manifest.subject().is_some())
        };
        let mut images: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| !attached(entry))
            .collect();
        images.dedup_by_key(|entry| &entry.digest);
        images
    }

    fn content(&self, digest: &Digest, limit: u64) -> Result<Bytes, RegistryError> {
        let path = self
            .directory
            .join("blobs")
            .join(digest.algorithm())
            .join(digest.hex());
        let bytes = read(&self.directory, &path, limit)?;
        if digest.verifies(&bytes) {
            return Ok(bytes);
        }
        Err(RegistryError::new(
            ErrorKind::DigestMismatch,
            format!("`{}`", path.display()),
            "its content does not have this digest",
        ))
    }

    fn read_manifest(&self, digest: &Digest) -> Result<Manifest, RegistryError> {
        let bytes = self.content(digest, MAXIMUM_MANIFEST)?;
        Manifest::parse(digest.clone(), None, bytes).map_err(|why| {
            RegistryError::new(
                ErrorKind::Malformed,
                format!("the manifest `{digest}`"),
                why,
            )
        })
    }

    fn entry(&self, name: &str) -> Option<&Descriptor> {
        self.entries_named(name).next()
    }

    fn entries_named(&self, name: &str) -> impl Iterator<Item = &Descriptor> {
        self.entries.iter().filter(move |entry| {
            let found = entry.annotations.get(REFERENCE_NAME);
            found.is_some_and(|found| found == name)
        })
    }

    fn find(&self, reference: &Reference) -> Result<Descriptor, RegistryError> {
        let refused = |kind, why: &str| {
            let tried = format!("`{reference}` in `{}`", self.directory.display());
            RegistryError::new(kind, tried, why)
        };
        match reference {
            Reference::Tag(tag) => {
                let mut named = self.entries_named(tag);
                let first = named
                    .next()
                    .ok_or_else(|| refused(ErrorKind::NotFound, "the layout does not hold it"))?;
                if named.any(|other| other.digest != first.digest) {
                    let why = "several images of the layout have this name; name one by `@digest`";
                    return Err(refused(ErrorKind::Malformed, why));
                }
                Ok(first.clone())
            }
            Reference::Digest(digest) => self
                .read_manifest(digest)
                .map(|manifest| manifest.descriptor()),
        }
    }

    /// `cosign save` writes one image, and names what is attached to it by kind alone.
    fn saved_by_cosign(&self, digest: &Digest, found: &mut Attached) {
        let images = self.images();
        if !matches!(images.as_slice(), [only] if only.digest == *digest) {
            return;
        }
        for entry in &self.entries {
            let via = match kind_of(entry) {
                kind if kind.ends_with("/sigs") => Via::SigTag,
                kind if kind.ends_with("/atts") => Via::AttTag,
                _ => continue,
            };
            match self.read_manifest(&entry.digest) {
                Ok(manifest) => found.listing.push(AttachedManifest {
                    digest: manifest.digest.clone(),
                    likely: true,
                    via,
                    manifest: Some(manifest),
                }),
                Err(error) => found.unavailability.push(error),
            }
        }
    }

    fn everything_attached(&self, digest: &Digest) -> Attached {
        let mut found = Attached::default();
        for entry in &self.entries {
            match self.read_manifest(&entry.digest) {
                Ok(manifest)
                    if manifest
                        .subject()
                        .is_some_and(|subject| subject.digest == *digest) =>
                {
                    found.listing.push(AttachedManifest {
                        digest: manifest.digest.clone(),
                        likely: true,
                        via: Via::Referrers,
                        manifest: Some(manifest),
                    });
                }
                Ok(_) => {}
                Err(error) if error.is_infrastructure() => found.unavailability.push(error),
                Err(error) => found.cut = Some(error.to_string()),
            }
        }
        for via in Via::ALL {
            let Some(entry) = tag_about(digest, via).and_then(|tag| self.entry(&tag)) else {
                continue;
            };
            match (via, self.read_manifest(&entry.digest)) {
                (
                    Via::FallbackTag,
                    Ok(Manifest {
                        kind: ManifestKind::Index { manifests, .. },
                        ..
                    }),
                ) => {
                    let listed = manifests.into_iter().take(MAXIMUM_ENTRIES);
                    found.listing.extend(listed.map(|entry| AttachedManifest {
                        likely: entry.is_likely_evidence(),
                        digest: entry.digest,
                        via,
                        manifest: None,
                    }));
                }
                (_, Ok(manifest)) => {
                    found.listing.push(AttachedManifest {
                        digest: manifest.digest.clone(),
                        likely: true,
                        via,
                        manifest: Some(manifest),
                    });
                }
                (_, Err(error)) => found.unavailability.push(error),
            }
        }
        self.saved_by_cosign(digest, &mut found);
        found
    }
}

fn kind_of(entry: &Descriptor) -> &str {
    entry
        .annotations
        .get(COSIGN_KIND)
        .map(String::as_str)
        .unwrap_or_default()
}

impl Registry for Layout {
    fn resolve<'a>(
        &'a self,
        _: &'a Repository,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Descriptor, RegistryError>> {
        async move { self.find(reference) }.boxed()
    }

    fn manifest<'a>(
        &'a self,
        _: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, RegistryError>> {
        async move { self.read_manifest(digest) }.boxed()
    }

    fn blob<'a>(
        &'a self,
        _: &'a Repository,
        descriptor: &'a Descriptor,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, RegistryError>> {
        async move { self.content(&descriptor.digest, limit.min(descriptor.size)) }.boxed()
    }

    fn attached_in<'a>(
        &'a self,
        _: &'a Repository,
        digest: &'a Digest,
        place: Via,
    ) -> BoxFuture<'a, Attached> {
        async move {
            match place {
                Via::Referrers => self.everything_attached(digest),
                Via::FallbackTag | Via::SigTag | Via::AttTag => Attached::default(),
            }
        }
        .boxed()
    }

    fn credential_id(&self, _: &Repository) -> String {
        "layout".to_owned()
    }
}

/// Reads a file of at most `limit` bytes. The file must lie within `directory`, even if the path is a link.
fn read(directory: &Path, path: &Path, limit: u64) -> Result<Bytes, RegistryError> {
    let failed = |kind, why: String| RegistryError::new(kind, format!("`{}`", path.display()), why);
    let of = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => failed(
            ErrorKind::NotFound,
            "the layout does not hold it".to_owned(),
        ),
        std::io::ErrorKind::FileTooLarge => failed(ErrorKind::TooLarge, error.to_string()),
        _ => failed(ErrorKind::Unavailable, error.to_string()),
    };
    let real = path.canonicalize().map_err(of)?;
    if !real.starts_with(directory) {
        return Err(failed(
            ErrorKind::Denied,
            "the path leads out of the layout".to_owned(),
        ));
    }
    Ok(read_file(&real, limit).map_err(of)?.into())
}
