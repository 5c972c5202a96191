/* As much JSON as a plugin needs: looking up members of objects, and writing text. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "moorline_plugin.h"

/* Text that grows. `failed`: there was no memory, and something is missing. */
struct buffer {
    char *data;
    size_t len;
    size_t room;
    bool failed;
};

/* Appends bytes. */
void put_bytes(struct buffer *to, const void *data, size_t len);
/* Appends a text that ends with a zero byte. */
void put(struct buffer *to, const char *text);
/* Appends a number. */
void put_integer(struct buffer *to, int64_t number);
/* Appends a JSON string. */
void put_string(struct buffer *to, const char *data, size_t len);
/* Appends a JSON string that is the bytes in base64. */
void put_base64(struct buffer *to, const void *data, size_t len);
/* Appends a value of a form or query, percent-encoded. */
void put_encoded(struct buffer *to, const char *text);
/* Gives the memory back. */
void buffer_free(struct buffer *buffer);

/* The JSON text in a buffer. */
struct moorline_bytes buffer_bytes(const struct buffer *buffer);

/* Finds a member of the object that `json` is; false if there is none, or `json` is not well-formed up to there. */
bool json_member(struct moorline_bytes json, const char *name, struct moorline_bytes *value);
/* Goes through an array: give a zeroed `at`, and get one value after the other; false at the end. */
bool json_next(struct moorline_bytes array, size_t *at, struct moorline_bytes *value);
/* Whether all of `json` is one well-formed value. */
bool json_is_good(struct moorline_bytes json);
/* A string as text that ends with a zero byte, to be freed; null if it is no string, or holds a zero byte. */
char *json_text(struct moorline_bytes value);
/* The same of a member; null if there is none. */
char *json_member_text(struct moorline_bytes json, const char *name);
/* Reads an integer. */
bool json_integer(struct moorline_bytes value, int64_t *number);
/* The bytes of a base64 string, appended to `to`; false if it is none. */
bool json_base64(struct moorline_bytes value, struct buffer *to);

#endif
