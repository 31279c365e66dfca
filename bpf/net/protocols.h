/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Numbers and lengths of the protocols below HTTP that are read by observation or by redirection.
 */
#ifndef METRICD_NET_PROTOCOLS_H
#define METRICD_NET_PROTOCOLS_H

#include <linux/if_ether.h>
#include <linux/in.h>

#define IPV4_LEN 20
#define IPV6_LEN 40
#define TCP_LEN 20
#define UDP_LEN 8
#define VLAN_LEN 4

/* IPv6 extension headers, RFC 8200 section 4, RFC 4302 and RFC 6275. */

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

#endif
