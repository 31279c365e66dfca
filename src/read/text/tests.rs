use super::{fixture::*, *};
use crate::abi::{
    HandshakeKey, Info, LatencyPair, Latest, MetricEntry, MetricKey, MetricValue, PROOF,
};

fn read<K: Layout, V: Layout>(form: &Form, text: &str) -> Result<Vec<(K, V)>, Error> {
    let mut records = Vec::new();
    form.read(text.as_bytes(), &mut [0; 4096], |mut record| {
        records.push((K::read(&mut record).unwrap(), V::read(&mut record).unwrap()));
    })?;
    Ok(records)
}

fn pairs(text: &str) -> Result<Vec<(u32, LatencyPair)>, Error> {
    read(&Form::new::<u32, LatencyPair>(Shape::Plain, 16, true), text)
}

fn is_foreign<T: fmt::Debug>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Foreign { .. }))
}

#[test]
fn integers_come_in_the_order_of_their_declaration() {
    let text = format!("{HEAD}3: {{7,18446744073709551615,}}\n");
    let pair = LatencyPair {
        duration: 7,
        ttfb: u64::MAX,
    };
    assert_eq!(pairs(&text).unwrap(), [(3, pair)]);
    assert_eq!(pairs(HEAD).unwrap(), []);
    assert_eq!(pairs("").unwrap(), []);
}

#[test]
fn keys_of_several_integers_stand_before_the_colon() {
    let form = Form::new::<HandshakeKey, u64>(Shape::Plain, 8, true);
    let [(key, value)] = read::<HandshakeKey, u64>(&form, "{[0,256,],80,2,3,}: {5,}\n")
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!((key.peer[8..10].to_vec(), value), (vec![0, 1], 5));
    assert_eq!((key.port, key.direction(), key.kind), (80, 2, 3));
    for key in [
        "{[0,256,],80,2,}",
        "{[0,256,],80,2,3,4,}",
        "{[0,256,],65536,2,3,}",
    ] {
        let text = format!("{key}: {{5,}}\n");
        assert!(is_foreign(read::<HandshakeKey, u64>(&form, &text)), "{key}");
    }
}

#[test]
fn another_form_is_refused() {
    for line in [
        "0: {1,}",            // too few
        "0: {1,2,3,}",        // too many
        "0: {1,0x2,}",        // in hexadecimal
        "0: {1,a,}",          // a letter
        "0: {1,-2,}",         // a sign
        "0: {1,.ttfb=2,}",    // with names
        "0: {1,'2',}",        // a character
        "0: {1 2,}",          // nothing between
        "0: {1,2}",           // no comma
        "0: {1,2,} # two",    // something behind
        "0: {1,2,",           // torn off, without a newline
        "0 {1,2,}",           // no colon
        "0: 1: {2,3,}",       // two
        "-1: {1,2,}",         // no number before it
        "4294967296: {1,2,}", // too great a number
        "0: {1,18446744073709551616,}",
        "{0,1,}: {1,2,}",
        "",
    ] {
        let newline = if line.ends_with("2,") { "" } else { "\n" };
        let read = pairs(&format!("{HEAD}{line}{newline}"));
        assert!(is_foreign(read), "{line:?}");
    }
    let long = format!("0: {{{}", "1,".repeat(3000));
    assert!(is_foreign(pairs(&long)));
}

#[test]
fn errors_show_the_line() {
    let error = pairs(&format!("0: {{1,name=\"{}\",}}\n", "x".repeat(100))).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("3 are known, found \"0: {1,name=\"xxx"),
        "{text}"
    );
    assert!(text.ends_with("xxx…\""), "{text}");
}

#[test]
fn reads_may_end_anywhere() {
    /// A byte at a time, with interruptions.
    struct Slowly<'a>(&'a [u8], bool);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let n = 1.min(buffer.len());
            self.0.read(&mut buffer[..n])
        }
    }

    let text = format!("{HEAD}0: {{1,2,}}\n1: {{3,4,}}\n");
    let form = Form::new::<u32, LatencyPair>(Shape::Plain, 16, true);
    let mut records = 0;
    let slowly = Slowly(text.as_bytes(), false);
    form.read(slowly, &mut [0; 64], |_| records += 1).unwrap();
    assert_eq!(records, 2);
}

const ENTRY: Shape = Shape::Entry {
    between: 0,
    behind: 2,
};

fn metric() -> MetricEntry {
    let mut entry = MetricEntry::default();
    entry.key.src[15] = 7;
    entry.key.direction = 1;
    entry.value.opened = u64::MAX;
    entry.value.seen_ns = Latest(9);
    entry.check = key_check(&entry.key.to_bytes());
    entry
}

#[test]
fn elements_in_use_are_told_by_the_check_of_their_key() {
    let form = Form::new::<MetricKey, MetricValue>(ENTRY, MetricValue::SIZE, true);
    let used = metric();
    let text = entry(0, &MetricEntry::default()) + &entry(1, &used);
    let records = read::<MetricKey, MetricValue>(&form, &text).unwrap();
    assert_eq!(records, [(used.key, used.value)]);
    for word in 0..MetricKey::SIZE / 8 {
        let mut bytes = used.to_bytes();
        bytes[word * 8..][..8].fill(0);
        let torn = MetricEntry::read(&mut bytes.as_slice()).unwrap();
        let result = read::<MetricKey, MetricValue>(&form, &entry(1, &torn));
        // The source's first half is zero anyway.
        assert_eq!(matches!(result, Err(Error::Torn)), torn != used, "{word}");
    }
}

#[test]
fn values_may_have_grown_where_the_layout_is_another() {
    let used = metric();
    let text = entry(0, &used).replace("9,0,", "9,77,0,");
    for (exact, whole) in [(true, false), (false, true)] {
        let form = Form::new::<MetricKey, MetricValue>(ENTRY, MetricValue::SIZE + 8, exact);
        let read = read::<MetricKey, MetricValue>(&form, &text);
        assert_eq!(read.is_ok_and(|r| r == [(used.key, used.value)]), whole);
    }
    // Of a layout before the last field was there.
    let form = Form::new::<u32, LatencyPair>(Shape::Plain, 8, false);
    assert_eq!(form.record(), 12);
}

#[test]
fn the_proof_holds_in_this_form_alone() {
    let mut info = Info::current();
    info.layout = u32::MAX;
    let form = Form::new::<u32, Info>(Shape::Plain, Info::SIZE, true);
    let line = plain(&0u32, &info);
    assert_eq!(read::<u32, Info>(&form, &line).unwrap(), [(0, info)]);
    let digits = integers(&PROOF);
    assert!(line.contains(&digits));
    let in_hex: Vec<String> = digits
        .split_terminator(',')
        .map(|number| format!("{:x}", number.parse::<u64>().unwrap()))
        .collect();
    let signed = digits.replace("18446744073709551615", "-1");
    let without_zeros = digits.replace(",0,", ",");
    let mut backwards: Vec<&str> = digits.split_terminator(',').collect();
    backwards.reverse();
    for other in [
        in_hex.join(",") + ",",
        signed,
        without_zeros,
        backwards.join(",") + ",",
    ] {
        let text = line.replace(&digits, &other);
        let proved = read::<u32, Info>(&form, &text).is_ok_and(|r| r[0].1.proof == PROOF);
        assert!(!proved, "{other}");
    }
}
