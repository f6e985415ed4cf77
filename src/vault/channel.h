/* vault/channel: one message over a channel, without ever blocking.  Called by both halves: process.c and client.c. */
#ifndef MUSTER_VAULT_CHANNEL_H
#define MUSTER_VAULT_CHANNEL_H

#include "vault/process.h"

enum { CHANNEL_LATER = -1, CHANNEL_ENDED = -2, CHANNEL_MALFORMED = -3 };

/* 0; CHANNEL_LATER (its buffer is full), CHANNEL_ENDED. */
int channel_send(int fd, struct span message) MUSTER_MUST_CHECK;
/* 1 and *message inside `into`; CHANNEL_LATER (nothing there), CHANNEL_ENDED, CHANNEL_MALFORMED (over max bytes, or with descriptors). */
int channel_receive(int fd, uint8_t *into, size_t max, struct span *message) MUSTER_MUST_CHECK;
/* The other end of vault_channel_send: 1 and *out, which is the caller's to close; otherwise as channel_receive. */
int channel_receive_fd(int supervisor_fd, struct vault_channel_fd *out) MUSTER_MUST_CHECK;

#endif
