/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is remembered of a connection, and of the packet at hand. metricd never reads it.
 *
 * Who may write what, and when, is in CONCURRENCY.md.
 *
 * The rule for layout. A cache line that two CPUs write in turn costs more than all the arithmetic
 * of a packet. So each direction has lines of its own; what both read is in a line that hardly
 * ever changes; and what passes from one to the other is one line. A CPU fetches the neighbour of
 * a line, too. So between two lines that two CPUs write, and behind the one that both read, there
 * is a line that hardly anybody needs.
 */
#ifndef METRICD_NET_STATE_H
#define METRICD_NET_STATE_H

#include "count/state.h"
#include "http/state.h"

/* Local is the pod's end; on the loopback, where both ends are the pod's, the end with the lower
 * port. */
struct conn_key {
	__u64 local[2];
	__u64 remote[2];
	union {
		__u32 ports;
		struct {
			__u16 local_port; /* host order; 0 where there are no ports */
			__u16 remote_port;
		};
	};
	union {
		__u32 rest;
		struct {
			/* 1 on the loopback. Other interfaces are not told apart: a connection may
			 * come in by one and go out by another. */
			__u32 loopback : 24;
			__u32 proto : 8;
		};
	};
};

/* The word `ports` of a conn_key. It is written as it is read, as a word: the load of a word waits
 * for stores of its parts. */
static __always_inline __u32 conn_ports(__u32 local_port, __u32 remote_port)
{
	return local_port | remote_port << 16;
}

static __always_inline __u32 conn_rest(bool loopback, __u32 proto)
{
	return loopback | proto << 24;
}

/* Are both ends the pod's, as they are on the loopback? */
static __always_inline bool conn_is_loopback(const struct conn_key *k)
{
	return k->loopback;
}

enum role {
	ROLE_CLIENT = 0,
	ROLE_SERVER = 1,
};

enum slot_state {
	SLOT_FREE = 0, /* in linkerd_connection_free_map */
	SLOT_LIVE = 1,
	SLOT_CLOSED = 2, /* accounted for; kept so that late packets find their series */
	SLOT_OWNED = 3,	 /* taken out by one CPU, on its way to live or to free */
};

/* Where a connection is: what linkerd_connection_index_map has of it. */
union conn_ref {
	__u64 word;
	struct {
		__u32 slot;
		__u32 generation;
	};
};

/* What a packet must know of its connection, to be read at once. */
union brief {
	__u64 word;
	struct {
		__u32 generation;
		__u8 state; /* enum slot_state */
		__u8 flags; /* CONN_… */
		__u8 seen;  /* SEEN_… */
		__u8 l7;    /* enum l7 */
	};
};

/* A sequence number that is only good in one generation. */
union tagged_seq {
	__u64 word;
	struct {
		__u32 generation;
		__u32 seq;
	};
};

#define CONN_CLIENT_LOCAL (1 << 0)
#define CONN_UNSETTLED (1 << 1)	   /* it has not opened yet, and has no series: net/held.h */
#define CONN_TWICE (1 << 2)	   /* SYN or SYN-ACK was sent again: no RTT sample */
#define CONN_ADOPTED (1 << 3)	   /* older than the programs */
#define CONN_ANSWERS_LOST (1 << 4) /* the server's side can't be followed: answers are unknown */
#define CONN_CLASS (3 << 5)	   /* CLASS_…: mesh/class.h */
#define CONN_TRANSLATED (1 << 7)   /* the client's packets have another key: conn.as_sent */

/* What is known of a connection's ends: conn.ends. */
#define END_KNOWN(role) (1 << (role))
#define END_PROXY(role) (1 << (2 + (role))) /* it is known, and the proxy's */
#define END_REDIRECTED (1 << 4)		    /* redirection leads the connection to the proxy */
#define END_TOLD (1 << 5)		    /* in a pod with a proxy: nothing more will be known */
#define END_SPOKE(role) (1 << (6 + (role))) /* the role has sent something but a reset */
#define END_LATE (1 << 8)		    /* bytes have passed that should have been followed */
#define END_PIPELINES (1 << 9) /* its client sends requests before the answers to others */
#define END_BOTH_SPOKE (END_SPOKE(ROLE_CLIENT) | END_SPOKE(ROLE_SERVER))

#define SEEN_SYN (1 << 0)
#define SEEN_SYNACK (1 << 1)
#define SEEN_ACK (1 << 2) /* the handshake has ended */
#define SEEN_FIN(role) (1 << (3 + (role)))
#define SEEN_FIN_ACKED(role) (1 << (5 + (role)))
#define SEEN_BROKEN (1 << 7) /* a direction is lost, or bytes of it are missing */
#define SEEN_ANY_FIN (SEEN_FIN(ROLE_CLIENT) | SEEN_FIN(ROLE_SERVER))
#define SEEN_BOTH_FINS_ACKED (SEEN_FIN_ACKED(ROLE_CLIENT) | SEEN_FIN_ACKED(ROLE_SERVER))

/* What one direction writes: two lines. */
struct side {
	union tagged_seq end;  /* highest sequence number seen, plus one */
	union tagged_seq skip; /* payload before this need not be looked at */
	__u32 busy;
	__u32 response; /* the server's: last element of linkerd_requests_map, with its epoch */
	struct parser parser;
	__u32 seen_jiffies; /* when this side last sent: the lower half of jiffies */
	union {
		struct {		/* the client's */
			__u32 requests; /* so far */
			__u8 run_head;	/* runs so far: the lower bits are the next one's place */
			__u8 tail_seen; /* run_tail when last looked at: no line changes hands for
					   it */
			__u16 pad;
		};
		struct {	       /* the server's */
			__u32 begun;   /* answers, so far; http1_expect looks at it, too */
			__u8 run_tail; /* where the last request was found that an answer has begun
					  to */
			__u8 pad2;
			__u16 pad3;
		};
	};
	__u32 answered; /* the server's */
};

/* Bytes of one direction that came too early are kept until the bytes before them come. */
#define EARLY_BYTES (1 << 17) /* that are kept at most, from the first that is missing */
#define EARLY_RANGES 8
#define EARLY_PIECE 2048 /* bytes in one element of linkerd_early_bytes_map */
#define EARLY_PIECES (EARLY_BYTES / EARLY_PIECE)
#define EARLY_LOAD 1024 /* bytes taken from the packet at once */

struct early {
	struct {
		__u32 lo, hi; /* sequence numbers; no range if they are equal */
	} ranges[EARLY_RANGES];
};

/* EARLY_PIECE bytes in a row, from a sequence number on that is a multiple of EARLY_PIECE. */
struct early_bytes {
	__u8 data[EARLY_PIECE + EARLY_LOAD]; /* only the verifier needs what is behind the piece */
};

/* What tells bytes that are new from bytes that were passed over or are sent again. */
struct stream {
	__u32 hole_lo, hole_hi; /* hull of what was passed over, if they differ */
	__u32 fin_end;		/* sequence number behind the FIN, if one was seen */
};

/* What a side has sent while the connection is unsettled. */
struct held {
	__u32 packets;
	__u32 bytes;
};

struct conn {
	/* What every packet reads and few write. */
	struct conn_key key;
	union brief brief;
	__u32 series;  /* in linkerd_metrics_map, with its epoch: see count/series.h */
	__u16 closing; /* enum close_reason plus one */
	__u16 ends;    /* END_… */
	__u64 opened_ns;
	/* What the beginning and the end of the connection need. */
	struct bpf_spin_lock lock;
	__u32 http2;	    /* element of linkerd_http2_map, or NO_HTTP2 */
	__u64 handshake_ns; /* when the SYN-ACK was seen, until the RTT takes its place */
	struct stream stream[2];
	struct held held[2]; /* by role */
	__u32 isn;	     /* sequence number of the packet that has opened the connection */
	__u32 acked;	     /* while SEEN_BROKEN: up to where the server has the client's bytes */
	struct side client;
	struct run runs[RUNS];	 /* a ring; the client's */
	struct conn_key as_sent; /* the key of the client's packets, if CONN_TRANSLATED */
	struct conn_routes routes;
	struct side server;
	/* An odd number of lines, or slots would share cache sets. */
};

#define SIDES_APART 320

/* The side of a role, which the verifier must know to be 0 or 1. */
static __always_inline struct side *conn_side(struct conn *c, __u32 role)
{
	return (struct side *)((char *)&c->client + role * SIDES_APART);
}

_Static_assert(sizeof(struct side) == 128, "side");
_Static_assert(sizeof(struct conn) == 576, "conn");
_Static_assert(__builtin_offsetof(struct conn, server) - __builtin_offsetof(struct conn, client) ==
		   SIDES_APART,
	       "conn");
_Static_assert(sizeof(struct http2) == 5568, "http2");

/* What following a segment tells beside the packet's delta. */
struct tcp_result {
	__u64 rtt_ns;	 /* 0 is no sample */
	__u64 opened_ns; /* of a connection that has ended */
	bool known;	 /* the slot is still this connection's */
	bool holds;	 /* the packet is held, as its connection has no series yet */
	bool held;	 /* what was held is in the scratch, for the connection's series */
	bool parse;	 /* the payload is the caller's to follow: busy is held */
	bool contended;	 /* another CPU holds busy: the payload has to wait */
	/* If `held`: the connection's, as they were under the lock. */
	__u8 l7;
	__u16 ends;
	/* Elements of linkerd_http2_map and linkerd_early_map to be given back, plus one. */
	__u32 http2;
	__u16 early[2];
};

/* Requests without an answer of a connection that has ended, as they were under the lock: see
 * count/aborted.h. */
struct aborted {
	struct run runs[RUNS];
	__u16 high[RUNS]; /* conn_routes.high */
	__u32 count;	  /* of requests */
	__u32 first;	  /* the first one's number among the connection's requests */
	__u32 tail, head; /* of the runs */
	__u32 http2;	  /* element of linkerd_http2_map plus one */
	__u32 series;	  /* element of linkerd_metrics_map */
	__u32 reason;	  /* enum abort_reason */
	__u32 protocol;	  /* of requests of which nothing is known */
};

struct packet {
	struct conn_key key;
	struct delta delta;
	__u64 now; /* ktime, 0 until somebody asked for it */
	__u64 wire_bytes;
	__u32 jiffies; /* lower half */
	__u32 still;   /* clock_tick: jiffies since the last tick, if the packet begins one */
	__u32 segments;
	__u32 slot;
	__u32 generation; /* of the slot */
	__u32 payload;	  /* offset of the transport's payload */
	__u32 end;	  /* offset of its end */
	__u32 pos;	  /* how far the parser is */
	__u32 early;	  /* element of linkerd_early_map to be read, plus one; 0 is none */
	__u32 early_seq;  /* sequence number of position 0, if `early` is set */
	__u32 rounds;	  /* of PARSER_SOME steps, that the packet may still take */
	__u32 seq, ack;
	__u8 tcp_flags;
	__u8 to_local; /* towards the local end */
	__u8 egress;
	__u8 role; /* the sender's */
	__u8 kind; /* enum series_kind */
	__u8 fragment;
	__u8 sent;	    /* 1 if the pod has sent it */
	__u8 flags;	    /* CONN_… */
	__u8 ends;	    /* END_…, of the connection that this packet opens */
	__u8 far;	    /* bytes before the network header, where it was read by its offset */
	__u32 route;	    /* of the request at hand: ROUTE_…, or a candidate */
	__u32 series;	    /* in linkerd_metrics_map */
	__u32 unknown;	    /* requests, but gRPC's, whose answers will be unknown */
	__u32 unknown_grpc; /* requests of gRPC whose answers will be unknown */
	__u32 run_count;    /* requests of this packet not yet in conn.runs */
	__u32 fragment_id;  /* of the datagram that the packet is a fragment of */
	__u32 run_method;
	__u32 run_route;
	__u32 pending; /* word of conn_pending: requests whose paths nothing will prove any more */
	__u64 run_start_ns;
	struct answers answers;
	__u8 headers[40]; /* an IPv6 header, the longest that is read at once */
};

#endif
