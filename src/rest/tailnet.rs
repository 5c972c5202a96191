//! Where clients join the tailnet: for one agent, or for all that their user may reach.

use rusqlite::Connection;
use uuid::Uuid;

use super::auth::Visible;
use super::reply::Reply;
use super::request::Call;
use super::websocket;
use crate::domain::access::UserAuth;
use crate::domain::credential::Credential;
use crate::domain::{Error, Fault, connection_log};
use crate::model::{AgentId, Timestamp};
use crate::streams::rpc::{self, Client};

/// Message and validation of a refused resume token. Clients look for the validation's field only, and
/// then leave the token out (coder v2.24.0 codersdk/workspacesdk/dialer.go).
const INVALID_RESUME_TOKEN: &str = "Invalid resume token";

/// `GET …/{agent}/coordinate`. Who names no version speaks 1.0, which is no longer served.
pub(super) fn coordinate(call: &Call<'_>, _: &Connection, seen: Visible) -> Result<Reply, Error> {
    join(call, &seen.user, "1.0", Some(seen.agent.id))
}

/// `GET /tailnet`: tunnels to any agent that the user may reach, each looked up when it is asked for.
pub(super) fn tailnet(call: &Call<'_>, user: UserAuth) -> Result<Reply, Error> {
    join(call, &user, "2.0", None)
}

fn join(call: &Call<'_>, user: &UserAuth, version: &str, only: Option<AgentId>) -> Result<Reply, Error> {
    check_version(match call.query.text("version") {
        "" => version,
        version => version,
    })?;
    let app = call.service.app.clone();
    let client = Client {
        credential: Credential::of(user),
        peer: peer(call, user)?,
        only,
        ip: call.peer.clone(),
        program: connection_log::program(
            call.header("User-Agent").unwrap_or_default(),
            call.header("Coder-CLI-Telemetry").unwrap_or_default(),
        ),
    };
    Ok(websocket::upgrade(call, move || rpc::client(app, client)))
}

/// The id that a client has in the tailnet: that of its resume token, so that its tunnels live on, or a
/// fresh one.
fn peer(call: &Call<'_>, user: &UserAuth) -> Result<Uuid, Error> {
    let token = call.query.text("resume_token");
    if token.is_empty() {
        return Ok(Uuid::new_v4());
    }
    match call.service.app.resume.verify(token, user.user.id, Timestamp::now()) {
        Ok(peer) => Ok(peer.unwrap_or_else(Uuid::new_v4)),
        Err(why) => Err(Error::new(Fault::Unauthenticated, INVALID_RESUME_TOKEN)
            .detail(why)
            .field("resume_token", INVALID_RESUME_TOKEN)),
    }
}

/// Any 2.x is taken: calls of newer minors are answered Unimplemented, while a refused version would make
/// an agent knock for ever. The message is compared verbatim by clients (coder v2.24.0
/// codersdk/workspacesdk/dialer.go).
pub(super) fn check_version(version: &str) -> Result<(), Error> {
    let numbers = version.split_once('.').and_then(|(major, minor)| {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
        Some((number(major)?, number(minor)?))
    });
    let detail = match numbers {
        Some((2, _)) => return Ok(()),
        Some(_) => "This server speaks version 2.",
        None => "A version is two numbers with a dot between them.",
    };
    Err(Error::new(Fault::Invalid, "Unknown or unsupported API version").field("version", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_every_second_version_and_refuses_all_others_with_the_exact_message() {
        for good in ["2.0", "2.6", "2.9", "2.99"] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        for bad in ["1.0", "99.0", "3.1", "nonsense", "2", "2.", ".6", "2.x", "2.6.1", "+2.6", "-2.6", "2.-1"] {
            let error = check_version(bad).err();
            assert_eq!(
                error.map(|error| error.message).as_deref(),
                Some("Unknown or unsupported API version"),
                "{bad}"
            );
        }
    }
}
