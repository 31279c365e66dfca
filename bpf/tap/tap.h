/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Requests as they happen, for who listens (`linkerd-metricd tap`): their heads and ends go into a
 * ring buffer, linkerd_perf_map. What finds no room there is counted: so many requests were not
 * shown.
 *
 * Nothing of this runs while nobody listens. A listener sets tap_until to a time a little ahead,
 * again and again: one that is killed has soon stopped listening.
 */
#ifndef METRICD_TAP_TAP_H
#define METRICD_TAP_TAP_H

#include "count/series.h"

/* Until when somebody listens, in nanoseconds of CLOCK_MONOTONIC; 0 if nobody does. Pinned as
 * linkerd_tap_map. */
__u64 tap_until SEC(".data.tap");

/* To be asked before anything here is called. */
#define TAPPED unlikely(READ_ONCE(tap_until))

static __always_inline bool tap_listens(struct packet *p)
{
	if (packet_now(p) < READ_ONCE(tap_until))
		return true;
	WRITE_ONCE(tap_until, 0);
	return false;
}

static __always_inline int tap_head_send(struct tap_head *e, __u8 kind, struct conn *c, __u32 slot,
					 __u32 n)
{
	e->kind = kind;
	e->opened_ns = c->opened_ns;
	e->slot = slot;
	if (n > TAP_DATA)
		n = TAP_DATA;
	if (bpf_ringbuf_output(&linkerd_perf_map, e, offsetof(struct tap_head, data) + n, 0))
		counters_add(heads_dropped);
	return 0;
}

/* Sends the request line, or its beginning if it is not `whole`, of `len` bytes at `at` of the
 * buffer. */
__noinline int tap_http1(struct __sk_buff *skb, __u32 at, __u32 len, __u32 whole)
{
	struct scratch *s = scratch();
	struct packet *p;
	struct tap_head *e;
	struct conn *c;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	c = conn_slot(p->slot);
	/* Of a line that came in parts, this is the last one. */
	if (!c || conn_side(c, ROLE_CLIENT)->parser.line != HTTP1_LINE_NEW || !tap_listens(p))
		return 0;
	bounded(at, 1023);
	if (at > BUFFER - TAP_DATA)
		return 0;
	e = &s->tap_head;
	e->protocol = PROTOCOL_HTTP1;
	e->flags = 0;
	e->is_new = 1;
	e->request = conn_side(c, ROLE_CLIENT)->requests + p->run_count;
	e->inserted = 0;
	e->len = whole ? len : 0;
	e->there = len;
	__builtin_memcpy(e->data, s->buffer + at, TAP_DATA);
	return tap_head_send(e, TAP_HEAD, c, p->slot, len);
}

/* Copies `n` bytes of the packet from `from` on, TAP_DATA at most. Returns how many. */
static __always_inline __u32 tap_load(struct __sk_buff *skb, struct tap_head *e, __u32 from,
				      __u32 n)
{
	if (!n)
		return 0;
	if (n > TAP_DATA)
		n = TAP_DATA;
	/* Positive, in a form that older verifiers see. */
	n--;
	bounded(n, (TAP_DATA - 1));
	n++;
	return bpf_skb_load_bytes(skb, from, e->data, n) ? 0 : n;
}

static __always_inline struct http2_side *tap_http2_of(struct conn *c, struct tap_head *e)
{
	__u32 at = c->http2;
	struct http2 *x = http2_element(at);
	struct http2_side *t;

	if (!x)
		return NULL;
	t = &x->side[ROLE_CLIENT];
	e->protocol = PROTOCOL_HTTP2;
	e->flags = t->flags;
	e->is_new = t->stream > t->last;
	e->request = t->stream;
	e->inserted = t->inserted;
	return t;
}

/* Sends what there is of the payload of a HEADERS frame, whose header has been read. */
__noinline int tap_http2(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct http2_side *t;
	struct tap_head *e;
	struct packet *p;
	struct window *window;
	struct conn *c;
	__u32 from, n, at;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	window = &s->window;
	e = &s->tap_head;
	c = conn_slot(p->slot);
	if (!c || p->role != ROLE_CLIENT || window->at < window->carry || !tap_listens(p))
		return 0;
	t = tap_http2_of(c, e);
	if (!t)
		return 0;
	from = p->pos + (window->at - window->carry);
	n = p->end - from;
	if (n > t->left)
		n = t->left;
	e->len = t->left;
	e->there = n;
	if (likely(!p->early)) {
		n = tap_load(skb, e, from, n);
	} else {
		at = window->at;
		bounded(at, 1023);
		if (at > BUFFER - TAP_DATA)
			return 0;
		/* The buffer has one block, which early_load has copied. */
		if (n > BLOCK + window->carry - at)
			n = BLOCK + window->carry - at;
		__builtin_memcpy(e->data, s->buffer + at, TAP_DATA);
	}
	return tap_head_send(e, TAP_HEAD, c, p->slot, n);
}

/* Sends what a packet has of a header block that has begun before the packet. */
__noinline int tap_http2_rest(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct http2_side *t;
	struct tap_head *e;
	struct parser *h;
	struct packet *p;
	struct conn *c;
	__u32 n, left;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	e = &s->tap_head;
	c = conn_slot(p->slot);
	if (!c || p->role != ROLE_CLIENT || p->early || !tap_listens(p))
		return 0;
	t = tap_http2_of(c, e);
	h = &conn_side(c, ROLE_CLIENT)->parser;
	if (!t || (t->token != TOKEN_BLOCK && t->token != TOKEN_PREFIX))
		return 0;
	/* What is kept of a field was in the last packet, what is passed over is not in t->left. */
	left = t->left - h->carry_len;
	if (h->phase == HTTP2_SKIP)
		left += h->left;
	n = p->end - p->pos;
	if (n > left)
		n = left;
	e->len = left;
	e->there = n;
	return tap_head_send(e, TAP_REST, c, p->slot, tap_load(skb, e, p->pos, n));
}

/* How a request, or several, ended: for tap_end. */
union tap_what {
	__u64 word;
	struct {
		union response response;
		__u16 route;
		__u8 aborted; /* enum abort_reason plus one */
	};
};

static __always_inline void tap_who(struct tap_end *e, const struct conn_key *k, __u8 flags)
{
	bool client_local = flags & CONN_CLIENT_LOCAL;

	address_copy(e->src, client_local ? k->local : k->remote);
	address_copy(e->dst, client_local ? k->remote : k->local);
	e->src_port = client_local ? k->local_port : k->remote_port;
	e->dst_port = client_local ? k->remote_port : k->local_port;
	e->direction = series_direction(k, flags);
	if (mesh_hides_client(k, flags)) {
		__builtin_memset(e->src, 0, sizeof(e->src));
		e->src_port = 0;
	}
}

static __always_inline int tap_end_send(struct tap_end *e, struct conn *c, __u32 slot, __u64 word)
{
	union tap_what what = {.word = word};

	e->kind = TAP_END;
	e->protocol = what.response.protocol;
	e->status = what.response.status;
	e->grpc_status = what.response.grpc_status;
	e->route = what.route;
	e->aborted = what.aborted;
	e->opened_ns = c->opened_ns;
	e->slot = slot;
	if (bpf_ringbuf_output(&linkerd_perf_map, e, sizeof(*e), 0))
		counters_add_many(events_dropped, e->count);
	return 0;
}

/* Sends the end of a request of the packet's connection. `what` is a union tap_what; `start_ns` is
 * 0 if the request's start is not known. */
__noinline int tap_end(struct __sk_buff *skb, __u64 what, __u64 start_ns, __u64 first_ns,
		       __u32 request)
{
	struct scratch *s = scratch();
	struct tap_end *e;
	struct packet *p;
	struct conn *c;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	e = &s->tap_end;
	c = conn_slot(p->slot);
	if (!c || !tap_listens(p))
		return 0;
	tap_who(e, &p->key, p->flags);
	e->request = request;
	e->count = 1;
	e->end_ns = p->now;
	e->duration_ns = start_ns ? p->now - start_ns : 0;
	e->ttfb_ns = start_ns && first_ns ? first_ns - start_ns : 0;
	return tap_end_send(e, c, p->slot, what);
}

static __always_inline void tap_answered(struct __sk_buff *skb, union response response,
					 __u32 route, __u64 start_ns, __u64 first_ns, __u32 request)
{
	union tap_what what = {.response = response, .route = route};

	tap_end(skb, what.word, start_ns, first_ns, request);
}

/* Sends the end of `n` requests of the slot's connection that have ended at once: those that began
 * last. */
__noinline int tap_ends(struct __sk_buff *skb, __u32 slot, __u64 what, __u32 n)
{
	struct scratch *s = scratch();
	struct conn *c = conn_slot(slot);
	struct tap_end *e;

	if (!s || !c || !skb->len || !n || !tap_listens(&s->packet))
		return 0;
	e = &s->tap_end;
	tap_who(e, &c->key, c->brief.flags);
	/* Streams don't end in the order in which they began. */
	e->request = c->brief.l7 == L7_HTTP2 ? 0 : conn_side(c, ROLE_CLIENT)->requests - n;
	e->count = n;
	e->end_ns = s->packet.now;
	e->duration_ns = e->ttfb_ns = 0;
	return tap_end_send(e, c, slot, what);
}

/* Sends that `n` requests of the slot's connection never got their whole response, for an enum
 * abort_reason. */
static __always_inline void tap_aborted(struct __sk_buff *skb, __u32 slot, __u32 reason, __u32 n)
{
	struct conn *c = conn_slot(slot);
	union tap_what what = {.response.grpc_status = GRPC_STATUS_NONE, .aborted = reason + 1};

	if (!c)
		return;
	what.response.protocol = c->brief.l7 == L7_HTTP2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1;
	tap_ends(skb, slot, what.word, n);
}

/* Sends that the answers to `n` requests of the slot's connection are unknown. */
static __always_inline void tap_unknown(struct __sk_buff *skb, __u32 slot, __u8 protocol, __u32 n)
{
	union tap_what what = {
	    .response = {.protocol = protocol, .grpc_status = GRPC_STATUS_NONE},
	    .route = config.routes ? ROUTE_UNKNOWN : ROUTE_NONE,
	};

	tap_ends(skb, slot, what.word, n);
}

#endif
