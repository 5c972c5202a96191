//! What retention removes, and what it leaves.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use moorline::model::{AgentId, Timestamp};
use moorline::store::{Error, Retention, Store, logs};
use uuid::Uuid;

use super::place::{Place, count};

const DAY: Duration = Duration::from_secs(24 * 3_600);
const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

fn retention() -> Retention {
    Retention { logs: 7 * DAY, stats: 30 * DAY, audit: 90 * DAY, connections: 60 * DAY, egress: 60 * DAY }
}

fn sweep(store: &Store) -> usize {
    retention().sweep(store, NOW, &|| false).unwrap()
}

fn run(store: &Store, sql: String) {
    store.write(move |write| Ok::<_, Error>(write.execute_batch(&sql)?)).unwrap();
}

fn ago(days: u32) -> i64 {
    NOW.minus(days * DAY).0
}

fn agent(n: u8) -> String {
    format!("x'{:032x}'", u128::from(n))
}

/// A person, a workspace and an agent with one row in each table, `ended` being columns of its end.
fn add_agent(store: &Store, n: u8, ended: &str) {
    let id = agent(n);
    run(
        store,
        format!(
            "INSERT OR IGNORE INTO users (id, username, email, created_at, updated_at) VALUES (zeroblob(16), 'ann', 'a@b', 1, 1);
             INSERT INTO workspaces (id, owner_id, name, created_at, updated_at, last_used_at) VALUES ({id}, zeroblob(16), 'w{n}', 1, 1, 1);
             INSERT INTO agents (id, workspace_id, name, token_hash, token_sealed, operating_system, architecture, created_at, updated_at)
                 VALUES ({id}, {id}, 'main', randomblob(32), x'01', 'linux', 'amd64', 1, 1);
             UPDATE agents SET {ended} WHERE id = {id};
             INSERT INTO agent_scripts (id, agent_id, position, log_source_id, display_name, script, created_at) VALUES ({id}, {id}, 0, {id}, 's', 's', 1);
             INSERT INTO agent_metadata (agent_id, key, position, display_name, script, interval_seconds, timeout_seconds) VALUES ({id}, 'k', 0, 'k', 's', 1, 1);
             INSERT INTO agent_apps (id, agent_id, slug, health, created_at) VALUES ({id}, {id}, 'web', 'disabled', 1);
             INSERT INTO agent_log_sources (agent_id, id, display_name, icon, created_at) VALUES ({id}, {id}, 's', '', 1);
             INSERT INTO agent_resources (agent_id, collected_at) VALUES ({id}, 1);
             INSERT INTO agent_logs (agent_id, source_id, created_at, level, output) VALUES ({id}, {id}, 1, 'info', 'line');"
        ),
    );
}

fn logs_of(store: &Store, n: u8) -> i64 {
    count(store, &format!("SELECT count(*) FROM agent_logs WHERE agent_id = {}", agent(n)))
}

#[test]
fn log_lines_go_with_agents_that_are_gone_or_away() {
    let place = Place::new();
    let store = place.open();
    let cases = [
        ("disconnected_at = NULL, last_connected_at = 1", 1, "connected for long"),
        (&format!("disconnected_at = {}", ago(6)), 1, "away for six days"),
        (&format!("disconnected_at = {}", ago(8)), 0, "away for eight days"),
        (&format!("deleted_at = {}", ago(6)), 1, "removed six days ago"),
        (&format!("deleted_at = {}", ago(8)), 0, "removed eight days ago"),
    ];
    for (n, (ended, ..)) in (1..).zip(&cases) {
        add_agent(&store, n, ended);
    }
    sweep(&store);
    for (n, (_, lines, what)) in (1_u8..).zip(&cases) {
        assert_eq!(logs_of(&store, n), *lines, "{what}");
        let purged =
            store.read(|conn| Ok::<_, Error>(logs::purged_at(conn, AgentId(Uuid::from_u128(u128::from(n))))?)).unwrap();
        assert_eq!(purged.is_some(), *lines == 0, "{what}: says when lines were purged");
        let declared = count(&store, &format!("SELECT count(*) FROM agent_scripts WHERE agent_id = {}", agent(n)));
        assert_eq!(declared, i64::from(n != 5), "{what}: what it was declared with");
    }
    assert_eq!(count(&store, "SELECT count(*) FROM agents"), 5, "the agents themselves stay with the audit rows");
    assert_eq!(sweep(&store), 0, "nothing is left to do");
}

#[test]
fn removed_agents_and_workspaces_go_with_the_audit_rows_that_name_them() {
    let place = Place::new();
    let store = place.open();
    add_agent(&store, 1, &format!("deleted_at = {}", ago(91)));
    add_agent(&store, 2, &format!("deleted_at = {}", ago(91)));
    run(&store, format!("UPDATE agents SET parent_id = {} WHERE id = {}", agent(1), agent(2)));
    run(&store, format!("UPDATE workspaces SET deleted_at = {} WHERE id = {}", ago(91), agent(1)));
    sweep(&store);
    sweep(&store);
    assert_eq!(count(&store, "SELECT count(*) FROM agents"), 0);
    assert_eq!(count(&store, "SELECT count(*) FROM workspaces"), 1, "the other was not removed");
    assert_eq!(count(&store, "SELECT count(*) FROM users"), 1);
}

#[test]
fn rows_of_the_past_go_when_their_time_has_come() {
    let place = Place::new();
    let store = place.open();
    add_agent(&store, 1, "disconnected_at = NULL");
    let id = agent(1);
    for days in [1_u32, 6, 8, 29, 31, 59, 61, 89, 91] {
        let at = ago(days);
        run(
            &store,
            format!(
                "INSERT INTO audit_log (at, actor_kind, action, result) VALUES ({at}, 'operator', 'x', 'ok');
                 INSERT INTO connections (agent_id, id, kind, connected_at) VALUES ({id}, randomblob(16), 'ssh', {at});
                 INSERT INTO tunnels (peer_id, agent_id, user_id, opened_at, closed_at, ending) VALUES (randomblob(16), {id}, zeroblob(16), {at}, {at}, 'closed');
                 INSERT INTO agent_script_timings (agent_id, script_id, started_at, ended_at, exit_code, stage, status) VALUES ({id}, {id}, {at}, {at}, 0, 'cron', 'ok');
                 INSERT INTO agent_app_statuses (id, agent_id, app_id, state, message, created_at) VALUES (randomblob(16), {id}, {id}, 'idle', '', {at});
                 INSERT INTO agent_stats (agent_id, hour, reports, connection_count, rx_packets, rx_bytes, tx_packets, tx_bytes, sessions_ssh, sessions_vscode, sessions_jetbrains, sessions_reconnecting_pty)
                     VALUES ({id}, {at}, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
                 INSERT INTO api_keys (id, user_id, secret_hash, login_type, lifetime_seconds, created_at, updated_at, last_used_at, expires_at)
                     VALUES (printf('%010d', {days}), zeroblob(16), zeroblob(32), 'password', 60, 1, 1, 1, {at});"
            ),
        );
    }
    // A session and a tunnel that last, begun long ago.
    run(
        &store,
        format!(
            "INSERT INTO tunnels (peer_id, agent_id, user_id, opened_at) VALUES (zeroblob(16), {id}, zeroblob(16), 1);
             INSERT INTO connections (agent_id, id, kind, connected_at, disconnected_at) VALUES ({id}, zeroblob(16), 'ssh', {}, {})",
            ago(100),
            ago(1)
        ),
    );
    sweep(&store);
    for (table, left) in [
        ("api_keys", 2),
        ("agent_stats", 4),
        ("agent_script_timings", 4),
        ("agent_app_statuses", 4),
        ("connections", 7),
        ("tunnels", 7),
        ("audit_log", 8),
    ] {
        assert_eq!(count(&store, &format!("SELECT count(*) FROM {table}")), left, "{table}");
    }
    run(&store, format!("UPDATE agent_app_statuses SET created_at = created_at - {}", ago(0) - ago(365)));
    sweep(&store);
    assert_eq!(count(&store, "SELECT count(*) FROM agent_app_statuses"), 1, "the last one of an app stays");
}

#[test]
fn zero_keeps_for_ever_but_for_expired_keys() {
    let place = Place::new();
    let store = place.open();
    add_agent(&store, 1, "deleted_at = 1");
    run(&store, "INSERT INTO audit_log (at, actor_kind, action, result) VALUES (1, 'operator', 'x', 'ok')".into());
    run(
        &store,
        "INSERT INTO egress (at, provider, method, host, port, path) VALUES (1, 'p', 'GET', 'h', 1, '/')".into(),
    );
    let never = Duration::ZERO;
    let zero = Retention { logs: never, stats: never, audit: never, connections: never, egress: never };
    assert_eq!(zero.sweep(&store, NOW, &|| false).unwrap(), 0);
    assert_eq!(logs_of(&store, 1), 1);
}

#[test]
fn what_plugins_fetched_and_kept_goes_when_it_is_old() {
    let place = Place::new();
    let store = place.open();
    for (number, (days, minutes)) in [(61, 61), (59, 59)].into_iter().enumerate() {
        let (at, until) = (ago(days), NOW.minus(Duration::from_secs(minutes * 60)).0);
        run(
            &store,
            format!(
                "INSERT INTO egress (at, provider, method, host, port, path) VALUES ({at}, 'p', 'GET', 'h', 1, '/');
                 INSERT INTO plugin_cache (provider, key, value_sealed, until) VALUES ('p', x'0{number}', x'01', {until});"
            ),
        );
    }
    assert_eq!(sweep(&store), 2);
    assert_eq!(count(&store, "SELECT count(*) FROM egress"), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM plugin_cache"), 1);
    assert_eq!(sweep(&store), 0);
}

#[test]
fn many_rows_go_in_many_small_writes() {
    let place = Place::new();
    let store = place.open();
    let rows = "INSERT INTO audit_log (at, actor_kind, action, result) SELECT 1, 'operator', 'x', 'ok' FROM n";
    run(&store, format!("WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000) {rows}"));
    let asked = std::cell::Cell::new(0);
    let removed = retention()
        .sweep(&store, NOW, &|| {
            asked.set(asked.get() + 1);
            count(&store, "SELECT count(*) FROM audit_log") <= 2_000
        })
        .unwrap();
    assert_eq!(removed, 3_000, "stops when told to");
    assert!(asked.get() > 6);
    assert_eq!(sweep(&store), 2_000);
}

#[test]
fn a_pass_without_work_writes_nothing() {
    let place = Place::new();
    let store = place.open();
    add_agent(&store, 1, "disconnected_at = NULL");
    sweep(&store);
    let look = || {
        let of = |path: std::path::PathBuf| std::fs::read(path).unwrap();
        (of(place.file()), of(place.wal()))
    };
    let before = look();
    assert_eq!(sweep(&store), 0);
    assert!(look() == before);
}
