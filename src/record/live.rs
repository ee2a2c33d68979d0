//! What runs: every object of the kinds that are judged, with the records that its images belong to.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::Error;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use promotion_gate_core::gate::{Digest, ImageReference, RecordEntry, Workload};
use serde_json::Value;

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
    /// Whether an autoscaler could start it: it has a number of replicas.
    pub(super) scales: bool,
    /// Whether it would run if its number of replicas were not 0.
    pub(super) is_at_zero: bool,
    /// The object whose template it runs.
    pub(super) refers: Option<Workload>,
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
    follow(&mut objects);
    Ok(objects)
}

/// Gives each object that runs the template of another one that template.
fn follow(objects: &mut [LiveObject]) {
    let referring = objects.iter().enumerate();
    let found = referring.filter_map(|(at, object)| {
        let refers = object.refers.as_ref()?;
        let referred = objects
            .iter()
            .find(|it| it.workload.is_same_object(refers))?;
        Some((at, referred.template.clone(), referred.subjects.clone()))
    });
    let found: Vec<_> = found.collect();
    for (at, template, subjects) in found {
        if let Some(object) = objects.get_mut(at) {
            object.template = template;
            object.subjects.extend(subjects);
        }
    }
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
    let is_at_zero = kind.scales && changed.is_staged && {
        let mut woken = object.clone();
        let spec = woken.pointer_mut("/spec").and_then(Value::as_object_mut);
        spec.map(|spec| spec.insert("replicas".to_owned(), 1.into()));
        !admission::changed_object(&woken).is_staged
    };
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
        scales: kind.scales,
        is_at_zero,
        refers: admission::referred(&object),
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

/// The images of objects that an autoscaler can start, as far as no admission of the object is recorded with them: what it starts from zero
/// rests on an entry of the object itself for each image. Other objects may run the same images.
pub(super) fn startable<'a>(
    objects: &'a [LiveObject],
    memory: &Memory,
    gate: &str,
) -> Vec<(&'a RecordSubject, &'a LiveObject)> {
    let startable = objects
        .iter()
        .filter(|object| object.scales && object.is_root);
    let images = startable.flat_map(|object| object.subjects.iter().map(move |it| (it, object)));
    let missing = images.filter(|(subject, object)| {
        let name = object.record_of(subject, gate);
        !memory.holds(&name, &object.workload, &object.template)
    });
    missing.collect()
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
        scales: true,
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
    fn only_a_workload_that_has_no_replicas_and_is_not_held_back_otherwise_is_at_zero() {
        let at_zero = |spec: Value| {
            let mut object = serde_json::to_value(item(json!({}))).unwrap();
            let fields = object["spec"].as_object_mut().unwrap();
            fields.extend(spec.as_object().unwrap().clone());
            let object = live(serde_json::from_value(object).unwrap(), DEPLOYMENT).unwrap();
            (object.is_staged, object.is_at_zero)
        };
        assert_eq!(at_zero(json!({"replicas": 0})), (true, true));
        assert_eq!(
            at_zero(json!({"replicas": 0, "paused": true})),
            (true, false)
        );
        assert_eq!(at_zero(json!({"paused": true})), (true, false));
        assert_eq!(at_zero(json!({"replicas": 2})), (false, false));
    }

    #[test]
    fn each_object_that_an_autoscaler_can_start_is_named_although_another_one_runs_its_image() {
        let object = || live(item(json!({})), DEPLOYMENT).unwrap();
        let mut objects = [object(), object(), object()];
        objects[1].workload.name = "worker".to_owned();
        objects[2].is_root = false;
        let memory = Memory::default();
        let named = |objects: &[LiveObject]| {
            let startable = startable(objects, &memory, "gate");
            let names = startable.iter().map(|(_, it)| it.workload.name.clone());
            names.collect::<Vec<_>>()
        };
        assert_eq!(named(&objects), ["web", "worker"]);
        objects[1].scales = false;
        assert_eq!(named(&objects), ["web"]);
    }

    #[test]
    fn an_object_that_refers_to_a_template_runs_that() {
        let deployment = live(item(json!({})), DEPLOYMENT).unwrap();
        let mut rollout = deployment.clone();
        rollout.workload.kind = "Rollout".to_owned();
        rollout.template = Digest::sha256(b"none");
        rollout.subjects.clear();
        rollout.refers = Some(deployment.workload.clone());
        let mut objects = [rollout, deployment];
        follow(&mut objects);
        let [rollout, deployment] = objects;
        assert_eq!(rollout.template, deployment.template);
        assert_eq!(rollout.subjects, deployment.subjects);
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
