/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How long a client waits for the answer to a request of gRPC: the header grpc-timeout, which has
 * up to eight digits and a unit ("PROTOCOL-HTTP2" of gRPC's documents). It is remembered in a byte,
 * as a number with three bits behind the first one, which is at most an eighth less than what was
 * meant. Its unit is 2^16 ns.
 */
#ifndef METRICD_HTTP_DEADLINE_H
#define METRICD_HTTP_DEADLINE_H

#include "http/huffman.h"

#define DEADLINE_UNIT 16	/* as a shift of nanoseconds */
#define DEADLINE_MOST 0xfd	/* some ten days: what is longer is taken for that */
#define DEADLINE_MALFORMED 0xff /* GRPC_STATUS_NONE, as if there was no header */
#define DEADLINE_CHARS 9	/* of a value, at most */

/* The byte for a time. */
static __always_inline __u32 deadline_of(__u64 ns)
{
	__u64 v = ns >> DEADLINE_UNIT;
	__u32 exponent = 0, code;

	/* Four bits are left of the number: the first one set, and three behind it. */
#pragma unroll
	for (int shift = 32; shift; shift /= 2) {
		if (v >> (shift + 3)) {
			v >>= shift;
			exponent += shift;
		}
	}
	code = v < 8 ? v : (exponent + 1) << 3 | (v & 7);
	return code < DEADLINE_MOST ? code : DEADLINE_MOST;
}

/* The time that a byte stands for, in nanoseconds. */
static __always_inline __u64 deadline_ns(__u32 code)
{
	__u64 v = code < 8 ? code : (__u64)(8 | (code & 7)) << ((code >> 3) - 1);

	return v << DEADLINE_UNIT;
}

/* The nanoseconds of a unit of grpc-timeout, or 0 if it is none. */
static __always_inline __u64 deadline_unit(__u32 unit)
{
	switch (unit) {
	case 'H':
		return 3600 * SECOND;
	case 'M':
		return 60 * SECOND;
	case 'S':
		return SECOND;
	case 'm':
		return SECOND / 1000;
	case 'u':
		return 1000;
	case 'n':
		return 1;
	default:
		return 0;
	}
}

/* Reads the next character. Returns STOP if there is none, or it is not what it should be: then the
 * unit is 0. A function of its own for the loop. */
__noinline int deadline_step(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct deadline *d;
	__u32 found, n;

	if (!s || !skb->len)
		return STOP;
	d = &s->deadline;
	found = d->huffman ? huffman_short[d->word >> 56] : 8 << 8 | (__u32)(d->word >> 56);
	n = found >> 8;
	found &= 0xff;
	bounded(n, 15);
	if (d->unit || !n || d->bits < n)
		return STOP;
	if (found - '0' <= 9) {
		d->value = d->value * 10 + (found - '0');
	} else {
		d->unit = deadline_unit(found);
		if (!d->unit)
			return STOP;
	}
	d->word = d->word << n | d->rest << n >> 8;
	d->rest = d->rest << n & 0xff;
	d->bits -= n;
	return GO_ON;
}

/* Reads the value of grpc-timeout, `len` bytes at `at` of the buffer. Returns its byte, or
 * DEADLINE_MALFORMED. */
__noinline __u32 deadline_read(struct __sk_buff *skb, __u32 at, __u32 len, __u32 huffman)
{
	struct scratch *s = scratch();
	struct deadline *d;

	if (!s || !skb->len || len < 2 || len > DEADLINE_CHARS)
		return DEADLINE_MALFORMED;
	d = &s->deadline;
	d->word = bpf_be64_to_cpu(buffer_word(s, at));
	d->rest = buffer_byte(s, at + 8);
	d->value = d->unit = 0;
	d->bits = len * 8;
	d->huffman = huffman;
	for (int i = 0; i < DEADLINE_CHARS && !deadline_step(skb); i++)
		;
	/* Behind the last character at most seven ones. */
	if (!d->unit || d->bits > 7)
		return DEADLINE_MALFORMED;
	/* 10^6 hours are more than the byte can tell. */
	if (d->value > 1000000 && d->unit > SECOND)
		d->value = 1000000;
	return deadline_of(d->value * d->unit);
}

/* Has a request been waited for until its deadline? The client's clock began before its request was
 * seen here: a sixteenth is allowed for. With what the byte lacks, that is 82% of the deadline at
 * least. `deadline` is that of struct http2_stream. */
static __always_inline bool deadline_has_passed(__u32 deadline, __u64 waited_ns)
{
	__u64 ns = deadline_ns(deadline - 1);

	return deadline && deadline <= DEADLINE_MOST + 1 && waited_ns >= ns - ns / 16;
}

#endif
