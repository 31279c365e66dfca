/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One iterator for each map that metricd reads: it writes the raw key and value
 * of every entry, so that the map can be read like a file, by whom the file's
 * mode lets. Kernel 5.9.
 */
#ifndef METRICD_ITER_H
#define METRICD_ITER_H

#include "elem.h"
#include "maps.h"

/* The same for a map of entries, whose keys are their own; those in nobody's use are zero. */
#define ENTRY_ITERATOR(NAME, ENTRY, KIND, DIRECTION)                                               \
	SEC("iter/bpf_map_elem")                                                                   \
	int NAME(struct bpf_iter__bpf_map_elem *ctx)                                               \
	{                                                                                          \
		struct ENTRY *e = ctx->value;                                                      \
                                                                                                   \
		if (!e || (!e->key.KIND && !e->key.DIRECTION))                                     \
			return 0;                                                                  \
		bpf_seq_write(ctx->meta->seq, &e->key, sizeof(e->key));                            \
		bpf_seq_write(ctx->meta->seq, &e->value, sizeof(e->value));                        \
		return 0;                                                                          \
	}

ENTRY_ITERATOR(iter_metrics, metric_entry, kind, direction)
ENTRY_ITERATOR(iter_requests, request_entry, series.kind, series.direction)
SEC("iter/bpf_map_elem")
int iter_route(struct bpf_iter__bpf_map_elem *ctx)
{
	struct route_entry *e = ctx->value;
	__u32 *number = ctx->key;

	if (!e || !number || !e->text[0])
		return 0;
	bpf_seq_write(ctx->meta->seq, number, sizeof(*number));
	bpf_seq_write(ctx->meta->seq, e, sizeof(*e));
	return 0;
}

ENTRY_ITERATOR(iter_latency, latency_entry, kind, direction)
ITERATOR(iter_handshake, struct handshake_key, struct handshake_value)
ITERATOR(iter_dns, struct dns_key, struct dns_value)
ITERATOR(iter_counters, __u32, struct counters)
ITERATOR(iter_info, __u32, struct info)

#endif
