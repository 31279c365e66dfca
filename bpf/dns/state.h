/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is remembered of queries of DNS, and of the message at hand. */
#ifndef METRICD_DNS_STATE_H
#define METRICD_DNS_STATE_H

#include "net/state.h"

/* A query of DNS that is waited for. */
struct dns_query {
	struct conn_key key;
	__u16 id;
	__u8 direction; /* enum direction; 0 if the place is free */
	__u8 pad;
	__u32 pad2;
	__u64 asked_ns; /* when the query was first sent */
	__u64 sent_ns;	/* when the query was last sent */
};

#define DNS_WAYS 8

/* The queries with one hash. */
struct dns_set {
	struct bpf_spin_lock lock;
	__u32 pad;
	struct dns_query ways[DNS_WAYS];
};

/* A message of DNS. */
struct dns {
	__u8 header[12];
	__u32 way;	 /* where the query is, or is to be */
	__u32 from, to;	 /* offsets of what the packet has of the message behind its header */
	__u64 oldest_ns; /* when the oldest query seen so far was sent */
	struct dns_query query; /* the query that the message is, or answers */
	struct dns_query old;	/* the query that was in the message's place */
	struct dns_key key;
	__u32 sweep; /* the set that is looked at next for what nobody answers */
	__u32 pad;
};

#endif
