//! One's own account, besides its sessions: the key for git, accounts elsewhere, the password.

pub(in crate::rest) mod linked;
pub(in crate::rest) mod password;
pub(in crate::rest) mod ssh_key;
