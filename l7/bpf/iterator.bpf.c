// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * An iterator over the table: who reads its pin gets the number and the words of each element, one
 * behind the other (kernel 5.9). It is a program of the type TRACING, which some kernels refuse, so
 * it is an object of its own: the table can also be read without it, as text.
 */
#include "layout.h"

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

SEC("iter/bpf_map_elem")
int iter_l7(struct bpf_iter__bpf_map_elem *ctx)
{
	/* Read once: the verifier forgets the null check of a second reading. */
	void *key = ctx->key, *value = ctx->value;

	if (!key || !value)
		return 0;
	bpf_seq_write(ctx->meta->seq, key, sizeof(__u32));
	bpf_seq_write(ctx->meta->seq, value, sizeof(struct l7_element));
	return 0;
}
