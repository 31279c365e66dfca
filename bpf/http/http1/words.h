/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How HTTP/1.1 is read: eight bytes of a head at a time. */
#ifndef METRICD_HTTP_HTTP1_WORDS_H
#define METRICD_HTTP_HTTP1_WORDS_H

#include "http/parser.h"

/* Words and lines looked at in one step: a whole block in a usual step, and fewer in a rare one,
 * which is less for the verifier to walk through. */
#define HTTP1_EVENTS 176
#define HTTP1_EVENTS_RARE 48
#define START_LINE 16384

#define FRAMING_LENGTH (1 << 0)
#define FRAMING_CHUNKED (1 << 1)
#define FRAMING_CODING (1 << 2) /* a transfer coding that is not chunked */
#define FRAMING_H2C (1 << 3)	/* no framing: the head has an upgrade to HTTP/2 */
#define FRAMING_EMPTY (1 << 4)	/* no framing: an empty line has come, between messages */
#define FRAMING_EXPECT (1 << 5) /* the client may wait for an answer before it sends the body */
#define FRAMING_OLD (1 << 6)	/* no framing: the message is of HTTP/1.0 */

enum method {
	METHOD_ANY = 0,
	METHOD_HEAD = 1,
	METHOD_CONNECT = 2,
};

/* 0x80 in each byte of `w` that is a line feed, and in no other. */
static __always_inline __u64 http1_line_feeds(__u64 w)
{
	w ^= BYTES('\n');
	return ~(((w & BYTES(0x7f)) + BYTES(0x7f)) | w | BYTES(0x7f));
}

/* The number of the lowest byte that is marked in `marks`, which http1_line_feeds has made. */
static __always_inline __u32 http1_lowest_byte(__u64 marks)
{
	return (((marks & -marks) >> 7) * 0x0001020304050607ULL) >> 56;
}

#endif
