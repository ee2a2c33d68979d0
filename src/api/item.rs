//! One document → what it describes. Files, resources of a cluster and requests to change one take this same way.

use std::path::Path as FilePath;
use std::sync::Arc;

use promotion_gate_core::documents::{Document, Fault, Path, Problem, Step};
use promotion_gate_core::gate::{
    Digest, Directory, Freeze, KeptAuthors, KeptRejection, KeptVex, Policy, Requirement, Revocation,
};
use schemars::{Schema, schema_for};
use serde::de::DeserializeOwned;

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
    RevocationSpec, RootNames, TrustRootSource, TrustRootSpec, VexRecordSpec, author_record,
    directory, emergency_record, freeze, policy, rejection, revocation, trust_root, vex_record,
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
    /// What OpenVEX documents take back about a digest.
    Vex(Digest, KeptVex),
    /// An emergency change that was used. Whether it was reviewed is in its status.
    EmergencyChange,
}

/// The schema that documents of a kind are checked against; `None` for a kind that is not a resource.
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
        Kind::VexRecord => schema_for!(Resource<VexRecordSpec>),
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
    let origin = Origin::of(document);
    Some(match kind {
        Kind::PolicyTest => return None,
        Kind::GateConfiguration if is_file => return None,
        Kind::PromotionPolicy => read_policy(document, schema, roots),
        Kind::PeopleDirectory => {
            let convert = |_: &str, spec: &PeopleDirectorySpec| directory(spec);
            read(document, schema, convert, Item::Directory)
        }
        Kind::ChangeFreeze => {
            let convert = |name: &str, spec: &ChangeFreezeSpec| origin.freeze(name, spec);
            read(document, schema, convert, Item::Freeze)
        }
        Kind::IncidentCheck => {
            let convert = |name: &str, spec: &IncidentCheckSpec| origin.incident_check(name, spec);
            let item = |check| Item::IncidentCheck(Arc::new(check));
            read(document, schema, convert, item)
        }
        Kind::TrustRoot => read_trust_root(document, schema, roots),
        Kind::GateConfiguration => read_configuration(document, schema),
        Kind::Revocation => {
            let item = |(digest, read)| Item::Revocation(digest, read);
            read(document, schema, revocation, item)
        }
        Kind::Rejection => {
            let convert =
                |name: &str, spec: &RejectionSpec| rejection(name, spec, created(document));
            let item = |(digest, read)| Item::Rejection(digest, read);
            read(document, schema, convert, item)
        }
        Kind::AuthorRecord => {
            let convert = |_: &str, spec: &AuthorRecordSpec| author_record(spec);
            let item = |(digest, read)| Item::Authors(digest, read);
            read(document, schema, convert, item)
        }
        Kind::VexRecord => {
            let item = |(digest, read)| Item::Vex(digest, read);
            read(document, schema, vex_record, item)
        }
        Kind::EmergencyChangeRecord if !origin.is_cluster => {
            let why = "promotion-gate writes records of emergency changes in the cluster, and they count for nothing in a file; remove the document";
            Err(vec![document.problem(Path::default(), why)])
        }
        Kind::EmergencyChangeRecord => {
            let convert = |_: &str, spec: &EmergencyChangeRecordSpec| emergency_record(spec);
            read(document, schema, convert, |()| Item::EmergencyChange)
        }
    })
}

type Read = Result<(String, Item), Vec<Problem>>;

/// Reads a document in which no message has to be put into other words.
fn read<S: DeserializeOwned, T>(
    document: &Document,
    schema: &Schema,
    convert: impl FnOnce(&str, &S) -> Result<T, Vec<Fault>>,
    item: impl FnOnce(T) -> Item,
) -> Read {
    let (name, read) = read_resource(document, schema, |problem| problem, convert)?;
    Ok((name, item(read)))
}

/// Where a document is from. The files that it names are beside it; a document of the cluster names files elsewhere.
struct Origin<'a> {
    is_cluster: bool,
    folder: &'a FilePath,
}

impl Origin<'_> {
    fn of(document: &Document) -> Origin<'_> {
        let is_cluster = document.file.ends_with(FROM_CLUSTER);
        let folder = FilePath::new(&*document.file).parent();
        let folder = folder.filter(|_| !is_cluster);
        Origin {
            is_cluster,
            folder: folder.unwrap_or(FilePath::new("")),
        }
    }

    fn freeze(&self, name: &str, spec: &ChangeFreezeSpec) -> Result<Freeze, Vec<Fault>> {
        let read = freeze(name, spec, self.folder)?;
        match files_elsewhere(spec) {
            faults if self.is_cluster && !faults.is_empty() => Err(faults),
            _ => Ok(read),
        }
    }

    fn incident_check(
        &self,
        name: &str,
        spec: &IncidentCheckSpec,
    ) -> Result<IncidentCheck, Vec<Fault>> {
        let read = incident_check(name, spec, self.folder)?;
        match file_elsewhere(spec).filter(|_| self.is_cluster) {
            Some(fault) => Err(vec![fault]),
            None => Ok(read),
        }
    }
}

fn read_trust_root(document: &Document, schema: &Schema, roots: &RootNames) -> Read {
    let (name, item) = read(document, schema, trust_root, Item::TrustRoot)?;
    match refuse_root_name(&name, roots) {
        Some(why) => Err(vec![document.problem(name_of_resource(), why)]),
        None => Ok((name, item)),
    }
}

fn read_configuration(document: &Document, schema: &Schema) -> Read {
    let convert = |_: &str, spec: &GateConfigurationSpec| settings(spec);
    let spec = Path::default().key("spec");
    let item = |read: GateSettings| Item::Configuration(read.written_in(document.clone(), spec));
    let (name, item) = read(document, schema, convert, item)?;
    if name == CONFIGURATION_NAME {
        return Ok((name, item));
    }
    let why = format!(
        "the one configuration is named `{CONFIGURATION_NAME}`, and this is `{name}`; change the name"
    );
    Err(vec![document.problem(name_of_resource(), why)])
}

/// The place of a resource's name.
pub(super) fn name_of_resource() -> Path {
    Path::default().key("metadata").key("name")
}

fn read_policy(document: &Document, schema: &Schema, roots: &RootNames) -> Read {
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
