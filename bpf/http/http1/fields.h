/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The header fields that matter: how long a body is, and what the connection goes on with. */
#ifndef METRICD_HTTP_HTTP1_FIELDS_H
#define METRICD_HTTP_HTTP1_FIELDS_H

#include "http/http1/message.h"

/* The length of the line of `len` bytes at `at`, without the carriage return at its end. */
static __always_inline __u32 http1_text(struct scratch *s, __u32 at, __u32 len)
{
	return len && buffer_byte(s, at + len - 1) == '\r' ? len - 1 : len;
}

/*
 * The decimal number of which the `n` digits, one to seven, are behind the first character of
 * `*text`. Eight characters are worked on at once: neighbours become numbers of two digits, then of
 * four, then of eight. Returns false if one is no digit.
 */
static __always_inline bool http1_digits(__u64 *text, __u32 n)
{
	__u64 w = *text >> 8 << (64 - 8 * n) | BYTES('0') >> 8 * n;

	if (((w & BYTES(0xf0)) | ((w + BYTES(6)) & BYTES(0xf0)) >> 4) != BYTES(0x33))
		return false;
	w = (w & BYTES(0x0f)) * (10 * (1 << 8) + 1) >> 8;
	w = (w & 0x00ff00ff00ff00ffULL) * (100 * (1 << 16) + 1) >> 16;
	*text = (w & 0x0000ffff0000ffffULL) * (10000 * (1ULL << 32) + 1) >> 32;
	return true;
}

#define LENGTH_LINE 63 /* bytes of a content-length line */

/*
 * Reads the value of a content-length line, `len` bytes at `at`, into the scan's number: a decimal
 * number, or a list of equal ones, RFC 9110 section 8.6. Returns false if it is neither. A function
 * of its own, so that the verifier looks at it once.
 */
__noinline bool http1_numbers(struct __sk_buff *skb, __u32 at, __u32 len)
{
	struct scratch *s = scratch();
	volatile struct scan *scan;
	bool listed = false;
	__u64 first = 0;

	if (!s || !skb->len || len > LENGTH_LINE)
		return false;
	scan = &s->scan;
	scan->number = 0;
	scan->digits = scan->ended = 0;
	for (__u32 i = 15; i < LENGTH_LINE; i++) {
		__u32 b;

		if (i >= len)
			break;
		b = buffer_byte(s, at + i);
		if (b == ' ' || b == '\t') {
			scan->ended = scan->digits;
			continue;
		}
		if (b == ',') {
			if (!scan->digits || (listed && scan->number != first))
				return false;
			first = scan->number;
			listed = true;
			scan->number = 0;
			scan->digits = scan->ended = 0;
			continue;
		}
		b -= '0';
		if (unlikely(b > 9 || scan->ended || scan->digits == 18))
			return false;
		if (scan->number || !scan->digits)
			scan->digits++;
		scan->number = scan->number * 10 + b;
	}
	return scan->digits && !(listed && scan->number != first);
}

/*
 * "content-length:" and its value, `len` bytes at `at`, of which the name has been seen. RFC 9112
 * section 6.3.
 */
static __always_inline int http1_content_length(struct __sk_buff *skb, struct scratch *s,
						struct parser *h, __u32 at, __u32 len)
{
	__u64 value = buffer_word(s, at + 15);

	if (unlikely((value & 0xff) != ' ' || len - 17 >= 7 || !http1_digits(&value, len - 16))) {
		if (!http1_numbers(skb, at, len))
			return parser_lost(skb, LOST_MALFORMED);
		value = s->scan.number;
	}
	if (unlikely((h->framing & FRAMING_LENGTH) && h->length != value))
		return parser_lost(skb, LOST_MALFORMED);
	h->framing |= FRAMING_LENGTH;
	h->length = value;
	return GO_ON;
}

/* The end of a transfer-encoding line: is chunked the last coding? In HTTP/1.0 there is none, and
 * where the body ends is not known. RFC 9112 section 6.1. */
static __always_inline void http1_coding(struct scratch *s, struct parser *h, __u32 end)
{
	__u64 w;
	__u8 b;

	for (int i = 0; i < 9; i++) {
		b = buffer_byte(s, end - 1);
		if (b != ' ' && b != '\t' && b != ',' && (i || b != '\r'))
			break;
		end--;
	}
	w = buffer_word(s, end - 8);
	b = w;
	h->framing &= ~(FRAMING_CHUNKED | FRAMING_CODING);
	if (((w | BYTES(0x20)) >> 8) == CHARS('c', 'h', 'u', 'n', 'k', 'e', 'd', 0) &&
	    !(h->framing & FRAMING_OLD) && (b == ' ' || b == ',' || b == ':' || b == '\t'))
		h->framing |= FRAMING_CHUNKED;
	else
		h->framing |= FRAMING_CODING;
}

static __always_inline bool http1_blank(struct scratch *s, __u32 at)
{
	__u8 b = buffer_byte(s, at);

	return b == ' ' || b == '\t';
}

/*
 * The line of `len` bytes at `at`, which is "upgrade:" with its value or begins as "expect:" does:
 * is it about h2c (RFC 7540 section 3.2), or 100-continue (RFC 9110 section 10.1.1)?
 */
__noinline int http1_option(struct __sk_buff *skb, __u32 at, __u32 len)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	__u64 w, rest;
	bool upgrade;

	if (!c)
		return 0;
	h = parser_mine(s, c);
	w = buffer_word(s, at) | BYTES(0x20);
	upgrade = (__u8)w == 'u';
	if (!upgrade && (w & 0x00ffffffffffffffULL) != CHARS('e', 'x', 'p', 'e', 'c', 't', ':', 0))
		return 0;
	len = http1_text(s, at, len) - (upgrade ? 8 : 7);
	at += upgrade ? 8 : 7;
	for (int i = 0; i < 8 && len && http1_blank(s, at); i++, len--)
		at++;
	for (int i = 0; i < 8 && len && http1_blank(s, at + len - 1); i++)
		len--;
	w = buffer_word(s, at) | BYTES(0x20);
	rest = buffer_word(s, at + 8) | BYTES(0x20);
	if (upgrade && len == 3 && (w & 0xffffff) == CHARS('h', '2', 'c', 0, 0, 0, 0, 0))
		h->framing |= FRAMING_H2C;
	if (!upgrade && len == 12 && w == CHARS('1', '0', '0', '-', 'c', 'o', 'n', 't') &&
	    (__u32)rest == CHARS('i', 'n', 'u', 'e', 0, 0, 0, 0))
		h->framing |= FRAMING_EXPECT;
	return 0;
}

#endif
