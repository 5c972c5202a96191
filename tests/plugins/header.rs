//! The C header against the Rust side: layout, numbers, names, and that neither has what the other lacks.

use std::collections::BTreeSet;
use std::mem::{align_of, offset_of, size_of};
use std::process::Command;

use moorline_plugin::abi;

use super::cc;

const HEADER: &str = include_str!("../../plugins/moorline-plugin/include/moorline_plugin.h");
const RUST: &str = include_str!("../../plugins/moorline-plugin/src/abi.rs");

macro_rules! layout {
    ($lines:ident, $c:literal, $type:ty, $($field:ident),+) => {
        $lines.push(format!("size {} {} {}", $c, size_of::<$type>(), align_of::<$type>()));
        $($lines.push(format!("field {}.{} {} {}", $c, stringify!($field), offset_of!($type, $field), {
            fn size<T, F>(_: impl Fn(&T) -> &F) -> usize { size_of::<F>() }
            size(|value: &$type| &value.$field)
        }));)+
    };
}

macro_rules! numbers {
    ($lines:ident, $($name:ident),+) => {
        $($lines.push(format!("number {} {}", stringify!($name), abi::$name));)+
    };
}

/// What the C program must print.
fn expected() -> Vec<String> {
    let mut lines = Vec::new();
    layout!(lines, "bytes", abi::Bytes, data, len);
    layout!(lines, "sink", abi::Sink, context, write);
    layout!(lines, "host", abi::Host, size, major, minor, context, http, log, now, random, cache_get, cache_put);
    layout!(lines, "plugin", abi::Plugin, size, major, minor, describe, create, call, destroy);
    lines.push(format!("text SYMBOL {}", abi::SYMBOL));
    lines.push(format!("text CONCURRENT {}", abi::CONCURRENT));
    numbers!(lines, MAJOR, MINOR, CALLS_AT_ONCE, SERVICES_PER_CALL, CREATE_SECONDS, CALL_SECONDS);
    numbers!(lines, MESSAGE_BYTES, HTTP_BODY_BYTES, HTTP_MILLISECONDS, CACHE_KEY_BYTES, CACHE_VALUE_BYTES);
    numbers!(lines, CACHE_ENTRIES, LOG_BYTES, RANDOM_BYTES);
    numbers!(lines, OK, REFUSED, UNAVAILABLE, INVALID, UNSUPPORTED, FAILED);
    numbers!(lines, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG);
    lines
}

#[test]
fn the_c_header_says_what_the_rust_side_says() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("layout");
    cc::cc(&[], &cc::source("layout.c"), &program, &[]);
    let printed = Command::new(&program).output().unwrap();
    let printed: BTreeSet<String> = String::from_utf8(printed.stdout).unwrap().lines().map(str::to_owned).collect();
    let expected: BTreeSet<String> = expected().into_iter().collect();
    let differ: Vec<_> = printed.symmetric_difference(&expected).collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

/// Words that follow `before` in `text`, up to what is no letter, digit or underscore.
fn names<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix(before))
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default())
        .collect()
}

#[test]
fn neither_the_header_nor_the_rust_side_has_what_is_not_compared() {
    let compared = expected();
    let has = |word: &str, name: &str| compared.iter().any(|line| line.starts_with(&format!("{word} {name} ")));
    let constants = names(RUST, "pub const ");
    assert!(constants.len() > 20);
    for name in constants {
        assert!(has("number", name) || has("text", name), "{name} of abi.rs is not compared");
    }
    // Those that only make sense in C.
    let own = ["PLUGIN_H", "EXPORT", "HAS"];
    for name in names(HEADER, "#define MOORLINE_") {
        assert!(
            own.contains(&name) || has("number", name) || has("text", name),
            "{name} of the header is not compared"
        );
    }
    let structs = names(HEADER, "struct moorline_").into_iter().filter(|name| has("size", name)).count();
    assert_eq!(structs, RUST.matches("pub struct ").count());
    // Every byte of every struct belongs to a compared field, so that none can be added unseen.
    for (name, whole) in [("bytes", size_of::<abi::Bytes>()), ("sink", size_of::<abi::Sink>())]
        .into_iter()
        .chain([("host", size_of::<abi::Host>()), ("plugin", size_of::<abi::Plugin>())])
    {
        let fields = compared.iter().filter(|line| line.starts_with(&format!("field {name}.")));
        let covered: usize = fields.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
        assert_eq!(covered, whole, "{name}");
    }
}
