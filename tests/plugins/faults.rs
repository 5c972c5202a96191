//! Plugins that crash, hang, babble, and use the host in ways they must not: it costs them their process at most.

use std::time::{Duration, Instant};

use moorline::plugins::{CallError, Condition};
use moorline_plugin::schema::Verified;
use serde_json::{Value, json};

use super::cc;
use super::rig::{Rig, identity, is_gone};
use crate::harness;

fn down(called: Result<Value, CallError>) -> String {
    match called {
        Err(CallError::Down(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// The provider fails by `method`, is left alone for a second, and comes back.
fn crash(method: &str, how: &str) {
    let rig = Rig::odd();
    rig.act("echo").unwrap();
    let first = rig.pid("odd");
    let begun = Instant::now();
    assert_eq!(down(rig.act(method)), how, "{method}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{method}: {:?}", begun.elapsed());
    let why = format!("its process {how} during a call of {method}");
    assert_eq!(rig.why("odd"), why);
    // Nobody tries at once; everybody is told why.
    assert_eq!(down(rig.act("echo")), why);
    rig.others_are_fine();
    is_gone(first);
    rig.comes_back("odd", "echo");
    assert_ne!(rig.pid("odd"), first);
    let status = rig.status("odd");
    assert_eq!((status.failures, status.restarts), (1, 1), "{method}");
    rig.app.plugins.stop();
}

#[test]
fn a_crash_costs_a_plugin_its_process_and_nobody_else() {
    std::thread::scope(|scope| {
        for (method, how) in [
            ("segfault", "ended by signal 11 (segmentation fault)"),
            ("abort", "ended by signal 6 (abort)"),
            ("exit", "ended with exit code 3"),
            ("leak", "ended by signal 6 (abort)"),
            // The server has closed the socket, at which the process leaves.
            ("forge_huge", "ended with exit code 0"),
            ("forge_short", "ended with exit code 0"),
            ("forge_kind", "ended with exit code 0"),
            ("forge_direction", "ended with exit code 0"),
            ("forge_closed", "ended with exit code 0"),
        ] {
            scope.spawn(move || crash(method, how));
        }
    });
}

/// A crowd of callers does not get a crashing plugin started again before its pause is over.
#[test]
fn the_pause_holds_for_a_crowd() {
    let rig = Rig::odd();
    for _ in 0..3 {
        rig.comes_back("odd", "echo");
        let (failures, restarts) = (rig.status("odd").failures, rig.status("odd").restarts);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for number in 0..7 {
                let rig = &rig;
                scope.spawn(move || {
                    if number == 3 {
                        assert!(matches!(rig.act("segfault"), Err(CallError::Down(_))));
                    }
                    while began.elapsed() < Duration::from_millis(600) {
                        let _ = rig.act("echo");
                    }
                });
            }
        });
        assert_eq!((rig.status("odd").failures, rig.status("odd").restarts), (failures + 1, restarts));
    }
}

#[test]
fn memory_ends_at_its_limit() {
    let rig = Rig::odd();
    // Its process may not survive what it has done to itself, but what it got is bounded.
    if let Ok(mebibytes) = rig.act("hoard") {
        assert!((100..=256).contains(&mebibytes.as_u64().unwrap()), "{mebibytes}");
    }
    rig.others_are_fine();
    rig.comes_back("odd", "echo");
}

#[test]
fn a_plugin_that_cannot_start_is_tried_ever_more_rarely() {
    let rig = Rig::new([
        identity("crashes", &cc::library("odd", "CRASHING_START")),
        identity("babbles", &cc::library("odd", "BABBLING_START")),
        identity("refuses", &cc::library("odd", "REFUSING_START")),
    ]);
    let call = |id: &str| down(rig.call(id, "echo", &json!({})));
    assert_eq!(call("crashes"), "its process ended while it was loaded: ended by signal 6 (abort)");
    assert!(call("babbles").starts_with("its description is not as agreed: "), "{}", call("babbles"));
    assert_eq!(call("refuses"), "The moon is in the wrong phase.");
    let pauses: Vec<u64> = (2..=3)
        .map(|failures| {
            harness::until("it is tried again", || {
                call("crashes");
                (rig.status("crashes").failures == failures).then_some(())
            });
            match rig.status("crashes").condition {
                Condition::Down { next_try_seconds, .. } => next_try_seconds,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    // Two and four seconds, of which moments have passed.
    assert_eq!(pauses, [1, 3]);
    rig.others_are_fine();
}

#[test]
fn what_hangs_is_ended_at_its_deadline() {
    let slow = identity("slow", &cc::library("odd", "SLOW_START"));
    let odd = ["sleep", "spin", "late", "stop"];
    let rig = Rig::new(odd.map(|id| identity(id, &cc::library("odd", ""))).into_iter().chain([slow]));
    std::thread::scope(|scope| {
        for method in odd {
            let rig = &rig;
            scope.spawn(move || {
                rig.call(method, "echo", &json!({})).unwrap();
                let first = rig.pid(method);
                let begun = Instant::now();
                assert_eq!(rig.call(method, method, &json!({})), Err(CallError::TimedOut));
                let took = begun.elapsed();
                assert!((25..45).contains(&took.as_secs()), "{method}: {took:?}");
                assert_eq!(rig.why(method), format!("a call of {method} was not answered within 25 s"));
                is_gone(first);
                rig.comes_back(method, "echo");
            });
        }
        scope.spawn(|| assert_eq!(down(rig.call("slow", "echo", &json!({}))), "it was not ready within 10 s"));
        for _ in 0..20 {
            rig.others_are_fine();
            std::thread::park_timeout(Duration::from_millis(500));
        }
    });
}

/// A stopped process reads nothing, so what is written to it must give up by itself.
#[test]
fn a_process_that_reads_nothing_holds_no_thread() {
    let rig = Rig::odd();
    rig.act("echo").unwrap();
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| rig.act("stop"));
        harness::until("the process is stopped", || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", rig.pid("odd"))).ok()?;
            state.rsplit(')').next()?.trim_start().starts_with('T').then_some(())
        });
        let begun = Instant::now();
        let large = json!({"fields": {"x": "x".repeat(3 * 1024 * 1024)}});
        let called = rig.call("odd", "verify", &large);
        assert!(matches!(called, Err(CallError::Down(_))), "{called:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(matches!(stopped.join().unwrap(), Err(CallError::Down(_))));
    });
    // Whichever of the two calls saw it first.
    let why = rig.why("odd");
    assert!(why.starts_with("its process stopped listening and was ended during a call of "), "{why}");
    rig.others_are_fine();
}

#[test]
fn garbage_is_a_fault_of_the_plugin_that_its_process_survives() {
    let rig = Rig::odd();
    rig.act("echo").unwrap();
    let pid = rig.pid("odd");
    let failed = |method: &str| match rig.app.plugins.call::<_, Verified>(&rig.provider("odd"), method, &json!({})) {
        Err(CallError::Failed(refused)) => (refused.code, refused.message),
        other => panic!("{method}: {other:?}"),
    };
    for method in ["garbage", "null", "nothing", "confined"] {
        let (code, message) = failed(method);
        assert_eq!(code, "failed");
        assert!(message.starts_with("The plugin's reply is not as agreed: "), "{method}: {message}");
    }
    assert_eq!(failed("huge"), ("too_large".into(), "The plugin's reply is too large.".into()));
    assert_eq!(failed("status"), ("y".into(), "a  b".into()));
    assert_eq!(
        rig.act("no_such_method"),
        Err(CallError::Unsupported("The plugin gives no reason (unsupported).".into()))
    );
    assert_eq!((rig.pid("odd"), rig.status("odd").failures), (pid, 0));
    assert_eq!(rig.status("odd").description.unwrap().name, "odd and even");
}

#[test]
fn forged_frames_that_mean_nothing_do_nothing() {
    let rig = Rig::odd();
    rig.act("echo").unwrap();
    let pid = rig.pid("odd");
    for method in ["forge_marks", "forge_empty", "forge_started", "forge_log", "forge_service"] {
        assert_eq!(rig.act(method), Ok(json!({})), "{method}");
    }
    assert_eq!((rig.pid("odd"), rig.status("odd").failures), (pid, 0));
    // Too many questions at once may cost it its process, and nothing else.
    let called = rig.act("forge_services");
    assert!(matches!(called, Ok(_) | Err(CallError::Down(_))), "{called:?}");
    rig.others_are_fine();
    rig.comes_back("odd", "echo");
}

#[test]
fn services_answer_odd_uses() {
    let rig = Rig::odd();
    assert_eq!(rig.act("reentrant"), Ok(json!({"outer": 0, "inner": 1})));
    assert_eq!(rig.act("bad_pointers"), Ok(json!([3, 3, 3, 1, 3, 3, 0, 3, 3, 3, 3, 3, 0, 0])));
    assert_eq!(rig.act("own_threads"), Ok(json!({"started": 32, "answered": 32})));
    assert_eq!(rig.act("flood"), Ok(json!({"done": 256, "refused": 344})));
    assert_eq!(rig.status("odd").failures, 0);
}

#[test]
fn an_idle_plugin_is_served_nothing() {
    let rig = Rig::odd();
    rig.act("idle_begin").unwrap();
    // Its thread asks after 300 ms.
    std::thread::park_timeout(Duration::from_millis(600));
    let said = harness::until("the thread has asked", || rig.act("idle_result").ok().filter(|said| *said != json!(-1)));
    assert_eq!(said, json!(3));
}

#[test]
fn a_process_that_ends_while_idle_is_seen_off_and_started_anew() {
    let rig = Rig::odd();
    rig.act("echo").unwrap();
    let first = rig.pid("odd");
    let pid = rustix::process::Pid::from_raw(first.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    is_gone(first);
    assert_eq!(rig.status("odd").condition, Condition::Idle);
    rig.act("echo").unwrap();
    assert_ne!(rig.pid("odd"), first);
}

#[test]
fn confinement_holds() {
    const EPERM: i64 = 1;
    const EACCES: i64 = 13;
    let rig = Rig::odd();
    let said = rig.act("confined").unwrap();
    let confined = rig.status("odd").confined.unwrap();
    let number = |what: &str| said[what].as_i64().unwrap();
    assert!(number("descriptors") <= 8, "{said}");
    assert_eq!(number("variables"), 0);
    assert_eq!(number("private_memory"), 0);
    assert!(confined.limits);
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.pid("odd"))).unwrap();
    for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(confined.seccomp, "this kernel has no seccomp");
    for what in [
        "socket",
        "unix",
        "fork",
        "vfork_by_clone",
        "exec",
        "kill_parent",
        "tgkill_parent",
        "nice_parent",
        "chmod",
        "raise_limit",
        "shared_memory",
        "memfd",
        "shmget",
    ] {
        assert_eq!(number(what), EPERM, "{what}: {said}");
    }
    for what in ["read_etc", "read_proc", "write_tmp", "list_root"] {
        match confined.landlock.as_str() {
            "none" => eprintln!("skipped: {what}, for this kernel has no Landlock"),
            _ => assert_eq!(number(what), EACCES, "{what}: {said}"),
        }
    }
}
