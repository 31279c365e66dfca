/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/1.1 and 1.0, RFC 9112: messages are followed across packets by sequence number.
 *
 * Heads are read in blocks, lines found eight bytes at a time, and of the lines only the first,
 * content-length, transfer-encoding and upgrade are looked at. What is left of a line at the end of
 * a packet is carried over, so a head may be cut anywhere. Bodies of known length are skipped.
 *
 * The bounds:
 * - PARSER_STEPS messages, chunks and blocks of a head in one packet (LOST_BOUND).
 * - RUNS packets of outstanding pipelined requests with a start time. Beyond that, requests have no
 *   duration, and the connection is lost if their method differs from that of the last run
 *   (LOST_PIPELINE).
 * - START_LINE bytes of a start line (LOST_BOUND).
 *
 * The usual packet, a whole head with or without its body, is one step within the program. A call
 * costs as much as thirty instructions, so a step makes none that can be avoided. Further steps of
 * a packet are a global function, which the verifier checks once, by itself. State is kept in maps,
 * where the verifier does not multiply it.
 */
#ifndef METRICD_HTTP_HTTP1_HTTP1_H
#define METRICD_HTTP_HTTP1_HTTP1_H

#include "http/http1/head.h"

/* Consumes some of the packet in one of the phases that are HTTP1_RARE. */
__noinline int http1_rare(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	if (!c)
		return STOP;
	switch (parser_mine(s, c)->phase) {
	case HTTP1_PROXY:
		return http1_proxy(skb);
	case HTTP1_EXPECT:
		return http1_expect(skb);
	case HTTP1_UNASKED:
		return http1_unasked(skb);
	default:
		return http1_chunk_size(skb);
	}
}

/* The phases in which no head is read, and nothing is passed over. */
#define HTTP1_RARE                                                                                 \
	(1U << HTTP1_CHUNK_SIZE | 1U << HTTP1_CHUNK_EXT | 1U << HTTP1_PROXY | 1U << HTTP1_EXPECT | \
	 1U << HTTP1_UNASKED)

/* Consumes some of the packet: a head with what is there of its body, a chunk's size, a body.
 * Returns STOP if the rest is not to be looked at, or there is none. */
static __always_inline int http1_consume(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					 int events)
{
	struct parser *h = parser_mine(s, c);
	__u32 avail = s->packet.end - s->packet.pos;

	if (unlikely(!avail || h->phase == PHASE_LOST))
		return STOP;
	if (h->phase < HTTP1_BODY) {
		if (unlikely(1U << h->phase & HTTP1_RARE)) {
			if (http1_rare(skb))
				return STOP;
		} else if (http1_head(skb, s, c, h, avail, events)) {
			return STOP;
		}
		avail = s->packet.end - s->packet.pos;
	}
	if (h->phase >= HTTP1_BODY)
		parser_skip(s, h, avail);
	if (h->phase == HTTP1_END)
		http1_end(skb, s, c);
	return s->packet.pos == s->packet.end || c->brief.l7 > L7_HTTP1 ? STOP : GO_ON;
}

/* http1_consume as a function of its own, for the steps of a packet that are not usual. */
__noinline int http1_step(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	return c ? http1_consume(skb, s, c, HTTP1_EVENTS_RARE) : STOP;
}

/* Takes PARSER_SOME steps at most. Two loops, this one and that of http1_steps, are less for the
 * verifier to walk through than one. */
__noinline int http1_some(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return STOP;
	for (int i = 0; i < PARSER_SOME; i++) {
		if (http1_step(skb))
			return STOP;
	}
	return GO_ON;
}

/* Consumes what is left of the packet after its first step. */
__noinline int http1_steps(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return STOP;
	for (int i = 0; i < PARSER_STEPS / PARSER_SOME; i++) {
		if (http1_some(skb))
			return STOP;
	}
	return parser_lost(skb, LOST_BOUND);
}

/* Ends the message at hand, in the places where that is rare: http1_end as a function of its
 * own. */
__noinline int http1_ended(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	if (c)
		http1_end(skb, s, c);
	return GO_ON;
}

#endif
