/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments of a datagram of IP (RFC 791 section 3.2, RFC 8200 section 4.5). Only the first one has
 * the ports. They come one after the other on one CPU, so each CPU remembers the last first one:
 * what comes behind it has its ports. Of a fragment that comes alone, or before its first one,
 * nobody knows the ports.
 */
#ifndef METRICD_NET_FRAGMENT_H
#define METRICD_NET_FRAGMENT_H

#include "net/conn.h"

/* Remembers the ports of a first fragment, or gives a later one the ports that are remembered, if
 * it is of the same datagram. */
__noinline int fragment_ports(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct fragmented *first;
	struct packet *p;
	__u32 ports;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	first = &s->fragmented;
	if (!packet_is_later_fragment(p)) {
		conn_key_copy(&first->key, &p->key);
		first->id = p->fragment_id;
		first->to_local = p->to_local;
		return 0;
	}
	/* On the loopback the ports say which end is the local one. */
	if (conn_is_loopback(&p->key) || first->id != p->fragment_id ||
	    first->to_local != p->to_local)
		return 0;
	ports = first->key.ports;
	first->key.ports = p->key.ports;
	if (conn_key_equal(&first->key, &p->key))
		p->key.ports = ports;
	first->key.ports = ports;
	return 0;
}

#endif
