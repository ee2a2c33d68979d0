//! The output of reviews: text for people, JSON for programs, SARIF for code scanning.

pub(super) mod human;
pub(super) mod json;
pub(super) mod sarif;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Text for people
    Human,
    /// JSON for programs, with a versioned schema
    Json,
}

/// Fails unless `docs/schemas/NAME.json` is the schema of a report.
#[cfg(test)]
pub(super) fn assert_documented<T: schemars::JsonSchema>(name: &str) {
    let page = format!("docs/schemas/{name}.json");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&page);
    let documented = std::fs::read_to_string(path).unwrap_or_default();
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(T)).unwrap() + "\n";
    assert!(documented == schema, "{page} should be:\n{schema}");
}
