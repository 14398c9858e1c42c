//! How far a verification is, on standard error: two bars on a terminal, else a line now and then.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::verify::{Counted, Parts, Progress};

/// How often bars are drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The place for it.
pub(super) struct Screen {
    progress: watch::Receiver<Progress>,
    expected_items: [u64; 2],
    bars: Option<[ProgressBar; 3]>,
    began: Instant,
}

// === impl Screen ===

impl Screen {
    /// Bars if standard error is a terminal.
    pub(super) fn new(parts: &Parts, expected_items: [u64; 2]) -> Self {
        let bars = io::stderr().is_terminal().then(|| bars(expected_items));
        Self { progress: parts.progress.subscribe(), expected_items, bars, began: Instant::now() }
    }

    /// Shows progress until `work` is done.
    pub(super) async fn during<T>(mut self, work: impl Future<Output = T>) -> T {
        let period = if self.bars.is_some() { DRAW_INTERVAL } else { LINE_INTERVAL };
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once.
        ticks.tick().await;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    for bar in self.bars.iter().flatten() {
                        bar.finish_and_clear();
                    }
                    return done;
                }
                _ = ticks.tick() => self.show(),
            }
        }
    }

    fn show(&mut self) {
        let progress = *self.progress.borrow();
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let Some([source, replica, suspects]) = &self.bars else {
            eprintln!(
                "verify: source {}; replica {}; {}",
                line(progress.source, self.expected_items[0], seconds),
                line(progress.replica, self.expected_items[1], seconds),
                suspected(&progress)
            );
            return;
        };
        for (bar, counted) in [(source, progress.source), (replica, progress.replica)] {
            bar.set_position(counted.items);
            bar.set_message(rates(counted, seconds));
        }
        suspects.set_message(suspected(&progress));
    }
}

fn bars(expected_items: [u64; 2]) -> [ProgressBar; 3] {
    let block = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let style = |template: &str| {
        ProgressStyle::with_template(template).expect("the templates are fixed and well-formed")
    };
    let [source, replica] = expected_items.map(|items| {
        let bar = block.add(if items > 0 { ProgressBar::new(items) } else { ProgressBar::no_length() });
        bar.set_style(style(
            "{prefix:8} {bar:30.green/black.bright} {human_pos}/{human_len} {msg} {eta} left",
        ));
        bar
    });
    source.set_prefix("source");
    replica.set_prefix("replica");
    let suspects = block.add(ProgressBar::no_length());
    suspects.set_style(style("{msg}"));
    [source, replica, suspects]
}

fn line(counted: Counted, expected: u64, seconds: f64) -> String {
    format!(
        "{} of about {} items, {}",
        HumanCount(counted.items),
        HumanCount(expected),
        rates(counted, seconds)
    )
}

fn rates(counted: Counted, seconds: f64) -> String {
    format!("{}, {:.0} units/s", bytesize::ByteSize(counted.bytes), counted.units / seconds)
}

fn suspected(progress: &Progress) -> String {
    format!("{} suspects, {} differences", progress.suspects, progress.differences)
}
