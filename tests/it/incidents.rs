//! Incident checks: what each tracker answers and what that means, and what hostile or broken trackers can do.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use promotion_gate::api;
use promotion_gate::incidents::{IncidentChecks, Incidents as _, Told};
use promotion_gate::metrics::IncidentQuestions;
use promotion_gate::oci::ClientOptions;
use promotion_gate_core::gate::{Collected, Incident, Severity};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::cli::run;
use crate::oci::options;
use crate::server::{Manner, Reply, Seen, Server};

const NUMBER: &str = "INC0010001";

fn reply(status: u16, body: &Value) -> Reply {
    Reply::new(status, "application/json", body.to_string())
}

/// Checks of these names, which a test asks.
struct Checks(IncidentChecks);

impl Checks {
    /// The check `tracker`.
    fn of(spec: &Value) -> Checks {
        Checks::with(spec, &options())
    }

    fn with(spec: &Value, options: &ClientOptions) -> Checks {
        let checks = IncidentChecks::new(options, None, IncidentQuestions::default());
        let checks = Checks(checks);
        checks.replace(spec);
        checks
    }

    fn replace(&self, spec: &Value) {
        let document = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "IncidentCheck",
            "metadata": {"name": "tracker"}, "spec": spec,
        });
        let source = ("checks.json".to_owned(), document.to_string().into_bytes());
        let set = api::load(&[source], &Default::default());
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        self.0.replace(set.incident_checks);
    }

    async fn told(&self, id: &str) -> Result<Told, String> {
        self.told_within(id, Duration::from_secs(30)).await
    }

    async fn told_within(&self, id: &str, within: Duration) -> Result<Told, String> {
        self.0.tell("tracker", id, Instant::now() + within).await
    }

    /// Of what the tracker has; `None` if it has none.
    async fn incident(&self, id: &str) -> Option<Incident> {
        let told = self.told(id).await;
        told.unwrap_or_else(|why| panic!("{why}")).answer.incident
    }

    /// Why nothing is known.
    async fn why(&self, id: &str) -> String {
        self.told(id).await.unwrap_err()
    }
}

fn preset(tracker: &str, server: &Server) -> Value {
    json!({"preset": tracker, "url": server.url()})
}

/// A check of its own kind: `GET /incidents/ID`, whose answer says whether it is open.
fn own(server: &Server) -> Value {
    json!({"request": {"url": format!("{}/incidents/{{id}}", server.url())},
           "expression": "{'open': body.open, 'severity': body.severity}"})
}

async fn answering(status: u16, body: Value) -> Server {
    Server::start(move |_| reply(status, &body)).await
}

fn row(changes: &Value) -> Value {
    let mut row = json!({
        "sys_id": "9c573169c611228700193229fff72400", "number": NUMBER, "state": "2", "active": "true",
        "priority": "1", "opened_at": "2026-11-29 03:00:00", "sys_created_by": "ann.operator",
        "business_service.name": "Shop",
    });
    for (key, value) in changes.as_object().unwrap() {
        row[key] = value.clone();
    }
    row
}

#[tokio::test]
async fn service_now_is_asked_for_the_number_and_its_row_is_read() {
    let server = answering(200, json!({"result": [row(&json!({}))]})).await;
    let incident = Checks::of(&preset("ServiceNow", &server))
        .incident(NUMBER)
        .await;
    let expected = Incident {
        id: NUMBER.to_owned(),
        open: true,
        severity: Some(Severity::P1),
        url: Some(format!(
            "{}/nav_to.do?uri=incident.do?sys_id=9c573169c611228700193229fff72400",
            server.url()
        )),
        created_at: Some("2026-11-29T03:00:00Z".parse().unwrap()),
        created_by: Some("ann.operator".to_owned()),
        service: Some("Shop".to_owned()),
    };
    assert_eq!(incident, Some(expected));
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    let asked = &asked[0];
    let begin = "GET /api/now/v2/table/incident?sysparm_query=number%3DINC0010001&sysparm_fields=sys_id,number,";
    assert!(asked.starts_with(begin), "{asked}");
}

#[tokio::test]
async fn a_service_now_incident_that_is_resolved_closed_canceled_or_inactive_is_not_open() {
    for changes in [
        json!({"state": "6"}),
        json!({"state": "7"}),
        json!({"state": "8"}),
        json!({"active": "false"}),
    ] {
        let server = answering(200, json!({"result": [row(&changes)]})).await;
        let incident = Checks::of(&preset("ServiceNow", &server))
            .incident(NUMBER)
            .await;
        assert!(!incident.unwrap().open, "{changes}");
    }
    // On hold is open, and a priority in another form is the same.
    let changes =
        json!({"state": "3", "priority": 4, "opened_at": "", "business_service.name": ""});
    let server = answering(200, json!({"result": [row(&changes)]})).await;
    let incident = Checks::of(&preset("ServiceNow", &server))
        .incident(NUMBER)
        .await
        .unwrap();
    assert!(incident.open);
    assert_eq!(incident.severity, Some(Severity::P4));
    assert_eq!((incident.created_at, incident.service), (None, None));
}

/// An invalid part of a query is ignored by ServiceNow, and the other rows are given.
#[tokio::test]
async fn rows_of_another_incident_are_no_incident() {
    let other = json!({"number": "INC0000001"});
    for result in [
        json!([row(&other)]),
        json!([row(&other), row(&other)]),
        json!([]),
    ] {
        let server = answering(200, json!({"result": result})).await;
        let checks = Checks::of(&preset("ServiceNow", &server));
        assert_eq!(checks.incident(NUMBER).await, None, "{result}");
    }
    let server = answering(
        200,
        json!({"result": [row(&other), row(&json!({"state": "7"}))]}),
    )
    .await;
    let checks = Checks::of(&preset("ServiceNow", &server));
    assert!(!checks.incident(NUMBER).await.unwrap().open);
}

/// What an account may not read is absent from the answer.
#[tokio::test]
async fn a_row_without_a_state_is_not_known() {
    let mut hidden = row(&json!({}));
    hidden.as_object_mut().unwrap().remove("state");
    let server = answering(200, json!({"result": [hidden]})).await;
    let why = Checks::of(&preset("ServiceNow", &server)).why(NUMBER).await;
    assert!(why.contains("there is no field `state`"), "{why}");
}

fn issue(changes: &[(&str, Value)]) -> Value {
    let mut issue = json!({"id": "10042", "key": "OPS-7", "fields": {
        "issuetype": {"name": "[System] Incident"},
        "priority": {"id": "1", "name": "Highest"},
        "status": {"name": "Work in progress", "statusCategory": {"key": "indeterminate", "name": "In Progress"}},
        "resolution": null,
        "created": "2026-11-29T10:00:00.000+0700",
        "creator": {"accountId": "qm:1", "displayName": "Ann", "emailAddress": "ann@example.com"},
        "components": [{"name": "shop"}],
    }});
    for (pointer, value) in changes {
        *issue.pointer_mut(pointer).unwrap() = value.clone();
    }
    issue
}

#[tokio::test]
async fn jira_is_asked_for_the_key_and_its_issue_is_read() {
    let server = answering(200, issue(&[])).await;
    let incident = Checks::of(&preset("JiraServiceManagement", &server))
        .incident("OPS-7")
        .await;
    let expected = Incident {
        id: "OPS-7".to_owned(),
        open: true,
        severity: Some(Severity::P1),
        url: Some(format!("{}/browse/OPS-7", server.url())),
        created_at: Some("2026-11-29T03:00:00Z".parse().unwrap()),
        created_by: Some("ann@example.com".to_owned()),
        service: Some("shop".to_owned()),
    };
    assert_eq!(incident, Some(expected));
    let asked = server.asked();
    assert!(
        asked[0].starts_with("GET /rest/api/3/issue/OPS-7?fields="),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_jira_issue_that_is_done_resolved_moved_or_no_incident_does_not_count() {
    for (changes, expected) in [
        (
            vec![("/fields/status/statusCategory/key", json!("done"))],
            Some(false),
        ),
        (
            vec![("/fields/status/statusCategory/key", json!("undefined"))],
            Some(false),
        ),
        (
            vec![("/fields/resolution", json!({"name": "Done"}))],
            Some(false),
        ),
        (
            vec![("/fields/status/statusCategory/key", json!("new"))],
            Some(true),
        ),
        (vec![("/key", json!("SUP-9"))], None),
        (vec![("/fields/issuetype/name", json!("Story"))], None),
    ] {
        let server = answering(200, issue(&changes)).await;
        let checks = Checks::of(&preset("JiraServiceManagement", &server));
        let incident = checks.incident("OPS-7").await;
        assert_eq!(
            incident.map(|incident| incident.open),
            expected,
            "{changes:?}"
        );
    }
}

#[tokio::test]
async fn names_of_priorities_are_those_of_the_site() {
    let server = answering(200, issue(&[("/fields/priority/name", json!("SEV-2"))])).await;
    let mut spec = preset("JiraServiceManagement", &server);
    let told = Checks::of(&spec).told("OPS-7").await.unwrap().answer;
    assert_eq!(told.incident.unwrap().severity, None);
    assert_eq!(
        told.notes,
        ["the severity `SEV-2` is not known; map it to `P1`…`P5` under `severities`"]
    );
    spec["severities"] = json!({"SEV-1": "P1", "SEV-2": "P2"});
    let incident = Checks::of(&spec).incident("OPS-7").await.unwrap();
    assert_eq!(incident.severity, Some(Severity::P2));
}

fn pager(changes: &[(&str, Value)]) -> Value {
    let mut incident = json!({"incident": {
        "id": "PT4KHLK", "incident_number": 1234, "status": "acknowledged", "urgency": "high",
        "priority": {"id": "P53ZZH5", "type": "priority_reference", "summary": "P2"},
        "service": {"id": "PIJ90N7", "summary": "My Mail Service"},
        "created_at": "2015-10-06T21:30:42Z", "resolved_at": null, "resolve_reason": null,
        "first_trigger_log_entry": {"summary": "Triggered through the API"},
        "html_url": "https://example.pagerduty.com/incidents/PT4KHLK",
    }});
    for (pointer, value) in changes {
        *incident.pointer_mut(pointer).unwrap() = value.clone();
    }
    incident
}

#[tokio::test]
async fn pager_duty_is_asked_by_id_or_number_and_its_incident_is_read() {
    let server = answering(200, pager(&[])).await;
    let checks = Checks::of(&preset("PagerDuty", &server));
    let incident = checks.incident("PT4KHLK").await.unwrap();
    let expected = Incident {
        id: "PT4KHLK".to_owned(),
        open: true,
        severity: Some(Severity::P2),
        url: Some("https://example.pagerduty.com/incidents/PT4KHLK".to_owned()),
        created_at: Some("2015-10-06T21:30:42Z".parse().unwrap()),
        created_by: None,
        service: Some("My Mail Service".to_owned()),
    };
    assert_eq!(incident, expected);
    assert!(checks.incident("1234").await.unwrap().open);
    assert_eq!(
        server.asked(),
        ["GET /incidents/1234", "GET /incidents/PT4KHLK"]
    );
    let accept = &server.seen()[0].headers["accept"];
    assert_eq!(accept, "application/vnd.pagerduty+json;version=2");
}

#[tokio::test]
async fn a_pager_duty_incident_that_is_resolved_merged_or_of_an_unknown_status_is_not_open() {
    let merged = json!({"type": "merge_resolve_reason", "incident": {"id": "POTHER1"}});
    for (changes, expected) in [
        (
            vec![("/incident/status", json!("triggered"))],
            Some((true, Some(Severity::P2))),
        ),
        (
            vec![("/incident/status", json!("resolved"))],
            Some((false, Some(Severity::P2))),
        ),
        (
            vec![
                ("/incident/status", json!("resolved")),
                ("/incident/resolve_reason", merged),
            ],
            Some((false, Some(Severity::P2))),
        ),
        (
            vec![("/incident/status", json!("snoozed"))],
            Some((false, Some(Severity::P2))),
        ),
        (
            vec![("/incident/priority", Value::Null)],
            Some((true, None)),
        ),
        (vec![("/incident/id", json!("POTHER1"))], None),
    ] {
        let server = answering(200, pager(&changes)).await;
        let incident = Checks::of(&preset("PagerDuty", &server))
            .incident("PT4KHLK")
            .await;
        let found = incident.map(|incident| (incident.open, incident.severity));
        assert_eq!(found, expected, "{changes:?}");
    }
}

#[tokio::test]
async fn a_status_that_depends_on_the_id_is_no_incident_and_any_other_is_no_answer() {
    let error = json!({"error": {"message": "x"}});
    for status in [400, 404, 410, 422] {
        let server = answering(status, error.clone()).await;
        let told = Checks::of(&own(&server)).told("A1").await.unwrap();
        assert_eq!(told.answer.incident, None);
        let why = told.absent.unwrap();
        assert!(why.contains(&status.to_string()), "{why}");
    }
    for (answer, expected) in [
        (
            reply(401, &error),
            "it answered 401 Unauthorized; check the credential under `auth`",
        ),
        (
            reply(403, &error),
            "it answered 403 Forbidden; the account lacks a permission",
        ),
        (
            reply(403, &error).with("retry-after", "30"),
            "it limits the rate of requests (403 Forbidden)",
        ),
        (
            reply(403, &error).with("x-ratelimit-remaining", "0"),
            "it limits the rate of requests (403 Forbidden)",
        ),
        (
            reply(429, &error),
            "it limits the rate of requests (429 Too Many Requests)",
        ),
        (reply(500, &error), "it answered 500 Internal Server Error"),
        (
            Reply::new(200, "text/html", "<html>log in</html>"),
            "it answered with a web page; this is probably a login, or the address of a page and not of the API",
        ),
        // The content decides, not the media type that it is given.
        (
            Reply::new(200, "application/json", "<!doctype html>"),
            "it answered with a web page; this is probably a login, or the address of a page and not of the API",
        ),
        (
            Reply::new(200, "application/json", ""),
            "the answer is not valid JSON",
        ),
        (
            Reply::new(204, "application/json", ""),
            "the answer is not valid JSON",
        ),
        (
            Reply::new(200, "application/json", r#"{"open": true, "open": false}"#),
            "the answer is not valid JSON",
        ),
        (
            reply(200, &json!({"open": "true"})),
            "there is no field `severity`",
        ),
        (
            reply(200, &json!({"open": "true", "severity": null})),
            "the expression has to give `open` as `true` or `false`",
        ),
    ] {
        let server = Server::start(move |_| answer.clone()).await;
        let why = Checks::of(&own(&server)).why("A1").await;
        let begin = format!(
            "the incident check `tracker` (`{}`) has no answer: ",
            server.host()
        );
        assert!(why.starts_with(&begin) && why.contains(expected), "{why}");
    }
    // Another media type hurts nothing.
    let server =
        Server::start(|_| Reply::new(200, "text/plain", r#"{"open": true, "severity": "P1"}"#))
            .await;
    assert!(Checks::of(&own(&server)).incident("A1").await.unwrap().open);
}

#[tokio::test]
async fn only_a_tracker_that_cannot_be_reached_is_unavailable_and_an_answer_that_cannot_be_used_is_not()
 {
    let asked = async |answer: Reply| {
        let server = Server::start(move |_| answer.clone()).await;
        let checks = Checks::of(&own(&server)).0;
        let deadline = Instant::now() + Duration::from_secs(30);
        checks.ask("tracker", "A1", deadline).await
    };
    let error = json!({});
    for answer in [
        reply(401, &error),
        reply(429, &error),
        reply(403, &error).with("retry-after", "30"),
        reply(500, &error),
        reply(503, &error),
    ] {
        let answered = asked(answer).await;
        assert!(
            matches!(answered, Collected::Unavailable(_)),
            "{answered:?}"
        );
    }
    for answer in [
        reply(403, &error),
        reply(414, &error),
        Reply::status(302).with("location", "/elsewhere"),
        Reply::new(200, "text/html", "<html>log in</html>"),
        Reply::new(200, "application/json", "[".repeat(10_000)),
        reply(200, &json!({"a": "x".repeat(2 << 20)})),
        reply(200, &json!({"open": "true", "severity": null})),
    ] {
        let answered = asked(answer).await;
        assert!(
            matches!(answered, Collected::Partial(None, _)),
            "{answered:?}"
        );
    }
    let checks = IncidentChecks::new(&options(), None, IncidentQuestions::default());
    let missing = checks.ask("tracker", "A1", Instant::now()).await;
    assert!(
        matches!(missing, Collected::Partial(None, _)),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_question_can_be_sent_as_json() {
    let server = Server::start(|seen: &Seen| {
        let asked: Value = serde_json::from_str(&seen.body).unwrap();
        let open =
            asked["variables"]["id"] == "A1" && seen.headers["content-type"] == "application/json";
        reply(200, &json!({"data": {"open": open}}))
    })
    .await;
    let checks = Checks::of(&json!({
        "request": {"method": "POST", "url": format!("{}/graphql", server.url()), "headers": {"X-Region": "eu"},
                    "body": {"query": "query($id: ID!) { incident(id: $id) { open } }", "variables": {"id": "{id}"}}},
        "expression": "{'open': body.data.open}",
    }));
    assert!(checks.incident("A1").await.unwrap().open);
    assert_eq!(server.seen()[0].headers["x-region"], "eu");
}

#[tokio::test]
async fn a_credential_is_read_from_its_file_at_each_question() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("credential");
    let server = answering(404, json!({})).await;
    for (auth, written, header, expected) in [
        (json!({}), "t0ken\n", "authorization", "Bearer t0ken"),
        (
            json!({"scheme": "Token"}),
            "t0ken",
            "authorization",
            "Token token=t0ken",
        ),
        (
            json!({"scheme": "Basic"}),
            "ann:p4ss\n",
            "authorization",
            "Basic YW5uOnA0c3M=",
        ),
        (
            json!({"header": "X-Api-Key"}),
            "t0ken",
            "x-api-key",
            "t0ken",
        ),
    ] {
        let mut spec = own(&server);
        spec["auth"] = auth;
        spec["auth"]["file"] = json!(file);
        let checks = Checks::of(&spec);
        let why = checks.why("A1").await;
        assert!(why.contains(&*file.display().to_string()), "{why}");
        fs::write(&file, written).unwrap();
        server.forget();
        assert_eq!(checks.incident("A1").await, None);
        assert_eq!(server.seen()[0].headers[header], expected);
        for bad in ["", " \n", "a\u{1}b"] {
            fs::write(&file, bad).unwrap();
            let why = checks.why("A1").await;
            assert!(why.contains("the credential in the file"), "{why}");
            assert!(!why.contains("t0ken") && !why.contains("p4ss"), "{why}");
        }
        fs::remove_file(&file).unwrap();
    }
    let mut spec = own(&server);
    spec["auth"] = json!({"secretKey": "tracker"});
    let why = Checks::of(&spec).why("A1").await;
    assert!(
        why.contains("there is no cluster to read it from; write `file` instead"),
        "{why}"
    );
}

#[tokio::test]
async fn reviews_that_ask_at_the_same_time_ask_once_and_an_incident_counts_for_a_minute() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        reply(200, &json!({"open": true, "severity": "P1"}))
    })
    .await;
    let checks = Checks::of(&own(&server));
    let all = join_all((0..20).map(|_| checks.incident("A1"))).await;
    assert!(all.iter().flatten().all(|incident| incident.open) && all.len() == 20);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    checks.incident("A1").await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // Another id, and another revision of the check, are other questions.
    checks.incident("A2").await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let mut spec = own(&server);
    spec["severities"] = json!({"P1": "P3"});
    checks.replace(&spec);
    let incident = checks.incident("A1").await.unwrap();
    assert_eq!(incident.severity, Some(Severity::P3));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_error_and_an_absent_incident_are_asked_for_again() {
    let answers = Mutex::new(vec![200, 404, 500]);
    let server = Server::start(move |_| {
        let status = answers.lock().unwrap().pop().unwrap_or(500);
        reply(status, &json!({"open": true, "severity": null}))
    })
    .await;
    let checks = Checks::of(&own(&server));
    checks.why("A1").await;
    assert_eq!(checks.incident("A1").await, None);
    assert!(checks.incident("A1").await.unwrap().open);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_check_that_does_not_exist_gives_no_answer_and_an_id_that_it_does_not_accept_is_no_incident()
 {
    let server = answering(200, json!({"open": true, "severity": "P1"})).await;
    let checks = Checks::of(&own(&server));
    let deadline = Instant::now() + Duration::from_secs(10);
    let missing = checks.0.ask("traker", "A1", deadline).await;
    assert_eq!(missing.value(), Some(&None));
    assert_eq!(
        missing.unavailabilities()[0].0,
        "there is no incident check `traker`; did you mean `tracker`?"
    );
    let absent = checks.0.ask("tracker", "../admin", deadline).await;
    assert_eq!(absent, Collected::Known(None));
    let Collected::Known(Some(incident)) = checks.0.ask("tracker", "A1", deadline).await else {
        panic!("there is no incident");
    };
    assert!(incident.open);
    assert_eq!(server.asked(), ["GET /incidents/A1"]);
}

#[tokio::test]
async fn an_incident_id_that_injects_into_the_query_the_path_or_json_is_not_asked_for() {
    let server = answering(
        200,
        json!({"result": [row(&json!({}))], "open": true, "severity": "P1"}),
    )
    .await;
    let long = "A".repeat(65);
    for spec in [preset("ServiceNow", &server), own(&server)] {
        let checks = Checks::of(&spec);
        for id in [
            "INC1^ORactive=true",
            "INC1&sysparm_limit=1",
            "INC1#",
            "INC1/../admin",
            "..",
            "INC1%2f..",
            "INC1\", \"x\": \"",
            "INC1?a=b",
            "INC1 ",
            " INC1",
            "INC1\r\nX-A: b",
            "",
            "{id}",
            &long,
            "IŇC1",
        ] {
            let told = checks.told(id).await.unwrap();
            assert_eq!(told.answer.incident, None, "{id}");
            assert!(
                told.absent.unwrap().contains("no id of an incident"),
                "{id}"
            );
        }
    }
    // One that has the form, but not that of this tracker.
    let told = Checks::of(&preset("ServiceNow", &server))
        .told("CHG0030192")
        .await
        .unwrap();
    assert_eq!(
        told.absent.unwrap(),
        "the check `tracker` has ids such as `INC*`"
    );
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_incident_server_that_redirects_to_a_metadata_address_is_not_followed() {
    let other = answering(200, json!({"open": true, "severity": "P1"})).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("credential");
    fs::write(&file, "t0ken").unwrap();
    for (to, shown) in [
        (
            "http://169.254.169.254/latest/meta-data/".to_owned(),
            "169.254.169.254",
        ),
        (format!("{}/incidents/A1", other.url()), "127.0.0.1"),
        ("/elsewhere".to_owned(), "127.0.0.1"),
    ] {
        let server = Server::start(move |_| Reply::status(302).with("location", to.clone())).await;
        let mut spec = own(&server);
        spec["auth"] = json!({"file": file});
        let why = Checks::of(&spec).why("A1").await;
        let expected = format!(
            "it redirects to `{shown}`, and redirects are not followed; write the address that it leads to"
        );
        assert!(why.ends_with(&expected), "{why}");
        assert_eq!(server.seen().len(), 1);
    }
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_metadata_service_a_loopback_address_and_a_host_without_tls_are_not_asked() {
    let ask = async |url: &str, options: &ClientOptions| {
        let spec = json!({"request": {"url": url}, "expression": "{'open': true}"});
        Checks::with(&spec, options).why("A1").await
    };
    for url in [
        "https://169.254.169.254/{id}",
        "https://metadata.google.internal/{id}",
        "https://[fd00:ec2::254]/{id}",
    ] {
        let why = ask(url, &options()).await;
        assert!(why.contains("not asked, because"), "{why}");
    }
    let why = ask("http://tracker.example/{id}", &options()).await;
    assert!(why.contains("it is asked over `https` alone"), "{why}");
    let server = answering(200, json!({})).await;
    let in_a_pod = ClientOptions {
        loopback: false,
        ..options()
    };
    let why = ask(&format!("{}/{{id}}", server.url()), &in_a_pod).await;
    assert!(why.contains("not asked, because"), "{why}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_incident_server_that_never_answers_or_drips_costs_no_more_than_the_deadline() {
    for manner in [Manner::Silent, Manner::Drip] {
        let server = Server::start(move |_| reply(200, &json!({})).coming(manner)).await;
        let checks = Checks::of(&own(&server));
        let start = Instant::now();
        let told = checks.told_within("A1", Duration::from_millis(300)).await;
        let why = told.unwrap_err();
        assert!(
            why.ends_with("there was no answer before the request has to be answered"),
            "{why}"
        );
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn an_incident_server_that_answers_a_gigabyte_is_cut_off() {
    let endless = Server::start(|_| reply(200, &json!({})).coming(Manner::Endless)).await;
    let large = Server::start(|_| reply(200, &json!({"a": "x".repeat(2 << 20)}))).await;
    for server in [endless, large] {
        let why = Checks::of(&own(&server)).why("A1").await;
        assert!(
            why.contains("larger than the 1048576 bytes that are read"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_response_that_is_nested_ten_thousand_deep_is_refused() {
    for body in [
        "[".repeat(10_000) + &"]".repeat(10_000),
        "{\"a\":".repeat(10_000) + "1" + &"}".repeat(10_000),
    ] {
        let server =
            Server::start(move |_| Reply::new(200, "application/json", body.clone())).await;
        let why = Checks::of(&own(&server)).why("A1").await;
        assert!(why.contains("nested too deep"), "{why}");
    }
}

#[tokio::test]
async fn cel_built_to_burn_cpu_gives_no_answer() {
    let list: Vec<_> = (0..20_000).collect();
    let server = answering(200, json!({"list": list})).await;
    let mut spec = own(&server);
    spec["expression"] =
        json!("{'open': body.list.all(a, body.list.all(b, body.list.all(c, a + b + c >= 0)))}");
    let why = Checks::of(&spec).why("A1").await;
    assert!(why.contains("it takes too much work"), "{why}");
}

#[test]
fn a_policy_that_names_a_check_which_does_not_exist_is_refused() {
    let document = |kind: &str, name: &str, spec: Value| {
        let document = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        (format!("{name}.json"), document.to_string().into_bytes())
    };
    let check = document(
        "IncidentCheck",
        "pagerduty",
        json!({"preset": "PagerDuty", "url": "https://api.pagerduty.com"}),
    );
    let policy = |check: &str| {
        let spec = json!({
            "environment": "production", "requirements": [{"digestPinned": {}}, {"noFreeze": {}}],
            "emergency": {"from": [{"group": "leads", "count": 2}], "incident": {"check": check}, "waives": ["noFreeze"]},
        });
        document("PromotionPolicy", "strict", spec)
    };
    let load = |check_of_policy: &str| {
        let sources = [check.clone(), policy(check_of_policy)];
        api::load(&sources, &Default::default()).problems
    };
    assert_eq!(load("pagerduty"), []);
    let problems = load("pagerdutty");
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = problems[0].to_string();
    assert!(
        problem.contains(
            "spec.emergency.incident.check: there is no `IncidentCheck` with the name `pagerdutty`"
        ) && problem.ends_with("did you mean `pagerduty`?"),
        "{problem}"
    );
}

#[test]
fn a_policy_that_asks_for_what_its_check_never_says_is_warned_of() {
    let document = |kind: &str, name: &str, spec: Value| {
        let document = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        (format!("{name}.json"), document.to_string().into_bytes())
    };
    let warnings = |check: Value| {
        let incident = json!({
            "check": "tracker", "minimumSeverity": "P2", "openedByOther": true,
            "openedBeforeDeclaration": true, "services": ["shop"],
        });
        let spec = json!({
            "environment": "production", "requirements": [{"digestPinned": {}}, {"noFreeze": {}}],
            "emergency": {"from": [{"person": "ada"}, {"person": "ben"}], "incident": incident, "waives": ["noFreeze"]},
        });
        let people = ["ada", "ben"]
            .map(|name| json!({"name": name, "identities": [{"github": {"login": name}}]}));
        let people = json!({"people": people});
        let sources = [
            document("IncidentCheck", "tracker", check),
            document("PromotionPolicy", "strict", spec),
            document("PeopleDirectory", "people", people),
        ];
        let set = api::load(&sources, &Default::default());
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        let warnings = set.warnings.iter().map(ToString::to_string);
        warnings
            .filter(|it| it.contains("incident check"))
            .collect::<Vec<_>>()
    };
    let pager = warnings(json!({"preset": "PagerDuty", "url": "https://api.pagerduty.com"}));
    assert_eq!(pager.len(), 1, "{pager:?}");
    assert!(
        pager[0].contains("spec.emergency.incident.openedByOther")
            && pager[0].contains("does not give `createdBy`"),
        "{pager:?}"
    );
    let service_now = json!({"preset": "ServiceNow", "url": "https://example.service-now.com"});
    assert_eq!(warnings(service_now), Vec::<String>::new());
    let request = json!({"url": "https://tracker.example/{id}"});
    let bare = json!({"request": request, "expression": "{'open': body.open}"});
    assert_eq!(warnings(bare).len(), 4);
}

const CHECK: &str = r#"apiVersion: promotion-gate.dev/v1alpha1
kind: IncidentCheck
metadata: {name: tracker}
spec:
  request: {url: "URL/incidents/{id}"}
  expression: "{'open': body.open, 'severity': body.severity, 'service': 'shop'}"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_a_check_answers_and_why_it_does_not() {
    let server = Server::start(|seen: &Seen| match seen.path.as_str() {
        "/incidents/A1" => reply(200, &json!({"open": true, "severity": "P2"})),
        "/incidents/A2" => reply(200, &json!({"open": false, "severity": "High"})),
        "/incidents/A3" => reply(404, &json!({})),
        _ => reply(500, &json!({})),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let check = CHECK.replace("URL", &server.url());
    fs::write(folder.path().join("check.yaml"), check).unwrap();
    let ask = |args: &[&str]| {
        let args = [&["incident"], args, &["--policy", "."]].concat();
        run(folder.path(), &args, "")
    };
    let open = ask(&["tracker", "A1"]);
    assert_eq!(open.code, 0, "{}", open.stderr);
    assert_eq!(
        open.stdout,
        "open A1\n  severity: P2\n  created at: not known\n  created by: not known\n  service: shop\n  url: not known\n"
    );
    let closed = ask(&["tracker", "A2"]);
    assert_eq!(closed.code, 2);
    assert!(
        closed.stdout.starts_with("not-open A2\n"),
        "{}",
        closed.stdout
    );
    assert!(
        closed
            .stdout
            .contains("note: the severity `High` is not known"),
        "{}",
        closed.stdout
    );
    let absent = ask(&["tracker", "A3"]);
    assert_eq!(absent.code, 2);
    assert!(
        absent
            .stdout
            .starts_with("absent A3\n  the tracker answered 404 Not Found"),
        "{}",
        absent.stdout
    );
    let unknown = ask(&["tracker", "A4"]);
    assert_eq!(unknown.code, 3);
    assert!(
        unknown
            .stdout
            .contains("it answered 500 Internal Server Error"),
        "{}",
        unknown.stdout
    );
    let json = ask(&["tracker", "A1", "--output", "json"]);
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["state"], "open");
    assert_eq!(document["severity"], "P2");
    let other = ask(&["tracer", "A1"]);
    assert_eq!(other.code, 1);
    assert!(
        other.stderr.contains("known are `tracker`"),
        "{}",
        other.stderr
    );
    assert!(Path::new(folder.path()).exists());
}
