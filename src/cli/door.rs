//! The two ways to have a verb done: by the running server, or on the file.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::context::Context;
use super::place::{ADMIN, Socket, system_user};
use super::{Failure, http};
use crate::domain::admin::{self, Command};
use crate::domain::{Error, Fault, trust};
use crate::ops::hub::Hub;
use crate::plugins::Plugins;
use crate::store::{OpenError, Options, Store};

/// How long a file that is in use without an answering server is tried again: another verb may be at
/// work on it, or a server may be starting.
const IN_USE: Duration = Duration::from_secs(5);
/// How long a server may need to read all programs that it offers.
const READING: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// What a verb gave, and whether a running server did it.
pub(super) struct Done {
    pub(super) value: Value,
    pub(super) online: bool,
}

/// Has `command` done; `create` makes the file if it does not exist.
pub(super) fn ask(context: &Context, command: Command, create: bool) -> Result<Done, Failure> {
    let file = context.file();
    let socket = Socket::beside(file, ADMIN)
        .map_err(|error| Failure::from(format!("{}: its folder cannot be opened: {error}", file.display())))?;
    let body = serde_json::to_vec(&command)?;
    let began = Instant::now();
    loop {
        if let Some(value) = online(&socket, &body)? {
            return Ok(Done { value, online: true });
        }
        if !create && !file.exists() {
            return Err(Failure::from(format!(
                "{0}: no such file; `moorline serve --file {0}` makes it at its first start",
                file.display()
            )));
        }
        let settings = &context.loaded.settings;
        let opened = Store::open(Options {
            file: settings.file.clone(),
            key_file: settings.key_file.clone(),
            create,
            readers: 1,
            hub: Hub::default(),
            allow_network_file_system: settings.allow_network_file_system,
        });
        match opened {
            Ok(store) => {
                // None of their processes is started unless the verb needs it.
                let plugins = Plugins::new(&settings.providers, &store, &settings.program);
                let result = trust::install(&store, &plugins)
                    .map_err(Error::from)
                    .and_then(|()| admin::run(&store, &plugins, &system_user(), command));
                plugins.stop();
                store.close();
                return Ok(Done { value: result?, online: false });
            }
            Err(OpenError::InUse { .. }) if began.elapsed() < IN_USE => std::thread::sleep(PAUSE),
            Err(error @ OpenError::InUse { .. }) => {
                let socket = socket.path();
                return Err(Failure::from(format!(
                    "{error}, but nobody answers on {}; wait for that process or stop it",
                    socket.display()
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Has `command` done by the running server; `None` if none runs on the file.
pub(super) fn ask_server(context: &Context, command: Command) -> Result<Option<Value>, Failure> {
    let Ok(socket) = Socket::beside(context.file(), ADMIN) else { return Ok(None) };
    online(&socket, &serde_json::to_vec(&command)?)
}

/// The access URL that the running server tells clients.
pub(super) fn access_url(context: &Context) -> Option<String> {
    let socket = Socket::beside(context.file(), ADMIN).ok()?;
    let answer = http::ask(&socket, "GET", "/api/v2/buildinfo", b"").ok()??;
    let info: Value = serde_json::from_slice(&answer.body).ok()?;
    info.get("dashboard_url")?.as_str().filter(|url| !url.is_empty()).map(str::to_owned)
}

/// A script as the running server gives it to machines; `None` if it has no programs for them.
pub(super) fn script(context: &Context, path: &str) -> Result<Option<Vec<u8>>, String> {
    let failed = |why: String| format!("{path} cannot be had from the server: {why}");
    let socket = Socket::beside(context.file(), ADMIN).map_err(|error| failed(error.to_string()))?;
    let began = Instant::now();
    loop {
        let answer = http::ask(&socket, "GET", path, b"").map_err(|error| failed(error.to_string()))?;
        match answer {
            None => return Ok(None),
            Some(answer) if answer.status == 200 => return Ok(Some(answer.body)),
            Some(answer) if answer.status == 404 => return Ok(None),
            // It is still reading a program that was just put there.
            Some(answer) if answer.status == 503 && began.elapsed() < READING => std::thread::sleep(PAUSE),
            Some(answer) => {
                let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                return Err(failed(refusal(&body).to_string()));
            }
        }
    }
}

fn online(socket: &Socket, body: &[u8]) -> Result<Option<Value>, Failure> {
    let answer = match http::ask(socket, "POST", "/admin/verb", body) {
        Ok(None) => return Ok(None),
        Ok(Some(answer)) => answer,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(Failure::from(format!(
                "a server runs on this file, but {} may be used by its own user and root only",
                socket.path().display()
            )));
        }
        Err(error) => {
            return Err(Failure::from(format!(
                "the server did not answer on {} ({error}); whether the verb was done is not known",
                socket.path().display()
            )));
        }
    };
    let value: Value = serde_json::from_slice(&answer.body)
        .map_err(|_| Failure::from(format!("the server answered with status {} and no JSON", answer.status)))?;
    if answer.status == 200 { Ok(Some(value)) } else { Err(refusal(&value).into()) }
}

/// An error as it was before it became the body of an answer.
fn refusal(body: &Value) -> Error {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut error = Error::new(Fault::Invalid, text(body, "message")).detail(text(body, "detail"));
    for field in body.get("validations").and_then(Value::as_array).into_iter().flatten() {
        error = error.field(text(field, "field"), text(field, "detail"));
    }
    error
}
