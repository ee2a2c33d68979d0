//! Rules that users write themselves: expressions over statements and over changes, what is wrong in them, and what is built to burn
//! the gate's time. And verification summaries that say more than their signer may.

use std::sync::Arc;

use promotion_gate::api;
use promotion_gate_core::gate::{
    self, Collected, Digest, Evidence, Finding, ImageEvidence, Outcome, Policy, Promotion, Subject,
};
use serde_json::{Value, json};

use crate::facts::{Attached, FACTS, Form, judge, keyless, promotion, snapshot};

const TESTED: &str = "https://example.com/test-result/v1";
const HEAD: &str =
    "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {name: p}\nspec:\n";
const SIGNER: &str =
    "{keyless: {issuer: \"https://i.example\", anyIdentity: true, trustRoots: [sandbox]}}";

/// What a rule says of an image that carries this statement by `build`.
fn said(requirement: &Value, (kind, predicate): (&str, Value)) -> Finding {
    let spec = json!({"requirements": [{"digestPinned": {}}, requirement], "uncovered": "Allow"});
    said_under(FACTS.policy("p", &spec), (kind, predicate))
}

fn said_under(policy: Policy, (kind, predicate): (&str, Value)) -> Finding {
    let attached = Attached {
        statement: Some((kind.to_owned(), predicate)),
        ..tested(Value::Null)
    };
    said_of(policy, &[attached])
}

/// What a policy says of an image with these attachments.
fn said_of(policy: Policy, attached: &[Attached]) -> Finding {
    let (promotion, collected) = change(1, attached);
    let verdict = judge(&promotion, &collected, &snapshot(vec![policy]));
    let findings = verdict.policies()[0].findings();
    let finding = findings.iter().find(|it| it.rule != "digestPinned");
    finding.unwrap().clone()
}

/// A change with so many containers of one image, and what is attached to it.
fn change(containers: usize, attached: &[Attached]) -> (Promotion, Evidence) {
    let digest = Digest::sha256(b"image");
    let images = vec![format!("registry.example/app@{digest}"); containers];
    let promotion = promotion(&images);
    let mut evidence = ImageEvidence::default();
    for it in attached {
        FACTS.add(&mut evidence, &digest, it);
    }
    let (image, pin) = promotion.images().next().unwrap();
    let subject: Subject = pin.subject(&image.reference).unwrap();
    let mut collected = Evidence::default();
    collected
        .images
        .insert(subject, Collected::Known(Arc::new(evidence)));
    (promotion, collected)
}

fn tested(predicate: Value) -> Attached {
    Attached {
        form: Form::Attestation,
        statement: Some((TESTED.to_owned(), predicate)),
        ..Attached::by("build")
    }
}

fn attestation(expression: &str) -> Value {
    json!({"attestation": {
        "predicateType": TESTED, "signedBy": keyless("build@example.com"), "expression": expression,
    }})
}

#[test]
fn an_expression_built_to_burn_cpu_is_undecided() {
    let list: Vec<_> = (0..20_000).collect();
    let text = "a".repeat(500_000);
    let predicate = json!({"list": list, "text": text, "texts": vec![text.clone(); 3]});
    for expression in [
        "predicate.list.all(a, predicate.list.all(b, predicate.list.all(c, a + b + c >= 0)))",
        "predicate.list.exists(a, predicate.list.map(b, b * a).size() < 0)",
        "predicate.list.exists(a, predicate.text.contains('b') || predicate.text + predicate.text == 'a')",
        "predicate.list.exists(a, predicate.text.matches('(a|a.|aa)*b'))",
        "predicate.texts.exists(t, t.matches('(a+a*)+(a|aa)*b$'))",
    ] {
        let finding = said(&attestation(expression), (TESTED, predicate.clone()));
        assert_eq!(finding.outcome, Outcome::Undecided, "{expression}");
        assert_eq!(finding.reason, "attestation-not-evaluated");
        assert!(
            finding.detail.contains("too much work"),
            "{}",
            finding.detail
        );
    }
}

#[test]
fn many_statements_that_burn_cpu_are_undecided_and_do_not_hide_a_newer_good_one() {
    let list: Vec<_> = (0..1000).collect();
    let rule = attestation(
        "predicate.result == 'PASSED' || predicate.list.all(a, predicate.list.all(b, a + b >= 0))",
    );
    let spec = json!({"requirements": [{"digestPinned": {}}, rule], "uncovered": "Allow"});
    let attached = |ago: &str, result: String| Attached {
        ago: Some(ago.parse().unwrap()),
        ..tested(json!({"result": result, "list": list}))
    };
    let burning = (0..6).map(|index| attached("2h", index.to_string()));
    let burning: Vec<_> = burning.collect();
    for (ago, outcome) in [("1h", Outcome::Pass), ("3h", Outcome::Undecided)] {
        let mut all = burning.clone();
        all.push(attached(ago, "PASSED".to_owned()));
        let finding = said_of(FACTS.policy("p", &spec), &all);
        assert_eq!(finding.outcome, outcome, "{}", finding.detail);
        let is_cut = finding
            .detail
            .contains("older statements were not evaluated");
        assert_eq!(is_cut, outcome == Outcome::Undecided, "{}", finding.detail);
    }
}

#[test]
fn many_expressions_over_many_images_share_the_work_of_one_judgement() {
    let list: Vec<_> = (0..2000).collect();
    let rule = attestation("predicate.list.all(a, a >= 0)");
    let mut requirements = vec![rule; 60];
    requirements.push(json!({"digestPinned": {}}));
    let spec = json!({"requirements": requirements, "uncovered": "Allow"});
    let policies = snapshot(vec![FACTS.policy("p", &spec)]);
    for (containers, outcome) in [(1, Outcome::Pass), (100, Outcome::Undecided)] {
        let (promotion, collected) = change(containers, &[tested(json!({"list": list}))]);
        let verdict = judge(&promotion, &collected, &policies);
        let findings = verdict.policies()[0].findings().iter();
        let of_rule: Vec<_> = findings.filter(|it| it.rule == "attestation").collect();
        // Findings that say the same are one.
        assert_eq!(of_rule.len(), containers);
        assert!(of_rule.iter().all(|it| it.outcome == outcome));
        let is_cut = of_rule[0].detail.contains("too much work");
        assert_eq!(
            is_cut,
            outcome == Outcome::Undecided,
            "{}",
            of_rule[0].detail
        );
    }
}

#[test]
fn a_judgement_that_can_take_long_is_known_before() {
    let long_about = |requirements: Vec<Value>, containers: usize, attached: Attached| {
        let spec = json!({"requirements": requirements, "tags": "Resolve", "uncovered": "Allow"});
        let snapshot = snapshot(vec![FACTS.policy("p", &spec)]);
        let (promotion, evidence) = change(containers, &[attached]);
        gate::can_take_long(
            &promotion,
            &evidence,
            &snapshot.governing(&promotion.change),
        )
    };
    let can_take_long = |requirements: Vec<Value>, containers: usize, predicate: Value| {
        long_about(requirements, containers, tested(predicate))
    };
    let small = || json!({"list": [1, 2]});
    let large = || json!({"text": "a".repeat(70_000)});
    let one = || vec![attestation("predicate.list.all(a, a > 0)")];
    assert!(!can_take_long(one(), 16, small()));
    assert!(can_take_long(one(), 17, small()), "many images");
    assert!(can_take_long(one(), 1, large()), "a large statement");
    let nested = "predicate.list.all(a, predicate.list.all(b, a + b > 0))";
    assert!(can_take_long(vec![attestation(nested)], 1, small()));
    let of_object = json!({"expression": {"rule": "images.all(a, a.image != '')"}});
    assert!(!can_take_long(vec![of_object.clone(); 16], 100, small()));
    assert!(
        can_take_long(vec![of_object; 17], 1, small()),
        "many expressions"
    );
    // Findings and packages count one by one.
    let time = "2026-11-01T00:00:00Z";
    let scan = |count: usize| {
        let result = vec![json!({"id": "CVE-1"}); count];
        let metadata = json!({"scanStartedOn": time, "scanFinishedOn": time});
        json!({"scanner": {"uri": "https://s.example", "result": result}, "metadata": metadata})
    };
    let bill = |count: usize| {
        let component = json!({"type": "library", "name": "a", "purl": "pkg:npm/a@1"});
        json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": vec![component; count]})
    };
    let vex = |count: usize| {
        let statement = json!({"vulnerability": {"name": "CVE-1"}, "status": "fixed"});
        json!({"@context": "https://openvex.dev/ns/v0.2.0", "timestamp": time, "statements": vec![statement; count]})
    };
    for (kind, few, many) in [
        (
            "https://in-toto.io/attestation/vulns/v0.2",
            scan(1000),
            scan(1001),
        ),
        ("https://cyclonedx.org/bom", bill(1000), bill(1001)),
        ("https://openvex.dev/ns", vex(1000), vex(1001)),
    ] {
        for (predicate, expected) in [(few, false), (many, true)] {
            let attached = Attached {
                statement: Some((kind.to_owned(), predicate)),
                ..tested(Value::Null)
            };
            assert_eq!(long_about(one(), 1, attached), expected, "{kind}");
        }
    }
}

#[test]
fn a_predicate_that_only_an_expression_reads_is_kept_and_counts_as_memory() {
    let bytes = |text: usize| {
        let (_, collected) = change(1, &[tested(json!({"text": "a".repeat(text)}))]);
        let evidence = collected.images.values().next().unwrap().value().unwrap();
        evidence.statements[0].1.bytes()
    };
    assert_eq!(bytes(100_000), bytes(0) + 100_000);
}

#[test]
fn a_predicate_with_a_million_entries_is_undecided_and_not_read() {
    let predicate = json!({"list": vec![0; 1_000_000]});
    let finding = said(
        &attestation("predicate.list.size() > 0"),
        (TESTED, predicate.clone()),
    );
    assert_eq!(finding.outcome, Outcome::Undecided);
    assert!(
        finding.detail.contains("has more than 100000 values"),
        "{}",
        finding.detail
    );
    // An expression that does not use the predicate does not read it.
    let finding = said(
        &attestation("signer.identity == 'build@example.com'"),
        (TESTED, predicate),
    );
    assert_eq!(finding.outcome, Outcome::Pass, "{}", finding.detail);
}

#[test]
fn a_denial_shows_why_each_statement_does_not_count() {
    let finding = said(
        &attestation("predicate.result == 'PASSED'"),
        (TESTED, json!({"result": "FAILED"})),
    );
    assert_eq!(
        finding.detail,
        "the statement by `build@example.com` (issuer `https://issuer.example`): the expression is false: `predicate.result == 'PASSED'`"
    );
    let finding = said(
        &attestation("predicate.result == 'PASSED'"),
        (TESTED, json!({"outcome": "PASSED"})),
    );
    assert_eq!(
        finding.detail,
        "the statement by `build@example.com` (issuer `https://issuer.example`): the expression was not evaluated: there is no field `result` (line 1, column 10); test it with `has(…)` first"
    );
}

#[test]
fn the_message_of_a_policy_is_what_a_denial_says() {
    let expression = |rule: &str| json!({"expression": {"rule": rule, "message": "label the workload with its team"}});
    let statement = || (TESTED, json!({}));
    let finding = said(&expression("'team' in workload.labels"), statement());
    assert_eq!(finding.outcome, Outcome::Fail);
    assert_eq!(finding.detail, "label the workload with its team");
    let finding = said(&expression("workload.labels['team'] == 'a'"), statement());
    assert_eq!(finding.outcome, Outcome::Undecided);
    assert_eq!(
        finding.detail,
        "the expression was not evaluated: there is no field `team`; test it with `has(…)` first; the policy expects: label the workload with its team"
    );
    let finding = said(&expression("requester.username == 'alice'"), statement());
    assert_eq!(
        (finding.outcome, finding.reason),
        (Outcome::Undecided, "expression-unknown")
    );
}

fn problems(spec: &str) -> Vec<(String, Option<String>)> {
    let sources = [("p.yaml".to_owned(), format!("{HEAD}{spec}").into_bytes())];
    let set = api::load(&sources, &FACTS.trust_roots());
    let problems = set.problems.iter().map(ToString::to_string);
    problems
        .map(|problem| (problem.clone(), set.excerpts.get(&problem).cloned()))
        .collect()
}

#[test]
fn a_mistake_in_an_expression_points_into_the_document() {
    let found = problems(
        "  requirements:\n  - expression:\n      rule: |\n        workload.kind == 'Pod' &&\n          requestr.username == 'a' && x\n",
    );
    assert_eq!(
        found,
        [
            (
                "p.yaml:9:11: spec.requirements[0].expression.rule: in the expression, line 2, column 3: there is no variable `requestr`, did you mean `requester`?; known are `workload`, `namespaceLabels`, `requester`, `images`, `change`, `environment`, `cluster`, `now`".to_owned(),
                Some("          requestr.username == 'a' && x\n          ^".to_owned()),
            ),
            (
                "p.yaml:9:39: spec.requirements[0].expression.rule: in the expression, line 2, column 31: there is no variable `x`; known are `workload`, `namespaceLabels`, `requester`, `images`, `change`, `environment`, `cluster`, `now`".to_owned(),
                Some(format!("          requestr.username == 'a' && x\n{}^", " ".repeat(38))),
            ),
        ]
    );
    let found = problems(&format!(
        "  tags: Resolve\n  requirements:\n  - attestation: {{predicateType: \"{TESTED}\", signedBy: {SIGNER}, expression: \"predicate.a.matches('(')\"}}\n"
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    let (message, excerpt) = &found[0];
    assert!(
        message.contains("this is not a regular expression"),
        "{message}"
    );
    assert!(excerpt.as_ref().unwrap().ends_with('^'));
}

#[test]
fn an_attestation_of_a_type_with_a_rule_of_its_own_is_refused_with_the_rule() {
    for (kind, expected) in [
        ("https://slsa.dev/provenance/v1", "use `provenance`"),
        ("https://slsa.dev/provenance/v0.2", "use `provenance`"),
        (
            "https://slsa.dev/verification_summary/v1",
            "use `verificationSummary`",
        ),
        ("https://promotion-gate.dev/approval/v1", "use `approvals`"),
        ("https://promotion-gate.dev/change/v1", "use `approvals`"),
        (
            "https://promotion-gate.dev/emergency-change/v1",
            "use `emergency` of the policy",
        ),
        ("https://sigstore.dev/cosign/sign/v1", "use `signature`"),
        ("test-result", "is not a predicate type"),
        (":test-result", "is not a predicate type"),
        ("https:", "is not a predicate type"),
    ] {
        let found = problems(&format!(
            "  tags: Resolve\n  requirements: [{{attestation: {{predicateType: \"{kind}\", signedBy: {SIGNER}}}}}]\n"
        ));
        assert!(
            found.iter().any(|(problem, _)| problem.contains(expected)),
            "{kind}: {found:?}"
        );
    }
}

#[test]
fn an_expression_that_gives_something_else_than_true_or_false_is_undecided_and_says_what() {
    let predicate = json!({"nothing": null, "count": 1, "text": "a", "list": [], "map": {}});
    for (field, found) in [
        ("nothing", "null"),
        ("count", "a number"),
        ("text", "a text"),
        ("list", "a list"),
        ("map", "a map"),
    ] {
        let requirement = attestation(&format!("predicate.{field}"));
        let finding = said(&requirement, (TESTED, predicate.clone()));
        let gives = format!("it gives {found}, and has to give `true` or `false`");
        assert_eq!(finding.outcome, Outcome::Undecided);
        assert!(finding.detail.contains(&gives), "{}", finding.detail);
    }
}

#[test]
fn an_expression_over_an_environment_needs_a_policy_with_one() {
    let spec = "  requirements: [{expression: {rule: \"environment == 'production'\"}}]\n";
    let found = problems(spec);
    assert!(
        found[0].0.contains("this policy does not name one"),
        "{found:?}"
    );
    assert_eq!(problems(&format!("  environment: production\n{spec}")), []);
}

#[test]
fn an_expression_without_a_variable_is_warned_of() {
    for requirement in [
        "expression: {rule: \"1 == 1\"}".to_owned(),
        format!(
            "attestation: {{predicateType: \"https://example.com/x\", signedBy: {SIGNER}, expression: \"1 == 1\"}}"
        ),
    ] {
        let text = format!("{HEAD}  requirements: [{{digestPinned: {{}}}}, {{{requirement}}}]\n");
        let set = api::load(
            &[("p.yaml".to_owned(), text.into_bytes())],
            &FACTS.trust_roots(),
        );
        let warnings: Vec<_> = set.warnings.iter().map(ToString::to_string).collect();
        let about = warnings.iter();
        let about = about.filter(|it| it.contains("the expression uses no variable"));
        assert_eq!(about.count(), 1, "{warnings:?}");
    }
}

/// The id of an accepted verifier is in a statement that everybody can write.
#[test]
fn stagings_verifier_identity_used_by_a_pipeline_is_refused() {
    let requirement = json!({"verificationSummary": {"verifiers": [
        {"id": "https://staging.example/gate", "signedBy": keyless("release@example.com")},
    ]}});
    let finding = said(
        &requirement,
        (
            "https://slsa.dev/verification_summary/v1",
            json!({
                "verifier": {"id": "https://staging.example/gate"}, "resourceUri": "registry.example/app",
                "verificationResult": "PASSED", "verifiedLevels": [],
            }),
        ),
    );
    assert_eq!(
        (finding.outcome, finding.reason),
        (Outcome::Fail, "verifier-not-accepted")
    );
    assert_eq!(
        finding.detail,
        "the summary by `build@example.com` (issuer `https://issuer.example`): the policy does not accept this signer for the verifier `https://staging.example/gate`"
    );
}
