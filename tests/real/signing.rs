//! What cosign signs, on registries of both kinds, and what the gate says of it: allowed as it should be, denied with any one
//! thing wrong.

use serde_json::{Value, json};

use crate::support::{Cosign, Gate, Key, LocalSigstore, Registry};

const DEVELOPER: &str = "dev@example.com";

fn keyless(identity: &str, issuer: &str, roots: &[&str]) -> Value {
    // cosign 2 cannot write to this log, its signatures carry a timestamp alone.
    json!([{"keyless": {"issuer": issuer, "identity": identity, "trustRoots": roots, "transparency": "Timestamp"}}])
}

fn key(key: &Key, more: Value) -> Value {
    let mut entry = json!({"pem": key.public_pem(), "trustRoots": ["local"]});
    entry
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!([{"key": entry}])
}

#[track_caller]
fn allowed(gate: &Gate, image: &str) {
    gate.check(image).allowed();
}

#[track_caller]
fn denied(gate: &Gate, image: &str, reason: &str) {
    gate.check(image).denied(reason);
}

#[test]
fn keyless_signatures_are_accepted_from_the_right_signer_alone() {
    let sigstore = LocalSigstore::shared();
    let issuer = sigstore.issuer.url();
    let gate = Gate::new(&sigstore);
    for registry in Registry::both() {
        for cosign in [Cosign::v3(), Cosign::v2()] {
            let image = registry.push("app", "keyless", cosign.name());
            gate.require(keyless(DEVELOPER, &issuer, &["local"]));
            denied(&gate, &image.by_digest(), "unsigned");
            cosign.sign_keyless(&image, DEVELOPER, &sigstore).ok();
            allowed(&gate, &image.by_digest());
            denied(&gate, &image.by_tag(), "not-pinned");

            gate.require(keyless("boss@example.com", &issuer, &["local"]));
            denied(&gate, &image.by_digest(), "signer-not-accepted");
            gate.require(keyless(DEVELOPER, "https://issuer.example", &["local"]));
            denied(&gate, &image.by_digest(), "signer-not-accepted");
            gate.require(keyless(DEVELOPER, &issuer, &["sigstore"]));
            denied(&gate, &image.by_digest(), "signature-unaccepted");
        }
    }
}

#[test]
fn an_inclusion_proof_is_there_where_a_policy_asks_for_one() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    let mut signers = keyless(DEVELOPER, &sigstore.issuer.url(), &["local"]);
    signers[0]["keyless"]["transparency"] = json!("InclusionProof");
    gate.require(signers);
    let registry = Registry::with_referrers();
    let image = registry.push("app", "proof", "logged");
    Cosign::v3().sign_keyless(&image, DEVELOPER, &sigstore).ok();
    allowed(&gate, &image.by_digest());
    let image = registry.push("app", "proof", "stamped");
    Cosign::v2().sign_keyless(&image, DEVELOPER, &sigstore).ok();
    denied(&gate, &image.by_digest(), "not-transparent-enough");
}

#[test]
fn key_signatures_need_a_time_unless_the_policy_waives_it() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    let (signer, other) = (Key::generate(), Key::generate());
    for registry in Registry::both() {
        for cosign in [Cosign::v3(), Cosign::v2()] {
            let image = registry.push("app", "key", cosign.name());
            cosign
                .sign_with_key(&image, &signer, &[("stage", "tested")])
                .ok();
            gate.require(key(&signer, json!({"transparency": "None"})));
            allowed(&gate, &image.by_digest());
            gate.require(key(&signer, json!({})));
            denied(&gate, &image.by_digest(), "not-transparent-enough");
            gate.require(key(&other, json!({"transparency": "None"})));
            denied(&gate, &image.by_digest(), "signature-unaccepted");
        }
    }
    gate.require(key(&signer, json!({})));
    for registry in Registry::both() {
        let image = registry.push("app", "key", "stamped");
        Cosign::v2()
            .sign_with_key_and_time(&image, &signer, &sigstore)
            .ok();
        allowed(&gate, &image.by_digest());
        let image = registry.push("app", "key", "logged");
        Cosign::v3()
            .sign_with_key_and_log(&image, &signer, &sigstore)
            .ok();
        allowed(&gate, &image.by_digest());
    }
}

#[test]
fn an_attestation_is_no_signature() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    gate.require(keyless(DEVELOPER, &sigstore.issuer.url(), &["local"]));
    let registry = Registry::with_referrers();
    let image = registry.push("app", "attested", "attested");
    let predicate = json!({"result": "PASSED"});
    Cosign::v3()
        .attest_keyless(
            &image,
            "https://example.com/test/v1",
            &predicate,
            DEVELOPER,
            &sigstore,
        )
        .ok();
    denied(&gate, &image.by_digest(), "not-a-signature");
}

#[test]
fn one_good_signature_among_unusable_ones_is_found() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    gate.require(keyless(DEVELOPER, &sigstore.issuer.url(), &["local"]));
    let (v2, v3) = (Cosign::v2(), Cosign::v3());
    for registry in Registry::both() {
        for good in [&v2, &v3] {
            let image = registry.push("app", "crowded", good.name());
            registry.attach_junk(&image, "{\"mediaType\": 7}");
            gate.check(&image.by_digest())
                .denied("[signature-unaccepted]");
            v2.sign_with_key(&image, &Key::generate(), &[]).ok();
            v2.sign_keyless(&image, "stranger@example.com", &sigstore)
                .ok();
            v3.sign_with_key(&image, &Key::generate(), &[]).ok();
            v3.sign_keyless(&image, "stranger@example.com", &sigstore)
                .ok();
            gate.check(&image.by_digest())
                .denied("[signer-not-accepted]");
            good.sign_keyless(&image, DEVELOPER, &sigstore).ok();
            gate.check(&image.by_digest()).allowed();
        }
    }
}

#[test]
fn a_signature_copied_from_another_image_is_denied() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    gate.require(keyless(DEVELOPER, &sigstore.issuer.url(), &["local"]));
    let registry = Registry::distribution();
    for (cosign, suffix) in [(Cosign::v2(), ".sig"), (Cosign::v3(), "")] {
        let signed = registry.push("app", "signed", cosign.name());
        cosign.sign_keyless(&signed, DEVELOPER, &sigstore).ok();
        allowed(&gate, &signed.by_digest());
        let victim = registry.push("app", "victim", &format!("victim{suffix}"));
        let (from, to) = (signed.attached(suffix), victim.attached(suffix));
        registry.crane(["copy", &from, &to]).ok();
        denied(&gate, &victim.by_digest(), "signature-unaccepted");
    }
}

#[test]
fn a_keyless_signature_without_a_verified_time_is_denied() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    gate.require(keyless(DEVELOPER, &sigstore.issuer.url(), &["local"]));
    let registry = Registry::distribution();
    let image = registry.push("app", "timeless", "timeless");
    Cosign::v2()
        .sign_keyless_without_a_time(&image, DEVELOPER, &sigstore)
        .ok();
    denied(&gate, &image.by_digest(), "no-verified-time");
}

#[test]
fn keys_on_p384_and_p521_sign_with_every_cosign() {
    let sigstore = LocalSigstore::shared();
    let registry = Registry::distribution();
    let gate = Gate::new(&sigstore);
    for (name, algorithm) in [
        ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("p521", &rcgen::PKCS_ECDSA_P521_SHA512),
    ] {
        let (key, other) = (Key::import(algorithm), Key::import(algorithm));
        let require = |key: &Key| {
            let key = json!({"key": {"pem": key.public_pem(), "trustRoots": ["local"]}});
            gate.require(json!([key]));
        };
        for cosign in [Cosign::v3(), Cosign::v2()] {
            let image = registry.push("app", name, &format!("{name}-{}", cosign.name()));
            cosign.sign_with_key_and_time(&image, &key, &sigstore).ok();
            require(&key);
            gate.check(&image.by_digest()).allowed();
            require(&other);
            gate.check(&image.by_digest())
                .denied("[signature-unaccepted]");
        }
    }
}
