//! The Helm chart, as far as it can be tested without Helm: its values, alerts and dashboard. `tests/real/chart.rs` has the rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

const SUFFIXES: [&str; 4] = ["_total", "_bucket", "_count", "_sum"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn of_chart(file: &str) -> String {
    fs::read_to_string(root().join("deploy/helm/promotion-gate").join(file)).unwrap()
}

/// The names of the gate's metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_of_name = |c: char| c == '_' || c.is_ascii_lowercase();
    let names = text.split("promotion_gate_").skip(1);
    names
        .map(|rest| {
            let end = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

#[test]
fn every_metric_of_the_alerts_and_the_dashboard_exists_and_is_documented() {
    let source = include_str!("../../src/metrics.rs");
    let registered: BTreeSet<_> = source
        .split("r.register(")
        .skip(1)
        .filter_map(|call| call.split('"').nth(1))
        .collect();
    assert!(registered.len() > 30, "{registered:?}");
    let mut pages = String::new();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages += &fs::read_to_string(path).unwrap();
        }
    }
    let documented = metrics(&pages);
    let table = fs::read_to_string(root().join("docs/output.md")).unwrap();

    let (alerts, dashboard) = (
        of_chart("templates/alerts.yaml"),
        of_chart("files/dashboard.json"),
    );
    for (file, used) in [
        ("alerts", metrics(&alerts)),
        ("dashboard", metrics(&dashboard)),
    ] {
        assert!(used.len() > 15, "{file}: {used:?}");
        for name in used {
            let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
            let base = base
                .filter(|base| registered.contains(base))
                .unwrap_or(name);
            assert!(registered.contains(base), "{file}: {name}");
            // A histogram is documented by its name, and its parts are used.
            let is_part = base != name && !name.ends_with("_total");
            let shown = if is_part { base } else { name };
            let in_table =
                table.contains(&format!("`{shown}`")) || table.contains(&format!("`{shown}{{"));
            assert!(in_table || documented.contains(shown), "{file}: {shown}");
        }
    }
}

#[test]
fn the_dashboard_has_a_query_in_each_panel() {
    let dashboard: Value = serde_json::from_str(&of_chart("files/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        let mut queries = targets.iter().map(|target| target["expr"].as_str());
        assert!(
            !targets.is_empty() && queries.all(|it| it.is_some()),
            "{panel}"
        );
    }
}

/// Fails for a value without a line of the schema, and for one that the schema has alone.
fn compare(path: &str, values: &Value, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let names = |value: &Value| {
        let fields = value.as_object().unwrap().keys().cloned();
        fields
            .filter(|name| name != "global")
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(names(values), names(&schema["properties"]), "{path}");
    assert_eq!(schema["additionalProperties"], false, "{path}");
    for (name, schema) in properties {
        if name != "global" {
            compare(&format!("{path}.{name}"), &values[name], schema);
        }
    }
}

#[test]
fn every_value_of_the_chart_is_explained_and_is_in_the_schema() {
    let text = of_chart("values.yaml");
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let schema: Value = serde_json::from_str(&of_chart("values.schema.json")).unwrap();
    compare("", &values, &schema);

    let (mut previous, mut explained, mut in_peers) = ("", 0, false);
    for line in text.lines() {
        let field = line.trim_start().split_once(':').map(|(name, _)| name);
        let is_value = field.is_some_and(|name| name.chars().all(char::is_alphanumeric));
        // Peers of a NetworkPolicy are not explained, and end with the next explanation.
        in_peers &= !line.trim_start().starts_with('#');
        if is_value && !in_peers {
            assert!(previous.trim_start().starts_with('#'), "{line}");
            explained += 1;
            in_peers = field.is_some_and(|name| name.ends_with("From"));
        }
        previous = line;
    }
    assert!(explained > 35, "{explained}");
}
