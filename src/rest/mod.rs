//! Plain requests: tiny_http behind the edge, one route table, one handler per route.
//!
//! tiny_http listens on the private Unix socket that only the edge knows; `http-N` threads each
//! answer one request at a time. A handler that panics costs its caller a 500 and nobody else.

mod agent_view;
mod agents_me;
mod audit;
mod auth;
mod authcheck;
mod bin;
mod builds;
mod debug;
mod deployment;
mod derp;
mod dto;
mod envelope;
mod external_auth;
mod identity;
mod inside;
mod json;
mod keys;
mod later;
mod limiter;
mod notifications;
mod operator;
mod organizations;
mod paging;
mod preferences;
mod pages;
mod reply;
mod request;
mod routes;
mod sign_in;
mod site;
mod tailnet;
mod templates;
mod ports;
mod terminals;
mod users;
mod watch;
mod websocket;
mod workers;
mod workspace_changes;
mod workspaces;

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use auth::Caller;
use envelope::Envelope;
use limiter::{Limiter, Rate, WhenFull};
use reply::Reply;
use request::{Call, Unusable};
use routes::{Found, Guard, Handler, Table};
pub use workers::Rest;

use crate::config::limits;
use crate::domain::credential::Credential;
use crate::domain::{Error, Fault, Shared, access};
use crate::model::Timestamp;
use crate::ops::places::Places;
use crate::streams::Arrivals;

/// Starts answering what the edge sends to `listener`. `secret` proves that it is the edge.
pub fn start(
    app: Shared,
    arrivals: Arrivals,
    listener: UnixListener,
    secret: String,
    threads: usize,
) -> std::io::Result<Rest> {
    Rest::start(Service::new(app, arrivals, secret), listener, threads)
}

/// What all handlers share.
struct Service {
    app: Shared,
    arrivals: Arrivals,
    secret: String,
    table: Table,
    requests: Limiter,
    sign_ins: Limiter,
    identities: Limiter,
    /// Answers that are being found.
    parked: Places<()>,
    /// What agents said a moment ago.
    remembered: Arc<ports::Remembered>,
    /// Files being sent, by address.
    downloads: Places<String>,
    /// Files being sent, in all.
    all_downloads: Places<()>,
}

impl Service {
    fn new(app: Shared, arrivals: Arrivals, secret: String) -> Service {
        Service {
            requests: Limiter::new(app.settings.requests_per_minute, WhenFull::Pass),
            sign_ins: Limiter::new(limits::SIGN_INS_PER_MINUTE, WhenFull::Share),
            identities: Limiter::new(limits::IDENTITIES_PER_MINUTE, WhenFull::Share),
            parked: Places::default(),
            remembered: Arc::default(),
            downloads: Places::default(),
            all_downloads: Places::default(),
            table: Table::new(),
            app,
            arrivals,
            secret,
        }
    }
}

fn serve(service: &Service, mut request: tiny_http::Request) {
    let bytes = match request::body_of(service, &mut request) {
        Ok(body) => {
            let mut call = Call::new(service, &request, body);
            let outcome = answer_or_panic(&mut call);
            let envelope = Envelope::of(&call);
            outcome.map_or_else(|| envelope.failed(), |outcome| envelope.reply(outcome)).encode(&envelope)
        }
        Err(Unusable::Stranger) => {
            log::warn!("a request on the private socket does not come from the edge");
            reply::bare(403)
        }
        Err(Unusable::TooLarge) => reply::bare(413),
        Err(Unusable::Cut(error)) => {
            log::debug!("a request body did not arrive: {error}");
            reply::bare(400)
        }
    };
    service.app.metrics.requests.inc();
    // One write for head and body: tiny_http's own printer would take several and add headers.
    let mut writer = request.into_writer();
    if let Err(error) = writer.write_all(&bytes).and_then(|()| writer.flush()) {
        log::debug!("an answer could not be given to the edge: {error}");
    }
}

/// `None` after a panic.
fn answer_or_panic(call: &mut Call<'_>) -> Option<Result<Reply, Error>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| answer(call)));
    if outcome.is_err() {
        // A stream that was left before the panic has nobody to take it.
        drop(call.service.arrivals.take(call.id));
    }
    outcome.ok()
}

fn answer(call: &mut Call<'_>) -> Result<Reply, Error> {
    if call.method == "OPTIONS" && call.header("Access-Control-Request-Method").is_some() {
        // No origin is allowed anything, which browsers read from what is missing.
        return Ok(
            Reply::empty(200).header("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
        );
    }
    let found = call.service.table.find(&call.method, &call.path, call.operator.is_some());
    call.rate = count(call, &found);
    if let Some(over) = call.rate.filter(|rate| !rate.allowed) {
        let message = format!("Too many requests: at most {} are answered in a minute.", over.limit);
        return Err(Error::new(Fault::TooMany, message));
    }
    if let Some(refusal) = auth::forged(call) {
        return Ok(refusal);
    }
    match found {
        Found::Route(handler, params) => {
            call.params = params;
            run(call, handler)
        }
        Found::OtherMethods(allowed, guard, params) => {
            call.params = params;
            pass(call, guard)?;
            Ok(allowed.into_iter().fold(Reply::empty(405), |reply, method| reply.header("Allow", method)))
        }
        Found::Nothing(guard, params) => {
            call.params = params;
            pass(call, guard)?;
            Err(Error::new(Fault::NotFound, "There is no such route on this server."))
        }
    }
}

/// Counts a request against the limit that it falls under.
fn count(call: &Call<'_>, found: &Found) -> Option<Rate> {
    let service = call.service;
    if matches!(found, Found::Route(..)) && sign_in::tries_a_password(call) {
        return Some(service.sign_ins.count((&limiter::network(&call.peer), ""), Timestamp::now()));
    }
    if matches!(found, Found::Route(..)) && identity::tries_an_identity(call) && !limiter::is_loopback(&call.peer) {
        return Some(service.identities.count((&limiter::network(&call.peer), ""), Timestamp::now()));
    }
    let exempt = service.app.settings.requests_per_minute == 0
        // Pages and programs are cheap to look at; what a form does is not.
        || (!call.path.starts_with("/api/v2") && call.method != "POST")
        // The admin socket has no address.
        || call.peer.is_empty()
        || limiter::is_loopback(&call.peer);
    (!exempt).then(|| service.requests.count((&limiter::network(&call.peer), &call.path), Timestamp::now()))
}

/// Signs a request in for a prefix whose leaf will not be served.
fn pass(call: &Call<'_>, guard: Option<Guard>) -> Result<(), Error> {
    let Some(guard) = guard else { return Ok(()) };
    call.service.app.store.read(|conn| match guard {
        Guard::Target => auth::target(call, conn).map(drop),
        Guard::Agent => auth::agent(call, conn).map(drop),
        Guard::Visible => auth::visible(call, conn).map(drop),
        Guard::Workspace => auth::workspace(call, conn).map(drop),
        Guard::Build => auth::build(call, conn).map(drop),
    })
}

fn run(call: &Call<'_>, handler: Handler) -> Result<Reply, Error> {
    let app = &call.service.app;
    let note = |auth: &access::UserAuth| access::note_use(app, auth, &call.peer, Timestamp::now());
    match handler {
        Handler::Open(answer) => answer(call),
        Handler::User(answer) => {
            let user = app.store.read(|conn| auth::user(call, conn))?;
            note(&user);
            answer(call, user)
        }
        Handler::Admin(answer) => {
            let user = app.store.read(|conn| auth::user(call, conn))?;
            note(&user);
            auth::administrator(&user, "Only administrators may see and change this.")
                .map_err(|error| error.detail("Ask one of them, or sign in with another account."))?;
            answer(call, user)
        }
        Handler::UserOfAgents(answer) => {
            let user = app.store.read(|conn| auth::user_of_agent_route(call, conn))?;
            note(&user);
            answer(call, user)
        }
        Handler::Target(answer) => {
            let target = app.store.read(|conn| auth::target(call, conn))?;
            note(&target.caller);
            answer(call, target)
        }
        Handler::Agent(answer) => {
            let agent = app.store.read(|conn| auth::agent(call, conn))?;
            answer(call, agent)
        }
        Handler::Visible(answer) => app.store.read(|conn| {
            let visible = auth::visible(call, conn)?;
            note(&visible.user);
            answer(call, conn, visible)
        }),
        Handler::Workspace(answer) => app.store.read(|conn| {
            let seen = auth::workspace(call, conn)?;
            note(&seen.user);
            answer(call, conn, seen)
        }),
        Handler::Change(answer) => {
            let seen = app.store.read(|conn| auth::workspace(call, conn))?;
            note(&seen.user);
            answer(call, seen)
        }
        Handler::Build(answer) => app.store.read(|conn| {
            let seen = auth::build(call, conn)?;
            note(&seen.user);
            answer(call, conn, seen)
        }),
        Handler::Either(answer) => {
            let caller = app.store.read(|conn| match auth::agent(call, conn) {
                Ok(agent) => Ok(Caller::Agent(agent.agent().id)),
                Err(error) if error.fault == Fault::Unauthenticated => {
                    let user = auth::user(call, conn)?;
                    note(&user);
                    Ok(Caller::Person(Credential::of(&user)))
                }
                Err(error) => Err(error),
            })?;
            answer(call, caller)
        }
        Handler::Operator(answer) => answer(call, call.operator.as_deref().unwrap_or_default()),
    }
}
