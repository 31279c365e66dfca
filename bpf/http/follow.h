/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Follows the payload of a connection's segments, in order and each byte once, whatever the
 * protocol is, by handing it to the parser whose turn it is.
 */
#ifndef METRICD_HTTP_FOLLOW_H
#define METRICD_HTTP_FOLLOW_H

#include "dns/dns.h"
#include "http/http1/resume.h"
#include "http/http2/http2.h"

/*
 * Waits for the packet's turn. The stack may hand the packets of one direction to two CPUs; a
 * packet's bytes can't be had again, so the later one waits. Returns whether busy is held.
 */
__noinline int follow_turn(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct packet *p;
	union brief b;
	__u64 since;

	if (unlikely(!c))
		return 0;
	p = &s->packet;
	since = bpf_ktime_get_ns();
	for (int i = 0; i < PARSER_WAIT_ROUNDS; i++) {
		if (parser_wait(skb, p->role, since))
			break;
		if (!conn_busy_anywhere(c, p->role))
			continue;
		b.word = READ_ONCE(c->brief.word);
		if (b.generation == p->generation && b.state == SLOT_LIVE && b.l7 < L7_OPAQUE)
			return 1;
		conn_done_anywhere(c, p->role);
		break;
	}
	return 0;
}

/* Tells tcp_in_order how far there is nothing to see. */
static __always_inline void follow_publish(struct conn *c, struct packet *p, struct parser *h)
{
	union tagged_seq skip = {.generation = p->generation, .seq = h->next};
	__u32 role = p->role;

	/* A lost connection of HTTP/1 is looked at further: it may be followed again. */
	if ((h->phase == PHASE_LOST && c->brief.l7 != L7_HTTP1) ||
	    (h->phase >= HTTP1_BODY && h->left > SKIP_MAX))
		skip.seq += SKIP_MAX;
	else if (h->phase >= HTTP1_BODY)
		skip.seq += h->left;
	bounded(role, 1);
	WRITE_ONCE(conn_side(c, role)->skip.word, skip.word);
}

/* Sequence number of the packet's first byte of payload: a SYN takes one. */
static __always_inline __u32 follow_seq(const struct packet *p)
{
	return p->seq + (p->tcp_flags & TCP_SYN ? 1 : 0);
}

/* Passes over `gap` bytes that are not in the packet, if the message at hand reaches over them. */
static __always_inline bool follow_over(struct __sk_buff *skb, struct scratch *s, struct parser *h,
					__u32 gap)
{
	__u32 pos = s->packet.pos;

	if (h->phase < HTTP1_BODY || gap > h->left)
		return false;
	parser_skip(s, h, gap);
	s->packet.pos = pos;
	if (h->phase == HTTP1_END)
		http1_ended(skb);
	else if (h->phase == PHASE_START)
		http2_passed(skb);
	return true;
}

/* Notes that the connection is not whole, when what shows it is in the parser already: then
 * follow_heal, which may run for the other direction meanwhile, sees it or is undone. */
static __always_inline void follow_break(struct conn *c, const struct packet *p)
{
	bpf_spin_lock(&c->lock);
	if (c->brief.generation == p->generation)
		c->brief.seen |= SEEN_BROKEN;
	bpf_spin_unlock(&c->lock);
}

/* Is the direction followed up to the last byte that has come? */
static __always_inline bool follow_is_whole(const struct parser *h)
{
	return h->phase != PHASE_LOST && h->ahead_lo == h->ahead_hi && !h->early;
}

/* The packet's direction has caught up. If the other one is whole, too, the connection is. */
__noinline int follow_heal(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	if (unlikely(!c) || !(READ_ONCE(c->brief.seen) & SEEN_BROKEN))
		return STOP;
	bpf_spin_lock(&c->lock);
	if (c->brief.generation == s->packet.generation &&
	    follow_is_whole(&conn_side(c, ROLE_CLIENT)->parser) &&
	    follow_is_whole(&conn_side(c, ROLE_SERVER)->parser))
		c->brief.seen &= ~SEEN_BROKEN;
	bpf_spin_unlock(&c->lock);
	return STOP;
}

/*
 * For a packet that does not begin where the last one ended, or of a connection that is not whole,
 * or not yet decided: says whether it is to be followed now, from the packet's position. Bytes seen
 * before are passed over; bytes that come too early are kept, or, if they can't be, remembered as a
 * hull, which is no loss if the message turns out to reach over it.
 */
__noinline int follow_unordered(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	struct packet *p;
	__u32 seq, end, gap;

	if (unlikely(!c))
		return STOP;
	p = &s->packet;
	h = parser_mine(s, c);
	seq = follow_seq(p);
	end = seq + (p->end - p->payload);
	if ((READ_ONCE(c->brief.seen) & SEEN_BROKEN) && c->brief.l7 == L7_HTTP1 &&
	    p->role == ROLE_CLIENT && !http1_resume(skb))
		return GO_ON;
	if (p->role == ROLE_SERVER)
		WRITE_ONCE(c->acked, p->ack);
	p->pos = p->payload;
	if (h->phase == PHASE_LOST) {
		h->next = end;
		early_free(h->early);
		h->early = 0;
		return STOP;
	}
	if (seq_before(seq, h->next)) {
		if (!seq_before(h->next, end))
			return STOP;
		p->pos += h->next - seq;
		return GO_ON;
	}
	gap = seq - h->next;
	if (!gap)
		return GO_ON;
	if (follow_over(skb, s, h, gap))
		return GO_ON;
	if (early_put(skb, seq, h->next)) {
		if (h->ahead_lo == h->ahead_hi) {
			h->ahead_lo = seq;
			h->ahead_hi = end;
		} else {
			if (seq_before(seq, h->ahead_lo))
				h->ahead_lo = seq;
			if (seq_before(h->ahead_hi, end))
				h->ahead_hi = end;
		}
	}
	follow_break(c, p);
	return STOP;
}

/* Goes on, behind a packet that was out of order, with the bytes that came too early. Returns GO_ON
 * if the parser is to read bytes that were kept. */
__noinline int follow_catch_up(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	struct packet *p;
	__u32 end;

	if (unlikely(!c))
		return STOP;
	p = &s->packet;
	h = parser_mine(s, c);
	end = p->early ? p->early_seq + p->end : follow_seq(p) + (p->end - p->payload);
	h->next = end;
	if (h->phase == PHASE_LOST || c->brief.l7 >= L7_OPAQUE) {
		early_free(h->early);
		h->early = 0;
		return STOP;
	}
	if (h->early && early_take(skb, end))
		return GO_ON;
	if (h->ahead_lo == h->ahead_hi && !h->early)
		return follow_heal(skb);
	if (h->ahead_lo == h->ahead_hi || seq_before(end, h->ahead_lo))
		return STOP;
	if (seq_before(end, h->ahead_hi)) {
		if (!follow_over(skb, s, h, h->ahead_hi - end))
			return parser_lost(skb, LOST_GAP);
		h->next = h->ahead_hi;
	}
	h->ahead_lo = h->ahead_hi;
	if (!h->early)
		return follow_heal(skb);
	return early_take(skb, h->next) ? GO_ON : STOP;
}

/* Takes some steps, whatever the connection carries, and behind them what came too early. Returns
 * STOP if there is no more. */
static __always_inline int follow_some(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	__u8 l7 = c->brief.l7;
	int r = STOP;

	if (l7 <= L7_HTTP1)
		r = http1_some(skb);
	else if (l7 == L7_HTTP2)
		r = http2_some(skb);
	else if (l7 == L7_DNS)
		r = dns_some(skb);
	if (r && c->brief.l7 == l7)
		return follow_catch_up(skb);
	if (!r && !--s->packet.rounds)
		return parser_lost(skb, LOST_BOUND);
	return GO_ON;
}

/* Follows a packet that is not the usual one: not in order, or of a connection that is not whole,
 * or not decided, or that carries something else than HTTP. */
__noinline int follow_unusual(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	if (unlikely(!c) || follow_unordered(skb))
		return 0;
	if (TAPPED && c->brief.l7 == L7_HTTP2)
		tap_http2_rest(skb);
	s->packet.rounds = PARSER_STEPS / PARSER_SOME;
	for (int i = 0; i < 2 * EARLY_RANGES + PARSER_STEPS / PARSER_SOME; i++) {
		if (follow_some(skb, s, c))
			break;
	}
	s->packet.early = 0;
	return 0;
}

/* Follows the packet's payload. The caller holds busy. */
static __always_inline void follow_payload(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	struct packet *p = &s->packet;
	struct parser *h = parser_mine(s, c);
	union brief b = {.word = READ_ONCE(c->brief.word)};

	p->pos = p->payload;
	if (likely(p->seq == h->next && !(b.seen & SEEN_BROKEN) && !(p->tcp_flags & TCP_SYN) &&
		   (b.l7 == L7_HTTP1 || b.l7 == L7_HTTP2))) {
		h->next = p->seq + (p->end - p->payload);
		if (likely(b.l7 == L7_HTTP1)) {
			if (p->role == ROLE_CLIENT)
				http1_fetch_run(c);
			if (!http1_consume(skb, s, c, HTTP1_EVENTS))
				http1_steps(skb);
		}
		if (unlikely(c->brief.l7 == L7_HTTP2))
			http2_steps(skb);
	} else {
		follow_unusual(skb);
	}
	if (unlikely((READ_ONCE(c->brief.seen) & SEEN_FIN(ROLE_SERVER)) && p->role == ROLE_SERVER &&
		     h->phase == HTTP1_CLOSE))
		http1_ended(skb);
	if (p->run_count)
		http1_push(skb, c, p);
	follow_publish(c, p, h);
}

#endif
