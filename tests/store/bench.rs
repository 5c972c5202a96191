//! Rough figures, printed when asked for: `cargo test --release --test main store::bench -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use moorline::store::Error;

use super::place::{Place, add_note, count, note};

#[test]
fn opens_quickly() {
    let place = Place::new();
    let began = Instant::now();
    drop(place.open());
    let fresh = began.elapsed();
    let began = Instant::now();
    let store = place.open();
    let existing = began.elapsed();
    println!("open: fresh {fresh:?}, existing {existing:?}");
    // Many times the budget (20 ms, 5 ms): a busy machine must not fail the test, a blunder must.
    assert!(fresh < Duration::from_secs(2) && existing < Duration::from_secs(1), "{fresh:?} {existing:?}");
    drop(store);
}

#[test]
#[ignore = "prints figures"]
fn writes_per_second() {
    let place = Place::new();
    let store = place.open();
    for threads in [1_u32, 16, 64] {
        let each = 2_000;
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..each).for_each(|_| note(&store, "a line of text, as long as most").unwrap()));
            }
        });
        println!(
            "{threads} waiting threads: {:.0} writes/s",
            f64::from(threads * each) / began.elapsed().as_secs_f64()
        );
    }
    let (sender, receiver) = channel::<Result<(), Error>>();
    let (total, window) = (200_000_u32, 2_000);
    let began = Instant::now();
    for n in 0..total {
        if n >= window {
            receiver.recv().unwrap().unwrap();
        }
        let sender = sender.clone();
        store.write_then(
            |write| Ok::<_, Error>(add_note(write, "a line of text, as long as most")?),
            move |result| sender.send(result).unwrap(),
        );
    }
    (0..window).for_each(|_| receiver.recv().unwrap().unwrap());
    println!("callbacks: {:.0} writes/s", f64::from(total) / began.elapsed().as_secs_f64());
    let (reads, began) = (100_000_u32, Instant::now());
    (0..reads).for_each(|_| assert_eq!(count(&store, "SELECT count(*) FROM users"), 0));
    println!("one reader: {:.0} reads/s", f64::from(reads) / began.elapsed().as_secs_f64());
}
