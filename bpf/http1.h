/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/1.1 and 1.0, RFC 9112: messages are followed across packets by sequence number.
 *
 * Heads are read in blocks, lines found eight bytes at a time, and of the lines only the first,
 * content-length and transfer-encoding are looked at. What is left of a line at the end of a packet
 * is carried over, so a head may be cut anywhere. Bodies of known length are skipped.
 *
 * The bounds, all of them per packet or per connection:
 *   HTTP1_STEPS  messages, chunks and blocks of a head in one packet (LOST_BOUND)
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

#include "tcp.h"

#define HTTP1_STEPS 4096
#define HTTP1_EVENTS 176 /* words and lines looked at in one block */
#define START_LINE 16384

#define STOP 1
#define GO_ON 0

#define FRAMING_LENGTH (1 << 0)
#define FRAMING_CHUNKED (1 << 1)
#define FRAMING_CODING (1 << 2) /* a transfer coding that is not chunked */

enum method {
	METHOD_ANY = 0,
	METHOD_HEAD = 1,
	METHOD_CONNECT = 2,
};

#define BYTES(c) (0x0101010101010101ULL * (c))

/* Eight characters as they are read from memory by a little-endian machine. */
#define CHARS(a, b, c, d, e, f, g, h)                                                              \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |   \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

static __always_inline __u64 buffer8(struct scratch *s, __u32 at)
{
	bounded(at, 1023);
	return *(__u64 *)(s->buffer + at);
}

static __always_inline __u8 buffer1(struct scratch *s, __u32 at)
{
	bounded(at, 1023);
	return s->buffer[at];
}

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

/* How a global function comes by what its caller had: the scratch, and the packet's connection. */
static __always_inline struct conn *http1_enter(struct __sk_buff *skb, struct scratch **s)
{
	*s = scratch();
	/* The verifier wants an argument to be used. */
	return *s && skb->len ? conn_slot((*s)->packet.slot) : NULL;
}

static __always_inline struct http1 *http1_mine(struct scratch *s, struct conn *c)
{
	__u32 role = s->packet.role;

	bounded(role, 1);
	return &c->side[role].http1;
}

/*
 * This direction can't be followed any more. Of the server's, the answers still
 * to come are unknown, now and for good; of the client's, no more requests are
 * counted.
 */
__noinline int http1_lost(struct __sk_buff *skb, __u32 reason)
{
	struct scratch *s;
	struct conn *c = http1_enter(skb, &s);
	struct packet *p;
	__u32 n = 0;

	if (unlikely(!c))
		return STOP;
	p = &s->packet;
	http1_mine(s, c)->phase = HTTP1_LOST;
	if (!p->delta.lost)
		p->delta.lost = reason + 1;
	if (p->role == SERVER) {
		bpf_spin_lock(&c->lock);
		c->brief.flags |= CONN_ANSWERS_LOST;
		n = conn_outstanding(c);
		bpf_spin_unlock(&c->lock);
		p->unknown += n;
	}
	return STOP;
}

/* Not HTTP/1: whatever it is, it is counted as L4 from here on. */
static __always_inline int http1_opaque(struct conn *c)
{
	c->brief.l7 = L7_OPAQUE;
	return STOP;
}

/*
 * Remembers the packet's requests. The client's side writes and the server's reads, without a lock:
 * a run is written before its numbers are, which are looked for when an answer comes, and written
 * over when the server's side is past it.
 */
static __always_inline int http1_push(struct __sk_buff *skb, struct conn *c, struct packet *p)
{
	struct side *side = &c->side[CLIENT];
	union run_part part;
	__u32 at = side->run_head, n = p->run_count;

	p->run_count = 0;
	if (unlikely((__u8)(side->run_head - side->tail_seen) >= RUNS))
		side->tail_seen = READ_ONCE(c->side[SERVER].run_tail);
	if (likely((__u8)(side->run_head - side->tail_seen) < RUNS)) {
		bounded(at, (RUNS - 1));
		part.first = side->requests;
		part.count = n;
		part.method = p->run_method;
		WRITE_ONCE(c->runs[at].start_ns, p->run_start_ns);
		WRITE_ONCE(c->runs[at].part.word, part.word);
		side->run_head++;
		side->requests += n;
	} else {
		at--;
		bounded(at, (RUNS - 1));
		part.word = c->runs[at].part.word;
		side->requests += n;
		if (part.method != p->run_method)
			return http1_lost(skb, LOST_PIPELINE);
		part.count += n;
		WRITE_ONCE(c->runs[at].start_ns, 0);
		WRITE_ONCE(c->runs[at].part.word, part.word);
	}
	if (unlikely(READ_ONCE(c->brief.flags) & CONN_ANSWERS_LOST)) {
		c->side[SERVER].answered += n;
		p->unknown += n;
	}
	return GO_ON;
}

/* The same in the middle of a packet, when its next request is of another run. */
__noinline int http1_push_early(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = http1_enter(skb, &s);

	return c ? http1_push(skb, c, &s->packet) : STOP;
}

/* The request whose answer begins: its start and method go into the server's parser. */
static __always_inline bool http1_pop(struct conn *c)
{
	struct side *side = &c->side[SERVER];
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
	side->http1.request_ns = READ_ONCE(c->runs[at].start_ns);
	side->http1.method = part.method;
	side->begun++;
	return true;
}

/* The last byte of a final response has come. */
static __always_inline void http1_response(struct __sk_buff *skb, struct conn *c, struct packet *p)
{
	struct side *side = &c->side[SERVER];
	struct http1 *h = &side->http1;
	struct request_entry *e;
	__u32 at = side->response;

	h->phase = HTTP1_START;
	/* The server's side alone adds to it, as long as its answers are not lost. */
	side->answered++;
	p->delta.answered++;
	e = bpf_map_lookup_elem(&linkerd_requests_map, &at);
	if (unlikely(!e || e->key.status != h->status || e->key.protocol != PROTOCOL_HTTP1)) {
		at = response_find(skb, h->status);
		side->response = at;
		e = bpf_map_lookup_elem(&linkerd_requests_map, &at);
		if (!e)
			return;
	}
	add(&e->value.responses, 1);
	if (unlikely(!h->request_ns)) {
		p->delta.untimed++;
		return;
	}
	histogram_response(e->latency, packet_now(p) - h->request_ns, h->start_ns - h->request_ns);
}

/* The end of a message of either side. */
static __always_inline void http1_end(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	if (s->packet.role == SERVER)
		http1_response(skb, c, &s->packet);
	else
		c->side[CLIENT].http1.phase = HTTP1_START;
}

/* A method is a token (RFC 9110 section 9.1), by custom in capitals. */
static __always_inline bool http1_method(struct scratch *s, struct http1 *h, __u32 at)
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

/*
 * A request line, or what there is of it, at `at`. Whole: `len` bytes of it, of which the last nine
 * are the version. Counts the request. RFC 9112 section 3.
 */
static __always_inline int http1_request(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					 __u32 at, __u32 len)
{
	struct http1 *h = &c->side[CLIENT].http1;
	struct packet *p = &s->packet;
	__u64 version = buffer8(s, at + len - 8);

	if (unlikely((h->line == LINE_NEW && !http1_method(s, h, at)) || len < 12 ||
		     buffer1(s, at + len - 9) != ' ' ||
		     (version != CHARS('H', 'T', 'T', 'P', '/', '1', '.', '1') &&
		      version != CHARS('H', 'T', 'T', 'P', '/', '1', '.', '0')))) {
		if (c->brief.l7 == L7_UNDECIDED)
			return http1_opaque(c);
		return http1_lost(skb, LOST_MALFORMED);
	}
	if (unlikely(c->brief.l7 == L7_UNDECIDED))
		c->brief.l7 = L7_HTTP1;
	if (unlikely(p->run_count &&
		     (p->run_start_ns != h->start_ns || p->run_method != h->method))) {
		if (http1_push_early(skb))
			return STOP;
	}
	p->run_start_ns = h->start_ns;
	p->run_method = h->method;
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
		return http1_lost(skb, LOST_MALFORMED);
	c->side[SERVER].http1.status = hundreds * 100 + tens * 10 + ones;
	return GO_ON;
}

/* The start line of either side. */
static __always_inline int http1_first(struct __sk_buff *skb, struct scratch *s, struct conn *c,
				       __u32 at, __u32 len)
{
	struct http1 *h = http1_mine(s, c);

	h->phase = HTTP1_HEAD;
	h->framing = 0;
	return s->packet.role == SERVER ? http1_status(skb, s, c, at, len)
					: http1_request(skb, s, c, at, len);
}

#define LENGTH_LINE 63 /* bytes of a content-length line */

/*
 * "content-length:" and its value, `len` bytes at `at`, of which the name has been seen. RFC 9112
 * section 6.3.
 */
static __always_inline int http1_content_length(struct __sk_buff *skb, struct scratch *s,
						struct http1 *h, __u32 at, __u32 len)
{
	volatile struct scan *scan = &s->scan;
	__u64 value;

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
			return http1_lost(skb, LOST_MALFORMED);
		if (scan->number || !scan->digits)
			scan->digits++;
		scan->number = scan->number * 10 + b;
	}
	value = scan->number;
	if (unlikely(!scan->digits || len > LENGTH_LINE ||
		     ((h->framing & FRAMING_LENGTH) && h->length != value)))
		return http1_lost(skb, LOST_MALFORMED);
	h->framing |= FRAMING_LENGTH;
	h->length = value;
	return GO_ON;
}

/* The end of a transfer-encoding line: is chunked the last coding? RFC 9112 section 6.1. */
static __always_inline void http1_coding(struct scratch *s, struct http1 *h, __u32 end)
{
	__u64 w;
	__u8 b;

	for (int i = 0; i < 8; i++) {
		b = buffer1(s, end - 1);
		if (b != ' ' && b != '\t')
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

/* The empty line: what follows the head? RFC 9112 section 6.3. */
static __always_inline int http1_head_end(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	struct http1 *h = http1_mine(s, c);

	h->left = 0;
	if (s->packet.role == SERVER) {
		if (unlikely(h->status < 200 && h->status != 101)) {
			h->phase = HTTP1_START;
			return GO_ON;
		}
		if (unlikely(!http1_pop(c)))
			return http1_lost(skb, LOST_UNSOLICITED);
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
		return http1_lost(skb, LOST_MALFORMED);
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

/* Skips up to `n` bytes of a part of known length. */
static __always_inline void http1_skip(struct scratch *s, struct http1 *h, __u64 n)
{
	if (n < h->left) {
		if (h->phase != HTTP1_CLOSE)
			h->left -= n;
		s->packet.pos += n;
		return;
	}
	s->packet.pos += h->left;
	h->left = 0;
	if (h->phase == HTTP1_CHUNK_DATA) {
		h->phase = HTTP1_CHUNK_SIZE;
		h->length = 0;
	} else {
		h->phase = HTTP1_END;
	}
}

#define CHUNK_LINE 32

/* A chunk's size, or what there is of it, RFC 9112 section 7.1. */
__noinline int http1_chunk_size(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = http1_enter(skb, &s);
	struct http1 *h;
	__u32 i, n;

	if (unlikely(!c))
		return STOP;
	h = http1_mine(s, c);
	n = s->packet.end - s->packet.pos;
	n = (n < CHUNK_LINE ? n : CHUNK_LINE) - 1;
	bounded(n, (CHUNK_LINE - 1));
	n++;
	if (bpf_skb_load_bytes(skb, s->packet.pos, s->buffer, n))
		return http1_lost(skb, LOST_GAP);
	for (i = 0; i < CHUNK_LINE; i++) {
		__u32 b, digit;

		if (i >= n)
			break;
		b = s->buffer[i];
		if (b == '\n') {
			s->packet.pos += i + 1;
			if (!h->length)
				return http1_lost(skb, LOST_MALFORMED);
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
					return http1_lost(skb, LOST_MALFORMED);
				h->phase = HTTP1_CHUNK_EXT;
				continue;
			}
		}
		if (h->left >> 56)
			return http1_lost(skb, LOST_MALFORMED);
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
	struct conn *c = http1_enter(skb, &s);
	struct http1 *h;
	__u32 len = total - at, from = at;
	__u64 w;

	if (unlikely(!c))
		return STOP;
	h = http1_mine(s, c);
	h->carry_len = 0;
	if (h->line == LINE_NEW && len > HTTP1_CARRY) {
		w = buffer8(s, at) | BYTES(0x20);
		if (h->phase == HTTP1_FIRST) {
			if (s->packet.role == CLIENT) {
				if (!http1_method(s, h, at)) {
					if (c->brief.l7 == L7_UNDECIDED)
						return http1_opaque(c);
					return http1_lost(skb, LOST_MALFORMED);
				}
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
			return http1_lost(skb, LOST_BOUND);
		} else {
			h->line = LINE_SKIP;
		}
	} else if (h->line == LINE_FIRST) {
		h->first_len += len - s->scan.carry;
		if (h->first_len > START_LINE) {
			if (c->brief.l7 == L7_UNDECIDED)
				return http1_opaque(c);
			return http1_lost(skb, LOST_BOUND);
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
	if (from > BUFFER - HTTP1_CARRY)
		return STOP;
	__builtin_memcpy(h->carry, s->buffer + from, HTTP1_CARRY);
	h->carry_len = len;
	return GO_ON;
}

/*
 * Looks at the first bytes that the client sends. Returns 0 if they may be HTTP/1, else STOP; five
 * bytes of a TLS record are too few to tell.
 */
static __always_inline int http1_recognise(struct scratch *s, __u32 total)
{
	__u64 w = buffer8(s, 0);
	__u8 b = w;

	if (b == 0x16 && s->packet.role == CLIENT) {
		if (total < 6)
			return -1;
		/* A handshake record with a ClientHello: RFC 8446 sections 4 and 5.1. */
		if ((w >> 8 & 0xff) == 3 && (w >> 40 & 0xff) == 1)
			s->packet.delta.tls = 1;
		return STOP;
	}
	return (b >= 'A' && b <= 'Z') || b == '\r' || b == '\n' ? GO_ON : STOP;
}

/* What http1_lines has come to, beside the end of the block. */
#define FOUND_END (1 << 0)   /* the empty line: the packet's position is behind it */
#define FOUND_AGAIN (1 << 1) /* the second line of one kind: it is left for the next block */

/*
 * Finds the lines of the block, notes those that matter, and nothing else: what a line says is
 * looked at once, behind the loop, which the verifier walks through hundreds of times.
 */
static __always_inline void http1_lines(struct scratch *s, struct http1 *h)
{
	volatile struct scan *scan = &s->scan;

	for (int i = 0; i < HTTP1_EVENTS; i++) {
		__u64 feeds = scan->feeds, name;
		__u32 at, end, len, word;

		/* The hint is for 5.10: without it clang lets the loop's end fall through into its
		 * beginning, which that kernel refuses (tests/kernels). */
		if (unlikely(!feeds)) {
			word = scan->word;
#pragma unroll
			for (int j = 0; j < 4; j++) {
				word += 8;
				feeds = line_feeds(buffer8(s, word));
				if (feeds)
					break;
			}
			scan->word = word;
			scan->feeds = feeds;
			if (word >= scan->total)
				break;
			if (!feeds)
				continue;
		}
		end = scan->word + lowest_byte(feeds);
		if (end >= scan->total) {
			scan->word = end;
			break;
		}
		scan->feeds = feeds & (feeds - 1);
		at = scan->at;
		scan->at = end + 1;
		len = end - at;
		if (len && buffer1(s, end - 1) == '\r')
			len--;
		if (unlikely(scan->line != LINE_NEW)) {
			if (scan->line == LINE_FIRST) {
				scan->first_at = at;
				scan->first_len = len;
				h->phase = HTTP1_HEAD;
			} else if (scan->line == LINE_CODING) {
				scan->coding_end = at + len;
			}
			scan->line = LINE_NEW;
		} else if (!len) {
			if (h->phase != HTTP1_FIRST) {
				s->packet.pos += end + 1 - scan->carry;
				scan->found = FOUND_END;
				break;
			}
		} else if (h->phase == HTTP1_FIRST) {
			scan->first_at = at;
			scan->first_len = len;
			h->phase = HTTP1_HEAD;
		} else if (h->phase == HTTP1_HEAD) {
			name = buffer8(s, at) | BYTES(0x20);
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
				scan->coding_end = at + len;
			}
		}
	}
}

/* Follows a head, or trailers, through one block of the packet: what was carried over, and up to
 * BLOCK bytes. */
static __always_inline int http1_head(struct __sk_buff *skb, struct scratch *s, struct conn *c,
				      struct http1 *h, __u32 avail)
{
	volatile struct scan *scan = &s->scan;
	__u32 n = (avail < BLOCK ? avail : BLOCK) - 1, carry, total;
	int r;

	bounded(n, (BLOCK - 1));
	n++;
	carry = h->carry_len;
	if (unlikely(carry)) {
		__builtin_memcpy(s->buffer, h->carry, HTTP1_CARRY);
		bounded(carry, 63);
	}
	if (unlikely(bpf_skb_load_bytes(skb, s->packet.pos, s->buffer + carry, n)))
		return http1_lost(skb, LOST_GAP);
	total = carry + n;

	if (h->phase == HTTP1_START) {
		if (unlikely(c->brief.l7 == L7_UNDECIDED)) {
			r = s->packet.role == SERVER ? STOP : http1_recognise(s, total);
			if (r == STOP)
				return http1_opaque(c);
			if (r < 0) {
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
	scan->first_len = scan->length_len = scan->coding_end = 0;
	scan->found = 0;
	scan->line = h->line;
	http1_lines(s, h);

	if (scan->first_len && http1_first(skb, s, c, scan->first_at, scan->first_len))
		return STOP;
	h->line = scan->line;
	if (scan->length_len && http1_content_length(skb, s, h, scan->length_at, scan->length_len))
		return STOP;
	if (scan->coding_end)
		http1_coding(s, h, scan->coding_end);
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
	if (h->phase == HTTP1_FIRST)
		h->phase = HTTP1_START; /* empty lines before a message */
	return GO_ON;
}

/* Consumes some of the packet: a head with what is there of its body, a chunk's size, a body.
 * Returns STOP if the rest is not to be looked at, or there is none. */
static __always_inline int http1_consume(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	struct http1 *h = http1_mine(s, c);
	__u32 avail = s->packet.end - s->packet.pos;

	if (unlikely(!avail || h->phase == HTTP1_LOST))
		return STOP;
	if (h->phase < HTTP1_BODY) {
		if (unlikely(h->phase == HTTP1_CHUNK_SIZE || h->phase == HTTP1_CHUNK_EXT)) {
			if (http1_chunk_size(skb))
				return STOP;
		} else if (http1_head(skb, s, c, h, avail)) {
			return STOP;
		}
		avail = s->packet.end - s->packet.pos;
	}
	if (h->phase >= HTTP1_BODY)
		http1_skip(s, h, avail);
	if (h->phase == HTTP1_END)
		http1_end(skb, s, c);
	return s->packet.pos == s->packet.end || c->brief.l7 == L7_OPAQUE ? STOP : GO_ON;
}

/* The same as a function of its own. */
__noinline int http1_step(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = http1_enter(skb, &s);

	return c ? http1_consume(skb, s, c) : STOP;
}

/* Consumes what is left of the packet after its first step. */
__noinline int http1_steps(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return STOP;
	for (int i = 1; i < HTTP1_STEPS; i++) {
		if (http1_step(skb))
			return STOP;
	}
	return http1_lost(skb, LOST_BOUND);
}

/* Rounds of WAIT_READS looks: together longer than the largest packet takes to follow. */
#define WAIT_ROUNDS 64
#define WAIT_READS 2048

/* One round of waiting for the CPU that follows the packet's direction. */
__noinline int http1_wait(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = http1_enter(skb, &s);
	__u32 role;

	if (unlikely(!c))
		return 0;
	role = s->packet.role;
	bounded(role, 1);
	for (int i = 0; i < WAIT_READS; i++) {
		if (!READ_ONCE(c->side[role].busy))
			break;
	}
	return 0;
}

/*
 * Waits for its turn. The stack may hand the packets of one direction to two CPUs; a packet's bytes
 * can't be had again, so the later one waits. Returns whether busy is held.
 */
__noinline int http1_turn(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = http1_enter(skb, &s);
	struct packet *p;
	union brief b;

	if (unlikely(!c))
		return 0;
	p = &s->packet;
	for (int i = 0; i < WAIT_ROUNDS; i++) {
		http1_wait(skb);
		if (!conn_busy(c, p->role))
			continue;
		b.word = READ_ONCE(c->brief.word);
		if (b.generation == p->generation && b.state == SLOT_LIVE && b.l7 <= L7_HTTP1)
			return 1;
		conn_done(c, p->role);
		break;
	}
	return 0;
}

/* Tells tcp_in_order how far there is nothing to see. */
static __always_inline void http1_publish(struct conn *c, struct packet *p, struct http1 *h)
{
	union tagged_seq skip = {.generation = p->generation, .seq = h->next};
	__u32 role = p->role;

	if (h->phase == HTTP1_LOST || (h->phase >= HTTP1_BODY && h->left > SKIP_MAX))
		skip.seq += SKIP_MAX;
	else if (h->phase >= HTTP1_BODY)
		skip.seq += h->left;
	bounded(role, 1);
	WRITE_ONCE(c->side[role].skip.word, skip.word);
}

/* The message at hand ends, where that is rare. */
__noinline int http1_ended(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = http1_enter(skb, &s);

	if (c)
		http1_end(skb, s, c);
	return GO_ON;
}

/* Sequence number of the packet's first byte of payload: a SYN takes one. */
static __always_inline __u32 http1_seq(const struct packet *p)
{
	return p->seq + (p->tcp_flags & TCP_SYN ? 1 : 0);
}

/* Passes over `gap` bytes that are not in the packet, if the message at hand reaches over them. */
static __always_inline bool http1_pass_over(struct __sk_buff *skb, struct scratch *s,
					    struct http1 *h, __u32 gap)
{
	__u32 pos = s->packet.pos;

	if (h->phase < HTTP1_BODY || gap > h->left)
		return false;
	http1_skip(s, h, gap);
	s->packet.pos = pos;
	if (h->phase == HTTP1_END)
		http1_ended(skb);
	return true;
}

/*
 * For a packet that does not begin where the last one ended, or before which others came too early:
 * says whether it is to be followed now, from the packet's position. Bytes seen before are passed
 * over; bytes that come too early are remembered as a hull, which is no loss if the message turns
 * out to reach over it.
 */
__noinline int http1_unordered(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = http1_enter(skb, &s);
	struct http1 *h;
	struct packet *p;
	__u32 seq, end, gap;

	if (unlikely(!c))
		return STOP;
	p = &s->packet;
	h = http1_mine(s, c);
	seq = http1_seq(p);
	end = seq + (p->end - p->payload);
	if (h->phase == HTTP1_LOST) {
		h->next = end;
		return STOP;
	}
	if (before(seq, h->next)) {
		if (!before(h->next, end))
			return STOP;
		p->pos += h->next - seq;
		return GO_ON;
	}
	gap = seq - h->next;
	if (!gap)
		return GO_ON;
	if (http1_pass_over(skb, s, h, gap))
		return GO_ON;
	if (h->ahead_lo == h->ahead_hi) {
		h->ahead_lo = seq;
		h->ahead_hi = end;
	} else {
		if (before(seq, h->ahead_lo))
			h->ahead_lo = seq;
		if (before(h->ahead_hi, end))
			h->ahead_hi = end;
	}
	return STOP;
}

/* Behind such a packet: goes on to the end of what came too early, if the message reaches over it.
 */
__noinline int http1_catch_up(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = http1_enter(skb, &s);
	struct http1 *h;
	struct packet *p;
	__u32 end;

	if (unlikely(!c))
		return STOP;
	p = &s->packet;
	h = http1_mine(s, c);
	end = http1_seq(p) + (p->end - p->payload);
	h->next = end;
	if (h->ahead_lo == h->ahead_hi || before(end, h->ahead_lo))
		return STOP;
	if (before(end, h->ahead_hi)) {
		if (http1_pass_over(skb, s, h, h->ahead_hi - end))
			h->next = h->ahead_hi;
		else if (h->phase != HTTP1_LOST)
			http1_lost(skb, LOST_GAP);
	}
	h->ahead_lo = h->ahead_hi;
	return STOP;
}

/* Follows the packet's payload. The caller holds busy. */
static __always_inline void http1_packet(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	struct packet *p = &s->packet;
	struct http1 *h = http1_mine(s, c);

	p->pos = p->payload;
	if (likely(p->seq == h->next && h->ahead_lo == h->ahead_hi && h->phase != HTTP1_LOST &&
		   !(p->tcp_flags & TCP_SYN))) {
		h->next = p->seq + (p->end - p->payload);
		if (!http1_consume(skb, s, c))
			http1_steps(skb);
	} else if (!http1_unordered(skb)) {
		if (!http1_step(skb))
			http1_steps(skb);
		http1_catch_up(skb);
	}
	if (unlikely((p->tcp_flags & TCP_FIN) && p->role == SERVER && h->phase == HTTP1_CLOSE))
		http1_ended(skb);
	if (p->run_count)
		http1_push(skb, c, p);
	http1_publish(c, p, h);
}

#endif
