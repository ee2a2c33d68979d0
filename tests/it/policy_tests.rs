//! `promotion-gate test`, from outside: what passes, every way to fail, and what is said about tests that are wrong.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use promotion_gate_core::gate::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{Ran, run};
use crate::facts::FACTS;
use crate::support::until;

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// A folder with policies, and a test of them with `cases`.
fn test(cases: &str, more: &[&str]) -> Ran {
    let folder = folder(cases);
    let args: Vec<_> = ["test", "test.yaml"].iter().chain(more).copied().collect();
    run(folder.path(), &args, "")
}

fn folder(cases: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let key = FACTS.key.public_pem().replace('\n', "\n            ");
    write(
        "policy.yaml",
        &format!(
            "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {{name: signed}}
spec:
  match: {{namespaces: {{names: [shop]}}}}
  requirements:
  - digestPinned: {{}}
  - signature:
      anyOf:
      - keyless: {{issuer: \"https://issuer.example\", identity: release@example.com}}
      - keyless: {{issuer: \"https://issuer.example\", identity: private@example.com, trustRoots: [github]}}
      - keyless: {{issuer: \"https://issuer.example\", identity: recorded@example.com, trustRoots: [ours]}}
      - key:
          pem: |
            {key}
"
        ),
    );
    write("root.json", &FACTS.trusted_root());
    write(
        "gate.yaml",
        "apiVersion: promotion-gate.dev/v1alpha1\nkind: GateConfiguration\ntrustRoots: [{name: ours, file: root.json}]\n",
    );
    write(
        "test.yaml",
        &format!(
            "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PolicyTest
metadata: {{name: signed}}
spec:
  policies: [policy.yaml]
  config: gate.yaml
  namespace: shop
  image: ghcr.io/example/app@{DIGEST}
  signers:
    release: {{identity: release@example.com, issuer: \"https://issuer.example\"}}
    private: {{identity: private@example.com, issuer: \"https://issuer.example\", trustRoot: github}}
    elsewhere: {{identity: private@example.com, issuer: \"https://issuer.example\"}}
    key: {{key: policy}}
    stranger: {{key: stranger}}
  cases:
{cases}"
        ),
    );
    folder
}

#[test]
fn every_ready_policy_says_what_its_test_expects() {
    let ran = run(
        Path::new(env!("CARGO_MANIFEST_DIR")),
        &["test", "policies/"],
        "",
    );
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn tests_are_found_under_any_file_name_and_skips_are_counted() {
    let folder = folder("  - {name: elsewhere, namespace: test, expect: {decision: ungoverned}}\n");
    let at = |name: &str| folder.path().join(name);
    let text = fs::read_to_string(at("test.yaml")).unwrap();
    fs::write(at("Second.YAML"), &text).unwrap();
    fs::write(at("third.Yml"), &text).unwrap();
    fs::write(at("service.yaml"), "apiVersion: v1\nkind: Service\n").unwrap();
    fs::write(at(".hidden.yaml"), &text).unwrap();
    fs::write(at("kustomization.yaml"), "resources: []\n").unwrap();
    let ran = run(folder.path(), &["test", "."], "");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.ends_with("pass 3 cases\n"), "{}", ran.stdout);
    let note = "note: skipped: 2 documents of other kinds, 1 hidden entry, 1 kustomization file\n";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
}

#[test]
fn a_test_file_that_holds_nothing_is_an_error() {
    let folder = folder("  - {name: elsewhere, namespace: test, expect: {decision: ungoverned}}\n");
    for empty in ["", "# later\n", "---\n"] {
        fs::write(folder.path().join("empty.yaml"), empty).unwrap();
        let ran = run(folder.path(), &["test", "."], "");
        assert_eq!(ran.code, 1, "{empty}");
        let said = "empty.yaml: the file holds no document";
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}

#[test]
fn what_is_described_is_signed_and_verified() {
    let ran = test(
        &format!(
            "  - {{name: a bundle, evidence: [{{signature: {{by: release}}}}], expect: {{decision: allow, reasons: [signature/signed]}}}}
  - {{name: a legacy signature, evidence: [{{signature: {{by: release, form: legacy}}}}], expect: {{decision: allow}}}}
  - {{name: a key, evidence: [{{signature: {{by: key}}}}], expect: {{decision: allow}}}}
  - {{name: a strange key, evidence: [{{signature: {{by: stranger}}}}], expect: {{decision: deny}}}}
  - {{name: a root without a log, evidence: [{{signature: {{by: private}}}}], expect: {{decision: allow}}}}
  - {{name: the same name under another root, evidence: [{{signature: {{by: elsewhere}}}}], expect: {{decision: deny}}}}
  - {{name: years ago, at: \"2021-01-01T00:00:00Z\", evidence: [{{signature: {{by: release}}}}], expect: {{decision: allow}}}}
  - {{name: in the future, at: \"2021-01-01T00:00:00Z\", evidence: [{{signature: {{by: release, at: \"2021-02-01T00:00:00Z\"}}}}], expect: {{decision: deny, reasons: [signature/signed-in-the-future]}}}}
  - {{name: replayed, evidence: [{{signature: {{by: release, about: \"sha256:{other}\"}}}}], expect: {{decision: deny, reasons: [signature/signature-unaccepted]}}}}
  - {{name: an attestation, evidence: [{{attestation: {{by: release, predicateType: \"https://example.com/v1\", predicate: {{a: 1}}}}}}], expect: {{decision: deny, reasons: [signature/not-a-signature]}}}}
  - {{name: provenance, evidence: [{{provenance: {{by: release, source: \"https://github.com/example/app\", ref: refs/tags/v1}}}}], expect: {{decision: deny, reasons: [signature/not-a-signature]}}}}
  - {{name: provenance by the generator, evidence: [{{provenance: {{by: release, generator: container, source: \"https://github.com/example/app\", ref: refs/tags/v1, inputs: {{a: b}}}}}}], expect: {{decision: deny, reasons: [signature/not-a-signature]}}}}
  - {{name: a tag, image: \"ghcr.io/example/app:v1\", tags: {{\"ghcr.io/example/app:v1\": \"{DIGEST}\"}}, evidence: [{{signature: {{by: release}}}}], expect: {{decision: deny, reasons: [digestPinned/not-pinned]}}}}
  - {{name: down, evidence: [{{unavailable: true}}], expect: {{decision: undecided, reasons: [signature/evidence-unavailable]}}}}
  - {{name: elsewhere, namespace: test, expect: {{decision: ungoverned}}}}
",
            other = "2".repeat(64)
        ),
        &[],
    );
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.ends_with("pass 15 cases\n"), "{}", ran.stdout);
}

#[test]
fn a_test_reads_trust_roots_as_the_gate_does() {
    let folder = folder(&format!(
        "  - {{name: recorded, digest: \"{DIGEST}\", evidence: [{{bundles: [recorded.json]}}], expect: {{decision: allow}}}}
  - {{name: signed here, evidence: [{{signature: {{by: ours}}}}], expect: {{decision: allow}}}}
  - {{name: not logged, evidence: [{{signature: {{by: ours, logged: false}}}}], expect: {{decision: deny}}}}
"
    ));
    let file = |name: &str| folder.path().join(name);
    let written = fs::read_to_string(file("test.yaml")).unwrap();
    let signer = "  signers:\n    ours: {identity: release@example.com, issuer: \"https://issuer.example\", trustRoot: ours}\n";
    fs::write(
        file("test.yaml"),
        written.replacen("  signers:\n", signer, 1),
    )
    .unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    let recorded = FACTS.bundle(&digest, "release").to_string();
    fs::write(file("recorded.json"), recorded).unwrap();
    let policy = fs::read_to_string(file("policy.yaml")).unwrap();
    let policy = policy.replace("recorded@", "release@");
    fs::write(file("policy.yaml"), policy).unwrap();
    let mut sparse: Value = serde_json::from_str(&FACTS.trusted_root()).unwrap();
    for list in ["tlogs", "ctlogs"] {
        let log = sparse[list][0].as_object_mut().unwrap();
        log.remove("baseUrl");
        log.insert("hashAlgorithm".to_owned(), json!(1));
    }
    let mut bare = json!({"mediaType": sparse["mediaType"]});
    bare["timestamp_authorities"] = sparse["timestampAuthorities"].clone();
    fs::write(file("root.json"), format!("{bare}\n{sparse}\n")).unwrap();
    let ran = run(folder.path(), &["test", "test.yaml"], "");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn recorded_bundles_are_verified_under_the_configured_roots() {
    let case = |name: &str, evidence: &str, expect: &str| {
        format!(
            "  - {{name: {name}, digest: \"{DIGEST}\", evidence: [{evidence}], expect: {{{expect}}}}}\n"
        )
    };
    let recorded = "{bundles: [lines.jsonl]}";
    let folder = folder(
        &(case(
            "a line that is good",
            recorded,
            "decision: deny, reasons: [signature/signer-not-accepted]",
        ) + &case(
            "one among others",
            &format!("{recorded}, {{signature: {{by: release}}}}"),
            "decision: allow",
        ) + &case(
            "nothing that is sound",
            "{bundles: [junk.json]}",
            "decision: deny, reasons: [signature/signature-unaccepted]",
        )),
    );
    let digest: Digest = DIGEST.parse().unwrap();
    let good = FACTS.bundle(&digest, "release");
    fs::write(
        folder.path().join("lines.jsonl"),
        format!("{good}\nnot json\n"),
    )
    .unwrap();
    fs::write(folder.path().join("junk.json"), "{\"mediaType\": 7}").unwrap();
    let ran = run(folder.path(), &["test", "test.yaml"], "");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    // The same bundle counts under the root that it was really made under, and that alone.
    let policy = folder.path().join("policy.yaml");
    let accepting = fs::read_to_string(&policy)
        .unwrap()
        .replace("recorded@", "release@");
    fs::write(&policy, accepting).unwrap();
    let ran = run(folder.path(), &["test", "test.yaml"], "");
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("FAIL a line that is good (line 16)\n       expected deny for signature/signer-not-accepted; the gate said allow"),
        "{}",
        ran.stdout
    );
}

const WRONG: &str = "  - {name: unsigned, expect: {decision: allow}}
  - {name: for another reason, expect: {decision: deny, reasons: [digestPinned/not-pinned]}}
  - {name: nowhere & <there>, namespace: test, expect: {decision: allow}}
  - {name: right, evidence: [{signature: {by: release}}], expect: {decision: allow}}
";

#[test]
fn a_failed_case_says_expected_actual_and_why() {
    let ran = test(WRONG, &[]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for expected in [
        "FAIL unsigned (line 16)\n       expected allow; the gate said deny\n       Pod shop/test, policy `signed`: deny\n         fail signature/unsigned: spec.containers[0].image: no signature is attached to the image\n           → sign the image with `cosign sign",
        "FAIL for another reason (line 17)\n       expected deny for digestPinned/not-pinned; the gate said deny, but not for digestPinned/not-pinned",
        "the gate said ungoverned\n       Pod test/test is governed by no policy",
        "  pass right\nFAIL 3 of 4 cases\n",
    ] {
        assert!(
            ran.stdout.contains(expected),
            "{expected}\n---\n{}",
            ran.stdout
        );
    }
}

#[test]
fn reports_are_versioned_json_or_junit_xml() {
    let ran = test(WRONG, &["--output", "json"]);
    assert_eq!(ran.code, 2);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["version"], "promotion-gate.dev/test/v1alpha1");
    assert_eq!(
        (&report["passed"], &report["failed"]),
        (&json!(1), &json!(3))
    );
    let case = &report["tests"][0]["cases"][1];
    assert_eq!(case["missing"], json!(["digestPinned/not-pinned"]));
    assert_eq!(
        (&case["decision"], &case["line"]),
        (&json!("deny"), &json!(17))
    );

    let folder = folder(WRONG);
    let args = [
        "test",
        "--output",
        "junit",
        "--output-file",
        "report.xml",
        "test.yaml",
    ];
    let ran = run(folder.path(), &args, "");
    assert_eq!(ran.code, 2);
    assert!(
        ran.stdout.ends_with("FAIL 3 of 4 cases\n"),
        "{}",
        ran.stdout
    );
    let xml = fs::read_to_string(folder.path().join("report.xml")).unwrap();
    assert!(
        xml.contains("<testsuites name=\"promotion-gate test\" tests=\"4\" failures=\"3\""),
        "{xml}"
    );
    assert!(
        xml.contains("name=\"nowhere &amp; &lt;there&gt;\""),
        "{xml}"
    );
    assert_eq!(xml.matches("<failure").count(), 3);
    assert_eq!(test(WRONG, &["--output-file", "report.xml"]).code, 1);
}

#[test]
fn every_mistake_in_a_test_is_reported_with_line_and_column() {
    let ran = test(
        "  - {name: a, at: yesterday, evidence: [{signature: {by: relaese}}, {layout: gone}, {bundles: [gone]}, {}], expect: {decision: allow}}
  - {name: a, image: 'A B', expect: {decision: deny, reasons: [unsigned]}}
  - {name: b, image: 'nginx', evidence: [{signature: {by: release}}], expect: {decision: deny}}
  - {name: c, image: nginx, digest: x, expect: {decision: deny}}
",
        &[],
    );
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    for expected in [
        "test.yaml:16:19: spec.cases[0].at: ",
        "names `relaese` with a certificate identity, did you mean `release`?",
        "spec.cases[0].evidence[1].layout: the image layout `gone`",
        "spec.cases[0].evidence[2].bundles[0]: `gone` cannot be read",
        "spec.cases[0].evidence[3]: expected one of `signature`",
        "spec.cases[1].name: another case has the name `a` too",
        "spec.cases[1].image: ",
        "spec.cases[1].expect.reasons[0]: expected `rule/reason`",
        "spec.cases[2].evidence[0]: evidence belongs to a digest, and `nginx` has none",
        "spec.cases[3]: expected one of `image`",
    ] {
        assert!(
            ran.stderr.contains(expected),
            "{expected}\n---\n{}",
            ran.stderr
        );
    }
    let ran = test(
        "  - {name: a, expct: {decision: allow}, expect: {decision: alow}}\n",
        &[],
    );
    assert!(
        ran.stderr.contains(
            "test.yaml:16:15: spec.cases[0].expct: unknown field `expct`, did you mean `expect`?"
        ),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("did you mean `allow`?"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_folder_without_tests_and_a_mistyped_kind_are_no_success() {
    let folder = folder(WRONG);
    let path = folder.path();
    let ran = run(path, &["test", "policy.yaml"], "");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("nothing would be tested"),
        "{}",
        ran.stderr
    );
    let text = fs::read_to_string(path.join("test.yaml")).unwrap();
    fs::write(
        path.join("test.yaml"),
        text.replace("PolicyTest", "PolicyTset"),
    )
    .unwrap();
    let ran = run(path, &["test", "."], "");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("did you mean `PolicyTest`?"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn watching_runs_again_when_a_policy_changes() {
    let folder = folder("  - {name: unsigned, expect: {decision: deny}}\n");
    let log = folder.path().join("log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_promotion-gate"))
        .args(["test", "--watch", "test.yaml"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let says = |expected: &str| fs::read_to_string(&log).unwrap().contains(expected);
    until("the first run", async || says("waiting for a change")).await;
    let policy = folder.path().join("policy.yaml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("[shop]", "[elsewhere]")).unwrap();
    until("another run", async || says("FAIL 1 of 1 case")).await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_example_of_the_documentation_runs() {
    let documentation = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/testing-policies.md"
    ));
    let blocks: Vec<_> = documentation.split("```yaml\n").skip(1).collect();
    let block = |index: usize| blocks[index].split("```").next().unwrap();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("test.yaml"), block(0)).unwrap();
    fs::write(folder.path().join("signed.yaml"), block(1)).unwrap();
    let ran = run(folder.path(), &["test", "."], "");
    assert_eq!(
        ran.stdout.lines().last(),
        Some("pass 3 cases"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
}

/// The cases of the page with the short forms of summaries, OpenVEX documents and SBOMs, each under a policy that it meets.
#[test]
fn the_short_forms_of_the_documentation_are_judged() {
    let page = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/testing-policies.md"
    ));
    let blocks = page.split("```yaml\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains("verificationSummary: {by"));
    let block = block.unwrap();
    let cases: Vec<_> = block.split("  - name:").skip(1).collect();
    let by = |name: &str| json!({"keyless": {"issuer": "https://issuer.example", "identity": format!("{name}@example.com")}});
    let verifier =
        json!({"id": "https://staging.example.com/promotion-gate", "signedBy": by("staging")});
    let summary = |minimum: &str| json!([{"verificationSummary": {"verifiers": [verifier], "environment": "staging", "minimumAge": minimum}}]);
    let scans = |denied: &str| {
        json!([
            {"vulnerabilities": {"maximumSeverity": "Low", "signedBy": by("scan"), "vex": {"signedBy": by("security")}}},
            {"sbom": {"signedBy": by("release"), "denied": [denied]}},
        ])
    };
    let signers = ["release", "staging", "scan", "security"];
    let signers: serde_json::Map<_, _> = signers
        .iter()
        .map(|name| {
            let identity = format!("{name}@example.com");
            let signer = json!({"identity": identity, "issuer": "https://issuer.example"});
            ((*name).to_owned(), signer)
        })
        .collect();
    for (case, requirements, code) in [
        (cases[0], summary("24h"), 0),
        (cases[0], summary("31h"), 2),
        (cases[1], scans("pkg:npm/**"), 0),
        (cases[1], scans("pkg:apk/alpine/musl"), 2),
    ] {
        let folder = TempDir::new().unwrap();
        let policy = json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy", "metadata": {"name": "p"},
            "spec": {"requirements": requirements, "tags": "Resolve", "uncovered": "Allow"},
        });
        fs::write(folder.path().join("policy.yaml"), policy.to_string()).unwrap();
        let digest = "1".repeat(64);
        let test = format!(
            "apiVersion: promotion-gate.dev/v1alpha1
kind: PolicyTest
metadata: {{name: t}}
spec:
  policies: [policy.yaml]
  image: registry.example/app@sha256:{digest}
  signers: {}
  cases:
  - name:{case}",
            json!(signers)
        );
        fs::write(folder.path().join("test.yaml"), test).unwrap();
        let ran = run(folder.path(), &["test", "test.yaml"], "");
        assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_case_says_what_deleted_openvex_documents_took_back() {
    let key = FACTS.key.public_pem();
    let by = |name: &str| json!({"keyless": {"issuer": "https://issuer.example", "identity": format!("{name}@example.com")}});
    let rule = |name: &str, vex: Value| json!({"name": name, "vulnerabilities": {"maximumSeverity": "Low", "signedBy": by("scan"), "vex": {"signedBy": vex}}});
    let requirements = json!([
        rule("person", by("security")),
        rule("key", json!({"key": {"pem": key}}))
    ]);
    let policy = json!({
        "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PromotionPolicy", "metadata": {"name": "p"},
        "spec": {"requirements": requirements, "tags": "Resolve", "uncovered": "Allow"},
    });
    let package = "pkg:apk/alpine/zlib@1.3";
    let clears = |by: &str| json!({"vex": {"by": by, "ago": "2h", "statements": [{"id": "CVE-1", "status": "not_affected", "justification": "component_not_present"}]}});
    let case = |records: Value, decision: &str, reasons: &[&str]| {
        let scan = json!({"scan": {"by": "scan", "findings": [{"id": "CVE-1", "severity": "Critical", "package": package}]}});
        json!({
            "name": records.to_string(), "vexRecords": records, "evidence": [scan, clears("security"), clears("held")],
            "expect": {"decision": decision, "reasons": reasons},
        })
    };
    let record = |by: &str, ago: &str, packages: &[&str]| json!([{"by": by, "ago": ago, "vulnerabilities": ["CVE-1"], "packages": packages}]);
    let vulnerable = &["vulnerabilities/vulnerable"][..];
    let unreadable = &["vulnerabilities/vex-unreadable"][..];
    let cases = json!([
        case(json!([]), "allow", &[]),
        case(record("security", "1h", &[]), "deny", vulnerable),
        case(record("held", "1h", &[package]), "deny", vulnerable),
        case(
            json!([{"by": "held", "vulnerabilities": ["cve-1"]}]),
            "deny",
            vulnerable
        ),
        case(
            json!([{"by": "security", "ago": "1h"}]),
            "undecided",
            unreadable
        ),
        case(record("security", "3h", &[]), "allow", &[]),
        case(
            record("security", "1h", &["pkg:apk/alpine/musl"]),
            "allow",
            &[]
        ),
        case(record("scan", "1h", &[]), "allow", &[]),
    ]);
    let identity = |name: &str| json!({"identity": format!("{name}@example.com"), "issuer": "https://issuer.example"});
    let test = |cases: &Value| {
        let digest = "1".repeat(64);
        json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": "PolicyTest", "metadata": {"name": "t"},
            "spec": {
                "policies": ["policy.json"], "image": format!("registry.example/app@sha256:{digest}"), "cases": cases,
                "signers": {"scan": identity("scan"), "security": identity("security"), "held": {"key": "policy"}},
            },
        })
    };
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("policy.json"), policy.to_string()).unwrap();
    let says = |cases: &Value| {
        fs::write(folder.path().join("test.json"), test(cases).to_string()).unwrap();
        let ran = run(folder.path(), &["test", "test.json"], "");
        (ran.code, format!("{}{}", ran.stdout, ran.stderr))
    };
    let (code, said) = says(&cases);
    assert_eq!(code, 0, "{said}");
    for (records, why) in [
        (
            record("nobody", "1h", &[]),
            "neither `signers` nor a people directory names `nobody`",
        ),
        (
            record("security", "1h", &["zlib"]),
            "`zlib` is not a package URL",
        ),
    ] {
        let (code, said) = says(&json!([case(records, "allow", &[])]));
        assert!(code == 1 && said.contains(why), "{said}");
    }
}

/// The emergency change on the page about testing policies, under a policy that asks about the incident.
#[test]
fn the_emergency_change_of_the_documentation_is_judged_with_its_incident() {
    let page = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/testing-policies.md"
    ));
    let blocks = page.split("```yaml\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains("incidents: {")).unwrap();
    let document = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "promotion-gate.dev/v1alpha1", "kind": kind,
            "metadata": {"name": "pager"}, "spec": spec,
        })
    };
    let certificate = |name: &str| json!({"issuer": "https://issuer.example", "email": format!("{name}@example.com")});
    let person =
        |name: &str| json!({"name": name, "identities": [{"certificate": certificate(name)}]});
    let release = json!({"issuer": "https://issuer.example", "identity": "release@example.com"});
    let people = json!({
        "people": [person("bob"), person("carol")],
        "groups": [{"name": "on-call", "members": ["bob", "carol"]}],
    });
    let policy = json!({
        "environment": "production",
        "requirements": [{"digestPinned": {}}, {"signature": {"anyOf": [{"keyless": release}]}}, {"noFreeze": {}}],
        "emergency": {
            "from": [{"group": "on-call", "count": 2}], "waives": ["noFreeze"],
            "incident": {"check": "pager", "minimumSeverity": "P2", "openedBeforeDeclaration": true},
        },
    });
    let check = json!({"preset": "PagerDuty", "url": "https://api.pagerduty.com"});
    let policies = [
        document("PeopleDirectory", people),
        document("IncidentCheck", check),
        document("PromotionPolicy", policy),
    ];
    let policies = policies.map(|it| it.to_string()).join("\n---\n");
    for (written, instead, reason) in [
        ("", "", None),
        ("severity: P1", "severity: P3", Some("emergency-incident")),
        (
            "severity: P1",
            "severity: P1, open: false",
            Some("emergency-incident"),
        ),
        (
            "openedAgo: 30m",
            "service: shop",
            Some("emergency-incident"),
        ),
        ("{INC1:", "{INC2:", Some("emergency-incident")),
        (
            "{severity: P1, openedAgo: 30m}",
            "{unreachable: down}",
            Some("emergency-incident-unknown"),
        ),
    ] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("policy.yaml"), &policies).unwrap();
        let cases = match reason {
            None => block.to_owned(),
            Some(reason) => {
                assert!(block.contains(written), "{written}");
                let denied = format!("{{decision: deny, reasons: [emergency/{reason}]}}");
                let allowed = "{decision: allow, reasons: [noFreeze/frozen]}";
                block.replace(written, instead).replace(allowed, &denied)
            }
        };
        let test = format!(
            "apiVersion: promotion-gate.dev/v1alpha1
kind: PolicyTest
metadata: {{name: t}}
spec:
  policies: [policy.yaml]
  at: 2026-06-01T10:00:00Z
  image: registry.example/app@{DIGEST}
  signers: {{release: {{identity: release@example.com, issuer: \"https://issuer.example\"}}}}
{cases}"
        );
        fs::write(folder.path().join("test.yaml"), test).unwrap();
        let ran = run(folder.path(), &["test", "test.yaml"], "");
        assert_eq!(ran.code, 0, "{instead}: {}{}", ran.stdout, ran.stderr);
    }
}

const PEOPLE: &str = "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PeopleDirectory
metadata: {name: people}
spec:
  people:
  - {name: alice, identities: [{certificate: {issuer: \"https://issuer.example\", email: alice@example.com}}]}
  groups:
  - {name: leads, members: [alice]}
---
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: approved}
spec:
  environment: production
  requirements:
  - digestPinned: {}
  - approvals: {from: [{group: leads}], differentFromAuthor: false, maximumAge: 1d}
  - noFreeze: {}
  uncovered: Allow
---
apiVersion: promotion-gate.dev/v1alpha1
kind: ChangeFreeze
metadata: {name: always}
spec: {environments: [production], reason: Year end, windows: [{from: \"2000-01-01T00:00:00Z\", until: \"2200-01-01T00:00:00Z\"}]}
";

#[test]
fn a_case_says_what_the_cluster_remembers() {
    let folder = folder("");
    fs::write(folder.path().join("policy.yaml"), PEOPLE).unwrap();
    let upkeep = "as: \"system:serviceaccount:kube-system:replicaset-controller\"";
    let back = "record: [{ago: 2d}, {ago: 1d, anotherTemplate: true}]";
    let cases = format!(
        "  - {{name: a rollback in a freeze, {back}, expect: {{decision: allow, reasons: [approvals/approved-before, noFreeze/rollback-passes]}}}}
  - {{name: without records, expect: {{decision: deny, reasons: [approvals/approvals-missing, noFreeze/frozen]}}}}
  - {{name: never admitted, record: [], expect: {{decision: deny, reasons: [noFreeze/frozen]}}}}
  - {{name: what ran by waiver, record: [{{ago: 2d, by: Waiver}}, {{ago: 1d, anotherTemplate: true}}], expect: {{decision: deny}}}}
  - {{name: another digest then, record: [{{ago: 2d, digest: \"sha256:{other}\"}}, {{ago: 1d, anotherTemplate: true}}], expect: {{decision: deny}}}}
  - {{name: a kept rejection, {back}, rejections: [{{by: alice, ago: 1h, reason: no}}], expect: {{decision: deny, reasons: [approvals/rejected]}}}}
  - {{name: a revoked digest, {back}, revocations: [{{reason: stolen}}], expect: {{decision: deny, reasons: [revocation/revoked]}}}}
  - {{name: an old approval of what runs, record: [{{ago: 2d}}], freezes: [], evidence: [{{approval: {{by: alice, ago: 3d}}}}], expect: {{decision: allow}}}}
  - {{name: an old approval, record: [], freezes: [], evidence: [{{approval: {{by: alice, ago: 3d}}}}], expect: {{decision: deny}}}}
  - {{name: upkeep, {upkeep}, record: [{{ago: 2d, by: Audit}}], expect: {{decision: allow}}}}
  - {{name: upkeep of a revoked digest, {upkeep}, record: [{{ago: 2d}}], revocations: [{{reason: stolen}}], expect: {{decision: deny}}}}
  - {{name: a controller with another image, {upkeep}, record: [], expect: {{decision: deny, reasons: [noFreeze/frozen]}}}}
",
        other = "2".repeat(64)
    );
    fs::write(
        folder.path().join("test.yaml"),
        format!(
            "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PolicyTest
metadata: {{name: kept}}
spec:
  policies: [policy.yaml]
  image: ghcr.io/example/app@{DIGEST}
  cases:
{cases}"
        ),
    )
    .unwrap();
    let ran = run(folder.path(), &["test", "test.yaml"], "");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let cases = cases.replace("by: alice, ago: 1h", "by: alic, ago: 1h");
    let text = fs::read_to_string(folder.path().join("test.yaml")).unwrap();
    let text = text.split("  cases:\n").next().unwrap().to_owned() + "  cases:\n" + &cases;
    fs::write(folder.path().join("test.yaml"), text).unwrap();
    let ran = run(folder.path(), &["test", "test.yaml"], "");
    let said = "the people directories do not name `alic`";
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

#[test]
fn a_case_says_for_which_object_a_pod_is_created() {
    let folder = folder("");
    let mesh = format!("mesh.example/proxy@sha256:{}", "3".repeat(64));
    let app = format!("ghcr.io/example/app@{DIGEST}");
    let policy = "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PromotionPolicy
metadata: {name: meshed}
spec:
  requirements: [{allowedImages: {patterns: [\"nowhere.example/*\"]}}]
  injected:
  - patterns: [\"mesh.example/*\"]
    signature: {anyOf: [{keyless: {issuer: \"https://issuer.example\", identity: mesh@example.com}}]}
";
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let with = |images: &[&str]| {
        let containers = images.iter().enumerate();
        let containers: Vec<_> = containers
            .map(|(at, image)| format!("{{name: c{at}, image: \"{image}\"}}"))
            .collect();
        format!("{{containers: [{}]}}", containers.join(", "))
    };
    let parent = |images: &[&str]| {
        let spec = with(images);
        format!(
            "parent: {{apiVersion: apps/v1, kind: ReplicaSet, metadata: {{name: web}}, spec: {{template: {{spec: {spec}}}}}}}"
        )
    };
    let (own, both) = (parent(&[&app]), parent(&[&app, &mesh]));
    let signed = "evidence: [{image: mesh.example/proxy, signature: {by: mesh}}]";
    let case = |name: &str, parent: &str, evidence: &str, expect: &str| {
        let fields = ["", parent, evidence].map(|field| match field {
            "" => String::new(),
            field => format!(", {field}"),
        });
        format!(
            "  - {{name: {name}, as: \"system:serviceaccount:kube-system:replicaset-controller\", object: {{apiVersion: v1, kind: Pod, metadata: {{name: web-1}}, spec: {}}}, record: [{{ago: 1d, image: ghcr.io/example/app}}]{}, expect: {{{expect}}}}}\n",
            with(&[&app, &mesh]),
            fields.concat()
        )
    };
    let deny = "decision: deny, reasons: [allowedImages/image-not-allowed]";
    let cases = [
        case("added and signed", &own, signed, "decision: allow"),
        case(
            "added and not signed",
            &own,
            "",
            "decision: deny, reasons: [injected/unsigned]",
        ),
        case("of the template", &both, signed, deny),
        case("without the owner", "", signed, deny),
    ];
    let write = |cases: &str| {
        let test = format!(
            "\
apiVersion: promotion-gate.dev/v1alpha1
kind: PolicyTest
metadata: {{name: injected}}
spec:
  policies: [policy.yaml]
  signers:
    mesh: {{identity: mesh@example.com, issuer: \"https://issuer.example\"}}
  cases:
{cases}"
        );
        fs::write(folder.path().join("test.yaml"), test).unwrap();
    };
    write(&cases.concat());
    let ran = run(folder.path(), &["test", "test.yaml"], "");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for (broken, said) in [
        (
            cases[0].replace("record: [{ago: 1d, image: ghcr.io/example/app}], ", ""),
            "add `record`",
        ),
        (
            cases[0].replace("kind: ReplicaSet", "kind: Secret"),
            "expected an object with a pod template",
        ),
    ] {
        write(&broken);
        let ran = run(folder.path(), &["test", "test.yaml"], "");
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}
