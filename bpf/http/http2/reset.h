/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What ends streams before their time: RST_STREAM, GOAWAY, and a side that can't be followed any
 * more.
 */
#ifndef METRICD_HTTP_HTTP2_RESET_H
#define METRICD_HTTP_HTTP2_RESET_H

#include "http/http2/block.h"

/* Notes that the client cancels a stream, for this enum abort_reason. Ends are noted by the
 * server's side, which is taken for this. */
__noinline int http2_cancel(struct __sk_buff *skb, __u32 stream, __u32 reason)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	bool mine = false;
	__u64 since;

	if (!c)
		return 0;
	since = bpf_ktime_get_ns();
	for (int i = 0; i < PARSER_WAIT_ROUNDS && !mine; i++) {
		if (parser_wait(skb, ROLE_SERVER, since))
			break;
		mine = conn_busy_anywhere(c, ROLE_SERVER);
	}
	/* If it can't be taken, the request counts as in flight until the connection ends. */
	if (!mine) {
		counters_add(contended);
		return 0;
	}
	/* If answers are lost, the request counts as answered already. */
	if (!(READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST))
		http2_abort(skb, stream, reason);
	conn_done_anywhere(c, ROLE_SERVER);
	return 0;
}

/* Handles RST_STREAM, RFC 9113 section 6.4, whose code is `error`. */
static __always_inline void http2_rst(struct __sk_buff *skb, __u32 role, __u32 stream, __u32 error)
{
	__u32 reason = ABORT_RESET;

	if (!(stream & 1))
		return;
	if (role == ROLE_CLIENT) {
		reason = error == HTTP2_ERROR_CANCEL || error == HTTP2_ERROR_NONE ? ABORT_STOPPED
										  : ABORT_CANCELLED;
		http2_cancel(skb, stream, reason);
		return;
	}
	if (error == HTTP2_ERROR_REFUSED_STREAM)
		reason = ABORT_REFUSED;
	else if (error == HTTP2_ERROR_CANCEL)
		reason = ABORT_CANCELLED;
	http2_abort(skb, stream, reason);
}

/* Ends the streams of an element that are above `last`. Returns the next element, plus one. */
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

/* Handles GOAWAY of the server, RFC 9113 section 6.8: streams above `last` are not processed. */
static __always_inline int http2_goaway(struct __sk_buff *skb, __u32 last)
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

/* Places that are looked at in one call: a loop in a loop is less to verify. */
#define HTTP2_SOME 16

/* Ends the open streams of HTTP2_SOME places of an element, which will have no answer, and tells
 * those of gRPC apart in p->unknown_grpc. */
__noinline int http2_forget_some(struct __sk_buff *skb, __u32 at, __u32 place)
{
	struct http2 *x = http2_element(at);
	struct scratch *s = scratch();

	if (!x || !s || !skb->len)
		return 0;
	for (int i = 0; i < HTTP2_SOME; i++) {
		struct http2_stream *r = http2_place(x, (place + i) << 1);

		if (!http2_taken(r))
			continue;
		WRITE_ONCE(r->answer, r->stream | STREAM_ENDED);
		if (r->protocol == PROTOCOL_GRPC && s->packet.unknown) {
			s->packet.unknown--;
			s->packet.unknown_grpc++;
		}
	}
	return 0;
}

/* Ends the open streams of an element. Returns the next element, plus one. */
__noinline int http2_forget(struct __sk_buff *skb, __u32 at)
{
	struct http2 *x = http2_element(at);

	if (!x || !skb->len)
		return 0;
	for (int i = 0; i < HTTP2_STREAMS; i += HTTP2_SOME)
		http2_forget_some(skb, at, i);
	return READ_ONCE(x->next);
}

/* Tells the open streams apart by protocol when the server's side is lost, and p->unknown has them
 * all. */
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
