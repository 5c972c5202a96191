//! The `http-N` threads and the tiny_http server that feeds them.
//!
//! tiny_http stops accepting for good when one accept fails, say for want of file descriptors (0.12
//! lib.rs). What it has accepted goes on, so the threads stay with it, and a second server with
//! threads of its own takes the listener over as soon as descriptors are to be had again.

use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::Service;

/// Servers opened at most, the first included; each keeps its threads. More means that the listener
/// itself is broken.
const SERVERS: usize = 32;

/// How often a server that could not accept looks for file descriptors.
const RETRY: Duration = Duration::from_millis(100);

/// The running workers.
pub struct Rest {
    inner: Arc<Inner>,
}

struct Inner {
    service: Service,
    listener: UnixListener,
    threads: usize,
    stopping: AtomicBool,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    /// Kept until the end: a server that is dropped removes the socket's name.
    servers: Vec<Arc<tiny_http::Server>>,
    threads: Vec<JoinHandle<()>>,
}

impl Rest {
    pub(super) fn start(service: Service, listener: UnixListener, threads: usize) -> std::io::Result<Rest> {
        let running = Mutex::default();
        let inner = Inner { service, listener, threads: threads.max(1), stopping: AtomicBool::new(false), running };
        let inner = Arc::new(inner);
        open(&inner)?;
        Ok(Rest { inner })
    }

    /// Answers what is being worked on, then ends the workers.
    pub fn stop(self) {
        self.inner.stopping.store(true, Ordering::Release);
        loop {
            let threads = {
                let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
                for server in &running.servers {
                    (0..self.inner.threads).for_each(|_| server.unblock());
                }
                std::mem::take(&mut running.threads)
            };
            // A worker may have opened another server meanwhile.
            if threads.is_empty() {
                return;
            }
            for thread in threads {
                if thread.join().is_err() {
                    log::error!("an http worker ended by a panic");
                }
            }
        }
    }
}

/// Opens a server on the listener and starts its workers.
fn open(inner: &Arc<Inner>) -> std::io::Result<()> {
    let listener = inner.listener.try_clone()?;
    let server = Arc::new(tiny_http::Server::from_listener(listener, None).map_err(std::io::Error::other)?);
    let mut running = inner.running.lock().unwrap_or_else(PoisonError::into_inner);
    if running.servers.len() >= SERVERS {
        return Err(std::io::Error::other("it was opened too often; restart the server"));
    }
    running.servers.push(Arc::clone(&server));
    for _ in 0..inner.threads {
        let (inner, server) = (Arc::clone(inner), Arc::clone(&server));
        let worker = Builder::new().name(format!("http-{}", running.threads.len()));
        running.threads.push(worker.spawn(move || work(&inner, &server))?);
    }
    Ok(())
}

fn work(inner: &Arc<Inner>, server: &tiny_http::Server) {
    loop {
        match server.recv() {
            Ok(request) => {
                // Handlers' panics are answered; this is for tiny_http's own.
                let served = catch_unwind(AssertUnwindSafe(|| super::serve(&inner.service, request)));
                if served.is_err() {
                    log::error!("a request was lost to a panic");
                }
            }
            Err(_) if inner.stopping.load(Ordering::Acquire) => return,
            Err(error) => reopen(inner, &error),
        }
    }
}

fn reopen(inner: &Arc<Inner>, error: &std::io::Error) {
    log::error!("the private socket cannot accept ({error}); it is opened again");
    while !inner.stopping.load(Ordering::Acquire) {
        std::thread::park_timeout(RETRY);
        // One descriptor for the listener, one for the next connection.
        if inner.listener.try_clone().is_ok_and(|first| first.try_clone().is_ok()) {
            if let Err(error) = open(inner) {
                log::error!("the private socket cannot be opened again: {error}");
            }
            return;
        }
    }
}
