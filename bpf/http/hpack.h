/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HPACK, RFC 7541, as far as it takes to know what a few header fields say.
 *
 * A field is known by its code, 16 bits that tell its name and value where they matter to us. Of
 * the dynamic table only the codes are kept, in the order in which fields were inserted: whatever
 * size the table has, an encoder refers to nothing that was evicted, so that neither sizes nor
 * evictions need be followed.
 *
 * A block is read token by token: the first byte of a field with its index, a name, a value. What
 * is there of a token that is cut is carried over, which is never more than CARRY bytes, since of a
 * string only the first bytes are looked at; the rest of the string is passed over.
 */
#ifndef METRICD_HTTP_HPACK_H
#define METRICD_HTTP_HPACK_H

#include "http/deadline.h"
#include "http/route.h"

/* Codes of fields. */
#define CODE_NOTHING 0	       /* does not matter */
#define CODE_STATUS 0x0400     /* plus the status, 0 to 999 */
#define CODE_GRPC_STATUS 0x800 /* plus the status; GRPC_STATUS_NONE is none that we know */
#define CODE_CONTENT_TYPE 0x900
#define CODE_GRPC 0x901	    /* a content type of gRPC */
#define CODE_UNKNOWN 0xa00  /* may be any of the others */
#define CODE_TIMEOUT 0x1800 /* grpc-timeout: plus the byte of http/deadline.h */
#define CODE_PATH (1 << 30) /* plus the route */

/* The code of a field's name alone, by the code of the field. */
static __always_inline __u32 hpack_name_of(__u32 code)
{
	if (code & CODE_PATH)
		return CODE_PATH;
	return code & (code & CODE_STATUS ? ~0x3ff : ~0xff);
}

/* What a block has told beside its values. */
#define FOUND_STATUS (1 << 0)
#define FOUND_GRPC (1 << 1)    /* a content type of gRPC */
#define FOUND_UNKNOWN (1 << 2) /* a field that may have been any */

#define HUFFMAN 0x80 /* the bit of a string's first byte */
#define HPACK_STATIC 61
#define HPACK_PLAIN 8 /* fields looked at at once */

/* What taking a token off the window has come to. */
#define WINDOW_NEXT 0  /* on to the next one */
#define WINDOW_CUT 1   /* the rest of it is not in the window */
#define WINDOW_LEAVE 2 /* what follows is not in the window */
#define WINDOW_STOP 3  /* the connection is lost */
#define WINDOW_TAP 4   /* on to the next one, when listeners have been told: see tap/tap.h */

/* The statuses of fields 8 to 14 of the static table, RFC 7541 appendix A. Volatile, or clang would
 * put them where libbpf doesn't look. */
const volatile __u16 hpack_statuses[8] = {200, 204, 206, 304, 400, 404, 500};

/* The code of a field of the static table. */
static __always_inline __u32 hpack_static(__u32 index)
{
	if (index - 8 <= 14 - 8)
		return CODE_STATUS + hpack_statuses[index - 8];
	if (unlikely(config.routes) && (index == 4 || index == 5))
		return CODE_PATH | (index == 4 ? ROUTE_ROOT : ROUTE_INDEX);
	return index == 31 ? CODE_CONTENT_TYPE : CODE_NOTHING;
}

/* The code of the field that `index` refers to, or a negative number if there is none. */
static __always_inline int hpack_code(struct http2_side *t, __u32 index)
{
	__u32 back = index - HPACK_STATIC, at;

	if (index <= HPACK_STATIC)
		return hpack_static(index);
	if (unlikely(back > t->inserted))
		return -1;
	if (unlikely(back > HPACK_ENTRIES))
		return CODE_UNKNOWN;
	at = t->inserted - back;
	bounded(at, (HPACK_ENTRIES - 1));
	return t->codes[at];
}

/* Notes for the block what a field says. */
static __always_inline void hpack_found(struct http2_side *t, __u32 code)
{
	if (likely(code == CODE_NOTHING))
		return;
	if (code & CODE_PATH) {
		t->route = code & ~CODE_PATH;
	} else if (code & CODE_STATUS) {
		t->result.status = code & 0x3ff;
		t->result.found |= FOUND_STATUS;
	} else if (code == CODE_GRPC) {
		t->result.found |= FOUND_GRPC;
	} else if (code == CODE_UNKNOWN) {
		t->result.found |= FOUND_UNKNOWN;
	} else if ((code & 0xf00) == CODE_GRPC_STATUS) {
		/* Or CODE_TIMEOUT, of a request. */
		t->result.grpc_status = code;
	}
}

/* Puts a field into the dynamic table. */
static __always_inline void hpack_insert(struct http2_side *t, __u32 code)
{
	__u32 at = t->inserted++;

	bounded(at, (HPACK_ENTRIES - 1));
	t->codes[at] = code;
}

/* Takes a field that is whole: puts it into the dynamic table if it is to be there, and notes what
 * it says. */
static __always_inline void hpack_field(struct http2_side *t, __u32 code)
{
	if (t->insert) {
		hpack_insert(t, code);
		t->insert = 0;
	}
	hpack_found(t, code);
}

#define INTEGER_NONE (~0ULL)
#define INTEGER_LEN 6 /* bytes of an integer of 32 bits: no field means a larger one */

/* Reads an integer that goes on behind its first byte, whose bits are `mask`. Returns what
 * hpack_integer does. */
__noinline __u64 hpack_long_integer(struct __sk_buff *skb, __u32 mask)
{
	struct scratch *s = scratch();
	__u64 w, value = mask;

	if (!s || !skb->len)
		return INTEGER_NONE;
	w = buffer_word(s, s->window.at);
	for (int i = 0; i < INTEGER_LEN - 1; i++) {
		w >>= 8;
		value += (w & 0x7f) << (7 * i);
		if (!(w & 0x80))
			return value >> 32 ? INTEGER_NONE : value | (__u64)(2 + i) << 32;
	}
	return INTEGER_NONE;
}

/*
 * Reads the integer at the window's place, whose first byte is `first`, of which `bits` count: RFC
 * 7541 section 5.1. Returns its value in the lower 32 bits, and its length in bytes above; or
 * INTEGER_NONE if the value has more than 32 bits.
 */
static __always_inline __u64 hpack_integer(struct __sk_buff *skb, __u32 first, __u32 bits)
{
	__u32 mask = (1 << bits) - 1;

	first &= mask;
	return likely(first < mask) ? first | 1ULL << 32 : hpack_long_integer(skb, mask);
}

/* What a literal name means: `len` bytes at `at`, plain or by the code of RFC 7541 appendix B. */
static __always_inline __u32 hpack_name(struct scratch *s, __u32 at, __u32 len, bool huffman)
{
	__u64 w = buffer_word(s, at);
	__u64 rest = buffer_word(s, at + 8);
	bool answers = s->packet.role == ROLE_SERVER;

	if (huffman) {
		/* A name always has these bits, as the code is fixed. */
		if (unlikely(config.routes) && len == 4 && (w & 0xffffffff) == 0x3fd358b9)
			return CODE_PATH;
		if (len == 5 && (w & 0xffffffffffULL) == 0xa3368d84b8ULL)
			return CODE_STATUS;
		if (len == 8 && w == 0x8fda3412b2c8ca9aULL)
			return answers ? CODE_GRPC_STATUS : CODE_NOTHING;
		if (len == 9 && w == 0x59f5c94a6a49ea21ULL && (rest & 0xff) == 0x7f)
			return CODE_CONTENT_TYPE;
		if (len == 9 && w == 0x6a4f494db2c8ca9aULL && (rest & 0xff) == 0x7f)
			return answers ? CODE_NOTHING : CODE_TIMEOUT;
		return CODE_NOTHING;
	}
	if (unlikely(config.routes) && len == 5 &&
	    (w & 0xffffffffffULL) == CHARS(':', 'p', 'a', 't', 'h', 0, 0, 0))
		return CODE_PATH;
	if (len == 7 && (w & 0x00ffffffffffffffULL) == CHARS(':', 's', 't', 'a', 't', 'u', 's', 0))
		return CODE_STATUS;
	if (len == 11 && w == CHARS('g', 'r', 'p', 'c', '-', 's', 't', 'a') &&
	    (rest & 0xffffff) == CHARS('t', 'u', 's', 0, 0, 0, 0, 0))
		return answers ? CODE_GRPC_STATUS : CODE_NOTHING;
	if (len == 12 && w == CHARS('g', 'r', 'p', 'c', '-', 't', 'i', 'm') &&
	    (rest & 0xffffffff) == CHARS('e', 'o', 'u', 't', 0, 0, 0, 0))
		return answers ? CODE_NOTHING : CODE_TIMEOUT;
	if (len == 12 && w == CHARS('c', 'o', 'n', 't', 'e', 'n', 't', '-') &&
	    (rest & 0xffffffff) == CHARS('t', 'y', 'p', 'e', 0, 0, 0, 0))
		return CODE_CONTENT_TYPE;
	return CODE_NOTHING;
}

#define DIGITS_NONE (~0U)

/* Reads a number of up to three digits: `len` bytes of `w`, of which the lowest is the first.
 * Returns DIGITS_NONE if there is no such number. */
static __always_inline __u32 hpack_digits(__u64 w, __u32 len, bool huffman)
{
	__u32 value = 0, bits = len * 8, digit, i;

	if (!len || len > 3)
		return DIGITS_NONE;
	if (!huffman) {
		for (i = 0; i < 3; i++) {
			if (i == len)
				break;
			digit = (w & 0xff) - '0';
			if (digit > 9)
				return DIGITS_NONE;
			value = value * 10 + digit;
			w >>= 8;
		}
		return value;
	}
	/* 0 to 2 have five bits, the others six; the last byte is filled up with ones. */
	w = bpf_be64_to_cpu(w);
	for (i = 0; i < 3; i++) {
		digit = w >> 59;
		if (digit <= 2) {
			w <<= 5;
			if (bits < 5)
				break;
			bits -= 5;
		} else {
			digit = (w >> 58) - 0x19;
			if (bits < 6 || digit > 9 - 3)
				break;
			digit += 3;
			w <<= 6;
			bits -= 6;
		}
		value = value * 10 + digit;
	}
	return i && bits < 8 && w >> (63 - bits) >> 1 == (1U << bits) - 1 ? value : DIGITS_NONE;
}

#define GRPC_TYPE CHARS('a', 'p', 'p', 'l', 'i', 'c', 'a', 't')
#define GRPC_TYPE_REST CHARS('i', 'o', 'n', '/', 'g', 'r', 'p', 'c')
#define GRPC_TYPE_LEN 16

/* Is the Huffman-coded string of `len` bytes at `at` a content type of gRPC, in whatever case? */
__noinline __u32 hpack_grpc_huffman(struct __sk_buff *skb, __u32 at, __u32 len)
{
	struct scratch *s = scratch();
	struct route *route;
	__u64 *text;

	if (!s || !skb->len)
		return false;
	/* The text of a route is made in the same way; no segment of this one looks like an
	 * identifier. */
	route = &s->route;
	route_begin(route, at, len, true);
	for (int i = 0; i <= GRPC_TYPE_LEN && !route_step(skb); i++)
		;
	text = (__u64 *)route->text;
	if ((text[0] | BYTES(0x20)) != GRPC_TYPE || (text[1] | BYTES(0x20)) != GRPC_TYPE_REST ||
	    route->len < GRPC_TYPE_LEN || route->too_long)
		return false;
	return route->len == GRPC_TYPE_LEN || route->text[GRPC_TYPE_LEN] == '+' ||
	       route->text[GRPC_TYPE_LEN] == ';';
}

/* Are the `len` bytes at `at` a content type of gRPC? Its case does not matter: RFC 9110 section
 * 8.3.1. */
static __always_inline bool hpack_grpc(struct __sk_buff *skb, struct scratch *s, __u32 at,
				       __u32 len, bool huffman)
{
	__u64 w = buffer_word(s, at), rest = buffer_word(s, at + 8);
	__u32 next;

	if (huffman) {
		if (len < 11)
			return false;
		if (w != 0x4c3d260d62d0751dULL || (rest & 0xffffff) != 0x64654dULL)
			return hpack_grpc_huffman(skb, at, len);
		if (len == 11)
			return true;
		/* Behind it '+', eleven bits, or ';', eight. */
		next = rest >> 24;
		return (next & 0xff) == 0xfb || (next & 0xe0ff) == 0x60ff;
	}
	if ((w | BYTES(0x20)) != GRPC_TYPE || (rest | BYTES(0x20)) != GRPC_TYPE_REST ||
	    len < GRPC_TYPE_LEN)
		return false;
	next = buffer_byte(s, at + 16);
	return len == GRPC_TYPE_LEN || next == '+' || next == ';';
}

/* How many bytes of a value must be there to tell what it says, by the code of the field's name. */
static __always_inline __u32 hpack_needed(__u32 name)
{
	if (name == CODE_CONTENT_TYPE)
		return 17;
	if (name == CODE_TIMEOUT)
		return DEADLINE_CHARS;
	return name == CODE_STATUS || name == CODE_GRPC_STATUS ? 3 : 0;
}

/* The code of a field with this name (a code without a value) and value. */
__noinline __u32 hpack_value(struct __sk_buff *skb, __u32 name, __u32 at, __u32 len, __u32 huffman)
{
	struct scratch *s = scratch();
	__u32 number;

	if (!s || !skb->len)
		return CODE_UNKNOWN;
	if (name == CODE_PATH)
		return CODE_PATH | route_of(skb, at, len, huffman);
	if (name == CODE_CONTENT_TYPE)
		return hpack_grpc(skb, s, at, len, huffman) ? CODE_GRPC : CODE_CONTENT_TYPE;
	if (name == CODE_TIMEOUT)
		return CODE_TIMEOUT | deadline_read(skb, at, len, huffman);
	number = hpack_digits(buffer_word(s, at), len, huffman);
	if (name == CODE_STATUS)
		return CODE_STATUS + (number <= 999 ? number : 0);
	return CODE_GRPC_STATUS + (number < GRPC_STATUS_DERIVED ? number : GRPC_STATUS_NONE);
}

/*
 * Takes fields at the window's place that say nothing which is not in the tables: fields that are a
 * reference to a table, and fields with a name of no interest, whose value is passed over. That is
 * most of most blocks. Returns WINDOW_STOP if a field refers to nothing.
 */
static __always_inline int hpack_plain(struct scratch *s, struct http2_side *t, __u32 avail)
{
	struct window *window = &s->window;
	__u32 at = window->at, end = at + avail;
	int code;

	for (int i = 0; i < HPACK_PLAIN; i++) {
		__u32 kind = buffer_byte(s, at), next = at + 1, index, mask, n;

		if (at >= end || (kind & 0xe0) == 0x20)
			break;
		/* The bits below the highest that is set, or four: without a branch, for the
		 * verifier. */
		mask = 0x0f | (kind & 0xc0) >> 1 | (kind & 0xc0) >> 2 | (kind & 0x80) >> 3;
		index = kind & mask;
		n = buffer_byte(s, next);
		if (index == mask) {
			/* The index has two bytes: RFC 7541 section 5.1. */
			if (next >= end || (n & 0x80))
				break;
			index += n;
			next++;
			n = buffer_byte(s, next);
		}
		if (unlikely(!index))
			break;
		code = hpack_code(t, index);
		if (unlikely(code < 0))
			return WINDOW_STOP;
		if (kind & 0x80) {
			hpack_found(t, code);
			at = next;
			continue;
		}
		n &= ~HUFFMAN;
		if (code != CODE_NOTHING || n == 0x7f || next + n >= end)
			break;
		if (kind & 0x40)
			hpack_insert(t, CODE_NOTHING);
		at = next + 1 + n;
	}
	t->left -= at - window->at;
	window->at = at;
	return WINDOW_NEXT;
}

/* grpc_status of an answer one of whose fields may have been any, and so the status. */
#define GRPC_STATUS_MISSED (GRPC_STATUS_NONE - 1)

/*
 * The grpc_status of an answer that has none, by what its head has told: the status that a client
 * of gRPC makes of that of HTTP ("HTTP to gRPC Status Code Mapping" of gRPC's documents). What the
 * trailers tell goes before it.
 */
__noinline __u32 hpack_grpc_derived(__u32 status, __u32 found)
{
	__u32 derived = GRPC_UNKNOWN;

	if (found & FOUND_UNKNOWN)
		return GRPC_STATUS_MISSED;
	if (status == 400)
		derived = GRPC_INTERNAL;
	else if (status == 401)
		derived = GRPC_UNAUTHENTICATED;
	else if (status == 403)
		derived = GRPC_PERMISSION_DENIED;
	else if (status == 404)
		derived = GRPC_UNIMPLEMENTED;
	else if (status == 429 || (status >= 502 && status <= 504))
		derived = GRPC_UNAVAILABLE;
	return GRPC_STATUS_DERIVED | derived;
}

/* The same in place, for a block that has been read. */
static __always_inline void hpack_derive(struct http2_side *t)
{
	union hpack_result *result = &t->result;

	if (result->grpc_status == GRPC_STATUS_NONE &&
	    (result->found & (FOUND_STATUS | FOUND_UNKNOWN)))
		result->grpc_status = hpack_grpc_derived(result->status, result->found);
}

/* A block is remembered if it has fewer bytes. */
#define HPACK_SHORT sizeof(((struct hpack_memo *)0)->bytes)

/* Is a block of `len` bytes, of which `avail` are there, whole and short enough to be
 * remembered? */
static __always_inline bool hpack_short(__u32 len, __u32 avail)
{
	return len - 1 < HPACK_SHORT - 1 && len <= avail;
}

static __always_inline struct hpack_memo *hpack_memo(struct http2_side *t, __u32 len)
{
	bounded(len, (HPACK_MEMOS - 1));
	return &t->memos[len];
}

/* Is the short block at `at` the one that `memo` remembers? If not, what the block is goes into the
 * scratch. */
static __always_inline bool hpack_same(const struct hpack_memo *memo, struct scratch *s,
				       const struct http2_side *t, __u32 at, __u32 len)
{
	struct hpack_memo *block = &s->block;
	__u64 end = ~(~0ULL << 8 * (len & 7));
	__u64 one = buffer_word(s, at) & (len < 8 ? end : ~0ULL);
	__u64 other = buffer_word(s, at + 8) & (len < 8 ? 0 : end);

	if (likely(memo->bytes[0] == one && memo->bytes[1] == other && memo->len == len &&
		   memo->inserted == t->inserted))
		return true;
	block->bytes[0] = one;
	block->bytes[1] = other;
	block->len = len;
	block->inserted = t->inserted;
	return false;
}

/* Remembers the block, which has inserted nothing: it keeps its meaning as long as nothing is
 * inserted. */
static __always_inline void hpack_remember(struct hpack_memo *memo, const struct hpack_memo *block,
					   struct http2_side *t)
{
	memo->bytes[0] = block->bytes[0];
	memo->bytes[1] = block->bytes[1];
	memo->len = block->len;
	memo->inserted = block->inserted;
	memo->result = t->result;
	memo->route = t->route;
}

/* Takes the first token of a field: RFC 7541 section 6. */
static __always_inline int hpack_start(struct __sk_buff *skb, struct scratch *s,
				       struct http2_side *t, __u32 avail)
{
	__u32 first = buffer_byte(s, s->window.at), bits = 4, index, n;
	__u64 integer;
	int code;

	if (first & 0x80)
		bits = 7;
	else if (first & 0x40)
		bits = 6;
	else if (first & 0x20)
		bits = 5;
	integer = hpack_integer(skb, first, bits);
	index = integer;
	n = integer >> 32;
	if (unlikely(integer == INTEGER_NONE))
		return avail < INTEGER_LEN ? WINDOW_CUT : WINDOW_STOP;
	if (unlikely(n > avail))
		return WINDOW_CUT;
	if (likely(bits != 5)) {
		code = hpack_code(t, index);
		if (unlikely(code < 0 || (bits == 7 && !index)))
			return WINDOW_STOP;
		if (bits == 7) {
			hpack_field(t, code);
		} else {
			t->insert = bits == 6;
			t->name = hpack_name_of(code);
			t->field = index ? FIELD_VALUE : FIELD_NAME;
		}
	}
	s->window.at += n;
	t->left -= n;
	return WINDOW_NEXT;
}

/* Takes a name or a value, of which as much as matters must be there. */
static __always_inline int hpack_string(struct __sk_buff *skb, struct scratch *s,
					struct http2_side *t, __u32 avail)
{
	struct window *window = &s->window;
	__u32 at = window->at, first = buffer_byte(s, at), code = t->name, len, n, needed;
	__u64 integer = hpack_integer(skb, first, 7);

	if (unlikely(integer == INTEGER_NONE))
		return avail < INTEGER_LEN ? WINDOW_CUT : WINDOW_STOP;
	len = integer;
	n = integer >> 32;
	needed = t->field == FIELD_NAME ? 12 : hpack_needed(code);
	if (needed > len)
		needed = len;
	if (code == CODE_PATH && t->field == FIELD_VALUE) {
		/* A path is too much to be carried over. One that is cut must be at the window's
		 * beginning, and is unknown if it is cut there, too. */
		needed = len < ROUTE_RAW ? len : ROUTE_RAW;
		if (n + needed > avail) {
			if (window->at > window->carry)
				return WINDOW_LEAVE;
			needed = 0;
			code = CODE_PATH | ROUTE_UNKNOWN;
		}
	}
	if (unlikely(n + needed > avail))
		return WINDOW_CUT;
	at += n;
	if (t->field == FIELD_NAME) {
		t->name = hpack_name(s, at, len, first & HUFFMAN);
		t->after = FIELD_VALUE;
	} else {
		if (unlikely(code != CODE_NOTHING && code != CODE_UNKNOWN &&
			     code != (CODE_PATH | ROUTE_UNKNOWN)))
			code = hpack_value(skb, code, at, len, first & HUFFMAN);
		hpack_field(t, code);
		t->after = FIELD_START;
	}
	window->at = at + needed;
	t->left -= n + needed;
	t->string_left = len - needed;
	t->field = len > needed ? FIELD_SKIP : t->after;
	return WINDOW_NEXT;
}

#endif
