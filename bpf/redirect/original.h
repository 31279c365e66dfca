/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * For proxies that ask conntrack where a connection was to go (SO_ORIGINAL_DST), which has nothing
 * to say where nothing is translated: their own socket's address is the answer.
 */
#ifndef REDIRECT_ORIGINAL_H
#define REDIRECT_ORIGINAL_H

#include <linux/in.h>

#include "redirect/config.h"

#define SO_ORIGINAL_DST 80 /* linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST */
#define AF_INET 2
#define AF_INET6 10
#define SOL_IP 0
#define SOL_IPV6 41

struct sockaddr_ipv6 {
	__u16 family;
	__be16 port;
	__u32 flow;
	__u32 address[4];
	__u32 scope;
};

SEC("cgroup/getsockopt")
int linkerd_redirect_original(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	void *end = ctx->optval_end;

	/* Conntrack has answered, or there was no such question. */
	if (!ctx->retval || ctx->optname != SO_ORIGINAL_DST || !sk || sk->protocol != IPPROTO_TCP)
		return 1;
	if (ctx->level == SOL_IP) {
		struct sockaddr_in *to = ctx->optval;

		/* A socket for both families has this address, too, if its connection is of
		 * IPv4. */
		if ((void *)(to + 1) > end || !sk->src_ip4)
			return 1;
		__builtin_memset(to, 0, sizeof(*to));
		to->sin_family = AF_INET;
		to->sin_port = bpf_htons(sk->src_port);
		to->sin_addr.s_addr = sk->src_ip4;
		ctx->optlen = sizeof(*to);
	} else if (ctx->level == SOL_IPV6) {
		struct sockaddr_ipv6 *to = ctx->optval;

		if ((void *)(to + 1) > end || sk->family != AF_INET6)
			return 1;
		to->family = AF_INET6;
		to->port = bpf_htons(sk->src_port);
		to->flow = to->scope = 0;
		to->address[0] = sk->src_ip6[0];
		to->address[1] = sk->src_ip6[1];
		to->address[2] = sk->src_ip6[2];
		to->address[3] = sk->src_ip6[3];
		ctx->optlen = sizeof(*to);
	} else {
		return 1;
	}
	ctx->retval = 0;
	return 1;
}

#endif
