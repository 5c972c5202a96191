//! A file with damaged pages.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::FileExt;

use moorline::store::Error;

use super::place::{Place, add_note, count, note, wait_until};

/// Overwrites the pages of the largest table with nonsense.
fn damage(place: &Place) {
    let raw = place.raw();
    let root: u32 =
        raw.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'audit_log'", [], |row| row.get(0)).unwrap();
    drop(raw);
    let file = std::fs::OpenOptions::new().write(true).open(place.file()).unwrap();
    file.write_all_at(&[0xA5; 4096], u64::from(root - 1) * 4096).unwrap();
}

fn fill(place: &Place) {
    let store = place.open();
    store
        .write(|write| {
            for n in 0..2_000 {
                add_note(write, &format!("{n:0100}"))?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
}

#[test]
fn is_found_at_start_and_left_as_it_is() {
    let place = Place::new();
    fill(&place);
    damage(&place);
    let before = std::fs::read(place.file()).unwrap();
    let error = place.refusal();
    assert!(error.contains("it is damaged") && error.contains("your last backup"), "{error}");
    assert_eq!(std::fs::read(place.file()).unwrap(), before);
}

#[test]
fn found_by_a_read_stops_writes_but_not_reads() {
    let place = Place::new();
    fill(&place);
    let store = place.open();
    damage(&place);
    let read = store.read(|conn| {
        Ok::<i64, Error>(conn.query_row("SELECT count(*) FROM audit_log WHERE target = 'x'", [], |row| row.get(0))?)
    });
    assert!(matches!(read, Err(Error::Corrupt(_))), "{read:?}");
    assert!(store.damage().is_some());
    assert!(matches!(store.write(|_| Ok::<(), Error>(())), Err(Error::Corrupt(_))));
    assert_eq!(count(&store, "SELECT count(*) FROM users"), 0);
}

#[test]
fn found_by_a_write_stops_writes_and_keeps_nothing_of_its_group() {
    let place = Place::new();
    fill(&place);
    let store = place.open();
    damage(&place);
    // A change by another connection makes the writer forget the good pages that it has in memory.
    place.raw().execute("INSERT INTO meta VALUES ('x', x'00')", []).unwrap();
    let result = note(&store, "x");
    assert!(matches!(result, Err(Error::Corrupt(_))), "{result:?}");
    assert!(matches!(store.write(|_| Ok::<(), Error>(())), Err(Error::Corrupt(_))));
    assert!(store.damage().is_some());
    assert_eq!(count(&store, "SELECT count(*) FROM users"), 0);
}

#[test]
fn the_damage_of_another_file_is_not_ours() {
    let (ours, other) = (Place::new(), Place::new());
    fill(&other);
    damage(&other);
    let store = ours.open();
    let broken = other.raw();
    let error: Error =
        broken.query_row("SELECT count(*) FROM audit_log WHERE target = 'x'", [], |_| Ok(())).unwrap_err().into();
    assert!(matches!(error, Error::Corrupt(_)));
    assert!(store.read(|_| Err::<(), _>(Error::Unsealable)).is_err());
    assert_eq!(store.damage(), None);
    note(&store, "fine").unwrap();
}

#[test]
fn of_a_large_file_is_found_by_the_keeper() {
    use moorline::store::{Keeper, Retention};
    let place = Place::new();
    fill(&place);
    // A hole of 70 MiB that belongs to nothing: large enough not to be checked at start.
    let raw = place.raw();
    raw.execute_batch("PRAGMA journal_mode = DELETE; CREATE TABLE big (x BLOB); INSERT INTO big VALUES (zeroblob(73400320)); DROP TABLE big; PRAGMA journal_mode = WAL;").unwrap();
    drop(raw);
    damage(&place);
    let store = place.open();
    assert_eq!(store.damage(), None);
    let keeper = Keeper::start(store.clone(), Retention::default()).unwrap();
    wait_until("the keeper finds the damage", || store.damage().is_some());
    drop(keeper);
    assert!(matches!(note(&store, "x"), Err(Error::Corrupt(_))));
}
