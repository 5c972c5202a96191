//! A loaded library: the one place of the server where foreign code is called. Only the plugin process uses it.
#![allow(unsafe_code, reason = "this is the boundary to the plugin's C functions")]

use std::ffi::{CStr, c_char, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use moorline_plugin::abi::{self, Bytes, Sink, Status};

/// Major versions whose symbol is looked for when ours is not there, to name the version that a library was built for.
const MAJORS: u16 = 16;

/// What the host does for a plugin.
pub(super) trait Services: Send + Sync {
    /// One HTTP request, as JSON.
    fn http(&self, request: &[u8]) -> (Status, Vec<u8>);
    /// A line of log.
    fn log(&self, level: i32, text: &[u8]);
    /// Microseconds since 1970 began.
    fn now(&self) -> i64;
    /// Random bytes.
    fn random(&self, buffer: &mut [u8]) -> Status;
    /// A kept value.
    fn cache_get(&self, key: &[u8]) -> (Status, Vec<u8>);
    /// Keeps a value.
    fn cache_put(&self, key: &[u8], value: &[u8], seconds: u32) -> Status;
}

/// The services of this process: a plugin's host is one for all its life.
static SERVICES: OnceLock<Box<dyn Services>> = OnceLock::new();

/// A plugin whose table was taken.
pub(super) struct Library {
    table: abi::Plugin,
}

/// An instance of a plugin. It lives as long as the process.
pub(super) struct Instance {
    table: abi::Plugin,
    this: *mut c_void,
}

// SAFETY: the contract lets any thread call; whether several may at once is the caller's care.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

/// What a library's table shows, whether or not it is taken.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The version of the contract that it was built for.
    pub(super) interface: (u16, u16),
    /// The functions that it has.
    pub(super) functions: Vec<&'static str>,
}

/// What a function gave.
pub(super) type Outcome = (Status, Vec<u8>);

impl Library {
    /// Loads the library that `file` is open on; `path` is its name for messages. Says exactly what is wrong otherwise.
    pub(super) fn load(
        file: OwnedFd,
        path: &Path,
        services: Box<dyn Services>,
        found: &mut Found,
    ) -> Result<Library, String> {
        // By its descriptor, so that it is the very file that was checked.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: running the library's initialisers is what this process is for.
        let handle = unsafe { Handle::open(Some(&name), RTLD_NOW | RTLD_LOCAL) };
        // It stays open for the life of the process.
        std::mem::forget(file);
        let handle = handle.map_err(|error| explain(&words(&error), &name, path))?;
        // SAFETY: the symbol has this type by the contract.
        let symbol = unsafe { handle.get::<abi::Entry>(abi::SYMBOL.as_bytes()) }.map(|symbol| *symbol);
        let entry = symbol.map_err(|_| other_major(&handle))?;
        // Never unloaded: threads and thread-local values of the library may outlive any use of it.
        std::mem::forget(handle);
        if SERVICES.set(services).is_err() {
            return Err("a plugin is loaded in this process already".to_owned());
        }
        let host: &'static abi::Host = Box::leak(Box::new(host_table()));
        // SAFETY: the contract of the symbol; the host's table stays valid.
        let table = unsafe { entry(host) };
        if table.is_null() {
            return Err(format!(
                "it will not work with this host, which speaks version {}.{} of the plugin interface",
                abi::MAJOR,
                abi::MINOR
            ));
        }
        let table = take_table(table, found)?;
        Ok(Library { table })
    }

    /// Asks what it is.
    pub(super) fn describe(&self) -> Outcome {
        match self.table.describe {
            // SAFETY: the contract of the function.
            Some(describe) => with_sink(|sink| unsafe { describe(sink) }),
            None => (abi::UNSUPPORTED, Vec::new()),
        }
    }

    /// Makes an instance.
    pub(super) fn create(&self, setup: &[u8]) -> Result<Instance, Outcome> {
        let Some(create) = self.table.create else { return Err((abi::UNSUPPORTED, Vec::new())) };
        let mut this = std::ptr::null_mut();
        // SAFETY: the contract of the function.
        let (status, reply) = with_sink(|sink| unsafe { create(lend(setup), &raw mut this, sink) });
        if status != abi::OK { Err((status, reply)) } else { Ok(Instance { table: self.table, this }) }
    }
}

impl Instance {
    /// Runs a method.
    pub(super) fn call(&self, method: &str, request: &[u8]) -> Outcome {
        match self.table.call {
            // SAFETY: the contract of the function; `this` is what `create` gave and is never destroyed.
            Some(call) => with_sink(|sink| unsafe { call(self.this, lend(method.as_bytes()), lend(request), sink) }),
            None => (abi::UNSUPPORTED, Vec::new()),
        }
    }
}

/// Copies as much of a plugin's table as both know.
fn take_table(given: *const abi::Plugin, found: &mut Found) -> Result<abi::Plugin, String> {
    // SAFETY: not null; the first fields are readable by the contract.
    let (size, major, minor) = unsafe { ((*given).size, (*given).major, (*given).minor) };
    found.interface = (major, minor);
    if major != abi::MAJOR {
        return Err(format!(
            "it is built for version {major}.{minor} of the plugin interface; this host speaks {}.{}",
            abi::MAJOR,
            abi::MINOR
        ));
    }
    let mut table =
        abi::Plugin { size: 0, major: 0, minor: 0, describe: None, create: None, call: None, destroy: None };
    let known = usize::try_from(size).unwrap_or(0).min(size_of::<abi::Plugin>());
    // Whole pointers only.
    let known = known - known % align_of::<abi::Plugin>();
    // SAFETY: the plugin says that so many bytes are its table; tables grow by whole fields.
    unsafe { std::ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut table).cast::<u8>(), known) };
    let functions = [
        ("describe", table.describe.is_some()),
        ("create", table.create.is_some()),
        ("call", table.call.is_some()),
        ("destroy", table.destroy.is_some()),
    ];
    found.functions = functions.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    // None is destroyed but by the end of the process.
    let needed = functions.iter().filter(|(name, there)| !there && *name != "destroy");
    let lacking: Vec<&str> = needed.map(|(name, _)| *name).collect();
    if !lacking.is_empty() {
        return Err(format!("its table of {size} bytes lacks the function {}", lacking.join(", ")));
    }
    Ok(table)
}

/// Why a library without our symbol is none for this host.
fn other_major(handle: &Handle) -> String {
    let name = abi::SYMBOL.trim_end_matches(|c: char| c.is_ascii_digit());
    let has = |major: &u16| {
        // SAFETY: the address is only looked at.
        *major != abi::MAJOR && unsafe { handle.get::<*const c_void>(format!("{name}{major}").as_bytes()) }.is_ok()
    };
    match (0..=MAJORS).find(has) {
        Some(major) => format!(
            "it is built for major version {major} of the plugin interface; this host speaks {}.{}",
            abi::MAJOR,
            abi::MINOR
        ),
        None => format!("it has no symbol {}: it is not a plugin of Moorline", abi::SYMBOL),
    }
}

/// What the loader said; its error only names the function, and holds the words.
fn words(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The loader's words, with the library's own name, and what a missing version of the C library means.
fn explain(words: &str, name: &str, path: &Path) -> String {
    let words = words.replace(name, &path.display().to_string());
    if words.contains("GLIBC_")
        && let Some(have) = libc_version()
    {
        return format!("{words}; this machine has version {have} of the GNU C library");
    }
    words
}

fn libc_version() -> Option<String> {
    let this = Handle::this();
    // SAFETY: the function takes nothing and gives a text that stays valid.
    let version = unsafe { this.get::<unsafe extern "C" fn() -> *const c_char>(b"gnu_get_libc_version") }.ok()?;
    // SAFETY: as above.
    let text = unsafe { version() };
    if text.is_null() {
        return None;
    }
    // SAFETY: as above.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

fn lend(bytes: &[u8]) -> Bytes {
    Bytes { data: bytes.as_ptr(), len: bytes.len() }
}

/// # Safety
///
/// `bytes` must be readable for the time that the result is used.
unsafe fn read<'a>(bytes: Bytes) -> Option<&'a [u8]> {
    match (bytes.data.is_null(), bytes.len) {
        (_, 0) => Some(&[]),
        (true, _) => None,
        // SAFETY: the caller's promise.
        (false, len) => Some(unsafe { std::slice::from_raw_parts(bytes.data, len) }),
    }
}

/// Collects what a plugin writes, up to what a message may have.
unsafe extern "C" fn collect(context: *mut c_void, bytes: Bytes) {
    // SAFETY: `context` is the vector of [`with_sink`], alive for the time of the call.
    let (Some(into), Some(bytes)) = (unsafe { context.cast::<Vec<u8>>().as_mut() }, unsafe { read(bytes) }) else {
        return;
    };
    let room = (abi::MESSAGE_BYTES + 1).saturating_sub(into.len());
    into.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

fn with_sink(work: impl FnOnce(*const Sink) -> Status) -> Outcome {
    let mut into = Vec::new();
    let sink = Sink { context: (&raw mut into).cast(), write: Some(collect) };
    let status = work(&raw const sink);
    if into.len() > abi::MESSAGE_BYTES {
        return (abi::FAILED, br#"{"code":"too_large","message":"The plugin's reply is too large."}"#.to_vec());
    }
    (status, into)
}

fn give(reply: *const Sink, bytes: &[u8]) {
    // SAFETY: a sink that is not null is good for the time of the call.
    if let Some(sink) = unsafe { reply.as_ref() }
        && let Some(write) = sink.write
    {
        // SAFETY: the plugin copies the bytes before it returns.
        unsafe { write(sink.context, lend(bytes)) };
    }
}

fn host_table() -> abi::Host {
    abi::Host {
        size: u32::try_from(size_of::<abi::Host>()).unwrap_or(0),
        major: abi::MAJOR,
        minor: abi::MINOR,
        context: std::ptr::null_mut(),
        http: Some(http),
        log: Some(log),
        now: Some(now),
        random: Some(random),
        cache_get: Some(cache_get),
        cache_put: Some(cache_put),
    }
}

unsafe extern "C" fn http(_: *mut c_void, request: Bytes, reply: *const Sink) -> Status {
    // SAFETY: the plugin lends its bytes for the time of the call.
    let (Some(services), Some(request)) = (SERVICES.get(), unsafe { read(request) }) else { return abi::INVALID };
    let (status, bytes) = services.http(request);
    give(reply, &bytes);
    status
}

unsafe extern "C" fn log(_: *mut c_void, level: i32, text: Bytes) {
    // SAFETY: the plugin lends its bytes for the time of the call.
    if let (Some(services), Some(text)) = (SERVICES.get(), unsafe { read(text) }) {
        services.log(level, text.get(..abi::LOG_BYTES).unwrap_or(text));
    }
}

unsafe extern "C" fn now(_: *mut c_void) -> i64 {
    SERVICES.get().map_or(0, |services| services.now())
}

unsafe extern "C" fn random(_: *mut c_void, buffer: *mut u8, len: usize) -> Status {
    let Some(services) = SERVICES.get() else { return abi::INVALID };
    if len == 0 {
        return abi::OK;
    }
    if buffer.is_null() || len > abi::RANDOM_BYTES {
        return abi::INVALID;
    }
    // SAFETY: the plugin lends a buffer of this length.
    services.random(unsafe { std::slice::from_raw_parts_mut(buffer, len) })
}

unsafe extern "C" fn cache_get(_: *mut c_void, key: Bytes, reply: *const Sink) -> Status {
    // SAFETY: the plugin lends its bytes for the time of the call.
    let (Some(services), Some(key)) = (SERVICES.get(), unsafe { read(key) }) else { return abi::INVALID };
    let (status, bytes) = services.cache_get(key);
    if status == abi::OK {
        give(reply, &bytes);
    }
    status
}

unsafe extern "C" fn cache_put(_: *mut c_void, key: Bytes, value: Bytes, seconds: u32) -> Status {
    // SAFETY: the plugin lends its bytes for the time of the call.
    let (Some(services), Some(key), Some(value)) = (SERVICES.get(), unsafe { read(key) }, unsafe { read(value) })
    else {
        return abi::INVALID;
    };
    services.cache_put(key, value, seconds)
}
