/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is remembered of the HTTP on a connection, and of the bytes at hand. */
#ifndef METRICD_HTTP_STATE_H
#define METRICD_HTTP_STATE_H

#include "base.h"

/* What a connection carries. It is followed, unless it is L7_OPAQUE: then it is L4 only. */
enum l7 {
	L7_UNDECIDED = 0,
	L7_HTTP1 = 1,
	L7_HTTP2 = 2,
	L7_DNS = 3,
	L7_OPAQUE = 4,
};

enum phase {
	PHASE_START = 0, /* between messages; all of HTTP/2 and DNS that must be looked at */
	HTTP1_FIRST = 1, /* in the start line */
	HTTP1_HEAD = 2,
	HTTP1_TRAILER = 3,
	HTTP1_CHUNK_SIZE = 4,
	HTTP1_CHUNK_EXT = 5, /* behind the digits of a chunk size */
	HTTP1_PROXY = 6,     /* in a line of the PROXY protocol */
	HTTP1_EXPECT = 7,    /* behind a head with Expect: a body, or the next request */
	HTTP1_UNASKED = 8,   /* behind a response that no request has asked for */
	PHASE_LOST = 9,
	HTTP1_END = 10, /* the message is whole: http1_consume leaves it for START at once */
	/* From here on the next `left` bytes need not be seen to be followed. */
	HTTP1_BODY = 11,
	HTTP1_CHUNK_DATA = 12, /* with the CRLF behind it */
	HTTP1_CLOSE = 13,      /* to the end of the connection */
	HTTP2_SKIP = 14,       /* bytes of a frame, of a string in one, or of a message of DNS;
				  then PHASE_START */
};

/* What is known of a line of which only a part has come. */
enum http1_line {
	HTTP1_LINE_NEW = 0,    /* all there is of it is in carry */
	HTTP1_LINE_FIRST = 1,  /* a start line; its last bytes are in carry */
	HTTP1_LINE_CODING = 2, /* transfer-encoding; its last bytes are in carry */
	HTTP1_LINE_SKIP = 3,   /* a header that does not matter */
};

/* Bytes that are kept of what a packet cuts. */
#define CARRY 32

/* One direction's parser: the state that all protocols share, and that of HTTP/1. */
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

#define ROUTE_BITS 14		   /* of the number of a route */
#define ROUTE_CANDIDATE (1U << 28) /* from here on: paths that no answer has proven yet */

/* Which requests a run holds, to be read at once: the word tells by itself if the run holds the
 * request that is looked for. */
union run_part {
	__u64 word;
	struct {
		__u32 first;
		__u32 count : 16;
		__u32 method : 2;
		__u32 route : ROUTE_BITS;
	};
};

/* Packets' worth of outstanding pipelined requests whose start is remembered. A power of two. */
#define RUNS 8

/*
 * Outstanding requests of one method and route that began in one packet: written by the client's
 * side, read by the server's.
 */
struct run {
	__u64 start_ns; /* 0 is unknown */
	union run_part part;
};

/*
 * What a connection keeps of routes, only with --routes. A route in here has 29 bits: it may also
 * be that of a path that no answer has proven yet, see http/route.h.
 */
struct conn_routes {
	__u16 high[RUNS]; /* the upper bits of a run's route; the client's */
	/* Requests so far that were pending, gRPC's in [1], by their lower bits; the client's. */
	__u16 pending[2];
	__u16 settled[2]; /* those of them that are not pending any more; the server's */
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
	__u32 stream; /* the stream whose place this is; 0 if it is nobody's */
	__u32 route : 29;
	__u32 protocol : 3; /* enum protocol: PROTOCOL_HTTP1 began as an upgrade */
	__u64 start_ns;	    /* 0 is unknown */

	__u32 answer; /* the stream that the server's half is about, with STREAM_ENDED at its end */
	__u16 status; /* 0 is unknown */
	__u8 grpc_status;
	__u8 deadline;	/* the client's: see http/deadline.h; 0 is none */
	__u64 first_ns; /* when the answer began; 0 if it has not */
};

#define STREAM_ENDED (1U << 31)
#define STREAM_ID (STREAM_ENDED - 1)

/* Is the place that of a stream that has not ended? */
static __always_inline bool http2_taken(struct http2_stream *r)
{
	return r->stream && READ_ONCE(r->answer) != (r->stream | STREAM_ENDED);
}

#define FLAG_PROMISE 0x80 /* of http2_side.flags, and not on the wire: a PUSH_PROMISE */

/* What a block has told. */
union hpack_result {
	__u32 word;
	struct {
		__u16 status;
		__u8 grpc_status; /* of a request: what grpc-timeout says, see http/deadline.h */
		__u8 found;	  /* FOUND_… of http/hpack.h */
	};
};

/* A short block seen before. While nothing is inserted, equal bytes have one meaning. */
struct hpack_memo {
	__u64 bytes[2]; /* filled up with 0 */
	__u32 len;	/* 0 is none */
	__u32 inserted;
	union hpack_result result;
	__u32 route;
};

#define HPACK_MEMOS 4 /* remembered blocks, by their length; a power of two */

/* One direction of a connection. */
struct http2_side {
	/* The frame at hand. */
	__u32 stream;
	__u8 flags;
	__u8 token;    /* enum http2_token */
	__u8 in_block; /* a header block goes on in the next frame */
	__u8 ending;   /* the frame's end is the stream's */
	__u32 left;    /* bytes to come of the frame's header block fragment, GOAWAY or prefix */
	__u32 pad;     /* bytes of padding behind the fragment */
	/* The header block at hand. */
	__u64 start_ns; /* the first byte of its first frame */
	__u8 field;	/* enum hpack_token */
	__u8 after;	/* enum hpack_token: what comes after FIELD_SKIP */
	__u8 insert;	/* the field goes into the dynamic table */
	__u8 carry_len;
	__u32 name; /* the field's, as a code of http/hpack.h */
	__u32 route;
	__u32 string_left;
	union hpack_result result; /* as far as it is read */
	__u8 carry[CARRY];	   /* of a field that goes on in the next frame */
	/* The dynamic table, as far as it matters. */
	__u32 inserted;
	__u32 last; /* the highest stream so far */
	struct hpack_memo memos[HPACK_MEMOS];
	__u32 codes[HPACK_ENTRIES];
};

/* Elements that a connection may have. That is also how many of its streams with one place may be
 * open. */
#define HTTP2_PAGES 8

/* A connection's HTTP/2, by conn.http2; of further elements only the streams are used. */
struct http2 {
	struct http2_side side[2];
	struct http2_stream streams[HTTP2_STREAMS]; /* by the stream's number */
	__u32 next; /* the next element, plus one; the client's side writes it */
	__u32 pad;
	__u64 pad2;
};

/* Where the tokens of HTTP/2 are looked for: from `at` to `total` of the buffer. */
struct window {
	__u32 at;
	__u32 total;
	__u32 carry; /* of which carried over */
	__u32 done;  /* DONE_…: what the last token has brought to an end */
	__u32 size;  /* of http2_usual's next window */
	int result;  /* of the last token: WINDOW_… */
};

#define DONE_BLOCK (1 << 0)  /* a header block */
#define DONE_STREAM (1 << 1) /* the server's side of the stream at hand */

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
	__u32 first_at; /* the start line; there is none if its length is 0 */
	__u32 first_len;
	__u32 length_at; /* the content-length line; there is none if its length is 0 */
	__u32 length_len;
	__u32 coding_end; /* the end of the transfer-encoding line; 0 if there is none */
	__u32 found;	  /* FOUND_… */
	__u32 line;	  /* parser.line, until that line has ended */
	__u32 option_at;  /* an upgrade or expect line; there is none if its length is 0 */
	__u32 option_len;
	__u32 pad;
	__u64 number; /* a decimal number as far as it is read */
	__u32 digits; /* of the number, without leading zeros but the first */
	__u32 ended;  /* white space has come behind the number */
};

/* A path, on its way to becoming a route. */
struct route {
	__u32 at, end;			      /* of the path in the buffer, in bits */
	__u32 len;			      /* of the text */
	__u32 segment;			      /* where in the text the segment at hand begins */
	__u8 digits, letters, dashes, others; /* what the segment at hand has */
	__u8 huffman;
	__u8 too_long;
	__u16 pad;
	__u64 hash; /* of the text, filled up with NUL */
	char text[2 * ROUTE_TEXT + 8];
};

/* A value of grpc-timeout on its way to becoming a byte. */
struct deadline {
	__u64 word;  /* what is left of it, the next bits first */
	__u64 rest;  /* a byte that comes behind the word */
	__u64 value; /* of the digits so far */
	__u64 unit;  /* 0 until it has come */
	__u32 bits;  /* how many are left */
	__u32 huffman;
};

/* The text of a path that no answer has proven yet, in linkerd_route_candidate_map. It is laid out
 * like the end of struct route. */
struct route_candidate {
	__u64 hash;
	__u64 text[ROUTE_TEXT / 8];
};

#endif
