//! TLS: certificate files, and swapping them while running.
//!
//! All of rustls that the server side uses is here and in `transport.rs`, so that its next major
//! version is a change of two files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ring::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// Plaintext and records that rustls may hold for a connection in each direction, bytes. The rest
/// waits in the connection's own queue, where it is counted.
const BUFFER_BYTES: usize = 64 * 1024;

/// Why certificate files were not taken.
#[derive(Debug)]
pub enum Error {
    /// A file cannot be read or is not PEM.
    File(PathBuf, String),
    /// The certificate file holds no certificate.
    Empty(PathBuf),
    /// The key does not fit the certificate, or is of an unknown kind.
    Unusable(rustls::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "The TLS file {} cannot be used: {error}.", path.display()),
            Self::Empty(path) => write!(f, "The TLS file {} holds no certificate.", path.display()),
            Self::Unusable(error) => write!(f, "The TLS certificate and key cannot be used: {error}."),
        }
    }
}

impl std::error::Error for Error {}

/// A certificate and its key, as read from two files.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
    /// SHA-256 of both files as last read, good or bad, so that nothing is done or said twice.
    seen: Mutex<digest::Digest>,
}

impl Tls {
    /// Reads PEM files: a chain, leaf first, and its private key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Tls, Error> {
        let (pem, print) = read(certificate, key)?;
        Ok(Tls {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(Arc::new(configure(certificate, key, &pem)?)),
            seen: Mutex::new(print),
        })
    }

    /// Reads the files again; says whether there was something new. Connections made from now on use
    /// it. Files that cannot be used change nothing.
    pub fn reload(&self) -> Result<bool, Error> {
        let (pem, print) = read(&self.certificate, &self.key)?;
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.as_ref() == print.as_ref() {
                return Ok(false);
            }
            *seen = print;
        }
        let config = Arc::new(configure(&self.certificate, &self.key, &pem)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(true)
    }

    /// The state of a new connection.
    pub(super) fn session(&self) -> Result<ServerConnection, rustls::Error> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let mut session = ServerConnection::new(config)?;
        session.set_buffer_limit(Some(BUFFER_BYTES));
        Ok(session)
    }
}

fn read(certificate: &Path, key: &Path) -> Result<([Vec<u8>; 2], digest::Digest), Error> {
    let open = |path: &Path| std::fs::read(path).map_err(|error| Error::File(path.to_owned(), error.to_string()));
    let pem = [open(certificate)?, open(key)?];
    let mut print = digest::Context::new(&digest::SHA256);
    for file in &pem {
        print.update(&u64::try_from(file.len()).unwrap_or(u64::MAX).to_le_bytes());
        print.update(file);
    }
    Ok((pem, print.finish()))
}

fn configure(certificate: &Path, key: &Path, [chain, secret]: &[Vec<u8>; 2]) -> Result<ServerConfig, Error> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::File(certificate.to_owned(), error.to_string()))?;
    if chain.is_empty() {
        return Err(Error::Empty(certificate.to_owned()));
    }
    let secret =
        PrivateKeyDer::from_pem_slice(secret).map_err(|error| Error::File(key.to_owned(), error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(Error::Unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Tickets hold the session on the client's side: hundreds of agents that come back after a restart
    // of the network cost no handshake each, and nothing is remembered here.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(Error::Unusable)?;
    Ok(config)
}
