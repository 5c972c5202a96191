//! How the server is.

use super::super::html::{Html, fill, text};
use super::super::moment;
use super::super::parts::{self, state};
use super::size;
use crate::domain::{Error, health};
use crate::model::{Timestamp, version};
use crate::ops::metrics::relay::Drop;
use crate::rest::reply::Reply;
use crate::rest::request::Call;

/// `GET /admin/health`.
pub(in crate::rest) fn show(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let app = &call.service.app;
        let now = Timestamp::now();
        let health = health::of(app)?;
        let well = match (&health.damage, health.warnings.is_empty()) {
            (Some(_), _) => state("damaged", "bad"),
            (None, false) => state("works, with warnings", "wait"),
            (None, true) => state("all is well", "good"),
        };
        let warnings = health.warnings.iter().map(|warning| fill("<li>{{text}}</li>\n", &[("text", text(warning))]));
        let warnings = match health.warnings.len() {
            0 => Html::default(),
            _ => fill(include_str!("warnings.html"), &[("items", Html::join(warnings))]),
        };
        let room = health
            .room
            .map_or_else(|| "unknown".to_owned(), |room| format!("{} of {}", size(room.free), size(room.all)));
        let metrics = &app.metrics;
        let relay = &metrics.relay;
        let counts = app.tailnet.counts();
        let dropped: u64 =
            [Drop::Stranger, Drop::NotHere, Drop::Full, Drop::Rate].iter().map(|why| relay.count_dropped(*why)).sum();
        let number = |number: u64| text(&number.to_string());
        let gauge = |number: i64| text(&number.to_string());
        let count = |number: usize| text(&number.to_string());
        let threads = &app.settings;
        let values = [
            ("state", well),
            ("warnings", warnings),
            ("version", text(version::VERSION)),
            ("url", text(&app.access_url)),
            ("since", moment(app.started_at)),
            ("uptime", text(&span(now.since(app.started_at).as_secs()))),
            ("loops", count(threads.loops)),
            ("threads", text(&format!("{} for requests, {} for agents", threads.http_threads, threads.rpc_threads))),
            ("file", text(&app.store.file().display().to_string())),
            ("file_size", text(&size(health.size.file))),
            ("log_size", text(&size(health.size.log))),
            ("room", text(&room)),
            ("checked", health.checked_at.map_or_else(|| text("not yet"), moment)),
            ("read", text(&format!("{} µs", health.read_took.as_micros()))),
            ("agents", count(app.presence.count())),
            ("clients", count(counts.clients)),
            ("tunnels", count(counts.tunnels)),
            ("lost", count(counts.lost)),
            ("connections", gauge(metrics.connections.get())),
            ("watchers", gauge(metrics.watchers.get())),
            ("requests", number(metrics.requests.get())),
            ("calls", number(metrics.agent_calls.get())),
            ("call_errors", number(metrics.agent_call_errors.get())),
            ("relay", gauge(relay.connections.get())),
            ("relay_bytes", text(&size(relay.bytes.get()))),
            ("relay_dropped", number(dropped)),
        ];
        Ok(desk.page(200, "Health", fill(include_str!("health.html"), &values)))
    })
}

/// Seconds in words, its two largest units.
fn span(seconds: u64) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let from = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts.iter().skip(from).take(2).map(|(count, unit)| format!("{count} {unit}"));
    shown.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn says_spans_in_two_units() {
        for (seconds, said) in [(0, "0 s"), (59, "59 s"), (3_600, "1 h 0 min"), (90_061, "1 d 1 h"), (125, "2 min 5 s")]
        {
            assert_eq!(span(seconds), said);
        }
    }
}
