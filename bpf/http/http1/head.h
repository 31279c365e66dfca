/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A head: its lines are found, and those that matter are looked at. */
#ifndef METRICD_HTTP_HTTP1_HEAD_H
#define METRICD_HTTP_HTTP1_HEAD_H

#include "http/http1/first.h"

#define WORDS 4 /* looked through at once for the next line feed */

/* What http1_lines has come to, beside the end of the block. */
#define FOUND_END (1 << 0)   /* the empty line: the packet's position is behind it */
#define FOUND_AGAIN (1 << 1) /* the second line of one kind: it is left for the next block */

/* The buffer from `at` on. `at` has 64 bits, which spares the conversion that buffer_word takes. */
static __always_inline const __u64 *http1_words(struct scratch *s, __u64 at)
{
	bounded(at, 1023);
	return (const __u64 *)(s->buffer + at);
}

/*
 * Finds the lines of the block, notes those that matter, and nothing else: what a line says is
 * looked at once, behind the loop, which the verifier walks through hundreds of times. A line's
 * length is with its carriage return.
 */
static __always_inline void http1_lines(struct scratch *s, struct parser *h, int events)
{
	volatile struct scan *scan = &s->scan;

	for (int i = 0; i < events; i++) {
		__u64 feeds = scan->feeds, name;
		__u32 at, end, len, word = scan->word;
		const __u64 *words;

		fresh_for_newer(h);
		/* The hint is for 5.10: without it clang lets the loop's end fall through into its
		 * beginning, which that kernel refuses (tests/kernels). */
		if (unlikely(!feeds)) {
			words = http1_words(s, word);
#pragma unroll
			for (int j = 1; j <= WORDS; j++) {
				word += 8;
				feeds = http1_line_feeds(words[j]);
				fresh_for_newer(feeds);
				if (feeds)
					break;
			}
			scan->word = word;
			scan->feeds = feeds;
			if (!feeds) {
				if (word >= scan->total)
					break;
				continue;
			}
		}
		end = word + http1_lowest_byte(feeds);
		if (end >= scan->total) {
			scan->word = end;
			break;
		}
		scan->feeds = feeds & (feeds - 1);
		at = scan->at;
		scan->at = end + 1;
		len = end - at;
		name = *http1_words(s, at);
		if (unlikely(scan->line != HTTP1_LINE_NEW)) {
			if (scan->line == HTTP1_LINE_FIRST) {
				scan->first_at = at;
				scan->first_len = len;
				h->phase = HTTP1_HEAD;
			} else if (scan->line == HTTP1_LINE_CODING) {
				scan->coding_end = end;
			}
			scan->line = HTTP1_LINE_NEW;
		} else if (unlikely(len < 2) && (!len || (name & 0xff) == '\r')) {
			if (h->phase != HTTP1_FIRST) {
				s->packet.pos += end + 1 - scan->carry;
				scan->found = FOUND_END;
				break;
			}
		} else if (likely(h->phase == HTTP1_HEAD)) {
			name |= BYTES(0x20);
			if (name == CHARS('c', 'o', 'n', 't', 'e', 'n', 't', '-')) {
				/* Other fields whose names begin so do not matter. */
				name = buffer_word(s, at + 8) | BYTES(0x20);
				if ((name & 0x00ffffffffffffffULL) !=
				    CHARS('l', 'e', 'n', 'g', 't', 'h', ':', 0))
					continue;
				if (unlikely(scan->length_len)) {
					scan->at = at;
					scan->found = FOUND_AGAIN;
					break;
				}
				scan->length_at = at;
				scan->length_len = len;
			} else if (name == CHARS('t', 'r', 'a', 'n', 's', 'f', 'e', 'r')) {
				name = buffer_word(s, at + 8) | BYTES(0x20);
				if (name != CHARS('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n'))
					continue;
				if (unlikely(scan->coding_end)) {
					scan->at = at;
					scan->found = FOUND_AGAIN;
					break;
				}
				scan->coding_end = end;
			} else if ((__u32)name == CHARS('e', 'x', 'p', 'e', 0, 0, 0, 0) ||
				   name == CHARS('u', 'p', 'g', 'r', 'a', 'd', 'e', ':')) {
				if (unlikely(scan->option_len)) {
					scan->at = at;
					scan->found = FOUND_AGAIN;
					break;
				}
				scan->option_at = at;
				scan->option_len = len;
			}
		} else if (h->phase == HTTP1_FIRST) {
			scan->first_at = at;
			scan->first_len = len;
			h->phase = HTTP1_HEAD;
		}
	}
}

/* Follows a head, or trailers, through one block of the packet: what was carried over, and up to
 * BLOCK bytes. */
static __always_inline int http1_head(struct __sk_buff *skb, struct scratch *s, struct conn *c,
				      struct parser *h, __u32 avail, int events)
{
	volatile struct scan *scan = &s->scan;
	__u32 n = (avail < BLOCK ? avail : BLOCK) - 1, carry, total;
	int first;

	bounded(n, (BLOCK - 1));
	n++;
	carry = h->carry_len;
	if (unlikely(carry)) {
		__builtin_memcpy(s->buffer, h->carry, CARRY);
		bounded(carry, 63);
	}
	if (unlikely(early_or_packet(skb, s, carry, n)))
		return parser_lost(skb, LOST_GAP);
	total = carry + n;

	if (h->phase == PHASE_START) {
		__u8 l7 = READ_ONCE(c->brief.l7);

		/* The CPU of the other direction may have decided it since the packet came here. */
		if (unlikely(l7 > L7_HTTP1))
			return STOP;
		/* Packets of undecided connections do not come here by the usual way. */
		if (events == HTTP1_EVENTS_RARE && l7 == L7_UNDECIDED) {
			first = s->packet.role == ROLE_SERVER ? http1_first_server(skb, total)
							      : http1_first_client(skb, total);
			if (first == FIRST_OTHER || first == FIRST_TLS)
				return http1_first_opaque(skb, first);
			if (first == FIRST_TAKEN)
				return GO_ON;
			if (first == FIRST_SHORT) {
				s->packet.pos += n;
				return http1_cut(skb, 0, total);
			}
		}
		h->phase = HTTP1_FIRST;
		h->start_ns = packet_leaves(skb, &s->packet, h->request_ns);
	}

	scan->carry = carry;
	scan->total = total;
	scan->at = 0;
	scan->word = carry & ~7;
	scan->feeds = http1_line_feeds(buffer_word(s, carry & ~7)) & (~0ULL << 8 * (carry & 7));
	scan->first_len = scan->length_len = scan->coding_end = scan->option_len = 0;
	scan->found = 0;
	scan->line = h->line;
	/* clang 22 would keep something of it for the loop. */
	fresh_for_newer(c);
	http1_lines(s, h, events);

	if (scan->first_len &&
	    http1_first(skb, s, c, scan->first_at, http1_text(s, scan->first_at, scan->first_len)))
		return STOP;
	h->line = scan->line;
	if (scan->length_len &&
	    http1_content_length(skb, s, h, scan->length_at,
				 http1_text(s, scan->length_at, scan->length_len)))
		return STOP;
	if (scan->coding_end)
		http1_coding(s, h, scan->coding_end);
	if (unlikely(scan->option_len))
		http1_option(skb, scan->option_at, scan->option_len);
	h->carry_len = 0;
	if (likely(scan->found == FOUND_END)) {
		if (likely(h->phase == HTTP1_HEAD))
			return http1_head_end(skb, s, c);
		h->phase = HTTP1_END;
		return GO_ON;
	}
	if (scan->found || scan->word < scan->total) {
		/* A second line of one kind, or more lines than `events`: the rest is another
		 * block. */
		s->packet.pos += scan->at - scan->carry;
		return GO_ON;
	}
	s->packet.pos += n;
	if (scan->at != scan->total)
		return http1_cut(skb, scan->at, scan->total);
	if (h->phase == HTTP1_FIRST) {
		h->phase = PHASE_START;
		h->framing = FRAMING_EMPTY;
	}
	return GO_ON;
}

#endif
