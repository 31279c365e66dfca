/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/2, RFC 9113, and gRPC upon it: frames are followed across packets by sequence number, header
 * blocks field by field (hpack.h), and what they say of streams is stream.h's.
 *
 * The packet is read in windows of WINDOW bytes, each of which is taken apart token by token; a
 * token is at most CARRY bytes, and what is there of one at the end of a packet is carried over.
 * Payloads that do not matter are passed over without being seen.
 *
 * The bounds:
 *   STEPS          windows, and payloads passed over, in one packet (LOST_BOUND)
 *   HPACK_ENTRIES  how far back a reference into the dynamic table is understood; beyond it the
 *                  status of that answer is unknown
 */
#ifndef METRICD_HTTP2_H
#define METRICD_HTTP2_H

#include "stream.h"

#define WINDOW 128     /* bytes; BLOCK where routes are looked for, which may be long */
#define HTTP2_TOKENS 4 /* looked at in it, before it is read again */
#define FRAME_HEADER 9
#define USUAL (FRAME_HEADER + HPACK_SHORT) /* bytes of a frame that http2_usual looks at */
#define USUALS 16			   /* of them, in one call of it */
#define USUAL_BEHIND 40			   /* its window behind DATA, where HEADERS and DATA fit */

enum frame_type {
	FRAME_DATA = 0,
	FRAME_HEADERS = 1,
	FRAME_RST_STREAM = 3,
	FRAME_PUSH_PROMISE = 5,
	FRAME_SETTINGS = 4,
	FRAME_PING = 6,
	FRAME_GOAWAY = 7,
	FRAME_WINDOW_UPDATE = 8,
	FRAME_CONTINUATION = 9,
};

#define FLAG_END_STREAM 0x1
#define FLAG_END_HEADERS 0x4
#define FLAG_PADDED 0x8
#define FLAG_PRIORITY 0x20

#define PREFACE_LEN 24

/*
 * Begins to follow the packet's connection as HTTP/2. Returns STOP if there is no room.
 */
__noinline int http2_open(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x;

	if (!c)
		return STOP;
	c->http2 = http2_take(skb) - 1;
	x = http2_of(c);
	if (!x) {
		s->packet.delta.lost = LOST_BOUND + 1;
		return parser_opaque(c);
	}
#pragma unroll
	for (int role = CLIENT; role <= SERVER; role++)
		__builtin_memset(&x->side[role], 0, offsetof(struct http2_side, codes));
	WRITE_ONCE(c->brief.l7, L7_HTTP2);
	return GO_ON;
}

/*
 * The server has agreed to go on in HTTP/2: the request at hand is stream 1 (RFC 7540 section 3.2),
 * still HTTP/1.1's, whose answer is yet to come; the client's preface comes next. Returns STOP if
 * there is no room.
 */
__noinline int http2_upgrade(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x;

	if (!c || http2_open(skb))
		return STOP;
	x = http2_of(c);
	if (!x)
		return STOP;
	x->streams[0].protocol = PROTOCOL_HTTP1;
	x->streams[0].route = conn_side(c, SERVER)->route;
	x->streams[0].start_ns = conn_side(c, SERVER)->parser.request_ns;
	x->streams[0].stream = 1;
	x->side[CLIENT].last = 1;
	x->side[CLIENT].token = TOKEN_PREFACE;
	return GO_ON;
}

/* Is it the preface, as far as it is there: `len` bytes of the buffer? RFC 9113 section 3.4. */
static __always_inline bool http2_preface(struct scratch *s, __u32 len)
{
	__u64 a = buffer8(s, 0) ^ CHARS('P', 'R', 'I', ' ', '*', ' ', 'H', 'T');
	__u64 b = buffer8(s, 8) ^ CHARS('T', 'P', '/', '2', '.', '0', '\r', '\n');
	__u64 c = buffer8(s, 16) ^ CHARS('\r', '\n', 'S', 'M', '\r', '\n', '\r', '\n');

	if (likely(len >= PREFACE_LEN))
		return !(a | b | c);
	if (len >= 16)
		return !(a | b | (c & ~(~0ULL << 8 * (len & 7))));
	if (len >= 8)
		return !(a | (b & ~(~0ULL << 8 * (len & 7))));
	return !(a & ~(~0ULL << 8 * (len & 7)));
}

/* Passes over `n` bytes, in the window or beyond. */
static __always_inline int http2_pass(struct scratch *s, struct parser *h, __u32 n)
{
	struct window *w = &s->window;
	__u32 there = w->total - w->at;

	if (n <= there) {
		w->at += n;
		return WINDOW_NEXT;
	}
	w->at = w->total;
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
	__u64 bytes = bpf_be64_to_cpu(buffer8(s, at));
	struct frame f = {
	    .len = bytes >> 40,
	    .type = bytes >> 32 & 0xff,
	    .flags = bytes >> 24 & 0xff,
	    .stream = (bytes << 8 | buffer1(s, at + 8)) & STREAM_ID,
	};

	return f;
}

/* The next frame's header. RFC 9113 section 4.1. */
static __always_inline int http2_frame(struct __sk_buff *skb, struct scratch *s, struct parser *h,
				       struct http2_side *t)
{
	struct window *w = &s->window;
	struct packet *p = &s->packet;
	struct frame f;
	__u32 at = w->at;
	union hpack_result nothing = {.grpc_status = GRPC_STATUS_NONE};

	if (unlikely(w->total - at < FRAME_HEADER)) {
		/* The time of a frame is that of its first byte. */
		if (!t->in_block && at >= w->carry)
			t->start_ns = packet_leaves(skb, p, t->start_ns);
		return WINDOW_CUT;
	}
	f = frame_at(s, at);
	at += FRAME_HEADER;
	w->at = at;

	if (unlikely(t->in_block != (f.type == FRAME_CONTINUATION) ||
		     (t->in_block && f.stream != t->stream)))
		return WINDOW_STOP;
	switch (f.type) {
	case FRAME_DATA:
		t->stream = f.stream;
		t->ending = p->role == SERVER && (f.flags & FLAG_END_STREAM);
		if (http2_pass(s, h, f.len))
			return WINDOW_LEAVE;
		if (t->ending)
			w->done = DONE_STREAM;
		return WINDOW_NEXT;
	case FRAME_HEADERS:
	case FRAME_PUSH_PROMISE:
		t->stream = f.stream;
		t->flags = f.flags & (FLAG_END_HEADERS | FLAG_PADDED |
				      (f.type == FRAME_HEADERS ? FLAG_PRIORITY : 0));
		if (f.type == FRAME_PUSH_PROMISE)
			t->flags |= FLAG_PROMISE;
		if (likely(at - FRAME_HEADER >= w->carry))
			t->start_ns = packet_leaves(skb, p, t->start_ns);
		t->ending =
		    p->role == SERVER && f.type == FRAME_HEADERS && (f.flags & FLAG_END_STREAM);
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
		/* What was kept of a field goes before the rest of it. */
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

/* What a frame has before its header block: pad length, promised stream, priority. */
static __always_inline int http2_prefix(struct scratch *s, struct http2_side *t)
{
	struct window *w = &s->window;
	__u32 n = (t->flags & FLAG_PADDED ? 1 : 0) + (t->flags & FLAG_PRIORITY ? 5 : 0) +
		  (t->flags & FLAG_PROMISE ? 4 : 0);
	__u32 pad = t->flags & FLAG_PADDED ? buffer1(s, w->at) : 0;

	if (unlikely(t->left < n))
		return WINDOW_STOP;
	if (unlikely(w->total - w->at < n))
		return WINDOW_CUT;
	w->at += n;
	t->left -= n;
	if (unlikely(pad > t->left))
		return WINDOW_STOP;
	t->left -= pad;
	t->pad = pad;
	t->token = TOKEN_BLOCK;
	return WINDOW_NEXT;
}

/* A fragment of a header block has come to its end. */
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

/* Takes a token off the window, of a field. */
__noinline int http2_field(struct __sk_buff *skb)
{
	struct scratch *s;
	struct http2_side *t;
	struct parser *h;
	struct window *w;
	__u32 avail, at, n;
	int r;

	HTTP2_ENTER(skb, s, h, t);
	w = &s->window;
	at = w->at;
	avail = w->total - at;
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
		/* It goes on in the next frame: RFC 9113 section 4.3. */
		if ((t->flags & FLAG_END_HEADERS) || avail > CARRY)
			return WINDOW_STOP;
		bounded(at, 1023);
		if (at > BUFFER - CARRY)
			return WINDOW_STOP;
		__builtin_memcpy(t->carry, s->buffer + at, CARRY);
		t->carry_len = avail;
		t->left = 0;
		w->at += avail;
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
	struct window *w;
	__u32 n;

	HTTP2_ENTER(skb, s, h, t);
	w = &s->window;
	if (w->at == w->total)
		return WINDOW_CUT;
	if (t->token == TOKEN_PREFIX)
		return http2_prefix(s, t);
	if (unlikely(t->token == TOKEN_PREFACE)) {
		if (w->total < PREFACE_LEN)
			return WINDOW_CUT;
		if (!http2_preface(s, w->total))
			return WINDOW_STOP;
		w->at = PREFACE_LEN;
		t->token = TOKEN_FRAME;
		return WINDOW_NEXT;
	}
	n = t->token == TOKEN_RST ? 4 : 8;
	if (w->total - w->at < n)
		return WINDOW_CUT;
	t->token = TOKEN_FRAME;
	if (n == 4) {
		http2_rst(skb, s->packet.role, t->stream, bpf_be64_to_cpu(buffer8(s, w->at)) >> 32);
		w->at += 4;
		return WINDOW_NEXT;
	}
	if (s->packet.role == SERVER)
		http2_goaway(skb, bpf_be64_to_cpu(buffer8(s, w->at)) >> 32 & STREAM_ID);
	return http2_pass(s, h, t->left);
}

/* Takes a token off the window, and after a frame's header, if it is that of HEADERS, what the
 * tables know of its block. */
static __always_inline int http2_token(struct __sk_buff *skb, struct scratch *s, struct parser *h,
				       struct http2_side *t)
{
	struct window *w = &s->window;
	struct hpack_memo *block = &s->block, *memo;
	__u32 avail;
	int r;

	block->len = 0;
	if (likely(t->token == TOKEN_FRAME)) {
		if (w->at == w->total)
			return WINDOW_CUT;
		r = http2_frame(skb, s, h, t);
		if (r != WINDOW_NEXT)
			return r;
		if (likely(t->token == TOKEN_FRAME))
			return WINDOW_NEXT;
		avail = w->total - w->at;
		/* No fragment but the first: the others add to what that has told. */
		if (t->token == TOKEN_BLOCK && hpack_short(t->left, avail) && !t->in_block) {
			memo = hpack_memo(t, t->left);
			if (hpack_same(memo, s, t, w->at, t->left)) {
				t->result = memo->result;
				t->route = memo->route;
				w->at += t->left;
				t->left = 0;
				return http2_fragment_end(s, h, t);
			}
		}
	}
	if (unlikely(t->token != TOKEN_BLOCK))
		return http2_other(skb);
	avail = w->total - w->at;
	if (likely(t->field == FIELD_START) &&
	    unlikely(hpack_plain(s, t, avail < t->left ? avail : t->left)))
		return WINDOW_STOP;
	if (unlikely(t->left))
		return http2_field(skb);
	if (block->len && block->inserted == t->inserted)
		hpack_remember(hpack_memo(t, block->len), block, t);
	return http2_fragment_end(s, h, t);
}

/* What the last token has brought to an end. */
static __always_inline void http2_done(struct __sk_buff *skb, struct scratch *s, struct http2 *x,
				       struct conn *c, struct http2_side *t)
{
	struct window *w = &s->window;

	if (w->done & DONE_BLOCK) {
		w->done = 0;
		http2_block_usual(skb, s, x, c, t);
		/* Or what follows would be the end of a stream that was not known yet. */
		t->ending = 0;
	}
	if (w->done & DONE_STREAM) {
		w->done = t->ending = 0;
		http2_finish(skb, t->stream);
	}
}

/* Has a header block come to its end, and that has not been looked at? */
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

/* Behind a payload, or a part of one, that was passed over without being seen. */
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
	struct window *w;
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
	w = &s->window;
	avail = p->end - p->pos;
	if (!avail || h->phase == PHASE_LOST)
		return STOP;
	if (h->phase >= HTTP1_BODY)
		goto skip;

	n = unlikely(config.routes) && p->role == CLIENT ? BLOCK : WINDOW;
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
	w->at = 0;
	w->total = carry + n;
	w->carry = carry;
	w->done = 0;
	for (int i = 0; i < HTTP2_TOKENS; i++) {
		fresh(s);
		fresh(t);
		fresh(h);
		fresh(x);
		fresh(c);
		r = http2_token(skb, s, h, t);
		http2_done(skb, s, x, c, t);
		if (r != WINDOW_NEXT)
			break;
	}
	if (unlikely(r == WINDOW_TAP))
		tap_http2(skb);
	at = w->at;
	n = w->total - at;
	h->carry_len = 0;
	if (r == WINDOW_STOP)
		return parser_lost(skb, LOST_MALFORMED);
	p->pos += at - w->carry;
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
		/* The end of a body, of a request that asked for the upgrade. */
		if (h->phase == HTTP1_END)
			h->phase = PHASE_START;
		if (h->phase == PHASE_START && http2_payload_ends(t))
			http2_whole(skb, s, c, x, t->stream);
	}
	if (unlikely(http2_pending(h, t)) && http2_passed(skb))
		return STOP;
	return p->pos == p->end ? STOP : GO_ON;
}

/* Reads the next window if what is left of this one may be less than what http2_usual looks at. */
static __always_inline bool http2_usual_window(struct __sk_buff *skb, struct scratch *s)
{
	struct window *w = &s->window;
	__u32 n = s->packet.end - s->packet.pos;

	if (w->total - w->at >= USUAL)
		return true;
	if (n < USUAL)
		return false;
	n = (n < w->size ? n : w->size) - 1;
	bounded(n, (WINDOW - 1));
	n++;
	w->at = 0;
	w->total = n;
	return !bpf_skb_load_bytes(skb, s->packet.pos, s->buffer, n);
}

/* A client's HEADERS, whose block was seen before. Returns false if they are not as usual. */
static __always_inline bool http2_usual_request(struct scratch *s, struct conn *c, struct http2 *x,
						struct http2_side *t, const struct hpack_memo *memo,
						__u32 stream)
{
	t->stream = stream;
	t->result = memo->result;
	t->route = memo->route;
	return http2_request_usual(s, c, t, http2_place(x, stream));
}

/* The same of a server's. */
static __always_inline bool http2_usual_answer(struct http2 *x, struct http2_side *t,
					       const struct hpack_memo *memo, __u32 stream)
{
	struct http2_stream *r = http2_place(x, stream);

	if (r->stream != stream || !http2_current(r, stream))
		return false;
	http2_told(r, memo->result, t->start_ns);
	return true;
}

/*
 * Takes frames of one side as they mostly come, and no others: HEADERS whose block was seen before,
 * DATA and WINDOW_UPDATE, whole and in the packet. That needs no state of the parser but its place.
 * What is not like that is left for http2_step, which finds everything as it would without this.
 * Returns STOP there, GO_ON if the next frame may be a usual one.
 */
static __always_inline int http2_usual(struct __sk_buff *skb, __u32 role)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2_side *t;
	struct parser *h;
	struct packet *p;
	struct http2 *x;

	x = c ? http2_of(c) : NULL;
	if (!x)
		return STOP;
	p = &s->packet;
	t = &x->side[role];
	h = &conn_side(c, role)->parser;
	if (p->early || h->phase != PHASE_START || h->carry_len || t->token != TOKEN_FRAME ||
	    t->in_block || TAPPED || (role == CLIENT && config.routes))
		return STOP;
	s->window.at = s->window.total = 0;
	s->window.size = WINDOW;
	for (int i = 0; i < USUALS; i++) {
		struct hpack_memo *memo;
		struct frame f;
		__u32 at;

		if (!http2_usual_window(skb, s))
			return STOP;
		at = s->window.at;
		f = frame_at(s, at);
		if (f.len > p->end - p->pos - FRAME_HEADER)
			return STOP;
		if (f.type == FRAME_HEADERS) {
			if ((f.flags & ~FLAG_END_STREAM) != FLAG_END_HEADERS || !(f.stream & 1) ||
			    !hpack_short(f.len, HPACK_SHORT))
				return STOP;
			memo = hpack_memo(t, f.len);
			if (!hpack_same(memo, s, t, at + FRAME_HEADER, f.len))
				return STOP;
			t->start_ns = packet_leaves(skb, p, t->start_ns);
			if (!(role == CLIENT ? http2_usual_request(s, c, x, t, memo, f.stream)
					     : http2_usual_answer(x, t, memo, f.stream)))
				return STOP;
		} else if (f.type == FRAME_DATA) {
			s->window.size = USUAL_BEHIND;
		} else if (f.type != FRAME_WINDOW_UPDATE) {
			return STOP;
		}
		at += f.len + FRAME_HEADER;
		p->pos += f.len + FRAME_HEADER;
		s->window.at = at < s->window.total ? at : s->window.total;
		/* WINDOW_UPDATE has no flags. */
		if (role == SERVER && f.type != FRAME_WINDOW_UPDATE && (f.flags & FLAG_END_STREAM))
			http2_whole(skb, s, c, x, f.stream);
		fresh(s);
		fresh(t);
		fresh(x);
		fresh(c);
		fresh(p);
	}
	return GO_ON;
}

__noinline int http2_usual_requests(struct __sk_buff *skb)
{
	return http2_usual(skb, CLIENT);
}

__noinline int http2_usual_answers(struct __sk_buff *skb)
{
	return http2_usual(skb, SERVER);
}

/* In loops within a loop, which is less for the verifier to walk through than one. */
__noinline int http2_some(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return STOP;
	if (s->packet.role == CLIENT) {
		for (int i = 0; i < SOME && !http2_usual_requests(skb); i++)
			;
	} else {
		for (int i = 0; i < SOME && !http2_usual_answers(skb); i++)
			;
	}
	for (int i = 0; i < SOME; i++) {
		if (http2_step(skb))
			return STOP;
	}
	return GO_ON;
}

/* Consumes what is left of the packet. */
static __always_inline void http2_steps(struct __sk_buff *skb)
{
	if (TAPPED)
		tap_http2_rest(skb);
	for (int i = 0; i < STEPS / SOME; i++) {
		if (http2_some(skb))
			return;
	}
	parser_lost(skb, LOST_BOUND);
}

#endif
