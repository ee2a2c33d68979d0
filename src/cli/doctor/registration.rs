//! Is the API server asked to ask the gate about everything, always?

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingWebhook, ValidatingWebhookConfiguration,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use x509_cert::der::Decode as _;

use super::checks::{self, Check};
use super::report::DoctorReport;

/// The label that holds the namespace's name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const VALIDATE: &str = "validate.promotion-gate.dev";
const INFRASTRUCTURE: &str = "infrastructure.promotion-gate.dev";
const AUDITED: &str = "audited.promotion-gate.dev";
const SECONDS_TO_EXPIRY: i64 = 14 * 24 * 60 * 60;

/// Compares the configuration of the cluster with the one that this version prints (`expected`). Which namespaces are of the
/// infrastructure is not always known.
pub(super) fn check(
    found: &[ValidatingWebhookConfiguration],
    expected: &Value,
    knows_infrastructure: bool,
    now: Timestamp,
    report: &mut DoctorReport,
) {
    let entries = || {
        let configurations = found.iter();
        configurations.flat_map(|found| found.webhooks.iter().flatten())
    };
    let Some(entry) = entries().find(|entry| entry.name == VALIDATE) else {
        report.find(&checks::WEBHOOK_MISSING, [format!("`{VALIDATE}`")]);
        return;
    };
    let Some(printed_entry) = printed(expected, VALIDATE) else {
        return report.cannot_check("the webhook", "this version prints no such entry");
    };
    let policy = entry.failure_policy.as_deref().unwrap_or("Fail");
    // A gate that only records has `Ignore`, and that it only records is a finding of its own.
    if policy != "Fail" && printed_entry["failurePolicy"] != policy {
        let about = format!("`{VALIDATE}`: `failurePolicy: {policy}`");
        report.find(&checks::WEBHOOK_FAILURE_POLICY, [about]);
    }
    for (check, about) in differences(entry, printed_entry, knows_infrastructure) {
        report.find_any(check, about);
    }
    let denying = entries().filter_map(|entry| denies_without_answer(entry, expected));
    report.find_any(&checks::WEBHOOK_LOCKS_OUT, denying.collect());
    if let Some(seconds @ ..5) = entry.timeout_seconds {
        let about = format!("`{VALIDATE}`: `timeoutSeconds: {seconds}`");
        report.find(&checks::WEBHOOK_TIMEOUT, [about]);
    }
    for (check, name) in [
        (&checks::WEBHOOK_INFRASTRUCTURE, INFRASTRUCTURE),
        (&checks::WEBHOOK_AUDITED, AUDITED),
    ] {
        // There is an entry for audited namespaces only if there are any.
        let Some(wanted) = printed(expected, name) else {
            continue;
        };
        let about = match entries().find(|entry| entry.name == name) {
            Some(found) => {
                let differences = differences(found, wanted, true).into_iter();
                let differences = differences.flat_map(|(check, about)| {
                    about
                        .into_iter()
                        .map(move |it| format!("{}: {it}", check.id))
                });
                differences
                    .chain(unasked(entry, wanted, entries()))
                    .chain(unanswered(found, entry, wanted, now))
                    .collect()
            }
            None => vec![format!("`{name}`")],
        };
        report.find_any(check, about);
    }
    authorities(entry, now, report);
}

/// An entry that denies without an answer, where the printed one admits.
fn denies_without_answer(entry: &ValidatingWebhook, expected: &Value) -> Option<String> {
    let policy = entry.failure_policy.as_deref().unwrap_or("Fail");
    let admits = printed(expected, &entry.name)?["failurePolicy"] == "Ignore";
    (admits && policy == "Fail").then(|| format!("`{}`: `failurePolicy: Fail`", entry.name))
}

/// Why the API server gets no answer for an entry that admits without one, while it gets one for the entry for all others (`main`).
fn unanswered(
    entry: &ValidatingWebhook,
    main: &ValidatingWebhook,
    printed: &Value,
    now: Timestamp,
) -> Vec<String> {
    let mut why = Vec::new();
    if !trusts_all_of(entry, main, now) {
        let of_entry = verifies_until(entry, now).err();
        let of_main = verifies_until(main, now);
        let another = || format!("another `caBundle` than that of `{}`", main.name);
        let of_entry = of_entry.or_else(|| of_main.is_ok().then(another));
        why.extend(of_entry.map(|it| format!("{}: {it}", checks::WEBHOOK_CA_BUNDLE.id)));
    }
    // The API server waits for ten seconds where nothing is written.
    let seconds = entry.timeout_seconds.unwrap_or(10);
    let wanted = printed.get("timeoutSeconds").and_then(Value::as_i64);
    if wanted.is_some_and(|wanted| i64::from(seconds) < wanted) {
        let id = checks::WEBHOOK_TIMEOUT.id;
        why.push(format!("{id}: `timeoutSeconds: {seconds}`"));
    }
    why
}

/// Whether the `caBundle` of an entry has every authority of another one's that has not expired.
fn trusts_all_of(entry: &ValidatingWebhook, other: &ValidatingWebhook, now: Timestamp) -> bool {
    let trusted = |of: &ValidatingWebhook| {
        let mut read = authorities_of(of)?;
        read.retain(|_, end| *end > now.as_second());
        Some(read)
    };
    bundle(entry) == bundle(other)
        || trusted(entry)
            .zip(trusted(other))
            .is_some_and(|(own, wanted)| {
                !wanted.is_empty() && wanted.keys().all(|it| own.contains_key(it))
            })
}

/// The namespaces of a printed entry that the entry for all others leaves out and no other entry names.
fn unasked<'e>(
    entry: &'e ValidatingWebhook,
    printed: &Value,
    others: impl Iterator<Item = &'e ValidatingWebhook>,
) -> Vec<String> {
    let asked: BTreeSet<_> = others.flat_map(|it| named(it, "In")).collect();
    let as_printed = values(printed);
    let left_out = named(entry, "NotIn");
    let left_out = left_out.filter(|name| as_printed.contains(name) && !asked.contains(name));
    left_out
        .map(|name| format!("the namespace `{name}`"))
        .collect()
}

/// The namespaces that the selector of a printed entry names.
fn values(printed: &Value) -> Vec<&str> {
    let values = printed.pointer("/namespaceSelector/matchExpressions/0/values");
    let values = values.and_then(Value::as_array).into_iter().flatten();
    values.filter_map(Value::as_str).collect()
}

/// The namespaces that the selector of an entry names with an operator.
fn named<'e>(entry: &'e ValidatingWebhook, operator: &'e str) -> impl Iterator<Item = &'e str> {
    let selector = entry.namespace_selector.iter();
    let terms = selector.flat_map(|it| it.match_expressions.iter().flatten());
    let terms = terms.filter(move |it| it.key == NAME_LABEL && it.operator == operator);
    terms.flat_map(|it| it.values.iter().flatten().map(String::as_str))
}

fn printed<'v>(expected: &'v Value, name: &str) -> Option<&'v Value> {
    let entries = expected.pointer("/webhooks")?.as_array()?;
    entries
        .iter()
        .find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
}

/// What an entry leads to another place, does not ask about, or leaves out.
fn differences(
    entry: &ValidatingWebhook,
    printed: &Value,
    knows_infrastructure: bool,
) -> [(&'static Check, Vec<String>); 5] {
    let rules = printed.pointer("/rules").and_then(Value::as_array);
    let asked = rules.into_iter().flatten().flat_map(each_of_rule);
    let unasked = asked.filter(|asked| !is_asked(entry, asked));
    let unasked = unasked.map(|it| format!("{} of `{}` ({}/{})", it.3, it.2, shown(it.0), it.1));

    let mut left_out = left_out(entry, printed, knows_infrastructure);
    let objects = entry.object_selector.as_ref();
    let objects = objects.filter(|it| it.match_labels.is_some() || it.match_expressions.is_some());
    left_out.extend(objects.map(|_| "objects, by an `objectSelector`".to_owned()));

    let known = printed.pointer("/matchConditions");
    let known = known.and_then(Value::as_array).into_iter().flatten();
    let known: Vec<_> = known
        .filter_map(|it| Some(words(it.get("expression")?.as_str()?)))
        .collect();
    let conditions = entry.match_conditions.iter().flatten();
    let unknown = conditions.filter(|it| !known.contains(&words(&it.expression)));
    let unknown = unknown.map(|it| format!("`{}`: `{}`", it.name, it.expression));

    let is_exact = entry.match_policy.as_deref() == Some("Exact");
    let exact = is_exact.then(|| format!("`{}`", entry.name));
    [
        (&checks::WEBHOOK_ENDPOINT, elsewhere(entry, printed)),
        (&checks::WEBHOOK_RULES, unasked.collect()),
        (&checks::WEBHOOK_SELECTOR, left_out),
        (&checks::WEBHOOK_CONDITIONS, unknown.collect()),
        (&checks::WEBHOOK_MATCH_POLICY, exact.into_iter().collect()),
    ]
}

/// Where an entry leads, if not to the gate.
fn elsewhere(entry: &ValidatingWebhook, printed: &Value) -> Vec<String> {
    let client = &entry.client_config;
    let service = client.service.as_ref().map(|it| {
        json!({
            "namespace": it.namespace, "name": it.name, "path": it.path, "port": it.port.unwrap_or(443),
        })
    });
    let expected = |field: &str| printed.pointer(&format!("/clientConfig/{field}"));
    let url = client.url.as_deref();
    if service.as_ref() == expected("service") && url == expected("url").and_then(Value::as_str) {
        return Vec::new();
    }
    let place = match (&service, url) {
        (_, Some(url)) => format!("the address `{url}`"),
        (Some(service), None) => format!("the Service `{service}`"),
        (None, None) => "nothing".to_owned(),
    };
    vec![format!("`{}` leads to {place}", entry.name)]
}

fn shown(group: &str) -> &str {
    match group {
        "" => "core",
        group => group,
    }
}

/// API group, version, resource and operation, and the scope.
type Asked<'v> = (&'v str, &'v str, &'v str, &'v str, &'v str);

fn each_of_rule(rule: &Value) -> Vec<Asked<'_>> {
    let list = |field: &str| {
        let list = rule.get(field).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.collect::<Vec<_>>()
    };
    let scope = rule.get("scope").and_then(Value::as_str).unwrap_or("*");
    let mut each = Vec::new();
    for group in list("apiGroups") {
        for version in list("apiVersions") {
            for resource in list("resources") {
                let operations = list("operations").into_iter();
                each.extend(operations.map(|it| (group, version, resource, it, scope)));
            }
        }
    }
    each
}

fn is_asked(entry: &ValidatingWebhook, asked: &Asked<'_>) -> bool {
    let (group, version, resource, operation, scope) = *asked;
    let has = |list: &Option<Vec<String>>, wanted: &str| {
        let mut list = list.iter().flatten();
        list.any(|it| it == "*" || it == wanted)
    };
    let mut rules = entry.rules.iter().flatten();
    rules.any(|rule| {
        let mut resources = rule.resources.iter().flatten();
        let resource = resources.any(|it| match (it.split_once('/'), resource.split_once('/')) {
            (None, None) => it == "*" || it == resource,
            (Some((of, sub)), Some((kind, wanted))) => {
                (of == "*" || of == kind) && (sub == "*" || sub == wanted)
            }
            // `*/*` is every resource and every subresource.
            (Some(_), None) => it == "*/*",
            (None, Some(_)) => false,
        });
        let scoped = rule.scope.as_deref().unwrap_or("*");
        resource
            && has(&rule.api_groups, group)
            && has(&rule.api_versions, version)
            && has(&rule.operations, operation)
            && (scoped == "*" || scoped == scope)
    })
}

/// The namespaces that a selector leaves out and the printed one does not, or the selector as a whole.
fn left_out(entry: &ValidatingWebhook, printed: &Value, knows_infrastructure: bool) -> Vec<String> {
    let operator = printed.pointer("/namespaceSelector/matchExpressions/0/operator");
    let expected = values(printed);
    let Some(selector) = &entry.namespace_selector else {
        return Vec::new();
    };
    let mut left_out = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        left_out.push(format!("namespaces without the label `{key}={value}`"));
    }
    for term in selector.match_expressions.iter().flatten() {
        let values = term.values.iter().flatten();
        let is_as_printed = operator.is_some_and(|it| *it == *term.operator);
        if term.key == NAME_LABEL && is_as_printed {
            let mut more: Vec<_> = values.collect();
            // Namespaces that only an entry with `In` lacks are found by `unasked`.
            more.retain(|name| {
                term.operator == "NotIn"
                    && knows_infrastructure
                    && !expected.contains(&name.as_str())
            });
            left_out.extend(more.into_iter().map(|name| {
                format!("the namespace `{name}`, which the GateConfiguration does not name as infrastructure")
            }));
        } else {
            let values: Vec<_> = values.map(String::as_str).collect();
            let (key, operator) = (&term.key, &term.operator);
            let term = format!("`{key} {operator} {}`", values.join(", "));
            left_out.push(format!("namespaces for which {term} does not hold"));
        }
    }
    left_out
}

/// An expression without differences of white space.
fn words(expression: &str) -> String {
    expression.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn authorities(entry: &ValidatingWebhook, now: Timestamp, report: &mut DoctorReport) {
    match verifies_until(entry, now) {
        Err(why) => report.find(&checks::WEBHOOK_CA_BUNDLE, [why]),
        Ok(last) if last - now.as_second() < SECONDS_TO_EXPIRY => report.find(
            &checks::WEBHOOK_CA_EXPIRES,
            [format!(
                "`{}`: the last authority expires at {}",
                entry.name,
                time(last)
            )],
        ),
        Ok(_) => {}
    }
}

/// When the last authority of an entry's `caBundle` expires, in seconds since 1970; or why the API server verifies nobody by it.
fn verifies_until(entry: &ValidatingWebhook, now: Timestamp) -> Result<i64, String> {
    let ends = authorities_of(entry);
    let name = &entry.name;
    match ends.as_ref().map(|ends| ends.values().max()) {
        Some(Some(last)) if *last > now.as_second() => Ok(*last),
        Some(Some(last)) => Err(format!(
            "every authority of `{name}` has expired, the last one at {}",
            time(*last)
        )),
        Some(None) => Err(format!("`{name}` has no `caBundle`")),
        None => Err(format!(
            "the `caBundle` of `{name}` cannot be read as certificates"
        )),
    }
}

/// The authorities of an entry's `caBundle` (DER) with their ends in seconds since 1970; `None` if they cannot be read.
fn authorities_of(entry: &ValidatingWebhook) -> Option<BTreeMap<Vec<u8>, i64>> {
    let each = CertificateDer::pem_slice_iter(bundle(entry));
    let read = each.map(|certificate| {
        let certificate = certificate.ok()?;
        let read = x509_cert::Certificate::from_der(&certificate).ok()?;
        let end = read.tbs_certificate.validity.not_after.to_unix_duration();
        Some((certificate.to_vec(), i64::try_from(end.as_secs()).ok()?))
    });
    read.collect()
}

fn bundle(entry: &ValidatingWebhook) -> &[u8] {
    let bundle = entry.client_config.ca_bundle.as_ref();
    bundle.map_or(&[], |bundle| bundle.0.as_slice())
}

fn time(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Audited, Endpoint, Registration};

    fn printed() -> Value {
        printed_of(Audited::default())
    }

    fn printed_of(audited: Audited) -> Value {
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertificateParams::new([]).unwrap();
        let authority = authority.self_signed(&key).unwrap().pem();
        use base64::Engine as _;
        let registration = Registration {
            endpoint: Endpoint::Service {
                namespace: "gate".to_owned(),
                name: "gate".to_owned(),
            },
            ca_bundle: Some(base64::engine::general_purpose::STANDARD.encode(authority)),
            infrastructure: BTreeSet::from(["gate".to_owned(), "kube-system".to_owned()]),
            audited,
        };
        registration.configuration().unwrap()
    }

    fn found(change: impl FnOnce(&mut Value)) -> Vec<&'static str> {
        found_of(&printed(), change)
    }

    fn found_of(expected: &Value, change: impl FnOnce(&mut Value)) -> Vec<&'static str> {
        let mut found = expected.clone();
        change(&mut found);
        let found = serde_json::from_value(found).unwrap();
        let mut report = DoctorReport::new();
        let now = "2026-11-29T12:00:00Z".parse().unwrap();
        check(&[found], expected, true, now, &mut report);
        report.findings().iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn the_configuration_as_printed_has_no_hole() {
        assert_eq!(found(|_| {}), Vec::<&str>::new());
    }

    #[test]
    fn the_configuration_of_a_gate_that_only_records_has_no_hole() {
        let everywhere = printed_of(Audited {
            everywhere: true,
            ..Audited::default()
        });
        assert_eq!(found_of(&everywhere, |_| {}), Vec::<&str>::new());
        let lab = printed_of(Audited {
            namespaces: BTreeSet::from(["lab".to_owned()]),
            ..Audited::default()
        });
        assert_eq!(found_of(&lab, |_| {}), Vec::<&str>::new());
        // Another namespace is left out of the entry that denies.
        let hole = found_of(&lab, |it| {
            let values = &mut it["webhooks"][0]["namespaceSelector"]["matchExpressions"][0];
            values["values"] = json!(["gate", "kube-system", "lab", "shop"]);
        });
        assert_eq!(hole, ["webhook-selector"]);
        // The entry of the namespace does not ask about everything, about another namespace, or is not there.
        let holes: [fn(&mut Value); 6] = [
            |it| it["webhooks"][2]["rules"] = json!([]),
            |it| it["webhooks"][2]["clientConfig"]["caBundle"] = json!(""),
            |it| it["webhooks"][2]["timeoutSeconds"] = json!(1),
            |it| it["webhooks"][2]["clientConfig"]["service"]["name"] = json!("evil"),
            |it| {
                let values = &mut it["webhooks"][2]["namespaceSelector"]["matchExpressions"][0];
                values["values"] = json!(["play"]);
            },
            |it| {
                it["webhooks"].as_array_mut().unwrap().remove(2);
            },
        ];
        for hole in holes {
            assert_eq!(found_of(&lab, hole), ["webhook-audited-missing"]);
        }
    }

    #[test]
    fn an_entry_that_has_to_admit_without_an_answer_and_denies_is_found() {
        let deny =
            |at: usize| move |it: &mut Value| it["webhooks"][at]["failurePolicy"] = json!("Fail");
        assert_eq!(found(deny(1)), ["webhook-locks-out"]);
        // What the API server takes where nothing is written.
        let unsaid = found(|it| {
            let entry = it["webhooks"][1].as_object_mut().unwrap();
            entry.remove("failurePolicy");
        });
        assert_eq!(unsaid, ["webhook-locks-out"]);
        let lab = printed_of(Audited {
            namespaces: BTreeSet::from(["lab".to_owned()]),
            ..Audited::default()
        });
        assert_eq!(found_of(&lab, deny(2)), ["webhook-locks-out"]);
        let everywhere = printed_of(Audited {
            everywhere: true,
            ..Audited::default()
        });
        assert_eq!(found_of(&everywhere, deny(0)), ["webhook-locks-out"]);
    }

    #[test]
    fn attack_another_ca_for_the_infrastructure_alone_admits_it_unseen() {
        let other = printed();
        let other = &other["webhooks"][1]["clientConfig"]["caBundle"];
        for bundle in [other, &json!(""), &json!("bm90IHBlbQ=="), &Value::Null] {
            let found = found(|it| it["webhooks"][1]["clientConfig"]["caBundle"] = bundle.clone());
            assert_eq!(found, ["webhook-infrastructure-missing"], "{bundle}");
        }
    }

    #[test]
    fn a_bundle_with_the_same_authorities_in_another_text_or_with_more_is_no_hole() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let pem = |of: &Value| {
            let bundle = of["webhooks"][1]["clientConfig"]["caBundle"].as_str();
            String::from_utf8(STANDARD.decode(bundle.unwrap()).unwrap()).unwrap()
        };
        let expected = printed();
        let (own, other) = (pem(&expected), pem(&printed()));
        for (text, ids) in [
            (format!("# comment\n{}\n", own.trim_end()), vec![]),
            (format!("{other}{own}"), vec![]),
            (other, vec!["webhook-infrastructure-missing"]),
        ] {
            let found = found_of(&expected, |it| {
                it["webhooks"][1]["clientConfig"]["caBundle"] = json!(STANDARD.encode(&text));
            });
            assert_eq!(found, ids, "{text}");
        }
    }

    #[test]
    fn an_authority_that_has_expired_is_missed_in_no_bundle() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut expired = rcgen::CertificateParams::new([]).unwrap();
        expired.not_after = rcgen::date_time_ymd(2026, 11, 28);
        let expired = expired.self_signed(&key).unwrap().pem();
        let found = found(|it| {
            let valid = it["webhooks"][0]["clientConfig"]["caBundle"].as_str();
            let valid = String::from_utf8(STANDARD.decode(valid.unwrap()).unwrap()).unwrap();
            let both = STANDARD.encode(format!("{expired}{valid}"));
            it["webhooks"][0]["clientConfig"]["caBundle"] = json!(both);
        });
        assert_eq!(found, Vec::<&str>::new());
    }

    #[test]
    fn each_hole_in_the_configuration_is_found() {
        type Change = fn(&mut Value);
        let holes: [(&str, Change); 23] = [
            ("webhook-missing", |it| it["webhooks"] = json!([])),
            ("webhook-endpoint", |it| {
                it["webhooks"][0]["clientConfig"]["service"]["name"] = json!("evil");
            }),
            ("webhook-endpoint", |it| {
                it["webhooks"][0]["clientConfig"]["service"]["namespace"] = json!("evil");
            }),
            ("webhook-endpoint", |it| {
                it["webhooks"][0]["clientConfig"]["service"]["path"] = json!("/allow");
            }),
            ("webhook-endpoint", |it| {
                it["webhooks"][0]["clientConfig"]["service"]["port"] = json!(8443);
            }),
            ("webhook-endpoint", |it| {
                let client = &mut it["webhooks"][0]["clientConfig"];
                client["url"] = json!("https://evil.example/validate");
                client["service"] = Value::Null;
            }),
            ("webhook-infrastructure-missing", |it| {
                it["webhooks"][1]["clientConfig"]["service"]["name"] = json!("evil");
            }),
            ("webhook-infrastructure-missing", |it| {
                it["webhooks"][1]["rules"] = json!([]);
            }),
            ("webhook-infrastructure-missing", |it| {
                it["webhooks"][1]["timeoutSeconds"] = json!(1);
            }),
            ("webhook-infrastructure-missing", |it| {
                let values = &mut it["webhooks"][1]["namespaceSelector"]["matchExpressions"][0];
                values["values"] = json!(["gate"]);
            }),
            ("webhook-infrastructure-missing", |it| {
                it["webhooks"][1]["objectSelector"] = json!({"matchLabels": {"gated": "yes"}});
            }),
            ("webhook-failure-policy", |it| {
                it["webhooks"][0]["failurePolicy"] = json!("Ignore");
            }),
            ("webhook-rules", |it| {
                let rules = it["webhooks"][0]["rules"].as_array_mut().unwrap();
                rules.remove(0);
            }),
            ("webhook-rules", |it| {
                it["webhooks"][0]["rules"][0]["operations"] = json!(["CREATE"]);
            }),
            ("webhook-selector", |it| {
                let values = &mut it["webhooks"][0]["namespaceSelector"]["matchExpressions"][0];
                values["values"] = json!(["kube-system", "gate", "shop"]);
            }),
            ("webhook-selector", |it| {
                it["webhooks"][0]["namespaceSelector"]["matchLabels"] = json!({"gated": "yes"});
            }),
            ("webhook-selector", |it| {
                it["webhooks"][0]["objectSelector"] = json!({"matchLabels": {"gated": "yes"}});
            }),
            ("webhook-conditions", |it| {
                it["webhooks"][0]["matchConditions"][0]["expression"] = json!("false");
            }),
            ("webhook-match-policy", |it| {
                it["webhooks"][0]["matchPolicy"] = json!("Exact");
            }),
            ("webhook-ca-bundle", |it| {
                it["webhooks"][0]["clientConfig"]["caBundle"] = json!("");
            }),
            ("webhook-ca-bundle", |it| {
                it["webhooks"][0]["clientConfig"]["caBundle"] = json!("bm90IHBlbQ==");
            }),
            ("webhook-timeout", |it| {
                it["webhooks"][0]["timeoutSeconds"] = json!(2);
            }),
            ("webhook-infrastructure-missing", |it| {
                it["webhooks"].as_array_mut().unwrap().remove(1);
            }),
        ];
        for (id, hole) in holes {
            assert_eq!(found(hole), [id]);
        }
    }

    #[test]
    fn a_url_is_the_gates_only_if_it_is_the_one_that_is_given() {
        let registration = |url: &str| Registration {
            endpoint: Endpoint::Url(url.to_owned()),
            ca_bundle: None,
            infrastructure: BTreeSet::from(["gate".to_owned(), "kube-system".to_owned()]),
            audited: Audited::default(),
        };
        let expected = registration("https://gate.example/validate")
            .configuration()
            .unwrap();
        let found = |url: &'static str| {
            found_of(&expected, |it| {
                let bundle = &printed()["webhooks"][0]["clientConfig"]["caBundle"];
                it["webhooks"][0]["clientConfig"] = json!({"url": url, "caBundle": bundle});
                it["webhooks"][1]["clientConfig"]["caBundle"] = bundle.clone();
            })
        };
        assert_eq!(found("https://gate.example/validate"), Vec::<&str>::new());
        assert_eq!(found("https://evil.example/validate"), ["webhook-endpoint"]);
    }

    #[test]
    fn namespaces_that_are_left_out_count_only_where_the_infrastructure_is_known() {
        let expected = printed();
        let mut found = expected.clone();
        for (entry, names) in [
            (0, json!(["cilium", "gate", "kube-system"])),
            (1, json!(["cilium", "gate", "kube-system"])),
        ] {
            let selector = &mut found["webhooks"][entry]["namespaceSelector"];
            selector["matchExpressions"][0]["values"] = names;
        }
        let found = [serde_json::from_value(found).unwrap()];
        let now = "2026-11-29T12:00:00Z".parse().unwrap();
        for (known, ids) in [(true, vec!["webhook-selector"]), (false, vec![])] {
            let mut report = DoctorReport::new();
            check(&found, &expected, known, now, &mut report);
            let found: Vec<_> = report.findings().iter().map(|it| it.id).collect();
            assert_eq!(found, ids);
        }
    }

    #[test]
    fn a_star_asks_about_everything_and_a_narrower_scope_does_not() {
        let every = |scope: &'static str| {
            found(move |it| {
                it["webhooks"][0]["rules"] = json!([{
                    "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"], "scope": scope,
                }]);
            })
        };
        assert_eq!(every("*"), Vec::<&str>::new());
        assert_eq!(every("Namespaced"), ["webhook-rules"]);
    }

    #[test]
    fn the_last_authority_of_the_bundle_decides_when_it_expires() {
        let expected = printed();
        let entry = serde_json::from_value(expected.clone()).unwrap();
        // rcgen's certificates end in the year 4096.
        for (now, id) in [
            ("4095-12-25T00:00:00Z", "webhook-ca-expires"),
            ("4096-02-01T00:00:00Z", "webhook-ca-bundle"),
        ] {
            let mut report = DoctorReport::new();
            check(
                std::slice::from_ref(&entry),
                &expected,
                true,
                now.parse().unwrap(),
                &mut report,
            );
            let found: Vec<_> = report.findings().iter().map(|it| it.id).collect();
            assert_eq!(found, [id], "{now}");
        }
    }
}
