//! Variables and JSON as values of CEL, and results as JSON.

use std::collections::HashMap;

use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde_json::{Map, Number, Value};

use super::Variable;
use super::time::CelTime;

/// Bytes of a text that count as one value.
const BYTES_OF_ONE: usize = 64;

/// How many values there are.
#[derive(Default)]
pub(super) struct Size {
    values: usize,
}

impl Size {
    pub(super) fn values(&self) -> usize {
        self.values
    }

    /// Adds a variable. The error is the end of a sentence.
    pub(super) fn add_variable(
        &mut self,
        variable: &Variable<'_>,
        most: usize,
        depth: usize,
    ) -> Result<(), String> {
        match variable {
            Variable::Json(value) => self.add(value, most, depth),
            Variable::Time(_) => self.add_one(0, most, depth),
            Variable::Text(text) => self.add_one(text.len(), most, depth),
            Variable::List(items) => {
                self.add_one(0, most, depth)?;
                let mut items = items.iter();
                items.try_for_each(|item| self.add_variable(item, most, depth.saturating_sub(1)))
            }
            Variable::Map(fields) => {
                self.add_one(0, most, depth)?;
                fields.iter().try_for_each(|(key, field)| {
                    self.values = self.values.saturating_add(key.len() / BYTES_OF_ONE);
                    self.add_variable(field, most, depth.saturating_sub(1))
                })
            }
        }
    }

    /// Adds one value without the values in it; `bytes` is the length of a text, and 0 for every other value.
    fn add_one(&mut self, bytes: usize, most: usize, depth: usize) -> Result<(), String> {
        if depth == 0 {
            return Err("is nested too deep".to_owned());
        }
        self.values = self.values.saturating_add(1 + bytes / BYTES_OF_ONE);
        match self.values > most {
            true => Err(format!("has more than {most} values")),
            false => Ok(()),
        }
    }

    /// Adds a value. The error is the end of a sentence.
    pub(super) fn add(&mut self, value: &Value, most: usize, depth: usize) -> Result<(), String> {
        let bytes = match value {
            Value::String(text) => text.len(),
            _ => 0,
        };
        self.add_one(bytes, most, depth)?;
        let deeper = depth.saturating_sub(1);
        match value {
            Value::Array(items) => items
                .iter()
                .try_for_each(|item| self.add(item, most, deeper)),
            Value::Object(fields) => fields.iter().try_for_each(|(key, field)| {
                self.values = self.values.saturating_add(key.len() / BYTES_OF_ONE);
                self.add(field, most, deeper)
            }),
            _ => Ok(()),
        }
    }
}

/// Why a text in JSON is not read: it has more values than `most`, or is nested deeper than `depth`. This takes no memory.
pub(super) fn refuse_json(text: &str, most: usize, depth: usize) -> Option<String> {
    let (mut values, mut open, mut deepest) = (1_usize, 0_usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(within) = bytes.next() {
                    match within {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                open += 1;
                values += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' => open = open.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
    }
    if deepest > depth {
        return Some("is nested too deep".to_owned());
    }
    (values > most).then(|| format!("has more than {most} values"))
}

/// The value of a variable, which borrows its texts. Its depth was checked.
pub(super) fn of_variable<'v>(variable: &'v Variable<'_>) -> Box<dyn Val + 'v> {
    match variable {
        Variable::Json(value) => from_json(value),
        Variable::Time(time) => Box::new(CelTime(*time)),
        Variable::Text(text) => Box::new(CelString::from(&**text)),
        Variable::List(items) => {
            let items: Vec<_> = items.iter().map(of_variable).collect();
            Box::new(CelList::from(items))
        }
        Variable::Map(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(key, value)| (CelMapKey::from(*key), of_variable(value)));
            Box::new(CelMap::from(fields.collect::<HashMap<_, _>>()))
        }
    }
}

/// The value, which borrows its texts. Its depth was checked.
fn from_json<'v>(value: &'v Value) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(from_json).collect();
            Box::new(CelList::from(items))
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields =
                fields.map(|(key, value)| (CelMapKey::from(key.as_str()), from_json(value)));
            Box::new(CelMap::from(fields.collect::<HashMap<_, _>>()))
        }
    }
}

/// A result as JSON.
pub(super) fn to_json(value: &dyn Val) -> Result<Value, String> {
    if value.downcast_ref::<CelNull>().is_some() {
        Ok(Value::Null)
    } else if let Some(value) = value.downcast_ref::<CelBool>() {
        Ok(Value::Bool(*value.inner()))
    } else if let Some(number) = value.downcast_ref::<CelInt>() {
        Ok(Value::from(*number.inner()))
    } else if let Some(number) = value.downcast_ref::<CelUInt>() {
        Ok(Value::from(*number.inner()))
    } else if let Some(number) = value.downcast_ref::<CelDouble>() {
        let number = Number::from_f64(*number.inner());
        number
            .map(Value::Number)
            .ok_or_else(|| "the result holds a number that JSON does not have".to_owned())
    } else if let Some(text) = value.downcast_ref::<CelString>() {
        Ok(Value::String(text.inner().to_owned()))
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        let items = list.inner().iter().map(|item| to_json(&**item));
        Ok(Value::Array(items.collect::<Result<_, _>>()?))
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        let mut fields = Map::new();
        for (key, value) in map.inner() {
            let CelMapKey::String(key) = key else {
                return Err("the result is a map with a key that is not a text".to_owned());
            };
            fields.insert(key.inner().to_owned(), to_json(&**value)?);
        }
        Ok(Value::Object(fields))
    } else {
        let found = value.get_type().name();
        Err(format!(
            "the result holds a value of the type `{found}`, which JSON does not have"
        ))
    }
}

/// How many values a value holds. A long text counts as several.
pub(super) fn weight(value: &dyn Val) -> u64 {
    let bytes = |count: usize| u64::try_from(1 + count / BYTES_OF_ONE).unwrap_or(u64::MAX);
    if let Some(text) = value.downcast_ref::<CelString>() {
        bytes(text.inner().len())
    } else if let Some(value) = value.downcast_ref::<CelBytes>() {
        bytes(value.inner().len())
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner()
            .iter()
            .fold(1, |sum, item| sum + weight(&**item))
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        map.inner().iter().fold(1, |sum, (key, value)| {
            sum + weight(key.inner()) + weight(&**value)
        })
    } else {
        1
    }
}
