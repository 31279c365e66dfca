/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What an iterator over a map's elements is made of. Kernel 5.9. */
#ifndef METRICD_ELEM_H
#define METRICD_ELEM_H

#include "common.h"

/* The kernel's types, as far as they are used here; fields are relocated at
 * load. */
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

#define ITERATOR(NAME, KEY, VALUE)                                                                 \
	SEC("iter/bpf_map_elem")                                                                   \
	int NAME(struct bpf_iter__bpf_map_elem *ctx)                                               \
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

#endif
