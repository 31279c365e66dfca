/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet and its connection: its place in the sequence, its payload, its series. */
#ifndef METRICD_CONNECTION_H
#define METRICD_CONNECTION_H

#include "http/follow.h"
#include "http/unknown.h"
#include "mesh/mesh.h"

/* Adds a time to the histogram of the packet's connection. */
__noinline int connection_add_time(struct __sk_buff *skb, __u32 what, __u64 ns)
{
	struct scratch *s = scratch();

	if (s && skb->len)
		histogram_handshake(s->packet.series, &s->packet.key, s->packet.flags, what, ns);
	return 0;
}

/* Follows the packet with its connection, and settles its series. Returns false if the packet's
 * connection is not known. */
static __always_inline bool connection_follow(struct __sk_buff *skb, struct scratch *s,
					      struct conn *c)
{
	struct packet *p = &s->packet;
	struct tcp_result *result = &s->result;
	bool parse = false;

	__builtin_memset(result, 0, sizeof(*result));
	if (likely(p->key.proto == IPPROTO_TCP && !p->fragment)) {
		enum tcp_way way = tcp_in_order(c, p);

		parse = way == IN_ORDER_PARSE;
		if (unlikely(way == OUT_OF_ORDER)) {
			if (tcp_track(skb) || !result->known)
				return false;
			parse = result->parse;
			if (unlikely(result->contended)) {
				parse = follow_turn(skb);
				if (!parse)
					counters_add(contended);
			}
		}
	} else {
		union brief b = {.word = READ_ONCE(c->brief.word)};

		p->flags = b.flags;
		if (b.generation != p->generation || b.state != SLOT_LIVE)
			return false;
		conn_seen(c, p->egress, p);
	}
	if (config.mesh && unlikely(p->flags & CONN_UNSETTLED)) {
		p->series = SERIES_HELD;
		if (!p->delta.closed)
			return true;
		/* It has ended before it was settled. */
		if (mesh_settle(skb, 0))
			p->delta.closed = 0;
	}
	p->series = epoch_number(READ_ONCE(c->series));
	/* If the slot was given away meanwhile, this may be another connection's series. */
	if (unlikely(!config.ordered || epoch_is_other(p->series) ||
		     READ_ONCE(c->brief.generation) != p->generation))
		p->series = conn_series(skb);
	if (parse) {
		follow_payload(skb, s, c);
		if (unlikely(p->unknown | p->unknown_grpc))
			unknown_add(skb);
		if (unlikely(p->answers.count))
			answers_end(skb);
		tcp_release(c, p, result);
	}
	if (unlikely(p->delta.closed)) {
		conn_free(result->http2 - 1, result->early[ROLE_CLIENT],
			  result->early[ROLE_SERVER]);
		if (TAPPED && p->delta.aborted)
			tap_aborted(skb, p->slot, abort_reason(p->delta.closed - 1),
				    p->delta.aborted);
	}
	if (unlikely(result->rtt_ns))
		connection_add_time(skb, HANDSHAKE_RTT, result->rtt_ns);
	if (unlikely(result->opened_ns))
		connection_add_time(skb, HANDSHAKE_DURATION, packet_now(p) - result->opened_ns);
	return true;
}

#endif
