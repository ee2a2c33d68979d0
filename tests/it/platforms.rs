//! An index and its platforms are one image: whose evidence counts for what.

use std::collections::BTreeSet;

use promotion_gate::sandbox::{SandboxRegistry, attach_bundle, push_image, push_index};
use promotion_gate_core::attest::UnacceptedReason;
use promotion_gate_core::attest::unaccepted::TOO_LARGE;
use promotion_gate_core::gate::{
    Collected, Digest, Evidence, EvidenceSource, Finding, ImageEvidence, Index, Outcome,
    PlatformManifest, Policy, Repository, Subject, UnacceptedEvidence, Unavailability,
};
use serde_json::{Value, json};

use crate::facts::{Attached, FACTS, Form, judge, keyless, promotion, signed_by, snapshot};
use crate::gate::Gate;
use crate::images::registry;

fn policy(more: Value) -> Policy {
    let mut spec = json!({
        "tags": "Resolve",
        "requirements": [signed_by("release@example.com")],
    });
    let fields = more.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(fields);
    FACTS.policy("signed", &spec)
}

fn every_platform() -> Policy {
    policy(json!({"allowUnsignedIndex": true}))
}

struct Images {
    registry: SandboxRegistry,
    amd64: Digest,
    arm64: Digest,
}

impl Images {
    async fn new() -> Images {
        let registry = registry().await;
        let push = |name: &str| push_image(&registry, "app", name, name).unwrap();
        Images {
            amd64: push("amd64"),
            arm64: push("arm64"),
            registry,
        }
    }

    fn index(&self, manifests: &[(Option<&str>, &Digest)]) -> Digest {
        push_index(&self.registry, "app", "v1", manifests).unwrap()
    }

    fn both(&self) -> Digest {
        self.index(&[
            (Some("linux/amd64"), &self.amd64),
            (Some("linux/arm64"), &self.arm64),
        ])
    }

    fn sign(&self, digest: &Digest, by: &str) {
        attach_bundle(&self.registry, "app", digest, &FACTS.bundle(digest, by)).unwrap();
    }

    async fn says(&self, policy: Policy, digest: &Digest) -> (String, String, String) {
        self.says_of(policy, &format!("app@{digest}")).await
    }

    /// Outcome, reason, and what is said.
    async fn says_of(&self, policy: Policy, image: &str) -> (String, String, String) {
        let image = format!("{}/{image}", self.registry.host());
        let review = Gate::new(policy).review(&[image]).await;
        let finding = &review.verdict.policies()[0].findings()[0];
        let hint = finding.hint.as_deref().unwrap_or_default();
        (
            finding.outcome.id().to_owned(),
            finding.reason.to_owned(),
            format!("{} → {hint}", finding.detail),
        )
    }
}

#[tokio::test]
async fn a_signature_of_the_index_counts_for_every_platform() {
    let images = Images::new().await;
    let index = images.both();
    images.sign(&index, "release");
    for policy in [policy(json!({})), every_platform()] {
        assert_eq!(images.says(policy, &index).await.0, "pass");
    }
}

#[tokio::test]
async fn signed_platforms_count_only_where_the_policy_says_so() {
    let images = Images::new().await;
    let index = images.both();
    images.sign(&images.amd64, "release");
    images.sign(&images.arm64, "release");
    assert_eq!(images.says(policy(json!({})), &index).await.1, "unsigned");
    let (outcome, _, said) = images.says(every_platform(), &index).await;
    assert_eq!(outcome, "pass", "{said}");
    assert!(said.contains("each of 2 platforms"), "{said}");
}

#[tokio::test]
async fn one_unsigned_platform_denies_and_is_named() {
    let images = Images::new().await;
    let index = images.both();
    images.sign(&images.amd64, "release");
    let (outcome, reason, said) = images.says(every_platform(), &index).await;
    assert_eq!(
        (outcome.as_str(), reason.as_str()),
        ("fail", "unsigned"),
        "{said}"
    );
    assert!(said.contains("platform `linux/arm64`"), "{said}");
}

#[tokio::test]
async fn a_platform_signed_by_a_stranger_denies() {
    let images = Images::new().await;
    let index = images.both();
    images.sign(&images.amd64, "release");
    images.sign(&images.arm64, "stranger");
    let (_, reason, said) = images.says(every_platform(), &index).await;
    assert_eq!(reason, "signer-not-accepted", "{said}");
}

#[tokio::test]
async fn only_the_platforms_that_the_policy_names_need_evidence() {
    let images = Images::new().await;
    let index = images.both();
    images.sign(&images.amd64, "release");
    let named = |platform: &str| {
        policy(json!({"allowUnsignedIndex": true, "match": {"platforms": [platform]}}))
    };
    assert_eq!(images.says(named("linux/amd64"), &index).await.0, "pass");
    assert_eq!(
        images.says(named("linux/arm64"), &index).await.1,
        "unsigned"
    );
    assert_eq!(
        images.says(named("linux/s390x"), &index).await.1,
        "no-such-platform"
    );
}

#[tokio::test]
async fn an_index_entry_without_a_platform_needs_its_own_evidence() {
    let images = Images::new().await;
    let index = images.index(&[(Some("linux/amd64"), &images.amd64), (None, &images.arm64)]);
    images.sign(&images.amd64, "release");
    let named =
        || policy(json!({"allowUnsignedIndex": true, "match": {"platforms": ["linux/amd64"]}}));
    let (outcome, _, said) = images.says(named(), &index).await;
    assert_eq!(outcome, "fail", "{said}");
    assert!(said.contains("without a platform"), "{said}");
    images.sign(&images.arm64, "release");
    assert_eq!(images.says(named(), &index).await.0, "pass");
}

#[tokio::test]
async fn exactly_buildkits_attestations_are_no_platforms() {
    let images = Images::new().await;
    images.sign(&images.amd64, "release");
    let annotated = |platform: Value, annotations: Value| {
        let entry = |digest: &Digest, platform: Value, annotations: Value| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(),
                "size": 1, "platform": platform, "annotations": annotations})
        };
        let amd64 = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                entry(&images.amd64, amd64, json!({})),
                entry(&images.arm64, platform, annotations),
            ],
        });
        images
            .registry
            .put_manifest(
                "app",
                None,
                "application/vnd.oci.image.index.v1+json",
                index.to_string(),
            )
            .parse::<Digest>()
            .unwrap()
    };
    let unknown = || json!({"os": "unknown", "architecture": "unknown"});
    let attestation = || json!({"vnd.docker.reference.type": "attestation-manifest"});
    for (index, outcome) in [
        (annotated(unknown(), attestation()), "pass"),
        (annotated(unknown(), json!({})), "fail"),
        (
            annotated(
                json!({"os": "linux", "architecture": "arm64"}),
                attestation(),
            ),
            "fail",
        ),
    ] {
        assert_eq!(images.says(every_platform(), &index).await.0, outcome);
    }
}

#[tokio::test]
async fn a_platform_of_a_signed_index_is_denied_with_a_hint() {
    let images = Images::new().await;
    let index = images.both();
    images.sign(&index, "release");
    let image = format!("app:v1@{}", images.amd64);
    let (outcome, reason, said) = images.says_of(policy(json!({})), &image).await;
    assert_eq!((outcome.as_str(), reason.as_str()), ("fail", "unsigned"));
    assert!(said.contains(&format!("write `@{index}`")), "{said}");
}

#[tokio::test]
async fn an_index_whose_manifest_cannot_be_read_is_undecided() {
    let images = Images::new().await;
    let missing = Digest::sha256(b"missing");
    let index = images.index(&[(Some("linux/amd64"), &missing)]);
    let (outcome, _, said) = images.says(every_platform(), &index).await;
    assert_eq!(outcome, "fail", "{said}");
    let nowhere = Digest::sha256(b"nowhere");
    let (outcome, reason, said) = images.says(every_platform(), &nowhere).await;
    assert_eq!(
        (outcome.as_str(), reason.as_str()),
        ("undecided", "evidence-unavailable"),
        "{said}"
    );
}

#[test]
fn what_an_index_carries_that_no_requirement_asks_for_never_decides_for_platforms_that_could_not_be_read()
 {
    let [index, platform] = ["index", "platform"].map(|name| Subject {
        repository: Repository::named("registry.example/app"),
        digest: Digest::sha256(name.as_bytes()),
    });
    let said = |predicate_type: &str| {
        let mut about = ImageEvidence::default();
        let statement = Attached {
            form: Form::Attestation,
            statement: Some((
                predicate_type.to_owned(),
                json!({"emergency": index.digest.to_string()}),
            )),
            ..Attached::by("release")
        };
        FACTS.add(&mut about, &index.digest, &statement);
        assert_eq!(about.statements.len(), 1);
        about
    };
    let outcome = |of_index: ImageEvidence, of_platform: Collected<_>| {
        let manifests = vec![PlatformManifest {
            platform: None,
            digest: platform.digest.clone(),
        }];
        let mut evidence = Evidence::default();
        let platforms = Some(Index {
            manifests,
            refused: None,
        });
        let of_index = Collected::Known(of_index.into());
        evidence
            .indexes
            .insert(index.clone(), Collected::Known(platforms));
        evidence.images.insert(index.clone(), of_index);
        evidence.images.insert(platform.clone(), of_platform);
        let image = format!("registry.example/app@{}", index.digest);
        let verdict = judge(
            &promotion(&[image]),
            &evidence,
            &snapshot(vec![every_platform()]),
        );
        verdict.policies()[0].findings()[0].outcome
    };
    let closure = || said("https://promotion-gate.dev/emergency-closure/v1");
    for of_index in [
        ImageEvidence::default(),
        closure(),
        said("https://example.com/notes/v1"),
    ] {
        let unread = Collected::Unavailable(Unavailability("no answer".to_owned()));
        assert_eq!(outcome(of_index.clone(), unread), Outcome::Undecided);
        let nothing = Collected::Known(ImageEvidence::default().into());
        assert_eq!(outcome(of_index, nothing), Outcome::Fail);
    }
}

/// A statement of a scan or an SBOM: one that the policies below accept, or one that they deny.
type Made = fn(&str, bool) -> Attached;

fn stated(by: &str, kind: &str, predicate: Value) -> Attached {
    Attached {
        form: Form::Attestation,
        statement: Some((kind.to_owned(), predicate)),
        ..Attached::by(by)
    }
}

fn scan(by: &str, is_sound: bool) -> Attached {
    let severity = if is_sound { "LOW" } else { "CRITICAL" };
    let found = json!({"VulnerabilityID": "CVE-2026-9", "Severity": severity});
    let report = json!({
        "SchemaVersion": 2, "ArtifactType": "container_image",
        "Results": [{"Class": "os-pkgs", "Vulnerabilities": [found]}],
    });
    let predicate = json!({
        "scanner": {"uri": "pkg:github/aquasecurity/trivy@0.68.0", "result": report},
        "metadata": {"scanFinishedOn": "2200-01-01T00:00:00Z"},
    });
    let kind = "https://cosign.sigstore.dev/attestation/vuln/v1";
    stated(by, kind, predicate)
}

fn bill(by: &str, is_sound: bool) -> Attached {
    let name = if is_sound { "left-pad" } else { "event-stream" };
    let url = json!({"referenceType": "purl", "referenceLocator": format!("pkg:npm/{name}@1")});
    let packages = json!([{"SPDXID": "SPDXRef-1", "name": name, "externalRefs": [url]}]);
    let predicate = json!({"spdxVersion": "SPDX-2.3", "packages": packages});
    stated(by, "https://spdx.dev/Document", predicate)
}

/// The outcome and the reason for an index with one platform, where platforms may stand in for the index.
fn said_of_index(
    requirement: &Value,
    on_index: &[Attached],
    on_platform: &Attached,
) -> (String, String) {
    let finding = finding_of_index(requirement, on_index, on_platform, &[]);
    (finding.outcome.id().to_owned(), finding.reason.to_owned())
}

/// The finding for such an index. Pieces that are too large to be read are attached to the images of these names, `index` or `platform`.
fn finding_of_index(
    requirement: &Value,
    on_index: &[Attached],
    on_platform: &Attached,
    too_large: &[&str],
) -> Finding {
    let [index, platform] = ["index", "platform"].map(|name| Subject {
        repository: Repository::named("registry.example/app"),
        digest: Digest::sha256(name.as_bytes()),
    });
    let mut evidence = Evidence::default();
    for (name, subject, attached) in [
        ("index", &index, on_index),
        ("platform", &platform, std::slice::from_ref(on_platform)),
    ] {
        let mut about = ImageEvidence::default();
        let large = too_large.iter().filter(|it| **it == name);
        about
            .unaccepted
            .extend(large.map(|name| UnacceptedEvidence {
                source: EvidenceSource(format!("bundle of the {name}")),
                form: promotion_gate_core::gate::Form::Either,
                why: UnacceptedReason::new(TOO_LARGE, "more than 16 MiB"),
            }));
        for one in attached {
            FACTS.add(&mut about, &subject.digest, one);
        }
        let about = Collected::Known(about.into());
        evidence.images.insert(subject.clone(), about);
    }
    let platforms = Index {
        manifests: vec![PlatformManifest {
            platform: None,
            digest: platform.digest.clone(),
        }],
        refused: None,
    };
    let platforms = Collected::Known(Some(platforms));
    evidence.indexes.insert(index.clone(), platforms);
    let policy = policy(json!({
        "allowUnsignedIndex": true, "requirements": [requirement], "uncovered": "Allow",
    }));
    let image = format!("registry.example/app@{}", index.digest);
    let verdict = judge(&promotion(&[image]), &evidence, &snapshot(vec![policy]));
    verdict.policies()[0].findings()[0].clone()
}

#[test]
fn what_is_too_large_on_an_index_and_on_its_platforms_is_warned_of() {
    let signer = keyless("release@example.com");
    let scans = json!({"vulnerabilities": {"maximumSeverity": "Medium", "signedBy": signer}});
    let of = |name: &str| {
        format!(
            "what is too large to be read does not count: bundle of the {name}: more than 16 MiB"
        )
    };
    for large in [&[][..], &["index"], &["platform"], &["index", "platform"]] {
        let found = finding_of_index(&scans, &[], &scan("release", true), large);
        assert_eq!(found.outcome, Outcome::Pass, "{}", found.detail);
        let expected: BTreeSet<Box<str>> = large.iter().map(|name| of(name).into()).collect();
        assert_eq!(found.warnings, expected);
    }
}

#[test]
fn the_next_step_stays_beside_a_piece_that_is_too_large() {
    let signer = keyless("release@example.com");
    let scans = json!({"vulnerabilities": {"maximumSeverity": "Medium", "signedBy": signer}});
    let found = finding_of_index(&scans, &[], &scan("stranger", true), &["platform"]);
    assert_eq!(found.outcome, Outcome::Undecided, "{}", found.detail);
    let hint = found.hint.unwrap();
    assert!(hint.starts_with("accepted signer: "), "{hint}");
    assert!(hint.contains("; `promotion-gate evidence "), "{hint}");
}

#[test]
fn attack_a_scan_or_an_sbom_that_a_stranger_attests_to_an_index_does_not_stop_its_platforms() {
    let signer = keyless("release@example.com");
    let scans = json!({"vulnerabilities": {"maximumSeverity": "Medium", "signedBy": signer}});
    let sboms = json!({"sbom": {"signedBy": signer, "denied": ["pkg:npm/event-stream"]}});
    for (requirement, made, denied) in [
        (scans, scan as Made, "vulnerable"),
        (sboms, bill as Made, "package-denied"),
    ] {
        let said =
            |on_index: &[Attached]| said_of_index(&requirement, on_index, &made("release", true));
        assert_eq!(said(&[]).0, "pass");
        for is_sound in [true, false] {
            let (outcome, reason) = said(&[made("stranger", is_sound)]);
            assert_eq!(outcome, "pass", "{reason}");
        }
        // What the accepted signer says about the index counts, also beside that of a stranger.
        for on_index in [
            vec![made("release", false)],
            vec![made("stranger", true), made("release", false)],
        ] {
            assert_eq!(said(&on_index), ("fail".to_owned(), denied.to_owned()));
        }
        let unlogged = Attached {
            logged: false,
            ..made("release", false)
        };
        let unlogged = said(&[unlogged]);
        let reason = "not-transparent-enough".to_owned();
        assert_eq!(unlogged, ("fail".to_owned(), reason));
    }
}
