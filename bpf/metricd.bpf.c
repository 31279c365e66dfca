// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The two programs. Whatever they see, they let it pass: see PASS. */
#include "http1.h"
#include "iter.h"

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

static __always_inline int observe(struct __sk_buff *skb, bool egress)
{
	struct scratch *s = scratch();
	struct tcp_result r = {};
	struct metric_value *v;
	struct packet *p;
	struct conn *c;
	bool tcp;

	if (!s)
		return PASS;
	p = &s->packet;
	p->egress = egress;
	p->now = 0;
	__builtin_memset(&p->delta, 0, sizeof(p->delta));
	p->run_count = 0;
	p->unknown = 0;
	packet_parse(skb, p);

	if (unlikely(p->kind != SERIES_IP)) {
		__u64 *words = (__u64 *)&p->series;

		words[0] = words[1] = words[2] = words[3] = words[4] = 0;
		p->series.kind = p->kind;
		p->sent = egress;
		goto count;
	}

	p->jiffies = bpf_jiffies64();
	tcp = p->key.proto == IPPROTO_TCP && !p->fragment;
	c = conn_find(p);
	if (unlikely(!c) && opens(p) && !conn_open(skb))
		c = conn_slot(p->slot);
	if (likely(c && tcp)) {
		if (unlikely(!tcp_in_order(c, p, &r))) {
			if ((p->tcp_flags & TCP_SYN) || !(c->brief.seen & SEEN_ACK))
				packet_now(p);
			tcp_track(c, p, &r);
		}
	} else if (c) {
		union brief b = {.word = READ_ONCE(c->brief.word)};

		r.known = b.generation == p->generation && b.state == SLOT_LIVE;
		r.flags = b.flags;
		if (r.known && c->seen_jiffies != p->jiffies)
			c->seen_jiffies = p->jiffies;
	}
	if (unlikely(!r.known))
		r.flags = conn_flags(p);
	series_key(&p->series, &p->key, r.flags);
	/* On the loopback the pod is taken as the server: it sends what the client
	 * does not. */
	p->sent = p->key.ifindex == config.loopback_ifindex
		      ? p->to_local == !!(r.flags & CONN_CLIENT_LOCAL)
		      : egress;
	if (c && unlikely(r.contended)) {
		r.parse = http1_turn(skb);
		if (!r.parse)
			count(contended);
	}
	if (c && r.parse) {
		http1_packet(skb);
		if (unlikely(p->unknown)) {
			series_add_responses(p, 0, p->unknown);
			p->delta.answered += p->unknown;
			p->delta.untimed += p->unknown;
		}
		tcp_release(c, p, &r);
	}
	if (unlikely(r.rtt_ns))
		histogram_handshake(&p->series, HANDSHAKE_RTT, r.rtt_ns);
	if (unlikely(r.opened_ns))
		histogram_handshake(&p->series, HANDSHAKE_DURATION, packet_now(p) - r.opened_ns);
count:
	v = series_value(&p->series);
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
