/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Routes tell which method is asked for. A route is the path of a request without its query, with
 * `{id}` for segments that look like an identifier, as a number of linkerd_route_map. They are
 * opt-in (--routes), and at most as many as that says; the rest is ROUTE_OTHER. What this costs is
 * only paid for paths that are new: linkerd_route_cache_map has known paths by a hash of their
 * bytes as they came.
 *
 * A path gets a number when an answer proves that the server has it: who asks for paths at random
 * uses no numbers up. Until then a path is a candidate: ROUTE_CANDIDATE and 28 bits of a hash of
 * its text, which linkerd_route_candidate_map remembers. A request of a candidate is counted as
 * ROUTE_PENDING while it is in flight. When its answer has come, or it is known that there will be
 * none, the request is counted by its route instead (route_settle, requests_forget), like the
 * response.
 * So requests and responses agree for each route.
 *
 * The bounds: ROUTE_RAW bytes of a path as it came, and ROUTE_TEXT of what is made of it, beyond
 * which it is ROUTE_OTHER. A path that is not in one packet is ROUTE_UNKNOWN. A candidate whose
 * text has made room for those of others is ROUTE_OTHER if an answer proves it then.
 */
#ifndef METRICD_HTTP_ROUTE_H
#define METRICD_HTTP_ROUTE_H

#include "count/requests.h"
#include "http/huffman.h"

#define ROUTE_RAW 256
#define ID CHARS('{', 'i', 'd', '}', 0, 0, 0, 0)

/* Ends the segment at hand, and puts `{id}` in its place if it is an identifier: digits;
 * hexadecimal digits, eight at least, of which one is a letter and one is none; or a UUID. */
static __always_inline void route_segment(struct route *route)
{
	__u32 n = route->len - route->segment, at = route->segment;

	if (!n || route->others)
		return;
	if (!(route->dashes == 0 && (!route->letters || (route->digits && n >= 8))) &&
	    !(route->dashes == 4 && n == 36))
		return;
	bounded(at, (ROUTE_TEXT - 1));
	*(__u32 *)(route->text + at) = (__u32)ID;
	route->len = at + 4;
}

/* Takes one more character of the path. Returns STOP at its end, or if it is too long. */
static __always_inline int route_add(struct route *route, __u8 b)
{
	__u32 at;

	if (b == '?' || b == '#')
		return STOP;
	if (b == '/')
		route_segment(route);
	at = route->len;
	if (at >= ROUTE_TEXT) {
		route->too_long = 1;
		return STOP;
	}
	bounded(at, (ROUTE_TEXT - 1));
	route->text[at] = b;
	route->len = at + 1;
	if (b == '/') {
		route->segment = at + 1;
		route->digits = route->letters = route->dashes = route->others = 0;
	} else if (b - '0' <= 9U) {
		route->digits = 1;
	} else if ((b | 0x20) - 'a' <= 5U) {
		route->letters = 1;
	} else if (b == '-') {
		route->dashes++;
	} else {
		route->others = 1;
	}
	return GO_ON;
}

/* Begins with the string of `len` bytes at `at` of the buffer. */
static __always_inline void route_begin(struct route *route, __u32 at, __u32 len, bool huffman)
{
	__builtin_memset(route, 0, offsetof(struct route, text));
	route->huffman = huffman;
	route->at = at * 8;
	route->end = (at + len) * 8;
}

/* Reads one character of the path. Returns STOP behind the last one. */
__noinline int route_step(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct route *route;
	__u32 found, bits, left, at;
	__u64 w;

	if (!s || !skb->len)
		return STOP;
	route = &s->route;
	at = route->at;
	left = route->end - at;
	if (!left)
		return STOP;
	if (!route->huffman) {
		route->at = at + 8;
		return route_add(route, buffer_byte(s, at >> 3));
	}
	w = bpf_be64_to_cpu(buffer_word(s, at >> 3)) << (at & 7);
	found = huffman_decode(w);
	bits = found >> 8;
	if (!bits || bits > left) {
		/* Less than a byte is left, all ones: the end. */
		if (left >= 8)
			route->too_long = 1;
		return STOP;
	}
	route->at = at + bits;
	return route_add(route, found);
}

/* A hash of `n` bytes at `at` of the buffer. A function of its own for the loop. */
__noinline __u64 route_hash(struct __sk_buff *skb, __u32 at, __u32 n, __u64 h)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return 0;
	for (__u32 i = 0; i < ROUTE_RAW; i += 8) {
		__u64 w;

		if (i >= n)
			break;
		w = buffer_word(s, at + i);
		if (n - i < 8)
			w &= ~(~0ULL << 8 * (n - i));
		h = (h ^ w) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	return h;
}

/* The hash of the text in the scratch, behind which there is NUL. */
static __always_inline __u64 route_text_hash(const struct route *route)
{
	const __u64 *text = (const __u64 *)route->text;
	__u64 hash = 0;

	/* Newer clangs would take the text apart, which they know to be characters. */
	fresh(text);
#pragma unroll
	for (int i = 0; i < ROUTE_TEXT / 8; i++) {
		hash = (hash ^ text[i]) * 0xff51afd7ed558ccdULL;
		hash ^= hash >> 31;
	}
	return hash;
}

/* A path that no answer has proven yet, by the hash of its text. The rest of the hash is in the
 * value of linkerd_route_index_map, above the number. */
static __always_inline __u32 route_candidate(__u64 hash)
{
	return ROUTE_CANDIDATE | hash >> 36;
}

#define ROUTE_NUMBER ((1 << ROUTE_BITS) - 1)

/* The route of a candidate as it is now: its number, the candidate itself, or ROUTE_OTHER where
 * there is no number left for it. */
__noinline __u32 route_now(struct __sk_buff *skb, __u32 candidate)
{
	__u64 *found = bpf_map_lookup_elem(&linkerd_route_index_map, &candidate);
	__u32 number;

	if (!skb->len)
		return ROUTE_OTHER;
	if (found)
		return *found & ROUTE_NUMBER;
	return bpf_map_peek_elem(&linkerd_route_free_map, &number) ? ROUTE_OTHER : candidate;
}

/* Finds the route whose text is in s->route. Returns its number; or, if it has none, a candidate,
 * whose text is remembered; or ROUTE_OTHER if there is no number left. */
static __always_inline __u32 route_find(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	__u32 candidate, number, len;
	struct route_candidate *known;
	struct route *route;
	__u64 *found;

	if (!s || !skb->len)
		return ROUTE_OTHER;
	route = &s->route;
	len = route->len;
	/* Clears what was written beyond the text's end; without a branch, for the verifier. */
#pragma unroll
	for (int i = 0; i < ROUTE_TEXT; i += 8) {
		__u32 at = len + i;

		bounded(at, (2 * ROUTE_TEXT - 1));
		*(__u64 *)(route->text + at) = 0;
	}
	route->hash = route_text_hash(route);
	candidate = route_candidate(route->hash);
	found = bpf_map_lookup_elem(&linkerd_route_index_map, &candidate);
	if (found)
		return (*found ^ route->hash) >> ROUTE_BITS ? ROUTE_OTHER : *found & ROUTE_NUMBER;
	if (bpf_map_peek_elem(&linkerd_route_free_map, &number))
		return ROUTE_OTHER;
	known = bpf_map_lookup_elem(&linkerd_route_candidate_map, &candidate);
	if (known)
		return known->hash == route->hash ? candidate : ROUTE_OTHER;
	if (bpf_map_update_elem(&linkerd_route_candidate_map, &candidate, &route->hash, BPF_ANY))
		return ROUTE_OTHER;
	return candidate;
}

/* Gives a candidate, which an answer has proven, a number. Returns it, or ROUTE_OTHER if none is
 * left, or the text is not remembered any more. */
__noinline __u32 route_prove(struct __sk_buff *skb, __u32 candidate)
{
	struct scratch *s = scratch();
	struct route_candidate *known;
	struct route_entry *e;
	struct route *route;
	__u64 value, *found, *text;
	__u32 number = 0;

	if (!s || !skb->len)
		return ROUTE_OTHER;
	route = &s->route;
	known = bpf_map_lookup_elem(&linkerd_route_candidate_map, &candidate);
	if (!known)
		return ROUTE_OTHER;
	text = (__u64 *)route->text;
	fresh(text);
#pragma unroll
	for (int i = 0; i < ROUTE_TEXT / 8; i++)
		text[i] = known->text[i];
	/* While it was copied, its place may have become another candidate's. */
	value = route_text_hash(route);
	if (route_candidate(value) != candidate ||
	    bpf_map_pop_elem(&linkerd_route_free_map, &number))
		return ROUTE_OTHER;
	e = bpf_map_lookup_elem(&linkerd_route_map, &number);
	if (!e)
		return ROUTE_OTHER;
	value = (value & ~(__u64)ROUTE_NUMBER) | number;
	if (!bpf_map_update_elem(&linkerd_route_index_map, &candidate, &value, BPF_NOEXIST)) {
		__builtin_memcpy(e->text, route->text, ROUTE_TEXT);
		bpf_map_delete_elem(&linkerd_route_candidate_map, &candidate);
		return number;
	}
	bpf_map_push_elem(&linkerd_route_free_map, &number, 0);
	found = bpf_map_lookup_elem(&linkerd_route_index_map, &candidate);
	return found ? *found & ROUTE_NUMBER : ROUTE_OTHER;
}

/* The route of the path of `len` bytes at `at` of the buffer. What is no path, as "*" or the host
 * of a CONNECT, has none: RFC 9112 section 3.2. */
__noinline __u32 route_of(struct __sk_buff *skb, __u32 at, __u32 len, __u32 huffman)
{
	struct scratch *s = scratch();
	__u32 number, *found;
	struct route *route;
	__u64 hash;

	if (!s || !skb->len)
		return ROUTE_UNKNOWN;
	if (len > ROUTE_RAW)
		len = ROUTE_RAW;
	hash = route_hash(skb, at, len, huffman + len);
	found = bpf_map_lookup_elem(&linkerd_route_cache_map, &hash);
	if (found)
		return *found;
	route = &s->route;
	route_begin(route, at, len, huffman);
	for (int i = 0; i < ROUTE_RAW * 8 / 5; i++) {
		if (route_step(skb))
			break;
	}
	if (route->at == route->end && len == ROUTE_RAW)
		route->too_long = 1;
	route_segment(route);
	if (!route->len || route->text[0] != '/')
		number = ROUTE_NONE;
	else
		number = route->too_long ? ROUTE_OTHER : route_find(skb);
	if (number < ROUTE_CANDIDATE)
		bpf_map_update_elem(&linkerd_route_cache_map, &hash, &number, BPF_ANY);
	return number;
}

/* An offset in the buffer behind all bytes of a packet. */
#define ROUTE_ASIDE 1000

/* The number of a route that HPACK's static table has: ROUTE_ROOT or ROUTE_INDEX. */
static __always_inline __u32 route_static(struct __sk_buff *skb, __u32 route)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return ROUTE_UNKNOWN;
	*(__u64 *)(s->buffer + ROUTE_ASIDE) = CHARS('/', 'i', 'n', 'd', 'e', 'x', '.', 'h');
	*(__u64 *)(s->buffer + ROUTE_ASIDE + 8) = CHARS('t', 'm', 'l', 0, 0, 0, 0, 0);
	return route_of(skb, ROUTE_ASIDE, route == ROUTE_ROOT ? 1 : 11, 0);
}

/* Counts `n` requests of the packet's connection, which have this protocol and route. */
static __always_inline void route_request(struct __sk_buff *skb, struct conn *c, __u32 protocol,
					  __u32 route, __u32 n)
{
	if (route >= ROUTE_CANDIDATE) {
		c->routes.pending[protocol == PROTOCOL_GRPC] += n;
		route = ROUTE_PENDING;
	}
	requests_add(skb, protocol, route, n, false);
}

/* Does an answer of this kind (union response) say that its request's path is one that the server
 * has? */
static __always_inline bool route_is_proof(union response what)
{
	return what.status && what.status != 400 && what.status != 404 && what.status != 405 &&
	       what.grpc_status != GRPC_UNIMPLEMENTED;
}

/* A pending request of the packet's connection, whose path is `candidate`, has its answer. Returns
 * the route, by which the request is counted from now on. The caller holds the server's side. */
__noinline __u32 route_settle(struct __sk_buff *skb, __u32 candidate, __u32 response)
{
	union response what = {.word = response};
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 route = route_now(skb, candidate);

	if (!c)
		return ROUTE_UNKNOWN;
	if (route >= ROUTE_CANDIDATE) {
		if (route_is_proof(what))
			route = route_prove(skb, candidate);
		else
			route = ROUTE_OTHER;
	}
	c->routes.settled[what.protocol == PROTOCOL_GRPC]++;
	requests_add(skb, what.protocol, ROUTE_PENDING, -1, false);
	requests_add(skb, what.protocol, route, 1, false);
	return route;
}

/* A request will not have an answer that could prove its path: if it is pending, its route is
 * unknown, by which it is counted at the end of the packet. Returns the route. The caller holds the
 * server's side. */
static __always_inline __u32 route_unproven(struct scratch *s, struct conn *c, __u32 route,
					    __u32 protocol)
{
	bool grpc = protocol == PROTOCOL_GRPC;

	if (likely(route < ROUTE_CANDIDATE))
		return route;
	c->routes.settled[grpc]++;
	s->packet.pending += grpc ? 1 << 16 : 1;
	return ROUTE_UNKNOWN;
}

#endif
