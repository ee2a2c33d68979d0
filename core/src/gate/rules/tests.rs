use crate::gate::Records;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::check::readable;
use crate::expression::{COMPILED, MAXIMUM_OF_JUDGEMENT, SPENT};
use crate::gate::finding::Outcome;
use crate::gate::{
    Age, Change, ChangeEffect, ChangedObject, Collected, Decision, Digest, Enforcement, Evidence,
    ImageEvidence, ImageUse, Index, NamedRequirement, NamespaceMatch, Operation, Pin,
    PlatformManifest, Promotion, Role, Snapshot, Subject, Unavailability, Uncovered, Ungoverned,
    Unreadable, Workload, judge,
};
use crate::reason::reasons;

use super::*;

/// Denies every object whose name is not `open`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Closed {}

reasons! {
    OF_THIS_RULE:
    OPEN = "open", "The object is named `open`.", "";
    CLOSED = "closed", "The object has another name than `open`.", "";
}

impl Entry for Closed {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = None;
}

impl Rule for Closed {
    fn class(&self) -> Class {
        Class::ChangeControl
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Workload(self)
    }
}

impl WorkloadRule for Closed {
    fn check(&self, check: &WorkloadCheck<'_>) -> Judgement {
        match check.promotion.change.workload.name.as_str() {
            "open" => Judgement::pass(OPEN, "open".to_owned()),
            _ => Judgement::fail(CLOSED, "closed".to_owned()),
        }
    }
}

/// Fails where an artifact of the kind `flag` is attached.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Unflagged {
    /// Names of trust roots.
    #[serde(default)]
    roots: BTreeSet<String>,
}

impl Entry for Unflagged {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
        covers: false,
        per_platform: true,
        effect: Effect::CanHurt,
    });
}

impl Rule for Unflagged {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn needs(&self, world: &World) -> Needs<'_> {
        let known = |name: &&String| !world.trust_roots.contains_key(*name);
        Needs {
            missing_roots: self.roots.iter().filter(known).cloned().collect(),
            ..Needs::default()
        }
    }
}

impl ImageRule for Unflagged {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        match readable(check) {
            Ok(evidence) if evidence.others.contains_key("flag") => {
                Judgement::fail(CLOSED, "flagged".to_owned())
            }
            Ok(_) => Judgement::pass(OPEN, "not flagged".to_owned()),
            Err(undecided) => undecided,
        }
    }
}

fn policy(requirement: serde_json::Value) -> Policy {
    let entry: RequirementEntry = serde_json::from_value(requirement).unwrap();
    Policy {
        name: "p".to_owned(),
        environment: None,
        enforcement: Enforcement::Enforce,
        namespaces: NamespaceMatch::default(),
        images: None,
        platforms: None,
        allow_unsigned_index: true,
        staleness: Age::HOUR,
        rollback_window: Age::FORTNIGHT,
        requirements: vec![NamedRequirement {
            name: None,
            requirement: entry.try_into().unwrap(),
        }],
        uncovered: Uncovered::Allow,
        injected: Vec::new(),
        emergency: None,
    }
}

fn promotion(kind: ChangeKind, name: &str, images: &[&str]) -> Promotion {
    let image = |written: &&str| ImageUse {
        field: "spec.containers[0].image".to_owned(),
        role: Role::Container,
        reference: written.parse().unwrap(),
    };
    let change = Change {
        id: "1".to_owned(),
        operation: Operation::Create,
        effect: ChangeEffect::Runs,
        workload: Workload {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some("shop".to_owned()),
            name: name.to_owned(),
        },
        actor: None,
        dry_run: false,
        object: ChangedObject::default(),
        images: images.iter().map(image).collect(),
        unreadable: Vec::new(),
    };
    let pins = change.images.iter();
    let pins = pins.map(|image| Pin::Written(image.reference.digest().unwrap().clone()));
    let mut promotion = Promotion::new(
        change.clone(),
        pins.collect(),
        Records::not_kept(),
        &[],
        Timestamp::UNIX_EPOCH,
    );
    promotion.kind = kind;
    promotion
}

fn findings(
    policy: Policy,
    promotion: &Promotion,
    evidence: &Evidence,
) -> Vec<(Outcome, &'static str)> {
    let snapshot = Snapshot {
        policies: vec![policy],
        ..Snapshot::default()
    };
    let governing = snapshot.governing(&promotion.change);
    let verdict = judge(promotion, evidence, &governing);
    let findings = verdict.policies()[0].findings().iter();
    findings
        .map(|finding| (finding.outcome, finding.reason))
        .collect()
}

fn judged(kind: ChangeKind, name: &str) -> Vec<(Outcome, &'static str)> {
    let promotion = promotion(kind, name, &[]);
    findings(
        policy(json!({"closed": {}})),
        &promotion,
        &Evidence::default(),
    )
}

#[test]
fn upkeep_on_the_record_passes_while_a_policy_cannot_be_read_and_the_ungoverned_are_denied() {
    let snapshot = Snapshot {
        unreadable: vec![Unreadable {
            source: "policies".to_owned(),
            why: "broken".to_owned(),
            namespaces: NamespaceMatch::default(),
        }],
        ungoverned: Ungoverned::Deny,
        ..Snapshot::default()
    };
    let kinds = [
        (ChangeKind::Upkeep { recorded: true }, Decision::Allow),
        (ChangeKind::Upkeep { recorded: false }, Decision::Deny),
        (ChangeKind::Activation, Decision::Deny),
        (ChangeKind::Deploy, Decision::Deny),
    ];
    for (kind, decision) in kinds {
        let promotion = promotion(kind, "web", &[INDEX]);
        let governing = snapshot.governing(&promotion.change);
        let verdict = judge(&promotion, &Evidence::default(), &governing);
        assert_eq!(verdict.decision(), decision, "{kind:?}");
    }
}

#[test]
fn upkeep_of_an_ungoverned_namespace_goes_on_without_a_record() {
    let snapshot = Snapshot {
        ungoverned: Ungoverned::Deny,
        ..Snapshot::default()
    };
    let kinds = [
        (ChangeKind::Upkeep { recorded: false }, Decision::Allow),
        (ChangeKind::Activation, Decision::Deny),
        (ChangeKind::Deploy, Decision::Deny),
    ];
    for (kind, decision) in kinds {
        let promotion = promotion(kind, "web", &[INDEX]);
        let governing = snapshot.governing(&promotion.change);
        let verdict = judge(&promotion, &Evidence::default(), &governing);
        assert_eq!(verdict.decision(), decision, "{kind:?}");
    }
}

const INDEX: &str =
    "registry.example/app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The findings of the rule `unflagged` for an index with the evidence `index`, whose one platform carries no evidence.
fn of_index(
    requirement: serde_json::Value,
    index: Collected<Arc<ImageEvidence>>,
) -> Vec<(Outcome, &'static str)> {
    let promotion = promotion(ChangeKind::Deploy, "web", &[INDEX]);
    let subject = promotion.pins[0].subject(&promotion.change.images[0].reference);
    let subject = subject.unwrap();
    let platform = Subject {
        repository: subject.repository.clone(),
        digest: Digest::sha256(b"platform"),
    };
    let manifests = vec![PlatformManifest {
        platform: None,
        digest: platform.digest.clone(),
    }];
    let clean = Collected::Known(Arc::default());
    let evidence = Evidence {
        images: [(subject.clone(), index), (platform, clean)].into(),
        indexes: [(
            subject,
            Collected::Known(Some(Index {
                manifests,
                refused: None,
            })),
        )]
        .into(),
        ..Evidence::default()
    };
    findings(policy(requirement), &promotion, &evidence)
}

#[test]
fn clean_platforms_do_not_hide_what_hurts_the_index() {
    let of = |evidence| of_index(json!({"unflagged": {}}), evidence);
    let flagged = ImageEvidence {
        others: [("flag".to_owned(), 1)].into(),
        ..ImageEvidence::default()
    };
    assert_eq!(
        of(Collected::Known(Arc::new(flagged))),
        [(Outcome::Fail, "closed")]
    );
    let down = || Unavailability("down".to_owned());
    let partial = Collected::Partial(Arc::default(), vec![down()]);
    assert_eq!(of(partial), [(Outcome::Undecided, "evidence-partial")]);
    let unavailable = Collected::Unavailable(down());
    assert_eq!(
        of(unavailable),
        [(Outcome::Undecided, "evidence-unavailable")]
    );
    assert_eq!(
        of(Collected::Known(Arc::default())),
        [(Outcome::Pass, "open")]
    );
}

#[test]
fn a_pass_may_rest_on_a_listing_as_old_as_the_policy_allows() {
    let promotion = promotion(ChangeKind::Deploy, "web", &[INDEX]);
    let subject = promotion.pins[0].subject(&promotion.change.images[0].reference);
    let subject = subject.unwrap();
    let of = |evidence: ImageEvidence, seconds: u64| {
        let down = vec![Unavailability("down".to_owned())];
        let partial = Collected::Partial(Arc::new(evidence), down);
        let evidence = Evidence {
            images: [(subject.clone(), partial)].into(),
            last_listed: [(subject.clone(), Duration::from_secs(seconds))].into(),
            ..Evidence::default()
        };
        findings(policy(json!({"unflagged": {}})), &promotion, &evidence)
    };
    assert_eq!(
        of(ImageEvidence::default(), 3600),
        [(Outcome::Pass, "open")]
    );
    let undecided = [(Outcome::Undecided, "evidence-partial")];
    assert_eq!(of(ImageEvidence::default(), 3601), undecided);
    let unsupported = ImageEvidence {
        unsupported: vec![Unavailability("a web page".to_owned())],
        ..ImageEvidence::default()
    };
    assert_eq!(of(unsupported, 1), undecided);
    // A registry without the referrers API does no harm: clients attach by tags there.
    let without_referrers = ImageEvidence {
        without_referrers: vec![Unavailability("a web page".to_owned())],
        ..ImageEvidence::default()
    };
    assert_eq!(of(without_referrers, 1), [(Outcome::Pass, "open")]);
}

#[test]
fn a_pass_that_a_missing_trust_root_could_turn_is_undecided() {
    let clean = Collected::Known(Arc::default());
    let requirement = json!({"unflagged": {"roots": ["theirs"]}});
    assert_eq!(
        of_index(requirement, clean),
        [(Outcome::Undecided, "trust-root-missing")]
    );
}

#[test]
fn a_rule_about_the_workload_is_judged_once_also_without_images() {
    let deploy = |name| judged(ChangeKind::Deploy, name);
    assert_eq!(deploy("open"), [(Outcome::Pass, "open")]);
    assert_eq!(deploy("web"), [(Outcome::Fail, "closed")]);
}

#[test]
fn change_control_is_not_judged_for_upkeep() {
    for (recorded, reason) in [(true, "recorded"), (false, "not-for-this-change")] {
        let findings = judged(ChangeKind::Upkeep { recorded }, "web");
        assert_eq!(findings, [(Outcome::Skip, reason)]);
    }
    let activation = judged(ChangeKind::Activation, "web");
    assert_eq!(activation, [(Outcome::Fail, "closed")]);
}

/// What a policy with many expressions over the images of a Deployment decides.
fn of_expressions(rule: &str, requirements: usize, images: usize) -> Vec<(Outcome, &'static str)> {
    let policy = policy(json!({"expression": {"rule": rule}}));
    let policy = Policy {
        requirements: vec![policy.requirements[0].clone(); requirements],
        ..policy
    };
    let promotion = promotion(ChangeKind::Deploy, "web", &vec![INDEX; images]);
    let mut findings = findings(policy, &promotion, &Evidence::default());
    findings.retain(|(_, reason)| reason.starts_with("expression"));
    findings
}

#[test]
fn the_largest_policy_over_the_largest_workload_ends_within_the_work_of_one_judgement() {
    let burning = "images.all(a, images.all(b, images.all(c, a.image + b.image + c.image != '')))";
    SPENT.set(0);
    let findings = of_expressions(burning, 64, 500);
    // Findings that say the same are one.
    assert_eq!(findings, [(Outcome::Undecided, "expression-not-evaluated")]);
    let spent = SPENT.get();
    let most = MAXIMUM_OF_JUDGEMENT;
    assert!((most / 2..=most).contains(&spent), "{spent} of {most}");
    // One of them alone, and many that do little, are evaluated.
    let passes = (Outcome::Pass, "expression-true");
    assert_eq!(of_expressions("images.all(a, a.tag == '')", 1, 0), [passes]);
    let little = of_expressions("images.all(a, a.image != '')", 64, 500);
    assert_eq!(little, [passes]);
}

#[test]
fn a_policy_that_is_tried_out_takes_no_work_from_one_that_enforces() {
    let policy = |enforcement: Enforcement, requirements: usize| {
        let rule = "images.all(a, images.all(b, a.image + b.image != ''))";
        let policy = policy(json!({"expression": {"rule": rule}}));
        Policy {
            enforcement,
            requirements: vec![policy.requirements[0].clone(); requirements],
            ..policy
        }
    };
    let promotion = promotion(ChangeKind::Deploy, "web", &[INDEX; 90]);
    let of_first = |beside: Option<Policy>| {
        let policies = [policy(Enforcement::Enforce, 1)].into_iter().chain(beside);
        let snapshot = Snapshot {
            policies: policies.collect(),
            ..Snapshot::default()
        };
        let governing = snapshot.governing(&promotion.change);
        let verdict = judge(&promotion, &Evidence::default(), &governing);
        let findings = verdict.policies()[0].findings();
        let own = findings.iter().find(|it| it.rule == "expression").unwrap();
        own.outcome
    };
    assert_eq!(of_first(None), Outcome::Pass);
    for tried in [Enforcement::Audit, Enforcement::Warn] {
        assert_eq!(of_first(Some(policy(tried, 64))), Outcome::Pass);
    }
    let enforcing = policy(Enforcement::Enforce, 64);
    assert_eq!(of_first(Some(enforcing)), Outcome::Undecided);
}

#[test]
fn an_expression_is_compiled_when_its_policy_is_read_and_never_again() {
    COMPILED.set(0);
    let policy = policy(json!({"expression": {"rule": "workload.name.matches('^w')"}}));
    assert_eq!(COMPILED.get(), 1);
    let promotion = promotion(ChangeKind::Deploy, "web", &[INDEX]);
    for _ in 0..3 {
        let findings = findings(policy.clone(), &promotion, &Evidence::default());
        assert_eq!(findings[0], (Outcome::Pass, "expression-true"));
    }
    assert_eq!(COMPILED.get(), 1);
}

#[test]
fn an_entry_that_nothing_or_everything_can_meet_is_refused() {
    let signed_by =
        || json!({"keyless": {"issuer": "https://i.example", "identity": "a@example.com"}});
    let exception =
        |id: &str, reason: &str, until: &str| json!([{"id": id, "reason": reason, "until": until}]);
    let vulnerabilities = |field: &str, value: serde_json::Value| {
        let mut entry = json!({"maximumSeverity": "Low", "signedBy": signed_by()});
        entry[field] = value;
        json!({ "vulnerabilities": entry })
    };
    let sbom = |field: &str, value: serde_json::Value| {
        let mut entry = json!({"signedBy": signed_by()});
        entry[field] = value;
        json!({ "sbom": entry })
    };
    let summary = |field: &str, value: serde_json::Value| {
        let mut entry =
            json!({"verifiers": [{"id": "https://v.example", "signedBy": signed_by()}]});
        entry[field] = value;
        json!({ "verificationSummary": entry })
    };
    let many = |pattern: &str, count: usize| {
        let each = (0..count).map(|number| format!("pkg:npm/a{number}{pattern}"));
        json!(each.collect::<Vec<_>>())
    };
    let exceptions = vec![exception("CVE-1", "r", "2026-12-31")[0].clone(); 1001];
    let exactly = vec![exception("CVE-1", "r", "2026-12-31")[0].clone(); 1000];
    for (entry, expected) in [
        (
            vulnerabilities("scanners", json!([])),
            "`scanners` is empty",
        ),
        (
            vulnerabilities("scanners", json!(["trivy", " "])),
            "`scanners` has an empty name",
        ),
        (
            vulnerabilities("scanners", json!(["grype", "Trivy "])),
            "no scanner is called `Trivy `",
        ),
        (vulnerabilities("scanners", json!(["Trivy"])), ""),
        (
            vulnerabilities("exceptions", exception("CVE-2026-*", "r", "2026-12-31")),
            "one entry for each vulnerability",
        ),
        (
            vulnerabilities("exceptions", json!(exceptions)),
            "more than 1000 entries",
        ),
        (
            vulnerabilities("exceptions", exception(" ", "r", "2026-12-31")),
            "empty `id` or `reason`",
        ),
        (
            vulnerabilities("exceptions", exception("CVE-1", " ", "2026-12-31")),
            "empty `id` or `reason`",
        ),
        (vulnerabilities("exceptions", json!(exactly)), ""),
        (sbom("formats", json!([])), "`formats` is empty"),
        (sbom("denied", many("", 1001)), "patterns"),
        (sbom("denied", many("*", 101)), "with `*` in the name"),
        (sbom("denied", many("", 1000)), ""),
        (sbom("denied", many("*", 100)), ""),
        (summary("verifiers", json!([])), "`verifiers` is empty"),
        (summary("levels", json!([])), "`levels` is empty"),
        (
            summary("policies", json!([{}])),
            "neither `uri` nor `digest`",
        ),
        (
            summary("policies", json!([{"digest": "abc"}])),
            "is not a digest",
        ),
        (summary("policies", json!([{"digest": "sha256:abc"}])), ""),
        (
            json!({"expression": {"rule": "now == now", "message": " "}}),
            "`message` is empty",
        ),
        (
            json!({"expression": {"rule": "now == now", "message": "wait"}}),
            "",
        ),
    ] {
        let read: RequirementEntry = serde_json::from_value(entry.clone()).unwrap();
        match Requirement::try_from(read) {
            Ok(_) => assert_eq!(expected, "", "{entry}"),
            Err((_, why)) => assert!(!expected.is_empty() && why.contains(expected), "{why}"),
        }
    }
    for level in ["", "LEVEL 3", "SLSA_BUILD_LEVEL_3\n"] {
        let read = serde_json::from_value::<RequirementEntry>(summary("levels", json!([level])));
        let why = read.unwrap_err().to_string();
        assert!(why.contains("is not a level"), "{why}");
    }
}

#[test]
fn a_rule_that_bounds_no_age_of_scans_says_so() {
    let signed_by =
        json!({"keyless": {"issuer": "https://i.example", "identity": "a@example.com"}});
    let warnings = |bound: Option<&str>| {
        let mut entry = json!({"maximumSeverity": "Low", "signedBy": signed_by});
        if let Some(bound) = bound {
            entry["maximumAge"] = json!(bound);
        }
        let entry = json!({ "vulnerabilities": entry });
        let read: RequirementEntry = serde_json::from_value(entry).unwrap();
        Requirement::try_from(read).unwrap().warnings()
    };
    assert_eq!(warnings(Some("24h")), Vec::<String>::new());
    let said = warnings(None);
    assert!(said[0].contains("`maximumAge` is not set"), "{said:?}");
}
