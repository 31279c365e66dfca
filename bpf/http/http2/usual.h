/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Usual frames, which take a loop of their own: whole in the packet, with a header block that was
 * seen before.
 */
#ifndef METRICD_HTTP_HTTP2_USUAL_H
#define METRICD_HTTP_HTTP2_USUAL_H

#include "http/http2/step.h"

/* Reads the next window if what is left of this one may be less than what http2_usual looks at. */
static __always_inline bool http2_usual_window(struct __sk_buff *skb, struct scratch *s)
{
	struct window *window = &s->window;
	__u32 n = s->packet.end - s->packet.pos;

	if (window->total - window->at >= USUAL)
		return true;
	if (n < USUAL)
		return false;
	n = (n < window->size ? n : window->size) - 1;
	bounded(n, (WINDOW - 1));
	n++;
	window->at = 0;
	window->total = n;
	return !bpf_skb_load_bytes(skb, s->packet.pos, s->buffer, n);
}

/* Counts the request of a client's HEADERS, whose block was seen before. Returns false if they are
 * not as usual. */
static __always_inline bool http2_usual_request(struct scratch *s, struct conn *c, struct http2 *x,
						struct http2_side *t, const struct hpack_memo *memo,
						__u32 stream)
{
	t->stream = stream;
	t->result = memo->result;
	t->route = memo->route;
	return http2_request_usual(s, c, t, http2_place(x, stream));
}

/* Notes the answer of a server's HEADERS, whose block was seen before. Returns false if they are
 * not as usual. */
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
 * DATA and WINDOW_UPDATE, whole and in the packet. These frames need no state of the parser but its
 * place. Other frames are left for http2_step, which finds everything as it would without this
 * function. Returns STOP there, GO_ON if the next frame may be a usual one.
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
	    t->in_block || TAPPED || (role == ROLE_CLIENT && config.routes))
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
			if (!(role == ROLE_CLIENT ? http2_usual_request(s, c, x, t, memo, f.stream)
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
		if (role == ROLE_SERVER && f.type != FRAME_WINDOW_UPDATE &&
		    (f.flags & FLAG_END_STREAM))
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
	return http2_usual(skb, ROLE_CLIENT);
}

__noinline int http2_usual_answers(struct __sk_buff *skb)
{
	return http2_usual(skb, ROLE_SERVER);
}

#endif
