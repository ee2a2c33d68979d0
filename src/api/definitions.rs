//! The custom resource definitions, derived from the same schema that files are checked against.
//!
//! An API server prunes fields that the schema does not name before a webhook sees them, so a mistyped field would silently
//! weaken a policy. Therefore unknown fields are kept at every object level of `spec`, and the webhook refuses them with a
//! place and a suggestion. An API server also takes *structural* schemas only: no references, and no alternatives of different
//! types.
//!
//! What an API server can refuse by itself (CEL) stands beside the type that it is about, as an extension of its schema; what
//! is about several rules is made from the table of rules.

use kube::CustomResourceExt as _;
use promotion_gate_core::gate::Requirement;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::Error as _;
use serde_json::{Map, Value, json};

use super::status::status;
use super::{
    AuthorRecordResource, AuthorRecordSpec, CONFIGURATION_NAME, ChangeFreeze, ChangeFreezeSpec,
    EmergencyChangeRecordResource, EmergencyChangeRecordSpec, GateConfigurationResource,
    GateConfigurationSpec, IncidentCheckResource, IncidentCheckSpec, PeopleDirectory,
    PeopleDirectorySpec, PromotionPolicy, PromotionPolicySpec, RejectionResource, RejectionSpec,
    ReleaseRecord, ReleaseRecordSpec, RevocationResource, RevocationSpec, TrustRootResource,
    TrustRootSpec, VexRecordResource, VexRecordSpec,
};

/// Lists that rules walk, and the most items that an API server accepts in each.
const BOUNDED: &[(&str, u32)] = &[
    ("/properties/requirements", 64),
    ("/properties/emergency/properties/from", 64),
    (
        "/properties/requirements/items/properties/provenance/properties/builders",
        64,
    ),
    (
        "/properties/requirements/items/properties/verificationSummary/properties/verifiers",
        64,
    ),
];

/// Every custom resource definition, as JSON.
///
/// # Errors
/// A schema cannot be written as JSON. This does not depend on any input.
pub fn definitions() -> Result<Vec<Value>, serde_json::Error> {
    let policies = serde_json::to_value(PromotionPolicy::crd())?;
    let people = serde_json::to_value(PeopleDirectory::crd())?;
    let freezes = serde_json::to_value(ChangeFreeze::crd())?;
    let incidents = serde_json::to_value(IncidentCheckResource::crd())?;
    let configurations = serde_json::to_value(GateConfigurationResource::crd())?;
    let roots = serde_json::to_value(TrustRootResource::crd())?;
    let revocations = serde_json::to_value(RevocationResource::crd())?;
    let rejections = serde_json::to_value(RejectionResource::crd())?;
    let authors = serde_json::to_value(AuthorRecordResource::crd())?;
    let vex = serde_json::to_value(VexRecordResource::crd())?;
    let emergencies = serde_json::to_value(EmergencyChangeRecordResource::crd())?;
    let records = serde_json::to_value(ReleaseRecord::crd())?;
    Ok(vec![
        with_schema(policies, &of_policies()?),
        with_schema(people, &structural_schema::<PeopleDirectorySpec>()),
        with_schema(freezes, &structural_schema::<ChangeFreezeSpec>()),
        with_schema(incidents, &structural_schema::<IncidentCheckSpec>()),
        with_one_name(with_schema(
            configurations,
            &structural_schema::<GateConfigurationSpec>(),
        )),
        with_schema(roots, &structural_schema::<TrustRootSpec>()),
        with_schema(revocations, &structural_schema::<RevocationSpec>()),
        with_schema(rejections, &structural_schema::<RejectionSpec>()),
        with_schema(authors, &structural_schema::<AuthorRecordSpec>()),
        with_schema(vex, &structural_schema::<VexRecordSpec>()),
        with_schema(
            emergencies,
            &structural_schema::<EmergencyChangeRecordSpec>(),
        ),
        with_schema(records, &structural_schema::<ReleaseRecordSpec>()),
    ])
}

/// The schema of a policy's `spec`, with what an API server can refuse by itself.
fn of_policies() -> Result<Value, serde_json::Error> {
    let mut spec = structural_schema::<PromotionPolicySpec>();
    // Under server-side apply, the requirements of two appliers must never be merged into one list.
    if let Some(Value::Object(requirements)) = spec.pointer_mut("/properties/requirements") {
        requirements.insert("x-kubernetes-list-type".to_owned(), json!("atomic"));
    }
    for (place, most) in BOUNDED {
        at(&mut spec, place)?.insert("maxItems".to_owned(), json!(most));
    }
    let (pinned, one_rule) = (evidence_is_pinned(), one_rule());
    let of_the_table = [
        (
            "",
            pinned.as_str(),
            "evidence binds a digest, but a tag can be moved after it was judged; add `- digestPinned: {}`, or accept that race with `tags: Resolve`",
        ),
        (
            "/properties/requirements/items",
            one_rule.as_str(),
            "expected exactly one rule per entry, of those that this version knows",
        ),
    ];
    for (place, rule, message) in &of_the_table {
        let rules = at(&mut spec, place)?
            .entry("x-kubernetes-validations")
            .or_insert_with(|| json!([]));
        if let Some(rules) = rules.as_array_mut() {
            rules.push(json!({"rule": rule, "message": message}));
        }
    }
    Ok(spec)
}

/// A definition of a kind of which there is one resource.
fn with_one_name(mut definition: Value) -> Value {
    let rule = json!([{
        "rule": format!("self.metadata.name == '{CONFIGURATION_NAME}'"),
        "message": format!("the one configuration is named `{CONFIGURATION_NAME}`"),
    }]);
    if let Some(schema) = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        schema["x-kubernetes-validations"] = rule;
    }
    definition
}

/// A definition whose only version has this schema of `spec`, and a status if its kind has one.
fn with_schema(mut definition: Value, spec: &Value) -> Value {
    let kind = definition.pointer("/spec/names/kind");
    let status = status(kind.and_then(Value::as_str).unwrap_or_default());
    let mut schema = json!({
        "description": spec.get("description").cloned().unwrap_or_default(),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
        }
    });
    if let Some(version) = definition.pointer_mut("/spec/versions/0") {
        if let (Some(status), Some(Value::Object(properties))) =
            (status, schema.pointer_mut("/properties"))
        {
            properties.insert("status".to_owned(), status);
            version["subresources"] = json!({"status": {}});
        }
        version["schema"] = json!({"openAPIV3Schema": schema});
    }
    definition
}

/// The schema at a place, which there has to be: a bound or validation that is not found would be lost silently.
fn at<'a>(
    spec: &'a mut Value,
    place: &str,
) -> Result<&'a mut Map<String, Value>, serde_json::Error> {
    let found = spec.pointer_mut(place).and_then(Value::as_object_mut);
    found.ok_or_else(|| serde_json::Error::custom(format!("the schema has no object `{place}`")))
}

/// Rules over evidence need a pinned digest, or a policy that accepts tags.
fn evidence_is_pinned() -> String {
    let on_evidence: Vec<_> = Requirement::names_on_evidence()
        .map(|name| format!("has(r.{name})"))
        .collect();
    format!(
        "has(self.tags) || !self.requirements.exists(r, {}) || self.requirements.exists(r, has(r.digestPinned))",
        on_evidence.join(" || ")
    )
}

/// An entry has exactly one rule.
fn one_rule() -> String {
    let given: Vec<_> = Requirement::NAMES
        .iter()
        .map(|name| format!("has(self.{name})"))
        .collect();
    format!("[{}].filter(given, given).size() == 1", given.join(", "))
}

fn structural_schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    structural(schema.as_value())
}

/// A schema as an API server accepts it. Defaults are left out: the API server would write them into stored objects.
fn structural(schema: &Value) -> Value {
    let Some(keywords) = schema.as_object() else {
        return json!({"x-kubernetes-preserve-unknown-fields": true});
    };
    let mut result = Map::new();
    let keep = [
        "description",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "required",
        "x-kubernetes-validations",
    ];
    for keyword in keep {
        if let Some(value) = keywords.get(keyword) {
            result.insert(keyword.to_owned(), value.clone());
        }
    }
    let alternatives = alternatives(keywords);
    let values: Option<Vec<Value>> = alternatives
        .iter()
        .map(|alternative| values(alternative))
        .collect::<Option<Vec<_>>>()
        .map(|all| all.concat());
    if let Some(values) = values
        .filter(|values| !values.is_empty())
        .or_else(|| values_of(keywords))
    {
        result.insert("type".to_owned(), json!("string"));
        result.insert("enum".to_owned(), Value::Array(values));
        return Value::Object(result);
    }
    match alternatives.as_slice() {
        [] => {}
        [only] => {
            let Value::Object(mut inner) = structural(only) else {
                return Value::Object(result);
            };
            inner.append(&mut result);
            return Value::Object(inner);
        }
        _ => {
            return allow_unknown_fields(result);
        }
    }
    let kind = match keywords.get("type") {
        Some(Value::Array(names)) => names.iter().find(|name| *name != "null").cloned(),
        other => other.cloned(),
    };
    let Some(kind) = kind else {
        return allow_unknown_fields(result);
    };
    if kind == "object" {
        fields(keywords, &mut result);
    }
    if kind == "array" {
        let items = keywords.get("items").map_or_else(
            || json!({"x-kubernetes-preserve-unknown-fields": true}),
            structural,
        );
        result.insert("items".to_owned(), items);
    }
    result.insert("type".to_owned(), kind);
    Value::Object(result)
}

/// The schema, with unknown fields allowed.
fn allow_unknown_fields(mut schema: Map<String, Value>) -> Value {
    schema.insert(
        "x-kubernetes-preserve-unknown-fields".to_owned(),
        json!(true),
    );
    Value::Object(schema)
}

/// Adds the fields of an object, named or not.
fn fields(keywords: &Map<String, Value>, result: &mut Map<String, Value>) {
    match (
        keywords.get("properties").and_then(Value::as_object),
        keywords.get("additionalProperties"),
    ) {
        (None, Some(others)) if others.is_object() => {
            result.insert("additionalProperties".to_owned(), structural(others));
        }
        (properties, _) => {
            result.insert(
                "x-kubernetes-preserve-unknown-fields".to_owned(),
                json!(true),
            );
            if let Some(properties) = properties.filter(|properties| !properties.is_empty()) {
                let properties = properties
                    .iter()
                    .map(|(name, schema)| (name.clone(), structural(schema)));
                result.insert("properties".to_owned(), Value::Object(properties.collect()));
            }
        }
    }
}

/// The alternatives of a schema, except `null`.
fn alternatives(keywords: &Map<String, Value>) -> Vec<&Value> {
    ["anyOf", "oneOf", "allOf"]
        .iter()
        .filter_map(|keyword| keywords.get(*keyword)?.as_array())
        .flatten()
        .filter(|alternative| {
            alternative.get("type") != Some(&json!("null")) && !is_null_only(alternative)
        })
        .collect()
}

/// The texts that a schema lists.
fn values(schema: &Value) -> Option<Vec<Value>> {
    values_of(schema.as_object()?)
}

fn values_of(keywords: &Map<String, Value>) -> Option<Vec<Value>> {
    if let Some(only) = keywords.get("const") {
        return Some(vec![only.clone()]);
    }
    if let Some(listed) = keywords.get("enum").and_then(Value::as_array) {
        return Some(
            listed
                .iter()
                .filter(|value| !value.is_null())
                .cloned()
                .collect(),
        );
    }
    let alternatives = keywords
        .get("oneOf")
        .or_else(|| keywords.get("anyOf"))?
        .as_array()?;
    alternatives
        .iter()
        .map(values)
        .collect::<Option<Vec<_>>>()
        .map(|all| all.concat())
}

fn is_null_only(schema: &Value) -> bool {
    schema.get("enum") == Some(&json!([null])) || schema.get("const") == Some(&Value::Null)
}
