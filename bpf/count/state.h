/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What one packet adds to the counters. */
#ifndef METRICD_COUNT_STATE_H
#define METRICD_COUNT_STATE_H

#include "base.h"

/* What this packet adds to its series, beside itself. */
struct delta {
	__u32 opened;
	__u32 closed; /* enum close_reason plus one */
	__u32 tls;
	__u32 requests;
	__u32 answered;
	__u32 http2; /* requests, likewise below */
	__u32 grpc;
	__u32 aborted; /* by `closed` */
	__u32 untimed;
	__u32 lost; /* enum lost_reason plus one */
	__u32 retransmits;
	__u32 pad;
};

/* The times that fall into a bucket. */
struct range {
	__u64 from, width;
	__u32 bucket;
	__u32 pad;
};

/* Answers of the packet that add to the same counters: they are added at once, see answers.h. */
struct answers {
	__u32 count;   /* 0: the rest says nothing */
	__u32 latency; /* in linkerd_latency_map */
	__u32 request; /* in linkerd_requests_map */
	__u32 what;    /* union response */
	__u32 route;
	__u32 pad;
	struct range duration, ttfb;
	__u64 duration_ns, ttfb_ns; /* sums */
};

#endif
