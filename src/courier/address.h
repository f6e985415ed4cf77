/* courier/address: where a webhook's request may go.  Asked again for each connection, with the address that the name resolved to: what a
 * name means can change after the URL was checked. */
#ifndef MUSTER_COURIER_ADDRESS_H
#define MUSTER_COURIER_ADDRESS_H

#include <stdbool.h>

struct sockaddr;

/* networks: the setting webhook_networks; "" anywhere but what is refused anyway, and loopback, which has to be named.  Never: link-local
 * addresses and the other places where clouds keep their metadata, multicast, what is no address of a host. */
bool address_allowed(const char *networks, const char *address);
bool address_is_loopback(const char *address);
#define ADDRESS_TEXT_MAX 64
/* An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4) is the IPv4 address; "" for other families. */
void address_text(const struct sockaddr *at, char out[ADDRESS_TEXT_MAX]);

#endif
