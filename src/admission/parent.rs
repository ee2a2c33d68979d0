//! An object → the parent of the Pods that a controller creates for it.

use promotion_gate_core::gate::{ImageReference, Parent, Workload};
use serde_json::Value;

use super::change::changed_object;
use super::images::images;
use super::kinds::{group_and_kind, row};

/// An object of the cluster as the parent of Pods; `None` if it is of a kind without images, has no UID, or names an image that cannot
/// be read.
pub fn parent(object: &Value) -> Option<Parent> {
    let (group, kind) = group_and_kind(object)?;
    let version = row(&group, &kind)?.version.to_owned();
    let of_object = changed_object(object);
    let images = images(object).filter(|images| images.unreadable.is_empty())?;
    let text = |field: &str| object.pointer(field)?.as_str().map(str::to_owned);
    let names = images.fields.into_iter();
    let names = names.filter_map(|image| image.written.parse::<ImageReference>().ok());
    Some(Parent {
        workload: Workload {
            group,
            version,
            kind,
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name")?,
        },
        uid: of_object.uid?,
        template: of_object.template?,
        images: names.map(|name| name.to_string()).collect(),
    })
}
