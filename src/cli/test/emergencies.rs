//! Emergency changes and incidents as a case writes them → the statements that people sign, and what incident checks answer.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use jiff::Timestamp;
use promotion_gate_core::attest::predicate::{Approval, EmergencyChange, EmergencyClosure};
use promotion_gate_core::documents::Path;
use promotion_gate_core::gate::{Age, Collected, Digest, Incident, Unavailability};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::format::{CaseSpec, EmergencySpec, HowSpec, Spec};
use super::load::{Piece, What};
use super::resolve::SuiteReader;
use crate::incidents::Incidents;
use crate::sandbox::statement_digest;

/// What incident checks answer in a case, by the id of the incident.
#[derive(Default)]
pub(super) struct GivenIncidents(BTreeMap<String, Collected<Option<Incident>>>);

impl Incidents for GivenIncidents {
    fn ask<'a>(
        &'a self,
        _: &'a str,
        id: &'a str,
        _: Instant,
    ) -> BoxFuture<'a, Collected<Option<Incident>>> {
        let answer = self.0.get(id).cloned();
        Box::pin(async move { answer.unwrap_or(Collected::Known(None)) })
    }
}

impl SuiteReader<'_> {
    /// What incident checks answer in a case.
    pub(super) fn incidents(
        &mut self,
        case: &CaseSpec,
        at: Timestamp,
        here: &Path,
    ) -> GivenIncidents {
        let mut given = GivenIncidents::default();
        for (id, written) in &case.incidents {
            let here = here.key("incidents").key(id);
            let opened = written.opened_ago.as_ref();
            let opened = opened.and_then(|ago| self.parse::<Age>(here.key("openedAgo"), ago));
            let before = |ago: Age| at.saturating_sub(ago.duration()).unwrap_or(at);
            let answer = match &written.unreachable {
                Some(why) => Collected::Unavailable(Unavailability(why.clone())),
                None => Collected::Known(Some(Incident {
                    id: id.clone(),
                    open: written.open.unwrap_or(true),
                    severity: written.severity,
                    url: None,
                    created_at: opened.map(before),
                    created_by: written.opened_by.clone(),
                    service: written.service.clone(),
                })),
            };
            given.0.insert(id.clone(), answer);
        }
        given
    }

    /// The statements of an emergency change about these digests: one declaration, and what other people say of it.
    pub(super) fn emergency(
        &mut self,
        written: &EmergencySpec,
        subjects: Vec<Digest>,
        test: &Spec,
        at: Timestamp,
        here: &Path,
    ) -> Vec<Piece> {
        let environment = written.environment.clone().or(self.environment.clone());
        let Some(environment) = environment else {
            let why = "the tested policies do not name one environment; add `environment`";
            self.refuse(here.clone(), why);
            return Vec::new();
        };
        let how = written.how();
        let valid = written.valid_for.as_deref().unwrap_or("1h");
        let valid = self.parse::<Age>(here.key("validFor"), valid);
        // The statement's time is that of its signature.
        let signed = self.time_of(&how, at, here);
        let expires = valid.and_then(|valid| signed.checked_add(valid.duration()).ok());
        let mut predicate = json!({
            "environment": environment,
            "incident": {"id": written.incident},
            "reason": written.reason.as_deref().unwrap_or("this image mends it"),
            "expires": expires.unwrap_or(signed).to_string(),
        });
        if let (Some(fields), false) = (predicate.as_object_mut(), written.scopes.is_empty()) {
            fields.insert("scopes".to_owned(), json!(written.scopes));
        }
        let digest = statement_digest(&subjects, EmergencyChange::TYPE, &predicate).to_string();
        let declaration = What::Declaration(predicate, subjects);
        let mut pieces = vec![self.fact(&how, declaration, test, at, here)];
        let decision = |decision: &str| json!({"environment": environment, "decision": decision, "emergency": digest});
        let agreed = written.agreed_by.iter();
        let agreed = agreed.map(|by| ("agreedBy", by, Approval::TYPE, decision("approved")));
        let rejected = written.rejected_by.iter();
        let rejected = rejected.map(|by| ("rejectedBy", by, Approval::TYPE, decision("rejected")));
        let closed = written.closed_by.iter();
        let closure = json!({"emergency": digest});
        let closed = closed.map(|by| {
            (
                "closedBy",
                by,
                EmergencyClosure::TYPE,
                Value::clone(&closure),
            )
        });
        let words: Vec<_> = agreed.chain(rejected).chain(closed).collect();
        for (field, by, kind, predicate) in words {
            let how = HowSpec {
                by,
                ..written.how()
            };
            let what = What::Statement(kind.to_owned(), predicate);
            pieces.push(self.fact(&how, what, test, at, &here.key(field)));
        }
        pieces
    }
}
