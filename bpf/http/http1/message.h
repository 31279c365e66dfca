/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a request or a response begins, and where it ends. */
#ifndef METRICD_HTTP_HTTP1_MESSAGE_H
#define METRICD_HTTP_HTTP1_MESSAGE_H

#include "http/http1/runs.h"
#include "http/http2/open.h"

/* The route of the request that the answer at hand (a union response) is to, as it is counted. A
 * function of its own for the verifier. */
__noinline __u32 http1_settle(struct __sk_buff *skb, __u32 response)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 route;

	if (!c)
		return ROUTE_UNKNOWN;
	route = http1_route(c);
	return route >= ROUTE_CANDIDATE ? route_settle(skb, route, response) : route;
}

/* Counts a final response, whose last byte has come. */
static __always_inline void http1_response(struct __sk_buff *skb, struct conn *c, struct packet *p)
{
	struct side *side = conn_side(c, ROLE_SERVER);
	struct parser *h = &side->parser;
	union response what = {.protocol = PROTOCOL_HTTP1, .grpc_status = GRPC_STATUS_NONE};

	__u32 route = ROUTE_NONE;

	h->phase = PHASE_START;
	what.status = h->status;
	if (unlikely(config.routes))
		route = http1_settle(skb, what.word);
	responses_add(skb, side, p, what, route, h->request_ns, h->start_ns, side->begun - 1);
}

/* Ends a message of either side. */
static __always_inline void http1_end(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	if (s->packet.role == ROLE_SERVER)
		http1_response(skb, c, &s->packet);
	else
		conn_side(c, ROLE_CLIENT)->parser.phase = PHASE_START;
}

/* Characters of a token, RFC 9110 section 5.6.2: bit 0 is NUL, and in the second word '@'. */
#define TOKEN_LOW 0x03ff6cfa00000000ULL	 /* !#$%&'*+-. and digits */
#define TOKEN_HIGH 0x57ffffffc7fffffeULL /* letters and ^_`|~ */

/* May a token have this character? */
static __always_inline bool http1_is_token(__u8 b)
{
	return b < 128 && (b & 64 ? TOKEN_HIGH : TOKEN_LOW) >> (b & 63) & 1;
}

/* Reads the method at `at`, of up to 23 characters: a token, RFC 9110 section 9.1. Returns false if
 * there is none. */
static __always_inline bool http1_method(struct scratch *s, struct parser *h, __u32 at)
{
	__u64 w = buffer_word(s, at);

	h->method = METHOD_ANY;
	if ((w & 0xffffffff) == CHARS('G', 'E', 'T', ' ', 0, 0, 0, 0) ||
	    (w & 0xffffffffffULL) == CHARS('P', 'O', 'S', 'T', ' ', 0, 0, 0))
		return true;
	if ((w & 0xffffffffffULL) == CHARS('H', 'E', 'A', 'D', ' ', 0, 0, 0)) {
		h->method = METHOD_HEAD;
		return true;
	}
	if (w == CHARS('C', 'O', 'N', 'N', 'E', 'C', 'T', ' ')) {
		h->method = METHOD_CONNECT;
		return true;
	}
	for (int i = 0; i < 24; i++) {
		__u8 b = buffer_byte(s, at + i);

		if (b == ' ')
			return i > 0;
		if (!http1_is_token(b))
			return false;
	}
	return false;
}

/* How many of the `len` bytes at `at` are a URI's authority: RFC 3986 section 3.2. */
__noinline __u32 http1_authority(struct __sk_buff *skb, __u32 at, __u32 len)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return 0;
	for (__u32 i = 0; i < ROUTE_RAW; i++) {
		__u32 b = buffer_byte(s, at + i);

		if (i >= len || b == '/')
			return i;
		/* Otherwise clang makes one test of all, of a form that the verifier refuses. */
		fresh(b);
		if (b == '?' || b == '#')
			return i;
	}
	return ROUTE_RAW;
}

/* The route of a request target of `len` bytes at `at`: of its path, also in the absolute form,
 * which is for proxies. RFC 9112 section 3.2. */
static __always_inline __u32 http1_target(struct __sk_buff *skb, struct scratch *s, __u32 at,
					  __u32 len)
{
	__u64 w = buffer_word(s, at) | BYTES(0x20);
	__u32 n = 0;

	if (w == CHARS('h', 't', 't', 'p', 's', ':', '/', '/'))
		n = 8;
	else if ((w & 0x00ffffffffffffffULL) == CHARS('h', 't', 't', 'p', ':', '/', '/', 0))
		n = 7;
	if (n) {
		n += http1_authority(skb, at + n, len - n);
		/* An empty path is that of the root, RFC 9110 section 4.2.3. */
		if (buffer_byte(s, at + n) != '/')
			return route_static(skb, ROUTE_ROOT);
	}
	return route_of(skb, at + n, len - n, 0);
}

/* The route of the request line of `len` bytes at `at`. */
__noinline __u32 http1_find_route(struct __sk_buff *skb, __u32 at, __u32 len)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 route = ROUTE_UNKNOWN, skip = 0;

	if (!c)
		return ROUTE_UNKNOWN;
	/* Otherwise only the line's end is there. */
	if (parser_mine(s, c)->line == HTTP1_LINE_NEW) {
		for (int i = 0; i < 24; i++) {
			if (buffer_byte(s, at + skip++) == ' ')
				break;
		}
		if (len > skip + 9)
			route = http1_target(skb, s, at + skip, len - 9 - skip);
	}
	return route;
}

/* Are the last nine of the line's `len` bytes at `at` a space and a version? */
static __always_inline bool http1_version(struct scratch *s, __u32 at, __u32 len)
{
	__u64 version = buffer_word(s, at + len - 8);

	return len >= 12 && buffer_byte(s, at + len - 9) == ' ' &&
	       (version == CHARS('H', 'T', 'T', 'P', '/', '1', '.', '1') ||
		version == CHARS('H', 'T', 'T', 'P', '/', '1', '.', '0'));
}

/*
 * Reads a request line, or what is left of one whose beginning came earlier: `len` bytes at `at`,
 * of which the last nine are a space and the version. Counts the request. RFC 9112 section 3.
 */
static __always_inline int http1_request(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					 __u32 at, __u32 len)
{
	struct parser *h = &conn_side(c, ROLE_CLIENT)->parser;
	struct packet *p = &s->packet;

	if (unlikely((h->line == HTTP1_LINE_NEW && !http1_method(s, h, at)) ||
		     !http1_version(s, at, len))) {
		if (c->brief.l7 == L7_UNDECIDED)
			return parser_opaque(skb, DECIDED_NOT_HTTP);
		return parser_lost(skb, LOST_MALFORMED);
	}
	if (unlikely(buffer_byte(s, at + len - 1) == '0'))
		h->framing |= FRAMING_OLD;
	if (unlikely(c->brief.l7 == L7_UNDECIDED))
		parser_decide(skb, L7_HTTP1, DECIDED_HTTP1);
	/* In memory, as the verifier walks through the rest once for each value that it can tell.
	 */
	p->route = unlikely(config.routes) ? http1_find_route(skb, at, len) : ROUTE_NONE;
	if (TAPPED)
		tap_http1(skb, at, len, true);
	if (unlikely(p->run_count && (p->run_start_ns != h->start_ns ||
				      p->run_method != h->method || p->run_route != p->route))) {
		if (http1_push_early(skb))
			return STOP;
	}
	p->run_start_ns = h->start_ns;
	p->run_method = h->method;
	p->run_route = p->route;
	p->run_count++;
	p->delta.requests++;
	return GO_ON;
}

/* Reads a status line, or its first 12 bytes, at `at`. RFC 9112 section 4. */
static __always_inline int http1_status(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					__u32 at, __u32 len)
{
	__u64 version = buffer_word(s, at), rest = buffer_word(s, at + 8);
	struct parser *h = &conn_side(c, ROLE_SERVER)->parser;
	__u32 hundreds = (rest >> 8 & 0xff) - '0', tens = (rest >> 16 & 0xff) - '0',
	      ones = (rest >> 24 & 0xff) - '0';

	if (unlikely(len < 12 ||
		     (version != CHARS('H', 'T', 'T', 'P', '/', '1', '.', '1') &&
		      version != CHARS('H', 'T', 'T', 'P', '/', '1', '.', '0')) ||
		     (rest & 0xff) != ' ' || hundreds < 1 || hundreds > 9 || tens > 9 || ones > 9 ||
		     (len > 12 && (rest >> 32 & 0xff) != ' ')))
		return parser_lost(skb, LOST_MALFORMED);
	h->status = hundreds * 100 + tens * 10 + ones;
	if (unlikely(version >> 56 == '0'))
		h->framing |= FRAMING_OLD;
	return GO_ON;
}

/* Reads the start line of either side. */
static __always_inline int http1_first(struct __sk_buff *skb, struct scratch *s, struct conn *c,
				       __u32 at, __u32 len)
{
	struct parser *h = parser_mine(s, c);

	h->phase = HTTP1_HEAD;
	h->framing = 0;
	return s->packet.role == ROLE_SERVER ? http1_status(skb, s, c, at, len)
					     : http1_request(skb, s, c, at, len);
}

#endif
