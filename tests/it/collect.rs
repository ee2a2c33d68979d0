//! What a review reads of hostile and failing registries: how much, for how long, how often; and what it makes of the rest.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use promotion_gate::collect::{CacheSizes, CollectLimits, Collector, Freshness};
use promotion_gate::oci::{
    Attached, Descriptor, ErrorKind, Layer, Manifest, Memory, Reference, Registry, RegistryError,
    Repository, Via,
};
use promotion_gate::sandbox::SandboxKey;
use promotion_gate_core::attest::Anchor;
use promotion_gate_core::gate::{
    Age, Collected, Decision, Digest, Directory, Group, ImageEvidence, ImageNeeds, Member, People,
    Person, Policy, Subject, Validity,
};
use serde_json::{Value, json};
use tokio::time::{Instant, advance};

use crate::facts::{FACTS, ISSUER, signed_by};
use crate::gate::Gate;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A registry in memory that counts what it is asked for, and of which places can fail.
#[derive(Default)]
struct Counting {
    memory: Mutex<Memory>,
    failing: Mutex<Vec<Via>>,
    /// Whether every listing is cut off.
    cuts: AtomicBool,
    /// Whether look-ups are answered by something other than a registry, beside one that is.
    is_odd: AtomicBool,
    /// Whether look-ups are never answered.
    hangs: AtomicBool,
    look_ups: AtomicUsize,
    blobs: AtomicUsize,
}

impl Counting {
    fn attach(&self, image: &Image, via: Via, layers: Vec<Layer>) {
        let mut memory = self.memory.lock().unwrap();
        memory
            .attach(&image.repository, &image.digest, via, layers)
            .unwrap();
    }

    fn fail(&self, places: impl IntoIterator<Item = Via>) {
        *self.failing.lock().unwrap() = places.into_iter().collect();
    }

    /// How often a place was looked up since this was last asked.
    fn look_ups(&self) -> usize {
        self.look_ups.swap(0, Ordering::Relaxed)
    }

    fn read<T>(&self, read: impl AsyncFnOnce(&Memory) -> T) -> T {
        let memory = self.memory.lock().unwrap();
        read(&memory).now_or_never().unwrap()
    }
}

impl Registry for Counting {
    fn resolve<'a>(
        &'a self,
        repository: &'a Repository,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Descriptor, RegistryError>> {
        let found = self.read(async |memory| memory.resolve(repository, reference).await);
        async { found }.boxed()
    }

    fn manifest<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, RegistryError>> {
        let found = self.read(async |memory| memory.manifest(repository, digest).await);
        async { found }.boxed()
    }

    fn blob<'a>(
        &'a self,
        repository: &'a Repository,
        descriptor: &'a Descriptor,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, RegistryError>> {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        let found = self.read(async |memory| memory.blob(repository, descriptor, limit).await);
        async { found }.boxed()
    }

    fn attached_in<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
        place: Via,
    ) -> BoxFuture<'a, Attached> {
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        let all = self.read(async |memory| memory.attached(repository, digest).await);
        let mut found = Attached::default();
        if self.failing.lock().unwrap().contains(&place) {
            let error = RegistryError::new(ErrorKind::RateLimited, place.to_string(), "too many");
            found.unavailability.push(error);
        } else {
            let all = all.listing.into_iter();
            found.listing = all.filter(|item| item.via == place).collect();
        }
        if self.is_odd.load(Ordering::Relaxed) {
            let error = RegistryError::new(ErrorKind::Unavailable, place.to_string(), "a web page");
            found.unsupported.push(error);
            found.answered = true;
        }
        if self.cuts.load(Ordering::Relaxed) {
            found.cut = Some("there is more".to_owned());
        }
        if self.hangs.load(Ordering::Relaxed) {
            return pending().boxed();
        }
        async { found }.boxed()
    }

    fn credential_id(&self, _: &Repository) -> String {
        String::new()
    }
}

/// An image that exists by its digest alone.
struct Image {
    repository: Repository,
    digest: Digest,
}

impl Image {
    fn new(host: &str) -> Image {
        Image {
            repository: Repository::new(host, "app"),
            digest: Digest::sha256(host.as_bytes()),
        }
    }

    fn reference(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
}

fn bundle(json: &Value) -> Layer {
    Layer {
        media_type: BUNDLE.to_owned(),
        bytes: json.to_string().into_bytes(),
        annotations: BTreeMap::new(),
    }
}

fn junk(name: &str, bytes: usize) -> Layer {
    bundle(&json!({name: "x".repeat(bytes)}))
}

fn signature(image: &Image) -> Layer {
    bundle(&FACTS.bundle(&image.digest, "release"))
}

fn policy(enforcement: &str) -> Policy {
    let spec = json!({
        "enforcement": enforcement, "tags": "Resolve",
        "requirements": [signed_by("release@example.com")],
    });
    FACTS.policy("signed", &spec)
}

fn gate(registry: &Arc<Counting>, limits: CollectLimits) -> Gate {
    let registry = Arc::clone(registry) as Arc<dyn Registry>;
    let mut gate = Gate::new(policy("Enforce"));
    gate.collector = Arc::new(Collector::new(registry, limits, CacheSizes::default()));
    gate
}

async fn reason(gate: &Gate, image: &Image) -> String {
    let (_, reason) = gate.says("signature", &image.reference()).await;
    reason
}

fn crowd(registry: &Counting, image: &Image, manifests: usize, layers: usize, bytes: usize) {
    for m in 0..manifests {
        let layers = (0..layers).map(|l| junk(&format!("{m}-{l}"), bytes));
        registry.attach(image, Via::Referrers, layers.collect());
    }
}

#[tokio::test]
async fn a_crowd_of_junk_costs_a_bounded_review_and_is_undecided() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("hostile.example");
    crowd(&registry, &image, 40, 20, 10);
    let limits = CollectLimits {
        review_pieces: 300,
        review_verifications: 100,
        ..CollectLimits::default()
    };
    let gate = gate(&registry, limits);
    let review = gate.review(&[image.reference()]).await;
    assert!(review.verdict.is_undecided());
    let finding = &review.verdict.policies()[0].findings()[0];
    assert_eq!(finding.reason, "evidence-partial", "{finding:?}");
    assert!(finding.detail.len() < 2000, "{finding:?}");
    let [about] = review.evidence.images.values().collect::<Vec<_>>()[..] else {
        panic!("{:?}", review.evidence.images.keys());
    };
    assert!(
        about.unavailabilities().len() <= 9,
        "{:?}",
        about.unavailabilities()
    );
    let said = about.unavailabilities().iter().map(ToString::to_string);
    let said = said.collect::<Vec<_>>().join("\n");
    assert!(said.contains("than one review reads"), "{said}");
    assert_eq!(registry.blobs.load(Ordering::Relaxed), 100);
}

/// The decision of a review that reads and verifies no more than this.
async fn decision(
    registry: &Arc<Counting>,
    images: [&Image; 2],
    pieces: u64,
    verifications: u64,
) -> Decision {
    let limits = CollectLimits {
        review_pieces: pieces,
        review_verifications: verifications,
        ..CollectLimits::default()
    };
    let images = images.map(Image::reference);
    gate(registry, limits)
        .review(&images)
        .await
        .verdict
        .decision()
}

#[tokio::test]
async fn a_crowd_of_junk_hides_no_signature() {
    let registry = Arc::new(Counting::default());
    let (crowded, other) = (Image::new("a.example"), Image::new("b.example"));
    crowd(&registry, &crowded, 100, 20, 10);
    registry.attach(&crowded, Via::SigTag, vec![signature(&crowded)]);
    registry.attach(&other, Via::Referrers, vec![signature(&other)]);
    let images = [&crowded, &other];
    assert_eq!(decision(&registry, images, 64, 8).await, Decision::Allow);
}

#[tokio::test]
async fn budget_that_one_image_leaves_serves_another_of_the_review() {
    let registry = Arc::new(Counting::default());
    let (crowded, other) = (Image::new("a.example"), Image::new("b.example"));
    registry.attach(&other, Via::Referrers, vec![signature(&other)]);
    let mut layers: Vec<_> = (0..20).map(|n| junk(&n.to_string(), 10)).collect();
    layers.push(signature(&crowded));
    registry.attach(&crowded, Via::Referrers, layers);
    let images = [&crowded, &other];
    assert_eq!(decision(&registry, images, 40, 40).await, Decision::Allow);
}

#[tokio::test]
async fn small_evidence_is_read_before_a_crowd_of_large_junk() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("hostile.example");
    let mut layers: Vec<_> = (0..30).map(|n| junk(&n.to_string(), 1 << 20)).collect();
    layers.push(signature(&image));
    registry.attach(&image, Via::Referrers, layers);
    let limits = CollectLimits {
        review_bytes: 4 << 20,
        ..CollectLimits::default()
    };
    let gate = gate(&registry, limits);
    assert_eq!(reason(&gate, &image).await, "signed");
    assert!(registry.blobs.load(Ordering::Relaxed) <= 3);
}

#[tokio::test]
async fn a_review_past_its_deadline_verifies_nothing_more() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("hostile.example");
    crowd(&registry, &image, 100, 30, 10);
    let gate = gate(&registry, CollectLimits::default());
    gate.review(&[image.reference()]).await;
    let read = registry.blobs.load(Ordering::Relaxed);
    // Under another anchor, for which nothing is known yet.
    let key = json!({"key": {"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"]}});
    let keyed = json!({"tags": "Resolve", "requirements": [{"signature": {"anyOf": [key]}}]});
    let mut gate = gate.under(FACTS.policy("key", &keyed));
    gate.patience = Duration::ZERO;
    let review = gate.review(&[image.reference()]).await;
    assert_eq!(registry.blobs.load(Ordering::Relaxed), read);
    assert!(review.verdict.is_undecided());
    let about = review.evidence.images.values().next().unwrap();
    assert_eq!(about.unavailabilities().len(), 2, "{about:?}");
    let evidence = about.value().unwrap();
    assert!(evidence.unaccepted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_look_up_waits_while_known_evidence_suffices() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    registry.attach(&image, Via::Referrers, vec![signature(&image)]);
    registry.fail([Via::AttTag]);
    let gate = gate(&registry, CollectLimits::default());
    assert_eq!(reason(&gate, &image).await, "signed");
    assert_eq!(registry.look_ups(), 4);
    for _ in 0..10 {
        assert_eq!(reason(&gate, &image).await, "signed");
    }
    assert_eq!(registry.look_ups(), 0);
    // Much later it is asked again, and nothing but it; nobody waits for that.
    advance(Duration::from_secs(2)).await;
    assert_eq!(reason(&gate, &image).await, "signed");
    tokio::task::yield_now().await;
    assert_eq!(registry.look_ups(), 1);
    assert_eq!(reason(&gate, &image).await, "signed");
    assert_eq!(registry.look_ups(), 0);
}

#[tokio::test]
async fn a_partly_verified_image_passes_while_its_registry_is_down() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    registry.attach(&image, Via::SigTag, vec![signature(&image)]);
    registry.fail([Via::Referrers]);
    let gate = gate(&registry, CollectLimits::default());
    assert_eq!(reason(&gate, &image).await, "signed");
    registry.fail(Via::ALL);
    assert_eq!(reason(&gate, &image).await, "signed");
}

#[tokio::test]
async fn no_denial_rests_on_a_look_up_that_failed_before() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    registry.fail([Via::SigTag]);
    let gate = gate(&registry, CollectLimits::default());
    assert_eq!(reason(&gate, &image).await, "evidence-unavailable");
    registry.attach(&image, Via::SigTag, vec![signature(&image)]);
    registry.fail([]);
    assert_eq!(reason(&gate, &image).await, "signed");
}

#[tokio::test]
async fn a_former_listing_counts_until_every_place_answers() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    registry.attach(&image, Via::Referrers, vec![signature(&image)]);
    let gate = gate(&registry, CollectLimits::default());
    assert_eq!(reason(&gate, &image).await, "signed");
    *registry.memory.lock().unwrap() = Memory::default();
    let needs = needs(&image, false);
    let mut found = Vec::new();
    for failing in [&[Via::AttTag][..], &[]] {
        registry.fail(failing.iter().copied());
        let about = gather(&gate, &needs, Freshness::AskedSince(Instant::now())).await;
        found.push(about.value().unwrap().signatures.len());
    }
    assert_eq!(found, [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_audited_image_is_listed_once_a_minute() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    let enforcing = gate(&registry, CollectLimits::default());
    for enforcement in ["Audit", "Warn"] {
        let gate = enforcing.under(policy(enforcement));
        assert_eq!(reason(&gate, &image).await, "unsigned");
        assert_eq!(registry.look_ups(), 4);
        for _ in 0..10 {
            advance(Duration::from_secs(5)).await;
            assert_eq!(reason(&gate, &image).await, "unsigned");
        }
        assert_eq!(registry.look_ups(), 0, "{enforcement}");
        advance(Duration::from_secs(11)).await;
    }
    for _ in 0..3 {
        advance(Duration::from_millis(1)).await;
        assert_eq!(reason(&enforcing, &image).await, "unsigned");
        assert_eq!(registry.look_ups(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn under_audit_only_a_denied_image_is_listed_once_a_minute() {
    for (audit_only, listed_again) in [(true, 0), (false, 4)] {
        let registry = Arc::new(Counting::default());
        let image = Image::new("app.example");
        let mut gate = gate(&registry, CollectLimits::default());
        gate.audit_only = audit_only;
        for listed in [4, listed_again] {
            let said = gate.says("signature", &image.reference()).await;
            assert_eq!(said.1, "unsigned");
            assert_eq!(registry.look_ups(), listed, "{audit_only}");
            advance(Duration::from_secs(30)).await;
        }
        advance(Duration::from_secs(1)).await;
        gate.says("signature", &image.reference()).await;
        assert_eq!(registry.look_ups(), 4, "{audit_only}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_audits_denial_rests_on_a_reading_of_the_last_minute() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    let gate = gate(&registry, CollectLimits::default()).under(policy("Audit"));
    assert_eq!(reason(&gate, &image).await, "unsigned");
    registry.attach(&image, Via::Referrers, vec![signature(&image)]);
    advance(Duration::from_secs(30)).await;
    assert_eq!(reason(&gate, &image).await, "unsigned");
    advance(Duration::from_secs(31)).await;
    assert_eq!(reason(&gate, &image).await, "signed");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down_is_asked_once_a_minute_by_audits() {
    let registry = Arc::new(Counting::default());
    registry.fail(Via::ALL);
    let image = Image::new("app.example");
    let gate = gate(&registry, CollectLimits::default()).under(policy("Audit"));
    for _ in 0..10 {
        assert_eq!(reason(&gate, &image).await, "evidence-unavailable");
        advance(Duration::from_secs(5)).await;
    }
    assert_eq!(registry.look_ups(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_listing_over_a_minute_old_is_refreshed_before_a_denial() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    registry.attach(&image, Via::Referrers, vec![signature(&image)]);
    let gate = gate(&registry, CollectLimits::default());
    let needs = needs(&image, true);
    let is_known = || async {
        let about = gather(&gate, &needs, Freshness::FromCache).await;
        matches!(about, Collected::Known(_))
    };
    assert!(is_known().await);
    assert_eq!(registry.look_ups(), 4);
    advance(Duration::from_secs(59)).await;
    assert!(is_known().await);
    assert_eq!(registry.look_ups(), 0);
    advance(Duration::from_secs(2)).await;
    let known = join_all((0..8).map(|_| is_known())).await;
    assert_eq!(known, [true; 8]);
    assert_eq!(registry.look_ups(), 4);
    registry.fail([Via::AttTag]);
    advance(Duration::from_secs(61)).await;
    assert!(!is_known().await, "a place that failed is not complete");
}

/// What a rule needs to know of an image.
fn needs(image: &Image, can_hurt: bool) -> BTreeMap<Subject, ImageNeeds> {
    let subject = Subject {
        repository: image.repository.clone(),
        digest: image.digest.clone(),
    };
    let root = FACTS.trust_roots().into_values().next().unwrap();
    let anchor = Anchor::Root(root);
    let wanted = ImageNeeds {
        anchors: [(anchor.id(), anchor)].into(),
        platforms: false,
        can_hurt,
        heard: None,
    };
    [(subject, wanted)].into()
}

/// The evidence of the only image.
async fn gather(
    gate: &Gate,
    needs: &BTreeMap<Subject, ImageNeeds>,
    freshness: Freshness,
) -> Collected<Arc<ImageEvidence>> {
    let deadline = Instant::now() + Duration::from_secs(9);
    let mut allowance = gate.collector.allowance(deadline);
    let gathered = gate.collector.gather(needs, freshness, &mut allowance);
    let mut images = gathered.await.evidence.images.into_values();
    images.next().unwrap()
}

/// A gate that asks for the approval of one member of `security-team`, to which alice and bob belong; dave is in no group.
fn approving(registry: &Arc<Counting>) -> Gate {
    approving_with(registry, &[])
}

/// The same, where the group also has members with these keys.
fn approving_with(registry: &Arc<Counting>, keys: &[String]) -> Gate {
    let directory: Directory = {
        let person = |(name, identity): (String, Value)| Person {
            name,
            display_name: None,
            identities: vec![serde_json::from_value(identity).unwrap()],
            validity: Validity::default(),
        };
        let by_email = ["alice", "bob", "dave"].map(|name| {
            let email = format!("{name}@example.com");
            let certificate = json!({"certificate": {"issuer": ISSUER, "email": email}});
            (name.to_owned(), certificate)
        });
        let by_key = keys
            .iter()
            .enumerate()
            .map(|(number, pem)| (format!("key-{number}"), json!({"key": {"pem": pem}})));
        let people: Vec<_> = by_email.into_iter().chain(by_key).map(person).collect();
        let members = people.iter().filter(|person| person.name != "dave");
        let members = members.map(|person| Member {
            person: person.name.clone(),
            validity: Validity::default(),
        });
        Directory {
            groups: vec![Group {
                name: "security-team".to_owned(),
                members: members.collect(),
            }],
            people,
            ..Directory::default()
        }
    };
    let spec = json!({
        "environment": "production", "uncovered": "Allow", "tags": "Resolve", "staleness": "10m",
        "requirements": [{"approvals": {
            "from": [{"group": "security-team"}], "differentFromAuthor": false, "trustRoots": ["sandbox"],
        }}],
    });
    let mut gate = Gate::new(FACTS.policy("approved", &spec));
    gate.collector = Arc::new(Collector::new(
        Arc::clone(registry) as Arc<dyn Registry>,
        CollectLimits::default(),
        CacheSizes::default(),
    ));
    gate.knowing(People::merge(&[directory]).unwrap())
}

/// What a person says of an image; rejections were signed an hour ago, so that an approval is later.
fn word(image: &Image, by: &str, decision: &str) -> Layer {
    let predicate = json!({"environment": "production", "decision": decision});
    let ago = (decision == "rejected").then_some(Age::HOUR);
    Layer {
        media_type: BUNDLE.to_owned(),
        bytes: FACTS.attestation(&image.digest, by, ("approval", predicate), ago),
        annotations: BTreeMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_complete_listing_serves_up_to_the_policys_staleness() {
    let registry = Arc::new(Counting::default());
    let (image, denied) = (Image::new("app.example"), Image::new("denied.example"));
    registry.attach(
        &image,
        Via::Referrers,
        vec![word(&image, "alice@example.com", "approved")],
    );
    registry.attach(
        &denied,
        Via::Referrers,
        vec![word(&denied, "eve@example.com", "approved")],
    );
    let gate = approving(&registry);
    let said = async |image: &Image| gate.says("approvals", &image.reference()).await.1;
    let is_of_before = async || {
        let review = gate.review(&[image.reference()]).await;
        let finding = &review.verdict.policies()[0].findings()[0];
        finding.detail.ends_with("when the registry last answered")
    };
    assert_eq!(said(&image).await, "approved");
    assert!(!is_of_before().await);
    assert_eq!(said(&denied).await, "approvals-missing");
    registry.fail(Via::ALL);
    registry.look_ups();
    advance(Duration::from_secs(59)).await;
    assert_eq!(said(&image).await, "approved");
    assert_eq!(registry.look_ups(), 0);
    advance(Duration::from_secs(2)).await;
    for said in join_all((0..8).map(|_| said(&image))).await {
        assert_eq!(said, "approved");
    }
    assert_eq!(registry.look_ups(), 4);
    // A denial is certain only by what the registry says now.
    assert_eq!(said(&denied).await, "evidence-partial");
    advance(Duration::from_secs(400)).await;
    assert_eq!(said(&image).await, "approved");
    assert!(is_of_before().await);
    advance(Duration::from_secs(200)).await;
    assert_eq!(said(&image).await, "evidence-partial");
    registry.fail([]);
    advance(Duration::from_millis(1)).await;
    assert_eq!(said(&image).await, "approved");
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_became_partial_does_not_serve() {
    for later in ["cut", "failed", "unsupported"] {
        let registry = Arc::new(Counting::default());
        let image = Image::new("app.example");
        let approval = word(&image, "alice@example.com", "approved");
        registry.attach(&image, Via::Referrers, vec![approval]);
        let gate = approving(&registry);
        let said = async || gate.says("approvals", &image.reference()).await.1;
        if later == "failed" {
            // One place was never listed.
            registry.fail([Via::AttTag]);
            assert_eq!(said().await, "evidence-partial");
        } else {
            assert_eq!(said().await, "approved");
            registry.cuts.store(later == "cut", Ordering::Relaxed);
            registry
                .is_odd
                .store(later == "unsupported", Ordering::Relaxed);
            advance(Duration::from_secs(61)).await;
            assert_eq!(said().await, "evidence-partial", "{later}");
        }
        registry.cuts.store(false, Ordering::Relaxed);
        registry.is_odd.store(false, Ordering::Relaxed);
        registry.fail(Via::ALL);
        advance(Duration::from_secs(61)).await;
        assert_eq!(said().await, "evidence-partial", "{later}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_hangs_leaves_time_for_the_listing_of_before() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    let approval = word(&image, "alice@example.com", "approved");
    registry.attach(&image, Via::Referrers, vec![approval]);
    let gate = approving(&registry);
    let said = async || gate.says("approvals", &image.reference()).await.1;
    assert_eq!(said().await, "approved");
    registry.hangs.store(true, Ordering::Relaxed);
    advance(Duration::from_secs(61)).await;
    let began = Instant::now();
    assert_eq!(said().await, "approved");
    assert!(began.elapsed() < gate.patience, "{:?}", began.elapsed());
}

/// The registry forgets everything but these.
fn only(registry: &Counting, image: &Image, layers: Vec<Layer>) {
    *registry.memory.lock().unwrap() = Memory::default();
    registry.attach(image, Via::Referrers, layers);
}

const ALICE: &str = "alice@example.com";
const BOB: &str = "bob@example.com";

#[tokio::test(start_paused = true)]
async fn a_rejection_that_was_deleted_still_blocks_in_this_process() {
    let registry = Arc::new(Counting::default());
    let (image, other) = (Image::new("app.example"), Image::new("other.example"));
    let approval = word(&image, ALICE, "approved");
    let rejection = word(&image, BOB, "rejected");
    registry.attach(&image, Via::Referrers, vec![approval.clone(), rejection]);
    let gate = approving(&registry);
    let finding = async |gate: &Gate, image: &Image| {
        let review = gate.review(&[image.reference()]).await;
        let finding = review.verdict.policies()[0].findings()[0].clone();
        (finding.reason, finding.detail)
    };
    assert_eq!(finding(&gate, &image).await.0, "rejected");
    only(&registry, &image, vec![approval.clone()]);
    for _ in 0..2 {
        advance(Duration::from_secs(3600)).await;
        let (reason, detail) = finding(&gate, &image).await;
        assert_eq!(reason, "rejected");
        let said =
            "; 1 of the statements that count are no longer attached, but were seen by this gate";
        assert!(detail.ends_with(said), "{detail}");
    }
    // Another process saw nothing, and another image was not rejected.
    let fresh = approving(&registry);
    assert_eq!(finding(&fresh, &image).await.0, "approved");
    only(&registry, &other, vec![word(&other, ALICE, "approved")]);
    assert_eq!(finding(&gate, &other).await.0, "approved");
    // The person who rejected has the last word.
    let lifted = word(&image, BOB, "approved");
    only(&registry, &image, vec![approval, lifted]);
    advance(Duration::from_secs(3600)).await;
    assert_eq!(finding(&gate, &image).await.0, "approved");
}

#[tokio::test(start_paused = true)]
async fn what_can_hurt_is_remembered_by_reviews_that_do_not_ask_for_it() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    let approval = word(&image, ALICE, "approved");
    let rejection = word(&image, BOB, "rejected");
    registry.attach(&image, Via::SigTag, vec![signature(&image)]);
    registry.attach(&image, Via::Referrers, vec![approval.clone(), rejection]);
    let approving = approving(&registry);
    let mut signed = Gate::new(policy("Enforce"));
    signed.collector = Arc::clone(&approving.collector);
    let reference = image.reference();
    assert_eq!(signed.says("signature", &reference).await.0, "pass");
    only(&registry, &image, vec![approval]);
    advance(Duration::from_secs(61)).await;
    assert_eq!(approving.says("approvals", &reference).await.1, "rejected");
    // What only helps is not kept: the signature is gone.
    assert_eq!(signed.says("signature", &reference).await.0, "fail");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_follows_its_digest_to_another_repository() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    let copy = Image {
        repository: Repository::new("copy.example", "app"),
        digest: image.digest.clone(),
    };
    let approval = word(&image, ALICE, "approved");
    let rejection = word(&image, BOB, "rejected");
    registry.attach(&image, Via::Referrers, vec![approval.clone(), rejection]);
    registry.attach(&copy, Via::Referrers, vec![approval]);
    let gate = approving(&registry);
    for image in [&image, &copy] {
        let said = gate.says("approvals", &image.reference()).await;
        assert_eq!(said.1, "rejected");
    }
}

#[tokio::test(start_paused = true)]
async fn flooding_does_not_push_a_rejection_out() {
    let registry = Arc::new(Counting::default());
    let approval = |image: &Image| word(image, ALICE, "approved");
    let flood = |image: &Image, by: &str| {
        let junk = |number: u64| {
            Layer {
            media_type: BUNDLE.to_owned(),
            bytes: FACTS.attestation(
                &image.digest,
                by,
                ("approval", json!({"environment": "production", "decision": "rejected", "reason": number.to_string()})),
                None,
            ),
            annotations: BTreeMap::new(),
        }
        };
        for part in 0..7 {
            let layers = (0..10).map(|number| junk(part * 10 + number));
            registry.attach(image, Via::Referrers, layers.collect());
        }
    };
    let gate = approving(&registry);
    let said = async |image: &Image| {
        advance(Duration::from_secs(61)).await;
        gate.says("approvals", &image.reference()).await.1
    };
    // A rejection that was seen before the flood stays remembered.
    let image = Image::new("a.example");
    let rejected = vec![approval(&image), word(&image, BOB, "rejected")];
    registry.attach(&image, Via::Referrers, rejected);
    assert_eq!(said(&image).await, "rejected");
    flood(&image, "dave@example.com");
    assert_eq!(said(&image).await, "rejected");
    only(&registry, &image, vec![approval(&image)]);
    assert_eq!(said(&image).await, "rejected");
    // One that was seen after it does not fit. Once it is gone, the rule says that something may be missing, and what to do.
    let image = Image::new("b.example");
    registry.attach(&image, Via::Referrers, vec![approval(&image)]);
    assert_eq!(said(&image).await, "approved");
    flood(&image, "dave@example.com");
    assert_eq!(said(&image).await, "approved");
    registry.attach(&image, Via::Referrers, vec![word(&image, BOB, "rejected")]);
    assert_eq!(said(&image).await, "rejected");
    only(&registry, &image, vec![approval(&image)]);
    assert_eq!(said(&image).await, "evidence-partial");
    let review = gate.review(&[image.reference()]).await;
    let detail = &review.verdict.policies()[0].findings()[0].detail;
    let remedy =
        "build a new image, or delete what does not belong to this one and restart the gate";
    assert!(detail.contains(remedy), "{detail}");
    registry.fail(Via::ALL);
    assert_eq!(said(&image).await, "evidence-partial");
    registry.fail([]);
    // Nobody listens to a stranger, whose flood hides nothing and blocks nothing.
    let image = Image::new("c.example");
    registry.attach(&image, Via::Referrers, vec![approval(&image)]);
    flood(&image, "eve@example.com");
    assert_eq!(said(&image).await, "approved");
    registry.attach(&image, Via::Referrers, vec![word(&image, BOB, "rejected")]);
    assert_eq!(said(&image).await, "rejected");
    only(&registry, &image, vec![approval(&image)]);
    assert_eq!(said(&image).await, "rejected");
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_counts_only_under_the_anchors_of_the_review() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    registry.attach(&image, Via::Referrers, vec![word(&image, BOB, "rejected")]);
    let gate = approving(&registry);
    let under_root = needs(&image, true);
    gather(&gate, &under_root, Freshness::FromCache).await;
    *registry.memory.lock().unwrap() = Memory::default();
    advance(Duration::from_secs(61)).await;
    let earlier = async |needs: &BTreeMap<Subject, ImageNeeds>| {
        let mut allowance = gate.collector.allowance(Instant::now() + gate.patience);
        let gathering = gate
            .collector
            .gather(needs, Freshness::FromCache, &mut allowance);
        gathering.await.evidence.with_earlier.into_values().next()
    };
    let found = earlier(&under_root).await.unwrap();
    let (source, _) = &found.value().unwrap().statements[0];
    assert!(source.0.contains(", no longer found, seen at "), "{source}");
    let mut under_nothing = under_root;
    for needs in under_nothing.values_mut() {
        needs.anchors.clear();
    }
    assert!(earlier(&under_nothing).await.is_none());
}

/// A gate as above, whose reviews verify no more than this.
fn approving_within(registry: &Arc<Counting>, keys: &[String], verifications: u64) -> Gate {
    let mut gate = approving_with(registry, keys);
    let limits = CollectLimits {
        review_verifications: verifications,
        ..CollectLimits::default()
    };
    let registry = Arc::clone(registry) as Arc<dyn Registry>;
    gate.collector = Arc::new(Collector::new(registry, limits, CacheSizes::default()));
    gate
}

fn keys(count: usize) -> Vec<String> {
    let pem = |_| SandboxKey::generate().unwrap().public_pem();
    (0..count).map(pem).collect()
}

#[tokio::test]
async fn a_certificate_costs_one_verification_however_many_keys_the_group_has() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    let approvals = (0..5).map(|_| word(&image, ALICE, "approved"));
    registry.attach(&image, Via::Referrers, approvals.collect());
    let gate = approving_within(&registry, &keys(30), 5);
    let said = gate.says("approvals", &image.reference()).await;
    assert_eq!(said.1, "approved");
}

#[tokio::test]
async fn a_foreign_key_costs_one_pass_over_all_keys_of_a_group() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    let foreign = (0..5).map(|_| word(&image, "key", "approved"));
    let junk = (0..5).map(|number| junk(&number.to_string(), 10));
    let pieces = foreign.chain(junk).chain([word(&image, ALICE, "approved")]);
    registry.attach(&image, Via::Referrers, pieces.collect());
    // Of each piece: under the trust root, by any of the keys, and why none of them counts.
    let gate = approving_within(&registry, &keys(16), 10 * 3 + 1);
    let said = gate.says("approvals", &image.reference()).await;
    assert_eq!(said.1, "approved");
}

#[tokio::test]
async fn a_members_signature_is_found_among_many_keys() {
    let registry = Arc::new(Counting::default());
    let image = Image::new("app.example");
    registry.attach(
        &image,
        Via::Referrers,
        vec![word(&image, "key", "approved")],
    );
    let mut keys = keys(15);
    keys.push(FACTS.key.public_pem());
    let gate = approving_within(&registry, &keys, 3);
    for _ in 0..2 {
        let said = gate.says("approvals", &image.reference()).await;
        assert_eq!(said.1, "approved");
    }
    registry.attach(
        &image,
        Via::Referrers,
        vec![word(&image, "key", "rejected")],
    );
    let gate = approving_within(&registry, &keys, 6);
    let said = gate.says("approvals", &image.reference()).await;
    assert_eq!(said.1, "rejected");
}
