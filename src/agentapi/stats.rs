//! UpdateStats: traffic and sessions of a period. A report without either is not stored.

use prost::Message;

use super::{Reply, Session, decode, write_report};
use crate::domain::Error;
use crate::model::Timestamp;
use crate::ops::hub::Topic;
use crate::store::stats::{self, Traffic};
use crate::store::workspaces;
use crate::wire::proto::agent::{Stats, UpdateStatsRequest, UpdateStatsResponse};
use crate::wire::proto::google::Duration;

/// Largest report that is looked at on a loop, bytes; about 0.1 ms of decoding.
const SMALL: usize = 16 * 1024;

/// Answers the probe without statistics and idle reports, which need no store.
pub(super) fn idle(session: &Session, body: &[u8]) -> Option<Result<Vec<u8>, Error>> {
    if body.len() > SMALL {
        return None;
    }
    match decode::<UpdateStatsRequest>(body) {
        Err(error) => Some(Err(error)),
        Ok(request) if request.stats.as_ref().is_none_or(|stats| traffic(stats).is_idle()) => Some(Ok(answer(session))),
        Ok(_) => None,
    }
}

/// Folds a report into the row of its hour; traffic means that the workspace is in use.
pub(super) fn update(session: &Session, body: &[u8], reply: Reply) {
    let request: UpdateStatsRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    let traffic = request.stats.as_ref().map(traffic).filter(|traffic| !traffic.is_idle());
    let Some(traffic) = traffic else { return reply(Ok(answer(session))) };
    let (id, workspace, interval) = (session.agent, session.workspace, interval(session));
    write_report(session, reply, Some(answer(session)), move |write| {
        let now = Timestamp::now();
        stats::fold(write, id, now, &traffic)?;
        if traffic.connection_count > 0 {
            workspaces::used(write, workspace, now)?;
        }
        write.publish(Topic::Workspace(workspace));
        Ok(interval)
    });
}

/// Never zero: an agent that is told zero reports nothing any more (agent/stats.go, v2.24.0).
fn interval(session: &Session) -> UpdateStatsResponse {
    let every = session.app.settings.stats_interval;
    let seconds = i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(every.subsec_nanos()).unwrap_or_default();
    let every = if every.is_zero() { Duration { seconds: 1, nanos: 0 } } else { Duration { seconds, nanos } };
    UpdateStatsResponse { report_interval: Some(every) }
}

fn answer(session: &Session) -> Vec<u8> {
    interval(session).encode_to_vec()
}

fn traffic(stats: &Stats) -> Traffic {
    let mut traffic = Traffic {
        connection_count: stats.connection_count.max(0),
        rx_packets: stats.rx_packets.max(0),
        rx_bytes: stats.rx_bytes.max(0),
        tx_packets: stats.tx_packets.max(0),
        tx_bytes: stats.tx_bytes.max(0),
        sessions_ssh: stats.session_count_ssh.max(0),
        sessions_vscode: stats.session_count_vscode.max(0),
        sessions_jetbrains: stats.session_count_jetbrains.max(0),
        sessions_reconnecting_pty: stats.session_count_reconnecting_pty.max(0),
        latency_us: latency(stats.connection_median_latency_ms),
    };
    // From 2.11 on the four counters are zero and sessions are counted by the app's name.
    for (app, count) in &stats.session_counts {
        let family = match app.to_ascii_lowercase().replace('-', "_").as_str() {
            "vscode" | "vscode_insiders" | "cursor" | "windsurf" | "vscodium" => &mut traffic.sessions_vscode,
            "reconnecting_pty" => &mut traffic.sessions_reconnecting_pty,
            name if name.starts_with("jetbrains") => &mut traffic.sessions_jetbrains,
            _ => &mut traffic.sessions_ssh,
        };
        *family = family.saturating_add((*count).max(0));
    }
    traffic
}

/// Microseconds; −0.001 ms says that no peer answered.
fn latency(milliseconds: f64) -> Option<i64> {
    const DAY_MS: f64 = 86_400_000.0;
    if !(0.0..DAY_MS).contains(&milliseconds) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below a day in microseconds, checked above")]
    let microseconds = (milliseconds * 1_000.0) as i64;
    Some(microseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_nobody_for_no_latency() {
        assert_eq!(latency(-0.001), None);
        assert_eq!(latency(f64::NAN), None);
        assert_eq!(latency(f64::INFINITY), None);
        assert_eq!(latency(12.5), Some(12_500));
    }

    #[test]
    fn sees_that_only_latency_is_idle() {
        let quiet = Stats { connection_median_latency_ms: 3.0, ..Stats::default() };
        assert!(traffic(&quiet).is_idle());
        let negative = Stats { rx_bytes: -5, ..Stats::default() };
        assert!(traffic(&negative).is_idle());
        assert!(!traffic(&Stats { tx_bytes: 1, ..Stats::default() }).is_idle());
    }

    #[test]
    fn folds_named_sessions_into_their_families() {
        let counts = [("cursor", 2), ("vscode", 1), ("jetbrains", 3), ("ssh", 4), ("zed", 1), ("reconnecting-pty", 5)];
        let session_counts = counts.map(|(name, count)| (name.to_owned(), count)).into();
        let folded = traffic(&Stats { session_counts, ..Stats::default() });
        assert_eq!((folded.sessions_vscode, folded.sessions_jetbrains), (3, 3));
        assert_eq!((folded.sessions_ssh, folded.sessions_reconnecting_pty), (5, 5));
    }
}
