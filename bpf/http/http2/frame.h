/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A frame's header, and what precedes the header block in its payload. */
#ifndef METRICD_HTTP_HTTP2_FRAME_H
#define METRICD_HTTP_HTTP2_FRAME_H

#include "http/http2/open.h"

/* Passes over `n` bytes, in the window or beyond. */
static __always_inline int http2_pass(struct scratch *s, struct parser *h, __u32 n)
{
	struct window *window = &s->window;
	__u32 there = window->total - window->at;

	if (n <= there) {
		window->at += n;
		return WINDOW_NEXT;
	}
	window->at = window->total;
	h->left = n - there;
	h->phase = HTTP2_SKIP;
	return WINDOW_LEAVE;
}

/* The header of a frame. RFC 9113 section 4.1. */
struct frame {
	__u32 len, type, flags, stream;
};

static __always_inline struct frame frame_at(struct scratch *s, __u32 at)
{
	__u64 bytes = bpf_be64_to_cpu(buffer_word(s, at));
	struct frame f = {
	    .len = bytes >> 40,
	    .type = bytes >> 32 & 0xff,
	    .flags = bytes >> 24 & 0xff,
	    .stream = (bytes << 8 | buffer_byte(s, at + 8)) & STREAM_ID,
	};

	return f;
}

/* Reads the next frame's header. RFC 9113 section 4.1. */
static __always_inline int http2_frame(struct __sk_buff *skb, struct scratch *s, struct parser *h,
				       struct http2_side *t)
{
	struct window *window = &s->window;
	struct packet *p = &s->packet;
	struct frame f;
	__u32 at = window->at;
	union hpack_result nothing = {.grpc_status = GRPC_STATUS_NONE};

	if (unlikely(window->total - at < FRAME_HEADER)) {
		/* The time of a frame is that of its first byte. */
		if (!t->in_block && at >= window->carry)
			t->start_ns = packet_leaves(skb, p, t->start_ns);
		return WINDOW_CUT;
	}
	f = frame_at(s, at);
	at += FRAME_HEADER;
	window->at = at;

	if (unlikely(t->in_block != (f.type == FRAME_CONTINUATION) ||
		     (t->in_block && f.stream != t->stream)))
		return WINDOW_STOP;
	switch (f.type) {
	case FRAME_DATA:
		t->stream = f.stream;
		t->ending = p->role == ROLE_SERVER && (f.flags & FLAG_END_STREAM);
		if (http2_pass(s, h, f.len))
			return WINDOW_LEAVE;
		if (t->ending)
			window->done = DONE_STREAM;
		return WINDOW_NEXT;
	case FRAME_HEADERS:
	case FRAME_PUSH_PROMISE:
		t->stream = f.stream;
		t->flags = f.flags & (FLAG_END_HEADERS | FLAG_PADDED |
				      (f.type == FRAME_HEADERS ? FLAG_PRIORITY : 0));
		if (f.type == FRAME_PUSH_PROMISE)
			t->flags |= FLAG_PROMISE;
		if (likely(at - FRAME_HEADER >= window->carry))
			t->start_ns = packet_leaves(skb, p, t->start_ns);
		t->ending = p->role == ROLE_SERVER && f.type == FRAME_HEADERS &&
			    (f.flags & FLAG_END_STREAM);
		t->left = f.len;
		t->pad = 0;
		t->field = FIELD_START;
		t->result.word = nothing.word;
		t->route = 0;
		t->token = t->flags & ~FLAG_END_HEADERS ? TOKEN_PREFIX : TOKEN_BLOCK;
		return TAPPED ? WINDOW_TAP : WINDOW_NEXT;
	case FRAME_CONTINUATION:
		t->flags = (f.flags & FLAG_END_HEADERS) | (t->flags & FLAG_PROMISE);
		t->left = f.len + t->carry_len;
		t->pad = 0;
		t->token = TOKEN_BLOCK;
		/* What was kept of a field goes before the field's rest. */
		return t->carry_len ? WINDOW_LEAVE : WINDOW_NEXT;
	case FRAME_RST_STREAM:
		if (f.len != 4)
			return WINDOW_STOP;
		t->stream = f.stream;
		t->token = TOKEN_RST;
		return WINDOW_NEXT;
	case FRAME_GOAWAY:
		if (f.len < 8)
			return WINDOW_STOP;
		t->left = f.len;
		t->token = TOKEN_GOAWAY;
		return WINDOW_NEXT;
	}
	return http2_pass(s, h, f.len);
}

/* Passes over what a frame has before its header block: pad length, promised stream, priority. */
static __always_inline int http2_prefix(struct scratch *s, struct http2_side *t)
{
	struct window *window = &s->window;
	__u32 n = (t->flags & FLAG_PADDED ? 1 : 0) + (t->flags & FLAG_PRIORITY ? 5 : 0) +
		  (t->flags & FLAG_PROMISE ? 4 : 0);
	__u32 pad = t->flags & FLAG_PADDED ? buffer_byte(s, window->at) : 0;

	if (unlikely(t->left < n))
		return WINDOW_STOP;
	if (unlikely(window->total - window->at < n))
		return WINDOW_CUT;
	window->at += n;
	t->left -= n;
	if (unlikely(pad > t->left))
		return WINDOW_STOP;
	t->left -= pad;
	t->pad = pad;
	t->token = TOKEN_BLOCK;
	return WINDOW_NEXT;
}

/* Ends a fragment of a header block, and passes over the padding behind it. */
static __always_inline int http2_fragment_end(struct scratch *s, struct parser *h,
					      struct http2_side *t)
{
	__u32 pad = t->pad;

	t->token = TOKEN_FRAME;
	t->pad = 0;
	t->in_block = !(t->flags & FLAG_END_HEADERS);
	if (!t->in_block) {
		if (unlikely(t->field != FIELD_START || t->carry_len))
			return WINDOW_STOP;
		s->window.done = DONE_BLOCK;
	}
	return http2_pass(s, h, pad);
}

#endif
