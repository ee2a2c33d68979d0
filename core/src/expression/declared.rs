//! What is declared of the variables of an expression: which fields their values have. A field that no value ever has is a mistake, and
//! `!has(…)` of it would always be true.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

use crate::documents::nearest;

/// What is declared of a value.
#[derive(Clone, Copy, Debug)]
pub enum Declared {
    /// Nothing: it may have any field.
    Anything,
    /// A text or a time, which has no fields.
    Plain,
    /// A map with any fields, which are plain.
    Labels,
    /// A map with some of these fields and no others, which are plain.
    Record(&'static [&'static str]),
    /// A map with some of these fields and no others.
    Map(&'static [(&'static str, Declared)]),
    /// A list of such values.
    List(&'static Declared),
}

impl Declared {
    /// The names of the fields, where they are declared.
    fn fields(self) -> Option<Vec<&'static str>> {
        match self {
            Declared::Plain => Some(Vec::new()),
            Declared::Record(names) => Some(names.to_vec()),
            Declared::Map(fields) => Some(fields.iter().map(|(name, _)| *name).collect()),
            Declared::Anything | Declared::Labels | Declared::List(_) => None,
        }
    }

    fn field(self, name: &str) -> Declared {
        match self {
            Declared::Labels | Declared::Record(_) => Declared::Plain,
            Declared::Map(fields) => {
                let field = fields.iter().find(|(own, _)| *own == name);
                field.map_or(Declared::Anything, |(_, declared)| *declared)
            }
            Declared::Anything | Declared::Plain | Declared::List(_) => Declared::Anything,
        }
    }

    /// Why a value has no such field; `None` if it may have it.
    fn lacks(self, name: &str) -> Option<String> {
        let fields = self.fields()?;
        if fields.contains(&name) {
            return None;
        }
        if fields.is_empty() {
            return Some(format!(
                "there is no field `{name:.60}`: this is a text or a time, which has no fields"
            ));
        }
        let meant = nearest(name, fields.iter().copied());
        let meant = meant.map_or_else(String::new, |meant| format!(", did you mean `{meant}`?"));
        Some(format!(
            "there is no field `{name:.60}`{meant}; known are `{}`",
            fields.join("`, `")
        ))
    }
}

/// The variables that are known at a part of an expression: those that are declared, and after them those of the loops around it.
pub(super) type Known<'e> = Vec<(&'e str, Declared)>;

/// Why a part asks for a field that its value never has.
pub(super) fn missing_field<'e>(part: &'e IdedExpr, known: &mut Known<'e>) -> Option<String> {
    match &part.expr {
        Expr::Select(select) => of(&select.operand, known).lacks(&select.field),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::INDEX, [value, key]) => of(value, known).lacks(text(key)?),
            (operators::IN, [key, value]) => match (of(value, known), text(key)?) {
                (Declared::Plain, _) => Some(
                    "`in` looks in a list or in the keys of a map, and this is a text or a time; `contains` looks in a text"
                        .to_owned(),
                ),
                (map, key) => map.lacks(key),
            },
            _ => None,
        },
        _ => None,
    }
}

/// What is declared of the value of a part.
fn of<'e>(part: &'e IdedExpr, known: &mut Known<'e>) -> Declared {
    match &part.expr {
        Expr::Ident(name) => {
            let mut innermost = known.iter().rev();
            let found = innermost.find(|(own, _)| own == name);
            found.map_or(Declared::Anything, |(_, declared)| *declared)
        }
        Expr::Select(select) if !select.test => of(&select.operand, known).field(&select.field),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::INDEX, [value, key]) => match (of(value, known), text(key)) {
                (Declared::List(item), _) => *item,
                (map, Some(key)) => map.field(key),
                (..) => Declared::Anything,
            },
            (operators::CONDITIONAL, [_, one, other]) => {
                let [one, other] = [one, other].map(|it| of(it, known));
                match one.fields() == other.fields() {
                    true => one,
                    false => Declared::Anything,
                }
            }
            _ => Declared::Anything,
        },
        // What `filter` leaves is declared as the list is.
        Expr::Comprehension(over) if leaves_items(over) => of(&over.iter_range, known),
        _ => Declared::Anything,
    }
}

/// What is declared of the variable of a loop.
pub(super) fn of_loop<'e>(over: &'e ComprehensionExpr, known: &mut Known<'e>) -> Declared {
    match of(&over.iter_range, known) {
        Declared::List(item) => *item,
        // A loop over a map is one over its keys.
        Declared::Labels | Declared::Record(_) | Declared::Map(_) => Declared::Plain,
        Declared::Anything | Declared::Plain => Declared::Anything,
    }
}

/// Whether each step appends the item itself, or nothing.
fn leaves_items(over: &ComprehensionExpr) -> bool {
    let appended = |step: &IdedExpr| match &step.expr {
        Expr::Call(CallExpr {
            func_name, args, ..
        }) if func_name == operators::ADD => match args.as_slice() {
            [_, item] => matches!(&item.expr, Expr::List(list)
                if matches!(list.elements.as_slice(), [item] if matches!(&item.expr, Expr::Ident(name) if *name == over.iter_var))),
            _ => false,
        },
        _ => false,
    };
    match &over.loop_step.expr {
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => {
            call.args.get(1).is_some_and(appended)
        }
        _ => appended(&over.loop_step),
    }
}

fn text(part: &IdedExpr) -> Option<&str> {
    match &part.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}
