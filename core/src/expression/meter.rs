//! Counts the work of an evaluation.
//!
//! The library evaluates without any limit. So each expression is rewritten after it is parsed: every turn of a loop, and every value
//! that an operation reads or copies as a whole, goes through a function that counts it, and that fails once the limit is reached. Short
//! values that are written in the expression are not counted, and neither is what is compared with one. An operator such as `||` can
//! hide that failure, so the caller asks [`Meter::is_spent`] afterwards. A spent meter fails at once, so nothing goes on for long.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};
use cel::common::types::{CelDouble, CelInt, CelList, CelMap, CelUInt, DYN_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{Env, ExecutionError, Value};

use super::names::Shape;
use super::value::weight;
use super::{NotEvaluated, pattern, time};

/// The variable that holds the meter. No expression can write this name.
pub(super) const VARIABLE: &str = "@meter";
/// Counts a value, and gives it back.
const CHARGE: &str = "@charge";
/// Counts a turn of a loop, and gives `true`.
const TURN: &str = "@turn";
/// Counts a value, and gives it back; of a map, its keys in order.
const RANGE: &str = "@range";
/// Counts what is searched for in a list, and gives it back.
const NEEDLE: &str = "@needle";
/// Gives back an index; fails if it is a number with a fraction.
const WHOLE: &str = "@whole";
/// The most work of one evaluation. A part of an expression that is evaluated, a value that is read, and 64 bytes of a text are one
/// unit each: about 50 ms on one core.
const MAXIMUM_WORK: u64 = 500_000;

/// The most work of the evaluations that belong together, such as those of one expression over all statements of an image.
const MAXIMUM_TOGETHER: u64 = 4 * MAXIMUM_WORK;
/// The most work of all evaluations of policies that enforce, in one judgement of a change: about one second on one core. The other
/// policies may take as much again.
pub(crate) const MAXIMUM_OF_JUDGEMENT: u64 = 20 * MAXIMUM_WORK;
/// Bytes of JSON that are read for one unit of work.
const BYTES_OF_ONE: usize = 64;

/// What is left of the work of evaluations that belong together.
#[derive(Clone, Debug)]
pub struct Work(u64);

impl Default for Work {
    fn default() -> Work {
        Work(MAXIMUM_TOGETHER)
    }
}

impl Work {
    /// The work for one of `count` groups of evaluations in the judgement of one change. The shares are equal, so that the order of
    /// policies and images does not matter.
    pub fn share_of(count: usize) -> Work {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        Work(MAXIMUM_TOGETHER.min(MAXIMUM_OF_JUDGEMENT / count))
    }

    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// Counts the reading of a text.
    pub(super) fn read(&mut self, text: &str) -> Result<(), NotEvaluated> {
        self.make_values(text.len() / BYTES_OF_ONE)
    }

    /// Counts the making of so many values.
    ///
    /// # Errors
    /// If nothing is left.
    pub fn make_values(&mut self, count: usize) -> Result<(), NotEvaluated> {
        self.spend(u64::try_from(count).unwrap_or(u64::MAX));
        match self.is_spent() {
            true => Err(NotEvaluated::TooMuchWork),
            false => Ok(()),
        }
    }

    /// The meter of one evaluation.
    pub(super) fn meter(&self) -> Meter {
        let most = self.0.min(MAXIMUM_WORK);
        Meter {
            left: Arc::new(AtomicU64::new(most)),
            most,
        }
    }

    /// Takes away what an evaluation used.
    pub(super) fn take(&mut self, meter: &Meter) {
        let left = meter.left.load(Ordering::Relaxed);
        self.spend(meter.most.saturating_sub(left));
    }

    fn spend(&mut self, work: u64) {
        #[cfg(test)]
        SPENT.set(SPENT.get() + work.min(self.0));
        self.0 = self.0.saturating_sub(work);
    }
}

#[cfg(test)]
thread_local! {
    /// The work of all evaluations on this thread.
    pub(crate) static SPENT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

static TYPE: Type = Type::new_unspecified_type(VARIABLE);

/// How much work is left to one evaluation, of how much.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    left: Arc<AtomicU64>,
    most: u64,
}

impl Meter {
    pub(super) fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    pub(super) fn count(&self, work: u64) -> Result<(), ExecutionError> {
        let left = self.left.load(Ordering::Relaxed).saturating_sub(work);
        self.left.store(left, Ordering::Relaxed);
        match left {
            0 => Err(ExecutionError::InternalError("too much work".to_owned())),
            _ => Ok(()),
        }
    }
}

impl Val for Meter {
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

impl StaticVal for Meter {}

/// The functions of an evaluation.
pub(super) fn environment() -> Arc<Env> {
    static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
        let mut environment = Env::stdlib();
        let two = || vec![DYN_TYPE, DYN_TYPE];
        // A name with `@` is declared by nothing else. Without these functions every evaluation would fail.
        let _ = environment.add_overload(CHARGE, CHARGE, two(), charge);
        let _ = environment.add_overload(TURN, TURN, two(), turn);
        let _ = environment.add_overload(RANGE, RANGE, two(), range);
        let _ = environment.add_overload(WHOLE, WHOLE, two(), whole);
        let three = vec![DYN_TYPE, DYN_TYPE, DYN_TYPE];
        let _ = environment.add_overload(NEEDLE, NEEDLE, three, needle);
        let _ = pattern::declare(&mut environment);
        let _ = time::declare(&mut environment);
        Arc::new(environment)
    });
    Arc::clone(&ENVIRONMENT)
}

fn charge<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (meter, value) = taken(arguments)?;
    meter.count(weight(&*value))?;
    Ok(value)
}

/// The library goes through the keys of a map in another order at each evaluation, and two replicas have to give the same answer.
fn range<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (meter, value) = taken(arguments)?;
    meter.count(weight(&*value))?;
    let Some(map) = value.downcast_ref::<CelMap>() else {
        return Ok(value);
    };
    let mut keys: Vec<_> = map.inner().keys().collect();
    keys.sort();
    let keys = keys.into_iter().map(|key| key.inner().clone_as_boxed());
    Ok(CowVal::owned(CelList::from(keys.collect::<Vec<_>>())))
}

/// Where the library compares a number with a value that is not a number, it copies that value.
fn needle<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let list = arguments.pop();
    let (meter, needle) = taken(arguments)?;
    let list = list.as_ref().and_then(|it| it.downcast_ref::<CelList>());
    let items = list.into_iter().flat_map(|list| list.inner());
    let copies = match is_number(&*needle) {
        true => 0,
        false => items.filter(|item| is_number(&***item)).count(),
    };
    let times = u64::try_from(copies + 1).unwrap_or(u64::MAX);
    meter.count(weight(&*needle).saturating_mul(times))?;
    Ok(needle)
}

fn is_number(value: &dyn Val) -> bool {
    value.downcast_ref::<CelInt>().is_some()
        || value.downcast_ref::<CelUInt>().is_some()
        || value.downcast_ref::<CelDouble>().is_some()
}

/// The library copies the whole list into its error about an index with a fraction.
fn whole<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    /// Up to here, a double represents every integer exactly.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let (meter, index) = taken(arguments)?;
    meter.count(1)?;
    let number = index.downcast_ref::<CelDouble>().map(|it| *it.inner());
    match number.is_none_or(|it| it.fract() == 0.0 && it.abs() < EXACT) {
        true => Ok(index),
        false => Err(ExecutionError::UnsupportedIndex(Value::Null, Value::Null)),
    }
}

fn turn<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (meter, work) = taken(arguments)?;
    let work = work.downcast_ref::<CelInt>().map(|work| *work.inner());
    meter.count(work.and_then(|work| u64::try_from(work).ok()).unwrap_or(1))?;
    Ok(CowVal::owned(cel::common::types::CelBool::from(true)))
}

fn taken<'b, 'v>(
    arguments: Vec<CowVal<'b, 'v>>,
) -> Result<(Meter, CowVal<'b, 'v>), ExecutionError> {
    let failed = || ExecutionError::InternalError("the meter is missing".to_owned());
    let [meter, value] = <[_; 2]>::try_from(arguments).map_err(|_| failed())?;
    let meter = meter.downcast_ref::<Meter>().cloned();
    Ok((meter.ok_or_else(failed)?, value))
}

/// The expression with the calls that count its work.
pub(super) fn metered(expression: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = expression;
    let charged = |part| charged(id, metered(part));
    let expr = match expr {
        Expr::Call(call) => Expr::Call(metered_call(id, call)),
        Expr::Comprehension(over) => Expr::Comprehension(Box::new(metered_loop(id, *over))),
        Expr::List(mut list) => {
            list.elements = list.elements.into_iter().map(charged).collect();
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            for entry in &mut map.entries {
                let parts = match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
                    EntryExpr::StructField(field) => vec![&mut field.value],
                };
                for part in parts {
                    *part = charged(std::mem::take(part));
                }
            }
            Expr::Map(map)
        }
        Expr::Select(mut select) => {
            select.operand = Box::new(metered(*select.operand));
            Expr::Select(select)
        }
        // Messages are refused before.
        other @ (Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified) => other,
    };
    IdedExpr { id, expr }
}

/// A call whose operands are counted, as far as the operation reads or copies them as a whole.
fn metered_call(id: u64, mut call: CallExpr) -> CallExpr {
    match (&*call.func_name, call.args.as_mut_slice()) {
        (operators::IN, [needle, list]) if !is_short(needle) && !is_of_texts(list) => {
            let searched = metered(list.clone());
            let needle_in = vec![meter(id), metered(std::mem::take(needle)), searched];
            *needle = called(id, NEEDLE, needle_in);
            *list = charged(id, metered(std::mem::take(list)));
            return call;
        }
        (operators::INDEX | operators::OPT_INDEX, [_, index]) if !is_text(index) => {
            *index = called(id, WHOLE, vec![meter(id), std::mem::take(index)]);
        }
        _ => {}
    }
    let compares = COMPARING.contains(&&*call.func_name);
    let is_light =
        LIGHT.contains(&&*call.func_name) || compares && call.args.last().is_some_and(is_short);
    let argument = |part| match is_light || is_short(&part) {
        true => metered(part),
        false => charged(id, metered(part)),
    };
    CallExpr {
        target: call.target.map(|target| Box::new(argument(*target))),
        args: call.args.into_iter().map(argument).collect(),
        ..call
    }
}

/// Operators that read a part of their operands only.
const LIGHT: &[&str] = &[
    operators::CONDITIONAL,
    operators::INDEX,
    operators::LOGICAL_AND,
    operators::LOGICAL_NOT,
    operators::LOGICAL_OR,
    operators::NOT_STRICTLY_FALSE,
];

/// Operators that read no more of their first operand than the second one is long. The reverse is not true: where the first one is a
/// number and the second one is not, the library copies the second one.
const COMPARING: &[&str] = &[operators::EQUALS, operators::NOT_EQUALS];

/// Whether a part is a literal that takes at most one unit of work to read.
fn is_short(part: &IdedExpr) -> bool {
    match &part.expr {
        Expr::Literal(LiteralValue::String(text)) => text.inner().len() <= BYTES_OF_ONE,
        Expr::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len() <= BYTES_OF_ONE,
        Expr::Literal(_) => true,
        _ => false,
    }
}

fn is_text(part: &IdedExpr) -> bool {
    matches!(part.expr, Expr::Literal(LiteralValue::String(_)))
}

/// Whether a part is a list of texts that are written in the expression.
fn is_of_texts(part: &IdedExpr) -> bool {
    matches!(&part.expr, Expr::List(list) if list.elements.iter().all(is_text))
}

/// A loop that counts its turns. The library copies each item of the range once, and runs a loop in linear time only if it recognises
/// `@result + [item]` in its step; so that shape has to stay.
fn metered_loop(id: u64, over: ComprehensionExpr) -> ComprehensionExpr {
    let work = Shape::of(&over.loop_cond).parts + Shape::of(&over.loop_step).parts;
    let turn = || turn_of(id, work);
    let builds_list = matches!(over.accu_init.expr, Expr::List(_));
    let (loop_cond, loop_step) = match builds_list {
        true => (
            over.loop_cond,
            metered_step(id, over.loop_step, &over.accu_var, turn()),
        ),
        false => (
            conditional(id, turn(), metered(over.loop_cond), literal(id, false)),
            metered(over.loop_step),
        ),
    };
    ComprehensionExpr {
        iter_range: called(id, RANGE, vec![meter(id), metered(over.iter_range)]),
        loop_cond,
        loop_step,
        ..over
    }
}

/// The step of `map` and `filter`: `@result + [item]`, or `condition ? @result + [item] : @result`.
fn metered_step(id: u64, step: IdedExpr, result: &str, turn: IdedExpr) -> IdedExpr {
    let unchanged = || part(id, Expr::Ident(result.to_owned()));
    match step.expr {
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => {
            let mut arguments = call.args.into_iter();
            let condition = metered(arguments.next().unwrap_or_default());
            let condition = conditional(id, turn, condition, literal(id, false));
            let grown = grown(arguments.next().unwrap_or_default());
            conditional(step.id, condition, grown, unchanged())
        }
        other => {
            let step = grown(part(step.id, other));
            conditional(id, turn, step, unchanged())
        }
    }
}

/// `@result + [item]` with an item that is counted. The result is not copied, so it is not counted.
fn grown(step: IdedExpr) -> IdedExpr {
    let Expr::Call(mut call) = step.expr else {
        return metered(step);
    };
    if let Some(item) = call.args.pop() {
        call.args.push(metered(item));
    }
    part(step.id, Expr::Call(call))
}

fn charged(id: u64, value: IdedExpr) -> IdedExpr {
    called(id, CHARGE, vec![meter(id), value])
}

fn turn_of(id: u64, work: usize) -> IdedExpr {
    let work = i64::try_from(work).unwrap_or(i64::MAX);
    let work = part(id, Expr::Literal(LiteralValue::Int(work.into())));
    called(id, TURN, vec![meter(id), work])
}

fn meter(id: u64) -> IdedExpr {
    part(id, Expr::Ident(VARIABLE.to_owned()))
}

fn literal(id: u64, value: bool) -> IdedExpr {
    part(id, Expr::Literal(LiteralValue::Boolean(value.into())))
}

fn conditional(id: u64, condition: IdedExpr, then: IdedExpr, otherwise: IdedExpr) -> IdedExpr {
    called(id, operators::CONDITIONAL, vec![condition, then, otherwise])
}

fn called(id: u64, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    part(
        id,
        Expr::Call(CallExpr {
            func_name: function.to_owned(),
            target: None,
            args,
        }),
    )
}

fn part(id: u64, expr: Expr) -> IdedExpr {
    IdedExpr { id, expr }
}
