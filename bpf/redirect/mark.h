/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How packets are marked that redirection leads to the loopback. The rule that
 * src/redirect/routing.rs makes lets them be local. */
#ifndef REDIRECT_MARK_H
#define REDIRECT_MARK_H

/* The mark of packets on their way from an interface to the loopback. */
#define REDIRECT_MARK 0x6d74
/* The mark of inbound packets that come by the loopback once more: see again.h. */
#define REDIRECT_MARK_AGAIN 0x6d75

#endif
