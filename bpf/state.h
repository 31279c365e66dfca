/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs remember of a connection, and of the packet at hand. Private to the kernel
 * side: metricd never reads it.
 *
 * The rule for concurrency. The two directions of a connection run on different CPUs, and with
 * packet steering even one direction can. A spin lock costs as much as two hash lookups, so it is
 * kept for what is rare:
 *  1. Slots live in an array, so their memory is never anything but a slot. Each time a slot is
 *     given up its generation goes up. Who comes by an older reference sees that, and words that
 *     are written without a lock carry the generation, so that they count for nothing in the hands
 *     of the next connection.
 *  2. A role's side (but for `busy`), and what is said to be the role's in struct conn, belong to
 * the CPU that holds the side's busy: it is added to atomically, and who then reads anything but 1
 *     takes it back.
 *  3. All else is written under the slot's lock: handshakes, FIN, RST, what is out of order.
 *  4. A slot that is busy is not closed and not given away. A close that comes meanwhile is left in
 *     `closing`, and whoever stops being busy carries it out.
 *  5. Counters are only ever added to, atomically.
 * Rules 2 and 4 need a store to be seen before a later load, which an atomic add does on x86-64.
 * Elsewhere busy is taken and given back under the lock (config.ordered).
 *
 * The rule for layout. A cache line that two CPUs write in turn costs more than all the arithmetic
 * of a packet, so each direction has lines of its own, what both read is in a line that hardly ever
 * changes, and what passes from one to the other is one line. A CPU fetches a line's neighbours,
 * too: between lines that two CPUs write, and behind the one that both read, is one that hardly
 * anybody needs.
 */
#ifndef METRICD_STATE_H
#define METRICD_STATE_H

#include "common.h"

/* Local is the pod's end; on the loopback, where both are, the end with the lower port. */
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
			__u32 ifindex : 24; /* a connection seen on two interfaces is two */
			__u32 proto : 8;
		};
	};
};

/* Written as they are read, in words: the load of a word waits for stores of its parts. */
static __always_inline __u32 conn_ports(__u32 local_port, __u32 remote_port)
{
	return local_port | remote_port << 16;
}

static __always_inline __u32 conn_rest(__u32 ifindex, __u32 proto)
{
	return (ifindex & 0xffffff) | proto << 24;
}

enum role {
	CLIENT = 0,
	SERVER = 1,
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
#define CONN_TWICE (1 << 2)	   /* SYN or SYN-ACK was sent again: no RTT sample */
#define CONN_ADOPTED (1 << 3)	   /* older than the programs */
#define CONN_ANSWERS_LOST (1 << 4) /* the server's side can't be followed: answers are unknown */

#define SEEN_SYN (1 << 0)
#define SEEN_SYNACK (1 << 1)
#define SEEN_ACK (1 << 2) /* the handshake has ended */
#define SEEN_FIN(role) (1 << (3 + (role)))
#define SEEN_FIN_ACKED(role) (1 << (5 + (role)))
#define SEEN_ANY_FIN (SEEN_FIN(CLIENT) | SEEN_FIN(SERVER))
#define SEEN_BOTH_FINS_ACKED (SEEN_FIN_ACKED(CLIENT) | SEEN_FIN_ACKED(SERVER))

/* What a connection carries. It is followed, unless it is L7_OPAQUE: then it is L4 only. */
enum l7 {
	L7_UNDECIDED = 0,
	L7_HTTP1 = 1,
	L7_HTTP2 = 2,
	L7_OPAQUE = 3,
};

enum phase {
	PHASE_START = 0, /* between messages; all of HTTP/2 that must be looked at */
	HTTP1_FIRST = 1, /* in the start line */
	HTTP1_HEAD = 2,
	HTTP1_TRAILER = 3,
	HTTP1_CHUNK_SIZE = 4,
	HTTP1_CHUNK_EXT = 5, /* behind the digits of a chunk size */
	PHASE_LOST = 6,
	HTTP1_END = 7, /* the message is whole: http1_consume leaves it for START at once */
	/* From here on the next `left` bytes need not be seen to be followed. */
	HTTP1_BODY = 8,
	HTTP1_CHUNK_DATA = 9, /* with the CRLF behind it */
	HTTP1_CLOSE = 10,     /* to the end of the connection */
	HTTP2_SKIP = 11,      /* of a frame, or a string in one; then START */
};

/* What is known of a line of which only a part has come. */
enum http1_line {
	LINE_NEW = 0,	 /* all there is of it is in carry */
	LINE_FIRST = 1,	 /* a start line; its last bytes are in carry */
	LINE_CODING = 2, /* transfer-encoding; likewise */
	LINE_SKIP = 3,	 /* a header that does not matter */
};

/* Bytes that are kept of what a packet cuts. */
#define CARRY 32

/* What of one direction's parser is the same for all protocols, and HTTP/1's. */
struct parser {
	__u32 next;	/* sequence number of the first byte not yet followed */
	__u16 status;	/* of the response at hand */
	__u8 phase;	/* enum phase */
	__u8 line;	/* enum http1_line */
	__u64 left;	/* bytes of the body, or the chunk, still to come */
	__u64 start_ns; /* first byte of the message */
	__u64 length;	/* content-length; digits of a chunk size */
	__u8 carry_len;
	__u8 framing; /* FRAMING_… of the message at hand */
	__u8 method;  /* enum method: of the request at hand, or that the response answers */
	__u8 pad;
	__u16 first_len;	  /* bytes of a start line that did not fit into carry */
	__u16 early;		  /* in linkerd_early_map, plus one; 0 is none */
	__u64 request_ns;	  /* of the request that the response answers; 0 is unknown */
	__u32 ahead_lo, ahead_hi; /* hull of what came too early, if they differ */
	__u8 carry[CARRY];
};

/* What one direction writes: two lines. */
struct side {
	union tagged_seq end;  /* highest sequence number seen, plus one */
	union tagged_seq skip; /* payload before it need not be looked at */
	__u32 busy;
	__u32 response; /* the server's: of linkerd_requests_map, where it last added; likewise */
	struct parser parser;
	__u32 seen_jiffies; /* when it last sent, the lower half */
	union {
		struct {		/* the client's */
			__u32 requests; /* so far */
			__u8 run_head;	/* the next run's place, of all so far */
			__u8 tail_seen; /* run_tail when last looked at: no line changes hands for
					   it */
			__u16 pad;
		};
		struct {	       /* the server's */
			__u32 begun;   /* answers, so far */
			__u8 run_tail; /* where the last request was found that an answer has begun
					  to */
			__u8 pad2;
			__u16 route; /* of the request that the answer at hand is to */
		};
	};
	__u32 answered; /* the server's */
};

/* Which requests a run holds, to be read at once: it tells by itself if it holds the one that is
 * looked for. */
union run_part {
	__u64 word;
	struct {
		__u32 first;
		__u32 count : 16;
		__u32 method : 2;
		__u32 route : 14;
	};
};

/*
 * Outstanding requests of one method and route that began in one packet: written by the client's
 * side, read by the server's. Nothing else passes from one to the other.
 */
struct run {
	__u64 start_ns; /* 0 is unknown */
	union run_part part;
};

/* What the next bytes of HTTP/2 are. */
enum http2_token {
	TOKEN_FRAME = 0,  /* a frame's header */
	TOKEN_PREFIX = 1, /* what precedes a block: pad length, priority, promised stream */
	TOKEN_BLOCK = 2,  /* a part of a header block */
	TOKEN_RST = 3,	  /* the payload of RST_STREAM */
	TOKEN_GOAWAY = 4,
	TOKEN_PREFACE = 5,
};

/* What the next bytes of a header block are. */
enum hpack_token {
	FIELD_START = 0,
	FIELD_NAME = 1,	 /* a string */
	FIELD_VALUE = 2, /* a string */
	FIELD_SKIP = 3,	 /* the rest of one */
};

/* Inserted header fields whose meaning is remembered: the default dynamic table of 4,096 bytes
 * holds no more. A power of two. */
#define HPACK_ENTRIES 128

/* Places for streams in an element. A power of two. */
#define HTTP2_STREAMS 128

/* A request and its answer. The client's side writes the first line, the server's the second. */
struct http2_stream {
	__u32 stream;  /* whose place it is; 0 is nobody's */
	__u8 protocol; /* enum protocol: PROTOCOL_HTTP1 began as an upgrade */
	__u8 pad;
	__u16 route;
	__u64 start_ns; /* 0 is unknown */

	__u32 answer; /* the stream that the rest is about; STREAM_ENDED */
	__u16 status; /* 0 is unknown */
	__u8 grpc_status;
	__u8 pad2;
	__u64 first_ns; /* the answer's; 0 if it has not begun */
};

#define STREAM_ENDED (1U << 31)
#define STREAM_ID (STREAM_ENDED - 1)

#define FLAG_PROMISE 0x80 /* of http2_side.flags, and not on the wire: a PUSH_PROMISE */

/* What a block has told. */
union hpack_result {
	__u32 word;
	struct {
		__u16 status;
		__u8 grpc_status;
		__u8 found; /* FOUND_… of hpack.h */
	};
};

/* A short block seen before. While nothing is inserted, the same bytes mean the same. */
struct hpack_memo {
	__u64 bytes[2]; /* filled up with 0 */
	__u32 len;	/* 0 is none */
	__u32 inserted;
	union hpack_result result;
	__u16 route;
	__u16 pad;
};

#define HPACK_MEMOS 4 /* by their length; a power of two */

/* One direction of a connection. */
struct http2_side {
	/* The frame at hand. */
	__u32 stream;
	__u8 flags;
	__u8 token;    /* enum http2_token */
	__u8 in_block; /* a header block goes on in the next frame */
	__u8 ending;   /* its end is the stream's */
	__u32 left;    /* of its header block fragment, GOAWAY or prefix */
	__u32 pad;     /* behind that */
	/* The header block at hand. */
	__u64 start_ns; /* the first byte of its first frame */
	__u8 field;	/* enum hpack_token */
	__u8 after;	/* FIELD_SKIP */
	__u8 insert;	/* the field goes into the dynamic table */
	__u8 carry_len;
	__u16 name; /* the field's, as a code of hpack.h */
	__u16 route;
	__u32 string_left;
	union hpack_result result; /* as far as it is read */
	__u8 carry[CARRY];	   /* of a field that goes on in the next frame */
	/* The dynamic table, as far as it matters. */
	__u32 inserted;
	__u32 last; /* the highest stream so far */
	struct hpack_memo memos[HPACK_MEMOS];
	__u16 codes[HPACK_ENTRIES];
};

/* Elements that a connection may have: as many streams whose places are the same may be open. */
#define HTTP2_PAGES 8

/* A connection's HTTP/2, by conn.http2; of further elements only the streams are used. */
struct http2 {
	struct http2_side side[2];
	struct http2_stream streams[HTTP2_STREAMS]; /* by the stream's number */
	__u32 next;				    /* the next element, plus one; the client's */
	__u32 pad;
	__u64 pad2[3];
};

/* Packets' worth of outstanding pipelined requests whose start is remembered. A power of two. */
#define RUNS 8

/* Bytes of one direction that came before others that they follow, until those come. */
#define EARLY_BYTES (1 << 17) /* from the first that is missing */
#define EARLY_RANGES 8
#define EARLY_PIECE 2048 /* of them in one element of linkerd_early_bytes_map */
#define EARLY_PIECES (EARLY_BYTES / EARLY_PIECE)
#define EARLY_LOAD 1024 /* taken from the packet at once */

struct early {
	struct {
		__u32 lo, hi; /* sequence numbers; none if they are the same */
	} ranges[EARLY_RANGES];
};

/* As many in a row, from a sequence number on that is a multiple of EARLY_PIECE. */
struct early_bytes {
	__u8 data[EARLY_PIECE + EARLY_LOAD]; /* what is behind the piece only the verifier needs */
};

/* What tells bytes that are new from bytes that were passed over or are sent again. */
struct stream {
	__u32 hole_lo, hole_hi; /* hull of what was passed over, if they differ */
	__u32 fin_end;		/* of the FIN, if seen */
};

struct conn {
	/* What every packet reads and few write. */
	struct conn_key key;
	union brief brief;
	__u32 series;  /* in linkerd_metrics_map, with its epoch: see series.h */
	__u32 closing; /* enum close_reason plus one */
	__u64 opened_ns;
	/* What its beginning and end need. */
	struct bpf_spin_lock lock;
	__u32 http2;	    /* in linkerd_http2_map; NO_HTTP2 */
	__u64 handshake_ns; /* the SYN (outbound) or SYN-ACK (inbound) */
	struct stream stream[2];
	__u64 pad[3];
	struct side client;
	struct run runs[RUNS]; /* a ring; the client's */
	__u64 pad2[8];
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
_Static_assert(sizeof(struct http2) == 5056, "http2");

/* A query of DNS that is waited for. */
struct dns_query {
	struct conn_key key;
	__u16 id;
	__u8 direction; /* enum direction; 0 if the place is free */
	__u8 pad;
	__u32 pad2;
	__u64 asked_ns; /* when it was first asked… */
	__u64 sent_ns;	/* …and when last */
};

#define DNS_WAYS 8

/* Those with the same hash. */
struct dns_set {
	struct bpf_spin_lock lock;
	__u32 pad;
	struct dns_query ways[DNS_WAYS];
};

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

/* Answers of the packet that add to the same counters: they are added at once (stream.h). */
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

/* Where the tokens of HTTP/2 are looked for: from `at` to `total` of the buffer. */
struct window {
	__u32 at;
	__u32 total;
	__u32 carry; /* of which carried over */
	__u32 done;  /* DONE_…: what the last token has brought to an end */
	__u32 size;  /* of http2_usual's next one */
};

#define DONE_BLOCK (1 << 0)  /* a header block */
#define DONE_STREAM (1 << 1) /* the server's side of the stream at hand */

struct packet {
	struct conn_key key;
	struct delta delta;
	__u64 now; /* ktime, 0 until somebody asked for it */
	__u64 wire_bytes;
	__u32 jiffies; /* their lower half */
	__u32 segments;
	__u32 slot;
	__u32 generation; /* of the slot */
	__u32 payload;	  /* offset of the transport's payload */
	__u32 end;	  /* offset of its end */
	__u32 pos;	  /* how far the parser is */
	__u32 early;	  /* in linkerd_early_map, plus one, if the parser is to read there… */
	__u32 early_seq;  /* …from where on */
	__u32 seq, ack;
	__u8 tcp_flags;
	__u8 to_local; /* towards the local end */
	__u8 egress;
	__u8 role; /* the sender's */
	__u8 kind; /* enum series_kind */
	__u8 fragment;
	__u8 sent;	    /* as the pod sees it */
	__u8 flags;	    /* CONN_… */
	__u32 series;	    /* in linkerd_metrics_map */
	__u32 unknown;	    /* requests whose answers will be unknown */
	__u32 unknown_grpc; /* likewise, gRPC's */
	__u32 run_count;    /* requests of this packet not yet in conn.runs */
	__u16 run_method;
	__u16 run_route;
	__u64 run_start_ns;
	struct answers answers;
	__u8 headers[40]; /* an IPv6 header, the longest that is read at once */
};

/* One block of a head, behind what was carried over. Its size is a power of two for the masks. */
#define BLOCK 512
#define BUFFER 1024

/*
 * Where the search for lines is in the block, and what it has found. In memory, and not in
 * registers, so that the verifier does not tell apart the thousands of ways to get to a place.
 */
struct scan {
	__u32 word;	/* offset of the eight bytes at hand */
	__u32 at;	/* where the line at hand begins */
	__u32 total;	/* bytes in the buffer */
	__u32 carry;	/* of which carried over */
	__u64 feeds;	/* line feeds in the word, not yet looked at */
	__u32 first_at; /* the start line; a length of 0 is none, likewise below */
	__u32 first_len;
	__u32 length_at; /* the content-length line */
	__u32 length_len;
	__u32 coding_end; /* of the transfer-encoding line; 0 is none */
	__u32 found;	  /* FOUND_… */
	__u32 line;	  /* parser.line, until that line has ended */
	__u32 upgrade_at; /* the upgrade line */
	__u32 upgrade_len;
	__u32 pad;
	__u64 number; /* a decimal number as far as it is read */
	__u32 digits; /* of it, without leading zeros but the first */
	__u32 ended;  /* white space has come behind it */
};

/* What following a segment tells beside the packet's delta. */
struct tcp_result {
	__u64 rtt_ns;	 /* 0 is no sample */
	__u64 opened_ns; /* of a connection that has ended */
	bool known;	 /* the slot is still this connection's */
	bool turned;	 /* the next connection of the slot goes the other way */
	bool parse;	 /* the payload is the caller's to follow: busy is held */
	bool contended;	 /* another CPU holds busy: the payload has to wait */
	/* To be given back, plus one. */
	__u32 http2;
	__u16 early[2];
};

/* A path, on its way to becoming a route. */
struct route {
	__u32 at, end; /* of the path in the buffer, in bits */
	__u32 len;     /* of the text */
	__u32 segment; /* where in it the segment at hand begins, of which… */
	__u8 digits, letters, dashes, others; /* …has been seen */
	__u8 huffman;
	__u8 too_long;
	__u16 pad;
	char text[2 * ROUTE_TEXT + 8];
};

/* A message of DNS. */
struct dns {
	__u8 header[12];
	__u32 way;		/* where the query is, or is to be */
	__u64 oldest_ns;	/* of those seen so far */
	struct dns_query query; /* what it is, or answers */
	struct dns_query old;	/* what was in its place */
	struct dns_key key;
	__u32 sweep; /* the set that is looked at next for what nobody answers */
	__u32 pad;
};

struct scratch {
	struct packet packet;
	struct tcp_result result;
	struct scan scan;
	struct window window;
	struct hpack_memo block; /* the block at hand, if it is short */
	struct route route;
	__u8 buffer[BUFFER + 48];
	struct metric_key series;      /* where a series is looked for by its key */
	struct request_key response;   /* likewise responses */
	__u64 clock_jiffies, clock_ns; /* a moment on both clocks, for conn.h */
	__u32 silent;		       /* jiffies: conn_sweep's second result */
	__u32 cursor;		       /* where conn.h looks next for idle connections */
	struct tap_head tap_head;      /* on their way to linkerd_perf_map */
	struct tap_end tap_end;
	struct dns dns;
} __attribute__((aligned(128))); /* neither a line nor its neighbour is another CPU's */

#endif
