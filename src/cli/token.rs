//! `moorline token`.

use serde_json::Value;

use super::args::Token;
use super::context::Context;
use super::table::{instant, items, table, text};
use super::workspace::server_url;
use super::{Failure, Said, door};
use crate::config::duration;
use crate::domain::admin::Command;

pub(super) fn run(context: &Context, verb: Token) -> Result<Said, Failure> {
    match verb {
        Token::Create { user, name, lifetime } => {
            let command = Command::TokenCreate { user, name, lifetime_seconds: lifetime.as_secs() };
            let done = door::ask(context, command, false)?;
            let token = text(&done.value, "token");
            let said = format!(
                "{token}\n\nIt is shown only now and expires after {} without use.\nNext: coder login {} --token {token}",
                duration::write(lifetime),
                server_url(context, done.online),
            );
            Ok(Said { text: said, value: done.value })
        }
        Token::List { user } => {
            let value = door::ask(context, Command::TokenList { user }, false)?.value;
            Ok(Said { text: list(&value, &context.same_file()), value })
        }
        Token::Revoke { id } => {
            // A whole token is taken as well: its id is what stands before the hyphen.
            let id = id.split_once('-').map_or(id.as_str(), |(id, _)| id).to_owned();
            let value = door::ask(context, Command::TokenRevoke { id }, false)?.value;
            Ok(Said { text: format!("Token {} is refused from now on.", text(&value, "id")), value })
        }
    }
}

fn list(value: &Value, same: &str) -> String {
    let rows: Vec<Vec<String>> = items(value, "tokens")
        .iter()
        .map(|token| {
            vec![
                text(token, "id"),
                text(token, "user"),
                text(token, "name"),
                text(token, "kind"),
                instant(token, "created_at"),
                instant(token, "last_used_at"),
                instant(token, "expires_at"),
            ]
        })
        .collect();
    if rows.is_empty() {
        return format!("There are no tokens.\nNext: moorline token create --user NAME{same}");
    }
    table(&["id", "user", "name", "kind", "created", "last used", "expires"], &rows)
}
