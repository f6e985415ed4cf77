/* loop/record: one message over a SOCK_SEQPACKET channel between two processes, without ever blocking. */
#ifndef MUSTER_LOOP_RECORD_H
#define MUSTER_LOOP_RECORD_H

#include "base/err.h"
#include "base/span.h"

enum { RECORD_LATER = -1, RECORD_ENDED = -2, RECORD_MALFORMED = -3 };

/* 0; RECORD_LATER (its buffer is full), RECORD_ENDED. */
int record_send(int fd, struct span message) MUSTER_MUST_CHECK;
/* 1 and *message inside `into`; RECORD_LATER (nothing there), RECORD_ENDED, RECORD_MALFORMED (over max bytes, or with descriptors). */
int record_receive(int fd, uint8_t *into, size_t max, struct span *message) MUSTER_MUST_CHECK;

#endif
