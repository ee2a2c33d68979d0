//! What the answer of an incident tracker means: an expression over the answer, and how the tracker's words for severities map to
//! `P1`…`P5`.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::incident::{Incident, Severity};
use crate::expression::{Declared, Expression, ExpressionFault};

/// The variables of an expression over an answer.
const VARIABLES: &[(&str, Declared)] = &[
    ("status", Declared::Plain),
    ("body", Declared::Anything),
    ("id", Declared::Plain),
];
/// The fields of an incident as an expression gives it.
const FIELDS: &[&str] = &[
    "open",
    "severity",
    "url",
    "createdAt",
    "createdBy",
    "service",
];
/// The most characters of a text that a tracker gives.
const MAXIMUM_TEXT: usize = 1000;

/// How answers of a tracker are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentReading {
    expression: Expression,
    severities: BTreeMap<String, Severity>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerAnswer {
    /// The incident; `None` if the tracker has none with this id.
    pub incident: Option<Incident>,
    /// What of the incident is not known although the tracker says something, one sentence each.
    pub notes: Vec<String>,
}

/// Why an answer cannot be read, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableAnswer(String);

impl IncidentReading {
    /// Reads answers with an expression over `status` (a number), `body` (the JSON of the answer) and `id` (what was asked for).
    /// `severities` maps the tracker's words to severities; `P1` to `P5` need no entry.
    ///
    /// # Errors
    /// All mistakes of the expression.
    pub fn new(
        expression: &str,
        severities: BTreeMap<String, Severity>,
    ) -> Result<IncidentReading, Vec<ExpressionFault>> {
        Ok(IncidentReading {
            expression: Expression::compile(expression, VARIABLES)?,
            severities,
        })
    }

    /// The expression as it is written.
    pub fn expression(&self) -> &str {
        self.expression.source()
    }

    /// Reads an answer about the incident `id`.
    ///
    /// # Errors
    /// Why the answer says nothing that can be used. Then it is not known whether there is such an incident.
    pub fn read(
        &self,
        id: &str,
        status: u16,
        body: &Value,
    ) -> Result<TrackerAnswer, UnreadableAnswer> {
        let unreadable = |why: &dyn fmt::Display| UnreadableAnswer(why.to_string());
        let (status, asked) = (Value::from(status), Value::from(id));
        let variables = [("status", &status), ("body", body), ("id", &asked)];
        let variables = variables.map(|(name, value)| (name, value.into()));
        let result = self.expression.evaluate(&variables);
        let result = result.map_err(|why| unreadable(&format_args!("the expression: {why}")))?;
        let found = match result {
            Value::Null => None,
            Value::Object(fields) => Some(fields),
            Value::Array(mut items) => match (items.pop(), items.is_empty()) {
                (None, _) => None,
                (Some(Value::Object(fields)), true) => Some(fields),
                (Some(_), false) => {
                    return Err(unreadable(
                        &"the answer holds several incidents with this id",
                    ));
                }
                (Some(_), true) => return Err(unreadable(&NO_INCIDENT)),
            },
            _ => return Err(unreadable(&NO_INCIDENT)),
        };
        match found {
            None => Ok(TrackerAnswer {
                incident: None,
                notes: Vec::new(),
            }),
            Some(fields) => self.incident(id, &fields),
        }
    }

    fn incident(
        &self,
        id: &str,
        fields: &Map<String, Value>,
    ) -> Result<TrackerAnswer, UnreadableAnswer> {
        if let Some(other) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            let known = FIELDS.join("`, `");
            let why = format!("the expression gives the field `{other:.60}`; known are `{known}`");
            return Err(UnreadableAnswer(why));
        }
        let Some(Value::Bool(open)) = fields.get("open") else {
            let why = "the expression has to give `open` as `true` or `false`";
            return Err(UnreadableAnswer(why.to_owned()));
        };
        let mut notes = Vec::new();
        let mut text = |field: &str| match fields.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.trim().is_empty() => None,
            Some(Value::String(text)) => Some(text.trim().chars().take(MAXIMUM_TEXT).collect()),
            Some(_) => {
                notes.push(format!("`{field}` is not a text, and is not used"));
                None::<String>
            }
        };
        let [severity, url, created_at, created_by, service] =
            ["severity", "url", "createdAt", "createdBy", "service"].map(&mut text);
        let severity = severity.and_then(|word| {
            let known = self.severities.get(&word).copied();
            let known = known.or_else(|| Severity::parse(&word));
            if known.is_none() {
                notes.push(format!(
                    "the severity `{word:.60}` is not known; map it to `P1`…`P5` under `severities`"
                ));
            }
            known
        });
        let created_at = created_at.and_then(|time| {
            let read = time.parse::<Timestamp>().ok();
            if read.is_none() {
                notes.push(format!(
                    "`createdAt` is `{time:.60}`, which is not a time with an offset, such as `2026-11-29T03:00:00Z`"
                ));
            }
            read
        });
        let incident = Incident {
            id: id.to_owned(),
            open: *open,
            severity,
            url,
            created_at,
            created_by,
            service,
        };
        Ok(TrackerAnswer {
            incident: Some(incident),
            notes,
        })
    }
}

const NO_INCIDENT: &str = "the expression has to give a map with the incident, a list with one such map or none, or `null` for no such incident";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(expression: &str) -> IncidentReading {
        let severities = [("Critical".to_owned(), Severity::P1)];
        IncidentReading::new(expression, severities.into()).unwrap()
    }

    fn read(expression: &str) -> Result<TrackerAnswer, String> {
        let read = reading(expression).read("INC1", 200, &json!({}));
        read.map_err(|why| why.to_string())
    }

    #[test]
    fn a_map_is_an_incident() {
        let answer = read(
            "{'open': true, 'severity': 'Critical', 'url': 'https://x', 'createdAt': '2026-11-29 03:00:00Z', 'createdBy': 'ann', 'service': ' shop '}",
        );
        let incident = answer.unwrap().incident.unwrap();
        let expected = Incident {
            id: "INC1".to_owned(),
            open: true,
            severity: Some(Severity::P1),
            url: Some("https://x".to_owned()),
            created_at: Some("2026-11-29T03:00:00Z".parse().unwrap()),
            created_by: Some("ann".to_owned()),
            service: Some("shop".to_owned()),
        };
        assert_eq!(incident, expected);
    }

    #[test]
    fn null_and_an_empty_list_are_no_incident() {
        for expression in ["null", "[]", "status == 200 ? null : {'open': true}"] {
            assert_eq!(read(expression).unwrap().incident, None, "{expression}");
        }
    }

    #[test]
    fn what_is_not_known_of_an_incident_is_left_out_and_noted() {
        let answer = read(
            "[{'open': false, 'severity': 'High', 'createdAt': 'today', 'createdBy': 7, 'service': '', 'url': null}]",
        );
        let TrackerAnswer { incident, notes } = answer.unwrap();
        let incident = incident.unwrap();
        assert!(!incident.open);
        let known = (incident.severity, incident.created_at, incident.created_by);
        assert_eq!(known, (None, None, None));
        assert_eq!((incident.service, incident.url), (None, None));
        assert_eq!(
            notes,
            [
                "`createdBy` is not a text, and is not used",
                "the severity `High` is not known; map it to `P1`…`P5` under `severities`",
                "`createdAt` is `today`, which is not a time with an offset, such as `2026-11-29T03:00:00Z`",
            ]
        );
    }

    #[test]
    fn times_of_trackers_are_read() {
        for (time, expected) in [
            ("2026-11-29T03:00:00Z", "2026-11-29T03:00:00Z"),
            ("2026-11-29 03:00:00Z", "2026-11-29T03:00:00Z"),
            ("2026-11-29T10:00:00.123+0700", "2026-11-29T03:00:00.123Z"),
        ] {
            let answer = read(&format!("{{'open': true, 'createdAt': '{time}'}}")).unwrap();
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(
                answer.incident.unwrap().created_at,
                Some(expected),
                "{time}"
            );
        }
    }

    #[test]
    fn an_answer_that_says_something_else_is_unreadable() {
        for (expression, expected) in [
            ("true", NO_INCIDENT),
            ("[1]", NO_INCIDENT),
            (
                "{'severity': 'P1'}",
                "the expression has to give `open` as `true` or `false`",
            ),
            (
                "{'open': 'true'}",
                "the expression has to give `open` as `true` or `false`",
            ),
            (
                "{'open': true, 'opened': 1}",
                "the expression gives the field `opened`; known are `open`, `severity`, `url`, `createdAt`, `createdBy`, `service`",
            ),
            (
                "[{'open': true}, {'open': true}]",
                "the answer holds several incidents with this id",
            ),
            (
                "body.result",
                "the expression: there is no field `result` (line 1, column 5); test it with `has(…)` first",
            ),
        ] {
            assert_eq!(read(expression), Err(expected.to_owned()), "{expression}");
        }
    }
}
