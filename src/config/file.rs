//! The configuration file: TOML, one key per setting, unknown keys refused.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::source::Raw;
use super::table::{Kind, SETTINGS, Setting};
use super::{providers, regions};

/// The values of a file; what is wrong goes to `problems`.
pub(super) fn read(name: &str, text: &str, problems: &mut Vec<String>) -> BTreeMap<&'static str, Raw> {
    let line = |offset: usize| line(text, offset);
    let mut values = BTreeMap::new();
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let place = error.span().map_or(String::new(), |span| format!(":{}", line(span.start)));
            problems.push(format!("{name}{place}: not TOML: {}.", error.message()));
            return values;
        }
    };
    for (key, value) in table {
        let place = format!("{name}:{}", line(key.span().start));
        let key = key.into_inner();
        if key == regions::KEY {
            let value = regions::to_value(&regions::read(name, text, problems));
            values.insert(regions::KEY, Raw { value, origin: place });
            continue;
        }
        if let Some(known) = providers::KEYS.into_iter().find(|known| **known == *key) {
            values.insert(known, Raw { value: providers::to_value(known, text), origin: place });
            continue;
        }
        let Some(setting) = Setting::of(&key) else {
            let hint = super::nearest(
                &key,
                SETTINGS.iter().map(|setting| setting.key).chain([regions::KEY]).chain(providers::KEYS),
            )
            .map_or_else(String::new, |near| format!(" Did you mean `{near}`?"));
            problems.push(format!("{place}: `{key}` is not a setting.{hint}"));
            continue;
        };
        match as_text(setting, value.into_inner()) {
            Ok(value) => {
                values.insert(setting.key, Raw { value, origin: place });
            }
            Err(needed) => problems.push(format!("{place}: {key} must be {needed}.")),
        }
    }
    values
}

/// The line of a place in a text, counted from 1.
pub(super) fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The value as a flag would give it; or what it should have been.
fn as_text(setting: &Setting, value: DeValue<'_>) -> Result<String, &'static str> {
    match (setting.kind, value) {
        (Kind::Bool, DeValue::Boolean(value)) => Ok(value.to_string()),
        (Kind::Bool, _) => Err("true or false, without quotes"),
        (Kind::Number(..), DeValue::Integer(number)) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "a whole number"),
        (Kind::Number(..), _) => Err("a whole number, without quotes"),
        (Kind::List, DeValue::Array(items)) => {
            let texts: Option<Vec<String>> = items
                .into_iter()
                .map(|item| match item.into_inner() {
                    DeValue::String(text) => Some(text.into_owned()),
                    _ => None,
                })
                .collect();
            texts.map(|texts| texts.join(",")).ok_or("an array of texts in quotes")
        }
        (Kind::List, _) => Err("an array of texts in quotes"),
        (_, DeValue::String(text)) => Ok(text.into_owned()),
        (_, _) => Err("text in quotes"),
    }
}
