//! UpdateStartup: what the agent is and where it stands. Sent once per connection.

use super::{Reply, Session, cut, decode, write};
use crate::config::limits::REPORTED_TEXT_BYTES;
use crate::model::Timestamp;
use crate::ops::hub::Topic;
use crate::store::agents;
use crate::wire::proto::agent::{Startup, UpdateStartupRequest, startup};

/// Stores the report and sends it back. A version that is no semantic version, or an unknown
/// subsystem, is an error in the real server and makes such an agent ask for ever; here it is taken.
pub(super) fn update(session: &Session, body: &[u8], reply: Reply) {
    let request: UpdateStartupRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    let report = request.startup.unwrap_or_default();
    let mut subsystems: Vec<String> =
        report.subsystems.iter().filter_map(|one| word(*one)).map(str::to_owned).collect();
    subsystems.sort();
    subsystems.dedup();
    let (id, workspace, api_version) = (session.agent, session.workspace, session.api_version.clone());
    // Sent again with the next connection, so a full disk must not keep the machine from its network.
    let shed = Some(prost::Message::encode_to_vec(&report));
    write(session, reply, shed, move |write| {
        let version = cut(report.version.clone(), REPORTED_TEXT_BYTES);
        let directory = cut(report.expanded_directory.clone(), REPORTED_TEXT_BYTES);
        let known = agents::by_id(write, id)?.is_some_and(|agent| {
            agent.version == version
                && agent.api_version == api_version
                && agent.expanded_directory == directory
                && agent.subsystems == subsystems
        });
        if !known {
            agents::set_startup(write, id, &version, &api_version, &directory, &subsystems, Timestamp::now())?;
            write.publish(Topic::Agent(id));
            write.publish(Topic::Workspace(workspace));
        }
        Ok::<Startup, _>(report)
    });
}

fn word(subsystem: i32) -> Option<&'static str> {
    match startup::Subsystem::try_from(subsystem) {
        Ok(startup::Subsystem::Envbox) => Some("envbox"),
        Ok(startup::Subsystem::Envbuilder) => Some("envbuilder"),
        Ok(startup::Subsystem::Exectrace) => Some("exectrace"),
        Ok(startup::Subsystem::Unspecified) | Err(_) => None,
    }
}
