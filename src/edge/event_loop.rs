//! One event loop: readiness, mail and time for the connections it owns.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Waker};

use super::conn::{Conn, Context, Fate};
use super::flow;
use super::listener::{Acceptor, Arrival, Peer};
use super::relay::Relay;
use super::slab::{Slab, conn_of, other_of, other_token, token};
use super::timers::Timers;
use super::transport::{Scratch, Transport};
use super::{Shared, driven::Driven};
use crate::ops::mail::{ConnId, MAILBOX_LETTERS, Mail, Mailbox};
use crate::streams::Out;

/// Indices of tokens that are not connections'.
const WAKER: usize = 0;
/// The listeners.
pub(super) const FIRST_LISTENER: usize = 1;
/// The private connections to the workers.
const FIRST_UPSTREAM: usize = 1 << 20;
/// Events taken from the kernel at once.
const EVENTS: usize = 1_024;
/// Letters handed out in a round.
const ROUND_LETTERS: usize = 4_096;
/// No deadline comes up sooner than this after its connection's turn.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// What other threads tell a loop.
pub(super) enum Command {
    /// A connection that the first loop has accepted.
    Adopt(Box<Arrival>),
    /// A connection whose stream is to begin and live here.
    Gather(Box<Conn>),
    /// Stop; whatever is open then is dropped.
    Stop(Instant),
}

/// Where a loop is reached.
pub(super) struct Handle {
    sender: Sender<Command>,
    waker: Arc<Waker>,
    pub(super) load: Arc<AtomicUsize>,
}

impl Handle {
    /// Tells the loop. One that has ended drops what it is told.
    pub(super) fn send(&self, command: Command) {
        if self.sender.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::error!("a loop cannot be woken: {error}");
        }
    }
}

/// A loop, before and while it runs.
pub(super) struct Loop {
    poll: Poll,
    pub(super) registry: Registry,
    pub(super) conns: Slab<Conn>,
    timers: Timers,
    pub(super) cx: Context,
    commands: Receiver<Command>,
    letters: Receiver<(ConnId, Mail)>,
    /// More letters than a round hands out.
    letters_left: bool,
    /// Connections with more to do.
    again: Vec<ConnId>,
    /// Connections that own a slot here; read by the loop that accepts.
    pub(super) load: Arc<AtomicUsize>,
    acceptor: Option<Acceptor>,
    /// Hands its connections out to others.
    peers: Option<Arc<[Handle]>>,
    /// All loops; on the last one, streams gather that exchange packets.
    pub(super) all: Option<Arc<[Handle]>>,
    stop: Option<Instant>,
    /// Kept alive: without a handle to it the queue would count as abandoned.
    _waker: Arc<Waker>,
}

impl Loop {
    pub(super) fn new(shared: &Arc<Shared>, upstream: PathBuf, connections: usize) -> io::Result<(Loop, Handle)> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Arc::new(Waker::new(&registry, other_token(WAKER))?);
        let (sender, commands) = channel();
        let (mail, letters) = sync_channel(MAILBOX_LETTERS);
        let load = Arc::new(AtomicUsize::new(0));
        let relay = Relay::new(
            upstream,
            shared.secret.clone(),
            connections,
            shared.limits.waiting_requests,
            FIRST_UPSTREAM,
            shared.budget.clone(),
            poll.registry().try_clone()?,
        );
        let cx = Context {
            shared: Arc::clone(shared),
            relay,
            scratch: Scratch::new(),
            out: Out::default(),
            mailbox: Mailbox::new(mail, Arc::clone(&waker)),
            woken: Vec::new(),
            flows: flow::Flows::default(),
            gathers_elsewhere: false,
            now: Instant::now(),
            stopping: false,
        };
        let handle = Handle { sender, waker: Arc::clone(&waker), load: Arc::clone(&load) };
        let made = Loop {
            poll,
            registry,
            conns: Slab::new(),
            timers: Timers::default(),
            cx,
            commands,
            letters,
            letters_left: false,
            again: Vec::new(),
            load,
            acceptor: None,
            peers: None,
            all: None,
            stop: None,
            _waker: waker,
        };
        Ok((made, handle))
    }

    /// Makes this the loop that accepts, for itself and for `peers`.
    pub(super) fn accept_with(
        &mut self,
        make: impl FnOnce(&Registry) -> io::Result<Acceptor>,
        peers: Arc<[Handle]>,
    ) -> io::Result<()> {
        self.acceptor = Some(make(&self.registry)?);
        self.peers = Some(peers);
        Ok(())
    }

    /// Tells the loop of all others, and which of them it is.
    pub(super) fn gather_on_last(&mut self, all: Arc<[Handle]>, own: usize) {
        self.cx.gathers_elsewhere = own + 1 != all.len();
        self.all = Some(all);
    }

    /// Runs until it was told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.timeout();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("an event loop cannot wait for events and ends: {error}");
                return;
            }
            self.cx.now = Instant::now();
            for event in &events {
                match (conn_of(event.token()), other_of(event.token())) {
                    (Some(id), _) => self.with(id, |conn, cx| conn.on_event(event, cx)),
                    (None, Some(index)) if index >= FIRST_UPSTREAM => {
                        self.cx.relay.on_event(index - FIRST_UPSTREAM, event, self.cx.now);
                    }
                    (None, Some(index)) if index >= FIRST_LISTENER => {
                        if let Some(acceptor) = self.acceptor.as_mut() {
                            acceptor.on_event(index - FIRST_LISTENER);
                        }
                    }
                    // The waker: its mail is looked for in every round.
                    _ => {}
                }
            }
            for id in std::mem::take(&mut self.again) {
                self.with(id, Conn::run);
            }
            self.hand_out_letters();
            self.keep_time();
            self.accept();
            self.obey();
            self.hand_out_answers();
            self.wake_streams();
            if self.stop.is_some_and(|until| self.conns.len() == 0 || until <= self.cx.now) {
                return;
            }
            if self.cx.flows.is_dense(self.cx.now) {
                std::thread::sleep(flow::PAUSE);
            }
        }
    }

    /// How long to wait for events.
    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() || self.letters_left || !self.cx.woken.is_empty() {
            return Some(Duration::ZERO);
        }
        let accept = self.acceptor.as_ref().and_then(|acceptor| acceptor.due(self.cx.now));
        let due = [self.timers.next(), self.cx.relay.deadline(), accept, self.stop].into_iter().flatten().min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Gives a connection its turn and does what comes of it.
    pub(super) fn with(&mut self, id: ConnId, turn: impl FnOnce(&mut Conn, &mut Context) -> Fate) {
        let Some(mut conn) = self.conns.take(id) else { return };
        // A fault in one connection must not end the others of this loop.
        let fate = catch_unwind(AssertUnwindSafe(|| turn(&mut conn, &mut self.cx))).unwrap_or_else(|_| {
            log::error!("a connection panicked and was dropped");
            Fate::Gone
        });
        match fate {
            Fate::Gone => {
                if conn.is_waiting() {
                    self.cx.relay.forget(id);
                }
                self.conns.free(id);
                self.load.fetch_sub(1, Ordering::Relaxed);
                drop(conn);
                return;
            }
            Fate::Elsewhere => return self.send_to_last(id, conn),
            Fate::Again => self.again.push(id),
            Fate::Stay => {}
        }
        // A stream that asks for a time gone by must not keep the loop from everything else.
        let deadline = conn.deadline(&self.cx.shared).map(|due| due.max(self.cx.now + SHORTEST_WAIT));
        self.timers.arm(id, &mut conn.armed, deadline);
        self.conns.put(id, conn);
    }

    fn hand_out_letters(&mut self) {
        let mut in_line = Vec::new();
        self.letters_left = true;
        for _ in 0..ROUND_LETTERS {
            let Ok((id, mail)) = self.letters.try_recv() else {
                self.letters_left = false;
                break;
            };
            self.with(id, |conn, cx| {
                if !std::mem::replace(&mut conn.in_line, true) {
                    in_line.push(id);
                }
                conn.on_mail(mail, cx)
            });
        }
        // What several letters made a stream write goes out together.
        for id in in_line {
            self.with(id, |conn, cx| {
                conn.in_line = false;
                conn.run(cx)
            });
        }
    }

    fn hand_out_answers(&mut self) {
        while let Some(answer) = self.cx.relay.answers.pop() {
            let (conn, id) = (answer.conn, answer.id);
            let mut answer = Some(answer);
            self.with(conn, |conn, cx| match answer.take() {
                Some(answer) => conn.on_answer(answer, cx),
                None => Fate::Stay,
            });
            // The client is gone: a stream made for it ends before it began.
            if answer.is_some()
                && let Some(start) = self.cx.shared.arrivals.take(id)
            {
                drop(Driven::new(start.into_stream(), Arc::clone(&self.cx.shared)));
            }
        }
    }

    fn keep_time(&mut self) {
        while let Some((at, id)) = self.timers.pop(self.cx.now) {
            self.with(id, |conn, cx| {
                if conn.armed != Some(at) {
                    return Fate::Stay;
                }
                conn.armed = None;
                if conn.deadline(&cx.shared).is_some_and(|due| due <= cx.now) { conn.on_time(cx) } else { Fate::Stay }
            });
        }
        self.cx.relay.tick(self.cx.now);
    }

    fn accept(&mut self) {
        let Some(acceptor) = self.acceptor.as_mut() else { return };
        let mut arrivals = Vec::new();
        acceptor.accept(self.cx.now, &mut arrivals);
        for arrival in arrivals {
            let lightest = self.peers.as_ref().and_then(|peers| {
                peers.iter().min_by_key(|peer| peer.load.load(Ordering::Relaxed)).map(|peer| (peers, peer))
            });
            match lightest {
                Some((_, peer)) if !Arc::ptr_eq(&peer.load, &self.load) => {
                    peer.load.fetch_add(1, Ordering::Relaxed);
                    peer.send(Command::Adopt(Box::new(arrival)));
                }
                _ => {
                    self.load.fetch_add(1, Ordering::Relaxed);
                    self.adopt(arrival);
                }
            }
        }
    }

    /// Takes in a connection, which is counted in `load` already.
    fn adopt(&mut self, arrival: Arrival) {
        let Arrival { socket, peer, admission } = arrival;
        let tls = match (&self.cx.shared.tls, &peer) {
            (Some(tls), Peer::Client(_)) => match tls.session() {
                Ok(session) => Some(session),
                Err(error) => {
                    log::error!("a TLS session cannot be made: {error}");
                    self.load.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
            },
            _ => None,
        };
        let mut io = Transport::new(socket, tls);
        let id = self.conns.reserve();
        if let Err(error) = io.register(&self.registry, token(id)) {
            log::error!("a connection cannot be watched: {error}");
            self.conns.free(id);
            self.load.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let conn = Box::new(Conn::new(id, io, peer, admission, &self.cx));
        self.conns.put(id, conn);
        self.with(id, |_, _| Fate::Stay);
    }

    fn obey(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Adopt(_) if self.stop.is_some() => {
                    self.load.fetch_sub(1, Ordering::Relaxed);
                }
                Command::Adopt(arrival) => self.adopt(*arrival),
                Command::Gather(conn) => self.gather(conn),
                Command::Stop(until) => {
                    self.stop = Some(self.stop.map_or(until, |stop| stop.min(until)));
                    self.cx.stopping = true;
                    self.acceptor = None;
                    for id in self.conns.ids() {
                        self.with(id, Conn::on_stop);
                    }
                }
            }
        }
    }
}
