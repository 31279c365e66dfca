/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A stream begins: a request is counted. */
#ifndef METRICD_HTTP_HTTP2_REQUESTS_H
#define METRICD_HTTP_HTTP2_REQUESTS_H

#include "http/http2/streams.h"

/* Counts the request of the stream at hand. */
static __always_inline void http2_count(struct packet *p, struct http2_side *t)
{
	if (t->result.found & FOUND_GRPC)
		p->delta.grpc++;
	else
		p->delta.http2++;
	t->last = t->stream;
}

/* Gives the request of the stream at hand the place `r`. */
static __always_inline void http2_begin(struct conn *c, struct http2_side *t,
					struct http2_stream *r)
{
	r->protocol = t->result.found & FOUND_GRPC ? PROTOCOL_GRPC : PROTOCOL_HTTP2;
	r->route = t->route;
	r->start_ns = t->start_ns;
	r->deadline = t->result.grpc_status + 1;
	WRITE_ONCE(r->stream, t->stream);
	conn_side(c, ROLE_CLIENT)->requests++;
}

/* Begins a client's stream: counts its request, and looks for a place for it. RFC 9113 section
 * 5.1.1. */
static __always_inline void http2_request(struct __sk_buff *skb, struct scratch *s, struct http2 *x,
					  struct conn *c, struct http2_side *t)
{
	struct http2_stream *r = http2_place(x, t->stream);
	struct packet *p = &s->packet;
	bool grpc = t->result.found & FOUND_GRPC, lost;

	http2_count(p, t);
	if (unlikely(http2_taken(r)))
		r = http2_further(skb, x, t->stream);
	if (unlikely(!r))
		p->delta.lost = LOST_BOUND + 1;
	/* If the server's side is lost, no answer will be known. */
	lost = !r || (READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST);
	if (unlikely(config.routes)) {
		if (lost || (t->route == ROUTE_NONE && (t->result.found & FOUND_UNKNOWN)))
			t->route = ROUTE_UNKNOWN;
		else if (t->route == ROUTE_ROOT || t->route == ROUTE_INDEX)
			t->route = route_static(skb, t->route);
		else if (t->route >= ROUTE_CANDIDATE)
			t->route = route_now(skb, t->route);
		route_request(skb, c, grpc ? PROTOCOL_GRPC : PROTOCOL_HTTP2, t->route, 1);
	}
	if (unlikely(lost)) {
		if (grpc)
			p->unknown_grpc++;
		else
			p->unknown++;
		return;
	}
	http2_begin(c, t, r);
}

#endif
