//! The administration: people, workspaces, plugins, health, the audit log. The same rules as for the verbs of
//! the command line, with the administrator as the one who acts.

pub(in crate::rest) mod anchors;
pub(in crate::rest) mod audit;
pub(in crate::rest) mod health;
pub(in crate::rest) mod plugins;
pub(in crate::rest) mod user;
pub(in crate::rest) mod users;
pub(in crate::rest) mod workspace;
pub(in crate::rest) mod workspaces;

use super::parts;
use super::see_other;
use crate::domain::Error;
use crate::rest::reply::Reply;
use crate::rest::request::Call;

/// Rows of a list that a page shows.
const SHOWN: usize = 200;

/// `GET /admin`: where most begin.
pub(in crate::rest) fn begin(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |_| Ok(see_other("/admin/workspaces")))
}

/// Says that a list is longer than what is shown of it.
fn left_out(count: usize) -> String {
    if count > SHOWN {
        format!("These are the first {SHOWN} of {count}; search for the others.")
    } else {
        String::new()
    }
}

/// Bytes in words.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes.saturating_mul(10) / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let word = UNITS.get(unit).copied().unwrap_or_default();
    if tenths < 1_000 { format!("{}.{} {word}", tenths / 10, tenths % 10) } else { format!("{} {word}", tenths / 10) }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn says_sizes_in_the_unit_that_fits() {
        for (bytes, said) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (200 * 1024 * 1024, "200 MiB"),
            (5 * 1024 * 1024 * 1024, "5.0 GiB"),
            (u64::MAX, "1677721 TiB"),
        ] {
            assert_eq!(size(bytes), said);
        }
    }
}
