//! JSON as Go reads it: the name of a field is found whatever its case, the exact spelling first.
//!
//! Clients in the field depend on it, because dockerd is a Go program. Only names of fields are treated so, never
//! the keys of maps: labels are what they are.

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// Reads a value from a document.
pub fn from_value<T: DeserializeOwned>(document: Value) -> Result<T, Error> {
    T::deserialize(Loose(document))
}

struct Loose(Value);

impl<'de> Deserializer<'de> for Loose {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(object) => visitor.visit_map(Entries::new(object, &[])),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(object) => visitor.visit_map(Entries::new(object, fields)),
            // serde would read a list as the fields in their order; Go doesn't.
            other => other.deserialize_map(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(Loose(value)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Loose(item))).transpose()
    }
}

struct Entries {
    entries: std::vec::IntoIter<(String, Value)>,
    value: Option<Value>,
}

impl Entries {
    fn new(object: Map<String, Value>, fields: &[&str]) -> Entries {
        let mut entries: Vec<(String, Value)> = Vec::with_capacity(object.len());
        let mut loose = Vec::new();
        for (name, value) in object {
            match fields.iter().find(|field| field.eq_ignore_ascii_case(&name)) {
                Some(field) if *field != name => loose.push(((*field).to_owned(), value)),
                _ => entries.push((name, value)),
            }
        }
        for (name, value) in loose {
            if !entries.iter().any(|(known, _)| *known == name) {
                entries.push((name, value));
            }
        }
        Entries { entries: entries.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let name: StringDeserializer<Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Loose(self.value.take().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::containers::spec::CreateBody;

    #[test]
    fn names_of_fields_are_found_whatever_their_case_and_keys_are_not() {
        let body: CreateBody = from_value(json!({
            "image": "busybox",
            "LABELS": {"Image": "a", "image": "b"},
            "hostconfig": {"memory": 7, "binds": ["a:/b"], "MOUNTS": [{"type": "tmpfs", "target": "/t"}]},
            "cmd": "one",
        }))
        .unwrap();
        assert_eq!((body.config.image.as_str(), body.config.labels.len()), ("busybox", 2));
        assert_eq!(body.host_config.memory, 7);
        assert_eq!(body.host_config.mounts.unwrap()[0].target, "/t");
        assert_eq!(body.config.cmd.unwrap().0, ["one"]);
    }

    #[test]
    fn the_exact_spelling_wins() {
        let body: CreateBody = from_value(json!({"image": "no", "Image": "yes", "IMAGE": "no"})).unwrap();
        assert_eq!(body.config.image, "yes");
    }

    #[test]
    fn a_list_is_no_record() {
        assert!(from_value::<CreateBody>(json!([])).is_err());
        assert!(from_value::<CreateBody>(json!({"HostConfig": [1]})).is_err());
    }
}
