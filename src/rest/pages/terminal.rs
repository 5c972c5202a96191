//! A terminal that fills the window. Its script talks to `…/workspaceagents/{agent}/pty` of this server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};

use super::html::{fill, text};
use super::login::encode;
use super::{assets, guarded, see_other, sign_in_first, signed_in, workspace};
use crate::domain::{Error, Fault};
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::agents;

/// What the page may do. The emulator makes style elements of its own, for colours and the size of cells;
/// the page's script marks them with this page's nonce, so that no other style can get in.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; \
    frame-ancestors 'none'; base-uri 'none'; style-src 'self' 'nonce-";

/// `GET /@{owner}/{workspace}/terminal`, where the workspace may be WORKSPACE.AGENT.
pub(in crate::rest) fn show(call: &Call<'_>) -> Result<Reply, Error> {
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(&super::here(call))) };
    let app = &call.service.app;
    let (name, wanted) = match call.param(1).split_once('.') {
        Some((name, agent)) => (name, Some(agent)),
        None => (call.param(1), None),
    };
    let found = app.store.read(|conn| -> Result<_, Error> {
        let Some(workspace) = workspace::find(conn, &user, call.param(0), name)? else { return Ok(None) };
        let mut agents = agents::of_workspace(conn, workspace.id)?.into_iter();
        // The first one, as clients do that name none.
        let agent = agents.find(|agent| wanted.is_none_or(|wanted| agent.name.eq_ignore_ascii_case(wanted)));
        Ok(agent.map(|agent| (workspace, agent)))
    })?;
    let (workspace, agent) = found.ok_or_else(|| {
        Error::new(Fault::NotFound, "The workspace or its agent does not exist, or you may not see it.")
    })?;
    let mut random = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Error::new(Fault::Internal, "The system gives no random numbers."))?;
    let nonce = STANDARD.encode(random);
    let title = match wanted {
        Some(_) => format!("{}.{}", workspace.name, agent.name),
        None => workspace.name.clone(),
    };
    let own = workspace.owner_id == user.user.id;
    let target = if own { title.clone() } else { format!("{}/{title}", workspace.owner_name) };
    let page = fill(
        include_str!("terminal.html"),
        &[
            ("static", text(&assets::folder())),
            ("nonce", text(&nonce)),
            ("agent", text(&agent.id.to_string())),
            ("title", text(&title)),
            ("owner", text(&workspace.owner_name)),
            ("workspace", text(&workspace.name)),
            ("target", text(&target)),
        ],
    );
    Ok(guarded(200, page, format!("{POLICY}{nonce}'")))
}

/// `GET /{owner}/{workspace}/terminal`: as JetBrains writes it.
pub(in crate::rest) fn elsewhere(call: &Call<'_>) -> Result<Reply, Error> {
    let (owner, name) = (call.param(0), call.param(1));
    // What is below these is for programs, which take a page for an answer.
    let is_reserved = ["api", "bin", "static"].contains(&owner);
    if is_reserved || !super::is_name(owner) || !name.split('.').all(super::is_name) {
        return Err(Error::new(Fault::NotFound, "There is no such page on this server."));
    }
    let query = super::query(call);
    Ok(see_other(format!("/@{}/{}/terminal{query}", encode(owner), encode(name))))
}
