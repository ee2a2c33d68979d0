//! Trust roots in TUF repositories: what is verified, what goes on while a repository is down or lies, and what a status restores.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use promotion_gate::api::{self, TrustRootSource, TufRepository};
use promotion_gate::feeds::ClockReading;
use promotion_gate::sandbox::Sigstore;
use promotion_gate::tuf::{TufRoots, TufState, read_once};
use serde_json::{Value, json};

use crate::cli::{Bench, deployment};
use crate::facts::FACTS;
use crate::oci::options;
use crate::serve::{Gate, SIGNED, images};
use crate::server::{Manner, Reply, Server};
use crate::support::until;
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
    let document = document(url, initial_root, "1h");
    let source = ("ours.json".to_owned(), document.into_bytes());
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

impl Watch {
    async fn new() -> Watch {
        let mut site = TufSite::new();
        site.publish(&FACTS.trusted_root());
        let server = site.serve().await;
        let roots = TufRoots::new(&options());
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
async fn many_rotations_are_followed_and_too_many_need_a_later_initial_root() {
    let mut watch = Watch::new().await;
    for _ in 0..40 {
        watch.site.rotate(true);
    }
    watch.site.publish(&other_root());
    let first = watch.ask(0).await;
    assert_eq!(first.problem, None);
    let seen = Follower::of(&watch).sees(&watch.status());
    assert_eq!(id(&seen), id(&first));

    for _ in 0..160 {
        watch.site.rotate(true);
    }
    watch.site.publish(&FACTS.trusted_root());
    let later = watch.ask(2 * HOUR).await;
    assert_refused(&later, &first, "with a later `initialRoot`");
    let last = watch
        .site
        .get(&format!("{}.root.json", watch.site.root_version));
    watch.replace(&serde_json::from_slice(&last).unwrap());
    let second = watch.ask(2 * HOUR + 1).await;
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
    watch.site.answer("*", Reply::status(503));
    let later = watch.ask(2 * HOUR).await;
    assert_refused(&later, &first, "503");
    let [told] = watch
        .roots
        .problems(moment(2 * HOUR).at)
        .try_into()
        .unwrap();
    assert!(
        told.starts_with("the trust root `ours` is as of 2026-12-24T12:00:00Z: "),
        "{told}"
    );
    // Failures are tried again soon.
    watch.site.recover();
    let again = watch.ask(2 * HOUR + 60).await;
    assert_eq!(again.problem, None);
    assert_eq!(again.fetched_at, Some(moment(2 * HOUR + 60).at));
    assert!(watch.roots.problems(moment(3 * HOUR).at).is_empty());
    let [told] = watch
        .roots
        .problems(moment(6 * HOUR).at)
        .try_into()
        .unwrap();
    assert!(
        told.ends_with("its repository was not read since"),
        "{told}"
    );
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
    assert_refused(&watch.ask(2 * HOUR).await, &first, "sha256 mismatch");
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
async fn a_repository_that_is_slow_or_answers_something_else_is_refused_within_bounds() {
    let mut watch = Watch::new().await;
    let first = watch.ask(0).await;
    watch.site.publish(&other_root());
    let page = || Reply::new(200, "text/html", "<html><title>Sign in</title></html>");
    let huge = Reply::new(200, "application/json", vec![b' '; 600 << 10]);
    let cases = [
        ("*", page(), "web page"),
        // A site that answers every address with a page hides whether there is a next root.
        ("2.root.json", page(), "web page"),
        ("2.root.json", huge.clone(), "larger than"),
        ("2.root.json", Reply::status(500), "500"),
        ("timestamp.json", Reply::status(403), "403"),
        ("timestamp.json", Reply::status(404), "404"),
        ("timestamp.json", huge.clone(), "larger than"),
        (
            "timestamp.json",
            page().coming(Manner::Drip),
            "no answer within",
        ),
        (
            "timestamp.json",
            page().coming(Manner::Silent),
            "no answer within",
        ),
        ("2.snapshot.json", huge.clone(), "larger than"),
        ("2.targets.json", huge, "larger than"),
        (
            "2.targets.json",
            Reply::new(200, "application/json", "{"),
            "EOF",
        ),
    ];
    for (index, (name, reply, expected)) in cases.into_iter().enumerate() {
        watch.site.recover();
        watch.site.answer(name, reply);
        let hour = 2 * u64::try_from(index).unwrap() + 2;
        assert_refused(&watch.ask(hour * HOUR).await, &first, expected);
    }
    watch.site.recover();
    let second = watch.ask(100 * HOUR).await;
    assert_eq!(second.problem, None);
    assert_ne!(id(&second), id(&first));
}

#[tokio::test]
async fn a_root_that_does_not_fit_into_a_status_is_refused() {
    let mut watch = Watch::new().await;
    let first = watch.ask(0).await;
    let padded = |bytes: usize| format!("{}{}", other_root(), " ".repeat(bytes));
    watch.site.publish(&padded(512 << 10));
    assert_refused(&watch.ask(2 * HOUR).await, &first, "exceeds configured max");
    watch.site.publish(&padded(508 << 10));
    assert_refused(&watch.ask(4 * HOUR).await, &first, "of 524288 are kept");
}

#[tokio::test]
async fn what_is_kept_of_a_repository_does_not_grow_with_its_versions() {
    let mut watch = Watch::new().await;
    for hour in 0..5 {
        watch.site.publish(&other_root());
        assert_eq!(watch.ask(2 * hour * HOUR).await.problem, None);
    }
    let status = watch.roots.status("ours");
    let names: Vec<_> = status["metadata"].as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "root_history/1.root.json",
            "snapshot.json",
            "targets.json",
            "timestamp.json"
        ]
    );
}

/// What a replica knows that reads statuses alone.
struct Follower(TufRoots);

impl Follower {
    fn of(watch: &Watch) -> Follower {
        Follower::trusting(watch, &watch.site.initial_root())
    }

    fn trusting(watch: &Watch, initial_root: &Value) -> Follower {
        let roots = TufRoots::new(&options());
        let repository = repository(&watch.server.url(), initial_root);
        roots.replace([("ours".to_owned(), repository)].into());
        Follower(roots)
    }

    fn sees(&self, status: &Value) -> TufState {
        self.0.follow("ours", status, moment(24 * HOUR).at);
        self.0.states().remove("ours").unwrap()
    }
}

impl Watch {
    fn status(&self) -> Value {
        Value::Object(self.roots.status("ours"))
    }
}

#[tokio::test]
async fn every_replica_decides_by_the_copy_in_the_status_and_tells_its_age() {
    let mut watch = Watch::new().await;
    let follower = Follower::of(&watch);
    assert!(follower.sees(&json!({})).root.is_none());
    watch.site.rotate(true);
    let first = watch.ask(0).await;
    let seen = follower.sees(&watch.status());
    assert_eq!((id(&seen), seen.fetched_at), (id(&first), first.fetched_at));

    watch.site.answer("*", Reply::status(503));
    watch.ask(2 * HOUR).await;
    let seen = follower.sees(&watch.status());
    assert_eq!((id(&seen), seen.fetched_at), (id(&first), first.fetched_at));
    assert!(seen.problem.unwrap().contains("503"));

    watch.site.recover();
    watch.site.publish(&other_root());
    let second = watch.ask(4 * HOUR).await;
    let seen = follower.sees(&watch.status());
    assert_ne!(id(&seen), id(&first));
    assert_eq!(
        (id(&seen), seen.fetched_at, seen.problem),
        (id(&second), second.fetched_at, None)
    );
    // A status that somebody has emptied takes nothing away.
    assert_eq!(id(&follower.sees(&json!({}))), id(&second));
}

#[tokio::test]
async fn a_forged_status_puts_no_other_root_in_force() {
    let mut watch = Watch::new().await;
    watch.site.rotate(true);
    watch.site.publish(&other_root());
    let known = watch.ask(0).await;
    let genuine = watch.status();
    let forged = |path: &str, value: Value| {
        let mut status = genuine.clone();
        *status.pointer_mut(path).unwrap() = value;
        // Later than what a replica knows, or it would not be looked at.
        status["fetchedAt"] = json!("2026-12-24T18:00:00Z");
        status
    };
    let mut other = TufSite::new();
    other.publish(&other_root());
    let text = |site: &TufSite, name: &str| json!(String::from_utf8(site.get(name)).unwrap());
    let cases = [
        forged("/lastValidRoot", json!(FACTS.trusted_root())),
        forged("/lastValidRoot", json!("{}")),
        forged("/lastValidRoot", json!(7)),
        forged("/metadata", json!({})),
        forged("/metadata", json!("x")),
        forged("/metadata/timestamp.json", text(&other, "timestamp.json")),
        forged("/metadata/targets.json", text(&other, "1.targets.json")),
        forged("/metadata/root_history~12.root.json", json!("{}")),
    ];
    for status in cases {
        let follower = Follower::of(&watch);
        let seen = follower.sees(&status);
        assert!(seen.root.is_none(), "{status}");
        let problem = seen.problem.unwrap();
        assert!(problem.starts_with("the copy in its `status`"), "{problem}");
        // What was verified before stays in force.
        let follower = Follower::of(&watch);
        follower.sees(&genuine);
        let seen = follower.sees(&status);
        assert_eq!(id(&seen), id(&known));
        assert_eq!(seen.fetched_at, known.fetched_at);
        assert!(seen.problem.is_some());
    }
    let stranger = Follower::trusting(&watch, &other.initial_root());
    assert!(stranger.sees(&genuine).root.is_none());

    // A time in the future makes a copy no younger than now.
    let mut future = genuine.clone();
    future["fetchedAt"] = json!("2027-12-24T12:00:00Z");
    let seen = Follower::of(&watch).sees(&future);
    assert_eq!(
        (id(&seen), seen.fetched_at),
        (id(&known), Some(moment(24 * HOUR).at))
    );
}

#[tokio::test]
async fn an_earlier_copy_in_a_status_does_not_replace_a_later_one() {
    let mut watch = Watch::new().await;
    let before = watch.ask(0).await;
    let mut earlier = watch.status();
    watch.site.publish(&other_root());
    let known = watch.ask(2 * HOUR).await;
    assert_ne!(id(&known), id(&before));
    let follower = Follower::of(&watch);
    assert_eq!(id(&follower.sees(&watch.status())), id(&known));
    for at in ["2026-12-24T12:00:00Z", "2026-12-24T20:00:00Z"] {
        earlier["fetchedAt"] = json!(at);
        let seen = follower.sees(&earlier);
        assert_eq!((id(&seen), seen.fetched_at), (id(&known), known.fetched_at));
        assert!(seen.problem.unwrap().contains("rollback detected"));
    }
}

#[tokio::test]
async fn a_replica_whose_clock_is_behind_is_followed_all_the_same() {
    let mut watch = Watch::new().await;
    let follower = Follower::of(&watch);
    let first = watch.ask(0).await;
    let mut ahead = watch.status();
    ahead["fetchedAt"] = json!("2026-12-24T20:00:00Z");
    assert_eq!(id(&follower.sees(&ahead)), id(&first));
    watch.site.publish(&other_root());
    let second = watch.ask(2 * HOUR).await;
    let seen = follower.sees(&watch.status());
    assert_eq!(
        (id(&seen), seen.fetched_at, seen.problem),
        (id(&second), second.fetched_at, None)
    );
}

#[tokio::test]
async fn a_status_restores_the_last_root_and_where_the_repository_stood() {
    let mut watch = Watch::new().await;
    let earlier = watch.site.get("timestamp.json");
    watch.site.rotate(true);
    watch.site.publish(&other_root());
    let known = watch.ask(0).await;
    assert_eq!(known.problem, None);

    let again = TufRoots::new(&options());
    let same = repository(&watch.server.url(), &watch.site.initial_root());
    again.replace([("ours".to_owned(), same)].into());
    again.restore("ours", &watch.status(), moment(HOUR).at);
    let state = again.states().remove("ours").unwrap();
    assert_eq!(
        (id(&state), state.fetched_at),
        (id(&known), known.fetched_at)
    );
    assert_eq!(Value::Object(again.status("ours")), watch.status());
    // What was seen before the restart still counts against a repository that goes back.
    watch.site.put_bytes("timestamp.json", earlier);
    again.ask_due(moment(2 * HOUR)).await;
    let state = again.states().remove("ours").unwrap();
    assert!(state.problem.is_some());
    assert_eq!(id(&state), id(&known));
}

#[tokio::test]
async fn a_reading_that_breaks_off_leaves_the_copy_whole_and_is_not_forgotten() {
    let mut watch = Watch::new().await;
    let first = watch.ask(0).await;
    let former = watch.site.get("timestamp.json");
    watch.site.rotate(true);
    watch.site.publish(&other_root());
    watch.site.answer("2.snapshot.json", Reply::status(503));
    assert_refused(&watch.ask(2 * HOUR).await, &first, "503");
    let seen = Follower::of(&watch).sees(&watch.status());
    assert_eq!(id(&seen), id(&first));
    // The keys of the former root count no more, although the repository hides the present one again.
    watch.site.recover();
    watch.site.answer("2.root.json", Reply::status(404));
    watch.site.put_bytes("timestamp.json", former);
    assert_refused(&watch.ask(4 * HOUR).await, &first, "threshold not met");
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
    let (roots, unread) = read_once(of(&server), &options(), within).await;
    assert!(roots.contains_key("ours"), "{unread:?}");
    site.answer("*", Reply::status(200).coming(Manner::Silent));
    let (roots, unread) = read_once(of(&server), &options(), Duration::from_millis(100)).await;
    assert!(roots.is_empty());
    assert!(unread["ours"].contains("was not read within"), "{unread:?}");
}

/// A `TrustRoot` in a file.
fn document(url: &str, initial_root: &Value, refresh: &str) -> String {
    let document = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": {"name": "ours"},
        "spec": {"tuf": {"url": url, "initialRoot": initial_root, "refresh": refresh}},
    });
    document.to_string()
}

#[tokio::test]
async fn the_webhook_is_ready_without_a_repository_and_takes_its_roots_over_as_they_come() {
    let (_registry, signed, _) = images().await;
    let mut site = TufSite::new();
    site.publish(&FACTS.trusted_root());
    site.answer("*", Reply::status(503));
    let server = site.serve().await;
    let policy = SIGNED.replace("[sandbox]", "[ours]");
    // A repository is asked at once when `refresh` changes.
    let root = |refresh| document(&server.url(), &site.initial_root(), refresh);
    let first = format!("{policy}---\n{}", root("1h"));
    let edits = ["2h", "3h"].map(|refresh| format!("{policy}---\n{}", root(refresh)));
    let gate = Gate::start(&first).await;
    assert_eq!(gate.probe("/readyz").await.0, 200);
    for said in [
        "the trust root `ours` is not known yet: `127.0.0.1",
        "the policy `signed` in force names the trust root `ours`, which was not read from its repository yet",
    ] {
        gate.until("/readyz", said).await;
    }
    let (allowed, message) = gate.says(&signed).await;
    assert!(
        !allowed && message.contains("[trust-root-missing]"),
        "{message}"
    );
    let age = "\npromotion_gate_trust_root_age_seconds{root=\"ours\"} ";
    let known = "\npromotion_gate_trust_root_known{root=\"ours\"} ";
    gate.until("/metrics", &format!("{known}0\n")).await;
    assert!(!gate.probe("/metrics").await.1.contains(age));

    site.recover();
    gate.policy(&edits[0]);
    gate.until("/readyz", "ready\n").await;
    assert_eq!(gate.says(&signed).await, (true, String::new()));
    gate.until("/metrics", age).await;
    gate.until("/metrics", &format!("{known}1\n")).await;

    site.publish(&other_root());
    gate.policy(&edits[1]);
    until("the next root is in force", async || {
        !gate.says(&signed).await.0
    })
    .await;
    gate.policy(SIGNED);
    until("the root is gone", async || {
        let metrics = gate.probe("/metrics").await.1;
        !metrics.contains(age) && !metrics.contains(known)
    })
    .await;
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_judges_under_a_root_of_a_repository_and_is_undecided_without_it() {
    let bench = Bench::new().await;
    let mut site = TufSite::new();
    site.publish(&FACTS.trusted_root());
    let server = site.serve().await;
    let policy = fs::read_to_string(bench.folder.path().join("policy.yaml")).unwrap();
    let root = document(&server.url(), &site.initial_root(), "1h");
    let policy = policy.replace("[sandbox]", "[ours]");
    bench.write("policy.yaml", &format!("{policy}---\n{root}"));
    let image = deployment("shop", &bench.image(&bench.signed));
    let labels = ["--namespace-labels", "tier=production"];
    let check = || bench.check(&labels, &image);
    let ran = check();
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    site.answer("timestamp.json", Reply::status(404));
    let ran = check();
    assert_eq!(ran.code, 3, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("[trust-root-missing]"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stderr
            .contains("warning: the trust root `ours` cannot be read: `127.0.0.1"),
        "{}",
        ran.stderr
    );
}
