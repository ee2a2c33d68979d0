//! The invariants of the decision, over random policies, images and evidence. The facts are signed in the sandbox.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use promotion_gate_core::attest::UnacceptedReason;
use promotion_gate_core::attest::unaccepted::MALFORMED;
use promotion_gate_core::gate::{
    self, Collected, Decision, Enforcement, Evidence, EvidenceSource, ImageEvidence, Outcome,
    Policy, Promotion, Repository, Subject, Target, UnacceptedEvidence, Unavailability, Verdict,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use crate::facts::{Attached, FACTS, Form, judge, promotion, snapshot};

const IMAGES: [&str; 3] = [
    "registry.example/app",
    "registry.example/team/api",
    "elsewhere.example/db",
];

/// What can hang on an image, signed once for each of the images.
static EVIDENCE: LazyLock<BTreeMap<String, Vec<ImageEvidence>>> = LazyLock::new(|| {
    let attached = [
        Attached::by("release"),
        Attached::by("build"),
        Attached::by("stranger"),
        Attached::by("key"),
        Attached {
            form: Form::SimpleSigning,
            ..Attached::by("release")
        },
        Attached {
            logged: false,
            ..Attached::by("build")
        },
        Attached {
            form: Form::Attestation,
            ..Attached::by("release")
        },
        Attached {
            about_another: true,
            ..Attached::by("release")
        },
        Attached {
            form: Form::Junk,
            ..Attached::by("release")
        },
    ];
    let all = |name: &&str| {
        let digest = digest(name);
        let pieces = attached.iter().map(|attached| {
            let mut evidence = ImageEvidence::default();
            FACTS.add(&mut evidence, &digest.parse().unwrap(), attached);
            evidence
        });
        ((*name).to_owned(), pieces.collect())
    };
    IMAGES.iter().map(all).collect()
});

fn digest(name: &str) -> String {
    promotion_gate_core::gate::Digest::sha256(name.as_bytes()).to_string()
}

#[derive(Clone, Debug)]
struct World {
    promotion: Promotion,
    policies: Vec<Policy>,
    evidence: Evidence,
}

impl World {
    fn judge(&self) -> Verdict {
        judge(
            &self.promotion,
            &self.evidence,
            &snapshot(self.policies.clone()),
        )
    }

    fn decision(&self) -> Decision {
        self.judge().decision()
    }

    fn with_evidence(&self, change: impl Fn(&mut Collected<Arc<ImageEvidence>>)) -> World {
        let mut world = self.clone();
        world.evidence.images.values_mut().for_each(change);
        world
    }
}

fn value_mut(collected: &mut Collected<Arc<ImageEvidence>>) -> Option<&mut ImageEvidence> {
    match collected {
        Collected::Known(value) | Collected::Partial(value, _) => Some(Arc::make_mut(value)),
        Collected::Unavailable(_) => None,
    }
}

fn unavailability() -> Unavailability {
    Unavailability("the registry does not answer".to_owned())
}

fn signer() -> impl Strategy<Value = Value> {
    let keyless = |identity: Value, transparency: &str| {
        json!({"keyless": {
            "issuer": "https://issuer.example",
            "identity": identity,
            "trustRoots": ["sandbox"],
            "transparency": transparency,
        }})
    };
    select(vec![
        keyless(json!("release@example.com"), "Log"),
        keyless(json!("build@example.com"), "Timestamp"),
        keyless(json!("build@example.com"), "InclusionProof"),
        keyless(json!({"glob": "*@example.com"}), "Log"),
        json!({"key": {"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"]}}),
    ])
}

fn requirement() -> impl Strategy<Value = Value> {
    let signers = || prop::collection::vec(signer(), 1..3);
    prop_oneof![
        1 => Just(json!({"digestPinned": {}})),
        1 => Just(json!({"allowedImages": {"patterns": ["registry.example/**"]}})),
        3 => signers().prop_map(|signers| json!({"signature": {"anyOf": signers}})),
        1 => signers().prop_map(|signers| json!({"signature": {"allOf": signers}})),
        1 => signers().prop_map(|signers| json!({"signature": {"anyOf": signers, "threshold": 2}})),
    ]
}

fn spec() -> impl Strategy<Value = Value> {
    let images = prop::option::weighted(0.3, Just(json!(["registry.example/**"])));
    let enforcement = prop_oneof![4 => Just("Enforce"), 1 => Just("Warn"), 1 => Just("Audit")];
    let uncovered = prop_oneof![3 => Just("Deny"), 1 => Just("Allow")];
    let requirements = prop::collection::vec(requirement(), 1..3);
    (images, enforcement, uncovered, requirements).prop_map(
        |(images, enforcement, uncovered, mut requirements)| {
            // Evidence is about digests: the loader wants one of the two said.
            requirements.push(json!({"digestPinned": {}}));
            let mut spec = json!({
                "enforcement": enforcement,
                "uncovered": uncovered,
                "requirements": requirements,
            });
            if let Some(images) = images {
                spec["match"] = json!({"images": images});
            }
            spec
        },
    )
}

fn evidence(name: &'static str) -> impl Strategy<Value = Collected<Arc<ImageEvidence>>> {
    let pieces = EVIDENCE[name].clone();
    let all = pieces.len();
    let merged = subsequence(pieces, 0..=all)
        .prop_shuffle()
        .prop_map(|pieces| {
            let mut evidence = ImageEvidence::default();
            for piece in pieces {
                evidence.signatures.extend(piece.signatures);
                evidence.statements.extend(piece.statements);
                evidence.unaccepted.extend(piece.unaccepted);
            }
            Arc::new(evidence)
        });
    (merged, 0..10_u8).prop_map(|(evidence, how)| match how {
        0 => Collected::Unavailable(unavailability()),
        1 => Collected::Partial(evidence, vec![unavailability()]),
        _ => Collected::Known(evidence),
    })
}

fn world() -> impl Strategy<Value = World> {
    let images = subsequence(IMAGES.to_vec(), 1..=2);
    let policies = prop::collection::vec(spec(), 1..4);
    let evidence = IMAGES.map(evidence);
    (images, policies, evidence).prop_map(|(images, specs, found)| {
        let written: Vec<_> = images
            .iter()
            .map(|name| format!("{name}@{}", digest(name)))
            .collect();
        let policies = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| FACTS.policy(&format!("policy-{index}"), spec))
            .collect();
        let subjects = IMAGES.iter().map(|name| Subject {
            repository: Repository::named(name),
            digest: digest(name).parse().unwrap(),
        });
        World {
            promotion: promotion(&written),
            policies,
            evidence: Evidence {
                images: subjects.zip(found).collect(),
                ..Evidence::default()
            },
        }
    })
}

/// How often each decision came up.
#[derive(Default)]
struct Tally {
    allowed: AtomicUsize,
    denied: AtomicUsize,
}

impl Tally {
    fn note(&self, decision: Decision) {
        let counter = match decision {
            Decision::Allow => &self.allowed,
            Decision::Deny => &self.denied,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs the property, and makes sure that the worlds gave both decisions often.
fn holds(property: impl Fn(&World, Decision) -> Result<(), TestCaseError>) {
    let tally = Tally::default();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&world(), |world| {
            let decision = world.decision();
            tally.note(decision);
            property(&world, decision)
        })
        .unwrap();
    let (allowed, denied) = (tally.allowed.into_inner(), tally.denied.into_inner());
    assert!(
        allowed >= 40 && denied >= 40,
        "{allowed} allowed, {denied} denied"
    );
}

#[test]
fn what_could_not_be_read_never_turns_a_denial_into_an_allow() {
    holds(|world, decision| {
        let unavailable =
            world.with_evidence(|found| *found = Collected::Unavailable(unavailability()));
        let partial = world.with_evidence(|found| {
            if let Some(value) = value_mut(found) {
                *found = Collected::Partial(Arc::new(value.clone()), vec![unavailability()]);
            }
        });
        let never_asked = World {
            evidence: Evidence::default(),
            ..world.clone()
        };
        if decision == Decision::Deny {
            for world in [unavailable, partial, never_asked] {
                prop_assert_eq!(world.decision(), Decision::Deny);
            }
        }
        Ok(())
    });
}

#[test]
fn taking_a_signature_away_never_turns_a_denial_into_an_allow() {
    holds(|world, decision| {
        let without = world.with_evidence(|found| {
            if let Some(value) = value_mut(found) {
                value.signatures.pop();
            }
        });
        if decision == Decision::Deny {
            prop_assert_eq!(without.decision(), Decision::Deny);
        }
        Ok(())
    });
}

#[test]
fn unusable_evidence_never_changes_a_decision() {
    holds(|world, decision| {
        let more = world.with_evidence(|found| {
            if let Some(value) = value_mut(found) {
                let junk = UnacceptedReason::new(MALFORMED, "junk");
                value.unaccepted.insert(
                    0,
                    UnacceptedEvidence {
                        source: EvidenceSource("junk".to_owned()),
                        form: gate::Form::Either,
                        why: junk,
                    },
                );
            }
        });
        let fewer = world.with_evidence(|found| {
            if let Some(value) = value_mut(found) {
                value.unaccepted.clear();
                value.statements.clear();
            }
        });
        prop_assert_eq!(more.decision(), decision);
        prop_assert_eq!(fewer.decision(), decision);
        Ok(())
    });
}

#[test]
fn the_order_of_evidence_and_policies_never_matters() {
    holds(|world, _| {
        let mut turned = world.with_evidence(|found| {
            if let Some(value) = value_mut(found) {
                value.signatures.reverse();
                value.statements.reverse();
            }
        });
        turned.policies.reverse();
        prop_assert_eq!(turned.judge(), world.judge());
        Ok(())
    });
}

#[test]
fn the_order_of_images_never_matters() {
    holds(|world, decision| {
        let mut turned = world.clone();
        turned.promotion.change.images.reverse();
        turned.promotion.pins.reverse();
        prop_assert_eq!(turned.decision(), decision);
        Ok(())
    });
}

#[test]
fn a_further_policy_that_is_met_changes_nothing() {
    holds(|world, decision| {
        let mut more = world.clone();
        let spec = json!({"requirements": [{"digestPinned": {}}]});
        more.policies.push(FACTS.policy("one-more", &spec));
        prop_assert_eq!(more.decision(), decision);
        Ok(())
    });
}

#[test]
fn only_policies_that_enforce_deny() {
    holds(|world, decision| {
        let verdict = world.judge();
        let denied = verdict
            .denials()
            .any(|policy| policy.enforcement() == Enforcement::Enforce);
        prop_assert_eq!(decision == Decision::Deny, denied);
        let mut lenient = world.clone();
        for policy in &mut lenient.policies {
            policy.enforcement = Enforcement::Audit;
        }
        prop_assert_eq!(lenient.decision(), Decision::Allow);
        Ok(())
    });
}

#[test]
fn every_image_has_a_finding_under_every_policy_and_a_finding_that_denies_denies() {
    holds(|world, _| {
        for policy in world.judge().policies() {
            for image in &world.promotion.change.images {
                let judged = policy.findings().iter().any(|finding| {
                    matches!(&finding.target, Target::Image(target) if target.field == image.field)
                });
                prop_assert!(judged, "{} has no finding", image.field);
            }
            let denies = policy
                .findings()
                .iter()
                .any(|finding| finding.outcome.denies());
            prop_assert_eq!(policy.decision() == Decision::Deny, denies);
        }
        Ok(())
    });
}

#[test]
fn an_image_that_nothing_vouches_for_is_denied_under_a_policy_with_evidence() {
    let policy = FACTS.policy("evidence", &json!({
        "match": {"images": ["registry.example/**"]},
        "requirements": [{"digestPinned": {}}, {"signature": {"anyOf": [{"keyless": {
            "issuer": "https://issuer.example", "identity": "release@example.com", "trustRoots": ["sandbox"],
        }}]}}],
    }));
    let world = World {
        promotion: promotion(&[format!("elsewhere.example/db@{}", digest("x"))]),
        policies: vec![policy],
        evidence: Evidence::default(),
    };
    let verdict = world.judge();
    assert_eq!(verdict.decision(), Decision::Deny);
    assert!(
        verdict.policies()[0]
            .findings()
            .iter()
            .any(|finding| finding.reason == "uncovered")
    );
}

#[test]
fn an_image_whose_registry_does_not_answer_is_undecided_under_every_policy() {
    let signed = |name: &str, images: &str| {
        FACTS.policy(name, &json!({
            "match": {"images": [images]},
            "requirements": [{"digestPinned": {}}, {"signature": {"anyOf": [{"keyless": {
                "issuer": "https://issuer.example", "identity": "release@example.com", "trustRoots": ["sandbox"],
            }}]}}],
        }))
    };
    let world = World {
        promotion: promotion(&[format!("elsewhere.example/db@{}", digest("x"))]),
        policies: vec![
            signed("elsewhere", "elsewhere.example/**"),
            signed("here", "registry.example/**"),
        ],
        evidence: Evidence::default(),
    };
    let verdict = world.judge();
    assert_eq!(verdict.decision(), Decision::Deny);
    for policy in verdict.policies() {
        let denying: Vec<_> = policy
            .findings()
            .iter()
            .filter(|finding| finding.outcome.denies())
            .collect();
        assert!(!denying.is_empty(), "{policy:?}");
        assert!(
            denying
                .iter()
                .all(|finding| finding.outcome == Outcome::Undecided),
            "{denying:?}"
        );
    }
}

#[test]
fn an_empty_set_of_policies_governs_nothing_and_says_so() {
    let world = World {
        promotion: promotion(&["nginx".to_owned()]),
        policies: Vec::new(),
        evidence: Evidence::default(),
    };
    assert_eq!(world.decision(), Decision::Allow);
    assert!(world.judge().policies().is_empty());
    let mut strict = snapshot(Vec::new());
    strict.ungoverned = promotion_gate_core::gate::Ungoverned::Deny;
    let verdict = judge(&world.promotion, &world.evidence, &strict);
    assert_eq!(verdict.decision(), Decision::Deny);
}
