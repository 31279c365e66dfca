/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The layout of the table in which proxies record requests, as the kernel side knows it. */
#ifndef METRICD_L7_H
#define METRICD_L7_H

#include <linux/types.h>

/* ELEMENT words, src/l7/layout.rs. */
struct l7_element {
	__u64 words[40];
};

#endif
