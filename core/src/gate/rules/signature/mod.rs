//! `signature`: a verified cosign signature of the image by accepted signers.

mod seating;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use seating::{Seating, SignersPresent, Wanted, never_filled};

use super::check::{
    NOT_TRANSPARENT_ENOUGH, SIGNED_IN_THE_FUTURE, ignored, in_time, listed, readable, sentence,
    unless_partial,
};
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Rule, Scope, World,
};
use crate::attest::{SignatureForm, VerifiedSignature};
use crate::gate::evidence::{Form, ImageEvidence};
use crate::gate::signer::{AcceptedSigner, KeySigner, KeylessSigner, Mismatch};
use crate::reason::{Reason, reasons};

/// **What it requires**: accepted signers have signed the image with cosign: one of `anyOf` (or `threshold` different ones), or
/// `allOf`. Two forms count *as a signature*: a bundle with the predicate type `https://sigstore.dev/cosign/sign/v1`, and a
/// simplesigning payload of cosign or of Tekton Chains.
///
/// **Why**: a digest identifies an image; only a signature proves that the right pipeline built it. An attestation by the
/// same identity (a scan, a provenance) is not a signature.
///
/// **Which signatures count as one signer**: each signer counts once, also across the groups of an `allOf`. These are one signer:
/// - a workflow (repository and file) at any ref, in any spelling, also after its repository was renamed
/// - an e-mail address in any case, with or without a `+tag`, from any issuer
/// - an account before and after its e-mail address changed
/// - a key in any encoding, and the certificate that was issued for the key
///
/// If a workflow calls a reusable workflow, the reusable workflow is the signer.
///
/// **Example**:
/// `- signature: {anyOf: [{keyless: {issuer: "https://token.actions.githubusercontent.com", identity: {glob: "https://github.com/example/*/.github/workflows/release.yml@refs/tags/v*"}}}]}`
///
/// **How to satisfy it**: `cosign sign --yes IMAGE@DIGEST` in the pipeline that the policy names.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "SignatureFields")]
#[schemars(with = "SignatureFields")]
pub struct Signature {
    signers: Group<Member>,
    annotations: BTreeMap<String, String>,
}

/// The fields of the rule, before validation.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.anyOf) != has(self.allOf)", "message": "expected exactly one of `anyOf` and `allOf`"},
    {"rule": "!has(self.threshold) || has(self.anyOf)", "message": "`threshold` belongs to `anyOf`"},
]))]
struct SignatureFields {
    /// Accepted signers: one of them, or `threshold` different ones, must have signed.
    any_of: Option<Vec<Member>>,
    /// Signers that must all have signed; each entry needs a different signer.
    all_of: Option<Vec<Member>>,
    /// How many different signers of `anyOf` must have signed; 1 when absent.
    #[schemars(range(min = 1))]
    threshold: Option<u32>,
    /// Annotations that the signature must carry (`cosign sign -a key=value`).
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A signer, or a group of them; groups do not nest further.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "MemberFields")]
#[schemars(with = "MemberFields")]
enum Member {
    One(AcceptedSigner),
    Group(Group<AcceptedSigner>),
}

/// The fields of a signer or a group, before validation.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MemberFields {
    /// A certificate identity issued by Fulcio.
    keyless: Option<KeylessSigner>,
    /// A managed key.
    key: Option<KeySigner>,
    /// Accepted signers: one of them, or `threshold` different ones, must have signed.
    any_of: Option<Vec<AcceptedSigner>>,
    /// Signers that must all have signed; each entry needs a different signer.
    all_of: Option<Vec<AcceptedSigner>>,
    /// How many different signers of `anyOf` must have signed; 1 when absent.
    #[schemars(range(min = 1))]
    threshold: Option<u32>,
}

/// The signers of which any or all must have signed.
#[derive(Clone, Debug)]
enum Group<T> {
    AnyOf { members: Vec<T>, threshold: usize },
    AllOf(Vec<T>),
}

reasons! {
    OF_THIS_RULE:
    SIGNED = "signed", "The accepted signers have signed.", "";
    UNSIGNED = "unsigned",
        "Nothing is attached to the image.",
        "Sign the image in the pipeline that the policy names: `cosign sign --yes IMAGE@DIGEST`. If the digest names one platform of an index, use the index's digest in the manifest.";
    SIGNATURE_UNACCEPTED = "signature-unaccepted",
        "Something that may be a signature is attached to the image, but it could not be verified. The detail says why.",
        "`promotion-gate evidence IMAGE` shows everything attached and why it is not accepted; `promotion-gate explain REASON` explains a reason.";
    SIGNER_NOT_ACCEPTED = "signer-not-accepted",
        "The image has a valid signature, but the policy does not accept its signer.",
        "Sign the image with an accepted identity or key, or ask for the signer to be added to the policy.";
    TOO_FEW_SIGNERS = "too-few-signers",
        "Some accepted signers have signed, but the policy requires more different ones. Each signer counts once: a workflow at any ref, an e-mail address in any spelling and from any issuer.",
        "Let the missing signers sign too. The detail names them, and says which signatures count as one signer.";
    NOT_A_SIGNATURE = "not-a-signature",
        "Something is attached to the image, such as an attestation or an SBOM, but not a signature.",
        "Sign the image: `cosign sign --yes IMAGE@DIGEST`.";
    NOT_A_COSIGN_SIGNATURE = "not-a-cosign-signature",
        "The image's manifest was signed as a file (`cosign sign-blob`), not as an image.",
        "Sign the image with `cosign sign`.";
    ANNOTATION_MISSING = "annotation-missing",
        "The signature lacks an annotation that the policy requires.",
        "Sign with `cosign sign -a KEY=VALUE`.";
    ANNOTATION_DIFFERS = "annotation-differs",
        "An annotation of the signature has another value than the policy requires.",
        "Sign with `cosign sign -a KEY=VALUE`.";
}

impl Entry for Signature {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
        covers: true,
        per_platform: true,
        effect: Effect::OnlyHelps,
    });
}

impl TryFrom<SignatureFields> for Signature {
    type Error = String;

    fn try_from(fields: SignatureFields) -> Result<Signature, String> {
        let signers = Group::from_fields(fields.any_of, fields.all_of, fields.threshold)?;
        if let Group::AnyOf { members, threshold } = &signers
            && *threshold > 1
            && members
                .iter()
                .any(|member| matches!(member, Member::Group(_)))
        {
            return Err(
                "`threshold` counts single signers; it cannot be combined with groups".to_owned(),
            );
        }
        Ok(Signature {
            signers,
            annotations: fields.annotations,
        })
    }
}

impl TryFrom<MemberFields> for Member {
    type Error = String;

    fn try_from(fields: MemberFields) -> Result<Member, String> {
        match fields {
            MemberFields {
                keyless,
                key,
                any_of: None,
                all_of: None,
                threshold: None,
            } => AcceptedSigner::one_of(keyless, key).map(Member::One),
            MemberFields {
                keyless: None,
                key: None,
                any_of,
                all_of,
                threshold,
            } => Group::from_fields(any_of, all_of, threshold).map(Member::Group),
            _ => Err(
                "a signer is either one of `keyless` and `key`, or a group `anyOf` or `allOf`"
                    .to_owned(),
            ),
        }
    }
}

impl<T> Group<T> {
    fn from_fields(
        any_of: Option<Vec<T>>,
        all_of: Option<Vec<T>>,
        threshold: Option<u32>,
    ) -> Result<Group<T>, String> {
        match (any_of, all_of, threshold) {
            (Some(members), _, _) | (None, Some(members), _) if members.is_empty() => {
                Err("the list of signers is empty, so no signature can be accepted".to_owned())
            }
            (Some(_), None, Some(0)) => {
                Err("`threshold: 0` would accept an unsigned image; the minimum is 1".to_owned())
            }
            (Some(members), None, threshold) => Ok(Group::AnyOf {
                members,
                threshold: usize::try_from(threshold.unwrap_or(1)).unwrap_or(usize::MAX),
            }),
            (None, Some(members), None) => Ok(Group::AllOf(members)),
            (None, Some(_), Some(_)) => Err(
                "`threshold` belongs to `anyOf`; `allOf` already requires every signer".to_owned(),
            ),
            (Some(_), Some(_), _) | (None, None, _) => {
                Err("expected exactly one of `anyOf` and `allOf`".to_owned())
            }
        }
    }

    fn members(&self) -> &[T] {
        match self {
            Group::AnyOf { members, .. } | Group::AllOf(members) => members,
        }
    }
}

impl Rule for Signature {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn needs(&self, world: &World) -> Needs<'_> {
        Needs::under(self.accepted(), &world.trust_roots)
    }

    fn warnings(&self) -> Vec<String> {
        let ways = self.ways();
        let never = ways.iter().filter_map(|way| never_filled(way));
        let alone = ways
            .iter()
            .flatten()
            .filter_map(Wanted::filled_by_one_pattern);
        never.chain(alone).collect()
    }
}

impl ImageRule for Signature {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let evidence = match readable(check) {
            Ok(evidence) => evidence,
            Err(undecided) => return undecided,
        };
        let usable: Vec<_> = evidence
            .signatures
            .iter()
            .map(|(_, signature)| &**signature)
            .filter(|signature| self.usable(signature, check.promotion.at).is_ok())
            .collect();
        let roots = &check.world.trust_roots;
        let ways = self.ways();
        // 1. A way with one seat needs one fitting signature, so distinct signers need not be told apart.
        let by_one = ways.iter().find_map(|way| match way.as_slice() {
            [wanted] if wanted.count == 1 => {
                let fits = usable.iter().filter(|made| wanted.fits(made, roots));
                fits.map(|made| made.signer()).min_by_key(|by| by.name())
            }
            _ => None,
        });
        if let Some(signer) = by_one {
            return Judgement::pass(SIGNED, sentence(format_args!("signed by {signer}")));
        }
        // 2. A way with several seats counts each distinct signer once: one signer must not fill two seats.
        let present = SignersPresent::new(&usable, roots);
        let ways: Vec<_> = ways.iter().map(|way| present.take_seats(way)).collect();
        if let Some(met) = ways.iter().find(|way| way.missing() == 0) {
            let signers: Vec<_> = met.seated().map(|signer| present.name(signer)).collect();
            return Judgement::pass(SIGNED, format!("signed by {}", signers.join(" and ")));
        }
        // 3. A denial is certain only if all evidence was read.
        unless_partial(self.explain_denial(evidence, &present, &ways, check), check)
    }
}

impl Signature {
    /// Every signer that the policy names.
    fn accepted(&self) -> impl Iterator<Item = &AcceptedSigner> {
        self.signers
            .members()
            .iter()
            .flat_map(|member| match member {
                Member::One(signer) => std::slice::from_ref(signer),
                Member::Group(group) => group.members(),
            })
    }

    /// Whether a verified signature can count, before its signer is looked at: its form, its time and its annotations.
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
                    "the signature is of the manifest as a file, which is not a cosign signature of an image"
                        .to_owned(),
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
                        format!("the annotation `{key}` is `{actual}`, not `{expected}`"),
                    ));
                }
                None => {
                    return Err((
                        ANNOTATION_MISSING,
                        format!("the signature lacks the annotation `{key}`"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The ways to meet the requirement, each a list of seats. The requirement is met if all seats of one way are filled.
    fn ways(&self) -> Vec<Vec<Wanted<'_>>> {
        match &self.signers {
            Group::AllOf(members) => {
                let seats = members.iter().flat_map(|member| match member {
                    Member::One(signer) => vec![Wanted::one(signer)],
                    Member::Group(group) => group.seats(),
                });
                vec![seats.collect()]
            }
            Group::AnyOf { members, threshold } => {
                let (mut singles, mut ways) = (Vec::new(), Vec::new());
                for member in members {
                    match member {
                        Member::One(signer) => singles.push(signer),
                        // A threshold counts single signers; beside groups it is 1.
                        Member::Group(group) => ways.push(group.seats()),
                    }
                }
                if !singles.is_empty() {
                    let wanted = Wanted {
                        count: *threshold,
                        signers: singles,
                    };
                    ways.insert(0, vec![wanted]);
                }
                ways
            }
        }
    }

    fn explain_denial(
        &self,
        evidence: &ImageEvidence,
        present: &SignersPresent<'_>,
        ways: &[Seating<'_>],
        check: &ImageCheck<'_>,
    ) -> Judgement {
        if !present.signatures.is_empty() {
            return self.explain_signers(present, ways, check);
        }
        let wanted = self.accepted_signers();
        let (subject, look) = (check.name(), check.look());
        let unusable = evidence.signatures.iter().filter_map(|(_, signature)| {
            let why = self.usable(signature, check.promotion.at).err()?;
            Some((why, signature.signer().to_string()))
        });
        if let Some(((reason, why), signer)) = unusable.min() {
            return Judgement::fail(reason, format!("signed by {signer}, but {why}")).hint(look);
        }
        if let Some((_, why)) = evidence.unaccepted_as(Form::Signature) {
            let also = evidence.first_statement().map(|statement| {
                let kind = statement.predicate_type();
                format!(
                    "; the image also carries an attestation (`{kind}`), which is not a signature"
                )
            });
            return Judgement::fail(SIGNATURE_UNACCEPTED, why + &also.unwrap_or_default())
                .hint(format!("accepted signers: {wanted}; {look}"));
        }
        if let Some(statement) = evidence.first_statement() {
            return Judgement::fail(
                NOT_A_SIGNATURE,
                format!(
                    "the image carries an attestation (`{}`) by {}, but not a signature",
                    statement.predicate_type(),
                    statement.signer()
                ),
            )
            .hint(format!("sign the image with `cosign sign --yes {subject}`"));
        }
        let by_keys = self
            .accepted()
            .all(|it| matches!(it, AcceptedSigner::Key(_)));
        let sign = match by_keys {
            true => format!(
                "sign the image with `cosign sign --yes --key KEY {subject}`, with the private key of {wanted} (SHA-256 of the public key in DER)"
            ),
            false => format!("sign the image with `cosign sign --yes {subject}` as {wanted}"),
        };
        let reason = match evidence.instead_of(Form::Signature) {
            Some(_) => NOT_A_SIGNATURE,
            None => UNSIGNED,
        };
        Judgement::fail(reason, check.none_of("signature", Form::Signature))
            .hint(check.nothing_attached(sign))
    }

    /// Why the usable signatures do not fill the seats of any way.
    fn explain_signers(
        &self,
        present: &SignersPresent<'_>,
        ways: &[Seating<'_>],
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let usable = present.signatures;
        let signers: BTreeSet<_> = usable
            .iter()
            .map(|signature| signature.signer().to_string())
            .collect();
        let (noun, verb) = match signers.len() {
            1 => ("signer", "is"),
            _ => ("signers", "are"),
        };
        let by = listed(signers, 3);
        let roots = &check.world.trust_roots;
        let transparency = usable.iter().any(|signature| {
            self.accepted()
                .any(|signer| signer.signed(signature, roots) == Err(Mismatch::Transparency))
        });
        if transparency {
            let ignored = ignored(usable.iter().map(|signature| &***signature));
            let detail = format!(
                "signed by {by}, but without the log entry or timestamp that the policy requires{ignored}"
            );
            return Judgement::fail(NOT_TRANSPARENT_ENOUGH, detail).hint(check.look());
        }
        let wanted = self.accepted_signers();
        // The way with the fewest missing signers is the easiest to complete.
        let nearest = ways.iter().filter(|way| way.seated().next().is_some());
        if let Some(nearest) = nearest.min_by_key(|way| way.missing()) {
            return Judgement::fail(TOO_FEW_SIGNERS, nearest.too_few(present)).hint(format!(
                "each signer counts once; accepted signers: {wanted}"
            ));
        }
        let detail = format!("{noun} {by} {verb} not accepted by this policy");
        Judgement::fail(SIGNER_NOT_ACCEPTED, detail).hint(format!("accepted signers: {wanted}"))
    }

    fn accepted_signers(&self) -> String {
        listed(self.accepted().map(ToString::to_string), 4)
    }
}
