//! A load generator that costs little itself: blocking sockets, requests written as bytes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// What a run of load gave.
pub struct Figures {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    pub failures: usize,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>8.0}/s  p50 {:>8.3?}  p99 {:>8.3?}", self.per_second, self.p50, self.p99)?;
        if self.failures > 0 {
            write!(f, "  {} FAILED", self.failures)?;
        }
        Ok(())
    }
}

/// Runs `connections` keep-alive connections for `time`; `request(connection, n)` gives the bytes of
/// each request. An answer other than 200 is a failure.
pub fn run(
    address: &str,
    connections: usize,
    time: Duration,
    request: impl Fn(usize, usize) -> Vec<u8> + Send + Sync + 'static,
) -> Figures {
    let request = Arc::new(request);
    let barrier = Arc::new(Barrier::new(connections + 1));
    let threads: Vec<_> = (0..connections)
        .map(|connection| {
            let (request, barrier, address) = (Arc::clone(&request), Arc::clone(&barrier), address.to_owned());
            std::thread::spawn(move || {
                let connect = || {
                    let socket = TcpStream::connect(&address).unwrap();
                    socket.set_nodelay(true).unwrap();
                    socket
                };
                let mut socket = connect();
                let mut buffer = vec![0; 64 * 1024];
                barrier.wait();
                let end = Instant::now() + time;
                let (mut took, mut failures) = (Vec::new(), 0);
                for n in 0.. {
                    let begun = Instant::now();
                    if begun >= end {
                        break;
                    }
                    socket.write_all(&request(connection, n)).unwrap();
                    let (status, closes) = read_answer(&mut socket, &mut buffer);
                    failures += usize::from(status != 200);
                    if closes {
                        socket = connect();
                    }
                    took.push(begun.elapsed());
                }
                (took, failures)
            })
        })
        .collect();
    barrier.wait();
    let begun = Instant::now();
    let (mut took, mut failures) = (Vec::new(), 0);
    for thread in threads {
        let (times, failed) = thread.join().unwrap();
        took.extend(times);
        failures += failed;
    }
    let elapsed = begun.elapsed();
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
    Figures { per_second: took.len() as f64 / elapsed.as_secs_f64(), p50: at(50), p99: at(99), failures }
}

/// The status, and whether the server closes the connection, as it does after an answer that had to be waited for.
fn read_answer(socket: &mut TcpStream, buffer: &mut [u8]) -> (u16, bool) {
    let mut filled = 0;
    loop {
        let read = socket.read(&mut buffer[filled..]).unwrap();
        assert!(read > 0, "the server closed the connection");
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let length: usize = text
            .lines()
            .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")))
            .map_or(0, |(_, value)| value.trim().parse().unwrap());
        let closes = text.to_ascii_lowercase().contains("\r\nconnection: close");
        let end = head + 4 + length;
        while filled < end {
            let read = socket.read(&mut buffer[filled..]).unwrap();
            assert!(read > 0, "the server closed the connection");
            filled += read;
        }
        return (status, closes);
    }
}
