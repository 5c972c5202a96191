//! Programs that wait until somebody has signed in.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{by_id, house, is_token};
use crate::golden::rig::{self, Ask};
use crate::harness::link::{self, token};
use crate::harness::until;

#[test]
fn a_hundred_programs_wait_without_a_thread_and_go_on_within_a_second() {
    let mut house = house();
    // The rig has two http threads and one for the pool.
    let mut ask = by_id();
    ask.path += "&listen=true";
    let done = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let (socket, arrivals, ask) = (house.rig.socket(), house.rig.arrivals.clone(), ask.clone());
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                let got = rig::ask_alone(&socket, &arrivals, &ask);
                done.lock().unwrap().push((Instant::now(), got));
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let got = house.rig.ask(&Ask::new("GET", "/api/v2/buildinfo"));
    assert_eq!(got.status, 200);
    assert!(done.lock().unwrap().is_empty());
    let linked = Instant::now();
    link::put(&house.rig.app, "gh", house.alice, &token("token-fresh", "", None));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let done = done.lock().unwrap();
    let mut took: Vec<Duration> = done.iter().map(|(at, _)| at.duration_since(linked)).collect();
    took.sort();
    for (_, got) in done.iter() {
        is_token(got, "token-fresh");
    }
    assert!(took[50] < Duration::from_secs(2), "{took:?}");
    assert_eq!(house.fake.know().validated, ["token-fresh"]);
}

#[test]
fn listening_goes_on_over_tokens_that_are_no_good() {
    let house = house();
    house.fake.know().good = vec!["token-good".into()];
    link::put(&house.rig.app, "gh", house.alice, &token("token-bad", "", None));
    let mut ask = by_id();
    ask.path += "&listen";
    let (socket, arrivals) = (house.rig.socket(), house.rig.arrivals.clone());
    let listener = std::thread::spawn(move || rig::ask_alone(&socket, &arrivals, &ask));
    until("the bad token was looked at", || (!house.fake.know().validated.is_empty()).then_some(()));
    link::put(&house.rig.app, "gh", house.alice, &token("token-worse", "", None));
    until("the next one, too", || (house.fake.know().validated.len() > 1).then_some(()));
    assert!(!listener.is_finished());
    link::put(&house.rig.app, "gh", house.alice, &token("token-good", "", None));
    is_token(&listener.join().unwrap(), "token-good");
}
