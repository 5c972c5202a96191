//! The route table and how a request finds its row.
//!
//! Static segments stand before parameters. A guarded prefix is signed in before its leaf is looked
//! up, as chi's groups do it (coder v2.24.0 coderd/coderd.go): an unknown leaf below it is 401
//! without a token and 404 with one, and its static siblings are taken for their own method only.

use rusqlite::Connection;

use super::auth::{Caller, Seen, Target, Visible};
use super::pages::{
    account, admin, assets, external_auth as external_auth_pages, home, login, sessions, terminal, workspace,
};
use super::reply::Reply;
use super::request::{Call, percent_decode};
use super::{
    agent_view, agents_me, audit, authcheck, bin, builds, debug, deployment, derp, external_auth, identity, keys,
    notifications, operator, organizations, ports, preferences, sign_in, site, tailnet, templates, terminals, users,
    watch, workspace_changes as change, workspaces,
};
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
    /// A signed-in administrator.
    Admin(fn(&Call<'_>, UserAuth) -> Answer),
    /// A signed-in person, with the single 401 of agents' routes.
    UserOfAgents(fn(&Call<'_>, UserAuth) -> Answer),
    /// The person in the path, as seen by a signed-in one.
    Target(fn(&Call<'_>, Target) -> Answer),
    /// An agent.
    Agent(fn(&Call<'_>, AgentAuth) -> Answer),
    /// The agent in the path, as seen by a signed-in person; runs inside the read that found it.
    Visible(fn(&Call<'_>, &Connection, Visible) -> Answer),
    /// The workspace in the path, as seen by a signed-in person; runs inside the read that found it.
    Workspace(fn(&Call<'_>, &Connection, Seen) -> Answer),
    /// The same for what writes: no read is open meanwhile.
    Change(fn(&Call<'_>, Seen) -> Answer),
    /// The workspace whose build is in the path; runs inside the read that found it.
    Build(fn(&Call<'_>, &Connection, Seen) -> Answer),
    /// A person or an agent.
    Either(fn(&Call<'_>, Caller) -> Answer),
    /// Whoever owns the admin socket; for all others the route does not exist.
    Operator(fn(&Call<'_>, &str) -> Answer),
}

use Handler::{Admin, Agent, Build, Change, Either, Open, Operator, User, UserOfAgents, Visible as View, Workspace};
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
    ("GET",    "/",                                                                   LEAF, Open(home::home)),
    ("GET",    "/@{owner}/{workspace}",                                               ROOT, Open(workspace::show)),
    ("GET",    "/@{owner}/{workspace}/settings",                                      LEAF, Open(workspace::settings)),
    ("GET",    "/@{owner}/{workspace}/terminal",                                      LEAF, Open(terminal::show)),
    ("GET",    "/admin",                                                              LEAF, Open(admin::begin)),
    ("GET",    "/admin/anchors",                                                      LEAF, Open(admin::anchors::list)),
    ("GET",    "/admin/audit",                                                        LEAF, Open(admin::audit::list)),
    ("GET",    "/admin/health",                                                       LEAF, Open(admin::health::show)),
    ("GET",    "/admin/plugins",                                                      LEAF, Open(admin::plugins::list)),
    ("GET",    "/admin/users",                                                        LEAF, Open(admin::users::list)),
    ("GET",    "/admin/users/new",                                                    LEAF, Open(admin::users::new)),
    ("POST",   "/admin/users/new",                                                    LEAF, Open(admin::users::add)),
    ("GET",    "/admin/users/{user}",                                                 LEAF, Open(admin::user::show)),
    ("POST",   "/admin/users/{user}",                                                 LEAF, Open(admin::user::act)),
    ("GET",    "/admin/users/{user}/{deed}",                                          LEAF, Open(admin::user::ask)),
    ("POST",   "/admin/verb",                                                         LEAF, Operator(operator::verb)),
    ("GET",    "/admin/workspaces",                                                   LEAF, Open(admin::workspaces::list)),
    ("GET",    "/admin/workspaces/new",                                               LEAF, Open(admin::workspaces::new)),
    ("POST",   "/admin/workspaces/new",                                               LEAF, Open(admin::workspaces::add)),
    ("GET",    "/admin/workspaces/{owner}/{workspace}",                               LEAF, Open(admin::workspace::show)),
    ("POST",   "/admin/workspaces/{owner}/{workspace}",                               LEAF, Open(admin::workspace::act)),
    ("GET",    "/admin/workspaces/{owner}/{workspace}/{deed}",                        LEAF, Open(admin::workspace::ask)),
    ("GET",    "/api/v2",                                                             ROOT, Open(site::root)),
    ("GET",    "/api/v2/appearance",                                                  ROOT, Open(deployment::appearance)),
    ("GET",    "/api/v2/applications/auth-redirect",                                  ROOT, User(deployment::auth_redirect)),
    ("GET",    "/api/v2/applications/host",                                           ROOT, User(deployment::applications_host)),
    ("POST",   "/api/v2/applications/reconnecting-pty-signed-token",                  ROOT, User(terminals::sign)),
    ("GET",    "/api/v2/audit",                                                       ROOT, Admin(audit::list)),
    ("POST",   "/api/v2/authcheck",                                                   ROOT, User(authcheck::check)),
    ("GET",    "/api/v2/buildinfo",                                                   LEAF, Open(site::build_info)),
    ("POST",   "/api/v2/csp/reports",                                                 LEAF, Open(site::csp_report)),
    ("GET",    "/api/v2/debug/coordinator",                                           LEAF, Admin(debug::coordinator)),
    ("GET",    "/api/v2/debug/health",                                                ROOT, Admin(debug::health)),
    ("GET",    "/api/v2/debug/tailnet",                                               LEAF, Admin(debug::tailnet)),
    ("GET",    "/api/v2/debug/ws",                                                    LEAF, Admin(debug::echo)),
    ("GET",    "/api/v2/deployment/config",                                           LEAF, Admin(deployment::config)),
    ("GET",    "/api/v2/deployment/ssh",                                              LEAF, User(deployment::ssh)),
    ("GET",    "/api/v2/deployment/stats",                                            LEAF, User(deployment::stats)),
    ("GET",    "/api/v2/derp-map",                                                    ROOT, Either(site::derp_map)),
    ("GET",    "/api/v2/experiments",                                                 ROOT, User(deployment::experiments)),
    ("GET",    "/api/v2/experiments/available",                                       LEAF, User(deployment::experiments_available)),
    ("GET",    "/api/v2/external-auth",                                               ROOT, User(external_auth::list)),
    ("DELETE", "/api/v2/external-auth/{provider}",                                    ROOT, User(external_auth::unlink)),
    ("GET",    "/api/v2/external-auth/{provider}",                                    ROOT, User(external_auth::show)),
    ("GET",    "/api/v2/external-auth/{provider}/device",                             LEAF, User(external_auth::begin_device)),
    ("POST",   "/api/v2/external-auth/{provider}/device",                             LEAF, User(external_auth::poll_device)),
    ("POST",   "/api/v2/files",                                                       ROOT, User(deployment::upload)),
    ("GET",    "/api/v2/files/{file}",                                                LEAF, User(deployment::file)),
    ("GET",    "/api/v2/insights/daus",                                               LEAF, Admin(deployment::daily_users)),
    ("GET",    "/api/v2/notifications/inbox",                                         ROOT, User(notifications::inbox)),
    ("PUT",    "/api/v2/notifications/inbox/mark-all-as-read",                        LEAF, User(notifications::mark_all_as_read)),
    ("GET",    "/api/v2/notifications/settings",                                      LEAF, User(notifications::settings)),
    ("PUT",    "/api/v2/notifications/settings",                                      LEAF, Admin(notifications::set)),
    ("POST",   "/api/v2/notifications/test",                                          LEAF, User(notifications::set)),
    ("GET",    "/api/v2/organizations",                                               ROOT, User(organizations::list)),
    ("POST",   "/api/v2/organizations",                                               ROOT, User(organizations::refuse)),
    ("DELETE", "/api/v2/organizations/{organization}",                                ROOT, User(organizations::refuse)),
    ("GET",    "/api/v2/organizations/{organization}",                                ROOT, User(organizations::show)),
    ("PATCH",  "/api/v2/organizations/{organization}",                                ROOT, User(organizations::refuse)),
    ("GET",    "/api/v2/organizations/{organization}/members",                        ROOT, User(organizations::members)),
    ("GET",    "/api/v2/organizations/{organization}/members/roles",                  ROOT, User(organizations::roles)),
    ("PUT",    "/api/v2/organizations/{organization}/members/roles",                  ROOT, User(organizations::refuse)),
    ("DELETE", "/api/v2/organizations/{organization}/members/{user}",                 ROOT, User(organizations::refuse)),
    ("POST",   "/api/v2/organizations/{organization}/members/{user}",                 ROOT, User(organizations::refuse)),
    ("PUT",    "/api/v2/organizations/{organization}/members/{user}/roles",           LEAF, User(organizations::refuse)),
    ("POST",   "/api/v2/organizations/{organization}/members/{user}/workspaces",      LEAF, User(change::create_as_member)),
    ("GET",    "/api/v2/organizations/{organization}/paginated-members",              LEAF, User(organizations::paginated_members)),
    ("GET",    "/api/v2/organizations/{organization}/provisionerdaemons",             ROOT, User(organizations::provisioners)),
    ("GET",    "/api/v2/organizations/{organization}/provisionerjobs",                ROOT, User(organizations::provisioners)),
    ("GET",    "/api/v2/organizations/{organization}/templates",                      ROOT, User(templates::list_of_organization)),
    ("POST",   "/api/v2/organizations/{organization}/templates",                      ROOT, User(templates::refuse)),
    ("GET",    "/api/v2/organizations/{organization}/templates/examples",             LEAF, User(templates::examples)),
    ("GET",    "/api/v2/organizations/{organization}/templates/{name}",               ROOT, User(templates::by_name)),
    ("GET",    "/api/v2/organizations/{organization}/templates/{name}/versions/{version}", ROOT, User(templates::version_by_names)),
    ("POST",   "/api/v2/organizations/{organization}/templateversions",               LEAF, User(templates::refuse)),
    ("GET",    "/api/v2/regions",                                                     LEAF, User(deployment::regions)),
    ("GET",    "/api/v2/tailnet",                                                     LEAF, User(tailnet::tailnet)),
    ("GET",    "/api/v2/templates",                                                   ROOT, User(templates::list)),
    ("GET",    "/api/v2/templates/examples",                                          LEAF, User(templates::examples)),
    ("DELETE", "/api/v2/templates/{template}",                                        ROOT, User(templates::refuse)),
    ("GET",    "/api/v2/templates/{template}",                                        ROOT, User(templates::show)),
    ("PATCH",  "/api/v2/templates/{template}",                                        ROOT, User(templates::refuse)),
    ("GET",    "/api/v2/templates/{template}/versions",                               ROOT, User(templates::versions)),
    ("PATCH",  "/api/v2/templates/{template}/versions",                               ROOT, User(templates::refuse)),
    ("GET",    "/api/v2/templates/{template}/versions/{name}",                        LEAF, User(templates::version_by_name)),
    ("GET",    "/api/v2/templateversions/{version}",                                  ROOT, User(templates::version_by_id)),
    ("PATCH",  "/api/v2/templateversions/{version}",                                  ROOT, User(templates::refuse)),
    ("POST",   "/api/v2/templateversions/{version}/dry-run",                          ROOT, User(templates::dry_run)),
    ("GET",    "/api/v2/templateversions/{version}/dry-run/{job}",                    ROOT, User(templates::no_dry_run)),
    ("PATCH",  "/api/v2/templateversions/{version}/dry-run/{job}/cancel",             LEAF, User(templates::no_dry_run)),
    ("GET",    "/api/v2/templateversions/{version}/dry-run/{job}/logs",               LEAF, User(templates::no_dry_run)),
    ("GET",    "/api/v2/templateversions/{version}/dry-run/{job}/matched-provisioners", LEAF, User(templates::no_dry_run)),
    ("GET",    "/api/v2/templateversions/{version}/dry-run/{job}/resources",          LEAF, User(templates::no_dry_run)),
    ("GET",    "/api/v2/templateversions/{version}/external-auth",                    LEAF, User(templates::none_of_version)),
    ("GET",    "/api/v2/templateversions/{version}/logs",                             LEAF, User(watch::version_logs)),
    ("GET",    "/api/v2/templateversions/{version}/parameters",                       LEAF, User(templates::none_of_version)),
    ("GET",    "/api/v2/templateversions/{version}/presets",                          LEAF, User(templates::none_of_version)),
    ("GET",    "/api/v2/templateversions/{version}/resources",                        LEAF, User(templates::none_of_version)),
    ("GET",    "/api/v2/templateversions/{version}/rich-parameters",                  LEAF, User(templates::none_of_version)),
    ("GET",    "/api/v2/templateversions/{version}/schema",                           LEAF, User(templates::none_of_version)),
    ("GET",    "/api/v2/templateversions/{version}/variables",                        LEAF, User(templates::none_of_version)),
    ("GET",    "/api/v2/updatecheck",                                                 LEAF, Open(site::update_check)),
    ("GET",    "/api/v2/users",                                                       ROOT, User(users::list)),
    ("POST",   "/api/v2/users",                                                       ROOT, User(users::create)),
    ("GET",    "/api/v2/users/authmethods",                                           LEAF, Open(sign_in::auth_methods)),
    ("GET",    "/api/v2/users/first",                                                 LEAF, Open(sign_in::first_user)),
    ("POST",   "/api/v2/users/first",                                                 LEAF, Open(sign_in::create_first_user)),
    ("POST",   "/api/v2/users/login",                                                 LEAF, Open(sign_in::login)),
    ("POST",   "/api/v2/users/logout",                                                LEAF, User(sign_in::logout)),
    ("GET",    "/api/v2/users/roles",                                                 ROOT, User(organizations::site_roles)),
    ("POST",   "/api/v2/users/validate-password",                                     LEAF, Open(sign_in::validate_password)),
    ("DELETE", "/api/v2/users/{user}",                                                ROOT, target(users::delete)),
    ("GET",    "/api/v2/users/{user}",                                                ROOT, target(users::show)),
    ("GET",    "/api/v2/users/{user}/appearance",                                     LEAF, target(preferences::appearance)),
    ("PUT",    "/api/v2/users/{user}/appearance",                                     LEAF, target(preferences::set_appearance)),
    ("GET",    "/api/v2/users/{user}/autofill-parameters",                            LEAF, target(preferences::autofill_parameters)),
    ("POST",   "/api/v2/users/{user}/convert-login",                                  LEAF, target(preferences::convert_login)),
    ("GET",    "/api/v2/users/{user}/gitsshkey",                                      LEAF, target(users::git_ssh_key)),
    ("PUT",    "/api/v2/users/{user}/gitsshkey",                                      LEAF, target(users::new_git_ssh_key)),
    ("GET",    "/api/v2/users/{user}/keys",                                           ROOT, target(keys::list)),
    ("POST",   "/api/v2/users/{user}/keys",                                           ROOT, target(keys::create_session)),
    ("GET",    "/api/v2/users/{user}/keys/tokens",                                    ROOT, target(keys::list_tokens)),
    ("POST",   "/api/v2/users/{user}/keys/tokens",                                    ROOT, target(keys::create)),
    ("GET",    "/api/v2/users/{user}/keys/tokens/tokenconfig",                        LEAF, target(keys::config)),
    ("GET",    "/api/v2/users/{user}/keys/tokens/{name}",                             ROOT, target(keys::by_name)),
    ("DELETE", "/api/v2/users/{user}/keys/{key}",                                     ROOT, target(keys::delete)),
    ("GET",    "/api/v2/users/{user}/keys/{key}",                                     ROOT, target(keys::by_id)),
    ("GET",    "/api/v2/users/{user}/login-type",                                     LEAF, target(preferences::login_type)),
    ("GET",    "/api/v2/users/{user}/notifications/preferences",                      ROOT, target(preferences::notifications)),
    ("PUT",    "/api/v2/users/{user}/notifications/preferences",                      ROOT, target(preferences::set_notifications)),
    ("GET",    "/api/v2/users/{user}/organizations",                                  ROOT, target(organizations::of_user)),
    ("GET",    "/api/v2/users/{user}/organizations/{organization}",                   LEAF, target(organizations::of_user_by_name)),
    ("PUT",    "/api/v2/users/{user}/password",                                       ROOT, target(users::set_password)),
    ("PUT",    "/api/v2/users/{user}/profile",                                        LEAF, target(users::set_profile)),
    ("GET",    "/api/v2/users/{user}/roles",                                          LEAF, target(users::roles)),
    ("PUT",    "/api/v2/users/{user}/roles",                                          LEAF, target(users::set_roles)),
    ("PUT",    "/api/v2/users/{user}/status/activate",                                LEAF, target(users::activate)),
    ("PUT",    "/api/v2/users/{user}/status/suspend",                                 LEAF, target(users::suspend)),
    ("GET",    "/api/v2/users/{user}/workspace/{workspace}",                          LEAF, User(workspaces::by_name)),
    ("GET",    "/api/v2/users/{user}/workspace/{workspace}/builds/{number}",          LEAF, User(builds::by_number)),
    ("POST",   "/api/v2/users/{user}/workspaces",                                     LEAF, target(change::create)),
    ("POST",   "/api/v2/workspaceagents/aws-instance-identity",                       LEAF, Open(identity::aws)),
    ("POST",   "/api/v2/workspaceagents/azure-instance-identity",                     LEAF, Open(identity::azure)),
    ("GET",    "/api/v2/workspaceagents/connection",                                  LEAF, UserOfAgents(agent_view::connection_of_none)),
    ("POST",   "/api/v2/workspaceagents/google-instance-identity",                    LEAF, Open(identity::google)),
    ("PATCH",  "/api/v2/workspaceagents/me/app-status",                               LEAF, Agent(agents_me::app_status)),
    ("GET",    "/api/v2/workspaceagents/me/external-auth",                            LEAF, Agent(external_auth::of_agent)),
    ("GET",    "/api/v2/workspaceagents/me/gitauth",                                  LEAF, Agent(external_auth::of_agent)),
    ("GET",    "/api/v2/workspaceagents/me/gitsshkey",                                LEAF, Agent(agents_me::git_ssh_key)),
    ("POST",   "/api/v2/workspaceagents/me/log-source",                               LEAF, Agent(agents_me::log_source)),
    ("PATCH",  "/api/v2/workspaceagents/me/logs",                                     LEAF, Agent(agents_me::append_logs)),
    ("GET",    "/api/v2/workspaceagents/me/reinit",                                   LEAF, Agent(agents_me::reinit)),
    ("GET",    "/api/v2/workspaceagents/me/rpc",                                      LEAF, Agent(agents_me::rpc)),
    ("GET",    "/api/v2/workspaceagents/{agent}",                                     ROOT, View(agent_view::show)),
    ("GET",    "/api/v2/workspaceagents/{agent}/connection",                          LEAF, View(agent_view::connection)),
    ("GET",    "/api/v2/workspaceagents/{agent}/containers",                          LEAF, View(ports::containers)),
    ("POST",   "/api/v2/workspaceagents/{agent}/containers/devcontainers/{container}/recreate", LEAF, View(ports::recreate)),
    ("GET",    "/api/v2/workspaceagents/{agent}/containers/watch",                    LEAF, View(ports::watch_containers)),
    ("GET",    "/api/v2/workspaceagents/{agent}/coordinate",                          LEAF, View(tailnet::coordinate)),
    ("GET",    "/api/v2/workspaceagents/{agent}/listening-ports",                     LEAF, View(ports::listening)),
    ("GET",    "/api/v2/workspaceagents/{agent}/logs",                                LEAF, View(agent_view::logs)),
    ("GET",    "/api/v2/workspaceagents/{agent}/pty",                                 LEAF, Open(terminals::pty)),
    ("GET",    "/api/v2/workspaceagents/{agent}/startup-logs",                        LEAF, View(agent_view::logs)),
    ("GET",    "/api/v2/workspaceagents/{agent}/watch-metadata",                      LEAF, View(agent_view::watch_metadata)),
    ("GET",    "/api/v2/workspaceagents/{agent}/watch-metadata-ws",                   LEAF, View(agent_view::watch_metadata_ws)),
    ("GET",    "/api/v2/workspacebuilds/{build}",                                     ROOT, Build(builds::show)),
    ("PATCH",  "/api/v2/workspacebuilds/{build}/cancel",                              LEAF, Build(builds::cancel)),
    ("GET",    "/api/v2/workspacebuilds/{build}/logs",                                LEAF, Build(watch::build_logs)),
    ("GET",    "/api/v2/workspacebuilds/{build}/parameters",                          LEAF, Build(builds::parameters)),
    ("GET",    "/api/v2/workspacebuilds/{build}/resources",                           LEAF, Build(builds::resources)),
    ("GET",    "/api/v2/workspacebuilds/{build}/state",                               LEAF, Build(builds::state)),
    ("GET",    "/api/v2/workspacebuilds/{build}/timings",                             LEAF, Build(builds::timings)),
    ("GET",    "/api/v2/workspaces",                                                  ROOT, User(workspaces::list)),
    ("GET",    "/api/v2/workspaces/{workspace}",                                      ROOT, Workspace(workspaces::show)),
    ("PATCH",  "/api/v2/workspaces/{workspace}",                                      ROOT, Change(change::rename)),
    ("PUT",    "/api/v2/workspaces/{workspace}/autostart",                            LEAF, Change(change::autostart)),
    ("PUT",    "/api/v2/workspaces/{workspace}/autoupdates",                          LEAF, Change(change::automatic_updates)),
    ("GET",    "/api/v2/workspaces/{workspace}/builds",                               LEAF, Workspace(builds::list)),
    ("POST",   "/api/v2/workspaces/{workspace}/builds",                               LEAF, Change(change::build)),
    ("PUT",    "/api/v2/workspaces/{workspace}/dormant",                              LEAF, Change(change::dormant)),
    ("PUT",    "/api/v2/workspaces/{workspace}/extend",                               LEAF, Change(change::extend)),
    ("DELETE", "/api/v2/workspaces/{workspace}/favorite",                             LEAF, Change(change::unfavorite)),
    ("PUT",    "/api/v2/workspaces/{workspace}/favorite",                             LEAF, Change(change::favorite)),
    ("DELETE", "/api/v2/workspaces/{workspace}/port-share",                           ROOT, Change(change::share_port)),
    ("GET",    "/api/v2/workspaces/{workspace}/port-share",                           ROOT, Workspace(workspaces::port_shares)),
    ("POST",   "/api/v2/workspaces/{workspace}/port-share",                           ROOT, Change(change::share_port)),
    ("GET",    "/api/v2/workspaces/{workspace}/resolve-autostart",                    LEAF, Workspace(workspaces::resolve_autostart)),
    ("GET",    "/api/v2/workspaces/{workspace}/timings",                              LEAF, Workspace(builds::timings)),
    ("PUT",    "/api/v2/workspaces/{workspace}/ttl",                                  LEAF, Change(change::ttl)),
    ("POST",   "/api/v2/workspaces/{workspace}/usage",                                LEAF, Change(change::usage)),
    ("GET",    "/api/v2/workspaces/{workspace}/watch",                                LEAF, Workspace(watch::workspace)),
    ("GET",    "/api/v2/workspaces/{workspace}/watch-ws",                             LEAF, Workspace(watch::workspace_ws)),
    ("GET",    "/bin",                                                                ROOT, Open(bin::list)),
    ("GET",    "/bin/{name}",                                                         LEAF, Open(bin::file)),
    ("HEAD",   "/bin/{name}",                                                         LEAF, Open(bin::file_head)),
    ("GET",    "/cli-auth",                                                           LEAF, Open(sessions::cli_auth)),
    ("POST",   "/cli-auth",                                                           LEAF, Open(sessions::make_token)),
    ("GET",    "/derp",                                                               ROOT, Open(derp::relay)),
    ("GET",    "/derp/latency-check",                                                 LEAF, Open(derp::latency_check)),
    ("GET",    "/derp/probe",                                                         LEAF, Open(derp::probe)),
    ("GET",    "/enrol.ps1",                                                          LEAF, Open(bin::enrol_powershell)),
    ("GET",    "/enrol.sh",                                                           LEAF, Open(bin::enrol_sh)),
    ("GET",    "/external-auth/{provider}",                                           LEAF, Open(external_auth_pages::show)),
    ("POST",   "/external-auth/{provider}",                                           LEAF, Open(external_auth_pages::act)),
    ("GET",    "/external-auth/{provider}/callback",                                  LEAF, Open(external_auth_pages::callback)),
    ("GET",    "/gitauth/{provider}/callback",                                        LEAF, Open(external_auth_pages::callback)),
    ("GET",    "/healthz",                                                            LEAF, Open(site::healthz)),
    ("GET",    "/install.sh",                                                         LEAF, Open(bin::install_sh)),
    ("GET",    "/latency-check",                                                      LEAF, Open(site::latency_check)),
    ("GET",    "/login",                                                              LEAF, Open(login::form)),
    ("POST",   "/login",                                                              LEAF, Open(login::sign_in)),
    ("GET",    "/login/device",                                                       LEAF, Open(login::elsewhere)),
    ("POST",   "/logout",                                                             LEAF, Open(login::sign_out)),
    ("GET",    "/metrics",                                                            LEAF, Operator(operator::metrics)),
    ("GET",    "/sessions",                                                           LEAF, Open(sessions::list)),
    ("POST",   "/sessions",                                                           LEAF, Open(sessions::revoke)),
    ("GET",    "/sessions/new",                                                       LEAF, Open(sessions::new)),
    ("POST",   "/sessions/new",                                                       LEAF, Open(sessions::make_named)),
    ("GET",    "/sessions/{id}",                                                      LEAF, Open(sessions::ask)),
    ("GET",    "/settings",                                                           LEAF, Open(sessions::elsewhere)),
    ("GET",    "/settings/external-auth",                                             LEAF, Open(account::linked::list)),
    ("GET",    "/settings/external-auth/{provider}",                                  LEAF, Open(account::linked::ask)),
    ("POST",   "/settings/external-auth/{provider}",                                  LEAF, Open(account::linked::remove)),
    ("GET",    "/settings/security",                                                  LEAF, Open(account::password::show)),
    ("POST",   "/settings/security",                                                  LEAF, Open(account::password::change)),
    ("GET",    "/settings/ssh-keys",                                                  LEAF, Open(account::ssh_key::show)),
    ("POST",   "/settings/ssh-keys",                                                  LEAF, Open(account::ssh_key::renew)),
    ("GET",    "/settings/ssh-keys/new",                                              LEAF, Open(account::ssh_key::ask)),
    ("GET",    "/settings/tokens",                                                    LEAF, Open(sessions::elsewhere)),
    ("GET",    "/static/{version}/{name}",                                            LEAF, Open(assets::file)),
    ("GET",    "/templates",                                                          LEAF, Open(home::templates)),
    ("GET",    "/templates/{name}",                                                   LEAF, Open(home::templates)),
    ("GET",    "/workspaces",                                                         LEAF, Open(home::elsewhere)),
    ("GET",    "/{owner}/{workspace}/terminal",                                       LEAF, Open(terminal::elsewhere)),
];

/// How a prefix is signed in before its leaves are looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Guard {
    Target,
    Agent,
    Visible,
    Workspace,
    Build,
}

/// Guarded prefixes; the first that fits a path owns it.
const GROUPS: &[(&str, Guard)] = &[
    ("/api/v2/users/{user}", Guard::Target),
    ("/api/v2/workspaceagents/me", Guard::Agent),
    ("/api/v2/workspaceagents/{agent}", Guard::Visible),
    ("/api/v2/workspacebuilds/{build}", Guard::Build),
    ("/api/v2/workspaces/{workspace}", Guard::Workspace),
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

/// What a pattern's segment takes of a path's: for a parameter the text, which may not be empty, behind
/// an `@` if the pattern has one.
fn parameter<'p>(pattern: &str, segment: &'p str) -> Option<&'p str> {
    let text = match pattern.strip_prefix('@') {
        Some(rest) if rest.starts_with('{') => segment.strip_prefix('@').or_else(|| segment.strip_prefix("%40"))?,
        _ if pattern.starts_with('{') => segment,
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn fits(pattern: &[&str], path: &[&str]) -> bool {
    pattern.iter().zip(path).all(|(pattern, segment)| pattern == segment || parameter(pattern, segment).is_some())
}

fn parameters(pattern: &[&str], path: &[&str]) -> Vec<String> {
    pattern
        .iter()
        .zip(path)
        .filter_map(|(pattern, segment)| parameter(pattern, segment))
        .map(|text| percent_decode(text).unwrap_or_else(|| text.to_owned()))
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
                    Admin(_) => "admin",
                    UserOfAgents(_) => "user of agents",
                    Handler::Target(_) => "target",
                    Agent(_) => "agent",
                    View(_) => "visible",
                    Workspace(_) => "workspace",
                    Change(_) => "change",
                    Build(_) => "build",
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
            ("GET", "/", "open"),
            ("GET", "/@alice/dev", "open alice,dev"),
            ("GET", "/%40alice/dev/", "open alice,dev"),
            ("GET", "/@alice/dev/settings", "open alice,dev"),
            ("GET", "/alice/dev/terminal", "open alice,dev"),
            ("GET", "/@/dev", "404 None"),
            ("GET", "/alice/dev", "404 None"),
            ("POST", "/alice/dev", "404 None"),
            ("GET", "/bin/", "open"),
            ("HEAD", "/bin/coder-linux-amd64", "open coder-linux-amd64"),
            ("GET", "/bin/a/b", "404 None"),
            ("GET", "/.well-known/oauth-authorization-server", "404 None"),
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
