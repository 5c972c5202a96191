//! `moorline plugin`: how the server's plugins are, and the tools of authors.
//!
//! | module | what it does |
//! | --- | --- |
//! | `list` | the configured providers, and what was fetched for them |
//! | `check` | one library, looked at from all sides |
//! | `test` | recorded conversations, played against a library |
//! | `new` | a project to begin with, out of the templates of the SDK |

mod check;
mod list;
mod new;
mod test;

use std::path::{Path, PathBuf};

use super::args::Plugin;
use super::context::Context;
use super::{Failure, Said};

pub(super) fn run(context: &Context, verb: Plugin) -> Result<Said, Failure> {
    match verb {
        Plugin::List => list::providers(context),
        Plugin::Egress(arguments) => list::egress(context, &arguments),
        Plugin::Check { library } => check::run(context, &absolute(&library)?),
        Plugin::Test { library, recording } => test::run(context, &absolute(&library)?, &recording),
        Plugin::New { dir, kind, lang } => new::run(&dir, kind, lang),
    }
}

/// The configuration names libraries by absolute paths; on the command line, they may be relative.
fn absolute(library: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(library).map_err(|error| Failure::from(format!("{}: {error}", library.display())))
}

/// Without a word on Landlock, the process ended before it was confined, and nothing was loaded.
fn was_confined(confined: &crate::plugins::Confined) -> bool {
    !confined.landlock.is_empty()
}

/// How a library is confined, in words.
fn confined(confined: &crate::plugins::Confined) -> String {
    let on = |held: bool| if held { "on" } else { "OFF" };
    format!("resource limits {}, seccomp {}, Landlock {}", on(confined.limits), on(confined.seccomp), confined.landlock)
}
