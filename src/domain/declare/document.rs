//! TOML and JSON as one kind of tree in which every value knows its line.

use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;

/// A value.
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

/// What a value is.
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Bool(bool),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// Something that no field takes; the word says what it is.
    Other(&'static str),
}

/// A key with its value.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u32,
    pub(super) node: Node,
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "text",
            Value::Integer(_) => "a whole number",
            Value::Bool(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }
}

/// Offsets at which lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn at(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|start| *start <= offset)).unwrap_or(u32::MAX)
    }
}

pub(super) fn from_toml(text: &str) -> Result<Node, Problem> {
    let lines = Lines::of(text);
    let root = DeTable::parse(text).map_err(|error| Problem {
        line: error.span().map_or(0, |span| lines.at(span.start)),
        path: String::new(),
        why: format!("not TOML: {}", error.message()),
    })?;
    Ok(Node { line: 1, value: toml_table(&lines, root.into_inner()) })
}

fn toml_table(lines: &Lines, table: DeTable<'_>) -> Value {
    let mut entries: Vec<(usize, Entry)> = table
        .into_iter()
        .map(|(key, value)| {
            let at = key.span().start;
            (at, Entry { line: lines.at(at), key: key.into_inner().into_owned(), node: toml_node(lines, value) })
        })
        .collect();
    entries.sort_by_key(|(at, _)| *at);
    Value::Table(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn toml_node(lines: &Lines, value: Spanned<DeValue<'_>>) -> Node {
    let line = lines.at(value.span().start);
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number out of range"),
        },
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| toml_node(lines, item)).collect()),
        DeValue::Table(table) => toml_table(lines, table),
    };
    Node { line, value }
}

pub(super) fn from_json(text: &str) -> Result<Node, Problem> {
    let refuse = |error: serde_json::Error| Problem {
        line: u32::try_from(error.line()).unwrap_or(0),
        path: String::new(),
        why: format!("not JSON: {error}"),
    };
    let root: &RawValue = serde_json::from_str(text).map_err(refuse)?;
    Ok(Json { text, lines: Lines::of(text) }
        .node(root, String::new())?
        .unwrap_or(Node { line: 1, value: Value::Other("null") }))
}

struct Json<'a> {
    text: &'a str,
    lines: Lines,
}

impl Json<'_> {
    /// `None` is null, which stands for a key that is absent.
    fn node(&self, raw: &RawValue, path: String) -> Result<Option<Node>, Problem> {
        // A raw value borrows from the text, so its place follows from its address.
        let offset = raw.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let line = self.lines.at(offset);
        let refuse = |why: String| Problem { line, path: path.clone(), why };
        let value = match raw.get().as_bytes().first() {
            Some(b'{') => {
                let mut entries: Vec<Entry> = Vec::new();
                let pairs = serde_json::Deserializer::from_str(raw.get())
                    .deserialize_map(Pairs)
                    .map_err(|e| refuse(e.to_string()))?;
                for (key, raw) in pairs {
                    let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    let offset = raw.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
                    let line = self.lines.at(offset);
                    if entries.iter().any(|entry| entry.key == key) {
                        return Err(Problem { line, path: inner, why: "stands here twice".into() });
                    }
                    if let Some(node) = self.node(raw, inner)? {
                        entries.push(Entry { key, line, node });
                    }
                }
                Value::Table(entries)
            }
            Some(b'[') => {
                let items = serde_json::Deserializer::from_str(raw.get())
                    .deserialize_seq(Items)
                    .map_err(|e| refuse(e.to_string()))?;
                let nodes = items
                    .into_iter()
                    .enumerate()
                    .map(|(index, raw)| {
                        let node = self.node(raw, format!("{path}[{index}]"))?;
                        Ok(node.unwrap_or(Node { line, value: Value::Other("null") }))
                    })
                    .collect::<Result<Vec<Node>, Problem>>()?;
                Value::List(nodes)
            }
            Some(b'"') => Value::Text(serde_json::from_str(raw.get()).map_err(|error| refuse(error.to_string()))?),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'n') => return Ok(None),
            _ => match raw.get().parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Other("a number with a fraction or out of range"),
            },
        };
        Ok(Some(Node { line, value }))
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}
