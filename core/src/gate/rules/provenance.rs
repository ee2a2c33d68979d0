//! `provenance`: signed SLSA provenance that proves an accepted builder and an accepted source.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{
    NOT_TRANSPARENT_ENOUGH, SIGNED_IN_THE_FUTURE, ignored, in_time, listed, readable,
    unless_partial,
};
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Rule, Scope, World,
};
use crate::attest::predicate::{self, Predicate, SourceRepository};
use crate::attest::unaccepted::UNSIGNED_STATEMENT;
use crate::attest::{CertificateIdentity, Claim, Signer, VerifiedStatement};
use crate::gate::evidence::{Form, ImageEvidence};
use crate::gate::glob::Glob;
use crate::gate::signer::{AcceptedSigner, Matcher, Mismatch, TrustRoots};
use crate::gate::source::{SourcePattern, VersionPattern};
use crate::reason::{Reason, reasons};

/// **What it requires**: the image carries signed SLSA provenance (v0.2 or v1) by an accepted builder. A builder is accepted as
/// a pair: the builder that the provenance names *and* the signer of the provenance. The policy must accept the source
/// repository, and also branch, tag, inputs and build type if it names any. Source, reference and commit must agree with the
/// claims of the signer's certificate, if it has them. The build type that the provenance names does not change this.
///
/// Some facts are only in the provenance: the branch of a pushed tag, the inputs, and source and reference if the certificate
/// has no claims. They count only if the builder is isolated from its callers. A builder is isolated if its signer is a
/// workflow of another repository than the source's, a key, or an account without a source (of Tekton Chains or Google Cloud
/// Build). A workflow or pipeline of the source's own repository writes its provenance itself, and can write anything. A
/// holder of a key can write anything too: accept a key only if the builder alone holds it.
///
/// **Why**: a signature proves which identity signed an image; provenance says what the image was built from. Every signer can
/// write every builder's name into a statement, so a builder's name counts only with its signer.
///
/// **Example**:
/// `- provenance: {builders: [{id: {glob: "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/v*"}, signedBy: {keyless: {issuer: "https://token.actions.githubusercontent.com", identity: {glob: "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/v*"}}}}], sources: ["https://github.com/example/app"], branches: [main]}`
///
/// **How to satisfy it**: build with a generator of SLSA provenance, or attest the build with `actions/attest-build-provenance`.
/// The provenance that BuildKit attaches is not signed and does not count.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provenance {
    /// Accepted pairs of builder and signer.
    #[schemars(length(min = 1))]
    pub builders: Vec<Builder>,
    /// Accepted source repositories, such as `https://github.com/example/app`, or `{glob: …}`.
    #[schemars(length(min = 1))]
    pub sources: Option<Vec<SourcePattern>>,
    /// Accept every source. A public build service builds every user's sources.
    #[serde(default)]
    pub any_source: bool,
    /// Accepted branches. For a pushed tag: the branch that the push names (`base_ref`). A build that a release started has a
    /// branch only with `trustReleaseTarget: true`.
    #[schemars(length(min = 1))]
    pub branches: Option<Vec<Glob>>,
    /// Accept the target branch of a release (`target_commitish`) as the branch that was built. The publisher of a release of
    /// an existing tag can choose any branch name, even if the tag's commit is not on that branch.
    #[serde(default)]
    pub trust_release_target: bool,
    /// Accepted tags. A build from anything else than a tag is refused.
    #[schemars(length(min = 1))]
    pub tags: Option<Vec<Glob>>,
    /// Accepted versions (semantic versioning): `v1.2` accepts the tag `v1.2.3`, but not `v1.3.0`.
    #[schemars(length(min = 1))]
    pub versioned_tags: Option<Vec<VersionPattern>>,
    /// Inputs with which the build must have been started by hand (`workflow_dispatch`).
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Accepted build types; every build type when absent.
    #[schemars(length(min = 1))]
    pub build_types: Option<Vec<Matcher>>,
}

/// An accepted builder: the id that the provenance must name, and the signer of the provenance.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Builder {
    /// The builder's id, a URI.
    pub id: Matcher,
    /// The signer of this builder's provenance.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "has(self.keyless) != has(self.key)", "message": "expected exactly one of `keyless` and `key`"},
    ]))]
    pub signed_by: AcceptedSigner,
}

reasons! {
    OF_THIS_RULE:
    PROVEN = "proven", "The provenance names an accepted builder and an accepted source.", "";
    NO_PROVENANCE = "no-provenance",
        "The image does not carry SLSA provenance.",
        "Build with a generator of SLSA provenance, or add `actions/attest-build-provenance` to the workflow (`push-to-registry: true`). If the digest names one platform of an index, use the index's digest in the manifest.";
    PROVENANCE_UNACCEPTED = "provenance-unaccepted",
        "Something that may be provenance is attached to the image, but it could not be verified. The detail says why.",
        "`promotion-gate evidence IMAGE` shows everything attached and why it is not accepted; `promotion-gate explain REASON` explains a reason.";
    PROVENANCE_UNSIGNED = "provenance-unsigned",
        "The image carries an unsigned statement, such as BuildKit attaches. Every user with push access could have written it.",
        "Sign the provenance in the pipeline: `actions/attest-build-provenance`, a generator of SLSA provenance, or `cosign attest --type slsaprovenance1`.";
    BUILDER_NOT_ACCEPTED = "builder-not-accepted",
        "The policy does not accept the pair of the provenance's builder and its signer.",
        "Build with an accepted builder, or ask for the pair of builder and signer to be added to the policy.";
    BUILDER_IS_NOT_THE_SIGNER = "builder-is-not-the-signer",
        "The provenance names one workflow as its builder, but another workflow signed it.",
        "Attest in the workflow that builds. This can be an attempt to pass off one builder's work as another's.";
    CONTRADICTS_CERTIFICATE = "contradicts-certificate",
        "The provenance and the certificate of its signer give different values for the same fact.",
        "The detail names the fields. This can be an attempt to pass off one build as another.";
    CONTRADICTS_ITSELF = "contradicts-itself",
        "Two fields of the provenance give different values for the same fact.",
        "The detail names the fields. Check the version of the tool that wrote the provenance.";
    UNKNOWN_PARAMETERS = "unknown-parameters",
        "The build had parameters that are not known for its build type, so their effect is not known.",
        "Check whether the tool that wrote the provenance changed its build type. A newer version of promotion-gate may know the parameters.";
    BUILD_TYPE_NOT_ACCEPTED = "build-type-not-accepted",
        "The policy does not accept the build type.",
        "Ask for the build type to be added to the policy's `buildTypes`.";
    SOURCE_UNKNOWN = "source-unknown",
        "Neither the provenance nor the certificate names the source in a form that this version understands, or only the provenance names it and the builder is not isolated from the source.",
        "Use a builder with a known build type, or set `anySource: true` in the policy.";
    SOURCE_NOT_ACCEPTED = "source-not-accepted",
        "The image was built from a repository that the policy does not accept.",
        "Build from an accepted repository, or ask for the repository to be added to the policy's `sources`.";
    BRANCH_UNKNOWN = "branch-unknown",
        "The evidence does not say from which branch the image was built.",
        "A tag has a branch only if one push contained both (`git push origin main v1.2.3`), and only the provenance of an isolated builder proves it. Use `tags` in the policy instead of `branches`.";
    BRANCH_NOT_ACCEPTED = "branch-not-accepted",
        "The image was built from a branch that the policy does not accept.",
        "Build from an accepted branch.";
    NOT_BUILT_FROM_A_TAG = "not-built-from-a-tag",
        "The policy accepts only tags, but the image was not built from a tag.",
        "Push a tag, and deploy the image that is built from it.";
    TAG_NOT_ACCEPTED = "tag-not-accepted",
        "The image was built from a tag that the policy does not accept.",
        "Build from an accepted tag.";
    INPUTS_UNKNOWN = "inputs-unknown",
        "The policy requires inputs, but the build was not started by hand, or the provenance does not record its inputs.",
        "Start the workflow by hand (`workflow_dispatch`), and use a generator that records the inputs.";
    INPUTS_DIFFER = "inputs-differ",
        "The build was started with other inputs than the policy requires.",
        "Start the workflow with these inputs.";
}

impl Entry for Provenance {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
        covers: true,
        per_platform: true,
        effect: Effect::OnlyHelps,
    });

    fn validate(&self) -> Result<(), String> {
        if self.builders.is_empty() {
            return Err("`builders` is empty, so no builder can pass".to_owned());
        }
        if self.sources.is_some() == self.any_source {
            return Err("expected either `sources` or `anySource: true`".to_owned());
        }
        let empty = [
            ("sources", self.sources.as_ref().map(Vec::len)),
            ("branches", self.branches.as_ref().map(Vec::len)),
            ("tags", self.tags.as_ref().map(Vec::len)),
            ("versionedTags", self.versioned_tags.as_ref().map(Vec::len)),
            ("buildTypes", self.build_types.as_ref().map(Vec::len)),
        ];
        if let Some((name, _)) = empty.iter().find(|(_, length)| *length == Some(0)) {
            return Err(format!(
                "`{name}` is empty, so nothing can pass; leave the field out to accept every value"
            ));
        }
        Ok(())
    }
}

impl Rule for Provenance {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn needs(&self, world: &World) -> Needs {
        let signers = self.builders.iter().map(|builder| &builder.signed_by);
        Needs::under(signers, &world.trust_roots)
    }
}

impl ImageRule for Provenance {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let evidence = match readable(check) {
            Ok(evidence) => evidence,
            Err(undecided) => return undecided,
        };
        let mut furthest: Option<Refusal> = None;
        for (_, statement) in &evidence.statements {
            let Predicate::Provenance(provenance) = statement.predicate() else {
                continue;
            };
            let refusal = match self.accepts(statement, provenance, check) {
                Ok(proven) => return Judgement::pass(PROVEN, proven),
                Err(refusal) => refusal,
            };
            let by = statement.signer();
            furthest = furthest.max(Some(Refusal {
                detail: format!("provenance by {by}: {}", refusal.detail),
                ..refusal
            }));
        }
        let failed = match furthest {
            Some(refusal) => Judgement::fail(refusal.reason, refusal.detail).hint(refusal.hint),
            None => self.explain_absence(evidence, check),
        };
        unless_partial(failed, check)
    }
}

/// Why a statement does not count. Of several refusals, a denial explains the one with the greatest step.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    step: Step,
    reason: Reason,
    detail: String,
    hint: String,
}

/// The step of [`Provenance::accepts`] that refused a statement, in the order of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Pair,
    Transparency,
    Time,
    Agreement,
    Build,
    Source,
    /// The reference that was built, and the inputs.
    Start,
}

impl Refusal {
    fn new(step: Step, reason: Reason, detail: String, hint: String) -> Refusal {
        Refusal {
            step,
            reason,
            detail,
            hint,
        }
    }

    fn attempt(reason: Reason, detail: String) -> Refusal {
        let hint = "this can be an attempt to pass off one build as another".to_owned();
        Refusal::new(Step::Agreement, reason, detail, hint)
    }
}

impl Provenance {
    /// Every statement that meets the requirement.
    pub(super) fn accepted<'e>(
        &self,
        evidence: &'e ImageEvidence,
        check: &ImageCheck<'_>,
    ) -> impl Iterator<Item = (&'e VerifiedStatement, &'e predicate::SlsaProvenance)> {
        let statements = evidence
            .statements
            .iter()
            .map(|(_, statement)| &**statement);
        statements.filter_map(|statement| match statement.predicate() {
            Predicate::Provenance(provenance) => {
                let accepted = self.accepts(statement, provenance, check).is_ok();
                accepted.then_some((statement, &**provenance))
            }
            _ => None,
        })
    }

    /// Judges one statement. Returns the detail of the pass.
    fn accepts(
        &self,
        statement: &VerifiedStatement,
        provenance: &predicate::SlsaProvenance,
        check: &ImageCheck<'_>,
    ) -> Result<String, Refusal> {
        let by = statement.signer();
        // 1. The pair of builder and signer: otherwise, every signer could write an accepted builder's name.
        check_pair(
            &self.builders,
            statement,
            &provenance.builder,
            &check.world.trust_roots,
        )?;
        // 2. The time: a verified time in the future means that a clock is wrong.
        in_time(statement, check.promotion.at).map_err(|why| {
            let hint = "check the gate's clock".to_owned();
            Refusal::new(Step::Time, SIGNED_IN_THE_FUTURE, why, hint)
        })?;
        // 3. Agreement with the certificate: otherwise, an accepted signer could describe another build than its own.
        check_agreement(provenance, by)?;
        // 4. The build type and its parameters: an unknown parameter could change what was built.
        self.check_build_type(provenance)?;
        // 5. Every source that is named: one accepted source must not hide another one.
        let source = self.check_source(provenance, by)?;
        // 6. Reference and inputs. A builder that is not isolated can write anything, so only its certificate counts.
        let isolated = is_isolated(provenance, by);
        let git_ref = match isolated {
            true => provenance.git_ref.as_deref().or(claimed_ref(by)),
            false => own_ref(by),
        };
        self.check_reference(provenance, git_ref, isolated)?;
        self.check_inputs(provenance, isolated)?;
        let git_ref = git_ref
            .map(|git_ref| format!(" at `{git_ref}`"))
            .unwrap_or_default();
        Ok(format!(
            "built by `{}` from {source}{git_ref}; the provenance is signed by {by}",
            provenance.builder
        ))
    }

    /// The build type is accepted, and the build had only parameters that are known for this type.
    fn check_build_type(&self, provenance: &predicate::SlsaProvenance) -> Result<(), Refusal> {
        let kind = &provenance.build_type;
        if !provenance.unknown_parameters.is_empty() {
            let unknown = listed(in_backticks(&provenance.unknown_parameters), 5);
            let detail =
                format!("parameters that are not known for the build type `{kind}`: {unknown}");
            let hint = "check which version of the builder wrote the provenance".to_owned();
            return Err(Refusal::new(Step::Build, UNKNOWN_PARAMETERS, detail, hint));
        }
        match &self.build_types {
            Some(accepted) if !accepted.iter().any(|accepted| accepted.matches(kind)) => {
                let detail = format!("the build type `{kind}` is not accepted");
                let hint = format!(
                    "accepted build types: {}",
                    listed(in_backticks(accepted), 5)
                );
                Err(Refusal::new(
                    Step::Build,
                    BUILD_TYPE_NOT_ACCEPTED,
                    detail,
                    hint,
                ))
            }
            _ => Ok(()),
        }
    }

    /// At least one field names a source, and every source that is named is accepted. Returns the first.
    fn check_source(
        &self,
        provenance: &predicate::SlsaProvenance,
        by: &Signer,
    ) -> Result<String, Refusal> {
        let mut named: Vec<(String, SourceRepository)> = provenance
            .sources
            .iter()
            .map(|source| (format!("`{}`", source.field), source.repository.clone()))
            .collect();
        if let Signer::Certificate(certificate) = by
            && let Some(repository) = claimed_repository(certificate)
        {
            named.push(("the certificate".to_owned(), repository));
        }
        let Some(accepted) = &self.sources else {
            let first = named
                .first()
                .map(|(_, repository)| format!("`{repository}`"));
            return Ok(first.unwrap_or_else(|| "an unnamed source".to_owned()));
        };
        let other = named
            .iter()
            .find(|(_, repository)| !accepted.iter().any(|pattern| pattern.matches(repository)));
        match (other, named.first()) {
            (Some((field, repository)), _) => Err(Refusal::new(
                Step::Source,
                SOURCE_NOT_ACCEPTED,
                format!("the source `{repository}` (from {field}) is not accepted"),
                format!("accepted sources: {}", listed(in_backticks(accepted), 5)),
            )),
            (None, Some((_, repository))) => Ok(format!("`{repository}`")),
            (None, None) => Err(Refusal::new(
                Step::Source,
                SOURCE_UNKNOWN,
                format!(
                    "the source is not known for the build type `{}`",
                    provenance.build_type
                ),
                "use a builder with a known build type".to_owned(),
            )),
        }
    }

    /// The branch and the tag are accepted. `git_ref` is the reference that counts, from the certificate or the provenance.
    fn check_reference(
        &self,
        provenance: &predicate::SlsaProvenance,
        git_ref: Option<&str>,
        isolated: bool,
    ) -> Result<(), Refusal> {
        let branch = |text: Option<&str>| Some(text?.strip_prefix("refs/heads/")?.to_owned());
        let tag = git_ref.and_then(|git_ref| git_ref.strip_prefix("refs/tags/"));
        if let Some(accepted) = &self.branches {
            let hint = || format!("accepted branches: {}", listed(in_backticks(accepted), 5));
            let target = provenance.release_target.as_deref();
            let pushed = provenance.base_ref.as_deref();
            let branch = match tag {
                Some(_) if isolated => {
                    branch(pushed.or(target.filter(|_| self.trust_release_target)))
                }
                Some(_) => None,
                None => branch(git_ref),
            };
            match branch {
                Some(branch) if accepted.iter().any(|glob| glob.matches(&branch)) => {}
                Some(branch) => {
                    let detail = format!("the branch `{branch}` is not accepted");
                    return Err(Refusal::new(
                        Step::Start,
                        BRANCH_NOT_ACCEPTED,
                        detail,
                        hint(),
                    ));
                }
                None => {
                    let detail = match git_ref {
                        Some(git_ref) => {
                            format!("the branch is not known for the reference `{git_ref}`")
                        }
                        None => "neither the branch nor the reference is known".to_owned(),
                    };
                    return Err(Refusal::new(Step::Start, BRANCH_UNKNOWN, detail, hint()));
                }
            }
        }
        let asked = [
            self.tags.as_ref().map(|tags| {
                let fits = tag.is_some_and(|tag| tags.iter().any(|glob| glob.matches(tag)));
                (
                    fits,
                    format!("accepted tags: {}", listed(in_backticks(tags), 5)),
                )
            }),
            self.versioned_tags.as_ref().map(|versions| {
                let fits = tag.is_some_and(|tag| versions.iter().any(|of| of.matches(tag)));
                (
                    fits,
                    format!("accepted versions: {}", listed(in_backticks(versions), 5)),
                )
            }),
        ];
        for (fits, hint) in asked.into_iter().flatten() {
            match (fits, tag) {
                (true, _) => {}
                (false, Some(tag)) => {
                    let detail = format!("the tag `{tag}` is not accepted");
                    return Err(Refusal::new(Step::Start, TAG_NOT_ACCEPTED, detail, hint));
                }
                (false, None) => {
                    let detail = match git_ref {
                        Some(git_ref) => {
                            format!("the image was built from `{git_ref}`, not from a tag")
                        }
                        None => "neither the provenance nor the certificate says from which reference it was built, so no tag is known".to_owned(),
                    };
                    return Err(Refusal::new(
                        Step::Start,
                        NOT_BUILT_FROM_A_TAG,
                        detail,
                        hint,
                    ));
                }
            }
        }
        Ok(())
    }

    /// The build was started with the inputs that the policy requires, and an isolated builder recorded them.
    fn check_inputs(
        &self,
        provenance: &predicate::SlsaProvenance,
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

    fn explain_absence(&self, evidence: &ImageEvidence, check: &ImageCheck<'_>) -> Judgement {
        let subject = check.name();
        let look = format!("`promotion-gate evidence {subject}` shows everything that was found");
        match evidence.unaccepted_as(Form::Statement) {
            Some((why, text)) if why.reason == UNSIGNED_STATEMENT => Judgement::fail(
                PROVENANCE_UNSIGNED,
                text,
            )
            .hint(
                "sign provenance in the pipeline, such as with `actions/attest-build-provenance`",
            ),
            Some((_, text)) => Judgement::fail(PROVENANCE_UNACCEPTED, text).hint(look),
            None => {
                let builders = self
                    .builders
                    .iter()
                    .map(|builder| format!("`{}`", builder.id));
                let build = format!("build the image with {}", listed(builders, 3));
                let detail = check.none_of("SLSA provenance", Form::Statement);
                Judgement::fail(NO_PROVENANCE, detail).hint(check.nothing_attached(build))
            }
        }
    }
}

fn in_backticks<T: ToString>(names: &[T]) -> impl Iterator<Item = String> {
    names.iter().map(|name| format!("`{}`", name.to_string()))
}

/// The repository of the pipeline that the certificate was issued to. The deprecated claim `githubWorkflowRepository` does not
/// name the server, which is taken from the workflow.
fn claimed_repository(certificate: &CertificateIdentity) -> Option<SourceRepository> {
    let claims = certificate.claims();
    match claims.get(&Claim::SourceRepositoryUri) {
        Some(uri) => Some(SourceRepository::parse(uri)?.0),
        None => {
            repository_without_server(certificate, claims.get(&Claim::GithubWorkflowRepository)?)
        }
    }
}

fn repository_without_server(
    certificate: &CertificateIdentity,
    name: &str,
) -> Option<SourceRepository> {
    match workflows(certificate).next() {
        Some((workflow, _)) => workflow.beside(name),
        None => Some(SourceRepository::parse(&format!("https://github.com/{name}"))?.0),
    }
}

/// The workflow or pipeline that a URI names: its repository, and its reference if that is certain. GitHub writes
/// `https://HOST/OWNER/NAME/.github/workflows/FILE@REF`, GitLab `https://HOST/PATH//FILE@REF` (Fulcio, "OIDC usage").
fn workflow(uri: &str) -> Option<(SourceRepository, Option<&str>)> {
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

/// The workflows that a certificate names as its holder, in its identity and in the claim `buildSignerUri`.
fn workflows(
    certificate: &CertificateIdentity,
) -> impl Iterator<Item = (SourceRepository, Option<&str>)> {
    let signer = certificate.claims().get(&Claim::BuildSignerUri);
    let named = [Some(certificate.identity()), signer.map(String::as_str)];
    named.into_iter().flatten().filter_map(workflow)
}

/// The policy accepts the signer for the builder that the provenance names.
fn check_pair(
    builders: &[Builder],
    statement: &VerifiedStatement,
    builder: &str,
    roots: &TrustRoots,
) -> Result<(), Refusal> {
    let pairs = builders.iter().filter(|pair| pair.id.matches(builder));
    let counted = pairs.map(|pair| pair.signed_by.signed(statement, roots));
    let counted: Vec<_> = counted.collect();
    if counted.contains(&Ok(())) {
        return Ok(());
    }
    if counted.contains(&Err(Mismatch::Transparency)) {
        return Err(Refusal::new(
            Step::Transparency,
            NOT_TRANSPARENT_ENOUGH,
            format!(
                "it lacks the log entry or timestamp that the policy requires{}",
                ignored([&**statement])
            ),
            "attest with a transparency log".to_owned(),
        ));
    }
    let accepted = builders
        .iter()
        .map(|Builder { id, signed_by }| format!("`{id}` signed by {signed_by}"));
    Err(Refusal::new(
        Step::Pair,
        BUILDER_NOT_ACCEPTED,
        format!("the policy does not accept this signer for the builder `{builder}`"),
        format!("accepted builders: {}", listed(accepted, 3)),
    ))
}

/// Whether the builder is isolated from its callers: its signer is a key, an account without a source, or a workflow of another
/// repository than the source's. If a workflow's certificate does not claim a source, the workflow must be of another
/// repository than every source that the provenance names. An identity of another kind that claims a source is not isolated.
pub(super) fn is_isolated(provenance: &predicate::SlsaProvenance, by: &Signer) -> bool {
    let Signer::Certificate(certificate) = by else {
        return true;
    };
    let own: Vec<_> = workflows(certificate).collect();
    let is_own = |source: &SourceRepository| own.iter().any(|(own, _)| own.is_same(source));
    let claims = certificate.claims();
    let claims_source = claims.contains_key(&Claim::SourceRepositoryUri)
        || claims.contains_key(&Claim::GithubWorkflowRepository);
    match claimed_repository(certificate) {
        Some(source) => !own.is_empty() && !is_own(&source),
        None if claims_source => false,
        None if own.is_empty() => true,
        None => {
            let mut sources = provenance.sources.iter();
            !provenance.sources.is_empty() && !sources.any(|source| is_own(&source.repository))
        }
    }
}

/// Whether the signer is a workflow or pipeline of a repository, or an identity that claims a source without being a workflow
/// of another repository.
pub(super) fn is_workflow_of(by: &Signer, repository: &SourceRepository) -> bool {
    let Signer::Certificate(certificate) = by else {
        return false;
    };
    let own: Vec<_> = workflows(certificate).collect();
    let claimed = claimed_repository(certificate);
    match own.is_empty() {
        true => claimed.is_some(),
        false => own.iter().any(|(own, _)| own.is_same(repository)),
    }
}

/// Whether a certificate was issued to a delegator workflow of slsa-github-generator. A delegator runs builders of other
/// repositories, so the builder's name differs from the signer's.
fn is_delegator(identity: &str) -> bool {
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

/// Whether a statement is by an accepted pair of builder and signer, agrees with the certificate of its signer, and is not of
/// the future.
pub(super) fn is_of_builder(
    builders: &[Builder],
    statement: &VerifiedStatement,
    provenance: &predicate::SlsaProvenance,
    check: &ImageCheck<'_>,
) -> bool {
    let roots = &check.world.trust_roots;
    check_pair(builders, statement, &provenance.builder, roots).is_ok()
        && in_time(statement, check.promotion.at).is_ok()
        && check_agreement(provenance, statement.signer()).is_ok()
}

/// The statement agrees with the certificate of its signer, if there is one, and with itself.
fn check_agreement(provenance: &predicate::SlsaProvenance, by: &Signer) -> Result<(), Refusal> {
    if let Signer::Certificate(certificate) = by {
        let identity = certificate.identity();
        // 1. The builder is the signer: a pattern can accept many builders, and one must not sign for another.
        let builder = &provenance.builder;
        let is_workflow = |uri: &str| {
            workflow(uri).is_some() || uri.to_ascii_lowercase().contains("/.github/workflows/")
        };
        if is_workflow(builder)
            && is_workflow(identity)
            && builder != identity
            && !is_delegator(identity)
        {
            let detail =
                format!("the signer is not the builder `{builder}` that the provenance names");
            return Err(Refusal::attempt(BUILDER_IS_NOT_THE_SIGNER, detail));
        }
        // 2. The certificate's claims: Fulcio has verified them, the signer alone wrote the statement.
        if let Some(contradiction) = first_contradiction(provenance, certificate) {
            return Err(Refusal::attempt(CONTRADICTS_CERTIFICATE, contradiction));
        }
        // 3. The reference: without claims, a workflow of the source's own repository names it in its identity.
        if let (false, Some(git_ref), Some(claimed)) = (
            is_isolated(provenance, by),
            provenance.git_ref.as_deref(),
            own_ref(by),
        ) && git_ref != claimed
        {
            let detail =
                format!("the reference is `{git_ref}`, but the certificate says `{claimed}`");
            return Err(Refusal::attempt(CONTRADICTS_CERTIFICATE, detail));
        }
    }
    // 4. The statement itself: of two values, one could pass a check and the other one be true.
    match provenance.contradictions.first() {
        Some(contradiction) => Err(Refusal::attempt(CONTRADICTS_ITSELF, contradiction.clone())),
        None => Ok(()),
    }
}

/// The first field of the statement that differs from a claim of the certificate, for every build type.
fn first_contradiction(
    provenance: &predicate::SlsaProvenance,
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
            |claimed: Option<SourceRepository>| claimed.is_some_and(|it| it.is_same(repository));
        let address = |claimed: &str| same(SourceRepository::parse(claimed).map(|(it, _)| it));
        let name = |claimed: &str| same(repository_without_server(certificate, claimed));
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

/// The reference that was built, from the claims of the certificate.
fn claimed_ref(by: &Signer) -> Option<&str> {
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
fn own_ref(by: &Signer) -> Option<&str> {
    let Signer::Certificate(certificate) = by else {
        return None;
    };
    match claimed_repository(certificate) {
        Some(_) => claimed_ref(by),
        None => claimed_ref(by).or_else(|| workflow(certificate.identity())?.1),
    }
}
