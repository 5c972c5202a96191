//! A server in this process with its edge: what `moorline serve` puts together, without the command line.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use moorline::domain::Shared;
use moorline::edge::{self, Edge};
use moorline::ops::jobs::{Jobs, Workers};
use moorline::rest::{self, Rest};
use moorline::streams::Arrivals;

use super::app;

const SECRET: &str = "5ec2e7";

/// A server and where it listens.
pub struct Front {
    pub app: Shared,
    pub address: String,
    pub edge: Option<Edge>,
    rest: Option<Rest>,
    _workers: Workers,
    _folder: tempfile::TempDir,
}

impl Front {
    /// Starts one with some settings changed, and TLS if there is any.
    pub fn start(changed: &[(&'static str, &str)], tls: Option<edge::tls::Tls>) -> Front {
        let folder = tempfile::tempdir().unwrap();
        let (jobs, workers) = Jobs::start("rpc", 2, 64).unwrap();
        let settings = app::settings(folder.path(), changed);
        let loops = settings.loops;
        let app = Arc::new(app::app(settings, "http://127.0.0.1:1", jobs));
        let private = folder.path().join("workers.sock");
        let arrivals = Arrivals::default();
        let listener = std::os::unix::net::UnixListener::bind(&private).unwrap();
        let rest = rest::start(Arc::clone(&app), arrivals.clone(), listener, SECRET.into(), 4).unwrap();
        let public = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = public.local_addr().unwrap().to_string();
        let edge = edge::start(edge::Config {
            listeners: vec![public],
            admin: None,
            tls,
            upstream: private,
            secret: SECRET.into(),
            trusted_proxies: app.settings.trusted_proxies.clone(),
            loops,
            upstream_connections: 8,
            arrivals,
            version_header: "test".into(),
            limits: edge::Limits::default(),
        })
        .unwrap();
        Front { app, address, edge: Some(edge), rest: Some(rest), _workers: workers, _folder: folder }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(edge) = self.edge.take() {
            edge.shutdown(Duration::ZERO);
        }
        if let Some(rest) = self.rest.take() {
            rest.stop();
        }
    }
}
