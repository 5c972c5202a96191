//! Where log lines go: stderr, as text or as one JSON object per line.

use std::io::Write;

use env_logger::fmt::Formatter;
use log::Record;
use log::kv::{Error, Key, Value, VisitSource};
use serde_json::{Map, json};

use crate::config::{Loaded, LogFormat};
use crate::model::Timestamp;

/// Starts logging and sends panics there, too.
pub(super) fn start(loaded: &Loaded) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(loaded.log_level).target(env_logger::Target::Stderr);
    // What other crates say below a warning is about their own insides.
    if loaded.log_level < log::LevelFilter::Debug {
        for noisy in ["rustls", "mio", "tiny_http", "tungstenite", "smoltcp"] {
            builder.filter_module(noisy, log::LevelFilter::Warn);
        }
        // It calls it an error when a tunnel that nobody uses ends, and does not say whose one that is.
        builder.filter_module("boringtun", log::LevelFilter::Off);
    }
    match loaded.log_format {
        LogFormat::Plain => builder.format(plain),
        LogFormat::Json => builder.format(as_json),
    };
    // Fails only if a logger is set already, which only a test could have done.
    let _ = builder.try_init();
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log::error!(thread = thread.name().unwrap_or("?"); "panic: {panic}");
    }));
}

fn plain(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let mut fields = Fields(Map::new());
    let _ = record.key_values().visit(&mut fields);
    write!(out, "{} {:<5} {}", Timestamp::now(), record.level(), record.args())?;
    for (key, value) in &fields.0 {
        write!(out, " {key}={value}")?;
    }
    writeln!(out)
}

fn as_json(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let mut fields = Fields(Map::new());
    fields.0.insert("time".into(), json!(Timestamp::now()));
    fields.0.insert("level".into(), json!(record.level().as_str().to_lowercase()));
    fields.0.insert("message".into(), json!(record.args().to_string()));
    fields.0.insert("target".into(), json!(record.target()));
    let _ = record.key_values().visit(&mut fields);
    writeln!(out, "{}", serde_json::Value::Object(fields.0))
}

struct Fields(Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let value = value.to_i64().map_or_else(|| json!(value.to_string()), |number| json!(number));
        self.0.insert(key.to_string(), value);
        Ok(())
    }
}
