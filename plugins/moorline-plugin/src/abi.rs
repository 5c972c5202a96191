//! The contract between host and plugin, in C terms. `include/moorline_plugin.h` is its twin.
//!
//! # Finding each other
//!
//! The host loads the library (`RTLD_NOW | RTLD_LOCAL`), looks up one symbol, [`SYMBOL`], of type [`Entry`], and
//! calls it once with its own table. The plugin answers with the address of its table, or with null if it will not
//! work with this host; it may say why by [`Host::log`] first. Both tables and all they point to stay valid until
//! the process ends: a library is never unloaded.
//!
//! # Versions
//!
//! Both tables begin with `size`, `major`, `minor`. The host refuses a plugin whose `major` is not [`MAJOR`]. Within
//! a major version, functions are only added at the end, so each side reads no further than the smaller `size` says
//! and treats what lies beyond, or is null, as absent. A plugin built for an older or newer minor version is loaded.
//! JSON grows by members; whoever does not know a member ignores it.
//!
//! # Memory
//!
//! Nobody frees what the other side allocated. [`Bytes`] are borrowed for the time of the call. Results are written
//! to a [`Sink`] that the caller provides; the bytes are copied before `write` returns. A callee writes its whole
//! result with one or several `write` calls before it returns, and none after it.
//!
//! # Threads and time
//!
//! `describe` and `create` are called from one thread, before any `call`. Unless the description names the capability
//! [`CONCURRENT`], `call` is never entered while another `call` of the process is under way. With it, up to
//! [`CALLS_AT_ONCE`] threads call at the same time. The host's functions may be used from any thread, but only while
//! a call into the plugin (`describe`, `create`, `call`) is under way; otherwise they answer [`INVALID`]. For one such
//! call the host does at most [`SERVICES_PER_CALL`] services. A call that takes longer than its deadline costs the
//! plugin its process: it is killed, and started anew when it is needed again. Deadlines are [`CREATE_SECONDS`] for
//! `describe` and `create` together and [`CALL_SECONDS`] for each `call`.
//!
//! # Faults
//!
//! No panic, exception or `longjmp` may leave a function of either table. A null pointer where none is allowed is
//! answered with [`INVALID`].

use std::ffi::c_void;

/// Version of this contract that must agree.
pub const MAJOR: u16 = 1;
/// Version of this contract within [`MAJOR`]; counts the functions and methods that were added.
pub const MINOR: u16 = 0;

/// The exported symbol, of type [`Entry`].
pub const SYMBOL: &str = "moorline_plugin_v1";

/// Capability: `call` may be entered from several threads at once.
pub const CONCURRENT: &str = "concurrent";

/// Threads that call a plugin with the capability [`CONCURRENT`] at the same time.
pub const CALLS_AT_ONCE: u32 = 8;
/// Services (`http`, `cache_get`, `cache_put`) that the host does for one call into the plugin; more are [`REFUSED`]. Each may
/// cost a row on disk, so a plugin in a loop must not fill it.
pub const SERVICES_PER_CALL: u32 = 256;
/// Time for `describe` and `create` together, seconds.
pub const CREATE_SECONDS: u32 = 10;
/// Time for a `call`, seconds, with all HTTP requests that it makes.
pub const CALL_SECONDS: u32 = 25;

/// Largest JSON text that goes into or comes out of a plugin, bytes.
pub const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Largest body of an HTTP request or response, bytes.
pub const HTTP_BODY_BYTES: usize = 1024 * 1024;
/// Longest time for one HTTP request, milliseconds.
pub const HTTP_MILLISECONDS: u32 = 10_000;
/// Longest key of a cache entry, bytes.
pub const CACHE_KEY_BYTES: usize = 128;
/// Largest value of a cache entry, bytes.
pub const CACHE_VALUE_BYTES: usize = 64 * 1024;
/// Cache entries of one plugin instance; a new one beyond it takes the place of the oldest.
pub const CACHE_ENTRIES: usize = 64;
/// Longest line of log, bytes; a longer one is cut.
pub const LOG_BYTES: usize = 2048;
/// Most random bytes that are given at once.
pub const RANDOM_BYTES: usize = 4096;

/// What a function came to.
pub type Status = i32;
/// Done; the sink holds the result.
pub const OK: Status = 0;
/// The request was understood and is refused: the document is false, the grant is dead. The sink holds a refusal.
pub const REFUSED: Status = 1;
/// Nothing can be said now: a server was not reached, was busy or broken. The sink holds a refusal.
pub const UNAVAILABLE: Status = 2;
/// The request, a pointer or a JSON text is not what the contract asks for. The sink may hold a refusal.
pub const INVALID: Status = 3;
/// There is no such method, service or entry.
pub const UNSUPPORTED: Status = 4;
/// The callee has a fault. The sink may hold a refusal.
pub const FAILED: Status = 5;

/// Levels of [`Host::log`].
pub const LOG_ERROR: i32 = 1;
/// Something that should not be, but was dealt with.
pub const LOG_WARN: i32 = 2;
/// Something an operator may want to know.
pub const LOG_INFO: i32 = 3;
/// For whoever looks for a fault.
pub const LOG_DEBUG: i32 = 4;

/// Bytes that belong to the caller, borrowed for the time of the call. `data` may be null when `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// The first byte.
    pub data: *const u8,
    /// How many.
    pub len: usize,
}

/// Takes a result. Provided by the caller; good for the time of the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sink {
    /// The caller's own, handed back by each `write`.
    pub context: *mut c_void,
    /// Appends bytes to the result; they are copied.
    pub write: Option<unsafe extern "C" fn(context: *mut c_void, bytes: Bytes)>,
}

/// What the host offers. The plugin copies the pointer; the table stays valid.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Bytes of this table.
    pub size: u32,
    /// [`MAJOR`] of the host.
    pub major: u16,
    /// [`MINOR`] of the host.
    pub minor: u16,
    /// The host's own, handed back by each function.
    pub context: *mut c_void,
    /// Makes one HTTP request: [`crate::schema::HttpRequest`] in, [`crate::schema::HttpResponse`] out. Any status that the
    /// server answers is [`OK`]; [`REFUSED`]: the request is not allowed (egress list, limits); [`UNAVAILABLE`]: no answer.
    pub http: Option<unsafe extern "C" fn(context: *mut c_void, request: Bytes, reply: *const Sink) -> Status>,
    /// Writes a line of UTF-8 to the server's log, under the plugin's name.
    pub log: Option<unsafe extern "C" fn(context: *mut c_void, level: i32, text: Bytes)>,
    /// Microseconds since 1970 began, UTC. Tests set this clock, so use no other.
    pub now: Option<unsafe extern "C" fn(context: *mut c_void) -> i64>,
    /// Fills a buffer of up to [`RANDOM_BYTES`] from the system's secure source.
    pub random: Option<unsafe extern "C" fn(context: *mut c_void, buffer: *mut u8, len: usize) -> Status>,
    /// The value under a key, if it is kept and not too old; else [`UNSUPPORTED`]. Kept sealed, over restarts, for this
    /// provider alone; any entry may be gone at any time.
    pub cache_get: Option<unsafe extern "C" fn(context: *mut c_void, key: Bytes, reply: *const Sink) -> Status>,
    /// Keeps a value for at most `seconds`; 0 removes it.
    pub cache_put: Option<unsafe extern "C" fn(context: *mut c_void, key: Bytes, value: Bytes, seconds: u32) -> Status>,
}

/// What a plugin offers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// Bytes of this table.
    pub size: u32,
    /// [`MAJOR`] that the plugin was built for.
    pub major: u16,
    /// [`MINOR`] that the plugin was built for.
    pub minor: u16,
    /// Says what this is: [`crate::schema::Description`].
    pub describe: Option<unsafe extern "C" fn(reply: *const Sink) -> Status>,
    /// Makes an instance for one provider: [`crate::schema::Setup`] in, `*instance` out. Other than [`OK`]: no instance,
    /// and the provider is down with the refusal in the sink as reason.
    pub create: Option<unsafe extern "C" fn(setup: Bytes, instance: *mut *mut c_void, reply: *const Sink) -> Status>,
    /// Runs a method of an instance; requests and replies are in [`crate::schema`].
    pub call: Option<
        unsafe extern "C" fn(instance: *mut c_void, method: Bytes, request: Bytes, reply: *const Sink) -> Status,
    >,
    /// Ends an instance; no call of it is under way, and none follows.
    pub destroy: Option<unsafe extern "C" fn(instance: *mut c_void)>,
}

/// Type of the exported symbol.
pub type Entry = unsafe extern "C" fn(host: *const Host) -> *const Plugin;
