//! A condition in CEL, as rules have it: compiled when its policy is read, evaluated over the variables of its rule.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::expression::{Declared, Expression, ExpressionFault, Variable, Work};

/// The most characters of a condition that a denial shows.
const MAXIMUM_SHOWN: usize = 300;

/// The variables of a condition. One table: what an expression may use, its documentation and its values derive from it.
pub trait Variables: Copy + 'static {
    /// Each variable: its name in an expression, the variable, what is declared of it, and what it holds.
    const TABLE: &'static [(&'static str, Self, Declared, &'static str)];
}

/// A condition in CEL.
#[derive(Clone, Debug)]
pub struct Condition<V> {
    expression: Expression,
    variables: PhantomData<fn() -> V>,
}

/// Why a condition is neither true nor false.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotDecided {
    /// A variable that it uses is not known.
    Unknown(String),
    /// It could not be evaluated.
    NotEvaluated(String),
}

impl fmt::Display for NotDecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotDecided::Unknown(why) => f.write_str(why),
            NotDecided::NotEvaluated(why) => write!(f, "the expression was not evaluated: {why}"),
        }
    }
}

impl<V: Variables> Condition<V> {
    fn compile(source: &str) -> Result<Expression, Vec<ExpressionFault>> {
        let variables = V::TABLE.iter();
        let variables = variables.map(|(name, _, declared, _)| (*name, *declared));
        Expression::compile(source, &variables.collect::<Vec<_>>())
    }

    /// The mistakes in a condition.
    pub(super) fn faults(source: &str) -> Vec<ExpressionFault> {
        Condition::<V>::compile(source).err().unwrap_or_default()
    }

    /// Whether the condition holds. Only the values of variables that it uses are asked for; the error of such a value is why it is
    /// not known. Reading them and the evaluation together take at most what is left of the work.
    pub(super) fn holds<'v>(
        &self,
        work: &mut Work,
        value: impl Fn(V, &mut Work) -> Result<Variable<'v>, NotDecided>,
    ) -> Result<bool, NotDecided> {
        let used = V::TABLE.iter().filter(|(name, ..)| self.uses(name));
        let variables = used.map(|(name, variable, ..)| Ok((*name, value(*variable, work)?)));
        let variables: Vec<_> = variables.collect::<Result<_, _>>()?;
        match self.expression.evaluate_within(&variables, work) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => {
                let found = match other {
                    Value::Null => "null",
                    Value::Number(_) => "a number",
                    Value::String(_) => "a text",
                    Value::Array(_) => "a list",
                    _ => "a map",
                };
                let why = format!("it gives {found}, and has to give `true` or `false`");
                Err(NotDecided::NotEvaluated(why))
            }
            Err(why) => Err(NotDecided::NotEvaluated(why.to_string())),
        }
    }

    /// Whether the condition uses a variable.
    pub(super) fn uses(&self, variable: &str) -> bool {
        self.expression.uses(variable)
    }

    /// The condition on one line, cut where it is long.
    pub(super) fn shown(&self) -> String {
        let words: Vec<_> = self.expression.source().split_whitespace().collect();
        let line = words.join(" ");
        match line.char_indices().nth(MAXIMUM_SHOWN) {
            Some((end, _)) => format!("`{}…`", line.get(..end).unwrap_or_default()),
            None => format!("`{line}`"),
        }
    }

    /// How deep its loops are nested.
    pub(super) fn loops(&self) -> usize {
        self.expression.loops()
    }

    /// A warning about a condition that uses no variable, so that it is always true or always false.
    pub(super) fn warning(&self) -> Option<String> {
        let is_constant = !V::TABLE.iter().any(|(name, ..)| self.uses(name));
        is_constant.then(|| {
            let names: Vec<_> = V::TABLE.iter().map(|(name, ..)| *name).collect();
            format!(
                "the expression uses no variable, so its result is always the same; known are `{}`",
                names.join("`, `")
            )
        })
    }
}

/// The variables as a part of the manual page, in Markdown.
pub(super) fn manual_of<V: Variables>() -> String {
    let rows = V::TABLE.iter();
    let rows = rows.map(|(name, .., means)| format!("| `{name}` | {means} |\n"));
    format!(
        "\n\n**Variables of the expression**:\n\n| Variable | Holds |\n|---|---|\n{}",
        rows.collect::<String>().trim_end()
    )
}

impl<'de, V: Variables> Deserialize<'de> for Condition<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Condition<V>, D::Error> {
        let source = String::deserialize(deserializer)?;
        let expression = Condition::<V>::compile(&source).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            serde::de::Error::custom(format!("in the expression, {}", faults.join("; ")))
        })?;
        Ok(Condition {
            expression,
            variables: PhantomData,
        })
    }
}

impl<V> JsonSchema for Condition<V> {
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "An expression in CEL that gives `true` or `false`.",
            "type": "string",
            "minLength": 1,
            "maxLength": 4096
        })
    }
}
