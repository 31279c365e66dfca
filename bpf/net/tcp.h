/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP, RFC 9293: the handshake and its RTT, what is sent again, and how
 * connections end.
 */
#ifndef METRICD_NET_TCP_H
#define METRICD_NET_TCP_H

#include "net/conn_slots.h"

/* How far from what is expected the sequence number of a believable RST may be.
 */
#define RST_WINDOW (1U << 20)

/* How much of a body is passed over before the parser's place is brought up. */
#define SKIP_MAX (1U << 30)

/* Does the segment lie in what was passed over before? Then it is late, and not sent again. */
static __always_inline bool tcp_fills_hole(const struct stream *stream, __u32 seq, __u32 end)
{
	return stream->hole_lo != stream->hole_hi && !seq_before(seq, stream->hole_lo) &&
	       !seq_before(stream->hole_hi, end);
}

/* Notes which bytes of a direction are new, under the slot's lock. Returns how many segments were
 * sent again. */
static __always_inline __u32 tcp_sequence(struct stream *stream, union tagged_seq *seen,
					  const struct packet *p, __u32 len)
{
	__u32 seq = p->seq, end = seq + len;
	union tagged_seq now = {.word = seen->word};
	__u32 again = 0;

	if (now.generation != p->generation) {
		now.seq = end;
	} else if (!seq_before(seq, now.seq)) {
		if (seq != now.seq) {
			if (stream->hole_lo == stream->hole_hi)
				stream->hole_lo = now.seq;
			stream->hole_hi = seq;
		}
		now.seq = end;
	} else {
		if (tcp_fills_hole(stream, seq, end)) {
			if (seq == stream->hole_lo)
				stream->hole_lo = end;
			else if (end == stream->hole_hi)
				stream->hole_hi = seq;
		} else if (!(len == 1 && seq + 1 == now.seq && !p->egress &&
			     !(p->tcp_flags & (TCP_SYN | TCP_FIN)))) {
			/* One old byte is how other stacks probe a silent peer or a closed
			 * window.
			 */
			again = p->segments;
		}
		if (seq_before(now.seq, end))
			now.seq = end;
	}
	now.generation = p->generation;
	WRITE_ONCE(seen->word, now.word);
	return again;
}

/* Ends the connection for `reason`, under the slot's lock and while nobody is busy. */
static __always_inline void tcp_end(struct conn *c, struct scratch *s, __u32 reason)
{
	struct tcp_result *result = &s->result;
	struct packet *p = &s->packet;

	c->brief.state = SLOT_CLOSED;
	c->closing = 0;
	p->delta.closed = reason + 1;
	if (c->brief.l7 == L7_UNDECIDED)
		p->delta.decided = DECIDED_NEVER + 1;
	p->delta.aborted = conn_aborts(c, &s->aborted);
	p->pending += conn_pending(c);
	result->opened_ns = c->brief.flags & (CONN_ADOPTED | CONN_UNSETTLED) ? 0 : c->opened_ns;
	result->http2 = c->http2 + 1;
	c->http2 = NO_HTTP2;
	result->early[ROLE_CLIENT] = conn_side(c, ROLE_CLIENT)->parser.early;
	result->early[ROLE_SERVER] = conn_side(c, ROLE_SERVER)->parser.early;
	conn_side(c, ROLE_CLIENT)->parser.early = conn_side(c, ROLE_SERVER)->parser.early = 0;
}

/*
 * What tcp_in_order makes of a segment. Most come in order on an established connection, and take
 * no lock. Nothing is done for a segment that is OUT_OF_ORDER.
 */
enum tcp_way {
	OUT_OF_ORDER,
	IN_ORDER,
	IN_ORDER_PARSE, /* the payload is the caller's to follow: busy is held */
};

static __always_inline enum tcp_way tcp_in_order(struct conn *c, struct packet *p)
{
	enum tcp_way way = IN_ORDER;
	union brief b = {.word = READ_ONCE(c->brief.word)};
	union tagged_seq end, skip;
	__u32 len = p->end - p->payload, role;

	if (unlikely(b.generation != p->generation || b.state != SLOT_LIVE ||
		     !(b.seen & SEEN_ACK) || (b.seen & SEEN_ANY_FIN) ||
		     (b.flags & CONN_UNSETTLED) || (p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))))
		return OUT_OF_ORDER;
	role = tcp_role(p, b.flags);
	p->role = role;
	bounded(role, 1);
	if (len) {
		end.word = READ_ONCE(conn_side(c, role)->end.word);
		if (unlikely(end.generation != p->generation || end.seq != p->seq))
			return OUT_OF_ORDER;
		end.seq += len;
		skip.word = READ_ONCE(conn_side(c, role)->skip.word);
		if (b.l7 < L7_OPAQUE &&
		    (skip.generation != p->generation || skip.seq - end.seq - 1 >= SKIP_MAX)) {
			if (unlikely(!config.ordered || !conn_busy(c, role)))
				return OUT_OF_ORDER;
			/* While busy is held, the slot can't be given away. This tells if it had
			 * been before. */
			b.word = READ_ONCE(c->brief.word);
			if (b.generation != p->generation || b.state != SLOT_LIVE) {
				conn_done(c, role);
				return OUT_OF_ORDER;
			}
			way = IN_ORDER_PARSE;
		}
		WRITE_ONCE(conn_side(c, role)->end.word, end.word);
	}
	conn_seen(c, role, p);
	p->flags = b.flags;
	return way;
}

/* Does an ACK end the handshake? It is the client's, of the server's SYN, if that was seen; any of
 * a connection that is older than the programs will do. */
static __always_inline bool tcp_is_handshakes_end(struct conn *c, const struct packet *p,
						  union brief b, __u32 role)
{
	union tagged_seq *server = &conn_side(c, ROLE_SERVER)->end;

	if (b.flags & CONN_ADOPTED)
		return true;
	if (role != ROLE_CLIENT)
		return false;
	if (b.seen & SEEN_SYNACK)
		return server->generation == p->generation && !seq_before(p->ack, server->seq);
	return p->end != p->payload;
}

/*
 * Has a connection opened that is unsettled, by the packet at hand, too? `seen` and `flags` are the
 * connection's. A SYN with payload opens a connection, as its
 * bytes are only to be had now (RFC 7413).
 */
static __always_inline bool tcp_has_opened(const struct conn *c, const struct packet *p, __u8 seen,
					   __u8 flags)
{
	if (config.mesh && !(c->ends & END_TOLD))
		return false;
	if (flags & CONN_ADOPTED)
		return held_by_both(c);
	return (seen & SEEN_ACK) || ((p->tcp_flags & TCP_SYN) && p->end != p->payload);
}

/*
 * Follows a segment that is the beginning or the end of something, or out of order; the result is
 * in the scratch. Takes the slot's lock, under which nothing may be called. Returns 0 if the
 * packet's slot could be looked at. A function of its own, so that the verifier looks at it once.
 */
__noinline int tcp_track(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct tcp_result *result;
	struct packet *p;
	struct conn *c;
	__u32 payload, len, role, closing = 0;
	__u64 rtt = 0;
	union brief b;
	__u8 flags;
	bool timed_by_ack;

	if (!s || !skb->len)
		return -1;
	p = &s->packet;
	result = &s->result;
	c = conn_slot(p->slot);
	if (!c)
		return -1;
	__builtin_memset(result, 0, sizeof(*result));
	payload = len = p->end - p->payload;
	flags = p->tcp_flags;
	/* The handshake is timed by the packet's time. */
	if ((flags & TCP_SYN) || !(c->brief.seen & SEEN_ACK))
		packet_now(p);
	if (flags & TCP_SYN)
		len++;
	if (flags & TCP_FIN)
		len++;

	bpf_spin_lock(&c->lock);
	b.word = c->brief.word;
	if (b.generation != p->generation || (b.state != SLOT_LIVE && b.state != SLOT_CLOSED))
		goto unlock;
	result->known = true;

	/* The RTT is of the way to the other end and back, so from what the pod has sent: of an
	 * outbound connection from the SYN to the SYN-ACK. */
	timed_by_ack = !(b.flags & CONN_CLIENT_LOCAL) || conn_is_loopback(&p->key);
	role = tcp_role(p, b.flags);
	p->role = role;
	bounded(role, 1);

	conn_seen(c, role, p);
	if (len)
		p->delta.retransmits =
		    tcp_sequence(&c->stream[role], &conn_side(c, role)->end, p, len);

	if (flags & TCP_SYN) {
		__u8 bit = flags & TCP_ACK ? SEEN_SYNACK : SEEN_SYN;

		if (b.seen & bit) {
			b.flags |= CONN_TWICE;
		} else {
			b.seen |= bit;
			conn_side(c, role)->parser.next = p->seq + 1;
			if (bit == SEEN_SYNACK && !timed_by_ack)
				c->handshake_ns = b.flags & (CONN_TWICE | CONN_ADOPTED)
						      ? 0
						      : p->now - c->opened_ns;
			else if (bit == SEEN_SYNACK)
				c->handshake_ns = p->now;
		}
	} else if (!(b.seen & SEEN_ACK) && (flags & TCP_ACK) && !(flags & TCP_RST) &&
		   tcp_is_handshakes_end(c, p, b, role)) {
		if (timed_by_ack)
			c->handshake_ns =
			    (b.seen & SEEN_SYNACK) && !(b.flags & (CONN_TWICE | CONN_ADOPTED))
				? p->now - c->handshake_ns
				: 0;
		b.seen |= SEEN_ACK;
		rtt = c->handshake_ns;
	}
	if (!(flags & TCP_RST))
		c->ends |= role == ROLE_CLIENT ? END_SPOKE(ROLE_CLIENT) : END_SPOKE(ROLE_SERVER);
	if ((b.flags & CONN_UNSETTLED) && b.state == SLOT_LIVE) {
		if (tcp_has_opened(c, p, b.seen, b.flags)) {
			if (config.mesh)
				b.flags = mesh_class(b.flags, c->ends, conn_is_loopback(&p->key));
			b.flags &= ~CONN_UNSETTLED;
			result->held = true;
			rtt = b.seen & SEEN_ACK ? c->handshake_ns : 0;
		} else if (payload) {
			/* It can't be followed from its beginning on any more. */
			c->brief.l7 = b.l7 = L7_OPAQUE;
			c->ends |= END_LATE;
		}
	}
	if (!(b.flags & CONN_UNSETTLED))
		result->rtt_ns = rtt;

	if (b.state == SLOT_LIVE) {
		if ((b.seen & SEEN_ANY_FIN) && (flags & TCP_ACK)) {
			__u32 other = !role;

			bounded(other, 1);
			if ((b.seen & SEEN_FIN(other)) &&
			    !seq_before(p->ack, c->stream[other].fin_end))
				b.seen |= SEEN_FIN_ACKED(other);
		}
		if (flags & TCP_FIN) {
			c->stream[role].fin_end = p->seq + len;
			b.seen |= SEEN_FIN(role);
		}
		if ((b.seen & SEEN_BOTH_FINS_ACKED) == SEEN_BOTH_FINS_ACKED) {
			closing = CLOSE_FIN + 1;
		} else if (flags & TCP_RST) {
			/* In answer to a SYN, or near where the stream is: RFC 5961 section 3. */
			if (!(b.seen & (SEEN_SYNACK | SEEN_ACK)) && role == ROLE_SERVER)
				closing = CLOSE_REFUSED + 1;
			else if (p->egress || conn_side(c, role)->end.generation != p->generation ||
				 p->seq - conn_side(c, role)->end.seq + RST_WINDOW <=
				     2 * RST_WINDOW)
				closing = CLOSE_RST + 1;
		}
	}
	/* The word's last byte, l7, is left alone: the parser writes it. */
	c->brief.flags = b.flags;
	c->brief.seen = b.seen;
	p->flags = b.flags;
	if (b.state == SLOT_LIVE) {
		if (b.l7 < L7_OPAQUE && (payload || (flags & TCP_FIN)) &&
		    !(b.flags & CONN_UNSETTLED)) {
			result->parse = conn_busy(c, role);
			result->contended = !result->parse;
		}
		if (closing) {
			c->closing = closing;
			if (!conn_is_busy(c))
				tcp_end(c, s, closing - 1);
		}
	}
	if ((b.flags & CONN_UNSETTLED) && b.state == SLOT_LIVE) {
		/* With its end, too, what was held is to be told. What is sent again is counted at
		 * once: who tries in vain is to be seen while it tries. */
		result->held = p->delta.closed;
		result->known = result->held || !p->delta.retransmits;
		result->holds = !result->held && result->known;
		if (result->holds)
			held_add(c, p, role);
		else if (result->held && config.mesh)
			c->brief.flags = p->flags =
			    mesh_class(b.flags, c->ends, conn_is_loopback(&p->key));
	}
	if (result->held) {
		held_take(c, s->held);
		result->l7 = c->brief.l7;
		result->ends = c->ends;
	}
unlock:
	bpf_spin_unlock(&c->lock);
	return 0;
}

/* Stops being busy, and carries out a close that came meanwhile. */
static __always_inline void tcp_release(struct conn *c, struct scratch *s)
{
	struct packet *p = &s->packet;

	if (config.ordered) {
		conn_done(c, p->role);
		if (likely(!READ_ONCE(c->closing)))
			return;
		bpf_spin_lock(&c->lock);
	} else {
		bpf_spin_lock(&c->lock);
		conn_done(c, p->role);
	}
	if (c->brief.generation == p->generation && c->brief.state == SLOT_LIVE && c->closing &&
	    !conn_is_busy(c))
		tcp_end(c, s, c->closing - 1);
	bpf_spin_unlock(&c->lock);
}

#endif
