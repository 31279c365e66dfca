/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP, RFC 9293: the handshake and its RTT, what is sent again, and how connections end.
 */
#ifndef METRICD_TCP_H
#define METRICD_TCP_H

#include "conn.h"

/* How far from what is expected the sequence number of a believable RST may be. */
#define RST_WINDOW (1 << 20)

/* What tcp_track tells beside the packet's delta. */
struct tcp_result {
	__u64 rtt_ns; /* 0 is no sample */
	__u64 opened_ns; /* of a connection that has ended */
	bool known; /* the slot is still this connection's */
	bool parse; /* the payload is the caller's to follow: busy is set */
	bool ended;
};

/* The segment lies in what was passed over before: it is late, not sent again. */
static __always_inline bool tcp_fills_hole(const struct stream *m, __u32 seq, __u32 end)
{
	return m->hole_lo != m->hole_hi && !before(seq, m->hole_lo) && !before(m->hole_hi, end);
}

/* Under the slot's lock: which bytes are new. Returns segments that were sent again. */
static __always_inline __u32 tcp_sequence(struct conn *c, struct stream *m, __u32 role,
					  const struct packet *p, __u32 len)
{
	__u32 seq = p->seq, end = seq + len;
	__u32 again = 0;

	if (!(c->known & (1 << role))) {
		c->known |= 1 << role;
		m->end = end;
		return 0;
	}
	if (!before(seq, m->end)) {
		if (seq != m->end) {
			if (m->hole_lo == m->hole_hi)
				m->hole_lo = m->end;
			m->hole_hi = seq;
		}
		m->end = end;
		return 0;
	}
	if (tcp_fills_hole(m, seq, end)) {
		if (seq == m->hole_lo)
			m->hole_lo = end;
		else if (end == m->hole_hi)
			m->hole_hi = seq;
	} else if (!(len == 1 && seq + 1 == m->end && !p->egress && !(p->tcp_flags & TCP_FIN))) {
		/* One old byte is how other stacks probe a silent peer or a closed window. */
		again = p->segments;
	}
	if (before(m->end, end))
		m->end = end;
	return again;
}

/* Under the slot's lock: the connection is over, for `reason`. */
static __always_inline void tcp_end(struct conn *c, struct packet *p, struct tcp_result *r,
				    __u32 reason)
{
	c->state = SLOT_CLOSED;
	c->closing = 0;
	p->delta.closed = reason + 1;
	p->delta.aborted = conn_outstanding(c);
	r->opened_ns = c->flags & CONN_ADOPTED ? 0 : c->opened_ns;
	r->ended = true;
}

/*
 * Follows one segment. Takes the slot's lock, under which nothing may be called. The time must
 * have been read for segments with a SYN and until the handshake has ended.
 */
static __always_inline void tcp_track(struct conn *c, struct packet *p, struct tcp_result *r)
{
	__u32 len = p->end - p->payload;
	__u8 flags = p->tcp_flags;
	__u32 role, closing = 0;
	struct stream *m;
	bool client_local;

	r->rtt_ns = r->opened_ns = 0;
	r->known = r->parse = r->ended = false;
	if (flags & TCP_SYN)
		len++;
	if (flags & TCP_FIN)
		len++;

	bpf_spin_lock(&c->lock);
	if ((c->state != SLOT_LIVE && c->state != SLOT_CLOSED) || !conn_is(c, &p->key))
		goto unlock;
	r->known = true;
	if (c->seen_jiffies != p->jiffies)
		c->seen_jiffies = p->jiffies;

	/* A new SYN: for a closed connection the next one, for a live one the end of the old. */
	if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !c->busy &&
	    (c->state == SLOT_CLOSED ||
	     ((c->seen & SEEN_ACK) && (c->known & (1 << CLIENT)) &&
	      !!(c->flags & CONN_CLIENT_LOCAL) != p->to_local &&
	      p->seq + 1 != c->stream[CLIENT].end && before(c->stream[CLIENT].end, p->seq)))) {
		if (c->state == SLOT_LIVE)
			tcp_end(c, p, r, CLOSE_IDLE);
		conn_begin(c, p, (c->flags & CONN_OTHER) | (p->to_local ? 0 : CONN_CLIENT_LOCAL));
	}

	client_local = c->flags & CONN_CLIENT_LOCAL;
	role = client_local != p->to_local ? CLIENT : SERVER;
	p->role = role;
	bounded(role, 1);
	m = &c->stream[role];

	if (len)
		p->delta.retransmits = tcp_sequence(c, m, role, p, len);

	if (flags & TCP_SYN) {
		__u8 bit = flags & TCP_ACK ? SEEN_SYNACK : SEEN_SYN;

		if (c->seen & bit)
			c->flags |= CONN_TWICE;
		if (!(c->seen & bit)) {
			c->seen |= bit;
			c->http1[role].next = p->seq + 1;
			if (bit == SEEN_SYN) {
				c->handshake_ns = p->now;
			} else if (!client_local || p->key.ifindex == config.loopback_ifindex) {
				c->handshake_ns = p->now;
			} else if (!(c->flags & (CONN_TWICE | CONN_ADOPTED))) {
				r->rtt_ns = p->now - c->handshake_ns;
			}
		}
	} else if (!(c->seen & SEEN_ACK) && (flags & TCP_ACK) && !(flags & TCP_RST)) {
		/* The client's ACK of the SYN-ACK, or any packet of an adopted connection. */
		if (role == CLIENT || (c->flags & CONN_ADOPTED)) {
			c->seen |= SEEN_ACK;
			if (role == CLIENT && (c->seen & SEEN_SYNACK) &&
			    !(c->flags & (CONN_TWICE | CONN_ADOPTED)) &&
			    (!client_local || p->key.ifindex == config.loopback_ifindex))
				r->rtt_ns = p->now - c->handshake_ns;
		}
	}

	if (c->state == SLOT_LIVE) {
		__u8 fins = c->seen & (SEEN_FIN(CLIENT) | SEEN_FIN(SERVER));

		if (flags & TCP_FIN) {
			m->fin_end = p->seq + len;
			c->seen |= SEEN_FIN(role);
		}
		if (fins && (flags & TCP_ACK)) {
			__u32 other = !role;

			bounded(other, 1);
			if ((c->seen & SEEN_FIN(other)) &&
			    !before(p->ack, c->stream[other].fin_end))
				c->seen |= SEEN_FIN_ACKED(other);
		}
		if ((c->seen & SEEN_BOTH_FINS_ACKED) == SEEN_BOTH_FINS_ACKED) {
			closing = CLOSE_FIN + 1;
		} else if (flags & TCP_RST) {
			/* In answer to a SYN, or near where the stream is: RFC 5961 section 3. */
			if (!(c->seen & (SEEN_SYNACK | SEEN_ACK)) && role == SERVER)
				closing = CLOSE_REFUSED + 1;
			else if (p->egress || !(c->known & (1 << role)) ||
				 (__u32)(p->seq - m->end + RST_WINDOW) <= 2 * RST_WINDOW)
				closing = CLOSE_RST + 1;
		}

		if (c->l7 <= L7_HTTP1 && (p->end != p->payload || (flags & TCP_FIN))) {
			if (c->busy & (1 << role)) {
				p->delta.lost = LOST_CONTENDED + 1;
			} else {
				c->busy |= 1 << role;
				r->parse = true;
			}
		}
		if (closing) {
			if (c->busy)
				c->closing = closing;
			else
				tcp_end(c, p, r, closing - 1);
		}
	}
unlock:
	bpf_spin_unlock(&c->lock);
}

#endif
