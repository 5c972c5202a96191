//! One workspace: its agents with all that is known of them, and who was connected.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use super::agents::{Present, plain};
use super::html::{Html, fill, text};
use super::login::encode;
use super::{Frame, see_other, sign_in_first, signed_in};
use crate::config::duration;
use crate::domain::access::UserAuth;
use crate::domain::connection_log::{self, Part};
use crate::domain::workspaces::FullName;
use crate::domain::{Error, Fault, Shared, inventory};
use crate::model::{MICROS_PER_SECOND, Timestamp};
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::apps::{App, Health};
use crate::store::logs::{self, Line};
use crate::store::workspaces::{self, Workspace};
use crate::store::{agents, metadata, users};

/// Lines of an agent's log that the page begins with; its script adds what comes.
const LOG_LINES: i64 = 200;
/// Connections that the page shows; `moorline connections` lists the rest.
const CONNECTIONS: u32 = 15;
/// Ports below it need special rights on one's own machine, so that another one is proposed there.
const FIRST_FREE_PORT: u16 = 1_024;

/// `GET /@{owner}/{workspace}`: the command line and editors link to it. Its script asks for it again every
/// few seconds, with `live` in the query: without the logs, which it follows in another way.
pub(in crate::rest) fn show(call: &Call<'_>) -> Result<Reply, Error> {
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(&call.path)) };
    let app = &call.service.app;
    let with_logs = call.query.get("live").is_none();
    let (title, content) = app.store.read(|conn| -> Result<_, Error> {
        let workspace = find(conn, &user, call.param(0), call.param(1))?.ok_or_else(none)?;
        let title = format!("{}/{}", workspace.owner_name, workspace.name);
        let sheet = Sheet { app, conn, user: &user, now: Timestamp::now(), with_logs, workspace: &workspace };
        let content = sheet.show(&title)?;
        Ok((title, content))
    })?;
    Ok(Frame::of(call, &user).live(&title, "workspace.js", content))
}

fn none() -> Error {
    Error::new(Fault::NotFound, "The workspace does not exist, or you may not see it.")
}

/// The workspace of this name that `user` may see.
pub(super) fn find(conn: &Connection, user: &UserAuth, owner: &str, name: &str) -> Result<Option<Workspace>, Error> {
    let owner = if owner == "me" { Some(user.user.id) } else { users::by_username(conn, owner)?.map(|user| user.id) };
    let Some(owner) = owner.filter(|owner| user.may_see(*owner)) else { return Ok(None) };
    Ok(workspaces::by_name(conn, owner, name)?)
}

/// `GET /@{owner}/{workspace}/settings`: what is there of them is on the one page.
pub(in crate::rest) fn settings(call: &Call<'_>) -> Result<Reply, Error> {
    let (owner, name) = (call.param(0), call.param(1));
    if !super::is_name(owner) || !super::is_name(name) {
        return Err(Error::new(Fault::NotFound, "There is no such page on this server."));
    }
    Ok(see_other(format!("/@{owner}/{name}")))
}

/// What goes into the page.
struct Sheet<'a> {
    app: &'a Shared,
    conn: &'a Connection,
    user: &'a UserAuth,
    now: Timestamp,
    with_logs: bool,
    workspace: &'a Workspace,
}

impl Sheet<'_> {
    fn show(&self, title: &str) -> Result<Html, Error> {
        let agents = agents::of_workspace(self.conn, self.workspace.id)?;
        let parts: Result<Vec<Html>, Error> = agents.into_iter().map(|agent| self.agent(agent)).collect();
        let values = [("title", text(title)), ("agents", Html::join(parts?)), ("connections", self.connections()?)];
        Ok(fill(include_str!("workspace.html"), &values))
    }

    /// How the command line names an agent for who looks.
    fn target(&self, agent: &str) -> String {
        let own = self.workspace.owner_id == self.user.user.id;
        let owner = if own { String::new() } else { format!("{}/", self.workspace.owner_name) };
        format!("{owner}{}.{agent}", self.workspace.name)
    }

    fn agent(&self, agent: agents::Agent) -> Result<Html, Error> {
        let (conn, workspace) = (self.conn, self.workspace);
        let furnished = inventory::furnish(conn, agent)?;
        let agent = &furnished.agent;
        let present = Present::of(self.app, agent, self.now);
        let metadata: Vec<_> = metadata::of_agents(conn, &[agent.id])?.into_iter().map(|(_, row)| row).collect();
        let target = self.target(&agent.name);
        let terminal = format!("/@{}/{}.{}/terminal", workspace.owner_name, workspace.name, agent.name);
        let version = if agent.version.is_empty() { "unknown" } else { &agent.version };
        let suffix = &self.app.settings.hostname_suffix;
        // The names that `coder config-ssh` gives (v2.24.0 cli/configssh.go).
        let host = match suffix.is_empty() {
            false => format!("{}.{}.{}.{suffix}", agent.name, workspace.name, workspace.owner_name),
            true => format!("coder.{}--{}--{}", workspace.owner_name, workspace.name, agent.name),
        };
        let apps = furnished.apps.iter().filter(|app| !app.hidden).map(|app| show_app(app, &target, &terminal));
        Ok(fill(
            include_str!("agent.html"),
            &[
                ("id", text(&agent.id.to_string())),
                ("name", text(&agent.name)),
                ("title", text(&format!("{}.{}", workspace.name, agent.name))),
                ("state", present.state()),
                ("seen", present.seen()),
                ("hint", present.hint()),
                ("system", text(&system(agent))),
                ("version", text(version)),
                ("metadata", present.metadata(&metadata)),
                ("target", text(&target)),
                ("host", text(&host)),
                ("terminal", text(&terminal)),
                ("apps", apps_of(Html::join(apps), &agent.name, furnished.apps.iter().any(|app| !app.hidden))),
                ("connected", text(if present.is_connected() { "yes" } else { "no" })),
                ("log", self.log(agent)?),
            ],
        ))
    }

    fn log(&self, agent: &agents::Agent) -> Result<Html, Error> {
        if !self.with_logs {
            return Ok(Html::default());
        }
        let lines = logs::newest(self.conn, agent.id, LOG_LINES)?;
        let after = lines.last().map_or(0, |line| line.id);
        let note = match agent.logs_overflowed {
            true => "The log of this agent is full: what its scripts said after that was not kept.",
            false => "",
        };
        let values = [
            ("id", text(&agent.id.to_string())),
            ("name", text(&agent.name)),
            ("after", text(&after.to_string())),
            ("lines", Html::join(lines.iter().map(log_line))),
            ("note", text(note)),
        ];
        Ok(fill(include_str!("log.html"), &values))
    }

    fn connections(&self) -> Result<Html, Error> {
        let name =
            FullName { owner: self.workspace.owner_name.clone(), workspace: self.workspace.name.clone(), agent: None };
        let part = Part { workspace: Some(name), since_seconds: None, limit: CONNECTIONS };
        // Nobody was connected to a workspace that the log does not know.
        let view = match connection_log::view(self.conn, part) {
            Err(error) if error.fault == Fault::NotFound => Value::Null,
            other => other?,
        };
        let rows = view.get("connections").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if rows.is_empty() {
            return Ok(fill(include_str!("no-connections.html"), &[]));
        }
        let more = view.get("more").and_then(Value::as_bool) == Some(true);
        let more = if more { format!("These are the newest {CONNECTIONS}.") } else { String::new() };
        let values = [("rows", Html::join(rows.iter().map(connection))), ("more", text(&more))];
        Ok(fill(include_str!("connections.html"), &values))
    }
}

fn system(agent: &agents::Agent) -> String {
    match (agent.operating_system.as_str(), agent.architecture.as_str()) {
        ("", _) | (_, "") => "unknown".to_owned(),
        (system, architecture) => format!("{system}/{architecture}"),
    }
}

fn log_line(line: &Line) -> Html {
    let at = time::OffsetDateTime::from_unix_timestamp(line.created_at.0 / MICROS_PER_SECOND)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let time = format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second());
    fill(
        include_str!("log-line.html"),
        &[("level", text(line.level.as_str())), ("time", text(&time)), ("output", text(&plain(&line.output)))],
    )
}

fn connection(entry: &Value) -> Html {
    let word = |key: &str| match entry.get(key) {
        Some(Value::String(word)) if !word.is_empty() => word.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "–".to_owned(),
    };
    let started = word("started_at");
    // 2026-01-02T03:04:05.678Z
    let started = started.get(..16).map_or(started.clone(), |minute| minute.replace('T', " "));
    let seconds = entry.get("seconds").and_then(Value::as_u64).unwrap_or(0);
    let is_open = entry.get("ended_at").is_none_or(Value::is_null);
    let exit = match word("exit_code").as_str() {
        "0" | "–" => String::new(),
        code => format!(" ({code})"),
    };
    let end = if is_open { "open".to_owned() } else { format!("{}{exit}", word("end")) };
    let values = [
        ("started", text(&started)),
        ("time", text(&duration::write(Duration::from_secs(seconds)))),
        ("user", text(&word("user"))),
        ("ip", text(&word("ip"))),
        ("agent", text(&word("agent"))),
        ("by", text(&word("by"))),
        ("end", text(&end)),
    ];
    fill(include_str!("connection.html"), &values)
}

fn apps_of(apps: Html, agent: &str, any: bool) -> Html {
    match any {
        true => fill(include_str!("apps.html"), &[("apps", apps), ("name", text(agent))]),
        false => Html::default(),
    }
}

/// How an app is opened from here.
fn show_app(app: &App, target: &str, terminal: &str) -> Html {
    let name = if app.display_name.is_empty() { &app.slug } else { &app.display_name };
    let health = match app.health {
        Health::Unhealthy => "does not answer",
        Health::Initializing => "is not ready yet",
        Health::Healthy | Health::Disabled => "",
    };
    let state = if health.is_empty() {
        Html::default()
    } else {
        fill(include_str!("app-state.html"), &[("state", text(health))])
    };
    let link = |href: &str, label: &str, outside: bool| {
        let outside = Html::of(if outside { " target=\"_blank\" rel=\"noopener noreferrer\"" } else { "" });
        fill(include_str!("app-link.html"), &[("url", text(href)), ("label", text(label)), ("outside", outside)])
    };
    let line = |line: String| fill(include_str!("app-line.html"), &[("line", text(&line))]);
    let way = if !app.command.is_empty() {
        link(&format!("{terminal}?command={}", encode(&app.command)), "Run in a terminal", false)
    } else if app.external && !app.url.contains("$SESSION_TOKEN") && can_be_linked(&app.url) {
        link(&app.url, "Open", true)
    } else if app.external {
        // The command line puts a token into its URL.
        line(format!("coder open app {target} {}", app.slug))
    } else {
        match port_of(&app.url) {
            Some(port) => line(forward(target, port)),
            None => Html::default(),
        }
    };
    let values = [("name", text(name)), ("way", way), ("state", state), ("slug", text(&app.slug))];
    fill(include_str!("app.html"), &values)
}

/// Whether a link to this URL can only leave the page: `javascript:` and the like act inside it.
fn can_be_linked(url: &str) -> bool {
    let Some((scheme, _)) = url.split_once(':') else { return false };
    let inside = ["javascript", "data", "vbscript", "blob", "file", "about", "filesystem"];
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme && !inside.contains(&scheme.to_ascii_lowercase().as_str())
}

/// The port of the URL of something on the agent's machine.
fn port_of(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.or(match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })
}

/// The command that brings a port of the machine to one's own.
fn forward(target: &str, port: u16) -> String {
    match port < FIRST_FREE_PORT {
        true => format!("coder port-forward {target} --tcp {}:{port}", port.saturating_add(10_000)),
        false => format!("coder port-forward {target} --tcp {port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_nothing_that_acts_inside_the_page() {
        for good in ["https://x.example/", "vscode://coder.coder-remote/open?owner=a", "jetbrains-gateway:x"] {
            assert!(can_be_linked(good), "{good}");
        }
        for bad in
            ["javascript:alert(1)", "JavaScript:alert(1)", " javascript:x", "data:text/html,x", "java\nscript:x", "/x"]
        {
            assert!(!can_be_linked(bad), "{bad:?}");
        }
    }

    #[test]
    fn forwards_the_port_of_an_app() {
        assert_eq!(port_of("http://localhost:8080/x?y"), Some(8080));
        assert_eq!(port_of("http://[::1]:99"), Some(99));
        assert_eq!(port_of("https://localhost"), Some(443));
        assert_eq!(port_of("nonsense"), None);
        assert_eq!(forward("dev.main", 80), "coder port-forward dev.main --tcp 10080:80");
        assert_eq!(forward("dev.main", 3000), "coder port-forward dev.main --tcp 3000");
    }
}
