//! The invariants of the decision, over random policies, images and evidence.

mod worlds;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use promotion_gate_core::attest::predicate::Predicate;
use promotion_gate_core::attest::unaccepted::MALFORMED;
use promotion_gate_core::attest::{UnacceptedReason, VerifiedStatement};
use promotion_gate_core::gate::{
    self, Collected, Decision, Enforcement, Evidence, EvidenceSource, ImageEvidence, KeptRejection,
    Outcome, Person, PolicyVerdict, Requirement, Target, UnacceptedEvidence, Ungoverned,
    Unreadable,
};
use proptest::prelude::*;
use serde_json::json;

use crate::facts::{FACTS, judge, promotion, signed_by, snapshot};
use worlds::{
    PEOPLE, TESTED, UNREADABLE, World, cut, digest, rejection, revocation, taken_back, withhold,
    world,
};

fn run(cases: u32, property: impl Fn(World) -> Result<(), TestCaseError>) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner.run(&world(), property).unwrap();
}

/// Runs the property, and makes sure that the worlds gave both decisions often.
fn holds(property: impl Fn(&World, Decision) -> Result<(), TestCaseError>) {
    let (allowed, denied) = (AtomicUsize::new(0), AtomicUsize::new(0));
    run(400, |world| {
        let decision = world.decision();
        let counter = match decision {
            Decision::Allow => &allowed,
            Decision::Deny => &denied,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        property(&world, decision)
    });
    let (allowed, denied) = (allowed.into_inner(), denied.into_inner());
    assert!(
        allowed >= 40 && denied >= 40,
        "{allowed} allowed, {denied} denied"
    );
}

/// What has to be found in random worlds: rules that pass and fail, and reasons that are rare.
const RARE: &[&str] = &[
    "by its platforms",
    "no-such-platform",
    "manifest-refused",
    "namespace-labels-unknown",
    "policy-unreadable",
    "ungoverned",
    "uncovered",
    "evidence-partial",
    "evidence-unavailable",
    "image-unavailable",
    "not-asked",
    "approved-before",
    "rollback-passes",
    "rejected",
    "revoked",
    "emergency-closed",
    "emergency-does-not-waive",
    "emergency-elsewhere",
    "emergency-incident",
    "emergency-incident-unknown",
    "emergency-not-agreed",
    "emergency-rejected",
    "emergency-undecided",
];

/// What was not found often enough.
fn missing(
    said: &Mutex<BTreeMap<(String, Outcome), usize>>,
    reasons: &Mutex<BTreeMap<&str, usize>>,
) -> Vec<String> {
    let (said, reasons) = (said.lock().unwrap(), reasons.lock().unwrap());
    let times = |rule: &str, outcome| said.get(&(rule.to_owned(), outcome)).copied();
    let of_rules = Requirement::NAMES.iter().flat_map(|rule| {
        let outcomes = [Outcome::Pass, Outcome::Fail].into_iter();
        let seldom = outcomes.filter(|outcome| times(rule, *outcome).unwrap_or_default() < 20);
        seldom.map(move |outcome| format!("`{rule}`: {outcome:?}"))
    });
    let of_reasons = RARE.iter().filter(|reason| !reasons.contains_key(**reason));
    of_rules
        .chain(of_reasons.map(|reason| format!("`{reason}`")))
        .collect()
}

#[test]
fn every_rule_passes_and_denies_often_in_these_worlds() {
    let said: Mutex<BTreeMap<(String, Outcome), usize>> = Mutex::default();
    let reasons: Mutex<BTreeMap<&str, usize>> = Mutex::default();
    // The rarest of these is not among every 2,000 worlds.
    for _ in 0..5 {
        run(2000, |world| {
            let verdict = world.judge();
            for finding in verdict
                .policies()
                .iter()
                .flat_map(|policy| policy.findings())
            {
                let key = (finding.rule.to_string(), finding.outcome);
                *said.lock().unwrap().entry(key).or_default() += 1;
                let by_platforms = finding
                    .detail
                    .contains("each of ")
                    .then_some("by its platforms");
                for reason in [finding.reason].into_iter().chain(by_platforms) {
                    *reasons.lock().unwrap().entry(reason).or_default() += 1;
                }
            }
            Ok(())
        });
        if missing(&said, &reasons).is_empty() {
            return;
        }
    }
    let missing = missing(&said, &reasons);
    panic!("not found, or not often: {missing:?}: {said:?} {reasons:?}");
}

#[test]
fn what_could_not_be_read_never_turns_a_denial_into_an_allow() {
    holds(|world, decision| {
        if decision == Decision::Allow {
            return Ok(());
        }
        let records = world.but(|world| cut(&mut world.promotion.records));
        prop_assert_eq!(records.decision(), Decision::Deny);
        // A rollback passes approvals on the record, so that a rejection counts there only while it is known.
        let judged = match world.is_rollback() {
            true => world.but(|world| withhold(&mut world.promotion.records)),
            false => world.clone(),
        };
        let world = &judged;
        if world.decision() == Decision::Allow {
            return Ok(());
        }
        let mut ignorant = vec![
            world.with_evidence(withhold),
            world.with_evidence(cut),
            world.but(|world| world.evidence.indexes.values_mut().for_each(withhold)),
            world.but(|world| world.evidence.indexes.values_mut().for_each(cut)),
            world.but(|world| world.evidence = Evidence::default()),
            world.but(|world| world.snapshot.world.namespaces = Default::default()),
            world.but(|world| world.snapshot.world.trust_roots.clear()),
            world.but(|world| withhold(&mut world.snapshot.world.people)),
            world.but(|world| withhold(&mut world.snapshot.world.freezes)),
            world.but(|world| world.evidence.incidents.clear()),
            world.but(|world| world.evidence.incidents.values_mut().for_each(cut)),
        ];
        // A policy may accept that a tracker cannot be reached.
        if !world.accepts_unreachable() {
            ignorant.push(world.but(|world| {
                let answers = &mut world.evidence.incidents;
                answers.values_mut().for_each(withhold);
            }));
        }
        for subject in world.evidence.images.keys() {
            ignorant.push(world.but(|world| {
                withhold(world.evidence.images.get_mut(subject).unwrap());
            }));
        }
        for world in ignorant {
            prop_assert_eq!(world.decision(), Decision::Deny);
        }
        Ok(())
    });
}

#[test]
fn a_policy_that_becomes_unreadable_denies_what_it_might_govern() {
    holds(|world, _| {
        let broken = world.but(|world| {
            let policy = world.snapshot.policies.pop().unwrap();
            world.snapshot.unreadable.push(Unreadable {
                source: policy.name,
                why: "cut".to_owned(),
                namespaces: Default::default(),
            });
        });
        prop_assert_eq!(broken.decision(), Decision::Deny);
        Ok(())
    });
}

#[test]
fn taking_evidence_away_never_turns_a_denial_into_an_allow() {
    holds(|world, decision| {
        let without =
            |take: fn(&mut ImageEvidence)| world.but(|world| world.for_each_evidence(take));
        let without_signature = without(|evidence| drop(evidence.signatures.pop()));
        // What can hurt may help when it is gone, so it is remembered (`remembered.rs`): rejections, who the authors are, what a newer scan
        // found, what a document takes back and what an SBOM lists.
        let without_statement = without(|evidence| {
            let only_helps = |statement: &VerifiedStatement| !statement.predicate().can_hurt();
            let mut statements = evidence.statements.iter();
            if let Some(at) = statements.rposition(|(_, statement)| only_helps(statement)) {
                evidence.statements.remove(at);
            }
        });
        let without_provenance = without(|evidence| drop(evidence.statements.pop()));
        let judges_what_can_hurt = world.snapshot.policies.iter().any(|policy| {
            let mut names = policy
                .requirements
                .iter()
                .map(|named| named.requirement.rule_name());
            policy.emergency.is_some()
                || names.any(|name| ["approvals", "vulnerabilities", "sbom"].contains(&name))
        });
        if decision == Decision::Deny {
            prop_assert_eq!(without_signature.decision(), Decision::Deny);
            prop_assert_eq!(without_statement.decision(), Decision::Deny);
            if !judges_what_can_hurt {
                prop_assert_eq!(without_provenance.decision(), Decision::Deny);
            }
        }
        Ok(())
    });
}

/// A kind of evidence, the rule that asks for it, and its statements.
type EvidenceKind = (&'static str, &'static str, fn(&Predicate) -> bool);

const EVIDENCE_KINDS: [EvidenceKind; 5] = [
    ("scans", "vulnerabilities", |it| {
        matches!(it, Predicate::Scan(_))
    }),
    // Another document can take back what an older one says.
    (
        "harmless VEX documents",
        "vulnerabilities",
        |it| matches!(it, Predicate::Vex(document) if !document.can_hurt()),
    ),
    ("SBOMs", "sbom", |it| matches!(it, Predicate::Sbom(_))),
    ("test results", "attestation", |it| {
        matches!(it, Predicate::Other(_))
    }),
    ("summaries", "verificationSummary", |it| {
        matches!(it, Predicate::VerificationSummary(_))
    }),
];

#[test]
fn a_rule_that_denies_still_denies_without_all_evidence_of_one_kind() {
    let denying = |verdict: &gate::Verdict, rule: &str| {
        let policies = verdict.policies().iter();
        let findings = policies.flat_map(|policy| {
            let findings = policy.findings().iter();
            findings.map(move |finding| (policy.policy().to_owned(), finding))
        });
        let findings = findings.filter(|(_, it)| it.rule == rule && it.outcome.denies());
        let places = findings.map(|(policy, it)| format!("{policy}: {:?}", it.target));
        places.collect::<std::collections::BTreeSet<_>>()
    };
    let stricter: [AtomicUsize; EVIDENCE_KINDS.len()] = Default::default();
    // Harmless VEX documents make a difference in about one of a thousand worlds.
    run(6000, |world| {
        let with = world.judge();
        for ((kind, rule, is_of_kind), stricter) in EVIDENCE_KINDS.iter().zip(&stricter) {
            let without = world.but(|world| {
                world.for_each_evidence(|evidence| {
                    let statements = &mut evidence.statements;
                    statements.retain(|(_, statement)| !is_of_kind(statement.predicate()));
                });
            });
            let (with, without) = (denying(&with, rule), denying(&without.judge(), rule));
            prop_assert!(with.is_subset(&without), "{kind}: {with:?} and {without:?}");
            if with != without {
                stricter.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    });
    for ((kind, ..), stricter) in EVIDENCE_KINDS.iter().zip(stricter) {
        let stricter = stricter.into_inner();
        assert!(stricter > 0, "without {kind}, no rule was ever stricter");
    }
}

#[test]
fn what_the_cluster_keeps_never_turns_a_denial_into_an_allow() {
    holds(|world, decision| {
        for pin in &world.promotion.pins {
            let Some(digest) = pin.digest() else {
                continue;
            };
            let revoked = world.but(|world| {
                let revocations = &mut world.snapshot.world.revocations;
                revocations.insert(digest.clone(), revocation());
            });
            prop_assert_eq!(revoked.decision(), Decision::Deny);
            let rejected = world.but(|world| {
                let rejections = &mut world.snapshot.world.rejections;
                rejections
                    .entry(digest.clone())
                    .or_default()
                    .push(rejection());
            });
            let closed = world.but(|world| {
                let about = world.evidence.images.values();
                let about = about.filter_map(|it| it.value());
                let statements = about.flat_map(|it| &it.statements);
                let declared = statements.filter_map(|(_, it)| match it.predicate() {
                    Predicate::EmergencyChange(_) => Some(it.digest()),
                    _ => None,
                });
                let closures = declared.map(|declaration| KeptRejection {
                    emergency: Some(declaration.clone()),
                    is_closure: true,
                    ..rejection()
                });
                let rejections = &mut world.snapshot.world.rejections;
                rejections
                    .entry(digest.clone())
                    .or_default()
                    .extend(closures);
            });
            let identities = PEOPLE.people().iter().flat_map(Person::identities);
            let authored = world.but(|world| {
                let authors = &mut world.snapshot.world.authors;
                authors.entry(digest.clone()).or_default().identities =
                    identities.cloned().collect();
            });
            let taken_back = world.but(|world| {
                let vex = &mut world.snapshot.world.vex;
                vex.entry(digest.clone()).or_default().extend(taken_back());
            });
            if decision == Decision::Deny {
                prop_assert_eq!(taken_back.decision(), Decision::Deny);
                prop_assert_eq!(rejected.decision(), Decision::Deny);
                prop_assert_eq!(closed.decision(), Decision::Deny);
                prop_assert_eq!(authored.decision(), Decision::Deny);
            }
        }
        Ok(())
    });
}

#[test]
fn unusable_evidence_never_changes_a_decision() {
    holds(|world, decision| {
        let more = world.but(|world| {
            world.for_each_evidence(|evidence| {
                let junk = UnacceptedEvidence {
                    source: EvidenceSource("junk".to_owned()),
                    form: gate::Form::Either,
                    why: UnacceptedReason::new(MALFORMED, "junk"),
                };
                evidence.unaccepted.insert(0, junk);
            });
        });
        let fewer = world.but(|world| {
            world.for_each_evidence(|evidence| {
                evidence.unaccepted.clear();
                // No rule requires statements of the other types.
                evidence.statements.retain(|(_, statement)| {
                    !matches!(statement.predicate(), Predicate::Other(_))
                        || statement.predicate_type() == TESTED
                });
            });
        });
        prop_assert_eq!(more.decision(), decision);
        prop_assert_eq!(fewer.decision(), decision);
        Ok(())
    });
}

#[test]
fn what_is_waived_is_on_the_list_of_its_policy_and_two_declarations_never_add_up() {
    let waived = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);
    holds(|world, _| {
        for verdict in world.judge().policies() {
            let mut findings = verdict.findings().iter();
            if findings.any(|finding| finding.rule == "emergency") {
                refused.fetch_add(1, Ordering::Relaxed);
            }
            let findings = verdict.findings().iter();
            let found: Vec<_> = findings
                .filter(|it| it.outcome == Outcome::Waived)
                .collect();
            let Some(first) = found.first() else {
                prop_assert!(verdict.emergency().is_none());
                continue;
            };
            waived.fetch_add(1, Ordering::Relaxed);
            let mut policies = world.snapshot.policies.iter();
            let policy = policies.find(|it| it.name == verdict.policy()).unwrap();
            let section = policy.emergency.as_deref().unwrap();
            let declaration = first.waived_by.clone().unwrap();
            for finding in &found {
                prop_assert!(section.waives_rule(finding.rule), "{finding:?}");
                prop_assert_eq!(finding.waived_by.as_ref(), Some(&declaration));
            }
            // What people signed about other declarations had no part in it.
            let alone = world.but(|world| {
                world.for_each_evidence(|evidence| {
                    let is_other = |statement: &VerifiedStatement| match statement.predicate() {
                        Predicate::EmergencyChange(_) => *statement.digest() != declaration,
                        Predicate::Approval(said) => {
                            let named = said.emergency.as_ref();
                            named.is_some_and(|named| *named != declaration)
                        }
                        _ => false,
                    };
                    evidence.statements.retain(|(_, it)| !is_other(it));
                });
            });
            let alone = alone.judge();
            let mut policies = alone.policies().iter();
            let alone = policies.find(|it| it.policy() == verdict.policy()).unwrap();
            let said = |verdict: &PolicyVerdict| {
                let findings = verdict.findings().iter();
                let waived = findings.filter(|it| it.outcome == Outcome::Waived);
                let waived = waived.map(|it| (it.rule, it.waived_by.clone()));
                (verdict.decision(), waived.collect::<Vec<_>>())
            };
            prop_assert_eq!(said(alone), said(verdict));
        }
        Ok(())
    });
    let (waived, refused) = (waived.into_inner(), refused.into_inner());
    assert!(
        waived >= 40 && refused >= 40,
        "{waived} waived, {refused} refused"
    );
}

type Reorder = fn(&mut World, Order);

/// Each list of a world. Verdict and response do not depend on its order, to the word.
const LISTS: [(&str, Reorder); 8] = [
    ("policies", |world, order| {
        order.put(&mut world.snapshot.policies);
        order.put(&mut world.snapshot.unreadable);
    }),
    ("images", |world, order| {
        order.put(&mut world.promotion.change.images);
        order.put(&mut world.promotion.pins);
        if let Collected::Known(records) = &mut world.promotion.records {
            order.put(&mut records.images);
        }
    }),
    ("records", |world, order| {
        if let Collected::Known(records) = &mut world.promotion.records {
            order.put(&mut records.workload);
        }
    }),
    ("platforms", |world, order| {
        for index in world.evidence.indexes.values_mut() {
            if let Collected::Known(Some(index)) | Collected::Partial(Some(index), _) = index {
                order.put(&mut index.manifests);
            }
        }
    }),
    ("signatures", |world, order| {
        world.for_each_evidence(|evidence| order.put(&mut evidence.signatures));
    }),
    ("statements", |world, order| {
        world.for_each_evidence(|evidence| order.put(&mut evidence.statements));
    }),
    ("unaccepted", |world, order| {
        world.for_each_evidence(|evidence| order.put(&mut evidence.unaccepted));
    }),
    ("unsupported", |world, order| {
        world.for_each_evidence(|evidence| order.put(&mut evidence.unsupported));
    }),
];

/// Any order of a list comes from these two.
#[derive(Clone, Copy, Debug)]
enum Order {
    Reversed,
    FirstToLast,
}

impl Order {
    fn put<T>(self, list: &mut [T]) {
        match self {
            Order::Reversed => list.reverse(),
            Order::FirstToLast => list.rotate_left(1.min(list.len())),
        }
    }
}

#[test]
fn the_order_of_policies_images_and_evidence_never_matters() {
    let reordered = LISTS
        .iter()
        .flat_map(|list| [Order::Reversed, Order::FirstToLast].map(|order| (list, order)));
    holds(|world, decision| {
        let verdict = world.judge();
        let response = world.response();
        for ((list, reorder), order) in reordered.clone() {
            let other = world.but(|world| reorder(world, order));
            let said = other.judge();
            prop_assert_eq!(other.decision(), decision, "{}, {:?}", list, order);
            prop_assert_eq!(&said, &verdict, "{}, {:?}", list, order);
            prop_assert_eq!(other.response(), response.clone(), "{}, {:?}", list, order);
        }
        Ok(())
    });
}

#[test]
fn a_further_policy_that_is_met_only_makes_an_object_governed() {
    holds(|world, _| {
        let more = world.but(|world| {
            let spec = json!({"requirements": [{"allowedImages": {"patterns": ["**"]}}]});
            world
                .snapshot
                .policies
                .push(FACTS.policy("one-more", &spec));
        });
        let governed = world.but(|world| world.snapshot.ungoverned = Ungoverned::Allow);
        prop_assert_eq!(more.decision(), governed.decision());
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
        let lenient = world.but(|world| {
            world.snapshot.unreadable.clear();
            world.snapshot.world.revocations.clear();
            world.snapshot.ungoverned = Ungoverned::Allow;
            for policy in &mut world.snapshot.policies {
                policy.enforcement = Enforcement::Audit;
            }
        });
        prop_assert_eq!(lenient.decision(), Decision::Allow);
        Ok(())
    });
}

#[test]
fn every_image_has_a_finding_under_every_policy() {
    holds(|world, _| {
        for policy in world.judge().policies() {
            let is_document = !policy.policy().starts_with('(');
            let readable = is_document && !UNREADABLE.contains(&policy.policy());
            for image in world.promotion.change.images.iter().filter(|_| readable) {
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
fn an_uncovered_image_is_denied_under_a_policy_with_evidence() {
    let policy = FACTS.policy(
        "evidence",
        &json!({
            "match": {"images": ["registry.example/**"]},
            "requirements": [{"digestPinned": {}}, signed_by("release@example.com")],
        }),
    );
    let world = World {
        promotion: promotion(&[format!("elsewhere.example/db@{}", digest("x"))]),
        snapshot: snapshot(vec![policy]),
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
fn an_image_without_an_answer_is_undecided_everywhere() {
    let signed = |name: &str, images: &str| {
        FACTS.policy(
            name,
            &json!({
                "match": {"images": [images]},
                "requirements": [{"digestPinned": {}}, signed_by("release@example.com")],
            }),
        )
    };
    let world = World {
        promotion: promotion(&[format!("elsewhere.example/db@{}", digest("x"))]),
        snapshot: snapshot(vec![
            signed("elsewhere", "elsewhere.example/**"),
            signed("here", "registry.example/**"),
        ]),
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
        snapshot: snapshot(Vec::new()),
        evidence: Evidence::default(),
    };
    assert_eq!(world.decision(), Decision::Allow);
    assert!(world.judge().policies().is_empty());
    let mut strict = snapshot(Vec::new());
    strict.ungoverned = Ungoverned::Deny;
    let verdict = judge(&world.promotion, &world.evidence, &strict);
    assert_eq!(verdict.decision(), Decision::Deny);
}
