/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The places of streams: found by the number of a stream, in the elements of its connection. */
#ifndef METRICD_HTTP_HTTP2_STREAMS_H
#define METRICD_HTTP_HTTP2_STREAMS_H

#include "http/hpack.h"

/* Error codes, RFC 9113 section 7. */
#define HTTP2_ERROR_NONE 0
#define HTTP2_ERROR_REFUSED_STREAM 7
#define HTTP2_ERROR_CANCEL 8

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

/* Takes an element that is nobody's, and empties it. Returns its number plus one, or 0 if there is
 * none. A function of its own for the loop. */
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

/* For the server's side: the place `r` of a stream, ready for its answer, or NULL if the stream has
 * ended. */
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

/* What is known of a stream, or NULL if nothing is, or it has ended. Only clients' streams are
 * known. */
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

/* A place in a further element, for a new stream whose first place is taken. NULL if there is
 * none. */
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

#endif
