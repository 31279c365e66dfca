/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A line that the packet cuts: what of the line must be remembered until the next packet. */
#ifndef METRICD_HTTP_HTTP1_CUT_H
#define METRICD_HTTP_HTTP1_CUT_H

#include "http/http1/framing.h"

/*
 * The packet ends within a line, of which `at` to `total` is in the buffer: keeps what the next
 * packet needs of it.
 */
__noinline int http1_cut(struct __sk_buff *skb, __u32 at, __u32 total)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct parser *h;
	__u32 len = total - at, from = at;
	__u64 w;

	if (unlikely(!c))
		return STOP;
	h = parser_mine(s, c);
	h->carry_len = 0;
	if (h->line == HTTP1_LINE_NEW && len > CARRY) {
		w = buffer_word(s, at) | BYTES(0x20);
		if (h->phase == HTTP1_FIRST) {
			if (s->packet.role == ROLE_CLIENT) {
				if (!http1_method(s, h, at)) {
					if (c->brief.l7 == L7_UNDECIDED)
						return parser_opaque(skb, DECIDED_NOT_HTTP);
					return parser_lost(skb, LOST_MALFORMED);
				}
				if (TAPPED)
					tap_http1(skb, at, len, false);
				h->line = HTTP1_LINE_FIRST;
				h->first_len = len;
			} else {
				h->phase = HTTP1_HEAD;
				h->framing = 0;
				if (http1_status(skb, s, c, at, len))
					return STOP;
				h->line = HTTP1_LINE_SKIP;
			}
		} else if (w == CHARS('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') &&
			   (buffer_word(s, at + 8) | BYTES(0x20)) ==
			       CHARS('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n')) {
			h->line = HTTP1_LINE_CODING;
		} else if (w == CHARS('c', 'o', 'n', 't', 'e', 'n', 't', '-') &&
			   ((buffer_word(s, at + 8) | BYTES(0x20)) & 0x00ffffffffffffffULL) ==
			       CHARS('l', 'e', 'n', 'g', 't', 'h', ':', 0)) {
			return parser_lost(skb, LOST_BOUND);
		} else {
			h->line = HTTP1_LINE_SKIP;
		}
	} else if (h->line == HTTP1_LINE_FIRST) {
		h->first_len += len - s->scan.carry;
		if (h->first_len > START_LINE) {
			if (c->brief.l7 == L7_UNDECIDED)
				return parser_opaque(skb, DECIDED_BOUND);
			return parser_lost(skb, LOST_BOUND);
		}
	}
	if (h->line == HTTP1_LINE_SKIP)
		return GO_ON;
	if (h->line != HTTP1_LINE_NEW) {
		/* The line's last bytes tell the version, or the last coding. */
		if (len > 16)
			from = total - 16;
		len = total - from;
	}
	bounded(from, 1023);
	if (from > BUFFER - CARRY)
		return STOP;
	__builtin_memcpy(h->carry, s->buffer + from, CARRY);
	h->carry_len = len;
	return GO_ON;
}

#endif
