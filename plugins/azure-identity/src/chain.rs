//! From the signer to a trusted root.

use std::time::Duration;

use moorline_plugin::{Answer, Refusal};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use crate::anchors::Trust;

/// Checks that the certificate in DER is good at `now` (seconds since 1970 began), may authenticate a server, and leads to a root.
/// The envelope's own further certificates do not count: it is the operator who says what lies in between.
pub(crate) fn check(signer: &[u8], trust: &Trust, now: i64) -> Answer<()> {
    let roots: Vec<CertificateDer<'_>> = trust.roots().into_iter().map(CertificateDer::from).collect();
    let anchors: Vec<TrustAnchor<'_>> = roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let between: Vec<CertificateDer<'_>> = trust.intermediates().into_iter().map(CertificateDer::from).collect();
    let signer = CertificateDer::from(signer);
    let refuse = |error: Error| refusal(&error);
    let signer = EndEntityCert::try_from(&signer).map_err(refuse)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    signer
        .verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &between, now, KeyUsage::server_auth(), None, None)
        .map(drop)
        .map_err(refuse)
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::UnknownIssuer => Refusal::refused(
            "unknown_issuer",
            "The certificate that signed the document does not lead to a trusted root; an intermediate certificate may be missing.",
        ),
        Error::CertExpired { time, not_after } => Refusal::refused(
            "expired_anchor",
            format!(
                "The certificate that signed the document, or one above it, ended {} days ago.",
                time.as_secs().saturating_sub(not_after.as_secs()) / 86_400
            ),
        ),
        Error::CertNotValidYet { .. } => Refusal::refused(
            "clock_skew",
            "The certificate that signed the document is not good yet; the clock of this server seems to be behind.",
        ),
        other => Refusal::refused(
            "bad_certificate",
            format!("The certificate that signed the document is not good: {other}."),
        ),
    }
}
