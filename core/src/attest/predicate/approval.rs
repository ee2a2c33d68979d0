//! stub
use jiff::Timestamp;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub environment: String,
    pub decision: ApprovalDecision,
    pub change: Option<NamedChange>,
    pub reason: Option<String>,
    pub valid_until: Option<Timestamp>,
    pub scopes: BTreeMap<String, String>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalDecision {
    Approved,
    Rejected,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedChange {
    pub id: String,
    pub url: Option<String>,
}
