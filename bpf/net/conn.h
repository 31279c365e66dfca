/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A connection in the table: TCP's, and for other protocols whoever spoke first with whom. */
#ifndef METRICD_NET_CONN_H
#define METRICD_NET_CONN_H

#include "count/histogram.h"
#include "net/clock.h"
#include "net/early.h"
#include "net/held.h"
#include "net/packet.h"
#include "tap/tap.h"

#define NO_SLOT (~0U)
#define NO_HTTP2 (~0U) /* of conn.http2 */

static __always_inline bool conn_key_equal(const struct conn_key *one, const struct conn_key *other)
{
	const __u64 *a = (const __u64 *)one, *b = (const __u64 *)other;

	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4];
}

static __always_inline void conn_key_copy(struct conn_key *to, const struct conn_key *from)
{
	__u64 *a = (__u64 *)to;
	const __u64 *b = (const __u64 *)from;

	a[0] = b[0], a[1] = b[1], a[2] = b[2], a[3] = b[3], a[4] = b[4];
}

/*
 * The place of a connection in the cache. Connections between two given addresses, whose ports
 * follow one another, are side by side: in the lines, and the pages, that the last packets have
 * brought.
 */
static __always_inline __u32 conn_cache_place(const struct conn_key *key)
{
	const __u64 *k = (const __u64 *)key;
	__u64 h = (k[0] ^ k[2]) + (k[1] ^ k[3]) * 0x9e3779b97f4a7c15ULL;

	h = (h ^ key->rest) * 0xff51afd7ed558ccdULL >> 32;
	return (h + (key->ports & 0xffff) + (key->ports >> 16)) & config.cache_mask;
}

/*
 * Finds the packet's connection, and notes in the packet where it is. The cache's guess needs no
 * call: if the slot has the generation that the cache says, the slot's key is of that generation.
 */
static __always_inline struct conn *conn_find(struct packet *p)
{
	__u32 place = conn_cache_place(&p->key);
	union conn_ref *cached = bpf_map_lookup_elem(&linkerd_connection_cache_map, &place);
	union conn_ref ref, *found;
	struct conn *c;

	if (likely(cached)) {
		ref.word = READ_ONCE(cached->word);
		p->slot = ref.slot;
		p->generation = ref.generation;
		c = conn_slot(ref.slot);
		if (likely(c && READ_ONCE(c->brief.generation) == ref.generation &&
			   (conn_key_equal(&c->key, &p->key) ||
			    (config.mesh && (c->brief.flags & CONN_TRANSLATED) &&
			     conn_key_equal(&c->as_sent, &p->key)))))
			return c;
	}
	found = bpf_map_lookup_elem(&linkerd_connection_index_map, &p->key);
	if (!found)
		return NULL;
	ref.word = found->word;
	p->slot = ref.slot;
	p->generation = ref.generation;
	if (cached)
		WRITE_ONCE(cached->word, ref.word);
	return conn_slot(ref.slot);
}

/* Begins a new connection with this packet. The caller holds the slot's lock, or owns the slot. */
static __always_inline void conn_begin(struct conn *c, struct packet *p, __u8 flags)
{
	c->closing = 0;
	c->ends = p->ends;
	__builtin_memset(c->held, 0, sizeof(c->held));
	c->isn = p->seq;
	c->brief.flags = flags;
	c->brief.seen = 0;
	c->brief.l7 =
	    p->key.proto != IPPROTO_TCP || (flags & CONN_ADOPTED) ? L7_OPAQUE : L7_UNDECIDED;
	c->opened_ns = p->now;
	c->handshake_ns = 0;
	c->http2 = NO_HTTP2;
#pragma unroll
	for (int role = ROLE_CLIENT; role <= ROLE_SERVER; role++) {
		struct side *side = conn_side(c, role);
		struct stream *stream = &c->stream[role];

		side->end.word = side->skip.word = 0;
		side->response = ELEMENT_OTHER;
		side->requests = side->answered = 0;
		side->run_head = side->tail_seen = 0; /* and run_tail, in run_head's place */
		side->seen_jiffies = p->jiffies;
		side->parser.phase = PHASE_START;
		side->parser.line = HTTP1_LINE_NEW;
		side->parser.carry_len = 0;
		side->parser.framing = 0;
		side->parser.early = 0;
		side->parser.ahead_lo = side->parser.ahead_hi = 0;
		stream->hole_lo = stream->hole_hi = 0;
	}
	if (config.routes)
		__builtin_memset(&c->routes, 0, sizeof(c->routes));
#pragma unroll
	for (int i = 0; i < RUNS; i++)
		c->runs[i].part.word = 0;
	if (!(flags & CONN_UNSETTLED))
		p->delta.opened++;
}

/* Finds the series of the packet's connection, where the slot has its number of another epoch, or
 * may be another connection's by now. Returns the number in this epoch. */
__noinline __u32 conn_series(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct conn *c = s && skb->len ? conn_slot(s->packet.slot) : NULL;
	__u32 series;

	if (!c)
		return ELEMENT_OTHER;
	series = series_find(skb, series_how(s->packet.flags));
	if (!epoch_is_other(epoch_number(READ_ONCE(c->series))))
		return series;
	bpf_spin_lock(&c->lock);
	if (c->brief.generation == s->packet.generation)
		WRITE_ONCE(c->series, epoch_tag(series));
	bpf_spin_unlock(&c->lock);
	return series;
}

/* Who has sent the packet: enum role. */
static __always_inline __u32 tcp_role(const struct packet *p, __u8 flags)
{
	bool client_local = flags & CONN_CLIENT_LOCAL;

	return client_local != p->to_local ? ROLE_CLIENT : ROLE_SERVER;
}

/* Has the pod sent what the client of the connection has sent? */
static __always_inline bool conn_client_sends(const struct conn_key *k, __u8 flags)
{
	return conn_is_loopback(k) ? mesh_sends(flags, ROLE_CLIENT) : flags & CONN_CLIENT_LOCAL;
}

/*
 * Takes the connection's requests without an answer, which will not get one any more, and returns
 * how many they are. Under the slot's lock, and when nobody is busy with the server's side, unless
 * its answers are lost: CONN_ANSWERS_LOST. The client's side may add requests meanwhile, so their
 * number is read once.
 */
static __always_inline __u32 conn_outstanding(struct conn *c)
{
	__u32 requests = READ_ONCE(conn_side(c, ROLE_CLIENT)->requests);
	__u32 n = requests - conn_side(c, ROLE_SERVER)->answered;

	conn_side(c, ROLE_SERVER)->answered = requests;
	return n;
}

/* Takes the requests without an answer of a connection that ends, as conn_outstanding does, and
 * keeps what is known of them: see count/aborted.h. Returns how many they are. */
static __always_inline __u32 conn_aborts(struct conn *c, struct aborted *aborted)
{
	aborted->first = conn_side(c, ROLE_SERVER)->answered;
	aborted->count = conn_outstanding(c);
	if (likely(!aborted->count))
		return 0;
	__builtin_memcpy(aborted->runs, c->runs, sizeof(c->runs));
	if (config.routes)
		__builtin_memcpy(aborted->high, c->routes.high, sizeof(c->routes.high));
	aborted->tail = conn_side(c, ROLE_SERVER)->run_tail;
	aborted->head = conn_side(c, ROLE_CLIENT)->run_head;
	aborted->http2 = c->http2 + 1;
	aborted->protocol = c->brief.l7 == L7_HTTP2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1;
	return aborted->count;
}

/* Takes the connection's pending requests, which nothing will settle any more. Returns how many
 * they are: in the upper half those of gRPC. */
static __always_inline __u32 conn_pending(struct conn *c)
{
	struct conn_routes *routes = &c->routes;
	__u16 others = routes->pending[0] - routes->settled[0],
	      grpc = routes->pending[1] - routes->settled[1];

	if (!config.routes)
		return 0;
	routes->settled[0] += others;
	routes->settled[1] += grpc;
	return others | (__u32)grpc << 16;
}

/* Tries to become the CPU that follows the role's bytes. Returns whether this one is. */
static __always_inline bool conn_busy(struct conn *c, __u32 role)
{
	bounded(role, 1);
	add32(&conn_side(c, role)->busy, 1);
	if (likely(READ_ONCE(conn_side(c, role)->busy) == 1))
		return true;
	add32(&conn_side(c, role)->busy, -1);
	return false;
}

/* Stops following the role's bytes: undoes conn_busy. */
static __always_inline void conn_done(struct conn *c, __u32 role)
{
	bounded(role, 1);
	add32(&conn_side(c, role)->busy, -1);
}

/* conn_busy and conn_done, for callers that may run where an atomic add is no barrier: there the
 * two are done under the slot's lock. */
static __always_inline bool conn_busy_anywhere(struct conn *c, __u32 role)
{
	bool is_mine;

	if (config.ordered)
		return conn_busy(c, role);
	bpf_spin_lock(&c->lock);
	is_mine = conn_busy(c, role);
	bpf_spin_unlock(&c->lock);
	return is_mine;
}

static __always_inline void conn_done_anywhere(struct conn *c, __u32 role)
{
	if (config.ordered) {
		conn_done(c, role);
		return;
	}
	bpf_spin_lock(&c->lock);
	conn_done(c, role);
	bpf_spin_unlock(&c->lock);
}

/* Is any CPU busy with the connection? What was stored before this call is seen by a CPU that
 * becomes busy after it. */
static __always_inline bool conn_is_busy(struct conn *c)
{
	__u32 nothing = 0;

	/* An atomic add, of a zero that the compiler can't see, for a barrier. */
	asm volatile("" : "+r"(nothing));
	add32(&conn_side(c, ROLE_CLIENT)->busy, nothing);
	return READ_ONCE(conn_side(c, ROLE_CLIENT)->busy) |
	       READ_ONCE(conn_side(c, ROLE_SERVER)->busy);
}

/* Gives back what a connection had in other maps. */
static __always_inline void conn_free(__u32 http2, __u32 early_client, __u32 early_server)
{
	for (int i = 0; i < HTTP2_PAGES; i++) {
		struct http2 *x = http2_element(http2);
		__u32 next;

		if (!x)
			break;
		next = x->next;
		bpf_map_push_elem(&linkerd_http2_free_map, &http2, 0);
		http2 = next - 1;
	}
	early_free(early_client);
	early_free(early_server);
}

/* Notes that the role has sent this packet. */
static __always_inline void conn_seen(struct conn *c, __u32 role, const struct packet *p)
{
	struct side *side;

	bounded(role, 1);
	side = conn_side(c, role);
	if (side->seen_jiffies != p->jiffies)
		WRITE_ONCE(side->seen_jiffies, p->jiffies);
}

/* For how many jiffies the role has sent nothing; after half of what 32 bits hold, for none again.
 */
static __always_inline __u32 conn_silent(struct conn *c, __u32 role, __u64 jiffies)
{
	__s32 silent = (__u32)jiffies - READ_ONCE(conn_side(c, role)->seen_jiffies);

	return silent < 0 ? 0 : silent;
}

#endif
