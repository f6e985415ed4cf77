/* log: one line an event on stderr, `time level process event key=value …`.
 *
 * Values are quoted where they hold blanks, quotes or control characters, so that no input can forge a line; secrets are never passed.
 * Thread-safe: a line is one write(). */
#ifndef MUSTER_BASE_LOG_H
#define MUSTER_BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* `process` is the word in every line ("vault", "gateway"); kept by reference. */
void log_init(const char *process, enum log_level least);
void log_set_fd(int fd); /* default 2 */
/* key/value pairs of strings, ended by NULL: log_event(LOG_INFO, "device_enrolled", "account", a, "device", d, NULL). A NULL value is left out. */
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));
/* An event with the error's code and text as `code` and `text`, besides further pairs. */
void log_err(enum log_level level, const char *event, const struct err *err, ...) __attribute__((sentinel));
/* Decimal in a static per-thread buffer (4 of them in turn), for values. */
const char *log_num(long long v);

#endif
