//! The route table and how a request finds its row.
//!
//! Static segments stand before parameters. A guarded prefix is signed in before its leaf is looked
//! up, as chi's groups do it (coder v2.24.0 coderd/coderd.go): an unknown leaf below it is 401
//! without a token and 404 with one, and its static siblings are taken for their own method only.

use rusqlite::Connection;

use super::auth::{Target, Visible};
use super::reply::Reply;
use super::request::{Call, percent_decode};
use super::{agent_view, agents_me, derp, identity, keys, operator, site, users};
use crate::domain::Error;
use crate::domain::access::{AgentAuth, UserAuth};

type Answer = Result<Reply, Error>;

/// What a route needs to know of its caller, and what answers it.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// Anybody.
    Open(fn(&Call<'_>) -> Answer),
    /// A signed-in person.
    User(fn(&Call<'_>, UserAuth) -> Answer),
    /// A signed-in person, with the single 401 of agents' routes.
    UserOfAgents(fn(&Call<'_>, UserAuth) -> Answer),
    /// The person in the path, as seen by a signed-in one.
    Target(fn(&Call<'_>, Target) -> Answer),
    /// An agent.
    Agent(fn(&Call<'_>, AgentAuth) -> Answer),
    /// The agent in the path, as seen by a signed-in person; runs inside the read that found it.
    Visible(fn(&Call<'_>, &Connection, Visible) -> Answer),
    /// A person or an agent.
    Either(fn(&Call<'_>) -> Answer),
    /// Whoever owns the admin socket; for all others the route does not exist.
    Operator(fn(&Call<'_>, &str) -> Answer),
}

use Handler::{Agent, Either, Open, Operator, User, UserOfAgents, Visible as View};
type T = fn(&Call<'_>, Target) -> Answer;
const fn target(answer: T) -> Handler {
    Handler::Target(answer)
}

/// Method, path, whether it is the root of a group (which also answers with a trailing slash), handler.
type Row = (&'static str, &'static str, bool, Handler);

const ROOT: bool = true;
const LEAF: bool = false;

/// Every route, in the order of the paths.
#[rustfmt::skip]
pub(super) const ROUTES: &[Row] = &[
    ("POST",   "/admin/verb",                                          LEAF, Operator(operator::verb)),
    ("GET",    "/api/v2",                                              ROOT, Open(site::root)),
    ("GET",    "/api/v2/buildinfo",                                    LEAF, Open(site::build_info)),
    ("GET",    "/api/v2/derp-map",                                     ROOT, Either(site::derp_map)),
    ("POST",   "/api/v2/users/login",                                  LEAF, Open(users::login)),
    ("POST",   "/api/v2/users/logout",                                 LEAF, User(users::logout)),
    ("GET",    "/api/v2/users/{user}",                                 ROOT, target(users::show)),
    ("GET",    "/api/v2/users/{user}/gitsshkey",                       LEAF, target(users::git_ssh_key)),
    ("PUT",    "/api/v2/users/{user}/gitsshkey",                       LEAF, target(users::new_git_ssh_key)),
    ("POST",   "/api/v2/users/{user}/keys",                            ROOT, target(keys::create_session)),
    ("GET",    "/api/v2/users/{user}/keys/tokens",                     ROOT, target(keys::list)),
    ("POST",   "/api/v2/users/{user}/keys/tokens",                     ROOT, target(keys::create)),
    ("GET",    "/api/v2/users/{user}/keys/tokens/tokenconfig",         LEAF, target(keys::config)),
    ("GET",    "/api/v2/users/{user}/keys/tokens/{name}",              ROOT, target(keys::by_name)),
    ("GET",    "/api/v2/users/{user}/keys/{key}",                      ROOT, target(keys::by_id)),
    ("DELETE", "/api/v2/users/{user}/keys/{key}",                      ROOT, target(keys::delete)),
    ("POST",   "/api/v2/workspaceagents/aws-instance-identity",        LEAF, Open(identity::aws)),
    ("POST",   "/api/v2/workspaceagents/azure-instance-identity",      LEAF, Open(identity::azure)),
    ("GET",    "/api/v2/workspaceagents/connection",                   LEAF, UserOfAgents(agent_view::connection_of_none)),
    ("POST",   "/api/v2/workspaceagents/google-instance-identity",     LEAF, Open(identity::google)),
    ("PATCH",  "/api/v2/workspaceagents/me/app-status",                LEAF, Agent(agents_me::app_status)),
    ("GET",    "/api/v2/workspaceagents/me/external-auth",             LEAF, Agent(agents_me::external_auth)),
    ("GET",    "/api/v2/workspaceagents/me/gitauth",                   LEAF, Agent(agents_me::external_auth)),
    ("GET",    "/api/v2/workspaceagents/me/gitsshkey",                 LEAF, Agent(agents_me::git_ssh_key)),
    ("POST",   "/api/v2/workspaceagents/me/log-source",                LEAF, Agent(agents_me::log_source)),
    ("PATCH",  "/api/v2/workspaceagents/me/logs",                      LEAF, Agent(agents_me::append_logs)),
    ("GET",    "/api/v2/workspaceagents/me/reinit",                    LEAF, Agent(agents_me::reinit)),
    ("GET",    "/api/v2/workspaceagents/me/rpc",                       LEAF, Agent(agents_me::rpc)),
    ("GET",    "/api/v2/workspaceagents/{agent}",                      ROOT, View(agent_view::show)),
    ("GET",    "/api/v2/workspaceagents/{agent}/connection",           LEAF, View(agent_view::connection)),
    ("GET",    "/api/v2/workspaceagents/{agent}/logs",                 LEAF, View(agent_view::logs)),
    ("GET",    "/api/v2/workspaceagents/{agent}/startup-logs",         LEAF, View(agent_view::logs)),
    ("GET",    "/api/v2/workspaceagents/{agent}/watch-metadata",       LEAF, View(agent_view::watch_metadata)),
    ("GET",    "/api/v2/workspaceagents/{agent}/watch-metadata-ws",    LEAF, View(agent_view::watch_metadata_ws)),
    ("GET",    "/derp",                                                ROOT, Open(derp::relay)),
    ("GET",    "/derp/latency-check",                                  LEAF, Open(derp::latency_check)),
    ("GET",    "/derp/probe",                                          LEAF, Open(derp::probe)),
    ("GET",    "/healthz",                                             LEAF, Open(site::healthz)),
    ("GET",    "/latency-check",                                       LEAF, Open(site::latency_check)),
    ("GET",    "/metrics",                                             LEAF, Operator(operator::metrics)),
];

/// How a prefix is signed in before its leaves are looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Guard {
    Target,
    Agent,
    Visible,
}

/// Guarded prefixes; the first that fits a path owns it.
const GROUPS: &[(&str, Guard)] = &[
    ("/api/v2/users/{user}", Guard::Target),
    ("/api/v2/workspaceagents/me", Guard::Agent),
    ("/api/v2/workspaceagents/{agent}", Guard::Visible),
];

/// The table, split into segments once.
pub(super) struct Table {
    routes: Vec<Compiled>,
    groups: Vec<(Vec<&'static str>, Guard)>,
}

struct Compiled {
    method: &'static str,
    segments: Vec<&'static str>,
    root: bool,
    group: Option<usize>,
    handler: Handler,
}

/// What was found for a request.
pub(super) enum Found {
    /// Its row, and its path parameters.
    Route(Handler, Vec<String>),
    /// Only rows of other methods; the guard runs first.
    OtherMethods(Vec<&'static str>, Option<Guard>, Vec<String>),
    /// None; the guard runs first.
    Nothing(Option<Guard>, Vec<String>),
}

fn split(path: &str) -> Vec<&str> {
    path.trim_start_matches('/').split('/').collect()
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

fn fits(pattern: &[&str], path: &[&str]) -> bool {
    pattern
        .iter()
        .zip(path)
        .all(|(pattern, segment)| pattern == segment || (is_parameter(pattern) && !segment.is_empty()))
}

fn parameters(pattern: &[&str], path: &[&str]) -> Vec<String> {
    pattern
        .iter()
        .zip(path)
        .filter(|(pattern, _)| is_parameter(pattern))
        .map(|(_, segment)| percent_decode(segment).unwrap_or_else(|| (*segment).to_owned()))
        .collect()
}

impl Table {
    pub(super) fn new() -> Table {
        let groups: Vec<_> = GROUPS.iter().map(|(prefix, guard)| (split(prefix), *guard)).collect();
        let routes = ROUTES
            .iter()
            .map(|(method, path, root, handler)| {
                let segments = split(path);
                let group = groups.iter().position(|(prefix, _)| segments.starts_with(prefix));
                Compiled { method, segments, root: *root, group, handler: *handler }
            })
            .collect();
        Table { routes, groups }
    }

    /// Looks a request up. `operator` says whether it came over the admin socket.
    pub(super) fn find(&self, method: &str, path: &str, operator: bool) -> Found {
        let mut path = split(path);
        let slash = path.len() > 1 && path.last().is_some_and(|last| last.is_empty());
        if slash {
            path.pop();
        }
        let group = self.groups.iter().position(|(prefix, _)| path.len() >= prefix.len() && fits(prefix, &path));
        let mut others: Vec<&'static str> = Vec::new();
        for route in &self.routes {
            let mine = route.group.is_none() || route.group == group;
            let hidden = matches!(route.handler, Operator(_)) && !operator;
            if !mine
                || hidden
                || (slash && !route.root)
                || route.segments.len() != path.len()
                || !fits(&route.segments, &path)
            {
                continue;
            }
            if route.method == method {
                return Found::Route(route.handler, parameters(&route.segments, &path));
            }
            // A static sibling of a guarded prefix is there for its own method only.
            if (route.group == group || group.is_none()) && !others.contains(&route.method) {
                others.push(route.method);
            }
        }
        let group = group.and_then(|index| self.groups.get(index));
        let params = group.map(|(prefix, _)| parameters(prefix, &path)).unwrap_or_default();
        let guard = group.map(|(_, guard)| *guard);
        if others.is_empty() { Found::Nothing(guard, params) } else { Found::OtherMethods(others, guard, params) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(method: &str, path: &str) -> String {
        match Table::new().find(method, path, false) {
            Found::Route(handler, params) => {
                let kind = match handler {
                    Open(_) => "open",
                    User(_) => "user",
                    UserOfAgents(_) => "user of agents",
                    Handler::Target(_) => "target",
                    Agent(_) => "agent",
                    View(_) => "visible",
                    Either(_) => "either",
                    Operator(_) => "operator",
                };
                format!("{kind} {}", params.join(",")).trim_end().to_owned()
            }
            Found::OtherMethods(allowed, guard, _) => format!("405 {guard:?} {}", allowed.join(",")),
            Found::Nothing(guard, _) => format!("404 {guard:?}"),
        }
    }

    #[test]
    fn finds_every_kind_of_row() {
        for (method, path, found) in [
            ("GET", "/api/v2", "open"),
            ("GET", "/api/v2/", "open"),
            ("GET", "/healthz", "open"),
            ("GET", "/healthz/", "404 None"),
            ("GET", "/api/v2/derp-map/", "either"),
            ("POST", "/api/v2/derp-map", "405 None GET"),
            ("HEAD", "/api/v2/buildinfo", "405 None GET"),
            ("GET", "/api/v2/nosuch", "404 None"),
            ("GET", "/nosuch", "404 None"),
            ("GET", "/", "404 None"),
            ("GET", "/API/v2/buildinfo", "404 None"),
            ("POST", "/api/v2/users/login", "open"),
            ("GET", "/api/v2/users/login", "target login"),
            ("GET", "/api/v2/users/me", "target me"),
            ("PUT", "/api/v2/users/me/gitsshkey", "target me"),
            ("GET", "/api/v2/users/me/keys/tokens/tokenconfig", "target me"),
            ("GET", "/api/v2/users/me/keys/tokens/bad%20name%21", "target me,bad name!"),
            ("GET", "/api/v2/users/me/keys/tokens", "target me"),
            ("POST", "/api/v2/users/me/keys/", "target me"),
            ("GET", "/api/v2/users/me/nosuch", "404 Some(Target)"),
            ("PATCH", "/api/v2/users/me/keys/tokens", "405 Some(Target) GET,POST,DELETE"),
            ("GET", "/api/v2/workspaceagents/connection", "user of agents"),
            ("POST", "/api/v2/workspaceagents/connection", "405 Some(Visible) GET"),
            ("GET", "/api/v2/workspaceagents/aws-instance-identity", "visible aws-instance-identity"),
            ("GET", "/api/v2/workspaceagents/me", "404 Some(Agent)"),
            ("GET", "/api/v2/workspaceagents/me/logs", "405 Some(Agent) PATCH"),
            ("GET", "/api/v2/workspaceagents/me/manifest", "404 Some(Agent)"),
            ("GET", "/api/v2/workspaceagents/x/", "visible x"),
            ("GET", "/api/v2/workspaceagents/x/logs/", "404 Some(Visible)"),
            ("DELETE", "/api/v2/workspaceagents/x", "405 Some(Visible) GET"),
            ("GET", "/api/v2/workspaceagents/", "404 None"),
            ("GET", "/metrics", "404 None"),
            ("POST", "/admin/verb", "404 None"),
        ] {
            assert_eq!(look(method, path), found, "{method} {path}");
        }
    }

    #[test]
    fn shows_the_operators_routes_to_the_operator_only() {
        let table = Table::new();
        assert!(matches!(table.find("GET", "/metrics", true), Found::Route(Operator(_), _)));
        assert!(matches!(table.find("PUT", "/metrics", true), Found::OtherMethods(..)));
    }

    #[test]
    fn keeps_the_table_in_order_and_free_of_doubles() {
        for pair in ROUTES.windows(2) {
            let [(method, path, ..), (next_method, next, ..)] = pair else { continue };
            assert!((path, method) != (next, next_method), "{method} {path} stands twice");
            let sortable = |path: &str| path.replace('{', "~");
            assert!(sortable(path) <= sortable(next), "{path} stands before {next}");
        }
    }
}
