//! What the main thread does while the server runs: signals, the service manager, certificates, regions.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant, SystemTime};

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::running::Running;
use crate::cli::Failure;
use crate::cli::context::Context;

/// Time between two looks at the certificate files.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(5);
/// Time between two looks at what the edge has counted.
const COUNT: Duration = Duration::from_secs(5);
/// After a start, agents get this long to come back before they are written down as gone: twice the
/// time after which a silent one counts as gone, and longer than their longest pause between two tries.
const RETURN: Duration = Duration::from_secs(60);
/// Signals that wait to be looked at.
const EVENTS: usize = 8;

/// Signals as they come in.
pub(super) fn events() -> Result<Receiver<i32>, Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = sync_channel(EVENTS);
    Builder::new().name("signals".into()).spawn(move || {
        let mut asked_to_stop = false;
        for signal in signals.forever() {
            let stop = signal != SIGHUP;
            if stop && asked_to_stop {
                log::error!("asked twice to stop: the orderly stop is cut short");
                std::process::exit(1);
            }
            asked_to_stop |= stop;
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Serves until SIGTERM or SIGINT comes.
pub(super) fn until_stopped(events: &Receiver<i32>, running: &Running, context: &Context) {
    notify(&[NotifyState::Ready]);
    // A manager that asks for signs of life wants them twice as often as it looks.
    let pulse = sd_notify::watchdog_enabled().map(|period| period / 2);
    let look = running.certificates().map(|_| CERTIFICATE_LOOK);
    let mut seen = running.certificates().map(stamps);
    let mut next_pulse = pulse.map(|period| Instant::now() + period);
    let mut next_look = look.map(|period| Instant::now() + period);
    let mut next_count = Instant::now() + COUNT;
    let mut settle = Some(Instant::now() + RETURN);
    loop {
        let until = [next_pulse, next_look].into_iter().flatten().fold(next_count, Instant::min);
        let event = events.recv_timeout(until.saturating_duration_since(Instant::now()));
        match event {
            Ok(SIGHUP) => {
                running.reload_tls();
                running.reload_regions(context.again());
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        if next_pulse.is_some_and(|at| at <= now) {
            notify(&[NotifyState::Watchdog]);
            next_pulse = pulse.map(|period| now + period);
        }
        if next_count <= now {
            running.count();
            next_count = now + COUNT;
        }
        if settle.is_some_and(|at| at <= now) {
            settle = None;
            running.settle_absent();
        }
        if next_look.is_some_and(|at| at <= now) {
            let found = running.certificates().map(stamps);
            if found != seen {
                seen = found;
                running.reload_tls();
            }
            next_look = look.map(|period| now + period);
        }
    }
    log::info!("stopping");
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    // Without a service manager it does nothing, and says so by `Ok`.
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told: {error}");
    }
}

type Stamp = Option<(SystemTime, u64)>;

/// When both files were last written, and their sizes; a file that is away for a moment has none.
fn stamps((certificate, key): &(std::path::PathBuf, std::path::PathBuf)) -> (Stamp, Stamp) {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    (stamp(certificate), stamp(key))
}
