//! `text.matches('pattern')`: regular expressions, which are compiled together with the expression and searched in linear time.
//!
//! The pattern has to be written in the expression, so that a mistake in it is found when the expression is read, and so that no value
//! chooses a pattern. Its compiled size is limited, and each byte that is searched counts as work.

use std::any::Any;
use std::sync::Arc;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};
use cel::common::types::{CelBool, CelString, DYN_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use regex::{Regex, RegexBuilder};

use super::meter::Meter;
use super::names::parts_mut;

/// The function as it is written.
pub(super) const MATCHES: &str = "matches";
/// The function that it becomes: over the meter, the text and the compiled pattern.
const SEARCH: &str = "@matches";
/// The largest compiled pattern, in bytes.
const MAXIMUM_COMPILED: usize = 64 << 10;

static TYPE: Type = Type::new_unspecified_type("@pattern");

/// A compiled pattern, as a value of an evaluation.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Arc<Regex>);

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// Declares the function.
pub(super) fn declare(environment: &mut Env) -> Result<(), DeclarationError> {
    let three = vec![DYN_TYPE, DYN_TYPE, DYN_TYPE];
    environment.add_overload(SEARCH, SEARCH, three, search)
}

/// The variable that holds a pattern. No expression can write this name.
pub(super) fn variable(index: usize) -> String {
    format!("@pattern{index}")
}

/// Compiles each pattern of an expression, and replaces its call by one of the compiled pattern. Returns the patterns, and the
/// mistakes, each with the part that holds it.
pub(super) fn compile(expression: &mut IdedExpr) -> (Vec<Pattern>, Vec<(u64, String)>) {
    let (mut patterns, mut faults) = (Vec::new(), Vec::new());
    replace(expression, &mut patterns, &mut faults);
    (patterns, faults)
}

fn replace(part: &mut IdedExpr, patterns: &mut Vec<Pattern>, faults: &mut Vec<(u64, String)>) {
    for inner in parts_mut(part) {
        replace(inner, patterns, faults);
    }
    let id = part.id;
    let Expr::Call(call) = &mut part.expr else {
        return;
    };
    if call.func_name != MATCHES {
        return;
    }
    let (Some(text), Some(written)) = (call.target.take(), call.args.pop()) else {
        return;
    };
    let Expr::Literal(LiteralValue::String(pattern)) = &written.expr else {
        let why = "the pattern of `matches` has to be a text in quotes";
        return faults.push((written.id, why.to_owned()));
    };
    let compiled = RegexBuilder::new(pattern.inner())
        .size_limit(MAXIMUM_COMPILED)
        .dfa_size_limit(MAXIMUM_COMPILED)
        .build();
    match compiled {
        Ok(compiled) => {
            let named = |name: String| IdedExpr {
                id,
                expr: Expr::Ident(name),
            };
            let meter = named(super::meter::VARIABLE.to_owned());
            let compiled_pattern = named(variable(patterns.len()));
            patterns.push(Pattern(Arc::new(compiled)));
            part.expr = Expr::Call(CallExpr {
                func_name: SEARCH.to_owned(),
                target: None,
                args: vec![meter, *text, compiled_pattern],
            });
        }
        Err(regex::Error::CompiledTooBig(_)) => {
            let why = "the pattern is too large; write it with fewer repetitions";
            faults.push((written.id, why.to_owned()));
        }
        Err(error) => {
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default();
            let why = why.trim_start_matches("error: ");
            faults.push((
                written.id,
                format!("this is not a regular expression: {why:.200}"),
            ));
        }
    }
}

fn search<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let refused = |why| ExecutionError::function_error(MATCHES, why);
    let [meter, text, pattern] =
        <[_; 3]>::try_from(arguments).map_err(|_| refused("expected a pattern"))?;
    let meter = meter.downcast_ref::<Meter>();
    let text = text.downcast_ref::<CelString>();
    let text = text.ok_or_else(|| refused("expected a text on its left"))?;
    let pattern = pattern.downcast_ref::<Pattern>();
    let (Some(meter), Some(Pattern(pattern))) = (meter, pattern) else {
        return Err(refused("the pattern is missing"));
    };
    let text = text.inner();
    meter.count(u64::try_from(text.len()).unwrap_or(u64::MAX).max(1))?;
    Ok(CowVal::owned(CelBool::from(pattern.is_match(text))))
}
