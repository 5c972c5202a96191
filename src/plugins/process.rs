//! A plugin's process and the way to it, neither of which the server waits for without end.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::frame::Frame;
use crate::ops::lock::lock;

/// How long a process may leave what it is sent unread. The thread that reads does nothing else, so one that does not is stopped
/// or up to something; without this end, it would hold the server's threads for good.
const READS_WITHIN: Duration = Duration::from_secs(10);
/// How often a blocked write looks at the clock.
const WRITE_SLICE: Duration = Duration::from_millis(200);
/// How long a process that has closed its socket may take to end by itself, in steps of 10 ms.
const END_STEPS: u32 = 50;

/// The process itself, ended and reaped once, by whoever sees its end first.
pub(super) struct Process {
    pub(super) pid: u32,
    child: Mutex<Child>,
    /// The server has ended it, or wants it to.
    unwanted: AtomicBool,
    ended: OnceLock<String>,
}

/// The one way to the process: frames never mix, and none waits for ever.
pub(super) struct Writer {
    turn: Mutex<()>,
    to: UnixStream,
}

/// A socket that gives up at an instant.
struct Patient<'a> {
    to: &'a UnixStream,
    until: Instant,
}

impl io::Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Looked at before each write, so that one byte now and then does not keep it going either.
        while Instant::now() < self.until {
            match (&mut &*self.to).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer {
    pub(super) fn new(to: UnixStream) -> io::Result<Writer> {
        to.set_write_timeout(Some(WRITE_SLICE))?;
        Ok(Writer { turn: Mutex::default(), to })
    }

    pub(super) fn send(&self, frame: &Frame) -> io::Result<()> {
        let _turn = lock(&self.turn);
        let sent = frame.write(&mut Patient { to: &self.to, until: Instant::now() + READS_WITHIN });
        if sent.is_err() {
            // Half a frame may have gone, so nothing more can.
            self.close();
        }
        sent
    }

    pub(super) fn close(&self) {
        let _ = self.to.shutdown(Shutdown::Both);
    }
}

impl Process {
    /// Starts the program's verb for plugins with this socket, and nothing else of the server's.
    pub(super) fn start(program: &Path, socket: UnixStream) -> io::Result<Process> {
        let child = Command::new(program)
            .arg0("moorline")
            .arg("plugin-host")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Process {
            pid: child.id(),
            child: Mutex::new(child),
            unwanted: AtomicBool::new(false),
            ended: OnceLock::new(),
        })
    }

    pub(super) fn kill(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
        let _ = lock(&self.child).kill();
    }

    /// Whether it ends because the server wants it to.
    pub(super) fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }

    /// How it ended, in words; it is killed if it goes on without its socket.
    pub(super) fn end(&self) -> &str {
        self.ended.get_or_init(|| {
            // It has closed its socket, so the rest is a matter of moments.
            for _ in 0..END_STEPS {
                if let Ok(Some(status)) = lock(&self.child).try_wait() {
                    return in_words(status);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let mut child = lock(&self.child);
            let _ = child.kill();
            let _ = child.wait();
            "stopped listening and was ended".to_owned()
        })
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = match signal {
                4 => " (illegal instruction)",
                6 => " (abort)",
                7 => " (bus error)",
                8 => " (arithmetic)",
                9 => " (killed)",
                11 => " (segmentation fault)",
                31 => " (forbidden system call)",
                _ => "",
            };
            format!("ended by signal {signal}{name}")
        }
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_write_ends_at_its_instant_however_slowly_it_goes_on() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        let begun = Instant::now();
        let mut patient = Patient { to: &ours, until: begun + Duration::from_millis(300) };
        let trickle = std::thread::spawn(move || {
            // Just enough to let one more write through now and then.
            let mut some = [0; 4_096];
            while theirs.read(&mut some).is_ok_and(|got| got > 0) {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let error = patient.write_all(&vec![0; 64 * 1024 * 1024]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= Duration::from_millis(300));
        drop(ours);
        trickle.join().unwrap();
    }
}
