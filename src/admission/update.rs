//! An update → its effect on what runs (product design, "Kinds of change"), derived from the table of kinds alone.

use promotion_gate_core::gate::{ChangeEffect, Digest};
use serde_json::{Map, Value};

use super::images::templates;
use super::kinds::{
    Activation, CONTAINERS, CONTROLLER_LABELS, HARMLESS_ANNOTATIONS, HARMLESS_CONTAINER_FIELDS,
    HARMLESS_POD_FIELDS, WorkloadKind,
};

/// The effect of an update; `None` if it does not change what runs.
pub(super) fn effect_of(new: &Value, old: &Value, kind: &WorkloadKind) -> Option<ChangeEffect> {
    if old.is_null() || runtime_fields(new, kind) != runtime_fields(old, kind) {
        return Some(ChangeEffect::Runs);
    }
    let mut activations = kind.activations.iter();
    let starts = activations.any(|activation| activation.is_in(new, old))
        || templates_of(new, old, kind).any(|(new, old)| removes_gate(new, old));
    starts.then_some(ChangeEffect::Starts)
}

/// The digest of what an object runs: of the pod templates, and of the fields beside them for kinds that run something else too.
/// The order of keys does not count, since objects are written sorted.
pub(super) fn template_digest(object: &Value, kind: &WorkloadKind) -> Digest {
    let templates = templates(object, kind).into_iter();
    let templates =
        templates.map(|template| without_controller_labels(template_fields(template, kind)));
    let mut fields: Vec<_> = templates.collect();
    let others = kind.template_fields.iter();
    fields.extend(others.map(|pointer| object.pointer(pointer).cloned().unwrap_or_default()));
    Digest::sha256(Value::Array(fields).to_string().as_bytes())
}

/// Without the labels that controllers add to the templates of what they create, so that a Deployment and its ReplicaSets have one
/// digest.
fn without_controller_labels(mut fields: Value) -> Value {
    if let Some(labels) = fields.get_mut(2) {
        remove(labels, CONTROLLER_LABELS);
        if labels.as_object().is_some_and(Map::is_empty) {
            *labels = Value::Null;
        }
    }
    fields
}

/// Whether an object keeps its template, or a part of its Pods, from running: a change that lets it run would be an activation.
pub(super) fn is_staged(object: &Value, kind: &WorkloadKind) -> bool {
    let is_held = |activation: &Activation| match activation {
        Activation::FromZero(field) => numbers(object, field).contains(&0),
        Activation::Cleared(field) => flag(object, field),
        Activation::Lowered(field) => number(object, field, 0) > 0,
        Activation::Left(field, texts) => is_one_of(object, field, texts),
        Activation::Freed(field, texts) => is_another(object, field, texts),
        // The partition itself says what it holds back.
        Activation::Changed(_) | Activation::Exceeds(..) => false,
    };
    is_gated(object, kind) || kind.activations.iter().any(is_held)
}

/// Whether Pods of the object wait for a scheduling gate.
pub(super) fn is_gated(object: &Value, kind: &WorkloadKind) -> bool {
    let templates = templates(object, kind);
    templates.iter().any(|template| !gates(template).is_empty())
}

fn number(object: &Value, pointer: &str, absent: i64) -> i64 {
    let number = object.pointer(pointer).and_then(Value::as_i64);
    number.unwrap_or(absent)
}

/// A number that is 1 where it is absent; of a list, that of each item.
fn numbers(object: &Value, pointer: &str) -> Vec<i64> {
    match pointer.split_once("/*") {
        None => vec![number(object, pointer, 1)],
        Some((list, below)) => {
            let items = items(object, list).iter();
            items.map(|item| number(item, below, 1)).collect()
        }
    }
}

fn flag(object: &Value, pointer: &str) -> bool {
    let flag = object.pointer(pointer).and_then(Value::as_bool);
    flag.unwrap_or(false)
}

fn is_one_of(object: &Value, pointer: &str, texts: &[&str]) -> bool {
    let text = object.pointer(pointer).and_then(Value::as_str);
    text.is_some_and(|text| texts.contains(&text))
}

fn is_another(object: &Value, pointer: &str, texts: &[&str]) -> bool {
    let text = object.pointer(pointer).and_then(Value::as_str);
    text.is_some_and(|text| !texts.contains(&text))
}

/// The pod templates after and before an update.
fn templates_of<'a>(
    new: &'a Value,
    old: &'a Value,
    kind: &WorkloadKind,
) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    templates(new, kind).into_iter().zip(templates(old, kind))
}

/// Whether an update of the status lets run what was staged.
pub(super) fn steers(new: &Value, old: &Value, kind: &WorkloadKind) -> bool {
    let mut steering = kind.steering.iter();
    steering.any(|activation| activation.is_in(new, old))
}

/// Whether a Pod that waited for a scheduling gate does not wait for it any more.
fn removes_gate(new: &Value, old: &Value) -> bool {
    let left = gates(new);
    gates(old).iter().any(|gate| !left.contains(gate))
}

fn gates(template: &Value) -> &[Value] {
    items(template, "/spec/schedulingGates")
}

fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    let items = object.pointer(pointer).and_then(Value::as_array);
    items.map_or(&[], Vec::as_slice)
}

/// All fields of an object that decide what runs.
fn runtime_fields(object: &Value, kind: &WorkloadKind) -> Vec<Value> {
    let templates = templates(object, kind).into_iter();
    let templates = templates.map(|template| template_fields(template, kind));
    let others = kind.runtime_fields.iter();
    let others = others.map(|pointer| object.pointer(pointer).cloned().unwrap_or_default());
    templates.chain(others).collect()
}

fn template_fields(template: &Value, kind: &WorkloadKind) -> Value {
    let mut spec = template.get("spec").cloned().unwrap_or_default();
    remove(&mut spec, HARMLESS_POD_FIELDS);
    for (list, _) in CONTAINERS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            remove(container, HARMLESS_CONTAINER_FIELDS);
        }
    }
    // Injectors read annotations and labels of a Pod at its creation only; later changes have no effect.
    let metadata = match kind.is_pod() {
        true => Value::Null,
        false => template.get("metadata").cloned().unwrap_or_default(),
    };
    let written = |field: &str| {
        let mut written = metadata.get(field).cloned().unwrap_or_default();
        remove(&mut written, HARMLESS_ANNOTATIONS);
        match written.as_object() {
            Some(none) if none.is_empty() => Value::Null,
            _ => written,
        }
    };
    Value::Array(vec![spec, written("annotations"), written("labels")])
}

fn remove(value: &mut Value, fields: &[&str]) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|field, _| !fields.contains(&field.as_str()));
    }
}

impl Activation {
    fn is_in(&self, new: &Value, old: &Value) -> bool {
        match self {
            Activation::FromZero(field) => {
                let (old, new) = (numbers(old, field), numbers(new, field));
                old.iter().zip(&new).any(|(old, new)| *old == 0 && *new > 0)
            }
            Activation::Cleared(field) => flag(old, field) && !flag(new, field),
            Activation::Lowered(field) => number(new, field, 0) < number(old, field, 0),
            Activation::Left(field, texts) => {
                is_one_of(old, field, texts) && !is_one_of(new, field, texts)
            }
            Activation::Freed(field, texts) => {
                is_another(old, field, texts) && !is_another(new, field, texts)
            }
            Activation::Changed(field) => {
                let value = |object: &Value| object.pointer(field).cloned().unwrap_or_default();
                value(new) != value(old)
            }
            Activation::Exceeds(field, limit) => {
                let limit = number(new, limit, 0);
                number(old, field, 1) <= limit && number(new, field, 1) > limit
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::kinds::{group_and_kind, row};
    use super::*;

    fn of(api_version: &str, kind: &str, spec: Value) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web"}, "spec": spec})
    }

    fn deployment(template: &Value) -> Value {
        of(
            "apps/v1",
            "Deployment",
            json!({"replicas": 2, "template": template}),
        )
    }

    fn digest(object: &Value) -> Digest {
        let (group, kind) = group_and_kind(object).unwrap();
        template_digest(object, row(&group, &kind).unwrap())
    }

    /// A template as an API server has it, with what may differ: command, variable, volume, annotation, priority.
    fn template() -> BoxedStrategy<Value> {
        let text = || prop::option::of(prop::sample::select(vec!["a", "b"]));
        let parts = (text(), text(), text(), text(), text());
        let template = parts.prop_map(|(command, variable, volume, annotation, priority)| {
            let mut template = json!({
                "metadata": {"creationTimestamp": null, "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "nginx", "resources": {}}], "dnsPolicy": "ClusterFirst"},
            });
            let spec = &mut template["spec"];
            if let Some(command) = command {
                spec["containers"][0]["command"] = json!([command]);
            }
            if let Some(variable) = variable {
                spec["containers"][0]["env"] = json!([{"name": "A", "value": variable}]);
            }
            if let Some(volume) = volume {
                spec["volumes"] = json!([{"name": "a", "configMap": {"name": volume}}]);
            }
            if let Some(priority) = priority {
                spec["priorityClassName"] = json!(priority);
            }
            if let Some(annotation) = annotation {
                template["metadata"]["annotations"] = json!({"inject": annotation});
            }
            template
        });
        template.boxed()
    }

    /// The same value, with the keys of each object written from the last to the first.
    fn reversed(value: &Value) -> String {
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().rev();
                let fields = fields.map(|(key, value)| format!("{key:?}:{}", reversed(value)));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }
            Value::Array(items) => {
                let items = items.iter().map(reversed);
                format!("[{}]", items.collect::<Vec<_>>().join(","))
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn a_template_has_one_digest_in_whatever_order_it_is_written(template in template()) {
            let deployment = deployment(&template);
            let again: Value = serde_json::from_str(&reversed(&deployment)).unwrap();
            prop_assert_eq!(digest(&deployment), digest(&again));
        }

        #[test]
        fn a_template_has_one_digest_in_every_object_that_runs_it(template in template()) {
            let expected = digest(&deployment(&template));
            let mut labelled = template.clone();
            for label in CONTROLLER_LABELS {
                labelled["metadata"]["labels"][*label] = json!("0123");
            }
            let mut patch = template.clone();
            patch["$patch"] = json!("replace");
            let job = json!({"template": template});
            let revision = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": {"spec": {"template": patch}}});
            for object in [
                of("apps/v1", "ReplicaSet", json!({"template": labelled})),
                of("apps/v1", "StatefulSet", job.clone()),
                revision,
                of("batch/v1", "CronJob", json!({"schedule": "@daily", "jobTemplate": {"spec": job}})),
                of("batch/v1", "Job", json!({"backoffLimit": 6, "template": labelled})),
                of("argoproj.io/v1alpha1", "Rollout", job),
            ] {
                prop_assert_eq!(&digest(&object), &expected, "{}", object);
            }
        }

        #[test]
        fn templates_have_one_digest_exactly_if_they_run_the_same(one in template(), other in template()) {
            let (one, other) = (deployment(&one), deployment(&other));
            let kind = row("apps", "Deployment").unwrap();
            let is_same = effect_of(&one, &other, kind).is_none();
            prop_assert_eq!(digest(&one) == digest(&other), is_same);
        }
    }

    #[test]
    fn what_keeps_a_template_from_running_stages_it() {
        let staged = |api_version: &str, kind: &str, spec: Value| {
            let object = of(api_version, kind, spec);
            let (group, kind) = group_and_kind(&object).unwrap();
            is_staged(&object, row(&group, &kind).unwrap())
        };
        let partition = json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}});
        let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
        let gated = json!({"schedulingGates": [{"name": "a"}]});
        let by_nobody = json!({"template": {}, "managedBy": "example.com/nobody"});
        for (api_version, kind, spec) in [
            ("apps/v1", "Deployment", json!({"replicas": 0})),
            ("apps/v1", "Deployment", json!({"paused": true})),
            ("apps/v1", "StatefulSet", partition),
            ("apps/v1", "StatefulSet", on_delete.clone()),
            ("apps/v1", "DaemonSet", on_delete),
            ("v1", "Pod", gated.clone()),
            (
                "apps/v1",
                "Deployment",
                json!({"template": {"spec": gated}}),
            ),
            (
                "argoproj.io/v1alpha1",
                "Experiment",
                json!({"templates": [{"replicas": 1}, {"replicas": 0}]}),
            ),
            (
                "batch/v1",
                "CronJob",
                json!({"jobTemplate": {"spec": by_nobody}}),
            ),
            (
                "keda.sh/v1alpha1",
                "ScaledJob",
                json!({"jobTargetRef": {"completions": 0}}),
            ),
            ("batch/v1", "Job", json!({"suspend": true})),
            (
                "batch/v1",
                "CronJob",
                json!({"jobTemplate": {"spec": {"suspend": true}}}),
            ),
            (
                "keda.sh/v1alpha1",
                "ScaledJob",
                json!({"maxReplicaCount": 0}),
            ),
        ] {
            assert!(staged(api_version, kind, spec.clone()), "{kind} {spec}");
            assert!(!staged(api_version, kind, json!({})), "{kind}");
        }
    }
}
