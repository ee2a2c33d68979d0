//! The weight of facts in the cache.

use std::collections::BTreeMap;

/// The approximate size of the entries of a map in memory, in bytes.
pub(super) fn bytes_of(texts: &BTreeMap<String, String>) -> usize {
    let each = texts.iter().map(|(key, value)| key.len() + value.len());
    each.map(|length| length + 128).sum()
}
