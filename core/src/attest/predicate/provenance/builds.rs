//! For each build type, the fields that name source, reference and inputs.

use serde_json::Value;

use super::written::{StatementFields, Version, environment, environment_text, text};
use super::{BuildActor, BuildType, SlsaProvenance};
use crate::attest::claim::Claim;

impl SlsaProvenance {
    /// slsa-github-generator, v0.2. The environment has the variables of the job, in lower case.
    pub(super) fn generator(&mut self, fields: &StatementFields) {
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
        self.github_job(fields);
    }

    /// The material contains the reference. It is absent if another commit was built than the one that started the build.
    pub(super) fn delegator(&mut self, fields: &StatementFields) {
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

    pub(super) fn container_based(&mut self, fields: &StatementFields) {
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
        self.github_job(fields);
    }

    /// A workflow that attests itself. All values are claims of its token, so the certificate has them too.
    pub(super) fn workflow(&mut self, fields: &StatementFields) {
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

    pub(super) fn gitlab(&mut self, fields: &StatementFields) {
        self.source("invocation.configSource.uri", fields.config.uri.as_ref());
        let source = fields.external.get("source").and_then(text);
        self.source("externalParameters.source", source.as_ref());
        let dependency = fields.dependencies.first();
        let uri = dependency.and_then(|dependency| dependency.uri.as_ref());
        self.source("resolvedDependencies[0].uri", uri);
        let variable = |name: &str| {
            let value = fields.external.get("variables")?.get(name).and_then(text)?;
            (!value.is_empty()).then_some(value)
        };
        let tag = variable("CI_COMMIT_TAG").map(|tag| format!("refs/tags/{tag}"));
        let branch = variable("CI_COMMIT_BRANCH").map(|branch| format!("refs/heads/{branch}"));
        self.built("externalParameters.variables", tag.or(branch));
    }

    /// The inputs of a pipeline. The source of the pipeline definition is not a source of the image.
    pub(super) fn tekton(&mut self, fields: &StatementFields) {
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

    pub(super) fn google(&mut self, fields: &StatementFields) {
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
        for (field, of_source) in [
            ("externalParameters.sourceToBuild.ref", "sourceToBuild"),
            (
                "externalParameters.buildConfigSource.ref",
                "buildConfigSource",
            ),
        ] {
            let git_ref = of(of_source, "ref").filter(|git_ref| git_ref.starts_with("refs/"));
            self.built(field, git_ref);
        }
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

    pub(super) fn buildkit(&mut self, fields: &StatementFields) {
        self.source("invocation.configSource.uri", fields.config.uri.as_ref());
        let uri = fields.external.pointer("/configSource/uri").and_then(text);
        self.source("externalParameters.configSource.uri", uri.as_ref());
    }

    /// The environment of a job on GitHub, with names in upper or lower case.
    fn github_job(&mut self, fields: &StatementFields) {
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
        let host = self.sources.first();
        let host = host.and_then(|source| source.repository.host().map(str::to_owned));
        for (login, id) in [
            ("ACTOR", "ACTOR_ID"),
            ("TRIGGERING_ACTOR", "TRIGGERING_ACTOR_ID"),
        ] {
            let login = of(login).filter(|login| !login.is_empty());
            let id = of(id).and_then(|id| id.parse().ok());
            if let (Some(host), true) = (&host, login.is_some() || id.is_some()) {
                self.actors.push(BuildActor {
                    host: host.clone(),
                    login,
                    id,
                });
            }
        }
        let payload = environment(fields, "EVENT_PAYLOAD");
        let named = of("BASE_REF").filter(|base| !base.is_empty());
        self.base_ref = match (named, self.event.as_deref(), payload) {
            // A release can be made from any commit, so a base reference in its event does not belong to a push.
            (_, Some("release"), _) => None,
            (Some(base), _, _) => Some(base),
            (None, Some("push"), Some(payload)) => payload.get("base_ref").and_then(text),
            _ => None,
        };
        if self.event.as_deref() == Some("release") {
            self.release_target = payload
                .and_then(|payload| payload.pointer("/release/target_commitish"))
                .and_then(text)
                .map(|branch| format!("refs/heads/{branch}"));
        }
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

    /// The workflow that was started, written as `owner/name/path@ref`.
    fn started_in(&mut self, fields: &StatementFields) {
        let Some(workflow) = environment_text(fields, "WORKFLOW_REF") else {
            return;
        };
        let Some((path, git_ref)) = workflow.split_once('@') else {
            let contradiction = format!("the workflow `{workflow}` does not name a reference");
            return self.contradictions.push(contradiction);
        };
        let mut parts = path.splitn(3, '/');
        if let (Some(owner), Some(name)) = (parts.next(), parts.next()) {
            let uri = format!("git+https://github.com/{owner}/{name}@{git_ref}");
            self.source("internalParameters.GITHUB_WORKFLOW_REF", Some(&uri));
        }
    }
}
