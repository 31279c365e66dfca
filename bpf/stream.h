/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The streams of an HTTP/2 connection, RFC 9113 section 5, from the request's HEADERS to the end of
 * the answer.
 *
 * A request is counted by the client's side, and every end by whoever holds the server's side: a
 * client that cancels takes that too. So no end is counted twice.
 *
 * The bounds:
 *   HTTP2_PAGES    open streams with the same place: those beyond them count as answered, with an
 *                  unknown status (LOST_BOUND)
 *   linkerd_http2_map  elements: a connection that gets none is L4 only (LOST_BOUND), and a stream
 *                  that would need one more is as above
 */
#ifndef METRICD_STREAM_H
#define METRICD_STREAM_H

#include "hpack.h"

/* Error codes, RFC 9113 section 7. */
#define ERROR_REFUSED_STREAM 7
#define ERROR_CANCEL 8

static __always_inline struct http2 *http2_of(struct conn *c)
{
	__u32 at = c->http2;

	return http2_element(at);
}

static __always_inline struct http2_side *http2_mine(struct scratch *s, struct http2 *x)
{
	__u32 role = s->packet.role;

	bounded(role, 1);
	return &x->side[role];
}

static __always_inline struct http2_stream *http2_place(struct http2 *x, __u32 stream)
{
	__u32 at = stream >> 1;

	bounded(at, (HTTP2_STREAMS - 1));
	return &x->streams[at];
}

/* An element that is nobody's, emptied; plus one, or 0 if there is none. A function of its own for
 * the loop. */
__noinline __u32 http2_take(struct __sk_buff *skb)
{
	struct http2 *x;
	__u32 at = 0;

	if (!skb->len || bpf_map_pop_elem(&linkerd_http2_free_map, &at))
		return 0;
	x = http2_grown(at);
	if (!x)
		return 0;
	x->next = 0;
	for (int i = 0; i < HTTP2_STREAMS; i++)
		x->streams[i].stream = x->streams[i].answer = 0;
	return at + 1;
}

/* For the server's side: the stream at its place, or NULL if it has ended. */
static __always_inline struct http2_stream *http2_current(struct http2_stream *r, __u32 stream)
{
	if ((r->answer & STREAM_ID) != stream) {
		r->status = 0;
		r->grpc_status = GRPC_STATUS_NONE;
		r->first_ns = 0;
		WRITE_ONCE(r->answer, stream);
	}
	return r->answer & STREAM_ENDED ? NULL : r;
}

/* What is known of a stream, or NULL if nothing is, or it has ended. Only clients' streams are. */
static __always_inline struct http2_stream *http2_find(struct http2 *x, __u32 stream)
{
	struct http2_stream *r = http2_place(x, stream);

	if (unlikely(!(stream & 1)))
		return NULL;
	for (int i = 1; i < HTTP2_PAGES && unlikely(r->stream != stream); i++) {
		__u32 next = READ_ONCE(x->next) - 1;

		x = http2_element(next);
		if (!x)
			return NULL;
		r = http2_place(x, stream);
	}
	return r->stream == stream ? http2_current(r, stream) : NULL;
}

static __always_inline bool http2_taken(struct http2_stream *r)
{
	return r->stream && READ_ONCE(r->answer) != (r->stream | STREAM_ENDED);
}

/* A place for a new stream whose first one is taken. NULL if there is none. */
static __always_inline struct http2_stream *http2_further(struct __sk_buff *skb, struct http2 *x,
							  __u32 stream)
{
	struct http2_stream *r;

	for (int i = 1; i < HTTP2_PAGES; i++) {
		__u32 next = x->next;

		if (!next) {
			next = http2_take(skb);
			WRITE_ONCE(x->next, next);
		}
		next--;
		x = http2_element(next);
		if (!x)
			return NULL;
		r = http2_place(x, stream);
		if (!http2_taken(r))
			return r;
	}
	return NULL;
}

/* A request is counted. */
static __always_inline void http2_count(struct packet *p, struct http2_side *t)
{
	if (t->result.found & FOUND_GRPC)
		p->delta.grpc++;
	else
		p->delta.http2++;
	t->last = t->stream;
}

/* It has a place. */
static __always_inline void http2_begin(struct conn *c, struct http2_side *t,
					struct http2_stream *r)
{
	r->protocol = t->result.found & FOUND_GRPC ? PROTOCOL_GRPC : PROTOCOL_HTTP2;
	r->route = t->route;
	r->start_ns = t->start_ns;
	WRITE_ONCE(r->stream, t->stream);
	conn_side(c, CLIENT)->requests++;
}

/* A client's stream begins: its request is counted. RFC 9113 section 5.1.1. */
static __always_inline void http2_request(struct __sk_buff *skb, struct scratch *s, struct http2 *x,
					  struct conn *c, struct http2_side *t)
{
	struct http2_stream *r = http2_place(x, t->stream);
	struct packet *p = &s->packet;
	bool grpc = t->result.found & FOUND_GRPC;

	http2_count(p, t);
	if (unlikely(config.routes)) {
		if (t->route == ROUTE_NONE)
			t->route = ROUTE_UNKNOWN;
		else if (t->route == ROUTE_ROOT || t->route == ROUTE_INDEX)
			t->route = route_static(skb, t->route);
		route_request(skb, grpc ? PROTOCOL_GRPC : PROTOCOL_HTTP2, t->route, 1);
	}
	if (unlikely(http2_taken(r)))
		r = http2_further(skb, x, t->stream);
	if (unlikely(!r))
		p->delta.lost = LOST_BOUND + 1;
	/* Of the server's lost side more than that there is no answer is not known. */
	if (unlikely(!r || (READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST))) {
		if (grpc)
			p->unknown_grpc++;
		else
			p->unknown++;
		return;
	}
	http2_begin(c, t, r);
}

/* Adds the answers that were kept back to their counters. */
static __always_inline void answers_add(struct answers *a)
{
	struct request_entry *e = requests_element(a->request);
	struct latency_entry *l = latency_element(a->latency);
	__u32 i = a->duration.bucket, j = a->ttfb.bucket;

	if (!e || !l)
		return;
	bounded(i, 31);
	bounded(j, 31);
	add(&e->value.responses, a->count);
	add(&l->value.buckets[i].duration, a->count);
	add(&l->value.buckets[j].ttfb, a->count);
	add(&l->value.sum_ns.duration, a->duration_ns);
	add(&l->value.sum_ns.ttfb, a->ttfb_ns);
}

/* At the end of the packet. */
__noinline int answers_end(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (s && skb->len)
		answers_add(&s->packet.answers);
	return 0;
}

#define TIME_UNKNOWN (~0ULL)

/* An answer that is not like those that were kept back, which are added now: it is kept back in
 * their place, unless its times are not known. */
__noinline int answers_begin(struct __sk_buff *skb, __u32 what, __u32 route, __u64 duration,
			     __u64 ttfb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	union response response = {.word = what};
	struct request_entry *e;
	struct answers *a;

	if (!c)
		return 0;
	a = &s->packet.answers;
	if (a->count)
		answers_add(a);
	a->count = 0;
	e = parser_entry(skb, conn_side(c, SERVER), response, route);
	if (!e)
		return 0;
	if (duration == TIME_UNKNOWN) {
		add(&e->value.responses, 1);
		s->packet.delta.untimed++;
		return 0;
	}
	a->count = 1;
	a->request = epoch_number(conn_side(c, SERVER)->response);
	a->latency = e->latency;
	a->what = what;
	a->route = route;
	a->duration = histogram_range(duration);
	a->ttfb = histogram_range(ttfb);
	a->duration_ns = duration;
	a->ttfb_ns = ttfb;
	return 0;
}

/* The whole answer of a stream has come. The caller holds the server's side. */
static __always_inline void http2_whole(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					struct http2 *x, __u32 stream)
{
	struct http2_stream *r = http2_find(x, stream);
	struct packet *p = &s->packet;
	struct answers *a = &p->answers;
	union response what;
	__u64 duration = TIME_UNKNOWN, ttfb = TIME_UNKNOWN;

	if (!r)
		return;
	WRITE_ONCE(r->answer, stream | STREAM_ENDED);
	what.status = r->status;
	what.protocol = r->protocol;
	what.grpc_status = r->grpc_status;
	conn_side(c, SERVER)->answered++;
	p->delta.answered++;
	if (TAPPED)
		tap_answered(skb, what, r->route, r->first_ns ? r->start_ns : 0, r->first_ns,
			     stream);
	if (likely(r->start_ns && r->first_ns)) {
		duration = packet_now(p) - r->start_ns;
		ttfb = r->first_ns - r->start_ns;
	}
	if (likely(a->count && a->what == what.word && a->route == r->route &&
		   duration != TIME_UNKNOWN && duration - a->duration.from <= a->duration.width &&
		   ttfb - a->ttfb.from <= a->ttfb.width)) {
		a->count++;
		a->duration_ns += duration;
		a->ttfb_ns += ttfb;
	} else {
		answers_begin(skb, what.word, r->route, duration, ttfb);
	}
}

/* The same as a function of its own. */
__noinline int http2_finish(struct __sk_buff *skb, __u32 stream)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x = c ? http2_of(c) : NULL;

	if (x)
		http2_whole(skb, s, c, x, stream);
	return 0;
}

/* For who listens: a stream has ended without its whole answer. */
static __always_inline void http2_tap_aborted(struct __sk_buff *skb, struct http2_stream *r,
					      __u32 stream, __u32 reason)
{
	union tap_what what = {.route = r->route, .aborted = reason + 1};

	what.response.status = r->status;
	what.response.protocol = r->protocol;
	what.response.grpc_status = r->grpc_status;
	tap_end(skb, what.word, r->start_ns, r->first_ns, stream);
}

/* A stream ends without its whole answer. The caller holds the server's side. */
__noinline int http2_abort(struct __sk_buff *skb, __u32 stream, __u32 reason)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x = c ? http2_of(c) : NULL;
	struct http2_stream *r = x ? http2_find(x, stream) : NULL;
	struct metric_value *v;

	if (!r)
		return 0;
	WRITE_ONCE(r->answer, stream | STREAM_ENDED);
	conn_side(c, SERVER)->answered++;
	v = series_value(s->packet.series);
	if (v)
		series_add_aborted(v, reason, 1);
	if (TAPPED)
		http2_tap_aborted(skb, r, stream, reason);
	return 0;
}

/* One of the requests of http2_infer. */
__noinline int http2_infer_one(struct __sk_buff *skb, __u32 stream, __u32 protocol)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x = c ? http2_of(c) : NULL;
	struct http2_stream *r;
	struct packet *p;

	if (!x)
		return 0;
	p = &s->packet;
	r = http2_place(x, stream);
	if (protocol == PROTOCOL_GRPC)
		p->delta.grpc++;
	else
		p->delta.http2++;
	if (http2_taken(r)) {
		p->unknown += protocol != PROTOCOL_GRPC;
		p->unknown_grpc += protocol == PROTOCOL_GRPC;
		return 0;
	}
	r->protocol = protocol;
	r->route = config.routes ? ROUTE_UNKNOWN : ROUTE_NONE;
	r->start_ns = 0;
	WRITE_ONCE(r->stream, stream);
	conn_side(c, CLIENT)->requests++;
	return 0;
}

/*
 * The client's side is lost, and the server answers a stream that was never seen: it and all before
 * it were requests (RFC 9113 section 5.1.1), of which nothing else is known. Returns how many. The
 * caller holds the server's side; the client's writes nothing more.
 */
__noinline int http2_infer(struct __sk_buff *skb, __u32 stream, __u32 protocol)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x = c ? http2_of(c) : NULL;
	__u32 last, n;

	if (!x)
		return 0;
	last = x->side[CLIENT].last;
	if (last < x->side[SERVER].last)
		last = x->side[SERVER].last;
	for (n = 0; n < HTTP2_STREAMS && last < stream; n++) {
		last += 2;
		http2_infer_one(skb, last, protocol);
	}
	x->side[SERVER].last = stream;
	return n;
}

/* What a block tells of an answer: it is the head, or the trailers. */
static __always_inline void http2_told(struct http2_stream *r, union hpack_result result,
				       __u64 start_ns)
{
	/* 1xx is not the answer yet, RFC 9110 section 15.2. */
	if (!r->first_ns && (result.found & (FOUND_STATUS | FOUND_UNKNOWN)) &&
	    !(result.status >= 100 && result.status < 200)) {
		r->status = result.status;
		r->first_ns = start_ns;
	}
	if (result.grpc_status != GRPC_STATUS_NONE)
		r->grpc_status = result.grpc_status;
}

/* The same of the block at hand. */
static __always_inline void http2_head(struct scratch *s, struct http2_side *t,
				       struct http2_stream *r)
{
	http2_told(r, t->result, t->start_ns);
	if (t->ending)
		s->window.done = DONE_STREAM;
}

/* The same, when the request may not have been seen. */
static __always_inline void http2_answer(struct __sk_buff *skb, struct scratch *s, struct http2 *x,
					 struct conn *c, struct http2_side *t)
{
	struct http2_stream *r = http2_find(x, t->stream);
	__u32 protocol, n;

	if (unlikely(!r && READ_ONCE(conn_side(c, CLIENT)->parser.phase) == PHASE_LOST &&
		     t->stream > t->last && t->stream > x->side[CLIENT].last)) {
		protocol = t->result.found & FOUND_GRPC ? PROTOCOL_GRPC : PROTOCOL_HTTP2;
		n = http2_infer(skb, t->stream, protocol);
		if (unlikely(config.routes))
			route_request(skb, protocol, ROUTE_UNKNOWN, n);
		r = http2_find(x, t->stream);
	}
	if (r)
		http2_head(s, t, r);
}

/* The header block at hand is whole. What the server pushes has even numbers; of a PUSH_PROMISE
 * only the table's changes matter. */
__noinline int http2_block(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2_side *t;
	struct http2 *x;

	if (!c)
		return 0;
	x = http2_of(c);
	if (!x)
		return 0;
	t = http2_mine(s, x);
	if (!(t->stream & 1) || (t->flags & FLAG_PROMISE))
		return 0;
	if (s->packet.role == SERVER)
		http2_answer(skb, s, x, c, t);
	else if (t->stream > t->last)
		http2_request(skb, s, x, c, t);
	return 0;
}

/* A request for which `r` is free and nothing else is to be done. Returns false if it is not so. */
static __always_inline bool http2_request_usual(struct scratch *s, struct conn *c,
						struct http2_side *t, struct http2_stream *r)
{
	if (unlikely(t->stream <= t->last || config.routes || http2_taken(r) ||
		     (READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST)))
		return false;
	http2_count(&s->packet, t);
	http2_begin(c, t, r);
	return true;
}

/* The same without a call where, as usual, the stream has the first of its places. */
static __always_inline void http2_block_usual(struct __sk_buff *skb, struct scratch *s,
					      struct http2 *x, struct conn *c, struct http2_side *t)
{
	struct http2_stream *r = http2_place(x, t->stream);

	if (unlikely(!(t->stream & 1) || (t->flags & FLAG_PROMISE))) {
		http2_block(skb);
	} else if (s->packet.role == SERVER) {
		if (unlikely(r->stream != t->stream))
			http2_block(skb);
		else if (http2_current(r, t->stream))
			http2_head(s, t, r);
	} else if (unlikely(!http2_request_usual(s, c, t, r))) {
		http2_block(skb);
	}
}

/* The client cancels a stream: that is the server's side to note, which is taken for it. */
__noinline int http2_cancel(struct __sk_buff *skb, __u32 stream)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	bool mine = false;

	if (!c)
		return 0;
	for (int i = 0; i < WAIT_ROUNDS && !mine; i++) {
		parser_wait(skb, SERVER);
		if (!config.ordered)
			bpf_spin_lock(&c->lock);
		mine = conn_busy(c, SERVER);
		if (!config.ordered)
			bpf_spin_unlock(&c->lock);
	}
	/* Else it counts as in flight until the connection ends. */
	if (!mine) {
		count(contended);
		return 0;
	}
	/* What was lost is answered. */
	if (!(READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST))
		http2_abort(skb, stream, ABORT_CANCELLED);
	if (!config.ordered)
		bpf_spin_lock(&c->lock);
	conn_done(c, SERVER);
	if (!config.ordered)
		bpf_spin_unlock(&c->lock);
	return 0;
}

/* RST_STREAM, RFC 9113 section 6.4: `error` is its code. */
static __always_inline void http2_rst(struct __sk_buff *skb, __u32 role, __u32 stream, __u32 error)
{
	__u32 reason = ABORT_RESET;

	if (!(stream & 1))
		return;
	if (role == CLIENT) {
		http2_cancel(skb, stream);
		return;
	}
	if (error == ERROR_REFUSED_STREAM)
		reason = ABORT_REFUSED;
	else if (error == ERROR_CANCEL)
		reason = ABORT_CANCELLED;
	http2_abort(skb, stream, reason);
}

/* Ends the streams of an element that are above `last`. */
__noinline int http2_refuse(struct __sk_buff *skb, __u32 at, __u32 last)
{
	struct http2 *x = http2_element(at);

	if (!x || !skb->len)
		return 0;
	for (int i = 0; i < HTTP2_STREAMS; i++) {
		__u32 stream = READ_ONCE(x->streams[i].stream);

		if (stream > last)
			http2_abort(skb, stream, ABORT_REFUSED);
	}
	return READ_ONCE(x->next);
}

/* GOAWAY of the server, RFC 9113 section 6.8: streams above `last` are not processed. */
__noinline int http2_goaway(struct __sk_buff *skb, __u32 last)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 at;

	if (!c)
		return 0;
	at = c->http2 + 1;
	for (int i = 0; i < HTTP2_PAGES && at; i++)
		at = http2_refuse(skb, at - 1, last);
	return 0;
}

/* The protocol of those among an element's open streams that will have no answer. */
__noinline int http2_forget(struct __sk_buff *skb, __u32 at)
{
	struct http2 *x = http2_element(at);
	struct scratch *s = scratch();

	if (!x || !s || !skb->len)
		return 0;
	for (int i = 0; i < HTTP2_STREAMS; i++) {
		struct http2_stream *r = &x->streams[i];

		if (!http2_taken(r))
			continue;
		WRITE_ONCE(r->answer, r->stream | STREAM_ENDED);
		if (r->protocol == PROTOCOL_GRPC && s->packet.unknown) {
			s->packet.unknown--;
			s->packet.unknown_grpc++;
		}
	}
	return READ_ONCE(x->next);
}

/* The server's side is lost, and p->unknown has its streams: tells them apart by protocol. */
__noinline int http2_lost(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 at;

	if (!c)
		return 0;
	at = c->http2 + 1;
	for (int i = 0; i < HTTP2_PAGES && at; i++)
		at = http2_forget(skb, at - 1);
	return 0;
}

#endif
