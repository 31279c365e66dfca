/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Requests whose answers can't be known any more. */
#ifndef METRICD_HTTP_UNKNOWN_H
#define METRICD_HTTP_UNKNOWN_H

#include "http/http2/reset.h"

/* Counts the packet's requests whose answers will be unknown. */
__noinline int unknown_add(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct packet *p;
	bool http2;

	if (!c)
		return 0;
	p = &s->packet;
	http2 = c->brief.l7 == L7_HTTP2;
	if (http2 && p->role == ROLE_SERVER && (c->brief.flags & CONN_ANSWERS_LOST))
		http2_lost(skb);
	if (TAPPED) {
		tap_unknown(skb, p->slot, http2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1, p->unknown);
		tap_unknown(skb, p->slot, PROTOCOL_GRPC, p->unknown_grpc);
	}
	if (p->unknown)
		responses_add_unknown(skb, http2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1, p->unknown);
	if (p->unknown_grpc)
		responses_add_unknown(skb, PROTOCOL_GRPC, p->unknown_grpc);
	p->delta.answered += p->unknown + p->unknown_grpc;
	p->delta.untimed += p->unknown + p->unknown_grpc;
	return 0;
}

#endif
