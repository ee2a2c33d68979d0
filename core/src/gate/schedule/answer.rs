//! The answer of a freeze endpoint. What is not certain is refused: an answer that is read wrongly lets changes pass.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::freeze::EndpointAnswer;
use crate::strict_json::{Fields, unambiguous};

/// The most characters of a reason that are kept.
const REASON: usize = 300;
/// The field that says whether a freeze lasts.
const FROZEN: &str = "freeze_active";

impl EndpointAnswer {
    /// The answer about the instant `at`: `{"freeze_active": true, "reason": "…", "active_until": "…"}`, where only the first field
    /// has to be there, or `{"result": {…}}` around it, as ServiceNow writes. Other fields are ignored.
    ///
    /// # Errors
    /// Why it cannot be read, as the end of a sentence about the answer.
    pub fn read(bytes: &[u8], at: Timestamp) -> Result<EndpointAnswer, String> {
        let text = unambiguous(bytes, Fields::default()).map_err(|error| error.to_string())?;
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("is not valid JSON: {error}"))?;
        let fields = unwrapped(&value)?;
        let is_frozen = match fields.get(FROZEN) {
            Some(Value::Bool(is_frozen)) => *is_frozen,
            Some(other) => {
                let kind = kind(other);
                return Err(format!(
                    "has {kind} in `{FROZEN}`; expected `true` or `false`"
                ));
            }
            None => return Err(format!("has no field `{FROZEN}`")),
        };
        let reason = text_of(fields, "reason")?;
        let until = text_of(fields, "active_until")?.map(time).transpose()?;
        if is_frozen && until.is_some_and(|until| until <= at) {
            return Err(format!(
                "has `{FROZEN}: true` with an `active_until` that is not later than the instant that was asked about"
            ));
        }
        Ok(EndpointAnswer {
            at,
            is_frozen,
            reason: reason.map(|reason| reason.chars().take(REASON).collect()),
            until: until.filter(|_| is_frozen),
        })
    }
}

/// The object with the fields.
fn unwrapped(value: &Value) -> Result<&Map<String, Value>, String> {
    let Value::Object(fields) = value else {
        return Err(format!("is {} and not an object", kind(value)));
    };
    match fields.get("result") {
        Some(Value::Object(inner)) if fields.len() == 1 => Ok(inner),
        Some(Value::Object(inner)) if inner.contains_key(FROZEN) => Err(format!(
            "has `{FROZEN}` below `result`, and other fields beside `result`"
        )),
        _ => Ok(fields),
    }
}

fn text_of<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("has {} in `{name}`; expected text", kind(other))),
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        format!(
            "has `{shown}` in `active_until`; expected a time with its offset, such as `2027-01-04T06:00:00Z`"
        )
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "`null`",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        "2026-12-24T12:00:00Z".parse().unwrap()
    }

    fn read(text: &str) -> Result<EndpointAnswer, String> {
        EndpointAnswer::read(text.as_bytes(), at())
    }

    fn answer(is_frozen: bool, reason: Option<&str>, until: Option<&str>) -> EndpointAnswer {
        EndpointAnswer {
            at: at(),
            is_frozen,
            reason: reason.map(str::to_owned),
            until: until.map(|until| until.parse().unwrap()),
        }
    }

    #[test]
    fn an_answer_needs_one_field_and_may_have_more() {
        for (text, expected) in [
            (r#"{"freeze_active": false}"#, answer(false, None, None)),
            (
                r#"{"freeze_active": true, "reason": null, "active_until": null, "id": 7}"#,
                answer(true, None, None),
            ),
            (
                r#"{"freeze_active": true, "reason": "Year end", "active_until": "2027-01-04T07:00:00+01:00"}"#,
                answer(true, Some("Year end"), Some("2027-01-04T06:00:00Z")),
            ),
            (
                r#"{"freeze_active": true, "active_until": "2027-01-04T07:00:00+0100"}"#,
                answer(true, None, Some("2027-01-04T06:00:00Z")),
            ),
            (
                r#"{"freeze_active": false, "active_until": "2026-01-01T00:00:00Z"}"#,
                answer(false, None, None),
            ),
            (
                r#"{"result": {"freeze_active": true, "reason": "Year end"}}"#,
                answer(true, Some("Year end"), None),
            ),
            (
                r#"{"freeze_active": true, "result": "ok"}"#,
                answer(true, None, None),
            ),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_answer_that_is_not_certain_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "is not valid JSON"),
            ("null", "is `null` and not an object"),
            ("true", "is a boolean and not an object"),
            ("[]", "is a list"),
            ("<html></html>", "is not valid JSON"),
            ("{}", "has no field `freeze_active`"),
            (
                r#"{"Freeze_Active": false}"#,
                "has no field `freeze_active`",
            ),
            (
                r#"{"freeze_active": null}"#,
                "has `null` in `freeze_active`",
            ),
            (
                r#"{"freeze_active": "false"}"#,
                "has text in `freeze_active`",
            ),
            (r#"{"freeze_active": 0}"#, "has a number in `freeze_active`"),
            (
                r#"{"freeze_active": true, "freeze_active": false}"#,
                "appears twice",
            ),
            (
                r#"{"freeze_active": false} {"freeze_active": true}"#,
                "is not valid JSON",
            ),
            (r#"{"freeze_active": false"#, "is not valid JSON"),
            (
                r#"{"freeze_active": true, "reason": 7}"#,
                "has a number in `reason`",
            ),
            (
                r#"{"freeze_active": true, "active_until": 1700000000}"#,
                "has a number in `active_until`",
            ),
            (
                r#"{"freeze_active": true, "active_until": "2027-01-04T06:00:00"}"#,
                "expected a time with its offset",
            ),
            (
                r#"{"freeze_active": true, "active_until": "2027-01-04 06:00:00"}"#,
                "expected a time with its offset",
            ),
            (
                r#"{"freeze_active": true, "active_until": ""}"#,
                "expected a time with its offset",
            ),
            (
                r#"{"freeze_active": true, "active_until": "2026-12-24T12:00:00Z"}"#,
                "is not later than the instant",
            ),
            (
                r#"{"freeze_active": false, "result": {"freeze_active": true}}"#,
                "other fields beside `result`",
            ),
            (
                r#"{"result": {"freeze_active": false}, "error": {"message": "partial"}}"#,
                "other fields beside `result`",
            ),
            (
                r#"{"result": {"result": {"freeze_active": false}}}"#,
                "has no field `freeze_active`",
            ),
            (
                r#"{"result": [{"freeze_active": false}]}"#,
                "has no field `freeze_active`",
            ),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn a_long_reason_is_cut() {
        let text = format!(
            r#"{{"freeze_active": true, "reason": "{}"}}"#,
            "x".repeat(5000)
        );
        assert_eq!(read(&text).unwrap().reason.unwrap().len(), REASON);
    }
}
