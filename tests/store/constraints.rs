//! Each constraint of the schema, broken one by one.

#![allow(clippy::unwrap_used, clippy::panic)]

use rusqlite::Connection;

const SCHEMA: &str = include_str!("../../sql/schema.sql");

/// Names of columns with the SQL of their values.
type Columns = &'static [(&'static str, &'static str)];

/// A good row of each table, as an INSERT; tables that refer to others come after them.
const ROWS: &[(&str, Columns)] = &[
    ("meta", &[("key", "'k'"), ("value", "x'00'")]),
    (
        "users",
        &[
            ("id", "zeroblob(16)"),
            ("username", "'ann'"),
            ("email", "'ann@example.com'"),
            ("created_at", "1"),
            ("updated_at", "1"),
        ],
    ),
    (
        "api_keys",
        &[
            ("id", "'0123456789'"),
            ("user_id", "zeroblob(16)"),
            ("secret_hash", "zeroblob(32)"),
            ("login_type", "'token'"),
            ("token_name", "'ci'"),
            ("scope", "'all'"),
            ("lifetime_seconds", "60"),
            ("created_at", "1"),
            ("updated_at", "1"),
            ("last_used_at", "1"),
            ("expires_at", "1"),
        ],
    ),
    (
        "git_ssh_keys",
        &[
            ("user_id", "zeroblob(16)"),
            ("public_key", "'k'"),
            ("private_key_sealed", "x'01'"),
            ("created_at", "1"),
            ("updated_at", "1"),
        ],
    ),
    (
        "workspaces",
        &[
            ("id", "zeroblob(16)"),
            ("owner_id", "zeroblob(16)"),
            ("name", "'dev'"),
            ("created_at", "1"),
            ("updated_at", "1"),
            ("last_used_at", "1"),
        ],
    ),
    ("favorites", &[("user_id", "zeroblob(16)"), ("workspace_id", "zeroblob(16)"), ("created_at", "1")]),
    (
        "agents",
        &[
            ("id", "zeroblob(16)"),
            ("workspace_id", "zeroblob(16)"),
            ("name", "'main'"),
            ("token_hash", "zeroblob(32)"),
            ("token_sealed", "x'01'"),
            ("operating_system", "'linux'"),
            ("architecture", "'amd64'"),
            ("created_at", "1"),
            ("updated_at", "1"),
        ],
    ),
    (
        "agent_scripts",
        &[
            ("id", "zeroblob(16)"),
            ("agent_id", "zeroblob(16)"),
            ("position", "0"),
            ("log_source_id", "zeroblob(16)"),
            ("display_name", "'s'"),
            ("script", "'true'"),
            ("created_at", "1"),
        ],
    ),
    (
        "agent_script_timings",
        &[
            ("id", "1"),
            ("agent_id", "zeroblob(16)"),
            ("script_id", "zeroblob(16)"),
            ("started_at", "1"),
            ("ended_at", "2"),
            ("exit_code", "0"),
            ("stage", "'start'"),
            ("status", "'ok'"),
        ],
    ),
    (
        "agent_metadata",
        &[
            ("agent_id", "zeroblob(16)"),
            ("key", "'cpu'"),
            ("position", "0"),
            ("display_name", "'CPU'"),
            ("script", "'true'"),
            ("interval_seconds", "10"),
            ("timeout_seconds", "1"),
        ],
    ),
    (
        "agent_apps",
        &[
            ("id", "zeroblob(16)"),
            ("agent_id", "zeroblob(16)"),
            ("slug", "'web'"),
            ("health", "'disabled'"),
            ("created_at", "1"),
        ],
    ),
    (
        "agent_app_statuses",
        &[
            ("id", "zeroblob(16)"),
            ("agent_id", "zeroblob(16)"),
            ("app_id", "zeroblob(16)"),
            ("state", "'idle'"),
            ("message", "''"),
            ("created_at", "1"),
        ],
    ),
    (
        "agent_log_sources",
        &[
            ("agent_id", "zeroblob(16)"),
            ("id", "zeroblob(16)"),
            ("display_name", "'s'"),
            ("icon", "''"),
            ("created_at", "1"),
        ],
    ),
    (
        "agent_logs",
        &[
            ("id", "1"),
            ("agent_id", "zeroblob(16)"),
            ("source_id", "zeroblob(16)"),
            ("created_at", "1"),
            ("level", "'info'"),
            ("output", "''"),
        ],
    ),
    (
        "agent_stats",
        &[
            ("agent_id", "zeroblob(16)"),
            ("hour", "0"),
            ("reports", "1"),
            ("connection_count", "0"),
            ("rx_packets", "0"),
            ("rx_bytes", "0"),
            ("tx_packets", "0"),
            ("tx_bytes", "0"),
            ("sessions_ssh", "0"),
            ("sessions_vscode", "0"),
            ("sessions_jetbrains", "0"),
            ("sessions_reconnecting_pty", "0"),
        ],
    ),
    ("agent_resources", &[("agent_id", "zeroblob(16)"), ("collected_at", "1")]),
    ("connections", &[("agent_id", "zeroblob(16)"), ("id", "zeroblob(16)"), ("kind", "'ssh'"), ("connected_at", "1")]),
    (
        "tunnels",
        &[
            ("id", "1"),
            ("peer_id", "zeroblob(16)"),
            ("agent_id", "zeroblob(16)"),
            ("user_id", "zeroblob(16)"),
            ("opened_at", "1"),
        ],
    ),
    (
        "egress",
        &[
            ("id", "1"),
            ("at", "1"),
            ("provider", "'gh'"),
            ("method", "'GET'"),
            ("host", "'h'"),
            ("port", "443"),
            ("path", "'/'"),
        ],
    ),
    ("plugin_cache", &[("provider", "'gh'"), ("key", "x'01'"), ("value_sealed", "x'02'"), ("until", "1")]),
    (
        "external_auth_links",
        &[
            ("provider_id", "'gh'"),
            ("user_id", "zeroblob(16)"),
            ("created_at", "1"),
            ("updated_at", "1"),
            ("version", "1"),
            ("access_sealed", "x'01'"),
            ("state", "'good'"),
            ("failure", "''"),
        ],
    ),
    (
        "external_auth_refreshes",
        &[("id", "1"), ("provider_id", "'gh'"), ("user_id", "zeroblob(16)"), ("version", "1"), ("began_at", "1")],
    ),
    ("trust_anchors", &[("name", "'aws/a'"), ("role", "'aws'"), ("data", "x'01'"), ("imported_at", "1")]),
    ("clones", &[("agent_id", "zeroblob(16)"), ("first_ip", "'a'"), ("second_ip", "'b'"), ("seen_at", "1")]),
    ("audit_log", &[("id", "1"), ("at", "1"), ("actor_kind", "'operator'"), ("action", "'x'"), ("result", "'ok'")]),
];

/// Values that a column must refuse. `=` stands for the value of the good row that is there already.
const CHECKS: &[(&str, &str, &[&str])] = &[
    ("users", "id", &["zeroblob(15)", "zeroblob(17)", "''"]),
    ("users", "username", &["''", "printf('%033d', 0)", "NULL"]),
    ("users", "is_admin", &["2", "NULL"]),
    ("users", "status", &["'away'", "''"]),
    ("api_keys", "id", &["'012345678'", "'01234567890'"]),
    ("api_keys", "user_id", &["x'11111111111111111111111111111111'"]),
    ("api_keys", "secret_hash", &["zeroblob(31)", "NULL"]),
    ("api_keys", "login_type", &["'oidc'"]),
    ("api_keys", "scope", &["'none'"]),
    ("api_keys", "lifetime_seconds", &["0", "-1"]),
    ("git_ssh_keys", "user_id", &["x'11111111111111111111111111111111'"]),
    ("workspaces", "id", &["zeroblob(15)"]),
    ("workspaces", "owner_id", &["x'11111111111111111111111111111111'"]),
    ("workspaces", "name", &["''", "printf('%033d', 0)"]),
    ("favorites", "user_id", &["x'11111111111111111111111111111111'"]),
    ("favorites", "workspace_id", &["x'11111111111111111111111111111111'"]),
    ("agents", "id", &["zeroblob(15)"]),
    ("agents", "workspace_id", &["x'11111111111111111111111111111111'"]),
    ("agents", "parent_id", &["x'11111111111111111111111111111111'"]),
    ("agents", "name", &["''", "printf('%065d', 0)"]),
    ("agents", "token_hash", &["zeroblob(16)"]),
    ("agents", "connection_timeout_seconds", &["-1"]),
    ("agents", "lifecycle_state", &["'asleep'"]),
    ("agents", "logs_overflowed", &["2"]),
    ("agent_scripts", "id", &["zeroblob(15)"]),
    ("agent_scripts", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("agent_scripts", "log_source_id", &["zeroblob(15)"]),
    ("agent_scripts", "run_on_start", &["2"]),
    ("agent_scripts", "run_on_stop", &["2"]),
    ("agent_scripts", "start_blocks_login", &["2"]),
    ("agent_scripts", "timeout_seconds", &["-1"]),
    ("agent_script_timings", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("agent_script_timings", "script_id", &["zeroblob(15)"]),
    ("agent_script_timings", "stage", &["'pause'"]),
    ("agent_script_timings", "status", &["'fine'"]),
    ("agent_metadata", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("agent_metadata", "interval_seconds", &["-1"]),
    ("agent_metadata", "timeout_seconds", &["-1"]),
    ("agent_apps", "id", &["zeroblob(15)"]),
    ("agent_apps", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("agent_apps", "external", &["2"]),
    ("agent_apps", "hidden", &["2"]),
    ("agent_apps", "subdomain", &["2"]),
    ("agent_apps", "sharing_level", &["'friends'"]),
    ("agent_apps", "open_in", &["'window'"]),
    ("agent_apps", "health", &["'ill'"]),
    ("agent_app_statuses", "id", &["zeroblob(15)"]),
    ("agent_app_statuses", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("agent_app_statuses", "app_id", &["x'11111111111111111111111111111111'"]),
    ("agent_app_statuses", "state", &["'bored'"]),
    ("agent_log_sources", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("agent_log_sources", "id", &["zeroblob(15)"]),
    ("agent_logs", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("agent_logs", "source_id", &["zeroblob(15)"]),
    ("agent_logs", "level", &["'notice'"]),
    ("agent_stats", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("agent_resources", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("connections", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("connections", "id", &["zeroblob(15)"]),
    ("connections", "kind", &["'telnet'"]),
    ("tunnels", "peer_id", &["zeroblob(15)"]),
    ("tunnels", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("tunnels", "user_id", &["x'11111111111111111111111111111111'"]),
    ("tunnels", "ending", &["'closed'", "'tired'"]),
    ("tunnels", "closed_at", &["1"]),
    ("external_auth_links", "user_id", &["x'11111111111111111111111111111111'"]),
    ("external_auth_links", "state", &["'ill'", "NULL"]),
    ("external_auth_refreshes", "provider_id", &["'other'"]),
    ("external_auth_refreshes", "user_id", &["x'11111111111111111111111111111111'"]),
    ("external_auth_refreshes", "outcome", &["'lost'", "'dead'"]),
    ("external_auth_refreshes", "ended_at", &["1"]),
    ("agents", "instance_cloud", &["'oracle'", "''"]),
    ("clones", "agent_id", &["x'11111111111111111111111111111111'"]),
    ("audit_log", "actor_kind", &["'ghost'"]),
    ("audit_log", "result", &["'maybe'"]),
];

/// A second row that differs from the good one in these columns only must be refused (`false`) or
/// accepted (`true`). Ids are given so that only the constraint meant can refuse.
const SECONDS: &[(&str, Columns, bool)] = &[
    ("meta", &[], false),
    ("users", &[("email", "'b@example.com'"), ("username", "'b'")], false),
    ("users", &[("id", "randomblob(16)"), ("email", "'b@example.com'"), ("username", "'ANN'")], false),
    ("users", &[("id", "randomblob(16)"), ("email", "'Ann@Example.com'"), ("username", "'b'")], false),
    ("users", &[("id", "randomblob(16)"), ("deleted_at", "1")], true),
    ("api_keys", &[("token_name", "'other'")], false),
    ("api_keys", &[("id", "'9876543210'")], false),
    ("api_keys", &[("id", "'9876543210'"), ("token_name", "''")], true),
    ("git_ssh_keys", &[], false),
    ("workspaces", &[("name", "'other'")], false),
    ("workspaces", &[("id", "randomblob(16)"), ("name", "'DEV'")], false),
    ("workspaces", &[("id", "randomblob(16)"), ("deleted_at", "1")], true),
    ("favorites", &[("created_at", "2")], false),
    ("agents", &[("name", "'b'"), ("token_hash", "randomblob(32)")], false),
    ("agents", &[("id", "randomblob(16)"), ("name", "'b'")], false),
    ("agents", &[("id", "randomblob(16)"), ("name", "'MAIN'"), ("token_hash", "randomblob(32)")], false),
    ("agents", &[("id", "randomblob(16)"), ("token_hash", "randomblob(32)"), ("deleted_at", "1")], true),
    ("agent_scripts", &[("position", "1")], false),
    ("agent_scripts", &[("id", "randomblob(16)")], false),
    ("agent_script_timings", &[], false),
    ("agent_metadata", &[], false),
    ("agent_metadata", &[("key", "'ram'")], true),
    ("agent_apps", &[("slug", "'b'")], false),
    ("agent_apps", &[("id", "randomblob(16)")], false),
    ("agent_app_statuses", &[], false),
    ("agent_log_sources", &[], false),
    ("agent_logs", &[], false),
    ("agent_stats", &[], false),
    ("agent_stats", &[("hour", "3600")], true),
    ("agent_resources", &[], false),
    ("connections", &[], false),
    ("tunnels", &[], false),
    ("tunnels", &[("id", "2")], true),
    ("egress", &[], false),
    ("egress", &[("id", "2")], true),
    ("plugin_cache", &[("until", "2")], false),
    ("plugin_cache", &[("provider", "'other'")], true),
    ("external_auth_links", &[("state", "'dead'")], false),
    ("external_auth_links", &[("provider_id", "'other'")], true),
    ("external_auth_refreshes", &[], false),
    ("external_auth_refreshes", &[("id", "2")], true),
    ("trust_anchors", &[("role", "'jwks'")], false),
    ("clones", &[("first_ip", "'c'")], false),
    ("audit_log", &[], false),
];

fn filled() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    for (table, columns) in ROWS {
        conn.execute_batch(&insert(table, columns)).unwrap_or_else(|error| panic!("{table}: {error}"));
    }
    conn
}

fn row(table: &str) -> Columns {
    ROWS.iter().find(|(name, _)| *name == table).unwrap_or_else(|| panic!("no row of {table}")).1
}

fn insert(table: &str, columns: &[(&str, &str)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<&str> = columns.iter().map(|(_, value)| *value).collect();
    format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "))
}

#[test]
fn refuses_each_value_that_a_column_may_not_have() {
    let conn = filled();
    for (table, column, values) in CHECKS {
        for value in *values {
            match conn.execute_batch(&format!("UPDATE {table} SET {column} = {value}")) {
                Ok(()) => panic!("{table}.{column} accepts {value}"),
                Err(error) => assert!(
                    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation),
                    "{table}.{column} = {value}: {error}"
                ),
            }
        }
    }
}

#[test]
fn refuses_each_second_row_that_may_not_be() {
    let conn = filled();
    for (table, changes, accepted) in SECONDS {
        let mut columns: Vec<(&str, &str)> = row(table).to_vec();
        for change in *changes {
            columns.retain(|(name, _)| *name != change.0);
            columns.push(*change);
        }
        conn.execute_batch("SAVEPOINT second").unwrap();
        let result = conn.execute_batch(&insert(table, &columns));
        assert_eq!(result.is_ok(), *accepted, "{table} {changes:?}: {result:?}");
        if let Err(error) = result {
            assert!(moorline::store::is_unique_violation(&error), "{table} {changes:?}: {error}");
        }
        conn.execute_batch("ROLLBACK TO second; RELEASE second").unwrap();
    }
}

#[test]
fn every_check_and_table_of_the_schema_is_tried() {
    let conn = filled();
    let mut statement =
        conn.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").unwrap();
    let tables = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    for (table, sql) in tables.map(Result::unwrap) {
        assert!(sql.trim_end().ends_with("STRICT"), "{table} is not STRICT");
        row(&table);
        assert!(SECONDS.iter().any(|(name, ..)| *name == table), "no second row of {table}");
        for line in sql.lines().filter(|line| line.contains(" CHECK (") || line.contains(" REFERENCES ")) {
            let column = match line.trim_start().strip_prefix("FOREIGN KEY (") {
                Some(columns) => columns.split([',', ')']).next().unwrap(),
                None => line.split_whitespace().next().unwrap(),
            };
            let tried = CHECKS.iter().any(|(name, tried, _)| *name == table && *tried == column);
            assert!(tried, "{table}.{column} has a constraint that no test breaks");
        }
    }
}

#[test]
fn columns_keep_their_types() {
    let conn = filled();
    assert!(conn.execute_batch("UPDATE agents SET created_at = 'yesterday'").is_err());
    assert!(conn.execute_batch("UPDATE agents SET name = x'00'").is_err());
    assert!(conn.execute_batch("UPDATE meta SET value = NULL").is_err());
}

#[test]
fn an_agent_takes_what_belongs_to_it_along() {
    let conn = filled();
    conn.execute_batch("DELETE FROM agents").unwrap();
    for (table, columns) in ROWS {
        if columns.iter().any(|(name, _)| *name == "agent_id") {
            let rows: i64 = conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 0, "{table}");
        }
    }
}

#[test]
fn log_ids_are_never_used_again() {
    let conn = filled();
    conn.execute_batch("DELETE FROM agent_logs").unwrap();
    conn.execute_batch(&insert("agent_logs", row("agent_logs").get(1..).unwrap())).unwrap();
    let id: i64 = conn.query_row("SELECT id FROM agent_logs", [], |row| row.get(0)).unwrap();
    assert_eq!(id, 2);
}
