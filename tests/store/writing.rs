//! Group commit: order, isolation of failures, callbacks, the log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moorline::store::{Error, Store, Write};
use proptest::prelude::*;

use super::place::{Place, add_note, count, note, notes, options, wait_until};

/// Holds the writer inside of a write until dropped, so that those sent meanwhile form one group.
struct Held(Option<std::sync::mpsc::Sender<()>>);

fn hold(store: &Store) -> Held {
    let (release, released) = channel::<()>();
    let (entered, enter) = channel();
    store.write_then(
        move |_| {
            entered.send(()).unwrap();
            let _ = released.recv();
            Ok::<(), Error>(())
        },
        |_| {},
    );
    enter.recv().unwrap();
    Held(Some(release))
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0 = None;
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Keep,
    Fail,
    Panic,
    BreakConstraint,
}

fn act(write: &Write<'_>, n: usize, act: Act) -> Result<usize, Error> {
    add_note(write, &n.to_string())?;
    match act {
        Act::Keep => Ok(n),
        Act::Fail => Err(Error::Unsealable),
        Act::Panic => panic!("on purpose"),
        Act::BreakConstraint => {
            write.execute("INSERT INTO users (id) VALUES (x'00')", [])?;
            Ok(n)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_acknowledged_is_in_the_file_in_order(
        acts in prop::collection::vec(
            prop_oneof![6 => Just(Act::Keep), 1 => Just(Act::Fail), 1 => Just(Act::Panic), 1 => Just(Act::BreakConstraint)],
            1..60,
        ),
        held in any::<bool>(),
    ) {
        let place = Place::new();
        let store = place.open();
        let (answers, answered) = channel();
        let hold = held.then(|| hold(&store));
        for (n, what) in acts.iter().copied().enumerate() {
            let answers = answers.clone();
            store.write_then(move |write| act(write, n, what), move |result| answers.send((n, result)).unwrap());
        }
        drop((hold, answers));
        let mut kept = Vec::new();
        for (n, result) in answered {
            prop_assert_eq!(result.is_ok(), matches!(acts.get(n), Some(Act::Keep)), "write {}", n);
            if let Ok(n) = result {
                kept.push(n.to_string());
            }
        }
        prop_assert!(kept.is_sorted_by_key(|n| n.parse::<usize>().unwrap()));
        // As after a crash: a copy of file and log, without closing.
        let copy = Place::new();
        for name in ["m.db", "m.db-wal", "m.db.key"] {
            std::fs::copy(place.folder().join(name), copy.folder().join(name)).unwrap();
        }
        prop_assert_eq!(&notes(&copy.open()), &kept);
        drop(store);
        prop_assert_eq!(&notes(&place.open()), &kept);
    }
}

#[test]
fn each_failure_is_told_as_what_it_is() {
    let place = Place::new();
    let store = place.open();
    assert!(matches!(store.write(|write| act(write, 1, Act::Fail)), Err(Error::Unsealable)));
    assert!(matches!(store.write(|write| act(write, 2, Act::Panic)), Err(Error::Panicked)));
    match store.write(|write| act(write, 3, Act::BreakConstraint)) {
        Err(Error::Sqlite(_)) => {}
        other => panic!("{other:?}"),
    }
    assert!(notes(&store).is_empty());
    note(&store, "after").unwrap();
}

#[test]
fn topics_are_published_after_the_commit_and_only_of_what_was_kept() {
    use moorline::model::AgentId;
    use moorline::ops::hub::{Hub, Topic};
    let place = Place::new();
    let hub = Hub::default();
    let mut options = options(&place.file());
    options.hub = hub.clone();
    let store = Store::open(options).unwrap();
    let (kept, lost) =
        (Topic::AgentLogs(AgentId(uuid::Uuid::from_u128(1))), Topic::AgentLogs(AgentId(uuid::Uuid::from_u128(2))));
    let seen = super::place::listen(&hub, &[kept, lost]);
    publish(&store, kept);
    let failed = store.write(move |write| {
        write.publish(lost);
        Err::<(), _>(Error::Unsealable)
    });
    assert!(failed.is_err());
    publish(&store, kept);
    drop(store);
    assert_eq!(seen(), [kept], "one letter in flight, none for what was undone");
}

#[test]
fn a_callback_that_panics_harms_nobody() {
    let place = Place::new();
    let store = place.open();
    store.write_then(|write| Ok::<_, Error>(add_note(write, "first")?), |_| panic!("on purpose"));
    note(&store, "second").unwrap();
    assert_eq!(notes(&store), ["first", "second"]);
}

#[test]
fn every_callback_is_called_once_whatever_happens() {
    let place = Place::new();
    let store = place.open();
    let called = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let hold = hold(&store);
    let sent = 10_000;
    for _ in 0..sent {
        let (called, refused) = (Arc::clone(&called), Arc::clone(&refused));
        store.write_then(
            |write| Ok::<_, Error>(add_note(write, "x")?),
            move |result| {
                called.fetch_add(1, Ordering::Relaxed);
                if matches!(result, Err(Error::Overloaded)) {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            },
        );
    }
    let at_once = refused.load(Ordering::Relaxed);
    assert!(at_once > 0 && at_once < sent, "the queue is bounded: {at_once} refused");
    drop(hold);
    store.close();
    assert_eq!(called.load(Ordering::Relaxed), sent);
    assert_eq!(count(&place.open(), "SELECT count(*) FROM audit_log"), i64::try_from(sent - at_once).unwrap());
}

#[test]
fn the_last_handle_may_be_dropped_by_a_callback() {
    let place = Place::new();
    let store = place.open();
    let cell = Arc::new(Mutex::new(None));
    *cell.lock().unwrap() = Some(store.clone());
    let hold = hold(&store);
    store.write_then(|write| Ok::<_, Error>(add_note(write, "x")?), move |_| drop(cell.lock().unwrap().take()));
    drop(store);
    drop(hold);
    wait_until("the lock is released", || place.try_open().is_ok());
    assert_eq!(notes(&place.open()), ["x"]);
}

#[test]
fn a_closure_cannot_commit_by_itself() {
    let place = Place::new();
    let store = place.open();
    let result = store.write(|write| {
        add_note(write, "x")?;
        write.execute_batch("COMMIT").map_err(Error::from)
    });
    assert!(result.is_err());
    note(&store, "after").unwrap();
    assert_eq!(notes(&store), ["after"]);
}

#[test]
fn waits_for_another_program_once_and_goes_on() {
    let place = Place::new();
    let store = place.open();
    let other = place.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let (answers, answered) = channel();
    for n in 0..50 {
        let answers = answers.clone();
        store.write_then(
            move |write| Ok::<_, Error>(add_note(write, &n.to_string())?),
            move |result| answers.send(result).unwrap(),
        );
    }
    drop(answers);
    let errors: Vec<_> = answered.into_iter().collect();
    assert!(errors.len() == 50 && errors.iter().all(|error| matches!(error, Err(Error::Busy))), "{errors:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "all waited together");
    assert!(notes(&store).is_empty(), "reads do not wait");
    other.execute_batch("ROLLBACK").unwrap();
    note(&store, "after").unwrap();
    assert_eq!(notes(&store), ["after"]);
}

#[test]
fn the_log_stays_bounded_while_reads_overlap() {
    let place = Place::new();
    let store = place.open();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    count(&store, "SELECT count(*) FROM audit_log");
                }
            })
        })
        .collect();
    write_half_a_mebibyte(&store, 100);
    let log = store.size().log;
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(log <= 32 << 20, "{log} bytes of log after 50 MiB of writes");
}

#[test]
fn a_read_that_never_ends_makes_the_log_grow_only_while_it_lasts() {
    let place = Place::new();
    let store = place.open();
    let other = place.raw();
    other.execute_batch("BEGIN; SELECT count(*) FROM users;").unwrap();
    let began = Instant::now();
    write_half_a_mebibyte(&store, 180);
    let log = store.size().log;
    assert!(log > 64 << 20, "{log}");
    other.execute_batch("ROLLBACK").unwrap();
    write_half_a_mebibyte(&store, 8);
    let log = store.size().log;
    assert!(log <= 16 << 20, "{log} bytes of log, {:?}", began.elapsed());
}

fn publish(store: &Store, topic: moorline::ops::hub::Topic) {
    store
        .write(move |write| {
            write.publish(topic);
            Ok::<_, Error>(())
        })
        .unwrap();
}

/// Writes 512 KiB of rows and removes them, `times` over.
fn write_half_a_mebibyte(store: &Store, times: usize) {
    let text = "x".repeat(64 * 1024);
    for n in 0..times {
        let text = format!("{n}{text}");
        store
            .write(move |write| {
                for _ in 0..8 {
                    add_note(write, &text)?;
                }
                write.execute("DELETE FROM audit_log", [])?;
                Ok::<_, Error>(())
            })
            .unwrap();
    }
}
