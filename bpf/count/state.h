/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What one packet adds to the counters. */
#ifndef METRICD_COUNT_STATE_H
#define METRICD_COUNT_STATE_H

#include "base.h"

/* What a packet adds to its series, beside its own segments and bytes. */
struct delta {
	__u32 opened;
	__u32 closed; /* enum close_reason plus one */
	__u32 requests;
	__u32 answered;
	__u32 http2;   /* requests of HTTP/2 */
	__u32 grpc;    /* requests of gRPC */
	__u32 aborted; /* requests that ended with the connection, for the reason in `closed` */
	__u32 untimed;
	__u32 lost; /* enum lost_reason plus one */
	__u32 retransmits;
	__u32 decided; /* enum decision plus one */
};

/* The times that fall into a bucket: from `from` to `from + width` nanoseconds, both inclusive. */
struct range {
	__u64 from, width;
	__u32 bucket;
	__u32 pad;
};

/* Answers of one packet that fall into one set of counters. They are added to it at once, see
 * answers.h. */
struct answers {
	__u32 count;   /* of answers; if 0, the other fields say nothing */
	__u32 latency; /* element of linkerd_latency_map */
	__u32 request; /* element of linkerd_requests_map */
	__u32 what;    /* union response */
	__u32 route;
	__u32 pad;
	struct range duration, ttfb;
	__u64 duration_ns, ttfb_ns; /* sums over the answers */
};

#endif
