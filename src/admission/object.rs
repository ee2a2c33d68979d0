//! The object of a request without the parts that no rule reads, and which are often the largest: `metadata.managedFields`, and
//! `status` but for the few fields by which people steer.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::kinds::steers_some_kind;

pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Part::Object.deserialize(deserializer)
}

/// A part of an object that is not kept whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Object,
    Metadata,
    Status,
}

impl Part {
    fn keeps(self, key: &str) -> bool {
        match self {
            Part::Object => true,
            Part::Metadata => key != "managedFields",
            Part::Status => steers_some_kind(key),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !self.keeps(&key) {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = match (self, key.as_str()) {
                (Part::Object, "metadata") => entries.next_value_seed(Part::Metadata)?,
                (Part::Object, "status") => match entries.next_value_seed(Part::Status)? {
                    Value::Object(status) if !status.is_empty() => Value::Object(status),
                    _ => continue,
                },
                _ => entries.next_value()?,
            };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        if self == Part::Status {
            while items.next_element::<IgnoredAny>()?.is_some() {}
        }
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
    fn of_the_status_only_what_steers_is_kept() {
        let rollout = json!({"kind": "Rollout", "status": {
            "promoteFull": true, "abort": true, "conditions": [{"type": "Paused"}], "pauseConditions": null,
            "canary": {"weights": {}}, "phase": "Paused", "selector": "a",
        }});
        let kept = json!({"kind": "Rollout", "status": {
            "promoteFull": true, "abort": true, "pauseConditions": null, "canary": {"weights": {}},
        }});
        assert_eq!(read(&rollout.to_string()).unwrap(), kept);
        for status in ["null", "7", "\"a\"", "[1]", "{}", "{\"phase\":1}"] {
            let written = format!("{{\"kind\":\"Rollout\",\"status\":{status}}}");
            assert_eq!(read(&written).unwrap(), json!({"kind": "Rollout"}));
        }
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
