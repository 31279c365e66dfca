/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A stream ends: its answer is whole, or it never will be. */
#ifndef METRICD_HTTP_HTTP2_ENDED_H
#define METRICD_HTTP_HTTP2_ENDED_H

#include "count/aborted.h"
#include "count/answers.h"
#include "http/http2/requests.h"

/* The union response of an answer. Only that of a request of gRPC has a derived status. A function
 * of its own for the verifier: it is called in a loop. */
__noinline __u32 http2_response(__u32 status, __u32 protocol, __u32 grpc_status)
{
	union response what = {.status = status, .protocol = protocol, .grpc_status = grpc_status};

	if (grpc_status == GRPC_STATUS_MISSED ||
	    (protocol != PROTOCOL_GRPC && (grpc_status & GRPC_STATUS_DERIVED)))
		what.grpc_status = GRPC_STATUS_NONE;
	return what.word;
}

/* Counts the answer of a stream, which has come as a whole. The caller holds the server's side. */
static __always_inline void http2_whole(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					struct http2 *x, __u32 stream)
{
	struct http2_stream *r = http2_find(x, stream);
	struct packet *p = &s->packet;
	struct answers *answers = &p->answers;
	union response what;
	__u64 duration = TIME_UNKNOWN, ttfb = TIME_UNKNOWN;
	__u32 route;

	if (!r)
		return;
	WRITE_ONCE(r->answer, stream | STREAM_ENDED);
	what.word = http2_response(r->status, r->protocol, r->grpc_status);
	route = r->route;
	if (unlikely(route >= ROUTE_CANDIDATE))
		route = route_settle(skb, route, what.word);
	conn_side(c, ROLE_SERVER)->answered++;
	p->delta.answered++;
	if (TAPPED)
		tap_answered(skb, what, route, r->first_ns ? r->start_ns : 0, r->first_ns, stream);
	if (likely(r->start_ns && r->first_ns)) {
		duration = clock_since(r->start_ns, packet_now(p));
		ttfb = clock_since(r->start_ns, r->first_ns);
	}
	if (likely(answers->count && answers->what == what.word && answers->route == route &&
		   duration != TIME_UNKNOWN &&
		   duration - answers->duration.from <= answers->duration.width &&
		   ttfb - answers->ttfb.from <= answers->ttfb.width)) {
		answers->count++;
		answers->duration_ns += duration;
		answers->ttfb_ns += ttfb;
	} else {
		answers_begin(skb, what.word, route, duration, ttfb);
	}
}

/* http2_whole as a function of its own. */
__noinline int http2_finish(struct __sk_buff *skb, __u32 stream)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x = c ? http2_of(c) : NULL;

	if (x)
		http2_whole(skb, s, c, x, stream);
	return 0;
}

/* Tells listeners that a stream has ended without its whole answer, and so without a derived
 * status. */
static __always_inline void http2_tap_aborted(struct __sk_buff *skb, struct http2_stream *r,
					      __u32 route, __u32 stream, __u32 reason)
{
	union tap_what what = {.route = route, .aborted = reason + 1};

	what.response.word = http2_response(r->status, PROTOCOL_HTTP2, r->grpc_status);
	what.response.protocol = r->protocol;
	tap_end(skb, what.word, r->start_ns, r->first_ns, stream);
}

/* Tells apart why the stream `r` is cancelled. `reason` is ABORT_STOPPED if it is the client that
 * no longer wants the answer: that counts as such only if it has begun. */
static __always_inline __u32 http2_cancelled(struct scratch *s, struct http2_stream *r,
					     __u32 reason)
{
	if (r->start_ns &&
	    deadline_has_passed(r->deadline, clock_since(r->start_ns, packet_now(&s->packet))))
		return ABORT_TIMEOUT;
	return r->first_ns ? reason : ABORT_CANCELLED;
}

/* Ends a stream without its whole answer. The caller holds the server's side. */
__noinline int http2_abort(struct __sk_buff *skb, __u32 stream, __u32 reason)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x = c ? http2_of(c) : NULL;
	struct http2_stream *r = x ? http2_find(x, stream) : NULL;
	struct metric_value *v;
	__u32 route;

	if (!r)
		return 0;
	WRITE_ONCE(r->answer, stream | STREAM_ENDED);
	route = route_unproven(s, c, r->route, r->protocol);
	conn_side(c, ROLE_SERVER)->answered++;
	if (reason == ABORT_CANCELLED || reason == ABORT_STOPPED)
		reason = http2_cancelled(s, r, reason);
	aborted_of(s, s->packet.series);
	aborted_add(skb, aborted_what(r->protocol, reason), route, r->start_ns, 1);
	v = series_value(s->packet.series);
	if (v)
		series_add_aborted(v, reason, 1);
	if (TAPPED)
		http2_tap_aborted(skb, r, route, stream, reason);
	return 0;
}

/* Counts one of the requests of http2_infer. */
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
	r->deadline = 0;
	WRITE_ONCE(r->stream, stream);
	conn_side(c, ROLE_CLIENT)->requests++;
	return 0;
}

/*
 * Counts requests that were never seen. The client's side is lost, and the server answers `stream`:
 * this stream and all before it were requests (RFC 9113 section 5.1.1), of which nothing else is
 * known. Returns how many were counted. The caller holds the server's side; the client's writes
 * nothing more.
 */
__noinline int http2_infer(struct __sk_buff *skb, __u32 stream, __u32 protocol)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct http2 *x = c ? http2_of(c) : NULL;
	__u32 last, n;

	if (!x)
		return 0;
	last = x->side[ROLE_CLIENT].last;
	if (last < x->side[ROLE_SERVER].last)
		last = x->side[ROLE_SERVER].last;
	for (n = 0; n < HTTP2_STREAMS && last < stream; n++) {
		last += 2;
		http2_infer_one(skb, last, protocol);
	}
	/* So many can't be: the rest has been passed over. */
	if (last < stream)
		s->packet.delta.lost = LOST_BOUND + 1;
	x->side[ROLE_SERVER].last = stream;
	return n;
}

#endif
