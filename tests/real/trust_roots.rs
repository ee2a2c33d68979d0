//! Trust roots in TUF repositories that go-tuf makes: read as cosign reads them, and in a cluster by one replica for all.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    ControlPlane, Cosign, Gate, LocalSigstore, Registry, Serving, TufRepository, User, deployment,
    until,
};

const DEVELOPER: &str = "dev@example.com";

fn resource(kind: &str, name: &str, spec: &Value) -> String {
    let resource = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    });
    resource.to_string()
}

/// What cosign reads is what was published.
#[track_caller]
fn assert_cosign_reads(repository: &TufRepository, published: &Path) {
    let (ran, read) = repository.read_by_cosign();
    assert!(ran.is_ok(), "{ran}");
    assert_eq!(read, fs::read(published).ok(), "{ran}");
}

#[test]
fn a_repository_is_read_as_cosign_reads_it_while_its_keys_and_its_root_change() {
    let sigstore = LocalSigstore::shared();
    let registry = Registry::with_referrers();
    let image = registry.push("app", "tuf", "1");
    Cosign::v3().sign_keyless(&image, DEVELOPER, &sigstore).ok();
    let gate = Gate::configured(&json!({}));
    let ours = sigstore.trusted_root();
    let text = fs::read(&ours).unwrap();
    let mut ended: Value = serde_json::from_slice(&text).unwrap();
    ended["certificateAuthorities"][0]["validFor"]["end"] = json!("2021-01-01T00:00:00Z");
    let ended = (gate.write("ended.json", &ended.to_string())).path("ended.json");
    let repository = TufRepository::with(&ours);
    gate.write(
        "policies/ours.json",
        &resource("TrustRoot", "ours", &repository.spec("1h")),
    );
    let issuer = sigstore.issuer.url();
    gate.require(
        json!([{"keyless": {"issuer": issuer, "identity": DEVELOPER, "trustRoots": ["ours"]}}]),
    );
    let check = || gate.check(&image.by_digest());
    check().allowed();
    assert_cosign_reads(&repository, &ours);

    repository.publish(&ended, &[]);
    check().denied("[signature-");
    assert_cosign_reads(&repository, &ended);

    repository.publish(&ended, &["-rotate"]);
    repository.publish(&ours, &["-rotate"]);
    check().allowed();
    assert_cosign_reads(&repository, &ours);

    // Both refuse what has expired.
    repository.publish(&ours, &["-valid", "-1h"]);
    let ran = check();
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(ran.stdout.contains("[trust-root-missing]"), "{ran}");
    assert!(ran.stderr.contains("expired at"), "{ran}");
    let (ran, read) = repository.read_by_cosign();
    assert_eq!(read, None, "{ran}");
}

#[test]
fn one_replica_reads_a_repository_and_all_decide_by_the_status_also_while_it_is_down() {
    let plane = ControlPlane::start();
    plane.create_namespace("promotion-gate");
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
    plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
    let sigstore = LocalSigstore::shared();
    let mut repository = TufRepository::with(&sigstore.trusted_root());
    let registry = Registry::with_referrers();
    let image = registry.push("app", "tuf", "1");
    Cosign::v3().sign_keyless(&image, DEVELOPER, &sigstore).ok();
    let signer = json!({"keyless": {"issuer": sigstore.issuer.url(), "identity": DEVELOPER, "trustRoots": ["ours"]}});
    let requirements = json!([{"digestPinned": {}}, {"signature": {"anyOf": [signer]}}]);
    let policy = json!({"requirements": requirements});
    let resources = [
        resource("TrustRoot", "ours", &repository.spec("1m")),
        resource("PromotionPolicy", "signed", &policy),
    ];
    let apply = ["apply", "--server-side", "-f", "-"];
    for resource in resources {
        plane.kubectl_as(User::Admin, apply, &resource).ok();
    }
    let gate = Gate::configured(&json!({}));
    let start = || gate.serve_cluster(&plane.admin_kubeconfig(), &[]);
    let shows = |serving: &Serving| {
        serving.says(
            "/metrics",
            "\npromotion_gate_trust_root_age_seconds{root=\"ours\"} ",
        );
    };
    let (one, two) = (start(), start());
    shows(&one);
    shows(&two);
    one.is_ready();
    let get = |path: &str| {
        let path = format!("jsonpath={{{path}}}");
        let ran = plane.kubectl(["get", "trustroot", "ours", "-o", &path]);
        ran.ok()
    };
    let published = fs::read_to_string(sigstore.trusted_root()).unwrap();
    assert_eq!(get(".status.lastValidRoot"), published.trim());
    let columns = plane.kubectl(["get", "pgt"]).ok();
    assert!(columns.contains("FETCHED"), "{columns}");

    // A new replica has the root although nobody can read the repository, and says so.
    repository.stop();
    drop((one, two));
    let three = start();
    shows(&three);
    let said = three.says("/readyz", "the trust root `ours` is as of ");
    assert!(said.starts_with("ready, but with problems"), "{said}");
    until("the status says why", || {
        (!get(".status.error").is_empty()).then_some(())
    });
    assert_eq!(get(".status.lastValidRoot"), published.trim());

    // A command decides by it as well, and says its age.
    let kubeconfig = plane.admin_kubeconfig();
    let check = ["check", "--config", "gate.yaml", "--from-cluster"];
    let check = [&check[..], &["--kubeconfig", &kubeconfig, "-"]].concat();
    let ran = gate.run(&check, &deployment("web", &image.by_digest()));
    let warning = "warning: the trust root `ours` is as of ";
    assert!(ran.stderr.contains(warning), "{ran}");
    ran.allowed();

    // What somebody else writes into the status does not count, and is replaced.
    let forged = r#"{"status":{"lastValidRoot":"{}","fetchedAt":"2999-01-01T00:00:00Z"}}"#;
    let patch = ["patch", "trustroot", "ours", "--subresource=status"];
    plane
        .kubectl([&patch[..], &["--type=merge", "-p", forged]].concat())
        .ok();
    until("the status is as it was", || {
        (get(".status.lastValidRoot") == published.trim()).then_some(())
    });
    shows(&three);
    repository.start();
}
