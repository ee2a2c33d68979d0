//! The decision: from a requested change to one verdict with its findings.

mod age;
mod controllers;
mod coverage;
mod distinct;
mod effort;
mod emergency;
mod evidence;
mod finding;
mod glob;
mod governance;
mod governors;
mod image;
mod incident;
mod incident_reading;
mod injected;
mod judge;
mod kept_vex;
mod namespaces;
mod needs;
mod outlook;
mod pattern;
mod people;
mod platform;
mod platforms;
mod policy;
mod promotion;
mod prospect;
mod record;
mod rules;
mod schedule;
mod seats;
mod signer;
mod snapshot;
mod source;
mod verdict;
mod world;

pub use age::Age;
pub use controllers::GroupKind;
pub use effort::can_take_long;
pub use emergency::{
    CountedReview, EmergencyOutlook, EmergencyParticipants, EmergencyPolicy, EmergencyStatement,
    EmergencyUse, EmergencyWord, IncidentAnswers, IncidentQuestion, IncidentRequirement,
    IncidentState, ListedDeclaration, OpenSeats, OverdueReview, OverdueReviews, OwnWord,
    ReviewSearch, ServicePattern, UsedEmergency, WaivableRule, WhenUnreachable, emergency_manual,
    emergency_outlook, incident_outlook, unlisted_opener,
};
pub use evidence::{
    Collected, Effect, Evidence, EvidenceSource, Form, ImageEvidence, Subject, UnacceptedEvidence,
    Unavailability,
};
pub use finding::{Finding, ImageTarget, Judgement, Outcome, Target};
pub use glob::{Glob, GlobError};
pub use governance::{
    GovernanceChange, GovernanceOperation, GovernanceVerdict, GovernedBy, GovernedKind,
    judge_governance,
};
pub use governors::ApprovingGovernor;
pub use image::{Digest, DigestError, ImageReference, ReferenceError, Repository, is_tag};
pub use incident::{Incident, Severity};
pub use incident_reading::{IncidentReading, TrackerAnswer, UnreadableAnswer};
pub use injected::{Injected, InjectedImages, Parent};
pub use judge::{ListedApprovals, engine_reasons, evidence_to_keep, judge, list_approvals};
pub use kept_vex::{KeptSigner, KeptVex, KeptVexStatement, TakenBack};
pub use namespaces::{Labels, Namespaces};
pub use needs::{HeardSigners, ImageNeeds};
pub use outlook::{accepted_statements, approval_outlook, approval_roots};
pub use pattern::{ImagePattern, PatternError};
pub use people::{
    Account, Automation, Contradiction, Directory, DnsLabel, Group, Identity, Lookup, Member,
    Moment, People, Person, PersonalIdentity, Place, SourcePlatform, Validity,
};
pub use platform::{Index, Platform, PlatformManifest, PlatformPattern};
pub use policy::{
    Enforcement, LabelOperator, LabelSelector, LabelTerm, Match, NAME_LABEL, NamedRequirement,
    NamespaceMatch, Policy, Tags, Uncovered,
};
pub use promotion::{
    Actor, Change, ChangeEffect, ChangeKind, ChangedObject, ImageUse, Operation, Owner, Pin,
    Promotion, Role, UnreadableField, Workload,
};
pub use prospect::Prospect;
pub use record::{AdmittedBy, ImageRecords, RecordEntry, RecordedSource, Records, ScanAge};
pub use rules::{
    ApprovalEffect, ApprovalListing, ApprovalOutlook, Approver, Approvers, Class, EvidenceUse,
    ListedApproval, ListedWord, Needs, Requirement, RequirementEntry, RuleManual, command_line,
    proven_source,
};
pub use schedule::*;
pub use signer::{DEFAULT_TRUST_ROOT, Matcher, RequiredTransparency, TrustRoots};
pub use snapshot::{Certainty, Governing, Snapshot, Ungoverned, Unreadable};
pub use source::{SourcePattern, VersionPattern};
pub use verdict::{Decision, PolicyVerdict, Verdict};
pub use world::*;
