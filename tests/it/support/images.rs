//! A registry in this process, and signed images in it.

use promotion_gate::sandbox::registry::SandboxRegistryOptions;
use promotion_gate::sandbox::{SandboxRegistry, attach_bundle, push_image};
use promotion_gate_core::gate::Digest;

use super::facts::FACTS;

pub async fn registry() -> SandboxRegistry {
    let options = SandboxRegistryOptions {
        referrers_api: true,
    };
    SandboxRegistry::start(options).await.unwrap()
}

pub fn signed(registry: &SandboxRegistry, tag: &str, by: &str) -> Digest {
    let digest = push_image(registry, "app", tag, tag).unwrap();
    attach_bundle(registry, "app", &digest, &FACTS.bundle(&digest, by)).unwrap();
    digest
}

pub fn by_tag(registry: &SandboxRegistry, tag: &str) -> String {
    format!("{}/app:{tag}", registry.host())
}

pub fn by_digest(registry: &SandboxRegistry, digest: &Digest) -> String {
    format!("{}/app@{digest}", registry.host())
}
