//! How a build was started: its branch, its tag and its inputs.

use super::super::check::listed;
use super::{
    BRANCH_NOT_ACCEPTED, BRANCH_UNKNOWN, INPUTS_DIFFER, INPUTS_UNKNOWN, NOT_BUILT_FROM_A_TAG,
    Provenance, Refusal, Step, TAG_NOT_ACCEPTED, in_backticks,
};
use crate::attest::predicate::SlsaProvenance;
use crate::gate::glob::Glob;

impl Provenance {
    /// The branch and the tag are accepted. `git_ref` is the reference that counts, from the certificate or the provenance.
    pub(super) fn check_reference(
        &self,
        provenance: &SlsaProvenance,
        git_ref: Option<&str>,
        isolated: bool,
    ) -> Result<(), Refusal> {
        if let Some(accepted) = &self.branches {
            let branch = match tag(git_ref) {
                Some(_) if isolated => self.branch_of_tag(provenance),
                Some(_) => None,
                None => git_ref,
            };
            check_branch(branch, git_ref, accepted)?;
        }
        if let Some(accepted) = &self.tags {
            let fits = |tag: &str| accepted.iter().any(|glob| glob.matches(tag));
            let hint = format!("accepted tags: {}", listed(in_backticks(accepted), 5));
            check_tag(git_ref, fits, hint)?;
        }
        if let Some(accepted) = &self.versioned_tags {
            let fits = |tag: &str| accepted.iter().any(|version| version.matches(tag));
            let hint = format!("accepted versions: {}", listed(in_backticks(accepted), 5));
            check_tag(git_ref, fits, hint)?;
        }
        Ok(())
    }

    /// The branch that the provenance names beside a tag, as a reference.
    fn branch_of_tag<'a>(&self, provenance: &'a SlsaProvenance) -> Option<&'a str> {
        let target = provenance.release_target.as_deref();
        let pushed = provenance.base_ref.as_deref();
        pushed.or(target.filter(|_| self.trust_release_target))
    }

    /// The build was started with the inputs that the policy requires, and an isolated builder recorded them.
    pub(super) fn check_inputs(
        &self,
        provenance: &SlsaProvenance,
        isolated: bool,
    ) -> Result<(), Refusal> {
        let Some((name, _)) = self.inputs.first_key_value() else {
            return Ok(());
        };
        if !isolated {
            let detail = "the inputs do not count, because the signer is a workflow of the source's own repository, which can write anything";
            let hint = "use a builder in another repository than the source's";
            return Err(Refusal::new(
                Step::Start,
                INPUTS_UNKNOWN,
                detail.to_owned(),
                hint.to_owned(),
            ));
        }
        let Some(given) = &provenance.inputs else {
            let detail = match provenance.event.as_deref() {
                Some(event) => format!(
                    "the build was started by `{event}`, and the provenance does not record inputs"
                ),
                None => "the provenance does not record inputs".to_owned(),
            };
            let hint = format!("start the workflow by hand with the input `{name}`");
            return Err(Refusal::new(Step::Start, INPUTS_UNKNOWN, detail, hint));
        };
        let other = self
            .inputs
            .iter()
            .find(|(name, wanted)| given.get(*name) != Some(*wanted));
        let Some((name, wanted)) = other else {
            return Ok(());
        };
        let given = match given.get(name) {
            Some(given) => format!("`{given}`"),
            None => "absent".to_owned(),
        };
        Err(Refusal::new(
            Step::Start,
            INPUTS_DIFFER,
            format!("the input `{name}` is {given}, not `{wanted}`"),
            format!("start the workflow with `{name}` as `{wanted}`"),
        ))
    }
}

fn tag(git_ref: Option<&str>) -> Option<&str> {
    git_ref?.strip_prefix("refs/tags/")
}

fn check_branch(
    branch: Option<&str>,
    git_ref: Option<&str>,
    accepted: &[Glob],
) -> Result<(), Refusal> {
    let branch = branch.and_then(|branch| branch.strip_prefix("refs/heads/"));
    let (reason, detail) = match (branch, git_ref) {
        (Some(branch), _) if accepted.iter().any(|glob| glob.matches(branch)) => return Ok(()),
        (Some(branch), _) => (
            BRANCH_NOT_ACCEPTED,
            format!("the branch `{branch}` is not accepted"),
        ),
        (None, Some(git_ref)) => (
            BRANCH_UNKNOWN,
            format!("the branch is not known for the reference `{git_ref}`"),
        ),
        (None, None) => (
            BRANCH_UNKNOWN,
            "neither the branch nor the reference is known".to_owned(),
        ),
    };
    let hint = format!("accepted branches: {}", listed(in_backticks(accepted), 5));
    Err(Refusal::new(Step::Start, reason, detail, hint))
}

fn check_tag(
    git_ref: Option<&str>,
    fits: impl Fn(&str) -> bool,
    hint: String,
) -> Result<(), Refusal> {
    let (reason, detail) = match (tag(git_ref), git_ref) {
        (Some(tag), _) if fits(tag) => return Ok(()),
        (Some(tag), _) => (TAG_NOT_ACCEPTED, format!("the tag `{tag}` is not accepted")),
        (None, Some(git_ref)) => (NOT_BUILT_FROM_A_TAG, format!("the image was built from `{git_ref}`, not from a tag")),
        (None, None) => (NOT_BUILT_FROM_A_TAG, "neither the provenance nor the certificate says from which reference it was built, so no tag is known".to_owned()),
    };
    Err(Refusal::new(Step::Start, reason, detail, hint))
}
