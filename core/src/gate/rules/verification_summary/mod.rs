//! `verificationSummary`: the signed summary of an accepted verifier (SLSA VSA).

mod resource;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::accepted_pair::{Refusal, Step, best_of, check_pair, denial, none_is_empty};
use super::check::{listed, minute, readable, unless_partial};
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Rule, Scope, World,
};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{Predicate, SummaryResult, VerificationSummary};
use crate::gate::age::Age;
use crate::gate::evidence::{Form, ImageEvidence};
use crate::gate::signer::{AcceptedSigner, Matcher};
use crate::reason::{Reason, reasons};

/// **What it requires**: the image carries a SLSA verification summary (VSA v1) with the result `PASSED`, by an accepted verifier. A
/// verifier is accepted as a pair: the id that the summary names *and* the signer of the summary. The summary must name the
/// image's repository as its resource, in the form of an image, with or without `oci://`, or as `pkg:oci/…?repository_url=…`;
/// `resources` accepts other names. `levels` requires levels: a higher level of a track counts for a lower one.
///
/// The gate of one environment writes summaries for the next one: `promotion-gate attest vsa --from-cluster` signs that a digest was
/// admitted to its cluster, complied with the policies there and runs, and since when. Such a summary has an `environment` and a
/// `cluster`. `minimumAge` requires that the image had run there for so long when the summary was made.
///
/// One good summary is enough. A summary with the result `FAILED` does not count, and takes nothing from one that passed: a verifier
/// that has changed its mind cannot be heard while its old summary is attached, so limit the age (`maximumAge`), and revoke the
/// digest (`Revocation`) if it must not run. The age counts from the earliest time that the signature or the summary gives.
///
/// **Why**: what verified an image once need not be verified again everywhere; and an image that has not run in staging should not
/// run in production.
///
/// **Example**:
/// `- verificationSummary: {verifiers: [{id: "https://staging.example.com/promotion-gate", signedBy: {key: {pem: "…"}}}], environment: staging, minimumAge: 24h, maximumAge: 30d}`
///
/// **How to satisfy it**: let the verifier attest the image; of a staging environment, deploy the image there and wait until its gate
/// has attested it. docs/promotion-chain.md shows how.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerificationSummaryRule {
    /// Accepted pairs of verifier and signer.
    #[schemars(length(min = 1))]
    pub verifiers: Vec<Verifier>,
    /// Levels and properties that the summary must name, such as `SLSA_BUILD_LEVEL_3`. A higher level of the same track counts.
    #[schemars(length(min = 1))]
    pub levels: Option<Vec<SummaryLevel>>,
    /// Accepted policies of the verifier; every policy when absent.
    #[schemars(length(min = 1))]
    pub policies: Option<Vec<VerifierPolicy>>,
    /// Accepted resources, besides the image's repository.
    #[schemars(length(min = 1))]
    pub resources: Option<Vec<Matcher>>,
    /// Of summaries by a gate: the environment in which it judged the image.
    #[schemars(length(min = 1, max = 253))]
    pub environment: Option<String>,
    /// Of summaries by a gate: the accepted clusters, by the names in their configurations.
    #[schemars(length(min = 1))]
    pub clusters: Option<Vec<String>>,
    /// The oldest summary that counts, such as `30d`.
    pub maximum_age: Option<Age>,
    /// Of summaries by a gate: how long the image had run when the summary was made, such as `24h`.
    pub minimum_age: Option<Age>,
}

/// An accepted verifier: the id that the summary must name, and the signer of the summary.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verifier {
    /// The verifier's id, a URI.
    pub id: Matcher,
    /// The signer of this verifier's summaries.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "has(self.keyless) != has(self.key)", "message": "expected exactly one of `keyless` and `key`"},
    ]))]
    pub signed_by: AcceptedSigner,
}

/// An accepted policy of a verifier.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifierPolicy {
    /// Its URI; every URI when absent.
    pub uri: Option<Matcher>,
    /// Its digest, such as `sha256:…`; every digest when absent.
    #[schemars(length(min = 1, max = 200))]
    pub digest: Option<String>,
}

/// A level of a track (`SLSA_BUILD_LEVEL_3`), or a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryLevel(String);

impl SummaryLevel {
    /// Whether a level that a summary names is this one, or a higher one of the same track.
    fn is_met_by(&self, named: &str) -> bool {
        let numbered = |text: &str| {
            let (track, level) = text.rsplit_once("_LEVEL_")?;
            let is_number = !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit());
            let level = level.parse::<u32>().ok().filter(|_| is_number)?;
            Some((track.to_owned(), level))
        };
        match (numbered(&self.0), numbered(named)) {
            (Some((track, least)), Some((other, level))) => track == other && level >= least,
            _ => self.0 == named,
        }
    }
}

impl fmt::Display for SummaryLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SummaryLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SummaryLevel, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if text.is_empty() || !text.bytes().all(fits) {
            let why = format!(
                "`{text:.80}` is not a level; expected a name such as `SLSA_BUILD_LEVEL_3`"
            );
            return Err(serde::de::Error::custom(why));
        }
        Ok(SummaryLevel(text))
    }
}

impl JsonSchema for SummaryLevel {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SummaryLevel".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A level of a track, such as `SLSA_BUILD_LEVEL_3`, or a property.",
            "type": "string",
            "minLength": 1,
            "maxLength": 200
        })
    }
}

reasons! {
    OF_THIS_RULE:
    VERIFICATION_PASSED = "verification-passed", "The image carries the summary of an accepted verifier.", "";
    NO_VERIFICATION_SUMMARY = "no-verification-summary",
        "The image does not carry a verification summary.",
        "Let the verifier attest the image. Of a staging environment: deploy the image there, and run `promotion-gate attest vsa --from-cluster`.";
    VERIFICATION_SUMMARY_UNACCEPTED = "verification-summary-unaccepted",
        "Something that may be a verification summary is attached to the image, but it could not be verified. The detail says why.",
        "`promotion-gate evidence IMAGE` shows everything attached and why it is not accepted; `promotion-gate explain REASON` explains a reason.";
    VERIFIER_NOT_ACCEPTED = "verifier-not-accepted",
        "The policy does not accept the pair of the summary's verifier and its signer.",
        "Let an accepted verifier attest the image. A summary in the name of a verifier by another signer can be an attempt to pass off one as the other.";
    VERIFICATION_FAILED = "verification-failed",
        "The verifier attested that the image failed its verification.",
        "Ask the verifier why; repair the image, or let it be verified again.";
    RESOURCE_NOT_ACCEPTED = "resource-not-accepted",
        "The summary is about another resource than the image's repository.",
        "Let the verifier name the image's repository, or accept the other name with `resources` in the policy.";
    VERIFIER_POLICY_NOT_ACCEPTED = "verifier-policy-not-accepted",
        "The verifier applied a policy that this policy does not accept.",
        "Let the verifier apply an accepted policy.";
    OTHER_ENVIRONMENT = "other-environment",
        "The summary is of another environment or cluster than the policy requires, or names none.",
        "Deploy the image to the environment that the policy names, and let its gate attest it.";
    LEVEL_NOT_REACHED = "level-not-reached",
        "The summary does not name a level that the policy requires.",
        "Build the image in a way that reaches the level, and let the verifier attest it.";
    SUMMARY_TOO_OLD = "summary-too-old",
        "The summary is older than the policy's `maximumAge`, or nothing says how old it is.",
        "Let the verifier attest the image again.";
    NOT_RUN_LONG_ENOUGH = "not-run-long-enough",
        "The image had not run long enough in the environment of the summary when the summary was made, or the summary does not say since when it has run.",
        "Wait, then let the gate of that environment attest the image again.";
}

impl Entry for VerificationSummaryRule {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
        covers: true,
        per_platform: true,
        effect: Effect::OnlyHelps,
    });

    fn validate(&self) -> Result<(), String> {
        if self.verifiers.is_empty() {
            return Err("`verifiers` is empty, so no verifier can pass".to_owned());
        }
        none_is_empty(&[
            ("levels", self.levels.as_ref().map(Vec::len)),
            ("policies", self.policies.as_ref().map(Vec::len)),
            ("resources", self.resources.as_ref().map(Vec::len)),
            ("clusters", self.clusters.as_ref().map(Vec::len)),
        ])?;
        let policies = self.policies.iter().flatten();
        if policies
            .clone()
            .any(|it| it.uri.is_none() && it.digest.is_none())
        {
            return Err("an entry of `policies` names neither `uri` nor `digest`".to_owned());
        }
        let mut digests = policies.filter_map(|it| it.digest.as_deref());
        if let Some(digest) = digests.find(|digest| !digest.contains(':')) {
            return Err(format!(
                "`{digest:.80}` in `policies` is not a digest; write the algorithm too, such as `sha256:…`"
            ));
        }
        Ok(())
    }
}

impl Rule for VerificationSummaryRule {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn needs(&self, world: &World) -> Needs<'_> {
        let signers = self.verifiers.iter().map(|verifier| &verifier.signed_by);
        Needs::under(signers, &world.trust_roots)
    }
}

impl ImageRule for VerificationSummaryRule {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let evidence = match readable(check) {
            Ok(evidence) => evidence,
            Err(undecided) => return undecided,
        };
        let judged = evidence.statements.iter().filter_map(|(_, statement)| {
            let Predicate::VerificationSummary(summary) = statement.predicate() else {
                return None;
            };
            let accepted = self.accepts(statement, summary, check);
            Some((statement.signer(), accepted))
        });
        let failed = match best_of("the summary", judged) {
            Ok(passed) => return Judgement::pass(VERIFICATION_PASSED, passed),
            Err(refused) => refused,
        };
        let absence = || self.explain_absence(evidence, check);
        let failed = denial(
            failed,
            absence,
            VERIFICATION_SUMMARY_UNACCEPTED,
            evidence,
            check,
        );
        unless_partial(failed, check)
    }
}

impl VerificationSummaryRule {
    /// Judges one summary. Returns the detail of the pass.
    fn accepts(
        &self,
        statement: &VerifiedStatement,
        summary: &VerificationSummary,
        check: &ImageCheck<'_>,
    ) -> Result<String, Refusal> {
        let at = check.promotion.at;
        // 1. and 2. The pair of verifier and signer, and the time.
        let verifiers = self.verifiers.iter();
        let pairs = verifiers.map(|pair| (&pair.id, &pair.signed_by));
        let id = ("verifier", &*summary.verifier.id);
        check_pair(pairs, statement, id, VERIFIER_NOT_ACCEPTED, check)?;
        // 3. The resource: the same digest can be in a repository that the verifier has other expectations of.
        self.check_resource(summary, check)?;
        // 4. The verifier's policy: a verifier can pass an image by a policy that requires little.
        self.check_policy(summary)?;
        // 5. Environment and cluster: the gate of a test environment may have the same signer.
        self.check_environment(summary)?;
        // 6. The result.
        if summary.verification_result == SummaryResult::Failed {
            let why = "the verification has failed".to_owned();
            return Err(Refusal::new(Step::Result, VERIFICATION_FAILED, why, None));
        }
        // 7. Every level.
        self.check_levels(summary)?;
        // 8. Ages.
        self.check_maximum_age(statement, summary, at)?;
        let ran = self.check_minimum_age(statement, summary, at)?;
        Ok(format!(
            "verified by `{}`{}{ran}; the summary is signed by {}",
            summary.verifier.id,
            said_place(summary),
            statement.signer()
        ))
    }

    fn check_resource(
        &self,
        summary: &VerificationSummary,
        check: &ImageCheck<'_>,
    ) -> Result<(), Refusal> {
        let uri = &summary.resource_uri;
        let mut accepted = self.resources.iter().flatten();
        let is_image = |subject| resource::names_image(uri, subject);
        if check.subject.is_some_and(is_image) || accepted.any(|accepted| accepted.matches(uri)) {
            return Ok(());
        }
        let why = format!("it is about `{uri}`, and not about the repository of the image");
        Err(Refusal::new(
            Step::Resource,
            RESOURCE_NOT_ACCEPTED,
            why,
            None,
        ))
    }

    fn check_policy(&self, summary: &VerificationSummary) -> Result<(), Refusal> {
        let Some(accepted) = &self.policies else {
            return Ok(());
        };
        let applied = &summary.policy;
        let is_applied = |policy: &VerifierPolicy| {
            let uri = applied.uri.as_deref();
            let same_uri = |accepted: &Matcher| uri.is_some_and(|uri| accepted.matches(uri));
            let same_digest = |accepted: &String| {
                let accepted = accepted.split_once(':');
                accepted.is_some_and(|(algorithm, hex)| {
                    applied.digest.get(algorithm).is_some_and(|it| it == hex)
                })
            };
            policy.uri.as_ref().is_none_or(same_uri)
                && policy.digest.as_ref().is_none_or(same_digest)
        };
        if accepted.iter().any(is_applied) {
            return Ok(());
        }
        let uri = applied.uri.as_ref();
        let applied = uri.map_or("a policy without a name".to_owned(), |uri| {
            format!("`{uri}`")
        });
        let why = format!("the verifier applied {applied}, which is not accepted");
        Err(Refusal::new(
            Step::Policy,
            VERIFIER_POLICY_NOT_ACCEPTED,
            why,
            None,
        ))
    }

    fn check_environment(&self, summary: &VerificationSummary) -> Result<(), Refusal> {
        let refused = |what: &str, named: &Option<String>, accepted: String| {
            let named = named.as_ref();
            let named = named.map_or("names none".to_owned(), |named| format!("names `{named}`"));
            let why = format!("the policy requires the {what} {accepted}, and the summary {named}");
            Err(Refusal::new(
                Step::Environment,
                OTHER_ENVIRONMENT,
                why,
                None,
            ))
        };
        if let Some(environment) = &self.environment
            && summary.environment.as_ref() != Some(environment)
        {
            let accepted = format!("`{environment}`");
            return refused("environment", &summary.environment, accepted);
        }
        if let Some(clusters) = &self.clusters
            && !summary
                .cluster
                .as_ref()
                .is_some_and(|it| clusters.contains(it))
        {
            let accepted = clusters.iter().map(|cluster| format!("`{cluster}`"));
            return refused("cluster", &summary.cluster, listed(accepted, 5));
        }
        Ok(())
    }

    fn check_levels(&self, summary: &VerificationSummary) -> Result<(), Refusal> {
        let mut required = self.levels.iter().flatten();
        let named = &summary.verified_levels;
        let missing = required.find(|level| !named.iter().any(|named| level.is_met_by(named)));
        let Some(missing) = missing else {
            return Ok(());
        };
        let named = match named.is_empty() {
            true => "no level".to_owned(),
            false => listed(named.iter().map(|level| format!("`{level:.100}`")), 5),
        };
        let why = format!("it does not reach `{missing}`; it names {named}");
        Err(Refusal::new(Step::Level, LEVEL_NOT_REACHED, why, None))
    }

    fn check_maximum_age(
        &self,
        statement: &VerifiedStatement,
        summary: &VerificationSummary,
        at: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(maximum) = self.maximum_age else {
            return Ok(());
        };
        // What grows with age counts from the earliest time.
        let times = statement.times().iter().map(|time| time.at);
        let Some(made) = times.chain(summary.time_verified).min() else {
            let why = "neither the summary nor its signature says when it was made".to_owned();
            return Err(Refusal::new(Step::Age, SUMMARY_TOO_OLD, why, None));
        };
        match at.duration_since(made) > maximum.duration() {
            true => {
                let why = format!("it was made at {}, more than `{maximum}` ago", minute(made));
                Err(Refusal::new(Step::Age, SUMMARY_TOO_OLD, why, None))
            }
            false => Ok(()),
        }
    }

    /// Returns how long the image had run, as a part of a sentence.
    fn check_minimum_age(
        &self,
        statement: &VerifiedStatement,
        summary: &VerificationSummary,
        at: Timestamp,
    ) -> Result<String, Refusal> {
        let Some(minimum) = self.minimum_age else {
            return Ok(String::new());
        };
        let refused = |why: String| Err(Refusal::new(Step::Age, NOT_RUN_LONG_ENOUGH, why, None));
        let Some(since) = summary.running_since else {
            return refused("it does not say since when the image has run".to_owned());
        };
        // What must have lasted counts until the earliest time at which the summary was made: it says nothing of later.
        let times = statement.times().iter().map(|time| time.at);
        let Some(made) = times.chain(summary.time_verified).min() else {
            return refused(
                "neither the summary nor its signature says when it was made".to_owned(),
            );
        };
        let ran = made.min(at).duration_since(since);
        if ran >= minimum.duration() {
            return Ok(format!(", where it has run since {}", minute(since)));
        }
        let ran = ran.max(SignedDuration::ZERO).as_mins();
        refused(format!(
            "the image ran since {}, for {ran} minutes when the summary was made, and `{minimum}` are required",
            minute(since)
        ))
    }

    fn explain_absence(&self, evidence: &ImageEvidence, check: &ImageCheck<'_>) -> Judgement {
        match evidence.unaccepted_as(Form::Statement) {
            Some((_, text)) => {
                Judgement::fail(VERIFICATION_SUMMARY_UNACCEPTED, text).hint(check.look())
            }
            None => {
                let verifiers = self.verifiers.iter();
                let verifiers = verifiers.map(|verifier| format!("`{}`", verifier.id));
                let attest = format!("let {} attest the image", listed(verifiers, 3));
                let detail = check.none_of("verification summary", Form::Statement);
                Judgement::fail(NO_VERIFICATION_SUMMARY, detail)
                    .hint(check.nothing_attached(attest))
            }
        }
    }
}

/// The environment and the cluster of a summary by a gate, as a part of a sentence.
fn said_place(summary: &VerificationSummary) -> String {
    let environment = summary.environment.as_ref();
    let environment = environment.map(|name| format!(" in `{name}`"));
    let cluster = summary.cluster.as_ref();
    let cluster = cluster.map(|name| format!(" of the cluster `{name}`"));
    environment.unwrap_or_default() + &cluster.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_level_of_the_same_track_counts_for_a_lower_one() {
        let level = |text: &str| SummaryLevel(text.to_owned());
        for (required, named, expected) in [
            ("SLSA_BUILD_LEVEL_2", "SLSA_BUILD_LEVEL_2", true),
            ("SLSA_BUILD_LEVEL_2", "SLSA_BUILD_LEVEL_3", true),
            ("SLSA_BUILD_LEVEL_3", "SLSA_BUILD_LEVEL_2", false),
            ("SLSA_BUILD_LEVEL_2", "SLSA_SOURCE_LEVEL_3", false),
            ("SLSA_BUILD_LEVEL_9", "SLSA_BUILD_LEVEL_10", true),
            ("SLSA_BUILD_LEVEL_2", "SLSA_BUILD_LEVEL_UNEVALUATED", false),
            ("SLSA_BUILD_LEVEL_2", "SLSA_BUILD_LEVEL_+3", false),
            ("SLSA_BUILD_LEVEL_2", "SLSA_BUILD_LEVEL_", false),
            ("SLSA_BUILD_REPRODUCED", "SLSA_BUILD_REPRODUCED", true),
            ("SLSA_BUILD_REPRODUCED", "SLSA_BUILD_LEVEL_3", false),
            ("BCID_L1", "BCID_L2", false),
        ] {
            assert_eq!(
                level(required).is_met_by(named),
                expected,
                "{required} {named}"
            );
        }
    }
}
