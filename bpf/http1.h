/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/1.1 and 1.0, RFC 9112: messages are followed across packets by sequence number.
 *
 * Heads are read in blocks, lines found eight bytes at a time, and of the lines only the first,
 * content-length and transfer-encoding are looked at. What is left of a line at the end of a packet
 * is carried over, so a head may be cut anywhere. Bodies of known length are skipped.
 *
 * The bounds, all of them per packet or per connection:
 *   STEPS        messages, chunks and blocks of a head in one packet (LOST_BOUND)
 *   RUNS         packets of outstanding pipelined requests with a start time; beyond it they have
 * no duration, and with another method than the last's the connection is lost (LOST_PIPELINE)
 *   START_LINE   bytes of a start line
 *
 * The usual packet, a whole head with or without its body, is one step within the program. A call
 * costs as much as thirty instructions, so a step makes none that can be avoided. Further steps of
 * a packet are a global function, which the verifier checks once, by itself. State is kept in maps,
 * where the verifier does not multiply it.
 */
#ifndef METRICD_HTTP1_H
#define METRICD_HTTP1_H

#include "http2.h"

/* Words and lines looked at in one step: a whole block where it is the usual one, and less where it
 * is not, which is less for the verifier to walk through. */
#define HTTP1_EVENTS 176
#define HTTP1_EVENTS_RARE 48
#define START_LINE 16384

#define FRAMING_LENGTH (1 << 0)
#define FRAMING_CHUNKED (1 << 1)
#define FRAMING_CODING (1 << 2) /* a transfer coding that is not chunked */
#define FRAMING_H2C (1 << 3)	/* no framing, but noted alike: an upgrade to HTTP/2 */
#define FRAMING_EMPTY (1 << 4)	/* likewise, between messages: an empty line has come */

enum method {
	METHOD_ANY = 0,
	METHOD_HEAD = 1,
	METHOD_CONNECT = 2,
};

/* 0x80 in each byte of `w` that is a line feed, and in no other. */
static __always_inline __u64 line_feeds(__u64 w)
{
	w ^= BYTES('\n');
	return ~(((w & BYTES(0x7f)) + BYTES(0x7f)) | w | BYTES(0x7f));
}

/* Which byte the lowest of line_feeds is. */
static __always_inline __u32 lowest_byte(__u64 marks)
{
	return (((marks & -marks) >> 7) * 0x0001020304050607ULL) >> 56;
}

/* Is the place of the client's next run known to be free? */
static __always_inline bool http1_has_room(const struct side *side)
{
	return (__u8)(side->run_head - side->tail_seen) < RUNS;
}

/*
 * The server's CPU has the line that the client's next run is to be written to. A store to its free
 * place brings it here while the request is read; the next atomic add would wait for it.
 */
static __always_inline void http1_fetch_run(struct conn *c)
{
	struct side *side = conn_side(c, CLIENT);
	__u32 at = side->run_head;

	if (!http1_has_room(side))
		return;
	bounded(at, (RUNS - 1));
	WRITE_ONCE(c->runs[at].start_ns, 0);
}

/*
 * Remembers the packet's requests. The client's side writes and the server's reads, without a lock:
 * a run is written before its numbers are, which are looked for when an answer comes, and written
 * over when the server's side is past it.
 */
static __always_inline int http1_push(struct __sk_buff *skb, struct conn *c, struct packet *p)
{
	struct side *side = conn_side(c, CLIENT);
	union run_part part;
	__u32 at = side->run_head, n = p->run_count;

	p->run_count = 0;
	if (unlikely(!http1_has_room(side)))
		side->tail_seen = READ_ONCE(conn_side(c, SERVER)->run_tail);
	if (likely(http1_has_room(side))) {
		bounded(at, (RUNS - 1));
		part.first = side->requests;
		part.count = n;
		part.method = p->run_method;
		part.route = p->run_route;
		WRITE_ONCE(c->runs[at].start_ns, p->run_start_ns);
		WRITE_ONCE(c->runs[at].part.word, part.word);
		side->run_head++;
		side->requests += n;
	} else {
		at--;
		bounded(at, (RUNS - 1));
		part.word = c->runs[at].part.word;
		side->requests += n;
		if (part.method != p->run_method || part.count + n >= 1 << 16)
			return parser_lost(skb, LOST_PIPELINE);
		if (part.route != p->run_route)
			part.route = ROUTE_UNKNOWN;
		part.count += n;
		WRITE_ONCE(c->runs[at].start_ns, 0);
		WRITE_ONCE(c->runs[at].part.word, part.word);
	}
	if (unlikely(READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST)) {
		conn_side(c, SERVER)->answered += n;
		p->unknown += n;
	}
	return GO_ON;
}

/* The same in the middle of a packet, when its next request is of another run. */
__noinline int http1_push_early(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	return c ? http1_push(skb, c, &s->packet) : STOP;
}

/* The request whose answer begins: its start and method go into the server's parser. */
static __always_inline bool http1_pop(struct conn *c)
{
	struct side *side = conn_side(c, SERVER);
	union run_part part;
	__u32 at = side->run_tail;

	bounded(at, (RUNS - 1));
	part.word = READ_ONCE(c->runs[at].part.word);
	if (side->begun - part.first >= part.count) {
		/* That run is done: it must be in the next one. */
		at = side->run_tail + 1;
		bounded(at, (RUNS - 1));
		part.word = READ_ONCE(c->runs[at].part.word);
		if (unlikely(side->begun - part.first >= part.count))
			return false;
		WRITE_ONCE(side->run_tail, side->run_tail + 1);
	}
	side->parser.request_ns = READ_ONCE(c->runs[at].start_ns);
	side->parser.method = part.method;
	side->route = part.route;
	side->begun++;
	return true;
}

/* The last byte of a final response has come. */
static __always_inline void http1_response(struct __sk_buff *skb, struct conn *c, struct packet *p)
{
	struct side *side = conn_side(c, SERVER);
	struct parser *h = &side->parser;
	union response what = {.protocol = PROTOCOL_HTTP1, .grpc_status = GRPC_STATUS_NONE};

	h->phase = PHASE_START;
	what.status = h->status;
	parser_response(skb, side, p, what, side->route, h->request_ns, h->start_ns,
			side->begun - 1);
}

/* The end of a message of either side. */
static __always_inline void http1_end(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	if (s->packet.role == SERVER)
		http1_response(skb, c, &s->packet);
	else
		conn_side(c, CLIENT)->parser.phase = PHASE_START;
}

/* A method is a token (RFC 9110 section 9.1), by custom in capitals. */
static __always_inline bool http1_method(struct scratch *s, struct parser *h, __u32 at)
{
	__u64 w = buffer8(s, at);

	h->method = METHOD_ANY;
	if ((w & 0xffffffff) == CHARS('G', 'E', 'T', ' ', 0, 0, 0, 0))
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
		__u8 b = buffer1(s, at + i);

		if (b == ' ')
			return i > 0;
		if ((b < 'A' || b > 'Z') && b != '-' && b != '_')
			return false;
	}
	return false;
}

/* The route of the request line of `len` bytes at `at`, of which the request is counted. */
__noinline __u32 http1_route(struct __sk_buff *skb, __u32 at, __u32 len)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 route = ROUTE_UNKNOWN, skip = 0;

	if (!c)
		return ROUTE_UNKNOWN;
	/* Else only its end is there. */
	if (parser_mine(s, c)->line == LINE_NEW) {
		for (int i = 0; i < 24; i++) {
			if (buffer1(s, at + skip++) == ' ')
				break;
		}
		if (len > skip + 9)
			route = route_of(skb, at + skip, len - 9 - skip, 0);
	}
	route_request(skb, PROTOCOL_HTTP1, route, 1);
	return route;
}

/*
 * A request line, or what there is of it, at `at`. Whole: `len` bytes of it, of which the last nine
 * are the version. Counts the request. RFC 9112 section 3.
 */
static __always_inline int http1_request(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					 __u32 at, __u32 len)
{
	struct parser *h = &conn_side(c, CLIENT)->parser;
	struct packet *p = &s->packet;
	__u64 version = buffer8(s, at + len - 8);
	__u32 route = ROUTE_NONE;

	if (unlikely((h->line == LINE_NEW && !http1_method(s, h, at)) || len < 12 ||
		     buffer1(s, at + len - 9) != ' ' ||
		     (version != CHARS('H', 'T', 'T', 'P', '/', '1', '.', '1') &&
		      version != CHARS('H', 'T', 'T', 'P', '/', '1', '.', '0')))) {
		if (c->brief.l7 == L7_UNDECIDED)
			return parser_opaque(c);
		return parser_lost(skb, LOST_MALFORMED);
	}
	if (unlikely(c->brief.l7 == L7_UNDECIDED))
		c->brief.l7 = L7_HTTP1;
	if (unlikely(config.routes))
		route = http1_route(skb, at, len);
	if (TAPPED)
		tap_http1(skb, at, len, true);
	if (unlikely(p->run_count && (p->run_start_ns != h->start_ns ||
				      p->run_method != h->method || p->run_route != route))) {
		if (http1_push_early(skb))
			return STOP;
	}
	p->run_start_ns = h->start_ns;
	p->run_method = h->method;
	p->run_route = route;
	p->run_count++;
	p->delta.requests++;
	return GO_ON;
}

/* A status line, or its first 12 bytes, at `at`. RFC 9112 section 4. */
static __always_inline int http1_status(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					__u32 at, __u32 len)
{
	__u64 version = buffer8(s, at), rest = buffer8(s, at + 8);
	__u32 hundreds = (rest >> 8 & 0xff) - '0', tens = (rest >> 16 & 0xff) - '0',
	      ones = (rest >> 24 & 0xff) - '0';

	if (unlikely(len < 12 ||
		     (version != CHARS('H', 'T', 'T', 'P', '/', '1', '.', '1') &&
		      version != CHARS('H', 'T', 'T', 'P', '/', '1', '.', '0')) ||
		     (rest & 0xff) != ' ' || hundreds < 1 || hundreds > 9 || tens > 9 || ones > 9 ||
		     (len > 12 && (rest >> 32 & 0xff) != ' ')))
		return parser_lost(skb, LOST_MALFORMED);
	conn_side(c, SERVER)->parser.status = hundreds * 100 + tens * 10 + ones;
	return GO_ON;
}

/* The start line of either side. */
static __always_inline int http1_first(struct __sk_buff *skb, struct scratch *s, struct conn *c,
				       __u32 at, __u32 len)
{
	struct parser *h = parser_mine(s, c);

	h->phase = HTTP1_HEAD;
	h->framing = 0;
	return s->packet.role == SERVER ? http1_status(skb, s, c, at, len)
					: http1_request(skb, s, c, at, len);
}

/* The length of the line of `len` bytes at `at`, without the carriage return at its end. */
static __always_inline __u32 http1_text(struct scratch *s, __u32 at, __u32 len)
{
	return len && buffer1(s, at + len - 1) == '\r' ? len - 1 : len;
}

/*
 * The decimal number of which the `n` digits, one to seven, are behind the first character of
 * `*text`. Eight characters are worked on at once: neighbours become numbers of two digits, those
 * of four, and those of eight.
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

/* The value of a content-length line, `len` bytes at `at`. Returns false if it is no number. */
static __always_inline bool http1_number(struct scratch *s, __u32 at, __u32 len, __u64 *value)
{
	volatile struct scan *scan = &s->scan;

	*value = buffer8(s, at + 15);
	if (likely((*value & 0xff) == ' ' && len - 17 < 7 && http1_digits(value, len - 16)))
		return true;
	scan->number = 0;
	scan->digits = scan->ended = 0;
	for (__u32 i = 15; i < LENGTH_LINE; i++) {
		__u32 b;

		if (i >= len)
			break;
		b = buffer1(s, at + i);
		if (b == ' ' || b == '\t') {
			scan->ended = scan->digits;
			continue;
		}
		b -= '0';
		if (unlikely(b > 9 || scan->ended || scan->digits == 18))
			return false;
		if (scan->number || !scan->digits)
			scan->digits++;
		scan->number = scan->number * 10 + b;
	}
	*value = scan->number;
	return scan->digits && len <= LENGTH_LINE;
}

/*
 * "content-length:" and its value, `len` bytes at `at`, of which the name has been seen. RFC 9112
 * section 6.3.
 */
static __always_inline int http1_content_length(struct __sk_buff *skb, struct scratch *s,
						struct parser *h, __u32 at, __u32 len)
{
	__u64 value;

	if (unlikely(!http1_number(s, at, len, &value) ||
		     ((h->framing & FRAMING_LENGTH) && h->length != value)))
		return parser_lost(skb, LOST_MALFORMED);
	h->framing |= FRAMING_LENGTH;
	h->length = value;
	return GO_ON;
}

/* The end of a transfer-encoding line: is chunked the last coding? RFC 9112 section 6.1. */
static __always_inline void http1_coding(struct scratch *s, struct parser *h, __u32 end)
{
	__u64 w;
	__u8 b;

	for (int i = 0; i < 9; i++) {
		b = buffer1(s, end - 1);
		if (b != ' ' && b != '\t' && (i || b != '\r'))
			break;
		end--;
	}
	w = buffer8(s, end - 8);
	b = w;
	h->framing &= ~(FRAMING_CHUNKED | FRAMING_CODING);
	if (((w | BYTES(0x20)) >> 8) == CHARS('c', 'h', 'u', 'n', 'k', 'e', 'd', 0) &&
	    (b == ' ' || b == ',' || b == ':' || b == '\t'))
		h->framing |= FRAMING_CHUNKED;
	else
		h->framing |= FRAMING_CODING;
}

static __always_inline bool http1_blank(struct scratch *s, __u32 at)
{
	__u8 b = buffer1(s, at);

	return b == ' ' || b == '\t';
}

/* "upgrade:" and its value, `len` bytes at `at`: is it h2c, RFC 7540 section 3.2? */
__noinline int http1_upgrade(struct __sk_buff *skb, __u32 at, __u32 len)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	if (!c)
		return 0;
	len = http1_text(s, at, len);
	at += 8;
	len -= 8;
	for (int i = 0; i < 8 && len && http1_blank(s, at); i++, len--)
		at++;
	for (int i = 0; i < 8 && len && http1_blank(s, at + len - 1); i++)
		len--;
	if (len == 3 &&
	    ((buffer8(s, at) | BYTES(0x20)) & 0xffffff) == CHARS('h', '2', 'c', 0, 0, 0, 0, 0))
		parser_mine(s, c)->framing |= FRAMING_H2C;
	return 0;
}

/* The empty line: what follows the head? RFC 9112 section 6.3. */
static __always_inline int http1_head_end(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	struct parser *h = parser_mine(s, c);

	h->left = 0;
	if (s->packet.role == SERVER) {
		if (unlikely(h->status < 200 && h->status != 101)) {
			h->phase = PHASE_START;
			return GO_ON;
		}
		if (unlikely(!http1_pop(c)))
			return parser_lost(skb, LOST_UNSOLICITED);
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
	} else if (unlikely(h->framing & FRAMING_CODING)) {
		return parser_lost(skb, LOST_MALFORMED);
	}
	if (h->framing & FRAMING_CHUNKED) {
		h->phase = HTTP1_CHUNK_SIZE;
		h->length = 0; /* digits */
	} else if ((h->framing & FRAMING_LENGTH) && h->length) {
		h->phase = HTTP1_BODY;
		h->left = h->length;
	} else {
		h->phase = HTTP1_END;
	}
	return GO_ON;
}

#define CHUNK_LINE 32

/* A chunk's size, or what there is of it, RFC 9112 section 7.1. */
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
				h->line = LINE_NEW;
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
	if (h->line == LINE_NEW && len > CARRY) {
		w = buffer8(s, at) | BYTES(0x20);
		if (h->phase == HTTP1_FIRST) {
			if (s->packet.role == CLIENT) {
				if (!http1_method(s, h, at)) {
					if (c->brief.l7 == L7_UNDECIDED)
						return parser_opaque(c);
					return parser_lost(skb, LOST_MALFORMED);
				}
				if (TAPPED)
					tap_http1(skb, at, len, false);
				h->line = LINE_FIRST;
				h->first_len = len;
			} else {
				h->phase = HTTP1_HEAD;
				h->framing = 0;
				if (http1_status(skb, s, c, at, len))
					return STOP;
				h->line = LINE_SKIP;
			}
		} else if (w == CHARS('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') &&
			   (buffer8(s, at + 8) | BYTES(0x20)) ==
			       CHARS('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n')) {
			h->line = LINE_CODING;
		} else if (w == CHARS('c', 'o', 'n', 't', 'e', 'n', 't', '-') &&
			   ((buffer8(s, at + 8) | BYTES(0x20)) & 0x00ffffffffffffffULL) ==
			       CHARS('l', 'e', 'n', 'g', 't', 'h', ':', 0)) {
			return parser_lost(skb, LOST_BOUND);
		} else {
			h->line = LINE_SKIP;
		}
	} else if (h->line == LINE_FIRST) {
		h->first_len += len - s->scan.carry;
		if (h->first_len > START_LINE) {
			if (c->brief.l7 == L7_UNDECIDED)
				return parser_opaque(c);
			return parser_lost(skb, LOST_BOUND);
		}
	}
	if (h->line == LINE_SKIP)
		return GO_ON;
	if (h->line != LINE_NEW) {
		/* Its last bytes tell the version, or the last coding. */
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

/* What the first bytes of a connection have told. */
enum first {
	FIRST_HTTP1,
	FIRST_OTHER,
	FIRST_SHORT, /* there are too few to tell */
	FIRST_TAKEN, /* they are not HTTP/1's, and what is to be done has been done */
};

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
	/* Behind it nothing else can begin any more, as if it had come in the same packet. */
	if (h->framing & FRAMING_EMPTY)
		return FIRST_HTTP1;
	w = buffer8(s, 0);
	b = w;
	if (unlikely(b == 0x16)) {
		if (total < 6)
			return FIRST_SHORT;
		/* A handshake record with a ClientHello: RFC 8446 sections 4 and 5.1. */
		if ((w >> 8 & 0xff) == 3 && (w >> 40 & 0xff) == 1)
			s->packet.delta.tls = 1;
		return FIRST_OTHER;
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
	/* What was carried over began as the preface, and its first line is that of no request. */
	if (unlikely(h->carry_len >= 16))
		return FIRST_OTHER;
	return (b >= 'A' && b <= 'Z') || b == '\r' || b == '\n' ? FIRST_HTTP1 : FIRST_OTHER;
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
	h = parser_mine(s, c);
	w = bpf_be64_to_cpu(buffer8(s, 0));
	len = w >> 40;
	type = w >> 32 & 0xff;
	if (total < FRAME_HEADER)
		return w >> 56 ? FIRST_OTHER : FIRST_SHORT;
	if (len > 16384 ||
	    (type != FRAME_SETTINGS && type != FRAME_PING && type != FRAME_WINDOW_UPDATE) ||
	    (w & 0xffffff) || buffer1(s, 8))
		return FIRST_OTHER;
	h->left = FRAME_HEADER + len - h->carry_len;
	h->carry_len = 0;
	h->phase = HTTP2_SKIP;
	return FIRST_TAKEN;
}

#define WORDS 4 /* looked through at once for the next line feed */

/* What http1_lines has come to, beside the end of the block. */
#define FOUND_END (1 << 0)   /* the empty line: the packet's position is behind it */
#define FOUND_AGAIN (1 << 1) /* the second line of one kind: it is left for the next block */

/* The buffer from `at` on. In 64 bits, which spares the conversion that buffer8 takes. */
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

		/* The hint is for 5.10: without it clang lets the loop's end fall through into its
		 * beginning, which that kernel refuses (tests/kernels). */
		if (unlikely(!feeds)) {
			words = http1_words(s, word);
#pragma unroll
			for (int j = 1; j <= WORDS; j++) {
				word += 8;
				feeds = line_feeds(words[j]);
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
		end = word + lowest_byte(feeds);
		if (end >= scan->total) {
			scan->word = end;
			break;
		}
		scan->feeds = feeds & (feeds - 1);
		at = scan->at;
		scan->at = end + 1;
		len = end - at;
		name = *http1_words(s, at);
		if (unlikely(scan->line != LINE_NEW)) {
			if (scan->line == LINE_FIRST) {
				scan->first_at = at;
				scan->first_len = len;
				h->phase = HTTP1_HEAD;
			} else if (scan->line == LINE_CODING) {
				scan->coding_end = end;
			}
			scan->line = LINE_NEW;
		} else if (unlikely(len < 2) && (!len || (name & 0xff) == '\r')) {
			if (h->phase != HTTP1_FIRST) {
				s->packet.pos += end + 1 - scan->carry;
				scan->found = FOUND_END;
				break;
			}
		} else if (likely(h->phase == HTTP1_HEAD)) {
			name |= BYTES(0x20);
			if (name == CHARS('c', 'o', 'n', 't', 'e', 'n', 't', '-')) {
				/* The other content-… are not ours. */
				name = buffer8(s, at + 8) | BYTES(0x20);
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
				name = buffer8(s, at + 8) | BYTES(0x20);
				if (name != CHARS('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n'))
					continue;
				if (unlikely(scan->coding_end)) {
					scan->at = at;
					scan->found = FOUND_AGAIN;
					break;
				}
				scan->coding_end = end;
			} else if (name == CHARS('u', 'p', 'g', 'r', 'a', 'd', 'e', ':')) {
				scan->upgrade_at = at;
				scan->upgrade_len = len;
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
		if (unlikely(c->brief.l7 == L7_UNDECIDED)) {
			first = s->packet.role == SERVER ? http1_first_server(skb, total)
							 : http1_first_client(skb, total);
			if (first == FIRST_OTHER)
				return parser_opaque(c);
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
	scan->feeds = line_feeds(buffer8(s, carry & ~7)) & (~0ULL << 8 * (carry & 7));
	scan->first_len = scan->length_len = scan->coding_end = scan->upgrade_len = 0;
	scan->found = 0;
	scan->line = h->line;
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
	if (unlikely(scan->upgrade_len))
		http1_upgrade(skb, scan->upgrade_at, scan->upgrade_len);
	h->carry_len = 0;
	if (likely(scan->found == FOUND_END)) {
		if (likely(h->phase == HTTP1_HEAD))
			return http1_head_end(skb, s, c);
		h->phase = HTTP1_END;
		return GO_ON;
	}
	if (scan->found || scan->word < scan->total) {
		/* Or more lines than HTTP1_EVENTS: the rest is another block. */
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

/* Consumes some of the packet: a head with what is there of its body, a chunk's size, a body.
 * Returns STOP if the rest is not to be looked at, or there is none. */
static __always_inline int http1_consume(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					 int events)
{
	struct parser *h = parser_mine(s, c);
	__u32 avail = s->packet.end - s->packet.pos;

	if (unlikely(!avail || h->phase == PHASE_LOST))
		return STOP;
	if (h->phase < HTTP1_BODY) {
		if (unlikely(h->phase == HTTP1_CHUNK_SIZE || h->phase == HTTP1_CHUNK_EXT)) {
			if (http1_chunk_size(skb))
				return STOP;
		} else if (http1_head(skb, s, c, h, avail, events)) {
			return STOP;
		}
		avail = s->packet.end - s->packet.pos;
	}
	if (h->phase >= HTTP1_BODY)
		parser_skip(s, h, avail);
	if (h->phase == HTTP1_END)
		http1_end(skb, s, c);
	return s->packet.pos == s->packet.end || c->brief.l7 > L7_HTTP1 ? STOP : GO_ON;
}

/* The same as a function of its own. */
__noinline int http1_step(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);

	return c ? http1_consume(skb, s, c, HTTP1_EVENTS_RARE) : STOP;
}

/* In two loops, which is less for the verifier to walk through than one. */
__noinline int http1_some(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return STOP;
	for (int i = 0; i < SOME; i++) {
		if (http1_step(skb))
			return STOP;
	}
	return GO_ON;
}

/* Consumes what is left of the packet after its first step. */
__noinline int http1_steps(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return STOP;
	for (int i = 0; i < STEPS / SOME; i++) {
		if (http1_some(skb))
			return STOP;
	}
	return parser_lost(skb, LOST_BOUND);
}

#endif
