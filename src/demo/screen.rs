//! What a person sees while the demo runs, on standard error: a small block that is redrawn on a terminal, else a line
//! every few seconds. Log lines go above the block, never through it.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use super::sample::{Phase, Sample};
use super::world::SOURCE_REGION;

/// Time between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_millis(2_500);

/// The place for progress.
#[derive(Debug)]
pub(super) enum Screen {
    /// A block of lines.
    Terminal {
        block: MultiProgress,
        /// The load's bar, the source's line, and one per replica.
        lines: Vec<ProgressBar>,
    },
    /// One line after another.
    Plain {
        /// When the last line was written, and what it was about.
        last: (Instant, Phase),
    },
}

/// Where log lines go.
#[derive(Debug, Clone)]
pub(super) struct LogWriter {
    block: Option<MultiProgress>,
}

// === impl Screen ===

impl Screen {
    /// A block if standard error is a terminal.
    pub(super) fn new() -> Self {
        if io::stderr().is_terminal() {
            let block = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            return Self::Terminal { block, lines: Vec::new() };
        }
        Self::plain()
    }

    /// One line after another, wherever they go.
    pub(super) fn plain() -> Self {
        Self::Plain { last: (Instant::now(), Phase::Writing) }
    }

    /// A writer for log lines that does not tear the block.
    pub(super) fn log_writer(&self) -> LogWriter {
        let block = match self {
            Self::Terminal { block, .. } => Some(block.clone()),
            Self::Plain { .. } => None,
        };
        LogWriter { block }
    }

    /// Writes a line that stays.
    pub(super) fn say(&self, line: &str) {
        // Who closed standard error does not want to see it.
        let _ = self.log_writer().write_all(format!("{line}\n").as_bytes());
    }

    /// Shows how it goes.
    pub(super) fn show(&mut self, sample: &Sample) {
        match self {
            Self::Terminal { block, lines } => draw(block, lines, sample),
            Self::Plain { last } => {
                if last.0.elapsed() >= LINE_INTERVAL || last.1 != sample.phase {
                    *last = (Instant::now(), sample.phase);
                    let _ = writeln!(io::stderr(), "{}", sample.line());
                }
            }
        }
    }

    /// Takes the block away.
    pub(super) fn clear(&mut self) {
        if let Self::Terminal { block, lines } = self {
            lines.drain(..).for_each(|line| line.finish_and_clear());
            // As above.
            let _ = block.clear();
        }
    }
}

fn draw(block: &MultiProgress, lines: &mut Vec<ProgressBar>, sample: &Sample) {
    let now = &sample.now;
    while lines.len() < now.replicas.len() + 2 {
        let line = block.add(ProgressBar::no_length());
        let template = if lines.is_empty() { head(sample) } else { "  {msg}" };
        let style = ProgressStyle::with_template(template);
        line.set_style(style.expect("the templates are fixed and well-formed"));
        lines.push(line);
    }
    if let Some(planned) = sample.planned {
        lines[0].set_length(planned.as_millis() as u64);
        lines[0].set_position(now.elapsed.min(planned).as_millis() as u64);
    }
    lines[0].set_message(sample.time());
    lines[1].set_message(format!("{SOURCE_REGION:<15} {}", sample.source()));
    for (index, replica) in now.replicas.iter().enumerate() {
        lines[index + 2].set_message(format!("{:<15} {}", replica.name, sample.replica(index)));
    }
}

/// The template of the first line: a bar needs an end.
fn head(sample: &Sample) -> &'static str {
    match sample.planned {
        Some(_) => "  {bar:40.green/black.bright} {msg}",
        None => "  {spinner} {msg}",
    }
}

// === impl LogWriter ===

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.block {
            Some(block) => block.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'writer> MakeWriter<'writer> for LogWriter {
    type Writer = Self;

    fn make_writer(&'writer self) -> Self {
        self.clone()
    }
}
