//! `provenance`: built by an accepted builder, from an accepted source.

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

/// **What it requires**: the image carries signed SLSA provenance (v0.2 or v1) by an accepted builder: one of the pairs of who
/// signed it *and* which builder it names. The source repository is an accepted one, and so are branch, tag, inputs and build
/// type where the policy names them. Source, reference and commit agree with the claims of the signer's certificate wherever it
/// has them, whatever build type the provenance gives itself.
///
/// What the provenance alone says (the branch of a pushed tag, inputs, and source and reference where a certificate has no
/// claims) counts only where the builder is isolated from its callers: where the signer is a workflow of another repository
/// than the source's, a key, or an account that belongs to no source (of Tekton Chains or Google Cloud Build). A workflow or
/// pipeline of the source's own repository writes its provenance itself, and can write anything. So can everybody who may use
/// a key: accept one only where the builder alone holds it. The build type is the builder's own word, and switches no check
/// off.
///
/// **Why**: a signature says who vouches for an image; provenance says what it was built from. A builder is trusted as far as
/// its signer is: anybody can write a builder's name into a statement.
///
/// **Example**:
/// `- provenance: {builders: [{id: {glob: "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/v*"}, signedBy: {keyless: {issuer: "https://token.actions.githubusercontent.com", identity: {glob: "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/v*"}}}}], sources: ["https://github.com/example/app"], branches: [main]}`
///
/// **How to satisfy it**: build with a generator of SLSA provenance, or attest the build with `actions/attest-build-provenance`.
/// What BuildKit attaches by itself is not signed, and is never trusted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provenance {
    /// Accepted pairs of builder and signer.
    #[schemars(length(min = 1))]
    pub builders: Vec<Builder>,
    /// Accepted source repositories, such as `https://github.com/example/app`, or `{glob: …}`.
    #[schemars(length(min = 1))]
    pub sources: Option<Vec<SourcePattern>>,
    /// Accept whatever the builder built. On a public build service, that is everybody's source.
    #[serde(default)]
    pub any_source: bool,
    /// Accepted branches. On a tag push: the branch that the push names (`base_ref`). A build that a release started has no
    /// branch, unless `trustReleaseTarget` says so.
    #[schemars(length(min = 1))]
    pub branches: Option<Vec<Glob>>,
    /// Take the branch that a release names as its target (`target_commitish`) for the branch that was built. Who publishes a
    /// release of an existing tag chooses that name freely, whatever commit the tag names.
    #[serde(default)]
    pub trust_release_target: bool,
    /// Accepted tags; what was built from no tag is refused.
    #[schemars(length(min = 1))]
    pub tags: Option<Vec<Glob>>,
    /// Accepted versions (semantic versioning): `v1.2` accepts the tag `v1.2.3`, and not `v1.3.0`.
    #[schemars(length(min = 1))]
    pub versioned_tags: Option<Vec<VersionPattern>>,
    /// Inputs that somebody must have given when starting the build by hand (`workflow_dispatch`).
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Accepted build types; any that the builder writes when absent.
    #[schemars(length(min = 1))]
    pub build_types: Option<Vec<Matcher>>,
}

/// An accepted builder: the id that the provenance must name, and who must have signed it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Builder {
    /// The builder's id, a URI.
    pub id: Matcher,
    /// Who signs for this builder.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "has(self.keyless) != has(self.key)", "message": "expected exactly one of `keyless` and `key`"},
    ]))]
    pub signed_by: AcceptedSigner,
}

reasons! {
    OF_THIS_RULE:
    PROVEN = "proven", "An accepted builder says that it built the image from an accepted source.", "";
    NO_PROVENANCE = "no-provenance",
        "No SLSA provenance is attached to the image.",
        "Build with a generator of SLSA provenance, or add `actions/attest-build-provenance` to the workflow (`push-to-registry: true`). If the digest is that of one platform of an index, name the index's digest.";
    PROVENANCE_UNACCEPTED = "provenance-unaccepted",
        "Something that may be provenance is attached, but it could not be verified; the detail says why.",
        "`promotion-gate evidence IMAGE` shows each piece with its own reason; `promotion-gate explain REASON` explains it.";
    PROVENANCE_UNSIGNED = "provenance-unsigned",
        "The image carries a statement that nobody signed, as BuildKit attaches it: anybody who can push could have written it.",
        "Sign provenance in the pipeline: `actions/attest-build-provenance`, a generator of SLSA provenance, or `cosign attest --type slsaprovenance1`.";
    BUILDER_NOT_ACCEPTED = "builder-not-accepted",
        "The provenance names a builder, or is signed by somebody, that is no accepted pair.",
        "Build with an accepted builder, or have the pair of builder and signer added to the policy.";
    BUILDER_IS_NOT_THE_SIGNER = "builder-is-not-the-signer",
        "The provenance names one workflow as its builder, and another one signed it.",
        "The workflow that builds has to attest. This can be an attempt to pass off one builder's work as another's.";
    CONTRADICTS_CERTIFICATE = "contradicts-certificate",
        "The provenance says something else than the certificate of its signer about the same thing.",
        "This can be an attempt to pass off one build as another. See the fields in the detail.";
    CONTRADICTS_ITSELF = "contradicts-itself",
        "The provenance says two different things about the same.",
        "See the fields in the detail, and the version of the tool that wrote it.";
    UNKNOWN_PARAMETERS = "unknown-parameters",
        "The build was given parameters that builds of its type do not have, and nobody knows what they did.",
        "See whether the tool that wrote the provenance changed its build type; a newer version of promotion-gate may know it.";
    BUILD_TYPE_NOT_ACCEPTED = "build-type-not-accepted",
        "The kind of build is none that the policy accepts.",
        "Have the build type added to the policy's `buildTypes`.";
    SOURCE_UNKNOWN = "source-unknown",
        "Neither the provenance nor the certificate names the source in a way that this version understands, or only a signer says it who is not isolated from the source.",
        "Use a builder whose build type is known, or have the policy accept it with `anySource: true`.";
    SOURCE_NOT_ACCEPTED = "source-not-accepted",
        "The image was built from another repository than the policy accepts.",
        "Build from an accepted repository, or have it added to the policy's `sources`.";
    BRANCH_UNKNOWN = "branch-unknown",
        "Nothing says from which branch the image was built.",
        "A tag names no branch unless the push that made it did (`git push origin main v1.2.3` in one go), and only an isolated builder can vouch for that. Have the policy ask for tags instead.";
    BRANCH_NOT_ACCEPTED = "branch-not-accepted",
        "The image was built from another branch than the policy accepts.",
        "Build from an accepted branch.";
    NOT_BUILT_FROM_A_TAG = "not-built-from-a-tag",
        "The policy accepts tags alone, and the image was built from something else.",
        "Push a tag, and deploy what is built from it.";
    TAG_NOT_ACCEPTED = "tag-not-accepted",
        "The image was built from another tag than the policy accepts.",
        "Build from an accepted tag.";
    INPUTS_UNKNOWN = "inputs-unknown",
        "The policy asks for inputs, and nobody started the build by hand, or the provenance does not say with which inputs.",
        "Start the workflow by hand (`workflow_dispatch`), with a generator that records its inputs.";
    INPUTS_DIFFER = "inputs-differ",
        "The build was started with other inputs than the policy asks for.",
        "Start the workflow with these inputs.";
}

impl Entry for Provenance {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
        covers: true,
        per_platform: true,
        effect: Effect::OnlyHelps,
    });

    fn sound(&self) -> Result<(), String> {
        if self.builders.is_empty() {
            return Err("`builders` is empty: no builder could pass".to_owned());
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
                "`{name}` is empty: nothing could pass; leave it out to accept any"
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
            None => self.nothing(evidence, check),
        };
        unless_partial(failed, check)
    }
}

/// Why a statement does not count. The one that got furthest is the one worth explaining.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    step: Step,
    reason: Reason,
    detail: String,
    hint: String,
}

/// How far a statement got, in the order of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Pair,
    Transparency,
    Time,
    Agreement,
    Build,
    Source,
    /// The reference that was built, and how the build was started.
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
    /// Judges one statement, step by step.
    fn accepts(
        &self,
        statement: &VerifiedStatement,
        provenance: &predicate::Provenance,
        check: &ImageCheck<'_>,
    ) -> Result<String, Refusal> {
        let by = statement.signer();
        self.pair(statement, &provenance.builder, &check.world.trust_roots)?;
        in_time(statement, check.promotion.at).map_err(|why| {
            let hint = "see whether the gate's clock is right".to_owned();
            Refusal::new(Step::Time, SIGNED_IN_THE_FUTURE, why, hint)
        })?;
        agreement(provenance, by)?;
        self.build(provenance)?;
        let source = self.source(provenance, by)?;
        let isolated = is_isolated(provenance, by);
        let git_ref = match isolated {
            true => provenance.git_ref.as_deref().or(claimed_ref(by)),
            false => own_ref(by),
        };
        self.reference(provenance, git_ref, isolated)?;
        self.started_with(provenance, isolated)?;
        let git_ref = git_ref
            .map(|git_ref| format!(" at `{git_ref}`"))
            .unwrap_or_default();
        Ok(format!(
            "built by `{}` from {source}{git_ref}, says {by}",
            provenance.builder
        ))
    }

    /// Who signed it, together with the builder that it names: neither means anything without the other.
    fn pair(
        &self,
        statement: &VerifiedStatement,
        builder: &str,
        roots: &TrustRoots,
    ) -> Result<(), Refusal> {
        let pairs = self.builders.iter().filter(|pair| pair.id.matches(builder));
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
                    "it lacks the log entry or timestamp that the policy asks for{}",
                    ignored([&**statement])
                ),
                "attest with a transparency log".to_owned(),
            ));
        }
        let accepted = self
            .builders
            .iter()
            .map(|Builder { id, signed_by }| format!("`{id}` signed by {signed_by}"));
        Err(Refusal::new(
            Step::Pair,
            BUILDER_NOT_ACCEPTED,
            format!("it names the builder `{builder}`, and this pair is not accepted"),
            format!("accepted are {}", listed(accepted, 3)),
        ))
    }

    /// What kind of build it was, and that it was given nothing that builds of its kind are not given.
    fn build(&self, provenance: &predicate::Provenance) -> Result<(), Refusal> {
        let kind = &provenance.build_type;
        if !provenance.unknown_parameters.is_empty() {
            let unknown = listed(ticked(&provenance.unknown_parameters), 5);
            let detail = format!("builds of type `{kind}` have no parameters {unknown}");
            let hint = "see which version of the builder wrote it".to_owned();
            return Err(Refusal::new(Step::Build, UNKNOWN_PARAMETERS, detail, hint));
        }
        match &self.build_types {
            Some(accepted) if !accepted.iter().any(|accepted| accepted.matches(kind)) => {
                let detail = format!("its build type is `{kind}`");
                let hint = format!("accepted are {}", listed(ticked(accepted), 5));
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

    /// Every place that names a source names an accepted one, and there is such a place.
    fn source(&self, provenance: &predicate::Provenance, by: &Signer) -> Result<String, Refusal> {
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
            return Ok(first.unwrap_or_else(|| "a source that it does not name".to_owned()));
        };
        let other = named
            .iter()
            .find(|(_, repository)| !accepted.iter().any(|pattern| pattern.matches(repository)));
        match (other, named.first()) {
            (Some((field, repository)), _) => Err(Refusal::new(
                Step::Source,
                SOURCE_NOT_ACCEPTED,
                format!("it was built from `{repository}`, says {field}"),
                format!("accepted are {}", listed(ticked(accepted), 5)),
            )),
            (None, Some((_, repository))) => Ok(format!("`{repository}`")),
            (None, None) => Err(Refusal::new(
                Step::Source,
                SOURCE_UNKNOWN,
                format!(
                    "it does not say from what source; its build type is `{}`",
                    provenance.build_type
                ),
                "use a builder whose build type is known".to_owned(),
            )),
        }
    }

    fn reference(
        &self,
        provenance: &predicate::Provenance,
        git_ref: Option<&str>,
        isolated: bool,
    ) -> Result<(), Refusal> {
        let branch = |text: Option<&str>| Some(text?.strip_prefix("refs/heads/")?.to_owned());
        let tag = git_ref.and_then(|git_ref| git_ref.strip_prefix("refs/tags/"));
        if let Some(accepted) = &self.branches {
            let hint = || format!("accepted are {}", listed(ticked(accepted), 5));
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
                    let detail = format!("it was built from the branch `{branch}`");
                    return Err(Refusal::new(
                        Step::Start,
                        BRANCH_NOT_ACCEPTED,
                        detail,
                        hint(),
                    ));
                }
                None => {
                    let from = git_ref.unwrap_or("a reference that it does not name");
                    let detail = format!("it was built from `{from}`, which names no branch");
                    return Err(Refusal::new(Step::Start, BRANCH_UNKNOWN, detail, hint()));
                }
            }
        }
        let asked = [
            self.tags.as_ref().map(|tags| {
                let fits = tag.is_some_and(|tag| tags.iter().any(|glob| glob.matches(tag)));
                (fits, listed(ticked(tags), 5))
            }),
            self.versioned_tags.as_ref().map(|versions| {
                let fits = tag.is_some_and(|tag| versions.iter().any(|of| of.matches(tag)));
                (fits, listed(ticked(versions), 5))
            }),
        ];
        for (fits, accepted) in asked.into_iter().flatten() {
            let hint = format!("accepted are {accepted}");
            match (fits, tag) {
                (true, _) => {}
                (false, Some(tag)) => {
                    let detail = format!("it was built from the tag `{tag}`");
                    return Err(Refusal::new(Step::Start, TAG_NOT_ACCEPTED, detail, hint));
                }
                (false, None) => {
                    let from = git_ref.unwrap_or("a reference that it does not name");
                    let detail = format!("it was built from `{from}`, not from a tag");
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

    fn started_with(
        &self,
        provenance: &predicate::Provenance,
        isolated: bool,
    ) -> Result<(), Refusal> {
        let Some((name, _)) = self.inputs.first_key_value() else {
            return Ok(());
        };
        if !isolated {
            let detail = "its inputs are said only by a workflow of the source's own repository, which can write anything";
            let hint = "build with a builder in another repository than the source's";
            return Err(Refusal::new(
                Step::Start,
                INPUTS_UNKNOWN,
                detail.to_owned(),
                hint.to_owned(),
            ));
        }
        let Some(given) = &provenance.inputs else {
            let event = provenance.event.as_deref().unwrap_or("an unnamed event");
            let detail = format!("it was started by `{event}`, and says of no inputs");
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
            None => "not given".to_owned(),
        };
        Err(Refusal::new(
            Step::Start,
            INPUTS_DIFFER,
            format!("its input `{name}` is {given}"),
            format!("start the workflow with `{name}` as `{wanted}`"),
        ))
    }

    fn nothing(&self, evidence: &ImageEvidence, check: &ImageCheck<'_>) -> Judgement {
        let subject = check.name();
        let look = format!("see everything found with `promotion-gate evidence {subject}`");
        match evidence.unaccepted_as(Form::Statement) {
            Some((why, text)) if why.reason == UNSIGNED_STATEMENT => {
                Judgement::fail(PROVENANCE_UNSIGNED, text)
                    .hint("attest in the pipeline, such as with `actions/attest-build-provenance`")
            }
            Some((_, text)) => Judgement::fail(PROVENANCE_UNACCEPTED, text).hint(look),
            None => {
                let builders = self
                    .builders
                    .iter()
                    .map(|builder| format!("`{}`", builder.id));
                let build = format!("build it with {}", listed(builders, 3));
                let detail = check.none_of("SLSA provenance", Form::Statement);
                Judgement::fail(NO_PROVENANCE, detail).hint(check.nothing_attached(build))
            }
        }
    }
}

fn ticked<T: ToString>(names: &[T]) -> impl Iterator<Item = String> {
    names.iter().map(|name| format!("`{}`", name.to_string()))
}

/// The repository whose pipeline the certificate was issued to. The claim of old names it without its server, which is that
/// of the workflow.
fn claimed_repository(certificate: &CertificateIdentity) -> Option<SourceRepository> {
    let claims = certificate.claims();
    match claims.get(&Claim::SourceRepositoryUri) {
        Some(uri) => Some(SourceRepository::parse(uri)?.0),
        None => named_of_old(certificate, claims.get(&Claim::GithubWorkflowRepository)?),
    }
}

fn named_of_old(certificate: &CertificateIdentity, name: &str) -> Option<SourceRepository> {
    match workflows(certificate).next() {
        Some((workflow, _)) => workflow.beside(name),
        None => Some(SourceRepository::parse(&format!("https://github.com/{name}"))?.0),
    }
}

/// The workflow or pipeline that a URI names: its repository and, where that is certain, its reference. GitHub writes
/// `https://HOST/OWNER/NAME/.github/workflows/FILE@REF`, GitLab `https://HOST/PATH//FILE@REF` (Fulcio, "OIDC usage").
fn workflow(uri: &str) -> Option<(SourceRepository, Option<&str>)> {
    let (path, git_ref) = uri.split_once('@')?;
    let github = path.to_ascii_lowercase().find("/.github/workflows/");
    let gitlab = || {
        let (scheme, rest) = path.split_once("://")?;
        Some(scheme.len() + "://".len() + rest.find("//")?)
    };
    let repository = path.get(..github.or_else(gitlab)?)?;
    // A file or a reference may hold another `@`; which of them begins the reference is then unknown.
    let git_ref = (!git_ref.contains('@')).then_some(git_ref);
    Some((SourceRepository::parse(repository)?.0, git_ref))
}

/// The workflows that a certificate names as its holder: by its identity, and as the build signer.
fn workflows(
    certificate: &CertificateIdentity,
) -> impl Iterator<Item = (SourceRepository, Option<&str>)> {
    let signer = certificate.claims().get(&Claim::BuildSignerUri);
    let named = [Some(certificate.identity()), signer.map(String::as_str)];
    named.into_iter().flatten().filter_map(workflow)
}

/// Whether the builder is isolated from who calls it: whether its signer is a key, an account that belongs to no source, or a
/// workflow of another repository than the source's. Where the certificate of a workflow does not claim a source, every
/// source that the provenance names counts; where an identity of another kind claims one, nothing shows that it is isolated.
fn is_isolated(provenance: &predicate::Provenance, by: &Signer) -> bool {
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

/// Whether a certificate is of the workflow with which slsa-github-generator runs builders of others: the builder then has
/// another name than the signer.
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

/// Where the signer has a certificate: it and the statement speak of one build, and so does the statement by itself.
fn agreement(provenance: &predicate::Provenance, by: &Signer) -> Result<(), Refusal> {
    if let Signer::Certificate(certificate) = by {
        let identity = certificate.identity();
        // A pattern may accept many builders: each may only speak for itself.
        let builder = &provenance.builder;
        let is_workflow = |uri: &str| {
            workflow(uri).is_some() || uri.to_ascii_lowercase().contains("/.github/workflows/")
        };
        if is_workflow(builder)
            && is_workflow(identity)
            && builder != identity
            && !is_delegator(identity)
        {
            let detail = format!("it names the builder `{builder}`");
            return Err(Refusal::attempt(BUILDER_IS_NOT_THE_SIGNER, detail));
        }
        if let Some(contradiction) = contradiction(provenance, certificate) {
            return Err(Refusal::attempt(CONTRADICTS_CERTIFICATE, contradiction));
        }
        if let (false, Some(git_ref), Some(claimed)) = (
            is_isolated(provenance, by),
            provenance.git_ref.as_deref(),
            own_ref(by),
        ) && git_ref != claimed
        {
            let detail =
                format!("it was built from `{git_ref}`, but the certificate says `{claimed}`");
            return Err(Refusal::attempt(CONTRADICTS_CERTIFICATE, detail));
        }
    }
    match provenance.contradictions.first() {
        Some(contradiction) => Err(Refusal::attempt(CONTRADICTS_ITSELF, contradiction.clone())),
        None => Ok(()),
    }
}

/// The first thing that the statement says otherwise than the claims of the certificate, whatever its build type.
fn contradiction(
    provenance: &predicate::Provenance,
    certificate: &CertificateIdentity,
) -> Option<String> {
    let claims = certificate.claims();
    let differs = |claim: Claim, field: &str, value: &str, agree: &dyn Fn(&str) -> bool| {
        let claimed = claims.get(&claim).filter(|claimed| !agree(claimed))?;
        Some(format!(
            "{field} is `{value}`, but the certificate says `{claimed}` ({claim})"
        ))
    };
    // 1. The source, however either of them spells it.
    let sources = provenance.sources.iter().find_map(|source| {
        let repository = &source.repository;
        let same =
            |claimed: Option<SourceRepository>| claimed.is_some_and(|it| it.is_same(repository));
        let address = |claimed: &str| same(SourceRepository::parse(claimed).map(|(it, _)| it));
        let name = |claimed: &str| same(named_of_old(certificate, claimed));
        let shown = repository.as_str();
        differs(Claim::SourceRepositoryUri, source.field, shown, &address)
            .or_else(|| differs(Claim::GithubWorkflowRepository, source.field, shown, &name))
    });
    // 2. Its commit. A delegator may build another one than that which started it, and its certificate speaks of the latter.
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
    // 3. Its reference, and everything else.
    let said = provenance.said.iter().find_map(|said| {
        differs(said.claim, said.field, &said.value, &|claimed| {
            claimed == said.value
        })
    });
    sources.or(commits).or(said)
}

/// The reference that the certificate claims was built.
fn claimed_ref(by: &Signer) -> Option<&str> {
    let Signer::Certificate(certificate) = by else {
        return None;
    };
    let claims = certificate.claims();
    let claim = claims.get(&Claim::SourceRepositoryRef);
    let claim = claim.or_else(|| claims.get(&Claim::GithubWorkflowRef));
    claim.map(String::as_str)
}

/// The same of a workflow of the source's own repository: where its certificate has no claims, its identity names the
/// reference.
fn own_ref(by: &Signer) -> Option<&str> {
    let Signer::Certificate(certificate) = by else {
        return None;
    };
    match claimed_repository(certificate) {
        Some(_) => claimed_ref(by),
        None => claimed_ref(by).or_else(|| workflow(certificate.identity())?.1),
    }
}
