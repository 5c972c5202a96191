//! Roots and intermediate certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::Decode;
use moorline_plugin::schema::Anchor;
use moorline_plugin::{Answer, Refusal};
use x509_cert::Certificate;

/// The roots that are shipped; see the file's head.
const SHIPPED: &str = include_str!("../anchors/azure.txt");
/// Role of a certificate that is trusted by itself.
const ROOT: &str = "azure-root";
/// Role of a certificate that may stand between a signer and a root.
const INTERMEDIATE: &str = "azure-intermediate";

/// What is trusted.
pub(crate) struct Trust(Vec<Anchor>);

impl Trust {
    /// The shipped ones, each replaced by an anchor of the same name, and the further anchors.
    pub(crate) fn new(anchors: Vec<Anchor>) -> Answer<Trust> {
        let mut all = read(SHIPPED)?;
        for mut anchor in anchors {
            let certificate = Certificate::from_der(&anchor.data)
                .map_err(|error| Refusal::invalid(format!("The anchor {} is no certificate: {error}.", anchor.name)))?;
            if anchor.role != ROOT && anchor.role != INTERMEDIATE {
                let message = format!(
                    "The anchor {} has the role {}; {ROOT} and {INTERMEDIATE} are known.",
                    anchor.name, anchor.role
                );
                return Err(Refusal::invalid(message));
            }
            anchor.not_after = Some(end(&certificate));
            all.retain(|shipped| shipped.name != anchor.name);
            all.push(anchor);
        }
        Ok(Trust(all))
    }

    pub(crate) fn anchors(&self) -> Vec<Anchor> {
        self.0.clone()
    }

    /// The certificates of one role, in DER.
    fn of_role(&self, role: &str) -> Vec<&[u8]> {
        self.0.iter().filter(|anchor| anchor.role == role).map(|anchor| anchor.data.as_slice()).collect()
    }

    pub(crate) fn roots(&self) -> Vec<&[u8]> {
        self.of_role(ROOT)
    }

    pub(crate) fn intermediates(&self) -> Vec<&[u8]> {
        self.of_role(INTERMEDIATE)
    }
}

fn end(certificate: &Certificate) -> i64 {
    let end = certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
    i64::try_from(end).unwrap_or(i64::MAX)
}

/// Anchors of a text with a line each: role, name, base64 of the DER.
pub(crate) fn read(text: &str) -> Answer<Vec<Anchor>> {
    let broken = || Refusal::failed("The shipped trust anchors of Azure cannot be read.");
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let mut words = line.split(' ');
            let (role, name, data) = (words.next(), words.next(), words.next());
            let (Some(role), Some(name), Some(data)) = (role, name, data) else { return Err(broken()) };
            let data = STANDARD.decode(data).map_err(|_| broken())?;
            let not_after = Certificate::from_der(&data).map_err(|_| broken()).map(|found| end(&found))?;
            let (name, role) = (format!("azure/{role}/{name}"), format!("azure-{role}"));
            Ok(Anchor { name, role, data, not_after: Some(not_after) })
        })
        .collect()
}
