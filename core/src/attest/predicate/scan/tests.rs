use serde_json::{Value, json};

use super::*;

const AT: &str = "2026-11-28T10:00:00Z";

fn trivy(but: &Value) -> Value {
    let mut report = json!({
        "SchemaVersion": 2,
        "CreatedAt": AT,
        "ArtifactType": "container_image",
        "Metadata": {"RepoDigests": [], "ImageConfig": {"config": {"Labels": {"results": "x"}}}},
        "Results": [{
            "Target": "alpine", "Class": "os-pkgs",
            "Vulnerabilities": [{
                "VulnerabilityID": "CVE-2026-1", "VendorIDs": ["DSA-1"], "PkgName": "musl",
                "PkgIdentifier": {"PURL": "pkg:apk/alpine/musl@1.2?arch=x86_64"},
                "InstalledVersion": "1.2", "FixedVersion": "1.3", "Severity": "HIGH",
                "SeveritySource": "nvd", "Title": "words\nand more",
            }],
        }],
    });
    merge(&mut report, but);
    report
}

fn grype(but: &Value) -> Value {
    let mut report = json!({
        "matches": [{
            "vulnerability": {"id": "GHSA-1", "severity": "Negligible", "fix": {"versions": [], "state": "not-fixed"}},
            "relatedVulnerabilities": [{"id": "CVE-2026-2", "severity": "Critical"}],
            "matchDetails": [], "artifact": {"name": "left-pad", "version": "1.0.0", "purl": ""},
        }],
        "source": {"type": "image", "target": {"repoDigests": [], "manifestDigest": ""}},
        "descriptor": {"name": "grype", "timestamp": AT, "db": {"status": {"built": "2026-11-27T00:00:00Z"}}},
    });
    merge(&mut report, but);
    report
}

/// A JSON merge patch (RFC 7386).
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object().filter(|_| into.is_object()) else {
        *into = patch.clone();
        return;
    };
    let fields = into.as_object_mut().unwrap();
    for (name, value) in patch {
        match value {
            Value::Null => drop(fields.remove(name)),
            value => merge(fields.entry(name.clone()).or_insert(json!({})), value),
        }
    }
}

fn vuln(result: &Value) -> Value {
    json!({
        "invocation": {"parameters": null, "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {"uri": "pkg:github/aquasecurity/trivy@0.68.0", "version": "0.68.0", "db": {"uri": "", "version": ""}, "result": result},
        "metadata": {"scanStartedOn": AT, "scanFinishedOn": AT},
    })
}

fn vulns(scanner: &Value) -> Value {
    json!({"scanner": scanner, "metadata": {"scanStartedOn": AT, "scanFinishedOn": AT}})
}

fn cosign(predicate: &Value) -> Result<VulnerabilityScan, String> {
    let read = VulnerabilityScan::read(COSIGN[0], &predicate.to_string());
    read.map_err(|why| why.to_string())
}

fn in_toto(predicate: &Value) -> Result<VulnerabilityScan, String> {
    let read = VulnerabilityScan::read(IN_TOTO[0], &predicate.to_string());
    read.map_err(|why| why.to_string())
}

#[track_caller]
fn refused(read: Result<VulnerabilityScan, String>, place: &str) {
    match read {
        Ok(scan) => panic!("read: {scan:?}"),
        Err(why) => assert!(why.contains(place), "{why}"),
    }
}

#[test]
fn a_report_of_trivy_is_read() {
    let digest = format!("sha256:{}", "1".repeat(64));
    let named = json!({"Metadata": {"RepoDigests": [format!("registry.example/app@{digest}")]}});
    let scan = cosign(&vuln(&trivy(&named))).unwrap();
    assert_eq!(
        (&*scan.scanner, scan.at.to_string().as_str()),
        ("trivy", AT)
    );
    assert_eq!((scan.database, scan.scanned.is_empty), (None, false));
    assert_eq!(scan.scanned.digests, [digest.parse().unwrap()]);
    let [finding] = &*scan.findings else {
        panic!("{:?}", scan.findings);
    };
    assert_eq!(finding.ids().collect::<Vec<_>>(), ["CVE-2026-1", "DSA-1"]);
    assert_eq!(&*finding.package, "pkg:apk/alpine/musl@1.2?arch=x86_64");
    assert_eq!(finding.severity, Some(VulnerabilitySeverity::High));
    assert_eq!(
        (finding.is_fixable, finding.is_suppressed),
        (Some(true), false)
    );
}

#[test]
fn a_report_of_grype_is_read() {
    let scan = cosign(&vuln(&grype(&json!({})))).unwrap();
    assert_eq!(&*scan.scanner, "grype");
    let built = scan.database.map(|at| at.to_string());
    assert_eq!(built.as_deref(), Some("2026-11-27T00:00:00Z"));
    let [finding] = &*scan.findings else {
        panic!("{:?}", scan.findings);
    };
    assert_eq!(finding.ids().collect::<Vec<_>>(), ["GHSA-1", "CVE-2026-2"]);
    assert_eq!(&*finding.package, "left-pad@1.0.0");
    assert_eq!(finding.severity, Some(VulnerabilitySeverity::Negligible));
    assert_eq!(finding.is_fixable, Some(false));
    let old = json!({"descriptor": {"db": {"built": "2026-11-26T00:00:00Z", "status": null}}});
    let scan = cosign(&vuln(&grype(&old))).unwrap();
    let built = scan.database.map(|at| at.to_string());
    assert_eq!(built.as_deref(), Some("2026-11-26T00:00:00Z"));
}

#[test]
fn a_list_of_in_toto_is_read() {
    let result = json!([
        {"id": "CVE-1", "severity": [{"method": "nvd", "score": "medium"}, {"method": "cvss_score", "score": "9.8"}]},
        {"id": "CVE-2"},
        {"id": "CVE-3", "severity": [{"method": "nvd", "score": "low"}, {"method": "CVSSv31", "score": "CVSS:3.1/AV:N"}]},
    ]);
    let scanner = json!({
        "uri": "pkg:github/anchore/grype@v0.90.0", "result": result,
        "db": {"lastUpdate": "2026-11-27T00:00:00Z"},
    });
    let scan = in_toto(&vulns(&scanner)).unwrap();
    assert_eq!(&*scan.scanner, "grype");
    assert!(scan.database.is_some());
    let severities: Vec<_> = scan.findings.iter().map(|it| it.severity).collect();
    assert_eq!(
        severities,
        [Some(VulnerabilitySeverity::Critical), None, None]
    );
    assert!(scan.findings.iter().all(|it| it.is_fixable.is_none()));
}

#[test]
fn a_list_of_in_toto_is_read_in_both_forms_of_version_0_1() {
    let rated = |score: &str| json!([{"method": "nvd", "score": score}]);
    let of = |kind: &str, item: &Value| {
        let scanner = json!({"uri": "osv.dev", "result": [{"id": "CVE-1"}, item]});
        let read = VulnerabilityScan::read(kind, &vulns(&scanner).to_string());
        read.map_err(|why| why.to_string())
    };
    let flat = json!({"id": "CVE-2", "severity": rated("high"), "annotations": []});
    for kind in IN_TOTO {
        let beside = |value: Value| {
            let mut item = flat.clone();
            item["vulnerability"] = value;
            item
        };
        for item in [
            flat.clone(),
            json!({ "vulnerability": flat }),
            beside(json!("a text")),
            beside(json!([{"id": "CVE-3"}])),
            beside(json!(1)),
            beside(json!(true)),
            beside(Value::Null),
        ] {
            let scan = of(kind, &item).unwrap();
            let [_, finding] = &*scan.findings else {
                panic!("{:?}", scan.findings);
            };
            assert_eq!(&*finding.id, "CVE-2");
            assert_eq!(finding.severity, Some(VulnerabilitySeverity::High));
            assert_eq!(finding.is_fixable, None);
        }
        for (item, place) in [
            (json!({}), "`id`"),
            (json!({"vulnerability": {}}), "`id`"),
            (json!({"vulnerability": null}), "`id`"),
            (json!({"vulnerability": "CVE-2"}), "`id`"),
            (json!({"Vulnerability": {"id": "CVE-2"}}), "another case"),
            (json!({"vulnerability": {"ID": "CVE-2"}}), "another case"),
            (
                json!({"id": "CVE-3", "vulnerability": {"id": "CVE-2"}}),
                "beside",
            ),
            (
                json!({"severity": rated("low"), "vulnerability": {"id": "CVE-2"}}),
                "beside",
            ),
        ] {
            refused(of(kind, &item), place);
        }
    }
}

#[test]
fn a_scanner_is_called_the_same_in_every_form() {
    for (uri, name) in [
        ("pkg:github/aquasecurity/trivy@0.68.0", "trivy"),
        ("https://github.com/aquasecurity/trivy/", "trivy"),
        ("pkg:github/anchore/grype?x=y", "grype"),
        ("osv.dev", "osv.dev"),
        (
            "https://user@scanner.example/v1",
            "https://user@scanner.example/v1",
        ),
    ] {
        assert_eq!(&*without_version(uri), name);
    }
}

#[test]
fn an_empty_report_is_not_a_scan_without_findings() {
    for result in [json!(null), json!({}), json!([]), json!({"Results": []})] {
        refused(cosign(&vuln(&result)), "scanner.result");
    }
    refused(cosign(&json!({})), "scanner.result");
    refused(cosign(&json!(null)), "an object");
    refused(cosign(&vuln(&json!({"SchemaVersion": 1}))), "SchemaVersion");
    refused(cosign(&vuln(&json!({"matches": []}))), "descriptor");
    for report in [
        json!({"descriptor": {"name": "grype"}}),
        json!({"matches": null, "descriptor": {"name": "grype"}}),
        json!({"matches": null, "source": {"type": "image"}, "descriptor": {"name": "grype"}}),
    ] {
        refused(cosign(&vuln(&report)), "`matches` is missing");
    }
    for source in ["", r#""source": null,"#] {
        let report = grype(&json!({"source": null})).to_string();
        let report = report.replacen('{', &format!("{{{source}"), 1);
        let report = serde_json::from_str(&report).unwrap();
        refused(cosign(&vuln(&report)), "`source` is missing");
    }
    let other = json!({"descriptor": {"name": "grepe"}});
    refused(cosign(&vuln(&grype(&other))), "descriptor.name");
    refused(
        in_toto(&vulns(&json!({"uri": "osv.dev"}))),
        "scanner.result",
    );
    refused(
        in_toto(&vulns(&json!({"uri": "", "result": []}))),
        "scanner.uri",
    );
    refused(in_toto(&vuln(&trivy(&json!({})))), "not a list");
}

#[test]
fn a_report_as_the_scanner_writes_it_is_called_that() {
    let ignored = json!({"ignoredMatches": grype(&json!({}))["matches"]});
    for (report, scanner) in [
        (trivy(&json!({})), RawReport::Trivy),
        (trivy(&json!({"Results": null})), RawReport::Trivy),
        (grype(&json!({})), RawReport::Grype),
        (grype(&ignored), RawReport::Grype),
    ] {
        let expected = format!("it is a report as {scanner} writes it");
        refused(cosign(&report), &expected);
        refused(in_toto(&report), &expected);
    }
}

#[test]
fn a_report_without_results_says_that_nothing_was_scanned() {
    let scan = cosign(&vuln(&trivy(&json!({"Results": null})))).unwrap();
    assert!(scan.scanned.is_empty && scan.findings.is_empty());
    let scan = cosign(&vuln(&trivy(&json!({"Results": [{"Class": "os-pkgs"}]})))).unwrap();
    assert!(!scan.scanned.is_empty && scan.findings.is_empty());
    // Secrets and misconfigurations are no packages.
    for (class, is_empty) in [
        ("secret", true),
        ("config", true),
        ("license", true),
        ("lang-pkgs", false),
        ("", false),
    ] {
        let scan = cosign(&vuln(&trivy(&json!({"Results": [{"Class": class}]})))).unwrap();
        assert_eq!(scan.scanned.is_empty, is_empty, "{class}");
    }
}

/// In each place where lists of unknown names are looked at.
#[test]
fn a_finding_behind_harmless_items_of_a_field_that_is_not_read_is_refused() {
    let elsewhere = "findings are not read from this field";
    let found = trivy(&json!({}))["Results"][0]["Vulnerabilities"][0].clone();
    let nested = json!({"Name": "musl", "Vulnerabilities": [found]});
    let matched = grype(&json!({}))["matches"][0].clone();
    let listed = json!({"id": "CVE-1", "severity": [{"method": "nvd", "score": "high"}]});
    let harmless = json!({"ID": "musl@1.2", "Name": "musl", "Severity": "LOW"});
    let behind = |item: &Value, others: usize| {
        let mut items = vec![harmless.clone(); others];
        items.extend([json!(null), json!("text"), json!([]), item.clone()]);
        Value::from(items)
    };
    for item in [&found, &nested, &json!({"Results": [nested]})] {
        let within = json!({"Results": [{"Class": "os-pkgs", "More": behind(item, 1000)}]});
        refused(cosign(&vuln(&trivy(&within))), elsewhere);
        let beside = json!({"More": behind(item, 1000)});
        refused(cosign(&vuln(&trivy(&beside))), elsewhere);
    }
    let report = grype(&json!({"More": behind(&matched, 1000)}));
    refused(cosign(&vuln(&report)), elsewhere);
    // What has only one of the two keys of a finding is none.
    let behind_own = json!([{"name": "ours", "severity": "HIGH"}, {"id": "ours"}, listed]);
    let scanner = json!({"uri": "osv.dev", "result": [], "more": behind_own});
    refused(in_toto(&vulns(&scanner)), elsewhere);
    let mut beside = vulns(&json!({"uri": "osv.dev", "result": []}));
    beside["more"] = behind_own;
    refused(in_toto(&beside), elsewhere);
    // Of packages, a part is looked at.
    let packages = |others: usize| {
        let packages = behind(&nested, others);
        cosign(&vuln(&trivy(
            &json!({"Results": [{"Class": "os-pkgs", "Packages": packages}]}),
        )))
    };
    refused(packages(trivy::PACKAGES - 4), elsewhere);
    assert!(packages(trivy::PACKAGES - 3).is_ok());
}

#[test]
fn a_report_that_names_the_finding_in_another_field_is_refused_or_counted() {
    let found = &trivy(&json!({}))["Results"][0]["Vulnerabilities"][0].clone();
    for (results, place) in [
        (json!([{"vulnerabilities": [found]}]), "another case"),
        (
            json!([{"Vulnerabilities": {"0": found}}]),
            "expected a list",
        ),
        (
            json!([{"Vulnerabilities": [{"ID": "CVE-1"}]}]),
            "VulnerabilityID",
        ),
        (json!({"0": {}}), "expected a list"),
    ] {
        refused(cosign(&vuln(&trivy(&json!({"Results": results})))), place);
    }
    refused(
        cosign(&vuln(&trivy(&json!({"results": []})))),
        "another case",
    );
    refused(
        cosign(&vuln(&trivy(&json!({"matches": []})))),
        "of Trivy's reports and of Grype's",
    );
    refused(
        cosign(&vuln(&grype(&json!({"Results": []})))),
        "of Trivy's reports and of Grype's",
    );
    refused(
        cosign(&vuln(&grype(&json!({"Matches": []})))),
        "another case",
    );
    let of_trivy = |but: Value| cosign(&vuln(&trivy(&but)));
    for key in ["Vulnerabilities", "vulnerabilities", "Resources"] {
        refused(of_trivy(json!({ key: [found] })), "no findings are read");
        let report = grype(&json!({ key: [found] }));
        refused(cosign(&vuln(&report)), "no findings are read");
    }
    let elsewhere = "findings are not read from this field";
    let nested = json!([{"Target": "alpine", "Vulnerabilities": [found]}]);
    for but in [
        json!({"Results": [{"Vulns": [found]}]}),
        json!({"Results": [{"Results": nested}]}),
        json!({"Results": [{"Targets": nested}]}),
        json!({"Vulns": [found]}),
        json!({"Findings": [{"Kind": "Pod", "Results": nested}]}),
    ] {
        refused(of_trivy(but), elsewhere);
    }
    let report = grype(&json!({}));
    let more = grype(&json!({"moreMatches": report["matches"]}));
    refused(cosign(&vuln(&more)), elsewhere);
    // What is not a list of findings is skipped.
    let unknown = json!({
        "Packages": [{"ID": "musl@1.2", "Name": "musl"}], "Secrets": [], "Licenses": [{"Severity": "LOW", "PkgName": "musl"}],
        "Names": ["VulnerabilityID"], "VulnerabilityID": "x", "a": {"VulnerabilityID": []}, "b": 1, "c": -1, "d": 0.5, "e": true, "f": null,
    });
    let mut result = unknown.clone();
    result["Vulnerabilities"] = json!([found]);
    let mut report = trivy(&json!({ "Results": [result] }));
    merge(&mut report, &unknown);
    assert_eq!(cosign(&vuln(&report)).unwrap().findings.len(), 1);
    let listed = json!([{"id": "CVE-1", "severity": [{"method": "nvd", "score": "high"}]}]);
    let scanner = json!({"uri": "osv.dev", "result": []});
    for key in [
        "scanners",
        "result",
        "results",
        "findings",
        "vulnerabilities",
        "Vulnerabilities",
        "Results",
        "matches",
        "ignoredMatches",
        "Metadata",
    ] {
        let mut beside = vulns(&scanner);
        beside[key] = listed.clone();
        let why = format!("`{key}` is not a field of this predicate type");
        refused(in_toto(&beside), &why);
        let mut beside = vuln(&trivy(&json!({})));
        beside[key] = listed.clone();
        refused(cosign(&beside), &why);
    }
    for key in ["results", "findings", "vulnerabilities", "matches", "found"] {
        let mut within = scanner.clone();
        within[key] = listed.clone();
        refused(in_toto(&vulns(&within)), elsewhere);
    }
    let mut beside = vulns(&scanner);
    beside["found"] = listed;
    refused(in_toto(&beside), elsewhere);
    // What a scanner of its own says besides is ignored, and so is a field that holds nothing.
    let mut within = scanner.clone();
    within["policies"] = json!([{"name": "ours", "severity": "HIGH"}]);
    let mut beside = vulns(&within);
    merge(
        &mut beside,
        &json!({
            "summary": [{"severity": "HIGH", "count": 0}], "schemaVersion": 2, "artifactType": "x", "descriptor": {},
            "results": null, "vulnerabilities": [],
        }),
    );
    assert_eq!(in_toto(&beside).unwrap().findings.len(), 0);
    // Findings that the scanner suppressed are findings.
    let modified = json!([{
        "Class": "os-pkgs",
        "ExperimentalModifiedFindings": [
            {"Type": "vulnerability", "Status": "ignored", "Finding": found},
            {"Type": "secret", "Status": "ignored", "Finding": {"RuleID": "x"}},
        ],
    }]);
    let scan = cosign(&vuln(&trivy(&json!({"Results": modified})))).unwrap();
    assert!(matches!(&*scan.findings, [it] if it.is_suppressed && &*it.id == "CVE-2026-1"));
    let report = grype(&json!({}));
    let ignored = json!({"matches": [], "ignoredMatches": report["matches"]});
    let scan = cosign(&vuln(&grype(&ignored))).unwrap();
    assert!(matches!(&*scan.findings, [it] if it.is_suppressed && &*it.id == "GHSA-1"));
}

#[test]
fn what_grype_ignores_by_itself_is_not_a_suppressed_finding() {
    let package = |name: &str, upstream: &str, kind: &str| json!({"package": {"name": name, "language": "", "type": kind, "upstream-name": upstream}});
    let own = |package: &Value| {
        let mut rule = package.clone();
        rule["namespace"] = json!("");
        rule["match-type"] = json!("exact-indirect-match");
        rule
    };
    let headers = package("linux-libc-dev", "linux", "deb");
    let by_the_pipeline = json!({"vulnerability": "GHSA-1"});
    for (rules, is_finding) in [
        (json!([own(&headers)]), false),
        (
            json!([own(&package("linux-kbuild-.*", "linux.*", "deb"))]),
            false,
        ),
        (
            json!([own(&package("kernel-headers", "kernel", "rpm"))]),
            false,
        ),
        (json!([by_the_pipeline, own(&headers)]), false),
        (json!([headers]), true),
        (json!([by_the_pipeline]), true),
        (json!([own(&package("linux-libc-dev", "", "deb"))]), true),
        (json!([own(&package(".*", "linux", "deb"))]), true),
        (
            json!([{"package": null, "match-type": "exact-indirect-match"}]),
            true,
        ),
        (json!([]), true),
        (json!(null), true),
    ] {
        let mut found = grype(&json!({}))["matches"][0].clone();
        found["appliedIgnoreRules"] = rules.clone();
        let ignored = json!({"matches": [], "ignoredMatches": [found]});
        let scan = cosign(&vuln(&grype(&ignored))).unwrap();
        assert_eq!(scan.findings.len(), usize::from(is_finding), "{rules}");
        // Only what is listed as ignored is.
        let scan = cosign(&vuln(&grype(&json!({"matches": [found]})))).unwrap();
        assert_eq!(scan.findings.len(), 1);
    }
}

#[test]
fn a_key_that_appears_twice_is_refused() {
    let text = vuln(&trivy(&json!({}))).to_string();
    for (once, twice) in [
        (
            r#""Severity":"HIGH""#,
            r#""Severity":"LOW","Severity":"HIGH""#,
        ),
        (
            r#""SchemaVersion":2"#,
            r#""SchemaVersion":2,"SchemaVersion":2"#,
        ),
        (
            r#""scanFinishedOn":"#,
            r#""scanFinishedOn":"2026-11-28T10:00:00Z","scanFinishedOn":"#,
        ),
    ] {
        let twice = text.replacen(once, twice, 1);
        assert_ne!(twice, text, "{once}");
        let why = VulnerabilityScan::read(COSIGN[0], &twice).unwrap_err();
        assert!(why.detail.contains("appears twice"), "{why}");
    }
}

#[test]
fn the_time_of_a_scan_is_the_earliest_that_is_given() {
    for (created, started, finished, at) in [
        ("2026-11-01T00:00:00Z", AT, AT, Some("2026-11-01T00:00:00Z")),
        ("", "2026-11-02T00:00:00Z", AT, Some("2026-11-02T00:00:00Z")),
        ("2026-11-29T00:00:00Z", "", AT, Some(AT)),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "", None),
    ] {
        let mut predicate = vuln(&trivy(&json!({ "CreatedAt": created })));
        predicate["metadata"] = json!({"scanStartedOn": started, "scanFinishedOn": finished});
        let read = cosign(&predicate);
        match at {
            Some(at) => assert_eq!(read.unwrap().at.to_string(), at),
            None => refused(read, "metadata.scanFinishedOn"),
        }
    }
    let mut predicate = vuln(&trivy(&json!({})));
    predicate["metadata"]["scanFinishedOn"] = json!("yesterday");
    refused(cosign(&predicate), "metadata.scanFinishedOn");
}

#[test]
fn a_million_findings_are_refused_and_as_many_as_are_read_are_read() {
    let findings = |count: usize| vec![json!({"VulnerabilityID": "CVE-1"}); count];
    let scan = |results: Value| {
        VulnerabilityScan::read(
            COSIGN[0],
            &vuln(&trivy(&json!({"Results": results}))).to_string(),
        )
    };
    let most = scan(json!([{"Vulnerabilities": findings(MAXIMUM_FINDINGS)}])).unwrap();
    assert_eq!(most.findings.len(), MAXIMUM_FINDINGS);
    assert!(most.bytes() > MAXIMUM_FINDINGS * size_of::<VulnerabilityFinding>());
    for results in [
        json!([{"Vulnerabilities": findings(MAXIMUM_FINDINGS + 1)}]),
        json!([{"Vulnerabilities": findings(MAXIMUM_FINDINGS)}, {"Vulnerabilities": findings(1)}]),
        json!([{"Vulnerabilities": findings(1_000_000)}]),
    ] {
        let why = scan(results).unwrap_err();
        assert_eq!(why.reason.id, "too-large", "{why}");
    }
    let list: Vec<_> = (0..=MAXIMUM_FINDINGS)
        .map(|_| json!({"id": "CVE-1"}))
        .collect();
    let list = vulns(&json!({"uri": "osv.dev", "result": list})).to_string();
    let why = VulnerabilityScan::read(IN_TOTO[1], &list).unwrap_err();
    assert_eq!(why.reason.id, "too-large", "{why}");
}

#[test]
fn the_report_of_something_else_than_an_image_says_so() {
    for (kind, other) in [
        ("container_image", None),
        ("cyclonedx", None),
        ("spdx", None),
        ("repository", Some("repository")),
        ("filesystem", Some("filesystem")),
        ("", Some("")),
    ] {
        let scan = cosign(&vuln(&trivy(&json!({ "ArtifactType": kind })))).unwrap();
        assert_eq!(scan.scanned.other_kind.as_deref(), other);
        assert_eq!(scan.scanned.is_sbom, ["cyclonedx", "spdx"].contains(&kind));
    }
    let directory = json!({"source": {"type": "directory", "target": "/src"}});
    let scan = cosign(&vuln(&grype(&directory))).unwrap();
    assert_eq!(scan.scanned.other_kind.as_deref(), Some("directory"));
    let file = json!({"type": "sbom-file", "target": "sbom.json"});
    for source in [json!({"type": "unknown", "target": "unknown"}), file] {
        let sbom = cosign(&vuln(&grype(&json!({ "source": source })))).unwrap();
        assert_eq!(sbom.scanned.other_kind, None);
        assert!(sbom.scanned.is_sbom);
    }
    assert!(!cosign(&vuln(&grype(&json!({})))).unwrap().scanned.is_sbom);
}

#[test]
fn a_version_of_the_predicate_type_that_is_not_known_is_refused() {
    for kind in [
        "https://cosign.sigstore.dev/attestation/vuln/v2",
        "https://in-toto.io/attestation/vulns/v0.3",
    ] {
        assert!(is_scan(kind));
        let why = VulnerabilityScan::read(kind, "{}").unwrap_err();
        assert_eq!(why.reason.id, "format-not-supported");
    }
    assert!(!is_scan("https://cosign.sigstore.dev/attestation/v1"));
}

#[test]
fn the_digests_of_a_report_of_grype_are_those_of_the_registry_and_the_manifest() {
    let digest = |name: &str| Digest::sha256(name.as_bytes());
    let of = |repositories: Vec<String>| {
        let target =
            json!({"repoDigests": repositories, "manifestDigest": digest("manifest").to_string()});
        let report = grype(&json!({"source": {"target": target}}));
        cosign(&vuln(&report)).unwrap().scanned.digests
    };
    let named = format!("registry.example/app@{}", digest("image"));
    assert_eq!(of(vec![named]), [digest("image"), digest("manifest")]);
    // Of an image that was not read from a registry, the manifest is Grype's own.
    assert!(of(Vec::new()).is_empty());
}

#[test]
fn a_name_with_a_digest_names_the_image_where_the_registry_does_not() {
    let digest = |name: &str| Digest::sha256(name.as_bytes());
    let named = |name: &str| format!("registry.example/app:1@{}", digest(name));
    let path = format!("{}.json", named("input"));
    for (name, reference, repositories, digests) in [
        (
            named("input"),
            String::new(),
            json!([]),
            vec![digest("input")],
        ),
        (
            named("input"),
            String::new(),
            json!(null),
            vec![digest("input")],
        ),
        (
            String::new(),
            named("input"),
            json!([]),
            vec![digest("input")],
        ),
        (
            named("input"),
            String::new(),
            json!([named("image")]),
            vec![digest("image")],
        ),
        ("registry.example/app:1".to_owned(), path, json!([]), vec![]),
    ] {
        let metadata = json!({"RepoDigests": repositories, "Reference": reference});
        let report = trivy(&json!({"ArtifactName": name, "Metadata": metadata}));
        assert_eq!(cosign(&vuln(&report)).unwrap().scanned.digests, digests);
    }
    for (name, repositories, digests) in [
        (
            named("input"),
            json!([]),
            vec![digest("input"), digest("manifest")],
        ),
        (
            named("input"),
            json!([named("image")]),
            vec![digest("image"), digest("manifest")],
        ),
        ("registry.example/app:1".to_owned(), json!([]), vec![]),
    ] {
        let manifest = digest("manifest").to_string();
        let target =
            json!({"userInput": name, "repoDigests": repositories, "manifestDigest": manifest});
        let report = grype(&json!({"source": {"target": target}}));
        assert_eq!(cosign(&vuln(&report)).unwrap().scanned.digests, digests);
    }
}

#[test]
fn the_database_is_as_old_as_the_earliest_time_that_is_given() {
    let built = |top: &str, status: &str, of_predicate: &str| {
        let database = json!({"built": top, "status": {"built": status}});
        let mut predicate = vuln(&grype(&json!({"descriptor": {"db": database}})));
        predicate["scanner"]["db"]["lastUpdate"] = json!(of_predicate);
        cosign(&predicate).unwrap().database.unwrap().to_string()
    };
    let days = ["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", AT];
    assert_eq!(built(days[0], days[1], days[2]), days[0]);
    assert_eq!(built(days[1], days[0], days[2]), days[0]);
    assert_eq!(built(days[2], days[1], days[0]), days[0]);
}

#[test]
fn matches_and_ignored_matches_together_are_limited() {
    let found = json!({"vulnerability": {"id": "CVE-1"}});
    let scan = |matches: usize, ignored: usize| {
        let lists =
            json!({"matches": vec![&found; matches], "ignoredMatches": vec![&found; ignored]});
        cosign(&vuln(&grype(&lists)))
    };
    let most = scan(MAXIMUM_FINDINGS - 1, 1).unwrap();
    assert_eq!(most.findings.len(), MAXIMUM_FINDINGS);
    refused(
        scan(MAXIMUM_FINDINGS, 1),
        "more than 20000 findings (too-large)",
    );
}

#[test]
fn a_fix_is_known_by_its_version_or_by_the_state_of_the_finding() {
    for (version, status, is_fixable) in [
        ("1.3", "", true),
        ("", "fixed", true),
        ("", "Fixed", true),
        ("", "affected", false),
        ("", "", false),
    ] {
        let found = json!([{"Vulnerabilities": [{"VulnerabilityID": "CVE-1", "FixedVersion": version, "Status": status}]}]);
        let scan = cosign(&vuln(&trivy(&json!({"Results": found})))).unwrap();
        assert_eq!(scan.findings[0].is_fixable, Some(is_fixable), "{status}");
    }
}

#[test]
fn a_fix_that_grype_does_not_know_may_exist() {
    for (fix, is_fixable) in [
        (json!({"versions": ["1.3"], "state": ""}), Some(true)),
        (json!({"versions": ["1.3"], "state": "unknown"}), Some(true)),
        (json!({"versions": [], "state": "fixed"}), Some(true)),
        (json!({"versions": null, "state": "Fixed"}), Some(true)),
        (json!({"versions": [], "state": "not-fixed"}), Some(false)),
        (json!({"versions": [], "state": "wont-fix"}), Some(false)),
        (json!({"state": "wont-fix"}), Some(false)),
        (json!({"versions": [], "state": "unknown"}), None),
        (json!({"versions": [], "state": ""}), None),
        (json!({"versions": [], "state": "another"}), None),
        (json!({}), None),
    ] {
        let found = json!([{"vulnerability": {"id": "CVE-1", "fix": fix}}]);
        let scan = cosign(&vuln(&grype(&json!({"matches": found})))).unwrap();
        assert_eq!(scan.findings[0].is_fixable, is_fixable, "{fix}");
    }
    let found = json!([{"vulnerability": {"id": "CVE-1"}}]);
    let scan = cosign(&vuln(&grype(&json!({"matches": found})))).unwrap();
    assert_eq!(scan.findings[0].is_fixable, None);
}

#[test]
fn the_ids_of_cve_are_recognised_in_every_spelling() {
    for (id, expected) in [
        ("CVE-2026-1", true),
        ("cve-2026-1", true),
        (" CVE-2026-1", true),
        ("GHSA-CVE-1", false),
        ("CVE", false),
        ("", false),
    ] {
        assert_eq!(is_cve(id), expected, "{id}");
    }
}

#[test]
fn a_package_without_a_url_is_named_on_one_line() {
    let of = |name: &Value, version: &Value| {
        let vulnerability = json!({
            "VulnerabilityID": "CVE-2026-1", "PkgName": name, "InstalledVersion": version, "Severity": "HIGH",
        });
        let results = json!([{"Class": "os-pkgs", "Vulnerabilities": [vulnerability]}]);
        let scan = cosign(&vuln(&trivy(&json!({"Results": results}))));
        scan.map(|scan| scan.findings[0].package.to_string())
    };
    for (name, version, package) in [
        (json!("musl"), json!("1.2"), "musl@1.2"),
        (json!("musl"), json!(null), "musl"),
        (
            json!("a\u{1b}[2J"),
            json!("1\n2"),
            "a\u{fffd}[2J@1\u{fffd}2",
        ),
        (json!("a\u{1b}"), json!(""), "a\u{fffd}"),
        (json!("\"q\""), json!("1"), "\"q\"@1"),
    ] {
        assert_eq!(of(&name, &version).as_deref(), Ok(package));
    }
    for long in ["x".repeat(513), format!("\"{}", "x".repeat(512))] {
        assert!(of(&json!(long), &json!("1")).is_err());
        assert!(of(&json!("x"), &json!(long)).is_err());
    }
}
