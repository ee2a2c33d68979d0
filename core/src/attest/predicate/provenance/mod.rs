//! SLSA provenance, v0.2 and v1 (SLSA specification, "Provenance"): the builder, the source and the inputs of a build. The build
//! type decides which fields contain them. Only the fields that rules use are kept.

mod build_type;
mod builds;
mod repository;
#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeMap;

use self::build_type::unknown_parameters;
use self::written::{StatementFields, environment_text};
use crate::attest::claim::Claim;
use crate::attest::unaccepted::UnacceptedReason;
use crate::attest::weight::bytes_of;

pub use self::build_type::BuildType;
pub use self::repository::SourceRepository;

/// The parts of SLSA provenance that rules use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlsaProvenance {
    /// The id of the builder, a URI.
    pub builder: String,
    /// The build type, a URI. It defines the meaning of the parameters.
    pub build_type: String,
    /// The build type, if this version supports it.
    pub kind: BuildType,
    /// Every source, with the field that names it; may be empty.
    pub sources: Vec<NamedSource>,
    /// The git reference that was built, in full, such as `refs/heads/main`.
    pub git_ref: Option<String>,
    /// The branch that a pushed tag belongs to, such as `refs/heads/main`, from the push event (`base_ref`).
    pub base_ref: Option<String>,
    /// The target branch of the release that started the build, such as `refs/heads/main` (`release.target_commitish`). The
    /// publisher chooses it freely; the commit that was built may be on another branch.
    pub release_target: Option<String>,
    /// The event that started the build, such as `push`.
    pub event: Option<String>,
    /// Who started the build, where the build type records it: the actor of the run, and who started it again.
    pub actors: Vec<BuildActor>,
    /// The inputs of a build that was started by hand (`workflow_dispatch`); `None` if there are none on record.
    pub inputs: Option<BTreeMap<String, String>>,
    /// External parameters that are not known for this build type; empty for unknown build types.
    pub unknown_parameters: Vec<String>,
    /// Fields that give different values for the same fact, one sentence each.
    pub contradictions: Vec<String>,
    /// The commits of the sources, each with the field that names it.
    pub commits: Vec<(&'static str, String)>,
    /// Values that must be equal to a claim of the signer's certificate, if the certificate has that claim.
    pub said: Vec<Said>,
}

/// A source, and the field that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSource {
    /// The field, such as `materials[0].uri`.
    pub field: &'static str,
    /// The repository.
    pub repository: SourceRepository,
}

/// An account on a platform, as provenance names it: by its login, its number, or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildActor {
    /// The platform's host, such as `github.com`; the host of the source.
    pub host: String,
    /// The login, which its holder can change and another account can then take.
    pub login: Option<String>,
    /// The number of the account, which never changes.
    pub id: Option<u64>,
}

/// A value of the provenance that must be equal to a claim of the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The field of the provenance.
    pub field: &'static str,
    /// The claim of the certificate.
    pub claim: Claim,
    /// The value.
    pub value: String,
}

impl SlsaProvenance {
    pub(super) fn v0_2(text: &str) -> Result<SlsaProvenance, UnacceptedReason> {
        Ok(SlsaProvenance::from_fields(&StatementFields::v0_2(text)?))
    }

    pub(super) fn v1(text: &str) -> Result<SlsaProvenance, UnacceptedReason> {
        Ok(SlsaProvenance::from_fields(&StatementFields::v1(text)?))
    }

    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.builder, &self.build_type].into_iter();
        let texts = texts.chain(&self.unknown_parameters);
        let texts = texts.chain(&self.contradictions);
        let texts = texts.chain(&self.git_ref).chain(&self.base_ref);
        let texts = texts.chain(&self.event).chain(&self.release_target);
        let texts: usize = texts.map(|text| text.len() + size_of::<String>()).sum();
        let sources = self.sources.iter();
        let sources = sources.map(|it| it.repository.as_str().len() + size_of_val(it));
        let said = self.said.iter().map(|it| it.value.len() + size_of_val(it));
        let commits = self.commits.iter();
        let commits = commits.map(|it| it.1.len() + size_of_val(it));
        let actors = self.actors.iter();
        let actors = actors
            .map(|it| it.host.len() + it.login.as_ref().map_or(0, String::len) + size_of_val(it));
        let inputs = self.inputs.as_ref().map_or(0, bytes_of);
        let lists = sources.chain(said).chain(commits).chain(actors);
        size_of_val(self) + texts + lists.sum::<usize>() + inputs
    }

    fn from_fields(fields: &StatementFields) -> SlsaProvenance {
        let kind = BuildType::named(&fields.build_type);
        let mut provenance = SlsaProvenance {
            builder: fields.builder.clone(),
            build_type: fields.build_type.clone(),
            kind,
            sources: Vec::new(),
            git_ref: None,
            base_ref: None,
            release_target: None,
            event: None,
            actors: Vec::new(),
            inputs: None,
            unknown_parameters: unknown_parameters(kind, fields),
            contradictions: Vec::new(),
            commits: Vec::new(),
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
        provenance.commits_of_sources(fields);
        if let (Some(git_ref), Some(kind)) =
            (&provenance.git_ref, environment_text(fields, "REF_TYPE"))
        {
            let said = match git_ref.split('/').nth(1) {
                Some("heads") => "branch",
                Some("tags") => "tag",
                _ => kind.as_str(),
            };
            if said != kind {
                let contradiction =
                    format!("the reference is `{git_ref}`, but its type is `{kind}`");
                provenance.contradictions.push(contradiction);
            }
        }
        provenance
    }

    /// Adds a source, and the reference in its address. An address that cannot be parsed is added as written, so that the policy
    /// refuses it instead of missing it.
    fn source(&mut self, field: &'static str, uri: Option<&String>) {
        let Some(uri) = uri else { return };
        let (repository, git_ref) =
            SourceRepository::parse(uri).unwrap_or_else(|| (SourceRepository::unread(uri), None));
        self.sources.push(NamedSource { field, repository });
        self.built(
            field,
            git_ref.filter(|git_ref| git_ref.starts_with("refs/")),
        );
    }

    /// Adds the git reference that was built.
    fn built(&mut self, field: &'static str, git_ref: Option<String>) {
        let Some(git_ref) = git_ref else { return };
        match &self.git_ref {
            Some(other) if *other != git_ref => {
                let contradiction =
                    format!("two fields name the references `{other}` and `{git_ref}`");
                self.contradictions.push(contradiction);
            }
            _ => {
                self.says(field, Claim::SourceRepositoryRef, git_ref.clone());
                self.says(field, Claim::GithubWorkflowRef, git_ref.clone());
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

    /// Adds the commit of every source, for every build type.
    fn commits_of_sources(&mut self, fields: &StatementFields) {
        let mut commits: Vec<_> = (fields.config.commits())
            .map(|commit| ("invocation.configSource.digest", commit.clone()))
            .collect();
        for dependency in &fields.dependencies {
            let uri = dependency.uri.as_deref().and_then(SourceRepository::parse);
            let is_source = uri.is_some_and(|(repository, _)| {
                let mut sources = self.sources.iter();
                sources.any(|source| source.repository.is_same(&repository))
            });
            if is_source {
                let of_source = dependency.commits();
                commits
                    .extend(of_source.map(|commit| ("the commit of the source", commit.clone())));
            }
        }
        commits.sort();
        commits.dedup();
        self.commits = commits;
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
