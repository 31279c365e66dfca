/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* HTTP/2 begins on a connection: by its preface, or by an upgrade of HTTP/1.1. */
#ifndef METRICD_HTTP_HTTP2_OPEN_H
#define METRICD_HTTP_HTTP2_OPEN_H

#include "http/http2/reset.h"

#define WINDOW 128     /* bytes; BLOCK where routes are looked for, which may be long */
#define HTTP2_TOKENS 4 /* looked at in a window, before it is read again */
#define FRAME_HEADER 9
#define USUAL (FRAME_HEADER + HPACK_SHORT) /* bytes of a frame that http2_usual looks at */
#define USUALS 16			   /* frames looked at in one call of http2_usual */
#define USUAL_BEHIND 40 /* bytes of http2_usual's window behind DATA: HEADERS and DATA fit */

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
		return parser_opaque(skb, DECIDED_BOUND);
	}
#pragma unroll
	for (int role = ROLE_CLIENT; role <= ROLE_SERVER; role++)
		__builtin_memset(&x->side[role], 0, offsetof(struct http2_side, codes));
	/* Behind an upgrade it has been decided: HTTP/1. */
	if (c->brief.l7 == L7_HTTP1) {
		WRITE_ONCE(c->brief.l7, L7_HTTP2);
		return GO_ON;
	}
	return parser_decide(skb, L7_HTTP2, DECIDED_HTTP2);
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
	__u32 route;

	if (!c || http2_open(skb))
		return STOP;
	x = http2_of(c);
	if (!x)
		return STOP;
	/* At the packet's end the connection is one of HTTP/2. That the server speaks it does not
	 * prove the path. */
	route = route_unproven(s, c, http1_route(c), PROTOCOL_HTTP1);
	if (s->packet.pending)
		requests_forget(skb, s->packet.series, 1, PROTOCOL_HTTP1);
	s->packet.pending = 0;
	x->streams[0].protocol = PROTOCOL_HTTP1;
	x->streams[0].route = route;
	x->streams[0].start_ns = conn_side(c, ROLE_SERVER)->parser.request_ns;
	x->streams[0].deadline = 0;
	x->streams[0].stream = 1;
	x->side[ROLE_CLIENT].last = 1;
	x->side[ROLE_CLIENT].token = TOKEN_PREFACE;
	return GO_ON;
}

/* Are the first `len` bytes of the buffer the preface, as far as they go? RFC 9113 section 3.4. */
static __always_inline bool http2_preface(struct scratch *s, __u32 len)
{
	__u64 a = buffer_word(s, 0) ^ CHARS('P', 'R', 'I', ' ', '*', ' ', 'H', 'T');
	__u64 b = buffer_word(s, 8) ^ CHARS('T', 'P', '/', '2', '.', '0', '\r', '\n');
	__u64 c = buffer_word(s, 16) ^ CHARS('\r', '\n', 'S', 'M', '\r', '\n', '\r', '\n');

	if (likely(len >= PREFACE_LEN))
		return !(a | b | c);
	if (len >= 16)
		return !(a | b | (c & ~(~0ULL << 8 * (len & 7))));
	if (len >= 8)
		return !(a | (b & ~(~0ULL << 8 * (len & 7))));
	return !(a & ~(~0ULL << 8 * (len & 7)));
}

#endif
