//! Expressions in CEL (the Common Expression Language) over JSON values.
//!
//! An expression is compiled once, when the document that holds it is read. Its names are checked then: a variable or function that
//! does not exist is an error with line and column. Both the expression and the values can be hostile. The size and the nesting of
//! both are limited before anything is evaluated, and the evaluation itself counts its work and stops at a limit.
//!
//! * `names` — which variables and functions an expression may use
//! * `declared` — which fields the values of variables have
//! * `meter` — how the work of an evaluation is counted
//! * `pattern`, `time` — regular expressions, and times and lengths of time
//! * `value` — variables and JSON → values of CEL, and results → JSON

mod declared;
mod meter;
mod names;
mod pattern;
#[cfg(test)]
mod tests;
mod time;
mod value;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::common::ast::{IdedExpr, SourceInfo};
use cel::parser::Parser;
use cel::{Context, ExecutionError, ParseError, Value as CelValue};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

pub use declared::Declared;
pub use meter::Work;
use meter::metered;
#[cfg(test)]
pub(crate) use meter::{MAXIMUM_OF_JUDGEMENT, SPENT};
use pattern::Pattern;
use value::{Size, refuse_json, to_json};

/// The longest expression, in bytes.
const MAXIMUM_BYTES: usize = 4096;
/// The deepest nesting of brackets. The parser uses up to 25 KB of stack for each level.
const MAXIMUM_BRACKETS: usize = 24;
/// The most brackets, operators and dots: chains such as `a[0][0]…` and `1+1+…` nest without brackets around them.
const MAXIMUM_MARKS: usize = 400;
/// The deepest nesting of parts. An evaluation uses up to 25 KB of stack for each level.
const MAXIMUM_NESTING: usize = 40;
/// The most parts of an expression, after its macros are expanded.
const MAXIMUM_PARTS: usize = 2000;
/// The deepest nesting of `all`, `exists`, `exists_one`, `map` and `filter`.
const MAXIMUM_LOOPS: usize = 3;
/// The most values in the variables of one evaluation.
const MAXIMUM_VALUES: usize = 100_000;
/// The deepest nesting of a variable's value.
const MAXIMUM_DEPTH: usize = 64;
/// The most characters of a message of the parser or the evaluation.
const MAXIMUM_MESSAGE: usize = 200;

#[cfg(test)]
thread_local! {
    /// How many expressions were compiled on this thread.
    pub(crate) static COMPILED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    source: String,
    /// The expression with the calls that count its work.
    metered: IdedExpr,
    patterns: Vec<Pattern>,
    uses: BTreeSet<String>,
    /// The fields that it asks for, each with line and column.
    fields: Vec<(String, (usize, usize))>,
    loops: usize,
}

/// The value of a variable.
#[derive(Clone, Debug)]
pub enum Variable<'v> {
    /// A value as JSON has it.
    Json(Cow<'v, Value>),
    /// A time, which `timestamp(…)` and `duration(…)` are compared with.
    Time(Timestamp),
    /// A text.
    Text(Cow<'v, str>),
    /// A list.
    List(Vec<Variable<'v>>),
    /// A map with these keys, which all differ.
    Map(Vec<(&'v str, Variable<'v>)>),
}

impl<'v> From<&'v Value> for Variable<'v> {
    fn from(value: &'v Value) -> Variable<'v> {
        Variable::Json(Cow::Borrowed(value))
    }
}

impl<'v> From<&'v str> for Variable<'v> {
    fn from(text: &'v str) -> Variable<'v> {
        Variable::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Variable<'_> {
    fn from(text: String) -> Self {
        Variable::Text(Cow::Owned(text))
    }
}

/// Reads JSON that an expression is to be evaluated over, within what is left of the work. Its size is limited before anything of it
/// is kept.
///
/// # Errors
/// Why it is not read.
pub fn read_json(text: &RawValue, work: &mut Work) -> Result<Value, NotEvaluated> {
    work.read(text.get())?;
    if let Some(why) = refuse_json(text.get(), MAXIMUM_VALUES, MAXIMUM_DEPTH) {
        return Err(NotEvaluated::TooLarge(format!("it {why}")));
    }
    let read = serde_json::from_str(text.get());
    read.map_err(|error| NotEvaluated::Failed(format!("it cannot be read: {error}")))
}

/// A mistake in an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ExpressionFault {
    /// The line in the expression, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEvaluated {
    /// The variables hold too many values, or are nested too deep.
    #[error("the value is too large for an expression: {0}")]
    TooLarge(String),
    /// The evaluation reached the limit of its work.
    #[error(
        "the evaluation was stopped because it takes too much work: loop over shorter lists, nest fewer loops, or evaluate fewer expressions for one change"
    )]
    TooMuchWork,
    /// The expression does not fit the values.
    #[error("{0}")]
    Failed(String),
}

impl Expression {
    /// Compiles an expression that may use these variables, and of each of them what is declared.
    ///
    /// # Errors
    /// All mistakes that are found, each with its place in the expression.
    pub fn compile(
        source: &str,
        variables: &[(&str, Declared)],
    ) -> Result<Expression, Vec<ExpressionFault>> {
        #[cfg(test)]
        COMPILED.set(COMPILED.get() + 1);
        let whole = |message: String| {
            vec![ExpressionFault {
                line: 1,
                column: 1,
                message,
            }]
        };
        if source.trim().is_empty() {
            return Err(whole("the expression is empty".to_owned()));
        }
        if source.len() > MAXIMUM_BYTES {
            let why = format!("the expression is longer than {MAXIMUM_BYTES} bytes; shorten it");
            return Err(whole(why));
        }
        if let Some(why) = refuse_text(source) {
            return Err(whole(why));
        }
        let parsed = catch_unwind(|| Parser::new().parse_with_source_info(source));
        let (mut parsed, places) = parsed
            .map_err(|_| whole("the parser failed on the expression; rewrite it".to_owned()))?
            .map_err(|errors| errors.errors.iter().map(syntax_fault).collect::<Vec<_>>())?;
        let place = |id| place_of(source, &places, id);
        let shape = names::Shape::of(&parsed);
        if shape.parts > MAXIMUM_PARTS {
            let why = format!("the expression has more than {MAXIMUM_PARTS} parts; shorten it");
            return Err(whole(why));
        }
        if shape.nesting > MAXIMUM_NESTING {
            let why =
                format!("the expression is nested more than {MAXIMUM_NESTING} deep; {FLATTEN}");
            return Err(whole(why));
        }
        if shape.loops > MAXIMUM_LOOPS {
            let why = format!(
                "`all`, `exists`, `exists_one`, `map` and `filter` are nested more than {MAXIMUM_LOOPS} deep; nest fewer"
            );
            return Err(whole(why));
        }
        let unknown = names::unknown(&parsed, variables);
        let uses = names::used(&parsed);
        let fields = names::fields(&parsed).into_iter();
        let fields = fields.map(|(name, id)| (name.to_owned(), place(id)));
        let fields: Vec<_> = fields.collect();
        let (patterns, odd) = pattern::compile(&mut parsed);
        let found = unknown.into_iter().chain(odd);
        let mut faults: Vec<_> = found
            .map(|(id, message)| {
                let (line, column) = place(id);
                ExpressionFault {
                    line,
                    column,
                    message,
                }
            })
            .collect();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        match faults.is_empty() {
            true => Ok(Expression {
                source: source.to_owned(),
                metered: metered(parsed),
                patterns,
                uses,
                fields,
                loops: shape.loops,
            }),
            false => Err(faults),
        }
    }

    /// The expression as it is written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How deep its loops are nested.
    pub fn loops(&self) -> usize {
        self.loops
    }

    /// Whether the expression uses a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.uses.contains(variable)
    }

    /// What an error of the evaluation means for the author of the expression. A field that is missing has its place, where the
    /// expression asks for it once.
    fn failure(&self, error: ExecutionError) -> NotEvaluated {
        let ExecutionError::NoSuchKey(key) = error else {
            return failure(error);
        };
        let mut places = self.fields.iter().filter(|(name, _)| **name == **key);
        let place = match (places.next(), places.next()) {
            (Some((_, (line, column))), None) => format!(" (line {line}, column {column})"),
            _ => String::new(),
        };
        NotEvaluated::Failed(format!(
            "there is no field `{}`{place}; test it with `has(…)` first",
            short(&key)
        ))
    }

    /// Evaluates the expression with these values of its variables.
    ///
    /// # Errors
    /// Why an expression was not evaluated. A rule that needs its result is undecided.
    pub fn evaluate(&self, variables: &[(&str, Variable<'_>)]) -> Result<Value, NotEvaluated> {
        self.evaluate_within(variables, &mut Work::default())
    }

    /// Evaluates the expression within what is left of the work.
    ///
    /// # Errors
    /// Why an expression was not evaluated. A rule that needs its result is undecided.
    pub fn evaluate_within(
        &self,
        variables: &[(&str, Variable<'_>)],
        work: &mut Work,
    ) -> Result<Value, NotEvaluated> {
        let mut size = Size::default();
        for (name, value) in variables {
            size.add_variable(value, MAXIMUM_VALUES, MAXIMUM_DEPTH)
                .map_err(|why| NotEvaluated::TooLarge(format!("`{name}` {why}")))?;
        }
        work.make_values(size.values())?;
        let meter = work.meter();
        // The library can panic; that is a failure of the evaluation and not of the process.
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(meter::environment());
            for (name, value) in variables {
                context.add_variable_as_val(*name, value::of_variable(value));
            }
            for (index, pattern) in self.patterns.iter().enumerate() {
                let name = pattern::variable(index);
                context.add_variable_as_val(&name, Box::new(pattern.clone()));
            }
            context.add_variable_as_val(meter::VARIABLE, Box::new(meter.clone()));
            let result = CelValue::resolve_val(&self.metered, &context)
                .map_err(|error| self.failure(error))?;
            to_json(&*result).map_err(NotEvaluated::Failed)
        }));
        work.take(&meter);
        if meter.is_spent() {
            return Err(NotEvaluated::TooMuchWork);
        }
        evaluated.unwrap_or_else(|_| {
            let why = "the evaluation failed on these values; rewrite the expression";
            Err(NotEvaluated::Failed(why.to_owned()))
        })
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

/// The same text means the same.
impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.source == other.source
    }
}

impl Eq for Expression {}

const FLATTEN: &str = "write it with fewer nested brackets and shorter chains of operators";

/// Why a text is not parsed: the stack of the parser has no limit of its own. Brackets in strings count too.
fn refuse_text(source: &str) -> Option<String> {
    let (mut open, mut deepest, mut marks) = (0_usize, 0, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
        marks += usize::from(b"([{.+-*/%!?<>=&|:".contains(&byte));
    }
    if deepest > MAXIMUM_BRACKETS {
        let why = format!("brackets are nested more than {MAXIMUM_BRACKETS} deep; {FLATTEN}");
        return Some(why);
    }
    (marks > MAXIMUM_MARKS).then(|| {
        format!(
            "the expression has more than {MAXIMUM_MARKS} brackets, operators and dots; shorten it"
        )
    })
}

/// A mistake that the parser found.
fn syntax_fault(error: &ParseError) -> ExpressionFault {
    let (line, column) = error.pos;
    let from_one = |number: isize| usize::try_from(number).unwrap_or_default().max(1);
    let message = error.msg.lines().next().unwrap_or_default();
    // What the parser expected instead is a list of most of its tokens.
    let message = message.split(" expecting ").next().unwrap_or_default();
    let message = if message.contains("ecursion limit") {
        format!("the expression is nested too deep; {FLATTEN}")
    } else if message.contains("<EOF>") {
        "the expression ends too early".to_owned()
    } else if let Some((_, text)) = message.split_once("recognition error at: ") {
        let text = text.trim_matches(['\'', ' ']);
        format!("`{}` cannot be used in an expression", short(text))
    } else {
        format!("this is not CEL: {}", short(message))
    };
    ExpressionFault {
        line: from_one(line),
        column: from_one(column),
        message,
    }
}

/// Line and column of a part, both from 1.
fn place_of(source: &str, places: &SourceInfo, id: u64) -> (usize, usize) {
    // The library counts bytes.
    let start = places.offset_for(id).map_or(0, |(start, _)| start);
    let start = usize::try_from(start).unwrap_or_default();
    let before = source.get(..start).unwrap_or_default().chars();
    before.fold((1, 1), |(line, column), c| match c {
        '\n' => (line + 1, 1),
        _ => (line, column + 1),
    })
}

/// What an error of the evaluation means for the author of the expression.
fn failure(error: ExecutionError) -> NotEvaluated {
    NotEvaluated::Failed(match error {
        ExecutionError::IndexOutOfBounds(_) => {
            "a list has fewer items than the expression asks for".to_owned()
        }
        ExecutionError::NoSuchOverload(mismatch) => {
            let types = mismatch.argument_types().join("`, `");
            let name = mismatch.function().trim_matches(['_', '@']);
            format!("`{}` cannot be applied to `{}`", short(name), short(&types))
        }
        ExecutionError::UnexpectedType { got, want } => {
            format!("expected `{}`, found `{}`", short(&want), short(&got))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "a division by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "a number is too large".to_owned(),
        ExecutionError::FunctionError { function, message } => {
            format!("`{}`: {}", short(&function), short(&message))
        }
        ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnsupportedIndex(..) => {
            "an operator cannot be applied to these types of values".to_owned()
        }
        ExecutionError::DuplicateKey(_) => "a map has the same key twice".to_owned(),
        _ => "the expression does not fit the values".to_owned(),
    })
}

/// The beginning of a text, without control characters.
fn short(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(MAXIMUM_MESSAGE).collect()
}
