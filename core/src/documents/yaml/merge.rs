//! The merge key `<<`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::documents::{Children, Mark, Place, shown};

/// Merges the objects of `<<` into an object; of several objects with the same key, the first counts. Returns the error, if any.
///
/// If a key before `<<` has another value, `kubectl` (YAML 1.1) replaces that value and other readers keep it. Of two `<<`,
/// readers choose either. Both cases are refused if the values differ.
pub(super) fn merge(
    sources: Vec<(Value, Place)>,
    entries: &mut Map<String, Value>,
    places: &mut BTreeMap<String, (Mark, Place)>,
    merged: &mut BTreeSet<String>,
) -> Option<String> {
    let mut added = BTreeSet::new();
    for (value, place) in sources {
        let (Value::Object(others), Children::Map(mut other_places)) = (value, place.children)
        else {
            continue;
        };
        for (key, value) in others {
            match entries.get(&key) {
                None => {
                    if let Some(place) = other_places.remove(&key) {
                        entries.insert(key.clone(), value);
                        places.insert(key.clone(), place);
                        added.insert(key);
                    }
                }
                Some(present) if added.contains(&key) || *present == value => {}
                Some(_) => {
                    return Some(format!(
                        "`<<` contains `{}`, which already has another value, and readers choose different ones; write `<<` first and only once, or remove one of the two values",
                        shown(&key)
                    ));
                }
            }
        }
    }
    merged.extend(added);
    None
}
