//! `signature`: a verified cosign signature, as a signature, by accepted signers.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ChangeKind, Effect, FromEntry, ImageInQuestion, Judgement, NOT_TRANSPARENT_ENOUGH, Need,
    Reason, Rule, SIGNED_IN_THE_FUTURE, TrustRoots, ignored, in_time, listed, readable, reasons,
    unless_partial,
};
use crate::attest::{SignatureForm, VerifiedSignature};
use crate::gate::evidence::{Form, ImageEvidence};
use crate::gate::signer::{AcceptedSigner, Key, Keyless, Mismatch, SignerEntry};

/// **What it requires**: the image carries a verified cosign signature, *as a signature* (a bundle with the predicate type
/// `https://sigstore.dev/cosign/sign/v1`, or a simplesigning payload), by accepted signers: `anyOf` them (or `threshold`
/// different ones), or `allOf` them.
///
/// **Why**: a digest says which image it is; only a signature says that the right pipeline made it. An attestation by the
/// same identity (a scan, a provenance) is not a signature.
///
/// **Example**:
/// `- signature: {anyOf: [{keyless: {issuer: "https://token.actions.githubusercontent.com", identity: {glob: "https://github.com/example/*/.github/workflows/release.yml@refs/tags/v*"}}}]}`
///
/// **How to satisfy it**: `cosign sign IMAGE@DIGEST` in the pipeline that the policy names.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignatureEntry {
    /// Accepted signers; one of them, or `threshold` different ones, must have signed.
    pub any_of: Option<Vec<SignerOrGroup>>,
    /// Signers that must all have signed, each a different one.
    pub all_of: Option<Vec<SignerOrGroup>>,
    /// How many different signers of `anyOf` must have signed; 1 when absent.
    #[schemars(range(min = 1))]
    pub threshold: Option<u32>,
    /// Annotations that the signature itself must carry (`cosign sign -a key=value`).
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A signer, or a group of them; groups do not nest further.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerOrGroup {
    /// A certificate identity issued by Fulcio.
    pub keyless: Option<Keyless>,
    /// A managed key.
    pub key: Option<Key>,
    /// One of these, or `threshold` different ones.
    pub any_of: Option<Vec<SignerEntry>>,
    /// All of these, each a different one.
    pub all_of: Option<Vec<SignerEntry>>,
    /// How many different signers of `anyOf`; 1 when absent.
    #[schemars(range(min = 1))]
    pub threshold: Option<u32>,
}

/// The rule, with its names resolved.
#[derive(Clone, Debug)]
pub struct Signature {
    signers: Expression<Member>,
    annotations: BTreeMap<String, String>,
    need: Need,
}

#[derive(Clone, Debug)]
enum Expression<T> {
    AnyOf { members: Vec<T>, threshold: usize },
    AllOf(Vec<T>),
}

#[derive(Clone, Debug)]
enum Member {
    One(AcceptedSigner),
    Group(Expression<AcceptedSigner>),
}

reasons! {
    OF_THIS_RULE:
    SIGNED = "signed", "The accepted signers have signed.", "";
    UNSIGNED = "unsigned",
        "Nothing is attached to the image.",
        "Sign it in the pipeline that the policy names: `cosign sign IMAGE@DIGEST`. If the digest is that of one platform of an index, name the index's digest.";
    SIGNATURE_UNACCEPTED = "signature-unaccepted",
        "Something is attached, but it could not be verified; the detail says why.",
        "`promotion-gate evidence IMAGE` shows each piece with its own reason; `promotion-gate explain REASON` explains it.";
    SIGNER_NOT_ACCEPTED = "signer-not-accepted",
        "The image is signed soundly, but by nobody whom the policy accepts.",
        "Sign it with an accepted identity or key, or have the signer added to the policy.";
    TOO_FEW_SIGNERS = "too-few-signers",
        "Accepted signers have signed, but not all or not as many different ones as the policy asks for.",
        "Have the others sign too.";
    NOT_A_SIGNATURE = "not-a-signature",
        "Something is attached to the image, such as an attestation or an SBOM, but it is no signature of it.",
        "Sign it as well: `cosign sign IMAGE@DIGEST`.";
    NOT_A_COSIGN_SIGNATURE = "not-a-cosign-signature",
        "The image's manifest was signed as a file, not as an image.",
        "Sign it with `cosign sign`, not with `cosign sign-blob`.";
    ANNOTATION_MISSING = "annotation-missing",
        "The signature lacks an annotation that the policy asks for.",
        "Sign with `cosign sign -a KEY=VALUE`.";
    ANNOTATION_DIFFERS = "annotation-differs",
        "An annotation of the signature has another value than the policy asks for.",
        "Sign with `cosign sign -a KEY=VALUE`.";
}

impl FromEntry for Signature {
    type Entry = SignatureEntry;

    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const LOOKS_AT_EVIDENCE: bool = true;

    fn from_entry(entry: SignatureEntry, roots: &TrustRoots) -> Result<Signature, String> {
        let member = |entry: SignerOrGroup| match entry {
            SignerOrGroup {
                keyless,
                key,
                any_of: None,
                all_of: None,
                threshold: None,
            } => SignerEntry { keyless, key }.resolve(roots).map(Member::One),
            SignerOrGroup {
                keyless: None,
                key: None,
                any_of,
                all_of,
                threshold,
            } => expression(any_of, all_of, threshold, &|entry: SignerEntry| {
                entry.resolve(roots)
            })
            .map(Member::Group),
            _ => Err(
                "a signer is either one of `keyless` and `key`, or a group `anyOf` or `allOf`"
                    .to_owned(),
            ),
        };
        let signers = expression(entry.any_of, entry.all_of, entry.threshold, &member)?;
        if let Expression::AnyOf { members, threshold } = &signers
            && *threshold > 1
            && members
                .iter()
                .any(|member| matches!(member, Member::Group(_)))
        {
            return Err(
                "`threshold` counts single signers; it cannot be combined with groups".to_owned(),
            );
        }
        let need = Need::of(accepted(&signers), Effect::OnlyHelps);
        Ok(Signature {
            signers,
            annotations: entry.annotations,
            need,
        })
    }
}

fn expression<W, T>(
    any_of: Option<Vec<W>>,
    all_of: Option<Vec<W>>,
    threshold: Option<u32>,
    member: &dyn Fn(W) -> Result<T, String>,
) -> Result<Expression<T>, String> {
    match (any_of, all_of, threshold) {
        (Some(members), _, _) | (None, Some(members), _) if members.is_empty() => {
            Err("the list of signers is empty: nobody could sign".to_owned())
        }
        (Some(_), None, Some(0)) => {
            Err("`threshold: 0` would accept an unsigned image; the least is 1".to_owned())
        }
        (Some(members), None, threshold) => {
            let threshold = usize::try_from(threshold.unwrap_or(1)).unwrap_or(usize::MAX);
            Ok(Expression::AnyOf {
                members: members.into_iter().map(member).collect::<Result<_, _>>()?,
                threshold,
            })
        }
        (None, Some(members), None) => Ok(Expression::AllOf(
            members.into_iter().map(member).collect::<Result<_, _>>()?,
        )),
        (None, Some(_), Some(_)) => {
            Err("`threshold` belongs to `anyOf`; `allOf` already asks for every signer".to_owned())
        }
        (Some(_), Some(_), _) | (None, None, _) => {
            Err("expected exactly one of `anyOf` and `allOf`".to_owned())
        }
    }
}

impl Rule for Signature {
    fn applies_to(&self, kind: ChangeKind) -> bool {
        match kind {
            ChangeKind::Deploy | ChangeKind::Activation => true,
            ChangeKind::Upkeep | ChangeKind::Governance => false,
        }
    }

    fn need(&self) -> Option<&Need> {
        Some(&self.need)
    }

    fn check(&self, question: &ImageInQuestion<'_>) -> Judgement {
        let evidence = match readable(question) {
            Ok(evidence) => evidence,
            Err(undecided) => return undecided,
        };
        let usable: Vec<_> = evidence
            .signatures
            .iter()
            .map(|(_, signature)| &**signature)
            .filter(|signature| self.usable(signature, question.promotion.at).is_ok())
            .collect();
        if let Some(signers) = self.satisfied_by(&usable) {
            let signers: Vec<_> = signers.into_iter().collect();
            return Judgement::pass(SIGNED, format!("signed by {}", signers.join(" and ")));
        }
        unless_partial(self.explain(evidence, &usable, question), question)
    }
}

/// Everybody whom an expression names.
fn accepted(signers: &Expression<Member>) -> impl Iterator<Item = &AcceptedSigner> {
    let members = match signers {
        Expression::AnyOf { members, .. } | Expression::AllOf(members) => members,
    };
    members.iter().flat_map(|member| match member {
        Member::One(signer) => std::slice::from_ref(signer),
        Member::Group(Expression::AnyOf { members, .. } | Expression::AllOf(members)) => members,
    })
}

impl Signature {
    /// Whether a verified signature can count at all, whoever made it.
    fn usable(
        &self,
        signature: &VerifiedSignature,
        at: jiff::Timestamp,
    ) -> Result<(), (Reason, String)> {
        match signature.form() {
            SignatureForm::CosignBundle | SignatureForm::SimpleSigning => {}
            SignatureForm::MessageSignature => {
                return Err((
                    NOT_A_COSIGN_SIGNATURE,
                    "a bare message signature is not a cosign signature".to_owned(),
                ));
            }
        }
        in_time(signature, at).map_err(|why| (SIGNED_IN_THE_FUTURE, why))?;
        for (key, expected) in &self.annotations {
            match signature.annotations().get(key) {
                Some(actual) if actual == expected => {}
                Some(actual) => {
                    return Err((
                        ANNOTATION_DIFFERS,
                        format!("its annotation `{key}` is `{actual}`, not `{expected}`"),
                    ));
                }
                None => {
                    return Err((
                        ANNOTATION_MISSING,
                        format!("it lacks the annotation `{key}`"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The signers that meet the requirement, where it is met.
    fn satisfied_by(&self, signatures: &[&VerifiedSignature]) -> Option<BTreeSet<String>> {
        match &self.signers {
            Expression::AnyOf {
                members,
                threshold: 1,
            } => members.iter().find_map(|member| match member {
                Member::One(signer) => signers_of(signer, signatures)
                    .into_iter()
                    .next()
                    .map(|one| BTreeSet::from([one])),
                Member::Group(group) => group_satisfied(group, signatures),
            }),
            Expression::AnyOf { members, threshold } => {
                let singles = members.iter().filter_map(|member| match member {
                    Member::One(signer) => Some(signer),
                    Member::Group(_) => None,
                });
                threshold_reached(singles, *threshold, signatures)
            }
            Expression::AllOf(members) => {
                let mut all = BTreeSet::new();
                let mut singles = Vec::new();
                for member in members {
                    match member {
                        Member::One(signer) => singles.push(signer),
                        Member::Group(group) => all.extend(group_satisfied(group, signatures)?),
                    }
                }
                all.extend(all_different(&singles, signatures)?);
                Some(all)
            }
        }
    }

    fn explain(
        &self,
        evidence: &ImageEvidence,
        usable: &[&VerifiedSignature],
        question: &ImageInQuestion<'_>,
    ) -> Judgement {
        let wanted = listed(accepted(&self.signers).map(ToString::to_string), 4);
        let subject = question.name();
        let look = format!("see everything found with `promotion-gate evidence {subject}`");
        if !usable.is_empty() {
            let by: BTreeSet<_> = usable
                .iter()
                .map(|signature| signature.signer().to_string())
                .collect();
            let by = listed(by, 3);
            let transparency = usable.iter().any(|signature| {
                accepted(&self.signers)
                    .any(|signer| signer.signed(signature) == Err(Mismatch::Transparency))
            });
            if transparency {
                return Judgement::fail(
                    NOT_TRANSPARENT_ENOUGH,
                    format!(
                        "signed by {by}, but without the log entry or timestamp that the policy asks for{}",
                        ignored(usable.iter().map(|signature| &***signature))
                    ),
                )
                .hint(look);
            }
            let counted = usable.iter().any(|signature| {
                accepted(&self.signers).any(|signer| signer.signed(signature).is_ok())
            });
            if counted {
                return Judgement::fail(
                    TOO_FEW_SIGNERS,
                    format!(
                        "signed by {}, but more of the accepted signers must have signed",
                        by
                    ),
                )
                .hint(format!("accepted are {wanted}"));
            }
            return Judgement::fail(
                SIGNER_NOT_ACCEPTED,
                format!("signed by {}, who is not accepted", by),
            )
            .hint(format!("accepted are {wanted}"));
        }
        let unusable = evidence.signatures.iter().find_map(|(_, signature)| {
            self.usable(signature, question.promotion.at)
                .err()
                .map(|why| (signature.signer().to_string(), why))
        });
        if let Some((signer, (reason, why))) = unusable {
            return Judgement::fail(reason, format!("signed by {signer}, but {why}")).hint(look);
        }
        if let Some((_, why)) = evidence.unaccepted_as(Form::Signature) {
            let also = evidence.statements.first().map(|(_, statement)| {
                let kind = statement.predicate_type();
                format!("; it also carries an attestation (`{kind}`), which is no signature")
            });
            return Judgement::fail(SIGNATURE_UNACCEPTED, why + &also.unwrap_or_default())
                .hint(format!("accepted are {wanted}; {look}"));
        }
        if let Some((_, statement)) = evidence.statements.first() {
            return Judgement::fail(
                NOT_A_SIGNATURE,
                format!(
                    "carries an attestation (`{}`) by {}, but no signature",
                    statement.predicate_type(),
                    statement.signer()
                ),
            )
            .hint(format!("sign it with `cosign sign {subject}`"));
        }
        let sign = format!("sign it with `cosign sign {subject}` as {wanted}");
        let reason = match evidence.instead_of(Form::Signature) {
            Some(_) => NOT_A_SIGNATURE,
            None => UNSIGNED,
        };
        Judgement::fail(reason, question.none_of("signature", Form::Signature))
            .hint(question.nothing_attached(sign))
    }
}

fn group_satisfied(
    group: &Expression<AcceptedSigner>,
    signatures: &[&VerifiedSignature],
) -> Option<BTreeSet<String>> {
    match group {
        Expression::AnyOf { members, threshold } => {
            threshold_reached(members.iter(), *threshold, signatures)
        }
        Expression::AllOf(members) => {
            all_different(&members.iter().collect::<Vec<_>>(), signatures)
        }
    }
}

/// Different people or keys that any of `accepted` names, where there are `threshold` of them.
fn threshold_reached<'a>(
    accepted: impl Iterator<Item = &'a AcceptedSigner>,
    threshold: usize,
    signatures: &[&VerifiedSignature],
) -> Option<BTreeSet<String>> {
    let signers: BTreeSet<_> = accepted
        .flat_map(|signer| signers_of(signer, signatures))
        .collect();
    (signers.len() >= threshold).then_some(signers)
}

/// One different signer for each of `accepted`: a maximum matching, so that the order of arrival never matters.
fn all_different(
    accepted: &[&AcceptedSigner],
    signatures: &[&VerifiedSignature],
) -> Option<BTreeSet<String>> {
    let candidates: Vec<Vec<String>> = accepted
        .iter()
        .map(|signer| signers_of(signer, signatures).into_iter().collect())
        .collect();
    let mut seats: BTreeMap<String, usize> = BTreeMap::new();
    for seat in 0..candidates.len() {
        if !fill(seat, &candidates, &mut seats, &mut BTreeSet::new()) {
            return None;
        }
    }
    Some(seats.into_keys().collect())
}

/// Finds a signer for `seat`, moving others to another seat where they fit too (augmenting path).
fn fill(
    seat: usize,
    candidates: &[Vec<String>],
    seats: &mut BTreeMap<String, usize>,
    tried: &mut BTreeSet<String>,
) -> bool {
    for candidate in candidates.get(seat).into_iter().flatten() {
        if !tried.insert(candidate.clone()) {
            continue;
        }
        let free = match seats.get(candidate).copied() {
            None => true,
            Some(taken) => fill(taken, candidates, seats, tried),
        };
        if free {
            seats.insert(candidate.clone(), seat);
            return true;
        }
    }
    false
}

/// The different signers among `signatures` that `accepted` names.
fn signers_of(accepted: &AcceptedSigner, signatures: &[&VerifiedSignature]) -> BTreeSet<String> {
    let signed = signatures
        .iter()
        .filter(|signature| accepted.signed(signature).is_ok());
    signed
        .map(|signature| signature.signer().to_string())
        .collect()
}
