//! Emergency changes: how a change passes although requirements of a policy are not met, and what is owed for that.
//!
//! * `policy`: what a policy says of them
//! * `reasons`: why one does not count
//! * `used`: what is recorded and told of one that let a change pass
//! * `debt`: reviews that are overdue

mod debt;
mod policy;
mod reasons;
mod used;

pub use debt::{OverdueReview, OverdueReviews};
pub use policy::{
    EmergencyPolicy, IncidentRequirement, ServicePattern, WaivableRule, WhenUnreachable,
};
pub use reasons::emergency_manual;
pub use used::{EmergencyUse, IncidentState};
