/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map, and why it has the size that it has. Sizes of 1 are set by metricd-init. */
#ifndef METRICD_LAYOUT_MAPS_H
#define METRICD_LAYOUT_MAPS_H

#include "layout/scratch.h"

#define SIZED_MAP(NAME, TYPE, FLAGS, SIZE, KEY, VALUE)                                             \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_##TYPE);                                                 \
		__uint(map_flags, FLAGS);                                                          \
		__uint(max_entries, SIZE);                                                         \
		__type(key, KEY);                                                                  \
		__type(value, VALUE);                                                              \
	} NAME SEC(".maps")

#define MAP(NAME, TYPE, FLAGS, KEY, VALUE) SIZED_MAP(NAME, TYPE, FLAGS, 1, KEY, VALUE)

/* NO_PREALLOC: a pod with ten peers pays for ten. */
#define GROWING_HASH(NAME, KEY, VALUE) MAP(NAME, HASH, BPF_F_NO_PREALLOC, KEY, VALUE)
#define SIZED_HASH(NAME, SIZE, KEY, VALUE)                                                         \
	SIZED_MAP(NAME, HASH, BPF_F_NO_PREALLOC, SIZE, KEY, VALUE)

/* MMAPABLE, because the elements of such an array begin at a page: their lines are cache lines. */
#define ALIGNED_ARRAY(NAME, VALUE) MAP(NAME, ARRAY, BPF_F_MMAPABLE, __u32, VALUE)

#define LIST(NAME, TYPE, VALUE)                                                                    \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_##TYPE);                                                 \
		__uint(max_entries, 1);                                                            \
		__uint(value_size, sizeof(VALUE));                                                 \
	} NAME SEC(".maps")

#define FREE_LIST(NAME, TYPE) LIST(NAME, TYPE, __u32)

/*
 * What metricd exports. An element of an array is found by its number, which takes no call. The
 * number is found by key once, and kept where it is used: a connection keeps the number of its
 * series, an element of linkerd_requests_map the number of its histograms. Element 0 is `other`.
 * The free lists hold the numbers in nobody's use, the lowest first. An array is as long as most
 * pods need; what is beyond it is in a hash, at the price of a call, and takes memory only where
 * there is something.
 */
ALIGNED_ARRAY(linkerd_metrics_map, struct metric_entry); /* --map-size, with the next */
GROWING_HASH(linkerd_metrics_more_map, __u32, struct metric_entry);
GROWING_HASH(linkerd_metrics_index_map, struct metric_key, __u32);
FREE_LIST(linkerd_metrics_free_map, QUEUE);

/* Responses by status. --map-size is enough for them, too: most series see few statuses. */
ALIGNED_ARRAY(linkerd_requests_map, struct request_entry);
GROWING_HASH(linkerd_requests_more_map, __u32, struct request_entry);
GROWING_HASH(linkerd_requests_index_map, struct request_key, __u32);
FREE_LIST(linkerd_requests_free_map, QUEUE);

/* Routes by number, of which --routes says how many. */
MAP(linkerd_route_map, ARRAY, 0, __u32, struct route_entry);
GROWING_HASH(linkerd_route_index_map, __u32, __u64); /* see http/route.h */
FREE_LIST(linkerd_route_free_map, QUEUE);
MAP(linkerd_route_candidate_map, LRU_HASH, 0, __u32, struct route_candidate);
MAP(linkerd_route_cache_map, LRU_HASH, 0, __u64, __u32); /* by a hash of the path as it came */

/* Histograms of responses, by server port and not by peer: few, unless --detail full. */
ALIGNED_ARRAY(linkerd_latency_map, struct latency_entry);
GROWING_HASH(linkerd_latency_more_map, __u32, struct latency_entry);
GROWING_HASH(linkerd_latency_index_map, struct latency_key, __u32);
FREE_LIST(linkerd_latency_free_map, QUEUE);

/* Histograms of connections. They are looked up so rarely in a connection's life that a hash will
 * do. */
GROWING_HASH(linkerd_handshake_map, struct handshake_key, struct handshake_value);

/* Connections by slot, of which --connections says how many. An array, so that a stale pointer
 * still points at a slot: see CONCURRENCY.md. */
ALIGNED_ARRAY(linkerd_connection_map, struct conn);
GROWING_HASH(linkerd_connection_index_map, struct conn_key, union conn_ref);
FREE_LIST(linkerd_connection_free_map, QUEUE);

/* Connections that have not opened yet, and flows of other protocols than TCP, the oldest first.
 * Each list is as long as the share of the slots that they may take: see conn_bound. */
LIST(linkerd_half_open_map, QUEUE, union conn_ref);
LIST(linkerd_flow_map, QUEUE, union conn_ref);

/* Ports of servers, and the first that were tried and are none, by port_key: see count/ports.h. */
#define PORTS_OF_SERVERS 1024
#define PORTS_TRIED 16
SIZED_HASH(linkerd_server_port_map, PORTS_OF_SERVERS, __u32, __u8);
SIZED_HASH(linkerd_tried_port_map, PORTS_TRIED, __u32, __u8);

/* A cache in front of linkerd_connection_index_map, by a hash of the key. Its answer is a guess
 * that the slot itself confirms. */
ALIGNED_ARRAY(linkerd_connection_cache_map, union conn_ref);

/*
 * Connections that speak HTTP/2 have an element here, by conn.http2; --http2-connections says how
 * many there are. The last element that was given back is the first to be taken, so that no more
 * are made than are used at a time.
 */
ALIGNED_ARRAY(linkerd_http2_map, struct http2);
GROWING_HASH(linkerd_http2_more_map, __u32, struct http2);
FREE_LIST(linkerd_http2_free_map, STACK);

/*
 * Bytes that came too early, for the few directions in which bytes before them are missing, and
 * only while they are. They are kept in pieces, EARLY_PIECES for each element, which come with
 * their first use and stay: most pods never need one. The last element that was given back is the
 * first to be taken.
 */
MAP(linkerd_early_map, ARRAY, 0, __u32, struct early);
GROWING_HASH(linkerd_early_bytes_map, __u32, struct early_bytes);
FREE_LIST(linkerd_early_free_map, STACK);

/* Servers of DNS: few, unless the pod is a resolver. */
GROWING_HASH(linkerd_dns_map, struct dns_key, struct dns_value);

/* DNS queries without an answer yet: 32 KB, for 512 at most. */
#define DNS_SETS 64 /* a power of two */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DNS_SETS);
	__type(key, __u32);
	__type(value, struct dns_set);
} linkerd_dns_query_map SEC(".maps");

/* A ring buffer of --perf-buffer-size bytes, written to while somebody listens: see tap/tap.h. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} linkerd_perf_map SEC(".maps");

MAP(linkerd_counters_map, ARRAY, 0, __u32, struct counters);
MAP(linkerd_info_map, ARRAY, 0, __u32, struct info);

/* Not for the programs: metricd-init keeps here what --detach must know. */
SIZED_HASH(linkerd_attachment_map, 4096, struct attachment_key, struct attachment_value);

/*
 * A scratch for each CPU, by the CPU's number. A per-CPU map would serve, too, but take another
 * look-up: from 6.10 on the number is had without a call.
 */
ALIGNED_ARRAY(linkerd_scratch_map, struct scratch);

static __always_inline struct scratch *scratch(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&linkerd_scratch_map, &cpu);
}

static __always_inline struct counters *counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&linkerd_counters_map, &zero);
}

static __always_inline struct conn *conn_slot(__u32 slot)
{
	return bpf_map_lookup_elem(&linkerd_connection_map, &slot);
}

/* Counts one event in the named field of struct counters. */
#define counters_add(FIELD) counters_add_many(FIELD, 1)

#define counters_add_many(FIELD, N)                                                                \
	({                                                                                         \
		struct counters *counters_ = counters();                                           \
		if (counters_)                                                                     \
			add(&counters_->FIELD, N);                                                 \
	})

/*
 * Maps in two parts: an array, and a hash behind it for the numbers that it does not have, whose
 * elements come with the first use of their number and stay. WHAT_element gives an element or NULL.
 * WHAT_grown also makes the element if need be, for a caller that has taken its number from the
 * free list; if there is no memory, the number goes back there.
 */
#define TWO_PARTS(WHAT, ENTRY)                                                                     \
	static const struct ENTRY zero_##WHAT; /* too large for the stack */                       \
                                                                                                   \
	static __always_inline struct ENTRY *WHAT##_element(__u32 at)                              \
	{                                                                                          \
		struct ENTRY *e = bpf_map_lookup_elem(&linkerd_##WHAT##_map, &at);                 \
                                                                                                   \
		if (unlikely(!e))                                                                  \
			e = bpf_map_lookup_elem(&linkerd_##WHAT##_more_map, &at);                  \
		return e;                                                                          \
	}                                                                                          \
                                                                                                   \
	static __always_inline struct ENTRY *WHAT##_grown(__u32 at)                                \
	{                                                                                          \
		struct ENTRY *e = WHAT##_element(at);                                              \
                                                                                                   \
		if (e)                                                                             \
			return e;                                                                  \
		bpf_map_update_elem(&linkerd_##WHAT##_more_map, &at, &zero_##WHAT, BPF_NOEXIST);   \
		e = bpf_map_lookup_elem(&linkerd_##WHAT##_more_map, &at);                          \
		if (!e)                                                                            \
			bpf_map_push_elem(&linkerd_##WHAT##_free_map, &at, 0);                     \
		return e;                                                                          \
	}

TWO_PARTS(metrics, metric_entry)
TWO_PARTS(requests, request_entry)
TWO_PARTS(latency, latency_entry)
TWO_PARTS(http2, http2)

#endif
