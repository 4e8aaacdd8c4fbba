// SPDX-License-Identifier: Apache-2.0

use std::fs;

use serde_json::{Value, json};

use crate::workspace_root;

/// What the file holds.
const SOUND: &str = "a sound schema";

/// The published schema of an event, `docs/event.schema.json`.
///
/// # Panics
/// If it cannot be read.
pub fn event_schema() -> Value {
    let text = fs::read_to_string(workspace_root().join("docs/event.schema.json")).expect("the schema is there");
    serde_json::from_str(&text).expect(SOUND)
}

/// Checks a value by a schema, and says what is wrong with it.
///
/// # Errors
/// If the value does not fit: the first keyword that does not hold.
///
/// # Panics
/// If the schema has a keyword that is not known here.
pub fn check_schema(schema: &Value, value: &Value) -> Result<(), String> {
    let fails = |what: &str| Err(format!("{value}: {what}"));
    let absent = json!({});
    let properties = schema.get("properties").unwrap_or(&absent).as_object().expect(SOUND);
    for (keyword, wanted) in schema.as_object().expect(SOUND) {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" | "examples" => true,
            "type" => match wanted.as_str().expect(SOUND) {
                "object" => value.is_object(),
                "string" => value.is_string(),
                "integer" => value.is_u64() || value.is_i64(),
                other => panic!("unknown type {other}"),
            },
            "minimum" => value.as_u64() >= wanted.as_u64(),
            "maximum" => value.as_u64().is_some_and(|value| value <= wanted.as_u64().expect(SOUND)),
            "enum" => wanted.as_array().expect(SOUND).contains(value),
            "required" => {
                wanted.as_array().expect(SOUND).iter().all(|name| value.get(name.as_str().expect(SOUND)).is_some())
            }
            "additionalProperties" => {
                assert_eq!(wanted, &json!(false));
                value.as_object().is_some_and(|object| object.keys().all(|name| properties.contains_key(name)))
            }
            "properties" => {
                for (name, schema) in properties {
                    value.get(name).map_or(Ok(()), |value| check_schema(schema, value))?;
                }
                true
            }
            other => panic!("unknown keyword {other}"),
        };
        if !holds {
            return fails(&format!("{keyword} is {wanted}"));
        }
    }
    Ok(())
}
