/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map, and why it has the size it has. Sizes of 1 are set by
 * metricd-init. */
#ifndef METRICD_MAPS_H
#define METRICD_MAPS_H

#include "state.h"

/* NO_PREALLOC: a pod with ten peers pays for ten. */
#define GROWING_HASH(NAME, KEY, VALUE)                                                             \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                              \
		__uint(max_entries, 1);                                                            \
		__type(key, KEY);                                                                  \
		__type(value, VALUE);                                                              \
	} NAME SEC(".maps")

/* --map-size, and one for `other`. */
GROWING_HASH(linkerd_metrics_map, struct metric_key, struct metric_value);
/* As many again: most series see few statuses. */
GROWING_HASH(linkerd_requests_map, struct request_key, struct request_value);
/* By server port, not by peer: few, unless --detail full. */
GROWING_HASH(linkerd_latency_map, struct latency_key, struct latency_value);
GROWING_HASH(linkerd_handshake_map, struct handshake_key, struct handshake_value);
/* --connections: key to slot and generation. */
GROWING_HASH(linkerd_connection_index_map, struct conn_key, struct conn_ref);

/* --connections. An array, so that a stale pointer still points at a slot: see
 * state.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct conn);
} linkerd_connection_map SEC(".maps");

/* --connections: the slots in nobody's use; filled by metricd-init. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__uint(value_size, sizeof(__u32));
} linkerd_free_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} linkerd_counters_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct info);
} linkerd_info_map SEC(".maps");

/* Not for the programs: metricd-init keeps here what --detach must know. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct attachment_key);
	__type(value, struct attachment_value);
} linkerd_attachment_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} linkerd_scratch_map SEC(".maps");

static __always_inline struct scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&linkerd_scratch_map, &zero);
}

static __always_inline struct counters *counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&linkerd_counters_map, &zero);
}

/* Counts one event in the named field of struct counters. */
#define count(FIELD)                                                                               \
	({                                                                                         \
		struct counters *counters_ = counters();                                           \
		if (counters_)                                                                     \
			add(&counters_->FIELD, 1);                                                 \
	})

/* The packet's time: one reading of the clock, and none for most packets. */
static __always_inline __u64 packet_now(struct packet *p)
{
	if (!p->now)
		p->now = bpf_ktime_get_ns();
	return p->now;
}

#endif
