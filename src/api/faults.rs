//! Collects every fault of a resource, so that one never hides another.

use promotion_gate_core::documents::{Fault, Path};
use serde::de::DeserializeOwned;

use super::Written;

/// The faults of one resource.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) found: Vec<Fault>,
}

impl Faults {
    pub(super) fn add(&mut self, path: Path, message: impl Into<String>) {
        self.found.push(Fault {
            path,
            message: message.into(),
        });
    }

    /// The value, or a fault below `here`.
    pub(super) fn kept<T>(&mut self, read: Result<T, Fault>, here: &Path) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(Fault { path, message }) => {
                self.add(here.join(&path), message);
                None
            }
        }
    }

    pub(super) fn parsed<T: DeserializeOwned>(
        &mut self,
        written: Option<&Written<T>>,
        here: impl FnOnce() -> Path,
    ) -> Option<T> {
        let read = written?.parse();
        self.kept(read, &here())
    }

    pub(super) fn list<T: DeserializeOwned>(
        &mut self,
        written: &[Written<T>],
        here: &Path,
    ) -> Vec<T> {
        let each = written.iter().enumerate();
        let each = each.filter_map(|(index, part)| self.parsed(Some(part), || here.index(index)));
        each.collect()
    }

    /// A text that is not blank, without white space around it.
    pub(super) fn text(&mut self, written: &str, here: impl FnOnce() -> Path) -> Option<String> {
        let text = written.trim();
        if text.is_empty() {
            self.add(here(), "the text is empty");
            return None;
        }
        Some(text.to_owned())
    }

    /// The value, if there is no fault.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(self.found),
        }
    }
}
