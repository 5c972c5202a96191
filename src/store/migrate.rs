//! Migrations: the steps that lead from an older file to the present schema.
//!
//! To change the schema: edit sql/schema.sql, add sql/migrations/NNNN-name.sql that makes the same of
//! a file of the version before, and append it to [`STEPS`]. A step that was released is never edited,
//! reordered or removed. Foreign keys stay on while steps run; one that rebuilds a table begins with
//! `PRAGMA defer_foreign_keys = ON` and rebuilds the tables that refer to it too.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};

use super::header::Header;
use super::{place, shape};

/// The schema that the program is written for.
pub(super) const SCHEMA: &str = include_str!("../../sql/schema.sql");

/// `application_id` of our files: "MOOR".
pub(super) const APPLICATION_ID: u32 = 0x4D4F_4F52;

/// One migration.
pub(super) struct Step {
    /// As in the name of its file.
    pub(super) name: &'static str,
    /// Its SQL.
    pub(super) sql: &'static str,
}

/// All migrations in order; the n-th leads to version n (`user_version` of the file).
pub(super) const STEPS: &[Step] = &[
    Step { name: "0001-initial", sql: include_str!("../../sql/migrations/0001-initial.sql") },
    Step { name: "0002-favorites", sql: include_str!("../../sql/migrations/0002-favorites.sql") },
    Step { name: "0003-tunnels", sql: include_str!("../../sql/migrations/0003-tunnels.sql") },
    Step { name: "0004-plugins", sql: include_str!("../../sql/migrations/0004-plugins.sql") },
    Step { name: "0005-external-auth", sql: include_str!("../../sql/migrations/0005-external-auth.sql") },
    Step { name: "0006-trust", sql: include_str!("../../sql/migrations/0006-trust.sql") },
];

/// Copies of one version that are kept at most; more mean that something fails over and over.
const COPIES: u32 = 9;

/// The version that the program is written for.
pub(super) fn newest() -> u32 {
    version_after(STEPS)
}

/// Why a file of a newer version is not opened, and what to do.
pub(super) fn refusal_of_newer(file: &Path, version: u32, known: u32) -> String {
    let way_back = match copy_to_go_back_to(file, known) {
        Some(copy) => format!("the copy that was made before it was migrated: {}", copy.display()),
        None => "a backup of that time (no copy lies beside it)".into(),
    };
    format!(
        "a newer Moorline has migrated it to schema version {version}, and this one knows versions up to {known}; \
         it was left untouched. Run the newer Moorline, or go back to {way_back}"
    )
}

/// Brings the file of `conn` to the last of `steps` and proves that its schema is then `schema`. All
/// steps succeed together or the file stays as it was. Says where the copy made before lies, if
/// there was anything to do.
pub(super) fn run(conn: &mut Connection, file: &Path, steps: &[Step], schema: &str) -> Result<Option<PathBuf>, String> {
    let target = version_after(steps);
    let version: u32 =
        conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|error| error.to_string())?;
    if version > target {
        return Err(refusal_of_newer(file, version, target));
    }
    if version == target {
        return prove(conn, schema).map(|()| None);
    }
    let began = Instant::now();
    let copy = copy_before(conn, file, target)?;
    log::info!("migrating {} from schema version {version} to {target}; copy: {}", file.display(), copy.display());
    match apply(conn, version, steps, schema) {
        Ok(()) => {
            log::info!("migrated {} in {:?}", file.display(), began.elapsed());
            Ok(Some(copy))
        }
        Err(error) => {
            // The file is as it was, so the copy is one of nothing; a service manager that tries
            // again and again would otherwise fill the disk with them.
            if let Err(error) = std::fs::remove_file(&copy) {
                log::warn!("{} cannot be removed: {error}", copy.display());
            }
            Err(format!("{error}; it was left as it was, at schema version {version}"))
        }
    }
}

fn apply(conn: &mut Connection, version: u32, steps: &[Step], schema: &str) -> Result<(), String> {
    let text = |error: rusqlite::Error| format!("the migration failed: {error}");
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(text)?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    for step in steps.iter().skip(done) {
        tx.execute_batch(step.sql).map_err(|error| format!("migration {} failed: {error}", step.name))?;
    }
    let dangling = tx.prepare("PRAGMA foreign_key_check").and_then(|mut check| check.exists([])).map_err(text)?;
    if dangling {
        return Err("the migration failed: it left rows that refer to nothing".into());
    }
    prove(&tx, schema)?;
    tx.pragma_update(None, "user_version", version_after(steps)).map_err(text)?;
    tx.commit().map_err(text)
}

fn prove(conn: &Connection, schema: &str) -> Result<(), String> {
    match shape::difference(conn, schema).map_err(|error| error.to_string())? {
        None => Ok(()),
        Some(difference) => Err(format!("its schema is not the one of this program: {difference}")),
    }
}

/// Copies the file to `FILE.before-NNNN`, NNNN being the version that it is about to be migrated to.
/// Such copies are never removed by the program.
fn copy_before(conn: &Connection, file: &Path, target: u32) -> Result<PathBuf, String> {
    let name = place::beside(file, &format!(".before-{target:04}"));
    let again = (2..=COPIES).map(|n| place::beside(&name, &format!("-{n}")));
    let Some(copy) = std::iter::once(name.clone()).chain(again).find(|copy| !copy.exists()) else {
        return Err(format!(
            "{COPIES} copies {}… lie beside it already; something fails over and over: keep one and remove the others",
            name.display()
        ));
    };
    let fresh = place::beside(&copy, ".new");
    let made = copy_into(conn, &fresh).and_then(|()| {
        std::fs::rename(&fresh, &copy).and_then(|()| place::sync_folder_of(&copy)).map_err(|error| error.to_string())
    });
    match made {
        Ok(()) => Ok(copy),
        Err(error) => {
            // The failure to make it is what counts.
            let _ = std::fs::remove_file(&fresh);
            Err(format!("it was not migrated because the copy {} cannot be made: {error}", copy.display()))
        }
    }
}

fn copy_into(conn: &Connection, fresh: &Path) -> Result<(), String> {
    match std::fs::remove_file(fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    let path = fresh.to_str().ok_or("its name is not UTF-8")?;
    // VACUUM INTO takes an empty file as it finds it: only the owner may read it.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh).map_err(|e| e.to_string())?;
    conn.execute("VACUUM INTO ?", [path]).map_err(|error| error.to_string())?;
    file.sync_all().map_err(|error| error.to_string())
}

/// The newest copy beside `file` that a program which knows versions up to `known` can open.
fn copy_to_go_back_to(file: &Path, known: u32) -> Option<PathBuf> {
    let prefix = format!("{}.before-", file.file_name()?.to_str()?);
    let mut copies: Vec<_> = std::fs::read_dir(file.parent()?)
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let ours = path.file_name()?.to_str()?.starts_with(&prefix) && path.extension()? != "new";
            let version = Header::read(&path).ok()??.user_version;
            let made = std::fs::metadata(&path).ok()?.modified().ok()?;
            (ours && version <= known).then_some((version, made, path))
        })
        .collect();
    copies.sort();
    copies.pop().map(|(_, _, path)| path)
}

fn version_after(steps: &[Step]) -> u32 {
    u32::try_from(steps.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const ONE: Step = Step { name: "0001-one", sql: "CREATE TABLE a (id INTEGER PRIMARY KEY) STRICT;" };
    const TWO: Step =
        Step { name: "0002-two", sql: "ALTER TABLE a ADD COLUMN name TEXT; INSERT INTO a VALUES (7, 'x');" };
    const SCHEMA_TWO: &str = "CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT) STRICT;";

    struct Place(tempfile::TempDir);

    impl Place {
        /// A file of version 1 with one row.
        fn new() -> Place {
            let place = Place(tempfile::tempdir().unwrap());
            let mut conn = place.open();
            apply(&mut conn, 0, &[ONE], ONE.sql).unwrap();
            conn.execute("INSERT INTO a VALUES (1)", []).unwrap();
            place
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("f.db")
        }

        fn open(&self) -> Connection {
            let conn = Connection::open(self.file()).unwrap();
            conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON").unwrap();
            conn
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = std::fs::read_dir(self.0.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.contains("before"))
                .collect();
            names.sort();
            names
        }
    }

    fn rows(conn: &Connection) -> i64 {
        conn.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap()
    }

    fn version(conn: &Connection) -> u32 {
        conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_list_is_the_folder_and_leads_to_the_schema() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/migrations");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, STEPS.iter().map(|step| step.name).collect::<Vec<_>>());
        for (number, step) in (1..).zip(STEPS) {
            assert!(step.name.starts_with(&format!("{number:04}-")), "{}", step.name);
        }
        let mut conn = Connection::open_in_memory().unwrap();
        apply(&mut conn, 0, STEPS, SCHEMA).unwrap();
    }

    #[test]
    fn copies_then_migrates_then_has_nothing_to_do() {
        let place = Place::new();
        let mut conn = place.open();
        let copy = run(&mut conn, &place.file(), &[ONE, TWO], SCHEMA_TWO).unwrap().unwrap();
        assert_eq!((version(&conn), rows(&conn)), (2, 2));
        assert_eq!(copy, place.0.path().join("f.db.before-0002"));
        let old = Connection::open(&copy).unwrap();
        assert_eq!((version(&old), rows(&old)), (1, 1));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&copy).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(run(&mut conn, &place.file(), &[ONE, TWO], SCHEMA_TWO).unwrap(), None);
        assert_eq!(place.names(), ["f.db.before-0002"]);
    }

    #[test]
    fn broken_steps_change_nothing() {
        let place = Place::new();
        let breaks = [
            ("no such table", "INSERT INTO nowhere VALUES (1);", SCHEMA_TWO),
            ("is not the one of this program", "CREATE TABLE b (x TEXT);", SCHEMA_TWO),
            (
                "refer to nothing",
                "PRAGMA defer_foreign_keys = ON; CREATE TABLE c (a INTEGER REFERENCES a (id)); INSERT INTO c VALUES (99);",
                "",
            ),
        ];
        for (reason, sql, schema) in breaks {
            let mut conn = place.open();
            let steps = [ONE, TWO, Step { name: "0003-broken", sql }];
            let error = run(&mut conn, &place.file(), &steps, schema).unwrap_err();
            assert!(error.contains(reason) && error.contains("left as it was, at schema version 1"), "{error}");
            assert_eq!((version(&conn), rows(&conn)), (1, 1), "{sql}");
            prove(&conn, ONE.sql).unwrap();
            assert!(place.names().is_empty(), "no copies pile up");
        }
    }

    #[test]
    fn newer_files_are_refused_with_the_way_back() {
        let place = Place::new();
        let mut conn = place.open();
        let error = refusal_of_newer(&place.file(), 2, 1);
        assert!(error.contains("no copy lies beside it"), "{error}");
        run(&mut conn, &place.file(), &[ONE, TWO], SCHEMA_TWO).unwrap();
        let error = run(&mut conn, &place.file(), &[ONE], ONE.sql).unwrap_err();
        assert!(error.contains("schema version 2") && error.contains("versions up to 1"), "{error}");
        assert!(error.contains("f.db.before-0002"), "{error}");
        assert_eq!((version(&conn), rows(&conn)), (2, 2));
    }

    #[test]
    fn copies_of_earlier_tries_are_kept() {
        let place = Place::new();
        std::fs::write(place.0.path().join("f.db.before-0002"), "precious").unwrap();
        let copy = run(&mut place.open(), &place.file(), &[ONE, TWO], SCHEMA_TWO).unwrap().unwrap();
        assert_eq!(copy, place.0.path().join("f.db.before-0002-2"));
        assert_eq!(std::fs::read(place.0.path().join("f.db.before-0002")).unwrap(), b"precious");
    }
}
