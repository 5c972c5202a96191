//! Many agents at once, by the simulator in `tests/interop/cmd/simagents`, which is made of the real
//! client packages: time to connect and to come back, memory, CPU, RPC latency, disk writes.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::process;

const AGENTS: usize = 500;
const IDLE_AGENTS: usize = 100;
/// Memory is measured this long after the last agent connected.
const SETTLE: Duration = Duration::from_secs(5);

fn seconds(variable: &str, default: u64) -> Duration {
    Duration::from_secs(std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default))
}

/// A server with this many declared agents, and the file of their tokens.
fn declared(agents: usize) -> (Server, PathBuf) {
    let server = Server::start();
    let _ = server.user("alice");
    let workspaces: Vec<Value> = (0..agents)
        .map(|n| {
            json!({"owner": "alice", "name": format!("w{n}"), "agents": [{
                "name": "main", "os": "linux", "arch": "amd64",
                "metadata": [{"key": "load", "display_name": "Load", "script": "uptime", "interval": 10, "timeout": 5}],
            }]})
        })
        .collect();
    let file = server.dir().join("fleet.json");
    std::fs::write(&file, json!({"workspaces": workspaces}).to_string()).unwrap();
    let applied = server.verb(&["apply", file.to_str().unwrap()]);
    let tokens: Vec<&str> = applied["workspaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|workspace| workspace["agents"][0]["token"].as_str().unwrap())
        .collect();
    let tokens_file = server.dir().join("tokens");
    std::fs::write(&tokens_file, tokens.join("\n")).unwrap();
    (server, tokens_file)
}

struct Fleet {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Fleet {
    /// Starts the simulator and waits until all agents are connected.
    fn start(server: &Server, tokens: &PathBuf, mode: &str, time: Duration) -> Fleet {
        let interop = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        let built = Command::new("sh").arg("build.sh").current_dir(&interop).status().unwrap();
        assert!(built.success(), "the simulator was not built");
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/interop/simagents");
        let mut child = Command::new(program)
            .args(["--url", &format!("http://{}", server.address), "--mode", mode, "--json"])
            .args(["--duration", &format!("{}s", time.as_secs())])
            .arg("--tokens")
            .arg(tokens)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("agents connected") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the simulator ended early: {}", server.log());
        }
        Fleet { child, stderr }
    }

    /// Breaks all connections.
    fn drop_all(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"drop\n").unwrap();
    }

    /// Waits for the end and gives the result.
    fn result(self) -> Value {
        std::thread::spawn(move || self.stderr.lines().for_each(drop));
        let output = self.child.wait_with_output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

pub fn run() {
    let (mut server, tokens) = declared(AGENTS);
    let before = process::pss_kib(server.pid());
    let mut fleet = Fleet::start(&server, &tokens, "drop", Duration::from_secs(60));
    std::thread::sleep(SETTLE);
    let each = (process::pss_kib(server.pid()) - before) as f64 / AGENTS as f64;
    fleet.drop_all();
    let result = fleet.result();
    println!(
        "agents  {AGENTS} connect       {:>8.2} s, {} failures",
        result["seconds_until_all_connected"].as_f64().unwrap(),
        result["failures"]
    );
    println!("agents  {AGENTS} dropped, back {:>8.2} s", result["recoveries"][0]["seconds"].as_f64().unwrap());
    println!("agents  memory each       {each:>8.1} KiB PSS");

    let time = seconds("MOORLINE_BENCH_TICK_SECONDS", 60);
    let fleet = Fleet::start(&server, &tokens, "tick", time);
    let begun = process::cpu(server.pid());
    std::thread::sleep(time - Duration::from_secs(1));
    let used = process::cpu(server.pid()) - begun;
    let minutes = AGENTS as f64 * time.as_secs_f64() / 60.0;
    println!("agents  CPU               {:>8.2} ms per agent-minute", used.as_secs_f64() * 1000.0 / minutes);
    let result = fleet.result();
    for (name, summary) in result["rpc"].as_object().unwrap() {
        println!("agents  rpc {name:<36} {summary}");
    }

    let fleet = Fleet::start(&server, &tokens, "connect", Duration::from_secs(25));
    server.kill();
    server.restart();
    let result = fleet.result();
    println!("agents  server killed     recoveries {}", result["recoveries"]);
}

/// An idle fleet costs no disk writes.
pub fn idle() {
    let (server, tokens) = declared(IDLE_AGENTS);
    let time = seconds("MOORLINE_BENCH_IDLE_SECONDS", 120);
    let fleet = Fleet::start(&server, &tokens, "connect", time + Duration::from_secs(60));
    // The log is moved into the file once, half a minute after the last write.
    std::thread::sleep(Duration::from_secs(45));
    let before = process::written(server.pid());
    std::thread::sleep(time);
    println!(
        "idle    {IDLE_AGENTS} agents        {:>8} bytes written to disk in {} s",
        process::written(server.pid()) - before,
        time.as_secs()
    );
    drop(fleet.result());
}
