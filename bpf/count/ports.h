/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which ports are servers': those of connections that have opened. */
#ifndef METRICD_COUNT_PORTS_H
#define METRICD_COUNT_PORTS_H

#include "layout/maps.h"

static __always_inline __u32 port_key(__u8 direction, __u16 port)
{
	return (__u32)direction << 16 | port;
}

/* Has a connection in this direction (enum direction) to the port ever opened? */
static __always_inline bool port_is_servers(__u8 direction, __u16 port)
{
	__u32 key = port_key(direction, port);

	return bpf_map_lookup_elem(&linkerd_server_port_map, &key);
}

/* Notes that a connection in this direction to the port has opened. */
static __always_inline void port_opened(__u8 direction, __u16 port)
{
	__u32 key = port_key(direction, port);
	__u8 yes = 1;

	if (!port_is_servers(direction, port))
		bpf_map_update_elem(&linkerd_server_port_map, &key, &yes, BPF_ANY);
}

/* The port as a series of attempts has it: itself, if it is a server's or one of the first
 * PORTS_TRIED that are none, and 0 otherwise. So a scan of all ports makes few series. */
static __always_inline __u16 port_of_attempts(__u8 direction, __u16 port)
{
	__u32 key = port_key(direction, port);
	__u8 yes = 1;

	if (port_is_servers(direction, port) ||
	    bpf_map_lookup_elem(&linkerd_tried_port_map, &key) ||
	    !bpf_map_update_elem(&linkerd_tried_port_map, &key, &yes, BPF_NOEXIST))
		return port;
	return 0;
}

#endif
