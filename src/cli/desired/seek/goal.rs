//! What a person means by `--to`.

use crate::cli::desired::time;
use crate::cli::exit::Failure;
use crate::shard::{SequenceNumber, ShardId};
use crate::stream::RETENTION;
use crate::supervisor::desired::Target;

/// Reads a target.
pub(super) fn parse(to: &str, shard: Option<&str>, now_unix_ms: i64) -> Result<Target, Failure> {
    let refused = |why: String| Err(Failure::Usage(format!("--to {to}: {why}")));
    if let Some(shard) = shard {
        return match to.parse::<SequenceNumber>() {
            Ok(sequence) => Ok(Target::After { shard: ShardId::from(shard), sequence }),
            Err(_) => refused("with --shard, it is a sequence number: decimal digits alone".to_owned()),
        };
    }
    if to.eq_ignore_ascii_case("trim_horizon") {
        return Ok(Target::TrimHorizon);
    }
    if to.parse::<SequenceNumber>().is_ok() {
        return refused("a sequence number needs its shard: --shard ID".to_owned());
    }
    let unix_ms = match (to.parse::<jiff::Timestamp>(), humantime::parse_duration(to)) {
        (Ok(at), _) => at.as_millisecond(),
        (_, Ok(ago)) => now_unix_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        (Err(_), Err(_)) if to.parse::<jiff::civil::DateTime>().is_ok() => {
            return refused("a time needs its offset: Z or +01:00".to_owned());
        }
        (Err(_), Err(_)) => {
            let expected =
                "expected `trim_horizon`, a time such as 2026-11-20T08:00:00Z, or how long ago, such as `2h`";
            return refused(expected.to_owned());
        }
    };
    let oldest_unix_ms = now_unix_ms - i64::try_from(RETENTION.as_millis()).expect("a day is short");
    if unix_ms > now_unix_ms {
        return refused(format!("it is in the future: now is {}", time(now_unix_ms)));
    }
    if unix_ms < oldest_unix_ms {
        return refused(format!(
            "the stream holds 24 hours: nothing before {} can be read; see `--to trim_horizon`",
            time(oldest_unix_ms)
        ));
    }
    Ok(Target::Time { unix_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20T12:00:00Z.
    const NOON: i64 = 1_795_176_000_000;
    const HOUR: i64 = 3_600_000;

    #[test]
    fn times_spans_and_names_are_read() {
        for (to, expected) in [
            ("trim_horizon", Target::TrimHorizon),
            ("TRIM_HORIZON", Target::TrimHorizon),
            ("2h", Target::Time { unix_ms: NOON - 2 * HOUR }),
            ("1h 30m", Target::Time { unix_ms: NOON - 3 * HOUR / 2 }),
            ("24h", Target::Time { unix_ms: NOON - 24 * HOUR }),
            ("2026-11-20T11:00:00Z", Target::Time { unix_ms: NOON - HOUR }),
            ("2026-11-20T12:00:00+01:00", Target::Time { unix_ms: NOON - HOUR }),
        ] {
            assert_eq!(parse(to, None, NOON).expect(to), expected, "{to}");
        }
        let target = parse("00123", Some("shard-1"), NOON).expect("a sequence number");
        let sequence = "123".parse().expect("a number");
        assert_eq!(target, Target::After { shard: "shard-1".into(), sequence });
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_a_reason() {
        for (to, shard, words) in [
            ("25h", None, "nothing before 2026-11-19T12:00:00Z"),
            ("2026-11-20T12:00:01Z", None, "in the future"),
            ("2026-11-20T11:00:00", None, "needs its offset"),
            ("123", None, "--shard"),
            ("yesterday", None, "expected `trim_horizon`"),
            ("2h", Some("s"), "decimal digits"),
        ] {
            let refused = parse(to, shard, NOON).expect_err(to);
            assert_eq!(refused.code() as u8, 2);
            assert!(refused.to_string().contains(words), "{refused}");
        }
    }
}
