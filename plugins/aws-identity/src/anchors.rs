//! The keys that are trusted, by group of regions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorline_plugin::schema::Anchor;
use moorline_plugin::{Answer, Refusal};

use crate::certificate;

/// The certificates that Amazon publishes; see the file's head.
const SHIPPED: &str = include_str!("../anchors/aws.txt");
/// What the names of these anchors begin with.
const PREFIX: &str = "aws/";
/// Regions of the group that counts for all others.
const EVERY: &str = "*";

struct Group {
    /// E.g. `other`; of an imported anchor, what follows the prefix of its name.
    name: String,
    regions: Vec<String>,
    anchor: Anchor,
}

/// All of them.
pub(crate) struct Groups(Vec<Group>);

impl Groups {
    /// The shipped ones, each replaced by an anchor of the same name, and the further anchors. The role of an anchor names its
    /// regions: `aws`, or `aws:REGION,REGION`.
    pub(crate) fn new(anchors: Vec<Anchor>) -> Answer<Groups> {
        let mut groups = shipped()?;
        for mut anchor in anchors {
            anchor.not_after = certificate::not_after(&anchor.data);
            let name = anchor.name.strip_prefix(PREFIX).unwrap_or(&anchor.name).to_owned();
            if certificate::rsa_key(&anchor.data).is_none() {
                return Err(Refusal::invalid(format!(
                    "The anchor {} is not a certificate with an RSA key.",
                    anchor.name
                )));
            }
            let regions = anchor.role.split_once(':').map(|(_, regions)| split(regions));
            match groups.iter_mut().find(|group| group.name == name) {
                Some(group) => {
                    group.regions = regions.unwrap_or_else(|| std::mem::take(&mut group.regions));
                    group.anchor = anchor;
                }
                None => groups.push(Group { regions: regions.unwrap_or_else(|| vec![name.clone()]), name, anchor }),
            }
        }
        Ok(Groups(groups))
    }

    /// The name of the first group whose key (an `RSAPublicKey`) is as asked.
    pub(crate) fn find(&self, good: impl Fn(&[u8]) -> bool) -> Option<&str> {
        let found = self.0.iter().find(|group| certificate::rsa_key(&group.anchor.data).is_some_and(&good))?;
        Some(&found.name)
    }

    /// Whether a group names this region, rather than all others.
    pub(crate) fn names(&self, region: &str) -> bool {
        self.0.iter().any(|group| group.regions.iter().any(|one| one == region))
    }

    /// As the host shows them.
    pub(crate) fn anchors(&self) -> Vec<Anchor> {
        self.0.iter().map(|group| group.anchor.clone()).collect()
    }
}

fn split(regions: &str) -> Vec<String> {
    regions.split(',').map(|region| region.trim().to_owned()).collect()
}

fn shipped() -> Answer<Vec<Group>> {
    let broken = || Refusal::failed("The shipped trust anchors of Amazon cannot be read.");
    SHIPPED
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let mut words = line.split(' ');
            let (name, regions, data) = (words.next(), words.next(), words.next());
            let (Some(name), Some(regions), Some(data)) = (name, regions, data) else { return Err(broken()) };
            let data = STANDARD.decode(data).map_err(|_| broken())?;
            let not_after = certificate::not_after(&data);
            let role = format!("aws:{regions}");
            let anchor = Anchor { name: format!("{PREFIX}{name}"), role, data, not_after };
            // `other` counts for regions that nobody names, so it names none.
            let regions = if regions == EVERY { Vec::new() } else { split(regions) };
            Ok(Group { name: name.to_owned(), regions, anchor })
        })
        .collect()
}
