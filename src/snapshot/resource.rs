//! A resource of the cluster as a document, for the same parse as files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use promotion_gate_core::documents::Problem;
use promotion_gate_core::gate::Freeze;
use serde_json::{Value, json};

use crate::api::{
    API_VERSION, FROM_CLUSTER, IncidentCheck, Kind, PolicySet, SourceFile, TufRepository,
};

/// The kind and the name of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceName {
    /// The kind.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
}

impl ResourceName {
    /// The name of its document, as problems show it.
    pub(super) fn document(&self) -> String {
        format!("{}/{}{FROM_CLUSTER}", self.kind.name(), self.name)
    }

    /// The resource whose document has this name.
    pub(super) fn of(document: &str) -> Option<ResourceName> {
        let (kind, name) = document.strip_suffix(FROM_CLUSTER)?.split_once('/')?;
        let mut kinds = Kind::ALL.into_iter();
        Some(ResourceName {
            kind: kinds.find(|known| known.name() == kind)?,
            name: name.to_owned(),
        })
    }
}

/// A resource as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its kind and name.
    pub name: ResourceName,
    /// Tells it from an earlier one of the same name.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// Grows with each change of `spec`.
    pub generation: i64,
    /// `spec`.
    pub spec: Value,
    /// `status`, which the gate writes.
    pub status: Value,
    created: Option<String>,
}

impl Resource {
    /// A resource without content.
    #[cfg(test)]
    pub(super) fn new(name: ResourceName, uid: String) -> Resource {
        Resource {
            name,
            uid,
            version: String::new(),
            generation: 0,
            spec: Value::Null,
            status: Value::Null,
            created: None,
        }
    }

    /// A resource as it was read.
    pub fn of(kind: Kind, mut object: DynamicObject) -> Resource {
        let mut take = |field: &str| object.data.get_mut(field).map(Value::take);
        let (spec, status) = (take("spec"), take("status"));
        Resource {
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            spec: spec.unwrap_or_default(),
            status: status.unwrap_or_default(),
            created: object.creation_timestamp().map(|at| at.0.to_string()),
            name: ResourceName {
                kind,
                name: object.name_any(),
            },
        }
    }

    /// When it was created.
    pub(crate) fn created_at(&self) -> Option<Timestamp> {
        self.created.as_ref()?.parse().ok()
    }

    /// The document, without what the API server and the gate write.
    pub(super) fn document(&self) -> SourceFile {
        self.with_spec(&self.spec)
    }

    /// The document that was last valid, as far as the status says: this one, or one with an earlier `spec`.
    pub(super) fn last_valid(&self) -> Option<SourceFile> {
        let at = |path: &str| self.status.pointer(path);
        let observed = at("/observedGeneration").and_then(Value::as_i64);
        let conditions = at("/conditions").and_then(Value::as_array);
        let is_ready = conditions.into_iter().flatten().any(|condition| {
            condition.get("type") == Some(&json!("Ready"))
                && condition.get("status") == Some(&json!("True"))
        });
        if is_ready && observed == Some(self.generation) {
            return Some(self.document());
        }
        let spec = at("/lastValidSpec").filter(|spec| spec.is_object())?;
        Some(self.with_spec(spec))
    }

    fn with_spec(&self, spec: &Value) -> SourceFile {
        let mut metadata = json!({"name": self.name.name});
        if let (Some(created), Some(metadata)) = (&self.created, metadata.as_object_mut()) {
            metadata.insert("creationTimestamp".to_owned(), json!(created));
        }
        let document = json!({
            "apiVersion": API_VERSION,
            "kind": self.name.kind.name(),
            "metadata": metadata,
            "spec": spec,
        });
        (self.name.document(), document.to_string().into_bytes())
    }
}

/// The freezes of a set that are resources, and those in files.
pub(super) fn freezes_by_source(set: &PolicySet) -> (Vec<Freeze>, Vec<Freeze>) {
    let resources = held_by_resources(set);
    let freezes = set.freezes.iter().cloned();
    freezes.partition(|freeze| {
        let held = (Kind::ChangeFreeze, freeze.name.clone());
        resources.contains(&held)
    })
}

/// The repositories of trust roots of a set that are resources, and of those in files.
pub(super) fn roots_by_source(
    set: &PolicySet,
) -> (
    BTreeMap<String, TufRepository>,
    BTreeMap<String, TufRepository>,
) {
    let resources = held_by_resources(set);
    let repositories = set.tuf_repositories().into_iter();
    repositories.partition(|(name, _)| {
        let held = (Kind::TrustRoot, name.clone());
        resources.contains(&held)
    })
}

/// The incident checks of a set. The files that those of resources name are below `folder`.
pub(super) fn incident_checks(
    set: &PolicySet,
    folder: &Path,
) -> BTreeMap<String, Arc<IncidentCheck>> {
    let resources = held_by_resources(set);
    let placed = |(name, check): (&String, &Arc<IncidentCheck>)| {
        let held = (Kind::IncidentCheck, name.clone());
        let check = match resources.contains(&held) {
            true => Arc::new(check.below(folder)),
            false => Arc::clone(check),
        };
        (name.clone(), check)
    };
    set.incident_checks.iter().map(placed).collect()
}

/// The documents of a set that are resources.
fn held_by_resources(set: &PolicySet) -> BTreeSet<&(Kind, String)> {
    let held = set.files.iter();
    let resources = held.filter(|(document, _)| ResourceName::of(document).is_some());
    resources.flat_map(|(_, held)| held).collect()
}

/// A problem as a sentence. Lines and columns of a document from the cluster mean nothing, and are left out.
pub(super) fn shown(problem: &Problem) -> String {
    let text = match problem.file.ends_with(FROM_CLUSTER) {
        true => Problem {
            line: 0,
            column: 0,
            ..problem.clone()
        }
        .to_string(),
        false => problem.to_string(),
    };
    let mut parts = text.split(FROM_CLUSTER);
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        whole.push_str(FROM_CLUSTER);
        whole.push_str(without_position(part));
    }
    whole
}

/// The text without a line, or a line and a column, at its beginning.
fn without_position(text: &str) -> &str {
    let without = |text: &str| {
        let rest = text.strip_prefix(':')?;
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let read = text.len() - rest.len();
        (read > 1).then_some(read)
    };
    let line = without(text).unwrap_or_default();
    let rest = text.get(line..).unwrap_or_default();
    let column = without(rest).unwrap_or_default();
    rest.get(column..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_of_a_resource_has_no_line_and_column() {
        let name = ResourceName {
            kind: Kind::PromotionPolicy,
            name: "strict".to_owned(),
        };
        assert_eq!(ResourceName::of(&name.document()), Some(name.clone()));
        let message = "see PeopleDirectory/all (cluster):1:23 and a.yaml:1:2";
        let problem = Problem {
            line: 1,
            column: 7,
            ..Problem::with_file(&name.document(), message)
        };
        assert_eq!(
            shown(&problem),
            "PromotionPolicy/strict (cluster): see PeopleDirectory/all (cluster) and a.yaml:1:2"
        );
    }
}
