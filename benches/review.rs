//! What a review costs when everything is known, with and without approvals and emergency changes, and what verifying a bundle costs beside the library
//! alone.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on fails"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use promotion_gate::admission::{Understood, understand};
use promotion_gate::api;
use promotion_gate::collect::{CacheSizes, CollectLimits, Collector};
use promotion_gate::oci::{Client, ClientOptions};
use promotion_gate::review::{ReviewInputs, review};
use promotion_gate::sandbox::registry::SandboxRegistryOptions;
use promotion_gate::sandbox::{
    SandboxIdentity, SandboxRegistry, SandboxSigner, Sigstore, admission_review, attach_bundle,
    push_image,
};
use promotion_gate_core::attest::{Anchor, Material, TrustRoot, Verified, verify};
use promotion_gate_core::gate::{
    Change, Collected, Decision, Digest, Evidence, EvidenceSource, ImageEvidence, ImageReference,
    Pin, Promotion, Records, Snapshot, World, judge,
};
use serde_json::{Value, json};
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Bundle, Sha256Hash};
use sigstore_verify::{VerificationPolicy, Verifier};
use tokio::runtime::Runtime;

/// The same allocator as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const POLICIES: &str = r#"
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: one}
spec:
  requirements:
  - digestPinned: {}
  - allowedImages: {patterns: ["127.0.0.1:*/**"]}
  - signature: {anyOf: [{keyless: {issuer: "https://issuer.example", identity: {glob: "release@*"}, trustRoots: [sandbox]}}]}
---
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: two}
spec:
  requirements:
  - digestPinned: {}
  - signature: {anyOf: [{keyless: {issuer: "https://issuer.example", identity: release@example.com, trustRoots: [sandbox]}}]}
"#;

struct Bench {
    sigstore: Sigstore,
    root: Arc<TrustRoot>,
    identity: SandboxIdentity,
}

impl Bench {
    fn new() -> Bench {
        let sigstore = Sigstore::create().unwrap();
        let json = sigstore.trusted_root().to_string();
        Bench {
            root: Arc::new(TrustRoot::parse("sandbox", json.as_bytes()).unwrap()),
            identity: SandboxIdentity::new("release@example.com", "https://issuer.example"),
            sigstore,
        }
    }

    fn bundle(&self, digest: &Digest) -> String {
        let signer = SandboxSigner::Identity(&self.identity);
        let signing = self.sigstore.signing();
        let bundle = signing.sign(signer, digest, &BTreeMap::new()).unwrap();
        bundle.to_string()
    }

    fn attest(&self, by: &SandboxIdentity, image: &Digest, kind: &str, predicate: &Value) -> Value {
        let signer = SandboxSigner::Identity(by);
        let signing = self.sigstore.signing();
        signing.attest(signer, image, kind, predicate).unwrap()
    }

    /// An approval by the person `p` and a number.
    fn approval(&self, image: &Digest, n: usize) -> Value {
        let by = SandboxIdentity::new(format!("p{n}@example.com"), ISSUER);
        let kind = "https://promotion-gate.dev/approval/v1";
        let predicate = json!({"environment": "production", "decision": "approved"});
        self.attest(&by, image, kind, &predicate)
    }

    /// Provenance of an isolated builder, which names who started the build.
    fn provenance(&self, image: &Digest) -> Value {
        let text = include_str!("../tests/cases/predicates/generator.json");
        let claims = [
            (9, BUILDER),
            (11, "github-hosted"),
            (12, "https://github.com/example/app"),
            (13, "1111111111111111111111111111111111111111"),
            (14, "refs/heads/main"),
            (15, "4242"),
            (17, "77"),
            (20, "push"),
        ];
        let by = claims.iter().fold(
            SandboxIdentity::new(BUILDER, ISSUER),
            |identity, (arc, value)| identity.with_claim(*arc, *value),
        );
        let kind = "https://slsa.dev/provenance/v0.2";
        self.attest(&by, image, kind, &serde_json::from_str(text).unwrap())
    }

    /// What counts: policies and people, and the trust root.
    fn snapshot(&self, documents: &str) -> Snapshot {
        let roots = BTreeMap::from([("sandbox".to_owned(), Arc::clone(&self.root))]);
        let set = api::load(
            &[("p.yaml".to_owned(), documents.as_bytes().to_vec())],
            &roots,
        );
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        let people = set.people.map(Collected::Known);
        let schedule = api::schedule(set.freezes, &api::FeedStates::new(), Timestamp::now());
        Snapshot {
            policies: set.policies,
            world: World {
                trust_roots: roots,
                people: people.unwrap_or_else(|| World::default().people),
                freezes: Collected::Known(Arc::new(schedule)),
                ..World::default()
            },
            ..Snapshot::default()
        }
    }
}

/// A registry, a gate, and a Deployment of three images in it.
struct Deployed {
    registry: SandboxRegistry,
    inputs: ReviewInputs,
    body: String,
}

impl Deployed {
    /// Policies and people, and what is attached to each image. It was reviewed once, so everything is in memory.
    async fn new(
        bench: &Bench,
        documents: &str,
        attached: impl Fn(&Digest) -> Vec<Value>,
    ) -> Deployed {
        let options = SandboxRegistryOptions::default();
        let registry = SandboxRegistry::start(options).await.unwrap();
        let images: Vec<_> = (0..3)
            .map(|n| {
                let digest =
                    push_image(&registry, "app", &format!("v{n}"), &n.to_string()).unwrap();
                for bundle in attached(&digest) {
                    attach_bundle(&registry, "app", &digest, &bundle).unwrap();
                }
                let image = format!("{}/app@{digest}", registry.host());
                json!({"name": format!("c{n}"), "image": image})
            })
            .collect();
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"template": {"spec": {"containers": images}}},
        });
        let client = Arc::new(Client::new(ClientOptions::default()).unwrap());
        let limits = CollectLimits {
            recent: Duration::from_secs(3600),
            ..CollectLimits::default()
        };
        let collector = Collector::new(client, limits, CacheSizes::default());
        let deployed = Deployed {
            registry,
            inputs: ReviewInputs {
                snapshot: Arc::new(bench.snapshot(documents)),
                collector: Arc::new(collector),
                records: None,
                incidents: None,
                deadline: tokio::time::Instant::now() + Duration::from_secs(3600),
                audit_only: false,
            },
            body: admission_review("uid", deployment).to_string(),
        };
        deployed.review().await;
        assert!(!deployed.registry.take_requests().is_empty());
        deployed
    }

    async fn review(&self) {
        let now = Timestamp::now();
        let verdict = review(change(&self.body), &self.inputs, now).await.verdict;
        assert_eq!(verdict.decision(), Decision::Allow, "{verdict:?}");
    }

    /// Measures reviews that read nothing from the registry.
    fn measure(&self, criterion: &mut Criterion, runtime: &Runtime, name: &str) {
        self.measure_by(runtime, |routine| {
            criterion.bench_function(name, |bencher| bencher.iter(routine));
        });
    }

    /// The same as a part of a group, whose parts are compared.
    fn measure_in(&self, group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, name: &str) {
        self.measure_by(runtime, |routine| {
            group.bench_function(name, |bencher| bencher.iter(routine));
        });
    }

    /// The same where a review of `other` comes before each one that is measured. A gate does not review one change again and again: the
    /// caches of the processor hold what the previous review left there.
    fn measure_after(
        &self,
        other: &Deployed,
        group: &mut BenchmarkGroup<'_, WallTime>,
        runtime: &Runtime,
        name: &str,
    ) {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut taken = Duration::ZERO;
                for _ in 0..iterations {
                    runtime.block_on(other.review());
                    let begun = Instant::now();
                    runtime.block_on(self.review());
                    taken += begun.elapsed();
                }
                taken
            });
        });
        assert!(self.registry.take_requests().is_empty());
        assert!(other.registry.take_requests().is_empty());
    }

    fn measure_by(&self, runtime: &Runtime, measure: impl FnOnce(&dyn Fn())) {
        measure(&|| runtime.block_on(self.review()));
        assert!(self.registry.take_requests().is_empty());
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().unwrap()
}

/// Three images under two policies, everything in memory.
fn warm_review(criterion: &mut Criterion) {
    let bench = Bench::new();
    let runtime = runtime();
    let signature = |digest: &Digest| vec![serde_json::from_str(&bench.bundle(digest)).unwrap()];
    let deployed = runtime.block_on(Deployed::new(&bench, POLICIES, signature));
    deployed.measure(criterion, &runtime, "warm review, 3 images, 2 policies");
    criterion.bench_function("reading the AdmissionReview alone", |bencher| {
        bencher.iter(|| change(black_box(&deployed.body)));
    });
}

const ISSUER: &str = "https://issuer.example";
const BUILDER: &str =
    "https://github.com/example/builders/.github/workflows/build.yml@refs/tags/v1.4.0";
const ENVIRONMENT: &str = r#"
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: production}
spec:
  environment: production
  requirements:
  - digestPinned: {}
  - signature: {anyOf: [{keyless: {issuer: "https://issuer.example", identity: release@example.com, trustRoots: [sandbox]}}]}
  - provenance: {builders: [{id: {glob: "https://github.com/example/builders/**"}, signedBy: {keyless: {issuer: "https://issuer.example", identity: {glob: "https://github.com/example/builders/**"}, trustRoots: [sandbox]}}}], sources: ["https://github.com/example/app"]}
"#;
const APPROVALS: &str = r#"
  - approvals: {from: [{group: g0, count: 2}, {group: g1, count: 2}, {person: p4}], authorsFrom: [{provenance: {builders: [{id: {glob: "https://github.com/example/builders/**"}, signedBy: {keyless: {issuer: "https://issuer.example", identity: {glob: "https://github.com/example/builders/**"}, trustRoots: [sandbox]}}}]}}], trustRoots: [sandbox]}
"#;

const EMERGENCY: &str = "
  emergency:
    from: [{group: g0}, {group: g1}]
    waives: [noFreeze, signature, provenance]
    trustRoots: [sandbox]
";

/// People `p0` and so on, all of them in every one of the groups `g0` and so on, and who starts builds.
fn people(count: usize, groups: usize) -> String {
    let person = |n| json!({"name": format!("p{n}"), "identities": [{"certificate": {"issuer": ISSUER, "email": format!("p{n}@example.com")}}]});
    let author = json!({"name": "octocat", "identities": [{"github": {"login": "octocat"}}]});
    let members: Vec<_> = (0..count).map(|n| format!("p{n}")).collect();
    let group = |n| json!({"name": format!("g{n}"), "members": members});
    let document = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PeopleDirectory", "metadata": {"name": "all"},
        "spec": {
            "people": (0..count).map(person).chain([author]).collect::<Vec<_>>(),
            "groups": (0..groups).map(group).collect::<Vec<_>>(),
        },
    });
    format!("\n---\n{document}\n")
}

/// A signature and provenance for each of three images, with and without five approvals that fill five seats.
fn warm_review_with_approvals(criterion: &mut Criterion) {
    let bench = Bench::new();
    let runtime = runtime();
    let evidence = |digest: &Digest| {
        let signature = serde_json::from_str(&bench.bundle(digest)).unwrap();
        vec![signature, bench.provenance(digest)]
    };
    let people = people(5, 2);
    let documents = format!("{ENVIRONMENT}{people}");
    let without = runtime.block_on(Deployed::new(&bench, &documents, evidence));
    let approved = |digest: &Digest| {
        let approvals = (0..5).map(|n| bench.approval(digest, n));
        evidence(digest).into_iter().chain(approvals).collect()
    };
    let documents = format!("{ENVIRONMENT}{APPROVALS}{people}");
    let with = runtime.block_on(Deployed::new(&bench, &documents, approved));
    let name = "warm review, 3 images, signature and provenance";
    without.measure(criterion, &runtime, name);
    with.measure(criterion, &runtime, &format!("{name}, 5 approvals each"));
}

/// A signature and provenance for each of three images, with and without `noFreeze` over ten freezes that begin later.
fn warm_review_with_freezes(criterion: &mut Criterion) {
    let bench = Bench::new();
    let runtime = runtime();
    let evidence = |digest: &Digest| {
        let signature = serde_json::from_str(&bench.bundle(digest)).unwrap();
        vec![signature, bench.provenance(digest)]
    };
    let now = Timestamp::now();
    let freeze = |n: i64| {
        let start = now + SignedDuration::from_hours(24 * (n + 2));
        let window = json!({"from": start, "until": start + SignedDuration::from_hours(8)});
        let document = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "ChangeFreeze",
            "metadata": {"name": format!("freeze-{n}")},
            "spec": {"environments": ["production"], "reason": "later", "windows": [window]},
        });
        format!("---\n{document}\n")
    };
    let freezes: String = (0..10).map(freeze).collect();
    let documents = format!("{ENVIRONMENT}  - noFreeze: {{warnBefore: 24h}}\n{freezes}");
    let without = runtime.block_on(Deployed::new(&bench, ENVIRONMENT, evidence));
    let with = runtime.block_on(Deployed::new(&bench, &documents, evidence));
    let name = "warm review, 3 images, signature and provenance";
    without.measure(criterion, &runtime, &format!("{name}, without noFreeze"));
    with.measure(
        criterion,
        &runtime,
        &format!("{name}, noFreeze over 10 freezes"),
    );
}

/// Three images that the policy allows, with and without a section `emergency`, in one group, where no emergency change is declared: the
/// section may cost 2 % at most. The two alternate, so that what else the machine does meets both.
fn warm_review_with_emergencies(criterion: &mut Criterion) {
    let bench = Bench::new();
    let runtime = runtime();
    let evidence = |digest: &Digest| {
        let signature = serde_json::from_str(&bench.bundle(digest)).unwrap();
        vec![signature, bench.provenance(digest)]
    };
    let people = people(5, 2);
    let documents = format!("{ENVIRONMENT}  - noFreeze: {{}}\n");
    let without = format!("{documents}{people}");
    let with = format!("{documents}{EMERGENCY}{people}");
    let without = runtime.block_on(Deployed::new(&bench, &without, evidence));
    let with = runtime.block_on(Deployed::new(&bench, &with, evidence));
    let mut group = criterion.benchmark_group("warm review, 3 images, no emergency change");
    for round in 1..=3 {
        let name = |section: &str| format!("{section} `emergency`, round {round}");
        without.measure_in(&mut group, &runtime, &name("without a section"));
        with.measure_in(&mut group, &runtime, &name("with a section"));
    }
    group.finish();
}

/// What a strict policy asks for besides signature and provenance, where a canary is not used.
const EVERY_RULE: &str = r#"
  - allowedImages: {patterns: ["127.0.0.1:*/**"]}
  - vulnerabilities: {maximumSeverity: Medium, maximumAge: 24h, signedBy: {keyless: {issuer: "https://issuer.example", identity: scan@example.com, trustRoots: [sandbox]}}, exceptions: [{id: CVE-2026-1234, until: "2200-12-31", reason: not used}]}
  - sbom: {formats: [spdx, cyclonedx], signedBy: {keyless: {issuer: "https://issuer.example", identity: release@example.com, trustRoots: [sandbox]}}}
  - approvals: {from: [{group: g0, count: 1}, {group: g1, count: 1}], maximumAge: 7d, trustRoots: [sandbox], authorsFrom: [{provenance: {builders: [{id: {glob: "https://github.com/example/builders/**"}, signedBy: {keyless: {issuer: "https://issuer.example", identity: {glob: "https://github.com/example/builders/**"}, trustRoots: [sandbox]}}}]}}, {changeRecord: {signedBy: {keyless: {issuer: "https://issuer.example", identity: recorder@example.com, trustRoots: [sandbox]}}}}]}
  - noFreeze: {}
  - attestation: {predicateType: "https://in-toto.io/attestation/test-result/v0.1", signedBy: {keyless: {issuer: "https://issuer.example", identity: release@example.com, trustRoots: [sandbox]}}, expression: "predicate.result == 'PASSED'"}
  - expression: {rule: "workload.kind == 'Deployment' && images.all(i, i.repository.startsWith('127.0.0.1'))"}
"#;

/// A signature and twenty statements for each of three images, with every rule and with `signature` and `provenance` alone. The two
/// alternate, so that what else the machine does meets both.
fn warm_review_with_every_rule(criterion: &mut Criterion) {
    const SCAN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
    let bench = Bench::new();
    let runtime = runtime();
    let template = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut trivy = template(include_str!("../tests/cases/predicates/trivy.json"));
    trivy["scanner"]["result"]["Metadata"] = json!({});
    let mut grype = template(include_str!("../tests/cases/predicates/grype.json"));
    grype["scanner"]["result"]["source"]["target"] = json!("");
    let spdx = template(include_str!("../tests/cases/predicates/spdx.json"));
    let author = json!({"github": {"login": "octocat"}});
    let commit = "1111111111111111111111111111111111111111";
    let change = json!({
        "repository": {"uri": "https://github.com/example/app", "id": "4242"},
        "from": "2222222222222222222222222222222222222222", "to": commit, "complete": true, "unknownAuthors": [],
        "commits": [{"sha": commit, "authors": [author]}],
        "authors": [{"identity": author, "role": "opened", "pullRequest": 12}],
        "reviewers": [], "pullRequests": [], "reason": "Adds invoices",
    });
    let tested = |n: usize| json!({"result": "PASSED", "url": format!("https://ci.example/{n}")});
    let test_result = "https://in-toto.io/attestation/test-result/v0.1";
    let evidence = |digest: &Digest| {
        let by = |name: &str, kind: &str, predicate: &Value| {
            let by = SandboxIdentity::new(format!("{name}@example.com"), ISSUER);
            bench.attest(&by, digest, kind, predicate)
        };
        let mut all = vec![
            serde_json::from_str(&bench.bundle(digest)).unwrap(),
            bench.provenance(digest),
            by("scan", SCAN, &grype),
            by("release", "https://spdx.dev/Document", &spdx),
            by("recorder", "https://promotion-gate.dev/change/v1", &change),
        ];
        all.extend((0..4).map(|_| by("scan", SCAN, &trivy)));
        all.extend((0..2).map(|n| bench.approval(digest, n)));
        all.extend((0..10).map(|n| by("release", test_result, &tested(n))));
        assert_eq!(all.len(), 21);
        all
    };
    let people = people(5, 2);
    let few = format!("{ENVIRONMENT}{people}");
    let every = format!("{ENVIRONMENT}{EVERY_RULE}{people}");
    let few = runtime.block_on(Deployed::new(&bench, &few, evidence));
    let every = runtime.block_on(Deployed::new(&bench, &every, evidence));
    let mut group = criterion.benchmark_group("warm review, 3 images, 20 statements each");
    for round in 1..=3 {
        let name = |rules: &str, how: &str| format!("{rules}, {how}, round {round}");
        let few_rules = "signature and provenance";
        few.measure_in(&mut group, &runtime, &name(few_rules, "again and again"));
        every.measure_in(&mut group, &runtime, &name("every rule", "again and again"));
        few.measure_after(&every, &mut group, &runtime, &name(few_rules, "in turns"));
        every.measure_after(&few, &mut group, &runtime, &name("every rule", "in turns"));
    }
    group.finish();
}

/// The judgement of an image with fifty approvals, by a rule with twenty seats.
fn many_seats(criterion: &mut Criterion) {
    let bench = Bench::new();
    let image = Digest::sha256(b"image");
    let anchor = Anchor::Root(Arc::clone(&bench.root));
    let mut evidence = ImageEvidence::default();
    for n in 0..50 {
        let bundle = bench.approval(&image, n).to_string().into_bytes();
        let Ok(Verified::Statement(statement)) = verify(&Material::Bundle(bundle), &image, &anchor)
        else {
            unreachable!("an attestation is a statement");
        };
        let source = EvidenceSource(format!("referrer {n}"));
        evidence.statements.push((source, Arc::new(statement)));
    }
    let mut group = criterion.benchmark_group("50 approvals over 20 seats");
    for (name, wait) in [("", ""), (", a waiting time", ", minimumAge: 1s")] {
        let from: Vec<_> = (0..10)
            .map(|n| format!("{{group: g{n}, count: 2}}"))
            .collect();
        let documents = format!(
            "{SEATS}      from: [{}]{}\n{}",
            from.join(", "),
            wait.replace(", ", "\n      "),
            people(50, 10)
        );
        let snapshot = bench.snapshot(&documents);
        let reference: ImageReference = format!("registry.example/app@{image}").parse().unwrap();
        let body = admission_review(
            "uid",
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"containers": [{"name": "web", "image": reference.to_string()}]},
            }),
        );
        let pin = Pin::Written(image.clone());
        let subject = pin.subject(&reference).unwrap();
        let later = Timestamp::now() + Duration::from_secs(60);
        let promotion = Promotion::new(
            change(&body.to_string()),
            vec![pin],
            Records::not_kept(),
            &[],
            later,
        );
        let evidence = Evidence {
            images: [(subject, Collected::Known(Arc::new(evidence.clone())))].into(),
            ..Evidence::default()
        };
        let governing = snapshot.governing(&promotion.change);
        group.bench_function(format!("judged{name}"), |bencher| {
            bencher.iter(|| {
                let verdict = judge(&promotion, black_box(&evidence), &governing);
                assert_eq!(verdict.decision(), Decision::Allow, "{verdict:?}");
            });
        });
    }
    group.finish();
}

const SEATS: &str = "
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: seats}
spec:
  environment: production
  uncovered: Allow
  tags: Resolve
  requirements:
  - approvals:
      differentFromAuthor: false
      trustRoots: [sandbox]
";

fn change(body: &str) -> Change {
    match understand(body.as_bytes(), &[]).unwrap().understood {
        Understood::Change(change) => Some(*change),
        Understood::Governance(_) | Understood::Refers(_) | Understood::NotOurs(_) => None,
    }
    .unwrap()
}

/// One keyless bundle, from its bytes to the fact, and the same by the library alone.
fn bundle_verification(criterion: &mut Criterion) {
    let bench = Bench::new();
    let digest = Digest::sha256(b"image");
    let bundle = bench.bundle(&digest);
    let anchor = Anchor::Root(Arc::clone(&bench.root));
    let material = Material::Bundle(bundle.clone().into_bytes());
    let mut group = criterion.benchmark_group("a keyless bundle");
    group.bench_function("verified by the gate", |bencher| {
        bencher.iter(|| verify(black_box(&material), &digest, &anchor).unwrap());
    });
    let root = TrustedRoot::from_json(&bench.sigstore.trusted_root().to_string()).unwrap();
    let verifier = Verifier::new(&root).unwrap();
    let hash = Sha256Hash::from_hex(digest.hex()).unwrap();
    group.bench_function("verified by the library alone", |bencher| {
        bencher.iter(|| {
            let bundle = Bundle::from_json(black_box(&bundle)).unwrap();
            verifier
                .verify(hash, &bundle, &VerificationPolicy::any_identity())
                .unwrap()
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    warm_review,
    warm_review_with_approvals,
    warm_review_with_freezes,
    warm_review_with_emergencies,
    warm_review_with_every_rule,
    many_seats,
    bundle_verification
);
criterion_main!(benches);
