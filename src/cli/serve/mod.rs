//! `moorline serve`: puts the server together, keeps it running, takes it apart.

mod running;
mod watch;

use serde_json::{Value, json};

use self::running::Running;
use super::args::Serve;
use super::context::Context;
use super::{Failure, Said, logging, print};
use crate::config::{Settings, regions, table::SETTINGS};
use crate::domain::{enrolment, first_user};
use crate::edge::tls::Tls;

pub(super) fn run(context: &Context, arguments: &Serve) -> Result<Option<Said>, Failure> {
    if arguments.check_config {
        return check(context).map(Some);
    }
    logging::start(&context.loaded);
    // Before anything is made, so that no signal finds the program without an answer to it.
    let events = watch::events()?;
    let running = Running::start(&context.loaded.settings)?;
    announce(context, &running)?;
    watch::until_stopped(&events, &running, context);
    running.stop();
    Ok(None)
}

/// Prints the first administrator, if one was made just now, and then that the server is ready.
fn announce(context: &Context, running: &Running) -> Result<(), Failure> {
    let file = context.file().display();
    let url = running.url();
    let admin = first_user::create(running.store())?;
    if context.json {
        let admin = admin.map(|admin| json!({"name": admin.name, "password": admin.password, "token": admin.token}));
        print(&json!({"url": url, "file": file.to_string(), "admin": admin}).to_string());
        return Ok(());
    }
    if let Some(admin) = admin {
        let access = running.access_url();
        print(&format!(
            "This is a new file. Its administrator, shown only now:\n  user      {}\n  password  {}\n  token     {}\n\nNext:\n  coder login {access} --token {}\n  moorline workspace add NAME --owner {} --file {file}\n",
            admin.name, admin.password, admin.token, admin.token, admin.name
        ));
    }
    // Scripts wait for exactly this line.
    print(&format!("ready url={url} file={file}"));
    Ok(())
}

fn check(context: &Context) -> Result<Said, Failure> {
    let settings = &context.loaded.settings;
    check_folder(settings)?;
    if let Some((certificate, key)) = &settings.tls {
        Tls::load(certificate, key)?;
    }
    let mut value = serde_json::Map::new();
    let mut rows = Vec::new();
    for setting in SETTINGS {
        if let Some(raw) = context.values.get(setting.key) {
            value.insert(setting.key.into(), json!({"value": raw.value, "origin": raw.origin}));
            rows.push(vec![setting.key.into(), raw.value.clone(), raw.origin.clone()]);
        }
    }
    if let Some(raw) = context.values.get(regions::KEY) {
        value.insert(regions::KEY.into(), json!({"value": raw.value, "origin": raw.origin}));
        let ids: Vec<String> = settings.derp_regions.iter().map(|region| region.id.to_string()).collect();
        rows.push(vec![regions::KEY.into(), ids.join(", "), raw.origin.clone()]);
    }
    let text = super::table::table(&["setting", "value", "from"], &rows);
    Ok(Said { text: format!("{text}\nThe configuration is good."), value: Value::Object(value) })
}

/// A mistyped name must not become a new file in a place that was never meant, nor be found out by the
/// first machine that asks.
fn check_folder(settings: &Settings) -> Result<(), Failure> {
    if let Some(folder) = settings.bin_dir.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Failure::from(format!("bin_dir: there is no folder {}", folder.display())));
    }
    if let Some(file) = &settings.enrol_ca {
        enrolment::certificates(file)?;
    }
    let folder = settings.file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => {
            let file = settings.file.display();
            Err(Failure::from(format!("{file}: there is no folder {}; make it first", folder.display())))
        }
        _ => Ok(()),
    }
}
