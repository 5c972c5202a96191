//! The server as a whole, for those who are signed in.

use serde::Serialize;

use super::dto::deployment::{Appearance, Banner, Config, Region, Regions, Stats};
use super::reply::Reply;
use super::request::Call;
use crate::domain::access::UserAuth;
use crate::domain::{Error, Fault};
use crate::model::{MICROS_PER_SECOND, Timestamp};
use crate::store::{stats, workspaces};

/// `GET …/appearance`. JetBrains Toolbox cannot sign in without its name (coder-jetbrains-toolbox 0.9.3
/// sdk/CoderRestClient.kt), so it is served though the real server's free edition does not.
pub(super) fn appearance(_: &Call<'_>) -> Result<Reply, Error> {
    Reply::json(
        200,
        &Appearance {
            application_name: "Moorline",
            logo_url: "",
            docs_url: "",
            service_banner: Banner { enabled: false },
            announcement_banners: [],
        },
    )
}

#[derive(Serialize)]
struct Host {
    host: &'static str,
}

/// `GET …/applications/host`: apps have no host names of their own.
pub(super) fn applications_host(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Reply::json(200, &Host { host: "" })
}

/// `GET …/applications/auth-redirect`.
pub(super) fn auth_redirect(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    let message = match call.query.text("redirect_uri") {
        "" => "The query parameter redirect_uri is missing.",
        _ => "Apps have no host names of their own on this server, so there is none to sign in to.",
    };
    Err(Error::new(Fault::Invalid, message))
}

/// `GET …/deployment/config`, for administrators.
pub(super) fn config(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Reply::json(200, &Config::of(&call.service.app))
}

#[derive(Serialize)]
struct Ssh<'a> {
    hostname_prefix: &'static str,
    hostname_suffix: &'a str,
    ssh_config_options: Options,
}

#[derive(Serialize)]
struct Options {}

/// `GET …/deployment/ssh`: what `coder config-ssh` writes.
pub(super) fn ssh(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    let suffix = &call.service.app.settings.hostname_suffix;
    Reply::json(200, &Ssh { hostname_prefix: "coder.", hostname_suffix: suffix, ssh_config_options: Options {} })
}

/// `GET …/deployment/stats`.
pub(super) fn stats(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    let now = Timestamp::now();
    let (recent, running) =
        call.service.app.store.read(|conn| -> Result<_, Error> {
            Ok((stats::recent(conn, now)?, workspaces::list(conn, None)?.len()))
        })?;
    Reply::json(200, &Stats::of(&recent, running, now))
}

/// `GET …/experiments`.
pub(super) fn experiments(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Reply::json(200, &[(); 0])
}

#[derive(Serialize)]
struct Experiments {
    safe: [(); 0],
}

/// `GET …/experiments/available`.
pub(super) fn experiments_available(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Reply::json(200, &Experiments { safe: [] })
}

/// `GET …/regions`. `coder open app` looks for the name `primary` (v2.24.0 cli/open.go).
pub(super) fn regions(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    let app = &call.service.app;
    let region = Region {
        id: app.deployment_id,
        name: "primary",
        display_name: "Default",
        icon_url: "",
        healthy: true,
        path_app_url: &app.access_url,
        wildcard_hostname: "",
    };
    Reply::json(200, &Regions { regions: [region] })
}

/// `POST …/files`: what `coder templates push` begins with.
pub(super) fn upload(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Err(Error::new(
        Fault::Invalid,
        "This server keeps no templates; declare machines with `moorline workspace add` or `moorline apply`.",
    ))
}

/// `GET …/files/{file}`.
pub(super) fn file(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Err(Error::new(Fault::NotFound, "The file does not exist; this server keeps no templates."))
}

/// Days that `daily_users` looks back.
const DAYS: i64 = 60;
const HOUR: i64 = 3_600 * MICROS_PER_SECOND;

#[derive(Serialize)]
struct DailyUsers {
    entries: Vec<Day>,
    tz_hour_offset: i64,
}

#[derive(Serialize)]
struct Day {
    date: String,
    amount: i64,
}

/// `GET …/insights/daus`, for administrators: how many people used a machine of theirs, by day.
pub(super) fn daily_users(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    // The hours by which the local day begins before that of UTC.
    let offset = match call.query.text("tz_offset") {
        "" => Some(0),
        text => text.parse::<i64>().ok().filter(|hours| (-12..=14).contains(hours)),
    };
    let offset = offset.ok_or_else(|| {
        Error::new(Fault::Invalid, "Query parameters have invalid values.")
            .field("tz_offset", "A whole number of hours from -12 to 14 is expected.")
    })?;
    let local = Timestamp::now().0 + offset * HOUR;
    let first = (local.div_euclid(24 * HOUR) - DAYS) * 24 * HOUR;
    let begin = Timestamp(first - offset * HOUR);
    let counted = call.service.app.store.read(|conn| stats::daily_users(conn, begin, offset).map_err(Error::from))?;
    let entries = (0..=DAYS).map(|day| {
        let date: String = Timestamp(first + day * 24 * HOUR).to_string().chars().take(10).collect();
        let amount = counted.iter().find(|(day, _)| *day == date).map_or(0, |(_, amount)| *amount);
        Day { date, amount }
    });
    Reply::json(200, &DailyUsers { entries: entries.collect(), tz_hour_offset: offset })
}
