// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One iterator for each type of map that metricd reads. Attached to a map and pinned, an iterator
 * is a file: who reads it gets the raw key and value of each of the map's elements, one behind the
 * other (kernel 5.9). Iterators are programs of the type TRACING, which some kernels refuse; so
 * they are an object of their own, and the maps can also be read without them, as the text that
 * bpffs makes of a pinned map.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "layout/abi.h"
#include "layout/check.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* The kernel's types, as far as they are used here; fields are relocated at load. */
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
} __attribute__((preserve_access_index));

#define ITERATOR(NAME) SEC("iter/bpf_map_elem") int NAME(struct bpf_iter__bpf_map_elem *ctx)

/* An iterator over a map whose elements are found by the key that is shown. */
#define PLAIN_ITERATOR(NAME, KEY, VALUE)                                                           \
	ITERATOR(NAME)                                                                             \
	{                                                                                          \
		/* Read once: the verifier forgets the null check of a second reading. */          \
		void *key = ctx->key, *value = ctx->value;                                         \
                                                                                                   \
		if (!key || !value)                                                                \
			return 0;                                                                  \
		bpf_seq_write(ctx->meta->seq, key, sizeof(KEY));                                   \
		bpf_seq_write(ctx->meta->seq, value, sizeof(VALUE));                               \
		return 0;                                                                          \
	}

/* An iterator over a map whose elements are found by number and hold their key. It leaves out those
 * that nobody uses, and one whose key is being written: its counters come with the next reading. */
#define ENTRY_ITERATOR(NAME, ENTRY)                                                                \
	ITERATOR(NAME)                                                                             \
	{                                                                                          \
		struct ENTRY *e = ctx->value;                                                      \
                                                                                                   \
		if (!e || !e->check || e->check != key_check(&e->key, sizeof(e->key)))             \
			return 0;                                                                  \
		bpf_seq_write(ctx->meta->seq, &e->key, sizeof(e->key));                            \
		bpf_seq_write(ctx->meta->seq, &e->value, sizeof(e->value));                        \
		return 0;                                                                          \
	}

ENTRY_ITERATOR(iter_metrics, metric_entry)
ENTRY_ITERATOR(iter_requests, request_entry)
ENTRY_ITERATOR(iter_latency, latency_entry)
PLAIN_ITERATOR(iter_handshake, struct handshake_key, struct handshake_value)
PLAIN_ITERATOR(iter_dns, struct dns_key, struct dns_value)
PLAIN_ITERATOR(iter_counters, __u32, struct counters)
PLAIN_ITERATOR(iter_info, __u32, struct info)

ITERATOR(iter_route)
{
	struct route_entry *e = ctx->value;
	__u32 *number = ctx->key;

	if (!e || !number || !e->text[0])
		return 0;
	bpf_seq_write(ctx->meta->seq, number, sizeof(*number));
	bpf_seq_write(ctx->meta->seq, e, sizeof(*e));
	return 0;
}
