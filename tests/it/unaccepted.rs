//! What is present but not accepted is never called absent, whatever form it has and whatever could not be read.

use std::sync::Arc;

use promotion_gate::oci::{Client, ClientOptions};
use promotion_gate::sandbox::{
    SandboxRegistry, attach_attestations, attach_bundle, attach_signatures, push_image, push_index,
};
use promotion_gate_core::attest::UnacceptedReason;
use promotion_gate_core::attest::unaccepted::{TOO_LARGE, UNACCEPTED};
use promotion_gate_core::gate::{
    Collected, Digest, Evidence, EvidenceSource, Form, ImageEvidence, Outcome, Policy,
    UnacceptedEvidence, Unavailability,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::facts::{self, FACTS, ISSUER, judge, promotion, signed_by, snapshot};
use crate::gate::Gate;
use crate::images::registry;
use crate::oci::options;
use crate::review::forward;
use crate::server::{Reply, Server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn signature() -> Value {
    signed_by("release@example.com")
}

fn provenance() -> Value {
    json!({"provenance": {
        "builders": [{"id": {"glob": "https://**"}, "signedBy": {"keyless": {
            "issuer": ISSUER, "anyIdentity": true, "trustRoots": ["sandbox"],
        }}}],
        "anySource": true,
    }})
}

fn policy(requirements: Value, more: Value) -> Policy {
    let mut spec = json!({"requirements": requirements, "uncovered": "Allow", "tags": "Resolve"});
    let more = more.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(more);
    FACTS.policy("case", &spec)
}

fn refused() -> impl Strategy<Value = UnacceptedEvidence> {
    let reasons = prop::sample::select(UNACCEPTED.to_vec());
    let forms = prop::sample::select(vec![Form::Signature, Form::Statement, Form::Either]);
    (reasons, forms, 0..3_u8).prop_map(|(reason, form, n)| UnacceptedEvidence {
        source: EvidenceSource(format!("referrer `{n}`")),
        form,
        why: UnacceptedReason::new(reason, "it is not sound"),
    })
}

fn several<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(of, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn present_but_not_accepted_is_never_absent(
        unaccepted in several(refused()),
        others in prop::collection::btree_map("[a-z]{1,4}/[a-z]{1,4}", 1..4_usize, 0..3),
        verified in several(prop::sample::select(vec![facts::Form::Bundle, facts::Form::Attestation])),
        unavailabilities in several("[a-z ]{1,9}"),
        unsupported in several("[a-z ]{1,9}"),
    ) {
        let promotion = promotion(&[format!("registry.example/app@sha256:{}", "1".repeat(64))]);
        let digest = promotion.pins[0].digest().unwrap().clone();
        let unavailability = |texts: &[String]| texts.iter().cloned().map(Unavailability).collect::<Vec<_>>();
        let mut attached = ImageEvidence {
            unaccepted,
            others,
            unsupported: unavailability(&unsupported),
            ..ImageEvidence::default()
        };
        for form in verified {
            let one = facts::Attached { form, ..facts::Attached::by("stranger") };
            FACTS.add(&mut attached, &digest, &one);
        }
        let listed = !attached.unaccepted.is_empty() || !attached.others.is_empty()
            || !attached.signatures.is_empty() || !attached.statements.is_empty();
        let mut large = attached.unaccepted.iter().filter(|it| it.why.reason == TOO_LARGE);
        let may_be_large = large.any(|it| it.form != Form::Signature);
        let complete = unavailabilities.is_empty();
        let collected = match complete {
            true => Collected::Known(Arc::new(attached)),
            false => Collected::Partial(Arc::new(attached), unavailability(&unavailabilities)),
        };
        let mut evidence = Evidence::default();
        let (image, pin) = promotion.images().next().unwrap();
        evidence.images.insert(pin.subject(&image.reference).unwrap(), collected);
        for requirement in [signature(), provenance()] {
            let policy = policy(json!([requirement]), json!({}));
            let verdict = judge(&promotion, &evidence, &snapshot(vec![policy]));
            let finding = &verdict.policies()[0].findings()[0];
            prop_assert!(finding.outcome.denies());
            let absent = finding.detail.contains("is attached to the image") && finding.detail.starts_with("no ");
            prop_assert_eq!(absent, !listed && complete, "{:?}", finding);
            if finding.rule == "signature" {
                prop_assert_eq!(finding.reason == "unsigned", !listed && complete, "{:?}", finding);
            }
            let unknown = !complete || (finding.rule == "provenance" && may_be_large);
            prop_assert_eq!(finding.outcome == Outcome::Undecided, unknown, "{:?}", finding);
        }
    }
}

/// An artifact as it is attached by tools that are not cosign.
struct Artifact<'a> {
    kind: Option<&'a str>,
    config: &'a str,
    layer: Option<&'a str>,
}

impl Artifact<'_> {
    fn attach(&self, registry: &SandboxRegistry, subject: &Digest) {
        let blob = |media_type: &str, bytes: &[u8]| {
            let digest = registry.put_blob("app", bytes.to_vec());
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let layers: Vec<_> = self
            .layer
            .iter()
            .map(|kind| blob(kind, b"content"))
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(self.config, b"{}"),
            "layers": layers,
            "subject": {"mediaType": MANIFEST, "digest": subject.to_string(), "size": 0},
        });
        if let Some(kind) = self.kind {
            manifest["artifactType"] = json!(kind);
        }
        registry.put_manifest("app", None, MANIFEST, manifest.to_string());
    }
}

async fn said(policy: Policy, image: &str) -> (String, String) {
    let review = Gate::new(policy).review(&[image.to_owned()]).await;
    let finding = &review.verdict.policies()[0].findings()[0];
    let hint = finding.hint.as_deref().unwrap_or_default();
    (
        finding.reason.to_owned(),
        format!("{} → {hint}", finding.detail),
    )
}

#[tokio::test]
async fn evidence_in_an_unsupported_form_is_not_called_absent() {
    let notation = "application/vnd.cncf.notary.signature";
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let artifact = |kind, config, layer| Artifact {
        kind,
        config,
        layer,
    };
    for (artifact, reason, part) in [
        (
            artifact(Some(notation), EMPTY, Some("application/jose+json")),
            "signature-unaccepted",
            "jose",
        ),
        (
            artifact(None, notation, Some("application/cose")),
            "signature-unaccepted",
            "cose",
        ),
        (
            artifact(None, notation, None),
            "signature-unaccepted",
            "notary",
        ),
        (
            artifact(Some(bundle), EMPTY, Some("application/octet-stream")),
            "signature-unaccepted",
            "bundle",
        ),
        (
            artifact(None, bundle, Some("application/json")),
            "signature-unaccepted",
            "bundle",
        ),
        (
            artifact(None, EMPTY, Some("application/vnd.example.signature")),
            "signature-unaccepted",
            "signature",
        ),
        (
            artifact(None, EMPTY, Some("application/vnd.in-toto.provenance+dsse")),
            "not-a-signature",
            "in-toto",
        ),
        (
            artifact(None, EMPTY, Some("application/vnd.in-toto+json")),
            "not-a-signature",
            "without a signature",
        ),
        (
            artifact(
                Some("application/spdx+json"),
                EMPTY,
                Some("application/spdx+json"),
            ),
            "not-a-signature",
            "spdx",
        ),
        (
            artifact(Some("application/vnd.example"), EMPTY, None),
            "not-a-signature",
            "vnd.example",
        ),
    ] {
        let registry = registry().await;
        let digest = push_image(&registry, "app", "v1", "v1").unwrap();
        artifact.attach(&registry, &digest);
        let image = format!("{}/app@{digest}", registry.host());
        let (got, text) = said(policy(json!([signature()]), json!({})), &image).await;
        assert_eq!(got, reason, "{text}");
        assert!(
            text.contains(part) && !text.contains("is attached to the image →"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn another_form_in_the_place_of_a_signature_is_no_absence() {
    let registry = registry().await;
    let digest = push_image(&registry, "app", "v1", "v1").unwrap();
    let other = push_image(&registry, "app", "other", "other").unwrap();
    let index = push_index(&registry, "app", "index", &[(None, &other)]).unwrap();
    let image = format!("{}/app@{digest}", registry.host());
    for there in [other, index] {
        let tag = format!("sha256-{}.sig", digest.hex());
        registry.tag("app", &tag, &there.to_string());
        let (reason, text) = said(policy(json!([signature()]), json!({})), &image).await;
        assert_eq!(reason, "signature-unaccepted", "{text}");
        assert!(text.contains("`.sig` tag"), "{text}");
    }
}

#[tokio::test]
async fn a_strangers_attestation_is_reported_for_a_signature() {
    let registry = registry().await;
    let digest = push_image(&registry, "app", "v1", "v1").unwrap();
    let mut layer = FACTS.simple(&digest, "stranger");
    layer.payload = b"{\"payloadType\":\"application/vnd.in-toto+json\"}".to_vec();
    attach_attestations(&registry, "app", &digest, &[layer]).unwrap();
    let image = format!("{}/app@{digest}", registry.host());
    let (reason, text) = said(policy(json!([signature()]), json!({})), &image).await;
    assert_eq!(reason, "not-a-signature", "{text}");
    assert!(
        text.contains("no signature was found, only `.att` tag"),
        "{text}"
    );
}

#[tokio::test]
async fn listed_evidence_that_answers_404_is_undecided() {
    let page = Reply::new(200, "text/html", "<html>sign in</html>");
    for reply in [Reply::status(404), Reply::new(200, MANIFEST, "{}"), page] {
        let shown = format!("{reply:?}");
        let listed = Digest::sha256(b"bundle");
        let index = json!({
            "schemaVersion": 2, "mediaType": crate::oci::INDEX,
            "manifests": [{"mediaType": MANIFEST, "digest": listed.to_string(), "size": 5}],
        });
        let server = Server::start(move |seen| match &seen.path {
            path if path.contains("/referrers/") => {
                Reply::new(200, crate::oci::INDEX, index.to_string())
            }
            path if path.ends_with(&listed.to_string()) => reply.clone(),
            _ => Reply::status(404),
        })
        .await;
        let image = format!("{}/app@{}", server.host(), Digest::sha256(b"image"));
        let (reason, text) = said(policy(json!([signature()]), json!({})), &image).await;
        assert_eq!(reason, "evidence-partial", "{shown}: {text}");
        assert!(!text.contains("is attached"), "{shown}: {text}");
    }
}

#[tokio::test]
async fn a_denial_says_that_the_referrers_api_was_missing() {
    let server = Server::start(|seen| match seen.path.contains("/referrers/") {
        true => Reply::new(200, "text/html", "<html>sign in</html>"),
        false => Reply::status(404),
    })
    .await;
    let client = Client::new(ClientOptions { ..options() }).unwrap();
    let gate = Gate::reading(client, policy(json!([signature()]), json!({})));
    let image = format!("{}/app@{}", server.host(), Digest::sha256(b"image"));
    let review = gate.review(&[image]).await;
    let finding = &review.verdict.policies()[0].findings()[0];
    assert_eq!(
        (finding.outcome, finding.reason),
        (Outcome::Fail, "unsigned")
    );
    assert!(finding.detail.contains("a web page"), "{}", finding.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_image_whose_referrers_are_elsewhere_is_verified_once() {
    let registry = registry().await;
    let digest = push_image(&registry, "app", "v1", "v1").unwrap();
    attach_signatures(
        &registry,
        "app",
        &digest,
        &[FACTS.simple(&digest, "release")],
    )
    .unwrap();
    let site = Server::start(|_| Reply::status(429)).await;
    let (to, upstream) = (format!("{}/-/v2/packages", site.url()), registry.host());
    let server = Server::start(move |seen| match seen.path.contains("/referrers/") {
        true => Reply::status(303).with("location", to.clone()),
        false => forward(&upstream, &seen.path),
    })
    .await;
    let gate = Gate::new(policy(json!([signature()]), json!({})));
    let image = format!("{}/app@{digest}", server.host());
    assert_eq!(gate.says("signature", &image).await.1, "signed");
    server.forget();
    site.forget();
    assert_eq!(gate.says("signature", &image).await.1, "signed");
    assert!(server.seen().is_empty() && site.seen().is_empty());
    drop(server);
    assert_eq!(gate.says("signature", &image).await.1, "signed");
}

#[tokio::test]
async fn an_unsigned_index_of_signed_platforms_names_the_option() {
    let registry = registry().await;
    let push = |name: &str| push_image(&registry, "app", name, name).unwrap();
    let (amd64, arm64) = (push("amd64"), push("arm64"));
    let platforms = [(Some("linux/amd64"), &amd64), (Some("linux/arm64"), &arm64)];
    let index = push_index(&registry, "app", "v1", &platforms).unwrap();
    let image = format!("{}/app@{index}", registry.host());
    let says = async || said(policy(json!([signature()]), json!({})), &image).await;
    let (_, text) = says().await;
    assert!(!text.contains("allowUnsignedIndex"), "{text}");
    for (digest, count) in [(&amd64, "1 of its 2"), (&arm64, "2 of its 2")] {
        attach_bundle(&registry, "app", digest, &FACTS.bundle(digest, "release")).unwrap();
        let (reason, text) = says().await;
        assert_eq!(reason, "unsigned", "{text}");
        assert!(
            text.contains(count) && text.contains("`allowUnsignedIndex: true`"),
            "{text}"
        );
    }
    let allowing = policy(json!([signature()]), json!({"allowUnsignedIndex": true}));
    assert_eq!(said(allowing, &image).await.0, "signed");
}

#[tokio::test]
async fn platforms_signed_by_a_stranger_allow_no_unsigned_index() {
    let registry = registry().await;
    let amd64 = push_image(&registry, "app", "amd64", "amd64").unwrap();
    let platforms = [(Some("linux/amd64"), &amd64)];
    let index = push_index(&registry, "app", "v1", &platforms).unwrap();
    attach_bundle(&registry, "app", &amd64, &FACTS.bundle(&amd64, "stranger")).unwrap();
    let image = format!("{}/app@{index}", registry.host());
    let (reason, text) = said(policy(json!([signature()]), json!({})), &image).await;
    assert_eq!(reason, "unsigned");
    assert!(!text.contains("allowUnsignedIndex"), "{text}");
}

#[tokio::test]
async fn an_indexs_evidence_is_named_where_platforms_carry_none() {
    let registry = registry().await;
    let amd64 = push_image(&registry, "app", "amd64", "amd64").unwrap();
    let platforms = [(Some("linux/amd64"), &amd64)];
    let index = push_index(&registry, "app", "v1", &platforms).unwrap();
    attach_bundle(&registry, "app", &index, &FACTS.bundle(&index, "stranger")).unwrap();
    let image = format!("{}/app@{index}", registry.host());
    let allowing = policy(json!([signature()]), json!({"allowUnsignedIndex": true}));
    let (reason, text) = said(allowing, &image).await;
    assert_eq!(reason, "signer-not-accepted", "{text}");
    assert!(text.contains("platform `linux/amd64`"), "{text}");
}
