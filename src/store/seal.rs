//! Sealing: secrets that must be shown again are encrypted with a key that is kept outside the file.

use std::fmt;
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// A 256-bit master key.
pub type Key = Zeroizing<[u8; 32]>;

/// Why a sealer could not be made or a value not be opened.
#[derive(Debug)]
pub struct SealError(pub String);

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SealError {}

/// First byte of a sealed value.
const VERSION: u8 = 1;

/// Seals and opens values. A value is bound to its place: it opens only under the same table,
/// column and row.
pub struct Sealer {
    salt: Salt,
    random: SystemRandom,
}

impl Sealer {
    /// Reads the key file; makes it when `create` is set and it does not exist.
    pub fn open(key_file: &Path, create: bool) -> Result<Sealer, SealError> {
        let fail = |error: &dyn fmt::Display| SealError(format!("key file {}: {error}", key_file.display()));
        if create && !key_file.exists() {
            use std::io::Write;
            use std::os::unix::fs::OpenOptionsExt;
            let mut key = Zeroizing::new([0_u8; 32]);
            SystemRandom::new().fill(key.as_mut()).map_err(|_| fail(&"no randomness"))?;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(key_file)
                .map_err(|error| fail(&error))?;
            file.write_all(key.as_ref()).and_then(|()| file.sync_all()).map_err(|error| fail(&error))?;
        }
        let bytes = Zeroizing::new(std::fs::read(key_file).map_err(|error| fail(&error))?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| fail(&"must hold exactly 32 bytes"))?;
        Ok(Sealer::new(&Zeroizing::new(key)))
    }

    /// A sealer with this key.
    pub fn new(key: &Key) -> Sealer {
        Sealer { salt: Salt::new(HKDF_SHA256, key.as_ref()), random: SystemRandom::new() }
    }

    /// Seals `plain` for one place.
    pub fn seal(&self, table: &str, column: &str, row: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let failed = |_| SealError("cannot seal".into());
        let mut nonce = [0_u8; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(failed)?;
        let place = place(table, column, row);
        let key = self.key(&place)?;
        let mut body = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&place), &mut body)
            .map_err(failed)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens what [`Sealer::seal`] sealed for the same place.
    pub fn open_sealed(
        &self,
        table: &str,
        column: &str,
        row: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let failed = || SealError(format!("a sealed value of {table}.{column} does not open with this key"));
        let Some((&VERSION, rest)) = sealed.split_first() else { return Err(failed()) };
        let Some((nonce, body)) = rest.split_first_chunk::<NONCE_LEN>() else { return Err(failed()) };
        let place = place(table, column, row);
        let key = self.key(&place)?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(&place), plain.as_mut_slice())
            .map_err(|_| failed())?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    fn key(&self, place: &[u8]) -> Result<LessSafeKey, SealError> {
        let prk = self.salt.extract(&[]);
        let info = [place];
        let okm = prk.expand(&info, &CHACHA20_POLY1305).map_err(|_| SealError("cannot derive a key".into()))?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

fn place(table: &str, column: &str, row: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(table.len() + column.len() + row.len() + 2);
    place.extend_from_slice(table.as_bytes());
    place.push(0);
    place.extend_from_slice(column.as_bytes());
    place.push(0);
    place.extend_from_slice(row);
    place
}
