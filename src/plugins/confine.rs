//! What a plugin process may not do. Best effort by what the kernel has; `moorline plugin check` says what held.
//!
//! | means | since | what it takes away |
//! | --- | --- | --- |
//! | capabilities | any | what root may do, when the server runs as root |
//! | resource limits | any | core dumps, files written, more than 64 descriptors, more than 256 MiB of memory |
//! | no new privileges | 3.5 | set-user-id programs |
//! | seccomp | 3.17 | sockets, other programs, new and other processes, rights of files, shared memory, namespaces, keys, io_uring |
//! | Landlock | 5.13 | files other than the library and the system's libraries; from 6.7 on TCP, from 6.12 on signals too |
//!
//! What no means takes away: time of the processor (a spinning call ends with its deadline), threads, and the existence of files,
//! which a look-up by name tells.

use std::collections::BTreeMap;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
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

/// Nothing that root has and others have not.
const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// What held.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Confined {
    /// Resource limits are set, and no capability is left.
    pub limits: bool,
    /// Sockets and other programs are out of reach.
    pub seccomp: bool,
    /// `full`, `partial` (an older kernel) or `none`.
    pub landlock: String,
}

/// Confines this process, which has one thread, to what a plugin from `library` needs.
pub(super) fn confine(library: &Path) -> Confined {
    // First, for root could raise limits again.
    let powerless = set_capabilities(None, NO_CAPABILITIES).is_ok();
    Confined { limits: limits() && powerless, landlock: files(library), seccomp: calls() }
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
    // The network, and other ways to speak with others.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    // Memory that no limit counts.
    libc::SYS_memfd_create,
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
    libc::SYS_prlimit64,
    libc::SYS_setrlimit,
    // What Landlock leaves of files: rights, owners, times, attributes, and being told of changes.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_truncate,
    libc::SYS_inotify_init1,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    // The system.
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
    libc::SYS_io_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_setuid,
    libc::SYS_setgid,
];

/// The same by calls that only this architecture still has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_inotify_init,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// `fchmodat2` (6.6), of the same number everywhere; the C library's names end before it.
const FCHMODAT2: i64 = 452;
/// Bit of a call's number by which x86-64 kernels with the x32 interface take a call a second way.
const X32: i64 = 0x4000_0000;
/// Numbers that x32 has for itself, of calls that are refused: `rt_sigqueueinfo`, `execve`, `ptrace`, `kexec_load`,
/// `rt_tgsigqueueinfo`, `process_vm_readv`, `process_vm_writev`, `io_setup`, `execveat`.
const X32_OWN: [i64; 9] = [524, 520, 521, 528, 536, 539, 540, 543, 545];

/// `EPERM` as an unsigned number.
const EPERM: u32 = 1;
/// `ENOSYS` as an unsigned number.
const ENOSYS: u32 = 38;

/// A rule for calls of which some must work.
fn only(argument: u8, how: SeccompCmpOp, value: u64) -> Option<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value).ok()?;
    SeccompRule::new(vec![condition]).ok()
}

/// Calls that are refused with some arguments.
fn partly() -> Option<[(i64, SeccompRule); 3]> {
    let bits = |bits: i32| u64::from(bits.unsigned_abs());
    let me = u64::from(std::process::id());
    Some([
        // A thread is fine, another process is not.
        (libc::SYS_clone, only(0, SeccompCmpOp::MaskedEq(bits(libc::CLONE_THREAD)), 0)?),
        // What `abort` needs, for nobody but this process.
        (libc::SYS_tgkill, only(0, SeccompCmpOp::Ne, me)?),
        // Anonymous memory that is shared counts towards no limit.
        (libc::SYS_mmap, {
            let shared = bits(libc::MAP_SHARED | libc::MAP_ANONYMOUS);
            only(3, SeccompCmpOp::MaskedEq(shared), shared)?
        }),
    ])
}

fn calls() -> bool {
    let Ok(arch) = std::env::consts::ARCH.try_into() else { return false };
    let Some(partly) = partly() else { return false };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(REFUSED_HERE).chain(&[FCHMODAT2]).map(|call| (*call, Vec::new())).collect();
    rules.extend(partly.into_iter().map(|(call, rule)| (call, vec![rule])));
    if cfg!(target_arch = "x86_64") {
        let twice: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(twice.into_iter().chain(X32_OWN.map(|call| (call | X32, Vec::new()))));
    }
    // Its flags lie in memory, where no filter looks: as on an old kernel, the C library then takes `clone`.
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new()), (libc::SYS_clone3 | X32, Vec::new())]);
    let apply = |rules, errno| {
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch)
            .and_then(BpfProgram::try_from)
            .is_ok_and(|program| apply_filter(&program).is_ok())
    };
    apply(absent, ENOSYS) && apply(rules, EPERM)
}
