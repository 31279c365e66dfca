/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From an skb to addresses, ports, and where the payload is.
 *
 * Headers are read from the network header on, so that devices without Ethernet work; the headers
 * of ordinary packets behind Ethernet are read directly. The payload may lie in fragments and is
 * read by its offset from the start of the data, which needs the length of the L2 header. That
 * length is found by looking for the network header in the linear part. Where the header is not
 * there, the length is known from how the header was read.
 */
#ifndef METRICD_NET_PACKET_H
#define METRICD_NET_PACKET_H

#include "layout/maps.h"
#include "net/protocols.h"

#define TCP_FIELDS 16	    /* bytes of a TCP header that are looked at */
#define PORTS_LEN 4	    /* bytes of a UDP header that are looked at */
#define PACKET_VLANS 2	    /* tags left in the packet, beside the one that the kernel takes out */
#define PACKET_EXTENSIONS 8 /* IPv6 extension headers followed */

static __always_inline bool packet_is_tag(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

/* packet_read where the header is not in the linear part, as with what packet sockets send: then it
 * is read by its offset from the start of the data. Ethernet's header, if there is one, has the
 * packet's protocol at its end. */
__noinline int packet_read_far(struct __sk_buff *skb, __u32 off, __u32 len)
{
	struct scratch *s = scratch();
	__be16 ethertype;

	if (!s || !len)
		return -1;
	/* Bounded in a form that older verifiers see. */
	len--;
	bounded(len, 63);
	if (len >= sizeof(s->packet.headers) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN - sizeof(ethertype), &ethertype, sizeof(ethertype)))
		return -1;
	s->packet.far = ethertype == (__be16)skb->protocol ? ETH_HLEN : 0;
	off += s->packet.far;
	return bpf_skb_load_bytes(skb, off, s->packet.headers, len + 1) ? -1 : 0;
}

/* Reads `len` bytes, `off` bytes behind the beginning of the network header, into p->headers. */
static __always_inline int packet_read(struct __sk_buff *skb, struct packet *p, __u32 off,
				       __u32 len)
{
	if (likely(!bpf_skb_load_bytes_relative(skb, off, p->headers, len, BPF_HDR_START_NET)))
		return 0;
	return packet_read_far(skb, off, len);
}

/*
 * Follows the extension headers (RFC 8200 section 4) from `off`, relative to the network header.
 * Returns the transport's protocol in the lowest byte, PACKET_FRAGMENTED_… in the next, and the
 * transport's offset above.
 */
#define PACKET_FRAGMENTED_FIRST 0x100
#define PACKET_FRAGMENTED_LATER 0x200

__noinline int packet_extensions(struct __sk_buff *skb, __u32 off, __u32 proto)
{
	struct scratch *s = scratch();
	__u32 start = off, flags = 0;
	__u8 *h;

	if (!s)
		return off << 16 | (proto & 0xff);
	h = s->packet.headers;
	for (int i = 0; i < PACKET_EXTENSIONS; i++) {
		if (proto != IPV6_HOPOPTS && proto != IPV6_ROUTING && proto != IPV6_FRAGMENT &&
		    proto != IPV6_AH && proto != IPV6_DSTOPTS && proto != IPV6_MOBILITY)
			break;
		if (packet_read(skb, &s->packet, off, 4))
			break;
		if (proto == IPV6_FRAGMENT) {
			__u32 offset = h[2] << 8 | h[3];

			if (offset & ~7)
				flags = PACKET_FRAGMENTED_LATER;
			else if (offset & 1)
				flags = PACKET_FRAGMENTED_FIRST;
			if (flags && !packet_read(skb, &s->packet, off, 8))
				s->packet.fragment_id = ((__be32 *)h)[1];
			off += 8;
		} else if (proto == IPV6_AH) {
			off += (h[1] + 2) * 4;
		} else {
			off += (h[1] + 1) * 8;
		}
		proto = h[0];
		if (flags == PACKET_FRAGMENTED_LATER)
			break;
	}
	return (start + ((off - start) & 0x3fff)) << 16 | flags | (proto & 0xff);
}

/* Offset of the IP header, whose first eight bytes are `want`, from the start of the data; `far` if
 * it is not in the linear part. */
static __always_inline __u32 packet_l2_len(struct __sk_buff *skb, __u64 want, __u32 far)
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
	return far;
}

/* What packet sockets send with tags in the data (IEEE 802.1Q) has its network header behind these.
 * Returns the ethertype of what is there, if that is so, or 0. */
__noinline __u32 packet_behind_tags(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	__be16 *near, data[3];
	__u32 version;

	if (!s || packet_read(skb, &s->packet, 0, VLAN_LEN) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN - sizeof(data[0]), data, sizeof(data)))
		return 0;
	near = (__be16 *)s->packet.headers;
	if (data[0] != (__be16)skb->protocol || (data[1] == near[0] && data[2] == near[1]))
		return 0;
	version = s->packet.headers[0] >> 4;
	if (version == 4)
		return bpf_htons(ETH_P_IP);
	return version == 6 ? bpf_htons(ETH_P_IPV6) : 0;
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

/* The packet's key, for a packet from `src` to `dst`. */
static __always_inline void packet_ends(struct __sk_buff *skb, struct packet *p, const __u64 *src,
					const __u64 *dst, __u32 src_port, __u32 dst_port,
					__u32 proto)
{
	bool loopback = skb->ifindex == config.loopback_ifindex;

	if (unlikely(loopback)) {
		/* Both ends are local: take the one with the lower port. */
		p->to_local = dst_port < src_port || (dst_port == src_port && dst[1] < src[1]);
	} else {
		p->to_local = !p->egress;
	}
	p->kind = SERIES_IP;
	p->key.rest = conn_rest(loopback, proto);
	if (p->to_local) {
		p->key.remote[0] = src[0], p->key.remote[1] = src[1];
		p->key.local[0] = dst[0], p->key.local[1] = dst[1];
		p->key.ports = conn_ports(dst_port, src_port);
	} else {
		p->key.remote[0] = dst[0], p->key.remote[1] = dst[1];
		p->key.local[0] = src[0], p->key.local[1] = src[1];
		p->key.ports = conn_ports(src_port, dst_port);
	}
}

/* The fields of a TCP header at `h`, which begins `l4` bytes into a packet of `end` bytes. */
static __always_inline void packet_tcp(struct packet *p, const __u8 *h, __u32 l4, __u32 end)
{
	p->seq = bpf_ntohl(*(__be32 *)(h + 4));
	p->ack = bpf_ntohl(*(__be32 *)(h + 8));
	p->tcp_flags = h[13];
	p->payload = l4 + (h[12] >> 4) * 4;
	p->end = end < p->payload ? p->payload : end;
}

/*
 * The way of most packets: TCP behind Ethernet and an IP header without options, all of it in the
 * linear part, where it needs no helper. That the data begins with an Ethernet header is seen from
 * the lengths, which must fit with one and must not without. Returns false, having done nothing,
 * for any other packet.
 */
static __always_inline bool packet_direct(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__be16 ethertype = skb->protocol;
	__u8 *ip = data + ETH_HLEN, *tcp;
	__u32 l4, len;
	__u64 src[2], dst[2];

	if (unlikely(data + ETH_HLEN + IPV4_LEN + TCP_LEN > end ||
		     *(__be16 *)(data + 2 * ETH_ALEN) != ethertype))
		return false;
	if (likely(ethertype == bpf_htons(ETH_P_IP))) {
		if (unlikely(ip[0] != 0x45 || ip[9] != IPPROTO_TCP ||
			     (*(__be16 *)(ip + 6) & bpf_htons(0x3fff)) ||
			     bpf_ntohs(*(__be16 *)(data + 2)) == skb->len))
			return false;
		len = ETH_HLEN + bpf_ntohs(*(__be16 *)(ip + 2));
		src[0] = dst[0] = 0;
		src[1] = (__u64) * (__u32 *)(ip + 12) << 32 | bpf_htonl(0xffff);
		dst[1] = (__u64) * (__u32 *)(ip + 16) << 32 | bpf_htonl(0xffff);
		l4 = ETH_HLEN + IPV4_LEN;
	} else {
		if (ethertype != bpf_htons(ETH_P_IPV6) || !config.ipv6 ||
		    data + ETH_HLEN + IPV6_LEN + TCP_LEN > end || ip[6] != IPPROTO_TCP ||
		    (ip[0] & 0xf0) != 0x60 ||
		    bpf_ntohs(*(__be16 *)(data + 4)) + IPV6_LEN == skb->len)
			return false;
		len = ETH_HLEN + IPV6_LEN + bpf_ntohs(*(__be16 *)(ip + 4));
		src[0] = ((__u64 *)(ip + 8))[0];
		src[1] = ((__u64 *)(ip + 8))[1];
		dst[0] = ((__u64 *)(ip + 24))[0];
		dst[1] = ((__u64 *)(ip + 24))[1];
		l4 = ETH_HLEN + IPV6_LEN;
	}
	/* Ethernet pads short frames. */
	if (unlikely(len != skb->len && (len > skb->len || skb->len != ETH_ZLEN)))
		return false;
	tcp = data + l4;
	p->fragment = 0;
	packet_tcp(p, tcp, l4, len);
	packet_size(skb, p, p->payload);
	packet_ends(skb, p, src, dst, bpf_ntohs(*(__be16 *)tcp), bpf_ntohs(*(__be16 *)(tcp + 2)),
		    IPPROTO_TCP);
	return true;
}

/*
 * Fills the packet's key, kind, payload and TCP fields, of any packet. Anything that is cut short
 * keeps what could be read, and is counted.
 */
__noinline int packet_any(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct packet *p;
	__u32 *h;
	__u8 *b;
	__be16 ethertype = skb->protocol;
	__u32 net = 0, l2, l3, l4, proto, src_port = 0, dst_port = 0, total;
	__u64 src[2], dst[2];

	if (!s)
		return 0;
	p = &s->packet;
	h = (__u32 *)p->headers;
	b = p->headers;
	p->far = ETH_HLEN;
	if (packet_is_tag(ethertype)) {
		__be16 behind = packet_behind_tags(skb);

		if (behind)
			ethertype = behind;
	}
	for (int i = 0; i < PACKET_VLANS; i++) {
		if (!packet_is_tag(ethertype))
			break;
		if (packet_read(skb, p, net, VLAN_LEN))
			break;
		ethertype = ((__be16 *)b)[1];
		net += VLAN_LEN;
	}

	p->fragment = 0;
	p->payload = p->end = 0;
	if (ethertype == bpf_htons(ETH_P_IP)) {
		if (packet_read(skb, p, net, IPV4_LEN)) {
			counters_add(truncated);
			goto not_ip;
		}
		l3 = (b[0] & 15) * 4;
		proto = b[9];
		total = bpf_ntohs(((__be16 *)b)[1]);
		src[0] = dst[0] = 0;
		src[1] = (__u64)h[3] << 32 | bpf_htonl(0xffff);
		dst[1] = (__u64)h[4] << 32 | bpf_htonl(0xffff);
		if (((__be16 *)b)[3] & bpf_htons(0x1fff))
			p->fragment = PACKET_FRAGMENTED_LATER >> 8;
		else if (((__be16 *)b)[3] & bpf_htons(0x2000))
			p->fragment = PACKET_FRAGMENTED_FIRST >> 8;
		p->fragment_id = ((__be16 *)b)[2];
		l2 = packet_l2_len(skb, *(__u64 *)b, p->far + net);
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		if (!config.ipv6) {
			p->kind = SERIES_IPV6_OFF;
			packet_size(skb, p, 0);
			return 0;
		}
		if (packet_read(skb, p, net, IPV6_LEN)) {
			counters_add(truncated);
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
		l2 = packet_l2_len(skb, *(__u64 *)b, p->far + net);
		if (proto != IPPROTO_TCP && proto != IPPROTO_UDP) {
			__u32 r = packet_extensions(skb, net + IPV6_LEN, proto);

			proto = r & 0xff;
			p->fragment = r >> 8 & 3;
			l3 = (r >> 16) - net;
		}
	} else {
	not_ip:
		p->kind = SERIES_NON_IP;
		packet_size(skb, p, 0);
		return 0;
	}

	l4 = l2 + l3;
	if (proto == IPPROTO_TCP && !(p->fragment & (PACKET_FRAGMENTED_LATER >> 8))) {
		if (packet_read(skb, p, net + l3, TCP_FIELDS)) {
			counters_add(truncated);
			/* As little is known of the segment as of a fragment. */
			p->fragment = PACKET_FRAGMENTED_FIRST >> 8;
		} else {
			src_port = bpf_ntohs(((__be16 *)b)[0]);
			dst_port = bpf_ntohs(((__be16 *)b)[1]);
			/* Ethernet pads short frames; GSO packets over 64 KB have no length. */
			packet_tcp(p, b, l4,
				   total && l2 + total < skb->len ? l2 + total : skb->len);
			l4 = p->payload;
		}
	} else if (proto == IPPROTO_UDP && !(p->fragment & (PACKET_FRAGMENTED_LATER >> 8))) {
		if (packet_read(skb, p, net + l3, PORTS_LEN)) {
			counters_add(truncated);
		} else {
			src_port = bpf_ntohs(((__be16 *)b)[0]);
			dst_port = bpf_ntohs(((__be16 *)b)[1]);
		}
		l4 += UDP_LEN;
		p->payload = l4;
		p->end = total && l2 + total < skb->len ? l2 + total : skb->len;
	}
	packet_size(skb, p, l4);
	packet_ends(skb, p, src, dst, src_port, dst_port, proto);
	return 0;
}

/* Is it a fragment without the transport's header? */
static __always_inline bool packet_is_later_fragment(const struct packet *p)
{
	return p->fragment & (PACKET_FRAGMENTED_LATER >> 8);
}

/* Is it the first segment of a connection of TCP, that its client sends? */
static __always_inline bool packet_is_syn(const struct packet *p)
{
	return (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

/* Can a connection begin with this packet? */
static __always_inline bool packet_opens(const struct packet *p)
{
	if (p->key.proto != IPPROTO_TCP)
		return true;
	if (p->fragment)
		return false;
	if (p->tcp_flags & (TCP_RST | TCP_FIN))
		return false;
	return (p->tcp_flags & TCP_SYN) || p->end != p->payload;
}

#endif
