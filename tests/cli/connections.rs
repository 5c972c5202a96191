//! `moorline connections`, on the file and on a running server.

use moorline::model::Timestamp;
use serde_json::json;

use super::rig::{Rig, keys};

/// A file in whose log four things happened to alice/dev.
fn rig() -> Rig {
    let rig = Rig::with_people();
    rig.run("workspace add dev --owner alice").text();
    let conn = rusqlite::Connection::open(rig.path("moorline.db")).unwrap();
    let at = |seconds: u64| Timestamp::now().minus(std::time::Duration::from_secs(seconds)).0;
    let tunnel = |peer: u8, program: &str, app: &str, address: &str, opened: i64, closed: Option<i64>| {
        conn.execute(
            "INSERT INTO tunnels (peer_id, agent_id, user_id, ip, program, app, address, opened_at, closed_at, ending)
             SELECT ?1, a.id, u.id, '203.0.113.7', ?2, ?3, ?4, ?5, ?6, iif(?6 IS NULL, NULL, 'closed') FROM agents a, users u
             WHERE u.username = 'root'",
            (vec![peer; 16], program, app, address, opened, closed),
        )
        .unwrap();
    };
    tunnel(1, "coder ssh", "", "fd7a:115c:a1e0::1", at(7_200), Some(at(3_600)));
    tunnel(2, "coder port-forward", "", "fd7a:115c:a1e0::2", at(600), None);
    tunnel(3, "Go-http-client/1.1", "", "fd7a:115c:a1e0::3", at(60), Some(at(59)));
    conn.execute(
        "INSERT INTO connections (agent_id, id, kind, ip, connected_at, disconnected_at, status_code, reason)
         SELECT id, randomblob(16), 'ssh', 'fd7a:115c:a1e0::1', ?, ?, 130, 'process exited with error status: 130' FROM agents",
        (at(7_190), at(3_610)),
    )
    .unwrap();
    rig
}

#[test]
fn says_who_reached_what_from_where_by_what_and_for_how_long() {
    let rig = rig();
    let said = rig.run("connections");
    let lines: Vec<Vec<&str>> = said
        .text()
        .lines()
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
        .collect();
    assert_eq!(lines[0], ["STARTED", "TIME", "USER", "FROM", "WORKSPACE.AGENT", "BY", "END"]);
    assert_eq!(lines[1][2..], ["root", "203.0.113.7", "alice/dev.main", "tunnel", "closed"]);
    assert_eq!(lines[2][2..], ["root", "203.0.113.7", "alice/dev.main", "port-forward", "open"]);
    assert!(lines[2][1].starts_with("10m"), "{:?}", lines[2]);
    assert_eq!(
        lines[3][2..],
        ["root", "203.0.113.7", "alice/dev.main", "ssh", "process exited with error status: 130 (130)"]
    );
    assert_eq!(lines[3][1], "59m40s");
    assert_eq!(lines.len(), 4);
}

#[test]
fn json_has_what_the_table_has_and_how_it_is_known() {
    let rig = rig();
    let found = rig.run("connections --json").json();
    assert_eq!(keys(&found), ["connections", "more"]);
    let entries = found["connections"].as_array().unwrap();
    assert_eq!(
        keys(&entries[0]),
        [
            "owner",
            "workspace",
            "agent",
            "agent_id",
            "user",
            "ip",
            "program",
            "by",
            "known_from",
            "started_at",
            "ended_at",
            "seconds",
            "end",
            "exit_code",
            "tailnet_ip"
        ]
    );
    let known: Vec<_> = entries.iter().map(|one| one["known_from"].as_str().unwrap()).collect();
    assert_eq!(known, ["tunnel", "client", "agent"]);
    assert_eq!((&entries[2]["exit_code"], &entries[1]["ended_at"]), (&json!(130), &json!(null)));
}

#[test]
fn shows_a_part_of_the_log_and_a_running_servers_log() {
    let rig = rig();
    let number = |arguments: &str| {
        let found = rig.run(&format!("connections --json {arguments}")).json();
        (found["connections"].as_array().unwrap().len(), found["more"].as_bool().unwrap())
    };
    assert_eq!(number("--since 5m"), (2, false), "what is still open belongs to it");
    assert_eq!(number("--limit 1"), (1, true));
    assert_eq!(number("--workspace alice/dev.main"), (3, false));
    assert!(rig.run("connections --limit 1").text().contains("--limit shows more"));
    assert!(rig.run("connections --workspace alice/other").refused(1).contains("There is no workspace alice/other"));
    assert!(rig.run("connections --workspace dev").refused(2).contains("OWNER/NAME"));
    assert!(rig.run("connections --limit 0").refused(2).contains("--limit"));
    assert!(rig.run("connections --since soon").refused(2).contains("is not a duration"));
    rig.run("workspace remove alice/dev").text();
    assert_eq!(number("--workspace alice/dev"), (3, false), "the log outlives what it is about");

    let mut server = rig.serve("");
    assert_eq!(number(""), (3, false));
    let open = rig.run("connections --json").json();
    assert_eq!(open["connections"][1]["end"], "restart", "a tunnel that was open when the server died");
    server.stop("TERM");
}

#[test]
fn an_empty_log_says_so() {
    let rig = Rig::with_people();
    assert_eq!(rig.run("connections").text().trim(), "Nobody has connected in this time.");
    assert_eq!(rig.run("connections --json").json(), json!({"connections": [], "more": false}));
}
