//! SLSA provenance, v0.2 and v1 (SLSA specification, "Provenance"): what was built, by which builder, from which source, as
//! far as the build type says where that stands. Of each predicate only what can be judged is kept.

mod build_type;
mod builds;
mod repository;
#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeMap;

use self::build_type::unknown_parameters;
use self::written::{StatementFields, environment_text};
use crate::attest::Claim;
use crate::attest::unaccepted::UnacceptedReason;
use crate::attest::verified::bytes_of;

pub use self::build_type::BuildType;
pub use self::repository::SourceRepository;

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
    /// The branch, such as `refs/heads/main`, that the releaser named when a release started the build
    /// (`release.target_commitish`). It need not hold the commit that was built.
    pub release_target: Option<String>,
    /// The event that started the build, such as `push`.
    pub event: Option<String>,
    /// The inputs with which somebody started the build by hand.
    pub inputs: Option<BTreeMap<String, String>>,
    /// Parameters from outside that builds of this type do not have; empty for unknown types.
    pub unknown_parameters: Vec<String>,
    /// Where it says two different things about the same.
    pub contradictions: Vec<String>,
    /// The commits of the sources, each with the field that names it.
    pub commits: Vec<(&'static str, String)>,
    /// Values that a claim of the signer's certificate has to equal, where the certificate carries the claim.
    pub said: Vec<Said>,
}

/// A source, and where it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSource {
    /// The field, such as `materials[0].uri`.
    pub field: &'static str,
    /// The repository.
    pub repository: SourceRepository,
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

impl Provenance {
    pub(super) fn v0_2(text: &str) -> Result<Provenance, UnacceptedReason> {
        Ok(Provenance::of(&StatementFields::v0_2(text)?))
    }

    pub(super) fn v1(text: &str) -> Result<Provenance, UnacceptedReason> {
        Ok(Provenance::of(&StatementFields::v1(text)?))
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
        let inputs = self.inputs.as_ref().map_or(0, bytes_of);
        size_of_val(self) + texts + sources.chain(said).chain(commits).sum::<usize>() + inputs
    }

    fn of(fields: &StatementFields) -> Provenance {
        let kind = BuildType::named(&fields.build_type);
        let mut provenance = Provenance {
            builder: fields.builder.clone(),
            build_type: fields.build_type.clone(),
            kind,
            sources: Vec::new(),
            git_ref: None,
            base_ref: None,
            release_target: None,
            event: None,
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
                let contradiction = format!("`{git_ref}` is said to be a {kind}");
                provenance.contradictions.push(contradiction);
            }
        }
        provenance
    }

    /// Notes a source, and the reference that stands with it. An address that cannot be read is noted as it stands, so that
    /// it can never be an accepted one.
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

    fn built(&mut self, field: &'static str, git_ref: Option<String>) {
        let Some(git_ref) = git_ref else { return };
        match &self.git_ref {
            Some(other) if *other != git_ref => {
                let contradiction = format!("it names the references `{other}` and `{git_ref}`");
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

    /// Notes the commit of everything that stands for a source, whatever the kind of build.
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
