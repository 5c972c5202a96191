//! The administrator's verbs: the same whether they come over the admin socket of a running server
//! or are run on the file.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::declare::{self, Declaration, DeclaredAgent};
use super::instance::{self, Instance};
use super::sessions;
use super::trust;
use super::users::{self, NewUser};
use super::workspaces::{self, FullName, Issued};
use super::{Error, Fault, connection_log};
use crate::config::limits::EGRESS_SHOWN_MOST;
use crate::model::{Timestamp, WorkspaceId};
use crate::plugins::Plugins;
use crate::store::audit::{Actor, By};
use crate::store::users::Status;
use crate::store::{self, Store};

/// One verb with its arguments. Its JSON form is what the admin socket takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Adds a person.
    UserAdd {
        /// Their name.
        name: String,
        /// Their address.
        email: String,
        /// Whether they may do everything.
        admin: bool,
        /// In the clear; without it they cannot sign in with a password.
        password: Option<String>,
    },
    /// Shows all people.
    UserList {},
    /// Stops a person from signing in and ends their sessions.
    UserSuspend {
        /// Who.
        name: String,
    },
    /// Lets a suspended person sign in again.
    UserActivate {
        /// Who.
        name: String,
    },
    /// Removes a person.
    UserRemove {
        /// Who.
        name: String,
        /// Removes their workspaces, too.
        with_workspaces: bool,
    },
    /// Replaces a person's password and revokes their tokens.
    UserPassword {
        /// Who.
        name: String,
        /// In the clear.
        password: String,
    },
    /// Makes a session token.
    TokenCreate {
        /// Whose.
        user: String,
        /// Unique per person; random if absent.
        name: Option<String>,
        /// Time without use after which it expires.
        lifetime_seconds: u64,
    },
    /// Shows session tokens, without their secrets.
    TokenList {
        /// Of one person only.
        user: Option<String>,
    },
    /// Revokes a session token.
    TokenRevoke {
        /// What stands before the hyphen.
        id: String,
    },
    /// Adds a workspace with one agent.
    WorkspaceAdd {
        /// Its owner's name.
        owner: String,
        /// Its name.
        name: String,
        /// Its agent.
        agent: Box<DeclaredAgent>,
    },
    /// Shows all workspaces.
    WorkspaceList {},
    /// Shows everything about one workspace.
    WorkspaceShow {
        /// Which.
        workspace: FullName,
    },
    /// Removes a workspace and cuts its agents off.
    WorkspaceRemove {
        /// Which.
        workspace: FullName,
    },
    /// Gives one or all agents of a workspace new tokens.
    WorkspaceRotateToken {
        /// Which.
        workspace: FullName,
    },
    /// Binds an agent to a cloud instance.
    WorkspaceBind {
        /// Which; without the agent's name, the only one.
        workspace: FullName,
        /// The machine.
        instance: Instance,
    },
    /// Takes the binding of an agent away.
    WorkspaceUnbind {
        /// Which; without the agent's name, the only one.
        workspace: FullName,
    },
    /// Shows what machines are proved by.
    TrustList {},
    /// Trusts the certificates or keys of a file.
    TrustImport {
        /// What is in the file, as base64.
        content: String,
        /// For what does not say its name.
        name: String,
        /// For what does not say its role.
        role: Option<String>,
    },
    /// Trusts something imported no more.
    TrustRemove {
        /// Which.
        name: String,
    },
    /// Shows what ends soon.
    TrustCheck {
        /// How soon.
        within_days: u32,
    },
    /// Shows how each provider's plugin is.
    PluginList {},
    /// Shows what was fetched for plugins, newest first.
    PluginEgress {
        /// For this provider only.
        provider: Option<String>,
        /// Begun in this time.
        since_seconds: Option<u64>,
        /// So many at most.
        limit: u32,
    },
    /// Shows who is signed in at which external provider.
    ExternalAuthList {},
    /// Shows who reached which machine.
    Connections(connection_log::Part),
    /// Makes a declaration true.
    Apply {
        /// What shall be.
        declaration: Declaration,
        /// Only say what would be done.
        dry_run: bool,
        /// Remove what is not declared.
        prune: bool,
    },
}

/// Runs a verb; `operator` is the system user who asked for it. The value is what `--json` prints.
pub fn run(store: &Store, plugins: &Plugins, operator: &str, command: Command) -> Result<Value, Error> {
    let actor = &Actor::Operator(operator.to_owned());
    let by = &By::from(actor);
    match command {
        Command::UserAdd { name, email, admin, password } => {
            let new = NewUser { name, email, full_name: String::new(), admin, password };
            users::add(store, by, new).map(|user| users::view(&user))
        }
        Command::UserList {} => store.read(|conn| {
            let users: Vec<Value> = store::users::list(conn)?.iter().map(users::view).collect();
            Ok(json!({ "users": users }))
        }),
        Command::UserSuspend { name } => {
            users::set_status(store, by, &name, Status::Suspended).map(|user| users::view(&user))
        }
        Command::UserActivate { name } => {
            users::set_status(store, by, &name, Status::Active).map(|user| users::view(&user))
        }
        Command::UserRemove { name, with_workspaces } => {
            let (user, workspaces) = users::remove(store, by, &name, with_workspaces)?;
            Ok(json!({ "id": user.id, "name": user.username, "removed_workspaces": workspaces }))
        }
        Command::UserPassword { name, password } => {
            let (user, revoked) = users::set_password(store, by, &name, &password)?;
            Ok(json!({ "id": user.id, "name": user.username, "revoked_tokens": revoked }))
        }
        Command::TokenCreate { user, name, lifetime_seconds } => {
            let lifetime = Duration::from_secs(lifetime_seconds);
            let token = sessions::create_named(store, actor, &user, name.as_deref(), lifetime)?;
            Ok(json!({ "id": token.id, "token": token.to_string() }))
        }
        Command::TokenList { user } => store.read(|conn| list_tokens(conn, user.as_deref())),
        Command::TokenRevoke { id } => {
            let key = sessions::revoke(store, by, None, &id, "token.revoke")?;
            Ok(json!({ "id": key.id, "name": key.token_name }))
        }
        Command::WorkspaceAdd { owner, name, agent } => {
            let (id, issued) = workspaces::add(store, actor, &owner, &name, &agent)?;
            Ok(issued_view(id, &[issued]))
        }
        Command::WorkspaceList {} => store.read(|conn| {
            let workspaces = store::workspaces::list(conn, None)?
                .iter()
                .map(|workspace| workspaces::view(conn, workspace))
                .collect::<Result<Vec<Value>, Error>>()?;
            Ok(json!({ "workspaces": workspaces }))
        }),
        Command::WorkspaceShow { workspace } => {
            store.read(|conn| workspaces::full_view(conn, &workspaces::locate(conn, &workspace)?))
        }
        Command::WorkspaceRemove { workspace } => {
            let removed = workspaces::remove(store, actor, &workspace)?;
            Ok(json!({ "id": removed.id, "owner": removed.owner_name, "name": removed.name }))
        }
        Command::WorkspaceRotateToken { workspace } => {
            let (id, issued) = workspaces::rotate_tokens(store, actor, &workspace)?;
            Ok(issued_view(id, &issued))
        }
        Command::WorkspaceBind { workspace, instance } => instance::bind(store, actor, &workspace, instance),
        Command::WorkspaceUnbind { workspace } => instance::unbind(store, actor, &workspace),
        Command::TrustList {} => trust::list(store, plugins),
        Command::TrustImport { content, name, role } => {
            let content = STANDARD
                .decode(content)
                .map_err(|_| Error::new(Fault::Invalid, "The content of the file is not base64."))?;
            trust::import(store, plugins, actor, &content, &name, role.as_deref())
        }
        Command::TrustRemove { name } => trust::remove(store, plugins, actor, &name),
        Command::TrustCheck { within_days } => trust::check(store, plugins, within_days),
        Command::PluginList {} => Ok(json!({ "providers": plugins.overview() })),
        Command::PluginEgress { provider, since_seconds, limit } => {
            let since =
                since_seconds.map_or(Timestamp(0), |seconds| Timestamp::now().minus(Duration::from_secs(seconds)));
            let limit = limit.min(EGRESS_SHOWN_MOST);
            // One more than is shown tells whether there are more.
            let mut rows = store.read(|conn| {
                Ok::<_, Error>(store::egress::list(conn, provider.as_deref(), since, limit.saturating_add(1))?)
            })?;
            let most = usize::try_from(limit).unwrap_or(usize::MAX);
            let more = rows.len() > most;
            rows.truncate(most);
            Ok(json!({ "requests": rows, "more": more }))
        }
        Command::ExternalAuthList {} => store.read(external_auth_links),
        Command::Connections(part) => store.read(|conn| connection_log::view(conn, part)),
        Command::Apply { declaration, dry_run, prune } => declare::apply(store, actor, declaration, dry_run, prune),
    }
}

fn issued_view(workspace: WorkspaceId, issued: &[Issued]) -> Value {
    let agents: Vec<Value> =
        issued.iter().map(|agent| json!({ "id": agent.id, "name": agent.name, "token": agent.token })).collect();
    json!({ "workspace_id": workspace, "agents": agents })
}

fn external_auth_links(conn: &rusqlite::Connection) -> Result<Value, Error> {
    let links: Vec<Value> = store::external_auth::all(conn)?
        .iter()
        .map(|(link, user)| {
            json!({
                "provider": link.provider, "user": user, "created_at": link.created_at, "updated_at": link.updated_at,
                "expires_at": link.expires_at, "refreshable": link.refresh_sealed.is_some(), "state": link.state,
                "failure": link.failure,
            })
        })
        .collect();
    Ok(json!({ "links": links }))
}

fn list_tokens(conn: &rusqlite::Connection, user: Option<&str>) -> Result<Value, Error> {
    let chosen = user.map(|name| users::find(conn, name)).transpose()?;
    let tokens: Vec<Value> = sessions::list(conn, chosen.as_ref())?
        .iter()
        .map(|(key, user)| {
            let used = (key.last_used_at != Timestamp::GO_ZERO).then_some(key.last_used_at);
            json!({
                "id": key.id, "user": user, "name": key.token_name, "kind": key.login_type,
                "lifetime_seconds": key.lifetime_seconds, "created_at": key.created_at,
                "last_used_at": used, "expires_at": key.expires_at,
            })
        })
        .collect();
    Ok(json!({ "tokens": tokens }))
}
