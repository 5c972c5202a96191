//! Proves Azure virtual machines by their attested document.
//!
//! A machine sends a CMS envelope that its metadata service made: a JSON text signed by a certificate of Azure's metadata service.
//! Everything is checked: the signature over the text, the signer's name, its chain to a trusted root, and until when the document
//! is good. (The real server of release 2.24.0 does not check the signature; GHSA-6x44-w3xg-hqqf.)

mod anchors;
mod chain;
mod content;
mod envelope;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorline_plugin::schema::{Anchors, Setup, Verified, VerifyRequest};
use moorline_plugin::{Answer, Host, Identity, Refusal};

use crate::anchors::Trust;
use crate::content::Content;
use crate::envelope::Envelope;

moorline_plugin::declare!(identity Azure);

/// Longest envelope that is looked at, bytes; real ones have about 3,000.
const ENVELOPE_BYTES: usize = 64 * 1024;

/// The provider.
pub struct Azure {
    trust: Trust,
    host: Host,
}

impl Identity for Azure {
    const NAME: &'static str = "azure-identity";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SERVES: &'static [&'static str] = &["azure"];

    fn create(setup: Setup, host: Host) -> Answer<Azure> {
        Ok(Azure { trust: Trust::new(setup.anchors)?, host })
    }

    fn verify(&self, request: VerifyRequest) -> Answer<Verified> {
        let text = request.fields.get("signature").map(String::as_str).unwrap_or_default();
        let der = decode(text)?;
        let envelope = Envelope::parse(&der)?;
        envelope.check_signer_name()?;
        envelope.check_signature()?;
        let now = self.host.now();
        chain::check(&envelope.signer_der, &self.trust, now).inspect_err(|refusal| {
            let trouble = match refusal.refused.code.as_str() {
                "unknown_issuer" => {
                    "which is not among the trusted intermediate certificates; if that is Microsoft's, import it"
                }
                "expired_anchor" => {
                    "which is past its end, or the signer is; if Microsoft has a newer certificate of it, import that"
                }
                _ => return,
            };
            self.host.warn(&format!("an attested document is signed below {}, {trouble}", envelope.issuer));
        })?;
        let content = Content::parse(&envelope.content)?;
        content.check_times(now)?;
        let claims = BTreeMap::from([
            ("subscription_id".to_owned(), content.subscription_id),
            ("sku".to_owned(), content.sku),
            ("signer".to_owned(), envelope.signer_name),
        ]);
        Ok(Verified { instance_id: content.vm_id, claims })
    }

    fn anchors(&self) -> Answer<Anchors> {
        Ok(Anchors { anchors: self.trust.anchors() })
    }
}

fn decode(text: &str) -> Answer<Vec<u8>> {
    let compact: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
    if compact.len() > ENVELOPE_BYTES {
        return Err(Refusal::refused("malformed", "The signature is longer than any that Azure makes."));
    }
    STANDARD.decode(compact).map_err(|_| Refusal::refused("malformed", "The signature is not base64."))
}

#[cfg(test)]
mod tests;
