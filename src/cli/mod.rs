//! The command line: what is typed, how it is done, what is printed.
//!
//! Verbs that change or show something are the same on a running server (over its admin socket) and
//! on the file (`door`). `serve` puts the server together.

mod apply;
mod args;
mod connections;
mod context;
mod door;
mod external_auth;
mod http;
mod logging;
mod metrics;
mod place;
mod plugin;
mod secret;
mod serve;
mod table;
mod token;
mod trust;
mod user;
mod workspace;

use std::fmt;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};

use args::{Cli, Verb};
use context::Context;

use crate::model::version::CODER_VERSION;

/// Exit code of something that was tried and did not work.
const FAILED: u8 = 1;
/// Exit code of something that could not be understood. clap uses it, too.
const USAGE: u8 = 2;

/// Why a verb failed, as it is printed.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn usage(text: impl Into<String>) -> Failure {
        Failure { code: USAGE, text: text.into() }
    }
}

impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { code: FAILED, text: error.to_string() }
    }
}

/// What a verb says when it worked.
struct Said {
    /// For people.
    text: String,
    /// For programs.
    value: Value,
}

/// Runs the program with the arguments of the process.
pub fn run() -> ExitCode {
    // clap itself prints help to stdout (0) and mistakes to stderr (2).
    let cli = Cli::parse();
    if let Verb::PluginHost = cli.verb {
        return crate::plugins::run_child();
    }
    let json = cli.json;
    match dispatch(cli) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(said)) => {
            let text = if json { said.value.to_string() } else { said.text };
            print(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Prints to stdout; a reader that has gone away is no failure.
fn print(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

fn dispatch(cli: Cli) -> Result<Option<Said>, Failure> {
    if let Verb::Version = cli.verb {
        let version = env!("CARGO_PKG_VERSION");
        return Ok(Some(Said {
            text: format!("moorline {version} (speaks the API of Coder {CODER_VERSION})"),
            value: json!({"version": version, "coder_version": CODER_VERSION}),
        }));
    }
    let flags = match &cli.verb {
        Verb::Serve(serve) => serve.settings.values.clone(),
        _ => Vec::new(),
    };
    let context = Context::new(cli.file, cli.config, flags, cli.json)?;
    match cli.verb {
        Verb::Serve(arguments) => serve::run(&context, &arguments),
        Verb::User(verb) => user::run(&context, verb).map(Some),
        Verb::Token(verb) => token::run(&context, verb).map(Some),
        Verb::Workspace(verb) => workspace::run(&context, verb).map(Some),
        Verb::Trust(verb) => trust::run(&context, verb).map(Some),
        Verb::ExternalAuth(verb) => external_auth::run(&context, verb).map(Some),
        Verb::Plugin(verb) => plugin::run(&context, verb).map(Some),
        Verb::Connections(arguments) => connections::run(&context, arguments).map(Some),
        Verb::Apply(arguments) => apply::run(&context, &arguments).map(Some),
        Verb::Version | Verb::PluginHost => Ok(None),
    }
}
