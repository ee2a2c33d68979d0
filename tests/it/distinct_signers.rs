//! Which signatures come from one signer, as policies count them: signed in the sandbox, verified in full.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;

use promotion_gate_core::attest::{Anchor, Material, PublicKey, Verified, verify};
use promotion_gate_core::gate::{
    Collected, Digest, Evidence, EvidenceSource, Finding, ImageEvidence, Repository, Subject,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use x509_cert::der::{DecodePem as _, EncodePem as _, pem::LineEnding};

use crate::cli::run;
use crate::facts::{Attached, FACTS, ISSUER, judge, promotion, snapshot};

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const GOOGLE: &str = "https://accounts.google.com";

/// What two different signers would pass, with these two.
fn two_of(one: &Value, other: &Value) -> (bool, String) {
    let signers = json!({"one": one, "other": other});
    let anybody = json!({"keyless": {"issuer": {"glob": "https://**"}, "anyIdentity": true}});
    test(
        &json!({"threshold": 2, "anyOf": [anybody]}),
        &signers,
        &["one", "other"],
    )
}

/// Whether an image is let in that these have signed, and why not.
fn test(signature: &Value, signers: &Value, by: &[&str]) -> (bool, String) {
    let folder = TempDir::new().unwrap();
    let head = "apiVersion: promotion-gate.dev/v1alpha1\nmetadata: {name: signers}\n";
    let requirements = json!([{"digestPinned": {}}, {"signature": signature}]);
    let policy = format!("{head}kind: PromotionPolicy\nspec: {{requirements: {requirements}}}\n");
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let evidence: Vec<_> = by
        .iter()
        .map(|by| json!({"signature": {"by": by}}))
        .collect();
    let spec = json!({
        "policies": ["policy.yaml"],
        "namespace": "shop",
        "image": format!("registry.example/app@sha256:{}", "1".repeat(64)),
        "signers": signers,
        "cases": [{"name": "signed", "evidence": evidence, "expect": {"decision": "allow"}}],
    });
    let test = format!("{head}kind: PolicyTest\nspec: {spec}\n");
    fs::write(folder.path().join("test.yaml"), test).unwrap();
    let ran = run(folder.path(), &["test", "test.yaml"], "");
    assert!([0, 2].contains(&ran.code), "{}", ran.stderr);
    let denied = ran.code == 2;
    let counted =
        ran.stdout.contains("[too-few-signers]") || ran.stdout.contains("too-few-signers");
    assert_eq!(denied, counted, "{}", ran.stdout);
    (!denied, ran.stdout)
}

fn person(identity: &str, issuer: &str) -> Value {
    json!({"identity": identity, "issuer": issuer})
}

fn workflow(of: &str, claims: &[(&str, &str)]) -> Value {
    let claims: serde_json::Map<String, Value> = claims
        .iter()
        .map(|(claim, value)| ((*claim).to_owned(), json!(value)))
        .collect();
    json!({"identity": format!("https://github.com/{of}"), "issuer": GITHUB, "claims": claims})
}

#[test]
fn one_signer_under_two_names_never_fills_two_seats() {
    const RELEASE: &str = "example/app/.github/workflows/release.yml";
    let at = |reference: &str| workflow(&format!("{RELEASE}@{reference}"), &[]);
    let mut wrong = String::new();
    for (name, one, other) in [
        (
            "the same address by another issuer",
            person("alice@example.com", GOOGLE),
            person("alice@example.com", "https://github.com/login/oauth"),
        ),
        (
            "an address in another case",
            person("alice@example.com", GOOGLE),
            person("Alice@Example.com", GOOGLE),
        ),
        (
            "an address with a tag",
            person("alice@example.com", GOOGLE),
            person("alice+2@example.com", GOOGLE),
        ),
        (
            "one account whose address changed",
            json!({"identity": "alice@example.com", "issuer": GOOGLE, "claims": {"tokenSubject": "117"}}),
            json!({"identity": "alice@new.example", "issuer": GOOGLE, "claims": {"tokenSubject": "117"}}),
        ),
        (
            "a workflow at two tags",
            at("refs/tags/v1"),
            at("refs/tags/v2"),
        ),
        (
            "a workflow at a branch and a commit",
            at("refs/heads/main"),
            at("1111111111111111111111111111111111111111"),
        ),
        (
            "a workflow of a repository in another case",
            at("refs/tags/v1"),
            workflow(
                "Example/App/.github/workflows/release.yml@refs/tags/v1",
                &[],
            ),
        ),
        (
            "a workflow of a repository that was renamed",
            workflow(
                "example/app/.github/workflows/release.yml@refs/tags/v1",
                &[
                    ("sourceRepositoryUri", "https://github.com/example/app"),
                    ("sourceRepositoryIdentifier", "42"),
                ],
            ),
            workflow(
                "example/new/.github/workflows/release.yml@refs/tags/v1",
                &[
                    ("sourceRepositoryUri", "https://github.com/example/new"),
                    ("sourceRepositoryIdentifier", "42"),
                ],
            ),
        ),
    ] {
        let (allowed, said) = two_of(&one, &other);
        if allowed || !said.contains("are one signer") {
            writeln!(wrong, "{name}: {said}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn different_signers_fill_different_seats() {
    let caller = |repository: &str| {
        [
            (
                "sourceRepositoryUri",
                format!("https://github.com/{repository}"),
            ),
            ("sourceRepositoryIdentifier", "42".to_owned()),
        ]
    };
    let reusable = |of: &str| {
        let claims = caller("example/app");
        let claims: Vec<_> = claims.iter().map(|(k, v)| (*k, v.as_str())).collect();
        workflow(of, &claims)
    };
    for (name, one, other) in [
        (
            "two people",
            person("alice@example.com", GOOGLE),
            person("bob@example.com", GOOGLE),
        ),
        (
            "two workflows of a repository",
            workflow("example/app/.github/workflows/a.yml@refs/tags/v1", &[]),
            workflow("example/app/.github/workflows/b.yml@refs/tags/v1", &[]),
        ),
        (
            "two reusable workflows that one repository calls",
            reusable("example/build/.github/workflows/ci.yml@refs/tags/v1"),
            reusable("example/scan/.github/workflows/ci.yml@refs/tags/v1"),
        ),
        (
            "a person and a workflow",
            person("alice@example.com", GOOGLE),
            workflow("example/app/.github/workflows/a.yml@refs/tags/v1", &[]),
        ),
    ] {
        let (allowed, said) = two_of(&one, &other);
        assert!(allowed, "{name}: {said}");
    }
}

#[test]
fn a_denial_says_who_was_counted_once_and_which_seat_stays_open() {
    let keyless = |identity: &str| json!({"keyless": {"issuer": GOOGLE, "identity": identity}});
    let group = json!({"anyOf": [keyless("alice@example.com"), keyless("bob@example.com")]});
    let signature = json!({"allOf": [keyless("alice@example.com"), group]});
    let signers = json!({
        "alice": person("alice@example.com", GOOGLE),
        "bob": person("bob@example.com", GOOGLE),
    });
    let (allowed, said) = test(&signature, &signers, &["alice"]);
    assert!(!allowed);
    let expected = "1 of 2 different signers have signed: `alice@example.com` (issuer `https://accounts.google.com`); missing: 1 of `alice@example.com` (issuer `https://accounts.google.com`), `bob@example.com` (issuer `https://accounts.google.com`), other than the signers already counted";
    assert!(said.contains(expected), "{said}");
    assert!(test(&signature, &signers, &["bob", "alice"]).0);
}

/// What is said of an image with these signatures.
fn judged(signature: Value, evidence: ImageEvidence) -> Finding {
    let image = format!("registry.example/app@{}", digest());
    let spec = json!({"requirements": [{"digestPinned": {}}, {"signature": signature}]});
    let promotion = promotion(&[image]);
    let subject = Subject {
        repository: Repository::named("registry.example/app"),
        digest: digest(),
    };
    let evidence = Evidence {
        images: BTreeMap::from([(subject, Collected::Known(Arc::new(evidence)))]),
        ..Evidence::default()
    };
    let snapshot = snapshot(vec![FACTS.policy("signers", &spec)]);
    let verdict = judge(&promotion, &evidence, &snapshot);
    let mut findings = verdict.policies()[0].findings().iter();
    findings
        .find(|finding| finding.rule == "signature")
        .unwrap()
        .clone()
}

fn digest() -> Digest {
    format!("sha256:{}", "1".repeat(64)).parse().unwrap()
}

fn keyless(identity: &Value) -> Value {
    json!({"keyless": {"issuer": ISSUER, "identity": identity, "trustRoots": ["sandbox"]}})
}

#[test]
fn a_keys_signature_fills_no_seat_of_a_certificate() {
    let signed = FACTS.simple(&digest(), "release");
    let certificate = &signed.annotations["dev.sigstore.cosign/certificate"];
    let certificate = x509_cert::Certificate::from_pem(certificate).unwrap();
    let key = certificate.tbs_certificate.subject_public_key_info;
    let pem = key.to_pem(LineEnding::LF).unwrap();
    let material = Material::SimpleSigning {
        payload: signed.payload,
        annotations: signed.annotations,
    };
    let key = Arc::new(PublicKey::from_pem(&pem).unwrap());
    let root = Arc::clone(&FACTS.trust_roots()["sandbox"]);
    let mut evidence = ImageEvidence::default();
    for anchor in [Anchor::Root(root), Anchor::Key { key, root: None }] {
        match verify(&material, &digest(), &anchor) {
            Ok(Verified::Signature(signature)) => {
                let source = EvidenceSource("layer".to_owned());
                evidence.signatures.push((source, signature.into()));
            }
            other => panic!("{other:?}"),
        }
    }
    let key = json!({"key": {"pem": pem, "trustRoots": ["sandbox"], "transparency": "None"}});
    let release = keyless(&json!("release@example.com"));
    for one in [&key, &release] {
        let found = judged(json!({"anyOf": [one]}), evidence.clone());
        assert_eq!(found.reason, "signed", "{found:?}");
    }
    let both = judged(json!({"allOf": [key, release]}), evidence);
    assert_eq!(both.reason, "too-few-signers");
    assert!(both.detail.contains("are one signer"), "{both:?}");
}

#[test]
fn thousands_of_signatures_and_many_seats_are_judged() {
    let mut each = Vec::new();
    for by in [
        "release",
        "build",
        "stranger",
        "builder",
        "other-builder",
        "key",
    ] {
        let mut one = ImageEvidence::default();
        FACTS.add(&mut one, &digest(), &Attached::by(by));
        each.extend(one.signatures);
    }
    let mut evidence = ImageEvidence::default();
    for _ in 0..4096 / each.len() {
        evidence.signatures.extend(each.iter().cloned());
    }
    let anybody = keyless(&json!({"glob": "**"}));
    let group = json!({"threshold": 4_000_000_000_u32, "anyOf": vec![&anybody; 4]});
    let found = judged(json!({"allOf": vec![&group; 8]}), evidence.clone());
    assert_eq!(found.reason, "too-few-signers");
    assert!(found.detail.starts_with("4 of "), "{found:?}");
    let found = judged(
        json!({"threshold": 4, "anyOf": vec![&anybody; 16]}),
        evidence,
    );
    assert_eq!(found.reason, "signed", "{found:?}");
}
