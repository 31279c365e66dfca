/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections whose addresses are translated on the loopback: iptables' REDIRECT and the like give
 * them to the proxy. Packets of the application are addressed to the proxy's listener, as
 * 127.0.0.1:4140. Packets of the proxy come from where the application wanted to go. So the two
 * directions have keys that differ. Both sockets have the addresses as they were before the
 * translation: the application's has the original destination, the proxy's has its listener's. A
 * packet on its way out still belongs to its socket (__sk_buff.sk, kernel 5.1), so any packet of
 * either direction tells both keys.
 *
 * The connection goes by the key of the proxy's packets, which has the original destination. The
 * key of the application's packets is in conn.as_sent, and in linkerd_connection_index_map, too.
 */
#ifndef METRICD_MESH_TRANSLATED_H
#define METRICD_MESH_TRANSLATED_H

#include "net/packet.h"

/* One end of a connection. */
struct end {
	__u64 address[2];
	__u16 port;
};

static __always_inline bool end_equal(const struct end *a, const struct end *b)
{
	return a->address[0] == b->address[0] && a->address[1] == b->address[1] &&
	       a->port == b->port;
}

/* The end that has sent the packet, or the end that it is for. */
static __always_inline void end_of_packet(struct end *end, const struct packet *p, bool sender)
{
	bool local = sender != !!p->to_local;

	address_copy(end->address, local ? p->key.local : p->key.remote);
	end->port = local ? p->key.local_port : p->key.remote_port;
}

/* The addresses of the socket that sends the packet: its own, and its peer's. */
static __always_inline void end_of_socket(struct __sk_buff *skb, struct bpf_sock *sk,
					  struct end *own, struct end *peer)
{
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		own->address[0] = peer->address[0] = 0;
		own->address[1] = (__u64)sk->src_ip4 << 32 | bpf_htonl(0xffff);
		peer->address[1] = (__u64)sk->dst_ip4 << 32 | bpf_htonl(0xffff);
	} else {
		own->address[0] = (__u64)sk->src_ip6[1] << 32 | sk->src_ip6[0];
		own->address[1] = (__u64)sk->src_ip6[3] << 32 | sk->src_ip6[2];
		peer->address[0] = (__u64)sk->dst_ip6[1] << 32 | sk->dst_ip6[0];
		peer->address[1] = (__u64)sk->dst_ip6[3] << 32 | sk->dst_ip6[2];
	}
	own->port = sk->src_port;
	peer->port = bpf_ntohs(sk->dst_port);
}

/* Makes the key of a packet between these ends the packet's. */
static __always_inline void translated_key(struct __sk_buff *skb, struct packet *p,
					   const struct end *from, const struct end *to)
{
	packet_ends(skb, p, from->address, to->address, from->port, to->port, IPPROTO_TCP);
}

enum translated {
	TRANSLATED_NOT,
	TRANSLATED_CLIENT, /* the client, whose destination is translated, has sent the packet */
	TRANSLATED_SERVER, /* the server, whose source is translated, has sent the packet */
};

/*
 * Looks whether the addresses of a packet that leaves by the loopback are translated: returns enum
 * translated. If they are, the packet gets the key that its connection goes by, and the scratch the
 * key of the client's packets.
 */
__noinline int translated_find(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct bpf_sock *sk = skb->sk;
	struct end from, to, own, peer;
	struct conn_key server;
	struct packet *p;

	if (!s || !sk || !sk->dst_port)
		return TRANSLATED_NOT;
	p = &s->packet;
	end_of_packet(&from, p, true);
	end_of_packet(&to, p, false);
	end_of_socket(skb, sk, &own, &peer);
	if (end_equal(&own, &from) && end_equal(&peer, &to))
		return TRANSLATED_NOT;
	/* What is translated is the server's end. The client's port may be another one, too, where
	 * two connections would have the same key. */
	if (own.address[0] == from.address[0] && own.address[1] == from.address[1] &&
	    !end_equal(&peer, &to)) {
		conn_key_copy(&s->as_sent, &p->key);
		translated_key(skb, p, &own, &peer);
		return TRANSLATED_CLIENT;
	}
	if (peer.address[0] == to.address[0] && peer.address[1] == to.address[1] &&
	    !end_equal(&own, &from)) {
		__u8 to_local = p->to_local;

		conn_key_copy(&server, &p->key);
		translated_key(skb, p, &peer, &own);
		conn_key_copy(&s->as_sent, &p->key);
		conn_key_copy(&p->key, &server);
		p->to_local = to_local;
		return TRANSLATED_SERVER;
	}
	return TRANSLATED_NOT;
}

/* Gives a packet of the client the key that its connection goes by. */
static __always_inline void translated_settle(struct packet *p, const struct conn *c)
{
	if (!(c->brief.flags & CONN_TRANSLATED) || !conn_key_equal(&c->as_sent, &p->key))
		return;
	conn_key_copy(&p->key, &c->key);
	p->to_local = !(c->brief.flags & CONN_CLIENT_LOCAL);
}

#endif
