/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Outstanding requests of a connection, pipelined ones too. The client's side writes them, the
 * server's side reads them, and little else passes from one to the other: side.requests, begun and
 * run_tail.
 */
#ifndef METRICD_HTTP_HTTP1_RUNS_H
#define METRICD_HTTP_HTTP1_RUNS_H

#include "http/http1/words.h"
#include "http/route.h"

/* Is the place of the client's next run known to be free? */
static __always_inline bool http1_has_room(const struct side *side)
{
	return (__u8)(side->run_head - side->tail_seen) < RUNS;
}

/*
 * The server's CPU has the cache line that the client's next run is to be written to. A store to
 * the free place there brings the line to this CPU while the request is read; otherwise the next
 * atomic add would wait for the line.
 */
static __always_inline void http1_fetch_run(struct conn *c)
{
	struct side *side = conn_side(c, ROLE_CLIENT);
	__u32 at = side->run_head;

	if (!http1_has_room(side))
		return;
	bounded(at, (RUNS - 1));
	WRITE_ONCE(c->runs[at].start_ns, 0);
}

/* Takes the requests that the server's side, which can't be followed any more, has not taken:
 * parser_lost takes those that it sees, and whoever holds the lock takes each once. */
__noinline int http1_unanswered(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 n;

	if (!c)
		return 0;
	bpf_spin_lock(&c->lock);
	n = conn_outstanding(c);
	bpf_spin_unlock(&c->lock);
	s->packet.unknown += n;
	return 0;
}

/*
 * Counts the packet's requests by their route, and puts what conn.runs has no bits for beside the
 * run that they are about to become. The last place that is free takes requests of any route, which
 * is unknown then: so what is added to it later does not change it.
 */
__noinline int http1_push_route(struct __sk_buff *skb, __u32 n)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct packet *p;
	struct side *side;
	__u32 at;

	if (!c)
		return 0;
	p = &s->packet;
	side = conn_side(c, ROLE_CLIENT);
	at = side->run_head;
	side->tail_seen = READ_ONCE(conn_side(c, ROLE_SERVER)->run_tail);
	if ((__u8)(side->run_head - side->tail_seen) >= RUNS - 1 ||
	    (READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST))
		p->run_route = ROUTE_UNKNOWN;
	if (http1_has_room(side)) {
		bounded(at, (RUNS - 1));
		c->routes.high[at] = p->run_route >> ROUTE_BITS;
	}
	route_request(skb, c, PROTOCOL_HTTP1, p->run_route, n);
	return 0;
}

/* The route of the request that the answer at hand is to, whose run is not written any more. */
static __always_inline __u32 http1_route(struct conn *c)
{
	__u32 at = conn_side(c, ROLE_SERVER)->run_tail;

	if (likely(!config.routes))
		return ROUTE_NONE;
	bounded(at, (RUNS - 1));
	return c->runs[at].part.route | (__u32)c->routes.high[at] << ROUTE_BITS;
}

/*
 * Remembers the packet's requests. The client's side writes and the server's reads, without a lock.
 * A run's start is written before its numbers, by which the server's side looks for it when an
 * answer comes. A run is written over when the server's side is past it.
 */
static __always_inline int http1_push(struct __sk_buff *skb, struct conn *c, struct packet *p)
{
	struct side *side = conn_side(c, ROLE_CLIENT);
	union run_part part;
	__u32 at = side->run_head, n = p->run_count;

	p->run_count = 0;
	if (unlikely(config.routes))
		http1_push_route(skb, n);
	if (unlikely(!http1_has_room(side)))
		side->tail_seen = READ_ONCE(conn_side(c, ROLE_SERVER)->run_tail);
	if (likely(http1_has_room(side))) {
		bounded(at, (RUNS - 1));
		part.first = side->requests;
		part.count = n;
		part.method = p->run_method;
		part.route = p->run_route;
		WRITE_ONCE(c->runs[at].start_ns, p->run_start_ns);
		WRITE_ONCE(c->runs[at].part.word, part.word);
		side->run_head++;
		side->requests += n;
	} else {
		at--;
		bounded(at, (RUNS - 1));
		part.word = c->runs[at].part.word;
		side->requests += n;
		if (part.method != p->run_method || part.count + n >= 1 << 16)
			return parser_lost(skb, LOST_PIPELINE);
		part.count += n;
		WRITE_ONCE(c->runs[at].start_ns, 0);
		WRITE_ONCE(c->runs[at].part.word, part.word);
	}
	if (unlikely(READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST))
		http1_unanswered(skb);
	return GO_ON;
}

/* http1_push in the middle of a packet, when the packet's next request is of another run. */
__noinline int http1_push_early(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	return c ? http1_push(skb, c, &s->packet) : STOP;
}

/* Finds the request whose answer begins, and puts its start and method into the server's parser.
 * Returns false if there is none. */
static __always_inline bool http1_pop(struct conn *c)
{
	struct side *side = conn_side(c, ROLE_SERVER);
	union run_part part;
	__u32 at = side->run_tail;

	bounded(at, (RUNS - 1));
	part.word = READ_ONCE(c->runs[at].part.word);
	if (side->begun - part.first >= part.count) {
		/* All answers to that run have begun: the request must be in the next one. */
		at = side->run_tail + 1;
		bounded(at, (RUNS - 1));
		part.word = READ_ONCE(c->runs[at].part.word);
		if (unlikely(side->begun - part.first >= part.count))
			return false;
		WRITE_ONCE(side->run_tail, side->run_tail + 1);
	}
	side->parser.request_ns = READ_ONCE(c->runs[at].start_ns);
	side->parser.method = part.method;
	side->begun++;
	return true;
}

#endif
