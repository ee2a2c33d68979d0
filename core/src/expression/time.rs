//! Times and lengths of time in expressions: `timestamp('2026-11-28T14:31:00Z')`, `duration('24h')`, and the difference of two times.
//!
//! The library has these types only together with a clock and a database of zones. Here neither is needed.

use std::any::Any;
use std::cmp::Ordering;

use cel::common::traits::{Adder, Comparer, Subtractor};
use cel::common::types::{CelString, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError, Value};
use jiff::{SignedDuration, Timestamp};

use crate::gate::Age;

/// A time.
#[derive(Clone, Copy, Debug)]
pub(super) struct CelTime(pub(super) Timestamp);

/// A length of time.
#[derive(Clone, Copy, Debug)]
struct CelSpan(SignedDuration);

static TIME: Type = Type::new_unspecified_type("timestamp");
static SPAN: Type = Type::new_unspecified_type("duration");

/// Declares `timestamp` and `duration`.
pub(super) fn declare(environment: &mut Env) -> Result<(), DeclarationError> {
    environment.add_overload("timestamp", "timestamp", vec![STRING_TYPE], timestamp)?;
    environment.add_overload("duration", "duration", vec![STRING_TYPE], duration)
}

fn timestamp<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = text("timestamp", &arguments)?;
    let refused = "expected a time with an offset, such as `2026-11-28T14:31:00Z`";
    let time = text.parse::<Timestamp>();
    let time = time.map_err(|_| ExecutionError::function_error("timestamp", refused))?;
    Ok(CowVal::owned(CelTime(time)))
}

fn duration<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = text("duration", &arguments)?;
    let refused = "expected a length of time, such as `90s`, `24h`, `1h30m` or `7d`";
    let days = text.parse::<Age>().map(Age::duration);
    let length = days.or_else(|_| text.parse::<SignedDuration>());
    let length = length.map_err(|_| ExecutionError::function_error("duration", refused))?;
    Ok(CowVal::owned(CelSpan(length)))
}

fn text<'a>(function: &str, arguments: &'a [CowVal<'_, '_>]) -> Result<&'a str, ExecutionError> {
    let text = arguments
        .first()
        .and_then(|text| text.downcast_ref::<CelString>());
    let text = text.ok_or_else(|| ExecutionError::function_error(function, "expected a text"))?;
    Ok(text.inner())
}

fn not_these_types(operator: &'static str) -> ExecutionError {
    ExecutionError::UnsupportedBinaryOperator(operator, Value::Null, Value::Null)
}

fn out_of_range() -> ExecutionError {
    ExecutionError::function_error(
        "timestamp",
        "the result is not between the years 1 and 9999",
    )
}

macro_rules! value_of_cel {
    ($name:ident, $static:ident) => {
        impl Val for $name {
            fn get_type(&self) -> &Type {
                <Self as Val>::cel_type()
            }

            fn cel_type() -> &'static Type {
                &$static
            }

            fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
            where
                Self: 'v,
            {
                Some(self)
            }

            fn as_comparer(&self) -> Option<&dyn Comparer> {
                Some(self)
            }

            fn as_subtractor<'b, 'v>(&'b self) -> Option<&'b (dyn Subtractor + 'v)>
            where
                Self: 'v,
            {
                Some(self)
            }

            fn equals(&self, other: &dyn Val) -> bool {
                let other = other.downcast_ref::<Self>();
                other.is_some_and(|other| other.0 == self.0)
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
                Box::new(*self)
            }

            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }
        }

        impl StaticVal for $name {}

        impl Comparer for $name {
            fn compare(&self, other: &dyn Val) -> Result<Ordering, ExecutionError> {
                let other = other.downcast_ref::<Self>();
                let other = other.ok_or_else(|| not_these_types("compare"))?;
                Ok(self.0.cmp(&other.0))
            }
        }
    };
}

value_of_cel!(CelTime, TIME);
value_of_cel!(CelSpan, SPAN);

impl Adder for CelTime {
    fn add<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let span = other.downcast_ref::<CelSpan>();
        let span = span.ok_or_else(|| not_these_types("add"))?;
        let sum = self.0.checked_add(span.0).map_err(|_| out_of_range())?;
        Ok(CowVal::owned(CelTime(sum)))
    }
}

impl Subtractor for CelTime {
    fn sub<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        if let Some(time) = other.downcast_ref::<CelTime>() {
            return Ok(CowVal::owned(CelSpan(self.0.duration_since(time.0))));
        }
        let span = other.downcast_ref::<CelSpan>();
        let span = span.ok_or_else(|| not_these_types("sub"))?;
        let rest = self.0.checked_sub(span.0).map_err(|_| out_of_range())?;
        Ok(CowVal::owned(CelTime(rest)))
    }
}

impl Adder for CelSpan {
    fn add<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        if let Some(time) = other.downcast_ref::<CelTime>() {
            let sum = time.0.checked_add(self.0).map_err(|_| out_of_range())?;
            return Ok(CowVal::owned(CelTime(sum)));
        }
        let span = other.downcast_ref::<CelSpan>();
        let span = span.ok_or_else(|| not_these_types("add"))?;
        let sum = self.0.checked_add(span.0).ok_or_else(out_of_range)?;
        Ok(CowVal::owned(CelSpan(sum)))
    }
}

impl Subtractor for CelSpan {
    fn sub<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let span = other.downcast_ref::<CelSpan>();
        let span = span.ok_or_else(|| not_these_types("sub"))?;
        let rest = self.0.checked_sub(span.0).ok_or_else(out_of_range)?;
        Ok(CowVal::owned(CelSpan(rest)))
    }
}
