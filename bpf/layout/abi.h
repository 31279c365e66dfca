/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The layout that the kernel side shares with user space. src/abi.rs mirrors it under these names;
 * both sides assert the sizes. A change here is a change of LAYOUT_VERSION.
 *
 * Exported maps are also read as the text that bpffs makes of them, where each
 * integer is a decimal number. An array of bytes would be shown as characters up
 * to the first zero, so addresses and texts in exported maps are arrays of
 * __u64, which src/abi.rs reads as the bytes that they are.
 */
#ifndef METRICD_ABI_H
#define METRICD_ABI_H

#ifdef NEXT_LAYOUT /* for tests of an upgrade to another layout: one more field at an end */
#define LAYOUT_VERSION 12
#else
#define LAYOUT_VERSION 11
#endif

/* The version of what the kernel side keeps to itself, net/state.h. Programs with equal versions
 * take the state of connections over from each other. */
#define STATE_VERSION 7

/* Histogram slots: the configured bounds, then +Inf, then unused. A power of
 * two for the search. */
#define BUCKETS 32

/* What a series is about, when it is not an ordinary 5-tuple. */
enum series_kind {
	SERIES_IP = 0,
	SERIES_NON_IP = 1,   /* ARP and the like */
	SERIES_IPV6_OFF = 2, /* IPv6 while --ipv6=false */
	SERIES_OTHER = 3,    /* what did not fit */
};

enum direction {
	DIRECTION_NONE = 0,
	DIRECTION_INBOUND = 1,	/* the pod is the server */
	DIRECTION_OUTBOUND = 2, /* the pod is the client */
	DIRECTION_LOCAL = 3,	/* both ends are the pod's; only where the pod's proxy is known */
};

/* Whose a series is, if it is not the application's. */
enum origin {
	ORIGIN_NONE = 0,
	ORIGIN_PROXY = 1,    /* the proxy's own: its connections with what is outside of the pod */
	ORIGIN_UNOPENED = 2, /* nobody's: attempts to connect, and packets of no connection */
};

enum protocol {
	PROTOCOL_UNKNOWN = 0,
	PROTOCOL_HTTP1 = 1,
	PROTOCOL_HTTP2 = 2,
	PROTOCOL_GRPC = 3,
	PROTOCOL_MAX = 4,
};

enum close_reason {
	CLOSE_FIN = 0,
	CLOSE_RST = 1,
	CLOSE_REFUSED = 2, /* RST in answer to the SYN */
	CLOSE_IDLE = 3,	   /* silent for longer than the idle time, or replaced by a new SYN */
	CLOSE_EVICTED = 4, /* the slot was needed for a new connection */
	CLOSE_MAX = 5,
};

/* Why a request never got its whole response. */
enum abort_reason {
	ABORT_FIN = 0, /* the connection ended in order, without the rest */
	ABORT_RST = 1,
	ABORT_IDLE = 2,
	ABORT_EVICTED = 3,
	/* HTTP/2 ends a request without ending its connection, RFC 9113 sections 6.4, 6.8 and 7. */
	ABORT_CANCELLED = 4, /* by the client, or by the server with CANCEL */
	ABORT_REFUSED = 5,   /* not processed: REFUSED_STREAM, or above GOAWAY's last stream */
	ABORT_RESET = 6,     /* by the server for another reason */
	ABORT_TIMEOUT = 7,   /* by the client, at the deadline that its grpc-timeout has told */
	ABORT_STOPPED = 8,   /* by the client, before that, while the answer was under way */
	ABORT_MAX = 9,
};

/* Why the requests of a connection could not be followed any further. */
enum lost_reason {
	LOST_GAP = 0,	      /* bytes that the parser needed were never seen in order */
	LOST_MALFORMED = 1,   /* not what RFC 9112, 9113 or 7541 allow */
	LOST_BOUND = 2,	      /* beyond what the parsers or the maps hold */
	LOST_PIPELINE = 3,    /* more outstanding requests than are remembered */
	LOST_UNSOLICITED = 4, /* a response that no request asked for */
	LOST_MIDSTREAM = 5,   /* the connection was older than the programs */
	LOST_MAX = 6,
};

/* What a connection of TCP turned out to carry: HTTP, DNS, TLS, or nothing that is followed, and
 * why. */
enum decision {
	DECIDED_HTTP1 = 0,
	DECIDED_HTTP2 = 1,
	DECIDED_SERVER_FIRST = 2, /* the server spoke first, and not HTTP/2 */
	DECIDED_NOT_HTTP = 3,	  /* the client's first bytes are no request */
	DECIDED_BOUND = 4,	  /* more than the parsers or the maps hold */
	DECIDED_MIDSTREAM = 5,	  /* the beginning was not seen */
	/* The proxy's own in a series of ORIGIN_PROXY, else a further subflow of Multipath TCP. */
	DECIDED_PASSED_OVER = 6,
	DECIDED_NEVER = 7, /* it ended before its bytes told */
	DECIDED_MAX = 8,
	DECIDED_TLS = 8, /* counted as metric_value.tls */
	DECIDED_DNS = 9, /* counted as metric_value.dns */
};

/* A series: who talks to whom. src is the client, dst the server; ports in host
 * order. */
struct metric_key {
	__u64 src[2]; /* IPv4 as ::ffff:a.b.c.d */
	__u64 dst[2];
	__u16 src_port; /* 0 unless --detail full */
	__u16 dst_port;
	__u8 proto;	/* IANA protocol number */
	__u8 direction; /* enum direction */
	__u8 kind;	/* enum series_kind */
	__u8 origin;	/* enum origin */
};

struct io_value {
	__u64 packets;	   /* as on the wire: GSO segments */
	__u64 bytes;	   /* as on the wire, with the L2 header */
	__u64 retransmits; /* TCP segments whose bytes had been seen before */
};

struct closed_value {
	__u64 fin, rst, refused, idle, evicted; /* by enum close_reason */
};

/* By enum abort_reason. ABORT_TIMEOUT and ABORT_STOPPED are cancelled here, too: only elements of
 * linkerd_requests_map tell them apart. */
struct aborted_value {
	__u64 fin, rst, idle, evicted, cancelled, refused, reset;
};

struct lost_value {
	__u64 gap, malformed, bound, pipeline, unsolicited, midstream; /* by enum lost_reason */
};

/* By enum decision. */
struct decided_value {
	__u64 http1, http2, server_first, not_http, bound, midstream, passed_over, never;
};

struct requests_value {
	__u64 http1, http2, grpc;
};

/*
 * The counters of a series; active is a gauge, and so is requests - ended. Behind a metric_key it
 * fills whole cache lines: what an inbound connection's ingress writes is not in the line that its
 * egress writes.
 */
struct metric_value {
	__u64 opened;
	__u64 active;
	__u64 tls;

	struct io_value recv; /* as the pod sees it */
	__u64 dns;	      /* connections of TCP that carry DNS */
	struct requests_value requests;
	__u64 untimed; /* responses whose duration could not be known */

	struct io_value sent;
	__u64 ended; /* requests, in whatever way */
	struct aborted_value aborted;

	struct closed_value closed;
	struct lost_value lost;

	struct decided_value decided; /* opened = decided + tls + dns, once all have ended */
	__u64 seen_ns; /* of CLOCK_MONOTONIC: its last packet, or up to a second before */
#ifdef NEXT_LAYOUT
	__u64 next;
#endif
};

/*
 * An element of linkerd_metrics_map, or of the map behind it. `check` is made of the key by
 * key_check() and written last. It is 0 in elements that are unused. A reader that sees another
 * check than the key's has read the key while it was being written.
 */
struct metric_entry {
	struct metric_key key;
	struct metric_value value;
#ifdef NEXT_LAYOUT
	__u64 pad[7];
#endif
	__u32 pad2;
	__u32 check;
};

/* Values of a request_key beside real statuses. In `status` 0 is unknown, and STATUS_OTHER is what
 * did not fit. The others are no statuses: an element of STATUS_REQUESTS counts requests that
 * began, where they are told apart by route, and one of STATUS_ABORTED requests that never got
 * their whole response, for the enum abort_reason that is in `grpc_status`. */
#define STATUS_OTHER 0xffff
#define STATUS_REQUESTS 0xfffe
#define STATUS_ABORTED 0xfffd
/* Values of grpc_status. A status with GRPC_STATUS_DERIVED is not the server's word: it is made of
 * HTTP's, where there was none. */
#define GRPC_STATUS_NONE 0xff
#define GRPC_STATUS_DERIVED 0x80

struct request_key {
	struct metric_key series;
	__u16 status;
	__u8 protocol; /* enum protocol */
	__u8 grpc_status;
	__u16 route; /* ROUTE_… */
	__u16 pad;
};

struct request_value {
	__u64 responses;
};

/* An element of linkerd_requests_map. */
struct request_entry {
	struct request_key key;
	__u32 latency;		    /* in linkerd_latency_map */
	__u32 check;		    /* as in struct metric_entry */
	struct request_value value; /* counts what the key's status says */
};

/* A route is the number of an element of linkerd_route_map, of 14 bits, or ROUTE_NONE,
 * ROUTE_PENDING, ROUTE_ROOT, ROUTE_INDEX, ROUTE_UNKNOWN or ROUTE_OTHER. */
#define ROUTE_NONE 0	     /* routes are not told apart, or the request is for no path */
#define ROUTE_PENDING 0x3ffb /* requests in flight whose answers may prove their paths */
#define ROUTE_ROOT 0x3ffc    /* kernel side only: "/", by HPACK's static table */
#define ROUTE_INDEX 0x3ffd   /* kernel side only: "/index.html", by HPACK's static table */
#define ROUTE_UNKNOWN 0x3ffe
#define ROUTE_OTHER 0x3fff /* more than --routes, too long, or proven by no answer */
#define ROUTE_MAX 0x3ff0
#define ROUTE_TEXT 128

/* An element of linkerd_route_map: the bytes of a path, filled up with NUL. */
struct route_entry {
	__u64 text[ROUTE_TEXT / 8];
};

struct histogram {
	__u64 buckets[BUCKETS]; /* not cumulative */
	__u64 sum_ns;
};

/* A status_class, which no status has: requests that never got their whole response. */
#define CLASS_ABORTED 10

struct latency_key {
	__u64 peer[2]; /* zero unless --detail full */
	__u16 port;    /* the server's */
	__u8 direction;
	__u8 protocol;	   /* enum protocol */
	__u8 status_class; /* a status / 100, or CLASS_ABORTED; 0 is unknown */
	__u8 kind;	   /* enum series_kind */
	__u16 route;	   /* ROUTE_… */
};

/* A bucket of the histogram of durations, and the bucket with these bounds of the histogram of
 * times to the first byte. They are side by side because most responses fall into both. */
struct latency_pair {
	__u64 duration;
	__u64 ttfb;
};

struct latency_value {
	struct latency_pair buckets[BUCKETS]; /* not cumulative */
	struct latency_pair sum_ns;
};

/* An element of linkerd_latency_map. */
struct latency_entry {
	struct latency_key key;
	__u32 pad;
	__u32 check; /* as in struct metric_entry */
	struct latency_value value;
};

#define HANDSHAKE_ORIGIN 4 /* bits below enum origin in handshake_key.direction_and_origin */

/* Aligned to 4 bytes, which keeps its size at 20 bytes. */
struct handshake_key {
	__u64 peer[2];
	__u16 port;
	__u8 direction_and_origin; /* enum direction, and above it enum origin */
	__u8 kind;
} __attribute__((packed, aligned(4)));

struct handshake_value {
	struct histogram duration; /* of the connection */
	struct histogram rtt;
};

/* The server that is asked by DNS. */
struct dns_key {
	__u64 server[2]; /* zero with --detail pod */
	__u8 direction;	 /* enum direction */
	__u8 kind;	 /* enum series_kind */
	__u16 pad[3];
};

#define DNS_RCODES 32 /* RFC 6895 section 2.3; the last one is for all codes above, too */

/* Queries without an answer, by why an answer is not waited for any more. */
struct dns_unanswered {
	__u64 timeout;
	__u64 retried; /* the query was sent again */
	__u64 evicted; /* the place was needed for another query */
};

struct dns_value {
	__u64 queries;
	__u64 answers[DNS_RCODES];
	struct dns_unanswered unanswered;
	__u64 unsolicited; /* answers that no query waits for */
	__u64 truncated;   /* answers with the TC bit */
	struct histogram duration;
};

/* By enum abort_reason. */
struct aborted_other {
	__u64 fin, rst, idle, evicted, cancelled, refused, reset, timeout, stopped;
};

/* What the programs count about themselves, in linkerd_counters_map. */
struct counters {
	__u64 metrics_overflow; /* series that did not fit */
	__u64 requests_overflow;
	__u64 latency_overflow;
	__u64 handshake_overflow;
	__u64 untracked;      /* new connections for which there was no slot */
	__u64 contended;      /* packets that waited in vain for another of their direction */
	__u64 truncated;      /* headers that could not be read */
	__u64 events_dropped; /* ends of requests for which linkerd_perf_map had no room */
	__u64 heads_dropped;  /* heads of requests for which linkerd_perf_map had no room */
	__u64 dns_overflow;   /* servers that did not fit */
	__u64 resumed;	      /* connections whose requests could be followed again */
	/* Requests that never got their whole response, of what did not fit. */
	struct aborted_other aborted;
};

/*
 * What linkerd_perf_map holds while somebody listens: of each request its head, as it came, and
 * when it has ended, how. A connection is told by when it was opened, and its slot; a request of
 * HTTP/2 by its stream, and one of HTTP/1 by its number in the connection.
 */
enum tap_kind {
	TAP_HEAD = 1, /* struct tap_head: a request line, or HEADERS of HTTP/2 */
	TAP_REST = 2, /* struct tap_head: what a later packet has of the head */
	TAP_END = 3,  /* struct tap_end */
};

#define TAP_DATA 256 /* bytes of a head, at most */

struct tap_head {
	__u8 kind;
	__u8 protocol; /* enum protocol; gRPC is not told from HTTP/2 */
	__u8 flags;    /* of a frame of HTTP/2, RFC 9113 section 6.2 */
	__u8 is_new;   /* 1 if it is a request's head, 0 if it is trailers */
	__u32 request;
	__u64 opened_ns;
	__u32 slot;
	__u32 inserted; /* into HPACK's dynamic table before this, RFC 7541 section 2.3.3 */
	__u32 len;	/* bytes of the line, or of the frame's payload; 0 if the line goes on */
	__u32 there;	/* bytes of these in the packet; `data` has TAP_DATA of them at most */
	__u8 data[TAP_DATA];
};

struct tap_end {
	__u8 kind;
	__u8 protocol;	/* enum protocol */
	__u8 direction; /* enum direction */
	__u8 aborted;	/* enum abort_reason plus one; 0 is answered */
	__u16 status;	/* 0 is unknown */
	__u8 grpc_status;
	__u8 pad;
	__u64 opened_ns;
	__u32 slot;
	__u32 request; /* the first request; 0 for HTTP/2 if it is not known which one */
	__u8 src[16];  /* the client: as in struct metric_key */
	__u8 dst[16];
	__u16 src_port;
	__u16 dst_port;
	__u16 route; /* ROUTE_… */
	__u16 pad2;
	__u32 count; /* requests of one connection that ended at once, in one way */
	__u32 pad3;
	__u64 end_ns;	   /* CLOCK_MONOTONIC */
	__u64 duration_ns; /* 0 is unknown */
	__u64 ttfb_ns;	   /* 0 is unknown */
};

enum detail {
	DETAIL_POD = 0,
	DETAIL_SERVICE = 1,
	DETAIL_FULL = 2,
};

/*
 * Known values (PROOF of src/abi.rs) in every form that exported maps have: integers of each size,
 * the least, the greatest, and ones whose digits are others in another base; an array of integers,
 * and one of structs. Who reads maps as text finds these values in their places, or the kernel
 * writes another form of text than the reader knows.
 */
struct proof {
	__u8 byte;
	__u8 most_byte;
	__u16 half;
	__u32 word;
	__u64 zero;
	__u64 most;
	__u64 words[2];
	struct latency_pair pairs[2];
	__u16 most_half;
	__u16 zero_half;
	__u32 most_word;
};

/*
 * What metricd must know to read the maps of an epoch; written by metricd-init into
 * linkerd_info_map. Values of exported maps, and this struct, grow at their end only, so that a
 * reader of another version finds what it knows.
 */
struct info {
	__u32 layout; /* LAYOUT_VERSION */
	__u32 state;  /* STATE_VERSION */
	/* Bytes of a value of each map. */
	__u32 info_size;
	__u32 metrics_size;
	__u32 requests_size;
	__u32 latency_size;
	__u32 handshake_size;
	__u32 counters_size;
	__u32 detail; /* enum detail */
	__u32 ipv6;   /* 1 if IPv6 packets are looked into */
	__u32 metrics_capacity;
	__u32 requests_capacity;
	__u32 latency_capacity;
	__u32 handshake_capacity;
	__u32 connections_capacity;
	__u32 http2_capacity;
	__u32 bounds;		  /* how many of bounds_ns are set */
	__u32 routes;		  /* told apart at most; 0 if none are */
	__u64 bounds_ns[BUCKETS]; /* upper, inclusive; the rest UINT64_MAX */
	__u64 version[4];	  /* of metricd-init: text, NUL-terminated */
	__u64 object;		  /* a hash of the programs; 0 until they run */
	__u32 perf_buffer_size;	  /* bytes of linkerd_perf_map, as asked for */
	__u32 dns_size;
	__u32 dns_capacity;
	__u32 proxy_user; /* the uid of the pod's proxy, plus one; 0 is none */
	struct proof proof;
	__u64 dns_ports; /* of servers of DNS: four of 16 bits, 0 is none */
};

/* What metricd-init has attached, in linkerd_attachment_map. */
struct attachment_key {
	__u32 ifindex;
	__u32 egress;
};

struct attachment_value {
	__u64 netns;	  /* inode of the network namespace in which the index is one */
	__u32 priority;	  /* of the clsact filter; 0 is TCX */
	__u32 made_qdisc; /* 1 if metricd-init has made the clsact qdisc */
};

_Static_assert(sizeof(struct metric_key) == 40, "metric_key");
#ifndef NEXT_LAYOUT
_Static_assert(sizeof(struct metric_value) == 336, "metric_value");
_Static_assert(sizeof(struct metric_entry) == 384, "metric_entry");
#endif
_Static_assert(sizeof(struct request_key) == 48, "request_key");
_Static_assert(sizeof(struct route_entry) == 128, "route_entry");
_Static_assert(sizeof(struct request_entry) == 64, "request_entry");
_Static_assert(sizeof(struct latency_key) == 24, "latency_key");
_Static_assert(sizeof(struct latency_value) == 528, "latency_value");
_Static_assert(sizeof(struct latency_entry) == 560, "latency_entry");
_Static_assert(sizeof(struct handshake_key) == 20, "handshake_key");
_Static_assert(sizeof(struct handshake_value) == 528, "handshake_value");
_Static_assert(sizeof(struct dns_key) == 24, "dns_key");
_Static_assert(sizeof(struct dns_value) == 568, "dns_value");
_Static_assert(sizeof(struct counters) == 160, "counters");
_Static_assert(sizeof(struct proof) == 80, "proof");
_Static_assert(sizeof(struct info) == 472, "info");
_Static_assert(sizeof(struct tap_head) == 32 + TAP_DATA, "tap_head");
_Static_assert(sizeof(struct tap_end) == 96, "tap_end");

#endif
