/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One window of bytes after the other, and the pieces in each. */
#ifndef METRICD_HTTP_HTTP2_STEP_H
#define METRICD_HTTP_HTTP2_STEP_H

#include "http/http2/token.h"

/* Has a header block come to an end that has not been looked at yet? */
static __always_inline bool http2_pending(struct parser *h, struct http2_side *t)
{
	return h->phase == PHASE_START && t->token == TOKEN_BLOCK && !t->left;
}

/* A payload has been passed over: was it the last of an answer? */
static __always_inline bool http2_payload_ends(struct http2_side *t)
{
	if (t->token != TOKEN_FRAME || !t->ending || t->in_block)
		return false;
	t->ending = 0;
	return true;
}

/* Goes on behind a payload, or a part of one, that was passed over without being seen. */
__noinline int http2_passed(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x = c ? http2_of(c) : NULL;
	struct http2_side *t;

	if (!x)
		return GO_ON;
	t = http2_mine(s, x);
	if (http2_payload_ends(t))
		http2_finish(skb, t->stream);
	if (http2_pending(parser_mine(s, c), t)) {
		s->window.at = s->window.total = s->window.done = 0;
		hpack_derive(t);
		if (http2_fragment_end(s, parser_mine(s, c), t) == WINDOW_STOP)
			return parser_lost(skb, LOST_MALFORMED);
		http2_done(skb, s, x, c, t);
	}
	return GO_ON;
}

/* Consumes a window of the packet, or what is passed over. Returns STOP if there is no more. */
__noinline int http2_step(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2_side *t;
	struct parser *h;
	struct window *window;
	struct packet *p;
	struct http2 *x;
	__u32 avail, carry, n, at;
	int r = WINDOW_NEXT;

	if (!c)
		return STOP;
	x = http2_of(c);
	if (!x)
		return STOP;
	t = http2_mine(s, x);
	h = parser_mine(s, c);
	p = &s->packet;
	window = &s->window;
	avail = p->end - p->pos;
	if (!avail || h->phase == PHASE_LOST)
		return STOP;
	if (h->phase >= HTTP1_BODY)
		goto skip;

	n = unlikely(config.routes) && p->role == ROLE_CLIENT ? BLOCK : WINDOW;
	n = (avail < n ? avail : n) - 1;
	bounded(n, (BLOCK - 1));
	n++;
	carry = h->carry_len;
	if (carry) {
		__builtin_memcpy(s->buffer, h->carry, CARRY);
		bounded(carry, 63);
	}
	if (early_or_packet(skb, s, carry, n))
		return parser_lost(skb, LOST_GAP);
	window->at = 0;
	window->total = carry + n;
	window->carry = carry;
	window->done = 0;
	for (int i = 0; i < HTTP2_TOKENS; i++) {
		fresh(s);
		fresh(t);
		fresh(h);
		fresh(x);
		fresh(c);
		/* By way of memory, where the verifier does not tell its values from each other. */
		WRITE_ONCE(window->result, http2_token(skb, s, h, t));
		http2_done(skb, s, x, c, t);
		r = READ_ONCE(window->result);
		if (r != WINDOW_NEXT)
			break;
	}
	if (unlikely(r == WINDOW_TAP))
		tap_http2(skb);
	at = window->at;
	n = window->total - at;
	h->carry_len = 0;
	if (r == WINDOW_STOP)
		return parser_lost(skb, LOST_MALFORMED);
	p->pos += at - window->carry;
	if (r == WINDOW_CUT) {
		bounded(at, 1023);
		if (n > CARRY || at > BUFFER - CARRY)
			return parser_lost(skb, LOST_BOUND);
		__builtin_memcpy(h->carry, s->buffer + at, CARRY);
		h->carry_len = n;
		p->pos += n;
	} else if (t->token == TOKEN_BLOCK && t->carry_len && t->left) {
		/* A header block goes on: what was kept of a field is read again. */
		__builtin_memcpy(h->carry, t->carry, CARRY);
		h->carry_len = t->carry_len;
		t->carry_len = 0;
	}
	if (h->phase == HTTP2_SKIP) {
	skip:
		parser_skip(s, h, p->end - p->pos);
		/* This was the end of the body of a request that asked for the upgrade. */
		if (h->phase == HTTP1_END)
			h->phase = PHASE_START;
		if (h->phase == PHASE_START && http2_payload_ends(t))
			http2_whole(skb, s, c, x, t->stream);
	}
	if (unlikely(http2_pending(h, t)) && http2_passed(skb))
		return STOP;
	return p->pos == p->end ? STOP : GO_ON;
}

#endif
