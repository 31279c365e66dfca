/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a header block has told of its stream. */
#ifndef METRICD_HTTP_HTTP2_BLOCK_H
#define METRICD_HTTP_HTTP2_BLOCK_H

#include "http/http2/ended.h"

/* Notes what a block has told of an answer, whether the block is the head or the trailers. */
static __always_inline void http2_told(struct http2_stream *r, union hpack_result result,
				       __u64 start_ns)
{
	/* 1xx is not the answer yet, RFC 9110 section 15.2. */
	if (!r->first_ns && (result.found & (FOUND_STATUS | FOUND_UNKNOWN)) &&
	    !(result.status >= 100 && result.status < 200)) {
		r->status = result.status;
		r->first_ns = start_ns;
	}
	if (result.grpc_status != GRPC_STATUS_NONE)
		r->grpc_status = result.grpc_status;
}

/* Notes what the block at hand has told of an answer. */
static __always_inline void http2_head(struct scratch *s, struct http2_side *t,
				       struct http2_stream *r)
{
	http2_told(r, t->result, t->start_ns);
	if (t->ending)
		s->window.done = DONE_STREAM;
}

/* Notes what the block at hand has told of an answer whose request may not have been seen. */
static __always_inline void http2_answer(struct __sk_buff *skb, struct scratch *s, struct http2 *x,
					 struct conn *c, struct http2_side *t)
{
	struct http2_stream *r = http2_find(x, t->stream);
	__u32 protocol, n;

	if (unlikely(!r && READ_ONCE(conn_side(c, ROLE_CLIENT)->parser.phase) == PHASE_LOST &&
		     t->stream > t->last && t->stream > x->side[ROLE_CLIENT].last)) {
		protocol = t->result.found & FOUND_GRPC ? PROTOCOL_GRPC : PROTOCOL_HTTP2;
		n = http2_infer(skb, t->stream, protocol);
		if (unlikely(config.routes))
			route_request(skb, c, protocol, ROUTE_UNKNOWN, n);
		r = http2_find(x, t->stream);
	}
	if (r)
		http2_head(s, t, r);
}

/* Takes up the header block at hand, which is whole. Streams that the server pushes have even
 * numbers, and are left out; of a PUSH_PROMISE only the table's changes matter. */
__noinline int http2_block(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2_side *t;
	struct http2 *x;

	if (!c)
		return 0;
	x = http2_of(c);
	if (!x)
		return 0;
	t = http2_mine(s, x);
	if (!(t->stream & 1) || (t->flags & FLAG_PROMISE))
		return 0;
	if (s->packet.role == ROLE_SERVER)
		http2_answer(skb, s, x, c, t);
	else if (t->stream > t->last)
		http2_request(skb, s, x, c, t);
	return 0;
}

/* Counts a request for which the place `r` is free and nothing else is to be done. Returns false,
 * having done nothing, for any other request. */
static __always_inline bool http2_request_usual(struct scratch *s, struct conn *c,
						struct http2_side *t, struct http2_stream *r)
{
	if (unlikely(t->stream <= t->last || config.routes || http2_taken(r) ||
		     (READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST)))
		return false;
	http2_count(&s->packet, t);
	http2_begin(c, t, r);
	return true;
}

/* http2_block, without a call where, as usual, the stream has the first of its places. */
static __always_inline void http2_block_usual(struct __sk_buff *skb, struct scratch *s,
					      struct http2 *x, struct conn *c, struct http2_side *t)
{
	struct http2_stream *r = http2_place(x, t->stream);

	if (unlikely(!(t->stream & 1) || (t->flags & FLAG_PROMISE))) {
		http2_block(skb);
	} else if (s->packet.role == ROLE_SERVER) {
		if (unlikely(r->stream != t->stream))
			http2_block(skb);
		else if (http2_current(r, t->stream))
			http2_head(s, t, r);
	} else if (unlikely(!http2_request_usual(s, c, t, r))) {
		http2_block(skb);
	}
}

#endif
