//! What the services are like.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::clock::Clock;

/// What holds for all sites.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Decides everything.
    pub(crate) seed: u64,
    /// The services' own time of day.
    pub(crate) clock: Clock,
    /// How long a request, or its answer, is normally under way, in milliseconds.
    pub(crate) latency_ms: RangeInclusive<u32>,
    /// The longest time for which an effect may still come when the caller has given up, or has heard that the connection
    /// broke. What settles and fences writes relies on it being no longer than the limit of an attempt.
    pub(crate) longest_effect: Duration,
    /// How long a caller waits for a write.
    pub(crate) write_patience: Duration,
    /// How long a caller waits for anything else.
    pub(crate) read_patience: Duration,
    /// How long records, closed shards and old streams stay.
    pub(crate) retention: Duration,
    /// How long an iterator can be used.
    pub(crate) iterator_lifetime: Duration,
    /// Most `DescribeStream` calls in one second, for a site.
    pub(crate) describes_per_second: usize,
}

/// What a site's endpoint knows and how its streams and tables behave within what is documented.
#[derive(Debug, Clone)]
pub(crate) struct Quirks {
    /// Whether listings know the filter for children; otherwise they list all.
    pub(crate) knows_children: bool,
    /// Whether iterators can start at a time; otherwise they are refused.
    pub(crate) knows_times: bool,
    /// Whether a trimmed position is refused when an iterator is asked for; otherwise when it is read from.
    pub(crate) refuses_trimmed_at_once: bool,
    /// Most shards in one page of a listing.
    pub(crate) list_page: usize,
    /// A change of a stream's shards is listed after up to this time. A shard's closing and its children become visible
    /// apart from each other.
    pub(crate) listing_lag: Duration,
    /// The chance that a page of a listing leaves out a shard.
    pub(crate) listing_omits: f64,
    /// The chance that a listing's last page says that another follows, which is empty.
    pub(crate) listing_empty_page: f64,
    /// Most records in a page; each page draws its own limit up to this.
    pub(crate) page_records: u32,
    /// Most bytes in a page, unless its first record alone is larger.
    pub(crate) page_bytes: usize,
    /// The chance that a page is empty although records follow.
    pub(crate) empty_pages: f64,
    /// The chance that the page with a closed shard's last records is already its last page; otherwise an empty one
    /// follows.
    pub(crate) ends_with_records: f64,
    /// Most rows in a page of a query or scan; each page draws its own limit up to this.
    pub(crate) rows_page: usize,
    /// A scan that is not consistent shows the table as it was up to this time ago, each page as of a time of its own.
    pub(crate) scan_staleness: Duration,
}

// === impl Settings ===

impl Settings {
    /// The documented limits, an ordinary network, and callers that wait as long as the daemon's do in tests.
    pub(crate) fn new(seed: u64, clock: Clock) -> Self {
        Self {
            seed,
            clock,
            latency_ms: 1..=8,
            longest_effect: Duration::from_secs(2),
            write_patience: Duration::from_secs(2),
            read_patience: Duration::from_secs(4),
            retention: Duration::from_hours(24),
            iterator_lifetime: Duration::from_mins(15),
            describes_per_second: 10,
        }
    }
}

// === impl Quirks ===

impl Quirks {
    /// An endpoint that knows everything and plays no tricks.
    pub(crate) fn plain() -> Self {
        Self {
            knows_children: true,
            knows_times: true,
            refuses_trimmed_at_once: true,
            list_page: 100,
            listing_lag: Duration::ZERO,
            listing_omits: 0.0,
            listing_empty_page: 0.0,
            page_records: 1000,
            page_bytes: 1_000_000,
            empty_pages: 0.0,
            ends_with_records: 1.0,
            rows_page: 1000,
            scan_staleness: Duration::ZERO,
        }
    }

    /// One of the many ways in which an endpoint may behave.
    pub(crate) fn drawn(rng: &mut fastrand::Rng) -> Self {
        Self {
            knows_children: rng.f64() < 0.7,
            knows_times: rng.f64() < 0.7,
            refuses_trimmed_at_once: rng.bool(),
            list_page: [100, 100, 7, 2][rng.usize(..4)],
            listing_lag: Duration::from_millis([0, 200, 1_500, 4_000][rng.usize(..4)]),
            listing_omits: [0.0, 0.05, 0.2][rng.usize(..3)],
            listing_empty_page: [0.0, 0.2][rng.usize(..2)],
            page_records: [2, 5, 25, 1000][rng.usize(..4)],
            page_bytes: [1_000_000, 1_000_000, 600][rng.usize(..3)],
            empty_pages: [0.0, 0.1, 0.4][rng.usize(..3)],
            ends_with_records: [0.0, 0.5, 1.0][rng.usize(..3)],
            rows_page: [1000, 50, 3][rng.usize(..3)],
            scan_staleness: Duration::ZERO,
        }
    }

    /// The same without anything that passes by itself: what is left when the faults stop.
    pub(crate) fn calmed(&self) -> Self {
        Self {
            listing_lag: Duration::ZERO,
            listing_omits: 0.0,
            empty_pages: self.empty_pages.min(0.1),
            ..self.clone()
        }
    }
}
