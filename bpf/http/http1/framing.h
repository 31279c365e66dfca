/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a body begins and ends, RFC 9112 section 6. */
#ifndef METRICD_HTTP_HTTP1_FRAMING_H
#define METRICD_HTTP_HTTP1_FRAMING_H

#include "http/http1/fields.h"

/* Begins the body that the framing promises, if there is one. */
static __always_inline void http1_body(struct parser *h)
{
	if (h->framing & FRAMING_CHUNKED) {
		h->phase = HTTP1_CHUNK_SIZE;
		h->length = 0; /* digits */
	} else if ((h->framing & FRAMING_LENGTH) && h->length) {
		h->phase = HTTP1_BODY;
		h->left = h->length;
	} else {
		h->phase = HTTP1_END;
	}
}

/*
 * Passes over a response that no request has asked for, and over what comes behind it. A server
 * says so that it closes the connection, with 408 (RFC 9110 section 15.5.9) or another status, and
 * nothing is lost. If it goes on to send after a further request, it is not known what answers
 * that.
 */
__noinline int http1_unasked(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	if (!c)
		return STOP;
	if (READ_ONCE(conn_side(c, ROLE_CLIENT)->requests) != conn_side(c, ROLE_SERVER)->begun)
		return parser_lost(skb, LOST_UNSOLICITED);
	parser_mine(s, c)->phase = HTTP1_UNASKED;
	s->packet.pos = s->packet.end;
	return GO_ON;
}

/* Tells, at the empty line, what follows the head: RFC 9112 section 6.3. */
static __always_inline int http1_head_end(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	struct parser *h = parser_mine(s, c);

	h->left = 0;
	if (s->packet.role == ROLE_SERVER) {
		if (unlikely(h->status < 200 && h->status != 101)) {
			h->phase = PHASE_START;
			return GO_ON;
		}
		if (unlikely(!http1_pop(c)))
			return http1_unasked(skb);
		if (unlikely(h->status == 101 && (h->framing & FRAMING_H2C) &&
			     !http2_upgrade(skb))) {
			h->phase = PHASE_START;
			return GO_ON;
		}
		if (unlikely(h->status == 101 ||
			     (h->method == METHOD_CONNECT && h->status / 100 == 2))) {
			h->phase = HTTP1_END;
			c->brief.l7 = L7_OPAQUE;
			return GO_ON;
		}
		if (unlikely(h->method == METHOD_HEAD || h->status == 204 || h->status == 304)) {
			h->phase = HTTP1_END;
			return GO_ON;
		}
		if (unlikely(!(h->framing & (FRAMING_CHUNKED | FRAMING_LENGTH)) ||
			     (h->framing & FRAMING_CODING))) {
			h->phase = HTTP1_CLOSE;
			h->left = ~0ULL;
			return GO_ON;
		}
	} else if (unlikely(h->framing & (FRAMING_CODING | FRAMING_EXPECT))) {
		if (h->framing & FRAMING_CODING)
			return parser_lost(skb, LOST_MALFORMED);
		h->phase = HTTP1_EXPECT;
		return GO_ON;
	}
	http1_body(h);
	return GO_ON;
}

/* Loads the packet from its position on, up to BLOCK bytes. Returns how many of them are its first
 * line, with the line feed, or 0 if the line goes on. */
__noinline __u32 http1_line(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	__u32 n, end = 0;

	if (!s || !skb->len)
		return 0;
	n = s->packet.end - s->packet.pos;
	n = (n < BLOCK ? n : BLOCK) - 1;
	bounded(n, (BLOCK - 1));
	n++;
	if (early_or_packet(skb, s, 0, n))
		return 0;
	for (__u32 at = 0; at < BLOCK; at += 8) {
		__u64 feeds = http1_line_feeds(buffer_word(s, at));

		if (feeds) {
			end = at + http1_lowest_byte(feeds) + 1;
			break;
		}
	}
	return end <= n ? end : 0;
}

/* Passes over a line of the PROXY protocol, of which at most h->length bytes are to come. */
__noinline int http1_proxy(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	__u32 n;

	if (!c)
		return STOP;
	h = parser_mine(s, c);
	n = http1_line(skb);
	if (n)
		h->phase = PHASE_START;
	else
		n = s->packet.end - s->packet.pos;
	if (n > h->length)
		return parser_opaque(skb, DECIDED_NOT_HTTP);
	h->length -= n;
	s->packet.pos += n;
	return GO_ON;
}

/*
 * The first bytes behind a head with Expect: 100-continue. A client that got a final status instead
 * may leave its body out, or send it all the same, RFC 9110 section 10.1.1. Then a whole request
 * line, within BLOCK bytes and in one packet, is the next request, and all else is the body; so a
 * body that begins with a request line is taken for one. Before a final status it is the body in
 * any case.
 */
__noinline int http1_expect(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	__u32 n;

	if (!c)
		return STOP;
	h = parser_mine(s, c);
	if (READ_ONCE(conn_side(c, ROLE_SERVER)->begun) ==
	    conn_side(c, ROLE_CLIENT)->requests + s->packet.run_count) {
		n = http1_line(skb);
		if (n && http1_method(s, h, 0) && http1_version(s, 0, http1_text(s, 0, n - 1))) {
			h->phase = PHASE_START;
			return GO_ON;
		}
	}
	http1_body(h);
	return GO_ON;
}

#define CHUNK_LINE 32

/* Reads a chunk's size, or what there is of it, RFC 9112 section 7.1. */
__noinline int http1_chunk_size(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	__u32 i, n;

	if (unlikely(!c))
		return STOP;
	h = parser_mine(s, c);
	n = s->packet.end - s->packet.pos;
	n = (n < CHUNK_LINE ? n : CHUNK_LINE) - 1;
	bounded(n, (CHUNK_LINE - 1));
	n++;
	if (early_or_packet(skb, s, 0, n))
		return parser_lost(skb, LOST_GAP);
	for (i = 0; i < CHUNK_LINE; i++) {
		__u32 b, digit;

		if (i >= n)
			break;
		b = s->buffer[i];
		if (b == '\n') {
			s->packet.pos += i + 1;
			if (!h->length)
				return parser_lost(skb, LOST_MALFORMED);
			if (h->left) {
				h->phase = HTTP1_CHUNK_DATA;
				h->left += 2;
			} else {
				h->phase = HTTP1_TRAILER;
				h->line = HTTP1_LINE_NEW;
				h->carry_len = 0;
			}
			return GO_ON;
		}
		if (h->phase == HTTP1_CHUNK_EXT)
			continue;
		digit = b - '0';
		if (digit > 9) {
			digit = (b | 0x20) - 'a' + 10;
			if (digit < 10 || digit > 15) {
				if (b != '\r' && b != ';' && b != ' ' && b != '\t')
					return parser_lost(skb, LOST_MALFORMED);
				h->phase = HTTP1_CHUNK_EXT;
				continue;
			}
		}
		if (h->left >> 56)
			return parser_lost(skb, LOST_MALFORMED);
		h->left = h->left << 4 | digit;
		h->length++;
	}
	s->packet.pos += n;
	return GO_ON;
}

#endif
