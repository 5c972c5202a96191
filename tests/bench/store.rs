//! Group commit against one transaction per write, on the same file system.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use moorline::ops::hub::Hub;
use moorline::store::{Error, Options, Store};

const TIME: Duration = Duration::from_secs(3);
const WRITERS: usize = 16;

pub fn run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bench.db");
    let plain = one_by_one(&dir.path().join("plain.db"));
    let store = Store::open(Options {
        file,
        key_file: dir.path().join("key"),
        create: true,
        readers: 2,
        hub: Hub::default(),
        allow_network_file_system: false,
    })
    .unwrap();
    let grouped = grouped(&store);
    let piped = piped(&store);
    println!("store   baseline          {plain:>8.0} durable writes/s, one transaction each");
    println!("store   {WRITERS} waiting writers {grouped:>8.0} durable writes/s ({:.1} × baseline)", grouped / plain);
    println!("store   1,000 in flight   {piped:>8.0} durable writes/s ({:.1} × baseline)", piped / plain);
}

fn one_by_one(file: &std::path::Path) -> f64 {
    let conn = rusqlite::Connection::open(file).unwrap();
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (v INTEGER) STRICT;")
        .unwrap();
    let (begun, mut count) = (Instant::now(), 0_u64);
    while begun.elapsed() < TIME {
        conn.prepare_cached("INSERT INTO t VALUES (?)").unwrap().execute([count.cast_signed()]).unwrap();
        count += 1;
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

fn insert(write: &moorline::store::Write<'_>) -> Result<(), Error> {
    write.prepare_cached("INSERT INTO meta (key, value) VALUES (hex(randomblob(8)), x'00')")?.execute([])?;
    Ok(())
}

fn grouped(store: &Store) -> f64 {
    let begun = Instant::now();
    let threads: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || {
                let mut count = 0_u64;
                while begun.elapsed() < TIME {
                    store.write(insert).unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    count as f64 / begun.elapsed().as_secs_f64()
}

fn piped(store: &Store) -> f64 {
    let (sender, receiver) = channel();
    let (begun, mut count, mut flying) = (Instant::now(), 0_u64, 0);
    while begun.elapsed() < TIME {
        while flying < 1_000 {
            let sender = sender.clone();
            store.write_then(insert, move |result| sender.send(result).unwrap());
            flying += 1;
        }
        receiver.recv().unwrap().unwrap();
        flying -= 1;
        count += 1;
    }
    while flying > 0 {
        receiver.recv().unwrap().unwrap();
        flying -= 1;
    }
    count as f64 / begun.elapsed().as_secs_f64()
}
