//! `GET …/audit`: who did what, newest first.

use std::collections::HashMap;

use uuid::Uuid;

use super::dto::audit::{AuditLog, AuditLogs, meaning};
use super::dto::users::User;
use super::paging::Page;
use super::reply::Reply;
use super::request::Call;
use crate::domain::access::UserAuth;
use crate::domain::search::{self, Term};
use crate::domain::{Error, synthetic};
use crate::model::Timestamp;
use crate::store::audit::{self, Filter};
use crate::store::users;

/// Rows of one answer, about 700 bytes each: 0.7 MiB.
const ROWS: usize = 1_000;
/// Micro-seconds of a day.
const DAY: i64 = 24 * 3_600 * crate::model::MICROS_PER_SECOND;

/// `GET …/audit`, for administrators.
pub(super) fn list(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let page = Page::of(call)?;
    let search = Search::of(call.query.text("q"), &auth)?;
    let app = &call.service.app;
    let limit = page.limit.unwrap_or(ROWS).min(ROWS);
    let (rows, count, people) = app.store.read(|conn| -> Result<_, Error> {
        let filter = search.filter(|| audit::actions(conn))?;
        let (rows, count) = match search.nothing {
            true => (Vec::new(), 0),
            false => audit::list(conn, &filter, limit, page.offset)?,
        };
        let people: HashMap<Uuid, users::User> = users::list(conn)?.into_iter().map(|user| (user.id.0, user)).collect();
        Ok((rows, count, people))
    })?;
    let (deployment, organization) = (app.deployment_id, app.organization_id());
    let audit_logs = rows.iter().map(|row| {
        let user = row.actor_id.filter(|_| row.actor_kind == "user").and_then(|id| people.get(&id));
        AuditLog::of(row, user.map(|user| User::of(user, organization)), deployment, organization)
    });
    Reply::json(200, &AuditLogs { audit_logs: audit_logs.collect(), count })
}

/// What `q=` asks for (coder v2.24.0 coderd/searchquery/search.go AuditLogs).
#[derive(Default)]
struct Search {
    filter: Filter,
    resource_type: Option<String>,
    action: Option<String>,
    /// Asks by something that no row has.
    nothing: bool,
}

impl Search {
    fn of(text: &str, auth: &UserAuth) -> Result<Search, Error> {
        let mut found = Search::default();
        for term in search::terms(text)? {
            match term {
                Term::Word(word) => found.resource_type = Some(word.trim_matches('"').to_owned()),
                Term::Pair(key, value) => {
                    found.add(&key, value, auth).map_err(|why| search::refusal().field(key, why))?;
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, key: &str, value: String, auth: &UserAuth) -> Result<(), String> {
        match key {
            "resource_type" => self.resource_type = Some(value),
            "action" => self.action = Some(value),
            "username" if value == "me" => self.filter.actor = Some(auth.user.username.clone()),
            // Whoever failed to sign in is known by the address they gave.
            "username" | "email" => self.filter.actor = Some(value),
            "resource_target" => self.filter.target = Some(value),
            "date_from" => self.filter.from = Some(day(&value)?),
            "date_to" => self.filter.until = Some(Timestamp(day(&value)?.0.saturating_add(DAY))),
            "organization" => self.nothing |= value != synthetic::ORGANIZATION,
            "request_id" | "resource_id" | "build_reason" => self.nothing = true,
            _ => return Err(format!("{key:?} is not a key of a search.")),
        }
        Ok(())
    }

    fn filter(&self, known: impl FnOnce() -> rusqlite::Result<Vec<String>>) -> Result<Filter, Error> {
        let mut filter = self.filter.clone();
        if self.resource_type.is_some() || self.action.is_some() {
            let fits = |wanted: &Option<String>, word: &str| wanted.as_deref().is_none_or(|wanted| wanted == word);
            let mut verbs = known()?;
            verbs.retain(|verb| {
                let (resource_type, action) = meaning(verb);
                fits(&self.resource_type, resource_type) && fits(&self.action, action)
            });
            filter.actions = Some(verbs);
        }
        Ok(filter)
    }
}

fn day(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(&format!("{text}T00:00:00Z")).map_err(|_| "A day like 2026-01-31 is expected.".into())
}
