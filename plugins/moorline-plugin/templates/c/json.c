#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Objects and arrays in each other; more is refused, so that no text can use up the stack. */
#define DEPTH 64

void put_bytes(struct buffer *to, const void *data, size_t len) {
    if (to->failed || len == 0)
        return;
    if (len > to->room - to->len) {
        size_t room = to->room * 2 + 256;
        if (room - to->len < len)
            room = to->len + len;
        char *more = realloc(to->data, room);
        if (more == NULL) {
            to->failed = true;
            return;
        }
        to->data = more;
        to->room = room;
    }
    memcpy(to->data + to->len, data, len);
    to->len += len;
}

void put(struct buffer *to, const char *text) { put_bytes(to, text, strlen(text)); }

void put_integer(struct buffer *to, int64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, number);
    put(to, text);
}

void put_string(struct buffer *to, const char *data, size_t len) {
    put(to, "\"");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c == '"' || c == '\\') {
            put(to, "\\");
            put_bytes(to, &data[i], 1);
        } else if (c < 0x20) {
            char text[8];
            snprintf(text, sizeof text, "\\u%04x", c);
            put(to, text);
        } else {
            put_bytes(to, &data[i], 1);
        }
    }
    put(to, "\"");
}

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void put_base64(struct buffer *to, const void *data, size_t len) {
    const unsigned char *bytes = data;
    put(to, "\"");
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16;
        if (i + 1 < len)
            group |= (uint32_t)bytes[i + 1] << 8;
        if (i + 2 < len)
            group |= bytes[i + 2];
        char four[4] = {BASE64[group >> 18], BASE64[group >> 12 & 63], '=', '='};
        if (i + 1 < len)
            four[2] = BASE64[group >> 6 & 63];
        if (i + 2 < len)
            four[3] = BASE64[group & 63];
        put_bytes(to, four, 4);
    }
    put(to, "\"");
}

void put_encoded(struct buffer *to, const char *text) {
    for (; *text != 0; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._~", c);
        if (plain) {
            put_bytes(to, text, 1);
        } else {
            char code[4];
            snprintf(code, sizeof code, "%%%02X", c);
            put(to, code);
        }
    }
}

void buffer_free(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}

struct moorline_bytes buffer_bytes(const struct buffer *buffer) {
    return (struct moorline_bytes){(const uint8_t *)buffer->data, buffer->len};
}

static void skip_space(struct moorline_bytes json, size_t *at) {
    while (*at < json.len && (json.data[*at] == ' ' || json.data[*at] == '\t' || json.data[*at] == '\n' || json.data[*at] == '\r'))
        ++*at;
}

/* Whether the next byte is `c`, which is then passed. */
static bool take(struct moorline_bytes json, size_t *at, char c) {
    skip_space(json, at);
    if (*at >= json.len || json.data[*at] != (uint8_t)c)
        return false;
    ++*at;
    return true;
}

static bool skip_string(struct moorline_bytes json, size_t *at) {
    if (!take(json, at, '"'))
        return false;
    while (*at < json.len) {
        uint8_t c = json.data[(*at)++];
        if (c == '"')
            return true;
        if (c < 0x20)
            return false;
        if (c == '\\') {
            if (*at >= json.len)
                return false;
            ++*at;
        }
    }
    return false;
}

static bool skip_word(struct moorline_bytes json, size_t *at) {
    size_t began = *at;
    while (*at < json.len && strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", json.data[*at]) != NULL && json.data[*at] != 0)
        ++*at;
    size_t len = *at - began;
    const char *word = (const char *)json.data + began;
    if (len == 0)
        return false;
    if (*word == '-' || (*word >= '0' && *word <= '9'))
        return true;
    return (len == 4 && (memcmp(word, "true", 4) == 0 || memcmp(word, "null", 4) == 0)) ||
           (len == 5 && memcmp(word, "false", 5) == 0);
}

static bool skip_value(struct moorline_bytes json, size_t *at, int depth) {
    skip_space(json, at);
    if (*at >= json.len || depth > DEPTH)
        return false;
    uint8_t c = json.data[*at];
    if (c == '"')
        return skip_string(json, at);
    if (c != '{' && c != '[')
        return skip_word(json, at);
    char end = c == '{' ? '}' : ']';
    ++*at;
    if (take(json, at, end))
        return true;
    do {
        if (c == '{' && !(skip_string(json, at) && take(json, at, ':')))
            return false;
        if (!skip_value(json, at, depth + 1))
            return false;
    } while (take(json, at, ','));
    return take(json, at, end);
}

/* Whether all bytes are UTF-8: what is not would make our own reply no JSON either. */
static bool is_utf8(struct moorline_bytes bytes) {
    for (size_t at = 0; at < bytes.len;) {
        uint8_t c = bytes.data[at++];
        size_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 4;
        if (more == 4 || more > bytes.len - at)
            return false;
        uint8_t next = more == 0 ? 0 : bytes.data[at];
        /* Longer than need be, halves of characters, beyond Unicode. */
        if ((c == 0xe0 && next < 0xa0) || (c == 0xed && next > 0x9f) || (c == 0xf0 && next < 0x90) || (c == 0xf4 && next > 0x8f))
            return false;
        for (; more > 0; more--)
            if ((bytes.data[at++] & 0xc0) != 0x80)
                return false;
    }
    return true;
}

bool json_is_good(struct moorline_bytes json) {
    size_t at = 0;
    if (!is_utf8(json) || !skip_value(json, &at, 0))
        return false;
    skip_space(json, &at);
    return at == json.len;
}

static struct moorline_bytes part(struct moorline_bytes json, size_t from, size_t to) {
    return (struct moorline_bytes){json.data + from, to - from};
}

bool json_member(struct moorline_bytes json, const char *name, struct moorline_bytes *value) {
    size_t at = 0;
    if (!take(json, &at, '{') || take(json, &at, '}'))
        return false;
    do {
        skip_space(json, &at);
        size_t began = at;
        if (!skip_string(json, &at))
            return false;
        char *found = json_text(part(json, began, at));
        bool same = found != NULL && strcmp(found, name) == 0;
        free(found);
        if (!take(json, &at, ':'))
            return false;
        skip_space(json, &at);
        began = at;
        if (!skip_value(json, &at, 0))
            return false;
        if (same) {
            *value = part(json, began, at);
            return true;
        }
    } while (take(json, &at, ','));
    return false;
}

bool json_next(struct moorline_bytes array, size_t *at, struct moorline_bytes *value) {
    if (!take(array, at, *at == 0 ? '[' : ','))
        return false;
    skip_space(array, at);
    size_t began = *at;
    if (!skip_value(array, at, 0))
        return false;
    *value = part(array, began, *at);
    return true;
}

static int hex(uint8_t c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The number of \uXXXX whose `u` stands before `at`; -1 if it is none. */
static int32_t unit(struct moorline_bytes value, size_t at) {
    int32_t code = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = at + i < value.len ? hex(value.data[at + i]) : -1;
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
    }
    return code;
}

static void put_utf8(struct buffer *to, int32_t code) {
    unsigned char bytes[4];
    size_t len = 0;
    if (code < 0x80) {
        bytes[len++] = (unsigned char)code;
    } else if (code < 0x800) {
        bytes[len++] = (unsigned char)(0xc0 | code >> 6);
        bytes[len++] = (unsigned char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        bytes[len++] = (unsigned char)(0xe0 | code >> 12);
        bytes[len++] = (unsigned char)(0x80 | (code >> 6 & 63));
        bytes[len++] = (unsigned char)(0x80 | (code & 63));
    } else {
        bytes[len++] = (unsigned char)(0xf0 | code >> 18);
        bytes[len++] = (unsigned char)(0x80 | (code >> 12 & 63));
        bytes[len++] = (unsigned char)(0x80 | (code >> 6 & 63));
        bytes[len++] = (unsigned char)(0x80 | (code & 63));
    }
    put_bytes(to, bytes, len);
}

/* Appends what stands behind a backslash; `at` is behind that, and goes on. */
static bool put_escape(struct buffer *to, struct moorline_bytes value, size_t *at) {
    static const char FROM[] = "\"\\/bfnrt", INTO[] = "\"\\/\b\f\n\r\t";
    uint8_t c = value.data[(*at)++];
    const char *found = c == 0 ? NULL : strchr(FROM, c);
    if (found != NULL) {
        put_bytes(to, &INTO[found - FROM], 1);
        return true;
    }
    int32_t code = c == 'u' ? unit(value, *at) : -1;
    if (code <= 0)
        return false;
    *at += 4;
    if (code >= 0xd800 && code < 0xe000) {
        /* One half of a character beyond 16 bits; the other has to follow. */
        bool more = code < 0xdc00 && *at + 1 < value.len && value.data[*at] == '\\' && value.data[*at + 1] == 'u';
        int32_t low = more ? unit(value, *at + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return false;
        *at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    put_utf8(to, code);
    return true;
}

char *json_text(struct moorline_bytes value) {
    size_t at = 0;
    if (!skip_string(value, &at) || at != value.len || value.data[0] != '"')
        return NULL;
    struct buffer text = {0};
    size_t end = value.len - 1;
    for (at = 1; at < end;) {
        uint8_t c = value.data[at++];
        if (c != '\\') {
            put_bytes(&text, &c, 1);
        } else if (!put_escape(&text, part(value, 0, end), &at)) {
            buffer_free(&text);
            return NULL;
        }
    }
    put_bytes(&text, "", 1);
    if (text.failed)
        buffer_free(&text);
    return text.data;
}

char *json_member_text(struct moorline_bytes json, const char *name) {
    struct moorline_bytes value;
    return json_member(json, name, &value) ? json_text(value) : NULL;
}

bool json_integer(struct moorline_bytes value, int64_t *number) {
    char text[24], *end;
    if (value.len == 0 || value.len >= sizeof text)
        return false;
    memcpy(text, value.data, value.len);
    text[value.len] = 0;
    if (strspn(text, "-0123456789") != value.len)
        return false;
    *number = strtoll(text, &end, 10);
    return end == text + value.len;
}

bool json_base64(struct moorline_bytes value, struct buffer *to) {
    char *text = json_text(value);
    if (text == NULL)
        return false;
    uint32_t group = 0;
    int bits = 0;
    const char *at = text;
    for (; *at != 0 && *at != '='; at++) {
        const char *found = strchr(BASE64, *at);
        if (found == NULL)
            break;
        group = group << 6 | (uint32_t)(found - BASE64);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            unsigned char byte = (unsigned char)(group >> bits);
            put_bytes(to, &byte, 1);
        }
    }
    bool good = at[strspn(at, "=")] == 0 && !to->failed;
    free(text);
    return good;
}
