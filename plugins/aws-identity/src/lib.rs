//! Proves Amazon EC2 machines by their instance identity document.
//!
//! A machine sends the document and its RSA signature, both from its metadata service. The signature is PKCS#1 v1.5 with SHA-256
//! over the very bytes of the document, by a key that Amazon publishes in a certificate per group of regions. Only the keys
//! count: several certificates are past their end and Amazon still signs with their keys, so validity is not looked at.

mod anchors;
mod certificate;
mod document;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorline_plugin::schema::{Anchors, Setup, Verified, VerifyRequest};
use moorline_plugin::{Answer, Host, Identity, Refusal};
use ring::signature::{RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};

use crate::anchors::Groups;
use crate::document::Document;

moorline_plugin::declare!(identity Aws);

/// The provider.
pub struct Aws {
    groups: Groups,
    host: Host,
}

impl Identity for Aws {
    const NAME: &'static str = "aws-identity";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SERVES: &'static [&'static str] = &["aws"];

    fn create(setup: Setup, host: Host) -> Answer<Aws> {
        Ok(Aws { groups: Groups::new(setup.anchors)?, host })
    }

    fn verify(&self, request: VerifyRequest) -> Answer<Verified> {
        let field = |name: &str| request.fields.get(name).map(String::as_str).unwrap_or_default();
        let text = field("document");
        let document = Document::parse(text)?;
        let signature = decode(field("signature"))?;
        let good = |key: &[u8]| {
            UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, key)
                .verify(text.as_bytes(), &signature)
                .is_ok()
        };
        let Some(group) = self.groups.find(good) else {
            return Err(self.refusal(&document.region));
        };
        let mut claims = document.claims;
        claims.insert("key_group".to_owned(), group.to_owned());
        Ok(Verified { instance_id: document.instance_id, claims })
    }

    fn anchors(&self) -> Answer<Anchors> {
        Ok(Anchors { anchors: self.groups.anchors() })
    }
}

impl Aws {
    /// Says what an operator can do about it; the region is only what the document claims.
    fn refusal(&self, region: &str) -> Refusal {
        if region.is_empty() || self.groups.names(region) {
            return Refusal::refused("bad_signature", "The signature of the instance identity document is not good.");
        }
        self.host.warn(&format!(
            "a document says it is of region {region}, for which no key of its own is trusted; if the region is real, import \
             its certificate"
        ));
        Refusal::refused(
            "unknown_region",
            format!(
                "The document says it is of region {region}, for which no certificate is trusted, and no other signature fits."
            ),
        )
    }
}

/// Standard base64 with padding; Amazon puts line feeds inside.
fn decode(text: &str) -> Answer<Vec<u8>> {
    let compact: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
    STANDARD.decode(compact).map_err(|_| Refusal::refused("malformed", "The signature is not base64."))
}

#[cfg(test)]
mod tests;
