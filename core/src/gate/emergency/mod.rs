//! Emergency changes: how a change passes although requirements of a policy are not met, and what is owed for that.
//!
//! * `policy`: what a policy says of them
//! * `signed`: what people signed about one image: declarations, agreements, rejections, closures
//! * `incident`: whether the incident is what the policy asks for
//! * `decide`: whether one declaration lets a change pass a policy
//! * `waivers`: the emergency changes of one review, and the evidence that they need
//! * `outlook`: the same before anybody has signed, for people who declare and agree
//! * `listing`: everything that people signed about one declaration
//! * `participants`: who may not review it
//! * `refused`, `reasons`: why one does not count
//! * `used`: what is recorded and told of one that let a change pass
//! * `debt`: reviews that are owed, and when they are overdue
//! * `review`: whether one that was used was reviewed
//! * `commands`: the commands that messages name

mod commands;
mod debt;
mod decide;
mod incident;
mod listing;
mod outlook;
mod participants;
mod policy;
mod reasons;
mod refused;
mod review;
mod signed;
mod used;
mod waivers;

pub use debt::{OverdueReview, OverdueReviews};
pub(in crate::gate) use decide::together;
pub use incident::{IncidentAnswers, IncidentQuestion, incident_outlook, unlisted_opener};
pub use listing::{EmergencyStatement, EmergencyWord, ListedDeclaration, OpenSeats, OwnWord};
pub use outlook::{EmergencyOutlook, emergency_outlook};
pub use participants::EmergencyParticipants;
pub use policy::{
    EmergencyPolicy, IncidentRequirement, ServicePattern, WaivableRule, WhenUnreachable,
};
pub use reasons::emergency_manual;
pub use review::{CountedReview, ReviewSearch, UsedEmergency};
pub use used::{EmergencyUse, IncidentState};
pub(in crate::gate) use waivers::{RULE, Waivers};
