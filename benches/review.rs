//! What a review costs when everything is known, and what verifying a bundle costs beside the library alone.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use promotion_gate::admission::{Understood, understand};
use promotion_gate::api;
use promotion_gate::collect::{CacheSizes, CollectLimits, Collector};
use promotion_gate::oci::{Client, ClientOptions};
use promotion_gate::review::{ReviewInputs, review};
use promotion_gate::sandbox::registry::SandboxRegistryOptions;
use promotion_gate::sandbox::{
    Identity, SandboxRegistry, SandboxSigner, Sigstore, admission_review, attach_bundle, push_image,
};
use promotion_gate_core::attest::{Anchor, Material, TrustRoot, verify};
use promotion_gate_core::gate::{Change, Decision, Digest, Snapshot, World};
use serde_json::json;
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Bundle, Sha256Hash};
use sigstore_verify::{VerificationPolicy, Verifier};

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
    identity: Identity,
}

impl Bench {
    fn new() -> Bench {
        let sigstore = Sigstore::create().unwrap();
        let json = sigstore.trusted_root().to_string();
        Bench {
            root: Arc::new(TrustRoot::parse("sandbox", json.as_bytes()).unwrap()),
            identity: Identity::new("release@example.com", "https://issuer.example"),
            sigstore,
        }
    }

    fn bundle(&self, digest: &Digest) -> String {
        let signer = SandboxSigner::Identity(&self.identity);
        let signing = self.sigstore.signing();
        let bundle = signing.sign(signer, digest, &BTreeMap::new()).unwrap();
        bundle.to_string()
    }
}

/// Three images under two policies, everything in memory.
fn warm_review(criterion: &mut Criterion) {
    let bench = Bench::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let options = SandboxRegistryOptions::default();
    let registry = runtime.block_on(SandboxRegistry::start(options)).unwrap();
    let images: Vec<_> = (0..3)
        .map(|n| {
            let digest = push_image(&registry, "app", &format!("v{n}"), &n.to_string()).unwrap();
            let bundle = serde_json::from_str(&bench.bundle(&digest)).unwrap();
            attach_bundle(&registry, "app", &digest, &bundle).unwrap();
            json!({"name": format!("c{n}"), "image": format!("{}/app@{digest}", registry.host())})
        })
        .collect();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": images}}},
    });
    let body = admission_review("uid", deployment).to_string();
    let roots = BTreeMap::from([("sandbox".to_owned(), Arc::clone(&bench.root))]);
    let set = api::load(
        &[("p.yaml".to_owned(), POLICIES.as_bytes().to_vec())],
        &roots,
    );
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    let snapshot = Arc::new(Snapshot {
        policies: set.policies,
        world: World {
            trust_roots: roots,
            ..World::default()
        },
        ..Snapshot::default()
    });
    let client = Arc::new(Client::new(ClientOptions::default()).unwrap());
    let collector = Collector::new(client, CollectLimits::default(), CacheSizes::default());
    let inputs = ReviewInputs {
        snapshot,
        collector: Arc::new(collector),
        deadline: tokio::time::Instant::now() + Duration::from_secs(3600),
        audit_only: false,
    };
    let once = || async {
        let verdict = review(change(&body), &inputs, Timestamp::now())
            .await
            .verdict;
        assert_eq!(verdict.decision(), Decision::Allow);
    };
    runtime.block_on(once());
    assert!(!registry.take_requests().is_empty());
    criterion.bench_function("warm review, 3 images, 2 policies", |bencher| {
        bencher.iter(|| runtime.block_on(once()));
    });
    assert!(registry.take_requests().is_empty());
    criterion.bench_function("reading the AdmissionReview alone", |bencher| {
        bencher.iter(|| change(black_box(&body)));
    });
}

fn change(body: &str) -> Change {
    match understand(body.as_bytes()).unwrap().understood {
        Understood::Change(change) => Some(*change),
        Understood::NotOurs(_) => None,
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

criterion_group!(benches, warm_review, bundle_verification);
criterion_main!(benches);
