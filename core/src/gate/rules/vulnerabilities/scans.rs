//! Which scans count: those by accepted signers, of each scanner the newest; and whether such a scan can be used.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    DATABASE_AGE_UNKNOWN, DATABASE_TOO_OLD, EarliestTimes, ImageCheck, ImageEvidence, Judgement,
    NOTHING_SCANNED, SCAN_OF_ANOTHER_ARTIFACT, SCAN_OLDER_THAN_DATABASE, SCAN_TIME_UNKNOWN,
    SCAN_UNREADABLE, Vulnerabilities, VulnerabilitySeverity, is_scan, listed, minute,
};
use crate::attest::VerifiedStatement;
use crate::attest::predicate::{Predicate, RawReport, VulnerabilityScan};
use crate::attest::unaccepted::TOO_LARGE;
use crate::gate::rules::check::{SigningTimes, in_time, replacing};
use crate::gate::signer::Mismatch;

/// The severities for which Trivy has a word.
const OF_TRIVY: [VulnerabilitySeverity; 4] = [
    VulnerabilitySeverity::Low,
    VulnerabilitySeverity::Medium,
    VulnerabilitySeverity::High,
    VulnerabilitySeverity::Critical,
];
/// A database may be this much newer than the scan, because the clocks of two machines differ.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// All scans of an image, by what the signature says.
#[derive(Default)]
pub(super) struct SignedScans<'e> {
    /// By accepted signers, each once.
    read: Vec<SignedScan<'e>>,
    /// By accepted signers, and not understood.
    unreadable: Vec<UnreadableScan>,
    /// By accepted signers, with a time in the future: why they do not count.
    pub(super) in_the_future: Vec<String>,
    /// By other signers: why they do not count.
    pub(super) not_accepted: Vec<(Mismatch, String)>,
}

/// A scan that is not understood.
struct UnreadableScan {
    /// When it was signed; `None` where nothing confirms a time.
    at: Option<Timestamp>,
    /// Whose it is, and why it is not understood.
    detail: String,
    is_too_large: bool,
}

/// A scan by an accepted signer.
#[derive(Clone, Copy)]
pub(super) struct SignedScan<'e> {
    pub(super) statement: &'e VerifiedStatement,
    pub(super) scan: &'e VulnerabilityScan,
    /// When it was made; `None` where nothing confirms a time.
    pub(super) at: Option<Timestamp>,
}

impl<'e> SignedScans<'e> {
    pub(super) fn read(
        rule: &Vulnerabilities,
        evidence: &'e ImageEvidence,
        check: &ImageCheck<'_>,
    ) -> SignedScans<'e> {
        let mut signed = SignedScans::default();
        let mut read: BTreeMap<_, SignedScan<'e>> = BTreeMap::new();
        let mut unreadable = Vec::new();
        let statements = evidence.statements.iter().map(|(_, it)| &**it);
        for statement in statements.filter(|it| is_scan(it.predicate_type())) {
            let by = statement.signer();
            if let Err(mismatch) = rule.signed_by.signed(statement, &check.world.trust_roots) {
                signed.not_accepted.push((mismatch, by.to_string()));
                continue;
            }
            if let Err(why) = in_time(statement, check.promotion.at) {
                signed.in_the_future.push(format!("scan by {by}: {why}"));
                continue;
            }
            match statement.predicate() {
                Predicate::Scan(scan) => {
                    let at = statement.made_at(scan.at);
                    let new = SignedScan {
                        statement,
                        scan,
                        at,
                    };
                    // The same statement under several anchors is one scan, of its earliest time.
                    let key = (statement.digest(), by.name());
                    let known = read.entry(key).or_insert(new);
                    known.at = [known.at, at].into_iter().flatten().min();
                }
                Predicate::Unreadable(why) => {
                    let detail = format!("scan by {by}: {why}");
                    unreadable.push((statement, detail, why.reason == TOO_LARGE));
                }
                _ => {}
            }
        }
        signed.read = read.into_values().collect();
        let times = SigningTimes::of(unreadable.iter().map(|(statement, ..)| *statement));
        let unreadable = unreadable.into_iter();
        let unreadable = unreadable.map(|(statement, detail, is_too_large)| UnreadableScan {
            at: times.at(statement),
            detail,
            is_too_large,
        });
        signed.unreadable = unreadable.collect();
        signed
    }
}

/// The scans that count, sorted by scanner.
pub(super) struct CurrentScans<'e> {
    pub(super) scans: Vec<SignedScan<'e>>,
}

impl<'e> CurrentScans<'e> {
    /// Of each scanner the newest scan, unless it is older than `earliest`. Scans of one time count together, and so does every
    /// scan of which no time is known: each of them could be the newest. A scan of an SBOM never hides one of the image.
    pub(super) fn of(signed: &SignedScans<'e>, earliest: Option<Timestamp>) -> CurrentScans<'e> {
        let mut newest: BTreeMap<(&str, bool), SignedScan<'e>> = BTreeMap::new();
        for it in &signed.read {
            let of_scanner = (&*it.scan.scanner, it.scan.scanned.is_sbom);
            let known = newest.entry(of_scanner).or_insert(*it);
            if known.at < it.at {
                *known = *it;
            }
        }
        let is_newest = |it: &SignedScan<'e>| {
            let mut newest = newest.values();
            !newest.any(|new| new.at > it.at && new.scan.replaces(it.scan))
        };
        let counts = |it: &&SignedScan<'e>| match it.at {
            None => true,
            Some(at) => is_newest(it) && earliest.is_none_or(|first| first <= at),
        };
        let mut scans: Vec<_> = signed.read.iter().filter(counts).copied().collect();
        let order = |it: &SignedScan<'e>| (&*it.scan.scanner, it.at, it.statement.digest());
        scans.sort_by(|a, b| order(a).cmp(&order(b)));
        CurrentScans { scans }
    }

    /// The scanners, each once.
    pub(super) fn scanners(&self) -> impl Iterator<Item = &'e str> {
        let names: BTreeSet<&'e str> = self.scans.iter().map(|it| &*it.scan.scanner).collect();
        names.into_iter()
    }

    /// Whether one of the scans of a scanner has a verified time.
    fn has_timed(&self, scanner: &str) -> bool {
        let mut scans = self.scans.iter();
        scans.any(|it| &*it.scan.scanner == scanner && it.at.is_some())
    }

    pub(super) fn is_by(&self, name: &str) -> bool {
        self.scanners()
            .any(|scanner| scanner.eq_ignore_ascii_case(name))
    }

    /// The scan that cannot be read and could be newer than one of these, if there is one.
    fn unreadable<'s>(
        &self,
        signed: &'s SignedScans<'_>,
        earliest: Option<Timestamp>,
    ) -> Option<&'s UnreadableScan> {
        let oldest = self.scans.iter().map(|it| it.at).min().flatten();
        let could_count = |at: Option<Timestamp>| match at {
            None => true,
            Some(at) => {
                oldest.is_none_or(|oldest| at >= oldest) && earliest.is_none_or(|first| at >= first)
            }
        };
        let unreadable = signed.unreadable.iter().filter(|it| could_count(it.at));
        unreadable.min_by_key(|it| (it.at.is_some(), &it.detail))
    }

    /// What is said of the newest scan, where all scans are too old.
    pub(super) fn newest_too_old(&self, signed: &SignedScans<'_>) -> Option<String> {
        let newest = signed
            .read
            .iter()
            .max_by_key(|it| (it.at, &it.scan.scanner))?;
        let at = newest.at.map(minute).unwrap_or_default();
        Some(format!(
            "the newest scan is by `{}`, of {at}",
            newest.scan.scanner
        ))
    }
}

impl Vulnerabilities {
    /// The judgement if a scan that cannot be read could be newer than one that counts.
    pub(super) fn unreadable(
        &self,
        signed: &SignedScans<'_>,
        current: &CurrentScans<'_>,
        earliest: Option<Timestamp>,
        check: &ImageCheck<'_>,
    ) -> Option<Judgement> {
        let unreadable = current.unreadable(signed, earliest)?;
        let name = check.name();
        let attest = format!("`cosign attest --yes --type vuln --predicate scan.json {name}`");
        let hint = match unreadable.is_too_large {
            true => format!(
                "build the image with fewer packages; or, if no other policy that reads these scans is stricter, leave out of the report what this one accepts: `trivy image{} --format cosign-vuln --output scan.json {name}`, then {attest}",
                self.options_of_trivy()
            ),
            // An answer of the webhook cuts long lines, so the image is named once.
            false => format!(
                "scan again with each scanner: `trivy image --format cosign-vuln --output scan.json IMAGE`, or `grype IMAGE --output json > report.json` and `{}`; then {attest}; or update the gate",
                RawReport::Grype.conversion()
            ),
        };
        let judgement = Judgement::undecided(SCAN_UNREADABLE, unreadable.detail.clone());
        Some(judgement.hint(replacing(unreadable.at.is_some(), &hint)))
    }

    /// The options by which Trivy leaves out of its report what the policy accepts.
    fn options_of_trivy(&self) -> String {
        let above = |severity: &VulnerabilitySeverity| *severity > self.maximum_severity;
        let unknown = Some(self.severity_of_unknown()).filter(above);
        let unknown = unknown.map(|_| "UNKNOWN".to_owned());
        let named = OF_TRIVY.iter().filter(|it| above(it));
        let named = named.map(|it| it.to_string().to_ascii_uppercase());
        let severities: Vec<_> = unknown.into_iter().chain(named).collect();
        let fixable = if self.only_fixable {
            " --ignore-unfixed"
        } else {
            ""
        };
        match severities.is_empty() {
            true => fixable.to_owned(),
            false => format!(" --severity {}{fixable}", severities.join(",")),
        }
    }

    /// Whether a scan can be used for this image.
    ///
    /// # Errors
    /// The judgement where it cannot.
    pub(super) fn can_be_used(
        &self,
        scan: &SignedScan<'_>,
        current: &CurrentScans<'_>,
        ages: &EarliestTimes,
        check: &ImageCheck<'_>,
    ) -> Result<(), Judgement> {
        let SignedScan {
            statement,
            scan,
            at,
        } = scan;
        let by = || format!("scan of `{}` by {}", scan.scanner, statement.signer());
        let another = |why: String| {
            Judgement::fail(SCAN_OF_ANOTHER_ARTIFACT, format!("{}: {why}", by())).hint(format!(
                "scan this image: `trivy image --format cosign-vuln --output scan.json {}`",
                check.name()
            ))
        };
        let scanned = &scan.scanned;
        match scanned.other_kind.as_deref() {
            None => {}
            Some("") => {
                return Err(another(
                    "the report does not say what was scanned".to_owned(),
                ));
            }
            Some(kind) => {
                return Err(another(format!(
                    "the report is of a `{kind}`, not of an image"
                )));
            }
        }
        let subject = statement.subject();
        if !scanned.digests.is_empty() && !scanned.digests.contains(subject) {
            let named = scanned.digests.iter().map(|digest| format!("`{digest}`"));
            return Err(another(format!(
                "the report is of the image {}",
                listed(named, 2)
            )));
        }
        if let (Some(database), Some(at)) = (scan.database, *at)
            && database > at.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX)
        {
            let detail = format!(
                "{}: the scan is of {}, and its database of {}",
                by(),
                minute(at),
                minute(database)
            );
            return Err(
                Judgement::fail(SCAN_OLDER_THAN_DATABASE, detail).hint("scan the image again")
            );
        }
        if scanned.is_empty && !self.accept_empty {
            let detail = format!("{}: the scanner found no package in the image", by());
            return Err(Judgement::fail(NOTHING_SCANNED, detail)
                .hint("check that the scanner supports the image, or ask for `acceptEmpty: true` in the policy"));
        }
        if at.is_none() && current.has_timed(&scan.scanner) {
            // Its findings count. The ages are asked of the scan of which a time is known: this one could never be replaced.
            return Ok(());
        }
        if ages.scan.is_some() && at.is_none() {
            let detail = format!(
                "{}: no log and no timestamp authority confirms its time",
                by()
            );
            return Err(Judgement::fail(SCAN_TIME_UNKNOWN, detail)
                .hint("attest with a transparency log or a timestamp authority"));
        }
        self.database_is_recent(scan, ages.database, by)
    }

    fn database_is_recent(
        &self,
        scan: &VulnerabilityScan,
        earliest: Option<Timestamp>,
        by: impl Fn() -> String,
    ) -> Result<(), Judgement> {
        let Some(earliest) = earliest else {
            return Ok(());
        };
        match scan.database {
            Some(database) if database >= earliest => Ok(()),
            Some(database) => {
                let most = self.maximum_database_age.map(|age| age.to_string());
                let detail = format!(
                    "{}: its database is of {}, and may be at most {} old",
                    by(),
                    minute(database),
                    most.unwrap_or_default()
                );
                Err(Judgement::fail(DATABASE_TOO_OLD, detail)
                    .hint("update the database of the scanner and scan again"))
            }
            None => {
                let detail = format!(
                    "{}: the report does not say when its database was updated",
                    by()
                );
                Err(Judgement::fail(DATABASE_AGE_UNKNOWN, detail)
                    .hint("scan with Grype, or leave out `maximumDatabaseAge`"))
            }
        }
    }
}
