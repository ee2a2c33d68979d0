//! Which workflow or pipeline a certificate names, and what that says about a builder.

use crate::attest::predicate::{SlsaProvenance, SourceRepository};
use crate::attest::{CertificateIdentity, Claim, Signer, workflow};

/// Whether the builder is isolated from its callers: its signer is a key, an account without a source, or a workflow of another
/// repository than the source's. If a workflow's certificate does not claim a source, the workflow must be of another
/// repository than every source that the provenance names. An identity of another kind that claims a source is not isolated.
pub(in super::super) fn is_isolated(provenance: &SlsaProvenance, by: &Signer) -> bool {
    let Signer::Certificate(certificate) = by else {
        return true;
    };
    let own = certificate.pipeline().workflows();
    let is_own = |source: &SourceRepository| own.iter().any(|own| own.is_same(source));
    match certificate.pipeline().source() {
        Some(source) => !own.is_empty() && !is_own(source),
        None if claims_source(certificate) => false,
        None if own.is_empty() => true,
        None => {
            let mut sources = provenance.sources.iter();
            !provenance.sources.is_empty() && !sources.any(|source| is_own(&source.repository))
        }
    }
}

/// Why the authors of a repository may control what a signer writes, as a sentence; `None` if the signer is isolated from them.
pub(in super::super) fn why_not_isolated(
    by: &Signer,
    repository: &SourceRepository,
) -> Option<String> {
    let Signer::Certificate(certificate) = by else {
        return None;
    };
    let own = certificate.pipeline().workflows();
    if own.iter().any(|own| own.is_same(repository)) {
        return Some(format!(
            "its signer is a workflow of the repository `{repository}` itself, whose authors can write anything"
        ));
    }
    (own.is_empty() && claims_source(certificate)).then(|| {
        format!(
            "its signer {by} claims a source repository and does not name its workflow, so the authors may control what it writes"
        )
    })
}

/// Whether a certificate claims a source repository, also one whose address cannot be read.
fn claims_source(certificate: &CertificateIdentity) -> bool {
    let claims = certificate.claims();
    claims.contains_key(&Claim::SourceRepositoryUri)
        || claims.contains_key(&Claim::GithubWorkflowRepository)
}

/// The reference that was built, from the claims of the certificate.
pub(super) fn claimed_ref(by: &Signer) -> Option<&str> {
    let Signer::Certificate(certificate) = by else {
        return None;
    };
    let claims = certificate.claims();
    let claim = claims.get(&Claim::SourceRepositoryRef);
    let claim = claim.or_else(|| claims.get(&Claim::GithubWorkflowRef));
    claim.map(String::as_str)
}

/// The reference that was built by a workflow of the source's own repository. If its certificate has no claims, the reference
/// is in its identity.
pub(super) fn own_ref(by: &Signer) -> Option<&str> {
    let Signer::Certificate(certificate) = by else {
        return None;
    };
    match certificate.pipeline().source() {
        Some(_) => claimed_ref(by),
        None => claimed_ref(by).or_else(|| workflow(certificate.identity())?.1),
    }
}

/// Whether a certificate was issued to a delegator workflow of slsa-github-generator. A delegator runs builders of other
/// repositories, so the builder's name differs from the signer's.
pub(super) fn is_delegator(identity: &str) -> bool {
    const DELEGATORS: &str =
        "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/delegator_";
    let file = identity
        .strip_prefix(DELEGATORS)
        .and_then(|rest| rest.split_once('@'));
    file.is_some_and(|(file, git_ref)| {
        ["generic_slsa3.yml", "lowperms-generic_slsa3.yml"].contains(&file)
            && git_ref.starts_with("refs/tags/")
    })
}
