/*
 * Proves machines of a cloud whose metadata service hands out what Amazon's does (instance-identity/document and
 * .../signature), by asking the cloud itself whether a document is its own:
 *
 *     POST verify_url  {"document": "...", "signature": "..."}
 *     200              {"instance_id": "...", "region": "...", "issued_at": seconds}
 *
 * Take it as a start: what differs at your cloud is in `verify`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

/* How long the cloud may take to answer, milliseconds. */
#define PATIENCE_MS 5000
/* How old a document may be, seconds. */
#define LIFE 3600
/* How far the clocks of the cloud and the server may be apart, seconds. */
#define SKEW 300
/* When to try again if the cloud does not say, seconds. */
#define PAUSE 30

/* One provider of the server's configuration. */
struct cloud {
    char *verify_url;
};

static moorline_status describe(const struct moorline_sink *sink) {
    /* The agent speaks as on Amazon's machines, so `aws` is what it comes in by. */
    return reply_text(sink, "{\"name\":\"@NAME@\",\"version\":\"0.1.0\",\"kind\":\"identity\",\"capabilities\":[],"
                            "\"serves\":[\"aws\"]}");
}

static moorline_status create(struct moorline_bytes setup, void **instance, const struct moorline_sink *sink) {
    struct moorline_bytes settings;
    char *verify_url = json_member(setup, "settings", &settings) ? json_member_text(settings, "verify_url") : NULL;
    struct cloud *cloud = calloc(1, sizeof *cloud);
    if (verify_url == NULL || cloud == NULL) {
        free(verify_url);
        free(cloud);
        return refuse(sink, MOORLINE_INVALID, "invalid", "The settings are not good: `verify_url` is missing.", -1);
    }
    cloud->verify_url = verify_url;
    *instance = cloud;
    return MOORLINE_OK;
}

/* What the cloud's proof comes to. */
static moorline_status judge(struct moorline_bytes proof, const struct moorline_sink *sink) {
    struct moorline_bytes value;
    int64_t issued_at;
    char *id = json_member_text(proof, "instance_id"), *region = json_member_text(proof, "region");
    bool good = json_is_good(proof) && id != NULL && json_member(proof, "issued_at", &value) && json_integer(value, &issued_at);
    moorline_status status;
    if (!good) {
        status = refuse(sink, MOORLINE_UNAVAILABLE, "bad_reply", "The cloud's answer cannot be read.", -1);
    } else if (issued_at > now() + SKEW) {
        status = refuse(sink, MOORLINE_REFUSED, "clock_skew", "The document comes from ahead of our clock.", -1);
    } else if (issued_at < now() - LIFE) {
        status = refuse(sink, MOORLINE_REFUSED, "expired", "The document is too old.", -1);
    } else {
        struct buffer json = {0};
        put(&json, "{\"instance_id\":");
        put_string(&json, id, strlen(id));
        put(&json, ",\"claims\":{\"region\":");
        put_string(&json, region == NULL ? "" : region, region == NULL ? 0 : strlen(region));
        put(&json, "}}");
        status = reply(sink, &json);
        buffer_free(&json);
    }
    free(id);
    free(region);
    return status;
}

/* Asks the cloud whether a document is its own. */
static struct answer ask(const struct cloud *cloud, const char *document, const char *signature) {
    static const struct header headers[] = {{"Content-Type", "application/json"}, {NULL, NULL}};
    struct buffer body = {0};
    put(&body, "{\"document\":");
    put_string(&body, document, strlen(document));
    put(&body, ",\"signature\":");
    put_string(&body, signature, strlen(signature));
    put(&body, "}");
    struct answer answer = fetch("POST", cloud->verify_url, headers, &body, PATIENCE_MS);
    buffer_free(&body);
    return answer;
}

static moorline_status verify(const struct cloud *cloud, struct moorline_bytes request, const struct moorline_sink *sink) {
    struct moorline_bytes fields = {0};
    bool there = json_member(request, "fields", &fields);
    char *document = there ? json_member_text(fields, "document") : NULL;
    char *signature = there ? json_member_text(fields, "signature") : NULL;
    if (document == NULL || *document == 0 || signature == NULL || *signature == 0) {
        free(document);
        free(signature);
        return refuse(sink, MOORLINE_REFUSED, "malformed", "The document or its signature is missing.", -1);
    }
    struct answer answer = ask(cloud, document, signature);
    free(document);
    free(signature);
    moorline_status status;
    if (answer.fault != MOORLINE_OK) {
        status = refuse_fault(sink, &answer);
    } else if (answer.status == 200) {
        status = judge(buffer_bytes(&answer.body), sink);
    } else if (answer.status == 400 || answer.status == 403 || answer.status == 404) {
        status = refuse(sink, MOORLINE_REFUSED, "bad_signature", "The cloud does not vouch for this document.", -1);
    } else if (answer.status == 429 || answer.status == 503) {
        int64_t pause = answer.retry_after < 0 ? PAUSE : answer.retry_after;
        status = refuse(sink, MOORLINE_UNAVAILABLE, "busy", "The cloud is busy.", pause);
    } else {
        char message[64];
        snprintf(message, sizeof message, "The cloud answered with status %d.", (int)answer.status);
        status = refuse(sink, MOORLINE_UNAVAILABLE, "cloud", message, -1);
    }
    answer_free(&answer);
    return status;
}

static moorline_status call(void *instance, struct moorline_bytes method, struct moorline_bytes request,
                            const struct moorline_sink *sink) {
    if (instance == NULL)
        return refuse(sink, MOORLINE_INVALID, "invalid", "There is no instance.", -1);
    if (is(method, "verify"))
        return verify(instance, request, sink);
    if (is(method, "anchors"))
        return reply_text(sink, "{\"anchors\":[]}");
    return refuse(sink, MOORLINE_UNSUPPORTED, "unsupported", "There is no such method.", -1);
}

static void destroy(void *instance) {
    struct cloud *cloud = instance;
    if (cloud == NULL)
        return;
    free(cloud->verify_url);
    free(cloud);
}

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
    if (given == NULL || given->major != MOORLINE_MAJOR)
        return NULL;
    host = given;
    return &table;
}
