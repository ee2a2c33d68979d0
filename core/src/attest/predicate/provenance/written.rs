//! The JSON form of provenance, v0.2 and v1.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::attest::unaccepted::{self, UnacceptedReason};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V0_2,
    V1,
}

/// The fields of both versions, with the names of v1.
pub(super) struct StatementFields {
    pub(super) builder: String,
    pub(super) build_type: String,
    pub(super) version: Version,
    pub(super) external: Value,
    pub(super) internal: Value,
    /// `invocation.configSource` of v0.2.
    pub(super) config: Dependency,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) invocation: Option<String>,
}

impl StatementFields {
    pub(super) fn v0_2(text: &str) -> Result<StatementFields, UnacceptedReason> {
        let written: WrittenV02 = read(text)?;
        let invocation = written.invocation.unwrap_or_default();
        Ok(StatementFields {
            builder: written.builder.id,
            build_type: written.build_type,
            version: Version::V0_2,
            external: invocation.parameters,
            internal: invocation.environment,
            config: invocation.config_source.unwrap_or_default(),
            dependencies: written.materials.unwrap_or_default(),
            invocation: None,
        })
    }

    pub(super) fn v1(text: &str) -> Result<StatementFields, UnacceptedReason> {
        let WrittenV1 {
            build_definition: definition,
            run_details: run,
        } = read(text)?;
        Ok(StatementFields {
            builder: run.builder.id,
            build_type: definition.build_type,
            version: Version::V1,
            external: definition.external_parameters,
            internal: definition.internal_parameters,
            config: Dependency::default(),
            dependencies: definition.resolved_dependencies.unwrap_or_default(),
            invocation: run.metadata.and_then(|metadata| metadata.invocation),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Dependency {
    pub(super) name: Option<String>,
    pub(super) uri: Option<String>,
    digest: BTreeMap<String, String>,
}

impl Dependency {
    /// The commit, under each of its names in the digest.
    pub(super) fn commits(&self) -> impl Iterator<Item = &String> {
        let names = ["gitCommit", "sha1"].into_iter();
        names.filter_map(|name| self.digest.get(name))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenV02 {
    builder: Builder,
    #[serde(default)]
    build_type: String,
    #[serde(default)]
    invocation: Option<Invocation>,
    #[serde(default)]
    materials: Option<Vec<Dependency>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Invocation {
    config_source: Option<Dependency>,
    parameters: Value,
    environment: Value,
}

#[derive(Deserialize)]
struct Builder {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenV1 {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    build_type: String,
    #[serde(default)]
    external_parameters: Value,
    #[serde(default)]
    internal_parameters: Value,
    #[serde(default)]
    resolved_dependencies: Option<Vec<Dependency>>,
}

#[derive(Deserialize)]
struct RunDetails {
    builder: Builder,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "invocationId", alias = "invocationID")]
    invocation: Option<String>,
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, UnacceptedReason> {
    serde_json::from_str(text).map_err(|error| {
        let detail = format!("the predicate is not SLSA provenance: {error}");
        UnacceptedReason::new(unaccepted::MALFORMED_PREDICATE, detail)
    })
}

/// A variable of the job: `github_NAME` in v0.2, `GITHUB_NAME` in v1 and in delegated builds.
pub(super) fn environment<'a>(fields: &'a StatementFields, name: &str) -> Option<&'a Value> {
    let of = |key: String| fields.internal.get(&key);
    of(format!("GITHUB_{name}")).or_else(|| of(format!("github_{}", name.to_ascii_lowercase())))
}

pub(super) fn environment_text(fields: &StatementFields, name: &str) -> Option<String> {
    environment(fields, name).and_then(text)
}

/// The value as a text, if it is a text or a number.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
