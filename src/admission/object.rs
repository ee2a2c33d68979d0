//! The object of a request without `metadata.managedFields` and `status`: no rule reads them, and they are often the largest
//! parts.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// An object without `status` and `metadata.managedFields`.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Without("status", Some(&Without("managedFields", None))).deserialize(deserializer)
}

/// Reads a map without one key; the second field says how to read its `metadata`.
#[derive(Clone, Copy)]
struct Without<'a>(&'static str, Option<&'a Without<'a>>);

impl<'de> DeserializeSeed<'de> for Without<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Without<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = match self {
                Without(ignored, _) if key == ignored => {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
                Without(_, Some(metadata)) if key == "metadata" => {
                    entries.next_value_seed(*metadata)?
                }
                Without(..) => entries.next_value()?,
            };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, serde_json::Error> {
        super::read(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn an_object_is_read_without_its_status_and_managed_fields() {
        let object = json!({
            "kind": "Pod", "status": {"phase": "Running"},
            "metadata": {"name": "web", "managedFields": [{"manager": "kubectl"}], "annotations": {"status": "a", "managedFields": "b"}},
            "spec": {"status": 1, "managedFields": 2, "metadata": {"managedFields": 3}},
        });
        let mut expected = object.clone();
        expected.as_object_mut().unwrap().remove("status");
        expected["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        assert_eq!(read(&object.to_string()).unwrap(), expected);
    }

    #[test]
    fn what_is_no_object_is_read_as_it_stands() {
        for text in [
            "null",
            "[1,{\"status\":2}]",
            "-1",
            "1",
            "1.5",
            "true",
            "\"Pod\"",
            "{\"metadata\":[]}",
            "{\"metadata\":null}",
        ] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
    }
}
