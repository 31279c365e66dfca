/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From an skb to addresses, ports, and where the payload is.
 *
 * Headers are read from the network header on, so that devices without Ethernet
 * work. The payload may lie in fragments and is read by its offset from the
 * start of the data, which needs the length of the L2 header: it is found by
 * looking for the network header in the linear part.
 */
#ifndef METRICD_PACKET_H
#define METRICD_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>

#include "maps.h"

#define IPV4_LEN 20
#define IPV6_LEN 40
#define TCP_LEN 20
#define PORTS_LEN 4
#define UDP_LEN 8
#define VLAN_LEN 4
#define VLANS 2	     /* tags left in the packet, beside the one that the kernel takes out */
#define EXTENSIONS 8 /* IPv6 extension headers followed */

#define IPV6_HOPOPTS 0
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define IPV6_AH 51
#define IPV6_DSTOPTS 60
#define IPV6_MOBILITY 135

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

static __always_inline int read_net(struct __sk_buff *skb, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET);
}

/*
 * Follows the extension headers (RFC 8200 section 4) from `off`, relative to
 * the network header. Returns the transport's protocol in the lowest byte,
 * FRAGMENTED_… in the next, its offset above.
 */
#define FRAGMENTED_FIRST 0x100
#define FRAGMENTED_LATER 0x200

__noinline int packet_extensions(struct __sk_buff *skb, __u32 off, __u32 proto)
{
	__u32 start = off, flags = 0;
	__u8 h[4];

	for (int i = 0; i < EXTENSIONS; i++) {
		if (proto != IPV6_HOPOPTS && proto != IPV6_ROUTING && proto != IPV6_FRAGMENT &&
		    proto != IPV6_AH && proto != IPV6_DSTOPTS && proto != IPV6_MOBILITY)
			break;
		if (read_net(skb, off, h, sizeof(h)))
			break;
		if (proto == IPV6_FRAGMENT) {
			__u32 offset = h[2] << 8 | h[3];

			if (offset & ~7)
				flags = FRAGMENTED_LATER;
			else if (offset & 1)
				flags = FRAGMENTED_FIRST;
			off += 8;
		} else if (proto == IPV6_AH) {
			off += (h[1] + 2) * 4;
		} else {
			off += (h[1] + 1) * 8;
		}
		proto = h[0];
		if (flags == FRAGMENTED_LATER)
			break;
	}
	return (start + ((off - start) & 0x3fff)) << 16 | flags | (proto & 0xff);
}

/* Offset of the network header, whose first eight bytes are `want`, from the
 * start of the data. */
static __always_inline __u32 packet_l2_len(struct __sk_buff *skb, __u64 want)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if (likely(data + ETH_HLEN + 8 <= end && *(__u64 *)(data + ETH_HLEN) == want))
		return ETH_HLEN;
	if (data + 8 <= end && *(__u64 *)data == want)
		return 0;
	if (data + ETH_HLEN + VLAN_LEN + 8 <= end && *(__u64 *)(data + ETH_HLEN + VLAN_LEN) == want)
		return ETH_HLEN + VLAN_LEN;
	if (data + ETH_HLEN + 2 * VLAN_LEN + 8 <= end &&
	    *(__u64 *)(data + ETH_HLEN + 2 * VLAN_LEN) == want)
		return ETH_HLEN + 2 * VLAN_LEN;
	return ETH_HLEN;
}

/* Packets and bytes as on the wire; `headers` are repeated in each segment of a
 * GSO packet. */
static __always_inline void packet_size(struct __sk_buff *skb, struct packet *p, __u32 headers)
{
	__u32 segments = skb->gso_segs;

	if (segments <= 1) {
		__u32 size = skb->gso_size;

		/* Forwarded from a guest or a tap, gso_segs is not yet known. */
		segments = 1;
		if (unlikely(size && skb->len > headers + size))
			segments = (skb->len - headers + size - 1) / size;
	}
	p->segments = segments;
	p->wire_bytes = skb->len + (__u64)(segments - 1) * headers;
}

/*
 * Fills the packet's key, kind, payload and TCP fields. Anything that is cut
 * short keeps what could be read, and is counted.
 */
static __always_inline void packet_parse(struct __sk_buff *skb, struct packet *p)
{
	__u32 *h = (__u32 *)p->headers;
	__u8 *b = p->headers;
	__be16 ethertype = skb->protocol;
	__u32 net = 0, l2, l3, l4, proto, src_port = 0, dst_port = 0, total;
	__u64 src[2], dst[2];
	bool whole = false;

	for (int i = 0; i < VLANS; i++) {
		if (likely(ethertype != bpf_htons(ETH_P_8021Q) &&
			   ethertype != bpf_htons(ETH_P_8021AD)))
			break;
		if (read_net(skb, net, b, VLAN_LEN))
			break;
		ethertype = ((__be16 *)b)[1];
		net += VLAN_LEN;
	}

	p->fragment = 0;
	p->payload = p->end = 0;
	if (likely(ethertype == bpf_htons(ETH_P_IP))) {
		/* One call in the common case: no options, and at least 20 bytes behind. */
		if (likely(!read_net(skb, net, b, IPV4_LEN + TCP_LEN))) {
			whole = true;
		} else if (read_net(skb, net, b, IPV4_LEN)) {
			count(truncated);
			goto not_ip;
		}
		l3 = (b[0] & 15) * 4;
		proto = b[9];
		total = bpf_ntohs(((__be16 *)b)[1]);
		src[0] = dst[0] = 0;
		src[1] = (__u64)h[3] << 32 | bpf_htonl(0xffff);
		dst[1] = (__u64)h[4] << 32 | bpf_htonl(0xffff);
		if (unlikely(((__be16 *)b)[3] & bpf_htons(0x1fff)))
			p->fragment = FRAGMENTED_LATER >> 8;
		else if (unlikely(((__be16 *)b)[3] & bpf_htons(0x2000)))
			p->fragment = FRAGMENTED_FIRST >> 8;
		l2 = packet_l2_len(skb, *(__u64 *)b);
		if (l3 != IPV4_LEN)
			whole = false;
		else if (whole) {
			h[0] = h[5], h[1] = h[6], h[2] = h[7], h[3] = h[8];
		}
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		if (!config.ipv6) {
			p->kind = SERIES_IPV6_OFF;
			packet_size(skb, p, 0);
			return;
		}
		if (likely(!read_net(skb, net, b, IPV6_LEN + TCP_LEN))) {
			whole = true;
		} else if (read_net(skb, net, b, IPV6_LEN)) {
			count(truncated);
			goto not_ip;
		}
		l3 = IPV6_LEN;
		proto = b[6];
		total = bpf_ntohs(((__be16 *)b)[2]);
		if (total)
			total += IPV6_LEN;
		src[0] = ((__u64 *)b)[1];
		src[1] = ((__u64 *)b)[2];
		dst[0] = ((__u64 *)b)[3];
		dst[1] = ((__u64 *)b)[4];
		l2 = packet_l2_len(skb, *(__u64 *)b);
		if (proto != IPPROTO_TCP && proto != IPPROTO_UDP) {
			__u32 r = packet_extensions(skb, net + IPV6_LEN, proto);

			proto = r & 0xff;
			p->fragment = r >> 8 & 3;
			l3 = (r >> 16) - net;
			whole = false;
		} else if (whole) {
			h[0] = h[10], h[1] = h[11], h[2] = h[12], h[3] = h[13];
		}
	} else {
	not_ip:
		p->kind = SERIES_NON_IP;
		packet_size(skb, p, 0);
		return;
	}

	/* The first 16 bytes of the transport's header are now to be in h[0] to h[3].
	 */
	l4 = l2 + l3;
	if (likely(proto == IPPROTO_TCP && !(p->fragment & (FRAGMENTED_LATER >> 8)))) {
		if (unlikely(!whole && read_net(skb, net + l3, b, 16))) {
			count(truncated);
			p->fragment = FRAGMENTED_FIRST >> 8; /* as little known as of one */
		} else {
			src_port = bpf_ntohs(((__be16 *)b)[0]);
			dst_port = bpf_ntohs(((__be16 *)b)[1]);
			p->seq = bpf_ntohl(h[1]);
			p->ack = bpf_ntohl(h[2]);
			p->tcp_flags = b[13];
			l4 += (b[12] >> 4) * 4;
			p->payload = l4;
			/* Ethernet pads short frames; GSO packets over 64 KB have no length. */
			p->end = skb->len;
			if (total && l2 + total < p->end)
				p->end = l2 + total;
			if (p->end < p->payload)
				p->end = p->payload;
		}
	} else if (proto == IPPROTO_UDP && !(p->fragment & (FRAGMENTED_LATER >> 8))) {
		if (!whole && read_net(skb, net + l3, b, PORTS_LEN)) {
			count(truncated);
		} else {
			src_port = bpf_ntohs(((__be16 *)b)[0]);
			dst_port = bpf_ntohs(((__be16 *)b)[1]);
		}
		l4 += UDP_LEN;
	}
	packet_size(skb, p, l4);

	p->kind = SERIES_IP;
	p->key.proto = proto;
	if (unlikely(skb->ifindex == config.loopback_ifindex)) {
		/* Both ends are local: take the one with the lower port. */
		p->to_local = dst_port < src_port || (dst_port == src_port && dst[1] < src[1]);
	} else {
		p->to_local = !p->egress;
	}
	p->key.ifindex = skb->ifindex;
	if (p->to_local) {
		p->key.remote[0] = src[0], p->key.remote[1] = src[1];
		p->key.local[0] = dst[0], p->key.local[1] = dst[1];
		p->key.remote_port = src_port, p->key.local_port = dst_port;
	} else {
		p->key.remote[0] = dst[0], p->key.remote[1] = dst[1];
		p->key.local[0] = src[0], p->key.local[1] = src[1];
		p->key.remote_port = dst_port, p->key.local_port = src_port;
	}
}

#endif
