/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The layout of the table in which proxies record requests, as the kernel knows it. */
#ifndef METRICD_L7_LAYOUT_H
#define METRICD_L7_LAYOUT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* ELEMENT words of src/layout.rs, which asserts the size. */
struct l7_element {
	__u64 words[40];
};

#endif
