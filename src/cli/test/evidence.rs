//! Evidence as a case writes it → what the sandbox signs, and what is read from files.

use std::sync::Arc;

use jiff::Timestamp;
use promotion_gate_core::documents::Path;
use promotion_gate_core::gate::{Age, Digest};
use serde_json::Value;
use serde_json::value::RawValue;

use super::asked::Used;
use super::format::{ApprovalSpec, EvidenceSpec, HowSpec, Spec};
use super::load::{Piece, TestFact, What};
use super::resolve::SuiteReader;
use super::{people, provenance, scans, statements};
use crate::cli::world;
use crate::oci::{Layout, Repository};

impl SuiteReader<'_> {
    /// The images that a piece of evidence is attached to.
    pub(super) fn attached_to(
        &mut self,
        item: &EvidenceSpec,
        used: &[Used],
        here: &Path,
    ) -> Vec<(Repository, Digest)> {
        let meant: Vec<_> = used
            .iter()
            .filter(|used| item.image.as_ref().is_none_or(|name| used.is_called(name)))
            .collect();
        if let (Some(name), true) = (&item.image, meant.is_empty()) {
            let known: Vec<_> = used
                .iter()
                .map(|used| used.reference.as_written())
                .collect();
            let why = format!("the case has no image `{name}`");
            let problem = self.document.problem(here.key("image"), why);
            self.problems.push(problem.suggesting(name, known));
        }
        for used in meant.iter().filter(|used| used.digest.is_none()) {
            let written = used.reference.as_written();
            let why = format!(
                "evidence belongs to a digest, and `{written}` has none: add it to the case's `tags`"
            );
            self.refuse(here.clone(), why);
        }
        meant
            .into_iter()
            .filter_map(|used| Some((used.repository.clone(), used.digest.clone()?)))
            .collect()
    }

    pub(super) fn pieces(
        &mut self,
        item: &EvidenceSpec,
        to: &[(Repository, Digest)],
        test: &Spec,
        at: Timestamp,
        here: &Path,
    ) -> Vec<Piece> {
        let EvidenceSpec {
            image: _,
            signature,
            attestation,
            provenance,
            scan,
            vex,
            sbom,
            verification_summary,
            approval,
            rejection,
            change_record,
            emergency,
            layout,
            bundles,
            unavailable,
        } = item;
        let given = [
            signature.is_some(),
            attestation.is_some(),
            provenance.is_some(),
            scan.is_some(),
            vex.is_some(),
            sbom.is_some(),
            verification_summary.is_some(),
            approval.is_some(),
            rejection.is_some(),
            change_record.is_some(),
            emergency.is_some(),
            layout.is_some(),
            bundles.is_some(),
            unavailable.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            self.refuse(here.clone(), "expected one of `signature`, `attestation`, `provenance`, `scan`, `vex`, `sbom`, `verificationSummary`, `approval`, `rejection`, `changeRecord`, `emergency`, `layout`, `bundles` and `unavailable`");
            return Vec::new();
        }
        if let Some((field, how, what)) = self.signed(item, to, test, at) {
            let here = here.key(field);
            return match what {
                Ok(what) => vec![self.fact(&how, what, test, at, &here)],
                Err(why) => {
                    self.refuse(here, why);
                    Vec::new()
                }
            };
        }
        if let Some(written) = emergency {
            let mut subjects: Vec<_> = to.iter().map(|(_, digest)| digest.clone()).collect();
            subjects.sort();
            subjects.dedup();
            return self.emergency(written, subjects, test, at, &here.key("emergency"));
        }
        if let Some(layout) = layout {
            return self
                .layout(layout, &here.key("layout"))
                .into_iter()
                .collect();
        }
        if let Some(bundles) = bundles {
            return self.bundles(bundles, &here.key("bundles"));
        }
        match unavailable {
            Some(true) => vec![Piece::Unavailable],
            _ => Vec::new(),
        }
    }

    /// What the sandbox signs for a piece of evidence: the field that gives it, how it is signed and what is signed.
    fn signed<'a>(
        &self,
        item: &'a EvidenceSpec,
        to: &[(Repository, Digest)],
        test: &Spec,
        at: Timestamp,
    ) -> Option<(&'static str, HowSpec<'a>, Result<What, String>)> {
        if let Some(written) = &item.signature {
            let what = What::Signature(written.annotations.clone());
            return Some(("signature", written.how(), Ok(what)));
        }
        if let Some(written) = &item.attestation {
            let predicate = Value::Object(written.predicate.clone());
            let what = What::Statement(written.predicate_type.clone(), predicate);
            return Some(("attestation", written.how(), Ok(what)));
        }
        let people = self.people.as_deref();
        let (field, how, predicate) = if let Some(written) = &item.provenance {
            let how = written.how();
            let signer = test.signers.get(how.by);
            let identity = signer.and_then(|signer| signer.identity.as_deref());
            (
                "provenance",
                how,
                provenance::expand(written, identity, people),
            )
        } else if let Some(written) = &item.scan {
            ("scan", written.how(), scans::expand(written, at))
        } else if let Some(written) = &item.vex {
            ("vex", written.how(), statements::vex(written, at))
        } else if let Some(written) = &item.sbom {
            ("sbom", written.how(), Ok(statements::bill(written)))
        } else if let Some(written) = &item.verification_summary {
            let predicate = statements::summary(written, at, to);
            ("verificationSummary", written.how(), predicate)
        } else if let Some(written) = &item.approval {
            ("approval", written.how(), self.decided(written, "approved"))
        } else if let Some(written) = &item.rejection {
            (
                "rejection",
                written.how(),
                self.decided(written, "rejected"),
            )
        } else {
            let written = item.change_record.as_ref()?;
            (
                "changeRecord",
                written.how(),
                people::change_record(written, people),
            )
        };
        let what = predicate.map(|(kind, predicate)| What::Statement(kind.to_owned(), predicate));
        Some((field, how, what))
    }

    fn decided(
        &self,
        written: &ApprovalSpec,
        decision: &str,
    ) -> Result<(&'static str, Value), String> {
        let environment = written.environment.as_ref().or(self.environment.as_ref());
        let environment = environment
            .ok_or("the tested policies do not name one environment; add `environment`")?;
        Ok(people::approval(written, decision, environment))
    }

    fn layout(&mut self, folder: &std::path::Path, here: &Path) -> Option<Piece> {
        let folder = self.folder.join(folder);
        self.read.insert(folder.clone());
        match Layout::open(&folder) {
            Ok(layout) => Some(Piece::Layout(Arc::new(layout))),
            Err(error) => {
                self.refuse(here.clone(), error.to_string());
                None
            }
        }
    }

    fn bundles(&mut self, files: &[std::path::PathBuf], here: &Path) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let file = self.folder.join(file);
            self.read.insert(file.clone());
            match std::fs::File::open(&file).and_then(world::bounded) {
                Ok(bytes) => pieces.extend(split(&bytes).into_iter().map(Piece::Bundle)),
                Err(error) => {
                    let why = format!("`{}` cannot be read: {error}", file.display());
                    self.refuse(here.index(index), why);
                }
            }
        }
        pieces
    }

    /// Refuses a name that no signer has.
    pub(super) fn known_signer(&mut self, by: &str, test: &Spec, here: &Path) {
        if !test.signers.contains_key(by) {
            let why = format!(
                "neither `signers` nor a people directory names `{by}` with a certificate identity"
            );
            let known = test.signers.keys().map(String::as_str);
            let problem = self.document.problem(here.key("by"), why);
            self.problems.push(problem.suggesting(by, known));
        }
    }

    pub(super) fn fact(
        &mut self,
        how: &HowSpec<'_>,
        what: What,
        test: &Spec,
        at: Timestamp,
        here: &Path,
    ) -> Piece {
        self.known_signer(how.by, test, here);
        let signed = self.time_of(how, at, here);
        if how.at.is_some() && how.ago.is_some() {
            self.refuse(
                here.key("ago"),
                "`at` gives the time already; remove one of them",
            );
        }
        let about = how
            .about
            .and_then(|about| self.parse(here.key("about"), about));
        Piece::Signed(TestFact {
            by: how.by.to_owned(),
            form: how.form,
            logged: how.logged,
            stamped: how.stamped,
            at: signed,
            about,
            what,
        })
    }
}

impl SuiteReader<'_> {
    /// When a fact is signed, in a case of the time `at`.
    pub(super) fn time_of(&mut self, how: &HowSpec<'_>, at: Timestamp, here: &Path) -> Timestamp {
        let signed = how.at.and_then(|at| self.parse(here.key("at"), at));
        let ago = how
            .ago
            .and_then(|ago| self.parse::<Age>(here.key("ago"), ago));
        let before = ago.map(|ago| at.saturating_sub(ago.duration()).unwrap_or(at));
        signed.or(before).unwrap_or(at)
    }
}

/// The bundles in a file: JSON documents one after another. A line that is not JSON is kept, so that verification refuses it.
fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let values = serde_json::Deserializer::from_slice(bytes).into_iter::<Box<RawValue>>();
    let whole: Result<Vec<_>, _> = values
        .map(|value| value.map(|value| value.get().as_bytes().to_vec()))
        .collect();
    whole.unwrap_or_else(|_| {
        let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    })
}
