//! What reading a vulnerability report of 10 MB costs beside the parser that skips it, and how much memory it takes afterwards.
//!
//! The report has the form in which `cosign attest --type vuln` signs one of Trivy: on one line, the keys in order. Two comparisons:
//!
//! * the predicate as text: read by the gate, and skipped by `serde_json`
//! * the bundle: verified and read by the gate; and what has to be done with its bytes in any case, which is skipping the JSON of bundle and
//!   statement, decoding the base64, and one SHA-256 digest

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on fails; it prints what it found"
)]

use std::hint::black_box;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use promotion_gate::sandbox::{SandboxIdentity, SandboxSigner, Sigstore};
use promotion_gate_core::attest::predicate::{Predicate, VulnerabilityScan};
use promotion_gate_core::attest::{Anchor, Material, TrustRoot, Verified, verify};
use promotion_gate_core::gate::Digest;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const KIND: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
/// About 10 MB.
const FINDINGS: usize = 3300;

/// The same allocator as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn vulnerability(n: usize) -> Value {
    let layer = format!("sha256:{n:064x}");
    let cve = format!("CVE-2026-{n}");
    let (package, version) = (format!("libexample{}", n % 400), format!("1.{n}.1-r1"));
    let purl = format!("pkg:apk/alpine/{package}@{version}?arch=x86_64&distro=3.22.1");
    let description = "A flaw was found in the \"multi-part\" reader of the library.\nIt does not check the length of a field before \
                       it copies the field, so that a crafted request can write behind the end of the buffer. ";
    let lists = [
        "http://lists.example.org/archives/list/announce@lists.example.org/message/",
        "https://access.example.com/security/cve/",
        "https://bugs.example.org/show_bug.cgi?format=multiple&id=",
        "https://git.example.org/gitweb/?p=library.git;a=commitdiff;h=",
        "https://nvd.example.gov/vuln/detail/",
        "https://security.example.com/advisory/",
    ];
    let references = (0..12).zip(lists.iter().cycle());
    let references: Vec<_> = references
        .map(|(at, list)| format!("{list}{cve}-{at}"))
        .collect();
    json!({
        "VulnerabilityID": cve,
        "VendorIDs": [format!("EXSA-2026-{n}")],
        "PkgID": format!("{package}@{version}"),
        "PkgName": package,
        "PkgIdentifier": {"PURL": purl, "UID": format!("{n:016x}")},
        "InstalledVersion": version,
        "FixedVersion": format!("1.{n}.2-r1"),
        "Status": "fixed",
        "Layer": {"Digest": layer, "DiffID": layer},
        "SeveritySource": "nvd",
        "PrimaryURL": format!("https://avd.aquasec.com/nvd/{}", cve.to_lowercase()),
        "DataSource": {"ID": "alpine", "Name": "Alpine Secdb", "URL": "https://secdb.alpinelinux.org/"},
        "Fingerprint": layer,
        "Title": "library: the length of a field is not checked",
        "Description": description.repeat(4),
        "Severity": "MEDIUM",
        "CweIDs": ["CWE-787", "CWE-120"],
        "VendorSeverity": {"alma": 3, "amazon": 2, "nvd": 3, "oracle-oval": 3, "photon": 3, "redhat": 2, "ubuntu": 2},
        "CVSS": {
            "nvd": {"V2Vector": "AV:N/AC:L/Au:N/C:P/I:N/A:N", "V3Vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:N/A:N", "V2Score": 5, "V3Score": 5.3},
            "redhat": {"V3Vector": "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:L/I:L/A:N", "V3Score": 4.8},
        },
        "References": references,
        "PublishedDate": "2026-02-06T18:15:00.713Z",
        "LastModifiedDate": "2026-11-21T05:16:20.26Z",
    })
}

fn predicate() -> Value {
    let found: Vec<_> = (0..FINDINGS).map(vulnerability).collect();
    json!({
        "invocation": {"parameters": null, "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {
            "uri": "pkg:github/aquasecurity/trivy@0.68.0", "version": "0.68.0", "db": {"uri": "", "version": ""},
            "result": {
                "SchemaVersion": 2, "CreatedAt": "2026-11-28T10:00:00Z", "ArtifactName": "registry.example/app",
                "ArtifactType": "container_image", "Metadata": {"OS": {"Family": "alpine", "Name": "3.22.1"}},
                "Results": [{"Target": "registry.example/app (alpine 3.22.1)", "Class": "os-pkgs", "Type": "alpine", "Vulnerabilities": found}],
            },
        },
        "metadata": {"scanStartedOn": "2026-11-28T10:00:00Z", "scanFinishedOn": "2026-11-28T10:00:00Z"},
    })
}

fn skip(json: &[u8]) {
    serde_json::from_slice::<IgnoredAny>(black_box(json)).unwrap();
}

fn report_of_10_mb(criterion: &mut Criterion) {
    let predicate = predicate();
    let text = predicate.to_string();
    let sigstore = Sigstore::create().unwrap();
    let root = sigstore.trusted_root().to_string();
    let root = TrustRoot::parse("sandbox", root.as_bytes()).unwrap();
    let anchor = Anchor::Root(Arc::new(root));
    let identity = SandboxIdentity::new("scan@example.com", "https://issuer.example");
    let image = Digest::sha256(b"image");
    let signer = SandboxSigner::Identity(&identity);
    let bundle = sigstore.signing().attest(signer, &image, KIND, &predicate);
    let bundle = bundle.unwrap();
    let payload = bundle["dsseEnvelope"]["payload"]
        .as_str()
        .unwrap()
        .to_owned();
    let bundle = bundle.to_string().into_bytes();
    let material = Material::Bundle(bundle.clone());
    let read = || match verify(black_box(&material), &image, &anchor) {
        Ok(Verified::Statement(statement)) => statement,
        other => unreachable!("{other:?}"),
    };
    let statement = read();
    assert!(
        matches!(statement.predicate(), Predicate::Scan(scan) if scan.findings.len() == FINDINGS)
    );
    println!(
        "the predicate has {} bytes with {FINDINGS} findings, the bundle {}; {} bytes of memory are kept",
        text.len(),
        bundle.len(),
        statement.bytes(),
    );

    let mut group = criterion.benchmark_group("a report of Trivy of 10 MB");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(text.len().try_into().unwrap()));
    group.bench_function("the predicate skipped by serde_json", |bencher| {
        bencher.iter(|| skip(text.as_bytes()));
    });
    group.bench_function("the predicate read by the gate", |bencher| {
        bencher.iter(|| VulnerabilityScan::read(KIND, black_box(&text)).unwrap());
    });
    group.bench_function("the bundle skipped, decoded and hashed", |bencher| {
        bencher.iter(|| {
            skip(&bundle);
            let statement = STANDARD.decode(black_box(&payload)).unwrap();
            skip(&statement);
            Sha256::digest(&statement)
        });
    });
    group.bench_function("the bundle verified and read by the gate", |bencher| {
        bencher.iter(read);
    });
    group.finish();
}

criterion_group!(benches, report_of_10_mb);
criterion_main!(benches);
