//! What an HTTP egress filter inside the machine let through or held back: written to the log.

use super::{Session, decode};
use crate::domain::Error;
use crate::wire::proto::agent::{ReportBoundaryLogsRequest, boundary_log};

/// Lines of one report that are written; the rest is counted.
const LINES: usize = 100;

/// Always well, whatever it says: the filter has no use for an error.
pub(super) fn report(session: &Session, body: &[u8]) -> Result<Vec<u8>, Error> {
    let request: ReportBoundaryLogsRequest = decode(body)?;
    for line in request.logs.iter().take(LINES) {
        let Some(boundary_log::Resource::HttpRequest(http)) = &line.resource else { continue };
        log::info!(
            agent = session.agent.to_string(), session = request.session_id, allowed = line.allowed,
            process = request.confined_process_name;
            "egress filter: {} {}", http.method, http.url
        );
    }
    if let Some(more) = request.logs.len().checked_sub(LINES).filter(|more| *more > 0) {
        log::info!(agent = session.agent.to_string(); "egress filter: {more} more lines");
    }
    Ok(Vec::new())
}
