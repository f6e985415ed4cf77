/* courier/wire: the messages between control and the courier, one a SOCK_SEQPACKET record.
 *
 *   order    u32 id (not 0), bytes url, type, event, signature, ca, body        control: deliver this
 *   report   u32 id, u16 status (0: no answer came), u32 retry_after, bytes text  courier: this became of it
 *
 * Integers are big endian, `bytes` are u16 length and content.  Reading is strict: a value out of its shape, or a byte left over, fails the
 * whole message.  Spans that are read point into the message.  Fuzzed. */
#ifndef MUSTER_COURIER_WIRE_H
#define MUSTER_COURIER_WIRE_H

#include "base/buf.h"

#define COURIER_MESSAGE_MAX (64 * 1024)
#define COURIER_CA_MAX 16384
#define COURIER_BODY_MAX 16384
#define COURIER_TEXT_MAX 160

struct courier_order {
    uint32_t id;
    struct span url, type, event, signature; /* the last three are values of header fields */
    struct span ca;                          /* PEM; empty: the system's */
    struct span body;
};
struct courier_report {
    uint32_t id;
    uint16_t status;      /* of HTTP, 100 to 599; 0: none came */
    uint32_t retry_after; /* seconds; 0: none was named */
    struct span text;     /* where no status came: why; printable ASCII */
};

/* MUSTER_EINVALID on any fault of shape. */
int courier_order_read(struct span message, struct courier_order *out) MUSTER_MUST_CHECK;
int courier_order_write(const struct courier_order *o, struct buf *out) MUSTER_MUST_CHECK;
int courier_report_read(struct span message, struct courier_report *out) MUSTER_MUST_CHECK;
int courier_report_write(const struct courier_report *r, struct buf *out) MUSTER_MUST_CHECK;

#endif
