//! Numbers as DynamoDB knows them: decimal text with up to 38 significant digits, compared by value.

use std::borrow::Cow;

/// The one spelling of a number's value: `[-]digits[e±exponent]` without leading or trailing zeros, `0` for
/// zero. Two numbers are equal exactly when their canonical spellings are. Text that is no number is returned
/// as it is.
///
/// Plain integers without trailing zeros, nearly all that occur as keys, are not copied.
pub fn canonical(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let plain = matches!(unsigned, [first, .., last] if *first != b'0' && *last != b'0')
        || matches!(unsigned, [single] if *single != b'0' || bytes.len() == 1);
    if plain && unsigned.iter().all(u8::is_ascii_digit) {
        return Cow::Borrowed(text);
    }
    match respell(text) {
        Some(spelling) => Cow::Owned(spelling),
        None => Cow::Borrowed(text),
    }
}

fn respell(text: &str) -> Option<String> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
    let exponent = exponent
        .checked_sub(fraction.len() as i64)?
        .checked_add(trailing_zeros as i64)?;
    let sign = if negative { "-" } else { "" };
    Some(match exponent {
        0 => format!("{sign}{significant}"),
        _ => format!("{sign}{significant}e{exponent}"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_value_become_one() {
        for (left, right) in [
            ("1", "1.0"),
            ("100", "1E2"),
            ("0", "-0.00"),
            ("0.5", "5e-1"),
            ("-12300", "-1.23e+4"),
            ("007", "7"),
            ("1.5", "+1.50"),
        ] {
            assert_eq!(canonical(left), canonical(right), "{left} and {right}");
        }
    }

    #[test]
    fn values_stay_apart_to_the_last_of_38_digits() {
        let (left, right) = (
            "12345678901234567890123456789012345678",
            "12345678901234567890123456789012345679",
        );
        assert_ne!(canonical(left), canonical(right));
        assert_ne!(canonical("1"), canonical("-1"));
        assert_ne!(canonical("1e1"), canonical("1e2"));
    }

    #[test]
    fn what_is_no_number_stays_as_it_is() {
        for text in ["", "-", ".", "1.2.3", "abc", "1e", "NaN"] {
            assert_eq!(canonical(text), text);
        }
    }

    proptest! {
        #[test]
        fn canonical_is_stable(text in "-?[0-9]{1,20}(\\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?") {
            let once = canonical(&text).into_owned();
            prop_assert_eq!(canonical(&once).into_owned(), once);
        }

        #[test]
        fn canonical_keeps_the_value(value in any::<i64>()) {
            let text = value.to_string();
            let spelled = canonical(&text).into_owned();
            let (mantissa, exponent) = spelled.split_once('e').unwrap_or((&spelled, "0"));
            let power = 10i128.pow(exponent.parse().expect("an exponent"));
            prop_assert_eq!(mantissa.parse::<i128>().expect("digits") * power, i128::from(value));
        }
    }
}
