//! Warnings of policies that ask for something about an incident which the answers of their incident check do not say, so that no
//! emergency change would count.

use std::collections::BTreeMap;
use std::sync::Arc;

use promotion_gate_core::documents::{Document, Path, Problem};
use promotion_gate_core::gate::{IncidentRequirement, Policy};

use super::IncidentCheck;

/// One warning for each field of `incident` that no answer can satisfy.
pub(in crate::api) fn unmet(
    policies: &[Policy],
    documents: &BTreeMap<String, Document>,
    checks: &BTreeMap<String, Arc<IncidentCheck>>,
) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for policy in policies {
        let emergency = policy.emergency.as_deref();
        let required = emergency.and_then(|it| it.incident.as_ref());
        let (Some(required), Some(document)) = (required, documents.get(&policy.name)) else {
            continue;
        };
        let Some(check) = checks.get(&required.check) else {
            continue;
        };
        let gives = check.reading.expression();
        let asked = asked(required).into_iter().filter(|(_, asked, _)| *asked);
        for (field, _, needed) in asked.filter(|(.., needed)| !gives.contains(needed)) {
            let here = ["spec", "emergency", "incident", field].into_iter();
            let here = here.fold(Path::default(), |path, key| path.key(key));
            let why = format!(
                "the incident check `{}` does not give `{needed}`, so that no emergency change counts; remove `{field}`, or use a check whose expression gives it",
                required.check
            );
            warnings.push(document.problem(here, why));
        }
    }
    warnings
}

/// Each field of a policy about an incident: whether it asks for something, and what the check has to give for it.
fn asked(required: &IncidentRequirement) -> [(&'static str, bool, &'static str); 4] {
    [
        (
            "minimumSeverity",
            required.minimum_severity.is_some(),
            "severity",
        ),
        (
            "openedBeforeDeclaration",
            required.opened_before_declaration,
            "createdAt",
        ),
        ("openedByOther", required.opened_by_other, "createdBy"),
        ("services", required.services.is_some(), "service"),
    ]
}
