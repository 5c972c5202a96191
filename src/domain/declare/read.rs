//! From a file's text to a declaration, with line and field of everything that cannot be taken.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::document::{self, Entry, Node, Value};
use super::{
    Declaration, DeclaredAgent, DeclaredApp, DeclaredMetadata, DeclaredScript, DeclaredUser, DeclaredWorkspace,
    Problem, check, refusal,
};
use crate::config;
use crate::domain::Error;

/// How a declaration is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Arrays of tables are named in the singular: `[[workspace.agent]]`.
    #[default]
    Toml,
    /// Arrays are named in the plural.
    Json,
}

/// Arrays, in the singular and in the plural. `metadata` has one word for both.
const ARRAYS: &[(&str, &str)] =
    &[("user", "users"), ("workspace", "workspaces"), ("agent", "agents"), ("script", "scripts"), ("app", "apps")];

impl Format {
    /// By the file's name.
    pub fn of(name: &str) -> Option<Format> {
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some(ending) if ending.eq_ignore_ascii_case("toml") => Some(Format::Toml),
            Some(ending) if ending.eq_ignore_ascii_case("json") => Some(Format::Json),
            _ => None,
        }
    }

    /// A path of JSON in this format's words.
    pub(super) fn path(self, path: &str) -> String {
        match self {
            Format::Json => path.to_owned(),
            Format::Toml => ARRAYS
                .iter()
                .fold(path.to_owned(), |path, (one, many)| path.replace(&format!("{many}["), &format!("{one}["))),
        }
    }

    /// This format's word for an array named in the plural.
    fn word(self, plural: &'static str) -> &'static str {
        match self {
            Format::Json => plural,
            Format::Toml => ARRAYS.iter().find(|(_, many)| *many == plural).map_or(plural, |(one, _)| one),
        }
    }
}

/// Reads a declaration. `source` names it in messages; `secret` reads a password file named in it.
pub fn read(
    source: &str,
    text: &str,
    format: Format,
    secret: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Declaration, Error> {
    let root = match format {
        Format::Toml => document::from_toml(text),
        Format::Json => document::from_json(text),
    }
    .map_err(|problem| refusal(source, format, vec![problem]))?;
    let mut reader = Reader { format, secret, problems: Vec::new(), lines: HashMap::new() };
    let mut declaration = Declaration { source: source.to_owned(), format, ..Declaration::default() };
    if let Some(mut fields) = reader.table(&root, String::new(), &["users", "workspaces"]) {
        declaration.users = fields.each(&mut reader, "users", Reader::user);
        declaration.workspaces = fields.each(&mut reader, "workspaces", Reader::workspace);
    }
    let Reader { mut problems, lines, .. } = reader;
    // Fields that could not be read have their default value now; do not complain about it again.
    for mut problem in check::check(&declaration) {
        problem.line = line_of(&lines, &problem.path).unwrap_or(problem.line);
        if !problems.iter().any(|known| known.path == problem.path) {
            problems.push(problem);
        }
    }
    if problems.is_empty() { Ok(declaration) } else { Err(refusal(source, format, problems)) }
}

/// The line of a path, or of the nearest thing around it.
fn line_of(lines: &HashMap<String, u32>, path: &str) -> Option<u32> {
    let mut path = path;
    loop {
        if let Some(line) = lines.get(path) {
            return Some(*line);
        }
        let end = path.rfind(['.', '['])?;
        path = path.get(..end)?;
    }
}

struct Reader<'a> {
    format: Format,
    secret: &'a dyn Fn(&str) -> Result<String, String>,
    problems: Vec<Problem>,
    lines: HashMap<String, u32>,
}

/// The entries of a table whose keys are all known.
struct Fields<'a> {
    path: String,
    line: u32,
    entries: Vec<&'a Entry>,
}

impl Reader<'_> {
    fn refuse(&mut self, line: u32, path: String, why: impl Into<String>) {
        self.problems.push(Problem { line, path, why: why.into() });
    }

    /// A table with its unknown keys refused. `known` has arrays in the plural.
    fn table<'n>(&mut self, node: &'n Node, path: String, known: &[&'static str]) -> Option<Fields<'n>> {
        self.lines.insert(path.clone(), node.line);
        let Value::Table(entries) = &node.value else {
            self.refuse(node.line, path, format!("must be a table, not {}", node.value.kind()));
            return None;
        };
        let words: Vec<&'static str> = known.iter().map(|word| self.format.word(word)).collect();
        let mut fields = Fields { path, line: node.line, entries: Vec::new() };
        for entry in entries {
            if words.contains(&entry.key.as_str()) {
                fields.entries.push(entry);
                continue;
            }
            let hint = match config::nearest(&entry.key, words.iter().copied()) {
                Some(word) => format!("unknown key; did you mean `{word}`?"),
                None => format!("unknown key; known are {}", words.join(", ")),
            };
            let path = fields.join(&entry.key);
            self.refuse(entry.line, path, hint);
        }
        Some(fields)
    }

    fn user(&mut self, node: &Node, path: String) -> DeclaredUser {
        let known = &["name", "email", "full_name", "admin", "password_file"];
        let Some(mut fields) = self.table(node, path, known) else { return DeclaredUser::default() };
        let password = match fields.find("password_file") {
            None => None,
            Some(entry) => {
                let name = fields.text(self, "password_file");
                match (self.secret)(&name) {
                    Ok(password) => Some(password),
                    Err(why) => {
                        let path = fields.join("password_file");
                        self.refuse(entry.line, path, why);
                        None
                    }
                }
            }
        };
        DeclaredUser {
            line: fields.line,
            name: fields.required(self, "name"),
            email: fields.required(self, "email"),
            full_name: fields.text(self, "full_name"),
            admin: fields.flag(self, "admin"),
            password,
        }
    }

    fn workspace(&mut self, node: &Node, path: String) -> DeclaredWorkspace {
        let Some(mut fields) = self.table(node, path, &["owner", "name", "agents"]) else {
            return DeclaredWorkspace::default();
        };
        DeclaredWorkspace {
            line: fields.line,
            owner: fields.required(self, "owner"),
            name: fields.required(self, "name"),
            agents: fields.each(self, "agents", Reader::agent),
        }
    }

    fn agent(&mut self, node: &Node, path: String) -> DeclaredAgent {
        let defaults = DeclaredAgent::default();
        let known = &[
            "name",
            "os",
            "arch",
            "directory",
            "env",
            "motd_file",
            "troubleshooting_url",
            "connection_timeout_seconds",
            "display_apps",
            "aws_instance_id",
            "azure_vm_id",
            "google_instance_id",
            "scripts",
            "metadata",
            "apps",
        ];
        let Some(mut fields) = self.table(node, path, known) else { return defaults };
        DeclaredAgent {
            line: fields.line,
            name: fields.required(self, "name"),
            os: fields.text_or(self, "os", &defaults.os),
            arch: fields.text_or(self, "arch", &defaults.arch),
            directory: fields.text(self, "directory"),
            env: fields.variables(self, "env"),
            motd_file: fields.text(self, "motd_file"),
            troubleshooting_url: fields.text(self, "troubleshooting_url"),
            connection_timeout_seconds: fields.number(
                self,
                "connection_timeout_seconds",
                defaults.connection_timeout_seconds,
            ),
            display_apps: fields.words(self, "display_apps").unwrap_or(defaults.display_apps),
            aws_instance_id: fields.text(self, "aws_instance_id"),
            azure_vm_id: fields.text(self, "azure_vm_id"),
            google_instance_id: fields.text(self, "google_instance_id"),
            scripts: fields.each(self, "scripts", Reader::script),
            metadata: fields.each(self, "metadata", Reader::metadata),
            apps: fields.each(self, "apps", Reader::app),
        }
    }

    fn script(&mut self, node: &Node, path: String) -> DeclaredScript {
        let known = &[
            "display_name",
            "icon",
            "script",
            "cron",
            "log_path",
            "run_on_start",
            "run_on_stop",
            "start_blocks_login",
            "timeout_seconds",
        ];
        // `script` is the text here, not an array, so the words of JSON hold in both formats.
        let Some(mut fields) = self.table(node, path, known) else { return DeclaredScript::default() };
        DeclaredScript {
            display_name: fields.required(self, "display_name"),
            icon: fields.text(self, "icon"),
            script: fields.required(self, "script"),
            cron: fields.text(self, "cron"),
            log_path: fields.text(self, "log_path"),
            run_on_start: fields.flag(self, "run_on_start"),
            run_on_stop: fields.flag(self, "run_on_stop"),
            start_blocks_login: fields.flag(self, "start_blocks_login"),
            timeout_seconds: fields.number(self, "timeout_seconds", 0),
        }
    }

    fn metadata(&mut self, node: &Node, path: String) -> DeclaredMetadata {
        let known = &["key", "display_name", "script", "interval", "timeout", "order"];
        let Some(mut fields) = self.table(node, path, known) else { return DeclaredMetadata::default() };
        let key = fields.required(self, "key");
        DeclaredMetadata {
            display_name: fields.text_or(self, "display_name", &key),
            key,
            script: fields.required(self, "script"),
            interval: fields.number(self, "interval", 0),
            timeout: fields.number(self, "timeout", 0),
            order: fields.number(self, "order", 0),
        }
    }

    fn app(&mut self, node: &Node, path: String) -> DeclaredApp {
        let known = &[
            "slug",
            "display_name",
            "icon",
            "url",
            "command",
            "order",
            "external",
            "hidden",
            "healthcheck_url",
            "healthcheck_interval",
            "healthcheck_threshold",
        ];
        let Some(mut fields) = self.table(node, path, known) else { return DeclaredApp::default() };
        let slug = fields.required(self, "slug");
        let healthcheck_url = fields.text(self, "healthcheck_url");
        let (interval, threshold) = if healthcheck_url.is_empty() { (0, 0) } else { (5, 6) };
        DeclaredApp {
            display_name: fields.text_or(self, "display_name", &slug),
            slug,
            icon: fields.text(self, "icon"),
            url: fields.text(self, "url"),
            command: fields.text(self, "command"),
            order: fields.number(self, "order", 0),
            external: fields.flag(self, "external"),
            hidden: fields.flag(self, "hidden"),
            healthcheck_url,
            healthcheck_interval: fields.number(self, "healthcheck_interval", interval),
            healthcheck_threshold: fields.number(self, "healthcheck_threshold", threshold),
        }
    }
}

impl<'n> Fields<'n> {
    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn find(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key).copied()
    }

    /// The value of a key by `take`, with its line noted; a value of another kind is refused.
    fn take<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &str,
        kind: &str,
        take: impl Fn(&'n Value) -> Option<T>,
    ) -> Option<T> {
        let entry = self.find(key)?;
        let path = self.join(key);
        reader.lines.insert(path.clone(), entry.line);
        let value = take(&entry.node.value);
        if value.is_none() {
            reader.refuse(entry.line, path, format!("must be {kind}, not {}", entry.node.value.kind()));
        }
        value
    }

    fn text(&mut self, reader: &mut Reader<'_>, key: &str) -> String {
        self.text_or(reader, key, "")
    }

    fn text_or(&mut self, reader: &mut Reader<'_>, key: &str, default: &str) -> String {
        self.take(reader, key, "text in quotes", |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
        .unwrap_or_else(|| default.to_owned())
    }

    fn required(&mut self, reader: &mut Reader<'_>, key: &str) -> String {
        if self.find(key).is_none() {
            let path = self.join(key);
            reader.refuse(self.line, path, "is missing");
        }
        self.text(reader, key)
    }

    fn flag(&mut self, reader: &mut Reader<'_>, key: &str) -> bool {
        self.take(reader, key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
        .unwrap_or(false)
    }

    fn number(&mut self, reader: &mut Reader<'_>, key: &str, default: i64) -> i64 {
        self.take(reader, key, "a whole number", |value| match value {
            Value::Integer(number) => Some(*number),
            _ => None,
        })
        .unwrap_or(default)
    }

    fn words(&mut self, reader: &mut Reader<'_>, key: &str) -> Option<Vec<String>> {
        self.take(reader, key, "a list of texts", |value| match value {
            Value::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Text(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    fn variables(&mut self, reader: &mut Reader<'_>, key: &str) -> BTreeMap<String, String> {
        let entries = self.take(reader, key, "a table", |value| match value {
            Value::Table(entries) => Some(entries),
            _ => None,
        });
        let mut variables = BTreeMap::new();
        for entry in entries.into_iter().flatten() {
            let path = format!("{}.{}", self.join(key), entry.key);
            reader.lines.insert(path.clone(), entry.line);
            match &entry.node.value {
                Value::Text(text) => {
                    variables.insert(entry.key.clone(), text.clone());
                }
                other => reader.refuse(entry.line, path, format!("must be text in quotes, not {}", other.kind())),
            }
        }
        variables
    }

    /// Every table of an array named `plural`.
    fn each<'r, T>(
        &mut self,
        reader: &mut Reader<'r>,
        plural: &'static str,
        one: fn(&mut Reader<'r>, &Node, String) -> T,
    ) -> Vec<T> {
        let path = self.join(plural);
        let word = reader.format.word(plural);
        let Some(entry) = self.find(word) else { return Vec::new() };
        let Value::List(items) = &entry.node.value else {
            let kind = entry.node.value.kind();
            let why = match reader.format {
                Format::Toml => format!("must be an array of tables in double brackets, not {kind}"),
                Format::Json => format!("must be an array of objects, not {kind}"),
            };
            reader.refuse(entry.line, path, why);
            return Vec::new();
        };
        items.iter().enumerate().map(|(index, item)| one(reader, item, format!("{path}[{index}]"))).collect()
    }
}
