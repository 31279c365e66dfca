/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How slots of the table are taken for new connections, and come back.
 *
 * There is no timer and no helper in user space: packets sweep. With the first packet of each tick,
 * a CPU looks at the slots that are due; if there is a packet in each, it goes through the table in
 * CONN_ROUND. Every new connection looks at CONN_SWEEP slots more. Who looks closes what has been
 * idle, and gives back what has been closed. When no slot is free, a new connection takes one of
 * the slots that it has looked at: a closed one, for which it looks at up to CONN_SWEEP_MORE slots,
 * else the one that has been silent the longest.
 */
#ifndef METRICD_NET_CONN_SLOTS_H
#define METRICD_NET_CONN_SLOTS_H

#include "count/aborted.h"
#include "net/conn.h"
#include "tap/tap.h"

#define CONN_ROUND 2048	    /* jiffies: 2 to 20 s */
#define CONN_SWEEP_MOST 512 /* slots, with one packet */
#define CONN_SWEEP 4
#define CONN_SWEEP_MORE 32 /* if all of these are live: from then on all over the table */
#define CLOSED_KEPT_NS (10 * SECOND)
#define CONN_IS_CLOSED (~0U) /* conn_sweep's time of silence, in jiffies */
#define ANY_GENERATION 0

/*
 * Takes the slot's connection out of the table, if it is still the one of this generation, and
 * accounts for its end if that has not been done. Returns 0 if the slot is now the caller's
 * (SLOT_OWNED).
 */
__noinline int conn_retire(struct __sk_buff *skb, __u32 slot, __u32 reason, __u32 generation)
{
	struct conn *c = conn_slot(slot);
	struct scratch *s = scratch();
	struct metric_value *v;
	struct conn_key *key;
	__u64 opened = 0, now;
	__u32 aborted = 0, pending = 0, series = ELEMENT_OTHER, http2 = NO_HTTP2, early[2] = {};
	__u8 flags = 0, l7 = L7_OPAQUE, state;
	bool taken = false;

	if (!c || !s || !skb->len)
		return -1;
	key = &s->retired;
	now = bpf_ktime_get_ns();
	bpf_spin_lock(&c->lock);
	state = c->brief.state;
	if ((state == SLOT_LIVE || state == SLOT_CLOSED) &&
	    (generation == ANY_GENERATION || generation == c->brief.generation)) {
		c->brief.state = SLOT_OWNED;
		if (conn_is_busy(c)) {
			c->brief.state = state;
		} else {
			taken = true;
			c->brief.generation++;
			conn_key_copy(key, &c->key);
			series = epoch_number(c->series);
			aborted = conn_aborts(c, &s->aborted);
			http2 = c->http2;
			c->http2 = NO_HTTP2;
			early[ROLE_CLIENT] = conn_side(c, ROLE_CLIENT)->parser.early;
			early[ROLE_SERVER] = conn_side(c, ROLE_SERVER)->parser.early;
			conn_side(c, ROLE_CLIENT)->parser.early =
			    conn_side(c, ROLE_SERVER)->parser.early = 0;
			pending = conn_pending(c);
			opened = c->opened_ns;
			l7 = c->brief.l7;
			flags = c->brief.flags;
			if (config.mesh)
				conn_key_copy(&s->retired_as_sent, &c->as_sent);
			if (flags & CONN_UNSETTLED) {
				held_take(c, s->held);
				if (config.mesh)
					flags = mesh_class(flags, c->ends, conn_is_loopback(key));
			}
			/* Both FINs, and only the last ACK was never seen: an end in order. */
			if ((c->brief.seen & SEEN_ANY_FIN) == SEEN_ANY_FIN)
				reason = CLOSE_FIN;
			if (c->closing)
				reason = c->closing - 1;
		}
	}
	bpf_spin_unlock(&c->lock);
	if (!taken)
		return -1;

	bpf_map_delete_elem(&linkerd_connection_index_map, key);
	if (config.mesh && (flags & CONN_TRANSLATED))
		bpf_map_delete_elem(&linkerd_connection_index_map, &s->retired_as_sent);
	if (state == SLOT_LIVE && unlikely(epoch_is_other(series) || (flags & CONN_UNSETTLED))) {
		series_key(&s->series, key, flags);
		series = series_find(skb, SERIES_BY_KEY | series_how(flags));
	}
	if (unlikely(aborted))
		aborted_end(skb, series, abort_reason(reason));
	conn_free(http2, early[ROLE_CLIENT], early[ROLE_SERVER]);
	if (state != SLOT_LIVE)
		return 0;
	v = series_value(series);
	if (v) {
		if (flags & CONN_UNSETTLED)
			held_settle(v, s->held, conn_client_sends(key, flags));
		if (key->proto == IPPROTO_TCP && l7 == L7_UNDECIDED)
			series_add_decided(v, DECIDED_NEVER);
		else if (key->proto == IPPROTO_TCP && (flags & CONN_UNSETTLED))
			series_add_decided(v, DECIDED_MIDSTREAM);
		series_add_closed(v, reason);
		if (aborted) {
			series_add_aborted(v, abort_reason(reason), aborted);
			if (TAPPED)
				tap_aborted(skb, slot, abort_reason(reason), aborted);
		}
	}
	if (unlikely(pending))
		requests_forget(skb, series, pending,
				l7 == L7_HTTP2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1);
	if (key->proto == IPPROTO_TCP && !(flags & (CONN_ADOPTED | CONN_UNSETTLED)))
		histogram_handshake(series, key, flags, HANDSHAKE_DURATION, now - opened);
	return 0;
}

/* Gives a slot back that is the caller's. */
static __always_inline void conn_free_slot(__u32 slot)
{
	struct conn *c = conn_slot(slot);

	if (!c)
		return;
	c->brief.state = SLOT_FREE;
	if (bpf_map_push_elem(&linkerd_connection_free_map, &slot, 0)) {
		/*
		 * Newer kernels may refuse the push under contention: then the sweep takes the slot
		 * up as closed. The slot's key may be another slot's by then, and must not be
		 * deleted for this one.
		 */
		bpf_spin_lock(&c->lock);
		c->key.local[0] = c->key.local[1] = c->key.remote[0] = c->key.remote[1] = 0;
		c->brief.state = SLOT_CLOSED;
		bpf_spin_unlock(&c->lock);
	}
}

/*
 * Looks at one slot of the sweep. Returns enum sweep, with the slot's time of silence and its
 * generation in the scratch.
 */
enum sweep {
	SWEEP_NOTHING, /* there is no connection that could be given up */
	SWEEP_IDLE,    /* it is to be given up */
	SWEEP_EVICTS,  /* it could be given up for another one */
};

__noinline int conn_sweep(__u32 slot)
{
	struct scratch *s = scratch();
	struct conn *c = conn_slot(slot);
	__u64 jiffies, now, idle = 0, limit;
	__u32 idle_jiffies, other_jiffies;
	union brief b;
	__u8 proto;

	if (!s || !c)
		return SWEEP_NOTHING;
	jiffies = bpf_jiffies64();
	now = packet_now(&s->packet);
	/* The length of a jiffy is known to no program before 5.11: measure it. */
	if (!s->clock_ns) {
		s->clock_ns = now;
		s->clock_jiffies = jiffies;
	}
	/* Read without the lock, only to choose by: conn_retire looks again. */
	b.word = READ_ONCE(c->brief.word);
	s->swept = b.generation;
	proto = c->key.proto;
	idle_jiffies = conn_silent(c, ROLE_CLIENT, jiffies);
	other_jiffies = conn_silent(c, ROLE_SERVER, jiffies);
	if (idle_jiffies > other_jiffies)
		idle_jiffies = other_jiffies;
	if (b.state != SLOT_LIVE && b.state != SLOT_CLOSED)
		return SWEEP_NOTHING;
	if (jiffies - s->clock_jiffies >= 10)
		idle = (__u64)idle_jiffies * ((now - s->clock_ns) / (jiffies - s->clock_jiffies));
	if (b.state == SLOT_CLOSED) {
		s->silent = CONN_IS_CLOSED;
		return idle > CLOSED_KEPT_NS ? SWEEP_IDLE : SWEEP_EVICTS;
	}
	limit = proto == IPPROTO_TCP && !(b.flags & CONN_UNSETTLED) ? config.idle_tcp_ns
								    : config.idle_other_ns;
	s->silent = idle_jiffies;
	return idle > limit ? SWEEP_IDLE : SWEEP_EVICTS;
}

/* Takes a slot for a new connection. Returns the slot, which is the caller's then, or NO_SLOT. */
__noinline __u32 conn_take(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	__u32 slot = NO_SLOT, candidate = NO_SLOT, silent = 0, generation = 0;

	if (!s || !skb->len)
		return NO_SLOT;
	if (bpf_map_pop_elem(&linkerd_connection_free_map, &slot))
		slot = NO_SLOT;
	for (int i = 0; i < CONN_SWEEP_MORE; i++) {
		__u32 at = s->cursor;
		int r;

		if (i >= CONN_SWEEP && slot == NO_SLOT && silent == CONN_IS_CLOSED) {
			if (!conn_retire(skb, candidate, CLOSE_EVICTED, generation))
				slot = candidate;
			/* Or another CPU has taken it meanwhile. */
			candidate = NO_SLOT;
			silent = 0;
		}
		if (i >= CONN_SWEEP && slot != NO_SLOT)
			break;
		if (at >= config.connections)
			at = 0;
		/* Connections that began together are side by side. */
		s->cursor = at + (i < CONN_SWEEP ? 1 : config.connections / CONN_SWEEP_MORE + 1);
		r = conn_sweep(at);
		if (r == SWEEP_IDLE) {
			if (conn_retire(skb, at, CLOSE_IDLE, s->swept))
				continue;
			if (slot == NO_SLOT)
				slot = at;
			else
				conn_free_slot(at);
		} else if (r == SWEEP_EVICTS && (candidate == NO_SLOT || s->silent > silent)) {
			candidate = at;
			silent = s->silent;
			generation = s->swept;
		}
	}
	if (slot == NO_SLOT && candidate != NO_SLOT &&
	    !conn_retire(skb, candidate, CLOSE_EVICTED, generation))
		slot = candidate;
	return slot;
}

/* Looks at the next slot of those that are due. Returns 1 if there is none. */
__noinline int conn_sweep_next(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	__u32 at;

	if (!s || !skb->len || !s->due)
		return 1;
	s->due--;
	at = s->cursor;
	if (at >= config.connections)
		at = 0;
	s->cursor = at + 1;
	if (conn_sweep(at) == SWEEP_IDLE && !conn_retire(skb, at, CLOSE_IDLE, s->swept))
		conn_free_slot(at);
	return 0;
}

/* Looks at the slots that are due with the packet at hand, which begins a tick. */
__noinline int conn_sweep_due(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	__u32 jiffies;

	if (!s || !skb->len)
		return 0;
	jiffies = s->packet.still < CONN_ROUND ? s->packet.still : CONN_ROUND;
	s->due = (__u64)config.connections * jiffies / CONN_ROUND + 1;
	for (int i = 0; i < CONN_SWEEP_MOST; i++)
		if (conn_sweep_next(skb))
			break;
	return 0;
}

/* Ends the connection of this generation in a slot, and gives the slot back. Returns 0 if the
 * connection is gone. */
static __always_inline int conn_end(struct __sk_buff *skb, __u32 slot, __u32 reason,
				    __u32 generation)
{
	if (conn_retire(skb, slot, reason, generation))
		return -1;
	conn_free_slot(slot);
	return 0;
}

/* Ends the connection in a slot, which another one with its ends is to follow. */
static __always_inline int conn_replace(struct __sk_buff *skb, __u32 slot)
{
	return conn_end(skb, slot, CLOSE_IDLE, ANY_GENERATION);
}

#endif
