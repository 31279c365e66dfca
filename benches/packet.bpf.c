// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The programs, for BPF_PROG_TEST_RUN to repeat: each run moves the packet's sequence number on by
 * its payload, so that the next run is the next packet and not the same one sent again.
 */
#include "../bpf/metricd.bpf.c"

/* Ethernet, IPv4 without options, TCP with timestamps: what benches/packet.rs feeds. */
#define SEQ 38
#define HEADERS 66

static __always_inline int next(struct __sk_buff *skb, int action)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 *seq = data + SEQ;

	if (data + HEADERS > end)
		return 0;
	*seq = bpf_htonl(bpf_ntohl(*seq) + skb->len - HEADERS);
	return action;
}

SEC("tc")
int bench_ingress(struct __sk_buff *skb)
{
	return next(skb, observe(skb, false));
}

SEC("tc")
int bench_egress(struct __sk_buff *skb)
{
	return next(skb, observe(skb, true));
}

/* What the others are measured against. */
SEC("tc")
int bench_empty(struct __sk_buff *skb)
{
	return next(skb, PASS);
}
