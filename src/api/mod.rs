//! Every custom resource, and nothing else: their wire types, and the one conversion of each into the types that the core
//! decides by.
//!
//! * [`Kind`]: which of our kinds a document is, if any
//! * [`Files`], [`documents`]: paths → the documents below them that are ours; others are counted
//! * [`load`], [`load_paths`]: the bytes of files → policies, people and freezes, or all their problems, each with its place
//! * [`schema`], [`people_schema`], [`freeze_schema`]: the schemas that files are checked against, for editors
//! * [`policy`], [`directory`], [`freeze`](fn@freeze): one wire type → one policy, directory, freeze; resources from a cluster take the same way
//! * [`problems_of`]: what is wrong with one resource, as the API server asks about it
//! * [`definitions`]: the custom resource definitions

mod admit;
mod definitions;
mod files;
mod freeze;
mod kinds;
mod load;
mod mistakes;
mod people;
mod policy;
mod record;
mod resource;
mod written;

pub use admit::problems_of;
pub use definitions::definitions;
pub use files::{Files, Skipped, documents};
pub use freeze::{ChangeFreeze, ChangeFreezeSpec, freeze, freeze_schema, readable_environments};
pub use kinds::Kind;
pub use load::{
    FeedStates, FreezeSet, Held, PeopleSet, PolicyFiles, PolicySet, SourceFile, load, load_paths,
    schedule, schema,
};
pub use people::{PeopleDirectory, PeopleDirectorySpec, directory, people_schema};
pub use policy::{
    NamespaceSelection, PolicyMatch, PromotionPolicy, PromotionPolicySpec, policy, readable_match,
};
pub use record::{
    EntryRuns, EntryState, ReleaseRecord, ReleaseRecordSpec, WrittenBy, WrittenEntry,
    WrittenSource, WrittenWorkload,
};
pub use written::Written;

/// The API group of all of our resources.
pub const GROUP: &str = "promotion-gate.dev";
/// Group and version, as documents write them.
pub const API_VERSION: &str = "promotion-gate.dev/v1alpha1";
