//! Passwords: never an argument, where every process on the machine could read them.

use std::io::{BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::Failure;
use crate::config::limits;

/// The first line of standard input.
pub(super) fn from_stdin() -> Result<String, Failure> {
    let mut line = String::new();
    let most = u64::try_from(limits::PASSWORD_BYTES_MAX).unwrap_or(u64::MAX).saturating_mul(4);
    std::io::stdin()
        .lock()
        .take(most)
        .read_line(&mut line)
        .map_err(|error| Failure::from(format!("the password cannot be read from standard input: {error}")))?;
    let line = line.trim_end_matches(['\n', '\r']);
    if line.is_empty() {
        return Err("standard input has no password in its first line".into());
    }
    Ok(line.to_owned())
}

/// Asks for a new password twice if standard input is a terminal, else reads its first line.
pub(super) fn ask(name: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return from_stdin();
    }
    let first = prompt(&format!("New password of {name}: "))?;
    if first != prompt("The same again: ")? {
        return Err("the two passwords differ".into());
    }
    Ok(first)
}

fn prompt(text: &str) -> Result<String, Failure> {
    eprint!("{text}");
    std::io::stderr().flush()?;
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let line = from_stdin();
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    line
}
