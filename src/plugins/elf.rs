//! Whether a file can be a library for this machine. The system's loader takes a library of another machine for a missing
//! one, and dies of one that was cut short, so both are seen before.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of the header of a 64-bit file.
const HEADER: usize = 64;
/// Bytes of an entry of its table of segments.
const SEGMENT: usize = 56;
/// Most segments that are looked at; compilers make about a dozen. 4 KiB are read at once.
const SEGMENTS: u16 = 64;

/// `e_type` of a dynamic library.
const LIBRARY: u16 = 3;

/// Machines by their number in the file.
const MACHINES: [(u16, &str, &str); 6] = [
    (62, "x86-64", "x86_64"),
    (183, "64-bit ARM", "aarch64"),
    (243, "RISC-V", "riscv64"),
    (3, "32-bit x86", "x86"),
    (40, "32-bit ARM", "arm"),
    (21, "64-bit PowerPC", "powerpc64"),
];

fn machine_of(number: u16) -> String {
    let found = MACHINES.iter().find(|(known, _, _)| *known == number);
    found.map_or_else(|| format!("machine number {number}"), |(_, name, _)| (*name).to_owned())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// Says why a file is no library for this machine.
pub(super) fn check(file: &File) -> Result<(), String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut head = vec![0; HEADER + SEGMENT * usize::from(SEGMENTS)];
    let mut got = 0;
    while let Some(rest) = head.get_mut(got..).filter(|rest| !rest.is_empty()) {
        let at = u64::try_from(got).unwrap_or(u64::MAX);
        match file.read_at(rest, at).map_err(|error| format!("it cannot be read: {error}"))? {
            0 => break,
            more => got += more,
        }
    }
    head.truncate(got);
    check_head(&head, length)
}

fn check_head(head: &[u8], length: u64) -> Result<(), String> {
    if !head.starts_with(b"\x7fELF") {
        return Err("it is not a library: it does not begin as an ELF file does".to_owned());
    }
    let (Some(class), Some(order), Some(kind), Some(machine)) =
        (head.get(4), head.get(5), half(head, 16), half(head, 18))
    else {
        return Err(cut_short(length));
    };
    let own = std::env::consts::ARCH;
    let is_own = MACHINES.iter().any(|(number, _, arch)| *number == machine && *arch == own);
    let own = MACHINES.iter().find(|(_, _, arch)| *arch == own).map_or(own, |(_, name, _)| name);
    // 64 bits, least byte first: all machines that this program is built for.
    if *class != 2 || *order != 1 || !is_own {
        return Err(format!("it is built for {}, and this machine is {own}", machine_of(machine)));
    }
    if kind != LIBRARY {
        return Err(format!("it is an ELF file but no dynamic library (type {kind})"));
    }
    let whole = (|| {
        let (table, size, count) = (long(head, 32)?, half(head, 54)?, half(head, 56)?);
        let sections = long(head, 40)?.checked_add(u64::from(half(head, 58)?) * u64::from(half(head, 60)?))?;
        let mut end = sections;
        for index in 0..count.min(SEGMENTS) {
            let at = usize::try_from(table).ok()?.checked_add(usize::from(index) * usize::from(size))?;
            end = end.max(long(head, at.checked_add(8)?)?.checked_add(long(head, at.checked_add(32)?)?)?);
        }
        Some(end)
    })();
    match whole {
        Some(whole) if whole <= length => Ok(()),
        _ => Err(cut_short(length)),
    }
}

fn cut_short(length: u64) -> String {
    format!("it is cut short or damaged: its {length} bytes are fewer than its own tables name")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// This very program: position-independent, so of the type of a library.
    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    fn checked(bytes: &[u8]) -> Result<(), String> {
        let head = bytes.get(..HEADER + SEGMENT * usize::from(SEGMENTS)).unwrap_or(bytes);
        check_head(head, u64::try_from(bytes.len()).unwrap())
    }

    #[test]
    fn takes_what_is_whole_and_refuses_what_is_not() {
        let whole = own();
        assert_eq!(checked(&whole), Ok(()));
        for length in [5, 17, 63, 64, 100, 1_000, whole.len() / 2, whole.len() - 1] {
            let why = checked(&whole[..length]).unwrap_err();
            assert!(why.contains("cut short"), "{length}: {why}");
        }
        assert!(checked(b"#!/bin/sh").unwrap_err().contains("not a library"));
        assert!(checked(b"").unwrap_err().contains("not a library"));
    }

    #[test]
    fn names_the_machine_that_it_was_built_for() {
        let mut other = own();
        other[18..20].copy_from_slice(&8_u16.to_le_bytes());
        assert!(checked(&other).unwrap_err().contains("machine number 8"));
        other[18..20].copy_from_slice(&40_u16.to_le_bytes());
        assert!(checked(&other).unwrap_err().contains("built for 32-bit ARM, and this machine is"));
        let mut executable = own();
        executable[16] = 2;
        assert!(checked(&executable).unwrap_err().contains("no dynamic library"));
    }

    #[test]
    fn survives_any_table() {
        let mut bytes = own();
        bytes.truncate(HEADER + SEGMENT * 4);
        for at in 20..HEADER {
            for value in [0, 1, 0x7f, 0xff] {
                let kept = bytes[at];
                bytes[at] = value;
                let _ = checked(&bytes);
                bytes[at] = kept;
            }
        }
    }
}
