//! An object → the images that it names, with their field paths; and the place of the first image in an object of an unknown kind.

use promotion_gate_core::documents::{Path, Step};
use promotion_gate_core::gate::{Role, UnreadableField};
use serde_json::{Map, Value};

use super::kinds::{CONTAINERS, WorkloadKind, group_and_kind, row};
use super::revision;

/// How the names of fields with containers end, in lower case: in pod specifications, Argo Workflows, Tekton, KubeVirt.
const CONTAINER_FIELDS: &[&str] = &[
    "container",
    "containers",
    "containerdisk",
    "script",
    "sidecar",
    "sidecars",
    "step",
    "steps",
    "steptemplate",
];
/// A list with one of these names makes an object with an `image` a container, at any place.
const CONTAINER_LISTS: &[&str] = &["command", "args", "env", "envFrom", "volumeMounts"];
/// So does a text with one of these names.
const CONTAINER_TEXTS: &[&str] = &["script", "imagePullPolicy", "workingDir"];
/// The fields of a ConfigMap and a Secret that hold texts under any key.
const DATA: &[&str] = &["data", "stringData"];

/// A field that names an image, as written.
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
    /// Fields that could not be understood.
    pub unreadable: Vec<UnreadableField>,
}

/// The message about a document that is not an object.
pub(super) const NO_OBJECT: &str = "not a Kubernetes object: `apiVersion` or `kind` is missing";

/// The message about a document that is not an object, with a remedy if its origin is known.
pub fn no_object(document: &Value) -> String {
    let has = |field: &str| document.get(field).is_some();
    match has("Pulled") && has("Digest") {
        true => format!(
            "{NO_OBJECT}; `Pulled:` and `Digest:` are lines that Helm prints about a chart that it pulls from a registry: run `helm pull` first, and render the file"
        ),
        false => NO_OBJECT.to_owned(),
    }
}

/// The place of the first container in an object of any kind, or of the first image that is split into repository and tag.
pub fn image_in(object: &Value) -> Option<Path> {
    let steps = image_below("", "", object)?;
    Some(steps.into_iter().rev().collect())
}

/// The steps to the first image in the value of `field`, the last step first. `above` is the field that holds `field`: containers
/// can be a map by name instead of a list.
fn image_below(above: &str, field: &str, value: &Value) -> Option<Vec<Step>> {
    let through = |step: Step, steps: Option<Vec<Step>>| {
        let mut steps = steps?;
        steps.push(step);
        Some(steps)
    };
    match value {
        Value::Object(fields)
            if is_container(above, field, fields) || is_split_image(field, fields) =>
        {
            Some(Vec::new())
        }
        // The schema of a custom resource does not run anything, even if its defaults hold containers.
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| *key != "openAPIV3Schema")
            .find_map(|(key, below)| {
                through(Step::Key(key.clone()), image_below(field, key, below))
            }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| through(Step::Index(index), image_below(above, field, item))),
        _ => None,
    }
}

fn is_container(above: &str, field: &str, fields: &Map<String, Value>) -> bool {
    // A pattern, as in policies of other tools, does not name an image.
    let is_image = |image: &str| !image.trim().is_empty() && !image.contains('*');
    let has = |names: &[&str], is: fn(&Value) -> bool| {
        let mut found = names.iter().filter_map(|name| fields.get(*name));
        found.any(is)
    };
    let names_containers = |field: &str| {
        let lower = field.to_ascii_lowercase();
        CONTAINER_FIELDS.iter().any(|end| lower.ends_with(end))
    };
    let image = fields.get("image").and_then(Value::as_str);
    image.is_some_and(is_image)
        && (names_containers(field)
            || above.ends_with('s') && names_containers(above)
            || has(CONTAINER_LISTS, Value::is_array)
            || has(CONTAINER_TEXTS, Value::is_string) && !DATA.contains(&field))
}

/// Whether an image is written as in the values of a Helm chart: `image: {repository: …, tag: …}`.
fn is_split_image(field: &str, fields: &Map<String, Value>) -> bool {
    let has = |name: &str| {
        let value = fields.get(name);
        value.is_some_and(|value| {
            value.is_number() || value.as_str().is_some_and(|it| !it.is_empty())
        })
    };
    field.to_ascii_lowercase().ends_with("image")
        && has("repository")
        && (has("tag") || has("digest"))
}

/// Whether a document has an `apiVersion` and a `kind`.
pub fn is_object(document: &Value) -> bool {
    group_and_kind(document).is_some()
}

/// Every image that an object names; `None` for a kind without images.
pub fn images(object: &Value) -> Option<Images> {
    let (group, kind) = group_and_kind(object)?;
    let kind = row(&group, &kind)?;
    let mut images = Images::default();
    if kind.is_revision()
        && let Some(why) = revision::fault(object)
    {
        images.unreadable.push(UnreadableField {
            field: "data".to_owned(),
            why,
        });
    }
    for path in kind.pod_specs {
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

/// The pod templates of an object (for a Pod, the Pod itself): the parents of its pod specifications.
pub(super) fn templates<'a>(object: &'a Value, kind: &WorkloadKind) -> Vec<&'a Value> {
    let mut found = Vec::new();
    for path in kind.pod_specs {
        let above = path.split_last().map_or(*path, |(_, above)| above);
        collect(object, above, &mut found);
    }
    found
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

/// Follows `path`. An absent field is allowed; a field of another type is unreadable.
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
    /// Adds the images of an object that is named at `field`.
    pub(super) fn follow(&mut self, field: &str, object: &Value) {
        let referred = images(object).unwrap_or_default();
        let through = |path: &str| format!("{field} → {path}");
        for mut found in referred.fields {
            found.path = through(&found.path);
            self.fields.push(found);
        }
        for mut unreadable in referred.unreadable {
            unreadable.field = through(&unreadable.field);
            self.unreadable.push(unreadable);
        }
    }

    fn add(&mut self, image: &Value, path: &str, role: Role) {
        match image.as_str() {
            // A template may leave the image empty; the Pod that is created from it is judged.
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
    fn images_are_found_by_shape_and_schemas_are_not() {
        let found = |object: Value| image_in(&object).map(|path| path.to_string());
        let at = |path: &str| Some(path.to_owned());
        for (holder, path) in [
            (
                json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"image": "x"}]}}}}),
                "spec.template.spec.containers[1]",
            ),
            (
                json!({"spec": {"templates": [{"name": "a"}, {"container": {"image": "x"}}]}}),
                "spec.templates[1].container",
            ),
            (
                json!({"spec": {"templates": [{"script": {"image": "x", "source": "a"}}]}}),
                "spec.templates[0].script",
            ),
            (
                json!({"spec": {"templates": [{"containerSet": {"containers": [{"image": "x"}]}}]}}),
                "spec.templates[0].containerSet.containers[0]",
            ),
            (
                json!({"spec": {"workflowSpec": {"templates": [{"sidecars": [{"image": "{{x}}"}]}]}}}),
                "spec.workflowSpec.templates[0].sidecars[0]",
            ),
            (
                json!({"spec": {"templateDefaults": {"initContainers": [{"image": "x"}]}}}),
                "spec.templateDefaults.initContainers[0]",
            ),
            (
                json!({"spec": {"steps": [{"image": "$(params.x)"}]}}),
                "spec.steps[0]",
            ),
            (
                json!({"spec": {"tasks": [{"taskSpec": {"stepTemplate": {"image": "x"}}}]}}),
                "spec.tasks[0].taskSpec.stepTemplate",
            ),
            (json!({"spec": {"image": "x", "script": "a"}}), "spec"),
            (
                json!({"spec": {"values": {"extraContainers": [{"image": "x"}]}}}),
                "spec.values.extraContainers[0]",
            ),
            (
                json!({"spec": {"driver.x": {"image": "x", "env": []}}}),
                "spec[\"driver.x\"]",
            ),
            (
                json!({"spec": {"containers": {"app": {"image": "x"}}}}),
                "spec.containers.app",
            ),
            (
                json!({"spec": {"pod": {"initContainers": {"a": {"name": "a"}, "b": {"image": "x"}}}}}),
                "spec.pod.initContainers.b",
            ),
            (
                json!({"spec": {"values": {"image": {"repository": "x", "tag": "v1"}}}}),
                "spec.values.image",
            ),
            (
                json!({"spec": {"sidecarImage": {"registry": "r", "repository": "x", "tag": 1.2}}}),
                "spec.sidecarImage",
            ),
            (
                json!({"spec": {"image": {"repository": "x", "digest": "sha256:0"}}}),
                "spec.image",
            ),
        ] {
            assert_eq!(found(holder), at(path));
        }
        let schema = json!({"properties": {"containers": {"items": {"properties": {"image": {"type": "string"}, "command": {}}}, "default": [{"image": "x"}]}}});
        for other in [
            json!({"kind": "ConfigMap", "data": {"image": "x", "name": "a", "command": "b", "script": "c"}}),
            json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}}),
            json!({"images": [{"name": "a", "image": "x"}]}),
            json!({"spec": {"image": "x", "interval": "1m"}}),
            json!({"spec": {"validate": {"containers": [{"image": "good.example/*"}]}}}),
            json!({"spec": {"container": {"resources": {"image": "x"}}}}),
            json!({"spec": {"chart": {"repository": "x", "tag": "v1"}}}),
            json!({"spec": {"image": {"repository": "x", "tag": ""}}}),
            json!({"spec": {"containers": [{"image": " "}, {"image": {"tag": "x"}}, "image"]}}),
        ] {
            assert_eq!(found(other), None);
        }
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
