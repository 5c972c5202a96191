//! Links at external providers, written past the server's own rules.

use moorline::domain::App;
use moorline::model::{Timestamp, UserId};
use moorline::ops::hub::{Hub, Topic};
use moorline::store::external_auth::{self, Link, State};
use moorline::store::{Error, Options, Store, default_key_file};
use moorline_plugin::schema::Token;
use rusqlite::OptionalExtension;

use super::provider::Fake;
use super::{Server, plugins};

/// A token that ends in so many seconds.
pub fn token(access: &str, refresh: &str, seconds: Option<i64>) -> Token {
    let now = Timestamp::now().0 / 1_000_000;
    Token {
        access_token: access.into(),
        refresh_token: refresh.into(),
        expires_at: seconds.map(|seconds| now + seconds),
        extra: None,
    }
}

/// Signs a person in.
pub fn put(app: &App, provider: &str, user: UserId, token: &Token) {
    put_into(&app.store, provider, user, token);
}

/// The same on a file.
pub fn put_into(store: &Store, provider: &str, user: UserId, token: &Token) {
    let row = [provider.as_bytes(), &[0], user.as_bytes().as_slice()].concat();
    let seal =
        |column: &str, text: &str| store.sealer().seal("external_auth_links", column, &row, text.as_bytes()).unwrap();
    let now = Timestamp::now();
    let link = Link {
        provider: provider.into(),
        user,
        created_at: now,
        updated_at: now,
        version: now.0,
        access_sealed: seal("access_sealed", &token.access_token),
        refresh_sealed: (!token.refresh_token.is_empty()).then(|| seal("refresh_sealed", &token.refresh_token)),
        extra_sealed: None,
        expires_at: token.expires_at.map(|seconds| Timestamp(seconds * 1_000_000)),
        state: State::Good,
        failure: String::new(),
    };
    store
        .write(move |write| -> Result<(), Error> {
            external_auth::put(write, &link)?;
            write.publish(Topic::ExternalAuth(user));
            Ok(())
        })
        .unwrap();
}

/// Signs a person out.
pub fn remove(app: &App, provider: &str, user: UserId) {
    let provider = provider.to_owned();
    app.store.write(move |write| external_auth::delete(write, &provider, user).map_err(Error::from)).unwrap();
}

/// The stored row.
pub fn find(app: &App, provider: &str, user: UserId) -> Option<Link> {
    app.store.read(|conn| external_auth::find(conn, provider, user).map_err(Error::from)).unwrap()
}

/// What became of the refreshes in the journal, oldest first; empty: not known yet.
pub fn journal(app: &App) -> Vec<String> {
    app.store
        .read(|conn| {
            conn.prepare("SELECT ifnull(outcome, '') FROM external_auth_refreshes ORDER BY id")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()
                .map_err(Error::from)
        })
        .unwrap()
}

/// The last row of the audit log about this action: result and detail.
pub fn audited(app: &App, action: &str) -> Option<(String, String)> {
    app.store
        .read(|conn| {
            conn.prepare("SELECT result, detail FROM audit_log WHERE action = ? ORDER BY id DESC LIMIT 1")?
                .query_row([action], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
                .map_err(Error::from)
        })
        .unwrap()
}

/// A server with that provider as `gh`, and the token of an agent whose owner is signed in there with `token`.
pub fn linked_server(fake: &Fake, token: &Token) -> (Server, String) {
    let mut server = Server::start();
    server.user("alice");
    let (_, agent) = server.workspace("alice", "dev");
    let users = server.verb(&["user", "list"]);
    let alice = users["users"].as_array().unwrap().iter().find(|user| user["name"] == "alice").unwrap()["id"].clone();
    server.terminate();
    let config = format!(
        "[[external_auth]]\nid = 'gh'\ntype = 'github'\nclient_id = 'client-id'\nclient_secret = 'Cl1entS3cret'\n\
         library = '{}'\nproxy = ''\ntoken_url = '{url}/login/oauth/access_token'\nvalidate_url = '{url}/user'\n\
         revoke_url = '{url}/revoke'\napp_installations_url = '{url}/user/installations'\n",
        plugins::library("moorline-oauth").display(),
        url = fake.url,
    );
    std::fs::write(server.dir().join("moorline.toml"), config).unwrap();
    let store = Store::open(Options {
        file: server.file(),
        key_file: default_key_file(&server.file()),
        create: false,
        readers: 1,
        hub: Hub::default(),
        allow_network_file_system: true,
    })
    .unwrap();
    let alice = UserId(alice.as_str().unwrap().parse().unwrap());
    put_into(&store, "gh", alice, token);
    store.close();
    server.restart();
    (server, agent)
}
