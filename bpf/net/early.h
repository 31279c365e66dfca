/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bytes that come too early, because bytes before them were lost or overtaken, are kept until the
 * missing bytes come, for the parser to read everything in order. What does not fit is lost, and
 * visibly so, if the parser turns out to need it (LOST_GAP).
 *
 * All that is kept belongs to the CPU that is busy with the direction.
 */
#ifndef METRICD_NET_EARLY_H
#define METRICD_NET_EARLY_H

#include "layout/maps.h"

static __always_inline struct early *early_of(__u32 early)
{
	__u32 at = early - 1;

	return bpf_map_lookup_elem(&linkerd_early_map, &at);
}

/* Gives an element of linkerd_early_map back. */
static __always_inline void early_free(__u32 early)
{
	__u32 at = early - 1;

	if (early)
		bpf_map_push_elem(&linkerd_early_free_map, &at, 0);
}

/* The element of linkerd_early_bytes_map that has the byte of a sequence number, for what is kept
 * in `early`. */
static __always_inline __u32 early_piece(__u32 early, __u32 seq)
{
	return (early - 1) * EARLY_PIECES + seq % EARLY_BYTES / EARLY_PIECE;
}

static const struct early_bytes zero_early_bytes; /* too large for the stack */

/* Copies some of the packet's data, from `pos` on, to where it belongs by its sequence number
 * `seq`. Returns how many bytes, or -1. */
__noinline int early_copy_some(struct __sk_buff *skb, __u32 early, __u32 seq, __u32 pos)
{
	__u32 piece = early_piece(early, seq), at = seq % EARLY_PIECE, n;
	struct scratch *s = scratch();
	struct early_bytes *e;

	if (!s)
		return -1;
	e = bpf_map_lookup_elem(&linkerd_early_bytes_map, &piece);
	if (!e) {
		bpf_map_update_elem(&linkerd_early_bytes_map, &piece, &zero_early_bytes,
				    BPF_NOEXIST);
		e = bpf_map_lookup_elem(&linkerd_early_bytes_map, &piece);
		if (!e)
			return -1;
	}
	n = s->packet.end - pos;
	if (n > EARLY_LOAD)
		n = EARLY_LOAD;
	if (n > EARLY_PIECE - at)
		n = EARLY_PIECE - at;
	/* Positive, in a form that older verifiers see. */
	n--;
	bounded(n, (EARLY_LOAD - 1));
	bounded(at, (EARLY_PIECE - 1));
	return bpf_skb_load_bytes(skb, pos, e->data + at, n + 1) ? -1 : (int)n + 1;
}

/* Copies the packet's payload to where it belongs by its sequence numbers, of which `seq` is the
 * first. Returns 0, or -1 if not all of it could be copied. */
__noinline int early_copy(struct __sk_buff *skb, __u32 early, __u32 seq)
{
	struct scratch *s = scratch();
	__u32 pos;

	if (!s)
		return -1;
	pos = s->packet.payload;
	/* Each piece takes two loads, and the first and the last may be cut. */
	for (int i = 0; i < EARLY_BYTES / EARLY_LOAD + 2; i++) {
		int n;

		if (pos == s->packet.end)
			return 0;
		n = early_copy_some(skb, early, seq, pos);
		if (n < 0)
			return -1;
		seq += n;
		pos += n;
	}
	return pos == s->packet.end ? 0 : -1;
}

/* Keeps the packet's payload, which begins at `seq`, when `next` is awaited. Returns 0, or -1 if it
 * can't be kept. */
__noinline int early_put(struct __sk_buff *skb, __u32 seq, __u32 next)
{
	struct scratch *s = scratch();
	struct conn *c = s ? conn_slot(s->packet.slot) : NULL;
	struct parser *h;
	struct early *e;
	__u32 at = 0, end, role, place = EARLY_RANGES;

	if (!c || !skb->len)
		return -1;
	role = s->packet.role;
	bounded(role, 1);
	h = &conn_side(c, role)->parser;
	end = seq + (s->packet.end - s->packet.payload);
	if (end == seq)
		return 0;
	if (end - next > EARLY_BYTES)
		return -1;
	if (!h->early) {
		if (bpf_map_pop_elem(&linkerd_early_free_map, &at))
			return -1;
		h->early = at + 1;
		e = early_of(h->early);
		if (!e)
			return -1;
		__builtin_memset(e->ranges, 0, sizeof(e->ranges));
	}
	e = early_of(h->early);
	if (!e)
		return -1;
	for (int i = 0; i < EARLY_RANGES; i++) {
		__u32 lo = e->ranges[i].lo, hi = e->ranges[i].hi;

		if (lo == hi) {
			place = i;
		} else if (!seq_before(end, lo) && !seq_before(hi, seq)) {
			/* The payload touches this range: they become one. */
			if (early_copy(skb, h->early, seq))
				return -1;
			if (seq_before(seq, lo))
				e->ranges[i].lo = seq;
			if (seq_before(hi, end))
				e->ranges[i].hi = end;
			return 0;
		}
	}
	if (place == EARLY_RANGES || early_copy(skb, h->early, seq))
		return -1;
	bounded(place, (EARLY_RANGES - 1));
	e->ranges[place].lo = seq;
	e->ranges[place].hi = end;
	return 0;
}

/*
 * If the bytes from `next` on are kept, sets the packet's position and end for the parser to read
 * them, and returns 1; else returns 0. Gives the element of linkerd_early_map back when nothing is
 * left in it.
 */
__noinline int early_take(struct __sk_buff *skb, __u32 next)
{
	struct scratch *s = scratch();
	struct conn *c = s ? conn_slot(s->packet.slot) : NULL;
	struct packet *p;
	struct parser *h;
	struct early *e;
	__u32 role, left = 0;

	if (!c || !skb->len)
		return 0;
	p = &s->packet;
	role = p->role;
	bounded(role, 1);
	h = &conn_side(c, role)->parser;
	e = early_of(h->early);
	if (!e)
		return 0;
	for (int i = 0; i < EARLY_RANGES; i++) {
		__u32 lo = e->ranges[i].lo, hi = e->ranges[i].hi;

		if (lo == hi)
			continue;
		if (!seq_before(next, hi)) {
			e->ranges[i].lo = e->ranges[i].hi = 0;
			continue;
		}
		if (!seq_before(next, lo)) {
			p->early = h->early;
			p->early_seq = next;
			p->pos = 0;
			p->end = hi - next;
			e->ranges[i].lo = e->ranges[i].hi = 0;
			return 1;
		}
		left++;
	}
	if (!left) {
		early_free(h->early);
		h->early = 0;
	}
	return 0;
}

/* Copies BLOCK bytes of what is kept, from the packet's position, into the buffer, behind the
 * `carry` bytes that are there. Returns 0, or -1 if nothing is kept there. */
__noinline int early_load(struct __sk_buff *skb, __u32 carry)
{
	struct scratch *s = scratch();
	struct early_bytes *e;
	__u32 seq, piece, at, n;

	if (!s || !skb->len)
		return -1;
	bounded(carry, 63);
	seq = s->packet.early_seq + s->packet.pos;
	piece = early_piece(s->packet.early, seq);
	e = bpf_map_lookup_elem(&linkerd_early_bytes_map, &piece);
	if (!e)
		return -1;
	at = seq % EARLY_PIECE;
	for (__u32 i = 0; i < BLOCK; i += 8)
		*(__u64 *)(s->buffer + carry + i) = *(__u64 *)(e->data + at + i);
	/* What is behind the piece is in the next one, if it is kept at all. */
	n = EARLY_PIECE - at;
	if (n >= BLOCK)
		return 0;
	piece = early_piece(s->packet.early, seq + n);
	e = bpf_map_lookup_elem(&linkerd_early_bytes_map, &piece);
	if (!e)
		return 0;
	bounded(n, (BLOCK - 1));
	for (__u32 i = 0; i < BLOCK && n + i < BLOCK; i += 8)
		*(__u64 *)(s->buffer + carry + n + i) = *(__u64 *)(e->data + i);
	return 0;
}

/* Copies `n` bytes of what the parser reads, from the packet's position, into the buffer, behind
 * the `carry` bytes that are there. Returns 0 on success. */
static __always_inline int early_or_packet(struct __sk_buff *skb, struct scratch *s, __u32 carry,
					   __u32 n)
{
	if (unlikely(s->packet.early))
		return early_load(skb, carry);
	return bpf_skb_load_bytes(skb, s->packet.pos, s->buffer + carry, n);
}

#endif
