//! The ed25519 key pair with which a person's workspaces reach git hosts, in the two forms that
//! OpenSSH reads: an authorized-keys line and an `openssh-key-v1` file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use super::users::note;
use super::{Error, Fault};
use crate::model::{Timestamp, UserId};
use crate::store::audit::By;
use crate::store::users::{self, GitSshKey, User};
use crate::store::{Sealer, Store};

const TABLE: &str = "git_ssh_keys";
const COLUMN: &str = "private_key_sealed";
const ALGORITHM: &[u8] = b"ssh-ed25519";
/// Characters of a line of the private file, as ssh-keygen writes it.
const LINE: usize = 70;
/// The private part of the file is padded to a multiple of this (the block size of cipher `none`).
const BLOCK: usize = 8;

/// A fresh pair for `user`; the private half is sealed for its row.
pub fn generate(sealer: &Sealer, user: UserId, now: Timestamp) -> Result<GitSshKey, Error> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    let mut check = [0_u8; 4];
    let random = SystemRandom::new();
    random.fill(seed.as_mut()).and_then(|()| random.fill(&mut check)).map_err(|_| failed("no randomness"))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| failed("the key was rejected"))?;
    let public = pair.public_key().as_ref();
    let private = private_file(&seed, public, check);
    let private_key_sealed =
        sealer.seal(TABLE, COLUMN, user.as_bytes(), private.as_bytes()).map_err(|error| failed(&error.to_string()))?;
    Ok(GitSshKey {
        user_id: user,
        public_key: public_line(public),
        private_key_sealed,
        created_at: now,
        updated_at: now,
    })
}

/// The private file of a pair, PEM with a newline at its end.
pub fn open(sealer: &Sealer, key: &GitSshKey) -> Result<String, Error> {
    let plain = sealer
        .open_sealed(TABLE, COLUMN, key.user_id.as_bytes(), &key.private_key_sealed)
        .map_err(|error| failed(&error.to_string()))?;
    std::str::from_utf8(&plain).map(str::to_owned).map_err(|_| failed("the private key is not text"))
}

/// Gives a person a new pair in place of the old one, which is gone.
pub fn renew(store: &Store, by: &By, user: &User) -> Result<GitSshKey, Error> {
    let now = Timestamp::now();
    let key = generate(store.sealer(), user.id, now)?;
    let (by, name) = (by.clone(), user.username.clone());
    store.write(move |write| -> Result<GitSshKey, Error> {
        users::put_git_ssh_key(write, &key)?;
        note(write, now, &by, "user.gitsshkey", &name, "")?;
        // The instant of the first pair stays.
        Ok(users::git_ssh_key(write, key.user_id)?.unwrap_or(key))
    })
}

fn failed(why: &str) -> Error {
    Error::new(Fault::Internal, "The git SSH key could not be made or read.").detail(why)
}

fn public_line(public: &[u8]) -> String {
    // No comment: the real server has none either (coderd/gitsshkey/gitsshkey.go, v2.24.0).
    format!("ssh-ed25519 {}\n", STANDARD.encode(public_blob(public)))
}

fn public_blob(public: &[u8]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(51);
    put(&mut blob, ALGORITHM);
    put(&mut blob, public);
    blob
}

/// OpenSSH's PROTOCOL.key: magic, cipher, kdf, kdf options, number of keys, public blob, and the
/// private list (the same check number twice, the key, a comment, padding 1, 2, 3, …).
fn private_file(seed: &[u8; 32], public: &[u8], check: [u8; 4]) -> Zeroizing<String> {
    let mut list = Zeroizing::new(Vec::with_capacity(256));
    list.extend_from_slice(&check);
    list.extend_from_slice(&check);
    put(&mut list, ALGORITHM);
    put(&mut list, public);
    let mut secret = Zeroizing::new(Vec::with_capacity(64));
    secret.extend_from_slice(seed);
    secret.extend_from_slice(public);
    put(&mut list, &secret);
    put(&mut list, b"");
    for padding in 1_u8.. {
        if list.len().is_multiple_of(BLOCK) {
            break;
        }
        list.push(padding);
    }
    let mut file = Zeroizing::new(Vec::with_capacity(512));
    file.extend_from_slice(b"openssh-key-v1\0");
    put(&mut file, b"none");
    put(&mut file, b"none");
    put(&mut file, b"");
    file.extend_from_slice(&1_u32.to_be_bytes());
    put(&mut file, &public_blob(public));
    put(&mut file, &list);

    let body = Zeroizing::new(STANDARD.encode(&*file));
    let mut pem = Zeroizing::new(String::with_capacity(body.len() + 100));
    pem.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let mut rest: &str = &body;
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    pem
}

/// An SSH string: its length in four bytes, then itself.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&Zeroizing::new([7; 32]))
    }

    #[test]
    fn ssh_keygen_reads_the_private_file() {
        if Command::new("ssh-keygen").arg("-?").output().is_err() {
            eprintln!("ssh-keygen is not installed; its opinion is not asked");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for round in 0..8 {
            let key = generate(&sealer(), UserId::random(), Timestamp(1)).unwrap();
            let path = folder.path().join(format!("id{round}"));
            std::fs::write(&path, open(&sealer(), &key).unwrap()).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let output = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), key.public_key.trim_end());
        }
    }

    #[test]
    fn has_the_form_that_clients_expect() {
        let key = generate(&sealer(), UserId::random(), Timestamp(5)).unwrap();
        let private = open(&sealer(), &key).unwrap();
        assert!(key.public_key.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"), "{}", key.public_key);
        assert_eq!(key.public_key.matches(' ').count(), 1, "no comment");
        assert!(key.public_key.ends_with('\n'));
        assert!(private.ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
        assert!(private.lines().all(|line| line.len() <= LINE));
        assert_eq!((key.created_at, key.updated_at), (Timestamp(5), Timestamp(5)));
    }

    #[test]
    fn opens_only_in_its_own_row() {
        let mut key = generate(&sealer(), UserId::random(), Timestamp(5)).unwrap();
        key.user_id = UserId::random();
        assert_eq!(open(&sealer(), &key).unwrap_err().fault, Fault::Internal);
    }
}
