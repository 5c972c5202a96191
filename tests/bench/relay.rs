//! The relay: CPU per GiB, packets per second, round trips, memory of idle connections, and the proof
//! that a packet allocates nothing.
//!
//! The server is a process of its own: this program again, with a small front of the same server that
//! knows the clients' keys without a coordinator.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use moorline::ops::jobs::Jobs;
use moorline::ops::mail::{Address, ConnId, Mail, Mailbox};
use moorline::streams::Out;
use moorline::streams::derp::By;
use moorline::wire::derp::{self, Greeting};
use uuid::Uuid;

use crate::harness::app;
use crate::harness::derp::{Client, Way, key, masked};
use crate::harness::front::Front;
use crate::{counting, process};

/// Keys that the server knows.
const KEYS: u32 = 2_000;
/// Packets of a pair under way.
const IN_FLIGHT: u64 = 64;
/// What one run of load takes.
const TIME: Duration = Duration::from_secs(3);
const IDLE: u32 = 500;
const ROUND_TRIPS: usize = 20_000;

/// The argument that makes this program the server.
pub const SERVER: &str = "relay-server";

/// Serves until its standard input ends.
pub fn serve() {
    let front = Front::start(&[], None);
    for number in 0..KEYS {
        front.app.keys.announce(Uuid::from_u128(u128::from(number) + 1), key(number).public());
    }
    println!("{}", front.address);
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(SERVER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { child, address: line.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run() {
    allocations(false);
    allocations(true);
    let server = Server::start();
    for way in [Way::Upgrade, Way::WebSocket] {
        for size in [1_200, 128] {
            for pairs in [1, 8] {
                flood(&server, way, size, pairs);
            }
        }
        round_trips(&server, way);
    }
    idle(&server);
}

/// What sender and receiver of a pair share.
#[derive(Default)]
struct Window {
    received: AtomicU64,
    waits: Mutex<()>,
    moved: Condvar,
    done: AtomicBool,
}

/// Each pair sends one way, one `write` per packet as real clients do, with a window under way.
fn flood(server: &Server, way: Way, size: usize, pairs: u32) {
    let mut threads = Vec::new();
    let mut windows = Vec::new();
    let cpu_before = process::cpu(server.child.id());
    let begun = Instant::now();
    for pair in 0..pairs {
        let (from, to) = (key(2 * pair), key(2 * pair + 1));
        let destination = to.public();
        let mut receiver = Client::connect(&server.address, way, to);
        let mut sender = Client::connect(&server.address, way, from);
        let window = Arc::new(Window::default());
        windows.push(Arc::clone(&window));
        let shared = Arc::clone(&window);
        let sends = std::thread::spawn(move || {
            let packet = vec![0x55; size];
            let mut frame = Vec::new();
            derp::send_packet(&destination, &packet, &mut frame);
            let frame = sender.encode(&frame);
            let mut sent = 0_u64;
            while !shared.done.load(Ordering::Relaxed) {
                if sent - shared.received.load(Ordering::Acquire) >= IN_FLIGHT {
                    let waits = shared.waits.lock().unwrap();
                    if sent - shared.received.load(Ordering::Acquire) >= IN_FLIGHT {
                        let _ = shared.moved.wait_timeout(waits, Duration::from_millis(50)).unwrap();
                    }
                    continue;
                }
                sender.socket.write_all(&frame).unwrap();
                sent += 1;
            }
            (sent, sender)
        });
        let receives = std::thread::spawn(move || {
            let head = 5 + 32 + size;
            let mut bytes = 0_u64;
            receiver.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let mut buffer = vec![0; 256 * 1024];
            let mut parser = Counter { way, ..Counter::default() };
            loop {
                match receiver.socket.read(&mut buffer) {
                    Ok(0) => panic!("the relay hung up"),
                    Ok(got) => {
                        bytes += parser.payload(&buffer[..got]);
                        let count = bytes / head as u64;
                        window.received.store(count, Ordering::Release);
                        drop(window.waits.lock().unwrap());
                        window.moved.notify_one();
                    }
                    Err(_) if window.done.load(Ordering::Relaxed) => break,
                    Err(_) => {}
                }
            }
            bytes / head as u64
        });
        threads.push((sends, receives));
    }
    std::thread::sleep(TIME);
    let elapsed = begun.elapsed();
    let delivered: u64 = windows.iter().map(|window| window.received.load(Ordering::Relaxed)).sum();
    let cpu = process::cpu(server.child.id()) - cpu_before;
    windows.iter().for_each(|window| window.done.store(true, Ordering::Relaxed));
    let (mut sent, mut received) = (0, 0);
    for (sends, receives) in threads {
        sent += sends.join().unwrap().0;
        received += receives.join().unwrap();
    }
    let gib = delivered as f64 * size as f64 / f64::from(1 << 30);
    println!(
        "relay {way:?} {size:>5} B, {pairs} pairs: {:>7.1} MiB/s {:>8.0} packets/s  {:>6.2} CPU s/GiB  lost {}",
        gib * 1024.0 / elapsed.as_secs_f64(),
        delivered as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() / gib,
        sent - received,
    );
}

/// Counts bytes of the protocol, without the heads of WebSocket frames.
struct Counter {
    way: Way,
    head: Vec<u8>,
    left: usize,
}

impl Default for Counter {
    fn default() -> Counter {
        Counter { way: Way::Upgrade, head: Vec::new(), left: 0 }
    }
}

impl Counter {
    fn payload(&mut self, mut bytes: &[u8]) -> u64 {
        if self.way != Way::WebSocket {
            return bytes.len() as u64;
        }
        let mut count = 0;
        while !bytes.is_empty() {
            let now = self.left.min(bytes.len());
            count += now as u64;
            self.left -= now;
            bytes = &bytes[now..];
            while self.left == 0 && !bytes.is_empty() {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                match self.head[..] {
                    [_, 126, a, b] => self.left = usize::from(u16::from_be_bytes([a, b])),
                    [_, length @ ..126] => self.left = usize::from(length),
                    _ => continue,
                }
                self.head.clear();
            }
        }
        count
    }
}

fn round_trips(server: &Server, way: Way) {
    let (one, other) = (key(100), key(101));
    let mut here = Client::connect(&server.address, way, one);
    let mut there = Client::connect(&server.address, way, other);
    let back = there.encode(&{
        let mut frame = Vec::new();
        derp::send_packet(&one.public(), &[2; 128], &mut frame);
        frame
    });
    let thread = std::thread::spawn(move || {
        for _ in 0..ROUND_TRIPS {
            there.received();
            there.socket.write_all(&back).unwrap();
        }
        there
    });
    let mut frame = Vec::new();
    derp::send_packet(&other.public(), &[1; 128], &mut frame);
    let frame = here.encode(&frame);
    let mut took = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        here.socket.write_all(&frame).unwrap();
        here.received();
        took.push(begun.elapsed());
    }
    thread.join().unwrap();
    took.sort_unstable();
    println!(
        "relay {way:?} round trip of 128 B: p50 {:.3} ms, p99 {:.3} ms",
        took[took.len() / 2].as_secs_f64() * 1e3,
        took[took.len() * 99 / 100].as_secs_f64() * 1e3
    );
}

fn idle(server: &Server) {
    let before = process::pss_kib(server.child.id());
    let clients: Vec<Client> =
        (0..IDLE).map(|number| Client::connect(&server.address, Way::Upgrade, key(1_000 + number))).collect();
    std::thread::sleep(Duration::from_secs(2));
    let after = process::pss_kib(server.child.id());
    println!("relay idle: {:.1} KiB a connection", (after as f64 - before as f64) / f64::from(IDLE));
    drop(clients);
}

/// Two connections in this thread: thousands of packets, not one allocation.
fn allocations(websocket: bool) {
    const PACKETS: u64 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let (jobs, _workers) = Jobs::start("rpc", 1, 1).unwrap();
    let app = app::app(app::settings(folder.path(), &[]), "http://127.0.0.1:1", jobs);
    let poll = mio::Poll::new().unwrap();
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let (sender, _mail) = std::sync::mpsc::sync_channel::<(ConnId, Mail)>(8);
    let mailbox = Mailbox::new(sender, waker);
    let now = Instant::now();
    let mut out = Out::default();
    let way = if websocket { Way::WebSocket } else { Way::FastStart };
    let encoder = |bytes: &[u8]| encode(way, bytes);
    let mut open = |number: u32, slot: u32| {
        let own = key(number);
        app.keys.announce(Uuid::from_u128(u128::from(slot) + 1), own.public());
        let place = app.relay.admit("10.0.0.1".parse().unwrap()).unwrap();
        let by = if websocket { By::WebSocket } else { By::Upgrade { fast_start: true } };
        let mut stream = moorline::streams::derp::connection(app.relay.clone(), by, place, 0);
        stream.open(now, Address { mailbox: mailbox.clone(), conn: ConnId { slot, generation: 0 } }, &mut out);
        let mut hello = Vec::new();
        Greeting::client_info(own, &app.relay.secret().public(), [1; 24], b"{}", &mut hello);
        stream.receive(now, &encoder(&hello), &mut out);
        out.bytes.clear();
        stream
    };
    let mut from = open(1, 0);
    let mut to = open(2, 1);
    let mut frame = Vec::new();
    derp::send_packet(&key(2).public(), &[5; 1_200], &mut frame);
    let packet = encoder(&frame);
    // Reads end in the middle of packets.
    let reads: Vec<u8> = packet.repeat(60);
    let (mut forwarded, mut before) = (0, 0);
    while forwarded < 2 * PACKETS {
        if forwarded >= PACKETS && before == 0 {
            before = counting::allocations();
        }
        for piece in reads.chunks(9_999) {
            out.bytes.clear();
            out.wake.clear();
            from.receive(now, piece, &mut out);
            forwarded += out.packets;
            out.packets = 0;
            if !out.wake.is_empty() {
                out.bytes.clear();
                to.woken(now, &mut out);
            }
        }
    }
    let made = counting::allocations() - before;
    println!("relay {way:?}: {made} allocations for {PACKETS} packets");
    assert_eq!(made, 0);
    from.closed();
    to.closed();
}

fn encode(way: Way, bytes: &[u8]) -> Vec<u8> {
    if way == Way::WebSocket { masked(bytes) } else { bytes.to_vec() }
}
