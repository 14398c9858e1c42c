//! Numbers as DynamoDB knows them: decimal text with up to 38 significant digits, compared by value.

use std::borrow::Cow;

/// Beyond this power of ten a number is spelled with an exponent. The service's reach from 1e-130 to 1e126; what lies
/// outside is no number of the service's and is only kept apart here.
const PLAIN_EXPONENT_MAX: i64 = 200;

/// The one spelling of a number's value: a plain decimal without leading zeros, a plus, or zeros at the end of its
/// fraction, `0` for zero. Two numbers are equal exactly when their canonical spellings are. Text that is no number is
/// returned as it is.
///
/// It is how the service and most servers spell numbers themselves, so that nearly none is copied, and a key goes back
/// as it came even to a server that compares numbers as text.
pub fn canonical(text: &str) -> Cow<'_, str> {
    if is_canonical(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    match respell(text) {
        Some(spelling) => Cow::Owned(spelling),
        None => Cow::Borrowed(text),
    }
}

fn is_canonical(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let point = unsigned.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = unsigned.split_at(point.unwrap_or(unsigned.len()));
    let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let whole_is_fine = match whole {
        [b'0'] => point.is_some() || text.len() == 1,
        [first, ..] => *first != b'0' && all_digits(whole),
        [] => false,
    };
    // With its point.
    let fraction_is_fine = match fraction {
        [] => true,
        [_point, digits @ .., last] => *last != b'0' && last.is_ascii_digit() && all_digits(digits),
        [_point] => false,
    };
    whole_is_fine && fraction_is_fine
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
    let exponent = exponent.checked_sub(fraction.len() as i64)?.checked_add(trailing_zeros as i64)?;
    let sign = if negative { "-" } else { "" };
    if exponent.abs() > PLAIN_EXPONENT_MAX {
        return Some(format!("{sign}{significant}e{exponent}"));
    }
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    // How many digits stand before the point.
    let whole_len = significant.len() as i64 + exponent;
    Some(if exponent >= 0 {
        format!("{sign}{significant}{}", zeros(exponent))
    } else if whole_len <= 0 {
        format!("{sign}0.{}{significant}", zeros(-whole_len))
    } else {
        let (whole, fraction) = significant.split_at(usize::try_from(whole_len).unwrap_or(0));
        format!("{sign}{whole}.{fraction}")
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
    fn numbers_are_spelled_as_the_service_does() {
        for (text, spelled) in [
            ("1E2", "100"),
            ("-17.50", "-17.5"),
            ("5e-1", "0.5"),
            ("1.25e-3", "0.00125"),
            ("-1.5e1", "-15"),
            ("12.5", "12.5"),
            ("-0.0", "0"),
            ("1e300", "1e300"),
        ] {
            assert_eq!(canonical(text), spelled);
        }
        for text in ["0", "-1", "100", "0.001", "-17.5", "10000000000000000000000000000000000090"] {
            assert!(matches!(canonical(text), Cow::Borrowed(_)), "{text} was copied");
        }
    }

    #[test]
    fn values_stay_apart_to_the_last_of_38_digits() {
        let (left, right) =
            ("12345678901234567890123456789012345678", "12345678901234567890123456789012345679");
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
