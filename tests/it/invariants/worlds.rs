//! Random policies, images and evidence. The facts are signed in the sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp};
use promotion_gate::admission::AdmissionResponse;
use promotion_gate::api::{ChangeFreezeSpec, FeedStates, freeze, schedule};
use promotion_gate::sandbox::statement_digest;
use promotion_gate_core::gate::{
    AdmittedBy, Collected, Decision, Digest, Directory, Evidence, Freeze, Group, ImageEvidence,
    ImageRecords, Incident, IncidentAnswers, IncidentQuestion, Index, KeptRejection, KeptSigner,
    KeptVex, KeptVexStatement, Member, People, Person, Pin, Platform, PlatformManifest, Promotion,
    RecordEntry, Records, Repository, Requirement, Revocation, Schedule, Severity, Snapshot,
    Subject, Unavailability, Ungoverned, Unreadable, Validity, Verdict, WhenUnreachable,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::Union;
use serde_json::{Value, json};

use crate::facts::{
    Attached, BUILDER, FACTS, Form, ISSUER, Provenance, judge, promotion, snapshot,
};

const IMAGES: [&str; 3] = [
    "registry.example/app",
    "registry.example/team/api",
    "elsewhere.example/db",
];
const CHECK: &str = "tracker";
/// The type of the statements that the rule `attestation` of the worlds requires.
pub const TESTED: &str = "https://example.com/test-result/v1";
const VERIFIER: &str = "https://staging.example/promotion-gate";
pub const UNREADABLE: [&str; 2] = ["broken.yaml", "cut.yaml"];
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
    let scan = |by: &str, template: &str, result: Value| Attached {
        form: Form::Attestation,
        provenance: Some(Provenance {
            template: template.to_owned(),
            but: json!({"scanner": {"result": result}}),
        }),
        ..Attached::by(by)
    };
    let old_scan = |by: &str, template: &str, result: Value| Attached {
        ago: Some("3d".parse().unwrap()),
        ..scan(by, template, result)
    };
    let unnamed = || json!({"Metadata": null});
    let vulnerable = || {
        let found =
            json!({"VulnerabilityID": "CVE-2026-9", "PkgName": "zlib", "Severity": "CRITICAL"});
        json!({"Metadata": null, "Results": [{"Vulnerabilities": [found]}]})
    };
    let vex = |by: &str, status: &str| Attached {
        form: Form::Attestation,
        provenance: Some(Provenance {
            template: "openvex".to_owned(),
            but: json!({"statements": [{
                "vulnerability": {"name": "CVE-2026-9"}, "status": status, "impact_statement": "x",
            }]}),
        }),
        ..Attached::by(by)
    };
    let sbom = |by: &str, template: &str| Attached {
        form: Form::Attestation,
        provenance: Some(Provenance {
            template: template.to_owned(),
            but: json!({}),
        }),
        ..Attached::by(by)
    };
    let says = |by: &str, decision: &str| Attached {
        form: Form::Attestation,
        statement: Some((
            "approval".to_owned(),
            json!({"environment": "production", "decision": decision}),
        )),
        ..Attached::by(by)
    };
    let tested = |by: &str, predicate: Value| Attached {
        form: Form::Attestation,
        statement: Some((TESTED.to_owned(), predicate)),
        ..Attached::by(by)
    };
    let summary = |by: &str, but: Value| {
        let mut predicate = json!({
            "verifier": {"id": VERIFIER},
            "resourceUri": "registry.example/app",
            "verificationResult": "PASSED",
            "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
            "https://promotion-gate.dev/environment": "staging",
            "https://promotion-gate.dev/running-since": "2026-01-01T00:00:00Z",
        });
        let fields = predicate.as_object_mut().unwrap();
        fields.extend(but.as_object().unwrap().clone());
        Attached {
            form: Form::Attestation,
            statement: Some((
                "https://slsa.dev/verification_summary/v1".to_owned(),
                predicate,
            )),
            ..Attached::by(by)
        }
    };
    let attached = [
        tested("release", json!({"result": "PASSED"})),
        tested("build", json!({"result": "FAILED"})),
        tested("build", json!({"result": "PASSED"})),
        tested("key", json!({"outcome": "PASSED"})),
        tested("stranger", json!({"result": "PASSED"})),
        summary("release", json!({})),
        summary("build", json!({"verifiedLevels": ["SLSA_BUILD_LEVEL_1"]})),
        summary("build", json!({"verificationResult": "FAILED"})),
        summary("key", json!({})),
        summary("stranger", json!({})),
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
        Attached {
            provenance: Some(Provenance {
                template: "generator".to_owned(),
                but: json!({}),
            }),
            ..provenance("builder", json!({}))
        },
        says("release", "approved"),
        says("build", "approved"),
        says("stranger", "approved"),
        says("key", "approved"),
        says("build", "rejected"),
        says("release", "unknown"),
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
        scan("release", "trivy", unnamed()),
        scan(
            "release",
            "grype",
            json!({"source": {"type": "sbom-file", "target": "sbom.json"}}),
        ),
        scan("build", "trivy", unnamed()),
        old_scan("release", "trivy", unnamed()),
        old_scan("release", "trivy", vulnerable()),
        scan("release", "trivy", vulnerable()),
        scan("stranger", "trivy", vulnerable()),
        scan("release", "trivy", Value::Null),
        vex("release", "not_affected"),
        vex("build", "affected"),
        sbom("build", "spdx"),
        sbom("release", "cyclonedx"),
        sbom("stranger", "spdx"),
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

/// What people sign about emergency changes, once for each image.
static EMERGENCIES: LazyLock<BTreeMap<Subject, Vec<ImageEvidence>>> = LazyLock::new(|| {
    let all = |subject: Subject| {
        let signed = about_emergencies(&subject.digest);
        let pieces = signed.iter().map(|attached| {
            let mut evidence = ImageEvidence::default();
            FACTS.add(&mut evidence, &subject.digest, attached);
            evidence
        });
        let pieces = pieces.collect();
        (subject, pieces)
    };
    subjects().map(all).collect()
});

/// The first two let a change pass where two people have to agree.
fn about_emergencies(image: &Digest) -> Vec<Attached> {
    const CHANGE: &str = "https://promotion-gate.dev/emergency-change/v1";
    const CLOSURE: &str = "https://promotion-gate.dev/emergency-closure/v1";
    let expires = Timestamp::now() + SignedDuration::from_hours(2);
    let declaration = |incident: &str, environment: &str| {
        json!({
            "environment": environment,
            "incident": {"id": incident},
            "reason": "reverts the query that locks the orders table",
            "expires": expires.to_string(),
        })
    };
    let signed = |by: &str, kind: &str, predicate: Value| Attached {
        form: Form::Attestation,
        statement: Some((kind.to_owned(), predicate)),
        ..Attached::by(by)
    };
    let declared =
        |by: &str, incident: &str| signed(by, CHANGE, declaration(incident, "production"));
    let digest = |incident: &str| {
        let predicate = declaration(incident, "production");
        statement_digest(std::slice::from_ref(image), CHANGE, &predicate).to_string()
    };
    let said = |by: &str, decision: &str, incident: &str| {
        let emergency = digest(incident);
        let predicate =
            json!({"environment": "production", "decision": decision, "emergency": emergency});
        signed(by, "approval", predicate)
    };
    let closed =
        |by: &str, incident: &str| signed(by, CLOSURE, json!({"emergency": digest(incident)}));
    vec![
        declared("release", "INC1"),
        said("build", "approved", "INC1"),
        declared("build", "INC1"),
        declared("build", "INC2"),
        declared("stranger", "INC2"),
        said("release", "approved", "INC2"),
        said("key", "approved", "INC2"),
        said("stranger", "approved", "INC1"),
        said("key", "rejected", "INC1"),
        closed("build", "INC2"),
        closed("stranger", "INC1"),
        signed("release", CHANGE, declaration("INC1", "staging")),
    ]
}

pub fn digest(name: &str) -> Digest {
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

#[derive(Clone, Debug)]
pub struct World {
    pub promotion: Promotion,
    pub snapshot: Snapshot,
    pub evidence: Evidence,
}

impl World {
    pub fn judge(&self) -> Verdict {
        judge(&self.promotion, &self.evidence, &self.snapshot)
    }

    pub fn decision(&self) -> Decision {
        self.judge().decision()
    }

    /// Whether a policy takes the change for a rollback.
    pub fn is_rollback(&self) -> bool {
        let mut policies = self.snapshot.policies.iter();
        policies.any(|policy| self.promotion.is_rollback(policy))
    }

    /// Whether a policy accepts an emergency change while the tracker of its incident cannot be reached.
    pub fn accepts_unreachable(&self) -> bool {
        let sections = self
            .snapshot
            .policies
            .iter()
            .filter_map(|it| it.emergency.as_deref());
        let mut incidents = sections.filter_map(|it| it.incident.as_ref());
        incidents.any(|it| it.when_unreachable == WhenUnreachable::Allow)
    }

    pub fn but(&self, change: impl FnOnce(&mut World)) -> World {
        let mut world = self.clone();
        change(&mut world);
        world
    }

    pub fn response(&self) -> AdmissionResponse {
        AdmissionResponse::of(&self.judge(), &self.promotion, false)
    }

    pub fn with_evidence(&self, change: impl Fn(&mut Collected<Arc<ImageEvidence>>)) -> World {
        self.but(|world| world.evidence.images.values_mut().for_each(change))
    }

    /// Changes all evidence that was read.
    pub fn for_each_evidence(&mut self, change: impl Fn(&mut ImageEvidence)) {
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

pub fn cut<T: Clone>(collected: &mut Collected<T>) {
    if let Some(value) = collected.value() {
        *collected = Collected::Partial(value.clone(), vec![unavailability()]);
    }
}

pub fn withhold<T>(collected: &mut Collected<T>) {
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

fn vulnerabilities() -> impl Strategy<Value = Value> {
    let signed_by = select(vec![
        keyless(json!("release@example.com"), "Log"),
        keyless(json!({"glob": "*@example.com"}), "Log"),
    ]);
    let severity = select(vec!["Medium", "Critical"]);
    let age = prop::option::weighted(0.5, Just("1d"));
    let scanners = prop::option::weighted(0.2, Just(json!(["trivy", "grype"])));
    let vex = prop::option::weighted(0.8, Just(keyless(json!({"glob": "*@example.com"}), "Log")));
    let all = (signed_by, severity, age, scanners, vex);
    all.prop_map(|(signed_by, severity, age, scanners, vex)| {
        let mut parameters = json!({"signedBy": signed_by, "maximumSeverity": severity});
        if let Some(vex) = vex {
            parameters["vex"] = json!({ "signedBy": vex });
        }
        if let Some(age) = age {
            parameters["maximumAge"] = json!(age);
        }
        if let Some(scanners) = scanners {
            parameters["scanners"] = scanners;
        }
        parameters
    })
}

fn sbom() -> impl Strategy<Value = Value> {
    let signed_by = select(vec![
        keyless(json!("build@example.com"), "Log"),
        keyless(json!({"glob": "*@example.com"}), "Log"),
    ]);
    let denied = prop::option::weighted(0.3, Just(json!(["pkg:npm/event-stream"])));
    let formats = prop::option::weighted(0.3, Just(json!(["spdx"])));
    (signed_by, denied, formats).prop_map(|(signed_by, denied, formats)| {
        let mut parameters = json!({ "signedBy": signed_by });
        if let Some(denied) = denied {
            parameters["denied"] = denied;
        }
        if let Some(formats) = formats {
            parameters["formats"] = formats;
        }
        parameters
    })
}

fn approvals() -> impl Strategy<Value = Value> {
    let authors = json!([{"provenance": {"builders": [{"id": BUILDER, "signedBy": keyless(json!(BUILDER), "Log")}]}}]);
    let authors = prop_oneof![
        3 => Just(json!({"differentFromAuthor": false})),
        1 => Just(json!({ "authorsFrom": authors })),
    ];
    let from = select(vec![
        json!([{"group": "team"}]),
        json!([{"group": "team", "count": 2}]),
        json!([{"person": "rita"}]),
    ]);
    (from, authors).prop_map(|(from, mut parameters)| {
        parameters["from"] = from;
        parameters["trustRoots"] = json!(["sandbox"]);
        parameters
    })
}

fn attestation() -> impl Strategy<Value = Value> {
    let conditions = select(vec![
        "predicate.result == 'PASSED'",
        "has(predicate.result) && predicate.result != 'FAILED'",
        "now - signedAt < duration('1h') && subject.repository.contains('example')",
    ]);
    let conditions = prop::option::weighted(0.7, conditions);
    (signer(), conditions).prop_map(|(signer, condition)| {
        let mut parameters = json!({"predicateType": TESTED, "signedBy": signer});
        if let Some(condition) = condition {
            parameters["expression"] = json!(condition);
        }
        parameters
    })
}

fn verification_summary() -> impl Strategy<Value = Value> {
    let fields = [
        ("levels", 0.4, json!(["SLSA_BUILD_LEVEL_2"])),
        ("environment", 0.3, json!("staging")),
        ("minimumAge", 0.3, json!("24h")),
        ("maximumAge", 0.3, json!("30d")),
        ("resources", 0.5, json!([{"glob": "registry.example/**"}])),
    ];
    let fields = fields.map(|(name, weight, value)| {
        prop::option::weighted(weight, Just((name.to_owned(), value)))
    });
    (signer(), Vec::from(fields)).prop_map(|(signer, fields)| {
        let mut parameters = json!({"verifiers": [{"id": VERIFIER, "signedBy": signer}]});
        let given = parameters.as_object_mut().unwrap();
        given.extend(fields.into_iter().flatten());
        parameters
    })
}

fn expression() -> impl Strategy<Value = Value> {
    let rules = select(vec![
        "images.all(i, i.repository.startsWith('registry.example/'))",
        "workload.kind == 'Deployment' && change.kind == 'deploy'",
        "namespaceLabels['tier'] == 'production'",
        "requester.username == 'alice'",
        "environment == 'production' && now > timestamp('2026-01-01T00:00:00Z')",
    ]);
    rules.prop_map(|rule| json!({"rule": rule, "message": "ask the platform team"}))
}

pub static PEOPLE: LazyLock<Arc<People>> = LazyLock::new(|| Arc::new(people()));

/// The people of every world. `olivia` starts builds.
fn people() -> People {
    let person = |name: &str, identity: Value| Person {
        name: name.to_owned(),
        display_name: None,
        identities: vec![serde_json::from_value(identity).unwrap()],
        validity: Validity::default(),
    };
    let by_email = |name: &str, email: &str| {
        person(
            name,
            json!({"certificate": {"issuer": ISSUER, "email": email}}),
        )
    };
    let member = |name: &str| Member {
        person: name.to_owned(),
        validity: Validity::default(),
    };
    let directory = Directory {
        people: vec![
            by_email("rita", "release@example.com"),
            by_email("ben", "build@example.com"),
            person("olivia", json!({"github": {"login": "octocat"}})),
            person("kim", json!({"key": {"pem": FACTS.key.public_pem()}})),
        ],
        groups: vec![Group {
            name: "team".to_owned(),
            members: ["rita", "ben", "olivia", "kim"].map(member).into(),
        }],
        automation: Vec::new(),
    };
    People::merge(&[directory]).unwrap()
}

/// No freeze, one that lasts, and one whose feed was never read.
fn freezes() -> impl Strategy<Value = Arc<Schedule>> {
    let about = |when: Value| {
        let mut spec = json!({"environments": ["production"], "reason": "Year end"});
        spec.as_object_mut()
            .unwrap()
            .extend(when.as_object().unwrap().clone());
        let spec: ChangeFreezeSpec = serde_json::from_value(spec).unwrap();
        freeze("freeze", &spec, Path::new("")).unwrap()
    };
    let always = about(
        json!({"windows": [{"from": "2000-01-01T00:00:00Z", "until": "2200-01-01T00:00:00Z"}]}),
    );
    let unread = about(json!({"endpoint": {"url": "https://itsm.example/check"}}));
    let of =
        |freezes: Vec<Freeze>| Arc::new(schedule(freezes, &FeedStates::new(), Timestamp::now()));
    let all = [
        vec![],
        vec![always.clone()],
        vec![unread.clone()],
        vec![always, unread],
    ];
    let [open, frozen, unknown, both] = all.map(of);
    prop_oneof![3 => Just(open), 1 => Just(frozen), 1 => Just(unknown), 1 => Just(both)]
}

/// The parameters of a rule: a new rule needs a line here, and evidence in [`EVIDENCE`] if it asks for any.
fn parameters(rule: &str) -> BoxedStrategy<Value> {
    match rule {
        "digestPinned" => Just(json!({})).boxed(),
        "allowedImages" => Just(json!({"patterns": ["registry.example/**"]})).boxed(),
        "signature" => signature().boxed(),
        "provenance" => provenance().boxed(),
        "vulnerabilities" => vulnerabilities().boxed(),
        "sbom" => sbom().boxed(),
        "approvals" => approvals().boxed(),
        "noFreeze" => Just(json!({"warnBefore": "24h"})).boxed(),
        "attestation" => attestation().boxed(),
        "expression" => expression().boxed(),
        "verificationSummary" => verification_summary().boxed(),
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

/// The section `emergency` of a policy.
fn emergency() -> impl Strategy<Value = Value> {
    let from = select(vec![
        json!([{"group": "team"}]),
        json!([{"group": "team", "count": 2}]),
        json!([{"person": "rita"}, {"person": "ben"}]),
    ]);
    let rules: Vec<_> = Requirement::NAMES.to_vec();
    let waives = prop_oneof![4 => Just(rules.clone()), 1 => subsequence(rules, 1..=3)];
    let unreachable = prop_oneof![3 => Just("Deny"), 1 => Just("Allow")];
    let incident = prop::option::weighted(0.4, unreachable);
    (from, waives, incident).prop_map(|(from, waives, unreachable)| {
        let mut section = json!({"from": from, "waives": waives, "trustRoots": ["sandbox"]});
        if let Some(unreachable) = unreachable {
            section["incident"] =
                json!({"check": CHECK, "minimumSeverity": "P2", "whenUnreachable": unreachable});
        }
        section
    })
}

/// What the incident check answers about one incident.
fn incident(id: &'static str) -> impl Strategy<Value = Option<Incident>> {
    let severity = select(vec![Some(Severity::P1), Some(Severity::P3), None]);
    let known = (prop::bool::weighted(0.8), severity).prop_map(move |(open, severity)| {
        Some(Incident {
            id: id.to_owned(),
            open,
            severity,
            url: None,
            created_at: None,
            created_by: None,
            service: None,
        })
    });
    prop_oneof![5 => known, 1 => Just(None)]
}

/// The answers about the incidents that declarations name.
fn incidents() -> impl Strategy<Value = IncidentAnswers> {
    let question = |id: &str| IncidentQuestion {
        check: CHECK.to_owned(),
        id: id.to_owned(),
    };
    let answers = (collected(incident("INC1")), collected(incident("INC2")));
    answers.prop_map(move |(first, second)| {
        IncidentAnswers::from([(question("INC1"), first), (question("INC2"), second)])
    })
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
    let emergency = prop::option::weighted(0.9, emergency());
    (
        matching(),
        enforcement,
        uncovered,
        requirements,
        index,
        tags,
        emergency,
    )
        .prop_map(
            |(matching, enforcement, uncovered, mut requirements, index, tags, emergency)| {
                let mut spec = json!({
                    "environment": "production",
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
                if let Some(emergency) = emergency {
                    spec["emergency"] = emergency;
                }
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
    let emergencies = EMERGENCIES[subject].clone();
    let usual = emergencies[..2].to_vec();
    let one_more = subsequence(emergencies.clone(), 0..=1);
    let usual = one_more.prop_map(move |more| [usual.clone(), more].concat());
    let some = (
        some,
        prop_oneof![1 => Just(Vec::new()), 1 => subsequence(emergencies, 0..=4), 6 => usual],
    );
    let some = some.prop_map(|(some, emergencies)| [some, emergencies].concat());
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

/// What release records say of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    None,
    Unrecorded,
    Runs,
    RanBefore,
    RanBeforeByWaiver,
}

fn history() -> impl Strategy<Value = History> {
    prop_oneof![
        4 => Just(History::None),
        1 => Just(History::Unrecorded),
        2 => Just(History::Runs),
        4 => Just(History::RanBefore),
        1 => Just(History::RanBeforeByWaiver),
    ]
}

/// The records of the images of a promotion.
fn records(history: History, promotion: &Promotion) -> Records {
    let policies = || -> BTreeSet<String> { (0..3).map(|it| format!("policy-{it}")).collect() };
    let entry = |digest: Option<&Digest>, template: &[u8], days: i64| {
        Arc::new(RecordEntry {
            digest: digest.cloned(),
            workload: promotion.change.workload.clone(),
            uid: None,
            template: Digest::sha256(template),
            observed: true,
            running: true,
            complied: policies(),
            by: match history {
                History::RanBeforeByWaiver => AdmittedBy::Waiver,
                _ => AdmittedBy::Policy,
            },
            environments: BTreeSet::from(["production".to_owned()]),
            ages_judged: policies(),
            source: None,
            at: promotion.at - SignedDuration::from_hours(24 * days),
        })
    };
    let each = promotion.pins.iter().map(|pin| match history {
        History::None | History::Unrecorded => ImageRecords::default(),
        _ => ImageRecords {
            entries: vec![entry(pin.digest(), TEMPLATE, 3)],
            environments: match history {
                History::RanBeforeByWaiver => BTreeSet::new(),
                _ => BTreeSet::from(["production".to_owned()]),
            },
            ages_judged: match history {
                History::RanBeforeByWaiver => BTreeSet::new(),
                _ => policies(),
            },
            ..ImageRecords::default()
        },
    });
    let images: Vec<_> = each.collect();
    let own = images.iter().flat_map(|image| &image.entries).cloned();
    let other = matches!(history, History::RanBefore | History::RanBeforeByWaiver);
    let other = other.then(|| entry(Some(&digest("v2")), b"v2", 1));
    Records {
        workload: own.chain(other).collect(),
        images,
        has_baseline: true,
    }
}

const TEMPLATE: &[u8] = b"template";

pub fn revocation() -> Revocation {
    Revocation {
        name: "revoked".to_owned(),
        reason: "it leaks".to_owned(),
    }
}

/// A rejection by somebody who may approve, later than every approval.
pub fn rejection() -> KeptRejection {
    KeptRejection {
        name: "by-ben".to_owned(),
        environment: "production".to_owned(),
        namespace: None,
        emergency: None,
        is_closure: false,
        person: "ben".to_owned(),
        at: Timestamp::now(),
        reason: None,
    }
}

/// What documents of two signers take back: one that cannot be read, and one about every package.
pub fn taken_back() -> Vec<KeptVex> {
    let now = Some(Timestamp::now());
    let kept = |by: &str, id: Option<&str>| KeptVex {
        name: by.to_owned(),
        signer: KeptSigner::Keyless {
            issuer: ISSUER.to_owned(),
            identity: format!("{by}@example.com"),
        },
        statements: vec![KeptVexStatement::new(id.map(str::to_owned), [], now, None)],
    };
    vec![kept("release", None), kept("build", Some("CVE-2026-9"))]
}

/// Now and then, one of the images.
fn one_of_images() -> impl Strategy<Value = Option<&'static str>> {
    prop::option::weighted(0.1, select(IMAGES.to_vec()))
}

pub fn world() -> impl Strategy<Value = World> {
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
        (
            collected(freezes()),
            history(),
            one_of_images(),
            one_of_images(),
            incidents(),
        ),
    )
        .prop_map(
            move |(
                images,
                chosen,
                specs,
                labels,
                unreadable,
                ungoverned,
                evidence,
                indexes,
                (freezes, history, revoked, rejected, incidents),
            )| {
                let (written, pins): (Vec<_>, Vec<_>) =
                    chosen.iter().map(|index| images[*index].clone()).unzip();
                let mut promotion = promotion(&written);
                promotion.pins = pins;
                promotion.change.object.template = Some(Digest::sha256(TEMPLATE));
                promotion.change.object.before = Some(Digest::sha256(match history {
                    History::RanBefore | History::RanBeforeByWaiver => b"v2",
                    _ => TEMPLATE,
                }));
                if history != History::None {
                    promotion.records = Collected::Known(records(history, &promotion));
                }
                let policies = specs
                    .iter()
                    .enumerate()
                    .map(|(index, spec)| FACTS.policy(&format!("policy-{index}"), spec))
                    .collect();
                let mut snapshot = snapshot(policies);
                snapshot.world.people = Collected::Known(PEOPLE.clone());
                snapshot.world.freezes = freezes;
                snapshot.ungoverned = ungoverned;
                let revoked = revoked.map(|name| (digest(name), revocation()));
                snapshot.world.revocations = revoked.into_iter().collect();
                let rejected = rejected.map(|name| (digest(name), vec![rejection()]));
                snapshot.world.rejections = rejected.into_iter().collect();
                if let Some(labels) = labels {
                    snapshot.world.namespaces.insert("shop".to_owned(), labels);
                }
                snapshot.unreadable = unreadable
                    .into_iter()
                    .map(|source| Unreadable {
                        source: source.to_owned(),
                        why: "cut".to_owned(),
                        namespaces: Default::default(),
                    })
                    .collect();
                World {
                    promotion,
                    snapshot,
                    evidence: Evidence {
                        images: subjects.iter().cloned().zip(evidence).collect(),
                        indexes: IMAGES.map(image).into_iter().zip(indexes).collect(),
                        incidents,
                        ..Evidence::default()
                    },
                }
            },
        )
}
