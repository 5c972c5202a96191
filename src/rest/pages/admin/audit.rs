//! The audit log: who did what, newest first.

use super::super::html::{Html, fill, text};
use super::super::login::encode;
use super::super::parts::{self, Form, cell, link, state, table, when};
use crate::domain::Error;
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::audit::{self, Filter, Stored, Verdict};

const PATH: &str = "/admin/audit";
/// Rows of one page.
const ROWS: usize = 100;
/// Rows that can be skipped; what is older, the filter finds.
const SKIPPED: usize = 100_000;
const FIELDS: &[&str] = &["person", "action"];

/// `GET /admin/audit`.
pub(in crate::rest) fn list(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let (person, action) = (call.query.text("person").trim(), call.query.text("action"));
        let number = call.query.text("page").parse::<usize>().unwrap_or(1).clamp(1, SKIPPED / ROWS);
        let filter = Filter {
            actor: Some(person.to_owned()).filter(|person| !person.is_empty()),
            actions: Some(vec![action.to_owned()]).filter(|_| !action.is_empty()),
            ..Filter::default()
        };
        let (rows, count, mut actions) = call.service.app.store.read(|conn| -> Result<_, Error> {
            let (rows, count) = audit::list(conn, &filter, ROWS, (number - 1) * ROWS)?;
            Ok((rows, usize::try_from(count).unwrap_or(0), audit::actions(conn)?))
        })?;
        actions.sort();
        let form = Form::with(FIELDS, &call.query);
        let options = actions.iter().map(|action| (action.as_str(), action.as_str()));
        let shown: Vec<Vec<Html>> = rows.iter().map(row).collect();
        let first = (number - 1) * ROWS + 1;
        let range = match shown.len() {
            0 => String::new(),
            many => format!("{first} to {} of {count}", first + many - 1),
        };
        let to = |number: usize| format!("{PATH}?person={}&action={}&page={number}", encode(person), encode(action));
        let newer = if number > 1 { link(&to(number - 1), "Newer") } else { Html::default() };
        let older = if number * ROWS < count { link(&to(number + 1), "Older") } else { Html::default() };
        let columns = ["When", "Who", "Did", "On what", "Result", "From"];
        let plain = " autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\"";
        let values = [
            ("person", form.line("person", "Who", "", "", plain)),
            ("action", form.choice("action", "Action", "", "", std::iter::once(("", "any")).chain(options))),
            ("table", table("Audit log", &columns, shown, "Nothing of that kind was done.")),
            ("range", text(&range)),
            ("newer", newer),
            ("older", older),
        ];
        Ok(desk.page(200, "Audit log", fill(include_str!("audit.html"), &values)))
    })
}

fn row(row: &Stored) -> Vec<Html> {
    let result = match row.verdict {
        Verdict::Ok => state("done", "good"),
        Verdict::Refused => state("refused", "bad"),
        Verdict::Failed => state("failed", "bad"),
    };
    let kind = match row.actor_kind.as_str() {
        "user" => "",
        "operator" => "on the server",
        "anonymous" => "not signed in",
        other => other,
    };
    vec![
        when(row.at),
        cell(text(&row.actor_name), kind),
        fill("<code>{{action}}</code>", &[("action", text(&row.action))]),
        text(&row.target),
        cell(result, &row.detail),
        text(if row.ip.is_empty() { "–" } else { &row.ip }),
    ]
}
