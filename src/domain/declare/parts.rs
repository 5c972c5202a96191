//! The declared parts of an agent as rows, with the ids of what stays.

use rusqlite::Connection;

use super::{DISPLAY_APPS, DeclaredAgent, DeclaredApp};
use crate::domain::Error;
use crate::domain::instance::{self, Instance};
use crate::model::{AgentId, AppId, LogSourceId, ScriptId, Timestamp};
use crate::store::Write;
use crate::store::agents::Agent;
use crate::store::apps::{self, App, Health};
use crate::store::logs::{self, Source};
use crate::store::metadata::{self, Metadata};
use crate::store::scripts::{self, Script};

/// Writes the declared columns into an agent's row; says which changed.
pub(in crate::domain) fn fill(agent: &mut Agent, declared: &DeclaredAgent) -> Vec<&'static str> {
    let mut changed = Vec::new();
    set(&mut agent.operating_system, &declared.os, "os", &mut changed);
    set(&mut agent.architecture, &declared.arch, "arch", &mut changed);
    set(&mut agent.directory, &declared.directory, "directory", &mut changed);
    set(&mut agent.environment, &declared.env, "env", &mut changed);
    set(&mut agent.motd_file, &declared.motd_file, "motd_file", &mut changed);
    set(&mut agent.troubleshooting_url, &declared.troubleshooting_url, "troubleshooting_url", &mut changed);
    let timeout = &declared.connection_timeout_seconds;
    set(&mut agent.connection_timeout_seconds, timeout, "connection_timeout_seconds", &mut changed);
    // Kept in one order, so that the order in the file is not a change.
    let ordered: Vec<String> = DISPLAY_APPS
        .iter()
        .filter(|known| declared.display_apps.iter().any(|app| app == *known))
        .map(|&app| app.to_owned())
        .collect();
    set(&mut agent.display_apps, &ordered, "display_apps", &mut changed);
    let instance = declared.instance();
    let old = Instance::of(agent);
    if instance != old
        && let Some(named) = instance.as_ref().or(old.as_ref())
    {
        changed.push(instance::key(named.cloud));
        agent.instance_cloud = instance.as_ref().map(|instance| instance.cloud);
        agent.instance_id = instance.map(|instance| instance.id).unwrap_or_default();
    }
    changed
}

pub(super) fn set<T: Clone + PartialEq>(place: &mut T, value: &T, name: &'static str, changed: &mut Vec<&'static str>) {
    if place != value {
        place.clone_from(value);
        changed.push(name);
    }
}

/// Scripts, metadata and apps of an agent.
#[derive(Default, Clone, PartialEq)]
pub(in crate::domain) struct Parts {
    scripts: Vec<Script>,
    metadata: Vec<Metadata>,
    apps: Vec<App>,
}

impl Parts {
    /// What an agent has.
    pub(super) fn of(conn: &Connection, agent: AgentId) -> Result<Parts, Error> {
        Ok(Parts {
            scripts: scripts::of_agent(conn, agent)?,
            metadata: metadata::of_agent(conn, agent)?,
            apps: apps::of_agent(conn, agent)?,
        })
    }

    /// What it shall have. A script keeps its ids by its display name, metadata its value by its
    /// key, an app its id and health by its slug.
    pub(in crate::domain) fn changed(&self, declared: &DeclaredAgent, now: Timestamp) -> Parts {
        let scripts = declared.scripts.iter().map(|script| {
            let old = self.scripts.iter().find(|old| old.display_name == script.display_name);
            Script {
                id: old.map_or_else(ScriptId::random, |old| old.id),
                log_source_id: old.map_or_else(LogSourceId::random, |old| old.log_source_id),
                display_name: script.display_name.clone(),
                icon: script.icon.clone(),
                script: script.script.clone(),
                cron: script.cron.clone(),
                log_path: script.log_path.clone(),
                run_on_start: script.run_on_start,
                run_on_stop: script.run_on_stop,
                start_blocks_login: script.start_blocks_login,
                timeout_seconds: script.timeout_seconds,
                created_at: old.map_or(now, |old| old.created_at),
            }
        });
        let metadata = declared.metadata.iter().map(|one| {
            let old = self.metadata.iter().find(|old| old.key == one.key);
            Metadata {
                key: one.key.clone(),
                display_order: one.order,
                display_name: one.display_name.clone(),
                script: one.script.clone(),
                interval_seconds: one.interval,
                timeout_seconds: one.timeout,
                value: old.map(|old| old.value.clone()).unwrap_or_default(),
                error: old.map(|old| old.error.clone()).unwrap_or_default(),
                collected_at: old.and_then(|old| old.collected_at),
            }
        });
        let mut apps: Vec<App> = declared.apps.iter().map(|app| self.app(app, now)).collect();
        // As `apps::of_agent` orders them.
        apps.sort_by(|a, b| {
            (a.display_order, &a.display_name, &a.slug).cmp(&(b.display_order, &b.display_name, &b.slug))
        });
        Parts { scripts: scripts.collect(), metadata: metadata.collect(), apps }
    }

    fn app(&self, declared: &DeclaredApp, now: Timestamp) -> App {
        let old = self.apps.iter().find(|old| old.slug == declared.slug);
        let seconds = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
        let mut app = App {
            id: old.map_or_else(AppId::random, |old| old.id),
            slug: declared.slug.clone(),
            display_name: declared.display_name.clone(),
            icon: declared.icon.clone(),
            url: declared.url.clone(),
            command: declared.command.clone(),
            display_order: declared.order,
            display_group: String::new(),
            external: declared.external,
            hidden: declared.hidden,
            subdomain: false,
            sharing_level: "owner".into(),
            open_in: "slim-window".into(),
            healthcheck_url: declared.healthcheck_url.clone(),
            healthcheck_interval: seconds(declared.healthcheck_interval),
            healthcheck_threshold: seconds(declared.healthcheck_threshold),
            health: Health::Disabled,
            created_at: old.map_or(now, |old| old.created_at),
        };
        app.health = match old {
            _ if app.healthcheck_url.is_empty() => Health::Disabled,
            Some(old) if same_check(old, &app) => old.health,
            _ => Health::Initializing,
        };
        app
    }

    /// The names of the kinds in which two differ.
    pub(super) fn differences(&self, new: &Parts) -> Vec<&'static str> {
        let mut differences = Vec::new();
        if self.scripts != new.scripts {
            differences.push("scripts");
        }
        if self.metadata != new.metadata {
            differences.push("metadata");
        }
        if self.apps != new.apps {
            differences.push("apps");
        }
        differences
    }

    /// Makes the rows of `agent`, which are `old`, those of `self`.
    pub(in crate::domain) fn write(
        &self,
        write: &Write<'_>,
        agent: AgentId,
        old: &Parts,
        now: Timestamp,
    ) -> Result<(), Error> {
        if self.scripts != old.scripts {
            scripts::replace(write, agent, &self.scripts)?;
            for script in &self.scripts {
                let source = Source {
                    id: script.log_source_id,
                    display_name: script.display_name.clone(),
                    icon: script.icon.clone(),
                    created_at: now,
                };
                logs::declare_source(write, agent, &source)?;
            }
        }
        if self.metadata != old.metadata {
            metadata::replace(write, agent, &self.metadata)?;
        }
        for app in old.apps.iter().filter(|app| !self.apps.iter().any(|new| new.id == app.id)) {
            apps::delete(write, app.id)?;
        }
        for app in &self.apps {
            match old.apps.iter().find(|old| old.id == app.id) {
                None => apps::insert(write, agent, app)?,
                Some(old) if old != app => apps::update(write, agent, app)?,
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn same_check(a: &App, b: &App) -> bool {
    a.healthcheck_url == b.healthcheck_url
        && a.healthcheck_interval == b.healthcheck_interval
        && a.healthcheck_threshold == b.healthcheck_threshold
}
