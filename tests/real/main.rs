//! What is held against real programs: cosign signs, registries of both kinds store, a real API
//! server asks. The programs are built by `tests/real/tools/build`; without them these tests fail.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod approvals;
mod approve;
mod audited;
mod certificates;
mod chart;
mod cluster;
mod conditions;
mod definitions;
mod doctor;
mod emergency;
mod evidence;
mod freezes;
mod governance;
mod manifests;
mod platforms;
mod programs;
mod provenance;
mod records;
mod resources;
#[path = "../it/support/running.rs"]
mod running;
mod scan;
#[path = "../it/support/shared_corpora.rs"]
mod shared_corpora;
mod shipped;
mod signing;
mod support;
mod trust_roots;
mod vex;
mod waiting;
mod workflows;
