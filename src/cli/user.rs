//! `moorline user`.

use serde_json::Value;

use super::args::User;
use super::context::Context;
use super::table::{instant, items, table, text};
use super::{Failure, Said, door, secret};
use crate::domain::admin::Command;

pub(super) fn run(context: &Context, verb: User) -> Result<Said, Failure> {
    match verb {
        User::Add { name, email, admin, password_stdin, create } => {
            let password = password_stdin.then(secret::from_stdin).transpose()?;
            let has_password = password.is_some();
            let value = door::ask(context, Command::UserAdd { name, email, admin, password }, create)?.value;
            let (name, same) = (text(&value, "name"), context.same_file());
            let kind = if admin { "Administrator" } else { "User" };
            let next = if has_password {
                format!("Next: moorline workspace add NAME --owner {name}{same}")
            } else {
                format!(
                    "Next: moorline user password {name}{same}      (so that they can sign in with a password)
  or: moorline token create --user {name}{same}  (so that they can sign in with a token)"
                )
            };
            Ok(Said { text: format!("{kind} {name} was added.\n{next}"), value })
        }
        User::List => {
            let value = door::ask(context, Command::UserList {}, false)?.value;
            Ok(Said { text: list(&value, &context.same_file()), value })
        }
        User::Suspend { name } => {
            let value = door::ask(context, Command::UserSuspend { name }, false)?.value;
            let name = text(&value, "name");
            let said = format!("User {name} is suspended; their sessions have ended, their machines go on.");
            Ok(Said { text: format!("{said}\nUndo: moorline user activate {name}{}", context.same_file()), value })
        }
        User::Activate { name } => {
            let value = door::ask(context, Command::UserActivate { name }, false)?.value;
            Ok(Said { text: format!("User {} is active.", text(&value, "name")), value })
        }
        User::Remove { name, with_workspaces } => {
            let value = door::ask(context, Command::UserRemove { name, with_workspaces }, false)?.value;
            let mut said = format!("User {} was removed with all tokens.", text(&value, "name"));
            for workspace in items(&value, "removed_workspaces") {
                said.push_str(&format!("\nWorkspace {} was removed.", workspace.as_str().unwrap_or_default()));
            }
            Ok(Said { text: said, value })
        }
        User::Password { name, password_stdin } => {
            let password = if password_stdin { secret::from_stdin()? } else { secret::ask(&name)? };
            let value = door::ask(context, Command::UserPassword { name, password }, false)?.value;
            let said = format!(
                "User {} has a new password; tokens revoked: {}.",
                text(&value, "name"),
                text(&value, "revoked_tokens")
            );
            Ok(Said { text: said, value })
        }
    }
}

fn list(value: &Value, same: &str) -> String {
    let rows: Vec<Vec<String>> = items(value, "users")
        .iter()
        .map(|user| {
            let admin = user.get("admin").and_then(Value::as_bool).unwrap_or(false);
            vec![
                text(user, "name"),
                text(user, "email"),
                if admin { "admin".into() } else { "member".into() },
                text(user, "status"),
                instant(user, "created_at"),
                instant(user, "last_seen_at"),
            ]
        })
        .collect();
    if rows.is_empty() {
        return format!("There are no users.\nNext: moorline user add NAME --email ADDRESS --admin{same}");
    }
    table(&["name", "email", "role", "status", "created", "last seen"], &rows)
}
