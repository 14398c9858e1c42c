//! The `process_*` metrics that every Prometheus client has, read from `/proc/self`; where there is none they are
//! absent.
//!
//! The library's own collector counts CPU time in whole seconds, which makes a rate of it useless on an idle host,
//! and takes the start time from `/proc/stat`, which a hardened service may not see. Here CPU time has the
//! kernel's hundredths, and the start is the program's own.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::catalogue as names;
use super::catalogue::Metric;
use super::metrics::Error;
use super::series::{describe, family};

/// The unit of CPU times in `/proc`: USER_HZ, which is part of the kernel's interface and 100 on every
/// architecture that this is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub(super) struct Process {
    started_unix_seconds: f64,
    descriptions: Vec<Desc>,
}

/// The parts of `/proc/self/status` that are shown.
#[derive(Debug, Default, PartialEq)]
struct Memory {
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
}

impl Process {
    pub(super) fn new(started_unix_seconds: f64) -> Result<Self, Error> {
        let descriptions = describe(&[
            names::CPU,
            names::OPEN_FDS,
            names::MAX_FDS,
            names::RESIDENT,
            names::VIRTUAL,
            names::THREADS,
            names::STARTED,
        ])?;
        Ok(Self { started_unix_seconds, descriptions })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stat = read("/proc/self/stat");
        let memory = read("/proc/self/status").map_or_else(Memory::default, |text| parse_status(&text));
        let limits = read("/proc/self/limits");
        vec![
            single(&names::CPU, stat.as_deref().and_then(parse_cpu_seconds)),
            single(&names::OPEN_FDS, open_fds()),
            single(&names::MAX_FDS, limits.as_deref().and_then(parse_max_fds)),
            single(&names::RESIDENT, memory.resident_bytes),
            single(&names::VIRTUAL, memory.virtual_bytes),
            single(&names::THREADS, memory.threads),
            single(&names::STARTED, Some(self.started_unix_seconds)),
        ]
    }
}

fn single(metric: &Metric, value: Option<f64>) -> MetricFamily {
    family(metric, value.into_iter().map(|value| (Vec::new(), value)))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// One of the entries is the directory that is being read.
fn open_fds() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as f64)
}

/// User and system time, the 14th and 15th fields. The second is the program's name in parentheses, which may
/// itself contain blanks and parentheses.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let total = ticks()? + ticks()?;
    Some(total as f64 / TICKS_PER_SECOND)
}

/// In kilobytes there, whatever the size of a page is.
fn parse_status(status: &str) -> Memory {
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<f64>().ok()
    };
    Memory {
        resident_bytes: number("VmRSS:").map(|kilobytes| kilobytes * 1024.0),
        virtual_bytes: number("VmSize:").map(|kilobytes| kilobytes * 1024.0),
        threads: number("Threads:"),
    }
}

/// The soft limit; absent when there is none.
fn parse_max_fds(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_has_hundredths_and_survives_a_strange_name() {
        let stat =
            "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 137 21 9 9 20 0 5 0 100 1000 50 184467 1 1 0 0";
        assert_eq!(parse_cpu_seconds(stat), Some(1.58));
        assert_eq!(parse_cpu_seconds("42 (a"), None);
        assert_eq!(parse_cpu_seconds("42 (a) S 1 2"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let memory = parse_status("Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t     512 kB\nThreads:\t7\n");
        let expected =
            Memory { resident_bytes: Some(524_288.0), virtual_bytes: Some(2_097_152.0), threads: Some(7.0) };
        assert_eq!(memory, expected);
        assert_eq!(parse_status("Name:\tx\n"), Memory::default());
    }

    #[test]
    fn an_unlimited_number_of_files_is_absent() {
        assert_eq!(
            parse_max_fds("Max open files            1024                 4096   files\n"),
            Some(1024.0)
        );
        assert_eq!(parse_max_fds("Max open files            unlimited            unlimited  files\n"), None);
    }
}
