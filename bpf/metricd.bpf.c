// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The two programs that count. They let every packet pass: see PASS. */
#include "connection.h"

char _license[] SEC("license") = "Dual BSD/GPL";

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
	p->still = 0;
	__builtin_memset(&p->delta, 0, sizeof(p->delta));
	p->run_count = 0;
	p->unknown = p->unknown_grpc = 0;
	p->answers.count = 0;
	if (unlikely(!packet_direct(skb, p)) && connection_needless(skb))
		goto count;
	p->sent = egress;
	p->jiffies = bpf_jiffies64();
	clock_tick(s, p);
	if (mesh_is_for(p)) {
		c = mesh_conn(skb) ? NULL : conn_slot(p->slot);
	} else {
		c = conn_find(p);
		if (unlikely(!c || (p->tcp_flags & TCP_SYN) || conn_may_be_over(c, p)))
			c = conn_new(skb, !!c) ? NULL : conn_slot(p->slot);
	}
	if (unlikely(!c || !connection_follow(skb, s, c)))
		connection_stray(skb);
	if (unlikely(conn_is_loopback(&p->key)))
		p->sent = mesh_sends(p->flags, tcp_role(p, p->flags));
count:
	v = series_value(p->series);
	if (v) {
		series_add_packet(v, p);
		if (unlikely(v->seen_ns != s->tick_ns))
			v->seen_ns = s->tick_ns;
	}
	if (unlikely(p->still))
		conn_sweep_due(skb);
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
	if (config.mesh && unlikely(skb->ifindex == config.loopback_ifindex)) {
		mesh_loopback(skb);
		return PASS;
	}
	return observe(skb, true);
}
