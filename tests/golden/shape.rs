//! The shape of a JSON value.
//!
//! A shape is JSON too: a word names a type (`null`, `bool`, `int`, `number`, `string`, `uuid`, `time`)
//! or, with bars, a closed set of words and types; `[]` is the empty list, `[SHAPE]` a list of one or more, `[SHAPE, "?"]` any list; an
//! object has exactly the keys of its shape in their order, those ending in `?` may be missing;
//! `{"*": SHAPE}` is a map with one or more keys, `{"*?": SHAPE}` any map or null, `{"?": SHAPE}` is SHAPE or null.

use moorline::model::Timestamp;
use serde_json::Value;

/// Whether `value` has this shape; `at` is where it stands.
pub fn check(shape: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = || Err(format!("{at}: {value} is not {shape}"));
    match (shape, value) {
        (Value::String(words), value) => {
            let alone = !words.contains('|');
            if words.split('|').any(|word| is_a(word, alone, value)) { Ok(()) } else { fail() }
        }
        (Value::Array(shapes), Value::Array(values)) => match shapes.first() {
            None if values.is_empty() => Ok(()),
            Some(shape) if !values.is_empty() || shapes.len() > 1 => {
                values.iter().enumerate().try_for_each(|(index, value)| check(shape, value, &format!("{at}[{index}]")))
            }
            _ => fail(),
        },
        (Value::Object(shapes), Value::Null) if shapes.contains_key("?") || shapes.contains_key("*?") => Ok(()),
        (Value::Object(shapes), value) if shapes.contains_key("?") => check(&shapes["?"], value, at),
        (Value::Object(shapes), Value::Object(values)) => {
            if let Some(shape) = shapes.get("*?") {
                return values.iter().try_for_each(|(key, value)| check(shape, value, &format!("{at}.{key}")));
            }
            if let Some(shape) = shapes.get("*") {
                if values.is_empty() {
                    return fail();
                }
                return values.iter().try_for_each(|(key, value)| check(shape, value, &format!("{at}.{key}")));
            }
            let mut left = values.iter().peekable();
            for (key, shape) in shapes {
                let name = key.trim_end_matches('?');
                match left.next_if(|(found, _)| *found == name) {
                    Some((_, value)) => check(shape, value, &format!("{at}.{name}"))?,
                    None if key.ends_with('?') => {}
                    None => return Err(format!("{at}.{name} is missing or not in its place")),
                }
            }
            match left.next() {
                None => Ok(()),
                Some((extra, _)) => Err(format!("{at}.{extra} is not known")),
            }
        }
        _ => fail(),
    }
}

/// Whether a value is of the type of this word or, among others, is the word.
fn is_a(word: &str, alone: bool, value: &Value) -> bool {
    match (word, value) {
        ("null", Value::Null) | ("bool", Value::Bool(_)) | ("string", Value::String(_)) => true,
        ("int", Value::Number(number)) => number.is_i64() || number.is_u64(),
        ("number", Value::Number(_)) => true,
        ("uuid", Value::String(text)) => {
            text.len() == 36 && uuid::Uuid::parse_str(text).is_ok_and(|uuid| uuid.to_string() == *text)
        }
        ("time", Value::String(text)) => Timestamp::parse(text).is_ok() && text.ends_with('Z'),
        ("null" | "bool" | "int" | "number" | "string" | "uuid" | "time", _) => false,
        (word, Value::String(text)) => !alone && word == text,
        _ => false,
    }
}

#[test]
fn tells_shapes_apart() {
    use serde_json::json;
    for (shape, good, bad) in [
        (json!("uuid"), json!("deadbeef-0000-4000-8000-000000000000"), json!("")),
        (json!("time"), json!("2025-01-01T00:00:00.5Z"), json!("2025-01-01")),
        (json!("a|b"), json!("b"), json!("c")),
        (json!("int"), json!(1), json!(1.5)),
        (json!([]), json!([]), json!([1])),
        (json!(["int"]), json!([1, 2]), json!([])),
        (json!(["int", "?"]), json!([]), json!(["x"])),
        (json!("null"), json!(null), json!([])),
        (json!({"a": "int", "b?": "int"}), json!({"a": 1}), json!({"b": 1, "a": 1})),
        (json!({"a": "int"}), json!({"a": 1}), json!({"a": 1, "c": 1})),
        (json!({"*": "int"}), json!({"x": 1, "y": 2}), json!({"x": "1"})),
        (json!("null|time"), json!(null), json!("null")),
        (json!("null|time"), json!("2025-01-01T00:00:00Z"), json!(1)),
        (json!({"*?": "int"}), json!(null), json!({"x": "1"})),
        (json!({"*?": "int"}), json!({}), json!([])),
        (json!({"?": {"a": "int"}}), json!(null), json!({"b": 1})),
        (json!({"?": {"a": "int"}}), json!({"a": 1}), json!("")),
    ] {
        assert_eq!(check(&shape, &good, ""), Ok(()));
        assert!(check(&shape, &bad, "").is_err(), "{shape} takes {bad}");
    }
}
