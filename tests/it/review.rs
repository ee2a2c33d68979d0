//! One review from the client to the verdict: what it asks, how often, and what it makes of trouble.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use promotion_gate::decision_log::findings;
use promotion_gate::oci::metered;
use promotion_gate::record::{RecordedTags, check_tags};
use promotion_gate::sandbox::{SandboxRegistry, attach_bundle, attach_signatures, push_image};
use promotion_gate_core::gate::{Decision, Digest, Policy};
use proptest::prelude::*;
use serde_json::json;

use crate::facts::{FACTS, keyless, signed_by};
use crate::gate::Gate;
use crate::images::{by_digest, by_tag, registry, signed};
use crate::server::{Manner, Reply, Server};

fn policy() -> Policy {
    FACTS.policy(
        "signed",
        &json!({
            "tags": "Resolve",
            "requirements": [signed_by("release@example.com")],
        }),
    )
}

#[tokio::test]
async fn a_cold_image_costs_a_fixed_number_of_requests() {
    let registry = registry().await;
    let digest = signed(&registry, "v1", "release");
    let gate = Gate::new(policy());
    let image = by_tag(&registry, "v1");
    let images = [image.clone(), image];
    let (review, metered) = metered(gate.review(&images)).await;
    assert_eq!(review.verdict.decision(), Decision::Allow);

    let asked = registry.take_requests();
    let hex = digest.hex();
    assert_eq!(asked[0], "HEAD /v2/app/manifests/v1");
    let mut lookups = asked[1..5].to_vec();
    lookups.sort();
    assert_eq!(
        lookups,
        [
            format!("GET /v2/app/manifests/sha256-{hex}"),
            format!("GET /v2/app/manifests/sha256-{hex}.att"),
            format!("GET /v2/app/manifests/sha256-{hex}.sig"),
            format!("GET /v2/app/referrers/{digest}"),
        ]
    );
    assert!(
        asked[5].starts_with("GET /v2/app/manifests/sha256:"),
        "{asked:?}"
    );
    assert!(
        asked[6].starts_with("GET /v2/app/blobs/sha256:"),
        "{asked:?}"
    );
    assert_eq!(asked.len(), 7, "{asked:?}");
    assert_eq!(metered, 7);
}

#[tokio::test]
async fn a_warm_image_by_digest_costs_nothing_and_by_tag_one_head() {
    let registry = registry().await;
    let digest = signed(&registry, "v1", "release");
    let gate = Gate::new(policy());
    gate.review(&[by_digest(&registry, &digest)]).await;
    registry.take_requests();
    let review = gate.review(&[by_digest(&registry, &digest)]).await;
    assert_eq!(review.verdict.decision(), Decision::Allow);
    assert!(registry.take_requests().is_empty());
    gate.review(&[by_tag(&registry, "v1")]).await;
    assert_eq!(registry.take_requests(), ["HEAD /v2/app/manifests/v1"]);
}

#[tokio::test]
async fn a_judgement_that_can_take_long_leaves_the_thread_that_serves_requests() {
    let small = "workload.name == 'web'";
    let many = (1..=30).map(|number| number.to_string());
    let many = many.collect::<Vec<_>>().join(", ");
    let nested = format!("[{many}].all(a, [{many}].all(b, a + b > 0 && workload.name == 'web'))");
    for (rule, at_once) in [(small, true), (&*nested, false)] {
        let spec = json!({"requirements": [{"expression": {"rule": rule}}]});
        let gate = Gate::new(FACTS.policy("p", &spec));
        let mut review = pin!(gate.review(&[]));
        // Nothing has to be read. So only a judgement elsewhere makes the review wait.
        let polled = futures::poll!(review.as_mut());
        let (was_at_once, review) = match polled {
            Poll::Ready(review) => (true, review),
            Poll::Pending => (false, review.await),
        };
        assert_eq!(was_at_once, at_once, "{rule}");
        assert_eq!(review.verdict.decision(), Decision::Allow, "{rule}");
    }
}

#[tokio::test]
async fn many_reviews_at_once_ask_once() {
    let registry = registry().await;
    let digest = signed(&registry, "v1", "release");
    let gate = Gate::new(policy());
    let images = [by_digest(&registry, &digest)];
    let reviews = futures::future::join_all((0..32).map(|_| gate.review(&images))).await;
    assert!(
        reviews
            .iter()
            .all(|review| review.verdict.decision() == Decision::Allow)
    );
    let asked = registry.take_requests();
    assert_eq!(asked.len(), 6, "{asked:?}");
}

#[tokio::test]
async fn what_was_verified_stays_usable_while_the_registry_is_down() {
    let registry = registry().await;
    let digest = signed(&registry, "v1", "release");
    let unsigned = push_image(&registry, "app", "unsigned", "unsigned").unwrap();
    let gate = Gate::new(policy());
    let (image, unsigned) = (
        by_digest(&registry, &digest),
        by_digest(&registry, &unsigned),
    );
    assert_eq!(gate.says("signature", &image).await.0, "pass");
    assert_eq!(gate.says("signature", &unsigned).await.1, "unsigned");
    registry.stop();
    assert_eq!(gate.says("signature", &image).await.0, "pass");
    assert_eq!(gate.says("signature", &unsigned).await.0, "undecided");
    assert_eq!(
        gate.says("signature", &by_tag(&registry, "v1")).await.1,
        "image-unavailable"
    );
    registry.resume().await.unwrap();
    assert_eq!(gate.says("signature", &unsigned).await.1, "unsigned");
}

#[tokio::test]
async fn an_image_that_is_signed_after_a_denial_is_allowed_at_once() {
    let registry = registry().await;
    let digest = push_image(&registry, "app", "v1", "v1").unwrap();
    let gate = Gate::new(policy());
    let image = by_digest(&registry, &digest);
    assert_eq!(gate.says("signature", &image).await.1, "unsigned");
    attach_bundle(
        &registry,
        "app",
        &digest,
        &FACTS.bundle(&digest, "stranger"),
    )
    .unwrap();
    assert_eq!(
        gate.says("signature", &image).await.1,
        "signer-not-accepted"
    );
    attach_bundle(&registry, "app", &digest, &FACTS.bundle(&digest, "release")).unwrap();
    assert_eq!(gate.says("signature", &image).await.1, "signed");
}

#[tokio::test]
async fn a_tag_that_is_moved_is_judged_as_what_it_points_to_now() {
    let registry = registry().await;
    signed(&registry, "v1", "release");
    let other = push_image(&registry, "app", "other", "other").unwrap();
    let gate = Gate::new(policy());
    let image = by_tag(&registry, "v1");
    assert_eq!(gate.says("signature", &image).await.0, "pass");
    registry.tag("app", "v1", &other.to_string());
    assert_eq!(gate.says("signature", &image).await.1, "unsigned");
}

#[tokio::test]
async fn a_recorded_tag_that_was_moved_is_found_in_the_namespaces_that_did_not_admit_it() {
    let registry = registry().await;
    let first = signed(&registry, "v1", "release");
    let other = push_image(&registry, "app", "other", "other").unwrap();
    let gate = Gate::new(policy());
    let image = by_tag(&registry, "v1");
    let admitted = |namespace: &str, digests: &[&Digest]| {
        let digests = digests.iter().map(|digest| (*digest).clone()).collect();
        (namespace.to_owned(), digests)
    };
    let namespaces = [
        admitted("old", &[&first]),
        admitted("new", &[&other]),
        admitted("both", &[&first, &other]),
    ];
    let recorded: RecordedTags = [(image.clone(), namespaces.into())].into();
    let moved = check_tags(&gate.collector, &recorded).await.moved;
    assert_eq!(moved[&image], (first, vec!["new".to_owned()]));
    registry.tag("app", "v1", &other.to_string());
    let moved = check_tags(&gate.collector, &recorded).await.moved;
    assert_eq!(moved[&image], (other.clone(), vec!["old".to_owned()]));

    // A tag that is gone was not moved: it is not known.
    let gone = by_tag(&registry, "gone");
    let recorded: RecordedTags = [(gone.clone(), [admitted("old", &[&other])].into())].into();
    let checked = check_tags(&gate.collector, &recorded).await;
    assert!(
        checked.moved.is_empty() && checked.unknown.contains_key(&gone),
        "{checked:?}"
    );
}

#[tokio::test]
async fn evidence_belongs_to_the_repository_of_the_digest() {
    let registry = registry().await;
    let digest = signed(&registry, "v1", "release");
    push_image(&registry, "copy", "v1", "v1").unwrap();
    let gate = Gate::new(policy());
    assert_eq!(
        gate.says("signature", &by_digest(&registry, &digest))
            .await
            .0,
        "pass"
    );
    let copy = format!("{}/copy@{digest}", registry.host());
    assert_eq!(gate.says("signature", &copy).await.1, "unsigned");
}

#[tokio::test]
async fn another_policy_over_the_same_cache_uses_its_own_signers() {
    let registry = registry().await;
    let digest = signed(&registry, "v1", "release");
    let image = by_digest(&registry, &digest);
    let gate = Gate::new(policy());
    assert_eq!(gate.says("signature", &image).await.0, "pass");
    let strict = FACTS.policy(
        "strict",
        &json!({
            "requirements": [{"digestPinned": {}}, signed_by("build@example.com")],
        }),
    );
    assert_eq!(
        gate.under(strict).says("signature", &image).await.1,
        "signer-not-accepted"
    );
}

#[tokio::test]
async fn one_good_legacy_signature_among_bad_layers_is_found() {
    let registry = registry().await;
    let digest = push_image(&registry, "app", "v1", "v1").unwrap();
    let mut junk = FACTS.simple(&digest, "release");
    junk.annotations = BTreeMap::from([(
        "dev.cosignproject.cosign/signature".to_owned(),
        "%".to_owned(),
    )]);
    let layers = [
        junk,
        FACTS.simple(&digest, "stranger"),
        FACTS.simple(&digest, "release"),
    ];
    attach_signatures(&registry, "app", &digest, &layers).unwrap();
    assert_eq!(
        Gate::new(policy())
            .says("signature", &by_digest(&registry, &digest))
            .await
            .0,
        "pass"
    );
}

#[tokio::test]
async fn a_review_ends_at_its_deadline_and_says_what_is_unknown() {
    let server = Server::start(|_| Reply::status(200).coming(Manner::Silent)).await;
    let mut gate = Gate::new(policy());
    gate.patience = Duration::from_millis(300);
    let image = format!("{}/app@{}", server.host(), Digest::sha256(b"x"));
    let review = tokio::time::timeout(Duration::from_secs(5), gate.review(&[image]))
        .await
        .unwrap();
    assert_eq!(review.verdict.decision(), Decision::Deny);
    assert!(review.verdict.is_undecided());
    assert_eq!(
        review.verdict.policies()[0].findings()[0].reason,
        "evidence-unavailable"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trouble_with_one_place_does_not_hide_a_signature_in_another() {
    let registry = registry().await;
    let digest = signed(&registry, "v1", "release");
    let upstream = registry.host();
    let server = Server::start(move |seen| {
        if seen.path.ends_with(".sig") {
            return Reply::status(500);
        }
        forward(&upstream, &seen.path)
    })
    .await;
    let image = format!("{}/app@{digest}", server.host());
    assert_eq!(
        Gate::new(policy()).says("signature", &image).await.0,
        "pass"
    );

    let unsigned = push_image(&registry, "app", "unsigned", "unsigned").unwrap();
    let image = format!("{}/app@{unsigned}", server.host());
    assert_eq!(
        Gate::new(policy()).says("signature", &image).await.0,
        "undecided"
    );
}

#[tokio::test]
async fn evidence_cached_under_one_anchor_does_not_serve_another() {
    let registry = registry().await;
    let digest = signed(&registry, "v1", "release");
    attach_bundle(&registry, "app", &digest, &FACTS.bundle(&digest, "key")).unwrap();
    let image = by_digest(&registry, &digest);
    let gate = Gate::new(policy());
    assert_eq!(gate.says("signature", &image).await.0, "pass");
    registry.take_requests();
    let key = json!({"key": {"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"]}});
    let keyed = FACTS.policy(
        "key",
        &json!({"tags": "Resolve", "requirements": [{"signature": {"anyOf": [key]}}]}),
    );
    let keyed = gate.under(keyed);
    assert_eq!(keyed.says("signature", &image).await.0, "pass");
    assert_eq!(gate.says("signature", &image).await.0, "pass");
    assert!(registry.take_requests().is_empty(), "memory was enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failed_read_is_repeated_in_the_next_review() {
    for status in [404, 503] {
        let registry = registry().await;
        let digest = signed(&registry, "v1", "release");
        let upstream = registry.host();
        let failures = AtomicUsize::new(0);
        let server = Server::start(move |seen| {
            let blob = seen.path.contains("/blobs/");
            if blob && failures.fetch_add(1, Ordering::Relaxed) == 0 {
                return Reply::status(status);
            }
            forward(&upstream, &seen.path)
        })
        .await;
        let image = format!("{}/app@{digest}", server.host());
        let policy = FACTS.policy(
            "recorded",
            &json!({
                "enforcement": "Audit", "tags": "Resolve",
                "requirements": [signed_by("release@example.com")],
            }),
        );
        let gate = Gate::new(policy);
        assert_ne!(gate.says("signature", &image).await.0, "pass", "{status}");
        assert_eq!(gate.says("signature", &image).await.0, "pass", "{status}");
    }
}

#[tokio::test]
async fn a_signature_is_found_behind_any_number_of_other_attachments() {
    let registry = registry().await;
    let digest = push_image(&registry, "app", "v1", "v1").unwrap();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    for n in 0..300 {
        let other = json!({
            "schemaVersion": 2, "mediaType": media_type, "artifactType": "application/vnd.example.sbom",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}").to_string(), "size": 2},
            "layers": [], "annotations": {"n": n.to_string()},
            "subject": {"mediaType": media_type, "digest": digest.to_string(), "size": 0},
        });
        registry.put_manifest("app", None, media_type, other.to_string());
    }
    attach_bundle(&registry, "app", &digest, &FACTS.bundle(&digest, "release")).unwrap();
    let gate = Gate::new(policy());
    let image = by_digest(&registry, &digest);
    assert_eq!(gate.says("signature", &image).await.1, "signed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cached_signature_counts_while_the_registry_fails_in_part() {
    let registry = registry().await;
    let digest = signed(&registry, "v1", "stranger");
    let upstream = registry.host();
    let broken = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let broken = Arc::clone(&broken);
        move |seen| match broken.load(Ordering::Relaxed) {
            true if seen.path.ends_with(".sig") => Reply::status(500),
            true => Reply::status(404),
            false => forward(&upstream, &seen.path),
        }
    })
    .await;
    let image = format!("{}/app@{digest}", server.host());
    let gate = Gate::new(policy());
    assert_eq!(
        gate.says("signature", &image).await.1,
        "signer-not-accepted"
    );
    broken.store(true, Ordering::Relaxed);
    let review = gate.review(&[image]).await;
    let finding = &review.verdict.policies()[0].findings()[0];
    assert_eq!(finding.reason, "evidence-partial", "{finding:?}");
    assert!(
        finding.detail.contains("stranger@example.com"),
        "{finding:?}"
    );
}

#[tokio::test]
async fn the_log_names_every_image_that_a_finding_is_about() {
    let registry = registry().await;
    let both = signed(&registry, "v1", "release");
    attach_bundle(&registry, "app", &both, &FACTS.bundle(&both, "build")).unwrap();
    let unsigned = push_image(&registry, "app", "v2", "v2").unwrap();
    let two = ["release@example.com", "build@example.com"]
        .map(|email| json!({"signature": {"anyOf": [keyless(email)]}}));
    let gate = Gate::new(FACTS.policy("two", &json!({"tags": "Resolve", "requirements": two})));
    let images = [&both, &unsigned].map(|digest| by_digest(&registry, digest));
    let field = |n: usize| format!("spec.template.spec.containers[{n}].image");
    assert_eq!(
        findings(&gate.review(&images).await),
        format!(
            "two/signature:fail:unsigned {}; two/signature:pass:signed {}",
            field(1),
            field(0)
        )
    );
    let images = [&both, &both].map(|digest| by_digest(&registry, digest));
    assert_eq!(
        findings(&gate.review(&images).await),
        "two/signature:pass:signed *"
    );
    let images = [by_digest(&registry, &both)];
    assert_eq!(
        findings(&gate.review(&images).await),
        format!("two/signature:pass:signed {}", field(0))
    );
}

/// The answer of another server, fetched while this one waits.
pub(crate) fn forward(host: &str, path: &str) -> Reply {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply::new(status, "", &bytes[end + 4..]);
    reply.headers = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| *name == "content-type" || *name == "docker-content-digest")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    reply
}

/// What may be attached to an image.
#[derive(Clone, Copy, Debug)]
enum Piece {
    Signature(&'static str),
    Legacy(&'static str),
    Replayed,
    NoSignature,
    Junk,
}

fn attach(registry: &SandboxRegistry, digest: &Digest, piece: Piece) {
    let other = Digest::sha256(b"other");
    let statement = ("https://example.com/test/v1", json!({"result": "passed"}));
    let bundle = match piece {
        Piece::Signature(by) => FACTS.bundle(digest, by),
        Piece::Replayed => FACTS.bundle(&other, "release"),
        Piece::NoSignature => {
            let attestation = FACTS.attestation(digest, "release", statement, None);
            serde_json::from_slice(&attestation).unwrap()
        }
        Piece::Junk => json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}),
        Piece::Legacy(by) => {
            let layers = [FACTS.simple(digest, by)];
            attach_signatures(registry, "app", digest, &layers).unwrap();
            return;
        }
    };
    attach_bundle(registry, "app", digest, &bundle).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A hazard of caches: what comes from memory takes another path to the verdict. A review from an empty memory, a second one, and
    /// one by a memory that another policy has filled, say the same in every word.
    #[test]
    fn a_warm_review_says_all_that_the_cold_one_said(
        attached in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![
            Piece::Signature("release"), Piece::Signature("stranger"), Piece::Legacy("release"), Piece::Legacy("stranger"),
            Piece::Replayed, Piece::NoSignature, Piece::Junk,
        ]), 0..4), 1..4),
        policy in prop::sample::select(vec![
            json!([signed_by("release@example.com")]),
            json!([{"digestPinned": {}}, {"signature": {"allOf": [keyless("release@example.com"), keyless("stranger@example.com")]}}]),
            json!([{"allowedImages": {"patterns": ["elsewhere.example/*"]}}, signed_by("stranger@example.com")]),
        ]),
        enforcement in prop::sample::select(vec!["Enforce", "Warn", "Audit"]),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let said = runtime.block_on(async {
            let registry = registry().await;
            let images = attached.iter().enumerate().map(|(at, pieces)| {
                let tag = format!("v{at}");
                let digest = push_image(&registry, "app", &tag, &tag).unwrap();
                pieces.iter().for_each(|piece| attach(&registry, &digest, *piece));
                by_digest(&registry, &digest)
            });
            let images: Vec<_> = images.collect();
            let own = || FACTS.policy("one", &json!({"tags": "Resolve", "enforcement": enforcement, "requirements": policy}));
            let all = async |gate: &Gate| {
                let review = gate.review(&images).await;
                let policies = review.verdict.policies().iter();
                let said: Vec<_> = policies.map(|it| (it.decision(), it.findings().to_vec())).collect();
                format!("{:?} {said:#?}", review.verdict.decision())
            };
            let gate = Gate::new(own());
            let (cold, warm) = (all(&gate).await, all(&gate).await);
            let other = Gate::new(self::policy());
            other.review(&images).await;
            (cold, warm, all(&other.under(own())).await)
        });
        let (cold, warm, shared) = said;
        prop_assert_eq!(&cold, &warm);
        prop_assert_eq!(&cold, &shared);
    }
}
