//! Which findings of the scans count, and what is said about them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::scans::CurrentScans;
use super::vex::VexStatements;
use super::{
    Judgement, SCANNED, VULNERABLE, Vulnerabilities, VulnerabilityException, listed, minute,
    sentence,
};
use crate::attest::predicate::{VulnerabilityFinding, VulnerabilitySeverity, is_cve};

/// A pass warns of the end of an exception this long before.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The most findings that a denial names.
const NAMED: usize = 5;

/// The findings of the current scans.
#[derive(Default)]
pub(super) struct Counted<'s> {
    /// Those that count, the most severe first: severity, id, package, and what is added to them in messages.
    denying: BTreeSet<(Reverse<VulnerabilitySeverity>, &'s str, &'s str, String)>,
    /// The same findings with all of their ids.
    denied: Vec<(Reverse<VulnerabilitySeverity>, &'s VulnerabilityFinding)>,
    /// The exceptions that accept a finding, by id, with their ends.
    excepted: BTreeMap<&'s str, Timestamp>,
    /// The number of findings that do no harm, by OpenVEX documents, and the time of the oldest statement among these.
    harmless: usize,
    pub(super) harmless_since: Option<Timestamp>,
    /// The number of findings of all scans.
    all: usize,
}

impl<'s> Counted<'s> {
    pub(super) fn of(
        rule: &'s Vulnerabilities,
        current: &CurrentScans<'s>,
        vex: &VexStatements<'_>,
        at: Timestamp,
    ) -> Counted<'s> {
        let mut counted = Counted::default();
        let exceptions = Exceptions::of(rule);
        for finding in current.scans.iter().flat_map(|it| &it.scan.findings) {
            counted.all += 1;
            let Some(severity) = rule.severity_that_counts(finding) else {
                continue;
            };
            let exception = exceptions.of_finding(finding);
            let mut added = String::new();
            match exception {
                Some((exception, until)) if at < until => {
                    counted.excepted.insert(&exception.id, until);
                    continue;
                }
                Some((exception, until)) => added = expired(exception, until),
                None => {}
            }
            if let Some(since) = vex.harmless_since(finding) {
                counted.harmless += 1;
                let oldest = counted.harmless_since.unwrap_or(since);
                counted.harmless_since = Some(oldest.min(since));
                continue;
            }
            counted.denied.push((Reverse(severity), finding));
            counted
                .denying
                .insert((Reverse(severity), &finding.id, &finding.package, added));
        }
        counted.denied.sort_by_key(|(severity, _)| *severity);
        counted
    }

    /// The denial, if a finding counts.
    pub(super) fn denial(
        &self,
        rule: &Vulnerabilities,
        vex: &VexStatements<'_>,
    ) -> Option<Judgement> {
        let most = rule.maximum_severity;
        let named = self
            .denying
            .iter()
            .map(|(Reverse(severity), id, package, added)| {
                let package = match *package {
                    "" => String::new(),
                    package => format!(" in `{package}`"),
                };
                format!("`{id}` ({severity}){package}{added}")
            });
        let count = self.denying.len();
        let vulnerabilities = match count {
            0 => return None,
            1 => "1 vulnerability".to_owned(),
            count => format!("{count} vulnerabilities"),
        };
        let denied = self.denied.iter().map(|(_, finding)| *finding);
        let (by_records, newer) = vex.taken_back(denied.clone());
        let detail = format!(
            "{vulnerabilities} above `{most}`: {}{by_records}",
            listed(named, NAMED)
        );
        Some(Judgement::fail(VULNERABLE, detail).hint(format!(
            "build the image with fixed packages, scan it and attest the report; or ask for an entry in the policy's `exceptions`{newer}{}",
            vex.without_effect(denied)
        )))
    }

    pub(super) fn pass(
        &self,
        rule: &Vulnerabilities,
        current: &CurrentScans<'_>,
        at: Timestamp,
    ) -> Judgement {
        let scans = current.scans.iter().map(|it| {
            fmt::from_fn(move |f| match it.at {
                Some(at) => write!(f, "`{}` at {}", it.scan.scanner, minute(at)),
                None => write!(f, "`{}`", it.scan.scanner),
            })
        });
        let except = fmt::from_fn(|f| {
            if !self.excepted.is_empty() {
                let ids = self.excepted.keys().map(|id| format!("`{id}`"));
                write!(
                    f,
                    " except {}, which the policy accepts",
                    listed(ids, NAMED)
                )?;
            }
            match self.harmless {
                0 => Ok(()),
                count => write!(f, "; {count} do no harm, by OpenVEX documents"),
            }
        });
        let detail = sentence(format_args!(
            "scanned by {}: {} findings, none above `{}` that counts{except}",
            listed(scans, 4),
            self.all,
            rule.maximum_severity
        ));
        let passed = Judgement::pass(SCANNED, detail);
        let first = self
            .excepted
            .iter()
            .min_by_key(|(id, until)| (**until, **id));
        match first {
            Some((id, until)) if at.saturating_add(SOON).is_ok_and(|soon| *until <= soon) => passed
                .warning(format!(
                    "the policy accepts `{id:.40}` only until {}",
                    minute(*until)
                )),
            _ => passed,
        }
    }
}

impl Vulnerabilities {
    /// The severity as which a finding counts whose severity is not known.
    pub(super) fn severity_of_unknown(&self) -> VulnerabilitySeverity {
        self.unknown_severity
            .unwrap_or(VulnerabilitySeverity::Critical)
    }

    /// The severity of a finding, if it is one that counts without an exception.
    fn severity_that_counts(
        &self,
        finding: &VulnerabilityFinding,
    ) -> Option<VulnerabilitySeverity> {
        let severity = finding
            .severity
            .unwrap_or_else(|| self.severity_of_unknown());
        let is_accepted = severity <= self.maximum_severity
            || self.only_fixable && finding.is_fixable == Some(false)
            || self.accept_suppressed && finding.is_suppressed;
        (!is_accepted).then_some(severity)
    }
}

/// The exceptions of a policy entry by their ids in lower case, each with its end: of several with one id, the one that ends last.
struct Exceptions<'r>(BTreeMap<String, (&'r VulnerabilityException, Timestamp)>);

impl<'r> Exceptions<'r> {
    fn of(rule: &'r Vulnerabilities) -> Exceptions<'r> {
        let mut by_id = BTreeMap::new();
        for exception in &rule.exceptions {
            let until = exception.until.end().unwrap_or(Timestamp::MIN);
            let known = by_id
                .entry(exception.id.trim().to_ascii_lowercase())
                .or_insert((exception, until));
            if known.1 < until {
                *known = (exception, until);
            }
        }
        Exceptions(by_id)
    }

    fn of_id(&self, id: &str) -> Option<(&'r VulnerabilityException, Timestamp)> {
        self.0.get(&id.to_ascii_lowercase()).copied()
    }

    /// The exception of a finding that ends last, with its end. Of a finding with several CVE ids, each needs one, or the advisory.
    fn of_finding(
        &self,
        finding: &VulnerabilityFinding,
    ) -> Option<(&'r VulnerabilityException, Timestamp)> {
        let ids = finding.ids();
        let of_all = ids.filter(|id| *id == &*finding.id || !is_cve(id));
        let of_all = of_all.filter_map(|id| self.of_id(id));
        let cves = finding.cves();
        let of_each: Option<Vec<_>> = cves.iter().map(|cve| self.of_id(cve)).collect();
        let of_each = of_each.and_then(|each| each.into_iter().min_by_key(|(_, until)| *until));
        of_all.chain(of_each).max_by_key(|(_, until)| *until)
    }
}

fn expired(exception: &VulnerabilityException, until: Timestamp) -> String {
    let owner = exception.owner.as_ref();
    let owner = owner.map_or_else(String::new, |owner| format!(" of `{owner}`"));
    format!(", whose exception{owner} ended at {}", minute(until))
}
