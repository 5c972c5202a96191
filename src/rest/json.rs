//! Request bodies, read as forgivingly as Go's decoder reads them: the first JSON value counts,
//! what follows is ignored, unknown keys are ignored, of repeated keys the last one counts, and
//! `null` stands for a zero value.

use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Value};

use crate::domain::{Error, Fault};

/// The body as a `T`, whose fields must all have defaults.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // Serde would take a list as the fields in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(not_json("An object is expected, not a list."));
    }
    // Almost every body is read at once; the detours below serve the others.
    if let Some(Ok(value)) = Deserializer::from_slice(bytes).into_iter::<T>().next() {
        return Ok(value);
    }
    let text = String::from_utf8_lossy(bytes);
    let text = mend_surrogates(&text);
    let value = match Deserializer::from_str(&text).into_iter::<Value>().next() {
        Some(Ok(Value::Null)) => Value::Object(serde_json::Map::new()),
        Some(Ok(mut value)) => {
            drop_nulls(&mut value);
            value
        }
        Some(Err(error)) => return Err(not_json(&error.to_string())),
        None => return Err(not_json("The body is empty.")),
    };
    T::deserialize(value).map_err(|error| not_json(&error.to_string()))
}

fn not_json(detail: &str) -> Error {
    Error::new(Fault::Invalid, "The request body is not the JSON that is expected here.").detail(detail)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Replaces each `\uD800`–`\uDFFF` that is not half of a pair by `\uFFFD`: Go reads it so, and a log
/// sender would repeat a refused batch for ever (coder v2.24.0 codersdk/agentsdk/logs.go).
fn mend_surrogates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        out.push_str(plain);
        let unit = code_unit(escape);
        let length = match unit {
            Some(0xD800..=0xDBFF) if matches!(escape.get(6..).and_then(code_unit), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => {
                out.push_str("\\uFFFD");
                rest = escape.get(6..).unwrap_or("");
                continue;
            }
            Some(_) => 6,
            // The backslash and whatever letter follows it.
            None => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (kept, tail) = escape.split_at_checked(length).unwrap_or((escape, ""));
        out.push_str(kept);
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn code_unit(escape: &str) -> Option<u16> {
    let digits = escape.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Refuses empty required fields, all at once.
pub(super) fn require(fields: &[(&str, &str)]) -> Result<(), Error> {
    let missing = fields.iter().filter(|(_, value)| value.is_empty());
    let error = missing.fold(Error::new(Fault::Invalid, "A required field is missing."), |error, (name, _)| {
        error.field(*name, "It is required and may not be empty.")
    });
    if error.fields.is_empty() { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, PartialEq, Debug, Default)]
    #[serde(default)]
    struct Sample {
        name: String,
        list: Vec<Sample>,
    }

    fn named(name: &str) -> Sample {
        Sample { name: name.into(), list: Vec::new() }
    }

    #[test]
    fn reads_what_go_reads() {
        for (text, name) in [
            (r#"{"name":"a"}"#, "a"),
            (r#"{"name":"a"} and more"#, "a"),
            (r#"{"name":"a","other":[1,{"x":null}]}"#, "a"),
            (r#"{"name":"a","name":"b"}"#, "b"),
            (r#"{"name":null,"list":null}"#, ""),
            ("null", ""),
            (r#"{"name":"x\ud800y"}"#, "x\u{FFFD}y"),
            (r#"{"name":"\ud83d\ude00\\ud800"}"#, "\u{1F600}\\ud800"),
            (r#"{"name":"\udc00\udc00","other":1}"#, "\u{FFFD}\u{FFFD}"),
        ] {
            assert_eq!(body::<Sample>(text.as_bytes()).unwrap(), named(name), "{text}");
        }
        assert_eq!(body::<Sample>(b"{\"name\":\"\xff\xfe\"}").unwrap(), named("\u{FFFD}\u{FFFD}"));
        assert_eq!(body::<Sample>(br#"{"list":[{"name":null}]}"#).unwrap().list, [named("")]);
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in ["", " ", "{", "{\"name\":", r#"{"name":1}"#, "[]", r#"{"list":{}}"#, "\"x\"", "nul"] {
            assert_eq!(body::<Sample>(text.as_bytes()).unwrap_err().fault, Fault::Invalid, "{text:?}");
        }
    }

    #[test]
    fn names_every_missing_field() {
        assert!(require(&[("a", "x"), ("b", "y")]).is_ok());
        assert_eq!(require(&[("a", ""), ("b", "y"), ("c", "")]).unwrap_err().fields.len(), 2);
    }
}
