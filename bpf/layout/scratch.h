/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a program knows of the packet at hand, in a map and not on the stack, which has 512 bytes.
 * Each CPU has one, since a program runs to its end before another one begins there.
 */
#ifndef METRICD_LAYOUT_SCRATCH_H
#define METRICD_LAYOUT_SCRATCH_H

#include "dns/state.h"
#include "net/state.h"

/* The last first fragment of a datagram: net/fragment.h. */
struct fragmented {
	struct conn_key key;
	__u32 id;
	__u32 to_local;
};

struct scratch {
	struct packet packet;
	struct tcp_result result;
	struct aborted aborted;
	struct scan scan;
	struct window window;
	struct hpack_memo block; /* the block at hand, if it is short */
	struct route route;
	struct deadline deadline;
	__u8 buffer[BUFFER + 48];
	struct conn_key as_sent;	 /* conn.as_sent of the connection that the packet opens */
	struct conn_key retired;	 /* conn.key of the connection that is taken out */
	struct conn_key retired_as_sent; /* its conn.as_sent */
	struct held held[2];		 /* what was held of the packet's connection */
	struct metric_key series;	 /* where a series is looked for by its key */
	struct latency_key latency;  /* where a response's histograms are looked for by their key */
	struct request_key response; /* where a response's element is looked for by its key */
	__u64 clock_jiffies, clock_ns; /* a moment on both clocks, for net/conn.h */
	__u64 tick_ns;		       /* this CPU's time: see clock_tick */
	__u32 tick_jiffies;	       /* when tick_ns was read */
	__u32 silent;		       /* jiffies: conn_sweep's second result */
	__u32 swept;		       /* a generation: conn_sweep's third result */
	__u32 cursor;		       /* the slot at which conn_slots.h looks next */
	__u32 due;		       /* at how many slots it has to look with this packet */
	struct tap_head tap_head;      /* a head on its way to linkerd_perf_map */
	struct tap_end tap_end;	       /* an end on its way to linkerd_perf_map */
	struct dns dns;
	struct fragmented fragmented;
} __attribute__((aligned(128))); /* neither a line nor its neighbour is another CPU's */

#endif
