//! What the server knows of its own state, for administrators and `coder support bundle`.

use serde_json::json;

use super::pages::html::{Html, fill, text};
use super::reply::Reply;
use super::request::Call;
use super::{pages, websocket};
use crate::domain::access::UserAuth;
use crate::domain::credential::Credential;
use crate::domain::{self, Error};
use crate::model::{Timestamp, version};
use crate::store::{agents, workspaces};
use crate::streams::{Visitor, echo};

/// `GET …/debug/health`. Nothing is dialled for it: a worker that waits for its own server helps nobody. What was
/// not tested says so, but not as a warning: `coder support bundle` prints those as problems (v2.24.0 cli/support.go).
pub(super) fn health(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    let app = &call.service.app;
    let state = domain::health::of(app)?;
    let (took, damage) = (state.read_took, state.damage.clone());
    let file_is_well = damage.is_none();
    let severity = |well: bool| if well { "ok" } else { "error" };

    let map = app.derp_map.now().json();
    let regions: serde_json::Map<String, serde_json::Value> = map
        .get("Regions")
        .and_then(|regions| regions.as_object())
        .into_iter()
        .flatten()
        .map(|(id, region)| {
            let report = json!({
                "healthy": true, "severity": "ok", "warnings": [], "region": region, "node_reports": [],
            });
            (id.clone(), report)
        })
        .collect();

    let named = app.access_url.split_once("://").map_or("", |(_, host)| host);
    let came_by_it = call.header("Host").is_some_and(|host| host.eq_ignore_ascii_case(named));
    let healthz = if came_by_it { "OK" } else { "Not tested: this request came by another name than the access URL." };
    let database_warnings = if state.read_is_slow() {
        vec![json!({"code": "EDB02", "message": format!("A read took {} ms.", took.as_millis())})]
    } else {
        Vec::new()
    };
    let mut database = json!({
        "severity": severity(file_is_well), "warnings": database_warnings, "dismissed": false,
        "healthy": file_is_well, "reachable": true, "latency": format!("{}µs", took.as_micros()),
        "latency_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "threshold_ms": domain::health::SLOW_READ_MS,
    });
    if let (Some(damage), Some(database)) = (damage, database.as_object_mut()) {
        database.insert("error".into(), damage.into());
    }
    let report = json!({
        "time": Timestamp::now(),
        "healthy": file_is_well,
        "severity": severity(file_is_well),
        "derp": {
            "severity": "ok", "warnings": [], "dismissed": false, "healthy": true, "regions": regions,
            "netcheck_logs": [],
        },
        "access_url": {
            "severity": "ok", "warnings": [], "dismissed": false, "healthy": true,
            "access_url": app.access_url, "reachable": came_by_it, "status_code": if came_by_it { 200 } else { 0 },
            "healthz_response": healthz,
        },
        "websocket": {
            "healthy": true, "severity": "ok", "warnings": [], "dismissed": false,
            "body": "Not tested; /api/v2/debug/ws is there to try it.", "code": 0,
        },
        "database": database,
        "workspace_proxy": {
            "healthy": true, "severity": "ok", "warnings": [], "dismissed": false,
            "workspace_proxies": {"regions": []},
        },
        "provisioner_daemons": {"severity": "ok", "warnings": [], "dismissed": false, "items": []},
        "coder_version": version::VERSION,
    });
    Reply::json(200, &report)
}

/// `GET …/debug/coordinator`: the agents that are connected, and where each is at home.
pub(super) fn coordinator(call: &Call<'_>, user: UserAuth) -> Result<Reply, Error> {
    let app = &call.service.app;
    let mut rows = Vec::new();
    app.store.read(|conn| -> Result<(), Error> {
        for workspace in workspaces::list(conn, None)? {
            for agent in agents::of_workspace(conn, workspace.id)? {
                let Some(live) = app.presence.of(agent.id) else { continue };
                let home = app.tailnet.node_of(agent.id).map(|node| node.preferred_derp.to_string());
                rows.push(fill(
                    include_str!("pages/coordinator-row.html"),
                    &[
                        ("agent", text(&format!("{}/{}.{}", workspace.owner_name, workspace.name, agent.name))),
                        ("id", text(&agent.id.to_string())),
                        ("seen", text(&live.last_seen.to_string())),
                        ("home", text(home.as_deref().unwrap_or("-"))),
                    ],
                ));
            }
        }
        Ok(())
    })?;
    let counts = app.tailnet.counts();
    let number = |number: usize| text(&number.to_string());
    let content = fill(
        include_str!("pages/coordinator.html"),
        &[
            ("connected", number(app.presence.count())),
            ("agents", number(counts.agents)),
            ("clients", number(counts.clients)),
            ("tunnels", number(counts.tunnels)),
            ("lost", number(counts.lost)),
            ("rows", Html::join(rows)),
        ],
    );
    Ok(pages::page(call, 200, "Coordinator", Some(&user), content))
}

/// `GET …/debug/tailnet`.
pub(super) fn tailnet(call: &Call<'_>, user: UserAuth) -> Result<Reply, Error> {
    let content = fill(include_str!("pages/tailnet.html"), &[]);
    Ok(pages::page(call, 200, "Tailnet", Some(&user), content))
}

/// `GET …/debug/ws`: a WebSocket that sends back what it gets.
pub(super) fn echo(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let app = &call.service.app;
    websocket::upgrade_if(call, || {
        let visitor = Visitor::admit(app, Credential::of(&auth), app.deployment_id)?;
        Ok(echo::echo(app.clone(), visitor))
    })
}
