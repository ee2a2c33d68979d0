//! Trust roots in TUF repositories: what is verified, what goes on while a repository is down or lies, and what a status restores.

use std::time::Duration;

use jiff::Timestamp;
use promotion_gate::api::{self, TrustRootSource, TufRepository};
use promotion_gate::feeds::ClockReading;
use promotion_gate::oci::{ClientOptions, RegistryOptions};
use promotion_gate::sandbox::Sigstore;
use promotion_gate::tuf::{TufRoots, TufState, read_once};
use serde_json::{Value, json};

use crate::facts::FACTS;
use crate::oci::options;
use crate::server::Server;
use crate::tuf_site::TufSite;

const START: &str = "2026-12-24T12:00:00Z";
const HOUR: u64 = 3600;

fn moment(seconds: u64) -> ClockReading {
    let start: Timestamp = START.parse().unwrap();
    ClockReading {
        at: start + Duration::from_secs(seconds),
        uptime: Duration::from_secs(seconds),
    }
}

fn other_root() -> String {
    Sigstore::create().unwrap().trusted_root().to_string()
}

fn repository(url: &str, initial_root: &Value) -> TufRepository {
    let document = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": {"name": "ours"},
        "spec": {"tuf": {"url": url, "initialRoot": initial_root, "refresh": "1h"}},
    });
    let source = ("ours.json".to_owned(), document.to_string().into_bytes());
    let set = api::load(&[source], &FACTS.trust_roots());
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    match &set.trust_roots["ours"] {
        TrustRootSource::Tuf(repository) => repository.clone(),
        other @ TrustRootSource::Inline(_) => panic!("{other:?}"),
    }
}

/// The trust root `ours` in a repository, asked at times that a test says.
struct Watch {
    site: TufSite,
    server: Server,
    roots: TufRoots,
}

fn options_for(server: &Server) -> ClientOptions {
    ClientOptions {
        registries: vec![RegistryOptions {
            host: server.host(),
            plain_http: true,
            ..RegistryOptions::default()
        }],
        ..options()
    }
}

impl Watch {
    async fn new() -> Watch {
        let mut site = TufSite::new();
        site.publish(&FACTS.trusted_root());
        let server = site.serve().await;
        let roots = TufRoots::new(&options_for(&server));
        let watch = Watch {
            site,
            server,
            roots,
        };
        watch.replace(&watch.site.initial_root());
        watch
    }

    fn replace(&self, initial_root: &Value) {
        let repository = repository(&self.server.url(), initial_root);
        self.roots.replace([("ours".to_owned(), repository)].into());
    }

    async fn ask(&self, seconds: u64) -> TufState {
        self.roots.ask_due(moment(seconds)).await;
        self.roots.states().remove("ours").unwrap()
    }
}

fn id(state: &TufState) -> Option<String> {
    state.root.as_ref().map(|root| root.id().to_owned())
}

#[track_caller]
fn assert_refused(state: &TufState, before: &TufState, expected: &str) {
    let problem = state.problem.as_deref().unwrap_or("no problem");
    assert!(problem.contains(expected), "{expected}: {problem}");
    assert_eq!(id(state), id(before));
    assert_eq!(state.fetched_at, before.fetched_at);
}

#[tokio::test]
async fn a_root_is_read_from_a_repository_and_replaced_when_the_repository_has_another() {
    let mut watch = Watch::new().await;
    let first = watch.ask(0).await;
    assert_eq!(first.problem, None);
    assert_eq!(first.fetched_at, Some(moment(0).at));
    assert_eq!(watch.roots.roots()["ours"].name(), "ours");

    watch.site.publish(&other_root());
    let revision = watch.roots.revision();
    assert_eq!(id(&watch.ask(60).await), id(&first), "it is not due yet");
    assert_eq!(watch.roots.revision(), revision);
    let second = watch.ask(2 * HOUR).await;
    assert_eq!(second.problem, None);
    assert_ne!(id(&second), id(&first));
    assert!(watch.roots.revision() > revision);
}

#[tokio::test]
async fn the_keys_of_a_repository_rotate_without_a_restart() {
    let mut watch = Watch::new().await;
    let first = watch.ask(0).await;
    watch.site.rotate(true);
    watch.site.rotate(true);
    watch.site.publish(&other_root());
    let second = watch.ask(2 * HOUR).await;
    assert_eq!(second.problem, None);
    assert_ne!(id(&second), id(&first));
}

#[tokio::test]
async fn root_keys_that_the_former_ones_do_not_sign_are_refused() {
    let mut watch = Watch::new().await;
    let first = watch.ask(0).await;
    watch.site.rotate(false);
    watch.site.publish(&other_root());
    assert_refused(
        &watch.ask(2 * HOUR).await,
        &first,
        "threshold not met for role root",
    );
}

#[tokio::test]
async fn the_last_root_survives_an_outage_and_says_its_age() {
    let watch = Watch::new().await;
    let first = watch.ask(0).await;
    watch.site.set_down(true);
    let later = watch.ask(2 * HOUR).await;
    assert_refused(&later, &first, "503");
    let [told] = watch.roots.kept_since().try_into().unwrap();
    assert!(
        told.starts_with("trust root `ours` since 2026-12-24T12:00:00Z ("),
        "{told}"
    );
    // Failures are tried again soon.
    watch.site.set_down(false);
    let again = watch.ask(2 * HOUR + 60).await;
    assert_eq!(again.problem, None);
    assert_eq!(again.fetched_at, Some(moment(2 * HOUR + 60).at));
    assert!(watch.roots.kept_since().is_empty());
}

#[tokio::test]
async fn a_repository_that_goes_back_to_an_earlier_version_is_refused() {
    let mut watch = Watch::new().await;
    let earlier = watch.site.get("timestamp.json");
    watch.site.publish(&other_root());
    let present = watch.ask(0).await;
    watch.site.put_bytes("timestamp.json", earlier);
    assert_refused(&watch.ask(2 * HOUR).await, &present, "rollback detected");
}

#[tokio::test]
async fn a_repository_that_is_frozen_until_it_expires_is_refused() {
    let mut watch = Watch::new().await;
    watch.site.expires = "2026-12-24T13:00:00Z".to_owned();
    watch.site.publish(&FACTS.trusted_root());
    let first = watch.ask(0).await;
    assert_eq!(first.problem, None);
    assert_refused(
        &watch.ask(2 * HOUR).await,
        &first,
        "expired at 2026-12-24T13:00:00Z",
    );
}

#[tokio::test]
async fn a_target_that_the_metadata_does_not_describe_is_refused() {
    let mut watch = Watch::new().await;
    let first = watch.ask(0).await;
    watch.site.publish(&other_root());
    watch.site.spoil_targets();
    assert_refused(&watch.ask(2 * HOUR).await, &first, "trusted_root.json");
    watch.site.publish("{}");
    assert_refused(
        &watch.ask(4 * HOUR).await,
        &first,
        "the trust root `ours` cannot be used",
    );
}

#[tokio::test]
async fn another_initial_root_forgets_what_the_former_one_vouched_for() {
    let watch = Watch::new().await;
    assert!(watch.ask(0).await.root.is_some());
    watch.replace(&watch.site.initial_root());
    assert!(watch.roots.roots().contains_key("ours"));
    watch.replace(&TufSite::new().initial_root());
    assert!(watch.roots.roots().is_empty());
    let state = watch.ask(1).await;
    assert!(state.root.is_none());
    assert!(state.problem.is_some());
}

#[tokio::test]
async fn a_status_restores_the_last_root_and_where_the_repository_stood() {
    let mut watch = Watch::new().await;
    let earlier = watch.site.get("timestamp.json");
    watch.site.rotate(true);
    watch.site.publish(&other_root());
    let known = watch.ask(0).await;
    assert_eq!(known.problem, None);
    let status = Value::Object(watch.roots.status("ours"));

    let restart = |status: &Value| {
        let roots = TufRoots::new(&options_for(&watch.server));
        let repository = repository(&watch.server.url(), &watch.site.initial_root());
        roots.replace([("ours".to_owned(), repository)].into());
        roots.restore("ours", status, moment(HOUR).at);
        roots
    };
    let again = restart(&status);
    let state = again.states().remove("ours").unwrap();
    assert_eq!(
        (id(&state), state.fetched_at),
        (id(&known), known.fetched_at)
    );
    // What was seen before the restart still counts against a repository that goes back.
    watch.site.put_bytes("timestamp.json", earlier);
    again.ask_due(moment(2 * HOUR)).await;
    let state = again.states().remove("ours").unwrap();
    assert!(state.problem.is_some());
    assert_eq!(id(&state), id(&known));

    // Whoever can write the status cannot put another root there.
    let mut forged = status.clone();
    forged["lastValidRoot"] = json!(other_root());
    assert!(restart(&forged).roots().is_empty());
    let mut future = status;
    future["fetchedAt"] = json!("2027-12-24T12:00:00Z");
    assert!(restart(&future).roots().is_empty());
}

#[tokio::test]
async fn a_command_asks_a_repository_once_and_says_why_it_cannot_be_read() {
    let mut site = TufSite::new();
    site.publish(&FACTS.trusted_root());
    let server = site.serve().await;
    let of = |server: &Server| {
        let repository = repository(&server.url(), &site.initial_root());
        [("ours".to_owned(), repository)].into()
    };
    let within = Duration::from_secs(10);
    let (roots, unread) = read_once(of(&server), &options_for(&server), within).await;
    assert!(roots.contains_key("ours"), "{unread:?}");
    // Without the host in the configuration, nothing on loopback is asked without TLS.
    let (roots, unread) = read_once(of(&server), &options(), within).await;
    assert!(roots.is_empty());
    assert!(unread["ours"].contains("`https` alone"), "{unread:?}");
}
