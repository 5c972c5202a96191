//! Sealing: secrets that must be shown again are encrypted with a key that is kept outside the file.
//!
//! A sealed value is `version (1) | key id (1) | nonce (12) | ciphertext | tag (16)`. Each place (table,
//! column, row) has a key of its own, derived from the master key by HKDF-SHA256; the cipher is
//! ChaCha20-Poly1305 with a random nonce, and place, version and key id are authenticated. The key id
//! tells a value of another master key from a damaged one.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::place;

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
    /// HMAC-SHA512, so that no derived secret is one of HKDF-SHA256's keys.
    deriver: ring::hmac::Key,
    key_id: u8,
    random: SystemRandom,
}

impl Sealer {
    /// Reads the key file; makes it when `create` is set and it does not exist.
    pub fn open(key_file: &Path, create: bool) -> Result<Sealer, SealError> {
        let fail = |error: &dyn fmt::Display| SealError(format!("the key file {}: {error}", key_file.display()));
        if create && !key_file.exists() {
            make_key_file(key_file).map_err(|error| fail(&error))?;
        }
        Ok(Sealer::new(&read_key_file(key_file).map_err(|error| fail(&error))?))
    }

    /// A sealer with this key.
    pub fn new(key: &Key) -> Sealer {
        // The salt of HKDF is an HMAC key. The label keeps the id apart from every derived key.
        let id = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_ref()), b"moorline key id");
        Sealer {
            salt: Salt::new(HKDF_SHA256, key.as_ref()),
            deriver: ring::hmac::Key::new(ring::hmac::HMAC_SHA512, key.as_ref()),
            key_id: id.as_ref().first().copied().unwrap_or_default(),
            random: SystemRandom::new(),
        }
    }

    /// Seals `plain` for one place.
    pub fn seal(&self, table: &str, column: &str, row: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let failed = |_| SealError("a value cannot be sealed".into());
        let mut nonce = [0_u8; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(failed)?;
        let place = place(table, column, row, self.key_id);
        let key = self.key(&place)?;
        let mut body = Zeroizing::new(Vec::with_capacity(plain.len() + CHACHA20_POLY1305.tag_len()));
        body.extend_from_slice(plain);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&place), &mut *body)
            .map_err(failed)?;
        let mut sealed = Vec::with_capacity(2 + NONCE_LEN + body.len());
        sealed.extend_from_slice(&[VERSION, self.key_id]);
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
        let failed = |why| SealError(format!("a sealed value of {table}.{column} does not open: {why}"));
        let (key_id, rest) = match sealed {
            [VERSION, key_id, rest @ ..] => (*key_id, rest),
            [VERSION] | [] => return Err(failed("it is cut short")),
            _ => return Err(failed("a newer version of the program sealed it")),
        };
        if key_id != self.key_id {
            return Err(failed("it was sealed with another key"));
        }
        let Some((nonce, body)) = rest.split_first_chunk::<NONCE_LEN>() else { return Err(failed("it is cut short")) };
        let place = place(table, column, row, key_id);
        let key = self.key(&place)?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(&place), plain.as_mut_slice())
            .map_err(|_| failed("it was changed, moved, or sealed with another key"))?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    /// A secret for `purpose` alone, the same for as long as the key file is.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 64]> {
        let tag = ring::hmac::sign(&self.deriver, purpose.as_bytes());
        let mut secret = Zeroizing::new([0; 64]);
        // Both have 64 bytes.
        for (byte, of_tag) in secret.iter_mut().zip(tag.as_ref()) {
            *byte = *of_tag;
        }
        secret
    }

    fn key(&self, place: &[u8]) -> Result<LessSafeKey, SealError> {
        let prk = self.salt.extract(&[]);
        let info = [place];
        let okm = prk.expand(&info, &CHACHA20_POLY1305).map_err(|_| SealError("a key cannot be derived".into()))?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

/// Table and column are names of ours and hold no zero byte, so no two places read the same.
fn place(table: &str, column: &str, row: &[u8], key_id: u8) -> Vec<u8> {
    let mut place = Vec::with_capacity(table.len() + column.len() + row.len() + 4);
    place.extend_from_slice(&[VERSION, key_id]);
    place.extend_from_slice(table.as_bytes());
    place.push(0);
    place.extend_from_slice(column.as_bytes());
    place.push(0);
    place.extend_from_slice(row);
    place
}

/// Written beside and renamed, so that a crash never leaves half a key under its name. Its folder is
/// made durable by `create`, before the file that needs the key.
fn make_key_file(key_file: &Path) -> std::io::Result<()> {
    let mut key = Zeroizing::new([0_u8; 32]);
    SystemRandom::new().fill(key.as_mut()).map_err(|_| std::io::Error::other("the system has no randomness"))?;
    let fresh = place::beside(key_file, ".new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(key.as_ref())?;
    file.sync_all()?;
    std::fs::rename(&fresh, key_file)
}

fn read_key_file(key_file: &Path) -> std::io::Result<Key> {
    let file = OpenOptions::new().read(true).open(key_file)?;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 && !is_systemd_credential(key_file) {
        return Err(std::io::Error::other(format!(
            "others than its owner can use it (mode {mode:o}); `chmod 600` it, and replace the key if others had it"
        )));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(64));
    file.take(33).read_to_end(&mut bytes)?;
    let key: [u8; 32] =
        bytes.as_slice().try_into().map_err(|_| std::io::Error::other("it must hold exactly 32 bytes"))?;
    Ok(Zeroizing::new(key))
}

/// systemd guards credentials by the folder and an access list, which shows as group bits.
fn is_systemd_credential(key_file: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| {
        match (std::fs::canonicalize(folder), std::fs::canonicalize(key_file)) {
            (Ok(folder), Ok(key_file)) => key_file.starts_with(folder),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&Zeroizing::new([byte; 32]))
    }

    #[test]
    fn opens_at_its_place_only() {
        let sealer = sealer(1);
        let sealed = sealer.seal("agents", "token_sealed", b"row 1", b"secret").unwrap();
        let open = |table, column, row: &[u8]| sealer.open_sealed(table, column, row, &sealed);
        assert_eq!(open("agents", "token_sealed", b"row 1").unwrap().as_slice(), b"secret");
        assert!(open("agents", "token_sealed", b"row 2").is_err(), "other row");
        assert!(open("agents", "other", b"row 1").is_err(), "other column");
        assert!(open("users", "token_sealed", b"row 1").is_err(), "other table");
    }

    #[test]
    fn tells_another_key_from_damage() {
        let first = sealer(1);
        let second = (2..=255).map(sealer).find(|other| other.key_id != first.key_id).unwrap();
        let sealed = first.seal("t", "c", b"r", b"secret").unwrap();
        let error = second.open_sealed("t", "c", b"r", &sealed).unwrap_err();
        assert!(error.0.contains("another key"), "{error}");
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(first.open_sealed("t", "c", b"r", &bad).is_err(), "byte {at}");
            assert!(first.open_sealed("t", "c", b"r", &sealed[..at]).is_err(), "length {at}");
        }
    }

    #[test]
    fn derives_one_secret_per_key_and_purpose() {
        let secret = sealer(1).derive("a purpose");
        assert_eq!(secret, sealer(1).derive("a purpose"), "the same after a restart");
        assert_ne!(secret, sealer(1).derive("another"));
        assert_ne!(secret, sealer(2).derive("a purpose"));
        assert!(secret.iter().rev().take(32).any(|byte| *byte != 0), "all 64 bytes");
    }

    #[test]
    fn never_seals_twice_alike() {
        let sealer = sealer(1);
        assert_ne!(sealer.seal("t", "c", b"r", b"x").unwrap(), sealer.seal("t", "c", b"r", b"x").unwrap());
    }

    #[test]
    fn refuses_a_key_file_that_others_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(Sealer::open(&path, false).is_err(), "no key file");
        let made = Sealer::open(&path, true).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Sealer::open(&path, true).unwrap().key_id, made.key_id, "never made twice");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let Err(error) = Sealer::open(&path, false) else { panic!("accepted") };
        assert!(error.0.contains("mode 640"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, [0; 33]).unwrap();
        assert!(Sealer::open(&path, false).is_err(), "33 bytes");
    }
}
