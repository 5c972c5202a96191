//! kill -9 under load, again and again: what was acknowledged is there afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::http::Client;
use crate::harness::{Server, until};

/// Cycles of load, kill and restart; fewer with `MOORLINE_CRASH_CYCLES` while working on it.
const CYCLES: u32 = 200;
/// Connections that write log lines.
const WRITERS: usize = 4;

/// Writes numbered lines until the server dies; gives the numbers that were acknowledged.
fn write_lines(address: &str, token: &str, first: u64, stop: &AtomicBool) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    let Ok(client) = Client::connect(address) else { return acknowledged };
    let mut client = client.with_token(token);
    let mut number = first;
    while !stop.load(Ordering::Relaxed) {
        let body =
            json!({"logs": [{"created_at": "2025-01-01T00:00:00Z", "level": "info", "output": format!("n{number}")}]});
        match client.request("PATCH", "/api/v2/workspaceagents/me/logs", Some(&body)) {
            Ok(answer) if answer.status == 200 => acknowledged.push(number),
            // The connection died with the server: this line may or may not be there.
            Err(_) => break,
            Ok(answer) => panic!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        }
        number += 1;
    }
    acknowledged
}

/// Creates tokens until the server dies; gives the names that were acknowledged.
fn create_tokens(address: &str, token: &str, prefix: &str, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let Ok(client) = Client::connect(address) else { return acknowledged };
    let mut client = client.with_token(token);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{prefix}-{number}");
        let body = json!({"token_name": name, "lifetime": 3_600_000_000_000_u64});
        match client.request("POST", "/api/v2/users/me/keys/tokens", Some(&body)) {
            Ok(answer) if answer.status == 201 => acknowledged.push(name),
            Err(_) => break,
            Ok(answer) => panic!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        }
    }
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_over_kills() {
    let cycles = std::env::var("MOORLINE_CRASH_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(CYCLES);
    let mut server = Server::start();
    let admin = server.user("alice");
    let (agent, mut agent_token) = server.workspace("alice", "w0");
    let mut agents = vec![(agent, BTreeSet::new())];
    let mut names = BTreeSet::new();
    for cycle in 0..cycles {
        // An agent keeps 1 MiB of log text, so a fresh one takes over now and then.
        if cycle % 20 == 19 {
            let (id, token) = server.workspace("alice", &format!("w{cycle}"));
            agents.push((id, BTreeSet::new()));
            agent_token = token;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let lines: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (address, token, stop) = (server.address.clone(), agent_token.clone(), Arc::clone(&stop));
                let first = (u64::from(cycle) * WRITERS as u64 + writer as u64) * 1_000_000;
                std::thread::spawn(move || write_lines(&address, &token, first, &stop))
            })
            .collect();
        let tokens = {
            let (address, token, stop) = (server.address.clone(), admin.clone(), Arc::clone(&stop));
            std::thread::spawn(move || create_tokens(&address, &token, &format!("c{cycle}"), &stop))
        };
        // The moment of the kill differs from cycle to cycle, so that it meets every phase of a commit.
        std::thread::park_timeout(Duration::from_micros(u64::from(cycle * 7_919 % 40_000) + 5_000));
        server.kill();
        stop.store(true, Ordering::Relaxed);
        let known = &mut agents.last_mut().unwrap().1;
        for writer in lines {
            known.extend(writer.join().unwrap());
        }
        names.extend(tokens.join().unwrap());
        server.restart();
    }
    let mut client = until("the server answers", || Client::connect(&server.address).ok()).with_token(&admin);
    let mut total = 0;
    for (agent, known) in &agents {
        let answer = client.get(&format!("/api/v2/workspaceagents/{agent}/logs")).unwrap();
        assert_eq!(answer.status, 200);
        let stored: BTreeSet<u64> = answer
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["output"].as_str().unwrap().strip_prefix('n').unwrap().parse().unwrap())
            .collect();
        let missing: Vec<_> = known.difference(&stored).collect();
        assert!(missing.is_empty(), "{} of {} acknowledged lines are missing: {missing:?}", missing.len(), known.len());
        total += known.len();
    }
    let answer = client.get("/api/v2/users/me/keys/tokens").unwrap();
    let stored: BTreeSet<String> =
        answer.json().as_array().unwrap().iter().map(|key| key["token_name"].as_str().unwrap().to_owned()).collect();
    let missing: Vec<_> = names.difference(&stored).collect();
    assert!(missing.is_empty(), "acknowledged tokens are missing: {missing:?}");
    assert!(total > cycles as usize, "there was hardly any load: {total} lines");
    drop(client);
    server.terminate();
    let conn = rusqlite::Connection::open(server.file()).unwrap();
    let verdict: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    eprintln!("{cycles} kills, {total} acknowledged lines and {} tokens, none lost", names.len());
}
