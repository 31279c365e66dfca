/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counts durations in buckets whose bounds are inclusive, as Prometheus has them. */
#ifndef METRICD_COUNT_HISTOGRAM_H
#define METRICD_COUNT_HISTOGRAM_H

#include "count/series.h"
#include "net/clock.h"

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

/* Adds the times of a whole response: its duration, and the time to its first byte. */
static __always_inline void histogram_response(__u32 latency, __u64 duration, __u64 ttfb)
{
	struct latency_entry *e = latency_element(latency);
	__u32 i = histogram_bucket(duration), j = i;

	if (!e)
		return;
	if (ttfb != duration)
		j = histogram_bucket(ttfb);
	bounded(i, 31);
	bounded(j, 31);
	add(&e->value.buckets[i].duration, 1);
	add(&e->value.buckets[j].ttfb, 1);
	add(&e->value.sum_ns.duration, duration);
	add(&e->value.sum_ns.ttfb, ttfb);
}

/* Adds `n` requests that never got their whole response, and the time that each was waited for. */
static __always_inline void histogram_aborted(__u32 latency, __u64 ns, __u32 n)
{
	struct latency_entry *e = latency_element(latency);
	__u32 i = histogram_bucket(ns);

	if (!e)
		return;
	bounded(i, 31);
	add(&e->value.buckets[i].duration, n);
	add(&e->value.sum_ns.duration, ns * n);
}

/* The bucket that `ns` falls into, with the range of times that the bucket holds. */
static __always_inline struct range histogram_range(__u64 ns)
{
	__u32 i = histogram_bucket(ns);
	struct range range = {.bucket = i};

	bounded(i, 31);
	range.from = i ? config.bounds_ns[(i - 1) & (BUCKETS - 1)] + 1 : 0;
	range.width = config.bounds_ns[i] - range.from;
	return range;
}

enum histogram_what {
	HANDSHAKE_RTT,
	HANDSHAKE_DURATION,
};

/* A constant, as a handshake_value is too large for the stack. */
static const struct handshake_value zero_handshake;
static const struct handshake_key other_handshake = {.kind = SERIES_OTHER};

/* Adds `ns` to a histogram of a connection's series. `conn` and `flags` are the connection's, as
 * series_key takes them. */
static __always_inline void histogram_handshake(__u32 series, const struct conn_key *conn,
						__u8 flags, enum histogram_what what, __u64 ns)
{
	struct handshake_key key = {};
	struct scratch *s = scratch();
	struct handshake_value *v;
	struct histogram *histogram;
	__u32 i;

	if (!s)
		return;
	if (likely(series != ELEMENT_OTHER)) {
		series_key(&s->series, conn, flags);
		series_peer(key.peer, &s->series);
		key.port = s->series.dst_port;
		key.direction_and_origin = s->series.direction | s->series.origin
								     << HANDSHAKE_ORIGIN;
	} else {
		key.kind = SERIES_OTHER;
	}
	v = bpf_map_lookup_elem(&linkerd_handshake_map, &key);
	if (unlikely(!v)) {
		bpf_map_update_elem(&linkerd_handshake_map, &key, &zero_handshake, BPF_NOEXIST);
		v = bpf_map_lookup_elem(&linkerd_handshake_map, &key);
	}
	if (unlikely(!v)) {
		counters_add(handshake_overflow);
		v = bpf_map_lookup_elem(&linkerd_handshake_map, &other_handshake);
	}
	if (!v)
		return;
	histogram = what == HANDSHAKE_RTT ? &v->rtt : &v->duration;
	i = histogram_bucket(ns);
	bounded(i, 31);
	add(&histogram->buckets[i], 1);
	add(&histogram->sum_ns, ns);
}

#endif
