//! `vulnerabilities`: a signed, recent scan that does not find a vulnerability above a severity.
//!
//! * this file: the policy entry, and the order of the judgement
//! * `scans`: which scans count, and whether each of them can be used
//! * `counting`: which findings of them count
//! * `vex`: the OpenVEX documents that say which findings do no harm
//! * `absence`: what is said where no scan counts

mod absence;
mod counting;
mod scans;
mod vex;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{
    SIGNED_IN_THE_FUTURE, is_by_accepted, listed, minute, readable, sentence, unless_partial,
};
use super::{
    Class, Effect, Entry, EvidenceUse, ImageCheck, ImageRule, Judgement, Needs, Rule, Scope, World,
};
use crate::attest::predicate::{VulnerabilitySeverity, is_scan};
use crate::gate::age::Age;
use crate::gate::evidence::ImageEvidence;
use crate::gate::people::Moment;
use crate::gate::record::ScanAge;
use crate::gate::signer::AcceptedSigner;
use crate::gate::world::EvidenceToKeep;
use crate::reason::{Reason, reasons};
use counting::Counted;
use scans::{CurrentScans, SignedScans};
pub use vex::VexDocuments;
use vex::VexStatements;

/// **What it requires**: the image carries a vulnerability scan by an accepted signer, and no finding is more severe than
/// `maximumSeverity`. A scan is an attestation of one of two forms:
/// - `https://cosign.sigstore.dev/attestation/vuln/v1` with the report of Trivy or Grype
/// - `https://in-toto.io/attestation/vulns/v0.1` or `v0.2`
///
/// **Which scans count**: of each scanner, the newest scan, whatever parts of the image it looked at; so attest one report with all
/// of them. A scan of an SBOM does not take the place of an older scan of the image itself, if the report says that it is of an SBOM;
/// Grype does not say it of an SBOM by Syft. The time of a scan is the time that the
/// report gives, or the earliest verified time of the signature if that is earlier. The findings of several scanners are added up.
/// A scan that is older than `maximumAge` does not count at all. A report that names another image, that is older than its own
/// database, or that cannot be read, does not pass; a report is never read as "no findings" because it is not understood. One where
/// the scanner found no package to look at passes only with `acceptEmpty`.
///
/// **Which findings count**: those above `maximumSeverity`. A finding of unknown severity counts as `unknownSeverity`. With
/// `onlyFixable`, a finding without a fixed version does not count; where it is not said whether a fix exists (`unknown` of Grype), it counts. A
/// finding that the scanner lists as suppressed (Grype's `ignoredMatches`, Trivy's `ExperimentalModifiedFindings`) counts too,
/// since its ignore file belongs to the pipeline; `acceptSuppressed` changes that. Vulnerabilities of the kernel in packages with
/// its headers do not count where Grype ignores them by itself. An entry of `exceptions` accepts one vulnerability until a date.
///
/// **OpenVEX**: with `vex`, a finding does not count if the newest statement about it is `not_affected` or `fixed`. Statements
/// come from OpenVEX 0.2 documents (predicate type `https://openvex.dev/ns`) that are attested for this digest by the signer that
/// `vex` names. A statement counts if it has no products, or if a product names this digest (`pkg:oci/NAME@sha256:…`, or
/// `hashes`) and no other one, and if one of the product's `subcomponents`, where there are any, is the package of the finding. The
/// time of a statement is the time that the document gives, or the earliest verified time of the signature if that is earlier.
/// A document that says `affected` or `under_investigation` takes back what an older document says, also for a product without a
/// digest. A document without a verified time clears less than every other one, and takes back what every other one clears. An
/// advisory (`DSA-…`, `RHSA-…`, `ELSA-…`) can have several CVE ids: documents and exceptions have to be about each CVE id of a
/// finding, or about the advisory.
///
/// Without the documents, more findings count. What a document takes back, or could take back because it cannot be read, is kept in
/// the cluster (a `VexRecord`). It counts also after the document was deleted from the registry, under each policy that may accept
/// the signer, until a newer statement clears the finding or the record is deleted: by a governor, or by the gate once no release
/// record has named the digest for 30 days, or for the longest `rollbackWindow`.
///
/// Words of severities are understood in upper and lower case, and those of one format in the others too. A rating of in-toto's
/// predicate does not count if its method measures something else (EPSS, SSVC, KEV, a metric of CVSS such as the attack
/// complexity), or if it is a CVSS score of 0, which many databases give to what is not rated yet.
///
/// | `maximumSeverity` | Trivy | Grype | in-toto vulns |
/// |---|---|---|---|
/// | `None` | — | — | `none` |
/// | `Negligible` | — | `Negligible` | `negligible` |
/// | `Low` | `LOW` | `Low` | `low`, or a CVSS score below 4 |
/// | `Medium` | `MEDIUM` | `Medium` | `medium`, `moderate`, or a CVSS score below 7 |
/// | `High` | `HIGH` | `High` | `high`, `important`, or a CVSS score below 9 |
/// | `Critical` | `CRITICAL` | `Critical` | `critical`, or a CVSS score up to 10 |
/// | as `unknownSeverity` says | `UNKNOWN`, every other word | `Unknown`, every other word | every other word, a CVSS vector of version 2 or 4, no rating, or one of several ratings that is not understood |
///
/// The severity of a CVSS score is that of the qualitative scale of CVSS 3.1, for scores of every version. Of a CVSS vector of version
/// 3.0 or 3.1, the base score is computed.
///
/// **Ages**: where the gate keeps release records, `maximumAge` and `maximumDatabaseAge` are asked until the policy has admitted a
/// digest once, and not of a rollback. The reports of Trivy do not say when its database was updated, so
/// they cannot meet `maximumDatabaseAge`; those of Grype and the predicates of in-toto can.
///
/// Scans prove nothing about where an image comes from: require `signature` or `provenance` too.
///
/// **Why**: a vulnerability becomes known after the image was built, so that only a recent scan shows whether the image has it. A
/// check in the pipeline can be skipped by the author of the change; this one cannot.
///
/// **Example**:
/// `- vulnerabilities: {maximumSeverity: Medium, maximumAge: 24h, signedBy: {keyless: {issuer: "https://token.actions.githubusercontent.com", identity: {glob: "https://github.com/example/*/.github/workflows/scan.yml@refs/heads/main"}}}, exceptions: [{id: CVE-2026-1234, until: "2026-12-31", reason: "the vulnerable function is not used", owner: payments}]}`
///
/// **How to satisfy it**: `trivy image --format cosign-vuln --output scan.json IMAGE@DIGEST`, then
/// `cosign attest --yes --type vuln --predicate scan.json IMAGE@DIGEST`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vulnerabilities {
    /// The highest severity that is accepted.
    pub maximum_severity: VulnerabilitySeverity,
    /// The signer of the scans.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "has(self.keyless) != has(self.key)", "message": "expected exactly one of `keyless` and `key`"},
    ]))]
    pub signed_by: AcceptedSigner,
    /// The severity as which a finding counts whose severity is not known; `Critical` when absent.
    pub unknown_severity: Option<VulnerabilitySeverity>,
    /// Count only findings for which a fixed version exists.
    #[serde(default)]
    pub only_fixable: bool,
    /// How old a scan may be.
    pub maximum_age: Option<Age>,
    /// How long ago the database of the scanner may have been updated. A format that does not say it does not pass.
    pub maximum_database_age: Option<Age>,
    /// Scanners that must each have scanned the image: `trivy`, `grype`, or the address of another scanner without its version. The
    /// scans of others count too.
    #[schemars(length(min = 1))]
    pub scanners: Option<Vec<String>>,
    /// Do not count findings that the scanner lists as suppressed.
    #[serde(default)]
    pub accept_suppressed: bool,
    /// Accept a report of Trivy without `Results`: the scanner found no package to look at.
    #[serde(default)]
    pub accept_empty: bool,
    /// OpenVEX documents that say which findings do no harm.
    pub vex: Option<Box<VexDocuments>>,
    /// Vulnerabilities that are accepted until a date.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub exceptions: Vec<VulnerabilityException>,
}

/// A vulnerability that is accepted until a date.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VulnerabilityException {
    /// The id, such as `CVE-2026-1234`; the scanner's id of the vulnerability or an alias of it.
    #[schemars(length(min = 1))]
    pub id: String,
    /// The last day in UTC, such as `2026-12-31`, or the time at which the exception ends.
    pub until: Moment,
    /// Why the vulnerability is accepted.
    #[schemars(length(min = 1))]
    pub reason: String,
    /// The person or team that answers for it.
    pub owner: Option<String>,
}

/// The most exceptions of one entry.
const MAXIMUM_EXCEPTIONS: usize = 1000;

reasons! {
    OF_THIS_RULE:
    SCANNED = "scanned", "The newest scans do not find a vulnerability that counts.", "";
    VULNERABLE = "vulnerable",
        "A scan found a vulnerability that is more severe than the policy accepts.",
        "Build the image with fixed packages and scan it. If the vulnerability does not matter here, ask for an entry in the policy's `exceptions`.";
    NO_SCAN = "no-scan",
        "The image does not carry a vulnerability scan.",
        "`trivy image --format cosign-vuln --output scan.json IMAGE@DIGEST`, then `cosign attest --yes --type vuln --predicate scan.json IMAGE@DIGEST`.";
    SCAN_UNACCEPTED = "scan-unaccepted",
        "Something that may be a scan is attached to the image, but it could not be verified. The detail says why.",
        "`promotion-gate evidence IMAGE` shows everything attached and why it is not accepted; `promotion-gate explain REASON` explains a reason.";
    SCAN_SIGNER_NOT_ACCEPTED = "scan-signer-not-accepted",
        "The image carries a scan, but the policy does not accept its signer.",
        "Scan with an accepted signer, or ask for the signer to be added to the policy.";
    SCAN_IN_ANOTHER_FORM = "scan-in-another-form",
        "The image carries the report of a scanner that is not in the form of a vulnerability scan, so the gate does not read it.",
        "Attest it in the form of a scan: the message has the command that makes this form of the report. Or scan again: `trivy image --format cosign-vuln --output scan.json IMAGE@DIGEST`, then `cosign attest --yes --type vuln --predicate scan.json IMAGE@DIGEST`.";
    SCAN_UNREADABLE = "scan-unreadable",
        "An accepted signer has signed a scan that this version cannot read. It could have findings.",
        "Scan again with each scanner, in a form that the documentation of `vulnerabilities` names, or update the gate. Leave out of a report with too many findings what the policy accepts, such as with `trivy image --severity HIGH,CRITICAL`. The detail names the field.";
    VEX_UNREADABLE = "vex-unreadable",
        "The image passes only with OpenVEX documents, and a document of an accepted signer cannot be read. It could say that the image is affected.",
        "Write the document in the form of OpenVEX 0.2, such as with `vexctl create`, and attest it with `cosign attest --type openvex`; then attest every other document that clears a finding again. The detail names the field.";
    VEX_RECORD_UNREADABLE = "vex-record-unreadable",
        "The image passes only with OpenVEX documents, and the cluster keeps what such documents take back in a `VexRecord` that cannot be read, or in more of them than the gate reads.",
        "Let a governor correct or delete the resource that the detail names.";
    SCAN_TOO_OLD = "scan-too-old",
        "Every scan is older than the policy accepts.",
        "Scan the image again, and attest the report.";
    SCAN_TIME_UNKNOWN = "scan-time-unknown",
        "The policy bounds the age of scans, and no log and no timestamp authority confirms when the scan was signed.",
        "Attest with a transparency log or a timestamp authority.";
    SCANNER_MISSING = "scanner-missing",
        "A scanner that the policy names has not scanned the image, or its scan is too old.",
        "Scan the image with each scanner that the policy names.";
    SCAN_OF_ANOTHER_ARTIFACT = "scan-of-another-artifact",
        "The report names another image, or it is not the report of an image.",
        "Scan the digest that is deployed: `trivy image --format cosign-vuln … IMAGE@DIGEST`. A report of one platform of an index belongs to the platform's digest. This can be an attempt to pass off the scan of one image as that of another.";
    SCAN_OLDER_THAN_DATABASE = "scan-older-than-database",
        "The report says that its database was updated after the scan, so one of the two times is wrong.",
        "Scan the image again, and check the clock of the machine that scans.";
    DATABASE_TOO_OLD = "database-too-old",
        "The vulnerability database of the scanner is older than the policy accepts.",
        "Update the scanner's database (`grype db update`), scan again, and attest the report.";
    DATABASE_AGE_UNKNOWN = "database-age-unknown",
        "The policy bounds the age of the scanner's database, and the report does not say when the database was updated.",
        "Use a format that says it: a report of Grype, or in-toto's predicate. Reports of Trivy do not.";
    NOTHING_SCANNED = "nothing-scanned",
        "The scanner found no package in the image to look at.",
        "Check that the scanner supports the image. If the image has no packages, ask for `acceptEmpty: true` in the policy.";
}

impl Entry for Vulnerabilities {
    const REASONS: &'static [Reason] = OF_THIS_RULE;
    const EVIDENCE: Option<EvidenceUse> = Some(EvidenceUse {
        covers: false,
        per_platform: true,
        effect: Effect::CanHurt,
    });

    fn validate(&self) -> Result<(), String> {
        let scanners = self.scanners.as_deref();
        let mut names = scanners.into_iter().flatten();
        if names.clone().any(|name| name.trim().is_empty()) {
            return Err("`scanners` has an empty name".to_owned());
        }
        if let Some(name) = names.find(|name| name.trim() != *name) {
            return Err(format!(
                "`scanners`: no scanner is called `{name:.80}`; remove the white space around the name"
            ));
        }
        if scanners.is_some_and(<[String]>::is_empty) {
            return Err(
                "`scanners` is empty; leave the field out to accept every scanner".to_owned(),
            );
        }
        if self.exceptions.len() > MAXIMUM_EXCEPTIONS {
            return Err(format!(
                "`exceptions` has more than {MAXIMUM_EXCEPTIONS} entries"
            ));
        }
        let mut exceptions = self.exceptions.iter();
        if exceptions.any(|it| it.id.trim().is_empty() || it.reason.trim().is_empty()) {
            return Err("an entry of `exceptions` has an empty `id` or `reason`".to_owned());
        }
        let mut exceptions = self.exceptions.iter();
        if let Some(it) = exceptions.find(|it| it.id.contains('*')) {
            return Err(format!(
                "`exceptions`: the id `{:.80}` is compared as it is written, so it matches nothing; write one entry for each vulnerability",
                it.id
            ));
        }
        Ok(())
    }
}

impl Rule for Vulnerabilities {
    fn class(&self) -> Class {
        Class::ChangeControl
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Image(self)
    }

    fn needs(&self, world: &World) -> Needs<'_> {
        let of_vex = self.vex.iter().map(|vex| &vex.signed_by);
        Needs::under(
            [&self.signed_by].into_iter().chain(of_vex),
            &world.trust_roots,
        )
    }

    fn warnings(&self) -> Vec<String> {
        match self.maximum_age {
            Some(_) => Vec::new(),
            None => vec![
                "a scan counts however old it is, because `maximumAge` is not set; vulnerabilities that became known after the scan are not found".to_owned(),
            ],
        }
    }
}

impl ImageRule for Vulnerabilities {
    fn check(&self, check: &ImageCheck<'_>) -> Judgement {
        let evidence = match readable(check) {
            Ok(evidence) => evidence,
            Err(undecided) => return undecided,
        };
        match self.judge(evidence, check) {
            Ok(passed) => passed,
            Err(denied) if denied.outcome == crate::gate::finding::Outcome::Fail => {
                unless_partial(denied, check)
            }
            Err(undecided) => undecided,
        }
    }

    fn finds_in(&self, evidence: &ImageEvidence, world: &World) -> bool {
        let statements = evidence.statements.iter();
        let mut of_type = statements.filter(|(_, it)| is_scan(it.predicate_type()));
        of_type.any(|(_, it)| is_by_accepted(&self.signed_by, it, world))
    }

    fn keeps(&self, check: &ImageCheck<'_>) -> EvidenceToKeep {
        let read = check.subject.zip(check.evidence.value());
        match (&self.vex, read) {
            (Some(vex), Some((subject, evidence))) => vex.to_keep(&subject.digest, evidence, check),
            _ => EvidenceToKeep::default(),
        }
    }
}

impl Vulnerabilities {
    /// The judgement by the evidence that was read; a denial is the error.
    fn judge<'e>(
        &self,
        evidence: &'e ImageEvidence,
        check: &ImageCheck<'e>,
    ) -> Result<Judgement, Judgement> {
        // 1. The scans by accepted signers. A time in the future means that a clock is wrong, so that no age is known.
        let in_the_future =
            |why| Judgement::fail(SIGNED_IN_THE_FUTURE, why).hint("check the gate's clock");
        let signed = SignedScans::read(self, evidence, check);
        if let Some(why) = signed.in_the_future.iter().min() {
            return Err(in_the_future(why.clone()));
        }
        let vex =
            VexStatements::read(self.vex.as_deref(), evidence, check).map_err(in_the_future)?;
        // 2. Of each scanner the newest: an older one must not hide what a newer one found.
        let ages = self.ages(check);
        let current = CurrentScans::of(&signed, ages.scan);
        // 3. A scan that cannot be read could be the newest.
        if let Some(unreadable) = self.unreadable(&signed, &current, ages.scan, check) {
            return Err(unreadable);
        }
        if current.scans.is_empty() {
            return Err(match current.newest_too_old(&signed) {
                Some(stale) => self.too_old(&stale),
                None => self.explain_absence(evidence, &signed, check),
            });
        }
        // 4. Every scanner that the policy names: one that did not scan could have found something.
        for name in self.scanners.iter().flatten() {
            if !current.is_by(name) {
                return Err(self.scanner_missing(name, &current));
            }
        }
        // 5. Each scan is about this image, is not older than its database, and looked at something.
        for scan in &current.scans {
            self.can_be_used(scan, &current, &ages, check)?;
        }
        // 6. What was found, and does harm.
        let counted = Counted::of(self, &current, &vex, check.promotion.at);
        if let Some(mut denied) = counted.denial(self, &vex) {
            let others = VexDocuments::of_others(self.vex.as_deref(), evidence, check);
            denied.detail.push_str(&others);
            return Err(denied);
        }
        // 7. A document, or what the cluster keeps of one, that cannot be read could take back what makes a finding harmless.
        match vex.unreadable(self.vex.as_deref(), counted.harmless_since, check) {
            Some(undecided) => Err(undecided),
            None => Ok(counted.pass(self, &current, check.promotion.at)),
        }
    }

    /// The ages that are bounded.
    pub(in crate::gate) fn bounded_ages(&self) -> Vec<ScanAge> {
        let of_scan = self.maximum_age.map(|_| ScanAge::Scan);
        let of_database = self.maximum_database_age.map(|_| ScanAge::Database);
        of_scan.into_iter().chain(of_database).collect()
    }

    /// The earliest times that count, where the ages of scan and database are asked.
    fn ages(&self, check: &ImageCheck<'_>) -> EarliestTimes {
        let is_rollback = check.promotion.is_rollback(check.policy);
        let earliest = |most: Option<Age>, age| {
            let most = most.filter(|_| !is_rollback && !check.has_judged(age))?;
            let at = check.promotion.at.saturating_sub(most.duration());
            Some(at.unwrap_or(Timestamp::MIN))
        };
        EarliestTimes {
            scan: earliest(self.maximum_age, ScanAge::Scan),
            database: earliest(self.maximum_database_age, ScanAge::Database),
        }
    }

    fn too_old(&self, stale: &str) -> Judgement {
        let most = self
            .maximum_age
            .map(|age| age.to_string())
            .unwrap_or_default();
        Judgement::fail(
            SCAN_TOO_OLD,
            format!("{stale}, and a scan may be at most {most} old"),
        )
        .hint("scan the image again and attest the report")
    }

    fn scanner_missing(&self, name: &str, current: &CurrentScans<'_>) -> Judgement {
        let by = current.scanners();
        let by = listed(by.map(|name| format!("`{name}`")), 5);
        let detail = match self.maximum_age {
            Some(age) => {
                format!("no scan by `{name}` is at most {age} old; there are scans by {by}")
            }
            None => format!("there is no scan by `{name}`; there are scans by {by}"),
        };
        Judgement::fail(SCANNER_MISSING, detail).hint(format!(
            "scan the image with `{name}` and attest the report"
        ))
    }
}

/// The earliest times of a scan and of a database that count; `None` where every age counts.
struct EarliestTimes {
    scan: Option<Timestamp>,
    database: Option<Timestamp>,
}
