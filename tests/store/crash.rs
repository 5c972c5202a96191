//! kill -9 in the middle of writing, and in the middle of the first start.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write as _};
use std::time::Duration;

use moorline::store::{Error, Store};

use super::place::{Place, add_note, child, child_file, note, notes, options};

/// The child: writes on several threads and says what was acknowledged, until it is killed.
#[test]
fn child_that_writes() {
    let Some(file) = child_file() else { return };
    let store = Store::open(options(&file)).unwrap();
    let began = std::process::id();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0.. {
                    let text = format!("{began}/{thread}/{n}");
                    note(store, text.clone()).unwrap();
                    // One write call, so that the line is whole or absent.
                    std::io::stdout().write_all(format!("\nacknowledged {text}\n").as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let place = Place::new();
    let mut acknowledged = Vec::new();
    for round in 0_u32..8 {
        let mut child = child("store::crash::child_that_writes", &place.file(), "").spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = acknowledged.len() + 20 + usize::try_from(round).unwrap() * 37;
        for line in lines.by_ref() {
            if let Some(text) = line.unwrap().strip_prefix("acknowledged ") {
                acknowledged.push(text.to_owned());
            }
            if acknowledged.len() == wanted {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts as well.
        acknowledged.extend(
            lines.map_while(Result::ok).filter_map(|line| Some(line.strip_prefix("acknowledged ")?.to_owned())),
        );
        assert!(acknowledged.len() >= wanted, "the child ended by itself");

        let store = place.open();
        let found: std::collections::HashSet<String> = notes(&store).into_iter().collect();
        for text in &acknowledged {
            assert!(found.contains(text), "{text} is lost (round {round})");
        }
        drop(store);
        let ok: String = place.raw().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(ok, "ok");
    }
}

/// The child: opens (and so makes) the store.
#[test]
fn child_that_opens() {
    let Some(file) = child_file() else { return };
    let store = Store::open(options(&file)).unwrap();
    store.write(|write| Ok::<_, Error>(add_note(write, "made")?)).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_first_start_that_was_killed_is_done_again() {
    for round in 0_u32..12 {
        let place = Place::new();
        let mut child = child("store::crash::child_that_opens", &place.file(), "").spawn().unwrap();
        // Any moment is worth trying, so the clock decides here.
        let lock = place.folder().join("m.db.lock");
        super::place::wait_until("the child has begun", || lock.exists());
        spin(Duration::from_micros(u64::from(round) * 1_500));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = place.open();
        note(&store, "again").unwrap();
        assert_eq!(notes(&store).last().map(String::as_str), Some("again"));
    }
}

fn spin(time: Duration) {
    let end = std::time::Instant::now() + time;
    while std::time::Instant::now() < end {
        std::hint::spin_loop();
    }
}

#[test]
fn a_second_process_is_told_the_first() {
    let place = Place::new();
    let mut child = child("store::crash::child_that_opens", &place.file(), "").spawn().unwrap();
    super::place::wait_until("the child has the store open", || place.wal().exists());
    let refusal = place.refusal();
    assert!(refusal.ends_with(&format!("in use by process {}", child.id())), "{refusal}");
    child.kill().unwrap();
    child.wait().unwrap();
    place.open();
}
