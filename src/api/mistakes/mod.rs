//! Policies that parse but do not mean what their authors meant. A pattern that cannot match any image, namespace, branch or
//! source is refused; a pattern that probably comes from another tool causes a warning. Both messages say what to write
//! instead.

mod images;
mod matching;
mod other_names;
mod provenance;
mod signers;
mod syntax;

use promotion_gate_core::documents::{Fault, Path};
use serde_json::Value;

use super::PromotionPolicySpec;
pub(super) use other_names::used_here;

/// The mistakes in one policy: what is refused, and what the author is warned about.
#[derive(Default)]
pub(super) struct Mistakes {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

impl Mistakes {
    /// Looks through a policy as written. A part that does not parse is left to the parser.
    pub(super) fn of(spec: &PromotionPolicySpec) -> Mistakes {
        let mut found = Mistakes::default();
        let spec = serde_json::to_value(spec).unwrap_or_default();
        let requirements = spec.pointer("/requirements").and_then(Value::as_array);
        let pinned = requirements
            .into_iter()
            .flatten()
            .any(|entry| entry.get("digestPinned").is_some());
        found.matches(&spec, pinned);
        for (index, entry) in requirements.into_iter().flatten().enumerate() {
            let here = Path::default().key("requirements").index(index);
            found.allowed_images(entry, &here.key("allowedImages").key("patterns"));
            if let Some(provenance) = entry.get("provenance") {
                found.provenance(provenance, &here.key("provenance"));
            }
            found.signers(entry, &here);
        }
        let injected = spec.pointer("/injected").and_then(Value::as_array);
        for (index, entry) in injected.into_iter().flatten().enumerate() {
            let here = Path::default().key("injected").index(index);
            for (path, pattern, written) in
                images::images(entry, "/patterns", &here.key("patterns"))
            {
                found.image(&path, &pattern, &written);
            }
            found.signers(entry, &here);
        }
        found.patterns(&spec, &Path::default());
        found
    }

    fn refuse(&mut self, path: Path, message: impl Into<String>) {
        let message = message.into();
        self.faults.push(Fault { path, message });
    }

    fn warn(&mut self, path: Path, message: impl Into<String>) {
        let message = message.into();
        self.warnings.push(Fault { path, message });
    }

    fn say(&mut self, is_refused: bool, path: Path, message: String) {
        match is_refused {
            true => self.refuse(path, message),
            false => self.warn(path, message),
        }
    }
}

/// The texts of a list, each with its place.
fn texts(value: &Value, pointer: &str, here: &Path) -> Vec<(Path, String)> {
    let items = value.pointer(pointer).and_then(Value::as_array);
    let items = items.into_iter().flatten().enumerate();
    items
        .filter_map(|(index, item)| Some((here.index(index), item.as_str()?.to_owned())))
        .collect()
}
