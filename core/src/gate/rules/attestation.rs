//! `attestation`: a signed statement of any type by an accepted signer, and a condition over what it says.

use std::borrow::Cow;
use std::cmp::Reverse;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::check::{
    NOT_TRANSPARENT_ENOUGH, SIGNED_IN_THE_FUTURE, ignored, in_time, listed, readable, sentence,
    unless_partial, unless_too_large,
};
use super::condition::{Condition, NotDecided, Variables, manual_of};
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Rule, Scope, World,
};
use crate::attest::predicate::{Predicate, rule_of};
use crate::attest::{Claim, Signer, VerifiedStatement};
use crate::expression::{Declared, ExpressionFault, Variable, Work, read_json};
use crate::gate::evidence::{Form, ImageEvidence};
use crate::gate::finding::Outcome;
use crate::gate::signer::{AcceptedSigner, Mismatch};
use crate::reason::{Reason, reasons};

/// **What it requires**: the image carries a signed in-toto statement of this predicate type, by the accepted signer. With an
/// `expression`, the expression is true of at least one such statement. It is written in CEL, over the whole predicate.
///
/// More statements can only help: one good statement is enough, whatever else is attached. So this rule cannot express "no
/// statement says that the test failed"; let the signer attest only what passed. It does not say where an image comes from, so it
/// does not cover the image: use it beside `signature` or `provenance`.
///
/// Names, patterns and the fields of all variables but `predicate` are checked when the policy is read. A field that is missing in a predicate makes the rule
/// undecided, which denies; test it with `has(predicate.field)` first. Values of two types are not equal, so that
/// `predicate.critical != 1` is true of the text `"1"`: write what is expected with `==`, or `type(predicate.critical) == int` too.
/// A predicate with more than 100,000 values, and an expression that takes too much work, make it undecided too. The newest
/// statements are evaluated first; all of an image together may take four times the work of one. All expressions of a change
/// together, over all its images, may take twenty times the work of one, in equal shares; policies that do not enforce
/// share as much again among themselves. Types that have a rule of their own are refused here: `provenance` and `approvals` know
/// more about them than an expression can.
///
/// **Why**: every organisation has checks that no general rule knows: a test report, a licence review, a penetration test. A signed
/// statement of the result makes the check a condition of the deployment.
///
/// **Example**:
/// `- attestation: {predicateType: "https://in-toto.io/attestation/test-result/v0.1", signedBy: {keyless: {issuer: "https://token.actions.githubusercontent.com", identity: "https://github.com/example/app/.github/workflows/test.yml@refs/heads/main"}}, expression: "predicate.result == 'PASSED' && now - signedAt < duration('7d')"}`
///
/// **How to satisfy it**: run the check and attest its result as the accepted signer: `cosign attest --yes --predicate FILE --type TYPE IMAGE`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attestation {
    /// The type of the predicate, a URI, exactly as the statement has it.
    #[schemars(length(min = 1, max = 512))]
    pub predicate_type: String,
    /// The signer of the statement.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "has(self.keyless) != has(self.key)", "message": "expected exactly one of `keyless` and `key`"},
    ]))]
    pub signed_by: AcceptedSigner,
    /// A condition in CEL over `predicate`, `subject`, `signer`, `signedAt` and `now`. When absent, every statement of this type
    /// and signer counts.
    pub expression: Option<Condition<AttestationVariable>>,
}

/// The variables of the expression.
#[derive(Clone, Copy, Debug)]
pub enum AttestationVariable {
    /// The content of the statement.
    Predicate,
    /// The image that the statement is about.
    Subject,
    /// Who signed it.
    Signer,
    /// When it was signed.
    SignedAt,
    /// The time of the review.
    Now,
}

impl Variables for AttestationVariable {
    const TABLE: &'static [(&'static str, Self, Declared, &'static str)] = &[
        (
            "predicate",
            Self::Predicate,
            Declared::Anything,
            "the predicate of the statement as JSON; `null` if it has none",
        ),
        (
            "subject",
            Self::Subject,
            Declared::Record(&["repository", "digest"]),
            "the image: `subject.repository` and `subject.digest`, as texts",
        ),
        (
            "signer",
            Self::Signer,
            Declared::Map(&[
                ("key", Declared::Plain),
                ("identity", Declared::Plain),
                ("issuer", Declared::Plain),
                ("claims", Declared::Record(Claim::NAMES)),
            ]),
            "of a certificate `signer.identity`, `signer.issuer` and `signer.claims`, which has the claims by the names that `keyless.claims` uses; `signer.key` is the fingerprint of the key. A field that the signer does not have is missing",
        ),
        (
            "signedAt",
            Self::SignedAt,
            Declared::Plain,
            "the earliest verified time of the signature, as a timestamp. A statement without a log entry or timestamp has none, and the rule is undecided if the expression uses it",
        ),
        (
            "now",
            Self::Now,
            Declared::Plain,
            "the time of the review, as a timestamp: `now - signedAt < duration('24h')`",
        ),
    ];
}

reasons! {
    OF_THIS_RULE:
    ATTESTED = "attested", "The image carries a statement that meets the requirement.", "";
    NO_ATTESTATION = "no-attestation",
        "The image does not carry a statement of the required type.",
        "Attest the result of the check: `cosign attest --yes --predicate FILE --type TYPE IMAGE`. If the digest names one platform of an index, use the index's digest in the manifest.";
    ATTESTATION_UNACCEPTED = "attestation-unaccepted",
        "Something that may be the required statement is attached to the image, but it could not be verified. The detail says why.",
        "`promotion-gate evidence IMAGE` shows everything attached and why it is not accepted; `promotion-gate explain REASON` explains a reason.";
    ATTESTATION_SIGNER_NOT_ACCEPTED = "attestation-signer-not-accepted",
        "The image carries a statement of the required type, but another signer signed it.",
        "Attest as the signer that the policy names.";
    ATTESTATION_NOT_MET = "attestation-not-met",
        "The accepted signer attested, but the policy's expression is false of every statement.",
        "The detail names the statements. Repair what the check found, and attest its new result.";
    ATTESTATION_NOT_EVALUATED = "attestation-not-evaluated",
        "The policy's expression could not be evaluated over a statement of the accepted signer: a field is missing, a type differs, or the statement is too large.",
        "The detail says why. Test fields that can be missing with `has(…)` in the expression, or correct the statement.";
}

impl Entry for Attestation {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
        covers: false,
        per_platform: true,
        effect: Effect::OnlyHelps,
    });

    fn validate(&self) -> Result<(), String> {
        let kind = &self.predicate_type;
        if let Some(rule) = rule_of(kind) {
            return Err(format!(
                "statements of the type `{kind}` have a rule of their own; use {rule}"
            ));
        }
        match kind.split_once(':') {
            Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() => Ok(()),
            _ => Err(format!(
                "`{kind}` is not a predicate type, which is a URI such as `https://in-toto.io/attestation/test-result/v0.1`"
            )),
        }
    }

    fn expression_faults(field: &str, text: &str) -> Vec<ExpressionFault> {
        match field {
            "expression" => Condition::<AttestationVariable>::faults(text),
            _ => Vec::new(),
        }
    }

    fn more_manual() -> String {
        manual_of::<AttestationVariable>()
    }
}

impl Rule for Attestation {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn needs(&self, world: &World) -> Needs<'_> {
        Needs::under([&self.signed_by].into_iter(), &world.trust_roots)
    }

    fn loops(&self) -> Option<usize> {
        self.expression.as_ref().map(Condition::loops)
    }

    fn warnings(&self) -> Vec<String> {
        let expression = self.expression.as_ref();
        expression
            .and_then(Condition::warning)
            .into_iter()
            .collect()
    }
}

/// The step that refused a statement, in the order of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Signer,
    Transparency,
    Time,
    Condition,
    Evaluation,
}

/// Why a statement does not count.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    step: Step,
    reason: Reason,
    detail: String,
}

impl Refusal {
    fn of(statement: &VerifiedStatement, step: Step, reason: Reason, why: String) -> Refusal {
        Refusal {
            step,
            reason,
            detail: format!("the statement by {}: {why}", statement.signer()),
        }
    }
}

/// The earliest verified time of a statement.
fn signed_at(statement: &VerifiedStatement) -> Option<Timestamp> {
    statement.times().iter().map(|time| time.at).min()
}

/// The key that sorts the newest statement first, which is most likely the one that counts, whatever the order of the evidence is.
fn newest_first<'s>(statement: &'s VerifiedStatement) -> impl Ord + use<'s> {
    let (digest, by) = (statement.digest(), statement.signer().name());
    (Reverse(signed_at(statement)), digest, by)
}

impl ImageRule for Attestation {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let evidence = match readable(check) {
            Ok(evidence) => evidence,
            Err(undecided) => return undecided,
        };
        let of_type = evidence.statements.iter().map(|(_, it)| &**it);
        let of_type = of_type.filter(|it| it.predicate_type() == self.predicate_type);
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for statement in of_type {
            match self.is_by_signer(statement, check) {
                Ok(()) => accepted.push(statement),
                Err(refusal) => refused.push(refusal),
            }
        }
        accepted.sort_by_cached_key(|statement| newest_first(statement));
        let mut work = check.work.clone();
        for statement in accepted {
            if work.is_spent() {
                refused.push(Refusal {
                    step: Step::Evaluation,
                    reason: ATTESTATION_NOT_EVALUATED,
                    detail: "older statements were not evaluated, because that takes too much work"
                        .to_owned(),
                });
                break;
            }
            match self.is_met(statement, check, &mut work) {
                Ok(()) => {
                    let by = statement.signer();
                    let kind = &self.predicate_type;
                    let detail = sentence(format_args!("`{kind}` is attested by {by}"));
                    return Judgement::pass(ATTESTED, detail);
                }
                Err(refusal) => refused.push(refusal),
            }
        }
        refused.sort();
        refused.dedup();
        let is_of_accepted = |it: &Refusal| it.step > Step::Transparency;
        let failed = match refused.last() {
            Some(furthest) => self.explain_refusals(furthest, &refused, check),
            None => self.explain_absence(evidence, check),
        };
        // What others attach does not make known what is too large to be read.
        let failed = match refused.last().is_some_and(is_of_accepted) {
            true => failed,
            false => unless_too_large(failed, ATTESTATION_UNACCEPTED, evidence, check),
        };
        match failed.outcome {
            Outcome::Fail => unless_partial(failed, check),
            _ => failed,
        }
    }
}

impl Attestation {
    /// Whether the accepted signer signed a statement at a time that can be right.
    fn is_by_signer(
        &self,
        statement: &VerifiedStatement,
        check: &ImageCheck<'_>,
    ) -> Result<(), Refusal> {
        let refusal = |step, reason, why: String| Refusal::of(statement, step, reason, why);
        // 1. The signer: everybody who may push can attach a statement.
        let roots = &check.world.trust_roots;
        self.signed_by
            .signed(statement, roots)
            .map_err(|mismatch| match mismatch {
                Mismatch::OtherSigner => refusal(
                    Step::Signer,
                    ATTESTATION_SIGNER_NOT_ACCEPTED,
                    "the policy does not accept this signer".to_owned(),
                ),
                Mismatch::Transparency => refusal(
                    Step::Transparency,
                    NOT_TRANSPARENT_ENOUGH,
                    format!(
                        "it lacks the log entry or timestamp that the policy requires{}",
                        ignored([&**statement])
                    ),
                ),
            })?;
        // 2. The time: a verified time in the future means that a clock is wrong.
        in_time(statement, check.promotion.at)
            .map_err(|why| refusal(Step::Time, SIGNED_IN_THE_FUTURE, why))
    }

    /// Whether the condition holds for a statement.
    fn is_met(
        &self,
        statement: &VerifiedStatement,
        check: &ImageCheck<'_>,
        work: &mut Work,
    ) -> Result<(), Refusal> {
        let refusal = |step, reason, why: String| Refusal::of(statement, step, reason, why);
        // 3. What it says.
        let Some(expression) = &self.expression else {
            return Ok(());
        };
        let value = |variable, work: &mut Work| value(variable, statement, check, work);
        match expression.holds(work, value) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let why = format!("the expression is false: {}", expression.shown());
                Err(refusal(Step::Condition, ATTESTATION_NOT_MET, why))
            }
            Err(why) => {
                let why = why.to_string();
                Err(refusal(Step::Evaluation, ATTESTATION_NOT_EVALUATED, why))
            }
        }
    }

    /// `refused` is not empty, and sorted.
    fn explain_refusals(
        &self,
        furthest: &Refusal,
        refused: &[Refusal],
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let details = refused.iter().rev().map(|refusal| refusal.detail.clone());
        let detail = listed(details, 3);
        let hint = match furthest.step {
            Step::Signer | Step::Transparency => {
                format!("accepted signer: {}", self.signed_by)
            }
            Step::Time => "check the gate's clock".to_owned(),
            Step::Condition | Step::Evaluation => check.look(),
        };
        let judgement = match furthest.step {
            Step::Evaluation => Judgement::undecided(furthest.reason, detail),
            _ => Judgement::fail(furthest.reason, detail),
        };
        judgement.hint(hint)
    }

    fn explain_absence(&self, evidence: &ImageEvidence, check: &ImageCheck<'_>) -> Judgement {
        let kind = &self.predicate_type;
        match evidence.unaccepted_as(Form::Statement) {
            Some((_, text)) => Judgement::fail(ATTESTATION_UNACCEPTED, text).hint(check.look()),
            None => {
                let what = format!("attestation `{kind}`");
                let attest = format!(
                    "attest it as {}: `cosign attest --yes --predicate FILE --type {kind} {}`",
                    self.signed_by,
                    check.name()
                );
                Judgement::fail(NO_ATTESTATION, check.none_of(&what, Form::Statement))
                    .hint(check.nothing_attached(attest))
            }
        }
    }
}

/// The value of a variable.
fn value<'v>(
    variable: AttestationVariable,
    statement: &'v VerifiedStatement,
    check: &ImageCheck<'v>,
    work: &mut Work,
) -> Result<Variable<'v>, NotDecided> {
    let null = || Variable::Json(Cow::Owned(Value::Null));
    Ok(match variable {
        AttestationVariable::Predicate => match statement.predicate() {
            Predicate::Other(Some(text)) => {
                let read = read_json(text, work).map_err(|why| {
                    NotDecided::NotEvaluated(format!("the predicate cannot be used: {why}"))
                })?;
                Variable::Json(Cow::Owned(read))
            }
            _ => null(),
        },
        AttestationVariable::Subject => {
            let repository = check
                .subject
                .map(|subject| subject.repository.name().into());
            Variable::Map(vec![
                ("repository", repository.unwrap_or_else(null)),
                ("digest", statement.subject().to_string().into()),
            ])
        }
        AttestationVariable::Signer => signer(statement.signer()),
        AttestationVariable::SignedAt => Variable::Time(signed_at(statement).ok_or_else(|| {
            NotDecided::Unknown(
                "`signedAt` is not known, because the statement has no log entry and no timestamp"
                    .to_owned(),
            )
        })?),
        AttestationVariable::Now => Variable::Time(check.promotion.at),
    })
}

fn signer(signer: &Signer) -> Variable<'_> {
    let mut fields = vec![("key", signer.key().to_string().into())];
    if let Signer::Certificate(certificate) = signer {
        let claims = certificate.claims().iter();
        let claims = claims.map(|(claim, text)| (claim.name(), text.as_str().into()));
        fields.push(("identity", certificate.identity().into()));
        fields.push(("claims", Variable::Map(claims.collect())));
        fields.extend(certificate.issuer().map(|issuer| ("issuer", issuer.into())));
    }
    Variable::Map(fields)
}
