//! Making a declaration true, in one transaction.

use serde_json::{Value, json};

use super::plan::{AgentStep, Password, Plan, UserStep, WorkspaceStep};
use super::{Declaration, DeclaredWorkspace, check, refusal};
use crate::domain::users::{self, NewUser, note};
use crate::domain::workspaces::{self, title};
use crate::domain::{Error, passwords};
use crate::model::{AgentId, Timestamp, WorkspaceId};
use crate::ops::hub::Topic;
use crate::store::audit::Actor;
use crate::store::workspaces::Workspace;
use crate::store::{self, Store, Write};

/// Makes `declaration` true, or says what would be done. Without `prune` nothing is removed.
pub fn apply(
    store: &Store,
    actor: &Actor,
    declaration: Declaration,
    dry_run: bool,
    prune: bool,
) -> Result<Value, Error> {
    let problems = check::check(&declaration);
    if !problems.is_empty() {
        return Err(refusal(&declaration.source, declaration.format, problems));
    }
    let passwords = prepare_passwords(store, &declaration, dry_run)?;
    let outcome = store.read(|conn| {
        let plan = Plan::make(conn, &declaration, &passwords, prune, Timestamp::now())?;
        let changes = plan.changes(&declaration);
        Ok::<_, Error>((dry_run || changes.is_empty()).then(|| Outcome::of_plan(&plan, &declaration, changes)))
    })?;
    if let Some(outcome) = outcome {
        return Ok(outcome.view(&declaration, dry_run));
    }
    let (handle, actor) = (store.clone(), actor.clone());
    store.write(move |write| {
        let now = Timestamp::now();
        // Planned again: the store may have changed since, and this plan is the one that counts.
        let plan = Plan::make(write, &declaration, &passwords, prune, now)?;
        let changes = plan.changes(&declaration);
        let outcome =
            Doer { write, store: &handle, actor: &actor, now }.run(&plan, &declaration, &passwords, changes)?;
        Ok(outcome.view(&declaration, false))
    })
}

/// Compares and hashes passwords, outside of the writer: each takes about 26 ms.
fn prepare_passwords(store: &Store, declaration: &Declaration, dry_run: bool) -> Result<Vec<Password>, Error> {
    let prepare = |user: &super::DeclaredUser| {
        let Some(password) = &user.password else { return Ok(Password::Keep) };
        let old = store.read(|conn| store::users::by_username(conn, &user.name).map_err(Error::from))?;
        let stored = old.and_then(|old| old.password_hash);
        if stored.is_some() && passwords::verify(password, stored.as_deref()) {
            return Ok(Password::Keep);
        }
        if dry_run { Ok(Password::Set(String::new())) } else { passwords::hash(password).map(Password::Set) }
    };
    declaration.users.iter().map(prepare).collect()
}

/// What `apply` prints.
struct Outcome {
    /// `None`: not added yet.
    users: Vec<(Option<crate::model::UserId>, bool)>,
    workspaces: Vec<(Option<WorkspaceId>, bool, Vec<AgentOutcome>)>,
    changes: Vec<Value>,
    kept: Vec<Value>,
}

type AgentOutcome = (Option<AgentId>, Option<uuid::Uuid>);

impl Outcome {
    fn of_plan(plan: &Plan, declaration: &Declaration, changes: Vec<Value>) -> Outcome {
        let users = plan.users.iter().map(|step| match step {
            UserStep::Add => (None, true),
            UserStep::Keep(user) | UserStep::Change { new: user, .. } => (Some(user.id), false),
        });
        let agent = |step: &AgentStep| match step {
            AgentStep::Add => (None, None),
            AgentStep::Keep(id) => (Some(*id), None),
            AgentStep::Change { agent, .. } => (Some(agent.id), None),
        };
        let workspaces = plan.workspaces.iter().map(|step| {
            let id = step.old.as_ref().map(|old| old.id);
            (id, id.is_none(), step.agents.iter().map(agent).collect())
        });
        debug_assert_eq!(declaration.users.len(), plan.users.len());
        Outcome { users: users.collect(), workspaces: workspaces.collect(), changes, kept: kept(plan) }
    }

    fn view(&self, declaration: &Declaration, dry_run: bool) -> Value {
        let users: Vec<Value> = declaration
            .users
            .iter()
            .zip(&self.users)
            .map(|(user, (id, created))| json!({"name": user.name, "id": id, "created": created}))
            .collect();
        let workspaces: Vec<Value> = declaration
            .workspaces
            .iter()
            .zip(&self.workspaces)
            .map(|(workspace, (id, created, agents))| {
                let agents: Vec<Value> = workspace
                    .agents
                    .iter()
                    .zip(agents)
                    .map(|(agent, (id, token))| json!({"id": id, "name": agent.name, "token": token}))
                    .collect();
                json!({
                    "owner": workspace.owner, "name": workspace.name, "id": id, "created": created, "agents": agents,
                })
            })
            .collect();
        json!({
            "users": users, "workspaces": workspaces, "changes": self.changes, "kept": self.kept, "dry_run": dry_run,
        })
    }
}

fn kept(plan: &Plan) -> Vec<Value> {
    plan.kept.iter().map(|(kind, name, why)| json!({"kind": kind, "name": name, "reason": why})).collect()
}

struct Doer<'a> {
    write: &'a Write<'a>,
    store: &'a Store,
    actor: &'a Actor,
    now: Timestamp,
}

impl Doer<'_> {
    fn run(
        &self,
        plan: &Plan,
        declaration: &Declaration,
        passwords: &[Password],
        changes: Vec<Value>,
    ) -> Result<Outcome, Error> {
        for workspace in &plan.drop_workspaces {
            workspaces::remove_in(self.write, self.actor, workspace, self.now)?;
        }
        for user in &plan.drop_users {
            users::remove_in(self.write, self.actor, user, self.now)?;
        }
        self.free_addresses(plan)?;
        let mut outcome = Outcome { users: Vec::new(), workspaces: Vec::new(), changes, kept: kept(plan) };
        for ((declared, step), password) in declaration.users.iter().zip(&plan.users).zip(passwords) {
            outcome.users.push(self.user(declared, step, password)?);
        }
        for (declared, step) in declaration.workspaces.iter().zip(&plan.workspaces) {
            outcome.workspaces.push(self.workspace(declared, step)?);
        }
        Ok(outcome)
    }

    /// Takes the old addresses out of the way of the new ones: two people may swap theirs.
    fn free_addresses(&self, plan: &Plan) -> Result<(), Error> {
        for step in &plan.users {
            if let UserStep::Change { old, fields, .. } = step
                && fields.contains(&"email")
            {
                let mut parked = old.clone();
                parked.email = old.id.to_string();
                store::users::update(self.write, &parked)?;
            }
        }
        Ok(())
    }

    fn user(
        &self,
        declared: &super::DeclaredUser,
        step: &UserStep,
        password: &Password,
    ) -> Result<(Option<crate::model::UserId>, bool), Error> {
        match step {
            UserStep::Keep(user) => Ok((Some(user.id), false)),
            UserStep::Add => {
                let new = NewUser {
                    name: declared.name.clone(),
                    email: declared.email.clone(),
                    full_name: declared.full_name.clone(),
                    admin: declared.admin,
                    password: None,
                };
                let hash = match password {
                    Password::Set(hash) => Some(hash.clone()),
                    Password::Keep => None,
                };
                let user = users::insert(self.write, self.store, self.actor, new, hash, self.now)?;
                Ok((Some(user.id), true))
            }
            UserStep::Change { new, fields, .. } => {
                let mut user = new.clone();
                store::users::update(self.write, &user)?;
                if let Password::Set(hash) = password {
                    users::set_hash_in(self.write, self.actor, &mut user, hash.clone(), self.now)?;
                }
                if fields.contains(&"admin") {
                    // What the person has open was opened with other rights.
                    self.write.publish(Topic::UserRevoked(user.id));
                }
                note(self.write, self.now, self.actor, "user.update", &user.username, &fields.join(", "))?;
                Ok((Some(user.id), false))
            }
        }
    }

    fn workspace(
        &self,
        declared: &DeclaredWorkspace,
        step: &WorkspaceStep,
    ) -> Result<(Option<WorkspaceId>, bool, Vec<AgentOutcome>), Error> {
        let workspace = match &step.old {
            Some(old) => old.clone(),
            None => {
                let owner = users::find(self.write, &declared.owner)?;
                let new = Workspace {
                    id: WorkspaceId::random(),
                    owner_id: owner.id,
                    owner_name: owner.username,
                    name: declared.name.clone(),
                    created_at: self.now,
                    updated_at: self.now,
                    last_used_at: self.now,
                };
                workspaces::insert_in(self.write, self.actor, &new, self.now)?;
                new
            }
        };
        if step.rename {
            store::workspaces::rename(self.write, workspace.id, &declared.name, self.now)?;
        }
        let mut changed = step.rename;
        for agent in &step.drop_agents {
            for child in store::agents::of_parent(self.write, agent.id)? {
                self.write.publish(Topic::AgentRevoked(child.id));
            }
            store::agents::remove(self.write, agent.id, self.now)?;
            self.write.publish(Topic::AgentRevoked(agent.id));
            self.write.publish(Topic::Agent(agent.id));
            changed = true;
        }
        let mut agents = Vec::with_capacity(step.agents.len());
        for (declared, agent) in declared.agents.iter().zip(&step.agents) {
            changed |= !matches!(agent, AgentStep::Keep(_));
            agents.push(match agent {
                AgentStep::Keep(id) => (Some(*id), None),
                AgentStep::Add => {
                    let issued = workspaces::insert_agent_in(self.write, self.store, &workspace, declared, self.now)?;
                    (Some(issued.id), Some(issued.token))
                }
                AgentStep::Change { agent, parts, fields } => {
                    store::agents::update_declaration(self.write, agent)?;
                    if fields.contains(&"name") {
                        store::agents::rename(self.write, agent.id, &agent.name, self.now)?;
                    }
                    let (old, new) = &**parts;
                    new.write(self.write, agent.id, old, self.now)?;
                    self.write.publish(Topic::Agent(agent.id));
                    self.write.publish(Topic::AgentMetadata(agent.id));
                    (Some(agent.id), None)
                }
            });
        }
        if changed && step.old.is_some() {
            store::workspaces::touch(self.write, workspace.id, self.now)?;
            self.write.publish(Topic::Workspace(workspace.id));
            self.write.publish(Topic::WorkspacesOf(workspace.owner_id));
            note(self.write, self.now, self.actor, "workspace.update", &title(&workspace), "")?;
        }
        Ok((Some(workspace.id), step.old.is_none(), agents))
    }
}
