//! The CMS envelope: one signer, its certificate, the text, the signature over it.

use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetString, OctetStringRef};
use der::{Decode, Encode};
use moorline_plugin::{Answer, Refusal};
use ring::digest::{SHA256, digest};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use x509_cert::Certificate;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// SHA-256, and what Azure writes in its place: the name of the signature algorithm.
const DIGESTS: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"), ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11")];
/// RSA as a signature algorithm, by either of its names.
const SIGNATURES: [ObjectIdentifier; 2] = [RSA, ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11")];

/// What the metadata services of Azure's clouds are called; a name may stand in front, with a dot between.
const NAMES: [&str; 4] = ["metadata.azure.com", "metadata.azure.us", "metadata.azure.cn", "metadata.microsoftazure.de"];

/// A parsed envelope; nothing is proved yet.
pub(crate) struct Envelope {
    pub(crate) content: Vec<u8>,
    pub(crate) signer_name: String,
    pub(crate) signer_der: Vec<u8>,
    /// Name of whoever issued the signer's certificate.
    pub(crate) issuer: String,
    public_key: Vec<u8>,
    info: SignerInfo,
    content_type: ObjectIdentifier,
}

fn malformed(message: &str) -> Refusal {
    Refusal::refused("malformed", message)
}

impl Envelope {
    pub(crate) fn parse(bytes: &[u8]) -> Answer<Envelope> {
        let outer =
            ContentInfo::from_der(bytes).map_err(|_| malformed("The signature is not a CMS envelope in DER."))?;
        if outer.content_type != SIGNED_DATA {
            return Err(malformed("The CMS envelope holds no signed data."));
        }
        let signed: SignedData =
            outer.content.decode_as().map_err(|_| malformed("The signed data of the CMS envelope cannot be read."))?;
        let content = signed
            .encap_content_info
            .econtent
            .as_ref()
            .and_then(|content| content.decode_as::<OctetStringRef<'_>>().ok())
            .map(|content| content.as_bytes().to_vec())
            .ok_or_else(|| malformed("The CMS envelope does not hold the text that is signed."))?;
        let mut infos = signed.signer_infos.0.iter();
        let (Some(info), None) = (infos.next(), infos.next()) else {
            return Err(malformed("The CMS envelope does not have exactly one signer."));
        };
        let signer = find_signer(&signed, info)?;
        let key_info = &signer.tbs_certificate.subject_public_key_info;
        if key_info.algorithm.oid != RSA {
            return Err(malformed("The signer's key is not an RSA key."));
        }
        let public_key = key_info.subject_public_key.as_bytes().map(<[u8]>::to_vec);
        Ok(Envelope {
            content,
            signer_name: common_name(&signer.tbs_certificate.subject).unwrap_or_default(),
            signer_der: signer.to_der().map_err(|_| malformed("The signer's certificate cannot be read."))?,
            issuer: signer.tbs_certificate.issuer.to_string(),
            public_key: public_key.ok_or_else(|| malformed("The signer's key cannot be read."))?,
            info: info.clone(),
            content_type: signed.encap_content_info.econtent_type,
        })
    }

    /// Whether the signer is called as a metadata service of Azure.
    pub(crate) fn check_signer_name(&self) -> Answer<()> {
        if is_metadata_service(&self.signer_name) {
            return Ok(());
        }
        Err(Refusal::refused("wrong_signer", "The document is not signed by a metadata service of Azure."))
    }

    /// Whether the signer has signed the text: directly, as Azure does, or by way of signed attributes.
    pub(crate) fn check_signature(&self) -> Answer<()> {
        if !DIGESTS.contains(&self.info.digest_alg.oid) {
            return Err(malformed("The text is not hashed with SHA-256."));
        }
        if !SIGNATURES.contains(&self.info.signature_algorithm.oid) {
            return Err(malformed("The signature is not made with RSA."));
        }
        let bad = || Refusal::refused("bad_signature", "The signature of the document is not good.");
        let signed = match &self.info.signed_attrs {
            None => self.content.clone(),
            Some(attributes) => {
                let value = |oid: ObjectIdentifier| {
                    let mut found = attributes.iter().filter(move |attribute| attribute.oid == oid);
                    let (first, second) = (found.next(), found.next());
                    first.filter(|one| second.is_none() && one.values.len() == 1).and_then(|one| one.values.get(0))
                };
                let hash =
                    value(MESSAGE_DIGEST).and_then(|hash| hash.decode_as::<OctetString>().ok()).ok_or_else(bad)?;
                let kind =
                    value(CONTENT_TYPE).and_then(|kind| kind.decode_as::<ObjectIdentifier>().ok()).ok_or_else(bad)?;
                if hash.as_bytes() != digest(&SHA256, &self.content).as_ref() || kind != self.content_type {
                    return Err(bad());
                }
                // What is signed is the SET itself, not its implicit tag in the envelope.
                attributes.to_der().map_err(|_| bad())?
            }
        };
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(&signed, self.info.signature.as_bytes())
            .map_err(|_| bad())
    }
}

/// The certificate of the signer, by issuer and serial number.
fn find_signer<'a>(signed: &'a SignedData, info: &SignerInfo) -> Answer<&'a Certificate> {
    let SignerIdentifier::IssuerAndSerialNumber(id) = &info.sid else {
        return Err(malformed("The signer is not named by issuer and serial number."));
    };
    let carried = signed.certificates.as_ref().map(|set| set.0.iter()).into_iter().flatten();
    carried
        .filter_map(|one| match one {
            CertificateChoices::Certificate(certificate) => Some(certificate),
            CertificateChoices::Other(_) => None,
        })
        .find(|one| one.tbs_certificate.issuer == id.issuer && one.tbs_certificate.serial_number == id.serial_number)
        .ok_or_else(|| malformed("The CMS envelope does not carry its signer's certificate."))
}

/// The common name of a subject, if there is exactly one.
fn common_name(subject: &x509_cert::name::Name) -> Option<String> {
    let mut names = subject.0.iter().flat_map(|set| set.0.iter()).filter(|pair| pair.oid == COMMON_NAME);
    let (first, second) = (names.next()?, names.next());
    if second.is_some() {
        return None;
    }
    // PrintableString and UTF8String both hold UTF-8.
    std::str::from_utf8(first.value.value()).ok().map(str::to_owned)
}

fn is_metadata_service(name: &str) -> bool {
    NAMES.iter().any(|known| name.strip_suffix(known).is_some_and(|front| front.is_empty() || front.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_names_of_metadata_services() {
        for name in
            ["metadata.azure.com", "metadata.azure.us", "eastus.metadata.azure.com", "metadata.microsoftazure.de"]
        {
            assert!(is_metadata_service(name), "{name}");
        }
        for name in ["", "xmetadata.azure.com", "metadata.azure.com.example", "Metadata.azure.com", "azure.com"] {
            assert!(!is_metadata_service(name), "{name}");
        }
    }
}
