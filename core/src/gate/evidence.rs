//! All that was learned for one review. Absence is knowledge; ignorance is not, and has a type of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::attest::unaccepted::{UNREADABLE, UNSIGNED_STATEMENT};
use crate::attest::{UnacceptedReason, VerifiedSignature, VerifiedStatement};

use super::image::Digest;
use super::platform::Index;

/// What could be learned about something that had to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collected<T> {
    /// Everything there is.
    Known(T),
    /// Some of it, and what was cut off or could not be read.
    Partial(T, Vec<Unavailability>),
    /// Nothing: it could not be asked.
    Unavailable(Unavailability),
}

impl<T> Collected<T> {
    /// What is there, complete or not.
    pub fn value(&self) -> Option<&T> {
        match self {
            Collected::Known(value) | Collected::Partial(value, _) => Some(value),
            Collected::Unavailable(_) => None,
        }
    }

    /// What could not be learned; empty when everything is known.
    pub fn unavailabilities(&self) -> &[Unavailability] {
        match self {
            Collected::Known(_) => &[],
            Collected::Partial(_, unavailabilities) => unavailabilities,
            Collected::Unavailable(unavailability) => std::slice::from_ref(unavailability),
        }
    }
}

/// Why something could not be learned, as a sentence that names whom was asked and what was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unavailability(pub String);

impl fmt::Display for Unavailability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What evidence is about: a digest within a repository. The same digest elsewhere may carry other evidence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Registry and repository, such as `ghcr.io/example/app`.
    pub name: String,
    /// The digest of the image or index.
    pub digest: Digest,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.digest)
    }
}

/// Everything collected for one review.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Per image what is attached to it and was verified. A subject that is missing here was never asked for.
    pub images: BTreeMap<Subject, Collected<Arc<ImageEvidence>>>,
    /// Of the images whose platforms are asked for: the index, or that there is none. A subject that is missing here was
    /// never asked for.
    pub indexes: BTreeMap<Subject, Collected<Option<Index>>>,
    /// Of images that carry nothing: an index that is known to hold them.
    pub within: BTreeMap<Subject, Digest>,
}

impl Evidence {
    /// The index that a subject is, if it is one; whether it is one that was never asked for is unavailable.
    pub fn index(&self, subject: &Subject) -> Collected<Option<Index>> {
        self.indexes.get(subject).cloned().unwrap_or_else(|| {
            Collected::Unavailable(Unavailability(format!(
                "the platforms of `{subject}` were not asked for"
            )))
        })
    }

    /// What is known about a subject; one that was never asked for is unavailable, not empty.
    pub fn about(&self, subject: &Subject) -> Collected<&ImageEvidence> {
        match self.images.get(subject) {
            Some(Collected::Known(evidence)) => Collected::Known(evidence),
            Some(Collected::Partial(evidence, unavailabilities)) => {
                Collected::Partial(evidence, unavailabilities.clone())
            }
            Some(Collected::Unavailable(unavailability)) => {
                Collected::Unavailable(unavailability.clone())
            }
            None => Collected::Unavailable(Unavailability(format!(
                "no evidence of `{subject}` was asked for"
            ))),
        }
    }
}

/// What is attached to one image: verified facts, and what was present but not accepted.
#[derive(Clone, Debug, Default)]
pub struct ImageEvidence {
    /// Verified signatures, each with where it was found.
    pub signatures: Vec<(EvidenceSource, Arc<VerifiedSignature>)>,
    /// Verified statements, each with where it was found.
    pub statements: Vec<(EvidenceSource, Arc<VerifiedStatement>)>,
    /// Present, but accepted under none of the anchors asked for.
    pub unaccepted: Vec<UnacceptedEvidence>,
    /// Present, and no evidence by what it calls itself (an SBOM, a build cache): how many of each kind.
    pub others: BTreeMap<String, usize>,
    /// Places where evidence could be, and that the registry does not seem to have: something else than a registry answered
    /// there. That is no knowledge of absence, and nothing that could be asked again.
    pub unsupported: Vec<Unavailability>,
}

/// Something that is present, but not accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnacceptedEvidence {
    /// Where it was found.
    pub source: EvidenceSource,
    /// What it would have been.
    pub form: Form,
    /// Why it is not accepted.
    pub why: UnacceptedReason,
}

/// What a piece of evidence is, as far as its place tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// A signature.
    Signature,
    /// A statement.
    Statement,
    /// Either of them, or nothing of the kind.
    Either,
}

/// How many things a sentence names.
const NAMED: usize = 3;

impl ImageEvidence {
    /// Whether nothing is attached, as far as that is known.
    pub fn is_empty(&self) -> bool {
        self.signatures.is_empty()
            && self.statements.is_empty()
            && self.unaccepted.is_empty()
            && self.others.is_empty()
    }

    /// What of the unaccepted could have been of this form, in one sentence: the most telling of it, and how much more
    /// there is.
    pub fn unaccepted_as(&self, form: Form) -> Option<(UnacceptedReason, String)> {
        let fits =
            |refused: &&UnacceptedEvidence| refused.form == form || refused.form == Form::Either;
        let mut candidates: Vec<_> = self.unaccepted.iter().filter(fits).collect();
        candidates.sort_by_key(|refused| (rank(refused), *refused));
        let (first, rest) = candidates.split_first()?;
        let more = match rest.len() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let text = format!("{} is not accepted: {}{more}", first.source, first.why);
        Some((first.why.clone(), text))
    }

    /// What is attached in the place of something of this form, accepted or not: a few of it, and how much more there is.
    /// `None` where nothing is attached that is of another form.
    pub fn instead_of(&self, form: Form) -> Option<String> {
        let mut named = Vec::new();
        if form != Form::Signature {
            let each = self.signatures.iter();
            named.extend(each.map(|(_, it)| format!("a signature by {}", it.signer())));
        }
        let each = self.statements.iter();
        let kind =
            |it: &VerifiedStatement| it.predicate_type().chars().take(100).collect::<String>();
        named.extend(
            each.map(|(_, it)| format!("an attestation (`{}`) by {}", kind(it), it.signer())),
        );
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

fn rank(refused: &UnacceptedEvidence) -> usize {
    match (refused.why.reason, refused.form) {
        (UNREADABLE | UNSIGNED_STATEMENT, _) => 2,
        (_, Form::Either) => 1,
        _ => 0,
    }
}

/// Where a piece of evidence was found, such as ``referrer `sha256:…` ``.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvidenceSource(pub String);

impl fmt::Display for EvidenceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::attest::unaccepted::{BAD_SIGNATURE, WRONG_SUBJECT};

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
