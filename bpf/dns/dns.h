/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * DNS, RFC 1035: queries and the answers to them, by the server's port, which is one of
 * config.dns_ports. Over TCP (RFC 7766) each message has its length in front of it, and is followed
 * as those of HTTP are: cut anywhere, in order, each byte once.
 *
 * A query waits in a table, in one of DNS_WAYS places by a hash of its ends and its id. It leaves
 * the table when it is answered, when it is sent once more, after DNS_TIMEOUT without either, or
 * when its place is needed: queries = answers + unanswered + queries in the table. There is no
 * timer: every message looks at some places of other queries, in turn.
 */
#ifndef METRICD_DNS_DNS_H
#define METRICD_DNS_DNS_H

#include "http/parser.h"

#define DNS_PORTS 4  /* in config.dns_ports */
#define DNS_LENGTH 2 /* bytes in front of a message over TCP: RFC 1035 section 4.2.2 */
#define DNS_HEADER 12
#define DNS_TIMEOUT (10 * SECOND) /* longer than resolvers wait */
#define DNS_SWEEP 4		  /* places taken, or sets passed, per message */
#define DNS_LABELS 128		  /* of a name: more than 255 bytes can hold */

/* Bits of the header's third byte, RFC 1035 section 4.1.1. */
#define DNS_QR 0x80
#define DNS_OPCODE 0x78
#define DNS_TC 0x02

#define DNS_OPT 41 /* RFC 6891 section 6.1.2 */

/* Do servers of DNS have this port? */
__noinline int dns_is_port(__u32 port)
{
	if (!port)
		return false;
#pragma unroll
	for (int i = 0; i < DNS_PORTS; i++)
		if (port == (config.dns_ports >> 16 * i & 0xffff))
			return true;
	return false;
}

static const struct dns_value zero_dns;
static const struct dns_key other_dns = {.kind = SERIES_OTHER};

/* The counters of the server that a query is to. */
static __always_inline struct dns_value *dns_value_of(struct dns *d, const struct dns_query *q)
{
	struct dns_key *key = &d->key;
	struct dns_value *v;

	__builtin_memset(key, 0, sizeof(*key));
	key->direction = q->direction;
	if (config.detail != DETAIL_POD)
		address_copy(key->server,
			     q->direction == DIRECTION_OUTBOUND ? q->key.remote : q->key.local);
	v = bpf_map_lookup_elem(&linkerd_dns_map, key);
	if (likely(v))
		return v;
	bpf_map_update_elem(&linkerd_dns_map, key, &zero_dns, BPF_NOEXIST);
	v = bpf_map_lookup_elem(&linkerd_dns_map, key);
	if (v)
		return v;
	counters_add(dns_overflow);
	return bpf_map_lookup_elem(&linkerd_dns_map, &other_dns);
}

static __always_inline struct dns_set *dns_set_of(const struct dns_query *q)
{
	const __u64 *k = (const __u64 *)&q->key;
	__u64 h = (k[0] ^ k[2]) + (k[1] ^ k[3]) * 0x9e3779b97f4a7c15ULL;
	__u32 at = ((h ^ k[4] ^ q->id) * 0xff51afd7ed558ccdULL >> 32) & (DNS_SETS - 1);

	return bpf_map_lookup_elem(&linkerd_dns_query_map, &at);
}

static __always_inline bool dns_same(const struct dns_query *a, const struct dns_query *b)
{
	return a->direction && a->id == b->id && conn_key_equal(&a->key, &b->key);
}

/* Puts the query at hand into the table: in the place of an equal query, in a free place, or in the
 * place of the oldest query. */
__noinline int dns_ask(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct dns_query *q;
	struct dns_value *v;
	struct dns_set *set;
	struct dns *d;
	bool same;
	__u32 way;

	if (!s || !skb->len)
		return 0;
	d = &s->dns;
	set = dns_set_of(&d->query);
	if (!set)
		return 0;
	d->way = 0;
	d->oldest_ns = ~0ULL;
	bpf_spin_lock(&set->lock);
	for (__u32 i = 0; i < DNS_WAYS; i++) {
		q = &set->ways[i];
		if (dns_same(q, &d->query)) {
			d->way = i;
			break;
		}
		if (!q->direction)
			q->sent_ns = 0;
		if (q->sent_ns < d->oldest_ns) {
			d->oldest_ns = q->sent_ns;
			d->way = i;
		}
	}
	way = d->way;
	bounded(way, (DNS_WAYS - 1));
	q = &set->ways[way];
	d->old = *q;
	*q = d->query;
	same = dns_same(&d->old, &d->query);
	if (same)
		q->asked_ns = d->old.asked_ns;
	bpf_spin_unlock(&set->lock);

	v = dns_value_of(d, &d->query);
	if (v)
		add(&v->queries, 1);
	if (!d->old.direction)
		return 0;
	v = dns_value_of(d, &d->old);
	if (!v)
		return 0;
	if (same)
		add(&v->unanswered.retried, 1);
	else if (s->packet.now - d->old.sent_ns > DNS_TIMEOUT)
		add(&v->unanswered.timeout, 1);
	else
		add(&v->unanswered.evicted, 1);
	return 0;
}

/*
 * The upper bits of the response code (RFC 6891 section 6.1.3), if there is an OPT record right
 * behind the question, and 0 otherwise. Answers that have such a code have nothing between the two.
 */
__noinline __u32 dns_extended(struct __sk_buff *skb, __u32 questions)
{
	struct scratch *s = scratch();
	__u32 from, n, at = 0, len;

	if (!s || !skb->len)
		return 0;
	from = s->dns.from;
	n = s->dns.to - from;
	if (!n)
		return 0;
	n = (n < BLOCK ? n : BLOCK) - 1;
	bounded(n, (BLOCK - 1));
	n++;
	if (bpf_skb_load_bytes(skb, from, s->buffer, n))
		return 0;
	if (questions) {
		for (int i = 0; i < DNS_LABELS; i++) {
			len = buffer_byte(s, at);
			at += len + 1;
			if (!len || at >= n)
				break;
		}
		at += 4;
	}
	/* The name of an OPT record is the root. */
	if (at + 6 > n || buffer_byte(s, at) || buffer_byte(s, at + 1) ||
	    buffer_byte(s, at + 2) != DNS_OPT)
		return 0;
	return buffer_byte(s, at + 5);
}

/* Counts the answer at hand, and takes the query that waits for it, if one does, out of the
 * table. */
__noinline int dns_answer(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct dns_value *v;
	struct dns_set *set;
	struct dns *d;
	__u64 asked_ns = 0, ns;
	__u32 rcode, i;

	if (!s || !skb->len)
		return 0;
	d = &s->dns;
	set = dns_set_of(&d->query);
	if (!set)
		return 0;
	bpf_spin_lock(&set->lock);
	for (i = 0; i < DNS_WAYS; i++) {
		struct dns_query *q = &set->ways[i];

		if (dns_same(q, &d->query)) {
			asked_ns = q->asked_ns;
			q->direction = DIRECTION_NONE;
			break;
		}
	}
	bpf_spin_unlock(&set->lock);

	v = dns_value_of(d, &d->query);
	if (!v)
		return 0;
	if (!asked_ns) {
		/* Over TCP a transfer of a zone answers in several messages: RFC 5936 section 2.2.
		 */
		if (d->query.key.proto != IPPROTO_TCP)
			add(&v->unsolicited, 1);
		return 0;
	}
	if (d->header[2] & DNS_TC)
		add(&v->truncated, 1);
	rcode = d->header[3] & 15;
	/* One question at most, no answers, no authorities, something behind. */
	if (!(d->header[4] | d->header[6] | d->header[7] | d->header[8] | d->header[9]) &&
	    d->header[5] <= 1 && (d->header[10] | d->header[11]))
		rcode |= dns_extended(skb, d->header[5]) << 4;
	if (rcode >= DNS_RCODES)
		rcode = DNS_RCODES - 1;
	bounded(rcode, (DNS_RCODES - 1));
	add(&v->answers[rcode], 1);
	ns = s->packet.now - asked_ns;
	i = histogram_bucket(ns);
	bounded(i, (BUCKETS - 1));
	add(&v->duration.buckets[i], 1);
	add(&v->duration.sum_ns, ns);
	return 0;
}

/* Takes a query that has waited for too long out of the set at hand, or goes on to the next set. */
__noinline int dns_sweep(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct dns_value *v;
	struct dns_set *set;
	struct dns *d;
	bool taken = false;
	__u64 now;
	__u32 at;

	if (!s || !skb->len)
		return 0;
	d = &s->dns;
	now = packet_now(&s->packet);
	at = d->sweep & (DNS_SETS - 1);
	set = bpf_map_lookup_elem(&linkerd_dns_query_map, &at);
	if (!set)
		return 0;
	bpf_spin_lock(&set->lock);
	for (int i = 0; i < DNS_WAYS; i++) {
		struct dns_query *q = &set->ways[i];

		/* What another CPU has just asked may be ahead of now. */
		if (q->direction && (__s64)(now - q->sent_ns) > (__s64)DNS_TIMEOUT) {
			d->old = *q;
			q->direction = DIRECTION_NONE;
			taken = true;
			break;
		}
	}
	bpf_spin_unlock(&set->lock);
	if (!taken) {
		d->sweep++;
		return 0;
	}
	v = dns_value_of(d, &d->old);
	if (v)
		add(&v->unanswered.timeout, 1);
	return 0;
}

/* Is this datagram, or fragment of one, from or to a server of DNS? */
static __always_inline bool dns_is(const struct packet *p)
{
	return p->kind == SERIES_IP && p->key.proto == IPPROTO_UDP &&
	       (dns_is_port(p->key.local_port) || dns_is_port(p->key.remote_port));
}

/* What dns_message has found: a message that is DNS's, and whose end is the server's. */
#define DNS_COUNTED (1 << 0)
#define DNS_INBOUND (1 << 1)

/* Counts the message of which the header is in the scratch. Returns DNS_…; 0 if it is neither a
 * query nor the answer to one. */
__noinline int dns_message(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	bool is_answer, is_inbound;
	struct packet *p;
	struct dns *d;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	d = &s->dns;
	if (d->header[2] & DNS_OPCODE)
		return 0;
	is_answer = d->header[2] & DNS_QR;
	is_inbound = is_answer != !!p->to_local;
	if (!dns_is_port(is_inbound ? p->key.local_port : p->key.remote_port))
		return 0;
	__builtin_memset(&d->query, 0, sizeof(d->query));
	conn_key_copy(&d->query.key, &p->key);
	d->query.id = d->header[0] << 8 | d->header[1];
	if (conn_is_loopback(&p->key))
		d->query.direction = config.mesh ? DIRECTION_LOCAL : DIRECTION_INBOUND;
	else
		d->query.direction = is_inbound ? DIRECTION_INBOUND : DIRECTION_OUTBOUND;
	d->query.asked_ns = d->query.sent_ns = packet_now(p);
	if (is_answer)
		dns_answer(skb);
	else
		dns_ask(skb);
	for (int i = 0; i < DNS_SWEEP; i++)
		dns_sweep(skb);
	return DNS_COUNTED | (is_inbound ? DNS_INBOUND : 0);
}

/* Counts a datagram from or to a server of DNS, and sets the flags (CONN_…) by which its series is
 * found. Returns 0 if the datagram is neither a query nor the answer to one. */
__noinline int dns_datagram(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct packet *p;
	int told;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	if (p->end - p->payload < DNS_HEADER ||
	    bpf_skb_load_bytes(skb, p->payload, s->dns.header, DNS_HEADER))
		return 0;
	s->dns.from = p->payload + DNS_HEADER;
	s->dns.to = p->end;
	told = dns_message(skb);
	if (told)
		p->flags =
		    mesh_class_untold(&p->key) | (told & DNS_INBOUND ? 0 : CONN_CLIENT_LOCAL);
	return told;
}

/* May a connection carry DNS of which the client's first `total` bytes are `bytes`? A message is
 * longer than its header, and shorter than what a line of text would have for a length. */
static __always_inline bool dns_begins(const struct packet *p, __u64 bytes, __u32 total)
{
	__u32 length = bpf_ntohs((__u16)bytes);

	return dns_is_port(p->to_local ? p->key.local_port : p->key.remote_port) &&
	       (__u8)bytes < ' ' && (total < DNS_LENGTH || length >= DNS_HEADER);
}

/* Consumes the header of a message over TCP, or what the packet has of it, or bytes behind one.
 * Returns STOP if there is no more. */
__noinline int dns_step(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 avail, n, carry, length;
	struct parser *h;
	struct packet *p;
	struct dns *d;

	if (!c)
		return STOP;
	h = parser_mine(s, c);
	p = &s->packet;
	d = &s->dns;
	avail = p->end - p->pos;
	if (!avail || h->phase == PHASE_LOST)
		return STOP;
	if (h->phase >= HTTP1_BODY) {
		parser_skip(s, h, avail);
		return p->pos == p->end ? STOP : GO_ON;
	}
	carry = h->carry_len;
	if (carry >= DNS_LENGTH + DNS_HEADER)
		return STOP;
	n = DNS_LENGTH + DNS_HEADER - carry;
	n = (avail < n ? avail : n) - 1;
	bounded(n, 15);
	n++;
	__builtin_memcpy(s->buffer, h->carry, CARRY);
	bounded(carry, 15);
	if (early_or_packet(skb, s, carry, n))
		return parser_lost(skb, LOST_GAP);
	p->pos += n;
	h->carry_len = carry + n;
	if (h->carry_len < DNS_LENGTH + DNS_HEADER) {
		__builtin_memcpy(h->carry, s->buffer, CARRY);
		return STOP;
	}
	h->carry_len = 0;
	length = bpf_ntohs(*(__u16 *)s->buffer);
	if (length < DNS_HEADER)
		return parser_lost(skb, LOST_MALFORMED);
	__builtin_memcpy(d->header, s->buffer + DNS_LENGTH, DNS_HEADER);
	h->left = length - DNS_HEADER;
	h->phase = h->left ? HTTP2_SKIP : PHASE_START;
	d->from = d->to = p->pos;
	if (!p->early)
		d->to += p->end - p->pos < h->left ? p->end - p->pos : h->left;
	dns_message(skb);
	return p->pos == p->end ? STOP : GO_ON;
}

/* Takes PARSER_SOME steps at most: less for the verifier to walk through than one loop. */
__noinline int dns_some(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return STOP;
	for (int i = 0; i < PARSER_SOME; i++) {
		if (dns_step(skb))
			return STOP;
	}
	return GO_ON;
}

#endif
