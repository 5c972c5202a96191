//! Two thousand calls at once, half of them for a provider that is stuck.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use moorline::plugins::CallError;
use serde_json::json;

use super::cc;
use super::rig::{Rig, identity, is_gone, prove};

/// For each of the two providers.
const CALLS: usize = 1_000;
/// More calls for the stuck one than its queue of 1,024 holds beside those under way.
const BEYOND: usize = 100;

/// Threads of this process whose name begins so; other tests have others.
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.starts_with(name)).count()
}

/// Other tests add to it, so only a coarse bound makes sense.
fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn a_stuck_provider_slows_nobody_else_in_a_crowd() {
    let rig = Arc::new(Rig::new([identity("stuck", &cc::library("odd", ""))]));
    rig.call("stuck", "echo", &json!({})).unwrap();
    rig.others_are_fine();
    let (stuck_pid, resident) = (rig.pid("stuck"), resident_mib());
    let (stuck, good) = (rig.provider("stuck"), rig.provider("good"));
    let begun = Instant::now();
    let (tell_good, told_good) = channel();
    let (tell_stuck, told_stuck) = channel();
    let mut refused = 0;
    for number in 0..CALLS + BEYOND {
        let (its_rig, tell) = (Arc::clone(&rig), tell_stuck.clone());
        let work = move || {
            let _ = tell.send(its_rig.call("stuck", "sleep", &json!({})).map(drop));
        };
        refused += usize::from(rig.app.plugins.submit(&stuck, work).is_err());
        if number < CALLS {
            let (its_rig, tell) = (Arc::clone(&rig), tell_good.clone());
            let work = move || {
                let _ = tell.send(prove(&its_rig, "good"));
            };
            rig.app.plugins.submit(&good, work).unwrap();
        }
    }
    let submitted = begun.elapsed();
    assert!(submitted < Duration::from_secs(5), "whoever asks is not held: {submitted:?}");
    // The queue holds 1,024, and four more were on a thread by then or not yet.
    let least = CALLS + BEYOND - 1_024 - 4;
    assert!((least..=least + 4).contains(&refused), "{refused} were refused at once");
    drop((tell_good, tell_stuck));

    let good_answers: Vec<_> = told_good.iter().collect();
    let took = begun.elapsed();
    assert_eq!(good_answers.len(), CALLS);
    assert!(good_answers.iter().all(|answer| answer.as_deref() == Ok("i-123")));
    assert!(took < Duration::from_secs(15), "the good provider took {took:?} for all");
    assert_eq!(threads("plugin-stuck"), 4);
    assert!(threads("plugin-good") <= 4);
    let grown = resident_mib().saturating_sub(resident);
    assert!(grown < 128, "{grown} MiB more");

    let stuck_answers: Vec<_> = told_stuck.iter().collect();
    let took = begun.elapsed();
    assert_eq!(stuck_answers.len() + refused, CALLS + BEYOND);
    assert!((25..40).contains(&took.as_secs()), "the stuck provider took {took:?} for all");
    let timed_out = stuck_answers.iter().filter(|answer| **answer == Err(CallError::TimedOut)).count();
    let down = stuck_answers.iter().filter(|answer| matches!(answer, Err(CallError::Down(_)))).count();
    assert!((1..=4).contains(&timed_out), "{timed_out}");
    assert_eq!(timed_out + down, stuck_answers.len());
    is_gone(stuck_pid);
    rig.comes_back("stuck", "echo");
    rig.others_are_fine();
    rig.app.plugins.stop();
    assert_eq!((threads("plugin-stuck"), threads("plugin-good")), (0, 0));
}
