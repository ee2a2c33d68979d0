//! The short form of a build's provenance → the predicate that GitHub Actions writes for it.

use promotion_gate_core::gate::{People, SourcePlatform};
use serde_json::{Value, json};

use super::format::{Generator, ProvenanceSpec};
use super::people::account;

/// The commit of builds that do not name one.
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WORKFLOW: &str = ".github/workflows/release.yml";

/// The predicate type, and the predicate. The builder's id is `signer`, the identity of the signer, unless `builder` says
/// otherwise.
pub(super) fn expand(
    written: &ProvenanceSpec,
    signer: Option<&str>,
    people: Option<&People>,
) -> Result<(&'static str, Value), String> {
    let builder = written
        .builder
        .as_deref()
        .or(signer)
        .ok_or("a key does not name a builder; add `builder`")?;
    let of_container =
        !written.inputs.is_empty() || written.base_ref.is_some() || written.actor.is_some();
    match written.generator {
        Generator::Workflow if of_container => Err(
            "GitHub's own attestations hold neither `inputs` nor `baseRef` nor `actor`; `generator: container` does".to_owned(),
        ),
        Generator::Workflow => Ok(("https://slsa.dev/provenance/v1", workflow(written, builder))),
        Generator::Container => Ok((
            "https://slsa.dev/provenance/v0.2",
            container(written, builder, people)?,
        )),
    }
}

/// `https://actions.github.io/buildtypes/workflow/v1`, as `actions/attest` writes it.
fn workflow(written: &ProvenanceSpec, builder: &str) -> Value {
    let ProvenanceSpec {
        source, git_ref, ..
    } = written;
    json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {
                "workflow": {"ref": git_ref, "repository": source, "path": path(written)},
            },
            "internalParameters": {
                "github": {
                    "event_name": event(written),
                    "repository_id": "1",
                    "repository_owner_id": "1",
                    "runner_environment": "github-hosted",
                },
            },
            "resolvedDependencies": [
                {"uri": format!("git+{source}@{git_ref}"), "digest": {"gitCommit": commit(written)}},
            ],
        },
        "runDetails": {
            "builder": {"id": builder},
            "metadata": {"invocationId": format!("{source}/actions/runs/1/attempts/1")},
        },
    })
}

/// `https://github.com/slsa-framework/slsa-github-generator/container@v1`, as its container generator writes it.
fn container(
    written: &ProvenanceSpec,
    builder: &str,
    people: Option<&People>,
) -> Result<Value, String> {
    let ProvenanceSpec {
        source, git_ref, ..
    } = written;
    let origin =
        json!({"uri": format!("git+{source}@{git_ref}"), "digest": {"sha1": commit(written)}});
    let mut config_source = origin.clone();
    let mut parameters = json!({"vars": {}});
    let mut payload = json!({});
    if let Some(config_source) = config_source.as_object_mut() {
        config_source.insert("entryPoint".to_owned(), path(written).into());
    }
    if let (Some(parameters), false) = (parameters.as_object_mut(), written.inputs.is_empty()) {
        parameters.insert("event_inputs".to_owned(), json!(written.inputs));
    }
    if let (Some(payload), Some(base_ref)) = (payload.as_object_mut(), &written.base_ref) {
        payload.insert("base_ref".to_owned(), json!(base_ref));
    }
    let kind = match git_ref.starts_with("refs/tags/") {
        true => "tag",
        false => "branch",
    };
    let (_, actor) = match &written.actor {
        Some(actor) => account(actor, people)?,
        None => (SourcePlatform::GitHub, json!({"login": "example", "id": 1})),
    };
    let actor_id = actor.get("id").map(Value::to_string).unwrap_or_default();
    let owner = source.trim_start_matches("https://").split('/').nth(1);
    Ok(json!({
        "builder": {"id": builder},
        "buildType": "https://github.com/slsa-framework/slsa-github-generator/container@v1",
        "invocation": {
            "configSource": config_source,
            "parameters": parameters,
            "environment": {
                "github_actor": actor.get("login"),
                "github_actor_id": actor_id,
                "github_base_ref": "",
                "github_event_name": event(written),
                "github_event_payload": payload,
                "github_head_ref": "",
                "github_ref": git_ref,
                "github_ref_type": kind,
                "github_repository_id": "1",
                "github_repository_owner": owner.unwrap_or_default(),
                "github_repository_owner_id": "1",
                "github_run_attempt": "1",
                "github_run_id": "1",
                "github_run_number": "1",
                "github_sha1": commit(written),
            },
        },
        "metadata": {
            "buildInvocationID": "1-1",
            "completeness": {"parameters": true, "environment": false, "materials": false},
            "reproducible": false,
        },
        "materials": [origin],
    }))
}

fn commit(written: &ProvenanceSpec) -> &str {
    written.commit.as_deref().unwrap_or(COMMIT)
}

fn path(written: &ProvenanceSpec) -> &str {
    written.workflow.as_deref().unwrap_or(WORKFLOW)
}

fn event(written: &ProvenanceSpec) -> &str {
    written.event.as_deref().unwrap_or("push")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(written: Value, signer: Option<&str>) -> Result<(&'static str, Value), String> {
        expand(&serde_json::from_value(written).unwrap(), signer, None)
    }

    #[test]
    fn a_workflow_is_written_as_github_does() {
        let written = json!({"by": "a", "source": "https://github.com/o/r", "ref": "refs/tags/v1"});
        let (kind, predicate) =
            expanded(written, Some("https://github.com/o/r/w.yml@refs/tags/v1")).unwrap();
        assert_eq!(kind, "https://slsa.dev/provenance/v1");
        let at = |pointer: &str| {
            predicate
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        assert_eq!(
            at("/buildDefinition/externalParameters/workflow/repository"),
            "https://github.com/o/r"
        );
        assert_eq!(
            at("/buildDefinition/resolvedDependencies/0/uri"),
            "git+https://github.com/o/r@refs/tags/v1"
        );
        assert_eq!(
            at("/runDetails/builder/id"),
            "https://github.com/o/r/w.yml@refs/tags/v1"
        );
    }

    #[test]
    fn the_container_generator_records_inputs_and_a_tags_branch() {
        let written = json!({
            "by": "a", "generator": "container", "builder": "b", "source": "https://github.com/o/r", "ref": "refs/tags/v1",
            "inputs": {"release": "true"}, "baseRef": "refs/heads/main",
        });
        let (kind, predicate) = expanded(written, None).unwrap();
        assert_eq!(kind, "https://slsa.dev/provenance/v0.2");
        let at = |pointer: &str| {
            predicate
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        assert_eq!(at("/builder/id"), "b");
        assert_eq!(
            at("/invocation/configSource/uri"),
            "git+https://github.com/o/r@refs/tags/v1"
        );
        assert_eq!(at("/invocation/parameters/event_inputs/release"), "true");
        assert_eq!(at("/invocation/environment/github_ref_type"), "tag");
        assert_eq!(
            at("/invocation/environment/github_event_payload/base_ref"),
            "refs/heads/main"
        );
        assert_eq!(at("/invocation/environment/github_repository_owner"), "o");
        assert_eq!(
            predicate["materials"][0]["digest"],
            predicate["invocation"]["configSource"]["digest"]
        );
    }

    #[test]
    fn what_the_writer_does_not_write_down_is_refused() {
        let written = json!({"by": "a", "source": "s", "ref": "r", "inputs": {"a": "b"}});
        assert!(
            expanded(written, Some("x"))
                .unwrap_err()
                .contains("generator: container")
        );
        let written = json!({"by": "a", "source": "s", "ref": "r"});
        assert!(expanded(written, None).unwrap_err().contains("builder"));
    }
}
