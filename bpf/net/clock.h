/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The time of the packet at hand, in nanoseconds of CLOCK_MONOTONIC. */
#ifndef METRICD_NET_CLOCK_H
#define METRICD_NET_CLOCK_H

#include "layout/maps.h"

/* The packet's time: one reading of the clock, and none for most packets. */
static __always_inline __u64 packet_now(struct packet *p)
{
	if (!p->now)
		p->now = bpf_ktime_get_ns();
	return p->now;
}

/* The nanoseconds from one time to another; 0 if the other was before, as times that two CPUs or
 * two clocks have given may be. */
static __always_inline __u64 clock_since(__u64 from, __u64 to)
{
	__s64 ns = to - from;

	return unlikely(ns < 0) ? 0 : ns;
}

#define CLOCK_TICK 64 /* jiffies: 64 to 640 ms */

/*
 * Lets a CPU's time go on in ticks, which cost less than readings of the clock: `tick_ns` is the
 * packet's time, or up to a tick before.
 */
static __always_inline void clock_tick(struct scratch *s, struct packet *p)
{
	__u32 still = p->jiffies - s->tick_jiffies;

	if (likely(still < CLOCK_TICK))
		return;
	p->still = still;
	s->tick_jiffies = p->jiffies;
	s->tick_ns = packet_now(p);
}

#define CLOCK_HOUR (3600 * SECOND)

/*
 * The packet's time, when it begins a message of a connection where `since` is an earlier time, or
 * 0. TCP notes on a packet that it sends when the packet leaves, on CLOCK_MONOTONIC (EDT, kernel
 * 4.20). That is taken for the packet's time if it is within an hour after `since`, and spares a
 * reading of the clock.
 */
static __always_inline __u64 packet_leaves(struct __sk_buff *skb, struct packet *p, __u64 since)
{
	__u64 leaves = skb->tstamp;

	if (!p->now && p->egress && since && leaves - since < CLOCK_HOUR)
		p->now = leaves;
	return packet_now(p);
}

#endif
