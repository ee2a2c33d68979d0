//! What the engine says case by case, beside its invariants: of which change, about which images it asks, and in which words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use promotion_gate_core::attest::UnacceptedReason;
use promotion_gate_core::attest::unaccepted::UNSIGNED_STATEMENT;
use promotion_gate_core::gate::{
    self, AdmittedBy, ChangeKind, Collected, Decision, Digest, Enforcement, Evidence,
    EvidenceSource, Finding, ImageEvidence, ImageRecords, Pin, Policy, Promotion, Prospect,
    RecordEntry, Records, Revocation, Snapshot, UnacceptedEvidence, Unavailability, Ungoverned,
    Unreadable,
};
use serde_json::{Value, json};

use crate::facts::{self, Attached, FACTS, Form, ISSUER, Provenance, judge, promotion, snapshot};

fn image() -> String {
    format!("registry.example/app@sha256:{}", "1".repeat(64))
}

fn keyless(name: &str) -> Value {
    facts::keyless(&format!("{name}@example.com"))
}

fn provenance() -> Value {
    json!({"provenance": {
        "builders": [{"id": {"glob": "https://**"}, "signedBy": {"keyless": {
            "issuer": ISSUER, "anyIdentity": true, "trustRoots": ["sandbox"],
        }}}],
        "sources": ["github.com/example/app"],
        "branches": ["release", "next"],
    }})
}

fn policy(requirements: Value) -> Policy {
    let spec = json!({"requirements": requirements, "uncovered": "Allow", "tags": "Resolve"});
    FACTS.policy("case", &spec)
}

/// What is said of the image with this attached to it, by the first requirement.
fn finding(policy: &Policy, promotion: &Promotion, attached: ImageEvidence) -> Finding {
    let mut evidence = Evidence::default();
    let (image, pin) = promotion.images().next().unwrap();
    if let Some(subject) = pin.subject(&image.reference) {
        let known = Collected::Known(Arc::new(attached));
        evidence.images.insert(subject, known);
    }
    let verdict = judge(promotion, &evidence, &snapshot(vec![policy.clone()]));
    assert_eq!(verdict.revision(), "test");
    let findings = verdict.policies()[0].findings();
    let of_image = findings.iter().find(|finding| finding.rule != "coverage");
    of_image.unwrap().clone()
}

fn attached(one: &Attached) -> ImageEvidence {
    let mut evidence = ImageEvidence::default();
    let promotion = promotion(&[image()]);
    let digest = promotion.pins[0].digest().unwrap();
    FACTS.add(&mut evidence, digest, one);
    evidence
}

#[test]
fn upkeep_is_judged_for_integrity_unless_it_is_recorded() {
    let requirements = [
        json!({"digestPinned": {}}),
        json!({"allowedImages": {"patterns": ["elsewhere.example/*"]}}),
        json!({"signature": {"anyOf": [keyless("release")]}}),
        provenance(),
    ];
    for requirement in requirements {
        let policy = policy(json!([requirement]));
        for (kind, skipped) in [
            (ChangeKind::Deploy, None),
            (ChangeKind::Activation, None),
            (ChangeKind::Upkeep { recorded: false }, None),
            (ChangeKind::Upkeep { recorded: true }, Some("recorded")),
            (ChangeKind::Governance, Some("not-for-this-change")),
        ] {
            let mut promotion = promotion(&["registry.example/app:v1".to_owned()]);
            promotion.kind = kind;
            let finding = finding(&policy, &promotion, ImageEvidence::default());
            match skipped {
                Some(reason) => assert_eq!(finding.reason, reason, "{kind:?} {finding:?}"),
                None => assert!(finding.outcome.denies(), "{kind:?} {finding:?}"),
            }
        }
    }
}

#[test]
fn an_image_refused_by_name_is_not_looked_up() {
    let patterns = |pattern: &str| json!({"allowedImages": {"patterns": [pattern]}});
    let signature = json!({"signature": {"anyOf": [keyless("release")]}});
    let labels = json!({"namespaces": {"selector": {"matchLabels": {"tier": "x"}}}});
    let (ours, other) = ("registry.example/*", "elsewhere.example/*");
    for (name, names, enforcement, matching, asked) in [
        ("allowed", ours, "Enforce", json!(null), true),
        ("refused", other, "Enforce", json!(null), false),
        (
            "refused, but only recorded",
            other,
            "Audit",
            json!(null),
            true,
        ),
        ("refused, but only said", other, "Warn", json!(null), true),
        ("perhaps refused", other, "Enforce", labels, true),
    ] {
        let mut spec = json!({"requirements": [patterns(names)], "enforcement": enforcement});
        if !matching.is_null() {
            spec["match"] = matching;
        }
        let names = FACTS.policy("names", &spec);
        let spec = json!({"requirements": [signature], "tags": "Resolve"});
        let signed = FACTS.policy("signed", &spec);
        let snapshot = snapshot(vec![names, signed]);
        let promotion = promotion(&[image()]);
        let governing = snapshot.governing(&promotion.change);
        let reference = &promotion.change.images[0].reference;
        assert_eq!(governing.pins(reference), asked, "{name}");
        assert_eq!(!governing.needs(&promotion).is_empty(), asked, "{name}");
        let verdict = judge(&promotion, &Evidence::default(), &snapshot);
        let signed = &verdict.policies()[1];
        let not_asked = |finding: &Finding| finding.reason == "not-asked";
        assert_eq!(signed.findings().iter().any(not_asked), !asked, "{name}");
        assert_eq!(signed.decision(), Decision::Deny, "{name}");
    }
}

#[test]
fn nothing_is_fetched_where_no_requirement_needs_evidence() {
    let signature = json!({"signature": {"anyOf": [keyless("release")]}});
    for (requirement, images, asked) in [
        (json!({"digestPinned": {}}), "registry.example/*", false),
        (signature.clone(), "elsewhere.example/*", false),
        (signature, "registry.example/*", true),
    ] {
        let spec = json!({
            "requirements": [requirement], "match": {"images": [images]}, "tags": "Resolve",
            "uncovered": "Allow",
        });
        let snapshot = snapshot(vec![FACTS.policy("case", &spec)]);
        let promotion = promotion(&[image()]);
        let governing = snapshot.governing(&promotion.change);
        let reference = &promotion.change.images[0].reference;
        assert_eq!(governing.pins(reference), asked, "{images}");
        assert_eq!(!governing.needs(&promotion).is_empty(), asked, "{images}");
    }
}

#[test]
fn only_what_nothing_governs_is_denied_as_ungoverned() {
    let met = policy(json!([{"allowedImages": {"patterns": ["**"]}}]));
    let unreadable = Unreadable {
        source: "broken.yaml".to_owned(),
        why: "cut".to_owned(),
        namespaces: Default::default(),
    };
    for (policies, unreadable, decision, said) in [
        (vec![met.clone()], vec![], Decision::Allow, &["case"][..]),
        (
            vec![],
            vec![unreadable.clone()],
            Decision::Deny,
            &["broken.yaml"],
        ),
        (
            vec![met],
            vec![unreadable],
            Decision::Deny,
            &["broken.yaml", "case"],
        ),
        (vec![], vec![], Decision::Deny, &["(ungoverned)"]),
    ] {
        let snapshot = Snapshot {
            policies,
            unreadable,
            ungoverned: Ungoverned::Deny,
            ..Snapshot::default()
        };
        let verdict = judge(&promotion(&[image()]), &Evidence::default(), &snapshot);
        let names: Vec<_> = verdict
            .policies()
            .iter()
            .map(|policy| policy.policy())
            .collect();
        assert_eq!((verdict.decision(), names.as_slice()), (decision, said));
    }
}

#[test]
fn unknown_labels_allow_nothing_that_is_denied_as_ungoverned() {
    let spec = json!({
        "requirements": [{"allowedImages": {"patterns": ["**"]}}],
        "match": {"namespaces": {"selector": {"matchLabels": {"tier": "x"}}}},
    });
    let ungoverned = |tier: Option<&str>| {
        let mut snapshot = snapshot(vec![FACTS.policy("labels", &spec)]);
        snapshot.ungoverned = Ungoverned::Deny;
        if let Some(tier) = tier {
            let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
            snapshot.world.namespaces.insert("shop".to_owned(), labels);
        }
        let verdict = judge(&promotion(&[image()]), &Evidence::default(), &snapshot);
        (verdict.decision(), verdict.is_undecided())
    };
    assert_eq!(ungoverned(Some("x")), (Decision::Allow, false));
    assert_eq!(ungoverned(Some("y")), (Decision::Deny, false));
    assert_eq!(ungoverned(None), (Decision::Deny, true));
}

/// The revocation of a digest.
fn revoked(digest: Digest) -> BTreeMap<Digest, Revocation> {
    let revocation = Revocation {
        name: "leaked-key".to_owned(),
        reason: "it contains a private key".to_owned(),
    };
    BTreeMap::from([(digest, revocation)])
}

#[test]
fn a_revoked_digest_is_refused_for_every_kind_of_change_and_under_any_policies() {
    let met = policy(json!([{"allowedImages": {"patterns": ["**"]}}]));
    let lenient = Policy {
        enforcement: Enforcement::Audit,
        ..met.clone()
    };
    let kinds = [
        ChangeKind::Deploy,
        ChangeKind::Activation,
        ChangeKind::Upkeep { recorded: true },
        ChangeKind::Upkeep { recorded: false },
    ];
    for policies in [vec![], vec![met], vec![lenient]] {
        for kind in kinds {
            let mut promotion = promotion(&[image()]);
            promotion.kind = kind;
            let mut snapshot = snapshot(policies.clone());
            let allowed = judge(&promotion, &Evidence::default(), &snapshot);
            assert_eq!(allowed.decision(), Decision::Allow);
            let digest = promotion.pins[0].digest().unwrap().clone();
            snapshot.world.revocations = revoked(digest);
            let verdict = judge(&promotion, &Evidence::default(), &snapshot);
            assert_eq!(verdict.decision(), Decision::Deny, "{kind:?}");
            let denial = verdict.denials().next().unwrap();
            assert_eq!(denial.policy(), "(revocations)");
            assert_eq!(denial.findings()[0].reason, "revoked");
        }
    }
}

#[test]
fn a_denial_of_a_revoked_digest_names_the_resource_its_reason_and_who_may_lift_it() {
    let promotion = promotion(&[image()]);
    let digest = promotion.pins[0].digest().unwrap().clone();
    let mut snapshot = snapshot(Vec::new());
    snapshot.world.revocations = revoked(digest.clone());
    snapshot.world.governors.users = BTreeSet::from(["grace".to_owned()]);
    snapshot.world.governors.groups = BTreeSet::from(["platform".to_owned()]);
    let verdict = judge(&promotion, &Evidence::default(), &snapshot);
    let finding = &verdict.policies()[0].findings()[0];
    assert_eq!(
        finding.detail,
        format!("`{digest}` is revoked (`Revocation` `leaked-key`): it contains a private key")
    );
    assert_eq!(
        finding.hint.as_deref(),
        Some(
            "deploy another digest, named by the manifest; a governor (`grace` and 1 more) can lift it with `kubectl delete revocation leaked-key`"
        )
    );
}

#[test]
fn a_tag_whose_record_holds_a_revoked_digest_is_refused() {
    let old = Digest::sha256(b"old");
    let entry = RecordEntry {
        digest: Some(old.clone()),
        workload: promotion(&[]).change.workload,
        uid: None,
        template: Digest::sha256(b"template"),
        observed: false,
        running: true,
        complied: BTreeSet::new(),
        by: AdmittedBy::Ungoverned,
        environments: BTreeSet::new(),
        ages_judged: BTreeSet::new(),
        source: None,
        at: Timestamp::now(),
    };
    let records = Records {
        images: vec![ImageRecords {
            entries: vec![Arc::new(entry)],
            ..ImageRecords::default()
        }],
        ..Records::default()
    };
    let mut snapshot = snapshot(Vec::new());
    snapshot.world.revocations = revoked(old.clone());
    let down = || Unavailability("some records were not read".to_owned());
    for (written, records, decision) in [
        (
            "registry.example/app:v1",
            Collected::Known(records.clone()),
            Decision::Deny,
        ),
        (
            "registry.example/app:v1",
            Collected::Partial(records.clone(), vec![down()]),
            Decision::Deny,
        ),
        (
            "registry.example/app:v1",
            Collected::Unavailable(down()),
            Decision::Allow,
        ),
        (&image(), Collected::Known(records), Decision::Allow),
    ] {
        let mut promotion = promotion(&[written.to_owned()]);
        promotion.records = records;
        let verdict = judge(&promotion, &Evidence::default(), &snapshot);
        assert_eq!(verdict.decision(), decision, "{written}");
    }
}

#[test]
fn a_time_may_lie_as_far_in_the_future_as_clocks_differ() {
    let at: Timestamp = format!("{:.0}", Timestamp::now()).parse().unwrap();
    let signed = attached(&Attached {
        at: Some(at),
        ..Attached::by("release")
    });
    let policy = policy(json!([{"signature": {"anyOf": [keyless("release")]}}]));
    for (seconds, reason) in [
        (0, "signed"),
        (300, "signed"),
        (301, "signed-in-the-future"),
    ] {
        let mut promotion = promotion(&[image()]);
        promotion.at = at - SignedDuration::from_secs(seconds);
        let finding = finding(&policy, &promotion, signed.clone());
        assert_eq!(finding.reason, reason, "{seconds} s");
    }
}

#[test]
fn missing_evidence_is_named_with_the_command_that_adds_it() {
    let unsigned = |names: &[&str]| {
        let signers: Vec<_> = names.iter().map(|name| keyless(name)).collect();
        let policy = policy(json!([{"signature": {"anyOf": signers}}]));
        let found = finding(&policy, &promotion(&[image()]), ImageEvidence::default());
        found.hint.unwrap()
    };
    assert_eq!(
        unsigned(&["release"]),
        format!(
            "sign the image with `cosign sign --yes {}` as `release@example.com` (issuer `{ISSUER}`)",
            image()
        )
    );
    let by_key = json!({"key": {"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"]}});
    let by_key = policy(json!([{"signature": {"anyOf": [by_key]}}]));
    let found = finding(&by_key, &promotion(&[image()]), ImageEvidence::default());
    let hint = found.hint.unwrap();
    let command = format!(
        "`cosign sign --yes --key KEY {}`, with the private key of",
        image()
    );
    assert!(hint.contains(&command), "{hint}");
    let hint = unsigned(&["a", "b", "c", "d", "e", "f"]);
    assert!(
        hint.ends_with(&format!("`d@example.com` (issuer `{ISSUER}`) and 2 more")),
        "{hint}"
    );
    let hint = unsigned(&["a", "b", "c", "d"]);
    assert!(
        hint.ends_with(&format!("`d@example.com` (issuer `{ISSUER}`)")),
        "{hint}"
    );
}

#[test]
fn why_the_image_of_a_tag_is_not_known_is_said() {
    let requirement = json!([{"signature": {"anyOf": [keyless("release")]}}]);
    let unavailability = Unavailability("registry.example: refused".to_owned());
    for (pin, reason, said) in [
        (
            Pin::NotNeeded,
            "evidence-unavailable",
            "the digest of the image is not known",
        ),
        (
            Pin::Resolved(Collected::Unavailable(unavailability)),
            "image-unavailable",
            "registry.example: refused",
        ),
    ] {
        let mut promotion = promotion(&["registry.example/app:v1".to_owned()]);
        promotion.pins = vec![pin];
        let policy = policy(requirement.clone());
        let finding = finding(&policy, &promotion, ImageEvidence::default());
        assert_eq!(finding.reason, reason);
        assert!(finding.detail.contains(said), "{finding:?}");
    }
}

#[test]
fn refused_provenance_names_its_signer_and_what_is_accepted() {
    let promotion = promotion(&[image()]);
    let policy = policy(json!([provenance()]));
    let one = attached(&Attached {
        form: Form::Attestation,
        provenance: Some(Provenance {
            template: "workflow".to_owned(),
            but: json!({}),
        }),
        ..Attached::by("builder")
    });
    let refused = finding(&policy, &promotion, one);
    assert_eq!(refused.reason, "branch-not-accepted");
    let begins = "provenance by `https://github.com/example/builders/";
    assert!(refused.detail.starts_with(begins), "{}", refused.detail);
    assert_eq!(
        refused.hint.unwrap(),
        "accepted branches: `release`, `next`"
    );

    let unsigned = ImageEvidence {
        unaccepted: vec![UnacceptedEvidence {
            source: EvidenceSource("referrer".to_owned()),
            form: gate::Form::Statement,
            why: UnacceptedReason::new(UNSIGNED_STATEMENT, "nobody signed it"),
        }],
        ..ImageEvidence::default()
    };
    assert_eq!(
        finding(&policy, &promotion, unsigned).reason,
        "provenance-unsigned"
    );
}

#[test]
fn a_missing_trust_root_is_undecided_and_other_roots_stand() {
    let kept = |identity: &str, roots: &[&str]| json!({"keyless": {"issuer": ISSUER, "identity": identity, "trustRoots": roots}});
    let key = |transparency: &str| {
        let pem = FACTS.key.public_pem();
        json!({"key": {"pem": pem, "trustRoots": ["sandbox"], "transparency": transparency}})
    };
    let release = "release@example.com";
    let signature = |signer: Value| json!({"signature": {"anyOf": [signer]}});
    let signed = || attached(&Attached::by("release"));
    let by_key = || attached(&Attached::by("key"));
    let nothing = ImageEvidence::default;
    let partly = signature(kept(release, &["sandbox", "sigstore"]));
    for (requirement, gone, evidence, reason, outcome) in [
        (
            signature(kept(release, &["sandbox"])),
            "sandbox",
            signed(),
            "trust-root-missing",
            "undecided",
        ),
        (
            signature(kept(release, &["sandbox"])),
            "sandbox",
            nothing(),
            "trust-root-missing",
            "undecided",
        ),
        (
            partly.clone(),
            "sandbox",
            signed(),
            "trust-root-missing",
            "undecided",
        ),
        (partly.clone(), "sandbox", nothing(), "unsigned", "fail"),
        (partly.clone(), "sigstore", signed(), "signed", "pass"),
        (
            partly,
            "sigstore",
            attached(&Attached::by("build")),
            "trust-root-missing",
            "undecided",
        ),
        (
            signature(key("Log")),
            "sandbox",
            by_key(),
            "trust-root-missing",
            "undecided",
        ),
        // Nothing but the key counts here, and the key is still there.
        (
            signature(key("None")),
            "sandbox",
            by_key(),
            "signed",
            "pass",
        ),
        (
            provenance(),
            "sandbox",
            signed(),
            "trust-root-missing",
            "undecided",
        ),
    ] {
        let shown = format!("{requirement} without {gone}");
        let mut snapshot = snapshot(vec![policy(json!([requirement]))]);
        snapshot.world.trust_roots.remove(gone).unwrap();
        let promotion = promotion(&[image()]);
        let (image, pin) = promotion.images().next().unwrap();
        let subject = pin.subject(&image.reference).unwrap();
        let known = Collected::Known(Arc::new(evidence));
        let evidence = Evidence {
            images: BTreeMap::from([(subject, known)]),
            ..Evidence::default()
        };
        let verdict = judge(&promotion, &evidence, &snapshot);
        let finding = &verdict.policies()[0].findings()[0];
        assert_eq!(
            (finding.reason, finding.outcome.id()),
            (reason, outcome),
            "{shown}: {finding:?}"
        );
        if reason == "trust-root-missing" {
            assert!(finding.detail.contains(&format!("`{gone}`")), "{finding:?}");
            assert!(
                finding.hint.as_ref().unwrap().contains("configuration"),
                "{finding:?}"
            );
        }
    }
}

#[test]
fn a_root_that_was_not_read_from_its_repository_yet_is_undecided_and_says_so() {
    let signer = json!({"keyless": {"issuer": ISSUER, "identity": "release@example.com", "trustRoots": ["sandbox"]}});
    let requirement = json!({"signature": {"anyOf": [signer]}});
    let mut snapshot = snapshot(vec![policy(json!([requirement]))]);
    snapshot.world.trust_roots.remove("sandbox").unwrap();
    snapshot.world.declared_roots.insert("sandbox".to_owned());
    let promotion = promotion(&[image()]);
    let verdict = judge(&promotion, &Evidence::default(), &snapshot);
    let finding = &verdict.policies()[0].findings()[0];
    assert_eq!(
        (finding.reason, finding.outcome.id()),
        ("trust-root-missing", "undecided")
    );
    assert!(
        finding
            .detail
            .contains("was not read from its repository yet"),
        "{finding:?}"
    );
    let hint = finding.hint.as_ref().unwrap();
    assert!(hint.contains("`status.error`"), "{hint}");
}

#[test]
fn labels_that_are_known_decide_for_certain() {
    let labels = json!({"namespaces": {"selector": {"matchLabels": {"tier": "x"}}}});
    let spec = json!({"requirements": [{"digestPinned": {}}], "match": labels});
    let policy = FACTS.policy("case", &spec);
    let promotion = promotion(&["registry.example/app:v1".to_owned()]);
    for (tier, decision, reason) in [
        (None, Decision::Deny, Some("namespace-labels-unknown")),
        (Some("x"), Decision::Deny, Some("not-pinned")),
        (Some("y"), Decision::Allow, None),
    ] {
        let mut snapshot = snapshot(vec![policy.clone()]);
        if let Some(tier) = tier {
            let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
            snapshot.world.namespaces.insert("shop".to_owned(), labels);
        }
        let verdict = judge(&promotion, &Evidence::default(), &snapshot);
        assert_eq!(verdict.decision(), decision, "{tier:?}");
        let findings = verdict
            .policies()
            .iter()
            .flat_map(|policy| policy.findings());
        let reasons: Vec<_> = findings.map(|finding| finding.reason).collect();
        assert!(
            reason.is_none_or(|reason| reasons.contains(&reason)),
            "{reasons:?}"
        );
        assert_eq!(verdict.is_undecided(), tier.is_none(), "{reasons:?}");
    }
}

#[test]
fn a_policy_that_might_not_govern_covers_for_itself_alone() {
    let labels = json!({"namespaces": {"selector": {"matchLabels": {"tier": "x"}}}});
    let signature = json!([{"signature": {"anyOf": [keyless("release")]}}]);
    let mut matching = labels;
    matching["images"] = json!(["registry.example/*"]);
    let spec = json!({"requirements": signature, "tags": "Resolve", "match": matching});
    let perhaps = FACTS.policy("perhaps", &spec);
    let elsewhere = json!({"images": ["elsewhere.example/*"]});
    let spec = json!({"requirements": signature, "tags": "Resolve", "match": elsewhere});
    let certain = FACTS.policy("certain", &spec);
    let promotion = promotion(&[image()]);
    let (image, pin) = promotion.images().next().unwrap();
    let subject = pin.subject(&image.reference).unwrap();
    let signed = Collected::Known(Arc::new(attached(&Attached::by("release"))));
    let evidence = Evidence {
        images: BTreeMap::from([(subject, signed)]),
        ..Evidence::default()
    };
    let mut snapshot = snapshot(vec![perhaps, certain]);
    let decisions = |snapshot: &Snapshot| {
        let verdict = judge(&promotion, &evidence, snapshot);
        let decisions = verdict.policies().iter().map(|policy| policy.decision());
        decisions.collect::<Vec<_>>()
    };
    assert_eq!(decisions(&snapshot), [Decision::Deny, Decision::Allow]);
    let labels = BTreeMap::from([("tier".to_owned(), "x".to_owned())]);
    snapshot.world.namespaces.insert("shop".to_owned(), labels);
    assert_eq!(decisions(&snapshot), [Decision::Allow, Decision::Allow]);
}

#[test]
fn waiting_helps_against_what_may_still_come_and_against_nothing_else() {
    let prospect = |requirements: Value, image: &str, of: fn(&mut Snapshot), enforcement| {
        let mut promotion = promotion(&[image.to_owned()]);
        if promotion.pins[0].digest().is_none() {
            promotion.pins = vec![Pin::NotNeeded];
        }
        let mut policy = policy(requirements);
        policy.enforcement = enforcement;
        let mut snapshot = snapshot(vec![policy]);
        of(&mut snapshot);
        let mut evidence = Evidence::default();
        let (image, pin) = promotion.images().next().unwrap();
        if let Some(subject) = pin.subject(&image.reference) {
            let nothing = Collected::Known(Arc::new(ImageEvidence::default()));
            evidence.images.insert(subject, nothing);
        }
        judge(&promotion, &evidence, &snapshot).prospect()
    };
    let signature = || json!([{"signature": {"anyOf": [keyless("release")]}}]);
    let elsewhere = || json!([{"allowedImages": {"patterns": ["ghcr.io/example/**"]}}]);
    let pinned = || json!([{"digestPinned": {}}]);
    let (by_digest, enforce) = (&image(), Enforcement::Enforce);
    let same: fn(&mut Snapshot) = |_| {};
    assert_eq!(
        prospect(signature(), by_digest, same, enforce),
        Prospect::Later
    );
    assert_eq!(
        prospect(elsewhere(), by_digest, same, enforce),
        Prospect::Never
    );
    // A policy that only warns holds nothing up.
    assert_eq!(
        prospect(elsewhere(), by_digest, same, Enforcement::Warn),
        Prospect::Later
    );
    let tag = "registry.example/app:v1";
    assert_eq!(prospect(pinned(), tag, same, enforce), Prospect::Never);
    assert_eq!(
        prospect(pinned(), by_digest, same, enforce),
        Prospect::Later
    );
    let revoked: fn(&mut Snapshot) = |snapshot| {
        let digest = promotion(&[image()]).pins[0].digest().unwrap().clone();
        let revocation = Revocation {
            name: "bad".to_owned(),
            reason: "leaks".to_owned(),
        };
        snapshot.world.revocations.insert(digest, revocation);
    };
    assert_eq!(
        prospect(pinned(), by_digest, revoked, enforce),
        Prospect::Never
    );
    let ungoverned: fn(&mut Snapshot) = |snapshot| {
        snapshot.policies.clear();
        snapshot.ungoverned = Ungoverned::Deny;
    };
    assert_eq!(
        prospect(pinned(), by_digest, ungoverned, enforce),
        Prospect::Never
    );
    // What cannot be read now may be repaired.
    let broken: fn(&mut Snapshot) = |snapshot| {
        snapshot.policies.clear();
        snapshot.unreadable = vec![Unreadable {
            source: "policies".to_owned(),
            why: "broken".to_owned(),
            namespaces: gate::NamespaceMatch::default(),
        }];
    };
    assert_eq!(
        prospect(pinned(), by_digest, broken, enforce),
        Prospect::Later
    );
}
