//! SLSA provenance, v0.2 and v1 (SLSA specification, "Provenance"): what was built, by which builder, from which source, as
//! far as the build type says where that stands. Of each predicate only what can be judged is kept.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::attest::Claim;
use crate::attest::unaccepted::{self, Unaccepted};

/// How an artifact came to be, as its builder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Names the builder; a URI.
    pub builder: String,
    /// Names the kind of build, and with it what the rest means; a URI.
    pub build_type: String,
    /// The same, where this version knows it.
    pub kind: BuildType,
    /// Every place that names the source; empty where none does.
    pub sources: Vec<NamedSource>,
    /// The git reference that was built, in full, such as `refs/heads/main`.
    pub git_ref: Option<String>,
    /// The reference (of a branch) that a tag was pushed from, as the event that started the build names it.
    pub base_ref: Option<String>,
    /// The event that started the build, such as `push`.
    pub event: Option<String>,
    /// The inputs with which somebody started the build by hand.
    pub inputs: Option<BTreeMap<String, String>>,
    /// Parameters from outside that builds of this type do not have; empty for unknown types.
    pub unknown_parameters: Vec<String>,
    /// Where it says two different things about the same.
    pub contradictions: Vec<String>,
    /// What it says about things that the certificate of its signer may speak of too.
    pub said: Vec<Said>,
}

/// A source, and where it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSource {
    /// The field, such as `materials[0].uri`.
    pub field: &'static str,
    /// The repository.
    pub repository: Repository,
}

/// Something that is said of which a certificate speaks too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The field.
    pub field: &'static str,
    /// The claim of the certificate.
    pub claim: Claim,
    /// What the claim has to be, where the certificate carries it.
    pub value: String,
}

/// A repository of source code by its address: without `git+`, reference, `.git` and closing slash; scheme and host in lower
/// case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

impl Repository {
    /// Reads an address as SLSA writes it (SPDX download locations: `git+https://host/path@ref`) or as BuildKit does
    /// (`https://host/path.git#ref`), and the reference in it.
    pub fn parse(uri: &str) -> Option<(Repository, Option<String>)> {
        let (scheme, rest) = uri.strip_prefix("git+").unwrap_or(uri).split_once("://")?;
        let (host, path) = rest.split_once('/')?;
        let (path, git_ref) = match (path.split_once('#'), path.split_once('@')) {
            (Some((path, fragment)), _) => (path, fragment.split(':').next()),
            (None, Some((path, git_ref))) => (path, Some(git_ref)),
            (None, None) => (path, None),
        };
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        if path.is_empty() || host.is_empty() {
            return None;
        }
        let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
        let git_ref = git_ref.filter(|git_ref| !git_ref.is_empty());
        Some((
            Repository(format!("{scheme}://{host}/{path}")),
            git_ref.map(str::to_owned),
        ))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `owner/name`, of a repository on GitHub.
    fn on_github(&self) -> Option<&str> {
        self.0.strip_prefix("https://github.com/")
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A kind of build whose parameters this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildType {
    /// The generators of slsa-github-generator (`go`, `generic`, `container`).
    GithubGenerator,
    /// Builders that slsa-github-generator runs for others ("bring your own builder"). The certificate names the delegator.
    GithubDelegator,
    /// The container-based builder of slsa-github-generator.
    ContainerBased,
    /// A workflow of GitHub Actions that attests itself (`actions/attest-build-provenance`).
    GithubWorkflow,
    /// The same as the SLSA community wrote it down.
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
    /// Another one.
    Unknown,
}

const GENERATOR: &str = "https://github.com/slsa-framework/slsa-github-generator";

impl BuildType {
    fn named(uri: &str) -> BuildType {
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

    /// Whether the holder of the certificate is the builder, so that both must have one name.
    pub fn signs_as_builder(self) -> bool {
        match self {
            BuildType::GithubGenerator
            | BuildType::ContainerBased
            | BuildType::GithubWorkflow
            | BuildType::GithubWorkflowOfCommunity
            | BuildType::GitlabRunner
            | BuildType::GitlabPipeline
            | BuildType::Tekton
            | BuildType::GoogleCloudBuild
            | BuildType::BuildKit
            | BuildType::Unknown => true,
            BuildType::GithubDelegator => false,
        }
    }

    /// The parameters from outside that builds of this type have; `None` where anything may stand there.
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
            // The runner lists the names of the job's variables, Chains the parameters of the pipeline.
            (BuildType::GitlabRunner, _) | (BuildType::Tekton, Version::V0_2) => None,
            (BuildType::Unknown, _) => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V0_2,
    V1,
}

/// Both versions in the terms of the second.
struct Fields {
    version: Version,
    external: Value,
    internal: Value,
    /// `invocation.configSource` of v0.2.
    config: Dependency,
    dependencies: Vec<Dependency>,
    invocation: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Dependency {
    name: Option<String>,
    uri: Option<String>,
    digest: BTreeMap<String, String>,
}

impl Dependency {
    fn commit(&self) -> Option<&String> {
        self.digest.get("gitCommit").or(self.digest.get("sha1"))
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

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Unaccepted> {
    serde_json::from_str(text).map_err(|error| {
        let detail = format!("the predicate is not SLSA provenance: {error}");
        Unaccepted::new(unaccepted::MALFORMED_PREDICATE, detail)
    })
}

impl Provenance {
    pub(super) fn v0_2(text: &str) -> Result<Provenance, Unaccepted> {
        let written: WrittenV02 = read(text)?;
        let invocation = written.invocation.unwrap_or_default();
        let fields = Fields {
            version: Version::V0_2,
            external: invocation.parameters,
            internal: invocation.environment,
            config: invocation.config_source.unwrap_or_default(),
            dependencies: written.materials.unwrap_or_default(),
            invocation: None,
        };
        Ok(Provenance::from_fields(
            written.builder.id,
            written.build_type,
            &fields,
        ))
    }

    pub(super) fn v1(text: &str) -> Result<Provenance, Unaccepted> {
        let WrittenV1 {
            build_definition: definition,
            run_details: run,
        } = read(text)?;
        let fields = Fields {
            version: Version::V1,
            external: definition.external_parameters,
            internal: definition.internal_parameters,
            config: Dependency::default(),
            dependencies: definition.resolved_dependencies.unwrap_or_default(),
            invocation: run.metadata.and_then(|metadata| metadata.invocation),
        };
        Ok(Provenance::from_fields(
            run.builder.id,
            definition.build_type,
            &fields,
        ))
    }

    fn from_fields(builder: String, build_type: String, fields: &Fields) -> Provenance {
        let kind = BuildType::named(&build_type);
        let mut provenance = Provenance {
            builder,
            build_type,
            kind,
            sources: Vec::new(),
            git_ref: None,
            base_ref: None,
            event: None,
            inputs: None,
            unknown_parameters: unknown_parameters(kind, fields),
            contradictions: Vec::new(),
            said: Vec::new(),
        };
        match kind {
            BuildType::GithubGenerator => provenance.generator(fields),
            BuildType::GithubDelegator => provenance.delegator(fields),
            BuildType::ContainerBased => provenance.container_based(fields),
            BuildType::GithubWorkflow | BuildType::GithubWorkflowOfCommunity => {
                provenance.workflow(fields);
            }
            BuildType::GitlabRunner | BuildType::GitlabPipeline => provenance.gitlab(fields),
            BuildType::Tekton => provenance.tekton(fields),
            BuildType::GoogleCloudBuild => provenance.google(fields),
            BuildType::BuildKit => provenance.buildkit(fields),
            BuildType::Unknown => {
                provenance.source("invocation.configSource.uri", fields.config.uri.as_ref());
            }
        }
        if let (Some(git_ref), Some(kind)) =
            (&provenance.git_ref, environment_text(fields, "REF_TYPE"))
        {
            let said = match git_ref.split('/').nth(1) {
                Some("heads") => "branch",
                Some("tags") => "tag",
                _ => kind.as_str(),
            };
            if said != kind {
                let contradiction = format!("`{git_ref}` is said to be a {kind}");
                provenance.contradictions.push(contradiction);
            }
        }
        provenance
    }

    /// v0.2; the environment is that of the job, in lower case.
    fn generator(&mut self, fields: &Fields) {
        self.source("invocation.configSource.uri", fields.config.uri.as_ref());
        let material = fields.dependencies.first();
        self.source("materials[0].uri", material.and_then(|m| m.uri.as_ref()));
        self.same(
            "`invocation.configSource.uri` and `materials[0].uri`",
            fields.config.uri.as_ref(),
            material.and_then(|material| material.uri.as_ref()),
        );
        self.built(
            "invocation.environment.github_ref",
            environment_text(fields, "REF"),
        );
        self.commit("invocation.configSource.digest", fields.config.commit());
        self.github_job(fields);
    }

    /// The reference stands in the material; it is absent where another commit was built than the one that started it.
    fn delegator(&mut self, fields: &Fields) {
        match fields.version {
            Version::V0_2 => self.source("invocation.configSource.uri", fields.config.uri.as_ref()),
            Version::V1 => self.started_in(fields),
        }
        let dependency = fields.dependencies.first();
        let field = match fields.version {
            Version::V0_2 => "materials[0].uri",
            Version::V1 => "resolvedDependencies[0].uri",
        };
        self.source(field, dependency.and_then(|d| d.uri.as_ref()));
        self.github_job(fields);
    }

    fn container_based(&mut self, fields: &Fields) {
        let source = fields.external.pointer("/source/uri").and_then(text);
        self.source("externalParameters.source.uri", source.as_ref());
        let dependency = fields.dependencies.first();
        let uri = dependency.and_then(|dependency| dependency.uri.as_ref());
        self.source("resolvedDependencies[0].uri", uri);
        self.started_in(fields);
        self.built(
            "internalParameters.GITHUB_REF",
            environment_text(fields, "REF"),
        );
        self.commit(
            "resolvedDependencies[0].digest",
            dependency.and_then(Dependency::commit),
        );
        self.github_job(fields);
    }

    /// A workflow that attests itself: all of it are claims of its token, so that the certificate says the same.
    fn workflow(&mut self, fields: &Fields) {
        let workflow = |name: &str| fields.external.get("workflow")?.get(name).and_then(text);
        let repository = workflow("repository");
        self.source(
            "externalParameters.workflow.repository",
            repository.as_ref(),
        );
        let dependency = fields.dependencies.first();
        let uri = dependency.and_then(|dependency| dependency.uri.as_ref());
        self.source("resolvedDependencies[0].uri", uri);
        self.built("externalParameters.workflow.ref", workflow("ref"));
        self.commit(
            "resolvedDependencies[0].digest",
            dependency.and_then(Dependency::commit),
        );
        if let (Some(repository), Some(path), Some(git_ref)) =
            (repository, workflow("path"), workflow("ref"))
        {
            self.says(
                "externalParameters.workflow",
                Claim::BuildConfigUri,
                format!("{repository}/{path}@{git_ref}"),
            );
        }
        let github = |name: &str| fields.internal.get("github")?.get(name).and_then(text);
        let event = github("event_name");
        self.event(event);
        for (field, name, claim) in [
            (
                "internalParameters.github.repository_id",
                "repository_id",
                Claim::SourceRepositoryIdentifier,
            ),
            (
                "internalParameters.github.repository_owner_id",
                "repository_owner_id",
                Claim::SourceRepositoryOwnerIdentifier,
            ),
            (
                "internalParameters.github.runner_environment",
                "runner_environment",
                Claim::RunnerEnvironment,
            ),
        ] {
            if let Some(value) = github(name) {
                self.says(field, claim, value);
            }
        }
        if let Some(invocation) = &fields.invocation {
            self.says(
                "runDetails.metadata.invocationId",
                Claim::RunInvocationUri,
                invocation.clone(),
            );
        }
        if self.kind == BuildType::GithubWorkflowOfCommunity {
            self.started_by_hand(fields.external.get("inputs"));
        }
    }

    fn gitlab(&mut self, fields: &Fields) {
        self.source("invocation.configSource.uri", fields.config.uri.as_ref());
        let source = fields.external.get("source").and_then(text);
        self.source("externalParameters.source", source.as_ref());
        let dependency = fields.dependencies.first();
        let uri = dependency.and_then(|dependency| dependency.uri.as_ref());
        self.source("resolvedDependencies[0].uri", uri);
        self.commit(
            "resolvedDependencies[0].digest",
            dependency.and_then(Dependency::commit),
        );
        let variable = |name: &str| {
            let value = fields.external.get("variables")?.get(name).and_then(text)?;
            (!value.is_empty()).then_some(value)
        };
        let tag = variable("CI_COMMIT_TAG").map(|tag| format!("refs/tags/{tag}"));
        let branch = variable("CI_COMMIT_BRANCH").map(|branch| format!("refs/heads/{branch}"));
        self.built("externalParameters.variables", tag.or(branch));
    }

    /// What a pipeline declares as its inputs. Where the pipeline itself came from is another matter.
    fn tekton(&mut self, fields: &Fields) {
        for dependency in &fields.dependencies {
            let input = dependency
                .name
                .as_ref()
                .is_none_or(|name| name.starts_with("input"));
            let uri = dependency
                .uri
                .as_ref()
                .filter(|uri| uri.starts_with("git+"));
            if input {
                self.source("resolvedDependencies", uri);
            }
        }
    }

    fn google(&mut self, fields: &Fields) {
        let of = |field: &str, name: &str| fields.external.get(field)?.get(name).and_then(text);
        let config = of("buildConfigSource", "repository");
        self.source(
            "externalParameters.buildConfigSource.repository",
            config.as_ref(),
        );
        let built = of("sourceToBuild", "repository");
        self.source(
            "externalParameters.sourceToBuild.repository",
            built.as_ref(),
        );
        let git_ref = of("buildConfigSource", "ref").filter(|git_ref| git_ref.starts_with("refs/"));
        self.built("externalParameters.buildConfigSource.ref", git_ref);
        let tag = fields
            .internal
            .pointer("/systemSubstitutions/TAG_NAME")
            .and_then(text);
        let tag = tag.map(|tag| format!("refs/tags/{tag}"));
        self.same(
            "the reference and `TAG_NAME`",
            tag.as_ref(),
            self.git_ref.clone().as_ref(),
        );
    }

    fn buildkit(&mut self, fields: &Fields) {
        self.source("invocation.configSource.uri", fields.config.uri.as_ref());
        let uri = fields.external.pointer("/configSource/uri").and_then(text);
        self.source("externalParameters.configSource.uri", uri.as_ref());
    }

    /// What the environment of a job on GitHub says, whatever the spelling of its names.
    fn github_job(&mut self, fields: &Fields) {
        let of = |name: &str| environment_text(fields, name);
        self.event(of("EVENT_NAME"));
        self.commit(
            "the environment's commit",
            of("SHA").or(of("SHA1")).as_ref(),
        );
        for (field, name, claim) in [
            (
                "the environment's repository id",
                "REPOSITORY_ID",
                Claim::SourceRepositoryIdentifier,
            ),
            (
                "the environment's owner id",
                "REPOSITORY_OWNER_ID",
                Claim::SourceRepositoryOwnerIdentifier,
            ),
        ] {
            if let Some(value) = of(name).filter(|value| !value.is_empty()) {
                self.says(field, claim, value);
            }
        }
        let repository = self.sources.first().map(|source| source.repository.clone());
        if let (Some(repository), Some(run), Some(attempt)) =
            (repository, of("RUN_ID"), of("RUN_ATTEMPT"))
        {
            self.says(
                "the environment's run",
                Claim::RunInvocationUri,
                format!("{repository}/actions/runs/{run}/attempts/{attempt}"),
            );
        }
        let payload = environment(fields, "EVENT_PAYLOAD");
        let named = of("BASE_REF").filter(|base| !base.is_empty());
        self.base_ref = match (named, self.event.as_deref(), payload) {
            (Some(base), _, _) => Some(base),
            (None, Some("push"), Some(payload)) => payload.get("base_ref").and_then(text),
            (None, Some("release"), Some(payload)) => payload
                .pointer("/release/target_commitish")
                .and_then(text)
                .map(|branch| format!("refs/heads/{branch}")),
            _ => None,
        };
        self.started_by_hand(payload.and_then(|payload| payload.get("inputs")));
    }

    fn started_by_hand(&mut self, inputs: Option<&Value>) {
        if self.event.as_deref() != Some("workflow_dispatch") {
            return;
        }
        self.inputs = inputs.and_then(Value::as_object).map(|inputs| {
            let texts = inputs.iter();
            texts
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect()
        });
    }

    /// Where the workflow that was started stands, as `owner/name/path@ref`.
    fn started_in(&mut self, fields: &Fields) {
        let Some(workflow) = environment_text(fields, "WORKFLOW_REF") else {
            return;
        };
        let Some((path, git_ref)) = workflow.split_once('@') else {
            let contradiction = format!("`{workflow}` names no reference");
            return self.contradictions.push(contradiction);
        };
        let mut parts = path.splitn(3, '/');
        if let (Some(owner), Some(name)) = (parts.next(), parts.next()) {
            let uri = format!("git+https://github.com/{owner}/{name}@{git_ref}");
            self.source("internalParameters.GITHUB_WORKFLOW_REF", Some(&uri));
        }
    }

    /// Notes a source, and the reference that stands with it. An address that cannot be read is noted as it stands, so that
    /// it can never be an accepted one.
    fn source(&mut self, field: &'static str, uri: Option<&String>) {
        let Some(uri) = uri else { return };
        let (repository, git_ref) =
            Repository::parse(uri).unwrap_or_else(|| (Repository(uri.clone()), None));
        for claim in [Claim::SourceRepositoryUri, Claim::GithubWorkflowRepository] {
            let value = match claim {
                Claim::GithubWorkflowRepository => repository.on_github().map(str::to_owned),
                _ => Some(repository.0.clone()),
            };
            if self.claims_source()
                && let Some(value) = value
            {
                self.says(field, claim, value);
            }
        }
        self.sources.push(NamedSource { field, repository });
        self.built(
            field,
            git_ref.filter(|git_ref| git_ref.starts_with("refs/")),
        );
    }

    /// Whether the repository whose pipeline signed is the one that is built.
    fn claims_source(&self) -> bool {
        match self.kind {
            BuildType::GithubGenerator
            | BuildType::GithubDelegator
            | BuildType::ContainerBased
            | BuildType::GithubWorkflow
            | BuildType::GithubWorkflowOfCommunity
            | BuildType::GitlabRunner
            | BuildType::GitlabPipeline => true,
            BuildType::Tekton
            | BuildType::GoogleCloudBuild
            | BuildType::BuildKit
            | BuildType::Unknown => false,
        }
    }

    fn built(&mut self, field: &'static str, git_ref: Option<String>) {
        let Some(git_ref) = git_ref else { return };
        match &self.git_ref {
            Some(other) if *other != git_ref => {
                let contradiction = format!("it names the references `{other}` and `{git_ref}`");
                self.contradictions.push(contradiction);
            }
            _ => {
                if self.claims_source() {
                    self.says(field, Claim::SourceRepositoryRef, git_ref.clone());
                    self.says(field, Claim::GithubWorkflowRef, git_ref.clone());
                }
                self.git_ref = Some(git_ref);
            }
        }
    }

    fn commit(&mut self, field: &'static str, commit: Option<&String>) {
        if let Some(commit) = commit {
            self.says(field, Claim::SourceRepositoryDigest, commit.clone());
            self.says(field, Claim::GithubWorkflowSha, commit.clone());
        }
    }

    fn event(&mut self, event: Option<String>) {
        if let Some(event) = &event {
            let field = "the event";
            self.says(field, Claim::BuildTrigger, event.clone());
            self.says(field, Claim::GithubWorkflowTrigger, event.clone());
        }
        self.event = event;
    }

    fn same(&mut self, what: &str, one: Option<&String>, other: Option<&String>) {
        if let (Some(one), Some(other)) = (one, other)
            && one != other
        {
            let contradiction = format!("{what} differ: `{one}`, `{other}`");
            self.contradictions.push(contradiction);
        }
    }

    fn says(&mut self, field: &'static str, claim: Claim, value: String) {
        let said = Said {
            field,
            claim,
            value,
        };
        if !self.said.contains(&said) {
            self.said.push(said);
        }
    }
}

/// A variable of the job: `github_NAME` in v0.2, `GITHUB_NAME` in v1 and where builders are run for others.
fn environment<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    let of = |key: String| fields.internal.get(&key);
    of(format!("GITHUB_{name}")).or_else(|| of(format!("github_{}", name.to_ascii_lowercase())))
}

fn environment_text(fields: &Fields, name: &str) -> Option<String> {
    environment(fields, name).and_then(text)
}

/// A text, or a number as one.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn unknown_parameters(kind: BuildType, fields: &Fields) -> Vec<String> {
    let Some(known) = kind.parameters(fields.version) else {
        return Vec::new();
    };
    let mut unknown = strangers(&fields.external, known, "");
    if let Some(workflow) = fields.external.get("workflow") {
        unknown.extend(strangers(
            workflow,
            &["ref", "repository", "path"],
            "workflow.",
        ));
    }
    unknown
}

fn strangers(value: &Value, known: &[&str], below: &str) -> Vec<String> {
    let fields = value.as_object().into_iter().flat_map(Map::keys);
    let strangers = fields.filter(|name| !known.contains(&name.as_str()));
    strangers.map(|name| format!("{below}{name}")).collect()
}
