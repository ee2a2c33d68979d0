//! Feeds of change freezes: what is asked, what of an answer counts, and what hostile or broken systems can do.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use promotion_gate::feeds::{ClockReading, Feeds, NamedFeed, read_once};
use promotion_gate::metrics::Metrics;
use promotion_gate::oci::{ClientOptions, RegistryOptions};
use promotion_gate::sandbox::TlsIdentity;
use promotion_gate_core::calendar::Zone;
use promotion_gate_core::gate::{
    EndpointAnswer, EventFilter, Feed, FeedContent, FeedKind, FeedPlace, FeedState, Freeze,
    FreezeSource, Glob, MayPass, Schedule, WhenStale,
};
use tempfile::TempDir;

use crate::oci::options;
use crate::serve::Gate;
use crate::server::{Manner, Reply, Seen, Server};

const START: &str = "2026-12-24T12:00:00Z";
const OPEN: &str = r#"{"freeze_active": false}"#;
const FROZEN: &str = r#"{"freeze_active": true, "reason": "Year end"}"#;

fn json(body: &str) -> Reply {
    Reply::new(200, "application/json", body)
}

fn feed(kind: FeedKind) -> Feed {
    let minutes = match kind {
        FeedKind::Endpoint { .. } => 15,
        FeedKind::Calendar { .. } | FeedKind::Gitlab { .. } => 24 * 60,
    };
    Feed {
        kind,
        maximum_age: SignedDuration::from_mins(minutes),
        when_stale: WhenStale::Frozen,
    }
}

fn endpoint(url: &str) -> Feed {
    feed(FeedKind::Endpoint {
        url: format!("{url}/check"),
        token_file: None,
    })
}

fn calendar(place: FeedPlace) -> Feed {
    feed(FeedKind::Calendar {
        place,
        zone: Zone::named("Europe/Berlin").unwrap(),
        events: EventFilter::default(),
    })
}

fn at_url(url: &str) -> Feed {
    calendar(FeedPlace::Url(url.to_owned()))
}

fn gitlab(url: &str) -> Feed {
    feed(FeedKind::Gitlab {
        project: format!("{url}/example/app"),
        token_file: None,
    })
}

fn with_token(feed: Feed, file: String) -> Feed {
    let kind = match feed.kind {
        FeedKind::Endpoint { url, .. } => FeedKind::Endpoint {
            url,
            token_file: Some(file),
        },
        FeedKind::Gitlab { project, .. } => FeedKind::Gitlab {
            project,
            token_file: Some(file),
        },
        other => other,
    };
    Feed { kind, ..feed }
}

fn named(feed: Feed) -> NamedFeed {
    let environments = vec!["production".to_owned()];
    ("year-end".to_owned(), feed, environments)
}

/// A time after the start, in seconds.
fn moment(seconds: u64) -> ClockReading {
    let start: Timestamp = START.parse().unwrap();
    ClockReading {
        at: start + Duration::from_secs(seconds),
        uptime: Duration::from_secs(seconds),
    }
}

/// The feed `year-end`, asked at times that a test says.
struct Watch {
    feeds: Feeds,
    metrics: Metrics,
}

impl Watch {
    fn new(feed: Feed) -> Watch {
        Watch::with(feed, &options())
    }

    fn with(feed: Feed, options: &ClientOptions) -> Watch {
        let feeds = Feeds::new(options);
        feeds.replace([named(feed)]);
        Watch {
            feeds,
            metrics: Metrics::new(),
        }
    }

    async fn ask(&self, seconds: u64) -> FeedState {
        self.feeds.ask_due(moment(seconds), &self.metrics).await;
        self.state()
    }

    fn state(&self) -> FeedState {
        self.feeds.states().remove("year-end").unwrap()
    }
}

fn problem(state: &FeedState) -> &str {
    state.problem.as_deref().unwrap_or("no problem")
}

fn answers(state: &FeedState) -> &BTreeMap<String, Vec<EndpointAnswer>> {
    match state.reading.as_ref().map(|reading| &*reading.content) {
        Some(FeedContent::Answers(answers)) => answers,
        other => panic!("{other:?}, {:?}", state.problem),
    }
}

fn read_at(state: &FeedState) -> Option<Timestamp> {
    state.reading.as_ref()?.read_at
}

fn schedule(feed: Feed, state: FeedState) -> Schedule {
    let freeze = Freeze {
        name: "year-end".to_owned(),
        environments: vec![Glob::parse("*").unwrap()],
        reason: "Year end".to_owned(),
        owner: None,
        may_pass: MayPass::default(),
        source: FreezeSource::Feed(feed),
    };
    Schedule::new([(freeze, Some(state))], moment(0).at)
}

async fn once(feed: Feed, options: &ClientOptions) -> FeedState {
    let within = Duration::from_secs(20);
    let mut states = read_once(&[named(feed)], options, None, within).await;
    states.remove("year-end").unwrap()
}

/// The query of a request.
fn query(seen: &Seen) -> BTreeMap<String, String> {
    let url = url::Url::parse(&format!("http://host{}", seen.path)).unwrap();
    url.query_pairs().into_owned().collect()
}

fn asked_about(seen: &Seen) -> Timestamp {
    query(seen)["at"].parse().unwrap()
}

#[tokio::test]
async fn an_endpoint_is_asked_about_now_and_about_its_next_attempt_with_the_token_of_a_file() {
    let server = Server::start(|_| json(OPEN)).await;
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "\n  s3cret \r\n").unwrap();
    let feed = with_token(endpoint(&server.url()), token.display().to_string());
    let watch = Watch::new(feed);
    let state = watch.ask(0).await;
    assert_eq!(problem(&state), "no problem");
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for seen in &seen {
        assert!(seen.path.starts_with("/check?"), "{}", seen.path);
        assert_eq!(query(seen)["environment"], "production");
        assert_eq!(seen.headers["authorization"], "Bearer s3cret");
        assert_eq!(seen.headers["accept"], "application/json");
        assert!(!seen.headers.contains_key("accept-encoding"));
    }
    assert_eq!(asked_about(&seen[0]), moment(0).at);
    let next = asked_about(&seen[1]);
    assert!((moment(54).at..=moment(90).at).contains(&next), "{next}");
    assert_eq!(read_at(&state), Some(moment(0).at));

    // Secrets are rotated.
    server.forget();
    fs::write(&token, "another").unwrap();
    watch.ask(53).await;
    assert!(server.seen().is_empty());
    watch.ask(67).await;
    assert_eq!(server.seen()[0].headers["authorization"], "Bearer another");
    fs::write(&token, "Basic Z2F0ZTpwYXNz").unwrap();
    server.forget();
    watch.ask(134).await;
    let sent = &server.seen()[0].headers["authorization"];
    assert_eq!(sent, "Basic Z2F0ZTpwYXNz");
}

#[tokio::test]
async fn a_reason_that_repeats_the_token_does_not_show_it() {
    let server = Server::start(|seen| {
        let token = &seen.headers["authorization"];
        json(&format!(
            r#"{{"freeze_active": true, "reason": "Year end, asked with {token}"}}"#
        ))
    })
    .await;
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "s3cret").unwrap();
    let feed = with_token(endpoint(&server.url()), token.display().to_string());
    let state = Watch::new(feed.clone()).ask(0).await;
    let schedule = schedule(feed, state);
    let frozen = schedule.frozen_at("production", moment(0).at);
    let shown = frozen[0].to_string();
    assert!(shown.contains("Year end, asked with Bearer …"), "{shown}");
}

#[tokio::test]
async fn a_freeze_that_begins_between_two_attempts_counts_before_it_begins_and_never_too_late() {
    let begins = moment(58).at;
    let server = Server::start(move |seen| match asked_about(seen) >= begins {
        true => json(FROZEN),
        false => json(OPEN),
    })
    .await;
    let feed = endpoint(&server.url());
    let watch = Watch::new(feed.clone());
    let state = watch.ask(0).await;
    let schedule = schedule(feed, state);
    for seconds in [0, 30, 57, 58, 90, 300] {
        let frozen = schedule.frozen_at("production", moment(seconds).at);
        assert_eq!(frozen.len(), 1, "{seconds}");
    }
}

#[tokio::test]
async fn an_instant_just_before_the_newest_answer_is_covered() {
    let server = Server::start(|_| json(FROZEN)).await;
    let feed = endpoint(&server.url());
    let watch = Watch::new(feed.clone());
    watch.ask(0).await;
    let state = watch.ask(67).await;
    assert_eq!(answers(&state)["production"].len(), 3);
    let schedule = schedule(feed, state);
    assert_eq!(schedule.frozen_at("production", moment(66).at).len(), 1);
    assert_eq!(schedule.frozen_at("production", moment(67).at).len(), 1);
}

/// Answers that must not be taken for "not frozen", with what is said of them.
fn wrong_answers() -> Vec<(Reply, &'static str)> {
    let failed = |status| Reply::new(status, "application/json", OPEN);
    vec![
        (json("null"), "the answer is `null` and not an object"),
        (
            json(r#"{"freeze_active": "false"}"#),
            "has text in `freeze_active`; expected `true` or `false`",
        ),
        (json(""), "the answer is not valid JSON"),
        (json("{}"), "has no field `freeze_active`"),
        (failed(204), "answered 204"),
        (failed(206), "answered 206"),
        (
            failed(304),
            "answered 304 Not Modified, although that was not asked",
        ),
        (
            failed(401),
            "answered 401 Unauthorized; it asks for a token",
        ),
        (
            failed(403),
            "answered 403 Forbidden; the account lacks a permission",
        ),
        (failed(404), "answered 404 Not Found; the URL is wrong"),
        (failed(429).with("retry-after", "120"), "answered 429"),
        (failed(500), "answered 500"),
        (failed(503), "answered 503"),
        (
            Reply::new(200, "text/html", "<html>Log in</html>"),
            "answered with a web page",
        ),
        (
            Reply::new(200, "application/json", "<!doctype html>"),
            "answered with a web page",
        ),
        (
            json(OPEN).with("content-encoding", "gzip"),
            "answered with compressed content",
        ),
        (json(OPEN).coming(Manner::Cut), "`"),
        (json(OPEN).coming(Manner::Reset), "`"),
        (
            json("").coming(Manner::Endless),
            "the answer is larger than the 65536 bytes that are read",
        ),
        (
            json("")
                .coming(Manner::Endless)
                .with("content-length", "1073741824"),
            "the answer is larger than the 65536 bytes that are read",
        ),
        (json("").coming(Manner::Drip), "there was no answer within"),
        (
            json("").coming(Manner::Silent),
            "there was no answer within",
        ),
    ]
}

#[tokio::test]
async fn an_answer_that_is_not_certain_counts_as_frozen_and_never_as_open() {
    for (reply, why) in wrong_answers() {
        let shown = format!("{} {:?}", reply.status, reply.manner);
        let server = Server::start(move |_| reply.clone()).await;
        let feed = endpoint(&server.url());
        let state = once(feed.clone(), &options()).await;
        assert!(state.reading.is_none(), "{shown}");
        let host = format!("about `production`: `{}`: ", server.host());
        let problem = problem(&state).to_owned();
        assert!(problem.starts_with(&host), "{shown}: {problem}");
        assert!(problem.contains(why), "{shown}: {problem}");
        let schedule = schedule(feed, state);
        let now = Timestamp::now();
        assert_eq!(schedule.frozen_at("production", now).len(), 1, "{shown}");
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_in_one_way_or_another_is_a_problem() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    for url in [
        format!("http://{closed}"),
        "http://no-such-host.invalid".to_owned(),
        "https://no-such-host.invalid".to_owned(),
        "file:///etc/passwd".to_owned(),
        "no url".to_owned(),
        "https://".to_owned(),
        "https://user:password@calendar.example".to_owned(),
    ] {
        let state = once(endpoint(&url), &options()).await;
        assert!(state.reading.is_none() && state.problem.is_some(), "{url}");
        assert!(
            !problem(&state).contains("password@"),
            "{}",
            problem(&state)
        );
    }
}

/// What a server answers, which a test changes.
#[derive(Clone)]
struct Answer(Arc<Mutex<Reply>>);

impl Answer {
    async fn serve(reply: Reply) -> (Answer, Server) {
        let answer = Answer(Arc::new(Mutex::new(reply)));
        let given = answer.clone();
        let server = Server::start(move |_| given.0.lock().unwrap().clone()).await;
        (answer, server)
    }

    fn set(&self, reply: Reply) {
        *self.0.lock().unwrap() = reply;
    }
}

#[tokio::test]
async fn the_last_answer_survives_an_outage_and_ages() {
    let (answer, server) = Answer::serve(json(OPEN)).await;
    let feed = endpoint(&server.url());
    let watch = Watch::new(feed.clone());
    watch.ask(0).await;
    answer.set(Reply::status(500));
    let mut asked = 0;
    for seconds in (10..1200).step_by(10) {
        server.forget();
        watch.ask(seconds).await;
        asked += server.seen().len();
    }
    // A request fails at once, and the second question is not asked then.
    assert!((15..25).contains(&asked), "{asked}");
    let state = watch.state();
    assert_eq!(read_at(&state), Some(moment(0).at));
    let words = "answered 500 Internal Server Error";
    assert!(problem(&state).contains(words), "{}", problem(&state));
    let schedule = schedule(feed, state);
    assert!(schedule.frozen_at("production", moment(900).at).is_empty());
    assert_eq!(schedule.frozen_at("production", moment(901).at).len(), 1);

    answer.set(json(OPEN));
    let state = watch.ask(1300).await;
    assert_eq!(read_at(&state), Some(moment(1300).at));
    assert_eq!(problem(&state), "no problem");
    let metrics = watch.metrics.text();
    assert!(
        metrics.contains(r#"feed_attempts_total{outcome="read"} 2"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn retry_after_is_honoured_within_bounds() {
    for (asked, waits) in [("120", 120), ("86400", 900), ("0", 30), ("soon", 30)] {
        let (answer, server) = Answer::serve(Reply::status(429).with("retry-after", asked)).await;
        let watch = Watch::new(gitlab(&server.url()));
        watch.ask(0).await;
        answer.set(json("[]"));
        watch.ask(waits * 9 / 10 - 4).await;
        assert!(watch.state().reading.is_none(), "{asked}");
        watch.ask(waits * 11 / 10).await;
        assert!(watch.state().reading.is_some(), "{asked}");
    }
    let date = jiff::fmt::rfc2822::to_string(&moment(120).at.to_zoned(jiff::tz::TimeZone::UTC));
    let reply = Reply::status(503).with("retry-after", date.unwrap());
    let (answer, server) = Answer::serve(reply).await;
    let watch = Watch::new(gitlab(&server.url()));
    watch.ask(0).await;
    answer.set(json("[]"));
    assert!(watch.ask(110).await.reading.is_none());
    assert!(watch.ask(122).await.reading.is_some());
}

#[tokio::test]
async fn a_clock_that_is_set_back_during_an_outage_makes_no_answer_younger() {
    let (answer, server) = Answer::serve(json(OPEN)).await;
    let watch = Watch::new(endpoint(&server.url()));
    watch.ask(0).await;
    answer.set(Reply::status(500));
    let an_hour_back = ClockReading {
        at: moment(600).at - Duration::from_secs(3600),
        uptime: Duration::from_secs(600),
    };
    watch.feeds.ask_due(an_hour_back, &watch.metrics).await;
    let age = an_hour_back
        .at
        .duration_since(read_at(&watch.state()).unwrap());
    assert_eq!(age, SignedDuration::from_mins(10));
}

#[tokio::test]
async fn an_environment_without_answers_does_not_make_another_one_stale() {
    let failing = Arc::new(AtomicU64::new(0));
    let fails = Arc::clone(&failing);
    let server = Server::start(move |seen| {
        let is_staging = query(seen)["environment"] == "staging";
        match is_staging && fails.load(Ordering::SeqCst) == 1 {
            true => Reply::status(500),
            false => json(OPEN),
        }
    })
    .await;
    let feed = endpoint(&server.url());
    let watch = Watch::new(feed.clone());
    let both = vec!["production".to_owned(), "staging".to_owned()];
    watch
        .feeds
        .replace([("year-end".to_owned(), feed.clone(), both)]);
    watch.ask(0).await;
    failing.store(1, Ordering::SeqCst);
    for seconds in (10..1800).step_by(10) {
        let state = watch.ask(seconds).await;
        let schedule = schedule(feed.clone(), state);
        let at = moment(seconds).at;
        assert!(schedule.frozen_at("production", at).is_empty(), "{seconds}");
        let staging = schedule.frozen_at("staging", at).len();
        assert!(staging == 0 || seconds > 750, "{seconds}");
        assert!(staging == 1 || seconds <= 900, "{seconds}");
    }
    let words = "about `staging`: ";
    assert!(problem(&watch.state()).starts_with(words));
}

#[tokio::test]
async fn a_token_is_never_sent_to_another_host() {
    let other = Server::start(|_| json(OPEN)).await;
    let to = format!("{}/check", other.url());
    let server = Server::start(move |_| Reply::status(302).with("location", to.clone())).await;
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "s3cret").unwrap();
    for feed in [endpoint(&server.url()), gitlab(&server.url())] {
        let feed = with_token(feed, token.display().to_string());
        let state = once(feed, &options()).await;
        let words = format!(
            "redirects to `{}`, where the token is not sent",
            other.host()
        );
        assert!(problem(&state).contains(&words), "{}", problem(&state));
    }
    assert!(other.seen().is_empty());

    // Within the origin it is.
    let server = Server::start(|seen| match seen.path.starts_with("/moved") {
        true => json(OPEN),
        false => Reply::status(307).with("location", "/moved"),
    })
    .await;
    let feed = with_token(endpoint(&server.url()), token.display().to_string());
    assert_eq!(problem(&once(feed, &options()).await), "no problem");
    let sent = |seen: &Seen| seen.headers["authorization"] == "Bearer s3cret";
    assert!(server.seen().iter().all(sent));
}

#[tokio::test]
async fn a_redirect_leads_neither_to_a_metadata_service_nor_away_from_tls() {
    for (to, why) in [
        ("https://169.254.169.254/latest/", "is a link-local address"),
        ("https://2852039166/", "is a link-local address"),
        ("https://metadata.google.internal/", "is a metadata service"),
        (
            "https://METADATA.google.internal./",
            "is a metadata service",
        ),
        (
            "https://[fd00:ec2::254]/",
            "is the address of a metadata service",
        ),
        ("https://0.0.0.0/", "is an address of no host"),
        ("https://inside.example/", "is a link-local address"),
        ("http://169.254.169.254/", "is asked over `https` alone"),
        ("http://calendar.example/", "is asked over `https` alone"),
        ("file:///etc/passwd", "is asked over `https` alone"),
        ("https://", "redirects without a usable Location header"),
        ("/", "redirects too many times"),
    ] {
        let server = Server::start(move |_| Reply::status(301).with("location", to)).await;
        let metadata: IpAddr = "169.254.169.254".parse().unwrap();
        let options = ClientOptions {
            hosts: BTreeMap::from([("inside.example".to_owned(), vec![metadata])]),
            ..options()
        };
        for feed in [at_url(&server.url()), endpoint(&server.url())] {
            let state = once(feed, &options).await;
            assert!(state.reading.is_none());
            assert!(problem(&state).contains(why), "{to}: {}", problem(&state));
        }
    }
}

#[tokio::test]
async fn a_feed_on_a_metadata_service_or_loopback_is_asked_only_where_the_operator_names_it() {
    for url in ["https://169.254.169.254", "https://metadata.goog"] {
        let state = once(at_url(url), &options()).await;
        let words = "not asked, because";
        assert!(problem(&state).contains(words), "{}", problem(&state));
    }
    let server = Server::start(|_| json(OPEN)).await;
    let mut in_a_pod = ClientOptions {
        loopback: false,
        ..options()
    };
    let state = once(endpoint(&server.url()), &in_a_pod).await;
    let words = "is this machine (loopback); name it as a `host` under `registries`";
    assert!(problem(&state).contains(words), "{}", problem(&state));
    assert!(server.seen().is_empty());
    in_a_pod.registries.push(RegistryOptions {
        host: server.host(),
        plain_http: true,
        ..RegistryOptions::default()
    });
    let state = once(endpoint(&server.url()), &in_a_pod).await;
    assert_eq!(problem(&state), "no problem");
}

#[tokio::test]
async fn http_without_tls_is_for_hosts_that_the_operator_lists() {
    let server = Server::start(|_| json(OPEN)).await;
    let port = server.host().replace("127.0.0.1:", "");
    let url = format!("http://itsm.example:{port}");
    let mut options = ClientOptions {
        hosts: BTreeMap::from([(
            "itsm.example".to_owned(),
            vec!["127.0.0.1".parse().unwrap()],
        )]),
        ..options()
    };
    let state = once(endpoint(&url), &options).await;
    let words = "is asked over `https` alone; for `http`, list the host under `registries`";
    assert!(problem(&state).contains(words), "{}", problem(&state));
    options.registries.push(RegistryOptions {
        host: format!("itsm.example:{port}"),
        plain_http: true,
        ..RegistryOptions::default()
    });
    assert_eq!(problem(&once(endpoint(&url), &options).await), "no problem");
}

#[tokio::test]
async fn a_feed_over_tls_needs_a_certificate_that_the_configuration_trusts() {
    let identity = TlsIdentity::create().unwrap();
    let plain = Server::start(|_| json(OPEN)).await;
    let to = plain.url();
    let server = Server::start_tls(&identity, move |seen| {
        match seen.path.starts_with("/check") {
            true => json(OPEN),
            false => Reply::status(302).with("location", to.clone()),
        }
    })
    .await;
    let mut options = options();
    let state = once(endpoint(&server.url()), &options).await;
    assert!(
        problem(&state).contains("cannot connect"),
        "{}",
        problem(&state)
    );
    options.registries.push(RegistryOptions {
        host: server.host(),
        ca_pem: Some(identity.authority_pem.clone().into()),
        ..RegistryOptions::default()
    });
    let state = once(endpoint(&server.url()), &options).await;
    assert_eq!(problem(&state), "no problem");
    // From TLS no redirect leads away from it, not even to loopback.
    let state = once(at_url(&server.url()), &options).await;
    let words = format!("redirects to `{}` without TLS", plain.host());
    assert!(problem(&state).contains(&words), "{}", problem(&state));
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn secrets_are_in_no_message_and_no_metric() {
    const SECRET: &str = "pr1vate";
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let token = file("token", SECRET.to_owned());
    let redirect = format!("http://calendar.example/{SECRET}?key={SECRET}");
    let echo = format!("no /{SECRET}/basic.ics here");
    let mut replies: Vec<_> = wrong_answers()
        .into_iter()
        .map(|(reply, _)| reply)
        .collect();
    replies.push(Reply::status(302).with("location", redirect));
    replies.push(Reply::new(404, "text/plain", echo.clone()));
    replies.push(Reply::new(401, "application/json", echo.clone()));
    replies.push(Reply::new(200, "text/calendar", echo));
    for reply in replies {
        let slow = [Manner::Drip, Manner::Silent].contains(&reply.manner);
        let server = Server::start(move |_| reply.clone()).await;
        let secret = format!("{}/{SECRET}/basic.ics?key={SECRET}", server.url());
        let user = secret.replace("http://", &format!("http://gate:{SECRET}@"));
        let feeds = [
            calendar(FeedPlace::UrlFile(file("url", secret.clone()))),
            calendar(FeedPlace::UrlFile(file("user", user))),
            at_url(&secret),
            with_token(
                feed(FeedKind::Endpoint {
                    url: secret,
                    token_file: None,
                }),
                token.clone(),
            ),
            with_token(gitlab(&server.url()), token.clone()),
        ];
        for feed in feeds.into_iter().take(if slow { 1 } else { 5 }) {
            let watch = Watch::new(feed);
            let state = watch.ask(0).await;
            assert!(state.problem.is_some());
            let said = format!("{state:?} {}", watch.metrics.text());
            assert!(!said.contains(SECRET), "{said}");
        }
    }
    for text in [
        SECRET.to_owned(),
        format!("https//{SECRET}"),
        format!("ftp://{SECRET}/{SECRET}"),
    ] {
        let state = once(calendar(FeedPlace::UrlFile(file("url", text))), &options()).await;
        let said = problem(&state).replace(&format!("`{SECRET}`"), "`the host`");
        assert!(!said.contains(SECRET), "{said}");
    }
}

#[tokio::test]
async fn a_missing_or_empty_file_is_named() {
    let server = Server::start(|_| json(OPEN)).await;
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("empty"), " \n").unwrap();
    fs::write(path("binary"), [0xff, 0xfe]).unwrap();
    fs::write(path("lines"), "one\ntwo").unwrap();
    fs::write(path("large"), "x".repeat(20_000)).unwrap();
    fs::create_dir(path("folder")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    for (name, why) in [
        ("missing", "cannot be read: No such file"),
        ("empty", "is empty; expected "),
        ("binary", "is not UTF-8 text"),
        ("large", "cannot be read: it is larger than 16384 bytes"),
        ("folder", "cannot be read: it is not a regular file"),
        ("pipe", "cannot be read: it is not a regular file"),
        ("lines", ""),
    ] {
        let feeds = [
            with_token(endpoint(&server.url()), path(name)),
            with_token(gitlab(&server.url()), path(name)),
            calendar(FeedPlace::UrlFile(path(name))),
        ];
        for feed in feeds {
            let state = once(feed, &options()).await;
            assert!(state.reading.is_none());
            let words = format!("the file `{}` {why}", path(name));
            assert!(problem(&state).contains(&words), "{}", problem(&state));
        }
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn the_freeze_periods_of_a_project_are_read_from_all_pages() {
    let server = Server::start(|seen| {
        let period = |start: &str, zone: &str| {
            format!(r#"[{{"id": 1, "freeze_start": "{start}", "freeze_end": "0 8 * * 1", "cron_timezone": "{zone}", "created_at": null}}]"#)
        };
        match query(seen).get("page") {
            None => json(&period("0 23 * * 5", "UTC")).with("link", format!("<{}?per_page=100&page=2>; rel=\"next\"", seen.path.split('?').next().unwrap())),
            Some(_) => json(&period("0 18 24 12 *", "Europe/Berlin")),
        }
    })
    .await;
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "glpat-1").unwrap();
    let feed = with_token(gitlab(&server.url()), token.display().to_string());
    let watch = Watch::new(feed.clone());
    let state = watch.ask(0).await;
    assert_eq!(problem(&state), "no problem");
    let path = "/api/v4/projects/example%2Fapp/freeze_periods?per_page=100";
    assert_eq!(
        server.asked(),
        [format!("GET {path}"), format!("GET {path}&page=2")]
    );
    assert_eq!(server.seen()[1].headers["authorization"], "Bearer glpat-1");
    let content = |state: &FeedState| Arc::clone(&state.reading.as_ref().unwrap().content);
    let FeedContent::Periods(periods) = &*content(&state) else {
        panic!("{state:?}");
    };
    let zones: Vec<_> = periods.iter().map(|period| period.zone.name()).collect();
    assert_eq!(zones, ["UTC", "Europe/Berlin"]);
    let schedule = schedule(feed, state.clone());
    assert!(schedule.frozen_at("production", moment(0).at).is_empty());
    let evening = "2026-12-24T17:00:00Z".parse().unwrap();
    assert_eq!(schedule.frozen_at("production", evening).len(), 1);
    // The same answer is the same content.
    let later = watch.ask(500).await;
    assert!(Arc::ptr_eq(&content(&state), &content(&later)));
    assert_eq!(read_at(&later), Some(moment(500).at));
}

#[tokio::test]
async fn a_freeze_period_that_is_not_understood_is_named_and_none_is_left_out() {
    let period = |start: &str, zone: &str| {
        json(&format!(
            r#"[{{"freeze_start": "0 23 * * 5", "freeze_end": "0 8 * * 1", "cron_timezone": "UTC"}},
                {{"freeze_start": "{start}", "freeze_end": "0 8 * * 1", "cron_timezone": "{zone}"}}]"#
        ))
    };
    let elsewhere = json("[]").with("link", "<https://evil.example/>; rel=\"next\"");
    for (reply, why) in [
        (
            period("0 23 L * *", "UTC"),
            "`freeze_start`: `L` is not a day of the month",
        ),
        (
            period("0 23 * * 5", "Eastern Time (US & Canada)"),
            "`cron_timezone`: `Eastern Time (US & Canada)` is not a time zone",
        ),
        (
            json(r#"[{"freeze_start": "0 23 * * 5"}]"#),
            "missing field `freeze_end`",
        ),
        (json("{}"), "the answer is not a list of them"),
        (json("null"), "the answer is not a list of them"),
        (json("[]").coming(Manner::Cut), "`"),
        (elsewhere, "names a next page on another host"),
        (
            json("[]").with(
                "link",
                "</api/v4/projects/example%2Fapp/freeze_periods>; rel=next",
            ),
            "there are more than 20 pages",
        ),
        (
            Reply::new(200, "text/html", "<html>"),
            "answered with a web page",
        ),
        (
            Reply::status(404),
            "answered 404 Not Found; the URL is wrong, or it asks for a token",
        ),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let state = once(gitlab(&server.url()), &options()).await;
        assert!(state.reading.is_none());
        assert!(problem(&state).contains(why), "{why}: {}", problem(&state));
    }
    let server = Server::start(|_| json("[]")).await;
    let state = once(gitlab(&server.url()), &options()).await;
    assert_eq!(problem(&state), "no problem");
    let content = &*state.reading.unwrap().content;
    assert!(matches!(content, FeedContent::Periods(periods) if periods.is_empty()));
}

#[tokio::test]
async fn a_command_reads_all_feeds_side_by_side_within_a_time_and_its_answers_do_not_age() {
    let silent = Server::start(|_| json("").coming(Manner::Silent)).await;
    let sound = Server::start(|_| json(FROZEN)).await;
    let mut feeds: Vec<_> = (0..7)
        .map(|index| {
            (
                format!("silent-{index}"),
                endpoint(&silent.url()),
                vec!["production".to_owned()],
            )
        })
        .collect();
    feeds.push(named(endpoint(&sound.url())));
    feeds.extend((0..30).map(|index| {
        (
            format!("z-{index}"),
            endpoint(&silent.url()),
            vec!["production".to_owned()],
        )
    }));
    let at: Timestamp = "2027-01-01T00:00:00.5Z".parse().unwrap();
    let began = std::time::Instant::now();
    let within = Duration::from_millis(700);
    let mut states = read_once(&feeds, &options(), Some(at), within).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(states.len(), 38);
    let state = states.remove("year-end").unwrap();
    assert_eq!(
        asked_about(&sound.seen()[0]).to_string(),
        "2027-01-01T00:00:00Z"
    );
    assert_eq!(sound.seen().len(), 1);
    assert_eq!(read_at(&state), None);
    let schedule = schedule(endpoint(&sound.url()), state);
    assert_eq!(schedule.frozen_at("production", at).len(), 1);
    for state in states.values() {
        assert_eq!(problem(state), "it was not read within 0.7 seconds");
        assert!(state.reading.is_none());
    }
}

#[tokio::test]
async fn a_feed_that_did_not_change_keeps_its_answer_when_files_change() {
    let (answer, server) = Answer::serve(json(FROZEN)).await;
    let feed = endpoint(&server.url());
    let watch = Watch::new(feed.clone());
    watch.ask(0).await;
    let revision = watch.feeds.revision();
    answer.set(Reply::status(500));
    let other = ("other".to_owned(), gitlab(&server.url()), Vec::new());

    watch.feeds.replace([named(feed.clone())]);
    assert_eq!(watch.feeds.revision(), revision);
    watch.feeds.replace([named(feed.clone()), other]);
    assert!(watch.feeds.revision() > revision);
    assert!(answers(&watch.state())["production"][0].is_frozen);
    server.forget();
    watch.ask(10).await;
    assert_eq!(
        server.asked(),
        ["GET /api/v4/projects/example%2Fapp/freeze_periods?per_page=100"]
    );

    // Other limits: the answer still counts, and the feed is asked at once.
    let strict = Feed {
        maximum_age: SignedDuration::from_mins(5),
        ..feed.clone()
    };
    server.forget();
    watch.feeds.replace([named(strict)]);
    assert!(answers(&watch.state())["production"][0].is_frozen);
    watch.ask(11).await;
    assert!(!server.seen().is_empty());
    assert_eq!(watch.feeds.states().len(), 1);

    // Another source: nothing is known.
    let moved = endpoint(&format!("{}/moved", server.url()));
    watch.feeds.replace([named(moved)]);
    assert!(watch.state().reading.is_none());
    let revision = watch.feeds.revision();
    watch.feeds.replace([]);
    assert!(watch.feeds.states().is_empty());
    assert!(watch.feeds.revision() > revision);
}

#[tokio::test]
async fn a_feed_whose_attempt_was_given_up_is_asked_again() {
    let (answer, server) = Answer::serve(json("").coming(Manner::Silent)).await;
    let watch = Watch::new(endpoint(&server.url()));
    let many = (0..20).map(|index| {
        let environments = vec!["production".to_owned()];
        (
            format!("feed-{index}"),
            endpoint(&server.url()),
            environments,
        )
    });
    watch.feeds.replace(many);
    let short = Duration::from_millis(200);
    let ask = watch.feeds.ask_due(moment(0), &watch.metrics);
    assert!(tokio::time::timeout(short, ask).await.is_err());
    answer.set(json(OPEN));
    watch.feeds.ask_due(moment(1), &watch.metrics).await;
    let states = watch.feeds.states();
    assert_eq!(states.len(), 20);
    assert!(
        states.values().all(|state| state.reading.is_some()),
        "{states:?}"
    );
}

#[tokio::test]
async fn a_new_environment_is_asked_for_at_once_and_the_others_keep_their_answers() {
    let server = Server::start(|_| json(FROZEN)).await;
    let feed = endpoint(&server.url());
    let watch = Watch::new(feed.clone());
    watch.ask(0).await;
    let both = vec!["production".to_owned(), "staging".to_owned()];
    watch.feeds.replace([("year-end".to_owned(), feed, both)]);
    assert!(answers(&watch.state()).contains_key("production"));
    watch.ask(1).await;
    assert!(answers(&watch.state()).contains_key("staging"));
}

#[tokio::test]
async fn an_answer_to_a_question_about_an_earlier_feed_is_dropped() {
    let feeds: Arc<Mutex<Option<Arc<Feeds>>>> = Arc::default();
    let late = Arc::clone(&feeds);
    let server = Server::start(move |seen| {
        // While the first one is asked, the files change.
        if let Some(feeds) = late.lock().unwrap().take() {
            let host = seen.headers["host"].clone();
            feeds.replace([named(endpoint(&format!("http://{host}/second")))]);
        }
        json(FROZEN)
    })
    .await;
    let watched = Arc::new(Feeds::new(&options()));
    watched.replace([named(endpoint(&format!("{}/first", server.url())))]);
    *feeds.lock().unwrap() = Some(Arc::clone(&watched));
    let metrics = Metrics::new();
    watched.ask_due(moment(0), &metrics).await;
    assert!(watched.states()["year-end"].reading.is_none());
    watched.ask_due(moment(1), &metrics).await;
    assert!(watched.states()["year-end"].reading.is_some());
}

#[tokio::test]
async fn the_loop_asks_feeds_and_shows_their_age_and_new_options_are_tried_at_once() {
    let server = Server::start(|_| json(FROZEN)).await;
    let in_a_pod = ClientOptions {
        loopback: false,
        ..options()
    };
    let feeds = Arc::new(Feeds::new(&in_a_pod));
    let metrics = Arc::new(Metrics::new());
    let running = tokio::spawn(Arc::clone(&feeds).keep_current(Arc::clone(&metrics)));
    feeds.replace([named(endpoint(&server.url()))]);
    until(|| feeds.states()["year-end"].problem.is_some()).await;
    feeds.replace_options(&options());
    until(|| feeds.states()["year-end"].reading.is_some()).await;
    let age = r#"promotion_gate_feed_age_seconds{freeze="year-end"} "#;
    until(|| metrics.text().contains(age)).await;
    assert!(
        metrics
            .text()
            .contains(r#"feed_attempts_total{outcome="refused"} 1"#)
    );
    feeds.replace([]);
    until(|| !metrics.text().contains(age)).await;
    running.abort();
}

#[tokio::test]
async fn a_replica_that_lost_the_lease_shows_no_age_of_a_feed() {
    let server = Server::start(|_| json(FROZEN)).await;
    let feeds = Arc::new(Feeds::new(&options()));
    let metrics = Arc::new(Metrics::new());
    let running = tokio::spawn(Arc::clone(&feeds).keep_current(Arc::clone(&metrics)));
    feeds.replace([named(endpoint(&server.url()))]);
    let age = r#"promotion_gate_feed_age_seconds{freeze="year-end"} "#;
    until(|| metrics.text().contains(age)).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(!metrics.text().contains(age), "{}", metrics.text());
}

/// Lets other tasks run until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.unwrap();
}

/// A calendar with these events, each with its summary and its days in December 2026.
fn ics(events: &[(&str, u8, u8)]) -> String {
    let event = |(summary, from, until): &(&str, u8, u8)| {
        format!(
            "BEGIN:VEVENT\r\nUID:{summary}\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:{summary}\r\nDTSTART;VALUE=DATE:202612{from:02}\r\n\
             DTEND;VALUE=DATE:202612{until:02}\r\nEND:VEVENT\r\n"
        )
    };
    let events: String = events.iter().map(event).collect();
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\n{events}END:VCALENDAR\r\n")
}

fn calendar_of(events: &[(&str, u8, u8)]) -> Reply {
    Reply::new(200, "text/calendar; charset=utf-8", ics(events))
}

fn summaries(state: &FeedState) -> Vec<&str> {
    match state.reading.as_ref().map(|reading| &*reading.content) {
        Some(FeedContent::Events(events)) => {
            events.iter().map(|event| event.summary.as_str()).collect()
        }
        other => panic!("{other:?}, {:?}", state.problem),
    }
}

#[tokio::test]
async fn a_calendar_is_asked_for_again_only_if_it_changed() {
    let calendar = Arc::new(Mutex::new(calendar_of(&[("Year end", 20, 31)])));
    let served = Arc::clone(&calendar);
    let server = Server::start(move |seen| {
        let reply = served.lock().unwrap().clone();
        let tag = reply.headers.iter().find(|(name, _)| name == "etag");
        match tag {
            Some((_, tag)) if seen.headers.get("if-none-match") == Some(tag) => Reply::status(304),
            _ => reply,
        }
    })
    .await;
    let set = |reply: Reply, tag: &str| {
        let date = "Thu, 24 Dec 2026 10:00:00 GMT";
        *calendar.lock().unwrap() = reply.with("etag", tag).with("last-modified", date);
    };
    let feed = at_url(&format!("{}/basic.ics", server.url()));
    let watch = Watch::new(feed.clone());
    set(calendar_of(&[("Year end", 20, 31)]), "\"one\"");
    let first = watch.ask(0).await;
    assert_eq!(summaries(&first), ["Year end"]);
    let schedule = schedule(feed, first.clone());
    assert_eq!(schedule.frozen_at("production", moment(0).at).len(), 1);

    // 1. Unchanged: the content stays, and it is as old as the question.
    server.forget();
    let second = watch.ask(1000).await;
    let seen = server.seen();
    assert_eq!(seen[0].headers["if-none-match"], "\"one\"");
    assert_eq!(
        seen[0].headers["if-modified-since"],
        "Thu, 24 Dec 2026 10:00:00 GMT"
    );
    assert_eq!(problem(&second), "no problem");
    assert_eq!(read_at(&second), Some(moment(1000).at));
    let content = |state: &FeedState| Arc::clone(&state.reading.as_ref().unwrap().content);
    assert!(Arc::ptr_eq(&content(&first), &content(&second)));

    // 2. Replaced by something that is no calendar: what was known stays, and ages. Its tag is never sent.
    for (at, body) in [(2000, ""), (2100, "BEGIN:VCALENDAR"), (2200, "{}")] {
        set(Reply::new(200, "text/calendar", body), "\"broken\"");
        let broken = watch.ask(at).await;
        assert!(
            problem(&broken).contains("the calendar cannot be read"),
            "{broken:?}"
        );
        assert_eq!(read_at(&broken), Some(moment(1000).at));
        assert_eq!(summaries(&broken), ["Year end"]);
    }
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.headers["if-none-match"] == "\"one\"")
    );

    // 3. Changed.
    set(
        calendar_of(&[("Year end", 20, 31), ("Audit", 1, 3)]),
        "\"two\"",
    );
    let third = watch.ask(4000).await;
    assert_eq!(summaries(&third), ["Year end", "Audit"]);
    // 4. A day later it is read in full, whatever a cache says.
    server.forget();
    watch.ask(4000 + 24 * 3600).await;
    assert!(!server.seen()[0].headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn a_calendar_that_is_no_calendar_counts_as_frozen() {
    let redirected = Server::start(|_| calendar_of(&[])).await;
    let large = format!("{}{}", ics(&[]), " ".repeat(9 << 20));
    for (reply, why) in [
        (
            Reply::new(200, "text/calendar", ""),
            "the calendar cannot be read",
        ),
        (
            Reply::new(200, "text/calendar", "null"),
            "the calendar cannot be read",
        ),
        (
            Reply::new(200, "text/html", ics(&[])),
            "answered with a web page",
        ),
        (
            Reply::new(200, "text/calendar", "<html>"),
            "answered with a web page",
        ),
        (
            Reply::new(200, "text/calendar", large),
            "larger than the 8388608 bytes",
        ),
        (calendar_of(&[]).coming(Manner::Cut), "`"),
        (
            calendar_of(&[]).coming(Manner::Endless),
            "larger than the 8388608 bytes",
        ),
        (
            calendar_of(&[]).coming(Manner::Drip),
            "there was no answer within",
        ),
        (
            calendar_of(&[]).with("content-encoding", "gzip"),
            "compressed content",
        ),
        (Reply::status(304), "although that was not asked"),
        (
            Reply::status(302).with("location", redirected.url().replace("http", "ftp")),
            "is asked over `https` alone",
        ),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let state = once(at_url(&server.url()), &options()).await;
        assert!(state.reading.is_none(), "{why}");
        assert!(problem(&state).contains(why), "{why}: {}", problem(&state));
    }
    // An empty calendar is a calendar, also after a redirect.
    let to = redirected.url();
    let server = Server::start(move |_| Reply::status(302).with("location", to.clone())).await;
    let state = once(at_url(&server.url()), &options()).await;
    assert!(summaries(&state).is_empty());
}

#[tokio::test]
async fn an_event_that_is_unclear_matters_only_if_it_counts() {
    let body =
        ics(&[("Year end freeze", 20, 31), ("Party", 18, 19)]).replace("20261218", "2026121");
    let server = Server::start(move |_| Reply::new(200, "text/calendar", body.clone())).await;
    let all = at_url(&server.url());
    let state = once(all.clone(), &options()).await;
    assert!(
        problem(&state).contains("the calendar cannot be read: line "),
        "{state:?}"
    );
    let FeedKind::Calendar { place, zone, .. } = all.kind else {
        panic!("a calendar");
    };
    let freezes = feed(FeedKind::Calendar {
        place,
        zone,
        events: EventFilter {
            summaries: vec![Glob::parse("*freeze*").unwrap()],
            ..EventFilter::default()
        },
    });
    assert_eq!(
        summaries(&once(freezes, &options()).await),
        ["Year end freeze"]
    );
}

#[tokio::test]
async fn the_file_with_the_url_of_a_calendar_can_be_replaced() {
    let tagged = |summary| calendar_of(&[(summary, 20, 31)]).with("etag", "\"same\"");
    let one = Server::start(move |_| tagged("One")).await;
    let two = Server::start(
        move |seen| match seen.headers.contains_key("if-none-match") {
            true => Reply::status(304),
            false => tagged("Two"),
        },
    )
    .await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("url");
    fs::write(&file, format!("{}/private\n", one.url())).unwrap();
    let watch = Watch::new(calendar(FeedPlace::UrlFile(file.display().to_string())));
    assert_eq!(summaries(&watch.ask(0).await), ["One"]);
    // The tag of one URL says nothing about another one.
    fs::write(&file, format!("{}/private\n", two.url())).unwrap();
    assert_eq!(summaries(&watch.ask(1000).await), ["Two"]);
    fs::write(&file, "").unwrap();
    let state = watch.ask(2000).await;
    assert_eq!(summaries(&state), ["Two"]);
    let words = format!("the file `{}` is empty; expected a URL", file.display());
    assert_eq!(problem(&state), words);
}

#[tokio::test]
async fn a_calendar_in_a_file_is_read_again_when_it_changes() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("freezes.ics");
    let watch = Watch::new(calendar(FeedPlace::File(file.display().to_string())));
    let named = format!("the file `{}`", file.display());
    let state = watch.ask(0).await;
    assert!(
        problem(&state).starts_with(&format!("{named} cannot be read: ")),
        "{state:?}"
    );
    fs::write(&file, ics(&[("One", 20, 31)])).unwrap();
    let one = watch.ask(20).await;
    assert_eq!(summaries(&one), ["One"]);
    let revision = watch.feeds.revision();
    watch.ask(40).await;
    assert_eq!(
        watch.feeds.revision(),
        revision,
        "nothing changed, and nobody is told"
    );
    fs::write(&file, "").unwrap();
    let empty = watch.ask(60).await;
    assert!(
        problem(&empty).starts_with(&format!("{named}: the calendar cannot be read")),
        "{empty:?}"
    );
    assert_eq!(summaries(&empty), ["One"]);
    fs::write(&file, ics(&[("Two", 20, 31)])).unwrap();
    assert_eq!(summaries(&watch.ask(80).await), ["Two"]);
    fs::write(&file, " ".repeat(9 << 20)).unwrap();
    assert!(problem(&watch.ask(100).await).contains("larger than 8388608 bytes"));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(problem(&watch.ask(120).await).contains("it is not a regular file"));
}

#[tokio::test(start_paused = true)]
async fn the_loop_notices_a_new_calendar_within_seconds() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("freezes.ics");
    fs::write(&file, ics(&[("One", 20, 31)])).unwrap();
    let feeds = Arc::new(Feeds::new(&options()));
    feeds.replace([named(calendar(FeedPlace::File(file.display().to_string())))]);
    let running = tokio::spawn(Arc::clone(&feeds).keep_current(Arc::new(Metrics::new())));
    let is = |summary: &str| {
        let state = feeds.states().remove("year-end").unwrap();
        state.reading.is_some() && summaries(&state) == [summary]
    };
    let wait_for = async |summary: &str| {
        let began = tokio::time::Instant::now();
        while !is(summary) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        began.elapsed()
    };
    wait_for("One").await;
    fs::write(&file, ics(&[("Two", 20, 31)])).unwrap();
    assert!(wait_for("Two").await < Duration::from_secs(15));
    running.abort();
}

/// A policy and a freeze that asks an endpoint.
fn policy(url: &str) -> String {
    format!(
        "apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {{name: production}}
spec: {{environment: production, requirements: [{{noFreeze: {{}}}}]}}
---
apiVersion: promotion-gate.dev/v1alpha1
kind: ChangeFreeze
metadata: {{name: year-end}}
spec: {{environments: [production], reason: Change schedule, endpoint: {{url: \"{url}/check\"}}}}
"
    )
}

#[tokio::test]
async fn a_gate_that_starts_has_asked_its_feeds_before_it_answers() {
    let server = Server::start(|_| json(OPEN)).await;
    let gate = Gate::start(&policy(&server.url())).await;
    assert_eq!(server.seen().len(), 2);
    let (allowed, message) = gate.says("nginx").await;
    assert!(allowed, "{message}");
    gate.close().await;
    for (reply, words) in [
        (
            json(FROZEN),
            "is frozen by `year-end` (Change schedule: Year end)",
        ),
        (Reply::status(500), "answered 500 Internal Server Error"),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let gate = Gate::start(&policy(&server.url())).await;
        let (allowed, message) = gate.says("nginx").await;
        assert!(!allowed && message.contains(words), "{message}");
        gate.close().await;
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines about the feed since the last call, from their level on.
    fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

#[tokio::test]
async fn what_changes_of_a_feed_is_logged_once_and_without_secrets() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .without_time()
        .with_ansi(false)
        .with_target(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (answer, server) = Answer::serve(json(OPEN)).await;
    let feed = feed(FeedKind::Endpoint {
        url: format!("{}/pr1vate?key=pr1vate", server.url()),
        token_file: None,
    });
    let watch = Watch::new(feed);
    let mut all = Vec::new();
    let mut said = |expected: &[&str]| {
        let lines = log.lines();
        let own: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("year-end"))
            .collect();
        assert_eq!(own.len(), expected.len(), "{own:?}");
        for (line, words) in own.iter().zip(expected) {
            assert!(line.contains(words), "{line}");
        }
        all.extend(lines);
    };
    watch.ask(0).await;
    said(&["INFO the feed of a freeze is read"]);
    watch.ask(100).await;
    said(&[]);
    answer.set(Reply::status(500));
    for seconds in [200, 400, 600] {
        watch.ask(seconds).await;
    }
    said(&["WARN the feed of a freeze cannot be read; its last answer counts"]);
    for seconds in [1100, 1200, 1300] {
        watch.ask(seconds).await;
    }
    said(&["ERROR the feed of a freeze is stale; the freeze counts as lasting"]);
    answer.set(json(FROZEN));
    watch.ask(1400).await;
    said(&["INFO the feed of a freeze is read"]);
    assert!(all.iter().all(|line| !line.contains("pr1vate")), "{all:?}");
}
