/* vault/channel: how the vault gets the channels of its clients from the supervisor. */
#ifndef MUSTER_VAULT_CHANNEL_H
#define MUSTER_VAULT_CHANNEL_H

#include "loop/record.h"
#include "vault/process.h"

/* The other end of vault_channel_send: 1 and *out, which is the caller's to close; otherwise as record_receive. */
int channel_receive_fd(int supervisor_fd, struct vault_channel_fd *out) MUSTER_MUST_CHECK;

#endif
