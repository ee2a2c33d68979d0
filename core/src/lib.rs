//! The pure engine of promotion-gate: the types of a decision, and the decision.
//!
//! Nothing here fetches, waits, or reads a clock, a file or the environment: every input of a decision is an argument. The shell
//! (`promotion-gate`) fetches, serves, stores and prints.
//!
//! * [`gate`]: [`Change`](gate::Change) → [`Promotion`](gate::Promotion), [`Evidence`](gate::Evidence),
//!   [`Policy`](gate::Policy) → [`judge`](gate::judge) → [`Verdict`](gate::Verdict)
//! * [`attest`]: bytes and an [`Anchor`](attest::Anchor) → verified signatures and statements, or why they are not accepted
//! * [`calendar`]: time zones, recurrence rules and calendars → spans of time
//! * [`reason`]: the reasons of findings and refusals, with their pages of the manual
//! * [`strict_json`]: JSON that every reader reads in the same way
//! * [`expression`]: CEL expressions over JSON, compiled with their mistakes and evaluated within limits
//! * [`documents`]: YAML and JSON bytes → values, with line and column by path
#![warn(missing_docs)]

pub mod attest;
pub mod calendar;
pub mod documents;
pub mod expression;
pub mod gate;
pub mod reason;
pub mod strict_json;
