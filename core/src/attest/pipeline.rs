//! Which workflows and which source the certificate of a pipeline names (Fulcio, "OIDC usage").

use std::collections::BTreeMap;

use super::claim::Claim;
use super::predicate::SourceRepository;

/// The repositories that a certificate names; none in the certificate of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    workflows: Vec<SourceRepository>,
    source: Option<SourceRepository>,
    source_by_name: Option<SourceRepository>,
}

impl Pipeline {
    pub(super) fn named_by(identity: &str, claims: &BTreeMap<Claim, String>) -> Pipeline {
        let claim = |claim: Claim| claims.get(&claim).map(String::as_str);
        let named = [Some(identity), claim(Claim::BuildSignerUri)];
        let named = named.into_iter().flatten().filter_map(workflow);
        let workflows: Vec<_> = named.map(|(repository, _)| repository).collect();
        let address = |uri: &str| Some(SourceRepository::parse(uri)?.0);
        let source_by_name = claim(Claim::GithubWorkflowRepository);
        let source_by_name = source_by_name.and_then(|name| match workflows.first() {
            Some(workflow) => workflow.beside(name),
            None => address(&format!("https://github.com/{name}")),
        });
        Pipeline {
            source: match claim(Claim::SourceRepositoryUri) {
                Some(uri) => address(uri),
                None => source_by_name.clone(),
            },
            source_by_name,
            workflows,
        }
    }

    /// The repositories of the workflows or pipelines that the certificate names as its holder, in its identity and in the claim
    /// `buildSignerUri`.
    pub fn workflows(&self) -> &[SourceRepository] {
        &self.workflows
    }

    /// The repository that the pipeline was started for.
    pub fn source(&self) -> Option<&SourceRepository> {
        self.source.as_ref()
    }

    /// The same by the deprecated claim `githubWorkflowRepository`. It does not name the server, which is taken from the workflow.
    pub fn source_by_name(&self) -> Option<&SourceRepository> {
        self.source_by_name.as_ref()
    }

    pub(super) fn bytes(&self) -> usize {
        let sources = self.source.iter().chain(&self.source_by_name);
        let all = self.workflows.iter().chain(sources);
        all.map(|it| size_of_val(it) + it.as_str().len()).sum()
    }
}

/// The workflow or pipeline that a URI names: its repository, and its reference if that is certain. GitHub writes
/// `https://HOST/OWNER/NAME/.github/workflows/FILE@REF`, GitLab `https://HOST/PATH//FILE@REF`.
pub(crate) fn workflow(uri: &str) -> Option<(SourceRepository, Option<&str>)> {
    let (path, git_ref) = uri.split_once('@')?;
    let github = path.to_ascii_lowercase().find("/.github/workflows/");
    let gitlab = || {
        let (scheme, rest) = path.split_once("://")?;
        Some(scheme.len() + "://".len() + rest.find("//")?)
    };
    let repository = path.get(..github.or_else(gitlab)?)?;
    // A file or a reference may contain an `@` too. The start of the reference is then unknown.
    let git_ref = (!git_ref.contains('@')).then_some(git_ref);
    Some((SourceRepository::parse(repository)?.0, git_ref))
}
