//! What a store opens, makes and refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use moorline::store::lock::{Lock, LockError};
use moorline::store::{Error, OpenError, Store, default_key_file};
use rusqlite::Connection;

use super::place::{Place, add_note, note, notes, options};

const SCHEMA: &str = include_str!("../../sql/schema.sql");

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn schema(conn: &Connection) -> Vec<(String, String, Option<String>)> {
    conn.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn makes_a_private_file_with_the_schema() {
    let place = Place::new();
    let store = place.open();
    assert!(store.was_created());
    for name in ["m.db", "m.db-wal", "m.db-shm", "m.db.key", "m.db.lock"] {
        let path = place.folder().join(name);
        if path.exists() {
            assert_eq!(mode(&path), 0o600, "{name}");
        } else {
            assert!(name.starts_with("m.db-"), "{name} is missing");
        }
    }
    let model = Connection::open_in_memory().unwrap();
    model.execute_batch(SCHEMA).unwrap();
    assert_eq!(schema(&place.raw()), schema(&model));
}

#[test]
fn keeps_its_deployment_id_and_rows() {
    let place = Place::new();
    let store = place.open();
    let id = store.deployment_id();
    note(&store, "kept").unwrap();
    drop(store);
    assert!(!place.wal().exists(), "a clean end leaves no log");
    let store = place.open();
    assert!(!store.was_created());
    assert_eq!(store.deployment_id(), id);
    assert_eq!(notes(&store), ["kept"]);
    assert_ne!(Place::new().open().deployment_id(), id);
}

#[test]
fn starts_anew_from_an_empty_file_and_from_half_a_first_start() {
    let place = Place::new();
    std::fs::write(place.file(), "").unwrap();
    std::fs::write(place.folder().join("m.db.new"), "half").unwrap();
    std::fs::write(place.folder().join("m.db.new-wal"), "half").unwrap();
    std::fs::write(place.folder().join("m.db.key.new"), "half").unwrap();
    assert!(place.open().was_created());
    let mut left: Vec<_> = std::fs::read_dir(place.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["m.db", "m.db.key", "m.db.lock"]);
}

#[test]
fn refuses_a_folder_that_does_not_exist_and_makes_nothing() {
    let place = Place::new();
    let file = place.folder().join("mistyped/m.db");
    let Err(error) = Store::open(options(&file)) else { panic!("opened") };
    assert!(error.to_string().contains("mistyped does not exist"), "{error}");
    assert_eq!(std::fs::read_dir(place.folder()).unwrap().count(), 0);
}

#[test]
fn refuses_a_missing_file_unless_told_to_make_it() {
    let place = Place::new();
    let mut options = options(&place.file());
    options.create = false;
    let Err(error) = Store::open(options) else { panic!("opened") };
    assert!(error.to_string().ends_with("m.db: no such file"), "{error}");
    assert_eq!(std::fs::read_dir(place.folder()).unwrap().count(), 0);
}

#[test]
fn refuses_what_is_no_file_of_ours_and_leaves_it_alone() {
    let place = Place::new();
    std::fs::create_dir(place.file()).unwrap();
    assert!(place.refusal().contains("it is a folder"));
    std::fs::remove_dir(place.file()).unwrap();

    let text = "a letter to a friend, long enough to be taken for a header of one hundred bytes; ".repeat(3);
    std::fs::write(place.file(), &text).unwrap();
    assert!(place.refusal().contains("it is not a SQLite file"));
    assert_eq!(std::fs::read_to_string(place.file()).unwrap(), text);

    std::fs::remove_file(place.file()).unwrap();
    place.raw().execute_batch("CREATE TABLE songs (name TEXT)").unwrap();
    let before = std::fs::read(place.file()).unwrap();
    assert!(place.refusal().contains("not one of Moorline"));
    assert_eq!(std::fs::read(place.file()).unwrap(), before);
    assert!(!default_key_file(&place.file()).exists(), "no key for a file that is not ours");
}

#[test]
fn refuses_a_second_process_with_the_id_of_the_first() {
    let place = Place::new();
    let store = place.open();
    match place.try_open() {
        Err(OpenError::InUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened twice"),
    }
    assert!(place.refusal().ends_with(&format!("in use by process {}", std::process::id())));
    match Lock::acquire(&place.file()) {
        Err(LockError::Held { pid }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    let link = place.folder().join("other-name.db");
    std::os::unix::fs::symlink("m.db", &link).unwrap();
    let mut by_link = options(&link);
    by_link.key_file = default_key_file(&place.file());
    assert!(matches!(Store::open(by_link), Err(OpenError::InUse { .. })), "by another name");
    drop(store);
    drop(Lock::acquire(&place.file()).unwrap());
    place.open();
}

#[test]
fn refuses_a_missing_and_a_wrong_key() {
    let place = Place::new();
    drop(place.open());
    let key = default_key_file(&place.file());
    let right = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let error = place.refusal();
    assert!(error.contains("m.db.key") && error.contains("restore the key"), "{error}");
    assert!(!key.exists(), "no new key for an old file");

    std::fs::write(&key, [7; 32]).unwrap();
    assert!(place.refusal().contains("mode 644"));
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let error = place.refusal();
    assert!(error.contains("m.db:") && error.contains("m.db.key does not belong to it"), "{error}");

    std::fs::write(&key, right).unwrap();
    place.open();
}

#[test]
fn refuses_a_newer_file_untouched() {
    let place = Place::new();
    drop(place.open());
    place.raw().execute_batch("PRAGMA user_version = 99").unwrap();
    std::fs::copy(place.file(), place.folder().join("m.db.before-0099")).unwrap();
    Connection::open(place.folder().join("m.db.before-0099"))
        .unwrap()
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA user_version = 1")
        .unwrap();
    let before = std::fs::read(place.file()).unwrap();
    let error = place.refusal();
    let known = format!("versions up to {}", migrations().len());
    assert!(error.contains("schema version 99") && error.contains(&known), "{error}");
    assert!(error.contains("m.db.before-0099"), "{error}");
    assert_eq!(std::fs::read(place.file()).unwrap(), before);
}

#[test]
fn refuses_a_newer_file_whose_version_is_still_in_the_log() {
    let place = Place::new();
    drop(place.open());
    let other = place.raw();
    other.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA user_version = 99").unwrap();
    let (file, wal) = (std::fs::read(place.file()).unwrap(), std::fs::read(place.wal()).unwrap());
    assert!(place.refusal().contains("schema version 99"));
    assert_eq!(std::fs::read(place.file()).unwrap(), file);
    assert_eq!(std::fs::read(place.wal()).unwrap(), wal);
}

#[test]
fn migrates_a_file_without_version_after_a_copy() {
    let place = Place::new();
    let store = place.open();
    note(&store, "old").unwrap();
    drop(store);
    let meta = empty(&place.raw());
    assert_eq!(meta.len(), 2);
    // Migrated, but now without a proof of its key: refused after the migration, with the copy kept.
    assert!(place.refusal().contains("no proof of its key"));
    assert!(place.folder().join(format!("m.db.before-{:04}", migrations().len())).exists());
    for fact in meta {
        place.raw().execute("INSERT INTO meta VALUES (?, ?)", fact).unwrap();
    }
    assert!(notes(&place.open()).is_empty());
}

#[test]
fn migrates_a_file_of_the_first_version_with_what_is_in_it() {
    let place = Place::new();
    drop(place.open());
    let raw = place.raw();
    let meta = empty(&raw);
    raw.execute_batch(&std::fs::read_to_string(&migrations()[0]).unwrap()).unwrap();
    for fact in meta {
        raw.execute("INSERT INTO meta VALUES (?, ?)", fact).unwrap();
    }
    add_note(&raw, "old").unwrap();
    raw.execute_batch("PRAGMA user_version = 1").unwrap();
    drop(raw);
    assert_eq!(notes(&place.open()), ["old"]);
}

/// Takes a file back to before its first version; gives its facts.
fn empty(raw: &Connection) -> Vec<(String, Vec<u8>)> {
    raw.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA user_version = 0;").unwrap();
    let meta = raw
        .prepare("SELECT key, value FROM meta")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (kind, name, _) in schema(raw) {
        if kind == "table" && !name.starts_with("sqlite_") {
            raw.execute_batch(&format!("DROP TABLE {name}")).unwrap();
        }
    }
    meta
}

/// The migrations there are, in order.
fn migrations() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn refuses_a_file_whose_schema_was_changed_by_hand() {
    let place = Place::new();
    drop(place.open());
    place.raw().execute_batch("DROP INDEX audit_log_at").unwrap();
    assert!(place.refusal().contains("the index audit_log_at is missing"));
    place.raw().execute_batch("CREATE INDEX audit_log_at ON audit_log (at); CREATE TABLE mine (x)").unwrap();
    assert!(place.refusal().contains("the table mine is not part of the schema"));
    place
        .raw()
        .execute_batch("DROP TABLE mine; CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
        .unwrap();
    place.open();
}

#[test]
fn refuses_to_replace_a_file_whose_log_is_left() {
    let place = Place::new();
    drop(place.open());
    let raw = place.raw();
    add_note(&raw, "acknowledged").unwrap();
    std::fs::copy(place.wal(), place.folder().join("log")).unwrap();
    drop(raw);
    std::fs::rename(place.folder().join("log"), place.wal()).unwrap();
    std::fs::rename(place.file(), place.folder().join("elsewhere.db")).unwrap();
    let error = place.refusal();
    assert!(error.contains("m.db-wal holds writes that belong to it"), "{error}");
    std::fs::rename(place.folder().join("elsewhere.db"), place.file()).unwrap();
    assert_eq!(notes(&place.open()), ["acknowledged"]);
}

#[test]
fn closes_under_the_hands_of_other_handles() {
    let place = Place::new();
    let store = place.open();
    let other = store.clone();
    for n in 0..100 {
        store.write_then(move |write| Ok::<_, Error>(add_note(write, &n.to_string())?), |_| {});
    }
    store.close();
    assert!(matches!(note(&other, "late"), Err(Error::Closed)));
    assert!(matches!(other.read(|_| Ok::<(), Error>(())), Err(Error::Closed)));
    let again = place.open();
    assert_eq!(notes(&again).len(), 100, "what waited was written");
}
