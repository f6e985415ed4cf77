/* log: one line an event on stderr, as text (`time level process event key=value …`) or as a JSON object of the members time, level,
 * process, event and the keys, all of them texts.
 *
 * No input can forge or break a line: as text, values are quoted where they hold blanks, quotes or control characters; as JSON, control
 * characters are \u escapes and what is not UTF-8 becomes U+FFFD.  Secrets are never passed.  Thread-safe: a line is one write().
 *
 * A line about a request has its id as `request` (http_exchange_id()). */
#ifndef MUSTER_BASE_LOG_H
#define MUSTER_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

/* `process` is the word in every line ("vault", "gateway"); kept by reference. */
void log_init(const char *process, enum log_level least);
void log_set_format(enum log_format format); /* default text; before there are threads */
void log_set_fd(int fd); /* default 2 */
/* key/value pairs of strings, ended by NULL: log_event(LOG_INFO, "device_enrolled", "account", a, "device", d, NULL). A NULL value is left out. */
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));
/* An event with the error's code and text as `code` and `text`, besides further pairs. */
void log_err(enum log_level level, const char *event, const struct err *err, ...) __attribute__((sentinel));
/* Decimal in a static per-thread buffer (4 of them in turn), for values. */
const char *log_num(long long v);


/* For lines that strangers can cause: at most so many a second, so that they do not fill the disk.  One budget a thread; zeroed at first. */
struct log_budget {
    int64_t second, count;
};
/* Whether the line may be written.  What was left out is said once its second is over, as an event of that name with its count. */
bool log_within(struct log_budget *b, int64_t a_second, const char *left_out);

#endif
