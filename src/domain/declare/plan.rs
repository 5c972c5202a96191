//! What would have to be done to make a declaration true.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::parts::{Parts, fill, set};
use super::{Declaration, DeclaredAgent, Problem, refusal};
use crate::domain::Error;
use crate::domain::users::is_active_admin;
use crate::domain::workspaces::title;
use crate::model::{AgentId, Timestamp};
use crate::store::agents::Agent;
use crate::store::users::User;
use crate::store::workspaces::Workspace;
use crate::store::{agents, users, workspaces};

/// What of a person's password is to be done; made before the plan, because hashing takes time.
#[derive(Clone, PartialEq)]
pub(super) enum Password {
    Keep,
    Set(String),
}

/// The steps, in the order of the declaration.
pub(super) struct Plan {
    pub(super) users: Vec<UserStep>,
    pub(super) workspaces: Vec<WorkspaceStep>,
    pub(super) drop_workspaces: Vec<Workspace>,
    pub(super) drop_users: Vec<User>,
    /// What is not declared but stays, and why.
    pub(super) kept: Vec<(&'static str, String, &'static str)>,
}

pub(super) enum UserStep {
    Add,
    Keep(User),
    Change { old: User, new: User, fields: Vec<&'static str> },
}

pub(super) struct WorkspaceStep {
    /// `None`: to be added.
    pub(super) old: Option<Workspace>,
    /// The name's letter case changes.
    pub(super) rename: bool,
    pub(super) agents: Vec<AgentStep>,
    pub(super) drop_agents: Vec<Agent>,
}

pub(super) enum AgentStep {
    Add,
    Keep(AgentId),
    Change { agent: Box<Agent>, parts: Box<(Parts, Parts)>, fields: Vec<&'static str> },
}

impl Plan {
    /// Compares a declaration with the store. Refuses what the store does not allow.
    pub(super) fn make(
        conn: &Connection,
        declaration: &Declaration,
        passwords: &[Password],
        prune: bool,
        now: Timestamp,
    ) -> Result<Plan, Error> {
        let living = users::list(conn)?;
        let mut plan = Plan {
            users: user_steps(&living, declaration, passwords, now),
            workspaces: Vec::with_capacity(declaration.workspaces.len()),
            drop_workspaces: Vec::new(),
            drop_users: Vec::new(),
            kept: Vec::new(),
        };
        let mut problems = Vec::new();
        plan.plan_workspaces(conn, declaration, &living, prune, now, &mut problems)?;
        plan.plan_removals(conn, declaration, &living, prune)?;
        plan.check_people(declaration, &living, &mut problems);
        if problems.is_empty() { Ok(plan) } else { Err(refusal(&declaration.source, declaration.format, problems)) }
    }

    fn plan_workspaces(
        &mut self,
        conn: &Connection,
        declaration: &Declaration,
        living: &[User],
        prune: bool,
        now: Timestamp,
        problems: &mut Vec<Problem>,
    ) -> Result<(), Error> {
        let people: HashMap<String, &User> =
            living.iter().map(|user| (user.username.to_ascii_lowercase(), user)).collect();
        let declared: HashSet<String> = declaration.users.iter().map(|user| user.name.to_ascii_lowercase()).collect();
        for (index, workspace) in declaration.workspaces.iter().enumerate() {
            let owner = workspace.owner.to_ascii_lowercase();
            let known = people.get(&owner);
            if known.is_none() && !declared.contains(&owner) {
                problems.push(Problem {
                    line: workspace.line,
                    path: format!("workspaces[{index}].owner"),
                    why: format!("there is no user `{}`, neither here nor on the server", workspace.owner),
                });
            }
            let old = match known {
                Some(owner) => workspaces::by_name(conn, owner.id, &workspace.name)?,
                None => None,
            };
            let living_agents = match &old {
                Some(old) => agents::of_workspace(conn, old.id)?,
                None => Vec::new(),
            };
            let mut step = WorkspaceStep {
                rename: old.as_ref().is_some_and(|old| old.name != workspace.name),
                agents: Vec::with_capacity(workspace.agents.len()),
                drop_agents: Vec::new(),
                old,
            };
            for (place, agent) in workspace.agents.iter().enumerate() {
                let old = living_agents.iter().find(|old| old.name.eq_ignore_ascii_case(&agent.name));
                if old.is_some_and(|old| old.parent_id.is_some()) {
                    problems.push(Problem {
                        line: agent.line,
                        path: format!("workspaces[{index}].agents[{place}].name"),
                        why: format!("`{}` is a sub-agent that another agent made; choose another name", agent.name),
                    });
                }
                step.agents.push(agent_step(conn, old, agent, now)?);
            }
            for agent in living_agents {
                if agent.parent_id.is_none()
                    && !workspace.agents.iter().any(|declared| declared.name.eq_ignore_ascii_case(&agent.name))
                {
                    if prune {
                        step.drop_agents.push(agent);
                    } else {
                        let name = format!("{}/{}.{}", workspace.owner, workspace.name, agent.name);
                        self.kept.push(("agent", name, "not in the file; --prune removes it"));
                    }
                }
            }
            self.workspaces.push(step);
        }
        Ok(())
    }

    /// Workspaces that are not declared, and people who are neither declared nor own anything. At
    /// least one active administrator is always left.
    fn plan_removals(
        &mut self,
        conn: &Connection,
        declaration: &Declaration,
        living: &[User],
        prune: bool,
    ) -> Result<(), Error> {
        let declared: HashSet<_> =
            self.workspaces.iter().filter_map(|step| step.old.as_ref()).map(|workspace| workspace.id).collect();
        for workspace in workspaces::list(conn, None)? {
            if declared.contains(&workspace.id) {
                continue;
            }
            if prune {
                self.drop_workspaces.push(workspace);
            } else {
                self.kept.push(("workspace", title(&workspace), "not in the file; --prune removes it"));
            }
        }
        let in_file =
            |user: &User| declaration.users.iter().any(|declared| declared.name.eq_ignore_ascii_case(&user.username));
        let owns = |user: &User| {
            declaration.workspaces.iter().any(|workspace| workspace.owner.eq_ignore_ascii_case(&user.username))
        };
        let stays = |user: &User| in_file(user) || owns(user);
        let admin_stays = living.iter().any(|user| is_active_admin(user) && stays(user) && !in_file(user))
            || self.users.iter().any(UserStep::leaves_admin)
            || declaration
                .users
                .iter()
                .zip(&self.users)
                .any(|(user, step)| user.admin && matches!(step, UserStep::Add));
        for user in living.iter().filter(|user| !in_file(user)) {
            let why = if !prune {
                "not in the file; --prune removes them"
            } else if owns(user) {
                "not in the file, but owns a workspace of it"
            } else if is_active_admin(user) && !admin_stays {
                "not in the file, but no other active administrator would be left"
            } else {
                self.drop_users.push(user.clone());
                continue;
            };
            self.kept.push(("user", user.username.clone(), why));
        }
        Ok(())
    }

    fn check_people(&self, declaration: &Declaration, living: &[User], problems: &mut Vec<Problem>) {
        let untouched: Vec<&User> = living
            .iter()
            .filter(|user| !declaration.users.iter().any(|declared| declared.name.eq_ignore_ascii_case(&user.username)))
            .filter(|user| !self.drop_users.iter().any(|dropped| dropped.id == user.id))
            .collect();
        for (index, declared) in declaration.users.iter().enumerate() {
            if let Some(other) = untouched.iter().find(|user| user.email.eq_ignore_ascii_case(&declared.email)) {
                problems.push(Problem {
                    line: declared.line,
                    path: format!("users[{index}].email"),
                    why: format!("{} belongs to user `{}` on the server", declared.email, other.username),
                });
            }
        }
        let before = living.iter().any(is_active_admin);
        let after = untouched.iter().any(|user| is_active_admin(user))
            || self.users.iter().any(UserStep::leaves_admin)
            || declaration
                .users
                .iter()
                .zip(&self.users)
                .any(|(user, step)| user.admin && matches!(step, UserStep::Add));
        let demoted = self.users.iter().position(
            |step| matches!(step, UserStep::Change { old, new, .. } if is_active_admin(old) && !is_active_admin(new)),
        );
        if before
            && !after
            && let Some(index) = demoted
            && let Some(declared) = declaration.users.get(index)
        {
            problems.push(Problem {
                line: declared.line,
                path: format!("users[{index}].admin"),
                why: format!("`{}` is the last active administrator and must stay one (admin = true)", declared.name),
            });
        }
    }

    /// Every change as `--json` shows it. Empty: the declaration is true already.
    pub(super) fn changes(&self, declaration: &Declaration) -> Vec<Value> {
        let change = |action: &str, kind: &str, name: String, fields: &[&'static str]| json!({"action": action, "kind": kind, "name": name, "fields": fields});
        let mut changes = Vec::new();
        for workspace in &self.drop_workspaces {
            changes.push(change("remove", "workspace", title(workspace), &[]));
        }
        for user in &self.drop_users {
            changes.push(change("remove", "user", user.username.clone(), &[]));
        }
        for (declared, step) in declaration.users.iter().zip(&self.users) {
            match step {
                UserStep::Add => changes.push(change("create", "user", declared.name.clone(), &[])),
                UserStep::Change { fields, .. } => {
                    changes.push(change("update", "user", declared.name.clone(), fields));
                }
                UserStep::Keep(_) => {}
            }
        }
        for (declared, step) in declaration.workspaces.iter().zip(&self.workspaces) {
            let name = format!("{}/{}", declared.owner, declared.name);
            if step.old.is_none() {
                changes.push(change("create", "workspace", name.clone(), &[]));
            } else if step.rename {
                changes.push(change("update", "workspace", name.clone(), &["name"]));
            }
            for agent in &step.drop_agents {
                changes.push(change("remove", "agent", format!("{name}.{}", agent.name), &[]));
            }
            for (agent, step) in declared.agents.iter().zip(&step.agents) {
                let name = format!("{name}.{}", agent.name);
                match step {
                    AgentStep::Add => changes.push(change("create", "agent", name, &[])),
                    AgentStep::Change { fields, .. } => changes.push(change("update", "agent", name, fields)),
                    AgentStep::Keep(_) => {}
                }
            }
        }
        changes
    }
}

impl UserStep {
    fn leaves_admin(&self) -> bool {
        match self {
            UserStep::Add => false,
            UserStep::Keep(user) | UserStep::Change { new: user, .. } => is_active_admin(user),
        }
    }
}

fn user_steps(living: &[User], declaration: &Declaration, passwords: &[Password], now: Timestamp) -> Vec<UserStep> {
    let people: HashMap<String, &User> = living.iter().map(|user| (user.username.to_ascii_lowercase(), user)).collect();
    let step = |(index, declared): (usize, &super::DeclaredUser)| {
        let Some(&old) = people.get(&declared.name.to_ascii_lowercase()) else { return UserStep::Add };
        let mut new = old.clone();
        let mut fields = Vec::new();
        set(&mut new.username, &declared.name, "name", &mut fields);
        set(&mut new.email, &declared.email, "email", &mut fields);
        set(&mut new.full_name, &declared.full_name, "full_name", &mut fields);
        set(&mut new.is_admin, &declared.admin, "admin", &mut fields);
        if let Some(Password::Set(hash)) = passwords.get(index) {
            new.password_hash = Some(hash.clone());
            fields.push("password");
        }
        if fields.is_empty() {
            return UserStep::Keep(new);
        }
        new.updated_at = now;
        UserStep::Change { old: old.clone(), new, fields }
    };
    declaration.users.iter().enumerate().map(step).collect()
}

fn agent_step(
    conn: &Connection,
    old: Option<&Agent>,
    declared: &DeclaredAgent,
    now: Timestamp,
) -> Result<AgentStep, Error> {
    let Some(old) = old else { return Ok(AgentStep::Add) };
    let mut agent = old.clone();
    let mut fields = fill(&mut agent, declared);
    set(&mut agent.name, &declared.name, "name", &mut fields);
    let parts = Parts::of(conn, old.id)?;
    let new_parts = parts.changed(declared, now);
    fields.extend(parts.differences(&new_parts));
    if fields.is_empty() {
        return Ok(AgentStep::Keep(old.id));
    }
    agent.updated_at = now;
    Ok(AgentStep::Change { agent: Box::new(agent), parts: Box::new((parts, new_parts)), fields })
}
