/* The host's services, and answers to it. */
#ifndef HOST_H
#define HOST_H

#include "json.h"

/* The host that has loaded this library. */
extern const struct moorline_host *host;

/* What came of an HTTP request. */
struct answer {
    /* MOORLINE_OK: the members below hold; anything else: there is no answer, and `refusal` says why. */
    moorline_status fault;
    struct buffer refusal;
    int64_t status;
    struct buffer body;
    /* Of Retry-After, seconds; -1 if there is none. */
    int64_t retry_after;
};

/* A request header; both null at the end of a list. */
struct header {
    const char *name;
    const char *value;
};

/* Makes one HTTP request. */
struct answer fetch(const char *method, const char *url, const struct header *headers, const struct buffer *body,
                    int64_t timeout_ms);
/* Gives the memory of an answer back. */
void answer_free(struct answer *answer);

/* Seconds since 1970 began; tests set this clock. */
int64_t now(void);

/* Gives a result. */
moorline_status reply(const struct moorline_sink *sink, const struct buffer *json);
/* Gives a text as result. */
moorline_status reply_text(const struct moorline_sink *sink, const char *json);
/* Refuses: a word for programs, a sentence for people, and when to try again, seconds (-1: nothing is said). */
moorline_status refuse(const struct moorline_sink *sink, moorline_status status, const char *code, const char *message,
                       int64_t retry_after);
/* Passes on why there is no answer. */
moorline_status refuse_fault(const struct moorline_sink *sink, const struct answer *answer);
/* Whether the bytes are this text. */
bool is(struct moorline_bytes bytes, const char *text);

#endif
