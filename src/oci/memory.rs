//! A registry in memory: a caller says what is attached to an image, and the image itself does not need to exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use promotion_gate_core::gate::Digest;
use serde_json::json;

use super::{
    Attached, AttachedManifest, Descriptor, ErrorKind, Layout, Manifest, Reference, Registry,
    RegistryError, Repository, Via, media_type,
};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Images of which only the digests are known, and what is attached to them.
#[derive(Default)]
pub struct Memory {
    images: BTreeMap<(Repository, Digest), Image>,
    tags: BTreeMap<(Repository, String), Digest>,
    manifests: BTreeMap<Digest, Manifest>,
    blobs: BTreeMap<Digest, Bytes>,
}

#[derive(Default)]
struct Image {
    attached: Vec<(Via, Digest)>,
    layouts: Vec<Arc<Layout>>,
    unavailable: bool,
}

/// A layer of an attached manifest.
#[derive(Clone, Debug)]
pub struct Layer {
    pub media_type: String,
    pub bytes: Vec<u8>,
    pub annotations: BTreeMap<String, String>,
}

impl Memory {
    /// Adds an image.
    pub fn image(&mut self, repository: &Repository, digest: &Digest) {
        self.held(repository, digest);
    }

    /// Adds a tag that names an image.
    pub fn tag(&mut self, repository: &Repository, tag: &str, digest: &Digest) {
        self.image(repository, digest);
        let key = (repository.clone(), tag.to_owned());
        self.tags.insert(key, digest.clone());
    }

    /// Attaches a manifest with these layers.
    ///
    /// # Errors
    /// No manifest can hold the layers.
    pub fn attach(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        via: Via,
        layers: Vec<Layer>,
    ) -> Result<(), RegistryError> {
        let mut described = Vec::new();
        for layer in layers {
            let blob = Digest::sha256(&layer.bytes);
            described.push(json!({
                "mediaType": layer.media_type,
                "digest": blob.to_string(),
                "size": layer.bytes.len(),
                "annotations": layer.annotations,
            }));
            self.blobs.insert(blob, layer.bytes.into());
        }
        let manifest = manifest(&described)?;
        let attached = manifest.digest.clone();
        self.manifests.insert(attached.clone(), manifest);
        self.held(repository, digest).attached.push((via, attached));
        Ok(())
    }

    /// Adds everything that an image layout holds about the image.
    pub fn add_layout(&mut self, repository: &Repository, digest: &Digest, layout: Arc<Layout>) {
        self.held(repository, digest).layouts.push(layout);
    }

    /// Makes one look-up about an image fail; it is the only look-up if nothing is attached to the image.
    pub fn fail(&mut self, repository: &Repository, digest: &Digest) {
        self.held(repository, digest).unavailable = true;
    }

    fn held(&mut self, repository: &Repository, digest: &Digest) -> &mut Image {
        let key = (repository.clone(), digest.clone());
        self.images.entry(key).or_default()
    }

    fn layouts(&self, repository: &Repository) -> impl Iterator<Item = &Arc<Layout>> {
        self.images
            .iter()
            .filter(move |((held, _), _)| held == repository)
            .flat_map(|(_, image)| &image.layouts)
    }

    async fn read_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Manifest, RegistryError> {
        if let Some(manifest) = self.manifests.get(digest) {
            return Ok(manifest.clone());
        }
        for layout in self.layouts(repository) {
            if let Ok(manifest) = layout.manifest(repository, digest).await {
                return Ok(manifest);
            }
        }
        let tried = format!("`{repository}@{digest}`");
        match self.images.get(&(repository.clone(), digest.clone())) {
            Some(image) if image.is_silent() => Err(silent(tried)),
            // Only the digest of the image is known; its bytes are not needed.
            Some(_) => Ok(Manifest {
                digest: digest.clone(),
                ..manifest(&[])?
            }),
            None => Err(RegistryError::new(ErrorKind::NotFound, tried, ABSENT)),
        }
    }

    async fn everything_attached(&self, repository: &Repository, digest: &Digest) -> Attached {
        let mut found = Attached::default();
        let key = (repository.clone(), digest.clone());
        let Some(image) = self.images.get(&key) else {
            return found;
        };
        for (via, attached) in &image.attached {
            let manifest = self.manifests.get(attached);
            found
                .listing
                .extend(manifest.map(|manifest| AttachedManifest {
                    digest: manifest.digest.clone(),
                    likely: true,
                    via: *via,
                    manifest: Some(manifest.clone()),
                }));
        }
        for layout in &image.layouts {
            let more = layout.attached(repository, digest).await;
            found.listing.extend(more.listing);
            found.unavailability.extend(more.unavailability);
            found.cut = found.cut.or(more.cut);
        }
        if image.unavailable {
            found.unavailability.push(silent(format!("`{repository}`")));
        }
        found
    }
}

impl Image {
    fn is_silent(&self) -> bool {
        self.unavailable && self.attached.is_empty() && self.layouts.is_empty()
    }
}

const ABSENT: &str = "the registry does not hold it";

fn silent(tried: String) -> RegistryError {
    RegistryError::new(
        ErrorKind::Unavailable,
        tried,
        "the registry does not answer",
    )
}

fn manifest(layers: &[serde_json::Value]) -> Result<Manifest, RegistryError> {
    let written = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": CONFIG, "digest": Digest::sha256(b"{}").to_string(), "size": 2},
        "layers": layers,
    })
    .to_string();
    let digest = Digest::sha256(written.as_bytes());
    Manifest::parse(digest, None, written.into())
        .map_err(|why| RegistryError::new(ErrorKind::Malformed, "a manifest in memory", why))
}

impl Registry for Memory {
    fn resolve<'a>(
        &'a self,
        repository: &'a Repository,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Descriptor, RegistryError>> {
        async move {
            let digest = match reference {
                Reference::Digest(digest) => digest,
                Reference::Tag(tag) => match self.tags.get(&(repository.clone(), tag.clone())) {
                    Some(digest) => digest,
                    None => {
                        let tried = format!("`{repository}:{tag}`");
                        return Err(RegistryError::new(ErrorKind::NotFound, tried, ABSENT));
                    }
                },
            };
            let manifest = self.read_manifest(repository, digest).await?;
            Ok(manifest.descriptor())
        }
        .boxed()
    }

    fn manifest<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, RegistryError>> {
        self.read_manifest(repository, digest).boxed()
    }

    fn blob<'a>(
        &'a self,
        repository: &'a Repository,
        descriptor: &'a Descriptor,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, RegistryError>> {
        async move {
            let tried = || format!("the blob `{}`", descriptor.digest);
            if let Some(bytes) = self.blobs.get(&descriptor.digest) {
                if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
                    let why = format!("it is larger than the {limit} bytes that are read");
                    return Err(RegistryError::new(ErrorKind::TooLarge, tried(), why));
                }
                return Ok(bytes.clone());
            }
            let mut failed = RegistryError::new(ErrorKind::NotFound, tried(), ABSENT);
            for layout in self.layouts(repository) {
                match layout.blob(repository, descriptor, limit).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(error) => failed = error,
                }
            }
            Err(failed)
        }
        .boxed()
    }

    fn attached_in<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
        place: Via,
    ) -> BoxFuture<'a, Attached> {
        match place {
            Via::Referrers => self.everything_attached(repository, digest).boxed(),
            Via::FallbackTag | Via::SigTag | Via::AttTag => ready(Attached::default()).boxed(),
        }
    }

    fn credential_id(&self, _: &Repository) -> String {
        "memory".to_owned()
    }
}
