//! Manifests → changes: a manifest is read as the request to create its object.

use std::collections::BTreeMap;

use promotion_gate_core::gate::{Actor, ChangeEffect, Operation, UnreadableField, Workload};
use serde_json::Value;

use super::change::{change, changed_object, name_of};
use super::images::{Images, NO_OBJECT, images};
use super::kinds::{group_and_kind, row};
use super::understood::{NotOurs, Understood};

/// The objects of the input, for references between them.
#[derive(Debug, Default)]
pub struct Manifests<'a> {
    by_name: BTreeMap<(String, String, String), &'a Value>,
}

impl<'a> Manifests<'a> {
    /// Indexes objects with images by kind, namespace and name. An object of the same kind in another API group does not count
    /// as the Deployment that a Rollout refers to.
    pub fn of(objects: impl IntoIterator<Item = &'a Value>, namespace: &str) -> Manifests<'a> {
        let key = |object: &Value| {
            let (group, kind) = group_and_kind(object)?;
            row(&group, &kind)
                .is_some()
                .then(|| (kind, namespace_of(object, namespace), name_of(object)))
        };
        Manifests {
            by_name: objects
                .into_iter()
                .filter_map(|object| Some((key(object)?, object)))
                .collect(),
        }
    }

    /// Adds the images of the workload that a Rollout refers to.
    fn follow(&self, reference: &Value, namespace: &str, found: &mut Images) {
        let field = |name: &str| {
            reference
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (kind, name) = (field("kind"), field("name"));
        let why = format!(
            "`{kind} {name}` in `{namespace}` is not part of the input; check both together"
        );
        let Some(referred) = self.by_name.get(&(kind, namespace.to_owned(), name)) else {
            return found.unreadable.push(UnreadableField {
                field: "spec.workloadRef".to_owned(),
                why,
            });
        };
        found.follow("spec.workloadRef", referred);
    }
}

fn namespace_of(object: &Value, default: &str) -> String {
    let written = object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str);
    written
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(default)
        .to_owned()
}

/// Reads a manifest as the request to create its object.
pub fn understand_manifest(
    object: &Value,
    namespace: &str,
    actor: Option<&Actor>,
    manifests: &Manifests<'_>,
) -> Understood {
    let created = |workload, found| {
        let uid = "check".to_owned();
        let actor = actor.cloned();
        let change = change(
            uid,
            (Operation::Create, ChangeEffect::Runs),
            workload,
            actor,
            false,
            (changed_object(object), found),
        );
        Understood::Change(Box::new(change))
    };
    let Some((group, kind)) = group_and_kind(object) else {
        let workload = Workload {
            group: String::new(),
            version: String::new(),
            kind: "(unknown)".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name_of(object),
        };
        let found = Images {
            fields: Vec::new(),
            unreadable: vec![UnreadableField {
                field: String::new(),
                why: NO_OBJECT.to_owned(),
            }],
        };
        return created(workload, found);
    };
    let Some(mut found) = images(object) else {
        return Understood::NotOurs(NotOurs::KindWithoutImages);
    };
    let row = row(&group, &kind);
    let is_namespaced = row.is_none_or(|kind| kind.is_namespaced);
    let here = namespace_of(object, namespace);
    let reference = row.and_then(|kind| object.pointer(kind.workload_ref?));
    if let Some(reference) = reference.filter(|reference| !reference.is_null()) {
        manifests.follow(reference, &here, &mut found);
    }
    let version = object
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let workload = Workload {
        group,
        version: version.rsplit('/').next().unwrap_or_default().to_owned(),
        kind,
        namespace: is_namespaced.then_some(here),
        name: name_of(object),
    };
    created(workload, found)
}
