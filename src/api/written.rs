//! A part of a resource as written. It has the schema of its type and is parsed by itself, so that one part with a mistake
//! never hides the others. It is serialised unchanged.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use promotion_gate_core::documents::{Fault, decode_value};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A `T` as written.
pub struct Written<T> {
    value: Value,
    parses_into: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Written<T> {
    /// Parses the part.
    ///
    /// # Errors
    /// What the type refuses, and where in this part.
    pub fn parse(&self) -> Result<T, Fault> {
        decode_value(&self.value)
    }
}

impl<T> Written<T> {
    /// The part as written.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl<T> Clone for Written<T> {
    fn clone(&self) -> Written<T> {
        Written {
            value: self.value.clone(),
            parses_into: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Written<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value)
    }
}

impl<T> Serialize for Written<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Written<T>, D::Error> {
        Ok(Written {
            value: Value::deserialize(deserializer)?,
            parses_into: PhantomData,
        })
    }
}

impl<T: JsonSchema> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
