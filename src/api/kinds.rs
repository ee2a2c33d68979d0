//! The kinds of our documents, and which of them a document is. Other documents may lie in the same folders; a document that
//! names our group or one of our kinds, but is not one of them, is an error, so that a misspelled policy is never skipped.

use std::borrow::Cow;

use promotion_gate_core::documents::{Document, Path, Problem, nearest, resembles};
use promotion_gate_core::gate::Requirement;
use serde_json::Value;

use super::{API_VERSION, GROUP};

/// A kind of our documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Which evidence images need before they are admitted.
    PromotionPolicy,
    /// Who is who: people, groups and automation.
    PeopleDirectory,
    /// When changes have to wait.
    ChangeFreeze,
    /// How an incident tracker is asked about an incident.
    IncidentCheck,
    /// The configuration of the webhook and the commands.
    GateConfiguration,
    /// A trust root that policies name.
    TrustRoot,
    /// A digest that must not run any more.
    Revocation,
    /// A rejection that is kept.
    Rejection,
    /// The authors of a digest, which are kept.
    AuthorRecord,
    /// What OpenVEX documents take back, which is kept.
    VexRecord,
    /// An emergency change that was used.
    EmergencyChangeRecord,
    /// Cases that policies are tested with.
    PolicyTest,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 12] = [
        Kind::PromotionPolicy,
        Kind::PeopleDirectory,
        Kind::ChangeFreeze,
        Kind::IncidentCheck,
        Kind::GateConfiguration,
        Kind::TrustRoot,
        Kind::Revocation,
        Kind::Rejection,
        Kind::AuthorRecord,
        Kind::VexRecord,
        Kind::EmergencyChangeRecord,
        Kind::PolicyTest,
    ];

    /// Kinds whose names are words that other tools use: without our group they are not ours.
    const COMMON: [Kind; 3] = [Kind::TrustRoot, Kind::Revocation, Kind::Rejection];

    /// Whether a document of this kind contradicts no other one, and no other one makes it invalid: what is kept about digests and emergency changes.
    pub fn stands_alone(self) -> bool {
        matches!(
            self,
            Kind::Revocation
                | Kind::Rejection
                | Kind::AuthorRecord
                | Kind::VexRecord
                | Kind::EmergencyChangeRecord
        )
    }

    /// How the names of those documents begin that the gate writes for digests by itself, so that there can be very many, and of which it
    /// deletes those that nothing needs; `None` for other kinds.
    pub fn collected_prefix(self) -> Option<&'static str> {
        match self {
            Kind::AuthorRecord => Some("authors-"),
            Kind::VexRecord => Some("vex-"),
            _ => None,
        }
    }

    /// The kind as documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PromotionPolicy => "PromotionPolicy",
            Kind::PeopleDirectory => "PeopleDirectory",
            Kind::ChangeFreeze => "ChangeFreeze",
            Kind::IncidentCheck => "IncidentCheck",
            Kind::GateConfiguration => "GateConfiguration",
            Kind::TrustRoot => "TrustRoot",
            Kind::Revocation => "Revocation",
            Kind::Rejection => "Rejection",
            Kind::AuthorRecord => "AuthorRecord",
            Kind::VexRecord => "VexRecord",
            Kind::EmergencyChangeRecord => "EmergencyChangeRecord",
            Kind::PolicyTest => "PolicyTest",
        }
    }

    /// The kind in words.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Kind::PromotionPolicy => "policy",
            Kind::PeopleDirectory => "people directory",
            Kind::ChangeFreeze => "change freeze",
            Kind::IncidentCheck => "incident check",
            Kind::GateConfiguration => "configuration",
            Kind::TrustRoot => "trust root",
            Kind::Revocation => "revocation",
            Kind::Rejection => "rejection",
            Kind::AuthorRecord => "author record",
            Kind::VexRecord => "record of OpenVEX documents",
            Kind::EmergencyChangeRecord => "record of an emergency change",
            Kind::PolicyTest => "test",
        }
    }

    /// The kind of a document; `None` if it is not ours.
    ///
    /// # Errors
    /// The document names our group or one of our kinds, but is not one of them.
    pub fn of(document: &Document) -> Result<Option<Kind>, Problem> {
        let at = |field: &str| Path::default().key(field);
        let names = || Kind::ALL.into_iter().map(Kind::name);
        if !is_ours(&document.value) {
            return match inner(&document.value, document.value.is_array()) {
                Some(path) => Err(document.problem(
                    path,
                    format!("documents of `{GROUP}` inside another document are not read; write each as a document of its own"),
                )),
                None => Ok(None),
            };
        }
        let (Some(version), Some(kind)) = (document.text("apiVersion"), document.text("kind"))
        else {
            let message = format!(
                "expected the fields `apiVersion: {API_VERSION}` and `kind`: one of {}",
                names()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            return Err(document.problem(Path::default(), message));
        };
        let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
        match known {
            Some(known) if version == API_VERSION => Ok(Some(known)),
            None if version == API_VERSION => {
                let message = format!("kind `{kind:.80}` is not known to this version");
                let problem = document.problem(at("kind"), message);
                Err(problem.suggesting(kind, names()))
            }
            _ => {
                let meant = nearest(kind, names()).unwrap_or_else(|| "PromotionPolicy".to_owned());
                let message = format!(
                    "expected `{API_VERSION}`, found `{version:.80}`; if the document belongs to this tool, write `apiVersion: {API_VERSION}` and `kind: {meant}`; otherwise move it elsewhere"
                );
                Err(document.problem(at("apiVersion"), message))
            }
        }
    }
}

/// Whether a document names our group or one of our kinds, even misspelled, or is cut off before it could.
pub(super) fn is_ours(value: &Value) -> bool {
    let fields = ["apiVersion", "kind"];
    let is_no_text = |field: &&str| value.get(field).is_some_and(|value| !value.is_string());
    let is_odd = fields.iter().any(is_no_text);
    let is_cut_off = match value {
        Value::String(text) => {
            !text.is_empty() && fields.iter().any(|field| field.starts_with(text.as_str()))
        }
        Value::Object(entries) => is_odd && entries.len() == 1,
        _ => false,
    };
    is_cut_off
        || Header::of(value).is_ours()
        || has_requirements(value)
        || is_odd && mentions_ours(value.to_string().as_bytes())
}

/// Whether a text that cannot be parsed seems to be one of our documents; only whole words count.
pub(super) fn mentions_ours(bytes: &[u8]) -> bool {
    // In UTF-16, each ASCII character has a NUL beside it.
    let bytes = match bytes.contains(&0) {
        true => Cow::Owned(bytes.iter().copied().filter(|byte| *byte != 0).collect()),
        false => Cow::Borrowed(bytes),
    };
    let is_within = |byte: &u8| {
        byte.is_ascii_alphanumeric() || !byte.is_ascii() || matches!(byte, b'-' | b'_' | b'.')
    };
    // The shortest of the names that only we use.
    let least = Kind::VexRecord.name().len();
    let words = bytes.split(|byte| !is_within(byte));
    let mut words = words.filter(|word| word.len() >= least);
    words.any(|word| {
        let word = String::from_utf8_lossy(word);
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        resembles(word, GROUP, MISTYPES) || is_kind(word)
    })
}

/// How many characters of a single name may be mistyped. With more, documents of other tools would count as ours, such as
/// Karmada's `PropagationPolicy`.
const MISTYPES: usize = 2;

/// The kinds whose names only we use.
fn distinct() -> impl Iterator<Item = Kind> {
    let kinds = Kind::ALL.into_iter();
    kinds.filter(|kind| !Kind::COMMON.contains(kind))
}

/// Whether a word is one of our kinds, or a mistyped kind of policy or people directory.
fn is_kind(word: &str) -> bool {
    let mut kinds = distinct().map(Kind::name);
    let mut of_snapshot = [
        "PromotionPolicy",
        "PromotionPolicies",
        "PeopleDirectory",
        "PeopleDirectories",
    ]
    .iter();
    kinds.any(|kind| kind.eq_ignore_ascii_case(word))
        || of_snapshot.any(|kind| resembles(word, kind, MISTYPES))
}

/// Whether a value has fields that only policies have.
fn has_requirements(value: &Value) -> bool {
    let entries = value
        .pointer("/spec/requirements")
        .and_then(Value::as_array);
    let mut entries = entries.into_iter().flatten();
    entries.any(|entry| {
        Requirement::NAMES
            .iter()
            .any(|name| entry.get(name).is_some())
    })
}

/// The group and kind that an object names, even if the names of the fields are misspelled.
#[derive(Default)]
struct Header<'a> {
    version: Option<&'a str>,
    /// Whether the field is named `apiVersion` to the letter: a value under another name is often no group.
    is_api_version: bool,
    kind: Option<&'a str>,
}

impl<'a> Header<'a> {
    fn of(value: &'a Value) -> Header<'a> {
        let mut header = Header::default();
        for (key, value) in value.as_object().into_iter().flatten() {
            let field = match nearest(key.trim(), ["apiVersion", "kind"]).as_deref() {
                Some("apiVersion") => &mut header.version,
                Some(_) => &mut header.kind,
                None => continue,
            };
            // The exact spelling wins if several fields are similar.
            if field.is_none() || ["apiVersion", "kind"].contains(&key.as_str()) {
                *field = value.as_str();
            }
            header.is_api_version |= key == "apiVersion";
        }
        header
    }

    /// Whether the group or the kind is ours, or is meant to be. A kind that only resembles one of ours counts if no other
    /// group stands beside it.
    fn is_ours(&self) -> bool {
        let version = self.version.unwrap_or_default().trim();
        let kind = self.kind.unwrap_or_default().trim();
        let group = version.split_once('/').map_or(version, |(group, _)| group);
        let cut_off =
            self.is_api_version && !version.is_empty() && API_VERSION.starts_with(version);
        let grouped = version.contains('/');
        cut_off
            || nearest(group, [GROUP]).is_some()
            || is_kind(kind)
            || !grouped && nearest(kind, distinct().map(Kind::name)).is_some()
            || !grouped && Kind::COMMON.iter().any(|common| common.name() == kind)
    }
}

/// The place of one of our documents inside a value: an item of a list, or an object with content of its own. A mere reference
/// to a document, such as an owner reference, has no content.
fn inner(value: &Value, listed: bool) -> Option<Path> {
    match value {
        Value::Object(fields) => {
            let header = Header::of(value);
            // The request of a review asks about an object, and is none.
            let version = header.version.unwrap_or_default();
            if version.starts_with("admission.k8s.io/") {
                return None;
            }
            if header.kind.is_some() && (listed || fields.contains_key("spec")) && header.is_ours()
            {
                return Some(Path::default());
            }
            fields.iter().find_map(|(key, value)| {
                let lists = ["items", "objects"].contains(&key.as_str()) && value.is_array();
                Some(Path::default().key(key).join(&inner(value, lists)?))
            })
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| {
                Some(Path::default().index(index).join(&inner(item, listed)?))
            })
        }
        _ => None,
    }
}
