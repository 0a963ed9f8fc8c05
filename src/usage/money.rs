//! Amounts of money, exact: whole millionths, as `decimal(18,6)` has them.

/// Millionths of one.
pub const ONE: i64 = 1_000_000;

/// Reads `12`, `0.0130`, `-3.5`: at most six digits behind the point.
pub fn parse(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && part.is_empty() || part.len() > 6 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i64 = format!("{part:0<6}").parse().ok()?;
    let amount = whole.checked_mul(ONE)?.checked_add(part)?;
    Some(if negative { -amount } else { amount })
}

/// As [`parse`] reads it, without needless zeros.
pub fn format(amount: i64) -> String {
    let (sign, amount) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs());
    let one = ONE.unsigned_abs();
    let text = format!("{sign}{}.{:06}", amount / one, amount % one);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_to_the_last_digit() {
        for (text, amount) in
            [("0", 0), ("12", 12 * ONE), ("0.0130", 13_000), (".5", 500_000), ("-3.000001", -3_000_001)]
        {
            assert_eq!(parse(text), Some(amount), "{text}");
        }
        for wrong in ["", ".", "1.0000001", "1e3", "NaN", "+1", "99999999999999999999", "1.2.3", "-"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!((format(13_000).as_str(), format(-500_000).as_str(), format(0).as_str()), ("0.013", "-0.5", "0"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(amount in -1_000_000_000_000_i64..1_000_000_000_000) {
            prop_assert_eq!(parse(&format(amount)), Some(amount));
        }
    }
}
