//! Who calls: the only place that turns a request into a [`UserAuth`] or an [`AgentAuth`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::Connection;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::reply::Reply;
use super::request::Call;
use crate::domain::access::{self, AgentAuth, Denial, Refused, UserAuth};
use crate::domain::credential::Credential;
use crate::domain::{Error, Fault, inventory};
use crate::model::{AgentId, Timestamp, UserId, WorkspaceId};
use crate::store::agents::{self, Agent, Place};
use crate::store::audit::By;
use crate::store::users::{self, User};
use crate::store::workspaces::Workspace;

/// Cookie, query parameter and, in its own spelling, header that carry a token.
pub(super) const SESSION_TOKEN: &str = "coder_session_token";
/// Cookie with the token that browsers send back in `X-CSRF-TOKEN`.
pub(super) const CSRF_COOKIE: &str = "csrf_token";

/// Who calls where people and agents may.
pub(super) enum Caller {
    /// A person, by their session token.
    Person(Credential),
    /// An agent, by its own.
    Agent(AgentId),
}

/// An agent that the caller may see, and who that is.
pub(super) struct Visible {
    pub user: UserAuth,
    pub agent: Agent,
    pub place: Place,
}

/// A workspace that the caller may see, and who that is.
pub(super) struct Seen {
    pub user: UserAuth,
    pub workspace: Workspace,
}

/// A person named in the path, whom the caller may act for.
pub(super) struct Target {
    pub caller: UserAuth,
    pub user: User,
}

impl Target {
    /// The caller as the actor of an audit row.
    pub(super) fn by(&self, call: &Call<'_>) -> By {
        self.caller.by(&call.peer)
    }

    /// The person's id as the rules take it, who may be renamed meanwhile.
    pub(super) fn id(&self) -> String {
        self.user.id.to_string()
    }
}

/// Refuses whoever is no administrator with this sentence.
pub(super) fn administrator(auth: &UserAuth, message: &str) -> Result<(), Error> {
    if auth.user.is_admin { Ok(()) } else { Err(Error::new(Fault::Forbidden, message)) }
}

/// Whether a page of another site sent this request. Programs send no `Origin`.
pub(super) fn is_foreign_origin(call: &Call<'_>) -> bool {
    let Some(origin) = call.header("Origin") else { return false };
    let host =
        |url: &str| url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or("").to_ascii_lowercase());
    let Some(sent) = host(origin) else { return true };
    // A proxy may have put another name into `Host`.
    sent != call.header("Host").unwrap_or("").to_ascii_lowercase() && Some(sent) != host(&call.service.app.access_url)
}

/// The token of a request: the first non-empty of cookie, query, header (coder v2.24.0
/// coderd/httpmw/apikey.go), then `Authorization: Bearer` and query `access_token` (since v2.25).
pub(super) fn token<'c>(call: &'c Call<'_>) -> &'c str {
    let found = |text: &&str| !text.is_empty();
    call.cookie(SESSION_TOKEN)
        .filter(found)
        .or_else(|| call.query.get(SESSION_TOKEN).filter(found))
        .or_else(|| call.header("Coder-Session-Token").filter(found))
        .or_else(|| call.header("Authorization").and_then(bearer).filter(found))
        .or_else(|| call.query.get("access_token").filter(found))
        .unwrap_or("")
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case("bearer ").then(|| token.trim())
}

/// The value of the cookie [`CSRF_COOKIE`]: the one that the browser has sent, else a new one, which
/// goes out with the answer. Empty if the system gives no randomness.
pub(super) fn csrf_token<'c>(call: &'c Call<'_>) -> &'c str {
    call.cookie(CSRF_COOKIE).unwrap_or_else(|| {
        call.csrf.get_or_init(|| {
            let mut random = [0_u8; 32];
            let filled = SystemRandom::new().fill(&mut random);
            filled.map_or_else(|_| String::new(), |()| STANDARD.encode(random))
        })
    })
}

/// The value of `Set-Cookie` that signs a browser in; an empty token signs it out.
pub(super) fn session_cookie(call: &Call<'_>, token: &str) -> String {
    let secure = if call.secure { "; Secure" } else { "" };
    let age = if token.is_empty() { "; Max-Age=0" } else { "" };
    format!("{SESSION_TOKEN}={token}; Path=/{age}; HttpOnly; SameSite=Lax{secure}")
}

/// The signed-in person.
pub(super) fn user(call: &Call<'_>, conn: &Connection) -> Result<UserAuth, Error> {
    access::user_in(conn, token(call), Timestamp::now()).map_err(access::user_error)
}

/// The agent that calls.
pub(super) fn agent(call: &Call<'_>, conn: &Connection) -> Result<AgentAuth, Error> {
    access::agent_in(conn, token(call)).map_err(access::agent_error)
}

/// The person on routes where a workspace proxy could call too: one 401 for whatever is wrong with
/// the token (coder v2.24.0 coderd/httpmw/actor.go).
pub(super) fn user_of_agent_route(call: &Call<'_>, conn: &Connection) -> Result<UserAuth, Error> {
    access::user_in(conn, token(call), Timestamp::now()).map_err(|refused| match refused {
        Refused::Denied(Denial::Missing | Denial::Malformed(_) | Denial::Unknown | Denial::Expired) => {
            Error::new(Fault::Unauthenticated, "A session token is required, and no valid one was sent.")
        }
        other => access::user_error(other),
    })
}

/// The agent in the path, if the signed-in person may see it; unknown and forbidden look the same.
pub(super) fn visible(call: &Call<'_>, conn: &Connection) -> Result<Visible, Error> {
    visible_to(call, conn, user_of_agent_route(call, conn)?)
}

/// The same on the terminal's route, which shows nothing to who is not signed in, not even that it is there
/// (coder v2.24.0 coderd/workspaceapps/db.go Issue).
pub(super) fn visible_in_terminal(call: &Call<'_>, conn: &Connection) -> Result<Visible, Error> {
    let user = access::user_in(conn, token(call), Timestamp::now()).map_err(|refused| match refused {
        Refused::Denied(Denial::Missing | Denial::Malformed(_) | Denial::Unknown | Denial::Expired) => {
            Error::new(Fault::NotFound, "The terminal does not exist, or you may not see it.")
        }
        other => access::user_error(other),
    })?;
    visible_to(call, conn, user)
}

fn visible_to(call: &Call<'_>, conn: &Connection, user: UserAuth) -> Result<Visible, Error> {
    let id = uuid(call.param(0))?;
    match agents::with_place(conn, AgentId(id))? {
        Some((agent, place)) if user.may_see(place.owner_id) => Ok(Visible { user, agent, place }),
        _ => Err(Error::new(Fault::NotFound, "The agent does not exist, or you may not see it.")),
    }
}

/// An id in a path, in any form that Go reads.
pub(super) fn uuid(text: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text).map_err(|error| {
        let shown: String = text.chars().take(64).collect();
        Error::new(Fault::Invalid, format!("{shown:?} is not a UUID.")).detail(error.to_string())
    })
}

/// The workspace in the path, if the signed-in person may see it; unknown and forbidden look the same.
pub(super) fn workspace(call: &Call<'_>, conn: &Connection) -> Result<Seen, Error> {
    let user = user(call, conn)?;
    let found = inventory::find(conn, &user.user, WorkspaceId(uuid(call.param(0))?))?;
    found.map(|workspace| Seen { user, workspace }).ok_or_else(no_such_workspace)
}

/// The workspace whose build is in the path, if the signed-in person may see it.
pub(super) fn build(call: &Call<'_>, conn: &Connection) -> Result<Seen, Error> {
    let user = user(call, conn)?;
    let build = uuid(call.param(0))?;
    let found = inventory::find(conn, &user.user, call.service.app.ids().workspace_of_build(build))?;
    found
        .map(|workspace| Seen { user, workspace })
        .ok_or_else(|| Error::new(Fault::NotFound, "The build does not exist, or you may not see it."))
}

/// What is said of workspaces that do not exist, or not for the caller.
pub(super) fn no_such_workspace() -> Error {
    Error::new(Fault::NotFound, "The workspace does not exist, or you may not see it.")
}

/// The living person that a path names: `me`, a name or an id.
pub(super) fn person(conn: &Connection, caller: &User, text: &str) -> Result<Option<User>, Error> {
    Ok(if text == "me" {
        Some(caller.clone())
    } else if let Ok(id) = Uuid::try_parse(text) {
        users::by_id(conn, UserId(id))?
    } else {
        users::by_username(conn, text)?
    })
}

/// What is said of people who do not exist, or not for the caller; 400 as the real server has it
/// (golden 224, 225).
pub(super) fn no_such_person(text: &str) -> Error {
    let shown: String = text.chars().take(64).collect();
    Error::new(Fault::Invalid, "The user does not exist, or you may not see it.")
        .detail(format!("The path names {shown:?}; me, a user name or a user's id is expected."))
}

/// The person in the path; oneself, or anybody for administrators. Anybody else looks like nobody.
pub(super) fn target(call: &Call<'_>, conn: &Connection) -> Result<Target, Error> {
    let caller = user(call, conn)?;
    match person(conn, &caller.user, call.param(0))? {
        Some(user) if caller.may_see(user.id) => Ok(Target { caller, user }),
        _ => Err(no_such_person(call.param(0))),
    }
}

/// Stops a page of another site from changing things with a browser's cookie: a request that
/// changes something and is signed in by cookie must also know the token in another way. Agents'
/// routes are exempt, as in coder v2.24.0 coderd/httpmw/csrf.go.
pub(super) fn forged(call: &Call<'_>) -> Option<Reply> {
    if matches!(call.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE") || !call.path.starts_with("/api/") {
        return None;
    }
    let session = call.cookie(SESSION_TOKEN).filter(|cookie| !cookie.is_empty())?;
    // People have some there as well; programs, which send no Origin, are let through as there.
    if call.path.starts_with("/api/v2/workspaceagents/") {
        return is_foreign_origin(call).then(|| Reply::text(403, "The Origin is not this server.\n"));
    }
    let same = |known: Option<&str>, sent: Option<&str>| match (known, sent) {
        (Some(known), Some(sent)) => !known.is_empty() && bool::from(known.as_bytes().ct_eq(sent.as_bytes())),
        _ => false,
    };
    let proved = match call.header("Coder-Session-Token").filter(|header| !header.is_empty()) {
        Some(header) => same(Some(session), Some(header)),
        None => same(call.cookie(CSRF_COOKIE), call.header("X-CSRF-TOKEN")),
    };
    (!proved).then(|| {
        Reply::text(
            400,
            "A request that changes something and is signed in by cookie needs the same token in the header \
             Coder-Session-Token, or the csrf_token cookie's value in the header X-CSRF-TOKEN.\n",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_bearer_tokens_in_any_case() {
        assert_eq!(bearer("Bearer  abc "), Some("abc"));
        assert_eq!(bearer("bEARER abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer"), None);
    }
}
