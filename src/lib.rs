//! promotion-gate: the last check between a green build and production.
//!
//! The pure engine is `promotion_gate_core`; this crate is the shell that fetches, serves and prints.
//!
//! * [`review`] — the story of one decision, which everything else serves
//! * [`governance`] — who may change what the gate decides by
//! * [`admission`] — the Kubernetes protocol, as a pure codec
//! * [`collect`] — evidence, exactly as far as a review needs it
//! * [`oci`] — registries
//! * [`connect`] — platforms: who wrote, pushed and merged a change
//! * [`feeds`] — calendars and other systems that say when changes are frozen, in the background
//! * [`incidents`] — incident trackers, asked about the incident that an emergency change names
//! * [`tuf`] — trust roots in TUF repositories, in the background
//! * [`api`] — the custom resources
//! * [`cluster`] — the connection to the API server
//! * [`kept`] — rejections, authors and what OpenVEX documents take back that were seen, kept in the cluster
//! * [`config`] — the configuration file
//! * [`snapshot`] — what becomes the snapshot that a review sees: its parts, and their last valid states
//! * [`duties`] — what one replica does for all: statuses of resources, and feeds
//! * [`record`] — release records: what was admitted before, which upkeep rests on
//! * [`serve`] — the webhook
//! * [`report`] — Events on the objects that requests are about
//! * [`metrics`], [`decision_log`] — numbers, and one line per decision
//! * [`sandbox`] — a throwaway Sigstore, a registry and images, for `quickstart` and the tests
//! * [`cli`] — the commands

pub mod admission;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod collect;
pub mod config;
pub mod connect;
pub mod decision_log;
pub mod duties;
pub mod feeds;
mod files;
pub mod governance;
pub mod incidents;
pub mod kept;
pub mod metrics;
pub mod oci;
pub mod record;
pub mod report;
pub mod review;
pub mod sandbox;
pub mod serve;
pub mod snapshot;
mod text;
pub mod tuf;
