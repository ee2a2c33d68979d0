//! What OpenVEX documents take back, kept in a real cluster while the registry loses the documents.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{
    ControlPlane, Cosign, Gate, LocalSigstore, Registry, User, deployment, until,
};

const SCANS: &str = "scans@example.com";
const SECURITY: &str = "security@example.com";

/// A scan that finds one vulnerability.
fn scan() -> Value {
    let found = json!({"VulnerabilityID": "CVE-2026-9", "PkgName": "zlib", "Severity": "CRITICAL"});
    let now = Timestamp::now();
    json!({
        "invocation": {"parameters": null, "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {
            "uri": "pkg:github/aquasecurity/trivy@0.74.0", "version": "0.74.0", "db": {"uri": "", "version": ""},
            "result": {
                "SchemaVersion": 2, "CreatedAt": now, "ArtifactName": "app", "ArtifactType": "container_image", "Metadata": {},
                "Results": [{"Target": "app", "Class": "os-pkgs", "Type": "alpine", "Vulnerabilities": [found]}],
            },
        },
        "metadata": {"scanStartedOn": now, "scanFinishedOn": now},
    })
}

fn document(status: &str, hours_ago: i64) -> Value {
    json!({
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/vex", "author": SECURITY, "version": 1,
        "timestamp": Timestamp::now() - SignedDuration::from_hours(hours_ago),
        "statements": [{"vulnerability": {"name": "CVE-2026-9"}, "status": status, "impact_statement": "x"}],
    })
}

#[test]
fn attack_an_affected_document_that_is_deleted_before_a_restart_still_counts() {
    let sigstore = LocalSigstore::shared();
    let gate = Gate::new(&sigstore);
    let signer = |identity: &str| {
        json!({"keyless": {
            "issuer": sigstore.issuer.url(), "identity": identity, "trustRoots": ["local"], "transparency": "Timestamp",
        }})
    };
    let rule = json!({"maximumSeverity": "Medium", "signedBy": signer(SCANS), "vex": {"signedBy": signer(SECURITY)}});
    gate.spec(
        json!([{"digestPinned": {}}, {"vulnerabilities": rule}]),
        json!({"uncovered": "Allow"}),
    );
    let (registry, cosign) = (Registry::distribution(), Cosign::v2());
    let image = registry.push("app", "vex", "vex");
    let attest = |kind: &str, predicate: &Value, by: &str| {
        cosign
            .attest_keyless(&image, kind, predicate, by, &sigstore)
            .ok();
    };
    attest("vuln", &scan(), SCANS);
    attest("openvex", &document("not_affected", 3), SECURITY);
    let attached = image.attached(".att");
    let before = registry.crane(["digest", &attached]).ok();
    attest("openvex", &document("affected", 2), SECURITY);

    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    let kubeconfig = plane.give_rights().display().to_string();
    let mut serving = gate.serve(&["--kubeconfig", &kubeconfig]);
    plane.register(&serving);
    let apply = |dry: &str| {
        let args = ["apply", "-f", "-", dry];
        let ran = plane.kubectl_as(User::Alice, args, &deployment("web", &image.by_digest()));
        format!("{}{}", ran.stdout, ran.stderr)
    };
    let says =
        |dry: &str, word: &str| until(word, || Some(apply(dry)).filter(|said| said.contains(word)));
    says("--dry-run=server", "[vulnerable]");
    assert!(plane.specs_of("vexrecords").is_empty());
    says("--dry-run=none", "[vulnerable]");
    let kept = until("what is taken back is kept", || {
        Some(plane.specs_of("vexrecords")).filter(|kept| !kept.is_empty())
    });
    let [kept] = &kept[..] else {
        panic!("{kept:?}");
    };
    let signer = json!({"keyless": {"issuer": sigstore.issuer.url(), "identity": SECURITY}});
    assert_eq!(
        (&kept["digest"], &kept["signer"]),
        (&json!(image.digest), &signer)
    );
    assert_eq!(
        kept["statements"][0]["vulnerabilities"],
        json!(["CVE-2026-9"])
    );
    assert_eq!(kept["statements"].as_array().unwrap().len(), 1);

    // The document is gone, and so is the process that read it.
    let earlier = format!("{}@{}", image.repository, before.trim());
    let (_, tag) = attached.rsplit_once(':').unwrap();
    registry.crane(["tag", &earlier, tag]).ok();
    gate.check(&image.by_digest()).allowed();
    serving.stop();
    let serving = gate.serve(&["--kubeconfig", &kubeconfig]);
    plane.register(&serving);
    let said = says("--dry-run=none", "[vulnerable]");
    assert!(said.contains("VexRecord"), "{said}");

    // A newer document clears the finding; a governor could delete the record too.
    attest("openvex", &document("not_affected", 1), SECURITY);
    says("--dry-run=server", "created (server dry run)");
    registry.crane(["tag", &earlier, tag]).ok();
    plane.kubectl(["delete", "vexrecords", "--all"]).ok();
    says("--dry-run=none", "web created");
}
