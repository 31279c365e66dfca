/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * DNS over UDP, RFC 1035: queries and the answers to them, by the server's port, 53. DNS over TCP
 * is a connection like any other.
 *
 * A query waits in a table, in one of DNS_WAYS places by a hash of its ends and its id. It leaves
 * the table when it is answered, when it is sent once more, after DNS_TIMEOUT without either, or
 * when its place is needed: queries = answers + unanswered + queries in the table. There is no
 * timer: every message looks at some places of other queries, in turn.
 */
#ifndef METRICD_DNS_DNS_H
#define METRICD_DNS_DNS_H

#include "http/parser.h"

#define DNS_PORT 53
#define DNS_HEADER 12
#define DNS_TIMEOUT (10 * SECOND) /* longer than resolvers wait */
#define DNS_SWEEP 4		  /* places taken, or sets passed, per message */
#define DNS_LABELS 128		  /* of a name: more than 255 bytes can hold */

/* Bits of the header's third byte, RFC 1035 section 4.1.1. */
#define DNS_QR 0x80
#define DNS_OPCODE 0x78
#define DNS_TC 0x02

#define DNS_OPT 41 /* RFC 6891 section 6.1.2 */

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
	from = s->packet.payload + DNS_HEADER;
	n = s->packet.end - from;
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
	       (p->key.local_port == DNS_PORT || p->key.remote_port == DNS_PORT);
}

/* Counts a datagram from or to a server of DNS, and sets the flags (CONN_…) by which its series is
 * found. Returns 0 if the datagram is neither a query nor the answer to one. */
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
	if (p->end - p->payload < DNS_HEADER ||
	    bpf_skb_load_bytes(skb, p->payload, d->header, DNS_HEADER))
		return 0;
	if (d->header[2] & DNS_OPCODE)
		return 0;
	is_answer = d->header[2] & DNS_QR;
	/* Whose end is the server's? */
	is_inbound = is_answer != !!p->to_local;
	if ((is_inbound ? p->key.local_port : p->key.remote_port) != DNS_PORT)
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
	p->flags = mesh_class_untold(&p->key) | (is_inbound ? 0 : CONN_CLIENT_LOCAL);
	return 1;
}

#endif
