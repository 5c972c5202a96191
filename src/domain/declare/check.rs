//! What a declaration may say, as far as it can be told without the store.

use std::collections::HashMap;

use super::{
    ARCHITECTURES, DISPLAY_APPS, Declaration, DeclaredAgent, DeclaredApp, DeclaredMetadata, DeclaredScript, Problem,
    SYSTEMS,
};
use crate::config::limits;
use crate::domain::instance::{self, Instance};
use crate::domain::{cron, names, users};

/// Bytes of a metadata key. All keys of an agent together must stay below 6 KiB, or it gets errors
/// (coderd/agentapi/metadata.go maxAllKeysLen, v2.24.0).
const METADATA_KEY_BYTES: usize = 128;
const METADATA_KEYS_BYTES: usize = 6 * 1024;
/// Longest time in seconds that is taken anywhere: about 68 years, what fits all clients' integers.
const SECONDS_MAX: i64 = 2_147_483_647;

type Findings = Vec<(String, String)>;

/// Everything that is wrong with a declaration, with the lines that it carries itself.
pub(super) fn check(declaration: &Declaration) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |line: u32, path: String, why: String| problems.push(Problem { line, path, why });

    let mut names_seen = HashMap::new();
    let mut emails_seen = HashMap::new();
    for (index, user) in declaration.users.iter().enumerate() {
        let path = |field: &str| format!("users[{index}].{field}");
        if let Err(why) = names::check_user(&user.name) {
            add(user.line, path("name"), why);
        } else if let Some(first) = names_seen.insert(user.name.to_ascii_lowercase(), user.line) {
            add(user.line, path("name"), format!("user `{}` stands at line {first} already", user.name));
        }
        if let Err(why) = names::check_email(&user.email) {
            add(user.line, path("email"), why);
        } else if let Some(first) = emails_seen.insert(user.email.to_ascii_lowercase(), user.line) {
            add(user.line, path("email"), format!("{} stands at line {first} already", user.email));
        }
        if let Some(Err(why)) = user.password.as_deref().map(users::check_password) {
            add(user.line, path("password_file"), format!("the password {why}"));
        }
    }

    let mut workspaces_seen = HashMap::new();
    let mut instances_seen: HashMap<String, u32> = HashMap::new();
    for (index, workspace) in declaration.workspaces.iter().enumerate() {
        let path = format!("workspaces[{index}]");
        if let Err(why) = names::check_user(&workspace.owner) {
            add(workspace.line, format!("{path}.owner"), why);
        }
        if let Err(why) = names::check(&workspace.name) {
            add(workspace.line, format!("{path}.name"), why);
        }
        let key = (workspace.owner.to_ascii_lowercase(), workspace.name.to_ascii_lowercase());
        if let Some(first) = workspaces_seen.insert(key, workspace.line) {
            let title = format!("workspace {}/{}", workspace.owner, workspace.name);
            add(workspace.line, format!("{path}.name"), format!("{title} stands at line {first} already"));
        }
        let mut agents_seen = HashMap::new();
        for (index, agent) in workspace.agents.iter().enumerate() {
            let path = format!("{path}.agents[{index}]");
            for (field, why) in check_agent(agent) {
                add(agent.line, format!("{path}.{field}"), why);
            }
            if let Some(first) = agents_seen.insert(agent.name.to_ascii_lowercase(), agent.line) {
                add(
                    agent.line,
                    format!("{path}.name"),
                    format!("agent `{}` stands at line {first} already", agent.name),
                );
            }
            if let Some(one) = agent.instance()
                && let Some(first) = instances_seen.insert(one.to_string(), agent.line)
            {
                let why = format!("instance `{}` belongs to the agent at line {first} already", one.id);
                add(agent.line, format!("{path}.{}", instance::key(one.cloud)), why);
            }
        }
    }
    problems
}

/// Everything that is wrong with an agent: field and reason.
pub fn check_agent(agent: &DeclaredAgent) -> Vec<(String, String)> {
    let mut found = Findings::new();
    let mut add = |field: &str, why: String| found.push((field.to_owned(), why));
    if let Err(why) = names::check(&agent.name) {
        add("name", why);
    }
    for (field, value, known) in [("os", &agent.os, SYSTEMS), ("arch", &agent.arch, ARCHITECTURES)] {
        if !known.contains(&value.as_str()) {
            add(field, format!("`{value}` is not one of {}", known.join(", ")));
        }
    }
    if !(0..=SECONDS_MAX).contains(&agent.connection_timeout_seconds) {
        add("connection_timeout_seconds", "must be 0 (never) or a number of seconds".into());
    }
    if !agent.troubleshooting_url.is_empty() && !is_web_url(&agent.troubleshooting_url) {
        add("troubleshooting_url", format!("`{}` is not an http or https URL", agent.troubleshooting_url));
    }
    for (index, app) in agent.display_apps.iter().enumerate() {
        let known = DISPLAY_APPS.contains(&app.as_str());
        let repeated = agent.display_apps.iter().take(index).any(|earlier| earlier == app);
        if !known || repeated {
            let why = if known { "stands there twice" } else { "is not one of " };
            let list = if known { String::new() } else { DISPLAY_APPS.join(", ") };
            add("display_apps", format!("`{app}` {why}{list}"));
        }
    }
    for name in agent.env.keys() {
        if name.is_empty() || name.contains(['=', '\0']) {
            add(&format!("env.{name}"), "a variable's name must not be empty nor contain `=`".into());
        }
    }
    for (index, (cloud, id)) in agent.instances().enumerate() {
        match Instance::parse(cloud, id) {
            Err(why) => add(instance::key(cloud), why),
            Ok(_) if index > 0 => add(instance::key(cloud), "an agent is bound to one machine, not to several".into()),
            Ok(_) => {}
        }
    }
    let texts = [&agent.directory, &agent.motd_file];
    if texts.into_iter().chain(agent.env.values()).any(|text| text.contains('\0')) {
        add("name", "the agent has a text with a NUL character, which no machine can take".into());
    }
    each(&mut found, "scripts", &agent.scripts, |script| &script.display_name, "display_name", check_script);
    each(&mut found, "metadata", &agent.metadata, |one| &one.key, "key", check_metadata);
    each(&mut found, "apps", &agent.apps, |app| &app.slug, "slug", check_app);
    if agent.metadata.iter().map(|one| one.key.len()).sum::<usize>() > METADATA_KEYS_BYTES {
        found.push(("metadata".into(), format!("the keys must have at most {METADATA_KEYS_BYTES} bytes together")));
    }
    let size = serde_json::to_vec(agent).map_or(0, |json| json.len());
    if size > limits::AGENT_DECLARATION_BYTES {
        let most = limits::AGENT_DECLARATION_BYTES;
        found.push(("name".into(), format!("the agent is declared with {size} bytes; its manifest takes {most}")));
    }
    found
}

/// Checks every item of a list, and that no two have the same key.
fn each<T>(
    found: &mut Findings,
    list: &str,
    items: &[T],
    key: impl Fn(&T) -> &String,
    key_name: &str,
    check: impl Fn(&T, &mut Vec<(&'static str, String)>),
) {
    let mut seen = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let mut wrong = Vec::new();
        check(item, &mut wrong);
        found.extend(wrong.into_iter().map(|(field, why)| (format!("{list}[{index}].{field}"), why)));
        if let Some(first) = seen.insert(key(item), index) {
            let why = format!("`{}` is the {key_name} of number {} in this list already", key(item), first + 1);
            found.push((format!("{list}[{index}].{key_name}"), why));
        }
    }
}

fn check_script(script: &DeclaredScript, wrong: &mut Vec<(&'static str, String)>) {
    if script.display_name.trim().is_empty() {
        wrong.push(("display_name", "must not be empty".into()));
    }
    if script.script.trim().is_empty() {
        wrong.push(("script", "must not be empty".into()));
    }
    if script.script.contains('\0') || script.log_path.contains('\0') {
        wrong.push(("script", "must not contain a NUL character".into()));
    }
    if !script.cron.is_empty()
        && let Err(why) = cron::check(&script.cron)
    {
        wrong.push(("cron", why));
    }
    if script.cron.is_empty() && !script.run_on_start && !script.run_on_stop {
        wrong.push(("run_on_start", "the script would never run: set run_on_start, run_on_stop or cron".into()));
    }
    if script.start_blocks_login && !script.run_on_start {
        wrong.push(("start_blocks_login", "needs run_on_start".into()));
    }
    if !(0..=SECONDS_MAX).contains(&script.timeout_seconds) {
        wrong.push(("timeout_seconds", "must be 0 (none) or a number of seconds".into()));
    }
}

fn check_metadata(one: &DeclaredMetadata, wrong: &mut Vec<(&'static str, String)>) {
    if one.key.is_empty() || one.key.len() > METADATA_KEY_BYTES || one.key.chars().any(char::is_control) {
        wrong.push(("key", format!("must have 1 to {METADATA_KEY_BYTES} bytes and no control characters")));
    }
    if one.script.trim().is_empty() || one.script.contains('\0') {
        wrong.push(("script", "must not be empty nor contain a NUL character".into()));
    }
    for (field, value) in [("interval", one.interval), ("timeout", one.timeout)] {
        if !(0..=SECONDS_MAX).contains(&value) {
            wrong.push((field, "must be 0 or a number of seconds".into()));
        }
    }
    check_order(one.order, wrong);
}

fn check_app(app: &DeclaredApp, wrong: &mut Vec<(&'static str, String)>) {
    // The real server's rule (provisioner/appslug, v2.24.0): the slug becomes part of a host name.
    let labels = app.slug.split('-').all(|label| !label.is_empty());
    let letters = app.slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !labels || !letters || app.slug.len() > names::NAME_CHARS {
        let most = names::NAME_CHARS;
        wrong.push(("slug", format!("must have 1 to {most} of a-z, 0-9 and single hyphens inside")));
    }
    if !app.url.is_empty() && !app.command.is_empty() {
        wrong.push(("command", "an app has a url or a command, not both".into()));
    }
    if app.external {
        let scheme = app.url.split_once(':').map_or("", |(scheme, _)| scheme);
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            wrong.push(("url", "an external app needs a full URL".into()));
        }
    } else if !app.url.is_empty() && !is_web_url(&app.url) {
        wrong.push(("url", format!("`{}` is not an http or https URL", app.url)));
    }
    let range = 1..=SECONDS_MAX;
    if app.healthcheck_url.is_empty() {
        if app.healthcheck_interval != 0 || app.healthcheck_threshold != 0 {
            wrong.push(("healthcheck_url", "is missing beside healthcheck_interval or healthcheck_threshold".into()));
        }
    } else {
        if !is_web_url(&app.healthcheck_url) {
            wrong.push(("healthcheck_url", format!("`{}` is not an http or https URL", app.healthcheck_url)));
        }
        if !range.contains(&app.healthcheck_interval) {
            wrong.push(("healthcheck_interval", "must be at least 1 second".into()));
        }
        if !range.contains(&app.healthcheck_threshold) {
            wrong.push(("healthcheck_threshold", "must be at least 1".into()));
        }
    }
    check_order(app.order, wrong);
}

fn check_order(order: i64, wrong: &mut Vec<(&'static str, String)>) {
    if i32::try_from(order).is_err() {
        wrong.push(("order", "must fit 32 bits".into()));
    }
}

fn is_web_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}
