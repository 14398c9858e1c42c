//! Where progress is shown, on standard error: a bar for each replica on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::copy::{Run, State};

/// Time between lines of one replica where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The length of a bar.
const WHOLE: f64 = 1_000.0;

/// The place for progress.
pub(super) enum Screen {
    Terminal { block: MultiProgress, bars: Vec<ProgressBar> },
    Plain { names: Vec<String>, last: Vec<Option<(Instant, State)>> },
}

// === impl Screen ===

impl Screen {
    /// Bars if standard error is a terminal; one for each name.
    pub(super) fn new(names: impl Iterator<Item = String>) -> Self {
        let names: Vec<_> = names.collect();
        if !io::stderr().is_terminal() {
            return Self::Plain { last: vec![None; names.len()], names };
        }
        let block = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = |name: String| {
            let bar = block.add(ProgressBar::new(WHOLE as u64));
            let style =
                ProgressStyle::with_template("{prefix} {bar:30.green/black.bright} {percent:>3} % {msg}");
            bar.set_style(style.expect("the template is fixed and well-formed"));
            bar.with_prefix(name)
        };
        let bars = names.into_iter().map(bar).collect();
        Self::Terminal { block, bars }
    }

    /// Shows how far a replica is.
    pub(super) fn show(&mut self, index: usize, run: &Run, line: &str) {
        match self {
            Self::Terminal { bars, .. } => {
                let bar = &bars[index];
                bar.set_position((run.share().unwrap_or(0.0) * WHOLE) as u64);
                bar.set_message(line.to_owned());
            }
            Self::Plain { names, last } => {
                let due =
                    last[index].is_none_or(|(at, state)| at.elapsed() >= LINE_INTERVAL || state != run.state);
                if due {
                    last[index] = Some((Instant::now(), run.state));
                    // Who closed standard error does not want to see it.
                    let _ = writeln!(io::stderr(), "{}: {line}", names[index]);
                }
            }
        }
    }

    /// Writes a line that stays.
    pub(super) fn say(&self, line: &str) {
        // As above.
        let _ = match self {
            Self::Terminal { block, .. } => block.println(line),
            Self::Plain { .. } => writeln!(io::stderr(), "{line}"),
        };
    }

    /// Takes the bars away.
    pub(super) fn clear(&mut self) {
        if let Self::Terminal { block, bars } = self {
            bars.drain(..).for_each(|bar| bar.finish_and_clear());
            // As above.
            let _ = block.clear();
        }
    }
}
