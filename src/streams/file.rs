//! Sending a file: its bytes are read in the `rpc` pool, one piece ahead of what the client takes.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Out, Stream, errand};
use crate::config::limits::{DOWNLOAD_GRACE, DOWNLOAD_PIECE_BYTES, DOWNLOAD_RATE_MIN};
use crate::domain::programs::Program;
use crate::domain::{Error, Fault, Shared};
use crate::ops::mail::{Address, Mail, Outcome};
use crate::ops::places::Place;

/// What a download holds while it lasts: one of all places, and one of its address.
pub type Held = (Place<()>, Place<String>);

/// Answers with `head`, then the bytes of `program` in `range`, then the end of the connection. What the
/// head promised is never made up: a file that changes meanwhile ends the connection early.
pub fn send(app: Shared, program: Program, range: Range<u64>, head: Vec<u8>, places: Held) -> Box<dyn Stream> {
    Box::new(Send {
        app,
        program: Arc::new(program),
        range,
        head,
        places: Some(places),
        address: None,
        reading: false,
        read: None,
        retry: None,
        due: Instant::now(),
    })
}

struct Send {
    app: Shared,
    program: Arc<Program>,
    /// What was not read yet.
    range: Range<u64>,
    head: Vec<u8>,
    places: Option<Held>,
    address: Option<Address>,
    /// A piece is being read in the pool.
    reading: bool,
    /// Read ahead, while the client takes what was before it.
    read: Option<Vec<u8>>,
    /// When to ask the pool again that was full.
    retry: Option<Instant>,
    /// When a client has been too slow for too long.
    due: Instant,
}

impl Send {
    /// Has the next piece read, if there is one and room for it.
    fn ask(&mut self, now: Instant) {
        let Some(address) = &self.address else { return };
        if self.reading || self.read.is_some() || self.range.is_empty() {
            return;
        }
        let (program, at) = (Arc::clone(&self.program), self.range.start);
        let left = usize::try_from(self.range.end - at).unwrap_or(usize::MAX);
        let most = left.min(DOWNLOAD_PIECE_BYTES);
        let work = move || {
            program.read(at, most).map_err(|error| {
                Error::new(Fault::Internal, format!("{} cannot be sent any further.", program.name()))
                    .detail(error.to_string())
            })
        };
        self.reading = errand::submit(&self.app.jobs, address, 0, work).is_ok();
        self.retry = (!self.reading).then(|| now + errand::QUEUE_PAUSE);
    }

    fn give(&mut self, bytes: &[u8], now: Instant, out: &mut Out) {
        out.bytes.extend_from_slice(bytes);
        out.finish = self.range.is_empty() && !self.reading;
        self.ask(now);
    }
}

impl Stream for Send {
    fn open(&mut self, now: Instant, address: Address, out: &mut Out) {
        self.app.metrics.downloads.inc();
        self.address = Some(address);
        let seconds = self.range.end.saturating_sub(self.range.start) / DOWNLOAD_RATE_MIN;
        self.due = now + DOWNLOAD_GRACE + Duration::from_secs(seconds);
        let head = std::mem::take(&mut self.head);
        self.give(&head, now, out);
    }

    /// Whatever else the client asks is not answered on this connection, which its head has said.
    fn receive(&mut self, _now: Instant, _bytes: &[u8], _out: &mut Out) {}

    fn wants_input(&self) -> bool {
        false
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        match mail {
            Mail::Done { outcome: Outcome::Value(value), .. } => {
                self.reading = false;
                let Ok(bytes) = value.downcast::<Vec<u8>>() else { return };
                self.range.start += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if out.backlog == 0 {
                    self.give(&bytes, now, out);
                } else {
                    self.read = Some(*bytes);
                }
            }
            Mail::Done { outcome: Outcome::Busy(pause), .. } => {
                self.reading = false;
                self.retry = Some(now + pause);
            }
            Mail::Done { outcome: Outcome::Failed { text, .. }, .. } => {
                log::warn!("a download was ended: {text}");
                out.abort = true;
            }
            Mail::Close { .. } => out.abort = true,
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.retry.map_or(self.due, |retry| retry.min(self.due)))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        if now >= self.due {
            log::info!("a download was ended: its client is too slow");
            out.abort = true;
        } else if self.retry.is_some_and(|retry| now >= retry) {
            self.ask(now);
        }
    }

    fn drained(&mut self, now: Instant, out: &mut Out) {
        if let Some(bytes) = self.read.take() {
            self.give(&bytes, now, out);
        }
    }

    /// The client sees that bytes are missing and may ask for them at the next server.
    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        out.abort = true;
    }

    fn closed(&mut self) {
        if self.address.take().is_some() {
            self.app.metrics.downloads.dec();
        }
        self.places = None;
    }
}
