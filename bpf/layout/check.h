/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What shows that the key of an exported element is whole. */
#ifndef METRICD_LAYOUT_CHECK_H
#define METRICD_LAYOUT_CHECK_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* The check of a key, which shows in struct metric_entry, request_entry and latency_entry that the
 * key is whole. It is never 0. `bytes` is a multiple of 8. */
static __always_inline __u32 key_check(const void *key, __u32 bytes)
{
	__u64 hash = 0;

#pragma unroll
	for (__u32 i = 0; i < bytes / 8; i++) {
		hash = (hash ^ ((const __u64 *)key)[i]) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 29;
	}
	return (__u32)hash | 1;
}

#endif
