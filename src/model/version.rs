//! Which version the server says it is.

use std::borrow::Cow;

/// The release of the real server whose API is spoken; the one place where it is written.
macro_rules! coder_version {
    () => {
        "v2.24.0"
    };
}

/// The release of the real server whose API is spoken.
pub const CODER_VERSION: &str = coder_version!();

/// What clients take for the server's version: [`CODER_VERSION`], then our own. VS Code and JetBrains parse
/// it strictly as semver with a leading `v`.
pub const VERSION: &str = concat!(coder_version!(), "+moorline.", env!("CARGO_PKG_VERSION"));

/// Our own version.
const OWN: &str = env!("CARGO_PKG_VERSION");

/// How a command line begins its `User-Agent` when it states its version (coder cli/root.go, from about v2.30).
const COMMAND_LINE: &str = "coder-cli/";

/// The version to claim before a client with this `User-Agent`.
///
/// A command line of another major.minor than the server's prints a warning at each run (coder v2.24.0
/// cli/root.go, buildinfo/buildinfo.go VersionsMatch), though newer ones work. So to a newer one that states
/// its version the server claims that major.minor. Nothing else is meant by it: what such a client may find
/// missing is answered 404, as by any older server.
pub fn claimed(user_agent: Option<&str>) -> Cow<'static, str> {
    match user_agent.and_then(command_line).filter(|version| Some(*version) > parse(CODER_VERSION)) {
        Some((major, minor)) => Cow::Owned(format!("v{major}.{minor}.0+moorline.{OWN}")),
        None => Cow::Borrowed(VERSION),
    }
}

/// Major and minor version of a command line that states them.
fn command_line(user_agent: &str) -> Option<(u16, u16)> {
    let (version, _) = user_agent.strip_prefix(COMMAND_LINE)?.split_once(' ')?;
    parse(version)
}

fn parse(version: &str) -> Option<(u16, u16)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let number = |part: &str| {
        let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if plain { part.parse().ok() } else { None }
    };
    let found = (number(parts.next()?)?, number(parts.next()?)?);
    parts.next().map(|_| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_newer_command_lines_that_state_their_version_only() {
        let newer = |text: &str| claimed(Some(text)).into_owned();
        assert_eq!(claimed(None), VERSION);
        assert_eq!(newer("coder-cli/v2.31.4 (linux/amd64; coder list)"), format!("v2.31.0+moorline.{OWN}"));
        assert_eq!(newer("coder-cli/v3.0.1+abcdef0 (windows/amd64)"), format!("v3.0.0+moorline.{OWN}"));
        for other in [
            "Go-http-client/1.1",
            "coder-cli/v2.24.3 (linux/amd64; coder list)",
            "coder-cli/v2.9.1 (linux/amd64; coder list)",
            "coder-cli/v0.0.0-devel+abc (linux/amd64; coder list)",
            "coder-cli/v2.31.4",
            "coder-cli/v2.x.4 (linux/amd64)",
            "coder-cli/v2.99999999.4 (linux/amd64)",
            "coder-cli/v2.+31.4 (linux/amd64)",
            "Mozilla/5.0 coder-cli/v2.31.4 (linux/amd64)",
        ] {
            assert_eq!(newer(other), VERSION, "{other}");
        }
    }

    #[test]
    fn has_the_form_that_editors_parse() {
        assert!(VERSION.starts_with(CODER_VERSION) && parse(VERSION) == parse(CODER_VERSION));
    }
}
