//! The one template and its version (coder v2.24.0 codersdk/templates.go, templateversions.go). It is
//! shown as deprecated: nobody can make a workspace of it.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::workspaces::Job;
use crate::domain::synthetic::{self, Ids};
use crate::model::{Timestamp, UserId};
use crate::store::users::User;

const DESCRIPTION: &str = "A machine that the operator of this server has declared.";
/// Why no workspace can be made of the template.
pub const DEPRECATION: &str =
    "Workspaces are declared by the operator of this server; they are not made from templates.";

/// The template.
#[derive(Serialize)]
pub struct Template<'a> {
    id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    organization_id: Uuid,
    organization_name: &'static str,
    organization_display_name: &'static str,
    organization_icon: &'static str,
    name: &'static str,
    display_name: &'static str,
    provisioner: &'static str,
    active_version_id: Uuid,
    active_user_count: i64,
    build_time_stats: BTreeMap<&'static str, Percentiles>,
    description: &'static str,
    deprecated: bool,
    deprecation_message: &'static str,
    icon: &'static str,
    default_ttl_ms: i64,
    activity_bump_ms: i64,
    autostop_requirement: AutostopRequirement,
    autostart_requirement: AutostartRequirement,
    created_by_id: UserId,
    created_by_name: &'a str,
    allow_user_autostart: bool,
    allow_user_autostop: bool,
    allow_user_cancel_workspace_jobs: bool,
    failure_ttl_ms: i64,
    time_til_dormant_ms: i64,
    time_til_dormant_autodelete_ms: i64,
    require_active_version: bool,
    max_port_share_level: &'static str,
    use_classic_parameter_flow: bool,
}

#[derive(Serialize)]
struct Percentiles {
    #[serde(rename = "P50")]
    p50: Option<i64>,
    #[serde(rename = "P95")]
    p95: Option<i64>,
}

#[derive(Serialize)]
struct AutostopRequirement {
    days_of_week: [&'static str; 0],
    weeks: i64,
}

#[derive(Serialize)]
struct AutostartRequirement {
    days_of_week: [&'static str; 0],
}

impl<'a> Template<'a> {
    /// `first` is the first person of the deployment: since then, and by nobody before, there is something
    /// to declare for. `owners` is how many people have a workspace.
    pub fn of(ids: &Ids, first: &'a User, owners: i64) -> Template<'a> {
        let never = || Percentiles { p50: None, p95: None };
        Template {
            id: ids.template,
            created_at: first.created_at,
            updated_at: first.created_at,
            organization_id: ids.organization,
            organization_name: synthetic::ORGANIZATION,
            organization_display_name: synthetic::ORGANIZATION_TITLE,
            organization_icon: "",
            name: synthetic::TEMPLATE,
            display_name: synthetic::TEMPLATE_TITLE,
            provisioner: "terraform",
            active_version_id: ids.template_version,
            active_user_count: owners,
            build_time_stats: BTreeMap::from([("delete", never()), ("start", never()), ("stop", never())]),
            description: DESCRIPTION,
            deprecated: true,
            deprecation_message: DEPRECATION,
            icon: "",
            default_ttl_ms: 0,
            activity_bump_ms: 0,
            autostop_requirement: AutostopRequirement { days_of_week: [], weeks: 1 },
            autostart_requirement: AutostartRequirement { days_of_week: [] },
            created_by_id: first.id,
            created_by_name: &first.username,
            allow_user_autostart: false,
            allow_user_autostop: false,
            allow_user_cancel_workspace_jobs: false,
            failure_ttl_ms: 0,
            time_til_dormant_ms: 0,
            time_til_dormant_autodelete_ms: 0,
            require_active_version: false,
            max_port_share_level: "owner",
            use_classic_parameter_flow: true,
        }
    }
}

/// The template's version; `coder ssh` asks for it each time (v2.24.0 cli/ssh.go).
#[derive(Serialize)]
pub struct TemplateVersion<'a> {
    id: Uuid,
    template_id: Uuid,
    organization_id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    name: &'static str,
    message: &'static str,
    job: Job,
    readme: &'static str,
    created_by: MinimalUser<'a>,
    archived: bool,
}

#[derive(Serialize)]
struct MinimalUser<'a> {
    id: UserId,
    username: &'a str,
}

impl<'a> TemplateVersion<'a> {
    /// `first` is the first person of the deployment.
    pub fn of(ids: &Ids, first: &'a User) -> TemplateVersion<'a> {
        TemplateVersion {
            id: ids.template_version,
            template_id: ids.template,
            organization_id: ids.organization,
            created_at: first.created_at,
            updated_at: first.created_at,
            name: synthetic::TEMPLATE_VERSION,
            message: "",
            job: Job::of_import(ids, first.created_at),
            readme: DESCRIPTION,
            created_by: MinimalUser { id: first.id, username: &first.username },
            archived: false,
        }
    }
}
