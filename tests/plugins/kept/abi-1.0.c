/*
 * The kept plugin: abi-1.0-x86_64.so is this file, built against plugin interface 1.0 and never rebuilt, so that every
 * later host is run against a library of that day. The header of that day, and text.h of the fixtures, are those beside it
 * in the history. Built on Debian 12 (gcc 12.2, glibc 2.36) in this folder with
 *
 *   cc -std=c11 -Wall -Wextra -Wpedantic -Werror -O2 -shared -fPIC -fvisibility=hidden -s -Wl,-z,noseparate-code \
 *      -I ../../../plugins/moorline-plugin/include -I ../fixtures -o abi-1.0-x86_64.so abi-1.0.c
 *
 * It is the good identity plugin of the fixtures: a machine's "document" is its id, the "signature" the id backwards.
 */
#include "text.h"

static const struct moorline_host *host;

static moorline_status describe(const struct moorline_sink *reply) {
    return answer(reply, MOORLINE_OK,
                  "{\"name\":\"backwards\",\"version\":\"1.0.0\",\"kind\":\"identity\","
                  "\"capabilities\":[\"concurrent\"],\"serves\":[\"aws\",\"azure\",\"google\"]}");
}

static moorline_status create(struct moorline_bytes setup, void **instance, const struct moorline_sink *reply) {
    (void)setup;
    (void)reply;
    *instance = NULL;
    return MOORLINE_OK;
}

static moorline_status verify(struct moorline_bytes request, const struct moorline_sink *reply) {
    char document[65], signature[65], out[160];
    if (!member(request, "document", document, sizeof document) ||
        !member(request, "signature", signature, sizeof signature))
        return answer(reply, MOORLINE_INVALID, "{\"code\":\"malformed\",\"message\":\"A member is missing.\"}");
    size_t length = strlen(document);
    int good = length > 0 && strlen(signature) == length;
    for (size_t at = 0; good && at < length; at++) good = document[at] == signature[length - 1 - at];
    if (!good)
        return answer(reply, MOORLINE_REFUSED, "{\"code\":\"bad_signature\",\"message\":\"It is not backwards.\"}");
    snprintf(out, sizeof out, "{\"instance_id\":\"%s\",\"claims\":{\"checked_by\":\"C\"}}", document);
    return answer(reply, MOORLINE_OK, out);
}

static moorline_status call(void *instance, struct moorline_bytes method, struct moorline_bytes request,
                            const struct moorline_sink *reply) {
    (void)instance;
    if (is(method, "verify")) return verify(request, reply);
    if (is(method, "anchors")) return answer(reply, MOORLINE_OK, "{\"anchors\":[]}");
    return MOORLINE_UNSUPPORTED;
}

static void destroy(void *instance) { (void)instance; }

static const struct moorline_plugin table = {
    .size = sizeof table,
    .major = MOORLINE_MAJOR,
    .minor = MOORLINE_MINOR,
    .describe = describe,
    .create = create,
    .call = call,
    .destroy = destroy,
};

MOORLINE_EXPORT const struct moorline_plugin *moorline_plugin_v1(const struct moorline_host *given) {
    if (given == NULL || given->major != MOORLINE_MAJOR) return NULL;
    host = given;
    if (MOORLINE_HAS(host, log)) host->log(host->context, MOORLINE_LOG_DEBUG, lend("backwards is loaded"));
    return &table;
}
