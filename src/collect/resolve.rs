//! Tags → digests. A tag is resolved once per review and never cached.

use promotion_gate_core::gate::{Collected, Digest, ImageReference, Unavailability};
use tokio::time::{Instant, timeout_at};

use super::registry::late;
use crate::oci::{ErrorKind, Reference, Registry};

/// Asks the registry for the digest that a tag names.
pub async fn tag(
    registry: &dyn Registry,
    image: &ImageReference,
    deadline: Instant,
) -> Collected<Digest> {
    let repository = image.repository();
    let reference = Reference::Tag(image.tag().unwrap_or("latest").to_owned());
    match timeout_at(deadline, registry.resolve(repository, &reference)).await {
        Ok(Ok(descriptor)) => Collected::Known(descriptor.digest),
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => {
            Collected::Unavailable(Unavailability(format!(
                "`{image}` does not exist, or the gate may not read it: {error}"
            )))
        }
        Ok(Err(error)) => Collected::Unavailable(Unavailability(error.to_string())),
        Err(_) => Collected::Unavailable(late(&format!("the tag of `{image}`"))),
    }
}
