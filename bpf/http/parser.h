/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the parsers of all protocols share. */
#ifndef METRICD_HTTP_PARSER_H
#define METRICD_HTTP_PARSER_H

#include "count/responses.h"
#include "net/tcp.h"

#define PARSER_STEPS 4096 /* steps of a parser in one packet, and at most one more */
#define PARSER_SOME 64	  /* steps in one of the loops that they are taken in */

/* Statuses of gRPC. */
#define GRPC_UNKNOWN 2
#define GRPC_PERMISSION_DENIED 7
#define GRPC_UNIMPLEMENTED 12
#define GRPC_INTERNAL 13
#define GRPC_UNAVAILABLE 14
#define GRPC_UNAUTHENTICATED 16

#define STOP 1
#define GO_ON 0

#define BYTES(c) (0x0101010101010101ULL * (c))

/* Eight characters as they are read from memory by a little-endian machine. */
#define CHARS(a, b, c, d, e, f, g, h)                                                              \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |   \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

static __always_inline __u64 buffer_word(struct scratch *s, __u32 at)
{
	__u8 *from;

	bounded(at, 1023);
	/* By way of a variable: of what it knows to be an array of bytes, clang 22 reads eight
	 * single ones. */
	from = s->buffer + at;
	return *(__u64 *)from;
}

static __always_inline __u8 buffer_byte(struct scratch *s, __u32 at)
{
	bounded(at, 1023);
	return s->buffer[at];
}

/* How a global function comes by what its caller had: the scratch, and the packet's connection. */
static __always_inline struct conn *parser_enter(struct __sk_buff *skb, struct scratch **s)
{
	*s = scratch();
	/* The verifier wants an argument to be used. */
	return *s && skb->len ? conn_slot((*s)->packet.slot) : NULL;
}

static __always_inline struct parser *parser_mine(struct scratch *s, struct conn *c)
{
	__u32 role = s->packet.role;

	bounded(role, 1);
	return &conn_side(c, role)->parser;
}

/*
 * Gives up the direction at hand, which can't be followed any more. If it is the server's, the
 * answers still to come are unknown; if it is the client's, no more requests are counted. HTTP/1
 * may be followed again later: http/http1/resume.h.
 */
__noinline int parser_lost(struct __sk_buff *skb, __u32 reason)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct packet *p;
	__u32 n = 0;

	if (unlikely(!c))
		return STOP;
	p = &s->packet;
	parser_mine(s, c)->phase = PHASE_LOST;
	/* The CPU of the other direction has found out meanwhile that there is nothing to lose. */
	if (READ_ONCE(c->brief.l7) == L7_OPAQUE)
		return STOP;
	if (!p->delta.lost)
		p->delta.lost = reason + 1;
	bpf_spin_lock(&c->lock);
	c->brief.seen |= SEEN_BROKEN;
	c->acked = p->role == ROLE_SERVER ? p->ack : c->isn;
	if (p->role == ROLE_SERVER) {
		c->brief.flags |= CONN_ANSWERS_LOST;
		n = conn_outstanding(c);
		if (n > 1)
			c->ends |= END_PIPELINES;
		p->pending += conn_pending(c);
	}
	bpf_spin_unlock(&c->lock);
	p->unknown += n;
	return STOP;
}

/* Decides what an undecided connection carries: `l7` (enum l7), as `decision` (enum decision). The
 * CPU of the other direction may be faster. Returns GO_ON if the connection carries that now. */
__noinline int parser_decide(struct __sk_buff *skb, __u32 l7, __u32 decision)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	bool is_first = false;
	__u32 now;

	if (unlikely(!c))
		return STOP;
	bpf_spin_lock(&c->lock);
	now = c->brief.l7;
	if (now == L7_UNDECIDED) {
		c->brief.l7 = now = l7;
		is_first = true;
	}
	bpf_spin_unlock(&c->lock);
	if (is_first)
		s->packet.delta.decided = decision + 1;
	return now == l7 ? GO_ON : STOP;
}

/* Gives up a connection that carries nothing that is followed: it is counted as L4 from here on. */
static __always_inline int parser_opaque(struct __sk_buff *skb, enum decision why)
{
	parser_decide(skb, L7_OPAQUE, why);
	return STOP;
}

/* How long a packet waits for another CPU at most: that is in the softirq, where all packets of
 * this CPU wait, too. It is longer than most packets take to follow. */
#define PARSER_WAIT_NS 100000
#define PARSER_WAIT_ROUNDS 128 /* of PARSER_WAIT_READS looks, if they are so quick */
#define PARSER_WAIT_READS 1024

/* One round of waiting for the CPU that follows one direction of the packet's connection, since the
 * time `since`. Returns STOP if that has taken too long. */
__noinline int parser_wait(struct __sk_buff *skb, __u32 role, __u64 since)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	if (unlikely(!c))
		return STOP;
	bounded(role, 1);
	for (int i = 0; i < PARSER_WAIT_READS; i++) {
		if (!READ_ONCE(conn_side(c, role)->busy))
			return GO_ON;
	}
	return bpf_ktime_get_ns() - since > PARSER_WAIT_NS ? STOP : GO_ON;
}

/* Skips up to `n` bytes of a part of known length. */
static __always_inline void parser_skip(struct scratch *s, struct parser *h, __u64 n)
{
	if (n < h->left) {
		if (h->phase != HTTP1_CLOSE)
			h->left -= n;
		s->packet.pos += n;
		return;
	}
	s->packet.pos += h->left;
	h->left = 0;
	if (h->phase == HTTP1_CHUNK_DATA) {
		h->phase = HTTP1_CHUNK_SIZE;
		h->length = 0;
	} else if (h->phase == HTTP2_SKIP) {
		h->phase = PHASE_START;
	} else {
		h->phase = HTTP1_END;
	}
}

#endif
