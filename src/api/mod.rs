//! Every custom resource, and nothing else: their wire types, and the one conversion of each into the types that the core
//! decides by.
//!
//! * [`Kind`]: which of our kinds a document is, if any
//! * [`Files`], [`documents`]: paths → the documents below them that are ours; others are counted
//! * [`load`], [`load_paths`]: the bytes of files → everything in them that decides, or all their problems, each with its place
//! * [`item`](fn@item), [`schema_of`]: one document → what it describes, and the schema that it is checked against
//! * [`policy`], [`directory`], [`freeze`](fn@freeze), [`incident_check`](fn@incident_check), [`trust_root`](fn@trust_root),
//!   [`settings`], [`revocation`], [`rejection`], [`author_record`], [`vex_record`],
//!   [`emergency_record`]: one wire type → what the core decides by
//! * [`problems_of`]: what is wrong with one resource, as the API server asks about it
//! * [`definitions`]: the custom resource definitions

mod admit;
mod configuration;
mod definitions;
mod emergency_record;
mod faults;
mod files;
mod freeze;
mod incident_check;
mod item;
mod kept;
mod kinds;
mod load;
mod mistakes;
mod people;
mod policy;
mod policy_files;
mod record;
mod resource;
mod revision;
mod set;
mod status;
mod trust_root;
mod vex_record;
mod written;

pub use admit::problems_of;
pub use configuration::{
    CONFIGURATION_NAME, GateConfigurationResource, GateConfigurationSpec, GateSettings,
    ServiceAccount, WrittenAdoption, WrittenController, WrittenGovernors, WrittenPreset,
    WrittenUngoverned, settings,
};
pub use definitions::definitions;
pub use emergency_record::{
    ChangeOutcome, EmergencyAdmission, EmergencyChangeRecordResource, EmergencyChangeRecordSpec,
    EmergencyChangeRecordStatus, EmergencyState, LiftedReview, MAXIMUM_NAMES, MAXIMUM_USES,
    RecordedIncident, RecordedReview, WorkloadOutcome, emergency_record,
};
pub use files::{Files, Skipped, SourceFile, documents};
pub use freeze::{ChangeFreeze, ChangeFreezeSpec, freeze, readable_environments};
pub use incident_check::{
    CREDENTIALS_SECRET, CredentialForm, CredentialPlace, IncidentAuthentication, IncidentCheck,
    IncidentCheckResource, IncidentCheckSpec, IncidentRequest, WrittenScheme, incident_check,
};
pub use item::{Item, item, schema_of};
pub use kept::{
    AuthorRecordResource, AuthorRecordSpec, MAXIMUM_IDENTITIES, MAXIMUM_STATEMENTS,
    RejectionResource, RejectionSpec, RevocationResource, RevocationSpec, author_record,
    author_record_resource, rejection, rejection_resource, revocation,
};
pub use kinds::Kind;
#[cfg(test)]
pub(crate) use load::READ;
pub use load::{load, load_alone};
pub use people::{PeopleDirectory, PeopleDirectorySpec, directory};
pub use policy::{
    NamespaceSelection, PolicyMatch, PromotionPolicy, PromotionPolicySpec, UNKNOWN_ROOT, policy,
    readable_match,
};
pub use policy_files::{PolicyFiles, load_paths};
pub use record::{
    EntryRuns, EntryState, ReleaseRecord, ReleaseRecordSpec, WrittenBy, WrittenEmergency,
    WrittenEntry, WrittenSource, WrittenWorkload,
};
pub use set::{FeedStates, FreezeSet, Held, PeopleSet, PolicySet, schedule};
pub use status::MAXIMUM_FEED_WINDOWS;
pub use trust_root::{
    JsonFile, RootNames, TrustRootResource, TrustRootSource, TrustRootSpec, TufRepository,
    trust_root,
};
pub(crate) use vex_record::readable_signer;
pub use vex_record::{VexRecordResource, VexRecordSpec, vex_record, vex_record_resources};
pub use written::Written;

/// The API group of all of our resources.
pub const GROUP: &str = "promotion-gate.dev";
/// How the names of documents end that are resources of a cluster.
pub const FROM_CLUSTER: &str = " (cluster)";
/// Group and version, as documents write them.
pub const API_VERSION: &str = "promotion-gate.dev/v1alpha1";
