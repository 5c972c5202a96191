//! Plain requests: one read, one durable write, against the bare way through edge and tiny_http.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use moorline::{edge, streams};

use crate::harness::Server;
use crate::load;

const TIME: Duration = Duration::from_secs(4);
/// Agents that share the log lines, because each keeps 1 MiB only.
const AGENTS: usize = 256;

/// An edge with a tiny_http behind it that answers every request with the same JSON.
struct Bare {
    edge: Option<edge::Edge>,
    address: String,
    _dir: tempfile::TempDir,
}

impl Bare {
    fn start(body: &'static str) -> Bare {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("up");
        let http =
            std::sync::Arc::new(tiny_http::Server::from_listener(UnixListener::bind(&path).unwrap(), None).unwrap());
        for _ in 0..8 {
            let http = std::sync::Arc::clone(&http);
            std::thread::spawn(move || {
                while let Ok(request) = http.recv() {
                    let _ = request.respond(tiny_http::Response::from_string(body));
                }
            });
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let edge = edge::start(edge::Config {
            listeners: vec![listener],
            admin: None,
            tls: None,
            upstream: path,
            secret: "bench".into(),
            trusted_proxies: Vec::new(),
            loops: 2,
            upstream_connections: 8,
            arrivals: streams::Arrivals::default(),
            version_header: "v0.0.0".into(),
            limits: edge::Limits::default(),
        })
        .unwrap();
        Bare { edge: Some(edge), address, _dir: dir }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Some(edge) = self.edge.take() {
            edge.shutdown(Duration::from_secs(1));
        }
    }
}

fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nCoder-Session-Token: {token}\r\n\r\n").into_bytes()
}

pub fn reads() {
    let server = Server::start();
    let token = server.user("alice");
    let (agent, _) = server.workspace("alice", "dev");
    let path = format!("/api/v2/workspaceagents/{agent}");
    let body = crate::harness::http::Client::connect(&server.address).unwrap().with_token(&token).get(&path).unwrap();
    assert_eq!(body.status, 200);
    // The same number of bytes, so that only the work between differs.
    let bare = Bare::start(String::from_utf8(body.body).unwrap().leak());
    for connections in [1, 16] {
        let request = get(&path, &token);
        let baseline = load::run(&bare.address, connections, TIME, move |_, _| request.clone());
        let request = get(&path, &token);
        let real = load::run(&server.address, connections, TIME, move |_, _| request.clone());
        println!("rest    bare round trip   {connections:>2} connections  {baseline}");
        println!(
            "rest    GET agent         {connections:>2} connections  {real}  ({:.0} % of bare)",
            100.0 * real.per_second / baseline.per_second
        );
    }
}

pub fn logs() {
    let server = Server::start();
    let _ = server.user("alice");
    let tokens: Vec<String> = (0..AGENTS).map(|n| server.workspace("alice", &format!("w{n}")).1).collect();
    for lines in [1, 100] {
        let line = r#"{"created_at":"2025-01-01T00:00:00Z","level":"info","output":"bench"}"#;
        let body = format!(r#"{{"logs":[{}]}}"#, vec![line; lines].join(","));
        let tokens = tokens.clone();
        let figures = load::run(&server.address, 16, TIME, move |connection, n| {
            let token = &tokens[(connection + 16 * n) % AGENTS];
            format!(
                "PATCH /api/v2/workspaceagents/me/logs HTTP/1.1\r\nHost: bench\r\nCoder-Session-Token: {token}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        });
        println!("logs    PATCH {lines:>3} lines   16 connections  {figures}");
    }
}
