//! Files of a repository that were verified: in memory while it is read, and as a copy in the status of a resource.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sigstore_tuf::{Error, MetadataStore};

use super::TufState;
use super::read::shown;

/// The most bytes of all files together: etcd takes objects of 1.5 MiB.
pub(super) const MAXIMUM_COPY: usize = 512 << 10;
/// The most files, as the definition of the resource has it.
const MAXIMUM_FILES: usize = 200;
/// The fields of a status that this is about.
pub(crate) const FIELDS: [&str; 4] = ["error", "fetchedAt", "lastValidRoot", "metadata"];
/// Files that are replaced by later ones.
const ROLES: [&str; 3] = ["timestamp.json", "snapshot.json", "targets.json"];

/// Files by the names that the library gives them.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// The name of a target among the files.
pub(super) fn target_file(target: &str) -> String {
    format!("targets/{target}")
}

/// The files of one reading: those that were known, and those that it verified.
#[derive(Clone, Default)]
pub(super) struct Store(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    files: Files,
    /// The names of those that this reading verified.
    written: BTreeSet<String>,
}

impl Store {
    pub(super) fn of(known: &Files) -> Store {
        Store(Arc::new(Mutex::new(Stored {
            files: known.clone(),
            written: BTreeSet::new(),
        })))
    }

    /// The files that count after this reading: a delegated role that was not read again is gone.
    pub(super) fn files(&self, target: &str) -> Files {
        let stored = self.stored();
        let target = target_file(target);
        let counts = |name: &str| {
            ROLES.contains(&name)
                || name == target
                || name.starts_with("root_history/")
                || stored.written.contains(name)
        };
        let files = stored.files.iter().filter(|(name, _)| counts(name));
        files
            .map(|(name, bytes)| (name.clone(), bytes.clone()))
            .collect()
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a status cannot hold these files.
pub(super) fn too_large(files: &Files) -> Option<String> {
    let each = files.iter().map(|(name, bytes)| name.len() + bytes.len());
    let (count, size) = (files.len(), each.sum::<usize>());
    let is_too_large = count > MAXIMUM_FILES || size > MAXIMUM_COPY;
    is_too_large.then(|| format!(
        "its metadata and the trust root are {count} files of {size} bytes together, and at most {MAXIMUM_FILES} of {MAXIMUM_COPY} are kept; with a later `initialRoot` there are fewer"
    ))
}

impl MetadataStore for Store {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.stored().files.get(name).cloned())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let is_double = name == "root.json" || name.ends_with(".snapshot.json");
        if !is_double {
            let mut stored = self.stored();
            stored.files.insert(name.to_owned(), bytes.to_vec());
            stored.written.insert(name.to_owned());
        }
        Ok(())
    }
}

/// What a status says of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) fetched_at: Option<Timestamp>,
    pub(super) files: Files,
    pub(super) problem: Option<String>,
}

impl Copy {
    pub(super) fn of(status: &Value, target: &str) -> Copy {
        let text = |field: &str| status.get(field).and_then(Value::as_str);
        let metadata = status.get("metadata").and_then(Value::as_object);
        let metadata = metadata.into_iter().flatten();
        let metadata = metadata.filter_map(|(name, text)| Some((name.clone(), text.as_str()?)));
        let root = text("lastValidRoot").map(|root| (target_file(target), root));
        let files = metadata.chain(root);
        Copy {
            fetched_at: text("fetchedAt").and_then(|at| at.parse().ok()),
            files: files.map(|(name, text)| (name, text.into())).collect(),
            problem: text("error").map(shown),
        }
    }
}

/// The fields of a status that say what is known.
pub(super) fn written(files: &Files, state: &TufState, target: &str) -> Map<String, Value> {
    let mut status = Map::new();
    if let Some(at) = state.fetched_at {
        let mut files = files.clone();
        let root = files.remove(&target_file(target)).unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map(Value::String).ok();
        let metadata = files
            .into_iter()
            .filter_map(|(name, bytes)| Some((name, text(bytes)?)));
        status.insert("metadata".to_owned(), Value::Object(metadata.collect()));
        status.extend(text(root).map(|root| ("lastValidRoot".to_owned(), root)));
        status.insert("fetchedAt".to_owned(), json!(at.to_string()));
    }
    if let Some(problem) = &state.problem {
        status.insert("error".to_owned(), json!(problem));
    }
    status
}
