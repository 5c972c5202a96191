//! Cold start, idle memory, size of the program.

use std::time::{Duration, Instant};

use crate::harness::Server;
use crate::harness::http::Client;
use crate::process;

/// Starts of each kind; the median counts.
const STARTS: usize = 11;

fn first_answer(server: &Server, begun: Instant) -> Duration {
    let mut client = Client::connect(&server.address).unwrap();
    assert_eq!(client.get("/api/v2/buildinfo").unwrap().status, 200);
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

pub fn run() {
    let (mut fresh, mut existing) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..STARTS {
        let begun = Instant::now();
        let mut server = Server::start();
        fresh.push(first_answer(&server, begun));
        server.kill();
        let begun = Instant::now();
        server.restart();
        existing.push(first_answer(&server, begun));
        last = Some(server);
    }
    println!("start   fresh file        {:>8.1?} to the first answer (median of {STARTS})", median(fresh));
    println!("start   existing file     {:>8.1?} to the first answer, after kill -9", median(existing));
    let server = last.unwrap();
    std::thread::sleep(Duration::from_secs(2)); // what is idle shows only after a while
    println!(
        "start   idle memory       {:>8.1} MiB PSS, {} threads",
        process::pss_kib(server.pid()) as f64 / 1024.0,
        process::threads(server.pid())
    );
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_moorline")).unwrap().len();
    println!("start   program           {:>8.1} MiB", size as f64 / 1024.0 / 1024.0);
}
