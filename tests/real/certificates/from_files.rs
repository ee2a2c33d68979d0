//! A certificate in files, whose CA the gate writes into the webhook configuration (`--webhook-ca-file`).

use super::self_managed::{WEBHOOK, World, made_by_somebody};
use crate::support::{Certificate, Serving};

const FAILED: &str = "alarms_total{reason=\"webhook-configuration-failed\"}";

/// Starts a gate with a certificate in files. Its CA is to be in `ca.crt`, which is not written here.
fn serve(world: &World, [leaf, key]: [String; 2]) -> Serving {
    world.gate.present(&Certificate { pem: leaf, key });
    let url = format!("--webhook-url=https://{}/validate", world.https);
    let flags = [
        "--tls-cert=tls.crt",
        "--tls-key=tls.key",
        "--webhook-ca-file=ca.crt",
        "--manage-webhook",
        WEBHOOK,
        &url,
    ];
    let gate = &world.gate;
    gate.serve_without_files(&world.kubeconfig, world.https, &flags)
}

#[test]
fn a_gate_with_its_ca_in_a_file_goes_live_with_that_ca() {
    let world = World::new();
    let [authority, _, leaf, key] = made_by_somebody(-1..700);
    world.gate.write("ca.crt", &authority);
    let gate = serve(&world, [leaf, key]);
    gate.is_ready();
    world.is_asked();
    let entries = world.entries();
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(world.bundle(), authority);
    let first = &entries[0]["clientConfig"]["caBundle"];
    let mut others = entries.iter();
    assert!(
        others.all(|it| it["clientConfig"]["caBundle"] == *first),
        "{entries:#?}"
    );
    assert_eq!(entries[0]["failurePolicy"], "Fail");
}

#[test]
fn a_gate_without_the_file_of_its_ca_says_that_it_is_not_asked_and_goes_live_once_the_file_is_there()
 {
    let world = World::new();
    let [authority, _, leaf, key] = made_by_somebody(-1..700);
    let gate = serve(&world, [leaf, key]);
    gate.is_ready();
    let answer = gate.says("/readyz", "`ca.crt` cannot be read");
    let said = "the webhook configuration `promotion-gate` stays empty, and the API server does not ask the gate: ";
    assert!(answer.starts_with("ready, but with problems"), "{answer}");
    assert!(answer.contains(said), "{answer}");
    gate.says("/metrics", &format!("{FAILED} 1"));
    assert!(gate.log().contains(said), "{}", gate.log());
    assert!(world.entries().is_null(), "{}", world.entries());

    world.gate.write("ca.crt", "nonsense");
    gate.says("/readyz", "`ca.crt` holds no readable certificates");
    assert!(world.entries().is_null(), "{}", world.entries());

    world.gate.write("ca.crt", &authority);
    world.is_asked();
    assert_eq!(world.bundle(), authority);
}
