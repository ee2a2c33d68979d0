//! What a deployer reads of a denial, word by word, so that a change of words is seen in review. Where a change is meant,
//! the new text is copied from the failure, or taken over by `cargo insta review`.

use std::sync::Arc;

use insta::assert_snapshot;
use promotion_gate::admission::AdmissionResponse;
use promotion_gate_core::gate::{Collected, Digest, Evidence, ImageEvidence, Unavailability};
use serde_json::{Value, json};

use crate::facts::{
    Attached, BUILDER, FACTS, Form, Provenance, judge, keyless, promotion, signed_by, snapshot,
};

fn signature() -> Value {
    signed_by("release@example.com")
}

fn attached(attached: &Attached) -> Collected<Arc<ImageEvidence>> {
    let mut evidence = ImageEvidence::default();
    FACTS.add(&mut evidence, &Digest::sha256(b"image"), attached);
    Collected::Known(Arc::new(evidence))
}

/// What a deployer reads under a policy with this requirement.
fn denial(requirement: &Value, image: &str, found: Collected<Arc<ImageEvidence>>) -> String {
    let spec = json!({"requirements": [{"digestPinned": {}}, requirement]});
    let promotion = promotion(&[image.to_owned()]);
    let (image, pin) = promotion.images().next().unwrap();
    let subject = pin.subject(&image.reference);
    let evidence = Evidence {
        images: subject
            .map(|subject| (subject, found))
            .into_iter()
            .collect(),
        ..Evidence::default()
    };
    let policies = snapshot(vec![FACTS.policy("production", &spec)]);
    let verdict = judge(&promotion, &evidence, &policies);
    AdmissionResponse::of(&verdict, &promotion, false).message
}

fn image() -> String {
    format!("registry.example/app@{}", Digest::sha256(b"image"))
}

#[test]
fn a_signature_of_a_stranger_is_denied_in_these_words() {
    let found = attached(&Attached::by("stranger"));
    assert_snapshot!(denial(&signature(), &image(), found), @r"
    Deployment shop/web may not be deployed
    policy `production` denies it:
    - signature [signer-not-accepted]: registry.example/app@sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d (spec.template.spec.containers[0].image): signer `stranger@example.com` (issuer `https://issuer.example`) is not accepted by this policy
      → accepted signers: `release@example.com` (issuer `https://issuer.example`)
    decision test
    ");
}

#[test]
fn provenance_of_another_branch_is_denied_in_these_words() {
    let requirement = json!({"provenance": {
        "builders": [{"id": BUILDER, "signedBy": keyless(BUILDER)}],
        "sources": ["https://github.com/example/app"],
        "branches": ["release"],
    }});
    let found = attached(&Attached {
        form: Form::Attestation,
        provenance: Some(Provenance {
            template: "workflow".to_owned(),
            but: json!({}),
        }),
        ..Attached::by("builder")
    });
    assert_snapshot!(denial(&requirement, &image(), found), @r"
    Deployment shop/web may not be deployed
    policy `production` denies it:
    - provenance [branch-not-accepted]: registry.example/app@sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d (spec.template.spec.containers[0].image): provenance by `https://github.com/example/builders/.github/workflows/build.yml@refs/tags/v1.4.0` (issuer `https://issuer.example`): the branch `main` is not accepted
      → accepted branches: `release`
    decision test
    ");
}

#[test]
fn a_placeholder_is_denied_in_these_words() {
    let nothing = Collected::Known(Arc::default());
    assert_snapshot!(denial(&signature(), "auto", nothing), @r"
    Deployment shop/web may not be deployed
    policy `production` denies it:
    - auto (spec.template.spec.containers[0].image):
      - digestPinned [not-pinned]: the image is named without a tag and without a digest, which means `latest`
        → `auto` is a placeholder that an injector (such as Istio's) replaces in the Pod, not an image: write the image with its digest, or remove the workload's namespace from the policy
      - signature [evidence-unavailable]: the evidence could not be verified: the digest of the image is not known
        → `auto` is a placeholder that an injector (such as Istio's) replaces in the Pod, not an image: write the image with its digest, or remove the workload's namespace from the policy
    decision test
    ");
}

#[test]
fn an_image_without_an_answer_is_denied_in_these_words() {
    let down = Unavailability("registry.example: connection refused (3 attempts)".to_owned());
    assert_snapshot!(denial(&signature(), &image(), Collected::Unavailable(down)), @r"
    Deployment shop/web may not be deployed
    policy `production` could not decide:
    - signature [evidence-unavailable]: registry.example/app@sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d (spec.template.spec.containers[0].image): the evidence could not be verified: registry.example: connection refused (3 attempts)
      → this is an infrastructure problem, not missing evidence; try again when the problem is solved
    decision test
    ");
}
