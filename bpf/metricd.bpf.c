// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The two programs. Whatever they see, they let it pass: see PASS. */
#include "dns.h"
#include "follow.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Is this packet the beginning of something? */
static __always_inline bool opens(const struct packet *p)
{
	if (p->key.proto != IPPROTO_TCP || p->fragment)
		return true;
	if (p->tcp_flags & (TCP_RST | TCP_FIN))
		return false;
	return (p->tcp_flags & TCP_SYN) || p->end != p->payload;
}

/* Adds a time to the histogram of the packet's connection. */
__noinline int add_time(struct __sk_buff *skb, __u32 what, __u64 ns)
{
	struct scratch *s = scratch();

	if (s && skb->len)
		histogram_handshake(s->packet.series, &s->packet.key, s->packet.flags, what, ns);
	return 0;
}

/* The packet's requests whose answers will be unknown. */
__noinline int add_unknown(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct packet *p;
	bool http2;

	if (!c)
		return 0;
	p = &s->packet;
	http2 = c->brief.l7 == L7_HTTP2;
	if (http2 && p->role == SERVER && (c->brief.flags & CONN_ANSWERS_LOST))
		http2_lost(skb);
	if (TAPPED) {
		tap_unknown(skb, p->slot, http2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1, p->unknown);
		tap_unknown(skb, p->slot, PROTOCOL_GRPC, p->unknown_grpc);
	}
	if (p->unknown)
		series_add_unknown(skb, http2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1, p->unknown);
	if (p->unknown_grpc)
		series_add_unknown(skb, PROTOCOL_GRPC, p->unknown_grpc);
	p->delta.answered += p->unknown + p->unknown_grpc;
	p->delta.untimed += p->unknown + p->unknown_grpc;
	return 0;
}

/* The series of the packet's connection, whose slot has it of another epoch, or may be another's.
 */
__noinline __u32 find_series(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 series;

	if (!c)
		return OTHER;
	series = series_find(skb, false);
	if (!epoch_is_other(epoch_number(READ_ONCE(c->series))))
		return series;
	bpf_spin_lock(&c->lock);
	if (c->brief.generation == s->packet.generation)
		WRITE_ONCE(c->series, epoch_tag(series));
	bpf_spin_unlock(&c->lock);
	return series;
}

/* Follows the packet with its connection, and settles its series. Returns false if the packet's
 * connection is not known. */
static __always_inline bool follow(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	struct packet *p = &s->packet;
	struct tcp_result *r = &s->result;
	bool parse = false;

	__builtin_memset(r, 0, sizeof(*r));
	if (likely(p->key.proto == IPPROTO_TCP && !p->fragment)) {
		enum in_order way = tcp_in_order(c, p);

		parse = way == IN_ORDER_PARSE;
		if (unlikely(way == OUT_OF_ORDER)) {
			if (tcp_track(skb) || !r->known)
				return false;
			parse = r->parse;
			if (unlikely(r->contended)) {
				parse = follow_turn(skb);
				if (!parse)
					count(contended);
			}
		}
	} else {
		union brief b = {.word = READ_ONCE(c->brief.word)};

		p->flags = b.flags;
		if (b.generation != p->generation || b.state != SLOT_LIVE)
			return false;
		conn_seen(c, p->egress, p);
	}
	p->series = epoch_number(READ_ONCE(c->series));
	/* Given away meanwhile, it could be another's. */
	if (unlikely(!config.ordered || epoch_is_other(p->series) ||
		     READ_ONCE(c->brief.generation) != p->generation))
		p->series = find_series(skb);
	if (parse) {
		follow_payload(skb, s, c);
		if (unlikely(p->unknown | p->unknown_grpc))
			add_unknown(skb);
		if (unlikely(p->answers.count))
			answers_end(skb);
		tcp_release(c, p, r);
	}
	if (unlikely(p->delta.closed)) {
		conn_free(r->http2 - 1, r->early[CLIENT], r->early[SERVER]);
		if (TAPPED && p->delta.aborted)
			tap_aborted(skb, p->slot, abort_reason(p->delta.closed - 1),
				    p->delta.aborted);
	}
	if (unlikely(r->rtt_ns))
		add_time(skb, HANDSHAKE_RTT, r->rtt_ns);
	if (unlikely(r->opened_ns))
		add_time(skb, HANDSHAKE_DURATION, packet_now(p) - r->opened_ns);
	return true;
}

static __always_inline int observe(struct __sk_buff *skb, bool egress)
{
	struct scratch *s = scratch();
	struct metric_value *v;
	struct packet *p;
	struct conn *c;

	if (!s)
		return PASS;
	p = &s->packet;
	p->egress = egress;
	p->now = 0;
	__builtin_memset(&p->delta, 0, sizeof(p->delta));
	p->run_count = 0;
	p->unknown = p->unknown_grpc = 0;
	p->answers.count = 0;
	if (unlikely(!packet_direct(skb, p))) {
		packet_any(skb);
		if (dns_is(p))
			dns_message(skb);
	}

	p->sent = egress;
	if (unlikely(p->kind != SERIES_IP)) {
		p->series = series_find(skb, false);
		goto count;
	}
	p->jiffies = bpf_jiffies64();
	c = conn_find(p);
	if (unlikely(!c) && opens(p) && !conn_open(skb))
		c = conn_slot(p->slot);
	if (unlikely(!c || !follow(skb, s, c))) {
		p->flags = conn_flags(p);
		p->series = series_find(skb, false);
	}
	/* On the loopback the pod is taken as the server: it sends what the client does not. */
	if (unlikely(p->key.ifindex == config.loopback_ifindex))
		p->sent = p->to_local == !!(p->flags & CONN_CLIENT_LOCAL);
count:
	v = series_value(p->series);
	if (v)
		series_add_packet(v, p);
	return PASS;
}

SEC("tc")
int linkerd_ingress(struct __sk_buff *skb)
{
	return observe(skb, false);
}

SEC("tc")
int linkerd_egress(struct __sk_buff *skb)
{
	return observe(skb, true);
}
