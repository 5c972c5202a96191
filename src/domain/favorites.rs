//! What people want to see first, and what they last used.

use std::time::Duration;

use super::{Error, Fault};
use crate::model::{Timestamp, UserId};
use crate::ops::hub::Topic;
use crate::store::workspaces::Workspace;
use crate::store::{Store, favorites, workspaces};

/// A use is written down when the last one is this old; clients tell of it every minute.
const USE_WRITTEN_EVERY: Duration = Duration::from_secs(30);

/// Adds a workspace to its owner's favourites, or takes it out.
pub fn set(store: &Store, user: UserId, workspace: &Workspace, favorite: bool) -> Result<(), Error> {
    if workspace.owner_id != user {
        return Err(Error::new(Fault::Forbidden, "Only workspaces of your own can be your favourites."));
    }
    let id = workspace.id;
    store.write(move |write| {
        let changed = match favorite {
            true => favorites::insert(write, user, id, Timestamp::now())?,
            false => favorites::delete(write, user, id)?,
        };
        if changed {
            write.publish(Topic::Workspace(id));
        }
        Ok(())
    })
}

/// Notes that a person uses a workspace now.
pub fn used(store: &Store, workspace: &Workspace) -> Result<(), Error> {
    let now = Timestamp::now();
    if now.since(workspace.last_used_at) < USE_WRITTEN_EVERY {
        return Ok(());
    }
    let id = workspace.id;
    store.write(move |write| {
        workspaces::used(write, id, now)?;
        write.publish(Topic::Workspace(id));
        Ok(())
    })
}
