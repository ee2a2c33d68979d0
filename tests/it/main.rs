//! The library and the binary, from outside: one binary, since each file directly under `tests/` is linked separately.
//!
//! The engine (`core/src`). Its tests stand here and not in `core/tests`, because only verified evidence is evidence, and what
//! signs it is the sandbox of the root package:
//! * `invariants` — properties of every decision, over random policies, images and evidence
//! * `verdicts` — what the engine says, case by case: kinds of change, coverage, namespaces, messages
//! * `rules` — `tests/cases/<rule>`: what each rule says
//! * `injected` — images that injectors add to Pods
//! * `platforms` — an index and its platforms: whose evidence counts for what
//! * `approvals` — properties of the approvals of people, and what they read from a registry
//! * `emergencies` — emergency changes, and every way to abuse them by its name
//! * `conditions` — expressions over statements and changes, and what is built to burn time
//! * `distinct_signers` — which signatures count as one signer
//! * `attest` — bundles and `.sig` signatures verified, and each forgery by its name; log entries and trust roots
//! * `attestations` — `.att` attestations, log entries and keys of every kind, and each forgery by its name
//! * `unaccepted` — what is attached and not accepted is never called absent
//!
//! The shell (`src`):
//! * `api` — policies that are wrong, and what is said about them
//! * `config` — configurations that are wrong
//! * `snapshot` — what counts when policies, configuration and trust roots change, through the webhook
//! * `review` — one review from the registry client to the verdict
//! * `collect` — how much, how long and how often a review reads
//! * `scans` — vulnerability scans: newer ones, deleted ones, many and huge ones
//! * `remembered` — scans, SBOMs and VEX documents that are deleted, or too many to remember
//! * `vex_records` — what VEX documents take back, as the cluster keeps it
//! * `evidence_repository` — evidence in a second repository
//! * `push` — attaching content to images, beside other writers and on hostile registries
//! * `oci` — the registry client and hostile registries
//! * `registries` — the registry client and registries as they are: token servers, challenges, redirects
//! * `connect` — the authors of a change, read from platforms; the command `attest`
//! * `feeds` — calendars, endpoints and GitLab projects that say when changes are frozen, and hostile ones
//! * `incidents` — incident trackers that are asked about an incident, and hostile ones; the command `incident`
//! * `tuf` — trust roots in TUF repositories, and repositories that lie
//! * `layout` — OCI image layouts in place of registries
//! * `serve` — the webhook, over HTTPS
//! * `governance` — who may change what the gate decides by, over HTTPS
//! * `cli` — every command, as people and pipelines run it
//! * `check`, `pin`, `evidence`, `approve`, `wait`, `quickstart` — these commands in detail
//! * `attest_vsa` — the command `attest vsa`, over an API server
//! * `emergency_command` — the command `emergency`
//! * `emergency_list` — `emergency list`, which reads the records of a cluster
//! * `signing` — what the services of a Sigstore return, and the command that a denial prints
//! * `from_cluster` — an API server that fails or refuses, and how much of a cluster commands read
//! * `doctor` — the command `doctor`, at an API server that refuses some reads
//! * `people` — people directories, and the command `people`
//! * `policy_tests` — the command `test`
//! * `messages` — what a deployer reads of a denial, word by word
//!
//! What is shipped beside the program:
//! * `deploy` — manifests, certificates and policies (`deploy/`, `certs/`, `policies/`)
//! * `chart` — values, alerts and dashboard of the Helm chart
//! * `deployers` — what is shipped for Argo CD, Flux, Helm and pipelines
//! * `pages` — documentation made from the program (`docs/`)
//! * `dependencies` — the dependency graph (`deny.toml`)
//! * `fuzz` — the seeds of the fuzz targets (`fuzz/`)
//! * `corpora` — material of other projects, where it is present
//!
//! `support` holds what they share.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails"
)]

mod api;
mod approvals;
mod approve;
mod attest;
mod attest_vsa;
mod attestations;
mod calendars;
mod chart;
mod check;
mod cli;
mod collect;
mod conditions;
mod config;
mod connect;
mod corpora;
mod dependencies;
mod deploy;
mod deployers;
mod distinct_signers;
mod doctor;
mod emergencies;
mod emergency_command;
mod emergency_list;
mod evidence;
mod evidence_repository;
mod feeds;
mod freezes;
mod from_cluster;
mod fuzz;
mod governance;
mod incidents;
mod injected;
mod invariants;
mod layout;
mod messages;
mod oci;
mod pages;
mod people;
mod pin;
mod platforms;
mod policy_tests;
mod push;
mod quickstart;
mod registries;
mod remembered;
mod review;
mod rules;
mod scans;
mod serve;
mod signing;
mod snapshot;
mod support;
mod tuf;
mod unaccepted;
mod verdicts;
mod vex_records;
mod wait;

use support::{
    api_server, facts, gate, images, running, server, shared_corpora, store, terminal, tuf_site,
};
