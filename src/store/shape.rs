//! Proof that a file has the schema that the program was written for.

use std::collections::BTreeMap;

use rusqlite::Connection;

/// A table, index, view or trigger: its kind and name.
type Thing = (String, String);

/// What differs between the schema of `conn` and the one that `schema` makes; `None`: nothing.
///
/// Texts are compared word by word, so layout, comments and quoting do not matter (`ALTER TABLE`
/// changes those). SQLite's own tables are left out, and those of Litestream, which operators may let
/// replicate the file.
pub(super) fn difference(conn: &Connection, schema: &str) -> rusqlite::Result<Option<String>> {
    let found = things(conn)?;
    if is_verbatim(&found, schema) {
        return Ok(None);
    }
    let model = Connection::open_in_memory()?;
    model.execute_batch(schema)?;
    let wanted = things(&model)?;
    for ((kind, name), sql) in &wanted {
        match found.get(&(kind.clone(), name.clone())) {
            None => return Ok(Some(format!("the {kind} {name} is missing"))),
            Some(other) => {
                if let Some(difference) = first_difference(&words(sql), &words(other)) {
                    return Ok(Some(format!("the {kind} {name} differs: {difference}")));
                }
            }
        }
    }
    let extra = found.keys().find(|thing| !wanted.contains_key(*thing));
    Ok(extra.map(|(kind, name)| format!("the {kind} {name} is not part of the schema")))
}

/// Whether each thing is a statement of `schema` as it stands there, and there are as many of both: the
/// usual case, told without running the schema (2 ms of every start).
fn is_verbatim(found: &BTreeMap<Thing, String>, schema: &str) -> bool {
    found.len() == schema.lines().filter(|line| line.starts_with("CREATE ")).count()
        && found.values().all(|sql| schema.contains(&format!("\n{sql};\n")))
}

fn things(conn: &Connection) -> rusqlite::Result<BTreeMap<Thing, String>> {
    conn.prepare("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema")?
        .query_map([], |row| {
            let (name, table): (String, String) = (row.get(1)?, row.get(2)?);
            let foreign =
                [&name, &table].iter().any(|name| name.starts_with("sqlite_") || name.starts_with("_litestream"));
            Ok((!foreign).then_some(((row.get(0)?, name), row.get(3)?)))
        })?
        .filter_map(Result::transpose)
        .collect()
}

fn first_difference(wanted: &[String], found: &[String]) -> Option<String> {
    if wanted == found {
        return None;
    }
    let same = wanted.iter().zip(found).take_while(|(wanted, found)| wanted == found).count();
    let part = |words: &[String]| {
        let part: Vec<&str> = words.iter().skip(same.saturating_sub(2)).take(8).map(String::as_str).collect();
        part.join(" ")
    };
    Some(format!("the file has `{}` where the program expects `{}`", part(found), part(wanted)))
}

/// The words of an SQL text: names and keywords in lower case and unquoted, literals and signs as
/// they stand, no comments.
fn words(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            '\'' => quoted(rest, '\''),
            '"' | '`' => quoted(rest, first),
            '[' => rest.find(']').map_or(rest.len(), |at| at + 1),
            _ if is_word(first) => rest.find(|next| !is_word(next)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        match first {
            '-' | '/' if length > 1 => {}
            '"' | '`' | '[' => words.push(word.trim_matches(['"', '`', '[', ']']).to_lowercase()),
            '\'' => words.push(word.to_owned()),
            _ => words.push(word.to_lowercase()),
        }
        rest = after.trim_start();
    }
    words
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Length of the quoted text at the start of `text`; a doubled quote reads as two texts in a row,
/// which compare just as well.
fn quoted(text: &str, quote: char) -> usize {
    text.char_indices().skip(1).find(|(_, c)| *c == quote).map_or(text.len(), |(at, c)| at + c.len_utf8())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    use crate::store::migrate::SCHEMA as REAL;

    const SCHEMA: &str = "
        -- A comment.
        CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'It''s') STRICT;
        CREATE INDEX a_name ON a (lower(name)) WHERE name <> '';";

    fn differs(sql: &str) -> Option<String> {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        difference(&conn, SCHEMA).unwrap()
    }

    #[test]
    fn takes_a_fresh_file_verbatim() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(REAL).unwrap();
        let mut found = things(&conn).unwrap();
        assert!(is_verbatim(&found, REAL));
        found.values_mut().for_each(|sql| sql.truncate(sql.len() - 1));
        assert!(!is_verbatim(&found, REAL));
        found.pop_last();
        assert!(!is_verbatim(&found, REAL));
    }

    #[test]
    fn layout_comments_and_quotes_do_not_matter() {
        let sql = "create table \"a\"(id INTEGER PRIMARY KEY, /* x */ [name] text\nNOT NULL DEFAULT 'It''s') STRICT;
                   CREATE INDEX a_name ON a(lower( name ))WHERE name<>'' -- why
                   ;";
        assert_eq!(differs(sql), None);
    }

    #[test]
    fn added_columns_compare_equal() {
        let sql = "CREATE TABLE a (id INTEGER PRIMARY KEY) STRICT; ALTER TABLE a ADD COLUMN name TEXT NOT NULL DEFAULT 'It''s';
                   CREATE INDEX a_name ON a (lower(name)) WHERE name <> '';";
        assert_eq!(differs(sql), None);
    }

    #[test]
    fn tables_of_litestream_are_left_alone() {
        let sql = format!("{SCHEMA} CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);");
        assert_eq!(differs(&sql), None);
    }

    #[test]
    fn names_what_differs() {
        let missing = SCHEMA.replace("CREATE INDEX", "-- CREATE INDEX");
        assert_eq!(differs(&missing).unwrap(), "the index a_name is missing");
        let extra = format!("{SCHEMA} CREATE TABLE b (id INTEGER);");
        assert_eq!(differs(&extra).unwrap(), "the table b is not part of the schema");
        let changed = differs(&SCHEMA.replace("'It''s'", "'it''s'")).unwrap();
        assert!(changed.starts_with("the table a differs: the file has `null default 'it' 's'"), "{changed}");
        assert!(differs(&SCHEMA.replace(" STRICT", "")).is_some());
    }
}
