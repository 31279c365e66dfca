use super::*;

fn bytes_of(value: &impl Layout) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

/// 0, 1, 2 … so that every byte of a field tells where it came from.
fn ramp<T: Layout>() -> T {
    let bytes: Vec<u8> = (0..T::SIZE).map(|i| i as u8).collect();
    T::read(&mut bytes.as_slice()).unwrap()
}

fn at(offset: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|i| (offset + i) as u8))
}

#[test]
fn fields_lie_where_abi_h_puts_them() {
    let key: MetricKey = ramp();
    assert_eq!(key.dst[0], 16);
    assert_eq!(key.src_port, u16::from_ne_bytes([32, 33]));
    assert_eq!(key.dst_port, u16::from_ne_bytes([34, 35]));
    assert_eq!(
        (key.proto, key.direction, key.kind, key.origin),
        (36, 37, 38, 39)
    );

    let value: MetricValue = ramp();
    assert_eq!(value.opened, at(0));
    assert_eq!(value.active, at(8));
    assert_eq!(value.tls, at(16));
    assert_eq!(value.recv.packets, at(24));
    assert_eq!(value.requests.http1, at(56));
    assert_eq!(value.untimed, at(80));
    assert_eq!(value.sent.packets, at(88));
    assert_eq!(value.ended, at(112));
    assert_eq!(value.aborted.fin, at(120));
    assert_eq!(value.closed.evicted, at(208));
    assert_eq!(value.lost.gap, at(216));

    let key: RequestKey = ramp();
    assert_eq!(key.status, u16::from_ne_bytes([40, 41]));
    assert_eq!((key.protocol, key.grpc_status), (42, 43));
    assert_eq!(key.route, u16::from_ne_bytes([44, 45]));

    let info: Info = ramp();
    assert_eq!(info.bounds, u32::from_ne_bytes([64, 65, 66, 67]));
    assert_eq!(info.bounds_ns[0], at(72));
    assert_eq!(info.version[0], 328usize as u8);
    assert_eq!(info.object, at(360));
}

#[test]
fn writing_undoes_reading() {
    fn check<T: Layout>() {
        let bytes: Vec<u8> = (0..T::SIZE).map(|i| (i * 7) as u8).collect();
        assert_eq!(bytes_of(&T::read(&mut bytes.as_slice()).unwrap()), bytes);
    }
    check::<MetricKey>();
    check::<MetricValue>();
    check::<MetricEntry>();
    check::<RequestKey>();
    check::<RequestEntry>();
    check::<LatencyKey>();
    check::<LatencyEntry>();
    check::<HandshakeKey>();
    check::<HandshakeValue>();
    check::<Counters>();
    check::<Info>();
    check::<AttachmentKey>();
    check::<AttachmentValue>();
}

#[test]
fn records_follow_each_other_without_padding() {
    let mut bytes = Vec::new();
    for (status, responses) in [(200u16, 7u64), (404, 9)] {
        let key = RequestKey {
            status,
            ..RequestKey::default()
        };
        key.write(&mut bytes);
        RequestValue { responses }.write(&mut bytes);
    }
    assert_eq!(bytes.len(), 2 * (48 + 8));
    let records = decode::<RequestKey, RequestValue>(&bytes).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!((records[1].0.status, records[1].1.responses), (404, 9));
}

#[test]
fn a_part_of_a_record_is_an_error_that_says_what_was_expected() {
    for length in [1, 547, 549] {
        let error = decode::<HandshakeKey, HandshakeValue>(&vec![0; length]).unwrap_err();
        assert_eq!(
            error,
            Truncated {
                record: 548,
                left: length % 548
            }
        );
        assert!(error.to_string().contains("whole records of 548 bytes"));
    }
    assert_eq!(decode::<HandshakeKey, HandshakeValue>(&[]), Ok(vec![]));
}

#[test]
fn values_add_up_field_by_field() {
    let mut sum: LatencyValue = ramp();
    sum.merge(&ramp());
    assert_eq!(sum.duration().buckets[1], at(16).wrapping_mul(2));
    assert_eq!(sum.ttfb().sum_ns, at(520).wrapping_mul(2));
}

#[test]
fn info_is_read_defensively() {
    let mut info = Info {
        bounds: u32::MAX,
        version: [b'x'; 32],
        ..Info::default()
    };
    assert_eq!(info.bounds_ns().len(), BUCKETS - 1);
    assert_eq!(info.version(), "x".repeat(32));
    info.version[5] = 0;
    assert_eq!(info.version(), "xxxxx");
}
