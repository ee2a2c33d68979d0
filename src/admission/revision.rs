//! Whether a ControllerRevision can be read only in the way in which the gate reads it. The API server does not normalise its `data`.
//! A controller lays it over the StatefulSet, and Go reads the outcome: names of fields in whatever case, `ſ` as `s`, and parts that
//! `data` does not hold from the StatefulSet.

use serde_json::{Map, Value};

/// The fields in which images are looked for.
const STRUCTURE: &[&str] = &[
    "metadata",
    "spec",
    "containers",
    "initContainers",
    "ephemeralContainers",
    "volumes",
    "image",
    "reference",
];
/// How a template says that nothing of another one stays.
const REPLACES: (&str, &str) = ("$patch", "replace");

/// What is wrong with the `data` of a revision that holds a template, or may hold one for others.
pub(super) fn fault(revision: &Value) -> Option<String> {
    let data = revision.get("data")?.as_object()?;
    let inner = data.values().filter_map(Value::as_object);
    let mut keys = inner.chain([data]).flat_map(Map::keys);
    if let Some(key) = keys.find(|key| !key.is_ascii()) {
        return Some(format!("the key {key:.60?} is not plain ASCII"));
    }
    let below = |fields: &Map<String, Value>, name: &str| -> Vec<Value> {
        let named = fields
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.clone()).collect()
    };
    let specs = below(data, "spec");
    let specs = specs.iter().filter_map(Value::as_object);
    let templates: Vec<_> = specs.flat_map(|spec| below(spec, "template")).collect();
    let template = templates.first()?;
    let (patch, replace) = REPLACES;
    let is_exact = data.len() == 1
        && data
            .get("spec")
            .and_then(Value::as_object)
            .is_some_and(|spec| {
                spec.len() == 1 && spec.get("template").is_some_and(Value::is_object)
            });
    if !is_exact || template.get(patch).and_then(Value::as_str) != Some(replace) {
        return Some(
            "expected exactly `{spec: {template: {$patch: replace, …}}}`, as the controllers of a StatefulSet and a DaemonSet write it"
                .to_owned(),
        );
    }
    let key = ambiguous_key(template)?;
    Some(format!("the key {key:.60?} could be read as another one"))
}

/// A key that is not plain ASCII, or that is one of the structure but for its case.
fn ambiguous_key(value: &Value) -> Option<&String> {
    let is_ambiguous = |key: &&String| {
        let is_known = |known: &&str| key.eq_ignore_ascii_case(known) && key != known;
        !key.is_ascii() || STRUCTURE.iter().any(is_known)
    };
    match value {
        Value::Object(fields) => {
            let own = fields.keys().find(is_ambiguous);
            own.or_else(|| fields.values().find_map(ambiguous_key))
        }
        Value::Array(items) => items.iter().find_map(ambiguous_key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::images::images;
    use super::*;

    fn template() -> Value {
        json!({
            "$patch": "replace",
            "metadata": {"labels": {"App": "web"}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "main", "image": "nginx"}], "nodeSelector": {"Zone": "a"}},
        })
    }

    fn unreadable(data: Value) -> Vec<String> {
        let revision = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": data});
        let images = images(&revision).unwrap();
        let unreadable = images.unreadable.into_iter();
        unreadable.map(|unreadable| unreadable.why).collect()
    }

    #[test]
    fn attack_a6_a_revision_whose_template_go_reads_elsewhere_is_unreadable() {
        let with = |place: &str, key: &str, value: Value| {
            let mut data = json!({"spec": {"template": template()}});
            let place = data.pointer_mut(place).unwrap().as_object_mut().unwrap();
            place.insert(key.to_owned(), value);
            data
        };
        let other =
            || json!({"containers": [{"name": "main", "image": "nginx", "command": ["other"]}]});
        let within = |template: Value| json!({"template": template});
        let mut merged = template();
        merged.as_object_mut().unwrap().remove("$patch");
        for data in [
            json!({"ſpec": within(template())}),
            json!({"Spec": within(template())}),
            json!({"spec": {"Template": template()}}),
            json!({"spec": {"templateK": 1, "template\u{212a}": template()}}),
            with("", "ſpec", within(template())),
            with("", "SPEC", within(template())),
            with("", "metadata", json!({})),
            with("/spec", "Template", template()),
            with("/spec", "replicas", json!(3)),
            with("/spec/template", "ſpec", other()),
            with("/spec/template", "Spec", other()),
            with("/spec/template/spec", "Containers", json!([])),
            with("/spec/template/spec", "initContainerſ", json!([])),
            with("/spec/template/spec/containers/0", "Image", json!("other")),
            // The image would stay that of the StatefulSet.
            json!({"spec": within(merged)}),
            json!({"spec": within(Value::Null)}),
        ] {
            assert_eq!(unreadable(data.clone()).len(), 1, "{data}");
        }
    }

    #[test]
    fn a_revision_as_its_controller_writes_it_is_read_and_one_without_a_template_holds_no_image() {
        for data in [
            json!({"spec": {"template": template()}}),
            json!({"$patch": "replace", "spec": {"leaderWorkerTemplate": {}}}),
            json!({"apiVersion": "instancetype.kubevirt.io/v1", "spec": {"cpu": {"guest": 1}}}),
            Value::Null,
        ] {
            assert_eq!(unreadable(data.clone()), Vec::<String>::new(), "{data}");
        }
    }
}
