//! Tests of incident checks as documents, and of the requests that they make.

use serde_json::json;

use super::*;

fn check(spec: Value) -> Result<IncidentCheck, Vec<String>> {
    let spec: IncidentCheckSpec = serde_json::from_value(spec).unwrap();
    let read = incident_check("tracker", &spec, FilePath::new("/etc/gate"));
    let shown = |fault: &Fault| match fault.path.steps() {
        [] => fault.message.clone(),
        _ => format!("{}: {}", fault.path, fault.message),
    };
    read.map_err(|faults| faults.iter().map(shown).collect())
}

fn own(request: Value) -> Value {
    json!({"request": request, "expression": "{'open': body.open}"})
}

#[test]
fn an_id_that_injects_is_encoded_for_its_place() {
    let check = check(own(json!({
        "method": "POST",
        "url": "https://tracker.example/incidents/{id}/x?query=number%3D{id}&limit=1",
        "body": {"query": "number={id}", "list": [{"id": "{id}"}], "count": 1},
    })));
    let request = check.unwrap().request;
    let url = |id: &str| request.url(id).map(|url| url.to_string());
    assert_eq!(
        url("INC-1_a.b").unwrap(),
        "https://tracker.example/incidents/INC-1_a.b/x?query=number%3DINC-1_a.b&limit=1"
    );
    assert_eq!(
        url("1^ORactive=true&limit=9#x?/ä").unwrap(),
        "https://tracker.example/incidents/1%5EORactive%3Dtrue%26limit%3D9%23x%3F%2F%C3%A4/x?query=number%3D1%5EORactive%3Dtrue%26limit%3D9%23x%3F%2F%C3%A4&limit=1"
    );
    // Segments with dots would be resolved.
    for id in ["..", "."] {
        url(id).unwrap_err();
    }
    let body = request.body(r#"1", "admin": "yes\"#).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body,
        json!({"query": r#"number=1", "admin": "yes\"#, "list": [{"id": r#"1", "admin": "yes\"#}], "count": 1})
    );
}

#[test]
fn an_id_that_is_none_is_not_asked_for() {
    let any = check(own(json!({"url": "https://tracker.example/{id}"}))).unwrap();
    for id in ["INC0010001", "OPS-7", "PT4KHLK", "1", "a.b_c-d"] {
        assert_eq!(any.refuse_id(id), None, "{id}");
    }
    let long = "a".repeat(65);
    for id in [
        "", ".", "..", "-1", "a b", "a/b", "a^b", "a%2fb", "a\"b", "a{id}", "ä", "a\n", &long,
    ] {
        assert!(any.refuse_id(id).is_some(), "{id}");
    }
    let preset = check(json!({"preset": "ServiceNow", "url": "https://example.service-now.com/"}));
    let preset = preset.unwrap();
    assert_eq!(preset.refuse_id("INC0010001"), None);
    assert_eq!(
        preset.refuse_id("CHG0030192").unwrap(),
        "the check `tracker` has ids such as `INC*`"
    );
}

#[test]
fn a_check_says_all_that_is_wrong_with_it() {
    for (spec, expected) in [
        (
            json!({}),
            vec!["expected `preset` and `url`, or `request` and `expression`"],
        ),
        (
            json!({"preset": "PagerDuty"}),
            vec![
                "`url` is missing: the address of the tracker, such as `https://example.service-now.com`",
            ],
        ),
        (
            json!({"preset": "PagerDuty", "url": "https://user:password@api.pagerduty.com", "expression": "null"}),
            vec![
                "expression: a check with a `preset` has the request and the expression of the preset: remove this, or the `preset`",
                "url: expected the address of the tracker, such as `https://example.service-now.com`, without a user name or a query",
            ],
        ),
        (
            json!({"request": {"url": "https://{id}.example/", "headers": {"Authorization": "Bearer x", "X-A": "{id}", "a b": "c"}}, "expression": "bodi.open",
                   "auth": {"scheme": "Basic", "header": "X-Key"}}),
            vec![
                "request.url: expected an address with `https://`, a host and no user name; `{id}` may stand in its path and in its query",
                "request.headers.Authorization: the gate sets this header by itself; what authenticates belongs to `auth`",
                "request.headers.X-A: `{id}` may not stand in a header",
                "request.headers[\"a b\"]: this is no HTTP header",
                "auth: expected at most one of `scheme` and `header`",
                "auth: expected exactly one of `file` and `secretKey`",
                "expression: in the expression, line 1, column 1: there is no variable `bodi`, did you mean `body`?; known are `status`, `body`, `id`",
            ],
        ),
        (
            own(json!({"method": "POST", "url": "https://tracker.example/x#{id}"})),
            vec![
                "request.url: expected an address with `https://`, a host and no user name; `{id}` may stand in its path and in its query",
                "request: `POST` needs a `body`",
            ],
        ),
        (
            own(json!({"url": "https://tracker.example/", "body": {"a": "{id}"}})),
            vec!["request.body: a body is sent with `method: POST` only"],
        ),
        (
            own(json!({"url": "https://tracker.example/incident"})),
            vec![
                "request: `{id}` is missing: without it every incident would have the same answer",
            ],
        ),
    ] {
        assert_eq!(check(spec.clone()).unwrap_err(), expected, "{spec}");
    }
}

#[test]
fn an_answer_counts_for_the_revision_that_it_was_asked_by() {
    let revision = |url: &str| check(own(json!({"url": url}))).unwrap().revision;
    assert_eq!(
        revision("https://a.example/{id}"),
        revision("https://a.example/{id}")
    );
    assert_ne!(
        revision("https://a.example/{id}"),
        revision("https://b.example/{id}")
    );
}

#[test]
fn a_check_of_the_cluster_sends_no_file_of_its_choice() {
    let elsewhere = |file: &str| {
        let spec = json!({"auth": {"file": file}});
        let spec: IncidentCheckSpec = serde_json::from_value(spec).unwrap();
        file_elsewhere(&spec).is_some()
    };
    assert!(!elsewhere("incidents/token"));
    for file in [
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "../tls.key",
        "a/../../b",
    ] {
        assert!(elsewhere(file), "{file}");
    }
}
