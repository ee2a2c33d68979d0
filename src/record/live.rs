//! What runs: every object of the kinds that are judged, with the records that its images belong to.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::Error;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use promotion_gate_core::gate::{Digest, ImageReference, RecordEntry, Workload};

use super::identity::said;
use super::memory::{Memory, RecordName};
use super::names::RecordSubject;
use crate::admission::{self, KindOfTable};
use crate::cluster::Cluster;

/// How many objects are listed at once.
const PAGE: u32 = 250;

/// An object that runs images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LiveObject {
    pub(super) workload: Workload,
    pub(super) uid: String,
    pub(super) template: Digest,
    /// Whether no other object of these kinds made it.
    pub(super) is_root: bool,
    pub(super) is_staged: bool,
    pub(super) created: Option<Timestamp>,
    /// What its images are recorded under.
    pub(super) subjects: BTreeSet<RecordSubject>,
}

/// Every object of the kinds that are judged. Kinds that the cluster does not know are left out.
///
/// # Errors
/// A kind could not be listed to its end: then it is not known what does not run.
pub(super) async fn live_objects(cluster: &Cluster) -> Result<Vec<LiveObject>, String> {
    let mut objects = Vec::new();
    for kind in admission::kinds() {
        list(cluster, kind, &mut objects).await?;
    }
    Ok(objects)
}

async fn list(
    cluster: &Cluster,
    kind: KindOfTable,
    objects: &mut Vec<LiveObject>,
) -> Result<(), String> {
    let of_kind = GroupVersionKind::gvk(kind.group, kind.version, kind.kind);
    let resource = ApiResource::from_gvk_with_plural(&of_kind, kind.plural);
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = match api.list(&page).await {
            Err(Error::Api(status)) if status.code == 404 => return Ok(()),
            listed => listed.map_err(|error| format!("{}: {}", kind.plural, said(error)))?,
        };
        let next = listed.metadata.continue_.clone();
        objects.extend(listed.items.into_iter().filter_map(|item| live(item, kind)));
        match next.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn live(item: DynamicObject, kind: KindOfTable) -> Option<LiveObject> {
    let mut object = serde_json::to_value(item).ok()?;
    let api_version = match kind.group {
        "" => kind.version.to_owned(),
        group => format!("{group}/{}", kind.version),
    };
    let fields = object.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), kind.kind.into());
    let changed = admission::changed_object(&object);
    let metadata = |field: &str| object.pointer(&format!("/metadata/{field}"))?.as_str();
    let is_judged = |group: &str, kind: &str| admission::plural(group, kind).is_some();
    let owner = changed.owner.as_ref();
    let images = admission::images(&object)?.fields.into_iter();
    let references = images.filter_map(|image| image.written.parse::<ImageReference>().ok());
    Some(LiveObject {
        workload: Workload {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            kind: kind.kind.to_owned(),
            namespace: metadata("namespace").map(str::to_owned),
            name: metadata("name")?.to_owned(),
        },
        uid: changed.uid?,
        template: changed.template?,
        is_root: !owner.is_some_and(|owner| is_judged(&owner.group, &owner.kind)),
        is_staged: changed.is_staged,
        created: metadata("creationTimestamp").and_then(|time| time.parse().ok()),
        subjects: references
            .map(|it| RecordSubject::of_reference(&it))
            .collect(),
    })
}

impl LiveObject {
    /// Whether the object is that of an entry which waits to be seen, and runs its template as the entry says.
    pub(super) fn shows(&self, entry: &RecordEntry) -> bool {
        !entry.observed
            && self.workload.is_same_object(&entry.workload)
            && entry.uid.as_ref().is_none_or(|uid| *uid == self.uid)
            && self.template == entry.template
            && !(entry.running && self.is_staged)
    }

    /// The record of one of its images.
    pub(super) fn record_of(&self, subject: &RecordSubject, gate: &str) -> RecordName {
        let namespace = self.workload.namespace.as_deref().unwrap_or(gate);
        RecordName {
            namespace: namespace.to_owned(),
            name: subject.name(),
        }
    }
}

/// Images that run and are in no record: by record, the object that is to stand for it. Roots come first, so that what they make
/// is not named beside them.
pub(super) fn unrecorded<'a>(
    objects: &'a [LiveObject],
    memory: &Memory,
    gate: &str,
) -> BTreeMap<RecordName, (&'a RecordSubject, &'a LiveObject)> {
    let mut missing = BTreeMap::new();
    let (roots, others): (Vec<_>, Vec<_>) = objects.iter().partition(|object| object.is_root);
    for object in roots.into_iter().chain(others) {
        for subject in &object.subjects {
            let name = object.record_of(subject, gate);
            if !memory.serves(&name, gate) {
                missing.entry(name).or_insert((subject, object));
            }
        }
    }
    missing
}

/// The text of a live object for a person: kind, namespace and name.
pub(super) fn shown(workload: &Workload) -> String {
    let kind = workload.kind.as_str();
    match &workload.namespace {
        Some(namespace) => format!("{kind} {namespace}/{}", workload.name),
        None => format!("{kind} {}", workload.name),
    }
}

/// The namespaces that a value lists, for the adoption of what runs there.
pub(super) fn matches_namespace(names: &[String], namespace: Option<&str>) -> bool {
    names
        .iter()
        .any(|name| name == "*" || Some(name.as_str()) == namespace)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DEPLOYMENT: KindOfTable = KindOfTable {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
    };

    fn item(owner: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "1", "creationTimestamp": "2026-11-28T12:00:00Z",
                "ownerReferences": [owner]},
            "spec": {"template": {"spec": {"containers": [{"image": "a:v1"}, {"image": "a:v1"}, {"image": "!"}]}}},
        }))
        .unwrap()
    }

    #[test]
    fn a_listed_object_is_read_as_one_of_a_request_is() {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "2", "controller": true});
        let object = live(item(owner), DEPLOYMENT).unwrap();
        assert!(!object.is_root);
        assert_eq!(shown(&object.workload), "Deployment shop/web");
        let reference = RecordSubject::Reference("docker.io/library/a:v1".to_owned());
        assert_eq!(object.subjects, [reference].into());
        let foreign = json!({"apiVersion": "example.com/v1", "kind": "App", "name": "a", "uid": "2", "controller": true});
        assert!(live(item(foreign), DEPLOYMENT).unwrap().is_root);
    }

    #[test]
    fn what_runs_without_a_record_is_named_by_its_root() {
        let root = live(item(json!({})), DEPLOYMENT).unwrap();
        let mut made = root.clone();
        made.is_root = false;
        made.workload.name = "web-5d4f".to_owned();
        let objects = [made, root.clone()];
        let memory = Memory::default();
        let missing = unrecorded(&objects, &memory, "gate");
        let named: Vec<_> = missing.values().map(|(_, object)| *object).collect();
        assert_eq!(named, [&root]);
    }
}
