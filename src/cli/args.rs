//! What may be typed.

mod plugin;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};

pub(super) use self::plugin::{Egress, Plugin, PluginKind, PluginLanguage};
use crate::config::duration;
use crate::config::limits::CONNECTIONS_SHOWN_MOST;
use crate::config::table::{Kind, SETTINGS};
use crate::domain::declare::{ARCHITECTURES, SYSTEMS};
use crate::domain::trust::CHECK_AHEAD_DAYS;
use crate::domain::workspaces::FullName;

/// Where help shows the options that every verb has: behind its own.
const LAST: usize = 900;

/// Reach your development machines with the ordinary Coder agent and CLI: one program, one SQLite file.
#[derive(Parser, Debug)]
#[command(name = "moorline", version, propagate_version = false)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
    /// The SQLite file [environment: MOORLINE_FILE] [default: moorline.db]
    #[arg(long, global = true, value_name = "FILE", display_order = LAST)]
    pub(super) file: Option<PathBuf>,
    /// Configuration file [environment: MOORLINE_CONFIG] [default: moorline.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", display_order = LAST + 1)]
    pub(super) config: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long, global = true, display_order = LAST + 2)]
    pub(super) json: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Run the server
    Serve(Box<Serve>),
    /// People
    #[command(subcommand)]
    User(User),
    /// Session tokens of people
    #[command(subcommand)]
    Token(Token),
    /// Workspaces and the tokens of their agents
    #[command(subcommand)]
    Workspace(Workspace),
    /// What cloud machines are proved by
    #[command(subcommand)]
    Trust(Trust),
    /// Providers where people sign in for git in their workspaces
    #[command(subcommand)]
    ExternalAuth(ExternalAuth),
    /// Plugins: how those of the server are, and tools for authors of own ones
    #[command(subcommand)]
    Plugin(Plugin),
    /// Show who reached which machine, newest first
    Connections(Connections),
    /// Make a declaration true
    Apply(Apply),
    /// For the server's own use: the process of a plugin
    #[command(hide = true)]
    PluginHost,
    /// Print the version
    Version,
}

#[derive(Args, Debug)]
pub(super) struct Serve {
    /// Check the configuration, print it, and end
    #[arg(long)]
    pub(super) check_config: bool,
    #[command(flatten)]
    pub(super) settings: SettingFlags,
}

/// One flag for every setting, made from the table of settings.
#[derive(Debug, Default)]
pub(super) struct SettingFlags {
    pub(super) values: Vec<(&'static str, String)>,
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().filter(|setting| setting.key != "file").fold(command, |command, setting| {
            let mut help = format!("{} [environment: {}]", setting.meaning, setting.variable);
            if !setting.default.is_empty() {
                help.push_str(&format!(" [default: {}]", setting.default));
            }
            let arg = Arg::new(setting.key)
                .long(setting.flag.trim_start_matches('-'))
                .value_name(setting.placeholder())
                .help(help)
                .action(ArgAction::Set);
            command.arg(match setting.kind {
                Kind::Bool => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
                _ => arg,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = SETTINGS
            .iter()
            .filter(|setting| setting.key != "file")
            .filter_map(|setting| Some((setting.key, matches.get_one::<String>(setting.key)?.clone())))
            .collect();
        Ok(SettingFlags { values })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Subcommand, Debug)]
pub(super) enum User {
    /// Add a person
    Add {
        /// 1 to 32 letters, digits and single hyphens
        name: String,
        /// Their e-mail address
        #[arg(long)]
        email: String,
        /// They may do everything
        #[arg(long)]
        admin: bool,
        /// Read their password from the first line of standard input, even if that is a terminal
        #[arg(long)]
        password_stdin: bool,
        /// Make the file if it does not exist
        #[arg(long)]
        create: bool,
    },
    /// List people
    List,
    /// Stop a person from signing in and end their sessions; their machines go on
    Suspend {
        /// Who
        name: String,
    },
    /// Let a suspended person sign in again
    Activate {
        /// Who
        name: String,
    },
    /// Remove a person with all tokens
    Remove {
        /// Who
        name: String,
        /// Remove their workspaces, too
        #[arg(long)]
        with_workspaces: bool,
    },
    /// Set a person's password and revoke all of their tokens
    Password {
        /// Who
        name: String,
        /// Read it from the first line of standard input, even if that is a terminal
        #[arg(long)]
        password_stdin: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Token {
    /// Make a session token; it is shown once
    Create {
        /// Whose
        #[arg(long)]
        user: String,
        /// Its name [default: a random one]
        #[arg(long)]
        name: Option<String>,
        /// Time without use after which it expires, like 720h or 30d
        #[arg(long, default_value = "720h", value_parser = duration::parse)]
        lifetime: Duration,
    },
    /// List session tokens, without their secrets
    List {
        /// Of this person only
        #[arg(long)]
        user: Option<String>,
    },
    /// Revoke a session token
    Revoke {
        /// What stands before the hyphen of the token
        id: String,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Workspace {
    /// Add a workspace with one agent; the agent's token is shown once
    Add {
        /// 1 to 32 letters, digits and single hyphens
        name: String,
        /// Name of the person who owns it
        #[arg(long)]
        owner: String,
        /// Name of its agent
        #[arg(long, default_value = "main")]
        agent: String,
        /// The machine's operating system
        #[arg(long, default_value = "linux", value_parser = SYSTEMS.to_vec())]
        os: String,
        /// The machine's architecture
        #[arg(long, default_value = "amd64", value_parser = ARCHITECTURES.to_vec())]
        arch: String,
        /// Working directory of sessions [default: the home directory]
        #[arg(long)]
        dir: Option<String>,
        #[command(flatten)]
        instance: InstanceFlags,
    },
    /// List workspaces
    List,
    /// Show everything about a workspace
    Show {
        /// Which, as OWNER/NAME
        #[arg(value_name = "OWNER/NAME", value_parser = workspace_name)]
        workspace: FullName,
    },
    /// Remove a workspace and cut its agents off
    Remove {
        /// Which, as OWNER/NAME
        #[arg(value_name = "OWNER/NAME", value_parser = workspace_name)]
        workspace: FullName,
    },
    /// Let a cloud machine sign in as an agent by its instance identity; the newest binding of a machine counts
    #[command(group = ArgGroup::new("machine").args(INSTANCE_FLAGS).required(true))]
    Bind {
        /// Which, as OWNER/NAME or OWNER/NAME.AGENT
        #[arg(value_name = "OWNER/NAME[.AGENT]")]
        workspace: FullName,
        #[command(flatten)]
        instance: InstanceFlags,
    },
    /// Take the binding of an agent away; its token stays good
    Unbind {
        /// Which, as OWNER/NAME or OWNER/NAME.AGENT
        #[arg(value_name = "OWNER/NAME[.AGENT]")]
        workspace: FullName,
    },
    /// Give one agent or all agents of a workspace new tokens; the old ones are refused at once
    RotateToken {
        /// Which, as OWNER/NAME or OWNER/NAME.AGENT
        #[arg(value_name = "OWNER/NAME[.AGENT]")]
        workspace: FullName,
    },
}

/// The machine of an agent; at most one.
#[derive(Args, Debug)]
#[group(skip)]
pub(super) struct InstanceFlags {
    /// Instance id of the EC2 machine, like i-0123456789abcdef0
    #[arg(long, value_name = "ID", conflicts_with_all = ["azure_vm_id", "google_instance_id"])]
    pub(super) aws_instance_id: Option<String>,
    /// vmId of the Azure machine, a UUID
    #[arg(long, value_name = "ID", conflicts_with = "google_instance_id")]
    pub(super) azure_vm_id: Option<String>,
    /// Instance id of the Compute Engine machine, a number
    #[arg(long, value_name = "ID")]
    pub(super) google_instance_id: Option<String>,
}

const INSTANCE_FLAGS: [&str; 3] = ["aws_instance_id", "azure_vm_id", "google_instance_id"];

#[derive(Subcommand, Debug)]
pub(super) enum Trust {
    /// List what machines are proved by, shipped and imported, and when it ends
    List,
    /// Trust the certificates (PEM, DER), the JWK set or the list (lines of ROLE NAME BASE64) in a file, at once
    Import {
        /// The file
        #[arg(value_name = "FILE")]
        anchors: PathBuf,
        /// Name of what the file holds; one of a shipped anchor replaces that [default: the file's name]
        #[arg(long)]
        name: Option<String>,
        /// What a certificate is for: aws, aws:REGION,…, azure-root or azure-intermediate
        #[arg(long)]
        role: Option<String>,
    },
    /// Trust something imported no more; a shipped anchor that it replaced counts again
    Remove {
        /// As `list` shows it
        name: String,
    },
    /// Fail if something ends soon
    Check {
        /// How soon
        #[arg(long, value_name = "DAYS", default_value_t = CHECK_AHEAD_DAYS)]
        within: u32,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum ExternalAuth {
    /// List the configured providers, and who is signed in where
    List,
    /// Walk through a sign-in with a provider, step by step, and say which one fails
    Test {
        /// The provider's id
        provider: String,
        /// What stands behind `code=` in the address to which the provider has sent the browser back
        #[arg(long, value_name = "CODE", conflicts_with = "device")]
        code: Option<String>,
        /// Sign in with a code that is entered at the provider
        #[arg(long)]
        device: bool,
    },
}

fn workspace_name(text: &str) -> Result<FullName, String> {
    let name: FullName = text.parse()?;
    if name.agent.is_some() { Err("give OWNER/NAME, without an agent".into()) } else { Ok(name) }
}

#[derive(Args, Debug)]
pub(super) struct Connections {
    /// Of this workspace or agent only; it may have been removed
    #[arg(long, value_name = "OWNER/NAME[.AGENT]")]
    pub(super) workspace: Option<FullName>,
    /// Begun in this time, like 12h or 7d, or still open
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(super) since: Option<Duration>,
    /// So many of the newest
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_SHOWN_MOST)))]
    pub(super) limit: u32,
}

#[derive(Args, Debug)]
pub(super) struct Apply {
    /// The declaration: FILE.toml or FILE.json
    #[arg(value_name = "DECLARATION")]
    pub(super) declaration: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Remove workspaces, agents and people that the declaration does not have
    #[arg(long)]
    pub(super) prune: bool,
    /// Make the file if it does not exist
    #[arg(long)]
    pub(super) create: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_of_verbs_is_sound() {
        Cli::command().debug_assert();
    }
}
