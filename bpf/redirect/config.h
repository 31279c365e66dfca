/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is redirected where. src/redirect/config.rs mirrors this in Rust. */
#ifndef REDIRECT_CONFIG_H
#define REDIRECT_CONFIG_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "redirect/mark.h"

/* TCX_NEXT and TC_ACT_UNSPEC: the packet goes on to the programs and filters of others. */
#define PASS (-1)
#define DROP 2 /* TC_ACT_SHOT */
#define DONE 0 /* TCX_PASS and TC_ACT_OK: the packet goes on, but nobody else is to see it here */

#define LOOPBACK 1

/* What becomes of a connection when the proxy does not listen. */
enum fallback {
	FALLBACK_PASS = 0, /* it goes where it would go without us */
	FALLBACK_DROP = 1,
};

/* Set once by metricd-init before the programs are loaded, and read back by the next
 * metricd-init. */
struct redirect_config {
	__u64 object;	     /* a hash of the programs */
	__u32 proxy_uid;     /* the user whose connections are the proxy's own, and go straight */
	__u16 inbound_port;  /* where the proxy listens; 0: inbound is not redirected */
	__u16 outbound_port; /* where the proxy listens; 0: outbound is not redirected */
	__u32 fallback;	     /* enum fallback */
	__u32 pad;
	__u64 inbound[1024]; /* a bit for each port that is redirected */
	__u64 outbound[1024];
};

const volatile struct redirect_config redirect_config = {};

/* Ways, as bits of linkerd_redirect_subnets_map's values. */
enum way {
	INBOUND = 1,
	OUTBOUND = 2,
};

/* A peer's subnet; IPv4 as ::ffff:a.b.c.d. */
struct subnet_key {
	__u32 bits;
	__u8 address[16];
};

/* Peers whose connections are not redirected, with the bits of enum way for which they are not. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct subnet_key);
	__type(value, __u32);
} linkerd_redirect_subnets_map SEC(".maps");

static __always_inline bool port_chosen(const volatile __u64 *ports, __u32 port)
{
	__u64 at = port >> 3;

	/* The bytes before the word. Newer clangs leave out a bound that they know to hold, and
	 * 5.10 does not see that it does. */
	asm volatile("%0 &= 0x1ff8" : "+r"(at));
	return *(const volatile __u64 *)((const volatile char *)ports + at) >> (port & 63) & 1;
}

#endif
