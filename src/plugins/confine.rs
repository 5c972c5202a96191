//! What a plugin process may not do. Best effort by what the kernel has; `moorline plugin check` says what held.
//!
//! | means | since | what it takes away |
//! | --- | --- | --- |
//! | resource limits | any | core dumps, files written, more than 64 descriptors, more than 256 MiB of memory |
//! | no new privileges | 3.5 | set-user-id programs |
//! | seccomp | 3.17 | sockets, other programs, other processes, namespaces, keys, io_uring |
//! | Landlock | 5.13 | files other than the library and the system's libraries; from 6.7 on TCP, from 6.12 on signals too |

use std::collections::BTreeMap;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use serde::{Deserialize, Serialize};

/// Descriptors: the socket, the library, those that it is linked with while they are loaded.
const DESCRIPTORS: u64 = 64;
/// Writable private memory, bytes: a leak ends as a failed allocation in the plugin's process. Not the address space, of
/// which the allocator reserves far more than it uses.
const MEMORY: u64 = 256 * 1024 * 1024;
/// Where the loader finds what a library is linked with.
const SYSTEM: [&str; 7] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/ld.so.preload"];
/// The newest Landlock whose rights are asked for; an older kernel gives what it has.
const LANDLOCK: ABI = ABI::V6;

/// What held.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Confined {
    /// Resource limits are set.
    pub limits: bool,
    /// Sockets and other programs are out of reach.
    pub seccomp: bool,
    /// `full`, `partial` (an older kernel) or `none`.
    pub landlock: String,
}

/// Confines this process, which has one thread, to what a plugin from `library` needs.
pub(super) fn confine(library: &Path) -> Confined {
    Confined { limits: limits(), landlock: files(library), seccomp: calls() }
}

fn limits() -> bool {
    let most = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).is_ok();
    [
        most(Resource::Core, 0),
        most(Resource::Fsize, 0),
        most(Resource::Nofile, DESCRIPTORS),
        most(Resource::Data, MEMORY),
    ]
    .iter()
    .all(|set| *set)
}

/// Landlock; it sets "no new privileges" too.
fn files(library: &Path) -> String {
    let confined = || -> Result<RulesetStatus, landlock::RulesetError> {
        let readable = SYSTEM.iter().map(Path::new).chain([library]);
        let status = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .add_rules(path_beneath_rules(readable, AccessFs::from_read(LANDLOCK)))?
            .restrict_self()?;
        Ok(status.ruleset)
    };
    match confined() {
        Ok(RulesetStatus::FullyEnforced) => "full",
        Ok(RulesetStatus::PartiallyEnforced) => "partial",
        Ok(RulesetStatus::NotEnforced) | Err(_) => "none",
    }
    .to_owned()
}

/// System calls that no plugin needs, each refused with EPERM.
const REFUSED: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_prlimit64,
];

/// `EPERM` as an unsigned number.
const EPERM: u32 = 1;

fn calls() -> bool {
    let Ok(arch) = std::env::consts::ARCH.try_into() else { return false };
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(EPERM), arch)
        .and_then(BpfProgram::try_from)
        .is_ok_and(|program| apply_filter(&program).is_ok())
}
