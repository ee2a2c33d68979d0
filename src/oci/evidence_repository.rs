//! A second repository with evidence of images, beside the images' own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use promotion_gate_core::gate::{Digest, ImageReference, Repository};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::credentials::canonical;
use super::{Attached, Descriptor, Manifest, Reference, Registry, RegistryError, Via};

/// Stands for the path of the image's repository.
const PLACEHOLDER: &str = "{repository}";

/// A repository as `host/path`, in whose path `{repository}` stands for the path of the image's repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRepository {
    host: String,
    path: String,
}

impl EvidenceRepository {
    /// The repository with the evidence of an image from `images`; `None` if that is `images` itself.
    pub fn of(&self, images: &Repository) -> Option<Repository> {
        let path = self.path.replace(PLACEHOLDER, images.path());
        let named = format!("{}/{path}", self.host).parse::<ImageReference>();
        let repository = match named {
            Ok(reference) => reference.repository().clone(),
            // No registry has it, and the client says so.
            Err(_) => Repository::new(&self.host, path),
        };
        (repository != *images).then_some(repository)
    }

    /// Whether it is, for every image of the registry `host`, the image's own repository.
    pub fn is_own(&self, host: &str) -> bool {
        self.path == PLACEHOLDER && canonical(host) == canonical(&self.host)
    }
}

impl FromStr for EvidenceRepository {
    type Err = String;

    fn from_str(written: &str) -> Result<EvidenceRepository, String> {
        let refused = |why: &str| Err(format!("`{written}` is not a repository: {why}"));
        let Some((host, path)) = written.split_once('/') else {
            return refused("write the host and the path, as `host/path`");
        };
        if host.contains(['{', '}']) {
            return refused("a placeholder may stand only in the path");
        }
        // The placeholder becomes a path, so a reference with any path shows whether the rest is valid.
        let reference = match written
            .replacen(PLACEHOLDER, "a/a", 1)
            .parse::<ImageReference>()
        {
            Ok(reference) => reference,
            Err(_) if written.contains(['{', '}']) => {
                return refused("the only placeholder is `{repository}`, once in the path");
            }
            Err(error) => return refused(&error.why),
        };
        if reference.tag().is_some() || reference.digest().is_some() {
            return refused("a repository has neither a tag nor a digest");
        }
        if canonical(host) != reference.registry() {
            return refused("write the registry's host too, as `host/path`");
        }
        Ok(EvidenceRepository {
            host: host.to_owned(),
            path: path.to_owned(),
        })
    }
}

/// Registries whose images all have one second repository with evidence, whatever the configuration names.
pub struct WithEvidence {
    registry: Arc<dyn Registry>,
    repository: EvidenceRepository,
}

impl WithEvidence {
    /// The registries, with evidence in this repository.
    pub fn in_repository(
        registry: Arc<dyn Registry>,
        repository: EvidenceRepository,
    ) -> WithEvidence {
        WithEvidence {
            registry,
            repository,
        }
    }
}

impl Registry for WithEvidence {
    fn resolve<'a>(
        &'a self,
        repository: &'a Repository,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Descriptor, RegistryError>> {
        self.registry.resolve(repository, reference)
    }

    fn manifest<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, RegistryError>> {
        self.registry.manifest(repository, digest)
    }

    fn blob<'a>(
        &'a self,
        repository: &'a Repository,
        descriptor: &'a Descriptor,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, RegistryError>> {
        self.registry.blob(repository, descriptor, limit)
    }

    fn attached_in<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
        place: Via,
    ) -> BoxFuture<'a, Attached> {
        self.registry.attached_in(repository, digest, place)
    }

    fn attached<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Attached> {
        self.registry.attached(repository, digest)
    }

    fn evidence_repository(&self, images: &Repository) -> Option<Repository> {
        self.repository.of(images)
    }

    fn credential_id(&self, repository: &Repository) -> String {
        self.registry.credential_id(repository)
    }
}

impl fmt::Display for EvidenceRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl<'de> Deserialize<'de> for EvidenceRepository {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EvidenceRepository, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for EvidenceRepository {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EvidenceRepository".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placeholder_stands_for_the_path_of_the_images_repository() {
        let images = Repository::new("ghcr.io", "team/app");
        for (written, expected) in [
            ("evidence.example/{repository}", "evidence.example/team/app"),
            (
                "evidence.example/x/{repository}-signatures",
                "evidence.example/x/team/app-signatures",
            ),
            ("localhost:5000/all", "localhost:5000/all"),
            ("ghcr.io/{repository}/evidence", "ghcr.io/team/app/evidence"),
            ("docker.io/all", "docker.io/library/all"),
        ] {
            let evidence: EvidenceRepository = written.parse().unwrap();
            assert_eq!(evidence.of(&images).unwrap().name(), expected);
            assert_eq!(evidence.to_string(), written);
        }
        let same: EvidenceRepository = "ghcr.io/team/app".parse().unwrap();
        assert_eq!(same.of(&images), None);
    }

    #[test]
    fn what_is_not_a_repository_is_refused_with_what_to_write() {
        for (written, why) in [
            ("evidence", "as `host/path`"),
            ("team/evidence", "the registry's host"),
            ("ghcr.io/evidence:v1", "neither a tag nor a digest"),
            ("ghcr.io/{repository}:v1", "neither a tag nor a digest"),
            ("{repository}/x", "only in the path"),
            ("ghcr.io/{repository}/{repository}", "once in the path"),
            ("ghcr.io/{host}/x", "once in the path"),
            ("ghcr.io/", "is not a repository"),
            ("https://ghcr.io/x", "is not a repository"),
            ("", "as `host/path`"),
        ] {
            let error = written.parse::<EvidenceRepository>().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
