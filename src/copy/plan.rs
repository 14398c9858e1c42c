//! Into how many segments a table is cut.

/// How many segments a table is cut into at most. The service takes a million; more than this only makes rows, because a
/// segment of a table of half a terabyte is 64 MiB then, which is a minute of one reader.
pub const SEGMENTS_MAX: u32 = 8_192;

/// Pages that are being read at once. A page of 1 MB takes some 50 ms, so sixteen of them are 300 MB/s, far above what
/// one worker writes.
pub(super) const READS_AT_ONCE: usize = 16;

/// Segments of the smallest table: several per reader, because the sizes of segments differ, and one that is read to
/// its end must leave work for the others.
const SEGMENTS_MIN: u32 = 4 * READS_AT_ONCE as u32;

/// What one segment should hold: seconds of reading, so that nothing is long alone at the end.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The number of segments for a table of `bytes`. It is kept with the run: positions in segments mean nothing when the
/// table is cut otherwise.
pub fn segments(bytes: u64) -> u32 {
    let wanted = (bytes / SEGMENT_BYTES).max(1).checked_next_power_of_two().unwrap_or(u64::MAX);
    u32::try_from(wanted).unwrap_or(u32::MAX).clamp(SEGMENTS_MIN, SEGMENTS_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_tables_have_some_and_huge_ones_not_too_many() {
        let gib = 1u64 << 30;
        for (bytes, expected) in [
            (0, SEGMENTS_MIN),
            (gib, SEGMENTS_MIN),
            (8 * gib, 128),
            (8 * gib + SEGMENT_BYTES, 256),
            (512 * gib, SEGMENTS_MAX),
            (u64::MAX, SEGMENTS_MAX),
        ] {
            assert_eq!(segments(bytes), expected, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn a_larger_table_never_has_fewer(bytes in any::<u64>(), more in any::<u64>()) {
            prop_assert!(segments(bytes) <= segments(bytes.saturating_add(more)));
            prop_assert!(segments(bytes).is_power_of_two());
        }
    }
}
