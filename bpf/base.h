/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Types, arithmetic and the configuration that every other header uses. */
#ifndef METRICD_BASE_H
#define METRICD_BASE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "layout/abi.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Words are compared and cut as a little-endian machine reads them."
#endif

/*
 * TCX_NEXT and TC_ACT_UNSPEC. The only value the programs ever return: the
 * packet goes on to the programs and filters of others, as if we were not
 * there.
 */
#define PASS (-1)

#define SECOND 1000000000ULL

/*
 * The bound of an index, in a form that clang cannot optimise away because it
 * knows better than the verifier of 5.10. MASK is a power of two less one.
 */
#define bounded(i, MASK) asm volatile("%0 &= %1" : "+r"(i) : "i"(MASK))

/*
 * Keeps clang from working out addresses behind a pointer once before a loop, which would then all
 * have to be kept on the stack.
 */
#define fresh(pointer) asm volatile("" : "+r"(pointer))

/*
 * The same for clang 17 and newer alone: what they keep from one turn of a loop to the next makes
 * the verifier walk through it several times as often. Older ones do better without.
 */
#if __clang_major__ < 17
#define fresh_for_newer(value) ((void)0)
#else
#define fresh_for_newer(value) fresh(value)
#endif

/* Serial number arithmetic, RFC 9293 section 3.4. */
static __always_inline bool seq_before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

/* Tell clang which way most packets go, so that it keeps the other way out of their
 * instructions. */
#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

/* Read or write `x` in one access, however the compiler would like to. */
#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* Adds atomically, by an instruction that 5.10 knows. From clang 20 on only a relaxed addition is
 * that one, and the compiler has to be told not to move other accesses past it. */
#if __clang_major__ < 20
#define ATOMIC_ADD(counter, n) __sync_fetch_and_add(counter, n)
#else
#define ATOMIC_ADD(counter, n)                                                                     \
	do {                                                                                       \
		asm volatile("" ::: "memory");                                                     \
		__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);                                  \
		asm volatile("" ::: "memory");                                                     \
	} while (0)
#endif

static __always_inline void add32(__u32 *counter, __u32 n)
{
	ATOMIC_ADD(counter, n);
}

static __always_inline void add(__u64 *counter, __u64 n)
{
	ATOMIC_ADD(counter, n);
}

/* Set once by metricd-init before the programs are loaded. */
struct config {
	__u64 bounds_ns[BUCKETS]; /* upper, inclusive; the rest UINT64_MAX */
	__u64 dns_ports;	  /* of servers of DNS: four of 16 bits, 0 is none */
	__u64 idle_tcp_ns;
	__u64 idle_other_ns;	/* anything but TCP, and TCP before the handshake has
				   ended */
	__u32 connections;	/* slots in linkerd_connection_map */
	__u32 cache_mask;	/* of linkerd_connection_cache_map: its size less one */
	__u32 routes;		/* routes told apart at most; 0 if none are */
	__u32 loopback_ifindex; /* 0 where no interface is the loopback */
	__u32 epoch;		/* of the maps that metricd exports: see count/series.h */
	__u32 proxy_uid;	/* the user of the pod's proxy, if `mesh` is set */
	__u16 client_ports_low; /* the ports that sockets get that ask for none, both inclusive */
	__u16 client_ports_high;
	__u8 detail; /* enum detail */
	__u8 ipv6;
	__u8 mesh;    /* 1 in a pod that has a proxy: see mesh/class.h */
	__u8 ordered; /* an atomic add is a full barrier: x86-64 */
};

const volatile struct config config = {};

#endif
