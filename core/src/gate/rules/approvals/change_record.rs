//! One change record: whether it says who wrote the commits of the image, and whom it names.

use std::fmt;

use super::super::check::{in_time, listed};
use super::super::provenance::why_not_isolated;
use super::{AuthorsOfRecord, ImageCheck, RecordField};
use crate::attest::predicate::{self, ChangeIdentity, ChangeRole, CommitId, SourceRepository};
use crate::attest::{Claim, Signer, VerifiedStatement};
use crate::gate::evidence::Collected;
use crate::gate::people::{Identity, SourcePlatform};
use crate::gate::record::{RecordedSource, Records};

/// What an author did. Of several actions of one author, the least is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gate) struct AuthorAction(&'static str, ActedOn);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ActedOn {
    PullRequest(u64),
    Change,
    /// The verb is the whole text.
    Nothing,
}

impl AuthorAction {
    pub(super) const STARTED: AuthorAction = AuthorAction("started the build", ActedOn::Nothing);
    pub(super) const DEPLOYS: AuthorAction = AuthorAction("deploys the change", ActedOn::Nothing);
    pub(in crate::gate) const KEPT: AuthorAction = AuthorAction(
        "is named by evidence that this cluster keeps",
        ActedOn::Nothing,
    );

    /// What a change record says.
    pub(super) fn of(role: ChangeRole, pull_request: Option<u64>) -> AuthorAction {
        let verb = match role {
            ChangeRole::Opened => "opened",
            ChangeRole::Pushed => "pushed to",
            ChangeRole::Merged => "merged",
            ChangeRole::Triggered => return AuthorAction::STARTED,
            ChangeRole::Signed => "signed a commit of",
            ChangeRole::Committed => "is named by a commit of",
            ChangeRole::Added => "was added as an author of",
        };
        AuthorAction(
            verb,
            pull_request.map_or(ActedOn::Change, ActedOn::PullRequest),
        )
    }
}

impl fmt::Display for AuthorAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AuthorAction(verb, acted_on) = self;
        match acted_on {
            ActedOn::PullRequest(number) => write!(f, "{verb} pull request {number}"),
            ActedOn::Change => write!(f, "{verb} the change"),
            ActedOn::Nothing => f.write_str(verb),
        }
    }
}

/// The identities by which a person in a change record is looked up in the directory.
pub(super) fn identities_of(
    identity: &ChangeIdentity,
) -> Result<impl Iterator<Item = Identity>, String> {
    let by_address = |address: &str| Identity::Certificate {
        // An address without an issuer: it is held against everyone who has a similar one.
        issuer: String::new(),
        name: address.to_owned(),
    };
    let (first, second) = match identity {
        ChangeIdentity::Github(account) => {
            let (platform, host) = (SourcePlatform::GitHub, account.host.as_deref());
            let account = Identity::account(platform, host, &account.login, account.id)?;
            (account, None)
        }
        ChangeIdentity::Gitlab(account) => {
            let (platform, host) = (SourcePlatform::GitLab, Some(&*account.host));
            let account = Identity::account(platform, host, &account.login, account.id)?;
            (account, None)
        }
        ChangeIdentity::Certificate(certificate) => {
            let issuer = certificate.issuer.clone();
            let name = certificate.subject.clone();
            (Identity::Certificate { issuer, name }, None)
        }
        ChangeIdentity::Email(email) => (by_address(&email.address), None),
        ChangeIdentity::Git(git) => {
            let address = git.email.as_str();
            (by_address(address), private_address(address))
        }
    };
    Ok(second.into_iter().chain([first]))
}

/// The account of a private address of GitHub, `[NUMBER+]LOGIN@users.noreply.github.com`.
fn private_address(address: &str) -> Option<Identity> {
    let (user, host) = address.rsplit_once('@')?;
    if !host.eq_ignore_ascii_case("users.noreply.github.com") {
        return None;
    }
    let (id, login) = match user.split_once('+') {
        Some((id, login)) => (id.parse().ok(), login),
        None => (None, user),
    };
    Identity::account(SourcePlatform::GitHub, None, login, id).ok()
}

/// The commits that a record covers, in words.
pub(super) fn range(record: &predicate::ChangeRecord) -> String {
    match &record.from {
        Some(from) => format!("the commits after `{from}` up to `{}`", record.to),
        None => format!("all commits up to `{}`", record.to),
    }
}

/// Whether a record says who wrote the commits from which the image was built.
///
/// # Errors
/// Why it does not, as a sentence.
pub(super) fn record_fits(
    source: &AuthorsOfRecord,
    record: &predicate::ChangeRecord,
    statement: &VerifiedStatement,
    proven: &[(&VerifiedStatement, &predicate::SlsaProvenance)],
    check: &ImageCheck<'_>,
) -> Result<(), String> {
    in_time(statement, check.promotion.at)?;
    let Some((repository, None)) = SourceRepository::parse(&record.repository.uri) else {
        let uri = &record.repository.uri;
        return Err(format!(
            "its repository `{uri}` is not an address of a repository"
        ));
    };
    // 1. The signer is isolated from the authors: a workflow of the source's own repository is written by them.
    if let Some(why) = why_not_isolated(statement.signer(), &repository) {
        return Err(why);
    }
    // 2. The repository and the commit are those of the build.
    let built = proven.iter().find(|(_, provenance)| {
        let mut commits = provenance.commits.iter();
        commits.any(|(_, commit)| commit.eq_ignore_ascii_case(record.to.as_str()))
    });
    let Some((_, provenance)) = built else {
        return Err(format!("it ends with the commit `{}`", record.to));
    };
    let mut sources = provenance.sources.iter();
    if !sources.any(|source| source.repository.is_same(&repository)) {
        return Err(format!("it is about the repository `{repository}`"));
    }
    // 3. Nothing was left out between what this workload was admitted with before and the first commit.
    let is_source = |source: &RecordedSource| {
        let named = [Some(repository.as_str()), record.repository.id.as_deref()];
        named.contains(&Some(source.repository.as_str()))
            || SourceRepository::parse(&source.repository)
                .is_some_and(|(before, _)| before.is_same(&repository))
            || proven.iter().any(|(statement, provenance)| {
                repository_ids(statement, provenance).any(|id| *id == source.repository)
            })
    };
    let records = &check.promotion.records;
    if let (true, Collected::Unavailable(why)) = (Records::are_kept(records), records) {
        return Err(format!(
            "with what this workload was admitted before is not known: {why}"
        ));
    }
    let records = records.value();
    let before = records.map(|records| records.commits_before(check.policy, is_source));
    let before = before.unwrap_or_default();
    if !before.is_empty() && !before.iter().any(|commit| is_covered(record, commit)) {
        let before = listed(before.iter().map(|commit| format!("`{commit}`")), 2);
        return Err(format!(
            "it covers {}, and this workload was admitted with {before} before, so that authors between them are missing",
            range(record)
        ));
    }
    // 4. The fields that the policy requires.
    let is_missing = |field: &&RecordField| match field {
        RecordField::Reason => record.reason.is_none(),
        RecordField::SecurityImpact => record.security_impact.is_none(),
        RecordField::Testing => record.testing.is_none(),
        RecordField::BackOutPlan => record.back_out_plan.is_none(),
        RecordField::Reviewers => record.reviewers.is_empty(),
    };
    match source.requires.iter().find(is_missing) {
        Some(field) => Err(format!("it lacks `{}`", field.as_str())),
        None => Ok(()),
    }
}

/// Whether a record names the authors of everything after a commit.
fn is_covered(record: &predicate::ChangeRecord, commit: &str) -> bool {
    let is_it = |sha: &CommitId| sha.as_str().eq_ignore_ascii_case(commit);
    match &record.from {
        None => true,
        Some(from) => {
            is_it(from)
                || is_it(&record.to)
                || record.commits.iter().any(|listed| is_it(&listed.sha))
        }
    }
}

/// The identifier that the platform gives to the repository of a build, from the certificate and from the payload.
fn repository_ids<'e>(
    statement: &'e VerifiedStatement,
    provenance: &'e predicate::SlsaProvenance,
) -> impl Iterator<Item = &'e String> {
    const ID: Claim = Claim::SourceRepositoryIdentifier;
    let claimed = match statement.signer() {
        Signer::Certificate(certificate) => certificate.claims().get(&ID),
        Signer::Key(_) => None,
    };
    let said = provenance.said.iter().filter(|said| said.claim == ID);
    claimed.into_iter().chain(said.map(|said| &said.value))
}
