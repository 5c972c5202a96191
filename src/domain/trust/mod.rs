//! Trust anchors: certificates and key sets by which the identity plugins prove machines. The plugins bring
//! their own; the operator imports more, or newer ones in their place.

mod file;

use std::time::Duration;

use moorline_plugin::schema::{Anchor, Anchors, Kind};
use serde_json::{Value, json};

use super::users::note;
use super::{App, Error, Fault};
use crate::config::providers::ProviderConfig;
use crate::model::{MICROS_PER_SECOND, Timestamp};
use crate::plugins::{CallError, Plugins};
use crate::store::anchors::{self, Anchor as Row};
use crate::store::audit::Actor;
use crate::store::{self, Store};

/// Anchors that may be imported.
const ANCHORS: usize = 256;
/// How long before an anchor ends the log begins to say so.
const WARN_AHEAD: Duration = Duration::from_secs(90 * 86_400);
/// How long before an anchor ends `trust check` fails, unless it is told otherwise.
pub const CHECK_AHEAD_DAYS: u32 = 180;
/// Seconds of a day.
const DAY: u64 = 86_400;

fn of_row(row: &Row) -> Anchor {
    let not_after = row.not_after.map(|end| end.0 / MICROS_PER_SECOND);
    Anchor { name: row.name.clone(), role: row.role.clone(), data: row.data.clone(), not_after }
}

/// When an anchor ends, as far as that counts: of Amazon's certificates only the keys do, and Amazon goes on
/// signing with keys whose certificates have ended.
fn end(anchor: &Anchor) -> Option<Timestamp> {
    if anchor.role.starts_with("aws") {
        return None;
    }
    anchor.not_after.map(instant)
}

fn instant(seconds: i64) -> Timestamp {
    Timestamp(seconds.saturating_mul(MICROS_PER_SECOND))
}

/// Hands all imported anchors to the plugins, and warns of those that end soon.
pub fn install(store: &Store, plugins: &Plugins) -> Result<(), store::Error> {
    let rows = imported(store)?;
    let all: Vec<Anchor> = rows.iter().map(of_row).collect();
    warn(&all);
    plugins.set_anchors(&all);
    Ok(())
}

fn imported(store: &Store) -> Result<Vec<Row>, store::Error> {
    store.read(|conn| anchors::list(conn).map_err(store::Error::from))
}

fn warn(anchors: &[Anchor]) {
    let now = Timestamp::now();
    for anchor in anchors {
        match end(anchor) {
            Some(end) if end <= now => log::warn!("trust anchor {} has ended; import its successor", anchor.name),
            Some(end) if end.since(now) < WARN_AHEAD => {
                let days = end.since(now).as_secs() / DAY;
                log::warn!("trust anchor {} ends in {days} days; import its successor", anchor.name);
            }
            _ => {}
        }
    }
}

/// Once a day, looks at the ends of the anchors of a provider that is in use.
pub(super) fn look_ahead(app: &App, provider: &ProviderConfig) {
    if !app.identities.is_day_over(&provider.id, Timestamp::now()) {
        return;
    }
    let (plugins, config) = (app.plugins.clone(), provider.clone());
    let job = move || match of_provider(&plugins, &config) {
        Ok(anchors) => warn(&anchors),
        // It trusts nothing that could end.
        Err(CallError::Unsupported(_)) => {}
        Err(error) => log::warn!("the trust anchors of provider {} cannot be looked at: {error}", config.id),
    };
    if app.plugins.submit(provider, job).is_err() {
        log::debug!("provider {} has too much to do for a look at its trust anchors", provider.id);
    }
}

/// What a provider trusts: what it brings and what was imported.
fn of_provider(plugins: &Plugins, provider: &ProviderConfig) -> Result<Vec<Anchor>, CallError> {
    Ok(plugins.call::<_, Anchors>(provider, "anchors", &json!({}))?.anchors)
}

/// `moorline trust list`.
pub fn list(store: &Store, plugins: &Plugins) -> Result<Value, Error> {
    let imported = imported(store)?;
    let mut shown: Vec<Value> = Vec::new();
    let mut problems: Vec<String> = Vec::new();
    for row in &imported {
        shown.push(view(&of_row(row), Some(row.imported_at)));
    }
    for provider in plugins.providers(Kind::Identity) {
        match of_provider(plugins, provider) {
            Ok(anchors) => {
                let shipped = anchors.iter().filter(|anchor| !imported.iter().any(|row| row.name == anchor.name));
                shown.extend(shipped.map(|anchor| view(anchor, None)));
            }
            Err(error) => problems.push(format!("Provider {} cannot show what it brings: {error}", provider.id)),
        }
    }
    shown.sort_by_key(|one| one.get("name").and_then(Value::as_str).unwrap_or_default().to_owned());
    shown.dedup();
    Ok(json!({ "anchors": shown, "problems": problems }))
}

fn view(anchor: &Anchor, imported_at: Option<Timestamp>) -> Value {
    json!({
        "name": anchor.name, "role": anchor.role, "origin": if imported_at.is_some() { "imported" } else { "shipped" },
        "not_after": anchor.not_after.map(instant), "end_counts": end(anchor).is_some(), "imported_at": imported_at,
    })
}

/// `moorline trust check`: the anchors that end within so many days.
pub fn check(store: &Store, plugins: &Plugins, days: u32) -> Result<Value, Error> {
    let listed = list(store, plugins)?;
    let limit = Timestamp::now().plus(Duration::from_secs(u64::from(days) * DAY));
    let ends_soon = |one: &&Value| {
        let counts = one.get("end_counts").and_then(Value::as_bool).unwrap_or(false);
        let end = one.get("not_after").and_then(Value::as_str).and_then(|end| Timestamp::parse(end).ok());
        counts && end.is_some_and(|end| end < limit)
    };
    let all = listed.get("anchors").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let ending: Vec<&Value> = all.iter().filter(ends_soon).collect();
    Ok(json!({ "within_days": days, "looked_at": all.len(), "ending": ending, "problems": listed.get("problems") }))
}

/// `moorline trust import`: what `content` holds, under `name` and for `role`, if it does not say so itself.
/// It is tried with the plugins first, and trusted from the next sign-in on.
pub fn import(
    store: &Store,
    plugins: &Plugins,
    actor: &Actor,
    content: &[u8],
    name: &str,
    role: Option<&str>,
) -> Result<Value, Error> {
    let refused = |why: String| Error::new(Fault::Invalid, "Nothing was imported.").detail(why);
    let found = file::read(content, name, role).map_err(refused)?;
    let before = imported(store)?;
    let kept = before.iter().filter(|row| !found.iter().any(|anchor| anchor.name == row.name));
    let all: Vec<Anchor> = kept.map(of_row).chain(found.iter().cloned()).collect();
    if all.len() > ANCHORS {
        return Err(refused(format!("There would be {} imported anchors; {ANCHORS} are the most.", all.len())));
    }
    let now = Timestamp::now();
    let mut rows: Vec<Row> = Vec::new();
    for (cloud, _) in file::CLOUDS {
        let of_cloud = |anchor: &&Anchor| anchor.name.strip_prefix(cloud).is_some_and(|rest| rest.starts_with('/'));
        if !found.iter().any(|anchor| of_cloud(&anchor)) {
            continue;
        }
        let own: Vec<Anchor> = all.iter().filter(of_cloud).cloned().collect();
        let taken = try_out(plugins, cloud, &own).map_err(refused)?;
        for anchor in found.iter().filter(of_cloud) {
            let not_after = taken.iter().find(|one| one.name == anchor.name).and_then(|one| one.not_after);
            rows.push(Row {
                name: anchor.name.clone(),
                role: anchor.role.clone(),
                data: anchor.data.clone(),
                not_after: not_after.map(instant),
                imported_at: now,
            });
        }
    }
    let shown: Vec<Value> = rows.iter().map(|row| view(&of_row(row), Some(now))).collect();
    let actor = actor.clone();
    store.write(move |write| {
        for row in &rows {
            anchors::put(write, row)?;
            note(write, now, &actor, "trust.import", &row.name, &row.role)?;
        }
        Ok::<_, Error>(())
    })?;
    install(store, plugins)?;
    Ok(json!({ "imported": shown }))
}

/// Asks a cloud's plugins whether they take these anchors, before the ones that work are given up.
fn try_out(plugins: &Plugins, cloud: &str, anchors: &[Anchor]) -> Result<Vec<Anchor>, String> {
    let mut taken = None;
    for provider in plugins.providers(Kind::Identity).filter(|provider| provider.kind_word == cloud) {
        let answer = plugins.try_anchors(provider, anchors);
        let answer = answer.map_err(|why| format!("Provider {} does not take it: {why}", provider.id))?;
        taken = Some(answer);
    }
    taken.ok_or_else(|| format!("No identity provider of type {cloud} is configured, so nothing would use it."))
}

/// `moorline trust remove`.
pub fn remove(store: &Store, plugins: &Plugins, actor: &Actor, name: &str) -> Result<Value, Error> {
    let (removed, actor) = (name.to_owned(), actor.clone());
    store.write(move |write| {
        if !anchors::remove(write, &removed)? {
            return Err(Error::new(Fault::NotFound, format!("There is no imported trust anchor `{removed}`."))
                .detail("Shipped ones cannot be removed, but replaced by importing one of the same name."));
        }
        note(write, Timestamp::now(), &actor, "trust.remove", &removed, "")
    })?;
    install(store, plugins)?;
    Ok(json!({ "name": name }))
}
