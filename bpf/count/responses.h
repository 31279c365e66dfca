/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Responses to requests: the element that counts them, and their times. */
#ifndef METRICD_COUNT_RESPONSES_H
#define METRICD_COUNT_RESPONSES_H

#include "count/histogram.h"
#include "tap/tap.h"

/* The element that counts responses of this kind and route on this connection. The server's side
 * keeps the number of the last one that was found. */
static __always_inline struct request_entry *
responses_element(struct __sk_buff *skb, struct side *side, union response what, __u32 route)
{
	__u32 at = epoch_number(side->response);
	struct request_entry *e = requests_element(at);

	if (likely(e && e->key.status == what.status && e->key.protocol == what.protocol &&
		   e->key.grpc_status == what.grpc_status && e->key.route == route))
		return e;
	at = responses_find(skb, what.word, route, false);
	side->response = epoch_tag(at);
	return requests_element(at);
}

/* Counts a final response that has come to its end. `start_ns` is when its request began, or 0 if
 * that is not known. */
static __always_inline void responses_add(struct __sk_buff *skb, struct side *side,
					  struct packet *p, union response what, __u32 route,
					  __u64 start_ns, __u64 first_ns, __u32 request)
{
	struct request_entry *e;

	/* The server's side alone adds to `answered`, as long as its answers are not lost. */
	side->answered++;
	p->delta.answered++;
	if (TAPPED)
		tap_answered(skb, what, route, start_ns, first_ns, request);
	e = responses_element(skb, side, what, route);
	if (!e)
		return;
	add(&e->value.responses, 1);
	if (unlikely(!start_ns)) {
		p->delta.untimed++;
		return;
	}
	histogram_response(e->latency, clock_since(start_ns, packet_now(p)),
			   clock_since(start_ns, first_ns));
}

#endif
