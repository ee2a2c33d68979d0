//! Listed objects → the workloads that are judged: those without a judged owner, each with the number of its Pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use promotion_gate_core::gate::{Change, Parent};
use serde_json::Value;

use crate::admission::{self, Manifests, Understood};

/// What runs.
#[derive(Default)]
pub(super) struct Inventory {
    pub(super) found: Vec<Found>,
    pub(super) rest: Rest,
    /// Objects for which Pods can be created, by UID.
    parents: HashMap<String, Parent>,
    /// For the UID of each object that belongs to a judged one, the index of that.
    belongs_to: HashMap<String, usize>,
    /// Pods that run other images than their workload: the index of the workload, and the images → the index of the first.
    others: HashMap<(usize, BTreeSet<String>), usize>,
}

/// What is not judged.
#[derive(Default)]
pub(super) struct Rest {
    /// Owners of kinds that are not judged, with what they own.
    pub(super) owners: BTreeMap<UnknownKind, Owned>,
    /// Pods that a kubelet made from a file of its node.
    pub(super) mirrors: usize,
    /// Pods that have ended.
    pub(super) ended: usize,
}

/// A kind that is not judged, and the kind of what it owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnknownKind {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) owns: String,
}

/// How many objects are owned, and one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) objects: usize,
    pub(super) example: String,
}

/// A workload that is judged.
pub(super) struct Found {
    pub(super) change: Change,
    /// Its Pods; 1 for a Pod.
    pub(super) pods: usize,
    /// Of a Pod with more images than its owner: the owner, if the rest of the Pod is judged with its workload.
    pub(super) parent: Option<Parent>,
    images: BTreeSet<String>,
}

/// The order in which kinds are listed: owners before what they own.
pub(super) fn rank(kind: &str) -> usize {
    let late = [
        "Experiment",
        "AnalysisRun",
        "ReplicationController",
        "ReplicaSet",
        "Job",
        "Pod",
    ];
    let at = late.iter().position(|late| *late == kind);
    at.map_or(0, |at| at + 1)
}

impl Inventory {
    /// Adds an object; `referred` is what its `workloadRef` names. Owners come before what they own.
    pub(super) fn add(&mut self, object: &Value, referred: Option<&Value>) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let is_pod = text("/kind") == Some("Pod");
        if is_pod
            && object
                .pointer("/metadata/annotations/kubernetes.io~1config.mirror")
                .is_some()
        {
            self.rest.mirrors += 1;
            return;
        }
        if is_pod && matches!(text("/status/phase"), Some("Succeeded" | "Failed")) {
            self.rest.ended += 1;
            return;
        }
        let namespace = text("/metadata/namespace").unwrap_or_default();
        let manifests = Manifests::of(referred, namespace);
        let understood = admission::understand_manifest(object, namespace, None, &manifests);
        let Understood::Change(change) = understood else {
            return;
        };
        let written =
            |image: &promotion_gate_core::gate::ImageUse| image.reference.as_written().to_owned();
        let images: BTreeSet<_> = change.images.iter().map(written).collect();
        let uid = text("/metadata/uid").unwrap_or_default().to_owned();
        let pods = usize::from(is_pod);
        let owner = owner(object);
        let owner_uid = owner.and_then(|owner| owner.get("uid")?.as_str());
        if let Some(parent) = admission::parent(object).filter(|_| !is_pod) {
            self.parents.insert(uid.clone(), parent);
        }
        // 1. What belongs to a judged workload is judged with it, unless it runs something else.
        if let Some(at) = owner_uid.and_then(|uid| self.belongs_to.get(uid)).copied() {
            self.belongs_to.insert(uid.clone(), at);
            let Some(root) = self.found.get_mut(at) else {
                return;
            };
            if !is_pod || images.is_subset(&root.images) {
                root.pods += pods;
                return;
            }
            let judged = root.images.clone();
            let other = self.others.get(&(at, images.clone())).copied();
            if let Some(other) = other.and_then(|at| self.found.get_mut(at)) {
                other.pods += pods;
                return;
            }
            let parent = owner_uid.and_then(|uid| self.parents.get(uid));
            let parent = parent.filter(|parent| {
                let named = change.images.iter();
                let of_template =
                    named.filter(|it| parent.images.contains(&it.reference.to_string()));
                let mut written = of_template.map(written);
                written.all(|image| judged.contains(&image))
            });
            let parent = parent.cloned();
            self.others.insert((at, images.clone()), self.found.len());
            self.found.push(Found {
                change: *change,
                pods,
                parent,
                images,
            });
            return;
        }
        // 2. What has no judged owner is judged itself, and all that one foreign owner makes together.
        let at = self.found.len();
        if let (Some(owner), Some(owner_uid)) = (owner, owner_uid) {
            self.note_owner(owner, &change);
            self.belongs_to.insert(owner_uid.to_owned(), at);
        }
        self.belongs_to.insert(uid, at);
        self.found.push(Found {
            change: *change,
            pods,
            parent: None,
            images,
        });
    }

    /// Notes an owner of a kind that is not judged.
    fn note_owner(&mut self, owner: &Value, change: &Change) {
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        let group = match text("apiVersion").split_once('/') {
            Some((group, _)) => group,
            None => "",
        };
        if admission::plural(group, text("kind")).is_some() {
            return;
        }
        let kind = UnknownKind {
            api_version: text("apiVersion").to_owned(),
            kind: text("kind").to_owned(),
            owns: change.workload.kind.clone(),
        };
        let workload = &change.workload;
        let owned = self.rest.owners.entry(kind).or_default();
        if owned.objects == 0 {
            owned.example = match &workload.namespace {
                Some(namespace) => format!("{namespace}/{}", workload.name),
                None => workload.name.clone(),
            };
        }
        owned.objects += 1;
    }
}

/// The owner reference of the controller.
fn owner(object: &Value) -> Option<&Value> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let is_controller = |owner: &&Value| owner.get("controller") == Some(&Value::Bool(true));
    owners.iter().find(is_controller)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(
        api_version: &str,
        kind: &str,
        name: &str,
        owner: Option<&str>,
        image: &str,
    ) -> Value {
        let pod = json!({"containers": [{"name": "app", "image": image}]});
        let owners = owner.map(|owner| {
            let (kind, name) = owner.split_once('/').unwrap();
            let api_version = match kind {
                "TaskRun" => "tekton.dev/v1",
                _ => "apps/v1",
            };
            vec![json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": name, "controller": true})]
        });
        json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": "shop", "uid": name, "ownerReferences": owners},
            "spec": match kind {
                "Pod" => pod,
                _ => json!({"template": {"spec": pod}}),
            },
        })
    }

    fn inventory(objects: &[Value]) -> Inventory {
        let mut inventory = Inventory::default();
        for object in objects {
            inventory.add(object, None);
        }
        inventory
    }

    fn shown(inventory: &Inventory) -> Vec<String> {
        let shown = inventory.found.iter().map(|found| {
            let workload = &found.change.workload;
            format!("{} {}: {}", workload.kind, workload.name, found.pods)
        });
        shown.collect()
    }

    #[test]
    fn pods_are_judged_with_the_workload_that_they_belong_to() {
        let inventory = inventory(&[
            object("apps/v1", "Deployment", "web", None, "app:2"),
            object(
                "apps/v1",
                "ReplicaSet",
                "web-1",
                Some("Deployment/web"),
                "app:1",
            ),
            object(
                "apps/v1",
                "ReplicaSet",
                "web-2",
                Some("Deployment/web"),
                "app:2",
            ),
            object("v1", "Pod", "web-2-a", Some("ReplicaSet/web-2"), "app:2"),
            object("v1", "Pod", "web-2-b", Some("ReplicaSet/web-2"), "app:2"),
            object("v1", "Pod", "alone", None, "app:2"),
        ]);
        assert_eq!(shown(&inventory), ["Deployment web: 2", "Pod alone: 1"]);
        assert!(inventory.rest.owners.is_empty());
    }

    #[test]
    fn a_pod_that_runs_other_images_than_its_owner_is_judged_itself() {
        let inventory = inventory(&[
            object("apps/v1", "Deployment", "web", None, "app:2"),
            object(
                "apps/v1",
                "ReplicaSet",
                "web-1",
                Some("Deployment/web"),
                "app:1",
            ),
            object("v1", "Pod", "web-1-a", Some("ReplicaSet/web-1"), "app:1"),
            object("v1", "Pod", "web-1-b", Some("ReplicaSet/web-1"), "app:1"),
            object("v1", "Pod", "forged", Some("Deployment/web"), "miner"),
        ]);
        assert_eq!(
            shown(&inventory),
            ["Deployment web: 0", "Pod web-1-a: 2", "Pod forged: 1"]
        );
    }

    #[test]
    fn the_owner_of_a_pod_to_which_an_image_was_added_is_known_if_the_rest_is_judged_with_it() {
        let mut meshed = object("v1", "Pod", "web-2-a", Some("ReplicaSet/web-2"), "app:2");
        let mesh = json!({"name": "mesh", "image": "mesh:1"});
        let add = |pod: &mut Value| {
            let containers = pod["spec"]["containers"].as_array_mut();
            containers.unwrap().push(mesh.clone());
        };
        add(&mut meshed);
        let mut older = object("v1", "Pod", "web-1-a", Some("ReplicaSet/web-1"), "app:1");
        add(&mut older);
        let owned = |name: &str, image: &str| {
            let owner = Some("Deployment/web");
            object("apps/v1", "ReplicaSet", name, owner, image)
        };
        let inventory = inventory(&[
            object("apps/v1", "Deployment", "web", None, "app:2"),
            owned("web-1", "app:1"),
            owned("web-2", "app:2"),
            meshed,
            older,
        ]);
        let parents = inventory.found.iter().map(|found| {
            let parent = found.parent.as_ref();
            parent.map(|parent| parent.workload.name.as_str())
        });
        // The image of an older revision is judged, so that its Pod is judged as a whole.
        assert_eq!(parents.collect::<Vec<_>>(), [None, Some("web-2"), None]);
    }

    #[test]
    fn owners_of_kinds_that_are_not_judged_are_named() {
        let inventory = inventory(&[
            object("v1", "Pod", "build-1", Some("TaskRun/build"), "builder"),
            object("v1", "Pod", "build-2", Some("TaskRun/build"), "builder"),
            object("v1", "Pod", "orphan", Some("ReplicaSet/gone"), "app:1"),
        ]);
        assert_eq!(shown(&inventory), ["Pod build-1: 2", "Pod orphan: 1"]);
        let owners: Vec<_> = inventory.rest.owners.into_iter().collect();
        let [(kind, owned)] = owners.as_slice() else {
            panic!("{owners:?}");
        };
        assert_eq!((kind.kind.as_str(), kind.owns.as_str()), ("TaskRun", "Pod"));
        assert_eq!(owned.example, "shop/build-1");
    }

    #[test]
    fn pods_of_a_node_s_files_and_pods_that_ended_are_counted() {
        let mut mirror = object("v1", "Pod", "etcd", None, "etcd");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "1"});
        let mut ended = object("v1", "Pod", "job", None, "app");
        ended["status"] = json!({"phase": "Succeeded"});
        let inventory = inventory(&[mirror, ended]);
        assert!(inventory.found.is_empty());
        assert_eq!((inventory.rest.mirrors, inventory.rest.ended), (1, 1));
    }
}
