//! Agreement of a provenance statement with the certificate of its signer, and with itself.

use super::identity::{is_delegator, is_isolated, own_ref};
use super::{
    BUILDER_IS_NOT_THE_SIGNER, CONTRADICTS_CERTIFICATE, CONTRADICTS_ITSELF, Refusal, Step,
};
use crate::attest::predicate::{SlsaProvenance, SourceRepository};
use crate::attest::{CertificateIdentity, Claim, Signer, workflow};
use crate::reason::Reason;

/// The statement agrees with the certificate of its signer, if there is one, and with itself.
pub(super) fn check_agreement(provenance: &SlsaProvenance, by: &Signer) -> Result<(), Refusal> {
    if let Signer::Certificate(certificate) = by {
        let identity = certificate.identity();
        // 1. The builder is the signer: a pattern can accept many builders, and one must not sign for another.
        let builder = &provenance.builder;
        let is_workflow = |uri: &str| {
            workflow(uri).is_some() || uri.to_ascii_lowercase().contains("/.github/workflows/")
        };
        if builder != identity
            && is_workflow(builder)
            && is_workflow(identity)
            && !is_delegator(identity)
        {
            let detail =
                format!("the signer is not the builder `{builder}` that the provenance names");
            return Err(attempt(BUILDER_IS_NOT_THE_SIGNER, detail));
        }
        // 2. The certificate's claims: Fulcio has verified them, the signer alone wrote the statement.
        if let Some(contradiction) = first_contradiction(provenance, certificate) {
            return Err(attempt(CONTRADICTS_CERTIFICATE, contradiction));
        }
        // 3. The reference: without claims, a workflow of the source's own repository names it in its identity.
        if let (Some(git_ref), Some(claimed)) = (provenance.git_ref.as_deref(), own_ref(by))
            && git_ref != claimed
            && !is_isolated(provenance, by)
        {
            let detail =
                format!("the reference is `{git_ref}`, but the certificate says `{claimed}`");
            return Err(attempt(CONTRADICTS_CERTIFICATE, detail));
        }
    }
    // 4. The statement itself: of two values, one could pass a check and the other one be true.
    match provenance.contradictions.first() {
        Some(contradiction) => Err(attempt(CONTRADICTS_ITSELF, contradiction.clone())),
        None => Ok(()),
    }
}

/// The first field of the statement that differs from a claim of the certificate, for every build type.
fn first_contradiction(
    provenance: &SlsaProvenance,
    certificate: &CertificateIdentity,
) -> Option<String> {
    let claims = certificate.claims();
    let differs = |claim: Claim, field: &str, value: &str, agree: &dyn Fn(&str) -> bool| {
        let claimed = claims.get(&claim).filter(|claimed| !agree(claimed))?;
        Some(format!(
            "{field} is `{value}`, but the certificate says `{claimed}` ({claim})"
        ))
    };
    // 1. The source, compared in normal form because the two may spell it differently.
    let sources = provenance.sources.iter().find_map(|source| {
        let repository = &source.repository;
        let same =
            |claimed: Option<&SourceRepository>| claimed.is_some_and(|it| it.is_same(repository));
        let address = |_: &str| same(certificate.pipeline().source());
        let name = |_: &str| same(certificate.pipeline().source_by_name());
        let shown = repository.as_str();
        differs(Claim::SourceRepositoryUri, source.field, shown, &address)
            .or_else(|| differs(Claim::GithubWorkflowRepository, source.field, shown, &name))
    });
    // 2. The commit. A delegator may build another commit than the one that started it, and its certificate names the latter.
    let commits = provenance.commits.iter();
    let commits = commits.filter(|_| !is_delegator(certificate.identity()));
    let mut commits = commits.flat_map(|(field, commit)| {
        [Claim::SourceRepositoryDigest, Claim::GithubWorkflowSha]
            .map(|claim| (claim, *field, commit))
    });
    let commits = commits.find_map(|(claim, field, commit)| {
        differs(claim, field, commit, &|claimed| {
            claimed.eq_ignore_ascii_case(commit)
        })
    });
    // 3. The reference and all other claims.
    let said = provenance.said.iter().find_map(|said| {
        differs(said.claim, said.field, &said.value, &|claimed| {
            claimed == said.value
        })
    });
    sources.or(commits).or(said)
}

fn attempt(reason: Reason, detail: String) -> Refusal {
    let hint = "this can be an attempt to pass off one build as another".to_owned();
    Refusal::new(Step::Agreement, reason, detail, hint)
}
