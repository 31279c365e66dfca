/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Durations, into buckets whose bounds are inclusive, as Prometheus has them.
 */
#ifndef METRICD_HISTOGRAM_H
#define METRICD_HISTOGRAM_H

#include "series.h"

static __always_inline __u32 histogram_bucket(__u64 ns)
{
	__u32 i = 0;

	/* The first bound that is not below ns; the last of the 32 never is. */
#pragma unroll
	for (int step = BUCKETS / 2; step; step /= 2) {
		if (config.bounds_ns[(i + step - 1) & (BUCKETS - 1)] < ns)
			i += step;
	}
	return i;
}

static __always_inline void histogram_add(struct histogram *h, __u64 ns)
{
	__u32 i = histogram_bucket(ns);

	bounded(i, 31);
	add(&h->buckets[i], 1);
	add(&h->sum_ns, ns);
}

/* A whole response: its duration, and the time to its first byte. */
static __always_inline void histogram_response(struct packet *p, __u16 status, __u64 duration,
					       __u64 ttfb)
{
	struct latency_key key = {};
	struct latency_value *v;

	key.kind = p->series.kind;
	if (likely(key.kind == SERIES_IP)) {
		series_peer(key.peer, &p->series);
		key.port = p->series.dst_port;
		key.direction = p->series.direction;
		key.protocol = PROTOCOL_HTTP1;
		key.status_class = status / 100;
	}
	v = find_or_make(linkerd_latency_map, &key, zero_latency, &other_latency, latency_overflow);
	if (!v)
		return;
	histogram_add(&v->duration, duration);
	histogram_add(&v->ttfb, ttfb);
}

enum handshake_what {
	HANDSHAKE_RTT,
	HANDSHAKE_DURATION,
};

static __always_inline void histogram_handshake(const struct metric_key *s,
						enum handshake_what what, __u64 ns)
{
	struct handshake_key key = {};
	struct handshake_value *v;

	key.kind = s->kind;
	if (key.kind == SERIES_IP) {
		series_peer(key.peer, s);
		key.port = s->dst_port;
		key.direction = s->direction;
	}
	v = find_or_make(linkerd_handshake_map, &key, zero_handshake, &other_handshake,
			 handshake_overflow);
	if (v)
		histogram_add(what == HANDSHAKE_RTT ? &v->rtt : &v->duration, ns);
}

#endif
