/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The pieces of a connection: frame headers, fields of header blocks, payloads that matter. */
#ifndef METRICD_HTTP_HTTP2_TOKEN_H
#define METRICD_HTTP_HTTP2_TOKEN_H

#include "http/http2/frame.h"

/* How a global function of the loop over the tokens comes by what it needs. */
#define HTTP2_ENTER(skb, s, h, t)                                                                  \
	({                                                                                         \
		struct conn *c_ = parser_enter(skb, &(s));                                         \
		struct http2 *x_ = c_ ? http2_of(c_) : NULL;                                       \
		if (!x_)                                                                           \
			return WINDOW_STOP;                                                        \
		h = parser_mine(s, c_);                                                            \
		t = http2_mine(s, x_);                                                             \
	})

/* Takes a token of a field off the window. */
__noinline int http2_field(struct __sk_buff *skb)
{
	struct scratch *s;
	struct http2_side *t;
	struct parser *h;
	struct window *window;
	__u32 avail, at, n;
	int r;

	HTTP2_ENTER(skb, s, h, t);
	window = &s->window;
	at = window->at;
	avail = window->total - at;
	if (t->field == FIELD_SKIP) {
		n = t->string_left < t->left ? t->string_left : t->left;
		t->string_left -= n;
		t->left -= n;
		if (!t->string_left)
			t->field = t->after;
		return http2_pass(s, h, n);
	}
	if (!avail)
		return WINDOW_CUT;
	if (t->left < avail)
		avail = t->left;
	r = t->field == FIELD_START ? hpack_start(skb, s, t, avail)
				    : hpack_string(skb, s, t, avail);
	if (unlikely(r == WINDOW_CUT && avail == t->left)) {
		/* The field goes on in the next frame: RFC 9113 section 4.3. */
		if ((t->flags & FLAG_END_HEADERS) || avail > CARRY)
			return WINDOW_STOP;
		bounded(at, 1023);
		if (at > BUFFER - CARRY)
			return WINDOW_STOP;
		__builtin_memcpy(t->carry, s->buffer + at, CARRY);
		t->carry_len = avail;
		t->left = 0;
		window->at += avail;
		return WINDOW_NEXT;
	}
	return r;
}

/* Takes a token off the window that is neither a frame's header nor a field. */
__noinline int http2_other(struct __sk_buff *skb)
{
	struct scratch *s;
	struct http2_side *t;
	struct parser *h;
	struct window *window;
	__u32 n;

	HTTP2_ENTER(skb, s, h, t);
	window = &s->window;
	if (window->at == window->total)
		return WINDOW_CUT;
	if (t->token == TOKEN_PREFIX)
		return http2_prefix(s, t);
	if (unlikely(t->token == TOKEN_PREFACE)) {
		if (window->total < PREFACE_LEN)
			return WINDOW_CUT;
		if (!http2_preface(s, window->total))
			return WINDOW_STOP;
		window->at = PREFACE_LEN;
		t->token = TOKEN_FRAME;
		return WINDOW_NEXT;
	}
	n = t->token == TOKEN_RST ? 4 : 8;
	if (window->total - window->at < n)
		return WINDOW_CUT;
	t->token = TOKEN_FRAME;
	if (n == 4) {
		http2_rst(skb, s->packet.role, t->stream,
			  bpf_be64_to_cpu(buffer_word(s, window->at)) >> 32);
		window->at += 4;
		return WINDOW_NEXT;
	}
	if (s->packet.role == ROLE_SERVER)
		http2_goaway(skb, bpf_be64_to_cpu(buffer_word(s, window->at)) >> 32 & STREAM_ID);
	return http2_pass(s, h, t->left);
}

/* Takes a token off the window. Behind the header of a HEADERS frame, it also takes what the tables
 * know of the header block. */
static __always_inline int http2_token(struct __sk_buff *skb, struct scratch *s, struct parser *h,
				       struct http2_side *t)
{
	struct window *window = &s->window;
	struct hpack_memo *block = &s->block, *memo;
	__u32 avail;
	int r;

	block->len = 0;
	if (likely(t->token == TOKEN_FRAME)) {
		if (window->at == window->total)
			return WINDOW_CUT;
		r = http2_frame(skb, s, h, t);
		if (r != WINDOW_NEXT)
			return r;
		if (likely(t->token == TOKEN_FRAME))
			return WINDOW_NEXT;
		avail = window->total - window->at;
		/* Only the first fragment of a block: further ones add to what it has told. */
		if (t->token == TOKEN_BLOCK && hpack_short(t->left, avail) && !t->in_block) {
			memo = hpack_memo(t, t->left);
			if (hpack_same(memo, s, t, window->at, t->left)) {
				t->result = memo->result;
				t->route = memo->route;
				window->at += t->left;
				t->left = 0;
				return http2_fragment_end(s, h, t);
			}
		}
	}
	if (unlikely(t->token != TOKEN_BLOCK))
		return http2_other(skb);
	avail = window->total - window->at;
	if (likely(t->field == FIELD_START) &&
	    unlikely(hpack_plain(s, t, avail < t->left ? avail : t->left)))
		return WINDOW_STOP;
	if (unlikely(t->left))
		return http2_field(skb);
	hpack_derive(t);
	if (block->len && block->inserted == t->inserted)
		hpack_remember(hpack_memo(t, block->len), block, t);
	return http2_fragment_end(s, h, t);
}

/* Takes up what the last token has brought to an end: a header block, a stream, or both. */
static __always_inline void http2_done(struct __sk_buff *skb, struct scratch *s, struct http2 *x,
				       struct conn *c, struct http2_side *t)
{
	struct window *window = &s->window;

	if (window->done & DONE_BLOCK) {
		window->done = 0;
		http2_block_usual(skb, s, x, c, t);
		/* Otherwise what follows would be the end of a stream that was not known yet. */
		t->ending = 0;
	}
	if (window->done & DONE_STREAM) {
		window->done = t->ending = 0;
		http2_finish(skb, t->stream);
	}
}

#endif
