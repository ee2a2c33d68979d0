//! `provenance`: signed SLSA provenance that proves an accepted builder and an accepted source.

mod agreement;
mod identity;
mod recorded;
mod start;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use agreement::check_agreement;
use identity::{claimed_ref, own_ref};
pub(super) use identity::{is_isolated, why_not_isolated};
pub use recorded::proven_source;

use super::accepted_pair::{Refusal, Step, best_of, check_pair, denial, none_is_empty};
use super::check::{listed, readable, sentence, unless_partial};
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Rule, Scope, World,
};
use crate::attest::predicate::{self, Predicate, SourceRepository};
use crate::attest::unaccepted::UNSIGNED_STATEMENT;
use crate::attest::{Signer, VerifiedStatement};
use crate::gate::evidence::{Form, ImageEvidence};
use crate::gate::glob::Glob;
use crate::gate::signer::{AcceptedSigner, Matcher};
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
        none_is_empty(&[
            ("sources", self.sources.as_ref().map(Vec::len)),
            ("branches", self.branches.as_ref().map(Vec::len)),
            ("tags", self.tags.as_ref().map(Vec::len)),
            ("versionedTags", self.versioned_tags.as_ref().map(Vec::len)),
            ("buildTypes", self.build_types.as_ref().map(Vec::len)),
        ])
    }
}

impl Rule for Provenance {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn needs(&self, world: &World) -> Needs<'_> {
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
        let judged = evidence.statements.iter().filter_map(|(_, statement)| {
            let Predicate::Provenance(provenance) = statement.predicate() else {
                return None;
            };
            let by = statement.signer();
            let accepted = self.accepts(statement, provenance, check);
            Some((by, accepted.map(|build| build.proven(provenance, by))))
        });
        let failed = match best_of("provenance", judged) {
            Ok(proven) => return Judgement::pass(PROVEN, proven),
            Err(refused) => refused,
        };
        let absence = || self.explain_absence(evidence, check);
        let failed = denial(failed, absence, PROVENANCE_UNACCEPTED, evidence, check);
        unless_partial(failed, check)
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

    /// Judges one statement.
    fn accepts<'s>(
        &self,
        statement: &'s VerifiedStatement,
        provenance: &'s predicate::SlsaProvenance,
        check: &ImageCheck<'_>,
    ) -> Result<AcceptedBuild<'s>, Refusal> {
        let by = statement.signer();
        // 1. and 2. The pair of builder and signer, and the time.
        check_builder(&self.builders, statement, provenance, check)?;
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
        Ok(AcceptedBuild { source, git_ref })
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
    fn check_source<'s>(
        &self,
        provenance: &'s predicate::SlsaProvenance,
        by: &'s Signer,
    ) -> Result<Option<&'s SourceRepository>, Refusal> {
        let of_certificate = match by {
            Signer::Certificate(certificate) => certificate.pipeline().source(),
            Signer::Key(_) => None,
        };
        let named = provenance.sources.iter();
        let named = named.map(|source| (Some(source.field), &source.repository));
        let mut named = named.chain(of_certificate.map(|repository| (None, repository)));
        let first = named.clone().next().map(|(_, repository)| repository);
        let Some(accepted) = &self.sources else {
            return Ok(first);
        };
        let is_accepted =
            |it: &SourceRepository| accepted.iter().any(|pattern| pattern.matches(it));
        if let Some((field, repository)) = named.find(|(_, repository)| !is_accepted(repository)) {
            let field = match field {
                Some(field) => format!("`{field}`"),
                None => "the certificate".to_owned(),
            };
            return Err(Refusal::new(
                Step::Source,
                SOURCE_NOT_ACCEPTED,
                format!("the source `{repository}` (from {field}) is not accepted"),
                format!("accepted sources: {}", listed(in_backticks(accepted), 5)),
            ));
        }
        match first {
            Some(_) => Ok(first),
            None => Err(Refusal::new(
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

    fn explain_absence(&self, evidence: &ImageEvidence, check: &ImageCheck<'_>) -> Judgement {
        match evidence.unaccepted_as(Form::Statement) {
            Some((why, text)) if why.reason == UNSIGNED_STATEMENT => Judgement::fail(
                PROVENANCE_UNSIGNED,
                text,
            )
            .hint(
                "sign provenance in the pipeline, such as with `actions/attest-build-provenance`",
            ),
            Some((_, text)) => Judgement::fail(PROVENANCE_UNACCEPTED, text).hint(check.look()),
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

/// The source and the reference that an accepted provenance statement gives for the build.
struct AcceptedBuild<'s> {
    source: Option<&'s SourceRepository>,
    git_ref: Option<&'s str>,
}

impl AcceptedBuild<'_> {
    /// The detail of the pass.
    fn proven(&self, provenance: &predicate::SlsaProvenance, by: &Signer) -> String {
        let builder = &provenance.builder;
        let source = fmt::from_fn(|f| match self.source {
            Some(source) => write!(f, "`{source}`"),
            None => f.write_str("an unnamed source"),
        });
        let git_ref = fmt::from_fn(|f| match self.git_ref {
            Some(git_ref) => write!(f, " at `{git_ref}`"),
            None => Ok(()),
        });
        sentence(format_args!(
            "built by `{builder}` from {source}{git_ref}; the provenance is signed by {by}"
        ))
    }
}

fn in_backticks<T: ToString>(names: &[T]) -> impl Iterator<Item = String> {
    names.iter().map(|name| format!("`{}`", name.to_string()))
}

/// The policy accepts the signer for the builder that the provenance names, and the time.
fn check_builder(
    builders: &[Builder],
    statement: &VerifiedStatement,
    provenance: &predicate::SlsaProvenance,
    check: &ImageCheck<'_>,
) -> Result<(), Refusal> {
    let pairs = builders.iter().map(|pair| (&pair.id, &pair.signed_by));
    let id = ("builder", &*provenance.builder);
    check_pair(pairs, statement, id, BUILDER_NOT_ACCEPTED, check)
}

/// Whether a statement is by an accepted pair of builder and signer, agrees with the certificate of its signer, and is not of
/// the future.
pub(super) fn is_of_builder(
    builders: &[Builder],
    statement: &VerifiedStatement,
    provenance: &predicate::SlsaProvenance,
    check: &ImageCheck<'_>,
) -> bool {
    check_builder(builders, statement, provenance, check).is_ok()
        && check_agreement(provenance, statement.signer()).is_ok()
}
