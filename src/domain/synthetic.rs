//! What clients expect to exist and nobody ever made: one organisation, one template with one version,
//! and one build per workspace. Their ids follow from the deployment's, so they never change and are
//! never stored.

use uuid::Uuid;

use super::tokens;
use crate::model::WorkspaceId;

/// The organisation's name.
pub const ORGANIZATION: &str = "default";
/// The organisation's name as people read it.
pub const ORGANIZATION_TITLE: &str = "Default";
/// The template's name.
pub const TEMPLATE: &str = "declared";
/// The template's name as people read it.
pub const TEMPLATE_TITLE: &str = "Declared machine";
/// The name of the template's version.
pub const TEMPLATE_VERSION: &str = "v1";
/// Every workspace has this one build.
pub const BUILD_NUMBER: i64 = 1;

/// The bits in which two random UUIDs differ: all but version and variant.
const RANDOM: u128 = !0x0000_0000_0000_F000_C000_0000_0000_0000;

/// The derived ids of a deployment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ids {
    /// The one organisation.
    pub organization: Uuid,
    /// The one template.
    pub template: Uuid,
    /// Its one version.
    pub template_version: Uuid,
    /// The job that would have imported the version.
    pub import_job: Uuid,
    build: Uuid,
    job: Uuid,
}

impl Ids {
    /// The ids of this deployment.
    pub fn of(deployment: Uuid) -> Ids {
        let derive = |what: &str| {
            let mut seed = deployment.as_bytes().to_vec();
            seed.extend_from_slice(what.as_bytes());
            let digest = tokens::hash(&seed);
            uuid::Builder::from_random_bytes(digest.first_chunk::<16>().copied().unwrap_or_default()).into_uuid()
        };
        Ids {
            organization: derive("organization"),
            template: derive("template"),
            template_version: derive("template version"),
            import_job: derive("import job"),
            build: derive("build"),
            job: derive("job"),
        }
    }

    /// Whether a text names the organization: by id or by name.
    pub fn is_organization(&self, text: &str) -> bool {
        text.eq_ignore_ascii_case(ORGANIZATION) || Uuid::try_parse(text).is_ok_and(|id| id == self.organization)
    }

    /// The id of a workspace's build. It must stay the same while people work there: `coder ssh` ends
    /// when it changes (v2.24.0 cli/ssh.go).
    pub fn build(&self, workspace: WorkspaceId) -> Uuid {
        mix(workspace.0, self.build)
    }

    /// The workspace of a build: the way back costs no search.
    pub fn workspace_of_build(&self, build: Uuid) -> WorkspaceId {
        WorkspaceId(mix(build, self.build))
    }

    /// The id of the job of a workspace's build.
    pub fn job(&self, workspace: WorkspaceId) -> Uuid {
        mix(workspace.0, self.job)
    }
}

/// Its own inverse.
fn mix(id: Uuid, key: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128() ^ (key.as_u128() & RANDOM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_ids_that_differ_and_stay() {
        let deployment = Uuid::new_v4();
        let ids = Ids::of(deployment);
        assert_eq!(ids, Ids::of(deployment));
        assert_ne!(ids, Ids::of(Uuid::new_v4()));
        let workspace = WorkspaceId::random();
        let all = [
            ids.organization,
            ids.template,
            ids.template_version,
            ids.import_job,
            ids.build(workspace),
            ids.job(workspace),
            workspace.0,
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
        assert!(all.iter().all(|id| id.get_version_num() == 4 && id.get_variant() == uuid::Variant::RFC4122));
    }

    #[test]
    fn finds_the_workspace_of_a_build() {
        let (ids, workspace) = (Ids::of(Uuid::new_v4()), WorkspaceId::random());
        assert_eq!(ids.workspace_of_build(ids.build(workspace)), workspace);
    }
}
