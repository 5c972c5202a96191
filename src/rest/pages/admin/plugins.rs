//! Providers of machine identity and external sign-in, and what left the server for them.

use moorline_plugin::schema::Kind;

use super::super::html::{Html, fill, text};
use super::super::parts::{self, cell, state, table, when};
use super::size;
use crate::domain::{Condition, Error, ProviderStatus};
use crate::model::Timestamp;
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::egress::{self, Row};

/// Requests that the page shows.
const REQUESTS: u32 = 50;
/// Hexadecimal digits of a checksum that are shown at once; the whole stands in the title.
const DIGITS: usize = 12;

/// `GET /admin/plugins`. Starts none of them.
pub(in crate::rest) fn list(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let app = &call.service.app;
        let rows = app.plugins.overview().iter().map(row).collect();
        let columns = ["Provider", "State", "Library", "SHA-256", "Confined", "Calls"];
        let none = "No providers are configured.";
        let sent = app.store.read(|conn| egress::list(conn, None, Timestamp(0), REQUESTS).map_err(Error::from))?;
        let sent = sent.iter().map(request).collect();
        let sent_columns = ["When", "Provider", "Request", "Answer", "Bytes", "Time"];
        let values = [
            ("plugins", table("Providers", &columns, rows, none)),
            ("requests", table("Newest requests", &sent_columns, sent, "Nothing has left the server for a plugin.")),
        ];
        Ok(desk.page(200, "Plugins", fill(include_str!("plugins.html"), &values)))
    })
}

fn row(status: &ProviderStatus) -> Vec<Html> {
    let kind = match status.kind {
        Kind::Identity => "identity",
        Kind::ExternalAuth => "external auth",
    };
    let (word, class, why) = match &status.condition {
        Condition::Idle => match &status.file_problem {
            Some(why) => ("cannot start", "bad", why.clone()),
            None => ("not needed yet", "dim", String::new()),
        },
        Condition::Running { pid } => {
            let before = status.last_error.as_ref().map_or_else(String::new, |why| format!("; failed before: {why}"));
            let newer =
                status.not_loaded.as_ref().map_or_else(String::new, |why| format!("; its new file is not used: {why}"));
            ("running", "good", format!("process {pid}{before}{newer}"))
        }
        Condition::Down { why, for_seconds, next_try_seconds } => {
            let next =
                if *next_try_seconds == 0 { "at the next call".into() } else { format!("in {next_try_seconds} s") };
            ("down", "bad", format!("{why} ({for_seconds} s ago; tried again {next})"))
        }
    };
    let version = status.description.as_ref().map_or_else(String::new, |it| format!("{} {}", it.name, it.version));
    let sum = status.sha256.as_deref().map_or_else(
        || text("not loaded yet"),
        |sum| {
            let short = sum.get(..DIGITS).unwrap_or(sum);
            fill("<code title=\"{{sum}}\">{{short}}…</code>", &[("sum", text(sum)), ("short", text(short))])
        },
    );
    let confined = status.confined.as_ref().map_or_else(
        || "–".to_owned(),
        |by| {
            let seccomp = if by.seccomp { "seccomp" } else { "no seccomp" };
            let limits = if by.limits { "limits" } else { "no limits" };
            format!("{seccomp}, landlock {}, {limits}", by.landlock)
        },
    );
    vec![
        cell(text(&status.id), &format!("{kind}, {}", status.kind_word)),
        cell(state(word, class), &why),
        cell(long(&status.library.display().to_string()), &version),
        cell(sum, if status.pinned { "pinned" } else { "not pinned" }),
        text(&confined),
        cell(text(&status.calls.to_string()), &format!("{} failures, {} restarts", status.failures, status.restarts)),
    ]
}

/// Text that may be broken anywhere.
fn long(shown: &str) -> Html {
    fill("<span class=\"long\">{{shown}}</span>", &[("shown", text(shown))])
}

fn request(row: &Row) -> Vec<Html> {
    let answer = match (row.status, row.fault.as_str()) {
        (Some(status), _) if status < 400 => state(&status.to_string(), "good"),
        (Some(status), _) => state(&status.to_string(), "bad"),
        (None, "egress") => state("not allowed, not sent", "bad"),
        (None, "") => state("none yet", "wait"),
        (None, fault) => state(fault, "bad"),
    };
    let took = row.took_us.map_or_else(|| "–".to_owned(), |us| format!("{} ms", us / 1_000));
    vec![
        when(row.at),
        text(&row.provider),
        cell(text(&format!("{} {}:{}", row.method, row.host, row.port)), &row.path),
        answer,
        text(&format!("{} sent, {} received", size(row.sent.unsigned_abs()), size(row.received.unsigned_abs()))),
        text(&took),
    ]
}
