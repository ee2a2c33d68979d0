//! The variables and functions that an expression may use, and how large it is.

use std::collections::BTreeSet;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};

use super::declared::{Declared, Possible};
use super::pattern::MATCHES;
use crate::documents::nearest;

/// Functions that are called by name, with the number of arguments. All of them take time that is linear in their arguments.
const FUNCTIONS: &[(&str, usize)] = &[
    ("bool", 1),
    ("bytes", 1),
    ("double", 1),
    ("duration", 1),
    ("dyn", 1),
    ("int", 1),
    ("size", 1),
    ("string", 1),
    ("timestamp", 1),
    ("type", 1),
    ("uint", 1),
];
/// Functions that are called on a value, with the number of arguments besides it.
const MEMBERS: &[(&str, usize)] = &[
    ("contains", 1),
    ("endsWith", 1),
    (MATCHES, 1),
    ("size", 0),
    ("startsWith", 1),
];
/// Macros, which the parser replaces if their arguments are as expected.
const MACROS: &[(&str, &str)] = &[
    ("all", "list.all(name, condition)"),
    ("exists", "list.exists(name, condition)"),
    ("exists_one", "list.exists_one(name, condition)"),
    ("filter", "list.filter(name, condition)"),
    ("has", "has(value.field)"),
    ("map", "list.map(name, expression)"),
];
/// Names of types, which `type(…)` is compared with.
const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// How large an expression is.
#[derive(Default)]
pub(super) struct Shape {
    /// All parts, those of expanded macros included.
    pub(super) parts: usize,
    /// How deep the parts are nested.
    pub(super) nesting: usize,
    /// How deep loops are nested.
    pub(super) loops: usize,
}

impl Shape {
    pub(super) fn of(expression: &IdedExpr) -> Shape {
        let mut shape = Shape {
            parts: 1,
            ..Shape::default()
        };
        for part in parts(expression) {
            let inner = Shape::of(part);
            shape.parts += inner.parts;
            shape.nesting = shape.nesting.max(inner.nesting);
            shape.loops = shape.loops.max(inner.loops);
        }
        shape.nesting += 1;
        shape.loops += usize::from(matches!(expression.expr, Expr::Comprehension(_)));
        shape
    }
}

/// The direct parts of an expression.
fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .collect(),
        Expr::Comprehension(over) => {
            let ComprehensionExpr {
                iter_range,
                accu_init,
                loop_cond,
                loop_step,
                result,
                ..
            } = &**over;
            vec![iter_range, accu_init, loop_cond, loop_step, result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map
            .entries
            .iter()
            .flat_map(|entry| of_entry(&entry.expr))
            .collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Struct(message) => {
            let entries = message.entries.iter();
            entries.flat_map(|entry| of_entry(&entry.expr)).collect()
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// The direct parts of an expression, to be changed.
pub(super) fn parts_mut(expression: &mut IdedExpr) -> Vec<&mut IdedExpr> {
    match &mut expression.expr {
        Expr::Call(call) => {
            let target = call.target.as_deref_mut().into_iter();
            target.chain(&mut call.args).collect()
        }
        Expr::Comprehension(over) => {
            let ComprehensionExpr {
                iter_range,
                accu_init,
                loop_cond,
                loop_step,
                result,
                ..
            } = &mut **over;
            vec![iter_range, accu_init, loop_cond, loop_step, result]
        }
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(map) => {
            let entries = map.entries.iter_mut();
            entries
                .flat_map(|entry| of_entry_mut(&mut entry.expr))
                .collect()
        }
        Expr::Select(select) => vec![&mut select.operand],
        // Messages are refused before.
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn of_entry_mut(entry: &mut EntryExpr) -> Vec<&mut IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&mut field.value],
        EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
    }
}

/// The variables that an expression uses, without those of its loops.
pub(super) fn used(expression: &IdedExpr) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    collect(expression, &mut Vec::new(), &mut used);
    used
}

fn collect<'e>(part: &'e IdedExpr, bound: &mut Vec<&'e str>, used: &mut BTreeSet<String>) {
    match &part.expr {
        Expr::Ident(name) if !bound.contains(&&**name) => {
            used.insert(name.clone());
        }
        Expr::Comprehension(over) => {
            collect(&over.iter_range, bound, used);
            collect(&over.accu_init, bound, used);
            bound.push(&over.iter_var);
            for inner in [&over.loop_cond, &over.loop_step, &over.result] {
                collect(inner, bound, used);
            }
            bound.pop();
            return;
        }
        _ => {}
    }
    for inner in parts(part) {
        collect(inner, bound, used);
    }
}

/// The fields that an expression asks for, each with the part that does.
pub(super) fn fields(expression: &IdedExpr) -> Vec<(&str, u64)> {
    let mut fields: Vec<_> = parts(expression).into_iter().flat_map(fields).collect();
    if let Expr::Select(select) = &expression.expr
        && !select.test
    {
        fields.push((&select.field, expression.id));
    }
    fields
}

/// The names and fields in an expression that are not known, each with the part that holds it and a message.
pub(super) fn unknown(expression: &IdedExpr, variables: &[(&str, Declared)]) -> Vec<(u64, String)> {
    let variables = variables.iter();
    let mut search = Search {
        known: variables.map(|(name, it)| (*name, (*it).into())).collect(),
        declared: 0,
        faults: Vec::new(),
    };
    search.declared = search.known.len();
    search.part(expression);
    search.faults
}

/// The search for names and fields that are not known.
struct Search<'e> {
    /// The variables that are known at a part: those that are declared, and after them those of the loops around it.
    known: Vec<(&'e str, Possible<'e>)>,
    declared: usize,
    faults: Vec<(u64, String)>,
}

impl<'e> Search<'e> {
    /// Searches a part, and says what its value can be.
    fn part(&mut self, part: &'e IdedExpr) -> Possible<'e> {
        match &part.expr {
            Expr::Ident(name) => {
                let mut innermost = self.known.iter().rev();
                if let Some((_, value)) = innermost.find(|(own, _)| own == name) {
                    return value.clone();
                }
                if !TYPES.contains(&&**name) {
                    let why = self.unknown_variable(name);
                    self.faults.push((part.id, why));
                }
                Possible::anything()
            }
            Expr::Literal(LiteralValue::String(text)) => Possible::text(text.inner()),
            Expr::Literal(_) => Possible::single(),
            Expr::List(list) => {
                let items: Vec<_> = list.elements.iter().map(|item| self.part(item)).collect();
                Possible::list(items)
            }
            Expr::Map(map) => {
                let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        Some((self.part(&entry.key), self.part(&entry.value)))
                    }
                    EntryExpr::StructField(_) => None,
                });
                let entries: Vec<_> = entries.collect();
                Possible::map_of(entries)
            }
            Expr::Select(select) => {
                let value = self.part(&select.operand);
                self.refuse(part, value.lacks(&select.field));
                match select.test {
                    true => Possible::single(),
                    false => value.field(&select.field),
                }
            }
            Expr::Call(call) => self.call(part, call),
            Expr::Comprehension(over) => {
                let range = self.part(&over.iter_range);
                let gathered = self.part(&over.accu_init);
                self.known.push((&over.iter_var, range.each()));
                self.known.push((&over.accu_var, gathered.clone()));
                self.part(&over.loop_cond);
                let step = self.part(&over.loop_step);
                self.known.pop();
                let gathered = Possible::one_of([gathered, step]);
                self.known.push((&over.accu_var, gathered));
                let result = self.part(&over.result);
                self.known.pop();
                self.known.pop();
                result
            }
            Expr::Struct(message) => {
                let why = format!(
                    "messages such as `{:.60}{{…}}` are not supported; write a map: `{{'field': value}}`",
                    message.type_name
                );
                self.faults.push((part.id, why));
                for inner in parts(part) {
                    self.part(inner);
                }
                Possible::anything()
            }
            Expr::Unspecified => Possible::anything(),
        }
    }

    fn call(&mut self, part: &'e IdedExpr, call: &'e CallExpr) -> Possible<'e> {
        if let Some(why) = unknown_function(call) {
            self.faults.push((part.id, why));
            // The arguments of a macro can hold names that only the macro would make known.
            return Possible::anything();
        }
        let values: Vec<_> = parts(part).into_iter().map(|it| self.part(it)).collect();
        match (call.func_name.as_str(), values.as_slice()) {
            (operators::INDEX, [value, key]) => {
                self.refuse(part, value.lacks_at(key));
                value.at(key)
            }
            (operators::IN, [key, value]) => {
                self.refuse(part, value.lacks_member(key));
                Possible::single()
            }
            (operators::CONDITIONAL, [_, one, other]) => {
                Possible::one_of([one.clone(), other.clone()])
            }
            (operators::ADD, _) => Possible::sum(values),
            ("dyn", [value]) => value.clone(),
            // All others make a text, a time, a number or a truth value.
            _ => Possible::single(),
        }
    }

    fn refuse(&mut self, part: &IdedExpr, why: Option<String>) {
        self.faults.extend(why.map(|why| (part.id, why)));
    }

    fn unknown_variable(&self, name: &str) -> String {
        let known = self.known.iter().map(|(own, _)| *own);
        // Names with `@` cannot be written; macros make them.
        let known: Vec<_> = known.filter(|own| !own.starts_with('@')).collect();
        let meant = nearest(name, known.iter().copied());
        let meant = meant.map_or_else(String::new, |meant| format!(", did you mean `{meant}`?"));
        let listed = known.get(..self.declared).unwrap_or_default().join("`, `");
        format!("there is no variable `{name:.60}`{meant}; known are `{listed}`")
    }
}

/// Why a call is refused. Operators are calls with names that no identifier has.
fn unknown_function(call: &CallExpr) -> Option<String> {
    let name = call.func_name.as_str();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    if let Some((_, form)) = MACROS.iter().find(|(known, _)| *known == name) {
        return Some(format!("`{name}` is written `{form}`"));
    }
    let functions = match call.target {
        Some(_) => MEMBERS,
        None => FUNCTIONS,
    };
    match functions.iter().find(|(known, _)| *known == name) {
        Some((_, count)) if *count == call.args.len() => None,
        Some((_, count)) => Some(format!(
            "`{name}` takes {count} arguments, and has {}",
            call.args.len()
        )),
        None => {
            let names = FUNCTIONS.iter().chain(MEMBERS).map(|(known, _)| *known);
            let names = names.chain(MACROS.iter().map(|(known, _)| *known));
            let meant = nearest(name, names);
            let meant =
                meant.map_or_else(String::new, |meant| format!(", did you mean `{meant}`?"));
            let here = match call.target {
                Some(_) => "that is called on a value",
                None => "that is called by name alone",
            };
            Some(format!("there is no function `{name:.60}` {here}{meant}"))
        }
    }
}
