//! Configurations that are wrong, and what is said about them.

use std::fs;

use promotion_gate::config::Config;
use tempfile::TempDir;

use crate::facts::FACTS;

#[test]
fn a_configuration_is_held_to_its_schema_and_its_files() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gate.yaml");
    let load = |body: &str| {
        fs::write(
            &file,
            format!("apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\n{body}"),
        )
        .unwrap();
        Config::load(Some(&file))
    };
    load("").unwrap();
    for (body, expected) in [
        ("trustRoot: []\n", "did you mean `trustRoots`?"),
        ("trustRoots: [{name: ours, file: gone.json}]\n", "gone.json"),
        ("trustRoots: [{name: ours, file: gate.yaml}]\n", "ours"),
        (
            "registries: [{host: r.example, plainHTTP: true}]\n",
            "did you mean `plainHttp`?",
        ),
        (
            "registries:\n- host: r.example\n  evidenceRepository: e.example/x:v1\n",
            "gate.yaml:5:23: registries[0].evidenceRepository: `e.example/x:v1` is not a repository: a repository has neither a tag nor a digest",
        ),
        (
            "registries:\n- host: a.example\n- host: r.example\n  evidenceRepository: r.example/{repository}\n",
            "gate.yaml:6:23: registries[1].evidenceRepository: `r.example/{repository}` is the image's own repository",
        ),
        ("credentials: [{registry: r.example}]\n", "`passwordFile`"),
        ("ungoverned: Maybe\n", "ungoverned"),
        ("dockerConfig: gone.json\n", "gone.json"),
        ("---\nmore: documents\n", "gate.yaml"),
    ] {
        let error = format!("{:#}", load(body).unwrap_err());
        assert!(error.contains(expected), "{body}: {error}");
    }
    fs::write(folder.path().join("root.json"), FACTS.trusted_root()).unwrap();
    let taken = load("trustRoots: [{name: sigstore, file: root.json}]\n").unwrap_err();
    assert!(
        taken.to_string().contains("the name `sigstore` is taken"),
        "{taken}"
    );
    let config = load("trustRoots: [{name: ours, file: root.json}]\n").unwrap();
    let names: Vec<_> = config
        .world
        .trust_roots
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names, ["github", "ours", "sigstore"]);
}
