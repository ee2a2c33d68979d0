//! The pure engine of promotion-gate: what things *are*, and the decision.
//!
//! Nothing here fetches, waits, reads a clock, a file or the environment: everything that a decision depends on is an
//! argument. The shell (`promotion-gate`) fetches, serves, stores and prints.
//!
//! * [`gate`]: [`Change`](gate::Change) → [`Promotion`](gate::Promotion), [`Evidence`](gate::Evidence),
//!   [`Policy`](gate::Policy) → [`judge`](gate::judge) → [`Verdict`](gate::Verdict)
//! * [`attest`]: bytes and an [`Anchor`](attest::Anchor) → verified facts, or why they were not accepted
//! * [`reason`]: every reason that is ever given, with its page of the manual
//! * [`strict_json`]: JSON that every reader understands in the same way
//! * [`documents`]: YAML and JSON bytes → values, with line and column by path
#![warn(missing_docs)]

pub mod attest;
pub mod documents;
pub mod gate;
pub mod reason;
pub mod strict_json;
