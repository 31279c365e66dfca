/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Requests by route, where routes are told apart: http/route.h. */
#ifndef METRICD_COUNT_REQUESTS_H
#define METRICD_COUNT_REQUESTS_H

#include "count/series.h"

/* Adds `n` to the requests of this protocol and route: of the packet's connection, or with `by_key`
 * of the series in s->response. */
static __always_inline void requests_add(struct __sk_buff *skb, __u32 protocol, __u32 route,
					 __u64 n, bool by_key)
{
	union response what = {
	    .status = STATUS_REQUESTS, .protocol = protocol, .grpc_status = GRPC_STATUS_NONE};
	__u32 at = responses_find(skb, what.word, route, by_key);
	struct request_entry *e;

	if (at == ELEMENT_OTHER)
		at = ELEMENT_OTHER_REQUESTS;
	e = requests_element(at);
	if (e)
		add(&e->value.responses, n);
}

/* The pending requests of a connection (the word of conn_pending) will not be settled any more:
 * their route is unknown. `protocol` is that of those that are not gRPC's. */
__noinline int requests_forget(struct __sk_buff *skb, __u32 series, __u32 pending, __u32 protocol)
{
	struct metric_entry *e = metrics_element(series);
	struct scratch *s = scratch();
	__u64 others = pending & 0xffff, grpc = pending >> 16;

	if (!s || !e || !skb->len || series == ELEMENT_OTHER)
		return 0;
	__builtin_memcpy(&s->response.series, &e->key, sizeof(e->key));
	if (others) {
		requests_add(skb, protocol, ROUTE_PENDING, -others, true);
		requests_add(skb, protocol, ROUTE_UNKNOWN, others, true);
	}
	if (grpc) {
		requests_add(skb, PROTOCOL_GRPC, ROUTE_PENDING, -grpc, true);
		requests_add(skb, PROTOCOL_GRPC, ROUTE_UNKNOWN, grpc, true);
	}
	return 0;
}

#endif
