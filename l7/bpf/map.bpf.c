// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The table in which proxies record requests, where they may call bpf(). Proxies map the table into
 * their memory and write to it themselves, by the rule in src/table.rs; the kernel only keeps it.
 */
#include "layout.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* sized by the proxy that makes it */
	__type(key, __u32);
	__type(value, struct l7_element);
} linkerd_l7_map SEC(".maps");
