//! A disk that is full: reads go on, writes say so, and recover without a restart.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::mpsc::channel;

use moorline::store::{Error, Store};

use super::place::{Place, add_note, child, child_file, count, note, notes, options};

/// SQLite itself says "full" when a file would grow beyond this many pages: the same code path as
/// ENOSPC on the main file. `None`: no limit.
fn set_page_limit(store: &Store, more: Option<i64>) {
    store
        .write(move |write| {
            let pages: i64 = write.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let limit = more.map_or(i64::from(i32::MAX), |more| pages + more);
            write.query_row(&format!("PRAGMA max_page_count = {limit}"), [], |_| Ok(()))?;
            Ok::<_, Error>(())
        })
        .unwrap();
}

#[test]
fn a_whole_group_is_lost_or_kept_and_the_next_one_works() {
    let place = Place::new();
    let store = place.open();
    note(&store, "before").unwrap();
    set_page_limit(&store, Some(2));
    // One group: small ones, one too large for the disk, small ones.
    let (answers, answered) = channel();
    let (release, released) = channel::<()>();
    store.write_then(
        move |_| {
            let _ = released.recv();
            Ok::<_, Error>(())
        },
        |_| {},
    );
    for n in 0..30 {
        let answers = answers.clone();
        let text = if n == 15 { "x".repeat(64 * 1024) } else { n.to_string() };
        store.write_then(
            move |write| Ok::<_, Error>(add_note(write, &text)?),
            move |result| answers.send((n, result)).unwrap(),
        );
    }
    drop((release, answers));
    let mut kept = vec!["before".to_owned()];
    for (n, result) in answered {
        match result {
            Ok(()) => kept.push(n.to_string()),
            Err(Error::DiskFull) => {}
            Err(other) => panic!("{n}: {other:?}"),
        }
        assert!(n != 15 || !kept.contains(&n.to_string()));
    }
    assert_eq!(notes(&store), kept, "acknowledged is stored, and nothing else");
    assert!(matches!(note(&store, "x".repeat(64 * 1024)), Err(Error::DiskFull)));
    set_page_limit(&store, None);
    note(&store, "x".repeat(64 * 1024)).unwrap();
    note(&store, "after").unwrap();
    drop(store);
    assert_eq!(notes(&place.open()).len(), kept.len() + 2);
}

#[test]
fn a_closure_that_hides_the_failure_is_not_believed() {
    let place = Place::new();
    let store = place.open();
    set_page_limit(&store, Some(1));
    let result = store.write(|write| {
        add_note(write, "first")?;
        let _ = add_note(write, &"x".repeat(64 * 1024));
        // Were the transaction gone, this would be one of its own.
        let _ = add_note(write, "second");
        Ok::<_, Error>(())
    });
    let after = notes(&store);
    match result {
        Ok(()) => assert_eq!(after, ["first", "second"], "SQLite undid the one statement only"),
        Err(Error::DiskFull) => assert!(after.is_empty(), "{after:?}"),
        Err(other) => panic!("{other:?}"),
    }
    set_page_limit(&store, None);
    note(&store, "works").unwrap();
}

/// The child: its files cannot grow beyond the limit that the shell has set, so that writes to the
/// log fail as on a full disk (with EFBIG in place of ENOSPC), in the commit.
#[test]
fn child_with_small_files() {
    let Some(file) = child_file() else { return };
    let store = Store::open(options(&file)).unwrap();
    let mut kept = Vec::new();
    let mut refused = 0;
    for n in 0.. {
        match note(&store, format!("{n} {}", "x".repeat(4_000))) {
            Ok(()) => kept.push(n),
            Err(Error::DiskFull) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        if refused == 20 {
            break;
        }
    }
    assert!(!kept.is_empty());
    let found: Vec<i32> = notes(&store).iter().map(|note| note.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(found, kept, "reads go on and see what was acknowledged");
    // Room again, without a restart: the log is emptied by making it the file's.
    let deleted = store.write(|write| Ok::<_, Error>(write.execute("DELETE FROM audit_log", [])?));
    assert!(matches!(deleted, Ok(_) | Err(Error::DiskFull)), "{deleted:?}");
}

#[test]
fn a_commit_that_the_disk_refuses_is_told_and_kept_out() {
    let place = Place::new();
    // 512 KiB in blocks of 512 bytes; the signal that comes with it must not end the process.
    let before = "trap '' XFSZ; ulimit -f 1024";
    let output = child("store::full_disk::child_with_small_files", &place.file(), before).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // Opened without the limit: all that was acknowledged and not deleted is there, and it works.
    let store = place.open();
    let before = count(&store, "SELECT count(*) FROM audit_log");
    note(&store, "after").unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM audit_log"), before + 1);
}

/// The child: on a file system of its own that is full until a file is removed.
#[test]
fn child_on_a_full_file_system() {
    let Some(file) = child_file() else { return };
    let ballast = file.with_file_name("ballast");
    let store = Store::open(options(&file)).unwrap();
    note(&store, "before").unwrap();
    let mut all = std::fs::File::create(&ballast).unwrap();
    let zeros = [0_u8; 4096];
    while std::io::Write::write_all(&mut all, &zeros).is_ok() {}
    drop(all);
    let mut kept = 1;
    let refused = loop {
        match note(&store, "x".repeat(2_000)) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 10_000);
    };
    assert!(matches!(refused, Error::DiskFull), "{refused:?}");
    assert_eq!(notes(&store).len(), kept, "reads go on");
    assert!(matches!(note(&store, "x".repeat(2_000)), Err(Error::DiskFull)));
    std::fs::remove_file(&ballast).unwrap();
    note(&store, "after").unwrap();
    assert_eq!(notes(&store).len(), kept + 1, "recovered without a restart");
    println!("\nrecovered");
}

#[test]
fn a_full_file_system_is_survived_without_a_restart() {
    let place = Place::new();
    let folder = place.folder().display();
    let mount = format!("mount -t tmpfs -o size=1m tmpfs '{folder}' || {{ echo no-mount; exit 0; }}");
    let test = "store::full_disk::child_on_a_full_file_system";
    let inner = child(test, &place.file(), &mount);
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount"]).arg(inner.get_program()).args(inner.get_args());
    unshare.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = match unshare.output() {
        Ok(output) => output,
        Err(error) => return eprintln!("not run: no unshare here ({error})"),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.contains("no-mount") || String::from_utf8_lossy(&output.stderr).starts_with("unshare:") {
        return eprintln!("not run: file systems cannot be mounted here");
    }
    assert!(output.status.success() && said.contains("recovered"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
