mod faults;
mod gaps;
mod hydration;
mod model;
mod reading;
mod starts;

use super::*;
use crate::dynamo::{Streams, Tables};
use crate::fault::Width;
use crate::item::Item;
use crate::record::{Kind, Record, View};
use crate::stream::script::{Call, RECORD_BYTES, Script, after, record, record_of};
use crate::stream::{GapReason, RETENTION, events};
use crate::task::Tasks;

/// When the tests' clocks start.
const START: i64 = 1_700_000_000_000;

/// Longer than any pause of a reader.
const LONG: Duration = Duration::from_secs(60);

const HOUR_MS: i64 = 3_600_000;

/// A reader to be, with its script.
struct Rig {
    script: Arc<Script>,
    view: View,
    start: Start,
    budgets: Vec<Budget>,
    clock: Clock,
    cancel: CancellationToken,
    metrics: Arc<Metrics>,
}

/// A reader that runs.
struct Running {
    events: mpsc::Receiver<Event>,
    tasks: Tasks<Stop>,
}

/// What of a page most tests look at.
#[derive(Debug, PartialEq)]
struct Seen {
    numbers: Vec<String>,
    position: Position,
    skipped: u64,
}

impl Rig {
    fn new(position: Position) -> Self {
        let clock = Clock::Simulated { start_unix_ms: START, start: Instant::now() };
        Self {
            script: Script::new(),
            view: View::NewAndOldImages,
            start: Start { position, fresh: false, read_through_unix_ms: None },
            budgets: Vec::new(),
            clock,
            cancel: CancellationToken::new(),
            metrics: Arc::default(),
        }
    }

    fn run(&self) -> Running {
        self.run_with(self.source(Arc::clone(&self.script) as Arc<dyn Streams>))
    }

    fn source(&self, streams: Arc<dyn Streams>) -> Source {
        Source {
            streams,
            tables: Arc::clone(&self.script) as Arc<dyn Tables>,
            table: "source".to_owned(),
            stream: "arn:stream".into(),
            view: self.view,
        }
    }

    fn run_with(&self, source: Source) -> Running {
        let reader = Reader::new(
            &Config::default(),
            source,
            "shard".into(),
            self.start,
            self.budgets.clone(),
            self.clock,
            self.cancel.clone(),
        );
        let (sender, receiver) = events();
        let mut tasks = Tasks::new();
        let reader = reader.with_metrics(Arc::clone(&self.metrics));
        tasks.spawn(tracing::Span::none(), reader.run(sender));
        Running { events: receiver, tasks }
    }
}

impl Running {
    async fn event(&mut self) -> Event {
        tokio::time::timeout(LONG, self.events.recv())
            .await
            .expect("an event comes soon")
            .expect("the reader goes on")
    }

    async fn page(&mut self) -> Seen {
        loop {
            if let Event::Page { records, position, skipped, .. } = self.event().await {
                return Seen { numbers: numbers(&records), position, skipped };
            }
        }
    }

    async fn records(&mut self) -> Vec<Record> {
        match self.event().await {
            Event::Page { records, .. } => records,
            Event::Trouble(error, _) => panic!("expected a page, got {error}"),
        }
    }

    async fn trouble(&mut self) -> (Fault, Directive) {
        match self.event().await {
            Event::Trouble(error, directive) => (error.fault, directive),
            Event::Page { position, .. } => panic!("expected trouble, got a page up to {position:?}"),
        }
    }

    async fn stop(&mut self) -> Stop {
        tokio::time::timeout(LONG, self.tasks.next())
            .await
            .expect("the reader stops soon")
            .expect("the reader was not asked before")
    }
}

fn numbers(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.sequence.to_string()).collect()
}

fn seen(numbers: &[&str], position: Position, skipped: u64) -> Seen {
    Seen { numbers: numbers.iter().map(|number| (*number).to_owned()).collect(), position, skipped }
}

fn at(unix_ms: i64) -> Position {
    Position::At { unix_ms }
}
