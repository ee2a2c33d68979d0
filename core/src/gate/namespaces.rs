//! The labels of the namespaces, shared between snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The labels of one namespace.
pub type Labels = BTreeMap<String, String>;

/// The labels of each known namespace, by the namespace's name. A copy costs nothing until it is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(Arc<BTreeMap<String, Arc<Labels>>>);

impl Namespaces {
    /// The labels of a namespace, if it is known.
    pub fn get(&self, name: &str) -> Option<&Labels> {
        self.0.get(name).map(|labels| &**labels)
    }

    /// Sets the labels of a namespace.
    pub fn insert(&mut self, name: String, labels: Labels) {
        Arc::make_mut(&mut self.0).insert(name, Arc::new(labels));
    }

    /// Forgets a namespace.
    pub fn remove(&mut self, name: &str) {
        Arc::make_mut(&mut self.0).remove(name);
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<(String, Labels)> for Namespaces {
    fn extend<T: IntoIterator<Item = (String, Labels)>>(&mut self, more: T) {
        let more = more.into_iter();
        let more = more.map(|(name, labels)| (name, Arc::new(labels)));
        Arc::make_mut(&mut self.0).extend(more);
    }
}

impl FromIterator<(String, Labels)> for Namespaces {
    fn from_iter<T: IntoIterator<Item = (String, Labels)>>(all: T) -> Namespaces {
        let mut namespaces = Namespaces::default();
        namespaces.extend(all);
        namespaces
    }
}
