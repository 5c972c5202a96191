//! The scripts that put programs on machines: `install.sh` for people, `enrol.sh` and `enrol.ps1` for
//! machines. Each carries the address of the server, the checksums of its programs and, where the
//! operator has named one, the certificate authority. None carries a secret.

use super::{Reply, digests, missing, unreadable};
use crate::domain::{Error, enrolment};
use crate::model::hex;
use crate::rest::request::Call;

const COMMON: &str = include_str!("common.sh");
const INSTALL: &str = include_str!("install.sh");
const ENROL: &str = include_str!("enrol.sh");
const POWERSHELL: &str = include_str!("enrol.ps1");

/// `GET /install.sh`.
pub(in crate::rest) fn install_sh(call: &Call<'_>) -> Result<Reply, Error> {
    script(call, &["#!/bin/sh\nset -eu\n\n", COMMON, INSTALL], posix_sum)
}

/// `GET /enrol.sh`.
pub(in crate::rest) fn enrol_sh(call: &Call<'_>) -> Result<Reply, Error> {
    script(call, &["#!/bin/sh\nset -eu\n\n", COMMON, ENROL], posix_sum)
}

/// `GET /enrol.ps1`.
pub(in crate::rest) fn enrol_powershell(call: &Call<'_>) -> Result<Reply, Error> {
    script(call, &[POWERSHELL], powershell_sum)
}

fn posix_sum(name: &str, sum: &str) -> String {
    format!("        {name}) echo {sum} ;;")
}

fn powershell_sum(name: &str, sum: &str) -> String {
    format!("    '{name}' = '{sum}'")
}

/// The parts with what this server has to say. The same for everybody, so that its checksum can stand
/// in the operator's line.
fn script(call: &Call<'_>, parts: &[&str], sum: fn(&str, &str) -> String) -> Result<Reply, Error> {
    let app = &call.service.app;
    if !app.programs.are_offered() {
        return Ok(missing());
    }
    let (mut sums, mut names) = (Vec::new(), Vec::new());
    for program in app.programs.list().map_err(unreadable)? {
        sums.push(sum(program.name(), &hex(&digests(call, &program)?.sha256)));
        names.push(program.name().to_owned());
    }
    let ca = match &app.settings.enrol_ca {
        Some(file) => enrolment::certificates(file)?,
        None => String::new(),
    };
    let text = parts
        .concat()
        .replace("@sums@", &sums.join("\n"))
        .replace("@offered@", &names.join(" "))
        .replace("@has_ca@", if ca.is_empty() { "no" } else { "yes" })
        .replace("@ca@", ca.trim_end())
        .replace("@url@", &app.access_url);
    Ok(Reply::text(200, text).header("Cache-Control", "no-cache"))
}
