/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/2, RFC 9113, and gRPC upon it: frames are followed across packets by sequence number, and
 * header blocks are read field by field (http/hpack.h).
 *
 * The packet is read in windows of WINDOW bytes, each of which is taken apart token by token. A
 * token is at most CARRY bytes, and what is there of one at the end of a packet is carried over.
 * Payloads that do not matter are passed over without being seen.
 *
 * A request is counted by the client's side, and every end of a request by the CPU that holds the
 * server's side: for a client that cancels, the server's side is taken, too. So no end is counted
 * twice.
 *
 * The bounds:
 * - PARSER_STEPS windows, and payloads passed over, in one packet (LOST_BOUND).
 * - HPACK_ENTRIES insertions into the dynamic table: the status of an answer that refers further
 *   back is unknown.
 * - HTTP2_PAGES open streams with one place: further ones count as answered, with an unknown status
 *   (LOST_BOUND).
 * - The elements of linkerd_http2_map. A connection that gets none is L4 only (LOST_BOUND); a
 * stream that would need one more counts as answered, with an unknown status (LOST_BOUND).
 */
#ifndef METRICD_HTTP_HTTP2_HTTP2_H
#define METRICD_HTTP_HTTP2_HTTP2_H

#include "http/http2/usual.h"

/* Takes PARSER_SOME steps at most, and before them usual frames. Loops within the loop of
 * http2_steps are less for the verifier to walk through than one. */
__noinline int http2_some(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return STOP;
	if (s->packet.role == ROLE_CLIENT) {
		for (int i = 0; i < PARSER_SOME && !http2_usual_requests(skb); i++)
			;
	} else {
		for (int i = 0; i < PARSER_SOME && !http2_usual_answers(skb); i++)
			;
	}
	for (int i = 0; i < PARSER_SOME; i++) {
		if (http2_step(skb))
			return STOP;
	}
	return GO_ON;
}

/* Consumes what is left of the packet. */
static __always_inline void http2_steps(struct __sk_buff *skb)
{
	if (TAPPED)
		tap_http2_rest(skb);
	for (int i = 0; i < PARSER_STEPS / PARSER_SOME; i++) {
		if (http2_some(skb))
			return;
	}
	parser_lost(skb, LOST_BOUND);
}

#endif
