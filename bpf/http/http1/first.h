/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The first bytes of a connection: are they HTTP/1.1, HTTP/2, DNS, or something else? A load
 * balancer may put a header of the PROXY protocol in front of them (haproxy's
 * doc/proxy-protocol.txt). */
#ifndef METRICD_HTTP_HTTP1_FIRST_H
#define METRICD_HTTP_HTTP1_FIRST_H

#include "dns/dns.h"
#include "http/http1/cut.h"

/* What the first bytes of a connection have told. */
enum first {
	FIRST_HTTP1,
	FIRST_OTHER,
	FIRST_TLS,   /* they are TLS's, and so something else's */
	FIRST_SHORT, /* there are too few to tell */
	FIRST_TAKEN, /* they are not HTTP/1's, and have been dealt with */
};

/* Do the first `len` bytes of `w`, of which it has eight, begin as those of `text` do? */
static __always_inline bool first_is(__u64 w, __u32 len, __u64 text)
{
	return !((w ^ text) & (len < 8 ? ~(~0ULL << 8 * len) : ~0ULL));
}

#define PROXY_LINE 107 /* bytes of version 1, with the line's end */
#define PROXY_HEAD 16  /* bytes of version 2 up to those that its length counts */

/*
 * A header of the PROXY protocol, of which `total` bytes are in the buffer: version 1 is a line,
 * and version 2 tells its length. What it says does not matter. Returns enum first.
 */
__noinline int http1_first_proxy(struct __sk_buff *skb, __u32 total)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	__u64 a, b;

	if (!c)
		return FIRST_OTHER;
	h = parser_mine(s, c);
	a = buffer_word(s, 0);
	b = buffer_word(s, 8);
	if (first_is(a, total, CHARS('P', 'R', 'O', 'X', 'Y', ' ', 'T', 'C')) ||
	    first_is(a, total, CHARS('P', 'R', 'O', 'X', 'Y', ' ', 'U', 'N'))) {
		if (total < 8)
			return FIRST_SHORT;
		h->phase = HTTP1_PROXY;
		h->length = PROXY_LINE - h->carry_len;
		h->carry_len = 0;
		return FIRST_TAKEN;
	}
	if (!first_is(a, total, CHARS('\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q')) ||
	    (total > 8 &&
	     !first_is(b, total < 12 ? total - 8 : 4, CHARS('U', 'I', 'T', '\n', 0, 0, 0, 0)))) {
		if (h->carry_len < 2 || (a & 0xff) != '\r')
			return FIRST_HTTP1;
		/* Empty lines were kept that might have become version 2. */
		if (h->carry_len > 4)
			return FIRST_OTHER;
		h->carry_len = 0;
		h->framing = FRAMING_EMPTY;
		return FIRST_TAKEN;
	}
	if (total < PROXY_HEAD)
		return FIRST_SHORT;
	/* The version and the command, LOCAL or PROXY. */
	if ((b >> 32 & 0xfe) != 0x20)
		return FIRST_OTHER;
	h->left = PROXY_HEAD + bpf_ntohs(b >> 48) - h->carry_len;
	h->carry_len = 0;
	h->phase = HTTP2_SKIP;
	return FIRST_TAKEN;
}

/* The first bytes that the client sends: `total` of the buffer. Returns enum first. */
__noinline int http1_first_client(struct __sk_buff *skb, __u32 total)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	__u64 w;
	__u8 b;

	if (!c)
		return FIRST_OTHER;
	h = parser_mine(s, c);
	/* Behind an empty line nothing but HTTP/1 can begin, in whichever packet the line came. */
	if (h->framing & FRAMING_EMPTY)
		return FIRST_HTTP1;
	w = buffer_word(s, 0);
	b = w;
	if (unlikely(b == 0x16)) {
		if (total < 6)
			return FIRST_SHORT;
		/* A handshake record with a ClientHello: RFC 8446 sections 4 and 5.1. */
		if ((w >> 8 & 0xff) == 3 && (w >> 40 & 0xff) == 1)
			return FIRST_TLS;
		return FIRST_OTHER;
	}
	if (mesh_is_proxys(s->packet.flags))
		return FIRST_OTHER;
	if (unlikely(dns_begins(&s->packet, w, total))) {
		/* The server's side has to be told before the packet goes on. */
		if (total < DNS_LENGTH)
			return FIRST_SHORT;
		parser_decide(skb, L7_DNS, DECIDED_DNS);
		return FIRST_TAKEN;
	}
	if (unlikely(b == 'P' && http2_preface(s, total))) {
		if (total < PREFACE_LEN)
			return FIRST_SHORT;
		if (http2_open(skb))
			return FIRST_OTHER;
		s->packet.pos += PREFACE_LEN - h->carry_len;
		h->carry_len = 0;
		return FIRST_TAKEN;
	}
	if (unlikely(b == 'P' || b == '\r')) {
		int first = http1_first_proxy(skb, total);

		if (first != FIRST_HTTP1)
			return first;
	}
	/* What was carried over began as the preface, and its first line is that of no request. */
	if (unlikely(h->carry_len >= 16))
		return FIRST_OTHER;
	return http1_is_token(b) || b == '\r' || b == '\n' ? FIRST_HTTP1 : FIRST_OTHER;
}

/*
 * The first bytes of a server that speaks before the client: HTTP/2 allows it to send frames about
 * the connection, RFC 9113 section 3.4. They are passed over; the client's preface decides.
 */
__noinline int http1_first_server(struct __sk_buff *skb, __u32 total)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	__u32 len, type;
	__u64 w;

	if (!c)
		return FIRST_OTHER;
	if (mesh_is_proxys(s->packet.flags))
		return FIRST_OTHER;
	h = parser_mine(s, c);
	w = bpf_be64_to_cpu(buffer_word(s, 0));
	len = w >> 40;
	type = w >> 32 & 0xff;
	if (total < FRAME_HEADER)
		return w >> 56 ? FIRST_OTHER : FIRST_SHORT;
	if (len > 16384 ||
	    (type != FRAME_SETTINGS && type != FRAME_PING && type != FRAME_WINDOW_UPDATE) ||
	    (w & 0xffffff) || buffer_byte(s, 8))
		return FIRST_OTHER;
	h->left = FRAME_HEADER + len - h->carry_len;
	h->carry_len = 0;
	h->phase = HTTP2_SKIP;
	return FIRST_TAKEN;
}

/* Gives up a connection whose first bytes (enum first) are not HTTP's. */
__noinline int http1_first_opaque(struct __sk_buff *skb, __u32 first)
{
	struct scratch *s = scratch();
	__u32 why = DECIDED_NOT_HTTP;

	if (!s)
		return STOP;
	if (first == FIRST_TLS)
		why = DECIDED_TLS;
	else if (mesh_is_proxys(s->packet.flags))
		why = DECIDED_PASSED_OVER;
	else if (s->packet.role == ROLE_SERVER)
		why = DECIDED_SERVER_FIRST;
	return parser_opaque(skb, why);
}

#endif
