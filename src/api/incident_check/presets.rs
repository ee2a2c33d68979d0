//! The incident trackers that are built in: what is asked, and what their answers mean.

use std::collections::BTreeMap;

use promotion_gate_core::gate::Severity;
use serde_json::Value;

use super::{WrittenScheme, WrittenTracker};

/// A tracker.
pub(super) struct Preset {
    /// Path and query, after the address of the tracker.
    pub(super) path: &'static str,
    pub(super) accept: &'static str,
    pub(super) expression: String,
    pub(super) ids: &'static [&'static str],
    pub(super) severities: BTreeMap<String, Severity>,
    pub(super) scheme: WrittenScheme,
}

/// The preset of a tracker at an address.
pub(super) fn preset(tracker: WrittenTracker, base: &str) -> Preset {
    // A text of JSON is a text of CEL too.
    let base = Value::from(base).to_string();
    let severities = |words: [&str; 5]| {
        use Severity::{P1, P2, P3, P4, P5};
        let words = words.map(str::to_owned).into_iter();
        words.zip([P1, P2, P3, P4, P5]).collect()
    };
    match tracker {
        WrittenTracker::ServiceNow => Preset {
            path: SERVICE_NOW_PATH,
            accept: JSON,
            expression: SERVICE_NOW.replace("BASE", &base),
            ids: &["INC*"],
            severities: severities(["1", "2", "3", "4", "5"]),
            scheme: WrittenScheme::Basic,
        },
        WrittenTracker::JiraServiceManagement => Preset {
            path: "/rest/api/3/issue/{id}?fields=priority,status,resolution,issuetype,created,creator,components",
            accept: JSON,
            expression: JIRA.replace("BASE", &base),
            ids: &["*-*"],
            severities: severities(["Highest", "High", "Medium", "Low", "Lowest"]),
            scheme: WrittenScheme::Basic,
        },
        WrittenTracker::PagerDuty => Preset {
            path: "/incidents/{id}",
            accept: "application/vnd.pagerduty+json;version=2",
            expression: PAGER_DUTY.to_owned(),
            ids: &[],
            severities: severities(["P1", "P2", "P3", "P4", "P5"]),
            scheme: WrittenScheme::Token,
        },
    }
}

const JSON: &str = "application/json";

const SERVICE_NOW_PATH: &str = "/api/now/v2/table/incident?sysparm_query=number%3D{id}\
    &sysparm_fields=sys_id,number,state,active,priority,opened_at,sys_created_by,business_service.name\
    &sysparm_limit=2&sysparm_display_value=false&sysparm_exclude_reference_link=true";

/// An invalid part of a query is ignored and other rows are given, so the number is compared again. Every value is a text, and times
/// are in UTC without a zone. A field that the account may not read is absent: without a state or a priority nothing is known.
const SERVICE_NOW: &str = r#"body.result.filter(row, row.number == id).map(row, {
  'open': string(row.active) == 'true' && !(string(row.state) in ['6', '7', '8']),
  'severity': string(row.priority),
  'createdAt': has(row.opened_at) && row.opened_at != '' ? row.opened_at + 'Z' : null,
  'createdBy': has(row.sys_created_by) ? row.sys_created_by : null,
  'service': 'business_service.name' in row ? row['business_service.name'] : null,
  'url': has(row.sys_id) ? BASE + '/nav_to.do?uri=incident.do?sys_id=' + row.sys_id : null
})"#;

/// An issue that was moved has another key. An issue of another type is not an incident, whatever its priority.
const JIRA: &str = r#"[body].filter(issue, issue.key == id
    && issue.fields.issuetype.name in ['Incident', '[System] Incident']).map(issue, {
  'open': issue.fields.status.statusCategory.key in ['new', 'indeterminate'] && issue.fields.resolution == null,
  'severity': issue.fields.priority == null ? null : issue.fields.priority.name,
  'createdAt': issue.fields.created,
  'createdBy': !has(issue.fields.creator) || issue.fields.creator == null ? null
    : has(issue.fields.creator.emailAddress) ? issue.fields.creator.emailAddress : issue.fields.creator.accountId,
  'service': has(issue.fields.components) && size(issue.fields.components) > 0 ? issue.fields.components[0].name : null,
  'url': BASE + '/browse/' + id
})"#;

/// A state that is not known counts as not open. An incident that was merged into another one is resolved. The answer does not say
/// which account opened the incident.
const PAGER_DUTY: &str = r#"[body.incident].filter(it, it.id == id
    || has(it.incident_number) && string(it.incident_number) == id).map(it, {
  'open': it.status in ['triggered', 'acknowledged'],
  'severity': has(it.priority) && it.priority != null ? it.priority.summary : null,
  'createdAt': it.created_at,
  'service': has(it.service) && it.service != null ? it.service.summary : null,
  'url': has(it.html_url) ? it.html_url : null
})"#;

#[cfg(test)]
mod tests {
    use promotion_gate_core::gate::{IncidentReading, TrackerAnswer};
    use serde_json::json;

    use super::*;

    fn read(tracker: WrittenTracker, id: &str, body: &Value) -> Result<TrackerAnswer, String> {
        let preset = preset(tracker, "https://tracker.example");
        let reading = IncidentReading::new(&preset.expression, preset.severities).unwrap();
        reading.read(id, 200, body).map_err(|why| why.to_string())
    }

    #[test]
    fn the_expressions_of_all_presets_are_sound() {
        for tracker in [
            WrittenTracker::ServiceNow,
            WrittenTracker::JiraServiceManagement,
            WrittenTracker::PagerDuty,
        ] {
            let preset = preset(tracker, "https://a.example/it's \"quoted\" \\");
            IncidentReading::new(&preset.expression, preset.severities).unwrap();
        }
    }

    #[test]
    fn numbers_that_are_not_texts_are_read_too() {
        let row = json!({"number": "INC1", "state": 2, "active": true, "priority": 1});
        let answer = read(
            WrittenTracker::ServiceNow,
            "INC1",
            &json!({"result": [row]}),
        );
        let incident = answer.unwrap().incident.unwrap();
        assert!(incident.open);
        assert_eq!(incident.severity, Some(Severity::P1));
    }

    #[test]
    fn an_issue_of_another_type_is_no_incident() {
        let issue = |kind: &str| {
            json!({"key": "OPS-7", "fields": {
                "issuetype": {"name": kind}, "priority": {"name": "Highest"}, "resolution": null,
                "status": {"statusCategory": {"key": "new"}}, "created": "2026-11-29T03:00:00.000+0000",
            }})
        };
        let found = |kind: &str| read(WrittenTracker::JiraServiceManagement, "OPS-7", &issue(kind));
        assert!(found("[System] Incident").unwrap().incident.unwrap().open);
        assert_eq!(found("Task").unwrap().incident, None);
    }
}
