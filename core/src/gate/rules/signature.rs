//! `signature`: a verified cosign signature, as a signature, by accepted signers.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{
    NOT_TRANSPARENT_ENOUGH, SIGNED_IN_THE_FUTURE, ignored, in_time, listed, readable,
    unless_partial,
};
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Rule, Scope, World,
};
use crate::attest::{SignatureForm, VerifiedSignature};
use crate::gate::distinct::first_of_each;
use crate::gate::evidence::{Form, ImageEvidence};
use crate::gate::seats::{Seats, fill};
use crate::gate::signer::{AcceptedSigner, KeySigner, KeylessSigner, Mismatch, TrustRoots};
use crate::reason::{Reason, reasons};

/// **What it requires**: the image carries a verified cosign signature, *as a signature* (a bundle with the predicate type
/// `https://sigstore.dev/cosign/sign/v1`, or a simplesigning payload of cosign or of Tekton Chains), by accepted signers: `anyOf` them (or `threshold`
/// different ones), or `allOf` them.
///
/// **Why**: a digest says which image it is; only a signature says that the right pipeline made it. An attestation by the
/// same identity (a scan, a provenance) is not a signature.
///
/// **Who is one signer**: each signer fills one seat, also across the groups of an `allOf`, and whatever can be one signer is one:
/// a workflow (repository and file) whatever its ref, in any spelling, also after its repository was renamed; an e-mail address in
/// any case, with or without a `+tag`, whoever issued it; an account whose address changed; a key in any encoding, and with the
/// certificate that was issued for it. A reusable workflow is the signer, not the workflow that calls it.
///
/// **Example**:
/// `- signature: {anyOf: [{keyless: {issuer: "https://token.actions.githubusercontent.com", identity: {glob: "https://github.com/example/*/.github/workflows/release.yml@refs/tags/v*"}}}]}`
///
/// **How to satisfy it**: `cosign sign IMAGE@DIGEST` in the pipeline that the policy names.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "SignatureFields")]
#[schemars(with = "SignatureFields")]
pub struct Signature {
    signers: Group<Member>,
    annotations: BTreeMap<String, String>,
}

/// The rule, field by field.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.anyOf) != has(self.allOf)", "message": "expected exactly one of `anyOf` and `allOf`"},
    {"rule": "!has(self.threshold) || has(self.anyOf)", "message": "`threshold` belongs to `anyOf`"},
]))]
struct SignatureFields {
    /// Accepted signers; one of them, or `threshold` different ones, must have signed.
    any_of: Option<Vec<Member>>,
    /// Signers that must all have signed, each a different one.
    all_of: Option<Vec<Member>>,
    /// How many different signers of `anyOf` must have signed; 1 when absent.
    #[schemars(range(min = 1))]
    threshold: Option<u32>,
    /// Annotations that the signature itself must carry (`cosign sign -a key=value`).
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

/// A signer or a group, field by field.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MemberFields {
    /// A certificate identity issued by Fulcio.
    keyless: Option<KeylessSigner>,
    /// A managed key.
    key: Option<KeySigner>,
    /// One of these, or `threshold` different ones.
    any_of: Option<Vec<AcceptedSigner>>,
    /// All of these, each a different one.
    all_of: Option<Vec<AcceptedSigner>>,
    /// How many different signers of `anyOf`; 1 when absent.
    #[schemars(range(min = 1))]
    threshold: Option<u32>,
}

/// Who has to sign.
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
        "Sign it in the pipeline that the policy names: `cosign sign IMAGE@DIGEST`. If the digest is that of one platform of an index, name the index's digest.";
    SIGNATURE_UNACCEPTED = "signature-unaccepted",
        "Something is attached, but it could not be verified; the detail says why.",
        "`promotion-gate evidence IMAGE` shows each piece with its own reason; `promotion-gate explain REASON` explains it.";
    SIGNER_NOT_ACCEPTED = "signer-not-accepted",
        "The image is signed soundly, but by nobody whom the policy accepts.",
        "Sign it with an accepted identity or key, or have the signer added to the policy.";
    TOO_FEW_SIGNERS = "too-few-signers",
        "Accepted signers have signed, but not all or not as many different ones as the policy asks for. Each counts once: a workflow whatever its ref, an e-mail address whatever its spelling or issuer.",
        "Have the others sign too; the detail says which signers are one, and whose signature is missing.";
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
        let signers = Group::of(fields.any_of, fields.all_of, fields.threshold)?;
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
            } => Group::of(any_of, all_of, threshold).map(Member::Group),
            _ => Err(
                "a signer is either one of `keyless` and `key`, or a group `anyOf` or `allOf`"
                    .to_owned(),
            ),
        }
    }
}

impl<T> Group<T> {
    fn of(
        any_of: Option<Vec<T>>,
        all_of: Option<Vec<T>>,
        threshold: Option<u32>,
    ) -> Result<Group<T>, String> {
        match (any_of, all_of, threshold) {
            (Some(members), _, _) | (None, Some(members), _) if members.is_empty() => {
                Err("the list of signers is empty: nobody could sign".to_owned())
            }
            (Some(_), None, Some(0)) => {
                Err("`threshold: 0` would accept an unsigned image; the least is 1".to_owned())
            }
            (Some(members), None, threshold) => Ok(Group::AnyOf {
                members,
                threshold: usize::try_from(threshold.unwrap_or(1)).unwrap_or(usize::MAX),
            }),
            (None, Some(members), None) => Ok(Group::AllOf(members)),
            (None, Some(_), Some(_)) => Err(
                "`threshold` belongs to `anyOf`; `allOf` already asks for every signer".to_owned(),
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

    fn needs(&self, world: &World) -> Needs {
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
        // Who is the same as whom matters only where there are several seats.
        let by_one = ways.iter().find_map(|way| match way.as_slice() {
            [wanted] if wanted.count == 1 => {
                let fits = usable.iter().filter(|made| wanted.fits(made, roots));
                fits.map(|made| made.signer().to_string()).min()
            }
            _ => None,
        });
        if let Some(signer) = by_one {
            return Judgement::pass(SIGNED, format!("signed by {signer}"));
        }
        let present = Present::of(&usable, roots);
        let ways: Vec<_> = ways.iter().map(|way| present.take_seats(way)).collect();
        if let Some(met) = ways.iter().find(|way| way.missing() == 0) {
            let signers: Vec<_> = met.sitting().map(|who| present.shown(who)).collect();
            return Judgement::pass(SIGNED, format!("signed by {}", signers.join(" and ")));
        }
        unless_partial(self.explain(evidence, &present, &ways, check), check)
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

    /// The ways to meet the requirement. Of one of them every seat has to be filled.
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

    fn explain(
        &self,
        evidence: &ImageEvidence,
        present: &Present<'_>,
        ways: &[Seating<'_>],
        check: &ImageCheck<'_>,
    ) -> Judgement {
        let usable = present.signatures;
        let wanted = listed(self.accepted().map(ToString::to_string), 4);
        let subject = check.name();
        let look = format!("see everything found with `promotion-gate evidence {subject}`");
        if !usable.is_empty() {
            let by: BTreeSet<_> = usable
                .iter()
                .map(|signature| signature.signer().to_string())
                .collect();
            let by = listed(by, 3);
            let transparency = usable.iter().any(|signature| {
                self.accepted().any(|signer| {
                    signer.signed(signature, &check.world.trust_roots)
                        == Err(Mismatch::Transparency)
                })
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
            // The way of which the least is missing is the one worth explaining.
            let nearest = ways.iter().filter(|way| way.sitting().next().is_some());
            if let Some(nearest) = nearest.min_by_key(|way| way.missing()) {
                return Judgement::fail(TOO_FEW_SIGNERS, nearest.too_few(present))
                    .hint(format!("each signer counts once; accepted are {wanted}"));
            }
            return Judgement::fail(
                SIGNER_NOT_ACCEPTED,
                format!("signed by {}, who is not accepted", by),
            )
            .hint(format!("accepted are {wanted}"));
        }
        let unusable = evidence.signatures.iter().find_map(|(_, signature)| {
            self.usable(signature, check.promotion.at)
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
        Judgement::fail(reason, check.none_of("signature", Form::Signature))
            .hint(check.nothing_attached(sign))
    }
}

/// So many different signers of these.
#[derive(Debug)]
struct Wanted<'a> {
    count: usize,
    signers: Vec<&'a AcceptedSigner>,
}

impl Wanted<'_> {
    fn one(signer: &AcceptedSigner) -> Wanted<'_> {
        Wanted {
            count: 1,
            signers: vec![signer],
        }
    }

    fn fits(&self, signature: &VerifiedSignature, roots: &TrustRoots) -> bool {
        let mut signers = self.signers.iter();
        signers.any(|signer| signer.signed(signature, roots).is_ok())
    }

    /// Several seats that the signers of one pattern can fill without anybody whom the other entries name.
    fn filled_by_one_pattern(&self) -> Option<String> {
        let count = self.count;
        let mut patterns = self.signers.iter().filter(|_| count > 1);
        let pattern = patterns.find(|signer| signer.only().is_none())?;
        Some(format!(
            "`threshold: {count}` is reached by any {count} different signers that {pattern} matches; where each of several signers is to sign, write `allOf`"
        ))
    }
}

/// Why a requirement can never be met in this way: more different signers are asked for than its entries can be.
fn never_filled(way: &[Wanted<'_>]) -> Option<String> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut bounded = Vec::new();
    for wanted in way {
        let only: Option<Vec<_>> = wanted.signers.iter().map(|signer| signer.only()).collect();
        // A pattern that matches many signers always finds one more.
        let Some(only) = only else { continue };
        let number = |name| {
            let next = numbers.len();
            *numbers.entry(name).or_insert(next)
        };
        let seats = Seats {
            count: wanted.count,
            open_to: only.into_iter().map(number).collect(),
        };
        bounded.push((wanted, seats));
    }
    let seats: Vec<_> = bounded.iter().map(|(_, seats)| seats.clone()).collect();
    let filled = fill(&seats);
    let mut open = bounded.iter().zip(&filled);
    let ((wanted, seats), _) = open.find(|((_, seats), filled)| filled.len() < seats.count)?;
    let asked = seats.count;
    let of = listed(wanted.signers.iter().map(ToString::to_string), 3);
    let can_be = match (asked, seats.open_to.len()) {
        (1, _) => "whom another entry asks for already".to_owned(),
        (_, 1) => "who can only be one".to_owned(),
        (_, most) => format!("who can only be {most}, or are asked for elsewhere too"),
    };
    Some(format!(
        "this can never be met: it asks for {asked} different of {of}, {can_be}; a workflow is one signer whatever its ref, an e-mail address whatever its spelling or issuer"
    ))
}

impl Group<AcceptedSigner> {
    fn seats(&self) -> Vec<Wanted<'_>> {
        match self {
            Group::AnyOf { members, threshold } => vec![Wanted {
                count: *threshold,
                signers: members.iter().collect(),
            }],
            Group::AllOf(members) => members.iter().map(Wanted::one).collect(),
        }
    }
}

/// The usable signatures, and who made them.
struct Present<'a> {
    signatures: &'a [&'a VerifiedSignature],
    roots: &'a TrustRoots,
    /// Of each signature the signer, as its place among `names`.
    signer: Vec<usize>,
    /// Every distinct signer, by all names under which it signed.
    names: Vec<BTreeSet<String>>,
}

impl<'a> Present<'a> {
    fn of(signatures: &'a [&'a VerifiedSignature], roots: &'a TrustRoots) -> Present<'a> {
        let signers = signatures.iter().map(|signature| signature.signer());
        let first = first_of_each(signers.clone());
        let mut all: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for (first, signer) in first.iter().zip(signers) {
            all.entry(*first).or_default().insert(signer.to_string());
        }
        // In the order of their names: that of the signatures must not matter.
        let mut ordered: Vec<_> = all
            .into_iter()
            .map(|(first, names)| (names, first))
            .collect();
        ordered.sort();
        let places = ordered.iter().enumerate();
        let places: BTreeMap<_, _> = places.map(|(at, (_, first))| (*first, at)).collect();
        let place = |first| places.get(first).copied();
        Present {
            signatures,
            roots,
            signer: first.iter().filter_map(place).collect(),
            names: ordered.into_iter().map(|(names, _)| names).collect(),
        }
    }

    fn take_seats(&self, way: &[Wanted<'a>]) -> Seating<'a> {
        let seats = way.iter().map(|wanted| {
            let made = self.signatures.iter().zip(&self.signer);
            let fits = made.filter(|(signature, _)| wanted.fits(signature, self.roots));
            Seats {
                count: wanted.count,
                open_to: fits.map(|(_, signer)| *signer).collect(),
            }
        });
        let seats: Vec<_> = seats.collect();
        let filled = fill(&seats);
        let wanted = way.iter().map(|wanted| wanted.signers.clone());
        let each = wanted.zip(seats).zip(filled);
        Seating(
            each.map(|((signers, seats), filled)| (signers, seats, filled))
                .collect(),
        )
    }

    fn shown(&self, who: usize) -> String {
        let names = self.names.get(who);
        names.and_then(BTreeSet::first).cloned().unwrap_or_default()
    }
}

/// Who sits where, if the requirement is to be met in one of its ways.
struct Seating<'a>(Vec<(Vec<&'a AcceptedSigner>, Seats, BTreeSet<usize>)>);

impl Seating<'_> {
    fn missing(&self) -> usize {
        let missing = self
            .0
            .iter()
            .map(|(_, seats, filled)| seats.count - filled.len());
        missing.fold(0, usize::saturating_add)
    }

    fn sitting(&self) -> impl Iterator<Item = usize> {
        let sitting = self.0.iter().flat_map(|(_, _, filled)| filled);
        sitting.copied().collect::<BTreeSet<_>>().into_iter()
    }

    /// Who has signed, who of them counts once only, and which seats stay open.
    fn too_few(&self, present: &Present<'_>) -> String {
        let signed = self.sitting().count();
        let all = self.missing().saturating_add(signed);
        let by = listed(self.sitting().map(|who| present.shown(who)), 3);
        let counted = self.sitting().filter_map(|who| present.names.get(who));
        let as_one = counted
            .filter(|names| names.len() > 1)
            .take(2)
            .map(|names| format!("; {} are one signer", listed(names.iter().cloned(), 3)));
        let as_one: String = as_one.collect();
        let open = self
            .0
            .iter()
            .filter(|(_, seats, filled)| filled.len() < seats.count);
        let open = open.map(|(signers, seats, filled)| {
            let more = seats.count - filled.len();
            let of = listed(signers.iter().map(ToString::to_string), 3);
            let elsewhere = match seats.open_to.len() > filled.len() {
                true => ", besides those who are counted already",
                false => "",
            };
            match signers.as_slice() {
                [_] if seats.count == 1 => format!("{of}{elsewhere}"),
                _ => format!("{more} of {of}{elsewhere}"),
            }
        });
        format!(
            "{signed} of {all} different signers have signed, {by}{as_one}; missing: {}",
            listed(open, 3)
        )
    }
}
