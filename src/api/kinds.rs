//! The kinds of documents that are ours, and which of them a document is. What is not ours may lie in the same folders;
//! what names our group or one of our kinds and is neither is an error, so that a misspelled policy is never skipped.

use promotion_gate_core::documents::{Document, Path, Problem, nearest};
use serde_json::Value;

use super::{API_VERSION, GROUP};

/// A kind of our documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What images need before they are admitted.
    PromotionPolicy,
    /// The configuration of the webhook and the commands.
    GateConfiguration,
    /// Cases that policies are tested with.
    PolicyTest,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [
        Kind::PromotionPolicy,
        Kind::GateConfiguration,
        Kind::PolicyTest,
    ];

    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PromotionPolicy => "PromotionPolicy",
            Kind::GateConfiguration => "GateConfiguration",
            Kind::PolicyTest => "PolicyTest",
        }
    }

    /// The kind of a document; `None` where it is not ours.
    ///
    /// # Errors
    /// What is wrong with a document that names our group or one of our kinds, and is none of them.
    pub fn of(document: &Document) -> Result<Option<Kind>, Problem> {
        let at = |field: &str| Path::default().key(field);
        let names = || Kind::ALL.into_iter().map(Kind::name);
        let header = Header::of(&document.value);
        if !header.is_ours() {
            return match inner(&document.value) {
                true => Err(document.problem(
                    Path::default(),
                    format!("documents of `{GROUP}` within another one are not read; write each as a document of its own"),
                )),
                false => Ok(None),
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
        if version != API_VERSION {
            let message = format!("expected `{API_VERSION}`, found `{}`", cut(version));
            return Err(document.problem(at("apiVersion"), message));
        }
        let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
        known.map(Some).ok_or_else(|| {
            let message = format!("kind `{}` is not known to this version", cut(kind));
            let problem = document.problem(at("kind"), message);
            problem.suggesting(kind, names())
        })
    }
}

/// Whether a text that cannot be parsed seems to be one of our documents.
pub fn mentions_ours(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let kinds = Kind::ALL.map(|kind| kind.name().to_lowercase());
    // A text in UTF-16 has a NUL beside each letter.
    let text = text.replace('\0', "");
    text.contains(GROUP) || kinds.iter().any(|kind| text.contains(kind))
}

/// The group and kind that an object names, however their fields are spelled.
#[derive(Default)]
struct Header<'a> {
    version: Option<&'a str>,
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
            // The exact spelling wins where several fields could be meant.
            if field.is_none() || ["apiVersion", "kind"].contains(&key.as_str()) {
                *field = value.as_str();
            }
        }
        header
    }

    /// Whether the group or the kind is ours, or is meant to be. A kind that only resembles one of ours counts where no other
    /// group stands beside it.
    fn is_ours(&self) -> bool {
        let kinds = || Kind::ALL.into_iter().map(Kind::name);
        let version = self.version.unwrap_or_default().trim();
        let kind = self.kind.unwrap_or_default().trim();
        let group = version.split_once('/').map_or(version, |(group, _)| group);
        let cut_off = version.len() > 3 && API_VERSION.starts_with(version);
        let grouped = version.contains('/');
        cut_off
            || nearest(group, [GROUP]).is_some()
            || kinds().any(|known| known.eq_ignore_ascii_case(kind))
            || !grouped && nearest(kind, kinds()).is_some()
    }
}

/// Whether one of our documents stands among the items of a list, also of one within.
fn inner(value: &Value) -> bool {
    let mut waiting: Vec<&Value> = vec![value];
    while let Some(value) = waiting.pop() {
        let items = value.get("items").and_then(Value::as_array);
        for item in items.into_iter().flatten() {
            if Header::of(item).is_ours() {
                return true;
            }
            waiting.push(item);
        }
    }
    false
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
