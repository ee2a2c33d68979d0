//! The supported build types, and the parameters of each.

use serde_json::{Map, Value};

use super::written::{StatementFields, Version};

/// A build type whose parameters this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildType {
    /// The generators of slsa-github-generator (`go`, `generic`, `container`).
    GithubGenerator,
    /// Builders of other repositories that slsa-github-generator runs ("bring your own builder"). The certificate names the
    /// delegator workflow.
    GithubDelegator,
    /// The container-based builder of slsa-github-generator.
    ContainerBased,
    /// A workflow of GitHub Actions that attests itself (`actions/attest-build-provenance`).
    GithubWorkflow,
    /// A workflow of GitHub Actions, by the build type of the SLSA community.
    GithubWorkflowOfCommunity,
    /// GitLab's runner.
    GitlabRunner,
    /// GitLab's pipelines.
    GitlabPipeline,
    /// Tekton Chains.
    Tekton,
    /// Google Cloud Build.
    GoogleCloudBuild,
    /// BuildKit.
    BuildKit,
    /// A build type that is not supported.
    Unknown,
}

const GENERATOR: &str = "https://github.com/slsa-framework/slsa-github-generator";

impl BuildType {
    pub(super) fn named(uri: &str) -> BuildType {
        if let Some(name) = uri.strip_prefix(GENERATOR) {
            return match name {
                "/go@v1" | "/generic@v1" | "/container@v1" | "@v1" | "-go@v1" => {
                    BuildType::GithubGenerator
                }
                "/delegator-generic@v0" => BuildType::GithubDelegator,
                _ => BuildType::Unknown,
            };
        }
        match uri {
            "https://slsa.dev/container-based-build/v0.1?draft"
            | "https://slsa.dev/container-based-build/v0.1" => BuildType::ContainerBased,
            "https://actions.github.io/buildtypes/workflow/v1" => BuildType::GithubWorkflow,
            "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1" => {
                BuildType::GithubWorkflowOfCommunity
            }
            "https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1" => {
                BuildType::GitlabPipeline
            }
            "https://cloud.google.com/build/gcb-buildtypes/google-worker/v1" => {
                BuildType::GoogleCloudBuild
            }
            "https://mobyproject.org/buildkit@v1"
            | "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md" => {
                BuildType::BuildKit
            }
            "https://tekton.dev/chains/v2/slsa"
            | "https://tekton.dev/chains/v2/slsa-tekton"
            | "https://tekton.dev/attestations/chains@v2"
            | "https://tekton.dev/attestations/chains/pipelinerun@v2"
            | "tekton.dev/v1/PipelineRun"
            | "tekton.dev/v1/TaskRun"
            | "tekton.dev/v1beta1/PipelineRun"
            | "tekton.dev/v1beta1/TaskRun" => BuildType::Tekton,
            _ if uri.starts_with("https://gitlab.com/gitlab-org/gitlab-runner/-/blob/")
                && uri.ends_with("/PROVENANCE.md") =>
            {
                BuildType::GitlabRunner
            }
            _ => BuildType::Unknown,
        }
    }

    /// The external parameters of this build type; `None` if any name is allowed.
    fn parameters(self, version: Version) -> Option<&'static [&'static str]> {
        match (self, version) {
            (BuildType::GithubGenerator, _) => Some(&["event_inputs", "vars"]),
            (BuildType::GithubDelegator, _) => Some(&["inputs", "vars"]),
            (BuildType::ContainerBased, _) => {
                Some(&["source", "builderImage", "configPath", "buildConfig"])
            }
            (BuildType::GithubWorkflow, _) => Some(&["workflow"]),
            (BuildType::GithubWorkflowOfCommunity, _) => {
                Some(&["workflow", "inputs", "release", "vars"])
            }
            (BuildType::GitlabPipeline, _) => Some(&["source", "entryPoint", "variables"]),
            (BuildType::GoogleCloudBuild, _) => Some(&[
                "buildConfigSource",
                "buildConfig",
                "sourceToBuild",
                "substitutions",
            ]),
            (BuildType::BuildKit, Version::V1) => Some(&["configSource", "request"]),
            (BuildType::BuildKit, Version::V0_2) => Some(&[
                "frontend",
                "args",
                "secrets",
                "ssh",
                "locals",
                "inputs",
                "root",
                "compatibilityVersion",
            ]),
            (BuildType::Tekton, Version::V1) => Some(&["runSpec", "buildConfigSource"]),
            // GitLab's runner lists the job's variables here, Tekton Chains the pipeline's parameters, so any name is allowed.
            (BuildType::GitlabRunner, _) | (BuildType::Tekton, Version::V0_2) => None,
            (BuildType::Unknown, _) => None,
        }
    }
}

/// The external parameters that are not known for this build type.
pub(super) fn unknown_parameters(kind: BuildType, fields: &StatementFields) -> Vec<String> {
    let Some(known) = kind.parameters(fields.version) else {
        return Vec::new();
    };
    let mut unknown = names_not_in(&fields.external, known, "");
    if let Some(workflow) = fields.external.get("workflow") {
        unknown.extend(names_not_in(
            workflow,
            &["ref", "repository", "path"],
            "workflow.",
        ));
    }
    unknown
}

fn names_not_in(value: &Value, known: &[&str], below: &str) -> Vec<String> {
    let fields = value.as_object().into_iter().flat_map(Map::keys);
    let unknown = fields.filter(|name| !known.contains(&name.as_str()));
    unknown.map(|name| format!("{below}{name}")).collect()
}
