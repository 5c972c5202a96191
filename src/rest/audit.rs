//! `GET …/audit`: who did what, newest first.

use std::collections::HashMap;

use uuid::Uuid;

use super::dto::audit::{AuditLog, AuditLogs, meaning};
use super::dto::users::User;
use super::paging::Page;
use super::reply::Reply;
use super::request::Call;
use crate::domain::access::UserAuth;
use crate::domain::synthetic::Ids;
use crate::domain::terms::Terms;
use crate::domain::{Error, Fault};
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
    let search = Search::of(call.query.text("q"), &auth, &call.service.app.ids())?;
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
    fn of(text: &str, auth: &UserAuth, ids: &Ids) -> Result<Search, Error> {
        let mut search = Search::default();
        for (key, value) in Terms::parse(text)?.0 {
            match key.as_str() {
                "" | "resource_type" => search.resource_type = Some(value),
                "action" => search.action = Some(value),
                "username" if value == "me" => search.filter.actor = Some(auth.user.username.clone()),
                // Whoever failed to sign in is known by the address they gave.
                "username" | "email" => search.filter.actor = Some(value),
                "resource_target" => search.filter.target = Some(value),
                "date_from" => search.filter.from = Some(day("date_from", &value)?),
                "date_to" => search.filter.until = Some(Timestamp(day("date_to", &value)?.0.saturating_add(DAY))),
                "organization" => search.nothing |= !ids.is_organization(&value),
                "request_id" | "resource_id" | "build_reason" => search.nothing = true,
                other => return Err(Terms::unknown(other)),
            }
        }
        Ok(search)
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

fn day(key: &str, text: &str) -> Result<Timestamp, Error> {
    Timestamp::parse(&format!("{text}T00:00:00Z")).map_err(|_| {
        Error::new(Fault::Invalid, "The search makes no sense.").field(key, "A day like 2026-01-31 is expected.")
    })
}
