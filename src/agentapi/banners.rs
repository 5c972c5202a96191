//! Banners: what an agent prints before a login shell. No operator can set one yet.

use prost::Message;

use super::decode;
use crate::domain::Error;
use crate::wire::proto::agent::{
    GetAnnouncementBannersRequest, GetAnnouncementBannersResponse, GetServiceBannerRequest, ServiceBanner,
};

/// For agents older than 2.12.
pub(super) fn service(body: &[u8]) -> Result<Vec<u8>, Error> {
    decode::<GetServiceBannerRequest>(body)?;
    Ok(ServiceBanner::default().encode_to_vec())
}

/// Asked at once and every two minutes; an error ends the agent's session (agent/agent.go
/// fetchServiceBannerLoop, v2.24.0).
pub(super) fn announcements(body: &[u8]) -> Result<Vec<u8>, Error> {
    decode::<GetAnnouncementBannersRequest>(body)?;
    Ok(GetAnnouncementBannersResponse::default().encode_to_vec())
}
