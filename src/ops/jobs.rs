//! A named pool of threads with a bounded queue, for work that may wait.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// Submits work to a pool. Cloning gives another handle to the same pool.
#[derive(Clone)]
pub struct Jobs {
    sender: SyncSender<Job>,
}

/// The threads of a pool; they end when every [`Jobs`] handle is gone.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Jobs {
    /// Starts `threads` threads named `NAME-0`, `NAME-1`, … behind a queue of `depth` jobs.
    pub fn start(name: &str, threads: usize, depth: usize) -> std::io::Result<(Jobs, Workers)> {
        let (sender, receiver) = sync_channel(depth);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut handles = Vec::with_capacity(threads);
        for index in 0..threads {
            let receiver = Arc::clone(&receiver);
            handles.push(Builder::new().name(format!("{name}-{index}")).spawn(move || work(&receiver))?);
        }
        Ok((Jobs { sender }, Workers { threads: handles }))
    }

    /// Queues a job. When the queue is full the job is dropped unrun: the caller keeps what it needs to
    /// submit it again, or refuses its peer. Never waits, so a loop may call it.
    pub fn try_submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), QueueFull> {
        match self.sender.try_send(Box::new(job)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(QueueFull),
        }
    }
}

/// The pool has as much waiting work as it may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueFull;

impl Workers {
    /// Waits until the queue is empty and every thread has ended. Drop all [`Jobs`] handles first.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a worker thread ended by a panic");
            }
        }
    }
}

fn work(receiver: &Mutex<Receiver<Job>>) {
    loop {
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // A job that panics must not take its thread along; the panic hook has logged it.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}
