//! What OpenVEX documents take back, as the cluster keeps it, so that deleting a document in a registry clears nothing again.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use promotion_gate::api;
use promotion_gate_core::gate::{
    Age, ChangeKind, Collected, Digest, Evidence, EvidenceToKeep, Finding, ImageEvidence, Index,
    KeptSigner, KeptVexStatement, MayBe, Outcome, PlatformManifest, Promotion, Snapshot, Subject,
    TakenBack, Unavailability, UnreadableKept, World, evidence_to_keep,
};
use serde_json::{Value, json};

use crate::facts::{Attached, FACTS, ISSUER, judge, keyless, promotion, snapshot};

const RULE: &str = "vulnerabilities";
const ZLIB: &str = "pkg:apk/alpine/zlib@1.3?arch=x86_64";

/// The time of every review.
static NOW: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);
static IMAGE: LazyLock<Digest> =
    LazyLock::new(|| format!("sha256:{}", "1".repeat(64)).parse().unwrap());

/// A gate that judges one image by one policy.
struct Bench {
    snapshot: Snapshot,
    promotion: Promotion,
    subject: Subject,
}

impl Bench {
    /// A new process, whose cluster keeps nothing.
    fn new() -> Bench {
        Bench::accepting(&keyless("vex@example.com"))
    }

    /// The policy accepts documents by this signer.
    fn accepting(signer: &Value) -> Bench {
        let policy = json!({
            "uncovered": "Allow", "allowUnsignedIndex": true,
            "requirements": [{"digestPinned": {}}, {RULE: {
                "maximumSeverity": "Medium", "signedBy": keyless("scan@example.com"), "vex": {"signedBy": signer},
            }}],
        });
        let mut promotion = promotion(&[format!("registry.example/app@{}", *IMAGE)]);
        promotion.at = *NOW;
        let (image, pin) = promotion.images().next().unwrap();
        Bench {
            snapshot: snapshot(vec![FACTS.policy("scans", &policy)]),
            subject: pin.subject(&image.reference).unwrap(),
            promotion,
        }
    }

    fn world(mut self, change: impl FnOnce(&mut World)) -> Bench {
        change(&mut self.snapshot.world);
        self
    }

    /// The same in a cluster that also keeps this, as the gate writes and reads it.
    fn keeping(self, kept: &EvidenceToKeep) -> Bench {
        let resources = kept.vex.iter().flat_map(|((digest, signer), taken_back)| {
            api::vex_record_resources(digest, signer, taken_back)
        });
        let sources = resources
            .enumerate()
            .map(|(index, resource)| (format!("{index}.json"), resource.to_string().into_bytes()));
        let set = api::load(&sources.collect::<Vec<_>>(), &FACTS.trust_roots());
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        self.world(|world| world.vex.extend(set.vex))
    }

    fn evidence(&self, attached: &[Attached]) -> Evidence {
        Evidence {
            images: [(self.subject.clone(), verified(&IMAGE, attached))].into(),
            ..Evidence::default()
        }
    }

    fn finding(&self, attached: &[Attached]) -> Finding {
        let verdict = judge(&self.promotion, &self.evidence(attached), &self.snapshot);
        let mut findings = verdict.policies()[0].findings().iter();
        findings.find(|it| it.rule == RULE).unwrap().clone()
    }

    /// The reason, as reviews give it.
    fn says(&self, attached: &[Attached]) -> &'static str {
        self.finding(attached).reason
    }

    fn keeps(&self, attached: &[Attached]) -> EvidenceToKeep {
        self.keeps_of(&self.evidence(attached))
    }

    fn keeps_of(&self, evidence: &Evidence) -> EvidenceToKeep {
        let governing = self.snapshot.governing(&self.promotion.change);
        evidence_to_keep(&self.promotion, evidence, &governing)
    }
}

fn verified(image: &Digest, attached: &[Attached]) -> Collected<Arc<ImageEvidence>> {
    let mut evidence = ImageEvidence::default();
    for it in attached {
        FACTS.add(&mut evidence, image, it);
    }
    assert!(evidence.unaccepted.is_empty(), "{:?}", evidence.unaccepted);
    Collected::Known(Arc::new(evidence))
}

fn attached(by: &str, ago: &str, template: &str, but: Value) -> Attached {
    let ago: Age = serde_json::from_value(json!(ago)).unwrap();
    let at = *NOW - ago.duration();
    let all = json!({"by": by, "form": "attestation", "at": at, "predicate": {"template": template, "but": but}});
    serde_json::from_value(all).unwrap()
}

/// A scan with critical findings of these vulnerabilities.
fn scan(ids: &[&str]) -> Attached {
    let found = ids.iter().map(|id| {
        json!({"VulnerabilityID": id, "PkgName": "zlib", "PkgIdentifier": {"PURL": ZLIB}, "Severity": "CRITICAL"})
    });
    let found: Vec<_> = found.collect();
    let results = json!([{"Class": "os-pkgs", "Vulnerabilities": found}]);
    let but = json!({"scanner": {"result": {"Metadata": null, "Results": results}}});
    attached("scan@example.com", "5m", "trivy", but)
}

fn critical() -> Attached {
    scan(&["CVE-2026-9"])
}

/// A document with these statements.
fn vex(ago: &str, statements: Value) -> Attached {
    attached(
        "vex@example.com",
        ago,
        "openvex",
        json!({"statements": statements}),
    )
}

fn statement(status: &str, id: &str, at: Option<&str>, packages: &[&str]) -> Value {
    let packages: Vec<_> = packages.iter().map(|it| json!({"@id": it})).collect();
    let product = json!({"@id": format!("pkg:oci/app@{}", *IMAGE), "subcomponents": packages});
    let mut said = json!({"vulnerability": {"name": id}, "products": [product], "status": status, "impact_statement": "x"});
    if let Some(at) = at {
        said["timestamp"] = json!(format!("{at}T00:00:00Z"));
    }
    said
}

fn clears(ago: &str) -> Attached {
    vex(
        ago,
        json!([statement("not_affected", "CVE-2026-9", None, &[])]),
    )
}

fn takes_back(ago: &str) -> Attached {
    vex(ago, json!([statement("affected", "CVE-2026-9", None, &[])]))
}

fn unreadable(ago: &str) -> Attached {
    vex(ago, json!([statement("harmless", "CVE-2026-9", None, &[])]))
}

#[test]
fn attack_an_affected_document_that_is_deleted_before_a_restart_still_counts() {
    let (scan, clears) = (critical(), clears("2h"));
    let seen = [scan.clone(), clears.clone(), takes_back("1h")];
    let left = [scan, clears];
    assert_eq!(Bench::new().says(&seen), "vulnerable");
    let kept = Bench::new().keeps(&seen);
    assert_eq!(Bench::new().says(&left), "scanned");
    let restarted = Bench::new().keeping(&kept);
    let finding = restarted.finding(&left);
    assert_eq!(finding.outcome, Outcome::Fail);
    assert_eq!(finding.reason, "vulnerable");
    let name = restarted.snapshot.world.vex[&*IMAGE][0].name.clone();
    assert!(name.starts_with("vex-"), "{name}");
    let said = format!("{} → {}", finding.detail, finding.hint.unwrap());
    for part in [
        format!("(`VexRecord` `{name}`)"),
        format!("`vex@example.com` (issuer `{ISSUER}`), which are not attached any more"),
        "attest an OpenVEX document whose statements are newer".to_owned(),
        format!("ask a governor to delete the `VexRecord` `{name}`"),
    ] {
        assert!(said.contains(&part), "{said}");
    }
    // A finding that nothing clears counts anyway.
    let plain = restarted.finding(&left[..1]);
    assert_eq!(plain, Bench::new().finding(&left[..1]));
}

#[test]
fn a_newer_statement_wins_over_what_is_kept() {
    let kept = Bench::new().keeps(&[takes_back("1h")]);
    let gate = Bench::new().keeping(&kept);
    for (document, reason) in [
        (clears("30m"), "scanned"),
        (clears("2h"), "vulnerable"),
        (
            vex(
                "30m",
                json!([statement("fixed", "CVE-2026-9", None, &[ZLIB])]),
            ),
            "scanned",
        ),
        (
            vex("30m", json!([statement("fixed", "CVE-2026-1", None, &[])])),
            "vulnerable",
        ),
        // Signed again, it is as old as it says.
        (
            vex(
                "30m",
                json!([statement("fixed", "CVE-2026-9", Some("2026-01-01"), &[])]),
            ),
            "vulnerable",
        ),
    ] {
        assert_eq!(gate.says(&[critical(), document]), reason);
    }
}

#[test]
fn a_document_that_is_replaced_by_one_with_the_times_of_before_changes_nothing() {
    let first = json!([
        statement("affected", "CVE-2026-2", Some("2026-02-01"), &[ZLIB]),
        statement("not_affected", "CVE-2026-1", Some("2026-01-01"), &[]),
    ]);
    let second = json!([
        statement("fixed", "CVE-2026-2", Some("2026-03-01"), &[ZLIB]),
        statement("not_affected", "CVE-2026-1", Some("2026-01-01"), &[]),
    ]);
    let scan = scan(&["CVE-2026-1", "CVE-2026-2"]);
    let before = [scan.clone(), vex("2h", first)];
    let after = [scan, vex("1h", second)];
    let gate = Bench::new().keeping(&Bench::new().keeps(&before));
    assert_eq!(gate.says(&before), "vulnerable");
    assert_eq!(gate.finding(&after), Bench::new().finding(&after));
    assert_eq!(gate.says(&after), "scanned");
    assert!(gate.keeps(&after).is_empty());
}

#[test]
fn what_is_kept_counts_for_its_signer_package_and_digest_alone() {
    let left = [critical(), clears("2h")];
    let musl = vex(
        "1h",
        json!([statement(
            "affected",
            "CVE-2026-9",
            None,
            &["pkg:apk/alpine/musl"]
        )]),
    );
    let zlib = vex(
        "1h",
        json!([statement(
            "affected",
            "CVE-2026-9",
            None,
            &["pkg:apk/alpine/zlib", "x"]
        )]),
    );
    for (document, reason) in [(musl, "scanned"), (zlib, "vulnerable")] {
        let kept = Bench::new().keeps(&[document]);
        assert_eq!(Bench::new().keeping(&kept).says(&left), reason);
    }
    let kept = Bench::new().keeps(&[takes_back("1h")]);
    let (_, taken_back) = kept.vex.iter().next().unwrap();
    let with = |digest: &Digest, signer: KeptSigner| EvidenceToKeep {
        vex: [((digest.clone(), signer), taken_back.clone())].into(),
        ..EvidenceToKeep::default()
    };
    let signer = |issuer: &str, identity: &str| KeptSigner::Keyless {
        issuer: issuer.to_owned(),
        identity: identity.to_owned(),
    };
    let key = KeptSigner::Key(IMAGE.to_string().parse().unwrap());
    for (kept, reason) in [
        (
            with(&IMAGE, signer(ISSUER, "vex@example.com")),
            "vulnerable",
        ),
        (
            with(&IMAGE, signer(ISSUER, "another@example.com")),
            "scanned",
        ),
        (
            with(&IMAGE, signer("https://other.example", "vex@example.com")),
            "scanned",
        ),
        (with(&IMAGE, key), "scanned"),
        (
            with(
                &Digest::sha256(b"another"),
                signer(ISSUER, "vex@example.com"),
            ),
            "scanned",
        ),
    ] {
        assert_eq!(Bench::new().keeping(&kept).says(&left), reason, "{kept:?}");
    }
}

#[test]
fn what_is_kept_of_a_document_that_is_still_attached_changes_no_answer() {
    let documents = [
        vec![],
        vec![clears("2h")],
        vec![takes_back("1h")],
        vec![clears("2h"), takes_back("1h")],
        vec![takes_back("2h"), clears("1h")],
        vec![clears("2h"), unreadable("1h")],
        vec![unreadable("2h"), clears("1h")],
        vec![unreadable("1h")],
    ];
    for documents in documents {
        let all: Vec<_> = [critical()].into_iter().chain(documents).collect();
        let gate = Bench::new().keeping(&Bench::new().keeps(&all));
        assert_eq!(gate.finding(&all), Bench::new().finding(&all));
        assert!(gate.keeps(&all).is_empty());
    }
}

#[test]
fn attack_an_unreadable_document_that_is_deleted_before_a_restart_still_counts() {
    let gate = Bench::new().keeping(&Bench::new().keeps(&[unreadable("1h")]));
    let finding = gate.finding(&[critical(), clears("2h")]);
    assert_eq!(
        (finding.outcome, finding.reason),
        (Outcome::Undecided, "vex-unreadable")
    );
    let hint = finding.hint.unwrap();
    assert!(
        hint.contains("newer than") && hint.contains("delete the `VexRecord` `vex-"),
        "{hint}"
    );
    // Nothing rests on a document, or on a newer one.
    assert_eq!(gate.says(&[scan(&[])]), "scanned");
    assert_eq!(gate.says(&[critical()]), "vulnerable");
    assert_eq!(gate.says(&[critical(), clears("30m")]), "scanned");
}

#[test]
fn a_document_that_an_earlier_version_could_not_read_speaks_for_itself() {
    let attached = [critical(), clears("1h")];
    let evidence = Bench::new().evidence(&attached);
    let evidence = evidence.images.values().next().unwrap().value().unwrap();
    let mut statements = evidence.statements.iter().map(|(_, it)| it);
    let document = statements.find(|it| it.predicate_type().contains("openvex"));
    let document = document.unwrap().digest().clone();
    let kept = |document| {
        let signer = KeptSigner::Keyless {
            issuer: ISSUER.to_owned(),
            identity: "vex@example.com".to_owned(),
        };
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut taken_back = TakenBack::default();
        taken_back.add(&KeptVexStatement::new([], [], Some(at), Some(document)));
        EvidenceToKeep {
            vex: [((IMAGE.clone(), signer), taken_back)].into(),
            ..EvidenceToKeep::default()
        }
    };
    let old = [
        critical(),
        vex(
            "1h",
            json!([statement("fixed", "CVE-2026-9", Some("2025-12-01"), &[])]),
        ),
    ];
    for (kept, attached, reason) in [
        (kept(document), &attached, "scanned"),
        (kept(Digest::sha256(b"another")), &old, "vex-unreadable"),
    ] {
        assert_eq!(Bench::new().keeping(&kept).says(attached), reason);
    }
}

#[test]
fn a_record_that_cannot_be_read_leaves_undecided_what_a_document_clears() {
    let signer = |identity: &str| {
        Some(KeptSigner::Keyless {
            issuer: ISSUER.to_owned(),
            identity: identity.to_owned(),
        })
    };
    let unreadable = |may_be: MayBe| {
        Bench::new().world(|world| {
            let kept = UnreadableKept {
                resource: "the VexRecord `typo`".to_owned(),
                may_be,
                why: "unknown field".to_owned(),
            };
            world.unreadable_kept.insert(IMAGE.clone(), vec![kept]);
        })
    };
    let partly = Bench::new().world(|world| {
        world.vex_partly = Some(Unavailability("there are more than 20000".to_owned()));
    });
    let others = Bench::new().world(|world| {
        world.kept_partly = Some(Unavailability("too many".to_owned()));
    });
    for (gate, reason) in [
        (unreadable(MayBe::Vex(None)), "vex-record-unreadable"),
        (
            unreadable(MayBe::Vex(signer("vex@example.com"))),
            "vex-record-unreadable",
        ),
        (
            unreadable(MayBe::Vex(signer("another@example.com"))),
            "scanned",
        ),
        (unreadable(MayBe::Authors), "scanned"),
        (unreadable(MayBe::Rejection(None)), "scanned"),
        (partly, "vex-record-unreadable"),
        (others, "scanned"),
    ] {
        let finding = gate.finding(&[critical(), clears("1h")]);
        assert_eq!(finding.reason, reason, "{}", finding.detail);
        assert_eq!(finding.outcome.denies(), reason != "scanned");
        // Without a document that clears a finding, it takes nothing back.
        assert_eq!(gate.says(&[critical()]), "vulnerable");
        assert_eq!(gate.says(&[scan(&[])]), "scanned");
    }
}

#[test]
fn what_accepted_signers_take_back_is_kept_and_nothing_else() {
    let by_stranger = Attached {
        by: "stranger".to_owned(),
        ..takes_back("1h")
    };
    let of_another = json!([{
        "vulnerability": {"name": "CVE-2026-9"}, "status": "affected",
        "products": [{"@id": format!("pkg:oci/app@sha256:{}", "2".repeat(64))}],
    }]);
    for documents in [
        vec![clears("1h")],
        vec![by_stranger],
        vec![vex("1h", of_another)],
    ] {
        assert!(Bench::new().keeps(&documents).is_empty(), "{documents:?}");
    }
    let both = [
        vex(
            "2h",
            json!([statement("affected", "CVE-2026-1", None, &[])]),
        ),
        vex(
            "1h",
            json!([statement(
                "under_investigation",
                "CVE-2026-9",
                None,
                &[ZLIB]
            )]),
        ),
    ];
    let kept = Bench::new().keeps(&both);
    let (_, taken_back) = kept.vex.iter().next().unwrap();
    let statements = taken_back.statements();
    let said: Vec<_> = statements
        .iter()
        .map(|it| {
            let ids: Vec<_> = it.vulnerabilities().collect();
            let packages: Vec<_> = it.packages().map(ToString::to_string).collect();
            (ids.join(" "), packages.join(" "), it.at().is_some())
        })
        .collect();
    let zlib = "pkg:apk/alpine/zlib@1.3";
    assert_eq!(
        said,
        [
            ("CVE-2026-1".to_owned(), String::new(), true),
            ("CVE-2026-9".to_owned(), zlib.to_owned(), true)
        ]
    );
    // What is kept is not kept again, unless it was said again.
    let gate = Bench::new().keeping(&kept);
    assert!(gate.keeps(&both).is_empty());
    assert!(!gate.keeps(&[takes_back("30m")]).is_empty());
    let mut upkeep = Bench::new();
    upkeep.promotion.kind = ChangeKind::Upkeep { recorded: false };
    assert!(upkeep.keeps(&both).is_empty());
}

#[test]
fn a_document_of_which_no_time_is_known_takes_back_what_is_older_than_the_review() {
    let key = json!({"key": {"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"], "transparency": "None"}});
    let by_key = |mut document: Attached, is_timed: bool| {
        document.by = "key".to_owned();
        (document.logged, document.stamped) = (is_timed, is_timed);
        document
    };
    let untimed = by_key(takes_back("1h"), false);
    let kept = Bench::accepting(&key).keeps(std::slice::from_ref(&untimed));
    let gate = Bench::accepting(&key).keeping(&kept);
    let clears = by_key(clears("1m"), true);
    assert_eq!(gate.says(&[critical(), clears.clone()]), "vulnerable");
    // The same document with a time: it speaks for itself, and says when it was made.
    let timed = by_key(takes_back("1h"), true);
    let all = [critical(), timed.clone(), clears];
    assert_eq!(gate.says(&all), "scanned");
    let gate = gate.keeping(&Bench::accepting(&key).keeps(&[timed]));
    assert_eq!(gate.says(&all), "scanned");
}

#[test]
fn attack_a_document_that_is_attached_again_without_its_public_record_still_counts() {
    let key = json!({"key": {"pem": FACTS.key.public_pem(), "trustRoots": ["sandbox"]}});
    let by_key = |document: Attached| Attached {
        by: "key".to_owned(),
        ..document
    };
    let taken = by_key(takes_back("1h"));
    let kept = Bench::accepting(&key).keeps(std::slice::from_ref(&taken));
    let stripped = Attached {
        logged: false,
        stamped: false,
        ..taken
    };
    let left = [critical(), by_key(clears("2h")), stripped];
    assert_eq!(Bench::accepting(&key).says(&left), "scanned");
    let gate = Bench::accepting(&key).keeping(&kept);
    assert_eq!(gate.says(&left), "vulnerable");
}

#[test]
fn attack_a_document_of_the_future_keeps_no_other_one_from_being_kept() {
    let mut gate = Bench::new();
    gate.promotion.at = *NOW - jiff::SignedDuration::from_hours(1);
    let all = [critical(), takes_back("2h"), clears("1m")];
    assert!(gate.finding(&all).outcome.denies());
    assert_eq!(gate.keeps(&all), gate.keeps(&all[1..2]));
    assert!(!gate.keeps(&all).is_empty());
}

#[test]
fn a_package_that_cannot_be_written_as_it_is_read_silences_no_other_statement() {
    let of_package = |ago: &str, package: &str| {
        vex(
            ago,
            json!([statement("affected", "CVE-2026-9", None, &[package])]),
        )
    };
    let odd = of_package("1h", "pkg:golang/example.com/x@vv1");
    let kept = Bench::new().keeps(&[of_package("2h", ZLIB), odd.clone()]);
    let left = [critical(), clears("3h"), odd];
    assert_eq!(Bench::new().says(&left), "scanned");
    assert_eq!(Bench::new().keeping(&kept).says(&left), "vulnerable");
}

#[test]
fn what_documents_of_a_platform_take_back_is_kept_for_that_platform() {
    let gate = Bench::new();
    let platform = Digest::sha256(b"amd64");
    let of_platform = Subject {
        digest: platform.clone(),
        ..gate.subject.clone()
    };
    let unnamed = |status: &str| json!([{"vulnerability": {"name": "CVE-2026-9"}, "status": status, "impact_statement": "x"}]);
    let evidence = |documents: &[Attached]| {
        let index = Index {
            manifests: vec![PlatformManifest {
                platform: None,
                digest: platform.clone(),
            }],
            refused: None,
        };
        Evidence {
            images: [
                (gate.subject.clone(), verified(&IMAGE, &[])),
                (of_platform.clone(), verified(&platform, documents)),
            ]
            .into(),
            indexes: [(gate.subject.clone(), Collected::Known(Some(index)))].into(),
            ..Evidence::default()
        }
    };
    let outcome = |gate: &Bench, documents: &[Attached]| {
        let verdict = judge(&gate.promotion, &evidence(documents), &gate.snapshot);
        let mut findings = verdict.policies()[0].findings().iter();
        findings.find(|it| it.rule == RULE).unwrap().reason
    };
    let left = [critical(), vex("2h", unnamed("not_affected"))];
    let seen = [left.to_vec(), vec![vex("1h", unnamed("affected"))]].concat();
    assert_eq!(outcome(&gate, &left), "scanned");
    assert_eq!(outcome(&gate, &seen), "vulnerable");
    let kept = gate.keeps_of(&evidence(&seen));
    let about: Vec<_> = kept.vex.keys().map(|(digest, _)| digest).collect();
    assert_eq!(about, [&platform]);
    assert_eq!(outcome(&Bench::new().keeping(&kept), &left), "vulnerable");
}
