/*
 * Signs people in at a provider by OAuth2's code flow, with PKCE, refresh and validation.
 *
 * Take it as a start: what differs at your provider is in `ask` and what follows it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

/* How long the provider may take to answer, milliseconds. A refresh token is spent once it was sent, so this is the most
 * that the server allows: better late than lost. */
#define PATIENCE_MS 10000
/* When to try again if the provider does not say, seconds. */
#define PAUSE 30

/* One provider of the server's configuration. */
struct site {
    char *client_id;
    char *client_secret; /* Null for a public client. */
    char *auth_url;
    char *token_url;
    char *validate_url; /* Null: tokens cannot be validated. */
    char *scopes;       /* With spaces in between; may be empty. */
};

static void destroy(void *instance) {
    struct site *site = instance;
    if (site == NULL)
        return;
    free(site->client_id);
    free(site->client_secret);
    free(site->auth_url);
    free(site->token_url);
    free(site->validate_url);
    free(site->scopes);
    free(site);
}

static moorline_status describe(const struct moorline_sink *sink) {
    return reply_text(sink, "{\"name\":\"@NAME@\",\"version\":\"0.1.0\",\"kind\":\"external-auth\","
                            "\"capabilities\":[\"defaults\",\"refresh\",\"validate\"],\"serves\":[\"@NAME@\"]}");
}

/* The texts of an array, with spaces in between. */
static char *joined(struct moorline_bytes array) {
    struct buffer all = {0};
    struct moorline_bytes value;
    for (size_t at = 0; json_next(array, &at, &value);) {
        char *text = json_text(value);
        if (text != NULL) {
            put(&all, all.len == 0 ? "" : " ");
            put(&all, text);
        }
        free(text);
    }
    put_bytes(&all, "", 1);
    if (all.failed)
        buffer_free(&all);
    return all.data;
}

static moorline_status create(struct moorline_bytes setup, void **instance, const struct moorline_sink *sink) {
    struct moorline_bytes settings, scopes = {(const uint8_t *)"[]", 2};
    struct site *site = calloc(1, sizeof *site);
    if (site != NULL && json_member(setup, "settings", &settings)) {
        json_member(settings, "scopes", &scopes);
        site->client_id = json_member_text(settings, "client_id");
        site->client_secret = json_member_text(settings, "client_secret");
        site->auth_url = json_member_text(settings, "auth_url");
        site->token_url = json_member_text(settings, "token_url");
        site->validate_url = json_member_text(settings, "validate_url");
        site->scopes = joined(scopes);
    }
    if (site == NULL || site->client_id == NULL || site->auth_url == NULL || site->token_url == NULL || site->scopes == NULL) {
        destroy(site);
        return refuse(sink, MOORLINE_INVALID, "invalid",
                      "The settings are not good: `client_id`, `auth_url` and `token_url` are needed.", -1);
    }
    *instance = site;
    return MOORLINE_OK;
}

/* Appends `name=value` to a form or query. */
static void put_pair(struct buffer *to, const char *name, const char *value) {
    char last = to->len == 0 ? '&' : to->data[to->len - 1];
    put(to, last == '&' || last == '?' ? "" : "&");
    put(to, name);
    put(to, "=");
    put_encoded(to, value);
}

static moorline_status defaults(const struct site *site, const struct moorline_sink *sink) {
    const char *authority = strstr(site->auth_url, "://");
    authority = authority == NULL ? site->auth_url : authority + 3;
    struct buffer json = {0};
    put(&json, "{\"display_name\":\"@NAME@\",\"hosts\":[");
    put_string(&json, authority, strcspn(authority, "/?#"));
    put(&json, "],\"git\":true,\"allow_refresh\":true,\"pkce\":true,\"allow_validate\":");
    put(&json, site->validate_url == NULL ? "false}" : "true}");
    moorline_status status = reply(sink, &json);
    buffer_free(&json);
    return status;
}

static moorline_status authorize(const struct site *site, struct moorline_bytes request, const struct moorline_sink *sink) {
    char *redirect_uri = json_member_text(request, "redirect_uri"), *state = json_member_text(request, "state");
    char *challenge = json_member_text(request, "code_challenge");
    moorline_status status;
    if (redirect_uri == NULL || state == NULL) {
        status = refuse(sink, MOORLINE_INVALID, "invalid", "`redirect_uri` and `state` are needed.", -1);
    } else {
        struct buffer url = {0}, json = {0};
        put(&url, site->auth_url);
        put(&url, strchr(site->auth_url, '?') == NULL ? "?" : "&");
        put_pair(&url, "response_type", "code");
        put_pair(&url, "client_id", site->client_id);
        put_pair(&url, "redirect_uri", redirect_uri);
        if (*site->scopes != 0)
            put_pair(&url, "scope", site->scopes);
        put_pair(&url, "state", state);
        if (challenge != NULL) {
            put_pair(&url, "code_challenge", challenge);
            put_pair(&url, "code_challenge_method", "S256");
        }
        put(&json, "{\"url\":");
        put_string(&json, url.data, url.len);
        put(&json, "}");
        json.failed = json.failed || url.failed;
        status = reply(sink, &json);
        buffer_free(&url);
        buffer_free(&json);
    }
    free(redirect_uri);
    free(state);
    free(challenge);
    return status;
}

static moorline_status bad_reply(const struct moorline_sink *sink) {
    return refuse(sink, MOORLINE_UNAVAILABLE, "bad_reply", "The provider's answer cannot be read.", -1);
}

/* What no answer of use comes to: none at all, a busy provider, a fault of it. */
static moorline_status no_use(const struct answer *answer, const struct moorline_sink *sink) {
    if (answer->fault != MOORLINE_OK)
        return refuse_fault(sink, answer);
    if (answer->status == 429 || answer->status == 503) {
        int64_t pause = answer->retry_after < 0 ? PAUSE : answer->retry_after;
        return refuse(sink, MOORLINE_UNAVAILABLE, "busy", "The provider is busy.", pause);
    }
    char message[64];
    snprintf(message, sizeof message, "The provider answered with status %d.", (int)answer->status);
    return refuse(sink, MOORLINE_UNAVAILABLE, "provider", message, -1);
}

/* The provider's own word. Only `invalid_grant` makes a refresh token count as dead: on any doubt the server keeps it. */
static moorline_status error(const char *code, bool refreshing, const struct moorline_sink *sink) {
    struct buffer message = {0};
    put(&message, "The provider says: ");
    put(&message, code);
    put_bytes(&message, ".", 2);
    const char *said = message.failed ? "The provider says no." : message.data;
    moorline_status status;
    if (!refreshing)
        status = refuse(sink, MOORLINE_REFUSED, code, said, -1);
    else if (strcmp(code, "invalid_grant") == 0)
        status = refuse(sink, MOORLINE_REFUSED, "dead_grant", said, -1);
    else
        status = refuse(sink, MOORLINE_UNAVAILABLE, code, said, -1);
    buffer_free(&message);
    return status;
}

/* A token as the provider gives it, as the host wants it. */
static moorline_status token(struct moorline_bytes body, bool refreshing, const struct moorline_sink *sink) {
    char *code = json_member_text(body, "error");
    char *access = json_member_text(body, "access_token"), *again = json_member_text(body, "refresh_token");
    struct moorline_bytes value;
    int64_t seconds;
    moorline_status status;
    if (!json_is_good(body)) {
        status = bad_reply(sink);
    } else if (code != NULL && *code != 0) {
        status = error(code, refreshing, sink);
    } else if (access == NULL || *access == 0) {
        status = bad_reply(sink);
    } else {
        struct buffer json = {0};
        put(&json, "{\"access_token\":");
        put_string(&json, access, strlen(access));
        if (again != NULL) {
            put(&json, ",\"refresh_token\":");
            put_string(&json, again, strlen(again));
        }
        /* By the server's clock: the provider's own may be off. The bound keeps the sum in range. */
        if (json_member(body, "expires_in", &value) && json_integer(value, &seconds) && seconds < INT32_MAX && seconds > 0) {
            put(&json, ",\"expires_at\":");
            put_integer(&json, now() + seconds);
        }
        put(&json, "}");
        status = reply(sink, &json);
        buffer_free(&json);
    }
    free(code);
    free(access);
    free(again);
    return status;
}

/* Sends a form to the provider, with the client's name and secret. */
static moorline_status ask(const struct site *site, struct buffer *form, bool refreshing, const struct moorline_sink *sink) {
    static const struct header headers[] = {
        {"Content-Type", "application/x-www-form-urlencoded"}, {"Accept", "application/json"}, {NULL, NULL}};
    put_pair(form, "client_id", site->client_id);
    if (site->client_secret != NULL)
        put_pair(form, "client_secret", site->client_secret);
    if (form->failed)
        return refuse(sink, MOORLINE_FAILED, "failed", "There is no memory.", -1);
    struct answer answer = fetch("POST", site->token_url, headers, form, PATIENCE_MS);
    moorline_status status;
    if (answer.fault != MOORLINE_OK || answer.status == 429 || answer.status >= 500)
        status = no_use(&answer, sink);
    else
        status = token(buffer_bytes(&answer.body), refreshing, sink);
    answer_free(&answer);
    return status;
}

static moorline_status exchange(const struct site *site, struct moorline_bytes request, const struct moorline_sink *sink) {
    char *code = json_member_text(request, "code"), *redirect_uri = json_member_text(request, "redirect_uri");
    char *verifier = json_member_text(request, "code_verifier");
    moorline_status status;
    if (code == NULL || redirect_uri == NULL) {
        status = refuse(sink, MOORLINE_INVALID, "invalid", "`code` and `redirect_uri` are needed.", -1);
    } else {
        struct buffer form = {0};
        put_pair(&form, "grant_type", "authorization_code");
        put_pair(&form, "code", code);
        put_pair(&form, "redirect_uri", redirect_uri);
        if (verifier != NULL)
            put_pair(&form, "code_verifier", verifier);
        status = ask(site, &form, false, sink);
        buffer_free(&form);
    }
    free(code);
    free(redirect_uri);
    free(verifier);
    return status;
}

static moorline_status refresh(const struct site *site, struct moorline_bytes request, const struct moorline_sink *sink) {
    char *refresh_token = json_member_text(request, "refresh_token");
    if (refresh_token == NULL)
        return refuse(sink, MOORLINE_INVALID, "invalid", "`refresh_token` is needed.", -1);
    struct buffer form = {0};
    put_pair(&form, "grant_type", "refresh_token");
    put_pair(&form, "refresh_token", refresh_token);
    moorline_status status = ask(site, &form, true, sink);
    buffer_free(&form);
    free(refresh_token);
    return status;
}

/* Whose token it is, if the provider says. */
static moorline_status valid(struct moorline_bytes body, const struct moorline_sink *sink) {
    struct moorline_bytes value;
    int64_t id;
    char *login = json_member_text(body, "login");
    struct buffer json = {0};
    put(&json, "{\"valid\":true");
    if (json_is_good(body) && login != NULL && json_member(body, "id", &value) && json_integer(value, &id)) {
        put(&json, ",\"user\":{\"id\":");
        put_integer(&json, id);
        put(&json, ",\"login\":");
        put_string(&json, login, strlen(login));
        put(&json, "}");
    }
    put(&json, "}");
    moorline_status status = reply(sink, &json);
    buffer_free(&json);
    free(login);
    return status;
}

static moorline_status validate(const struct site *site, struct moorline_bytes request, const struct moorline_sink *sink) {
    if (site->validate_url == NULL)
        return refuse(sink, MOORLINE_UNSUPPORTED, "unsupported", "There is no `validate_url`.", -1);
    char *access_token = json_member_text(request, "access_token");
    if (access_token == NULL)
        return refuse(sink, MOORLINE_INVALID, "invalid", "`access_token` is needed.", -1);
    struct buffer bearer = {0}, none = {0}, json = {0};
    put(&bearer, "Bearer ");
    put_bytes(&bearer, access_token, strlen(access_token) + 1);
    free(access_token);
    struct answer answer = {.fault = MOORLINE_FAILED};
    if (!bearer.failed) {
        struct header headers[] = {{"Authorization", bearer.data}, {NULL, NULL}};
        answer = fetch("GET", site->validate_url, headers, &none, PATIENCE_MS);
    }
    buffer_free(&bearer);
    moorline_status status;
    if (answer.fault == MOORLINE_OK && answer.status == 200) {
        status = valid(buffer_bytes(&answer.body), sink);
    } else if (answer.fault == MOORLINE_OK && (answer.status == 401 || answer.status == 403)) {
        status = reply_text(sink, "{\"valid\":false}");
    } else if (answer.fault == MOORLINE_OK && answer.status == 429) {
        /* It cannot say, so the token counts as good. */
        put(&json, "{\"valid\":true,\"retry_after\":");
        put_integer(&json, answer.retry_after < 0 ? PAUSE : answer.retry_after);
        put(&json, "}");
        status = reply(sink, &json);
        buffer_free(&json);
    } else {
        status = no_use(&answer, sink);
    }
    answer_free(&answer);
    return status;
}

static moorline_status git_credentials(struct moorline_bytes request, const struct moorline_sink *sink) {
    char *access_token = json_member_text(request, "access_token");
    if (access_token == NULL)
        return refuse(sink, MOORLINE_INVALID, "invalid", "`access_token` is needed.", -1);
    struct buffer json = {0};
    put(&json, "{\"username\":\"oauth2\",\"password\":");
    put_string(&json, access_token, strlen(access_token));
    put(&json, "}");
    moorline_status status = reply(sink, &json);
    buffer_free(&json);
    free(access_token);
    return status;
}

static moorline_status call(void *instance, struct moorline_bytes method, struct moorline_bytes request,
                            const struct moorline_sink *sink) {
    if (instance == NULL)
        return refuse(sink, MOORLINE_INVALID, "invalid", "There is no instance.", -1);
    if (is(method, "defaults"))
        return defaults(instance, sink);
    if (is(method, "authorize"))
        return authorize(instance, request, sink);
    if (is(method, "exchange"))
        return exchange(instance, request, sink);
    if (is(method, "refresh"))
        return refresh(instance, request, sink);
    if (is(method, "validate"))
        return validate(instance, request, sink);
    if (is(method, "git_credentials"))
        return git_credentials(request, sink);
    return refuse(sink, MOORLINE_UNSUPPORTED, "unsupported", "There is no such method.", -1);
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
