/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose the connections of a pod are that has a proxy (`config.mesh`).
 *
 * A request that goes through the proxy is on two connections: the proxy's with what is outside of
 * the pod, and the proxy's with the application, on the loopback. Requests are followed on the
 * second one, where they are in plain text and as the application has them. The user of a socket,
 * `config.proxy_uid`, tells the proxy's sockets from others.
 *
 *   interface  client       server       class
 *   eth0       (the pod's end is not the proxy's)  CLASS_PLAIN: what bypasses the proxy
 *   eth0       (the pod's end is the proxy's)      CLASS_PROXY: L4 only
 *   lo         proxy        application  CLASS_PLAIN: inbound; nobody knows the client
 *   lo         application  proxy, in place of somebody else   CLASS_OUTBOUND
 *   lo         application  proxy itself, as its admin port    CLASS_PROXY: L4 only
 *   lo         proxy        proxy        CLASS_PROXY: L4 only
 *   lo         application  application  CLASS_LOCAL
 */
#ifndef METRICD_MESH_CLASS_H
#define METRICD_MESH_CLASS_H

#include "net/state.h"

/* Bits of the flags of a connection: CONN_CLASS. */
#define CLASS_PLAIN (0 << 5)
#define CLASS_OUTBOUND (1 << 5)
#define CLASS_LOCAL (2 << 5)
#define CLASS_PROXY (3 << 5)

/* The flags of a connection, with its class by what is known of its ends (END_…). */
static __always_inline __u8 mesh_class(__u8 flags, __u16 ends, bool loopback)
{
	bool client = ends & END_PROXY(ROLE_CLIENT), server = ends & END_PROXY(ROLE_SERVER);
	__u8 class = CLASS_LOCAL;

	if (!loopback)
		class = client || server ? CLASS_PROXY : CLASS_PLAIN;
	else if (client)
		class = server ? CLASS_PROXY : CLASS_PLAIN;
	else if ((flags & CONN_TRANSLATED) || (ends & END_REDIRECTED))
		class = CLASS_OUTBOUND;
	else if (server)
		class = CLASS_PROXY;
	return (flags & ~CONN_CLASS) | class;
}

/* The class, as flags, of what nobody tells the ends of. */
static __always_inline __u8 mesh_class_untold(const struct conn_key *k)
{
	return config.mesh && conn_is_loopback(k) ? CLASS_LOCAL : 0;
}

/* Is it a connection of which the proxy tells nobody who the client is? */
static __always_inline bool mesh_hides_client(const struct conn_key *k, __u8 flags)
{
	return config.mesh && conn_is_loopback(k) && (flags & CONN_CLASS) == CLASS_PLAIN;
}

static __always_inline bool mesh_is_proxys(__u8 flags)
{
	return config.mesh && (flags & CONN_CLASS) == CLASS_PROXY;
}

/* The direction that a connection on the loopback has for the application. */
static __always_inline __u8 mesh_direction(__u8 flags)
{
	__u8 class = flags & CONN_CLASS;

	if (class == CLASS_PLAIN)
		return DIRECTION_INBOUND;
	return class == CLASS_OUTBOUND ? DIRECTION_OUTBOUND : DIRECTION_LOCAL;
}

/* Does the application send what the role sends? On the loopback the pod is taken as the server,
 * but where its application asks for something outside. */
static __always_inline bool mesh_sends(__u8 flags, __u32 role)
{
	bool is_outbound = config.mesh && (flags & CONN_CLASS) == CLASS_OUTBOUND;

	return is_outbound == (role == ROLE_CLIENT);
}

#endif
