//! What is done with hostile bytes, one function for each kind of input. None of them may panic, and none may take what nobody
//! signed for a fact.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use promotion_gate_core::attest::predicate::{
    Approval, ChangeRecord, EmergencyChange, EmergencyClosure, EmergencyReview, MAXIMUM_FINDINGS,
    MAXIMUM_PACKAGES, Predicate, SoftwareBill, VerificationSummary, VexDocument, VulnerabilityScan,
};
use promotion_gate_core::attest::{self, Anchor, Material, PublicKey, TrustRoot, Verified};
use promotion_gate_core::calendar::{
    Budget, CalendarEvent, Recurrence, Series, Span, Zone, read_calendar,
};
use promotion_gate_core::documents::{self, decode_value};
use promotion_gate_core::gate::{
    Digest, EndpointAnswer, Glob, ImagePattern, ImageReference, IncidentReading, Requirement,
    RequirementEntry,
};
use promotion_gate_core::strict_json::{Fields, unambiguous};
use serde_json::{Value, json};

const IN_TOTO: &str = "application/vnd.in-toto+json";

struct Notary {
    key: Ed25519KeyPair,
    alone: Anchor,
    with_root: Anchor,
    root: Anchor,
    image: Digest,
}

static NOTARY: LazyLock<Notary> = LazyLock::new(|| {
    let key = Ed25519KeyPair::generate().expect("randomness");
    let spki = key.public_key().as_der().expect("a key");
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(spki.as_ref())
    );
    let public = Arc::new(PublicKey::from_pem(&pem).expect("a key"));
    let root = Arc::new(TrustRoot::public_good().expect("the built-in root"));
    Notary {
        key,
        alone: Anchor::Key {
            key: Arc::clone(&public),
            root: None,
        },
        with_root: Anchor::Key {
            key: public,
            root: Some(Arc::clone(&root)),
        },
        root: Anchor::Root(root),
        image: Digest::sha256(b"image"),
    }
});

impl Notary {
    fn refuses(&self, material: &Material) {
        for anchor in [&self.root, &self.with_root, &self.alone] {
            assert!(attest::verify(material, &self.image, anchor).is_err());
        }
    }

    /// Signs a payload as it is.
    fn envelope(&self, payload: &[u8]) -> Vec<u8> {
        let header = format!("DSSEv1 {} {IN_TOTO} {} ", IN_TOTO.len(), payload.len());
        let signature = self.key.sign(&[header.as_bytes(), payload].concat());
        json!({
            "payload": STANDARD.encode(payload),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": STANDARD.encode(signature.as_ref())}],
        })
        .to_string()
        .into_bytes()
    }

    fn attested(&self, payload: &[u8]) -> Option<Verified> {
        let material = Material::Attestation {
            envelope: self.envelope(payload),
            annotations: BTreeMap::new(),
        };
        attest::verify(&material, &self.image, &self.alone).ok()
    }
}

/// A bundle that nobody whom we know signed.
pub fn bundle(bytes: &[u8]) {
    NOTARY.refuses(&Material::Bundle(bytes.to_vec()));
}

/// An envelope and its annotations, one JSON object for both.
pub fn attestation(bytes: &[u8]) {
    let (envelope, annotations) = layer(bytes);
    NOTARY.refuses(&Material::Attestation {
        envelope,
        annotations,
    });
}

/// A payload and its annotations.
pub fn simple_signing(bytes: &[u8]) {
    let (payload, annotations) = layer(bytes);
    NOTARY.refuses(&Material::SimpleSigning {
        payload,
        annotations,
    });
    // The same payload soundly signed: what it says is read.
    let signature = NOTARY.key.sign(bytes);
    let name = "dev.cosignproject.cosign/signature".to_owned();
    let material = Material::SimpleSigning {
        payload: bytes.to_vec(),
        annotations: BTreeMap::from([(name, STANDARD.encode(signature.as_ref()))]),
    };
    if attest::verify(&material, &NOTARY.image, &NOTARY.alone).is_ok() {
        let text = String::from_utf8_lossy(bytes);
        assert!(text.contains(NOTARY.image.hex()) || text.contains("\\u"));
    }
}

fn layer(bytes: &[u8]) -> (Vec<u8>, BTreeMap<String, String>) {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (annotations, blob) = bytes.split_at(end);
    let annotations = serde_json::from_slice(annotations).unwrap_or_default();
    (blob.iter().skip(1).copied().collect(), annotations)
}

/// A statement that is soundly signed: whatever it says is read, and it is a fact only if it is about this image.
pub fn statement(bytes: &[u8]) {
    if let Some(verified) = NOTARY.attested(bytes) {
        let subject = match &verified {
            Verified::Signature(signature) => signature.subject(),
            Verified::Statement(statement) => statement.subject(),
        };
        assert_eq!(subject, &NOTARY.image);
        let text = String::from_utf8_lossy(bytes);
        assert!(text.contains(NOTARY.image.hex()) || text.contains("\\u"));
    }
    // The same bytes as a predicate of every type that is read.
    let Ok(predicate) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    for kind in [
        "https://slsa.dev/provenance/v0.2",
        "https://slsa.dev/provenance/v1",
        Approval::TYPE,
        ChangeRecord::TYPE,
        EmergencyChange::TYPE,
        EmergencyClosure::TYPE,
        EmergencyReview::TYPE,
        VerificationSummary::TYPE,
    ] {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": NOTARY.image.hex()}}],
            "predicateType": kind,
            "predicate": predicate,
        });
        let _ = NOTARY.attested(statement.to_string().as_bytes());
    }
}

/// The predicate of an approval. What is read is read again from what is written.
pub fn approval(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = Approval::read(&text) {
        let written = serde_json::to_string(&read).expect("JSON");
        assert_eq!(Approval::read(&written).as_ref(), Ok(&read));
    }
}

/// The predicate of a change. What is read is read again from what is written, and is complete only if nobody is unknown.
pub fn change(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = ChangeRecord::read(&text) {
        assert_eq!(read.complete, read.unknown_authors.is_empty());
        let written = serde_json::to_string(&read).expect("JSON");
        assert_eq!(ChangeRecord::read(&written).as_ref(), Ok(&read));
    }
}

/// The three predicates of emergency changes. What is read is read again from what is written.
pub fn emergency(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = EmergencyChange::read(&text) {
        let written = serde_json::to_string(&read).expect("JSON");
        assert_eq!(EmergencyChange::read(&written).as_ref(), Ok(&read));
    }
    if let Ok(read) = EmergencyClosure::read(&text) {
        let written = serde_json::to_string(&read).expect("JSON");
        assert_eq!(EmergencyClosure::read(&written).as_ref(), Ok(&read));
    }
    if let Ok(read) = EmergencyReview::read(&text) {
        let written = serde_json::to_string(&read).expect("JSON");
        assert_eq!(EmergencyReview::read(&written).as_ref(), Ok(&read));
    }
}

/// The expression of an incident check, and after a line with `---` the answer of a tracker. Both are bounded, so that every evaluation
/// ends soon; what is read is about the incident that was asked for.
pub fn incident(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (expression, body) = text.split_once("\n---\n").unwrap_or((&text, "null"));
    let reading = match IncidentReading::new(expression, BTreeMap::new()) {
        Ok(reading) => reading,
        Err(faults) => {
            assert!(!faults.is_empty());
            let is_sound = |(line, column)| line > 0 && column > 0;
            assert!(faults.iter().all(|it| is_sound((it.line, it.column))));
            return;
        }
    };
    let Ok(body) = unambiguous(body.as_bytes(), Fields::default()) else {
        return;
    };
    let Ok(body) = serde_json::from_str::<Value>(body) else {
        return;
    };
    if let Ok(answer) = reading.read("INC1", 200, &body) {
        assert!(answer.incident.is_none_or(|incident| incident.id == "INC1"));
    }
}

/// The predicate of provenance, of each version. It is read alike wherever its type is, and the builder is one that it names.
pub fn provenance(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if serde_json::from_str::<Value>(&text).is_err() {
        return;
    }
    for kind in [
        "https://slsa.dev/provenance/v0.2",
        "https://slsa.dev/provenance/v1",
    ] {
        if let Some(Predicate::Provenance(read)) = read_alike(kind, &text) {
            assert!(text.contains(&read.builder) || text.contains('\\'));
        }
    }
}

/// The predicate of a verification summary. What is read is read again from what is written.
pub fn verification_summary(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = VerificationSummary::read(&text) {
        let written = serde_json::to_string(&read).expect("JSON");
        assert_eq!(VerificationSummary::read(&written).as_ref(), Ok(&read));
    }
    if serde_json::from_str::<Value>(&text).is_ok() {
        read_alike(VerificationSummary::TYPE, &text);
    }
}

/// The predicate of a vulnerability scan, of each type. What is read names its scanner, and has no more findings than are read.
pub fn scan(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for kind in [
        "https://cosign.sigstore.dev/attestation/vuln/v1",
        "https://in-toto.io/attestation/vulns/v0.2",
    ] {
        if let Ok(read) = VulnerabilityScan::read(kind, &text) {
            assert!(!read.scanner.is_empty());
            assert!(read.findings.len() <= MAXIMUM_FINDINGS);
            assert!(read.findings.iter().all(|it| !it.id.is_empty()));
        }
        if serde_json::from_str::<Value>(&text).is_ok() {
            read_alike(kind, &text);
        }
    }
}

/// A predicate is read alike whether its type is before or after it.
fn read_alike(kind: &str, predicate: &str) -> Option<Predicate> {
    let hex = NOTARY.image.hex();
    let subject = format!(r#"[{{"digest":{{"sha256":"{hex}"}}}}]"#);
    let begin = r#"{"_type":"https://in-toto.io/Statement/v1","subject":"#;
    let orders = [
        format!(r#"{begin}{subject},"predicateType":"{kind}","predicate":{predicate}}}"#),
        format!(r#"{begin}{subject},"predicate":{predicate},"predicateType":"{kind}"}}"#),
    ];
    let read = orders.map(|text| match NOTARY.attested(text.as_bytes()) {
        Some(Verified::Statement(statement)) => Some(statement.predicate().clone()),
        _ => None,
    });
    let [before, after] = read;
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    before
}

/// An OpenVEX document. Each statement that is read names a vulnerability.
pub fn vex(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = VexDocument::read(&text) {
        assert!(read.statements.iter().all(|it| !it.ids.is_empty()));
    }
}

/// An SBOM of each format. What is read is of the format that the type names.
pub fn sbom(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for kind in ["https://spdx.dev/Document", "https://cyclonedx.org/bom"] {
        if let Ok(read) = SoftwareBill::read(kind, &text) {
            assert!(kind.contains(&read.format.to_string()));
            assert!(read.packages.len() <= MAXIMUM_PACKAGES);
        }
    }
}

/// The answer of a freeze endpoint. What it says is in its text, and lasts at the instant that was asked about.
pub fn freeze_answer(bytes: &[u8]) {
    let at = Timestamp::UNIX_EPOCH;
    if let Ok(answer) = EndpointAnswer::read(bytes, at) {
        assert_eq!(answer.at, at);
        assert!(
            answer
                .until
                .is_none_or(|until| answer.is_frozen && until > at)
        );
        let text = String::from_utf8_lossy(bytes);
        let said = if answer.is_frozen { "true" } else { "false" };
        assert!(text.contains(said));
    }
}

/// A certificate, in DER, of which everything is believed.
pub fn certificate(bytes: &[u8]) {
    #[cfg(fuzzing)]
    let _ = attest::fuzzing::certificate(bytes);
    #[cfg(not(fuzzing))]
    let _ = bytes;
}

/// A reference, and patterns that it is held against.
pub fn image_reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (written, pattern) = text.split_once('\n').unwrap_or((text, "**"));
    if let Ok(image) = written.parse::<ImageReference>() {
        let normal = image.to_string();
        let again = normal
            .parse::<ImageReference>()
            .expect("what is normal parses");
        assert_eq!(again.to_string(), normal);
        assert_eq!(again.digest(), image.digest());
        if let Ok(pattern) = ImagePattern::parse(pattern) {
            assert_eq!(pattern.matches(&image), pattern.matches(&again));
        }
    }
    if let Ok(glob) = Glob::parse(pattern) {
        let _ = glob.matches(written);
    }
}

/// A document as manifests, policies and configurations are read.
pub fn document(bytes: &[u8]) {
    let (documents, problems) = documents::read("fuzz", bytes);
    for problem in &problems {
        assert!(!problem.to_string().is_empty());
    }
    for document in documents {
        assert!(serde_json::to_string(&document.value).is_ok());
    }
}

/// A document as the entry of a policy.
pub fn policy(bytes: &[u8]) {
    let (documents, _) = documents::read("fuzz", bytes);
    for document in documents {
        if let Ok(entry) = decode_value::<RequirementEntry>(&document.value) {
            let _ = Requirement::try_from(entry);
        }
    }
}

/// An iCalendar file, and what its events are in two years.
pub fn calendar(bytes: &[u8]) {
    let zone = Zone::named("Europe/Berlin").expect("a zone");
    let Ok(calendar) = read_calendar(bytes, &zone) else {
        return;
    };
    if let Ok(events) = calendar.events(|_| false) {
        assert!(events.is_empty());
    }
    let events: Vec<CalendarEvent> = calendar.events(|_| true).unwrap_or_default();
    for series in events.iter().flat_map(|event| &event.series) {
        expand(series);
    }
}

/// A recurrence rule; in the second line, if there is one, the zone.
pub fn recurrence(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (rule, zone) = text.split_once('\n').unwrap_or((&text, "Europe/Berlin"));
    let (Ok(rule), Ok(zone)) = (rule.parse::<Recurrence>(), Zone::named(zone.trim())) else {
        return;
    };
    let start = zone.local("2025-01-03T15:00Z".parse().expect("a time"));
    let end = zone.local("2025-01-06T07:00Z".parse().expect("a time"));
    let mut series = Series::once(zone, start, end);
    series.rules.push(rule);
    expand(&series);
}

/// The instances of a series are in order, and in the range that is asked for.
fn expand(series: &Series) {
    let range = Span {
        start: "2025-01-01T00:00Z".parse().expect("a time"),
        end: "2027-01-01T00:00Z".parse().expect("a time"),
    };
    let spans = series.spans(range, &mut Budget::days(10_000));
    let spans = spans.unwrap_or_default();
    assert!(spans.is_sorted());
    let is_sound = |span: &Span| span.start <= span.end && span.overlaps(&range);
    assert!(spans.iter().all(is_sound));
}
