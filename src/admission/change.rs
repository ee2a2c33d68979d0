//! An object, with its images and what else it says, as a [`Change`].

use std::collections::BTreeMap;

use promotion_gate_core::gate::{
    Actor, Change, ChangeEffect, ChangedObject, ImageUse, Operation, Owner, UnreadableField,
    Workload,
};
use serde_json::Value;

use super::images::Images;
use super::kinds::{group_and_kind, row};
use super::names::{is_label, is_subdomain};
use super::update::{is_staged, template_digest};

/// The most images of one object.
const MAXIMUM_IMAGES: usize = 500;

pub(super) fn change(
    id: String,
    (operation, effect): (Operation, ChangeEffect),
    workload: Workload,
    actor: Option<Actor>,
    dry_run: bool,
    (object, found): (ChangedObject, Images),
) -> Change {
    let mut change = Change {
        id,
        operation,
        effect,
        workload,
        actor,
        dry_run,
        object,
        images: Vec::new(),
        unreadable: Vec::new(),
    };
    add(&mut change, found);
    change
}

/// Adds images to those of a change.
pub(super) fn add(change: &mut Change, found: Images) {
    change.unreadable.extend(found.unreadable);
    let room = MAXIMUM_IMAGES.saturating_sub(change.images.len());
    if found.fields.len() > room {
        let why = format!("the object names more than {MAXIMUM_IMAGES} images");
        change.unreadable.push(UnreadableField {
            field: String::new(),
            why,
        });
    }
    for field in found.fields.into_iter().take(room) {
        match field.written.parse() {
            Ok(reference) => change.images.push(ImageUse {
                field: field.path,
                role: field.role,
                reference,
            }),
            Err(error) => change.unreadable.push(UnreadableField {
                field: field.path,
                why: error.to_string(),
            }),
        }
    }
}

/// What an object says besides its images.
pub fn changed_object(object: &Value) -> ChangedObject {
    let said = group_and_kind(object);
    let kind = said.and_then(|(group, name)| row(&group, &name));
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
    ChangedObject {
        uid: uid.map(str::to_owned),
        template: kind.map(|kind| template_digest(object, kind)),
        before: None,
        is_staged: kind.is_some_and(|kind| is_staged(object, kind)),
        labels: texts(object, "/metadata/labels"),
        annotations: texts(object, "/metadata/annotations"),
        owner: owner_of(object),
    }
}

/// The fields of a map that are texts.
fn texts(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let fields = object.pointer(pointer).and_then(Value::as_object);
    let fields = fields.into_iter().flatten();
    let texts = fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    texts.collect()
}

/// The owner that is named as the controller; `None` for names that an object cannot have.
fn owner_of(object: &Value) -> Option<Owner> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let controls = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
    let owner = owners.iter().find(controls)?;
    let text = |field: &str| owner.get(field)?.as_str().map(str::to_owned);
    let api_version = text("apiVersion")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let name = text("name")?;
    let is_valid = is_label(version) && is_subdomain(&name);
    is_valid.then_some(Owner {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: text("kind")?,
        name,
        uid: text("uid")?,
    })
}

pub(super) fn name_of(object: &Value) -> String {
    let field = |name: &str| {
        object
            .pointer(&format!("/metadata/{name}"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match field("name") {
        "" => format!("{}*", field("generateName")),
        name => name.to_owned(),
    }
}
