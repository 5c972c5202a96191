//! Trust anchors: what cloud machines are proved by.

use moorline_plugin::schema::Kind;
use serde_json::Value;

use super::super::html::{Html, fill, text};
use super::super::parts::{self, Board, state, table, when};
use crate::domain::{Error, trust};
use crate::model::Timestamp;
use crate::rest::later;
use crate::rest::reply::Reply;
use crate::rest::request::Call;

/// `GET /admin/anchors`. Asks the identity plugins for what they bring, so it may take a when.
pub(in crate::rest) fn list(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let app = call.service.app.clone();
        let board = desk.board();
        let first = app.plugins.providers(Kind::Identity).next().cloned();
        let work = move || Ok(show(board, &trust::list(&app.store, &app.plugins)?));
        match first {
            // They are asked one after the other, on a thread that may wait.
            Some(provider) => later::answer(call, &provider, work),
            None => work(),
        }
    })
}

fn show(board: Board, listed: &Value) -> Reply {
    let list = |key: &str| listed.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let rows = list("anchors").iter().map(row).collect();
    let problems = list("problems")
        .iter()
        .filter_map(Value::as_str)
        .map(|problem| fill(include_str!("../problem.html"), &[("message", text(problem))]));
    let none = "There are none: no identity provider brings any, and none were imported.";
    let values = [
        ("problems", Html::join(problems)),
        ("table", table("Trust anchors", &["Name", "Role", "Origin", "Ends"], rows, none)),
    ];
    board.page(200, "Trust anchors", fill(include_str!("anchors.html"), &values))
}

fn row(anchor: &Value) -> Vec<Html> {
    let word = |key: &str| anchor.get(key).and_then(Value::as_str).unwrap_or_default();
    let counts = anchor.get("end_counts").and_then(Value::as_bool).unwrap_or(false);
    let end = Timestamp::parse(word("not_after")).ok();
    let ends = match end {
        None => text("never"),
        Some(end) if !counts => fill("{{end}} (the end does not count)", &[("end", when(end))]),
        Some(end) if end <= Timestamp::now() => state("has ended", "bad"),
        Some(end) => when(end),
    };
    vec![text(word("name")), text(word("role")), text(word("origin")), ends]
}
