/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Multipath TCP, RFC 8684: a connection may be a further subflow of another one. The bytes of the
 * stream are spread over the subflows, so what comes by a further one is no stream of its own, and
 * is not followed.
 */
#ifndef METRICD_NET_MPTCP_H
#define METRICD_NET_MPTCP_H

#include "net/packet.h"

#define MPTCP_OPTION 30
#define MPTCP_JOIN 1 /* the option's subtype: RFC 8684 section 3.2 */
#define TCP_OPTIONS 40

/* Does the SYN at hand join its connection to another one? What can't be read does not. */
__noinline int mptcp_joins(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct packet *p;
	__u32 l4, n, at = 0;

	if (!s)
		return false;
	p = &s->packet;
	if (packet_read(skb, p, 0, 1))
		return false;
	l4 = p->headers[0] >> 4 == 4 ? (p->headers[0] & 15) * 4 : IPV6_LEN;
	if (packet_read(skb, p, l4, TCP_FIELDS))
		return false;
	n = (p->headers[12] >> 4) * 4 - TCP_LEN - 1;
	if (n >= TCP_OPTIONS)
		return false;
	/* Positive, in a form that older verifiers see. */
	bounded(n, 63);
	n++;
	if (packet_read(skb, p, l4 + TCP_LEN, n))
		return false;
	for (int i = 0; i < TCP_OPTIONS; i++) {
		__u8 kind, len;

		/* The kind, the length, and the subtype. */
		if (at + 2 >= n)
			break;
		bounded(at, 63);
		kind = p->headers[at];
		len = kind == 1 ? 1 : p->headers[at + 1];
		if (kind == MPTCP_OPTION)
			return p->headers[at + 2] >> 4 == MPTCP_JOIN;
		if (!kind || !len)
			break;
		at += len;
	}
	return false;
}

#endif
