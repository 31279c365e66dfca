/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From an skb to the TCP header's fields that matter here. */
#ifndef REDIRECT_SEGMENT_H
#define REDIRECT_SEGMENT_H

#include "net/protocols.h"
#include "redirect/config.h"

#define EXTENSIONS 4 /* IPv6 extension headers followed */

struct segment {
	struct bpf_sock_tuple tuple; /* from saddr to daddr, as sent */
	__u32 l4;		     /* where the TCP header is */
	__be32 seq;
	__u16 port; /* of the destination, in host order */
	__u8 flags;
	bool ipv6;
};

static __always_inline bool segment_tcp(struct __sk_buff *skb, struct segment *segment,
					__be16 *ports)
{
	struct {
		__be16 source, dest;
		__be32 seq, ack;
		__u8 offset, flags;
	} tcp;

	if (bpf_skb_load_bytes(skb, segment->l4, &tcp, 14))
		return false;
	ports[0] = tcp.source;
	ports[1] = tcp.dest;
	segment->port = bpf_ntohs(tcp.dest);
	segment->seq = tcp.seq;
	segment->flags = tcp.flags;
	return true;
}

/* Follows the extension headers, RFC 8200 section 4. Returns whether TCP comes behind them. */
static __always_inline bool segment_extensions(struct __sk_buff *skb, struct segment *segment,
					       __u8 next)
{
	__u8 h[2];

	for (int i = 0; i <= EXTENSIONS; i++) {
		if (next == IPPROTO_TCP)
			return true;
		if (next != IPV6_HOPOPTS && next != IPV6_ROUTING && next != IPV6_DSTOPTS)
			return false;
		if (bpf_skb_load_bytes(skb, segment->l4, h, sizeof(h)))
			return false;
		next = h[0];
		segment->l4 += (h[1] + 1) * 8;
	}
	return false;
}

/* Returns false for what is no TCP segment behind Ethernet, or a fragment. */
static __always_inline bool segment_read(struct __sk_buff *skb, struct segment *segment)
{
	__be16 ports[2];

	__builtin_memset(segment, 0, sizeof(*segment));
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct {
			__u8 version_len, tos;
			__be16 len, id, fragment;
			__u8 ttl, proto;
			__be16 checksum;
			__be32 src, dst;
		} ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, IPV4_LEN) || ip.proto != IPPROTO_TCP ||
		    (ip.fragment & bpf_htons(0x3fff)))
			return false;
		segment->l4 = ETH_HLEN + (ip.version_len & 15) * 4;
		if (!segment_tcp(skb, segment, ports))
			return false;
		segment->tuple.ipv4.saddr = ip.src;
		segment->tuple.ipv4.daddr = ip.dst;
		segment->tuple.ipv4.sport = ports[0];
		segment->tuple.ipv4.dport = ports[1];
		return true;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct {
			__be32 version_flow;
			__be16 len;
			__u8 next, hops;
			__be32 src[4], dst[4];
		} ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, IPV6_LEN))
			return false;
		segment->l4 = ETH_HLEN + IPV6_LEN;
		if (!segment_extensions(skb, segment, ip.next) || !segment_tcp(skb, segment, ports))
			return false;
		__builtin_memcpy(segment->tuple.ipv6.saddr, ip.src, 16);
		__builtin_memcpy(segment->tuple.ipv6.daddr, ip.dst, 16);
		segment->tuple.ipv6.sport = ports[0];
		segment->tuple.ipv6.dport = ports[1];
		segment->ipv6 = true;
		return true;
	}
	return false;
}

static __always_inline bool segment_is_syn(const struct segment *segment)
{
	return (segment->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* Whether connections of this way with the peer are left alone, by the peer's subnet. */
static __always_inline bool peer_skipped(const struct segment *segment, enum way way)
{
	struct subnet_key key = {.bits = 128};
	__u32 *skipped, *address = (__u32 *)key.address;

	if (segment->ipv6) {
		__builtin_memcpy(
		    address, way == INBOUND ? segment->tuple.ipv6.saddr : segment->tuple.ipv6.daddr,
		    16);
	} else {
		address[2] = bpf_htonl(0xffff);
		address[3] = way == INBOUND ? segment->tuple.ipv4.saddr : segment->tuple.ipv4.daddr;
	}
	skipped = bpf_map_lookup_elem(&linkerd_redirect_subnets_map, &key);
	return skipped && (*skipped & way);
}

#endif
