//! The invariants of the decision, over random policies, images and evidence. The facts are signed in the sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use promotion_gate::admission::AdmissionResponse;
use promotion_gate_core::attest::UnacceptedReason;
use promotion_gate_core::attest::predicate::Predicate;
use promotion_gate_core::attest::unaccepted::MALFORMED;
use promotion_gate_core::gate::{
    self, Collected, Decision, Digest, Enforcement, Evidence, EvidenceSource, ImageEvidence, Index,
    Outcome, Pin, Platform, PlatformManifest, Promotion, Repository, Requirement, Snapshot,
    Subject, Target, UnacceptedEvidence, Unavailability, Ungoverned, Unreadable, Verdict,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::Union;
use serde_json::{Value, json};

use crate::facts::{
    Attached, BUILDER, FACTS, Form, Provenance, judge, promotion, signed_by, snapshot,
};

const IMAGES: [&str; 3] = [
    "registry.example/app",
    "registry.example/team/api",
    "elsewhere.example/db",
];
const UNREADABLE: [&str; 2] = ["broken.yaml", "cut.yaml"];
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// What can be attached to an image, signed once for each image and each of its platforms.
static EVIDENCE: LazyLock<BTreeMap<Subject, Vec<ImageEvidence>>> = LazyLock::new(|| {
    let release = || Attached::by("release");
    let build = || Attached::by("build");
    let annotated = |stage: &str| Attached {
        form: Form::SimpleSigning,
        annotations: BTreeMap::from([("stage".to_owned(), stage.to_owned())]),
        ..release()
    };
    let provenance = |by: &str, but: Value| Attached {
        form: Form::Attestation,
        provenance: Some(Provenance {
            template: "workflow".to_owned(),
            but,
        }),
        ..Attached::by(by)
    };
    let attached = [
        release(),
        build(),
        Attached::by("stranger"),
        Attached::by("key"),
        Attached {
            form: Form::SimpleSigning,
            ..release()
        },
        annotated("production"),
        annotated("test"),
        Attached {
            logged: false,
            ..build()
        },
        Attached {
            form: Form::Attestation,
            ..release()
        },
        Attached {
            about_another: true,
            ..release()
        },
        Attached {
            form: Form::Junk,
            ..release()
        },
        provenance("builder", json!({})),
        provenance("key", json!({})),
        provenance("stranger", json!({})),
        provenance("other-builder", json!({})),
        Attached {
            form: Form::LegacyAttestation,
            ..provenance("release", json!({}))
        },
        Attached {
            about_another: true,
            ..provenance("builder", json!({}))
        },
    ];
    let all = |subject: Subject| {
        let pieces = attached.iter().map(|attached| {
            let mut evidence = ImageEvidence::default();
            FACTS.add(&mut evidence, &subject.digest, attached);
            evidence
        });
        let pieces = pieces.collect();
        (subject, pieces)
    };
    subjects().map(all).collect()
});

fn digest(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

fn image(name: &str) -> Subject {
    Subject {
        repository: Repository::named(name),
        digest: digest(name),
    }
}

fn platform(name: &str, architecture: &str) -> Subject {
    Subject {
        repository: Repository::named(name),
        digest: digest(&format!("{name} for {architecture}")),
    }
}

/// Every image, and each platform that it has where it is an index.
fn subjects() -> impl Iterator<Item = Subject> {
    IMAGES.into_iter().flat_map(|name| {
        let platforms = ARCHITECTURES.map(|architecture| platform(name, architecture));
        [image(name)].into_iter().chain(platforms)
    })
}

/// Of each rule about each target, the outcomes and reasons.
type Said = BTreeSet<((String, Target), (Outcome, &'static str))>;

#[derive(Clone, Debug)]
struct World {
    promotion: Promotion,
    snapshot: Snapshot,
    evidence: Evidence,
}

impl World {
    fn judge(&self) -> Verdict {
        judge(&self.promotion, &self.evidence, &self.snapshot)
    }

    fn decision(&self) -> Decision {
        self.judge().decision()
    }

    fn but(&self, change: impl FnOnce(&mut World)) -> World {
        let mut world = self.clone();
        change(&mut world);
        world
    }

    fn response(&self) -> AdmissionResponse {
        AdmissionResponse::of(&self.judge(), &self.promotion, false)
    }

    fn with_evidence(&self, change: impl Fn(&mut Collected<Arc<ImageEvidence>>)) -> World {
        self.but(|world| world.evidence.images.values_mut().for_each(change))
    }

    /// Changes all evidence that was read.
    fn for_each_evidence(&mut self, change: impl Fn(&mut ImageEvidence)) {
        for collected in self.evidence.images.values_mut() {
            match collected {
                Collected::Known(value) | Collected::Partial(value, _) => {
                    change(Arc::make_mut(value));
                }
                Collected::Unavailable(_) => {}
            }
        }
    }
}

fn unavailability() -> Unavailability {
    Unavailability("the registry does not answer".to_owned())
}

fn cut<T: Clone>(collected: &mut Collected<T>) {
    if let Some(value) = collected.value() {
        *collected = Collected::Partial(value.clone(), vec![unavailability()]);
    }
}

fn withhold<T>(collected: &mut Collected<T>) {
    *collected = Collected::Unavailable(unavailability());
}

fn keyless(identity: Value, transparency: &str) -> Value {
    json!({"keyless": {
        "issuer": "https://issuer.example",
        "identity": identity,
        "trustRoots": ["sandbox"],
        "transparency": transparency,
    }})
}

fn by_key() -> Value {
    json!({"key": {"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"]}})
}

fn signer() -> impl Strategy<Value = Value> {
    select(vec![
        keyless(json!("release@example.com"), "Log"),
        keyless(json!("build@example.com"), "Timestamp"),
        keyless(json!("build@example.com"), "InclusionProof"),
        keyless(json!({"glob": "*@example.com"}), "Log"),
        by_key(),
    ])
}

fn signature() -> impl Strategy<Value = Value> {
    let signers = || prop::collection::vec(signer(), 1..3);
    let signed = prop_oneof![
        3 => signers().prop_map(|signers| json!({"anyOf": signers})),
        1 => signers().prop_map(|signers| json!({"allOf": signers})),
        1 => signers().prop_map(|signers| json!({"anyOf": signers, "threshold": 2})),
    ];
    let annotations = prop::option::weighted(0.2, Just(json!({"stage": "production"})));
    (signed, annotations).prop_map(|(mut parameters, annotations)| {
        if let Some(annotations) = annotations {
            parameters["annotations"] = annotations;
        }
        parameters
    })
}

fn provenance() -> impl Strategy<Value = Value> {
    let signed_by = select(vec![
        keyless(json!(BUILDER), "Log"),
        keyless(json!("release@example.com"), "Log"),
        keyless(json!("nobody@example.com"), "Log"),
        by_key(),
    ]);
    let sources = prop_oneof![
        2 => Just(json!({"sources": ["https://github.com/example/app"]})),
        1 => Just(json!({"anySource": true})),
        1 => Just(json!({"sources": ["https://github.com/example/other"]})),
    ];
    let branches = prop::option::weighted(0.3, select(vec![json!(["main"]), json!(["release"])]));
    let signers = prop::collection::vec(signed_by, 1..3);
    (signers, sources, branches).prop_map(|(signers, mut parameters, branches)| {
        let pair = |signer| json!({"id": BUILDER, "signedBy": signer});
        parameters["builders"] = signers.into_iter().map(pair).collect();
        if let Some(branches) = branches {
            parameters["branches"] = branches;
        }
        parameters
    })
}

/// The parameters of a rule: a new rule needs a line here, and evidence in [`EVIDENCE`] if it asks for any.
fn parameters(rule: &str) -> BoxedStrategy<Value> {
    match rule {
        "digestPinned" => Just(json!({})).boxed(),
        "allowedImages" => Just(json!({"patterns": ["registry.example/**"]})).boxed(),
        "signature" => signature().boxed(),
        "provenance" => provenance().boxed(),
        _ => panic!(
            "the rule `{rule}` has no generator: add one to `parameters` in {}",
            file!()
        ),
    }
}

fn requirement() -> impl Strategy<Value = Value> {
    let rules = Requirement::NAMES.iter().map(|rule| {
        let on_evidence = Requirement::names_on_evidence().any(|name| name == *rule);
        let weight = if on_evidence { 3 } else { 1 };
        (
            weight,
            parameters(rule).prop_map(|given| json!({ *rule: given })),
        )
    });
    Union::new_weighted(rules.collect())
}

fn matching() -> impl Strategy<Value = Value> {
    let selector = json!({"selector": {"matchLabels": {"tier": "production"}}});
    let fields = [
        ("images", 0.3, json!(["registry.example/**"])),
        ("platforms", 0.2, json!(["linux/amd64"])),
        ("platforms", 0.2, json!(["linux/s390x"])),
        ("namespaces", 0.2, selector),
    ];
    let fields = fields.map(|(name, weight, value)| {
        prop::option::weighted(weight, Just((name.to_owned(), value)))
    });
    Vec::from(fields).prop_map(|fields| Value::Object(fields.into_iter().flatten().collect()))
}

fn spec() -> impl Strategy<Value = Value> {
    let enforcement = prop_oneof![4 => Just("Enforce"), 1 => Just("Warn"), 1 => Just("Audit")];
    let uncovered = prop_oneof![3 => Just("Deny"), 1 => Just("Allow")];
    let requirements = prop::collection::vec(requirement(), 1..3);
    let index = prop::bool::weighted(0.7);
    let tags = any::<bool>();
    (
        matching(),
        enforcement,
        uncovered,
        requirements,
        index,
        tags,
    )
        .prop_map(
            |(matching, enforcement, uncovered, mut requirements, index, tags)| {
                let mut spec = json!({
                    "enforcement": enforcement,
                    "uncovered": uncovered,
                    "match": matching,
                    "allowUnsignedIndex": index,
                });
                // Evidence is about digests: the loader wants one of the two said.
                match tags {
                    true => spec["tags"] = json!("Resolve"),
                    false => requirements.push(json!({"digestPinned": {}})),
                }
                spec["requirements"] = json!(requirements);
                spec
            },
        )
}

/// Mostly known, sometimes in part or not at all.
fn collected<T: Clone + std::fmt::Debug>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Collected<T>> {
    (value, 0..12_u8).prop_map(|(value, how)| match how {
        0 => Collected::Unavailable(unavailability()),
        1 => Collected::Partial(value, vec![unavailability()]),
        _ => Collected::Known(value),
    })
}

fn attached_to(subject: &Subject) -> impl Strategy<Value = Arc<ImageEvidence>> + use<> {
    let pieces = EVIDENCE[subject].clone();
    let all = pieces.len();
    let few = subsequence(pieces.clone(), 0..=2);
    let some = prop_oneof![few, subsequence(pieces, 0..=all)];
    let unsupported = ["referrers", "tags"].map(|place| Unavailability(place.to_owned()));
    let unsupported =
        prop_oneof![9 => Just(Vec::new()), 1 => subsequence(unsupported.to_vec(), 1..=2)];
    (some.prop_shuffle(), unsupported).prop_map(|(pieces, unsupported)| {
        let mut evidence = ImageEvidence {
            unsupported,
            ..ImageEvidence::default()
        };
        for piece in pieces {
            evidence.signatures.extend(piece.signatures);
            evidence.statements.extend(piece.statements);
            evidence.unaccepted.extend(piece.unaccepted);
        }
        Arc::new(evidence)
    })
}

/// What a digest names: one image, an index of two, or bytes that runtimes could read as another index.
fn index_of(name: &'static str) -> impl Strategy<Value = Option<Index>> {
    let entry = move |architecture: &str, named: bool| PlatformManifest {
        platform: named.then(|| Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }),
        digest: platform(name, architecture).digest,
    };
    let index = [prop::bool::weighted(0.8), prop::bool::weighted(0.8)].prop_map(move |named| {
        let entries = ARCHITECTURES.into_iter().zip(named);
        Index {
            manifests: entries
                .map(|(architecture, named)| entry(architecture, named))
                .collect(),
            refused: None,
        }
    });
    let refused = Index {
        manifests: Vec::new(),
        refused: Some("it holds `manifests` twice".to_owned()),
    };
    prop_oneof![
        2 => Just(None),
        4 => index.prop_map(Some),
        1 => Just(Some(refused)),
    ]
}

/// An image, by digest or by a tag and what that resolves to.
fn pin(name: &'static str) -> impl Strategy<Value = (String, Pin)> {
    let by_tag = collected(Just(digest(name)));
    let by_tag = by_tag.prop_map(move |digest| (format!("{name}:v1"), Pin::Resolved(digest)));
    let by_digest = (
        format!("{name}@{}", digest(name)),
        Pin::Written(digest(name)),
    );
    prop_oneof![4 => Just(by_digest), 1 => by_tag]
}

fn labels() -> impl Strategy<Value = Option<BTreeMap<String, String>>> {
    let tier = |tier: &str| Some(BTreeMap::from([("tier".to_owned(), tier.to_owned())]));
    select(vec![tier("production"), tier("test"), None])
}

fn world() -> impl Strategy<Value = World> {
    let images = IMAGES.map(pin);
    let count = subsequence(vec![0_usize, 1, 2], 1..=2);
    let policies = prop::collection::vec(spec(), 1..4);
    let unreadable = prop_oneof![9 => Just(vec![]), 1 => subsequence(UNREADABLE.to_vec(), 1..=2)];
    let ungoverned = prop_oneof![2 => Just(Ungoverned::Allow), 1 => Just(Ungoverned::Deny)];
    let subjects: Vec<_> = subjects().collect();
    let evidence: Vec<_> = subjects
        .iter()
        .map(|subject| collected(attached_to(subject)))
        .collect();
    let indexes = IMAGES.map(|name| collected(index_of(name)));
    (
        images,
        count,
        policies,
        labels(),
        unreadable,
        ungoverned,
        evidence,
        indexes,
    )
        .prop_map(
            move |(images, chosen, specs, labels, unreadable, ungoverned, evidence, indexes)| {
                let (written, pins): (Vec<_>, Vec<_>) =
                    chosen.iter().map(|index| images[*index].clone()).unzip();
                let mut promotion = promotion(&written);
                promotion.pins = pins;
                let policies = specs
                    .iter()
                    .enumerate()
                    .map(|(index, spec)| FACTS.policy(&format!("policy-{index}"), spec))
                    .collect();
                let mut snapshot = snapshot(policies);
                snapshot.ungoverned = ungoverned;
                if let Some(labels) = labels {
                    snapshot.world.namespaces.insert("shop".to_owned(), labels);
                }
                snapshot.unreadable = unreadable
                    .into_iter()
                    .map(|source| Unreadable {
                        source: source.to_owned(),
                        why: "cut".to_owned(),
                    })
                    .collect();
                World {
                    promotion,
                    snapshot,
                    evidence: Evidence {
                        images: subjects.iter().cloned().zip(evidence).collect(),
                        indexes: IMAGES.map(image).into_iter().zip(indexes).collect(),
                        ..Evidence::default()
                    },
                }
            },
        )
}

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

#[test]
fn every_rule_passes_and_denies_often_in_these_worlds() {
    let said: Mutex<BTreeMap<(String, Outcome), usize>> = Mutex::default();
    let reasons: Mutex<BTreeMap<&str, usize>> = Mutex::default();
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
    let said = said.into_inner().unwrap();
    for rule in Requirement::NAMES {
        for outcome in [Outcome::Pass, Outcome::Fail] {
            let times = said.get(&((*rule).to_owned(), outcome)).copied();
            let times = times.unwrap_or_default();
            assert!(times >= 20, "`{rule}`: {outcome:?} {times} times: {said:?}");
        }
    }
    let reasons = reasons.into_inner().unwrap();
    for expected in [
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
    ] {
        assert!(
            reasons.contains_key(expected),
            "never `{expected}`: {reasons:?}"
        );
    }
}

#[test]
fn what_could_not_be_read_never_turns_a_denial_into_an_allow() {
    holds(|world, decision| {
        if decision == Decision::Allow {
            return Ok(());
        }
        let mut ignorant = vec![
            world.with_evidence(withhold),
            world.with_evidence(cut),
            world.but(|world| world.evidence.indexes.values_mut().for_each(withhold)),
            world.but(|world| world.evidence.indexes.values_mut().for_each(cut)),
            world.but(|world| world.evidence = Evidence::default()),
            world.but(|world| world.snapshot.world.namespaces.clear()),
            world.but(|world| world.snapshot.world.trust_roots.clear()),
        ];
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
        let without_statement = without(|evidence| drop(evidence.statements.pop()));
        if decision == Decision::Deny {
            prop_assert_eq!(without_signature.decision(), Decision::Deny);
            prop_assert_eq!(without_statement.decision(), Decision::Deny);
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
                evidence
                    .statements
                    .retain(|(_, statement)| !matches!(statement.predicate(), Predicate::Other(_)));
            });
        });
        prop_assert_eq!(more.decision(), decision);
        prop_assert_eq!(fewer.decision(), decision);
        Ok(())
    });
}

/// What of an answer does not depend on the order of a list.
#[derive(Clone, Copy)]
enum Fixed {
    /// The verdict and the response, to the word.
    Words,
    /// The decisions, outcomes and reasons. A detail may name another one of several.
    Reasons,
    Decision,
}

type Reorder = fn(&mut World, Order);

/// Each list of a world, and what must not depend on its order.
const LISTS: [(&str, Fixed, Reorder); 7] = [
    ("policies", Fixed::Words, |world, order| {
        order.put(&mut world.snapshot.policies);
        order.put(&mut world.snapshot.unreadable);
    }),
    ("images", Fixed::Words, |world, order| {
        order.put(&mut world.promotion.change.images);
        order.put(&mut world.promotion.pins);
    }),
    ("platforms", Fixed::Reasons, |world, order| {
        for index in world.evidence.indexes.values_mut() {
            if let Collected::Known(Some(index)) | Collected::Partial(Some(index), _) = index {
                order.put(&mut index.manifests);
            }
        }
    }),
    ("signatures", Fixed::Decision, |world, order| {
        world.for_each_evidence(|evidence| order.put(&mut evidence.signatures));
    }),
    ("statements", Fixed::Reasons, |world, order| {
        world.for_each_evidence(|evidence| order.put(&mut evidence.statements));
    }),
    ("unaccepted", Fixed::Words, |world, order| {
        world.for_each_evidence(|evidence| order.put(&mut evidence.unaccepted));
    }),
    ("unsupported", Fixed::Reasons, |world, order| {
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
        for ((list, fixed, reorder), order) in reordered.clone() {
            let other = world.but(|world| reorder(world, order));
            let said = other.judge();
            prop_assert_eq!(other.decision(), decision, "{}, {:?}", list, order);
            if matches!(fixed, Fixed::Words | Fixed::Reasons) {
                prop_assert_eq!(reasons(&said), reasons(&verdict), "{}, {:?}", list, order);
            }
            if matches!(fixed, Fixed::Words) {
                prop_assert_eq!(&said, &verdict, "{}, {:?}", list, order);
                prop_assert_eq!(other.response(), response.clone(), "{}, {:?}", list, order);
            }
        }
        Ok(())
    });
}

/// The decision of each policy, with outcome and reason of each rule about each target. A rule may stand in a policy twice.
fn reasons(verdict: &Verdict) -> Vec<(String, Decision, Said)> {
    let policies = verdict.policies().iter().map(|policy| {
        let findings = policy.findings().iter().map(|finding| {
            let rule = (finding.rule.to_string(), finding.target.clone());
            (rule, (finding.outcome, finding.reason))
        });
        let name = policy.policy().to_owned();
        (name, policy.decision(), findings.collect())
    });
    policies.collect()
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
            let readable =
                policy.policy() != "(ungoverned)" && !UNREADABLE.contains(&policy.policy());
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
