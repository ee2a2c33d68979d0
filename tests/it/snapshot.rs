//! Policies, configuration and trust roots of a running webhook: what counts when their files change, break or disappear.

use std::collections::BTreeMap;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promotion_gate::sandbox::{
    SandboxIdentity, SandboxSigner, Sigstore, attach_bundle, push_image,
};
use promotion_gate_core::gate::Digest;

use crate::serve::{CONFIGURATION, Gate, SIGNED, images};
use crate::server::{Reply, Server};

const LAX: &str = "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: lax}
spec: {requirements: [{digestPinned: {}}]}
";

#[tokio::test]
async fn an_edited_policy_is_taken_over_and_a_broken_one_is_not() {
    let (_registry, _, unsigned) = images().await;
    let gate = Gate::start(SIGNED).await;
    assert_eq!(gate.probe("/readyz").await, (200, "ready\n".to_owned()));
    gate.policy("kind: PromotionPolicy\nspec: {isuer: x}\n");
    gate.until("/readyz", "broken").await;
    let (status, text) = gate.probe("/readyz").await;
    assert_eq!(status, 200);
    assert!(text.contains("policy.yaml"), "{text}");
    assert!(
        gate.probe("/metrics")
            .await
            .1
            .contains("promotion_gate_policies_broken 1")
    );
    assert!(!gate.says(&unsigned).await.0);

    gate.policy(LAX);
    gate.reloaded("policy", 2).await;
    assert_eq!(gate.probe("/readyz").await, (200, "ready\n".to_owned()));
    assert!(gate.says(&unsigned).await.0);

    fs::remove_dir_all(gate.folder.path().join("policies")).unwrap();
    gate.until("/readyz", "broken").await;
    assert!(gate.says(&unsigned).await.0);
    gate.close().await;
}

#[tokio::test]
async fn a_policy_file_empty_for_a_moment_removes_no_policy() {
    let (_registry, _, unsigned) = images().await;
    let gate = Gate::start(SIGNED).await;
    gate.write("policies/other.yaml", LAX);
    gate.reloaded("policy", 2).await;
    gate.policy("");
    gate.until("/readyz", "holds no document").await;
    assert!(!gate.says(&unsigned).await.0);
    gate.close().await;
}

#[tokio::test]
async fn without_a_sound_policy_the_gate_denies_and_is_not_ready() {
    let gate = Gate::start("kind: Nonsense\n").await;
    let (status, text) = gate.probe("/readyz").await;
    assert_eq!(status, 503, "{text}");
    let (allowed, message) = gate.says("nginx").await;
    assert!(
        !allowed && message.contains("[policy-unreadable]"),
        "{message}"
    );
    assert_eq!(gate.probe("/livez").await.0, 200);
    gate.close().await;
}

#[tokio::test]
async fn a_password_that_changes_is_used_without_a_restart() {
    let sound = format!("Basic {}", STANDARD.encode("robot:new"));
    let registry = Server::start(move |seen| match seen.headers.get("authorization") {
        Some(given) if *given == sound => Reply::status(404),
        _ => Reply::status(401).with("www-authenticate", "Basic realm=\"registry\""),
    })
    .await;
    let gate = Gate::start(SIGNED).await;
    let host = registry.host();
    gate.write("password", "old\n");
    gate.configuration(&format!(
            "{CONFIGURATION}credentials: [{{registry: \"{host}\", username: robot, passwordFile: password}}]\n"
        ),
    );
    gate.reloaded("configuration", 1).await;
    let image = format!("{host}/app@{}", Digest::sha256(b"x"));
    let (_, message) = gate.says(&image).await;
    assert!(message.contains("[evidence-unavailable]"), "{message}");

    gate.write("password", "\n");
    gate.until("/readyz", "`password` is empty").await;
    gate.write("password", "new\n");
    gate.reloaded("configuration", 2).await;
    let (_, message) = gate.says(&image).await;
    assert!(message.contains("[unsigned]"), "{message}");
    gate.close().await;
}

#[tokio::test]
async fn policies_and_configuration_reload_independently() {
    let gate = Gate::start(SIGNED).await;
    gate.configuration(&CONFIGURATION.replace("file:", "fiel:"));
    gate.until("/readyz", "`fiel`").await;
    let (allowed, message) = gate.says("nginx").await;
    assert!(!allowed && message.contains("policy `signed`"), "{message}");
    let (status, _) = gate.probe("/readyz").await;
    assert_eq!(status, 200, "the last good state is in force");

    gate.policy(LAX);
    gate.reloaded("policy", 2).await;
    let (_, message) = gate.says("nginx").await;
    assert!(
        message.contains("policy `lax`"),
        "policies do not wait: {message}"
    );

    gate.policy(
        &SIGNED
            .replace("name: signed", "name: ours")
            .replace("[sandbox]", "[ours]"),
    );
    gate.until("/readyz", "`ours`").await;
    gate.configuration(&CONFIGURATION.replace("sandbox", "ours"));
    gate.until("/readyz", "ready\n").await;
    let (_, message) = gate.says("nginx").await;
    assert!(message.contains("policy `ours`"), "{message}");

    gate.close().await;
}

#[tokio::test]
async fn a_configuration_is_stricter_at_once_and_looser_when_sound() {
    let elsewhere = SIGNED.replace(
        "spec:",
        "spec:\n  match: {namespaces: {names: [elsewhere]}}",
    );
    let gate = Gate::start(&elsewhere).await;
    let configure = |more: &str| gate.configuration(&(CONFIGURATION.to_owned() + more));
    assert!(gate.says("nginx").await.0, "nothing governs it");
    gate.policy("kind: Nonsense\n");
    gate.until("/readyz", "there is no policy in it").await;
    configure("ungoverned: Deny\n");
    gate.reloaded("configuration", 1).await;
    let (allowed, message) = gate.says("nginx").await;
    assert!(!allowed && message.contains("[ungoverned]"), "{message}");

    configure("ungoverned: Allow\n");
    gate.reloaded("configuration", 2).await;
    assert!(!gate.says("nginx").await.0);
    gate.policy(&elsewhere);
    gate.until("/readyz", "ready\n").await;
    assert!(gate.says("nginx").await.0);
    gate.close().await;
}

#[tokio::test]
async fn a_replaced_trust_root_ends_while_policies_are_broken() {
    let (_registry, signed, _) = images().await;
    let gate = Gate::start(SIGNED).await;
    assert!(gate.says(&signed).await.0);
    gate.policy("kind: Nonsense\n");
    gate.until("/readyz", "there is no policy in it").await;
    let other = Sigstore::create().unwrap().trusted_root().to_string();
    gate.write("root.json", &other);
    gate.reloaded("configuration", 1).await;
    let (allowed, message) = gate.says(&signed).await;
    assert!(!allowed && message.contains("policy `signed`"), "{message}");
    gate.close().await;
}

#[tokio::test]
async fn a_removed_trust_root_counts_for_nobody_and_others_go_on() {
    let (registry, signed, unsigned) = images().await;
    let other = SIGNED.replace("[sandbox]", "[sandbox, kept]");
    let gate = Gate::start(&other.replace("name: signed", "name: both")).await;
    let kept = Sigstore::create().unwrap();
    gate.write("kept.json", &kept.trusted_root().to_string());
    let (both, only_kept) = (
        CONFIGURATION.replace("}]", "}, {name: kept, file: kept.json}]"),
        CONFIGURATION.replace("sandbox, file: root", "kept, file: kept"),
    );
    let (status, _) = gate.probe("/readyz").await;
    assert_eq!(status, 503, "the configuration does not have `kept` yet");
    gate.configuration(&both);
    gate.until("/readyz", "ready\n").await;
    let by_kept = push_image(&registry, "app", "kept", "kept").unwrap();
    let identity = SandboxIdentity::new("release@example.com", "https://issuer.example");
    let bundle = kept.signing().sign(
        SandboxSigner::Identity(&identity),
        &by_kept,
        &BTreeMap::new(),
    );
    attach_bundle(&registry, "app", &by_kept, &bundle.unwrap()).unwrap();
    let by_kept = format!("{}/app@{by_kept}", registry.host());
    assert_eq!(gate.says(&signed).await, (true, String::new()));
    assert_eq!(gate.says(&by_kept).await, (true, String::new()));

    gate.configuration(&only_kept);
    gate.reloaded("configuration", 2).await;
    let (allowed, message) = gate.says(&signed).await;
    assert!(
        !allowed && message.contains("policy `both`") && message.contains("[trust-root-missing]"),
        "{message}"
    );
    assert!(
        message.contains("the policy names the trust root `sandbox`, which is not configured")
            && message.contains("`trustRoots` of the configuration"),
        "{message}"
    );
    assert_eq!(gate.says(&by_kept).await, (true, String::new()));
    let (_, message) = gate.says(&unsigned).await;
    assert!(message.contains("[unsigned]"), "{message}");
    let (status, text) = gate.probe("/readyz").await;
    assert_eq!(status, 200);
    assert!(
        text.contains("the policy `both` in force names the trust root `sandbox`"),
        "{text}"
    );

    // Nothing that is known is fetched or verified again when the root comes back.
    registry.take_requests();
    gate.configuration(&both);
    gate.until("/readyz", "ready\n").await;
    assert_eq!(gate.says(&signed).await, (true, String::new()));
    let blobs = registry.take_requests().into_iter();
    let blobs: Vec<_> = blobs
        .filter(|request| format!("{request:?}").contains("/blobs/"))
        .collect();
    assert!(blobs.is_empty(), "{blobs:?}");
    gate.close().await;
}

#[tokio::test]
async fn a_policy_whose_only_trust_root_was_taken_away_denies_for_it() {
    let (_registry, signed, unsigned) = images().await;
    let gate = Gate::start(SIGNED).await;
    assert!(gate.says(&signed).await.0);
    let nothing = CONFIGURATION.replace("[{name: sandbox, file: root.json}]", "[]");
    gate.configuration(&nothing);
    gate.reloaded("configuration", 1).await;
    for image in [&signed, &unsigned] {
        let (allowed, message) = gate.says(image).await;
        assert!(!allowed, "{message}");
        assert!(message.contains("[trust-root-missing]"), "{message}");
        assert!(message.contains("policy `signed`"), "{message}");
    }
    gate.until(
        "/readyz",
        "the policy `signed` in force names the trust root `sandbox`",
    )
    .await;
    gate.close().await;
}
