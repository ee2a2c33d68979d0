//! One document → what it describes. Files, resources of a cluster and requests to change one take this same way.

use std::path::Path as FilePath;
use std::sync::Arc;

use promotion_gate_core::documents::{Document, Fault, Path, Problem, Step};
use promotion_gate_core::gate::{
    Digest, Directory, Freeze, KeptAuthors, KeptRejection, Policy, Requirement, Revocation,
};
use schemars::{Schema, schema_for};

use super::configuration::{CONFIGURATION_NAME, settings};
use super::freeze::files_elsewhere;
use super::incident_check::{IncidentCheck, IncidentCheckSpec, file_elsewhere, incident_check};
use super::kept::created;
use super::kinds::Kind;
use super::mistakes::used_here;
use super::policy::{unknown_requirement, warnings};
use super::resource::{Resource, read_resource};
use super::trust_root::refuse_root_name;
use super::{
    AuthorRecordSpec, ChangeFreezeSpec, EmergencyChangeRecordSpec, FROM_CLUSTER,
    GateConfigurationSpec, GateSettings, PeopleDirectorySpec, PromotionPolicySpec, RejectionSpec,
    RevocationSpec, RootNames, TrustRootSource, TrustRootSpec, author_record, directory,
    emergency_record, freeze, policy, rejection, revocation, trust_root,
};

/// What a document describes.
#[derive(Clone, Debug)]
pub enum Item {
    /// A policy, and parts of it that probably do not mean what their author meant.
    Policy(Box<Policy>, Vec<Problem>),
    /// A people directory.
    Directory(Directory),
    /// A change freeze.
    Freeze(Freeze),
    /// How an incident tracker is asked.
    IncidentCheck(Arc<IncidentCheck>),
    /// A trust root.
    TrustRoot(TrustRootSource),
    /// The settings of the gate.
    Configuration(GateSettings),
    /// A digest that must not run any more.
    Revocation(Digest, Revocation),
    /// A rejection of a digest.
    Rejection(Digest, KeptRejection),
    /// The authors of a digest.
    Authors(Digest, KeptAuthors),
    /// An emergency change that was used. Whether it was reviewed is in its status.
    EmergencyChange,
}

/// The schema that documents of a kind are checked against; `None` for a kind that is no resource.
pub fn schema_of(kind: Kind) -> Option<Schema> {
    Some(match kind {
        Kind::PromotionPolicy => schema_for!(Resource<PromotionPolicySpec>),
        Kind::PeopleDirectory => schema_for!(Resource<PeopleDirectorySpec>),
        Kind::ChangeFreeze => schema_for!(Resource<ChangeFreezeSpec>),
        Kind::IncidentCheck => schema_for!(Resource<IncidentCheckSpec>),
        Kind::TrustRoot => schema_for!(Resource<TrustRootSpec>),
        Kind::GateConfiguration => schema_for!(Resource<GateConfigurationSpec>),
        Kind::Revocation => schema_for!(Resource<RevocationSpec>),
        Kind::Rejection => schema_for!(Resource<RejectionSpec>),
        Kind::AuthorRecord => schema_for!(Resource<AuthorRecordSpec>),
        Kind::EmergencyChangeRecord => schema_for!(Resource<EmergencyChangeRecordSpec>),
        Kind::PolicyTest => return None,
    })
}

/// What a document of a kind describes, and its name; `None` if it is a test, or the configuration file of a process.
///
/// # Errors
/// All problems of the document.
pub fn item(
    kind: Kind,
    document: &Document,
    schema: &Schema,
    roots: &RootNames,
) -> Option<Result<(String, Item), Vec<Problem>>> {
    let is_file = ["metadata", "spec"]
        .iter()
        .all(|field| document.value.get(field).is_none());
    let same = |problem: Problem| problem;
    // The paths in a document of the cluster start elsewhere.
    let of_cluster = document.file.ends_with(FROM_CLUSTER);
    let folder = FilePath::new(&*document.file).parent();
    let folder = folder.filter(|_| !of_cluster);
    let folder = folder.unwrap_or(FilePath::new(""));
    Some(match kind {
        Kind::PolicyTest => return None,
        Kind::GateConfiguration if is_file => return None,
        Kind::PromotionPolicy => read_policy(document, schema, roots),
        Kind::PeopleDirectory => {
            let convert = |_: &str, spec: &PeopleDirectorySpec| directory(spec);
            let read = read_resource(document, schema, same, convert);
            read.map(|(name, read)| (name, Item::Directory(read)))
        }
        Kind::ChangeFreeze => {
            let convert = |name: &str, spec: &ChangeFreezeSpec| {
                let read = freeze(name, spec, folder)?;
                match files_elsewhere(spec) {
                    faults if of_cluster && !faults.is_empty() => Err(faults),
                    _ => Ok(read),
                }
            };
            let read = read_resource(document, schema, same, convert);
            read.map(|(name, read)| (name, Item::Freeze(read)))
        }
        Kind::IncidentCheck => {
            let convert = |name: &str, spec: &IncidentCheckSpec| {
                let read = incident_check(name, spec, folder)?;
                match file_elsewhere(spec).filter(|_| of_cluster) {
                    Some(fault) => Err(vec![fault]),
                    None => Ok(read),
                }
            };
            let read = read_resource(document, schema, same, convert);
            read.map(|(name, read)| (name, Item::IncidentCheck(Arc::new(read))))
        }
        Kind::TrustRoot => {
            let read = read_resource(document, schema, same, trust_root);
            read.and_then(|(name, read)| match refuse_root_name(&name, roots) {
                Some(why) => Err(vec![document.problem(name_of_resource(), why)]),
                None => Ok((name, Item::TrustRoot(read))),
            })
        }
        Kind::GateConfiguration => {
            let convert = |_: &str, spec: &GateConfigurationSpec| settings(spec);
            let read = read_resource(document, schema, same, convert);
            read.and_then(|(name, read)| match name == CONFIGURATION_NAME {
                true => {
                    let read = read.written_in(document.clone(), Path::default().key("spec"));
                    Ok((name, Item::Configuration(read)))
                }
                false => {
                    let why = format!(
                        "the one configuration is named `{CONFIGURATION_NAME}`, and this is `{name}`; change the name"
                    );
                    Err(vec![document.problem(name_of_resource(), why)])
                }
            })
        }
        Kind::Revocation => {
            let read = read_resource(document, schema, same, revocation);
            read.map(|(name, (digest, read))| (name, Item::Revocation(digest, read)))
        }
        Kind::Rejection => {
            let convert =
                |name: &str, spec: &RejectionSpec| rejection(name, spec, created(document));
            let read = read_resource(document, schema, same, convert);
            read.map(|(name, (digest, read))| (name, Item::Rejection(digest, read)))
        }
        Kind::AuthorRecord => {
            let convert = |_: &str, spec: &AuthorRecordSpec| author_record(spec);
            let read = read_resource(document, schema, same, convert);
            read.map(|(name, (digest, read))| (name, Item::Authors(digest, read)))
        }
        Kind::EmergencyChangeRecord if !of_cluster => {
            let why = "promotion-gate writes records of emergency changes in the cluster, and they count for nothing in a file; remove the document";
            Err(vec![document.problem(Path::default(), why)])
        }
        Kind::EmergencyChangeRecord => {
            let convert = |_: &str, spec: &EmergencyChangeRecordSpec| emergency_record(spec);
            let read = read_resource(document, schema, same, convert);
            read.map(|(name, ())| (name, Item::EmergencyChange))
        }
    })
}

/// The place of a resource's name.
pub(super) fn name_of_resource() -> Path {
    Path::default().key("metadata").key("name")
}

fn read_policy(
    document: &Document,
    schema: &Schema,
    roots: &RootNames,
) -> Result<(String, Item), Vec<Problem>> {
    let convert = |name: &str, spec: &PromotionPolicySpec| {
        let policy = policy(name, spec, roots)?;
        let warnings = warnings(spec, &policy);
        Ok((policy, warnings))
    };
    let (name, (policy, warnings)) = read_resource(document, schema, explain, convert)?;
    let below = Path::default().key("spec");
    let warnings = warnings.into_iter();
    let warnings =
        warnings.map(|Fault { path, message }| document.problem(below.join(&path), message));
    Ok((name, Item::Policy(Box::new(policy), warnings.collect())))
}

/// Replaces the message about a field or requirement that belongs to a later version or to another tool.
fn explain(problem: Problem) -> Problem {
    let is_unknown_field = problem.message.starts_with("unknown field");
    let written = problem.path.to_string();
    let elsewhere = match problem.path.steps().last() {
        // Below `spec`, `images` belongs to another tool; at any other place it is an ordinary mistake.
        Some(Step::Key(name)) if name == "images" && written != "spec.images" => None,
        Some(Step::Key(name)) if is_unknown_field => used_here(name),
        _ => None,
    };
    if let (Some(here), [.., Step::Key(name)]) = (elsewhere, problem.path.steps()) {
        let message = format!("unknown field `{name}`; use {here} instead");
        return Problem {
            message,
            suggestion: None,
            ..problem
        };
    }
    match problem.path.steps() {
        [
            Step::Key(spec),
            Step::Key(list),
            Step::Index(_),
            Step::Key(name),
        ] if is_unknown_field && spec == "spec" && list == "requirements" => {
            let problem = Problem {
                message: unknown_requirement(name),
                suggestion: None,
                ..problem.clone()
            };
            problem.suggesting(name, Requirement::NAMES.iter().copied().chain(["name"]))
        }
        _ => problem,
    }
}
