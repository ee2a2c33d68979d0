//! Emergency changes: what they waive, who has to agree, what ends them, and every way to abuse them that must not work. The statements
//! are signed in the sandbox and verified in full.

mod attacks;
mod gathered;
mod kept;
mod reviews;
mod webhook;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp};
use promotion_gate::admission::AdmissionResponse;
use promotion_gate::api;
use promotion_gate_core::gate::{
    Actor, ChangeKind, Collected, Decision, Digest, EmergencyUse, Evidence, Finding, Incident,
    IncidentQuestion, KeptRejection, Outcome, OverdueReview, OverdueReviews, People, Revocation,
    Schedule, Severity, Subject, Unavailability, Verdict,
};
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Value, json};

use crate::facts::{Attached, FACTS, Form, ISSUER, Provenance, judge, promotion, snapshot};

static NOW: LazyLock<Timestamp> =
    LazyLock::new(|| Timestamp::from_second(Timestamp::now().as_second()).unwrap());
static IMAGE: LazyLock<Digest> = LazyLock::new(|| Digest::sha256(b"mends it"));
static OTHER: LazyLock<Digest> = LazyLock::new(|| Digest::sha256(b"another image"));

const CHANGE: &str = "https://promotion-gate.dev/emergency-change/v1";
const CLOSURE: &str = "https://promotion-gate.dev/emergency-closure/v1";
const BUILDERS: &str =
    "https://github.com/example/builders/.github/workflows/build.yml@refs/tags/v1.4.0";

fn at(minutes: i64) -> Timestamp {
    *NOW + SignedDuration::from_mins(minutes)
}

fn signed(by: &str, kind: &str, predicate: Value, minutes_ago: i64) -> Attached {
    Attached {
        form: Form::Attestation,
        statement: Some((kind.to_owned(), predicate)),
        at: Some(at(-minutes_ago)),
        ..Attached::by(by)
    }
}

/// The predicate of a declaration that ends in two hours, with other fields.
fn declaration(more: Value) -> Value {
    let mut predicate = json!({
        "environment": "production",
        "incident": {"id": "INC1"},
        "reason": "reverts the query that locks the orders table",
        "expires": at(120).to_string(),
    });
    let fields = more.as_object().cloned().unwrap_or_default();
    predicate.as_object_mut().unwrap().extend(fields);
    predicate
}

/// The digest of the statement with this predicate about the image.
fn digest_of(predicate: &Value) -> String {
    let mut evidence = Default::default();
    let attached = signed("ben@example.com", CHANGE, predicate.clone(), 1);
    FACTS.add(&mut evidence, &IMAGE, &attached);
    evidence.statements[0].1.digest().to_string()
}

fn declared(by: &str, more: Value) -> Attached {
    signed(by, CHANGE, declaration(more), 10)
}

/// A decision of a person about the usual declaration, with other fields.
fn word(by: &str, decision: &str, minutes_ago: i64, more: Value) -> Attached {
    let mut predicate = json!({
        "environment": "production",
        "decision": decision,
        "emergency": digest_of(&declaration(json!({}))),
    });
    let fields = more.as_object().cloned().unwrap_or_default();
    for (name, value) in fields {
        match value {
            Value::Null => drop(predicate.as_object_mut().unwrap().remove(&name)),
            value => predicate[name] = value,
        }
    }
    signed(by, "approval", predicate, minutes_ago)
}

fn agreed(by: &str) -> Attached {
    word(by, "approved", 5, json!({}))
}

/// A signature that is not later than the review, however long a test runs.
fn release() -> Attached {
    Attached {
        at: Some(at(-60)),
        ..Attached::by("release")
    }
}

/// `ada` wrote the change.
fn provenance() -> Attached {
    Attached {
        form: Form::Attestation,
        provenance: Some(Provenance {
            template: "generator".to_owned(),
            but: json!({"invocation": {"environment": {"github_actor": "ada"}}}),
        }),
        at: Some(at(-60)),
        ..Attached::by("builder")
    }
}

/// A policy, the people whom it knows, and what is attached to the image.
struct Case {
    spec: Value,
    attached: Vec<Attached>,
    /// What is attached to the second image; without it there is one image.
    second: Option<Vec<Attached>>,
    freezes: Vec<Value>,
    world: Box<dyn Fn(&mut promotion_gate_core::gate::World)>,
    incidents: BTreeMap<IncidentQuestion, Collected<Option<Incident>>>,
    kind: ChangeKind,
}

/// The people directory, with further people.
fn directory(more: &[Value]) -> Value {
    let person = |name: &str| {
        json!({"name": name, "identities": [
            {"certificate": {"issuer": ISSUER, "email": format!("{name}@example.com")}},
            {"certificate": {"issuer": ISSUER, "email": format!("{name}@home.example")}},
            {"github": {"login": name}},
            {"kubernetes": {"user": format!("k8s-{name}")}},
        ]})
    };
    let names = ["ada", "ben", "cleo", "dan", "eve"];
    json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PeopleDirectory",
        "metadata": {"name": "people"},
        "spec": {
            "people": names.map(person).iter().chain(more).collect::<Vec<_>>(),
            "groups": [
                {"name": "on-call", "members": ["ada", "ben", "dan"]},
                {"name": "security", "members": ["ada", "cleo", "dan"]},
                {"name": "reviewers", "members": ["cleo"]},
            ],
        },
    })
}

fn people(more: &[Value]) -> Arc<People> {
    people_of(&directory(more))
}

fn people_of(document: &Value) -> Arc<People> {
    let source = ("people.yaml".to_owned(), document.to_string().into_bytes());
    let set = api::load(&[source], &FACTS.trust_roots());
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    set.people.unwrap()
}

static PEOPLE: LazyLock<Arc<People>> = LazyLock::new(|| people(&[]));

fn approvals() -> Value {
    json!({"approvals": {
        "from": [{"group": "reviewers"}],
        "authorsFrom": [{"provenance": {"builders": [{
            "id": {"glob": BUILDERS},
            "signedBy": {"keyless": {"issuer": ISSUER, "identity": BUILDERS, "trustRoots": ["sandbox"]}},
        }]}}],
        "trustRoots": ["sandbox"],
    }})
}

fn signature() -> Value {
    crate::facts::signed_by("release@example.com")
}

impl Case {
    /// A digest that is signed and not approved, and an emergency change with everything that it needs.
    fn new() -> Case {
        Case::with(vec![
            declared("ben@example.com", json!({})),
            agreed("cleo@example.com"),
        ])
    }

    /// The same with other statements about emergency changes.
    fn with(statements: Vec<Attached>) -> Case {
        let mut attached = vec![release(), provenance()];
        attached.extend(statements);
        Case {
            spec: json!({
                "environment": "production",
                "requirements": [{"digestPinned": {}}, signature(), approvals(), {"noFreeze": {}}],
                "emergency": {
                    "from": [{"group": "on-call"}, {"group": "security"}],
                    "waives": ["approvals", "noFreeze"],
                },
            }),
            attached,
            second: None,
            freezes: Vec::new(),
            world: Box::new(|_| {}),
            incidents: BTreeMap::new(),
            kind: ChangeKind::Deploy,
        }
    }

    fn emergency(mut self, field: &str, value: Value) -> Case {
        self.spec["emergency"][field] = value;
        self
    }

    fn and(mut self, more: Attached) -> Case {
        self.attached.push(more);
        self
    }

    fn frozen(mut self, more: Value) -> Case {
        let mut spec = json!({
            "environments": ["production"], "reason": "year end", "timeZone": "UTC",
            "windows": [{"from": "2000-01-01", "until": "2999-01-01"}],
        });
        let fields = more.as_object().cloned().unwrap_or_default();
        spec.as_object_mut().unwrap().extend(fields);
        self.freezes.push(spec);
        self
    }

    fn knowing(mut self, world: impl Fn(&mut promotion_gate_core::gate::World) + 'static) -> Case {
        self.world = Box::new(world);
        self
    }

    /// The policy asks a check about the incident, which answers this.
    fn asking(mut self, more: Value, answer: Collected<Option<Incident>>) -> Case {
        let mut incident = json!({"check": "pager"});
        let fields = more.as_object().cloned().unwrap_or_default();
        incident.as_object_mut().unwrap().extend(fields);
        self.spec["emergency"]["incident"] = incident;
        let question = IncidentQuestion {
            check: "pager".to_owned(),
            id: "INC1".to_owned(),
        };
        self.incidents.insert(question, answer);
        self
    }

    fn evidence(&self) -> Evidence {
        let mut evidence = Evidence {
            incidents: self.incidents.clone(),
            ..Evidence::default()
        };
        let images = [
            (&*IMAGE, Some(&self.attached)),
            (&*OTHER, self.second.as_ref()),
        ];
        for (image, attached) in images {
            let mut about = Default::default();
            for attached in attached.into_iter().flatten() {
                FACTS.add(&mut about, image, attached);
            }
            let subject = Subject {
                repository: promotion_gate_core::gate::Repository::named("registry.example/app"),
                digest: image.clone(),
            };
            evidence
                .images
                .insert(subject, Collected::Known(about.into()));
        }
        evidence
    }

    fn snapshot(&self) -> promotion_gate_core::gate::Snapshot {
        let mut snapshot = snapshot(vec![FACTS.policy("production", &self.spec)]);
        snapshot.world.people = Collected::Known(Arc::clone(&PEOPLE));
        let documents = self.freezes.iter().enumerate().map(|(index, spec)| {
            let document = json!({
                "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ChangeFreeze",
                "metadata": {"name": format!("freeze-{index}")}, "spec": spec,
            });
            (format!("{index}.yaml"), document.to_string().into_bytes())
        });
        let set = api::load(&documents.collect::<Vec<_>>(), &FACTS.trust_roots());
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        let freezes = set.freezes.into_iter().map(|freeze| (freeze, None));
        let schedule = Schedule::new(freezes, *NOW);
        snapshot.world.freezes = Collected::Known(schedule.into());
        (self.world)(&mut snapshot.world);
        snapshot
    }

    fn promotion(&self) -> promotion_gate_core::gate::Promotion {
        let mut images = vec![format!("registry.example/app@{}", *IMAGE)];
        images.extend(
            self.second
                .iter()
                .map(|_| format!("registry.example/app@{}", *OTHER)),
        );
        let mut promotion = promotion(&images);
        promotion.at = *NOW;
        promotion.kind = self.kind;
        promotion.change.actor = Some(Actor {
            username: "k8s-eve".to_owned(),
            groups: Vec::new(),
        });
        promotion
    }

    fn judge(&self) -> Verdict {
        judge(&self.promotion(), &self.evidence(), &self.snapshot())
    }

    #[track_caller]
    fn passes(&self) -> EmergencyUse {
        let verdict = self.judge();
        let findings = verdict.policies()[0].findings();
        assert_eq!(verdict.decision(), Decision::Allow, "{findings:#?}");
        let used = verdict.emergencies();
        assert_eq!(used.len(), 1, "{findings:#?}");
        used[0].clone()
    }

    /// Denied, and the finding about the emergency change has this reason and these words.
    #[track_caller]
    fn denied(&self, reason: &str, words: &str) {
        let verdict = self.judge();
        let findings = verdict.policies()[0].findings();
        assert_eq!(verdict.decision(), Decision::Deny, "{findings:#?}");
        assert_eq!(verdict.emergencies(), Vec::new());
        let all_stand = findings.iter().all(|it| it.outcome != Outcome::Waived);
        assert!(all_stand, "{findings:#?}");
        let finding = findings.iter().find(|it| it.rule == "emergency");
        let finding = finding.unwrap_or_else(|| panic!("{findings:#?}"));
        assert_eq!(finding.reason, reason, "{}", finding.detail);
        assert!(finding.detail.contains(words), "{}", finding.detail);
    }
}

fn incident(change: impl FnOnce(&mut Incident)) -> Collected<Option<Incident>> {
    let mut incident = Incident {
        id: "INC1".to_owned(),
        open: true,
        severity: Some(Severity::P1),
        url: Some("https://pager.example/INC1".to_owned()),
        created_at: Some(at(-30)),
        created_by: Some("monitoring".to_owned()),
        service: Some("shop".to_owned()),
    };
    change(&mut incident);
    Collected::Known(Some(incident))
}

#[test]
fn an_emergency_change_with_two_people_waives_what_the_policy_lists_and_says_so() {
    let case = Case::new().frozen(json!({}));
    let used = case.passes();
    assert_eq!(used.waived, ["approvals", "noFreeze"].into());
    assert_eq!(used.declared_by, ["ben".to_owned()].into());
    assert_eq!(used.approved_by, ["cleo".to_owned()].into());
    assert_eq!(used.authors, ["ada".to_owned()].into());
    assert!(!used.has_unknown_author);
    assert_eq!(used.requester.as_deref(), Some("k8s-eve"));
    assert_eq!(used.incident_state.id(), "unverified");
    assert_eq!(used.expires, at(120));
    assert_eq!(used.review_due, at(48 * 60));
    let verdict = case.judge();
    let waived = |rule: &str| {
        let findings = verdict.policies()[0].findings().iter();
        let found: Vec<&Finding> = findings.filter(|it| it.rule == rule).collect();
        assert_eq!(found.len(), 1);
        found[0].clone()
    };
    for (rule, reason) in [("approvals", "approvals-missing"), ("noFreeze", "frozen")] {
        let finding = waived(rule);
        assert_eq!(finding.outcome, Outcome::Waived);
        assert_eq!(finding.reason, reason, "what is not met stays visible");
        assert_eq!(finding.waived_by, Some(used.declaration.clone()));
        assert!(finding.detail.contains("waived by the emergency change"));
    }
    assert_eq!(waived("signature").outcome, Outcome::Pass);
    let warnings: Vec<_> = verdict.warnings().into_iter().collect();
    assert!(warnings[0].contains("review due"), "{warnings:?}");
    let unverified = "incident INC1 is unverified: the policy does not ask an incident check";
    assert_eq!(warnings[1..], [unverified.to_owned()]);
    assert!(warnings.iter().all(|it| it.len() < 120), "{warnings:?}");
    assert!(used.told().contains(unverified), "{}", used.told());
    // The Event on the object says the same.
    let answer = AdmissionResponse::of(&verdict, &case.promotion(), false);
    assert_eq!(answer.emergencies, [used.told()]);
}

#[test]
fn what_is_undecided_is_waived_as_what_fails_is() {
    // It is not known who wrote the change, so that the approvals are undecided; two people have to agree.
    let mut case = Case::new();
    case.attached.remove(1);
    case.attached.push(word(
        "cleo@example.com",
        "approved",
        5,
        json!({"emergency": null}),
    ));
    let used = case.passes();
    assert!(used.has_unknown_author);
    let findings = case.judge();
    let finding = findings.policies()[0]
        .findings()
        .iter()
        .find(|it| it.rule == "approvals");
    assert_eq!(finding.unwrap().reason, "author-unknown");
}

#[test]
fn without_a_section_or_a_declaration_nothing_is_waived_and_nothing_is_said() {
    let mut without = Case::new();
    without.spec.as_object_mut().unwrap().remove("emergency");
    for case in [without, Case::with(vec![agreed("cleo@example.com")])] {
        let verdict = case.judge();
        assert_eq!(verdict.decision(), Decision::Deny);
        let findings = verdict.policies()[0].findings();
        assert!(
            findings.iter().all(|it| it.rule != "emergency"),
            "{findings:#?}"
        );
    }
}

#[test]
fn a_requirement_that_the_policy_does_not_list_denies_and_then_nothing_is_waived() {
    let mut case = Case::new();
    case.attached.remove(0);
    case.denied(
        "emergency-does-not-waive",
        "`signature`, which is not in `emergency.waives`",
    );
}

#[test]
fn a_waived_signature_covers_nothing() {
    let mut case = Case::new().emergency("waives", json!(["approvals", "signature"]));
    case.attached.remove(0);
    let verdict = case.judge();
    assert_eq!(verdict.decision(), Decision::Deny);
    let findings = verdict.policies()[0].findings();
    assert!(
        findings.iter().any(|it| it.reason == "uncovered"),
        "{findings:#?}"
    );
    assert_eq!(verdict.emergencies(), Vec::new(), "it let nothing pass");
}

#[test]
fn a_freeze_is_passed_only_where_the_policy_and_the_freeze_let_it() {
    let frozen = || Case::new().frozen(json!({}));
    frozen().passes();
    let says_no = || frozen().frozen(json!({"mayPass": {"emergency": false}}));
    says_no().denied(
        "emergency-does-not-waive",
        "passes the freeze `freeze-1` (`mayPass`)",
    );
    let not_waived = frozen().emergency("waives", json!(["approvals"]));
    not_waived.denied(
        "emergency-does-not-waive",
        "`noFreeze`, which is not in `emergency.waives`",
    );
    let hint = |case: Case| {
        let verdict = case.judge();
        let findings = verdict.policies()[0].findings().iter();
        let finding = findings.clone().find(|it| it.rule == "noFreeze").unwrap();
        finding.hint.clone().unwrap_or_default()
    };
    assert!(hint(says_no()).contains("the freeze `freeze-1` does not (`mayPass`)"));
    let not_waived = frozen().emergency("waives", json!(["approvals"]));
    assert!(hint(not_waived).contains("the policy does not (`emergency.waives`)"));
    let unknown = frozen().knowing(|world| {
        world.freezes = Collected::Unavailable(Unavailability("unreadable".to_owned()));
    });
    unknown.denied(
        "emergency-does-not-waive",
        "the change freezes are not known",
    );
}

#[test]
fn an_emergency_change_for_another_digest_is_rejected() {
    let mut replayed = declared("ben@example.com", json!({}));
    replayed.about_another = true;
    let mut agreement = agreed("cleo@example.com");
    agreement.about_another = true;
    let verdict = Case::with(vec![replayed, agreement]).judge();
    assert_eq!(verdict.decision(), Decision::Deny);
    assert_eq!(verdict.emergencies(), Vec::new());
}

#[test]
fn an_emergency_change_for_another_environment_or_cluster_is_rejected() {
    let of = |more: Value| {
        let digest = digest_of(&declaration(more.clone()));
        let agreement = word(
            "cleo@example.com",
            "approved",
            5,
            json!({"emergency": digest}),
        );
        let case = Case::with(vec![declared("ben@example.com", more), agreement]);
        case.knowing(|world| world.cluster = Collected::Known("prod-eu1".to_owned()))
    };
    of(json!({"environment": "staging"})).denied("emergency-elsewhere", "it is for `staging`");
    of(json!({"scopes": {"cluster": "prod-us1"}}))
        .denied("emergency-elsewhere", "for the cluster `prod-us1` alone");
    of(json!({"scopes": {"namespace": "payments"}}))
        .denied("emergency-elsewhere", "for the namespace `payments` alone");
    of(json!({"scopes": {"moonPhase": "full"}})).denied("emergency-elsewhere", "moonPhase");
    of(json!({"scopes": {"cluster": "prod-eu1", "namespace": "shop"}})).passes();
    let unknown = of(json!({"scopes": {"cluster": "prod-eu1"}})).knowing(|_| {});
    unknown.denied("emergency-undecided", "the cluster has no name");
}

#[test]
fn an_agreement_for_another_environment_cluster_or_after_its_end_does_not_count() {
    for (more, words) in [
        (
            json!({"environment": "staging"}),
            "the agreement is for `staging`",
        ),
        (
            json!({"scopes": {"namespace": "payments"}}),
            "for the namespace `payments` alone",
        ),
        (
            json!({"validUntil": at(-1).to_string()}),
            "the agreement was valid until",
        ),
    ] {
        let agreement = word("cleo@example.com", "approved", 5, more);
        let case = Case::with(vec![declared("ben@example.com", json!({})), agreement]);
        case.denied("emergency-not-agreed", words);
    }
}

#[test]
fn an_expired_emergency_change_is_rejected() {
    let of = |more: Value, minutes_ago: i64| {
        let digest = digest_of(&declaration(more.clone()));
        let agreement = word(
            "cleo@example.com",
            "approved",
            5,
            json!({"emergency": digest}),
        );
        Case::with(vec![
            signed("ben@example.com", CHANGE, declaration(more), minutes_ago),
            agreement,
        ])
    };
    of(json!({"expires": at(-1).to_string()}), 10).denied("emergency-expired", "it expired on");
    let far = json!({"expires": at(10 * 24 * 60).to_string()});
    of(far, 10).denied("emergency-not-accepted", "at most 4h from");
    // It ends at most four hours after it was signed, whatever it says.
    of(json!({"expires": at(1).to_string()}), 242).denied("emergency-expired", "it expired on");
    let longer = of(json!({"expires": at(10 * 60).to_string()}), 10);
    longer.emergency("maximumValidity", json!("12h")).passes();
    let shorter = Case::new().emergency("maximumValidity", json!("1h"));
    shorter.denied("emergency-not-accepted", "at most 1h from");
}

#[test]
fn a_declaration_that_dates_itself_is_rejected() {
    let unstamped = Attached {
        logged: false,
        stamped: false,
        ..declared("ben@example.com", json!({}))
    };
    let case = Case::with(vec![unstamped, agreed("cleo@example.com")]);
    let verdict = case.judge();
    assert_eq!(verdict.decision(), Decision::Deny);
}

#[test]
fn one_person_with_two_identities_fills_one_seat() {
    let case = Case::with(vec![
        declared("dan@example.com", json!({})),
        agreed("dan@home.example"),
    ]);
    case.denied("emergency-not-agreed", "missing: 1 of group");
    let twice = Case::with(vec![
        declared("dan@example.com", json!({})),
        declared("dan@home.example", json!({})),
    ]);
    twice.denied("emergency-not-agreed", "missing: 1 of group");
}

#[test]
fn an_author_who_agrees_by_another_identity_is_rejected() {
    for by in ["ada@example.com", "ada@home.example"] {
        let case = Case::with(vec![declared("cleo@example.com", json!({})), agreed(by)]);
        case.denied(
            "emergency-not-agreed",
            "`ada` does not count: an author of the change",
        );
        // An author may declare it, and others agree.
        let declared_by = Case::with(vec![
            declared(by, json!({})),
            agreed("ben@example.com"),
            agreed("cleo@example.com"),
        ]);
        let used = declared_by.passes();
        assert_eq!(
            used.approved_by,
            ["ben".to_owned(), "cleo".to_owned()].into()
        );
    }
}

#[test]
fn with_an_unknown_author_one_person_is_not_enough() {
    let one_seat = json!([{"group": "on-call"}]);
    let mut case =
        Case::with(vec![declared("ben@example.com", json!({}))]).emergency("from", one_seat);
    case.passes();
    case.attached.remove(1);
    case.denied(
        "emergency-not-agreed",
        "at least 2 people of `emergency.from` must agree",
    );
    let case = case.and(agreed("dan@example.com"));
    assert!(case.passes().has_unknown_author);
}

#[test]
fn a_stranger_a_pipeline_and_who_is_not_asked_fill_no_seat() {
    for (by, words) in [
        ("stranger@example.com", "does not list it as a person's"),
        (BUILDERS, "does not list it as a person's"),
        ("eve@example.com", "the policy does not ask this person"),
    ] {
        let case = Case::with(vec![declared("ben@example.com", json!({})), agreed(by)]);
        case.denied("emergency-not-agreed", words);
    }
    let by_stranger = Case::with(vec![
        declared("stranger@example.com", json!({})),
        agreed("ben@example.com"),
        agreed("cleo@example.com"),
    ]);
    by_stranger.denied("emergency-not-accepted", "does not list it as a person's");
}

#[test]
fn agreements_to_two_declarations_never_add_up() {
    // `ben` agrees to the one, `cleo` to the other.
    let other = json!({"incident": {"id": "INC2"}});
    let digest = digest_of(&declaration(other.clone()));
    let case = Case::with(vec![
        declared("ben@example.com", json!({})),
        declared("eve@example.com", other),
        word(
            "cleo@example.com",
            "approved",
            5,
            json!({"emergency": digest}),
        ),
    ]);
    case.denied("emergency-not-agreed", "missing: 1 of group");
    let case = case.and(word(
        "ben@example.com",
        "approved",
        5,
        json!({"emergency": digest}),
    ));
    let used = case.passes();
    assert_eq!(used.incident, "INC2");
    assert_eq!(used.declared_by, ["eve".to_owned()].into());
}

#[test]
fn an_ordinary_approval_never_counts_for_an_emergency_change() {
    let ordinary = word(
        "cleo@example.com",
        "approved",
        5,
        json!({"emergency": null}),
    );
    let mut case = Case::with(vec![declared("ben@example.com", json!({})), ordinary]);
    // The approval is enough for `approvals`, but a freeze lasts.
    case = case.frozen(json!({}));
    case.denied("emergency-not-agreed", "missing: 1 of group `security`");
}

#[test]
fn a_closed_emergency_change_is_rejected_and_only_some_may_close_it() {
    let digest = digest_of(&declaration(json!({})));
    let closed = |by: &str| {
        let predicate = json!({"emergency": digest, "reason": "mended"});
        Case::new().and(signed(by, CLOSURE, predicate, 2))
    };
    for by in ["ben@home.example", "cleo@example.com", "dan@example.com"] {
        closed(by).denied("emergency-closed", "ended it on");
    }
    closed("eve@example.com").passes();
    // A signature of the same text, later than the first, does not give that right.
    let again = signed("eve@example.com", CHANGE, declaration(json!({})), 4);
    closed("eve@example.com").and(again).passes();
    closed("stranger@example.com").passes();
    let governor = closed("eve@example.com")
        .knowing(|world| world.governors.users = ["k8s-eve".to_owned()].into());
    governor.denied("emergency-closed", "`eve` ended it");
    let unreadable = Case::new().and(signed(
        "dan@example.com",
        "https://promotion-gate.dev/emergency-closure/v2",
        json!({}),
        2,
    ));
    unreadable.denied("emergency-undecided", "cannot be read and could end it");
    let of_another = Case::new().and(signed(
        "dan@example.com",
        CLOSURE,
        json!({"emergency": Digest::sha256(b"x").to_string()}),
        2,
    ));
    of_another.passes();
}

#[test]
fn a_rejection_of_the_declaration_or_of_the_digest_blocks_it() {
    let case = Case::new().and(word(
        "dan@example.com",
        "rejected",
        3,
        json!({"reason": "no"}),
    ));
    case.denied("emergency-rejected", "`dan` rejected it");
    let elsewhere = json!({"scopes": {"moonPhase": "full"}});
    let case = case.and(word("dan@example.com", "approved", 2, elsewhere));
    case.denied("emergency-rejected", "`dan` rejected it");
    let later = case.and(word("dan@example.com", "approved", 1, json!({})));
    later.passes();
    let ordinary = json!({"emergency": null, "reason": "a wrong base image"});
    let of_digest = Case::new().and(word("dan@example.com", "rejected", 3, ordinary.clone()));
    of_digest.denied("emergency-rejected", "`dan` rejected this digest");
    // The approvers' rejection is a denial that no emergency change passes.
    let by_reviewer = Case::new().and(word("cleo@example.com", "rejected", 3, ordinary));
    by_reviewer.denied("emergency-does-not-waive", "`approvals` (rejected)");
    let by_nobody = Case::new().and(word("eve@example.com", "rejected", 3, json!({})));
    by_nobody.passes();
    let kept = Case::new().knowing(|world| {
        let rejection = KeptRejection {
            name: "r".to_owned(),
            environment: "production".to_owned(),
            namespace: None,
            emergency: None,
            is_closure: false,
            person: "dan".to_owned(),
            at: at(-2),
            reason: None,
        };
        world.rejections.insert(IMAGE.clone(), vec![rejection]);
    });
    kept.denied("emergency-rejected", "`dan` rejected this digest");
}

#[test]
fn of_several_reasons_the_same_one_is_told_whatever_the_order_of_the_statements() {
    let id = digest_of(&declaration(json!({})));
    let closed = |by: &str, reason: &str| {
        let predicate = json!({"emergency": id, "reason": reason});
        signed(by, CLOSURE, predicate, 2)
    };
    let rejected = |by: &str, reason: &str| word(by, "rejected", 3, json!({"reason": reason}));
    let agreed = |more: Value| word("cleo@example.com", "approved", 5, more);
    let ends = || agreed(json!({"validUntil": at(-1).to_string()}));
    for (reason, told, statements) in [
        (
            "emergency-closed",
            "`ben` ended it",
            vec![
                closed("dan@example.com", "b"),
                closed("ben@example.com", "a"),
            ],
        ),
        (
            "emergency-rejected",
            "`ben` rejected it",
            vec![
                rejected("dan@example.com", "b"),
                rejected("ben@example.com", "a"),
            ],
        ),
        (
            "emergency-not-agreed",
            "`cleo` does not count: the agreement is for `staging`",
            vec![ends(), agreed(json!({"environment": "staging"}))],
        ),
    ] {
        let mut all = vec![declared("ben@example.com", json!({}))];
        all.extend(statements);
        let first = Case::with(all.clone());
        first.denied(reason, told);
        for _ in 0..all.len() {
            all.rotate_left(1);
            for order in [all.clone(), all.iter().rev().cloned().collect()] {
                assert_eq!(Case::with(order).judge(), first.judge());
            }
        }
    }
}

#[test]
fn a_revoked_digest_is_refused_in_an_emergency_too() {
    let case = Case::new().knowing(|world| {
        let revocation = Revocation {
            name: "bad".to_owned(),
            reason: "malware".to_owned(),
        };
        world.revocations.insert(IMAGE.clone(), revocation);
    });
    assert_eq!(case.judge().decision(), Decision::Deny);
}

#[test]
fn one_declaration_has_to_be_about_every_image_that_needs_it() {
    let mut case = Case::new();
    case.second = Some(vec![release(), provenance()]);
    case.denied(
        "emergency-elsewhere",
        "it is not about registry.example/app@",
    );
    // A second declaration for the second image is another one.
    let other = vec![
        release(),
        provenance(),
        declared("ben@example.com", json!({})),
        agreed("cleo@example.com"),
    ];
    case.second = Some(other);
    case.denied(
        "emergency-elsewhere",
        "it is not about registry.example/app@",
    );
}

#[test]
fn upkeep_never_uses_an_emergency_change() {
    let mut case = Case::new().emergency("waives", json!(["signature"]));
    case.kind = ChangeKind::Upkeep { recorded: false };
    case.attached.remove(0);
    let verdict = case.judge();
    assert_eq!(verdict.decision(), Decision::Deny);
    assert_eq!(verdict.emergencies(), Vec::new());
}

#[test]
fn a_rejection_could_be_in_what_was_not_read() {
    let case = Case::new();
    let mut evidence = case.evidence();
    for collected in evidence.images.values_mut() {
        if let Collected::Known(known) = collected.clone() {
            let why = vec![Unavailability("a layer".to_owned())];
            *collected = Collected::Partial(known, why);
        }
    }
    let verdict = judge(&case.promotion(), &evidence, &case.snapshot());
    assert_eq!(verdict.decision(), Decision::Deny);
    let findings = verdict.policies()[0].findings();
    assert!(
        findings.iter().any(|it| it.reason == "emergency-undecided"),
        "{findings:#?}"
    );
}

#[test]
fn a_check_that_was_not_asked_denies_and_the_verdict_says_what_to_ask() {
    let mut case = Case::new().asking(json!({}), incident(|_| {}));
    assert_eq!(case.passes().incident_state.id(), "verified");
    case.incidents.clear();
    case.denied("emergency-incident-unknown", "was not asked");
    let asked: Vec<_> = case.judge().incident_questions().into_iter().collect();
    assert_eq!(asked.len(), 1);
    assert_eq!((&*asked[0].check, &*asked[0].id), ("pager", "INC1"));
    // Nothing is asked before everything else holds.
    let alone = Case::with(vec![declared("ben@example.com", json!({}))]);
    let mut alone = alone.asking(json!({}), incident(|_| {}));
    alone.incidents.clear();
    assert!(alone.judge().incident_questions().is_empty());
}

#[test]
fn an_incident_that_is_closed_meanwhile_too_mild_or_of_another_service_is_rejected() {
    let all = json!({
        "minimumSeverity": "P2", "openedBeforeDeclaration": true, "openedByOther": true,
        "services": ["{namespace}", "payments-*"],
    });
    let case = |change: fn(&mut Incident)| Case::new().asking(all.clone(), incident(change));
    case(|_| {}).passes();
    case(|it| it.service = Some("payments-eu".to_owned())).passes();
    for (change, words) in [
        (
            (|it: &mut Incident| it.open = false) as fn(&mut Incident),
            "is not open",
        ),
        (|it| it.severity = Some(Severity::P3), "is `P3`, below `P2`"),
        (|it| it.severity = None, "has no severity"),
        (|it| it.created_at = Some(at(-9)), "was not opened before"),
        (|it| it.created_at = None, "was not opened before"),
        (
            |it| it.created_by = Some("BEN@example.com".to_owned()),
            "who is `ben`",
        ),
        (
            |it| it.created_by = Some("cleo".to_owned()),
            "who is `cleo`",
        ),
        (|it| it.created_by = None, "does not say who opened it"),
        (
            |it| it.service = Some("search".to_owned()),
            "is about `search`",
        ),
        (|it| it.service = None, "is about no service"),
        (|it| it.id = "INC2".to_owned(), "was answered as `INC2`"),
    ] {
        case(change).denied("emergency-incident", words);
    }
    Case::new()
        .asking(all.clone(), Collected::Known(None))
        .denied("emergency-incident", "knows no incident");
}

#[test]
fn a_tracker_that_does_not_answer_denies_or_is_recorded_as_the_operator_chose() {
    let silent = || Collected::Unavailable(Unavailability("pager.example: time-out".to_owned()));
    Case::new()
        .asking(json!({}), silent())
        .denied("emergency-incident-unknown", "pager.example: time-out");
    let allowed = Case::new().asking(json!({"whenUnreachable": "Allow"}), silent());
    assert_eq!(allowed.passes().incident_state.id(), "unverified");
    let why = "incident INC1 is unverified: pager.example: time-out";
    assert!(allowed.judge().warnings().contains(why));
}

#[test]
fn an_incident_that_an_account_opened_which_the_directory_does_not_list_draws_a_warning() {
    let case = |opened_by: &str, required: Value| {
        let incident = incident(|it| it.created_by = Some(opened_by.to_owned()));
        Case::new().asking(required, incident)
    };
    let other = json!({"openedByOther": true});
    let unlisted = case(" Monitoring\n", other.clone());
    let used = unlisted.passes();
    assert_eq!(used.incident_state.id(), "verified");
    assert_eq!(used.unlisted_opener.as_deref(), Some("Monitoring"));
    let recorded = api::WrittenEmergency::new(&used, *NOW);
    assert_eq!(recorded.incident_opened_by, used.unlisted_opener);
    let said =
        "the people directory does not list the account that opened incident INC1: `Monitoring`";
    assert!(unlisted.judge().warnings().contains(said));
    assert!(used.told().contains(said), "{}", used.told());
    // Somebody whom the directory lists, an account of automation, and a policy that does not ask.
    for (account, required) in [
        ("Eve", other.clone()),
        ("eve@home.example", other.clone()),
        ("alarms[bot]", other),
        ("Monitoring", json!({"openedBeforeDeclaration": true})),
    ] {
        let listed = case(account, required).knowing(|world| {
            let mut document = directory(&[]);
            document["spec"]["automation"] =
                json!([{"name": "alarms", "identities": [{"github": {"login": "alarms[bot]"}}]}]);
            world.people = Collected::Known(people_of(&document));
        });
        assert_eq!(listed.passes().unlisted_opener, None, "{account}");
        assert_eq!(listed.judge().warnings().len(), 1, "{account}");
    }
}

#[test]
fn an_overdue_review_blocks_the_next_emergency_change_where_the_policy_says_so() {
    let owed = |declaration: Digest, environment: &'static str, due: i64| {
        move |world: &mut promotion_gate_core::gate::World| {
            let review = OverdueReview {
                due: at(due),
                declaration: declaration.clone(),
                incident: "INC0".to_owned(),
                image: format!("registry.example/app@{}", *OTHER),
            };
            let reviews = OverdueReviews([(environment.to_owned(), vec![review])].into());
            world.overdue_reviews = Collected::Known(reviews.into());
        }
    };
    let owing = |environment, due| owed(Digest::sha256(b"earlier"), environment, due);
    let blocking = || Case::new().emergency("blockOnOverdueReview", json!(true));
    blocking()
        .knowing(owing("production", -60))
        .denied("emergency-review-overdue", "for the incident `INC0`");
    blocking().knowing(owing("production", 1)).passes();
    blocking().knowing(owing("staging", -60)).passes();
    Case::new().knowing(owing("production", -60)).passes();
    // It blocks the next one, and not itself.
    let own: Digest = digest_of(&declaration(json!({}))).parse().unwrap();
    blocking().knowing(owed(own, "production", -60)).passes();
    // Without a cluster no reviews are kept; where they are kept and cannot be read, they may be overdue.
    blocking().passes();
    let unread = blocking().knowing(|world| {
        world.overdue_reviews = Collected::Unavailable(Unavailability("never read".to_owned()));
    });
    unread.denied("emergency-undecided", "never read");
}

#[test]
fn an_emergency_change_under_a_trust_root_that_the_policy_does_not_accept_is_rejected() {
    let case = Case::new().emergency("trustRoots", json!(["sigstore"]));
    let verdict = case.judge();
    assert_eq!(verdict.decision(), Decision::Deny);
    assert_eq!(verdict.emergencies(), Vec::new());
}

/// Statements about emergency changes, all of them usable in some way.
fn pool() -> Vec<Attached> {
    let other = json!({"incident": {"id": "INC2"}});
    let second = digest_of(&declaration(other.clone()));
    let digest = digest_of(&declaration(json!({})));
    let to_second = |by: &str| word(by, "approved", 5, json!({"emergency": second}));
    vec![
        declared("ben@example.com", json!({})),
        declared("dan@home.example", json!({})),
        declared("ada@example.com", other.clone()),
        declared("ben@example.com", other),
        agreed("cleo@example.com"),
        agreed("dan@example.com"),
        agreed("ada@example.com"),
        agreed("eve@example.com"),
        to_second("cleo@example.com"),
        to_second("dan@example.com"),
        word(
            "cleo@example.com",
            "approved",
            4,
            json!({"emergency": null}),
        ),
        word("dan@example.com", "rejected", 8, json!({})),
        word(
            "cleo@example.com",
            "rejected",
            8,
            json!({"emergency": second}),
        ),
        signed("dan@example.com", CLOSURE, json!({"emergency": digest}), 2),
        signed("eve@example.com", CLOSURE, json!({"emergency": second}), 2),
    ]
}

static POOL: LazyLock<Vec<Attached>> = LazyLock::new(pool);

/// The incident of each declaration that alone, with the statements about it, lets the change pass.
fn alone(attached: &[Attached], case: &dyn Fn(Vec<Attached>) -> Case) -> Vec<String> {
    let is_of = |it: &Attached, incident: &str| {
        let (kind, predicate) = it.statement.as_ref().unwrap();
        kind != CHANGE || predicate["incident"]["id"] == incident
    };
    let passes = |incident: &&str| {
        let own = attached.iter().filter(|it| is_of(it, incident)).cloned();
        case(own.collect()).judge().decision() == Decision::Allow
    };
    let all = ["INC1", "INC2"].into_iter();
    all.filter(passes).map(str::to_owned).collect()
}

fn world_of(attached: Vec<Attached>, waives: &[&str], is_frozen: bool) -> Case {
    let case = Case::with(attached).emergency("waives", json!(waives));
    match is_frozen {
        true => case.frozen(json!({})),
        false => case,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn what_is_waived_is_on_the_policys_own_list_and_two_declarations_never_add_up(
        chosen in subsequence((0..15usize).collect::<Vec<_>>(), 0..=15),
        waives in subsequence(vec!["approvals", "noFreeze", "signature", "digestPinned"], 1..=4),
        is_frozen in any::<bool>(),
    ) {
        let attached: Vec<_> = chosen.iter().map(|at| POOL[*at].clone()).collect();
        let case = |attached: Vec<Attached>| world_of(attached, &waives, is_frozen);
        let verdict = case(attached.clone()).judge();
        for finding in verdict.policies()[0].findings() {
            if finding.outcome == Outcome::Waived {
                prop_assert!(waives.contains(&finding.rule), "{finding:?}");
            }
        }
        let used = verdict.emergencies();
        if let [used] = used.as_slice() {
            let alone = alone(&attached, &case);
            prop_assert!(alone.contains(&used.incident), "{used:?} {alone:?}");
        }
        // The order of the statements never matters.
        let mut reversed = attached;
        reversed.reverse();
        prop_assert_eq!(case(reversed).judge(), verdict);
    }

    #[test]
    fn no_statement_but_a_rejection_or_a_closure_can_be_left_out_so_that_a_denial_becomes_a_pass(
        chosen in subsequence((0..15usize).collect::<Vec<_>>(), 1..=15),
        left_out in 0..15usize,
    ) {
        let can_hurt = |it: &Attached| {
            let (kind, predicate) = it.statement.as_ref().unwrap();
            kind == CLOSURE || predicate["decision"] == "rejected"
        };
        let attached: Vec<_> = chosen.iter().map(|at| POOL[*at].clone()).collect();
        let without = chosen.iter().filter(|at| **at != left_out);
        let without: Vec<_> = without.map(|at| POOL[*at].clone()).collect();
        let waives = ["approvals", "noFreeze"];
        let decision = |attached| world_of(attached, &waives, true).judge().decision();
        if !can_hurt(&POOL[left_out]) && decision(without) == Decision::Allow {
            prop_assert_eq!(decision(attached), Decision::Allow);
        }
    }
}

#[test]
fn the_random_worlds_of_these_properties_give_both_decisions() {
    let decision = |chosen: &[usize]| {
        let attached = chosen.iter().map(|at| POOL[*at].clone()).collect();
        world_of(attached, &["approvals", "noFreeze"], true)
            .judge()
            .decision()
    };
    assert_eq!(decision(&[0, 4]), Decision::Allow);
    assert_eq!(decision(&[0, 4, 13]), Decision::Deny);
    assert_eq!(decision(&[0, 8]), Decision::Deny);
}
