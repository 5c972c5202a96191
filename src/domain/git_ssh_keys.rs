//! The key pair with which a person's workspaces reach git hosts: Ed25519, made with the person.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use super::{Error, Fault};
use crate::model::{Timestamp, UserId};
use crate::store::users::GitSshKey;
use crate::store::{SealError, Sealer};

const KIND: &[u8] = b"ssh-ed25519";
/// Characters of base64 per line, as `ssh-keygen` writes them.
const LINE: usize = 70;
/// The cipher block that an unencrypted key file is padded to.
const BLOCK: usize = 8;

/// A fresh key pair for a person, its private half sealed.
pub fn generate(sealer: &Sealer, user: UserId, now: Timestamp) -> Result<GitSshKey, Error> {
    let random = SystemRandom::new();
    let mut seed = Zeroizing::new([0_u8; 32]);
    let mut check = [0_u8; 4];
    random
        .fill(seed.as_mut())
        .and_then(|()| random.fill(&mut check))
        .map_err(|_| failed("The system gives no randomness."))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| failed("The seed was refused."))?;
    let public = pair.public_key().as_ref();
    let private = private_file(&seed, public, check);
    let private_key_sealed =
        sealer.seal("git_ssh_keys", "private_key", user.as_bytes(), private.as_bytes()).map_err(sealing)?;
    let mut blob = Vec::new();
    string(&mut blob, KIND);
    string(&mut blob, public);
    let public_key = format!("ssh-ed25519 {}\n", STANDARD.encode(blob));
    Ok(GitSshKey { user_id: user, public_key, private_key_sealed, created_at: now, updated_at: now })
}

/// The private half as the text of a key file that `ssh -i` reads.
pub fn private_key(sealer: &Sealer, key: &GitSshKey) -> Result<Zeroizing<String>, Error> {
    let plain = sealer
        .open_sealed("git_ssh_keys", "private_key", key.user_id.as_bytes(), &key.private_key_sealed)
        .map_err(sealing)?;
    String::from_utf8(plain.to_vec()).map(Zeroizing::new).map_err(|_| failed("The stored key is not text."))
}

fn failed(detail: &str) -> Error {
    Error::new(Fault::Internal, "The git SSH key is not available.").detail(detail)
}

fn sealing(error: SealError) -> Error {
    log::error!("git ssh key: {error}");
    failed(&error.to_string())
}

/// OpenSSH's own format, version 1, unencrypted (PROTOCOL.key of OpenSSH).
fn private_file(seed: &[u8; 32], public: &[u8], check: [u8; 4]) -> Zeroizing<String> {
    let mut public_blob = Vec::new();
    string(&mut public_blob, KIND);
    string(&mut public_blob, public);

    let mut secret = Zeroizing::new(Vec::with_capacity(160));
    secret.extend_from_slice(&check);
    secret.extend_from_slice(&check);
    string(&mut secret, KIND);
    string(&mut secret, public);
    let mut both = Zeroizing::new(seed.to_vec());
    both.extend_from_slice(public);
    string(&mut secret, &both);
    string(&mut secret, b"");
    for pad in 1_u8.. {
        if secret.len().is_multiple_of(BLOCK) {
            break;
        }
        secret.push(pad);
    }

    let mut file = Zeroizing::new(b"openssh-key-v1\0".to_vec());
    string(&mut file, b"none");
    string(&mut file, b"none");
    string(&mut file, b"");
    file.extend_from_slice(&1_u32.to_be_bytes());
    string(&mut file, &public_blob);
    string(&mut file, &secret);

    let body = Zeroizing::new(STANDARD.encode(&*file));
    let mut text = Zeroizing::new(String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    text
}

/// A string as SSH writes it: big-endian length, then the bytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn makes_a_pair_that_opens_with_its_own_sealer_only() {
        let sealer = Sealer::new(&Zeroizing::new([7; 32]));
        let key = generate(&sealer, UserId::random(), Timestamp(0)).unwrap();
        assert!(key.public_key.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI") && key.public_key.ends_with('\n'));
        let text = private_key(&sealer, &key).unwrap();
        assert!(
            text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n")
                && text.ends_with("-----END OPENSSH PRIVATE KEY-----\n")
        );
        assert!(private_key(&Sealer::new(&Zeroizing::new([8; 32])), &key).is_err());
    }

    #[test]
    fn writes_the_file_that_ssh_keygen_reads() {
        // ssh-keygen -y gives the public half back; where it is not installed the layout test below stands.
        let sealer = Sealer::new(&Zeroizing::new([7; 32]));
        let key = generate(&sealer, UserId::random(), Timestamp(0)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        std::fs::write(&path, private_key(&sealer, &key).unwrap().as_bytes()).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let Ok(output) = std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output() else {
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), key.public_key.trim());
    }
}
