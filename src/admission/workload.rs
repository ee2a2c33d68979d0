//! Which kinds carry images, and where: one table, from which everything else derives.

use promotion_gate_core::gate::{Role, UnreadableField};
use serde_json::Value;

/// Where a kind keeps its pod specifications.
struct Row {
    groups: &'static [&'static str],
    kind: &'static str,
    /// Paths to pod specifications; `*` is every item of a list.
    pod_specs: &'static [&'static [&'static str]],
}

const APPS: &[&str] = &["apps", "extensions"];
const BATCH: &[&str] = &["batch"];
const CORE: &[&str] = &[""];
const ARGO: &[&str] = &["argoproj.io"];
const TEMPLATE: &[&[&str]] = &[&["spec", "template", "spec"]];
const METRICS: &[&[&str]] = &[&[
    "spec", "metrics", "*", "provider", "job", "spec", "template", "spec",
]];

const TABLE: &[Row] = &[
    Row {
        groups: CORE,
        kind: "Pod",
        pod_specs: &[&["spec"]],
    },
    Row {
        groups: CORE,
        kind: "PodTemplate",
        pod_specs: &[&["template", "spec"]],
    },
    Row {
        groups: CORE,
        kind: "ReplicationController",
        pod_specs: TEMPLATE,
    },
    Row {
        groups: APPS,
        kind: "ReplicaSet",
        pod_specs: TEMPLATE,
    },
    Row {
        groups: APPS,
        kind: "Deployment",
        pod_specs: TEMPLATE,
    },
    Row {
        groups: APPS,
        kind: "StatefulSet",
        pod_specs: TEMPLATE,
    },
    Row {
        groups: APPS,
        kind: "DaemonSet",
        pod_specs: TEMPLATE,
    },
    Row {
        groups: BATCH,
        kind: "Job",
        pod_specs: TEMPLATE,
    },
    Row {
        groups: BATCH,
        kind: "CronJob",
        pod_specs: &[&["spec", "jobTemplate", "spec", "template", "spec"]],
    },
    Row {
        groups: ARGO,
        kind: "Rollout",
        pod_specs: TEMPLATE,
    },
    Row {
        groups: ARGO,
        kind: "AnalysisTemplate",
        pod_specs: METRICS,
    },
    Row {
        groups: ARGO,
        kind: "ClusterAnalysisTemplate",
        pod_specs: METRICS,
    },
    Row {
        groups: ARGO,
        kind: "AnalysisRun",
        pod_specs: METRICS,
    },
    Row {
        groups: ARGO,
        kind: "Experiment",
        pod_specs: &[&["spec", "templates", "*", "template", "spec"]],
    },
];

/// The lists of containers in a pod specification.
const CONTAINERS: &[(&str, Role)] = &[
    ("containers", Role::Container),
    ("initContainers", Role::InitContainer),
    ("ephemeralContainers", Role::EphemeralContainer),
];

/// One place that names an image, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageField {
    /// Field path, such as `spec.template.spec.containers[0].image`.
    pub path: String,
    /// The reference as written.
    pub written: String,
    /// What the image is used for.
    pub role: Role,
}

/// The images of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Every image, in document order.
    pub fields: Vec<ImageField>,
    /// What could not be understood.
    pub unreadable: Vec<UnreadableField>,
}

/// What is said about a document that is no object.
pub(super) const NO_OBJECT: &str = "not a Kubernetes object: `apiVersion` and `kind` are missing";
/// How deep an object is searched for a pod template.
const MAXIMUM_SEARCH: usize = 32;

/// What is said about a document that is no object, with what to do where its origin is known.
pub fn no_object(document: &Value) -> String {
    let has = |field: &str| document.get(field).is_some();
    match has("Pulled") && has("Digest") {
        true => format!(
            "{NO_OBJECT}; `Pulled:` and `Digest:` are lines that Helm prints about a chart that it pulls from a registry: run `helm pull` first, and render the file"
        ),
        false => NO_OBJECT.to_owned(),
    }
}

/// Where an object of any kind seems to hold a pod specification: containers that name an image.
pub fn pod_template_in(object: &Value) -> Option<String> {
    let mut waiting = vec![(object, String::new(), 0)];
    while let Some((value, path, depth)) = waiting.pop() {
        let below = |key: &str| match path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        match value {
            _ if depth > MAXIMUM_SEARCH => {}
            Value::Object(fields) => {
                let containers = CONTAINERS
                    .iter()
                    .filter_map(|(list, _)| fields.get(*list)?.as_array());
                let names_image =
                    |container: &Value| container.get("image").is_some_and(Value::is_string);
                if containers.flatten().any(names_image) {
                    return Some(path);
                }
                waiting.extend(
                    fields
                        .iter()
                        .map(|(key, value)| (value, below(key), depth + 1)),
                );
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                waiting.extend(
                    items.map(|(index, item)| (item, format!("{path}[{index}]"), depth + 1)),
                );
            }
            _ => {}
        }
    }
    None
}

/// Whether a document says which kind of object it is.
pub fn is_object(document: &Value) -> bool {
    group_and_kind(document).is_some()
}

/// Every image that an object names; `None` for a kind that carries none.
pub fn images(object: &Value) -> Option<Images> {
    let (group, kind) = group_and_kind(object)?;
    let row = row(&group, &kind)?;
    let mut images = Images::default();
    for path in row.pod_specs {
        descend(
            object,
            path,
            String::new(),
            &mut images,
            &mut |spec, path, images| pod_spec(spec, path, images),
        );
    }
    Some(images)
}

/// Whether objects of this kind carry images.
pub(super) fn carries_images(group: &str, kind: &str) -> bool {
    row(group, kind).is_some()
}

/// The pod templates (or, for a Pod, the Pod) of an object: what surrounds each pod specification.
pub(super) fn templates<'a>(object: &'a Value, group: &str, kind: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    for path in row(group, kind).into_iter().flat_map(|row| row.pod_specs) {
        let above = path.split_last().map_or(*path, |(_, above)| above);
        collect(object, above, &mut found);
    }
    found
}

/// API group and kind.
pub(super) fn group_and_kind(object: &Value) -> Option<(String, String)> {
    let version = object.get("apiVersion")?.as_str()?;
    let group = version.split_once('/').map_or("", |(group, _)| group);
    Some((group.to_owned(), object.get("kind")?.as_str()?.to_owned()))
}

fn row(group: &str, kind: &str) -> Option<&'static Row> {
    TABLE
        .iter()
        .find(|row| row.kind == kind && row.groups.contains(&group))
}

fn collect<'a>(value: &'a Value, path: &[&str], found: &mut Vec<&'a Value>) {
    match path.split_first() {
        None => found.push(value),
        Some((&"*", below)) => value
            .as_array()
            .into_iter()
            .flatten()
            .for_each(|item| collect(item, below, found)),
        Some((key, below)) => value
            .get(key)
            .into_iter()
            .for_each(|value| collect(value, below, found)),
    }
}

/// Follows `path`; what is absent is no error, what is of another type is.
fn descend(
    value: &Value,
    path: &[&str],
    here: String,
    images: &mut Images,
    visit: &mut dyn FnMut(&Value, &str, &mut Images),
) {
    match path.split_first() {
        _ if value.is_null() => {}
        None => visit(value, &here, images),
        Some((&"*", below)) => match value.as_array() {
            Some(items) => {
                for (index, item) in items.iter().enumerate() {
                    descend(item, below, format!("{here}[{index}]"), images, visit);
                }
            }
            None => images.refuse(here, "a list", value),
        },
        Some((key, below)) => match value.as_object() {
            Some(fields) => {
                if let Some(field) = fields.get(*key) {
                    let here = if here.is_empty() {
                        (*key).to_owned()
                    } else {
                        format!("{here}.{key}")
                    };
                    descend(field, below, here, images, visit);
                }
            }
            None => images.refuse(here, "an object", value),
        },
    }
}

fn pod_spec(spec: &Value, path: &str, images: &mut Images) {
    for (list, role) in CONTAINERS {
        descend(
            spec,
            &[list, "*", "image"],
            path.to_owned(),
            images,
            &mut |image, path, images| {
                images.add(image, path, *role);
            },
        );
    }
    descend(
        spec,
        &["volumes", "*", "image", "reference"],
        path.to_owned(),
        images,
        &mut |image, path, images| {
            images.add(image, path, Role::ImageVolume);
        },
    );
}

impl Images {
    fn add(&mut self, image: &Value, path: &str, role: Role) {
        match image.as_str() {
            // A template may leave the image to whoever fills it in; the Pod that comes of it is judged.
            Some(written) if written.trim().is_empty() => {}
            Some(written) => self.fields.push(ImageField {
                path: path.to_owned(),
                written: written.to_owned(),
                role,
            }),
            None => self.refuse(path.to_owned(), "a text", image),
        }
    }

    fn refuse(&mut self, field: String, expected: &str, found: &Value) {
        let found = match found {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.unreadable.push(UnreadableField {
            field,
            why: format!("expected {expected}, found {found}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_image_is_found_with_its_field_path() {
        let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": {
            "initContainers": [{"image": "a"}], "containers": [{"name": "x"}, {"image": "b"}],
            "volumes": [{"image": {"reference": "c"}}, {"emptyDir": {}}],
        }}}}}});
        let images = images(&cron).unwrap();
        let found: Vec<_> = images
            .fields
            .iter()
            .map(|field| (field.path.as_str(), field.written.as_str()))
            .collect();
        let at = "spec.jobTemplate.spec.template.spec";
        assert_eq!(
            found,
            [
                (format!("{at}.containers[1].image").as_str(), "b"),
                (format!("{at}.initContainers[0].image").as_str(), "a"),
                (format!("{at}.volumes[0].image.reference").as_str(), "c"),
            ]
        );
    }

    #[test]
    fn a_field_of_another_type_is_unreadable_and_never_skipped() {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": {"image": "a"}}});
        assert_eq!(images(&pod).unwrap().unreadable[0].field, "spec.containers");
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": ["a"]}]}});
        assert_eq!(
            images(&pod).unwrap().unreadable[0].why,
            "expected a text, found a list"
        );
        assert_eq!(
            images(&json!({"apiVersion": "v1", "kind": "ConfigMap"})),
            None
        );
    }
}
