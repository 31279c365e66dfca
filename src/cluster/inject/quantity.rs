//! Kubernetes' quantities: `100m`, `64Mi`, `1e3`.

/// A quantity in thousandths, rounded up, as Kubernetes rounds what is finer.
/// `None` if it is none, is negative, or is beyond what Kubernetes keeps exactly (2^63 − 1).
///
/// Source: k8s.io/apimachinery/pkg/api/resource, quantity.go.
pub fn thousandths(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0
        || whole.len() + fraction.len() > 20
        || fraction.contains('.')
    {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiply, divide) = scale(suffix)?;
    let divide = divide.checked_mul(10u128.pow(fraction.len() as u32))?;
    let value = digits
        .checked_mul(multiply)?
        .checked_mul(1000)?
        .div_ceil(divide);
    (value <= 1000 * i64::MAX as u128).then_some(value)
}

/// What a suffix multiplies by and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "" => (1, 1),
        "k" => (1000, 1),
        "M" => (1000u128.pow(2), 1),
        "G" => (1000u128.pow(3), 1),
        "T" => (1000u128.pow(4), 1),
        "P" => (1000u128.pow(5), 1),
        "E" => (1000u128.pow(6), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10u128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

/// Memory with more added to it, in whole MiB, rounded up; a quantity that [`thousandths`] takes.
pub fn add_bytes(memory: &str, bytes: u64) -> String {
    let before = thousandths(memory).unwrap_or(0);
    let mib = (before + 1000 * u128::from(bytes)).div_ceil(1000 << 20);
    format!("{mib}Mi")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_kubernetes() {
        for (text, value) in [
            ("1", 1000),
            ("100m", 100),
            ("0.5", 500),
            (".5", 500),
            ("1.", 1000),
            ("+2", 2000),
            ("64Mi", 64_000 << 20),
            ("1.5Gi", 1_536_000 << 20),
            ("1e3", 1_000_000),
            ("1E-2", 10),
            ("1E", 1000u128.pow(7)),
            ("1n", 1),
            ("1500u", 2),
            ("0", 0),
        ] {
            assert_eq!(thousandths(text), Some(value), "{text}");
        }
        for text in [
            "",
            ".",
            "m",
            "-1",
            "1mi",
            "1MI",
            "1 Mi",
            "1Mi ",
            "1e",
            "e3",
            "1.2.3",
            "1e99",
            "9e19",
            "0x10",
            "१",
            "9223372036854775808",
        ] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_added_is_rounded_up() {
        assert_eq!(add_bytes("64Mi", 0), "64Mi");
        assert_eq!(add_bytes("64Mi", 1), "65Mi");
        assert_eq!(add_bytes("1", 0), "1Mi");
        assert_eq!(add_bytes("1Gi", 10 << 20), "1034Mi");
    }
}
