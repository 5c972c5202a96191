//! A server in this process: its settings, its file, and no sockets.

use std::collections::BTreeMap;
use std::path::Path;

use moorline::config::table::SETTINGS;
use moorline::config::{Raw, Settings, settle};
use moorline::domain::App;
use moorline::ops::hub::Hub;
use moorline::ops::jobs::Jobs;
use moorline::store::{Options, Store};

/// The default settings for a file in `folder`, with some changed.
pub fn settings(folder: &Path, changed: &[(&'static str, &str)]) -> Settings {
    let file = folder.join("m.db").display().to_string();
    let mut values: BTreeMap<&'static str, Raw> = SETTINGS
        .iter()
        .filter(|setting| !setting.default.is_empty())
        .map(|setting| (setting.key, Raw { value: setting.default.into(), origin: "default".into() }))
        .collect();
    for (key, value) in [("file", file.as_str()), ("allow_network_file_system", "true")].iter().chain(changed) {
        values.insert(key, Raw { value: (*value).into(), origin: "test".into() });
    }
    let mut settings = settle(&values).unwrap().settings;
    settings.program = env!("CARGO_BIN_EXE_moorline").into();
    settings
}

/// A server on a new file.
pub fn app(settings: Settings, access_url: &str, jobs: Jobs) -> App {
    let hub = Hub::default();
    let store = Store::open(Options {
        file: settings.file.clone(),
        key_file: settings.key_file.clone(),
        create: true,
        readers: 8,
        hub: hub.clone(),
        allow_network_file_system: true,
    })
    .unwrap();
    App::new(settings, access_url.into(), store, hub, jobs).unwrap()
}
