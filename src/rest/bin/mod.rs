//! `/bin`: the programs that the operator offers, and the scripts that install them.

mod range;
mod scripts;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use range::Wanted;
pub(super) use scripts::{enrol_powershell, enrol_sh, install_sh};

use super::envelope::Envelope;
use super::limiter;
use super::pages::html::{Html, fill, text};
use super::pages::page;
use super::reply::Reply;
use super::request::Call;
use super::websocket;
use crate::config::limits;
use crate::domain::programs::{Digests, Program};
use crate::domain::{Error, Fault};
use crate::model::hex;
use crate::streams;

/// How long a request waits for the digests of a program that was just put there: 55 MB take about
/// 0.2 s.
const PATIENCE: Duration = Duration::from_secs(3);

/// JetBrains Toolbox refuses a download whose type has a parameter (0.9.3), and VS Code shows it as text.
const BYTES: &str = "application/octet-stream";

/// `GET /bin`: what there is.
pub(super) fn list(call: &Call<'_>) -> Result<Reply, Error> {
    let app = &call.service.app;
    if !app.programs.are_offered() {
        return Ok(missing());
    }
    let mut rows = Vec::new();
    for program in app.programs.list().map_err(unreadable)? {
        let sum = hex(&digests(call, &program)?.sha256);
        rows.push(fill(
            include_str!("../pages/bin-row.html"),
            &[
                ("name", text(program.name())),
                ("size", text(&format!("{} MiB", program.size().div_ceil(1024 * 1024)))),
                ("sum", text(&sum)),
            ],
        ));
    }
    let content =
        fill(include_str!("../pages/bin.html"), &[("rows", Html::join(rows)), ("url", text(&app.access_url))]);
    Ok(page(call, 200, "Programs", None, content))
}

/// `GET /bin/{name}`.
pub(super) fn file(call: &Call<'_>) -> Result<Reply, Error> {
    answer(call, call.param(0), false)
}

/// `HEAD /bin/{name}`.
pub(super) fn file_head(call: &Call<'_>) -> Result<Reply, Error> {
    answer(call, call.param(0), true)
}

fn answer(call: &Call<'_>, asked: &str, head_only: bool) -> Result<Reply, Error> {
    // Names are written with `_`, too (coder v2.24.0 site/bin.go).
    let name = asked.replace('_', "-");
    if let Some(name) = name.strip_suffix(".sha256") {
        return match open(call, name)? {
            Some(program) => {
                let sum = hex(&digests(call, &program)?.sha256);
                Ok(Reply::text(200, format!("{sum}  {name}\n")))
            }
            None => Ok(missing()),
        };
    }
    match open(call, &name)? {
        Some(program) => send(call, program, head_only),
        None => Ok(missing()),
    }
}

fn missing() -> Reply {
    Reply::text(404, "There is no such program on this server.\n")
}

fn open(call: &Call<'_>, name: &str) -> Result<Option<Program>, Error> {
    call.service.app.programs.open(name).map_err(unreadable)
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(Fault::Internal, "The programs of this server cannot be read.").detail(error.to_string())
}

/// The digests of a program, which must be there.
fn digests(call: &Call<'_>, program: &Program) -> Result<Digests, Error> {
    call.service.app.programs.digests(program, PATIENCE).ok_or_else(|| {
        let message = format!("The checksum of {} is not known yet. Try again in a few seconds.", program.name());
        Error::new(Fault::Overloaded, message)
    })
}

fn send(call: &Call<'_>, program: Program, head_only: bool) -> Result<Reply, Error> {
    // Without digests the file is sent all the same: nobody compares then.
    let digests = call.service.app.programs.digests(&program, PATIENCE);
    let tag = digests.map(|digests| format!("\"{}\"", hex(&digests.sha1)));
    let size = program.size();
    let describe = |mut reply: Reply| {
        reply = reply.header("Accept-Ranges", "bytes").header("Cache-Control", "no-cache");
        if let Some(tag) = &tag {
            reply = reply.header("ETag", tag.clone());
        }
        if let Some(digests) = &digests {
            reply = reply.header("Repr-Digest", format!("sha-256=:{}:", STANDARD.encode(digests.sha256)));
        }
        // What VS Code measures its progress by when a proxy compresses (vscode-coder 1.15).
        reply.header("X-Original-Content-Length", size.to_string())
    };
    if tag.as_deref().is_some_and(|tag| call.header("If-None-Match").is_some_and(|known| lists(known, tag))) {
        return Ok(describe(Reply::empty(304)));
    }
    let same = call.header("If-Range").is_none_or(|known| Some(known) == tag.as_deref());
    let asked = if same { call.header("Range") } else { None };
    let (status, range) = match range::wanted(asked, size) {
        Wanted::Whole => (200, 0..size),
        Wanted::Part(range) => (206, range),
        Wanted::Beyond => {
            let reply = Reply::text(416, "The file ends before the range that was asked for.\n");
            return Ok(describe(reply).header("Content-Range", format!("bytes */{size}")));
        }
    };
    let mut reply = describe(Reply::empty(status));
    if status == 206 {
        let last = range.end.saturating_sub(1);
        reply = reply.header("Content-Range", format!("bytes {}-{last}/{size}", range.start));
    }
    reply.content_type = Some(BYTES);
    reply.length = Some(range.end - range.start);
    if head_only || range.is_empty() {
        return Ok(reply);
    }
    let most = if limiter::is_loopback(&call.peer) { limits::DOWNLOADS } else { limits::DOWNLOADS_PER_ADDRESS };
    let service = call.service;
    let places =
        (service.all_downloads.take((), limits::DOWNLOADS), service.downloads.take(limiter::network(&call.peer), most));
    let (Some(all), Some(own)) = places else {
        return Ok(Reply::text(503, "Too many downloads at present. Try again soon.\n").header("Retry-After", "10"));
    };
    let head = reply.encode(&Envelope::of(call).closing());
    let stream = streams::file::send(call.service.app.clone(), program, range, head, (all, own));
    Ok(websocket::raw(call, status, stream))
}

/// Whether a list of entity tags has this one. Weak ones count: what is compared is a copy, not a part.
fn lists(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

#[cfg(test)]
mod tests {
    use super::lists;

    #[test]
    fn finds_a_tag_in_a_list() {
        for (list, found) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"\"", false),
            ("a", false),
            ("\"ab\"", false),
            ("", false),
        ] {
            assert_eq!(lists(list, "\"a\""), found, "{list}");
        }
    }
}
