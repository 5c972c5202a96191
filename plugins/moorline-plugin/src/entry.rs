//! From the exported symbol to an implementation: pointers are checked, panics stop here.
#![allow(unsafe_code, reason = "this is the boundary to C")]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::abi::{self, Bytes, Sink, Status};
use crate::host::{Host, Services};
use crate::plugin::{Answer, Instance, Refusal};
use crate::schema::{HttpRequest, HttpResponse, Refused};

/// Exports the symbol for a type: `declare!(identity MyCloud);` or `declare!(external_auth MyProvider);`, once a library.
#[macro_export]
macro_rules! declare {
    (identity $plugin:ty) => {
        $crate::declare!(@ $crate::plugin::OfIdentity<$plugin>);
    };
    (external_auth $plugin:ty) => {
        $crate::declare!(@ $crate::plugin::OfExternalAuth<$plugin>);
    };
    (@ $instance:ty) => {
        /// The symbol that the host looks up.
        ///
        /// # Safety
        ///
        /// `host` is null or a table as `moorline_plugin::abi` describes it.
        #[allow(unsafe_code, reason = "the symbol must have this very name")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn moorline_plugin_v1(host: *const $crate::abi::Host) -> *const $crate::abi::Plugin {
            // SAFETY: the host passes its own table.
            unsafe { $crate::entry::enter::<$instance>(host) }
        }
    };
}

/// The host that loaded this library.
static HOST: OnceLock<Table> = OnceLock::new();

#[derive(Clone, Copy)]
struct Table(abi::Host);

// SAFETY: the contract says that the host's functions may be used from any thread and its table stays valid.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// Has the table of `P` at hand.
struct Functions<P>(std::marker::PhantomData<P>);

impl<P: Instance> Functions<P> {
    const TABLE: &'static abi::Plugin = &abi::Plugin {
        size: size_of_u32::<abi::Plugin>(),
        major: abi::MAJOR,
        minor: abi::MINOR,
        describe: Some(describe::<P>),
        create: Some(create::<P>),
        call: Some(call::<P>),
        destroy: Some(destroy::<P>),
    };
}

/// The size of a table, which is far below 4 GiB.
const fn size_of_u32<T>() -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "tables are some dozen bytes long")]
    {
        size_of::<T>() as u32
    }
}

/// What the exported symbol does: remembers the host and gives the plugin's table.
///
/// # Safety
///
/// `host` is null or a table as [`crate::abi`] describes it.
pub unsafe fn enter<P: Instance>(host: *const abi::Host) -> *const abi::Plugin {
    if host.is_null() {
        return std::ptr::null();
    }
    // SAFETY: the host promises that its first fields are readable; `size` says how much more is.
    let (size, major) = unsafe { ((*host).size, (*host).major) };
    if major != abi::MAJOR {
        return std::ptr::null();
    }
    let mut table = abi::Host {
        size: 0,
        major: 0,
        minor: 0,
        context: std::ptr::null_mut(),
        http: None,
        log: None,
        now: None,
        random: None,
        cache_get: None,
        cache_put: None,
    };
    let known = usize::try_from(size).unwrap_or(0).min(size_of::<abi::Host>());
    // SAFETY: both are at least `known` bytes long, and every bit pattern of a shorter table leaves whole fields
    // at their initial value as tables only grow by whole fields.
    unsafe {
        std::ptr::copy_nonoverlapping(host.cast::<u8>(), (&raw mut table).cast::<u8>(), known);
    }
    let _ = HOST.set(Table(table));
    Functions::<P>::TABLE
}

unsafe extern "C" fn describe<P: Instance>(reply: *const Sink) -> Status {
    // SAFETY: the host's sink is good for the time of the call.
    guarded(reply, || written(reply, &P::describe()))
}

unsafe extern "C" fn create<P: Instance>(setup: Bytes, instance: *mut *mut c_void, reply: *const Sink) -> Status {
    guarded(reply, || {
        if instance.is_null() {
            return Err(Refusal::invalid("There is no place for the instance."));
        }
        // SAFETY: the host lends these bytes for the time of the call.
        let setup = unsafe { read(setup) }?;
        let host = Host::new(Remote);
        let made = P::create(parsed(setup)?, host)?;
        // SAFETY: checked above; the host owns the place.
        unsafe { *instance = Box::into_raw(Box::new(made)).cast() };
        Ok(())
    })
}

unsafe extern "C" fn call<P: Instance>(
    instance: *mut c_void,
    method: Bytes,
    request: Bytes,
    reply: *const Sink,
) -> Status {
    guarded(reply, || {
        if instance.is_null() {
            return Err(Refusal::invalid("There is no instance."));
        }
        // SAFETY: the host passes what `create` made, and destroys it only when no call is under way.
        let instance = unsafe { &*instance.cast::<P>() };
        // SAFETY: the host lends these bytes for the time of the call.
        let (method, request) = unsafe { (read(method)?, read(request)?) };
        let method = std::str::from_utf8(method).map_err(|_| Refusal::invalid("The method is not UTF-8."))?;
        give(reply, &instance.call(method, request)?);
        Ok(())
    })
}

unsafe extern "C" fn destroy<P: Instance>(instance: *mut c_void) {
    if !instance.is_null() {
        // SAFETY: `create` made it, and the host passes it here once.
        let owned = unsafe { Box::from_raw(instance.cast::<P>()) };
        let _ = catch_unwind(AssertUnwindSafe(move || drop(owned)));
    }
}

/// Runs `work`; a refusal goes into the sink, a panic becomes one.
fn guarded(reply: *const Sink, work: impl FnOnce() -> Answer<()>) -> Status {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Refusal::failed(format!("The plugin panicked: {text}")))
    });
    match result {
        Ok(()) => abi::OK,
        Err(refusal) => {
            if let Ok(json) = serde_json::to_vec(&refusal.refused) {
                give(reply, &json);
            }
            refusal.status
        }
    }
}

fn written(reply: *const Sink, value: &impl Serialize) -> Answer<()> {
    let json = serde_json::to_vec(value).map_err(|error| Refusal::failed(error.to_string()))?;
    give(reply, &json);
    Ok(())
}

fn give(reply: *const Sink, bytes: &[u8]) {
    // SAFETY: a sink that is not null is good for the time of the call.
    if let Some(sink) = unsafe { reply.as_ref() }
        && let Some(write) = sink.write
    {
        // SAFETY: the host copies the bytes before it returns.
        unsafe { write(sink.context, Bytes { data: bytes.as_ptr(), len: bytes.len() }) };
    }
}

/// # Safety
///
/// `bytes` must be readable for the time that the result is used.
unsafe fn read<'a>(bytes: Bytes) -> Answer<&'a [u8]> {
    match (bytes.data.is_null(), bytes.len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Refusal::invalid("A null pointer was passed with a length.")),
        // SAFETY: the caller's promise.
        (false, len) => Ok(unsafe { std::slice::from_raw_parts(bytes.data, len) }),
    }
}

fn parsed<T: DeserializeOwned>(json: &[u8]) -> Answer<T> {
    serde_json::from_slice(json).map_err(|error| Refusal::invalid(format!("The JSON is not as agreed: {error}.")))
}

/// The host behind the C functions.
struct Remote;

/// Collects what the host writes.
unsafe extern "C" fn collect(context: *mut c_void, bytes: Bytes) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `context` is the vector of [`with_sink`], alive for the time of the call.
        if let (Some(into), Ok(bytes)) = (unsafe { context.cast::<Vec<u8>>().as_mut() }, unsafe { read(bytes) }) {
            into.extend_from_slice(bytes);
        }
    }));
}

fn with_sink(work: impl FnOnce(*const Sink) -> Status) -> (Status, Vec<u8>) {
    let mut into = Vec::new();
    let sink = Sink { context: (&raw mut into).cast(), write: Some(collect) };
    let status = work(&raw const sink);
    (status, into)
}

fn lend(bytes: &[u8]) -> Bytes {
    Bytes { data: bytes.as_ptr(), len: bytes.len() }
}

fn table() -> Option<abi::Host> {
    HOST.get().map(|table| table.0)
}

impl Services for Remote {
    fn http(&self, request: &HttpRequest) -> Answer<HttpResponse> {
        let Some((host, http)) = table().and_then(|host| Some((host, host.http?))) else {
            return Err(Refusal::unsupported("The host offers no HTTP."));
        };
        let json = serde_json::to_vec(request).map_err(|error| Refusal::failed(error.to_string()))?;
        // SAFETY: the contract of the host's function.
        let (status, reply) = with_sink(|sink| unsafe { http(host.context, lend(&json), sink) });
        if status == abi::OK {
            return parsed(&reply);
        }
        let refused: Refused = serde_json::from_slice(&reply).unwrap_or_default();
        Err(Refusal { status, refused })
    }

    fn log(&self, level: i32, text: &str) {
        if let Some((host, log)) = table().and_then(|host| Some((host, host.log?))) {
            // SAFETY: the contract of the host's function.
            unsafe { log(host.context, level, lend(text.as_bytes())) };
        }
    }

    fn now_micros(&self) -> i64 {
        // SAFETY: the contract of the host's function.
        table().and_then(|host| host.now.map(|now| unsafe { now(host.context) })).unwrap_or(0)
    }

    fn random(&self, buffer: &mut [u8]) -> Answer<()> {
        let Some((host, random)) = table().and_then(|host| Some((host, host.random?))) else {
            return Err(Refusal::unsupported("The host offers no randomness."));
        };
        for part in buffer.chunks_mut(abi::RANDOM_BYTES) {
            // SAFETY: the contract of the host's function.
            if unsafe { random(host.context, part.as_mut_ptr(), part.len()) } != abi::OK {
                return Err(Refusal::failed("The host gives no randomness."));
            }
        }
        Ok(())
    }

    fn cache_get(&self, key: &str) -> Option<Vec<u8>> {
        let (host, get) = table().and_then(|host| Some((host, host.cache_get?)))?;
        // SAFETY: the contract of the host's function.
        let (status, value) = with_sink(|sink| unsafe { get(host.context, lend(key.as_bytes()), sink) });
        (status == abi::OK).then_some(value)
    }

    fn cache_put(&self, key: &str, value: &[u8], keep: Duration) {
        if let Some((host, put)) = table().and_then(|host| Some((host, host.cache_put?))) {
            let seconds = u32::try_from(keep.as_secs()).unwrap_or(u32::MAX);
            // SAFETY: the contract of the host's function. A value that is not kept is only slower.
            let _ = unsafe { put(host.context, lend(key.as_bytes()), lend(value), seconds) };
        }
    }
}
