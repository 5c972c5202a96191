/*
 * moorline_plugin.h - the plugin interface of Moorline, version 1.0, for C11.
 *
 * A plugin is a shared library that proves which machine speaks (kind "identity") or signs people in at a provider
 * (kind "external-auth"). It needs nothing but this header and the C library: it opens no sockets, reads no files and
 * starts no other program, but asks the host for HTTP, time, randomness, a small cache and the log.
 *
 * Build:   cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -o my-plugin.so my-plugin.c
 * Look at: moorline plugin check /absolute/path/my-plugin.so
 * Test:    moorline plugin test /absolute/path/my-plugin.so --recording conversations.json
 *
 * SHAPE. The host loads the library and looks up one symbol, moorline_plugin_v1. It calls that once, with its own
 * table of functions; the plugin answers with the address of its own table:
 *
 *     static const struct moorline_host *host;
 *     static const struct moorline_plugin table = {
 *         .size = sizeof table, .major = MOORLINE_MAJOR, .minor = MOORLINE_MINOR,
 *         .describe = describe, .create = create, .call = call, .destroy = destroy,
 *     };
 *     MOORLINE_EXPORT const struct moorline_plugin *moorline_plugin_v1(const struct moorline_host *given) {
 *         if (given == NULL || given->major != MOORLINE_MAJOR) return NULL;
 *         host = given;
 *         return &table;
 *     }
 *
 * A plugin that will not work with this host returns NULL; it may say why by host->log first. Both tables, and all they
 * point to, must stay valid until the process ends: a library is never unloaded.
 *
 * VERSIONS. Both tables begin with size, major, minor. The host refuses a plugin of another major version. Within a
 * major version, functions are only added at the end, so read no further than `size` says, and treat what lies beyond,
 * or is null, as absent (MOORLINE_HAS does both). A plugin built for an older or a newer minor version is loaded. JSON
 * grows by members: ignore those that you do not know.
 *
 * MEMORY. Nobody frees what the other side allocated. A struct moorline_bytes is borrowed for the time of the call:
 * copy what you keep. Results are written to a sink that the caller provides; the bytes are copied before `write`
 * returns. Write the whole result, with one or several `write` calls, before you return, and nothing after it.
 * Texts are UTF-8 with a length; none of them ends with a zero byte.
 *
 * THREADS AND TIME. `describe` and `create` are called from one thread, before any `call`. Unless the description
 * names the capability "concurrent", `call` is never entered while another `call` of the process is under way; with it,
 * up to MOORLINE_CALLS_AT_ONCE threads call at the same time. The host's functions may be used from any thread, but
 * only while a call into the plugin (describe, create, call) is under way; otherwise they answer MOORLINE_INVALID. For
 * one such call the host does at most MOORLINE_SERVICES_PER_CALL services (http, cache_get, cache_put together) and
 * answers MOORLINE_REFUSED to more. A call that takes longer than its deadline costs the plugin its process: it is
 * killed, and started anew when it is needed again.
 *
 * FAULTS. No exception and no longjmp may leave a function of either table. A crash ends the plugin's process and
 * nothing else; the call fails, and the provider is down for a pause that doubles with each failure in a row.
 *
 * WHAT A PLUGIN MAY NOT DO. Its process has no environment and no descriptors but the link to the server. Where the
 * kernel can do it, sockets, other programs, other processes, and files beyond the system's libraries are out of reach
 * (EPERM, EACCES); memory is limited to 256 MiB, of which each thread's stack takes 8 MiB unless you choose less.
 *
 * JSON. Binary values are base64 (standard alphabet, padded); instants are integers, seconds since 1970 began, UTC.
 *
 * All of this is checked against the host's own definitions by a test.
 */
#ifndef MOORLINE_PLUGIN_H
#define MOORLINE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this contract that must agree. */
#define MOORLINE_MAJOR 1
/* Version within MOORLINE_MAJOR; counts the functions and methods that were added. */
#define MOORLINE_MINOR 0
/* Name of the exported symbol. */
#define MOORLINE_SYMBOL "moorline_plugin_v1"

/* Capability: `call` may be entered from several threads at once. */
#define MOORLINE_CONCURRENT "concurrent"
/* Threads that call a plugin with that capability at the same time. */
#define MOORLINE_CALLS_AT_ONCE 8
/* Services (http, cache_get, cache_put) that the host does for one call into the plugin. */
#define MOORLINE_SERVICES_PER_CALL 256

/* Time for `describe` and `create` together, seconds. */
#define MOORLINE_CREATE_SECONDS 10
/* Time for a `call`, seconds, with all HTTP requests that it makes. */
#define MOORLINE_CALL_SECONDS 25
/* Longest time for one HTTP request, milliseconds. */
#define MOORLINE_HTTP_MILLISECONDS 10000

/* Largest JSON text that goes into or comes out of a plugin, bytes. */
#define MOORLINE_MESSAGE_BYTES 4194304
/* Largest body of an HTTP request or response, bytes (before base64). */
#define MOORLINE_HTTP_BODY_BYTES 1048576
/* Longest key of a cache entry, bytes. */
#define MOORLINE_CACHE_KEY_BYTES 128
/* Largest value of a cache entry, bytes. */
#define MOORLINE_CACHE_VALUE_BYTES 65536
/* Cache entries of one provider; a new one beyond it takes the place of the oldest. */
#define MOORLINE_CACHE_ENTRIES 64
/* Longest line of log, bytes; a longer one is cut. */
#define MOORLINE_LOG_BYTES 2048
/* Most random bytes that are given at once. */
#define MOORLINE_RANDOM_BYTES 4096

/* What a function came to. */
typedef int32_t moorline_status;
/* Done; the sink holds the result. */
#define MOORLINE_OK 0
/* The request was understood and is refused: the document is false, the grant is dead. The sink holds a refusal. */
#define MOORLINE_REFUSED 1
/* Nothing can be said now: a server was not reached, was busy or broken. The sink holds a refusal. */
#define MOORLINE_UNAVAILABLE 2
/* The request, a pointer or a JSON text is not what the contract asks for. The sink may hold a refusal. */
#define MOORLINE_INVALID 3
/* There is no such method, service or entry. */
#define MOORLINE_UNSUPPORTED 4
/* The callee has a fault. The sink may hold a refusal. */
#define MOORLINE_FAILED 5
/*
 * A refusal is the JSON text {"code": "...", "message": "...", "retry_after": seconds}; each member may be left out.
 * `code` is one word for programs (unknown_key, expired, clock_skew, bad_signature, authorization_pending, dead_grant).
 * `message` is one sentence for the operator's log and the person; no secrets. The host keeps the first 1,024 bytes of it.
 */

/* Levels of `log`. */
#define MOORLINE_LOG_ERROR 1
/* Something that should not be, but was dealt with. */
#define MOORLINE_LOG_WARN 2
/* Something an operator may want to know. */
#define MOORLINE_LOG_INFO 3
/* For whoever looks for a fault. */
#define MOORLINE_LOG_DEBUG 4

/* Bytes that belong to the caller, borrowed for the time of the call. `data` may be null when `len` is 0. */
struct moorline_bytes {
    const uint8_t *data;
    size_t len;
};

/* Takes a result. Provided by the caller; good for the time of the call. */
struct moorline_sink {
    /* The caller's own, to be handed back by each `write`. */
    void *context;
    /* Appends bytes to the result; they are copied. */
    void (*write)(void *context, struct moorline_bytes bytes);
};

/* What the host offers. Keep the pointer; the table stays valid. */
struct moorline_host {
    /* Bytes of this table. */
    uint32_t size;
    /* MOORLINE_MAJOR and MOORLINE_MINOR of the host. */
    uint16_t major;
    uint16_t minor;
    /* The host's own, to be handed back by each function. */
    void *context;
    /*
     * Makes one HTTP request.
     *   in:  {"method": "GET", "url": "https://...", "headers": [["name", "value"], ...], "body": base64, "timeout_ms": n}
     *        (all but method and url may be left out). Methods: GET, HEAD, POST, PUT, PATCH, DELETE. Headers that say where
     *        a request goes or how long it is (host, connection, content-length, transfer-encoding, ...) are the host's.
     *   out: {"status": 200, "headers": [["name in lower case", "value"], ...], "body": base64}
     * Any status that the server answers is MOORLINE_OK. MOORLINE_REFUSED: the request is not allowed (the code `egress`:
     * the operator has not named this host). MOORLINE_UNAVAILABLE: no answer (codes dns, connect, tls, timeout, too_large).
     * Redirects are not followed. Each request is put on record.
     */
    moorline_status (*http)(void *context, struct moorline_bytes request, const struct moorline_sink *reply);
    /* Writes a line of UTF-8 to the server's log, under the provider's name. */
    void (*log)(void *context, int32_t level, struct moorline_bytes text);
    /* Microseconds since 1970 began, UTC. Tests set this clock, so use no other. */
    int64_t (*now)(void *context);
    /* Fills a buffer of up to MOORLINE_RANDOM_BYTES from the system's secure source. */
    moorline_status (*random)(void *context, uint8_t *buffer, size_t len);
    /*
     * The value under a key, if it is kept and not too old; else MOORLINE_UNSUPPORTED. Kept sealed, over restarts, for this
     * provider alone; any entry may be gone at any time.
     */
    moorline_status (*cache_get)(void *context, struct moorline_bytes key, const struct moorline_sink *reply);
    /* Keeps a value for at most `seconds`; 0 removes it. */
    moorline_status (*cache_put)(void *context, struct moorline_bytes key, struct moorline_bytes value, uint32_t seconds);
};

/* What a plugin offers. */
struct moorline_plugin {
    /* Bytes of this table: sizeof (struct moorline_plugin). */
    uint32_t size;
    /* MOORLINE_MAJOR and MOORLINE_MINOR that the plugin was built for. */
    uint16_t major;
    uint16_t minor;
    /*
     * Says what this is:
     *   {"name": "my-cloud", "version": "1.2.0", "kind": "identity" or "external-auth",
     *    "capabilities": ["concurrent", ...], "serves": ["mycloud", ...]}
     * Capabilities of an external-auth plugin also name the methods beyond authorize, exchange and git_credentials that
     * it has: defaults, refresh, validate, installations, device_start, device_poll, revoke.
     */
    moorline_status (*describe)(const struct moorline_sink *reply);
    /*
     * Makes an instance for one provider; what it returns in *instance comes back with each call, and may be null.
     *   in:  {"provider": id, "type": "mycloud", "settings": {...} as the operator wrote them, secrets included,
     *         "anchors": [{"name": "...", "role": "...", "data": base64, "not_after": instant}, ...]}
     * Other than MOORLINE_OK: no instance, and the provider is down with the refusal in the sink as reason.
     */
    moorline_status (*create)(struct moorline_bytes setup, void **instance, const struct moorline_sink *reply);
    /*
     * Runs a method. A method that you do not know: MOORLINE_UNSUPPORTED.
     *
     * identity:
     *   verify   {"fields": {"name": "text", ...}} as the machine has sent them -> {"instance_id": "...", "claims": {...}}
     *   anchors  {} -> {"anchors": [...]} as in `create`: what is trusted at present
     *
     * external-auth (all members that may be left out are in brackets):
     *   defaults        {} -> {"display_name", [display_icon, regex, hosts, git, device_flow, allow_refresh, allow_validate,
     *                   supports_revocation, pkce, app_install_url, app_installable, egress, warnings]}
     *   authorize       {redirect_uri, state, [code_challenge]} -> {"url": "https://..."}
     *   exchange        {code, redirect_uri, [code_verifier]} -> a token
     *   refresh         {refresh_token} -> a token; refused with the code dead_grant if it is good no more
     *   validate        {access_token} -> {"valid": true, [user, retry_after]}
     *   installations   {access_token} -> {"installations": [{id, account, configure_url}, ...]}
     *   device_start    {} -> {device_code, user_code, verification_uri, expires_in, interval}
     *   device_poll     {device_code} -> a token; refused with the provider's code, e.g. authorization_pending
     *   revoke          {access_token, [refresh_token]} -> {}
     *   git_credentials {access_token} -> {"username": "...", ["password"]}
     *   a token:        {"access_token": "...", [refresh_token, expires_at, extra]}
     *   user, account:  {"id": number, "login": "...", [avatar_url, profile_url, name]}
     */
    moorline_status (*call)(void *instance, struct moorline_bytes method, struct moorline_bytes request,
                            const struct moorline_sink *reply);
    /* Ends an instance; no call of it is under way, and none follows. A host may end the process instead. */
    void (*destroy)(void *instance);
};

/* Type of the exported symbol. */
typedef const struct moorline_plugin *(*moorline_entry)(const struct moorline_host *host);

/* Makes the symbol visible, also with -fvisibility=hidden. */
#if defined(__GNUC__)
#define MOORLINE_EXPORT __attribute__((visibility("default")))
#else
#define MOORLINE_EXPORT
#endif

/* The symbol: every plugin defines this function, with MOORLINE_EXPORT. */
MOORLINE_EXPORT const struct moorline_plugin *moorline_plugin_v1(const struct moorline_host *host);

/* Whether a host's table has a function: MOORLINE_HAS(host, cache_get). */
#define MOORLINE_HAS(host, function) \
    ((host)->size >= offsetof(struct moorline_host, function) + sizeof((host)->function) && (host)->function != NULL)

#ifdef __cplusplus
}
#endif

#endif
