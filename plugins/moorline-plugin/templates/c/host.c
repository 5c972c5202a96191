#include "host.h"

#include <stdlib.h>
#include <string.h>

const struct moorline_host *host;

static void collect(void *context, struct moorline_bytes bytes) { put_bytes(context, bytes.data, bytes.len); }

/* Seconds from a header's value; -1 if it is a date or nonsense. */
static int64_t seconds(struct moorline_bytes value) {
    int64_t found = -1;
    char *text = json_text(value);
    if (text != NULL) {
        struct moorline_bytes digits = {(const uint8_t *)text, strlen(text)};
        if (!json_integer(digits, &found) || found < 0)
            found = -1;
    }
    free(text);
    return found;
}

static int64_t retry_after(struct moorline_bytes headers) {
    struct moorline_bytes pair, name, value;
    for (size_t at = 0; json_next(headers, &at, &pair);) {
        size_t inner = 0;
        if (json_next(pair, &inner, &name) && json_next(pair, &inner, &value) && is(name, "\"retry-after\""))
            return seconds(value);
    }
    return -1;
}

struct answer fetch(const char *method, const char *url, const struct header *headers, const struct buffer *body,
                    int64_t timeout_ms) {
    struct answer answer = {.fault = MOORLINE_FAILED, .retry_after = -1};
    struct buffer request = {0}, response = {0};
    put(&request, "{\"method\":");
    put_string(&request, method, strlen(method));
    put(&request, ",\"url\":");
    put_string(&request, url, strlen(url));
    put(&request, ",\"headers\":[");
    for (size_t i = 0; headers[i].name != NULL; i++) {
        put(&request, i == 0 ? "[" : ",[");
        put_string(&request, headers[i].name, strlen(headers[i].name));
        put(&request, ",");
        put_string(&request, headers[i].value, strlen(headers[i].value));
        put(&request, "]");
    }
    put(&request, "],\"body\":");
    put_base64(&request, body->data, body->len);
    put(&request, ",\"timeout_ms\":");
    put_integer(&request, timeout_ms);
    put(&request, "}");
    if (!request.failed && MOORLINE_HAS(host, http)) {
        struct moorline_sink sink = {&response, collect};
        answer.fault = host->http(host->context, buffer_bytes(&request), &sink);
    }
    buffer_free(&request);
    if (answer.fault != MOORLINE_OK) {
        answer.refusal = response;
        return answer;
    }
    struct moorline_bytes json = buffer_bytes(&response), value;
    bool good = !response.failed && json_member(json, "status", &value) && json_integer(value, &answer.status);
    if (good && json_member(json, "headers", &value))
        answer.retry_after = retry_after(value);
    if (!good || (json_member(json, "body", &value) && !json_base64(value, &answer.body)))
        answer.fault = MOORLINE_FAILED;
    buffer_free(&response);
    return answer;
}

void answer_free(struct answer *answer) {
    buffer_free(&answer->refusal);
    buffer_free(&answer->body);
}

int64_t now(void) { return MOORLINE_HAS(host, now) ? host->now(host->context) / 1000000 : 0; }

moorline_status reply(const struct moorline_sink *sink, const struct buffer *json) {
    if (json->failed)
        return refuse(sink, MOORLINE_FAILED, "failed", "There is no memory.", -1);
    if (sink != NULL && sink->write != NULL)
        sink->write(sink->context, buffer_bytes(json));
    return MOORLINE_OK;
}

moorline_status reply_text(const struct moorline_sink *sink, const char *json) {
    struct moorline_bytes bytes = {(const uint8_t *)json, strlen(json)};
    if (sink != NULL && sink->write != NULL)
        sink->write(sink->context, bytes);
    return MOORLINE_OK;
}

moorline_status refuse(const struct moorline_sink *sink, moorline_status status, const char *code, const char *message,
                       int64_t retry_after) {
    struct buffer json = {0};
    put(&json, "{\"code\":");
    put_string(&json, code, strlen(code));
    put(&json, ",\"message\":");
    put_string(&json, message, strlen(message));
    if (retry_after >= 0) {
        put(&json, ",\"retry_after\":");
        put_integer(&json, retry_after);
    }
    put(&json, "}");
    if (!json.failed && sink != NULL && sink->write != NULL)
        sink->write(sink->context, buffer_bytes(&json));
    buffer_free(&json);
    return status;
}

moorline_status refuse_fault(const struct moorline_sink *sink, const struct answer *answer) {
    if (answer->refusal.len == 0)
        return refuse(sink, answer->fault, "failed", "The host cannot make the request.", -1);
    if (sink != NULL && sink->write != NULL)
        sink->write(sink->context, buffer_bytes(&answer->refusal));
    return answer->fault;
}

bool is(struct moorline_bytes bytes, const char *text) {
    return bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}
