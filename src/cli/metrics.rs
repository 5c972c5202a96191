//! OpenMetrics on a port of its own, for scrapers that cannot use the admin socket.
//!
//! One scrape at a time on a thread of its own, apart from the edge: it works while the edge is
//! full, and shows nothing but `GET /metrics`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::domain::Shared;

/// Time for a whole scrape: the next one waits that long behind a dead one.
const SCRAPE_DEADLINE: Duration = Duration::from_secs(3);
/// Largest request head, bytes.
const HEAD_BYTES: usize = 8 * 1024;
/// Pause after a failed accept, which would otherwise fail again at once (no free descriptor).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The thread; ends when dropped.
pub(super) struct MetricsDoor {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsDoor {
    pub(super) fn start(listener: TcpListener, app: Shared) -> std::io::Result<MetricsDoor> {
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = Builder::new().name("metrics".into()).spawn(move || {
            for stream in listener.incoming() {
                if asked.load(Ordering::Acquire) {
                    return;
                }
                match stream.and_then(|stream| serve(stream, &app)) {
                    Err(error) if error.kind() == std::io::ErrorKind::Other => std::thread::sleep(ACCEPT_PAUSE),
                    // A scraper that goes away has lost its own scrape only.
                    _ => {}
                }
            }
        })?;
        log::info!("metrics are at http://{address}/metrics");
        Ok(MetricsDoor { address, stop, thread: Some(thread) })
    }
}

impl Drop for MetricsDoor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread out of accept.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let woken = TcpStream::connect_timeout(&address, SCRAPE_DEADLINE).is_ok();
        if let Some(thread) = self.thread.take()
            && woken
            && thread.join().is_err()
        {
            log::error!("the metrics thread ended by a panic");
        }
    }
}

fn serve(mut stream: TcpStream, app: &Shared) -> std::io::Result<()> {
    let until = Instant::now() + SCRAPE_DEADLINE;
    stream.set_write_timeout(Some(SCRAPE_DEADLINE))?;
    let mut head = Vec::new();
    let mut buffer = [0_u8; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD_BYTES {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let target = line.strip_prefix(b"GET ").and_then(|rest| rest.split(|byte| *byte == b' ').next());
    let (status, kind, body) = match target {
        Some(b"/metrics") => {
            ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", app.metrics.encode())
        }
        _ => ("404 Not Found", "text/plain; charset=utf-8", "Only GET /metrics is here.\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}
