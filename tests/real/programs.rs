//! The real programs work together, before the gate is asked: what fails here is the test bed.

use crate::support::{ControlPlane, Cosign, Key, LocalSigstore, Registry, User};

#[test]
fn both_cosigns_accept_what_they_signed_on_both_registries() {
    let sigstore = LocalSigstore::shared();
    let key = Key::generate();
    for registry in Registry::both() {
        for cosign in [Cosign::v3(), Cosign::v2()] {
            let image = registry.push("app", "keyless", cosign.name());
            cosign
                .sign_keyless(&image, "dev@example.com", &sigstore)
                .ok();
            cosign
                .verify_keyless(&image, "dev@example.com", &sigstore)
                .ok();
            cosign
                .verify_keyless(&image, "stranger@example.com", &sigstore)
                .refused();

            let image = registry.push("app", "key", cosign.name());
            cosign
                .sign_with_key(&image, &key, &[("stage", "tested")])
                .ok();
            cosign.verify_with_key(&image, &key).ok();
            cosign.verify_with_key(&image, &Key::generate()).refused();
        }
    }
}

#[test]
fn a_deployment_and_a_pod_are_applied_by_a_developer() {
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    let create = [
        "create",
        "deployment",
        "web",
        "--image=example.com/web:1",
        "--namespace=shop",
    ];
    plane.kubectl_as(User::Alice, create, "").ok();
    let run = [
        "run",
        "one",
        "--image=example.com/web:1",
        "--namespace=shop",
    ];
    plane.kubectl_as(User::Alice, run, "").ok();
    plane
        .kubectl_as(User::Alice, ["create", "namespace", "other"], "")
        .refused();
}
