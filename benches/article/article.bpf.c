// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The design that metricd is compared with: every packet is added to its 5-tuple's entry of a hash
 * and then sent to user space as an event. For benchmarks alone: it looks at IPv4 over Ethernet
 * only, and what it takes for a request is any packet with a payload that comes in.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PASS (-1)

struct metric_key {
	__u8 src_ip[16]; /* ::ffff:a.b.c.d */
	__u8 dst_ip[16];
	__u16 src_port;
	__u16 dst_port;
	__u32 proto;
};

struct metric_value {
	__u64 packets;
	__u64 bytes;
	__u64 requests;
	__u64 last_seen; /* ns */
};

struct event {
	struct metric_key key;
	__u64 bytes;
	__u64 time; /* ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct metric_key);
	__type(value, struct metric_value);
} metrics SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

static __always_inline void mapped(__u8 *to, __u32 ip)
{
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, &ip, sizeof(ip));
}

static __always_inline int count(struct __sk_buff *skb, bool ingress)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	struct event event = {};
	struct metric_value *value, zero = {};
	__u32 headers;

	if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)(tcp + 1) > end || ip->ihl != 5 ||
	    ip->protocol != IPPROTO_TCP)
		return PASS;
	mapped(event.key.src_ip, ip->saddr);
	mapped(event.key.dst_ip, ip->daddr);
	event.key.src_port = bpf_ntohs(tcp->source);
	event.key.dst_port = bpf_ntohs(tcp->dest);
	event.key.proto = ip->protocol;
	event.bytes = skb->len;
	event.time = bpf_ktime_get_ns();
	value = bpf_map_lookup_elem(&metrics, &event.key);
	if (!value) {
		bpf_map_update_elem(&metrics, &event.key, &zero, BPF_NOEXIST);
		value = bpf_map_lookup_elem(&metrics, &event.key);
		if (!value)
			return PASS;
	}
	headers = ETH_HLEN + sizeof(*ip) + tcp->doff * 4;
	__sync_fetch_and_add(&value->packets, 1);
	__sync_fetch_and_add(&value->bytes, skb->len);
	if (ingress && skb->len > headers)
		__sync_fetch_and_add(&value->requests, 1);
	value->last_seen = event.time;
	bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return PASS;
}

SEC("tc")
int article_ingress(struct __sk_buff *skb)
{
	return count(skb, true);
}

SEC("tc")
int article_egress(struct __sk_buff *skb)
{
	return count(skb, false);
}

char _license[] SEC("license") = "Dual BSD/GPL";
