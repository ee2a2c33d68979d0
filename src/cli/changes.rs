//! The objects of the input → the changes that they ask for.

use promotion_gate_core::gate::{Actor, Change};
use serde_json::Value;

use super::render::json::UnknownReport;
use super::world::Input;
use crate::admission::{self, Manifests, Understood};

/// An object of the input that is judged, and its place.
pub(super) struct Asked {
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) change: Change,
}

/// The objects of the input that are not judged.
#[derive(Default)]
pub(super) struct NotAsked {
    pub(super) unknown: Vec<UnknownReport>,
    pub(super) without_images: usize,
}

/// The changes that the input asks for. What is `referred` to, and is not part of it, was read from the cluster.
pub(super) fn changes(
    input: &Input,
    referred: &[Value],
    namespace: &str,
    actor: Option<&Actor>,
) -> (Vec<Asked>, NotAsked) {
    let mut asked = Vec::new();
    let mut not_asked = NotAsked::default();
    let objects = input.objects();
    let of_input = objects.iter().map(|object| object.value);
    let manifests = Manifests::of(referred.iter().chain(of_input), namespace);
    for object in objects {
        if !admission::is_object(object.value) {
            continue;
        }
        let change =
            match admission::understand_manifest(object.value, namespace, actor, &manifests) {
                Understood::Change(change) => *change,
                Understood::Refers(_) | Understood::Governance(_) | Understood::NotOurs(_) => {
                    match object.unknown() {
                        Some(field) => not_asked.unknown.push(UnknownReport::of(&object, &field)),
                        None => not_asked.without_images += 1,
                    }
                    continue;
                }
            };
        asked.push(Asked {
            file: object.file.to_owned(),
            line: object.line,
            change,
        });
    }
    (asked, not_asked)
}
