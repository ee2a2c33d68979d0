//! The evidence that was collected for one review. [`Collected`] separates what is known to be absent from what is not known.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::attest::unaccepted::{
    BAD_SIGNATURE, OTHER_KIND_OF_SIGNER, TOO_LARGE, UNREADABLE, UNSIGNED_STATEMENT,
    UNTRUSTED_CERTIFICATE,
};
use crate::attest::{UnacceptedReason, VerifiedSignature, VerifiedStatement};

use super::emergency::IncidentAnswers;
use super::image::{Digest, Repository};
use super::platform::Index;

/// The result of asking for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collected<T> {
    /// The complete answer.
    Known(T),
    /// A part of the answer, and why the rest is missing.
    Partial(T, Vec<Unavailability>),
    /// No answer, and why.
    Unavailable(Unavailability),
}

impl<T> Collected<T> {
    /// The answer, complete or not.
    pub fn value(&self) -> Option<&T> {
        match self {
            Collected::Known(value) | Collected::Partial(value, _) => Some(value),
            Collected::Unavailable(_) => None,
        }
    }

    /// The answer, if it is complete.
    pub fn complete(&self) -> Option<&T> {
        match self {
            Collected::Known(value) => Some(value),
            Collected::Partial(..) | Collected::Unavailable(_) => None,
        }
    }

    /// Why the answer is incomplete; empty for a complete answer.
    pub fn unavailabilities(&self) -> &[Unavailability] {
        match self {
            Collected::Known(_) => &[],
            Collected::Partial(_, unavailabilities) => unavailabilities,
            Collected::Unavailable(unavailability) => std::slice::from_ref(unavailability),
        }
    }
}

impl<T> Collected<Arc<T>> {
    fn borrowed(&self) -> Collected<&T> {
        match self {
            Collected::Known(value) => Collected::Known(value),
            Collected::Partial(value, unavailabilities) => {
                Collected::Partial(value, unavailabilities.clone())
            }
            Collected::Unavailable(unavailability) => {
                Collected::Unavailable(unavailability.clone())
            }
        }
    }
}

/// Why something could not be learned. The sentence names the host that was asked and what was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unavailability(pub String);

impl fmt::Display for Unavailability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The subject of evidence: a digest within a repository. The same digest in another repository may carry other evidence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// The repository that holds the image.
    pub repository: Repository,
    /// The digest of the image or index.
    pub digest: Digest,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

/// How evidence that was not read could change the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// More evidence can only turn a denial into a pass, so a pass on a partial reading stands.
    OnlyHelps,
    /// More evidence can turn a pass into a denial, so the outcome on a partial reading is undecided.
    CanHurt,
}

/// Everything collected for one review.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The evidence of each image. A subject that is missing here was not asked for.
    pub images: BTreeMap<Subject, Collected<Arc<ImageEvidence>>>,
    /// For rules that unseen evidence could hurt: the evidence together with statements that were attached earlier and are not any
    /// more. A subject that is missing here has none.
    pub with_earlier: BTreeMap<Subject, Collected<Arc<ImageEvidence>>>,
    /// For evidence of which only the listing failed: how long ago all of it was listed. What was listed then is part of it. A
    /// subject that is missing here was never listed in full, or some of what was listed could not be read.
    pub last_listed: BTreeMap<Subject, Duration>,
    /// For each image whose platforms were asked for, its index; `None` if the image is not an index. A subject that is missing
    /// here was not asked for.
    pub indexes: BTreeMap<Subject, Collected<Option<Index>>>,
    /// For images without evidence, an index that lists the image, if one is known.
    pub within: BTreeMap<Subject, Digest>,
    /// What incident checks answered about the incidents that emergency changes name. A question that is missing here was not asked.
    pub incidents: IncidentAnswers,
}

impl Evidence {
    /// Adds evidence that was gathered later: of a subject that was read again, the later reading counts.
    pub fn add(&mut self, later: Evidence) {
        let Evidence {
            images,
            with_earlier,
            last_listed,
            indexes,
            within,
            incidents,
        } = later;
        for subject in images.keys() {
            self.with_earlier.remove(subject);
            self.last_listed.remove(subject);
        }
        self.images.extend(images);
        self.with_earlier.extend(with_earlier);
        self.last_listed.extend(last_listed);
        self.indexes.extend(indexes);
        self.within.extend(within);
        self.incidents.extend(incidents);
    }

    /// The index that a subject names; `None` if it is not an index. A subject that was not asked for is unavailable.
    pub fn index(&self, subject: &Subject) -> Collected<Option<Index>> {
        self.indexes.get(subject).cloned().unwrap_or_else(|| {
            Collected::Unavailable(Unavailability(format!(
                "the platforms of `{subject}` were not asked for"
            )))
        })
    }

    /// The evidence of a subject. A subject that was not asked for is unavailable, not empty.
    pub fn about(&self, subject: &Subject) -> Collected<&ImageEvidence> {
        match self.images.get(subject) {
            Some(collected) => collected.borrowed(),
            None => Collected::Unavailable(Unavailability(format!(
                "the evidence of `{subject}` was not asked for"
            ))),
        }
    }

    /// The evidence of a subject for a rule with this effect.
    pub fn for_effect(&self, subject: &Subject, effect: Effect) -> Collected<&ImageEvidence> {
        match (effect, self.with_earlier.get(subject)) {
            (Effect::CanHurt, Some(collected)) => collected.borrowed(),
            _ => self.about(subject),
        }
    }

    /// How many entries of reports rules go through.
    pub(super) fn entries(&self) -> usize {
        let of_images = self.images.values().chain(self.with_earlier.values());
        let statements = of_images
            .filter_map(Collected::value)
            .flat_map(|it| &it.statements);
        statements.map(|(_, it)| it.predicate().entries()).sum()
    }

    /// The evidence of a subject, for all rules.
    pub(super) fn of(&self, subject: Subject) -> SubjectEvidence<'_> {
        let with_earlier = self.with_earlier.get(&subject);
        SubjectEvidence {
            attached: self.about(&subject),
            with_earlier: with_earlier.map(Collected::borrowed),
            last_listed: self.last_listed.get(&subject).copied(),
            subject: Some(subject),
        }
    }
}

/// The evidence of one subject, looked up once for all rules.
#[derive(Clone, Debug)]
pub(super) struct SubjectEvidence<'e> {
    /// `None` if the digest of the image is not known.
    pub(super) subject: Option<Subject>,
    attached: Collected<&'e ImageEvidence>,
    with_earlier: Option<Collected<&'e ImageEvidence>>,
    /// See [`Evidence::last_listed`].
    pub(super) last_listed: Option<Duration>,
}

impl<'e> SubjectEvidence<'e> {
    /// That of an image whose digest is not known.
    pub(super) fn unavailable(why: Unavailability) -> SubjectEvidence<'e> {
        SubjectEvidence {
            subject: None,
            attached: Collected::Unavailable(why),
            with_earlier: None,
            last_listed: None,
        }
    }

    /// See [`Evidence::for_effect`].
    pub(super) fn for_effect(&self, effect: Effect) -> &Collected<&'e ImageEvidence> {
        match (effect, &self.with_earlier) {
            (Effect::CanHurt, Some(collected)) => collected,
            _ => &self.attached,
        }
    }

    /// The number of statements that count for a rule with this effect and are not attached any more.
    pub(super) fn earlier(&self, effect: Effect) -> usize {
        let count = |it: &Collected<&ImageEvidence>| it.value().map_or(0, |it| it.statements.len());
        count(self.for_effect(effect)).saturating_sub(count(&self.attached))
    }
}

/// The evidence that is attached to one image: verified signatures and statements, and what was not accepted.
#[derive(Clone, Debug, Default)]
pub struct ImageEvidence {
    /// Verified signatures, each with where it was found.
    pub signatures: Vec<(EvidenceSource, Arc<VerifiedSignature>)>,
    /// Verified statements, each with where it was found.
    pub statements: Vec<(EvidenceSource, Arc<VerifiedStatement>)>,
    /// Attached, but not accepted under any of the anchors.
    pub unaccepted: Vec<UnacceptedEvidence>,
    /// Attached, but of a type that is not evidence (an SBOM, a build cache): the number of each type.
    pub others: BTreeMap<String, usize>,
    /// Places where evidence could be, but that the registry does not seem to support (the answer was not a registry's). Such an
    /// answer does not prove that evidence is absent, and asking again does not help.
    pub unsupported: Vec<Unavailability>,
    /// Why the registry seems to lack the referrers API. Clients attach by tags there, so that this hides no evidence.
    pub without_referrers: Vec<Unavailability>,
    /// The second repository that holds evidence of the image, in which approvers may write.
    pub second_repository: Option<Repository>,
}

/// An attached piece of evidence that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnacceptedEvidence {
    /// The place where it was found.
    pub source: EvidenceSource,
    /// The form that it would have.
    pub form: Form,
    /// Why it is not accepted.
    pub why: UnacceptedReason,
}

/// The form of a piece of evidence, as far as the place where it was found shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// A signature.
    Signature,
    /// A statement.
    Statement,
    /// The place does not show the form.
    Either,
}

/// The most pieces of evidence that one sentence names.
const NAMED: usize = 3;

impl ImageEvidence {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.signatures.is_empty()
            && self.statements.is_empty()
            && self.unaccepted.is_empty()
            && self.others.is_empty()
    }

    /// A place where evidence could be and that the registry does not seem to support.
    pub(super) fn first_unsupported(&self) -> Option<&Unavailability> {
        self.unsupported.iter().chain(&self.without_referrers).min()
    }

    /// The statement that a sentence names if there are several, whatever their order.
    pub(super) fn first_statement(&self) -> Option<&VerifiedStatement> {
        let statements = self.statements.iter().map(|(_, statement)| &**statement);
        statements.min_by_key(|it| (it.predicate_type(), it.signer().name()))
    }

    /// The most informative refusal among the unaccepted evidence that may be of this form, and a sentence with it and the number
    /// of the others.
    pub fn unaccepted_as(&self, form: Form) -> Option<(UnacceptedReason, String)> {
        let candidates: Vec<_> = self.refused_as(form).collect();
        let first = candidates.iter().min_by_key(|it| (rank(it), **it))?;
        Some((first.why.clone(), refusal(first, candidates.len())))
    }

    /// The same for the evidence that may be of this form and is too large to be read, so that it is not known what it says.
    pub(super) fn too_large_as(&self, form: Form) -> Option<String> {
        let large = self.refused_as(form);
        let large = large.filter(|refused| refused.why.reason == TOO_LARGE);
        let large: Vec<_> = large.collect();
        Some(refusal(large.iter().min()?, large.len()))
    }

    /// The unaccepted statement that may be the one that is missing, as the end of a sentence; empty if there is none. Statements without a
    /// signature, and those of a signer or trust root that no policy names, are left out.
    pub(super) fn also_attached(&self) -> String {
        let of_others = [
            BAD_SIGNATURE,
            OTHER_KIND_OF_SIGNER,
            UNREADABLE,
            UNSIGNED_STATEMENT,
            UNTRUSTED_CERTIFICATE,
        ];
        let refused = self.refused_as(Form::Statement);
        let refused = refused.filter(|it| !of_others.contains(&it.why.reason));
        let refused: Vec<_> = refused.collect();
        let first = refused.iter().min_by_key(|it| (rank(it), **it));
        first.map_or_else(String::new, |first| {
            format!("; also attached: {}", refusal(first, refused.len()))
        })
    }

    fn refused_as(&self, form: Form) -> impl Iterator<Item = &UnacceptedEvidence> {
        let each = self.unaccepted.iter();
        each.filter(move |refused| refused.form == form || refused.form == Form::Either)
    }

    /// The attached evidence of other forms, accepted or not, as a list of at most three and the number of the others.
    /// `None` if there is none.
    pub fn instead_of(&self, form: Form) -> Option<String> {
        let mut named = Vec::new();
        if form != Form::Signature {
            let each = self.signatures.iter();
            named.extend(each.map(|(_, it)| format!("a signature by {}", it.signer())));
        }
        let each = self.statements.iter();
        named.extend(each.map(|(_, it)| {
            let kind = it.predicate_type();
            format!("an attestation (`{kind:.100}`) by {}", it.signer())
        }));
        let unaccepted = self.unaccepted.iter();
        let others = unaccepted.filter(|it| it.form != form && it.form != Form::Either);
        named.extend(others.map(|it| format!("{}, which is not accepted: {}", it.source, it.why)));
        named.extend(self.others.iter().map(|(kind, count)| match count {
            1 => format!("an artifact `{kind}`"),
            many => format!("{many} artifacts `{kind}`"),
        }));
        named.sort();
        named.dedup();
        let more = named.len().saturating_sub(NAMED);
        named.truncate(NAMED);
        match (named.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(named.join(", ")),
            (false, more) => Some(format!("{} (and {more} more)", named.join(", "))),
        }
    }
}

/// A sentence about the first of so many pieces.
fn refusal(first: &UnacceptedEvidence, count: usize) -> String {
    let more = match count.saturating_sub(1) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!("{} is not accepted: {}{more}", first.source, first.why)
}

fn rank(refused: &UnacceptedEvidence) -> usize {
    match (refused.why.reason, refused.form) {
        (UNREADABLE | UNSIGNED_STATEMENT, _) => 2,
        (_, Form::Either) => 1,
        _ => 0,
    }
}

/// The place where a piece of evidence was found, such as ``referrer `sha256:…` ``.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvidenceSource(pub String);

impl fmt::Display for EvidenceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::attest::unaccepted::WRONG_SUBJECT;

    use super::*;

    fn refused(source: &str, form: Form, why: crate::reason::Reason) -> UnacceptedEvidence {
        UnacceptedEvidence {
            source: EvidenceSource(source.to_owned()),
            form,
            why: UnacceptedReason::new(why, "no"),
        }
    }

    #[test]
    fn the_most_telling_unaccepted_evidence_is_named_first() {
        let evidence = ImageEvidence {
            unaccepted: vec![
                refused("a", Form::Either, UNREADABLE),
                refused("b", Form::Either, BAD_SIGNATURE),
                refused("c", Form::Signature, WRONG_SUBJECT),
                refused("d", Form::Statement, WRONG_SUBJECT),
                refused("e", Form::Statement, UNSIGNED_STATEMENT),
            ],
            ..ImageEvidence::default()
        };
        let said =
            |evidence: &ImageEvidence, form| evidence.unaccepted_as(form).map(|(_, text)| text);
        assert_eq!(
            said(&evidence, Form::Signature).unwrap(),
            "c is not accepted: no (wrong-subject) (and 2 more)"
        );
        assert_eq!(
            said(&evidence, Form::Statement).unwrap(),
            "d is not accepted: no (wrong-subject) (and 3 more)"
        );

        let unsure = |unaccepted| ImageEvidence {
            unaccepted,
            ..ImageEvidence::default()
        };
        let of_either = unsure(vec![
            refused("a", Form::Either, UNREADABLE),
            refused("b", Form::Either, BAD_SIGNATURE),
        ]);
        for form in [Form::Signature, Form::Statement] {
            let text = said(&of_either, form).unwrap();
            assert!(
                text.starts_with("b is not accepted: no (bad-signature)"),
                "{text}"
            );
        }
        let of_none = unsure(vec![
            refused("a", Form::Either, UNREADABLE),
            refused("e", Form::Statement, UNSIGNED_STATEMENT),
        ]);
        for form in [Form::Signature, Form::Statement] {
            assert!(said(&of_none, form).unwrap().starts_with("a is not"));
        }
        assert_eq!(said(&unsure(vec![]), Form::Statement), None);
    }

    #[test]
    fn what_is_attached_instead_is_named_and_the_rest_is_counted() {
        let evidence = ImageEvidence {
            unaccepted: vec![
                refused("a", Form::Statement, UNSIGNED_STATEMENT),
                refused("b", Form::Signature, BAD_SIGNATURE),
                refused("c", Form::Either, BAD_SIGNATURE),
            ],
            others: [("text/spdx".to_owned(), 1), ("x/cache".to_owned(), 2)].into(),
            ..ImageEvidence::default()
        };
        assert_eq!(
            evidence.instead_of(Form::Signature).unwrap(),
            "2 artifacts `x/cache`, a, which is not accepted: no (unsigned-statement), an artifact `text/spdx`"
        );
        let statement = evidence.instead_of(Form::Statement).unwrap();
        assert!(
            statement.contains("b, which is not accepted"),
            "{statement}"
        );
        assert_eq!(ImageEvidence::default().instead_of(Form::Signature), None);
    }
}
