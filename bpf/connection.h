/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet and its connection: its place in the sequence, its payload, its series. */
#ifndef METRICD_CONNECTION_H
#define METRICD_CONNECTION_H

#include "dns/dns.h"
#include "http/follow.h"
#include "http/unknown.h"
#include "mesh/mesh.h"
#include "net/fragment.h"
#include "net/mptcp.h"

/* Adds a time to the histogram of the packet's connection. */
__noinline int connection_add_time(struct __sk_buff *skb, __u32 what, __u64 ns)
{
	struct scratch *s = scratch();

	if (s && skb->len)
		histogram_handshake(s->packet.series, &s->packet.key, s->packet.flags, what, ns);
	return 0;
}

/* Follows a packet that is not TCP, or a fragment. Returns 0 if its flow is known; the result is in
 * the scratch. */
__noinline int connection_track(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct tcp_result *result;
	struct packet *p;
	union brief b;
	__u32 role;

	if (!c)
		return -1;
	p = &s->packet;
	result = &s->result;
	b.word = READ_ONCE(c->brief.word);
	if (b.generation != p->generation || b.state != SLOT_LIVE)
		return -1;
	p->flags = b.flags;
	conn_seen(c, p->egress, p);
	if (likely(!(b.flags & CONN_UNSETTLED)))
		return 0;
	role = tcp_role(p, b.flags);
	bounded(role, 1);
	bpf_spin_lock(&c->lock);
	if (c->brief.generation == p->generation && (c->brief.flags & CONN_UNSETTLED)) {
		c->ends |= role == ROLE_CLIENT ? END_SPOKE(ROLE_CLIENT) : END_SPOKE(ROLE_SERVER);
		result->held = held_by_both(c);
		result->holds = !result->held;
		if (result->holds) {
			held_add(c, p, role);
		} else {
			held_take(c, s->held);
			c->brief.flags &= ~CONN_UNSETTLED;
		}
	}
	p->flags = c->brief.flags;
	bpf_spin_unlock(&c->lock);
	return 0;
}

/* Follows a segment that tcp_in_order does not take. Returns 0 if its connection is known; the
 * result is in the scratch. */
__noinline int connection_unordered(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct tcp_result *result;

	if (!c || tcp_track(skb))
		return -1;
	result = &s->result;
	if (!result->known)
		return -1;
	/* Which connection_settle counts, once the subflow has opened. */
	if (packet_is_syn(&s->packet) && mptcp_joins(skb))
		c->brief.l7 = result->l7 = L7_OPAQUE;
	if (unlikely(result->contended)) {
		result->parse = follow_turn(skb);
		if (!result->parse)
			counters_add(contended);
	}
	return 0;
}

/* Adds what the packet's connection has held to its series, which it has from now on. */
__noinline int connection_settle(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct metric_value *v;
	struct packet *p;
	__u32 decision = DECIDED_PASSED_OVER;

	if (!c)
		return 0;
	p = &s->packet;
	p->series = conn_series(skb);
	v = series_value(p->series);
	if (!v)
		return 0;
	held_settle(v, s->held, conn_client_sends(&p->key, p->flags));
	if (p->key.proto == IPPROTO_TCP && !p->fragment && s->result.l7 == L7_OPAQUE) {
		if (!mesh_is_proxys(p->flags) &&
		    ((p->flags & CONN_ADOPTED) || (s->result.ends & END_LATE)))
			decision = DECIDED_MIDSTREAM;
		series_add_decided(v, decision);
		if (decision == DECIDED_MIDSTREAM && !(p->flags & CONN_UNSETTLED))
			add(&v->lost.midstream, 1);
	}
	if (!(p->flags & CONN_UNSETTLED))
		port_opened(s->series.direction, s->series.dst_port);
	return 0;
}

/*
 * Reads a packet that packet_direct could not read. Returns 1 if no connection is needed to count
 * it, and settles its series then: of what is not IP, of messages of DNS, which are counted as
 * queries and answers, and of fragments whose ports nobody knows.
 */
__noinline int connection_needless(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct packet *p;
	bool client_local;
	__u32 how = 0;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	packet_any(skb);
	p->sent = p->egress;
	if (p->kind == SERIES_IP) {
		if (p->fragment)
			fragment_ports(skb);
		if (packet_is_later_fragment(p)) {
			if (p->key.ports && !dns_is(p))
				return 0;
			client_local =
			    p->key.ports ? dns_is_port(p->key.remote_port) : !p->to_local;
			p->flags = client_local ? CONN_CLIENT_LOCAL : 0;
			how = p->key.ports ? 0 : SERIES_IF_ANY;
		} else if (!dns_is(p) || !dns_datagram(skb)) {
			return 0;
		}
		if (conn_is_loopback(&p->key))
			p->sent = mesh_sends(p->flags, tcp_role(p, p->flags));
	}
	p->series = series_find(skb, how);
	return 1;
}

/* Settles the series of a packet whose connection is not known. */
__noinline int connection_stray(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct packet *p;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	p->flags = conn_flags(skb, p);
	p->series = series_find(skb, series_how(p->flags));
	return 0;
}

/* Counts the requests that end with the packet's connection. */
__noinline int connection_aborts(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (s && skb->len)
		aborted_end(skb, s->packet.series, abort_reason(s->packet.delta.closed - 1));
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
			if (connection_unordered(skb))
				return false;
			parse = result->parse;
		}
	} else if (connection_track(skb)) {
		return false;
	}
	if (unlikely(result->holds)) {
		p->series = SERIES_HELD;
		return true;
	}
	if (unlikely(result->held))
		connection_settle(skb);
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
		tcp_release(c, s);
	}
	if (unlikely(config.routes) && p->pending) {
		requests_forget(skb, p->series, p->pending,
				c->brief.l7 == L7_HTTP2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1);
		p->pending = 0;
	}
	if (unlikely(p->delta.closed)) {
		if (unlikely(p->delta.aborted))
			connection_aborts(skb);
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
