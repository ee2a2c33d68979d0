//! The binary as people and pipelines run it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use promotion_gate::sandbox::{
    SandboxIdentity, SandboxKey, SandboxRegistry, SandboxSigner, Sigstore, push_image,
};
use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::facts::FACTS;
use crate::images::{by_digest, registry, signed};

pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(folder: &Path, args: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_promotion-gate"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read its input may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// A folder with a configuration and a policy, and a registry with a signed and an unsigned image.
pub struct Bench {
    pub folder: TempDir,
    pub registry: SandboxRegistry,
    pub signed: Digest,
    pub unsigned: Digest,
}

impl Bench {
    pub async fn new() -> Bench {
        let registry = registry().await;
        let signed = signed(&registry, "signed", "release");
        let unsigned = push_image(&registry, "app", "unsigned", "unsigned").unwrap();
        let folder = TempDir::new().unwrap();
        let bench = Bench {
            folder,
            registry,
            signed,
            unsigned,
        };
        bench.write("root.json", &FACTS.trusted_root());
        bench.write("gate.yaml", "apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\ntrustRoots: [{name: sandbox, file: root.json}]\n");
        bench.write("policy.yaml", "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: signed}
spec:
  match: {namespaces: {names: [shop], selector: {matchLabels: {tier: production}}}}
  requirements:
  - digestPinned: {}
  - signature: {anyOf: [{keyless: {issuer: \"https://issuer.example\", identity: release@example.com, trustRoots: [sandbox]}}]}
");
        bench
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    pub fn image(&self, digest: &Digest) -> String {
        by_digest(&self.registry, digest)
    }

    pub fn check(&self, more: &[&str], input: &str) -> Ran {
        let args = ["check", "--policy", "policy.yaml", "--config", "gate.yaml"];
        let args: Vec<_> = args.iter().chain(more).chain(&["-"]).copied().collect();
        run(self.folder.path(), &args, input)
    }
}

pub fn deployment(namespace: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {namespace}}}\nspec: {{template: {{spec: {{containers: [{{name: web, image: \"{image}\"}}]}}}}}}\n---\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_ends_with_0_2_or_3_by_the_worst_object() {
    let bench = Bench::new().await;
    let (signed, unsigned) = (bench.image(&bench.signed), bench.image(&bench.unsigned));
    let ran = bench.check(&[], &deployment("shop", &signed));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.starts_with("allow Deployment shop/web (-:1)\n"),
        "{}",
        ran.stdout
    );
    let ran = bench.check(
        &[],
        &(deployment("shop", &signed) + &deployment("shop", &unsigned)),
    );
    assert_eq!(ran.code, 2);
    assert!(
        ran.stdout.contains("deny Deployment shop/web (-:6)"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("1 allowed, 1 denied, 0 undecided"),
        "{}",
        ran.stdout
    );
    bench.registry.stop();
    let ran = bench.check(&[], &deployment("shop", &signed));
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    assert!(
        ran.stdout.contains("undecided Deployment shop/web"),
        "{}",
        ran.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_lets_nothing_through_unseen() {
    let bench = Bench::new().await;
    let ran = bench.check(&[], "");
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(
        ran.stderr.contains("no object in the input"),
        "{}",
        ran.stderr
    );

    let image = format!("{}/app@{}", bench.registry.host(), bench.unsigned);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": image}]}});
    let list = |items: Value| json!({"apiVersion": "v1", "kind": "List", "items": items});
    let mut deep = pod.clone();
    for _ in 0..9 {
        deep = list(json!([deep]));
    }
    let bare = list(json!([{"metadata": {"name": "p"}, "spec": pod["spec"]}]));
    for (input, said) in [
        (deep, "nested deeper"),
        (list(json!("items")), "expected a list"),
        (bare, "has no `apiVersion` or no `kind`"),
    ] {
        for command in ["check", "images"] {
            let ran = match command {
                "check" => bench.check(&["--output", "json"], &input.to_string()),
                _ => run(bench.folder.path(), &["images", "-"], &input.to_string()),
            };
            assert_ne!(ran.code, 0, "{command}: {}", ran.stdout);
            let all = format!("{}{}", ran.stdout, ran.stderr);
            assert!(all.contains(said), "{command}: {all}");
            assert!(
                !ran.stdout.contains("\"decision\": \"allow\""),
                "{}",
                ran.stdout
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_its_name_label() {
    let bench = Bench::new().await;
    bench.write("policy.yaml", "apiVersion: promotion-gate.dev/v1alpha1\nkind: PromotionPolicy\nmetadata: {name: named}\nspec:\n  match: {namespaces: {selector: {matchLabels: {kubernetes.io/metadata.name: payments}}}}\n  requirements: [{allowedImages: {patterns: [\"elsewhere.example/**\"]}}]\n");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    let ran = bench.check(
        &[
            "--namespace",
            "payments",
            "--namespace-labels",
            "tier=production",
        ],
        &pod.to_string(),
    );
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_prints_a_versioned_json_report() {
    let bench = Bench::new().await;
    let ran = bench.check(
        &["--output", "json", "--at", "2099-01-01T00:00:00Z"],
        &deployment("shop", &bench.image(&bench.unsigned)),
    );
    assert_eq!(ran.code, 2);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["version"], "promotion-gate.dev/check/v1alpha1");
    assert_eq!(report["decision"], "deny");
    assert_eq!(report["at"], "2099-01-01T00:00:00Z");
    let object = &report["objects"][0];
    assert_eq!(object["kind"], "Deployment");
    let reasons = object["policies"][0]["findings"].as_array().unwrap().iter();
    let reasons: Vec<_> = reasons
        .map(|finding| finding["reason"].as_str().unwrap())
        .collect();
    assert!(reasons.contains(&"unsigned"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespace_labels_come_from_the_input_or_the_command_line() {
    let bench = Bench::new().await;
    let elsewhere = deployment("elsewhere", &bench.image(&bench.unsigned));
    let namespace = |tier: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: elsewhere, labels: {{tier: {tier}}}}}\n---\n"
        )
    };
    assert_eq!(bench.check(&[], &(namespace("test") + &elsewhere)).code, 0);
    assert_eq!(
        bench
            .check(&[], &(namespace("production") + &elsewhere))
            .code,
        2
    );
    // Without labels it might be governed: that is not decided.
    assert_eq!(bench.check(&[], &elsewhere).code, 3);
    let none = elsewhere.replace(", namespace: elsewhere", "");
    assert_eq!(bench.check(&["--namespace", "shop"], &none).code, 2);
    let labels = [
        "--namespace",
        "elsewhere",
        "--namespace-labels",
        "tier=production",
    ];
    assert_eq!(bench.check(&labels, &none).code, 2);
    let labels = [
        "--namespace",
        "elsewhere",
        "--namespace-labels",
        "tier=test",
    ];
    assert_eq!(bench.check(&labels, &none).code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_is_judged_by_the_deployment_that_it_refers_to() {
    let bench = Bench::new().await;
    let rollout = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web, namespace: shop}\nspec: {workloadRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n---\n";
    let deployment = deployment("shop", &bench.image(&bench.unsigned));
    let ran = bench.check(&[], &(deployment + rollout));
    assert_eq!(ran.code, 2);
    assert!(
        ran.stdout.contains("deny Rollout shop/web"),
        "{}",
        ran.stdout
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_input_is_named_and_never_allowed() {
    let bench = Bench::new().await;
    let ran = bench.check(&[], "a: [1,\n");
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("-:"), "{}", ran.stdout);
    let images = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}, "spec": {"containers": [{"name": "c", "image": 7}]}});
    let ran = bench.check(&[], &images.to_string());
    assert_ne!(ran.code, 0);
    assert!(
        ran.stdout.contains("spec.containers[0].image"),
        "{}",
        ran.stdout
    );
    assert_eq!(bench.check(&["--namespace-labels", "x"], "").code, 1);
    let ran = run(
        bench.folder.path(),
        &[
            "check",
            "--policy",
            "policy.yaml",
            "--config",
            "gate.yaml",
            "gone.yaml",
        ],
        "",
    );
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("gone.yaml"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_wrong_with_policies_is_said_at_once() {
    let bench = Bench::new().await;
    bench.write(
        "policy.yaml",
        "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: a}
spec:
  requirements:
  - signature: {anyOf: [{keyless: {isuer: \"https://issuer.example\", anyIdentity: true}}]}
---
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: b}
spec:
  requirements:
  - canary: {}
",
    );
    let ran = bench.check(&[], "");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("policy.yaml:6:"), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("unknown field `isuer`, did you mean `issuer`?"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("policy.yaml:13:") && ran.stderr.contains("`canary`"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_shows_what_was_found_and_why_not() {
    let bench = Bench::new().await;
    let image = bench.image(&bench.signed);
    let args = [
        "evidence",
        "--config",
        "gate.yaml",
        "--output",
        "json",
        &image,
    ];
    let ran = run(bench.folder.path(), &args, "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let accepted = &report["accepted"][0];
    assert_eq!(accepted["what"], "signature");
    assert_eq!(accepted["signer"], "release@example.com");
    assert_eq!(accepted["anchor"], "trust root `sandbox`");
    let ran = run(
        bench.folder.path(),
        &["evidence", "--output", "json", &image],
        "",
    );
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["accepted"].as_array().unwrap().is_empty());
    assert_eq!(
        report["unaccepted"].as_array().unwrap().len(),
        1,
        "{report:#}"
    );
    let tag = format!("{}/app:signed", bench.registry.host());
    let ran = run(
        bench.folder.path(),
        &["evidence", "--config", "gate.yaml", &tag],
        "",
    );
    assert!(ran.stdout.contains("release@example.com"), "{}", ran.stdout);
}

#[test]
fn images_prints_each_reference_once_per_file() {
    let folder = TempDir::new().unwrap();
    let text = deployment("shop", "nginx")
        + &deployment("shop", "nginx")
        + &deployment("shop", "busybox:1");
    let ran = run(folder.path(), &["images", "-"], &text);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "nginx\nbusybox:1\n"));
    let ran = run(folder.path(), &["images", "--output", "json", "-"], &text);
    assert!(
        ran.stdout.contains("docker.io/library/nginx"),
        "{}",
        ran.stdout
    );
}

#[test]
fn every_command_has_examples_and_wrong_usage_exits_with_1() {
    let folder = TempDir::new().unwrap();
    let ran = run(folder.path(), &["--version"], "");
    assert_eq!(
        ran.stdout,
        concat!("promotion-gate ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let help = run(folder.path(), &["--help"], "").stdout;
    assert!(help.contains("Examples:"), "{help}");
    for command in [
        "quickstart",
        "serve",
        "check",
        "test",
        "evidence",
        "images",
        "people",
        "record",
        "crds",
        "verify-bundle",
    ] {
        assert!(help.contains(command), "{command} is not in {help}");
        let ran = run(folder.path(), &[command, "--help"], "");
        assert_eq!(ran.code, 0);
        assert!(
            ran.stdout.contains("Examples:"),
            "{command}: {}",
            ran.stdout
        );
    }
    assert_eq!(run(folder.path(), &["chekc"], "").code, 1);
    assert_eq!(run(folder.path(), &["check"], "").code, 1);
}

#[test]
fn the_help_of_attest_change_says_who_gets_the_token() {
    let folder = TempDir::new().unwrap();
    for help in ["-h", "--help"] {
        let said = run(folder.path(), &["attest", "change", help], "").stdout;
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("api.github.com"), "{words}");
    }
}

#[test]
fn verify_bundle_asks_for_what_a_policy_asks_for_by_default() {
    let folder = TempDir::new().unwrap();
    let sigstore = Sigstore::create().unwrap();
    let key = SandboxKey::generate().unwrap();
    let identity = SandboxIdentity::new("release@example.com", "https://issuer.example");
    let image = Digest::sha256(b"image");
    let write = |name: &str, content: String| fs::write(folder.path().join(name), content).unwrap();
    write("root.json", sigstore.trusted_root().to_string());
    write("key.pub", key.public_pem());
    let signing = || sigstore.signing();
    for (name, signing, signer) in [
        ("logged", signing(), SandboxSigner::Identity(&identity)),
        (
            "unlogged",
            signing().unlogged(),
            SandboxSigner::Identity(&identity),
        ),
        ("key", signing(), SandboxSigner::Key(&key)),
        (
            "bare-key",
            signing().unlogged().unstamped(),
            SandboxSigner::Key(&key),
        ),
    ] {
        let bundle = signing.sign(signer, &image, &BTreeMap::new()).unwrap();
        write(name, bundle.to_string());
    }
    let by_identity = [
        "--certificate-identity",
        "release@example.com",
        "--certificate-oidc-issuer",
        "https://issuer.example",
    ];
    let by_key = ["--key", "key.pub"];
    let digest = image.to_string();
    for (bundle, by, more, code) in [
        ("logged", &by_identity[..], &[][..], 0),
        ("unlogged", &by_identity, &[], 1),
        (
            "unlogged",
            &by_identity,
            &["--transparency", "timestamp"],
            0,
        ),
        ("unlogged", &by_identity, &["--transparency", "none"], 1),
        (
            "logged",
            &by_identity,
            &["--transparency", "inclusion-proof"],
            0,
        ),
        ("key", &by_key, &[], 0),
        ("bare-key", &by_key, &[], 1),
        ("bare-key", &by_key, &["--transparency", "none"], 0),
    ] {
        let args = [
            &[
                "verify-bundle",
                "--bundle",
                bundle,
                "--trusted-root",
                "root.json",
            ],
            by,
            more,
            &[digest.as_str()],
        ]
        .concat();
        let ran = run(folder.path(), &args, "");
        assert_eq!(ran.code, code, "{args:?}: {}{}", ran.stdout, ran.stderr);
        let named = ran.stderr.contains("not-transparent-enough");
        assert_eq!(
            named,
            code == 1 && more != ["--transparency", "none"],
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn verify_bundle_without_transparency_checks_the_key_alone() {
    let folder = TempDir::new().unwrap();
    let (sigstore, other) = (Sigstore::create().unwrap(), Sigstore::create().unwrap());
    let key = SandboxKey::generate().unwrap();
    let image = Digest::sha256(b"image");
    let write = |name: &str, content: String| fs::write(folder.path().join(name), content).unwrap();
    write("root.json", sigstore.trusted_root().to_string());
    write("key.pub", key.public_pem());
    let sign = |sigstore: &Sigstore| {
        let signing = sigstore.signing();
        let bundle = signing.sign(SandboxSigner::Key(&key), &image, &BTreeMap::new());
        bundle.unwrap()
    };
    let own = sign(&sigstore);
    let mut forged = own.clone();
    forged["verificationMaterial"]["tlogEntries"] =
        sign(&sigstore)["verificationMaterial"]["tlogEntries"].clone();
    let mut many = own.clone();
    many["verificationMaterial"]["tlogEntries"] =
        json!(vec![&own["verificationMaterial"]["tlogEntries"][0]; 33]);
    write("own", own.to_string());
    write("forged", forged.to_string());
    write("many", many.to_string());
    write("foreign", sign(&other).to_string());
    for (bundle, code) in [("own", 0), ("forged", 1), ("many", 1), ("foreign", 1)] {
        let verify = |more: &[&str]| {
            let args = ["verify-bundle", "--key", "key.pub", "--bundle", bundle];
            let root = ["--trusted-root", "root.json", &image.to_string()];
            run(folder.path(), &[&args, more, &root].concat(), "")
        };
        let (checked, unchecked) = (verify(&[]), verify(&["--transparency", "none"]));
        assert_eq!(checked.code, code, "{}", checked.stderr);
        assert!(!checked.stdout.contains("not checked"));
        assert_eq!(unchecked.code, 0, "{bundle}: {}", unchecked.stderr);
        let said = "log entries and timestamps were not checked";
        assert!(unchecked.stdout.contains(said), "{}", unchecked.stdout);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_never_steers_the_terminal_or_forges_a_line() {
    let bench = Bench::new().await;
    let hostile = "evil\u{1b}[2J\r\nallow Deployment shop/web\u{202e}";
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": hostile, "namespace": "shop"},
        "spec": {"containers": [{"name": "a", "image": hostile}]},
    });
    let shown = [
        bench.check(&[], &object.to_string()),
        run(bench.folder.path(), &["images", "-"], &object.to_string()),
    ];
    for ran in shown {
        for line in (ran.stdout + &ran.stderr).lines() {
            assert!(!line.starts_with("allow Deployment"), "{line}");
            let steers = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!line.contains(steers), "{line:?}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_program_without_a_panic() {
    let script = "{ sleep 0.1; promotion-gate schema; echo $? >&2; } | true"
        .replace("promotion-gate", env!("CARGO_BIN_EXE_promotion-gate"));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap().trim(), "1");
}
