//! Many writers, many readers: nobody hears "locked", nobody sees half a write.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, Ordering};

use moorline::store::Error;

use super::place::{Place, add_note, count};

#[test]
fn writers_and_readers_never_hear_locked() {
    let place = Place::new();
    let store = place.open();
    let (writers, each) = (16, 60);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing: Vec<_> = (0..writers)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..each {
                        store
                            .write(move |write| {
                                add_note(write, &format!("{writer}/{n} a"))?;
                                add_note(write, &format!("{writer}/{n} b"))?;
                                Ok::<_, Error>(())
                            })
                            .unwrap();
                        let own = format!("SELECT count(*) FROM audit_log WHERE target = '{writer}/{n} b'");
                        assert_eq!(count(store, &own), 1, "who was answered sees its write");
                    }
                })
            })
            .collect();
        for _ in 0..6 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let rows = count(&store, "SELECT count(*) FROM audit_log");
                    assert_eq!(rows % 2, 0, "half a write is seen");
                    assert!(rows >= last, "time runs backwards");
                    last = rows;
                }
            });
        }
        writing.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(count(&store, "SELECT count(*) FROM audit_log"), writers * each * 2);
}

#[test]
fn a_read_sees_one_moment() {
    let place = Place::new();
    let store = place.open();
    store
        .read(|conn| {
            let rows = || -> Result<i64, Error> {
                Ok(conn.query_row("SELECT count(*) FROM audit_log", [], |row| row.get(0))?)
            };
            assert_eq!(rows()?, 0);
            store.write(|write| Ok::<_, Error>(add_note(write, "meanwhile")?))?;
            assert_eq!(rows()?, 0);
            assert!(conn.execute("DELETE FROM audit_log", []).is_err(), "a reader cannot write");
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM audit_log"), 1);
}

#[test]
fn more_readers_than_connections_take_turns() {
    let place = Place::new();
    let store = place.open();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(count(&store, "SELECT count(*) FROM users"), 0)));
        }
    });
}
