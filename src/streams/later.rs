//! A connection that waits for its answer, which somebody else is finding.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Out, Stream};
use crate::config::limits::PARKED_PATIENCE;
use crate::ops::mail::{Address, Mail, Outcome};
use crate::ops::places::Place;

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instead {
    /// Nobody has begun with it.
    Refused,
    /// The server stops.
    Stopping,
    /// Nothing came in time.
    Late,
    /// Whoever was at it has failed.
    Failed,
}

/// Writes the whole HTTP answer of a request that has no other.
pub type Stopgap = Box<dyn Fn(Instead) -> Vec<u8> + Send + Sync>;

/// The connection, and the duty to answer it. `place` is given back when neither is left.
pub fn park(stopgap: Stopgap, place: Place<()>) -> (Box<dyn Stream>, Duty) {
    let parked = Arc::new(Parked { state: Mutex::new(State::Unopened), stopgap, _place: place });
    let stream = Waiting { parked: Arc::clone(&parked), due: Instant::now() + PARKED_PATIENCE };
    (Box::new(stream), Duty { parked, begun: false })
}

struct Parked {
    state: Mutex<State>,
    stopgap: Stopgap,
    _place: Place<()>,
}

enum State {
    /// The edge has not handed the connection over yet.
    Unopened,
    /// The connection waits there.
    Open(Address),
    /// The answer waits for the connection.
    Given(Vec<u8>),
    /// It was answered, or there is nobody left to answer.
    Over,
}

impl Parked {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_waiting(&self) -> bool {
        matches!(*self.lock(), State::Unopened | State::Open(_))
    }

    fn give(&self, bytes: Vec<u8>) {
        let address = {
            let mut state = self.lock();
            match std::mem::replace(&mut *state, State::Over) {
                State::Unopened => {
                    *state = State::Given(bytes);
                    return;
                }
                State::Open(address) => {
                    *state = State::Given(bytes);
                    address
                }
                State::Given(first) => {
                    *state = State::Given(first);
                    return;
                }
                State::Over => return,
            }
        };
        address.post(Mail::Done { tag: 0, outcome: Outcome::Value(Box::new(())) });
    }
}

/// The duty to answer; dropping it answers with a stopgap. Not for loops: posting may wait.
pub struct Duty {
    parked: Arc<Parked>,
    begun: bool,
}

impl Duty {
    /// From here on, going without an answer is a failure.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Answers with a whole HTTP answer.
    pub fn give(self, bytes: Vec<u8>) {
        self.parked.give(bytes);
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if self.parked.is_waiting() {
            let instead = if self.begun { Instead::Failed } else { Instead::Refused };
            self.parked.give((self.parked.stopgap)(instead));
        }
    }
}

struct Waiting {
    parked: Arc<Parked>,
    due: Instant,
}

impl Waiting {
    /// Writes the answer if it is there.
    fn look(&self, out: &mut Out) {
        let mut state = self.parked.lock();
        if matches!(*state, State::Given(_))
            && let State::Given(bytes) = std::mem::replace(&mut *state, State::Over)
        {
            out.bytes.extend_from_slice(&bytes);
            out.finish = true;
        }
    }

    /// Writes this unless the answer is there.
    fn give_up(&self, instead: Instead, out: &mut Out) {
        self.look(out);
        if !out.finish {
            *self.parked.lock() = State::Over;
            out.bytes.extend_from_slice(&(self.parked.stopgap)(instead));
            out.finish = true;
        }
    }
}

impl Stream for Waiting {
    fn open(&mut self, _now: Instant, address: Address, out: &mut Out) {
        {
            let mut state = self.parked.lock();
            if matches!(*state, State::Unopened) {
                *state = State::Open(address);
            }
        }
        self.look(out);
    }

    /// The answer ends the connection, so whatever else the client asks it must ask again.
    fn receive(&mut self, _now: Instant, _bytes: &[u8], _out: &mut Out) {}

    fn mail(&mut self, _now: Instant, mail: Mail, out: &mut Out) {
        if matches!(mail, Mail::Done { .. }) {
            self.look(out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.due)
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        if now >= self.due {
            self.give_up(Instead::Late, out);
        }
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.give_up(Instead::Stopping, out);
    }

    fn closed(&mut self) {
        *self.parked.lock() = State::Over;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use std::sync::mpsc::{Receiver, sync_channel};

    use mio::{Poll, Token, Waker};

    use super::*;
    use crate::ops::mail::{ConnId, Mailbox};
    use crate::ops::places::Places;

    type Letters = Receiver<(ConnId, Mail)>;

    fn parked(places: &Places<()>) -> (Box<dyn Stream>, Duty) {
        park(Box::new(|instead| format!("{instead:?}").into_bytes()), places.take((), 1).unwrap())
    }

    fn address() -> (Address, Letters, Poll) {
        let (sender, letters) = sync_channel(4);
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        (Address { mailbox: Mailbox::new(sender, waker), conn: ConnId { slot: 0, generation: 0 } }, letters, poll)
    }

    fn open(stream: &mut dyn Stream) -> (Out, Letters, Poll) {
        let (address, letters, poll) = address();
        let mut out = Out::default();
        stream.open(Instant::now(), address, &mut out);
        (out, letters, poll)
    }

    fn deliver(stream: &mut dyn Stream, letters: &Letters) -> Out {
        let mut out = Out::default();
        let (_, mail) = letters.try_recv().expect("a letter");
        stream.mail(Instant::now(), mail, &mut out);
        out
    }

    #[test]
    fn an_answer_arrives_before_or_after_the_connection() {
        let places = Places::default();
        let (mut stream, duty) = parked(&places);
        duty.give(b"early".to_vec());
        let (out, ..) = open(stream.as_mut());
        assert_eq!((out.bytes.as_slice(), out.finish), (b"early".as_slice(), true));
        drop(stream);
        let (mut stream, duty) = parked(&places);
        let (out, letters, _poll) = open(stream.as_mut());
        assert!(out.bytes.is_empty() && !out.finish);
        duty.give(b"after".to_vec());
        let out = deliver(stream.as_mut(), &letters);
        assert_eq!((out.bytes.as_slice(), out.finish), (b"after".as_slice(), true));
    }

    #[test]
    fn without_an_answer_there_is_one_all_the_same() {
        let places = Places::default();
        let answer_after = |act: &dyn Fn(&mut dyn Stream, Duty, &mut Out)| {
            let (mut stream, duty) = parked(&places);
            let (mut out, letters, _poll) = open(stream.as_mut());
            act(stream.as_mut(), duty, &mut out);
            while let Ok((_, mail)) = letters.try_recv() {
                stream.mail(Instant::now(), mail, &mut out);
            }
            assert!(out.finish);
            String::from_utf8(out.bytes).unwrap()
        };
        assert_eq!(answer_after(&|_, duty, _| drop(duty)), "Refused");
        assert_eq!(
            answer_after(&|_, mut duty, _| {
                duty.begin();
                drop(duty);
            }),
            "Failed"
        );
        assert_eq!(
            answer_after(&|stream, duty, out| {
                stream.shutdown(Instant::now(), out);
                duty.give(b"too late".to_vec());
            }),
            "Stopping"
        );
        assert_eq!(answer_after(&|stream, _duty, out| stream.tick(Instant::now() + PARKED_PATIENCE * 2, out)), "Late");
    }

    #[test]
    fn a_client_that_goes_away_keeps_its_place_while_the_work_lasts() {
        let places = Places::default();
        let (mut stream, duty) = parked(&places);
        let (_out, letters, _poll) = open(stream.as_mut());
        stream.closed();
        drop(stream);
        assert!(places.take((), 1).is_none());
        duty.give(b"unheard".to_vec());
        assert!(letters.try_recv().is_err());
        assert!(places.take((), 1).is_some());
    }
}
