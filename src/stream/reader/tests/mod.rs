mod faults;
mod gaps;
mod hydration;
mod model;
mod reading;
mod starts;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::budget::{Budget, Reservation};
use crate::dynamo::{Streams, Tables};
use crate::fault::Width;
use crate::item::Item;
use crate::record::{Kind, Record, View};
use crate::stream::script::{Call, RECORD_BYTES, Script, after, record, record_of};
use crate::stream::{GapReason, PAGE_RESERVE_BYTES, RETENTION};
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
    budget: Budget,
    clock: Clock,
    cancel: CancellationToken,
    metrics: Arc<Metrics>,
}

/// What a reader says, in its order.
enum Event {
    Page(Page, Reservation),
    Trouble(Trouble),
}

/// Why a reader's owner stopped.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    End,
    Gap(GapReason),
    Cancelled,
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
            budget: Budget::new(64 << 20),
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
        // Room for as much as a test waits for.
        let (told, troubles) = mpsc::channel(8);
        let (clock, metrics) = (self.clock, Arc::clone(&self.metrics));
        let config = Config::default();
        let reader = Reader::new(&config, source, "shard".into(), self.start, clock, metrics, told);
        let (sender, receiver) = mpsc::channel(1);
        let (budget, cancel) = (self.budget.clone(), self.cancel.clone());
        let mut tasks = Tasks::new();
        tasks.spawn(tracing::Span::none(), async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Stop::Cancelled,
                stop = own(reader, troubles, &budget, &sender) => stop,
                () = sender.closed() => Stop::Cancelled,
            }
        });
        Running { events: receiver, tasks }
    }
}

/// The plainest owner: reserves room for each page, and hands on what comes.
async fn own(
    mut reader: Reader,
    mut troubles: mpsc::Receiver<Trouble>,
    budget: &Budget,
    events: &mpsc::Sender<Event>,
) -> Stop {
    loop {
        tokio::time::sleep_until(reader.due()).await;
        let mut room = budget.reserve(PAGE_RESERVE_BYTES).await;
        let polled = {
            let mut poll = std::pin::pin!(reader.poll(|| true));
            loop {
                tokio::select! {
                    biased;
                    Some(trouble) = troubles.recv() => drop(events.send(Event::Trouble(trouble)).await),
                    polled = &mut poll => break polled,
                }
            }
        };
        while let Ok(trouble) = troubles.try_recv() {
            let _ = events.send(Event::Trouble(trouble)).await;
        }
        match polled {
            Polled::Page(page) => {
                room.resize(page.held_bytes);
                let is_last = page.is_last;
                if events.send(Event::Page(page, room)).await.is_err() {
                    return Stop::Cancelled;
                }
                if is_last {
                    return Stop::End;
                }
            }
            Polled::Failed => {}
            Polled::Gap(reason) => return Stop::Gap(reason),
        }
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
            if let Event::Page(Page { records, position, skipped, .. }, _) = self.event().await {
                return Seen { numbers: numbers(&records), position, skipped };
            }
        }
    }

    async fn records(&mut self) -> Vec<Record> {
        match self.event().await {
            Event::Page(page, _) => page.records,
            Event::Trouble(trouble) => panic!("expected a page, got {}", trouble.error),
        }
    }

    async fn trouble(&mut self) -> (Fault, Directive) {
        match self.event().await {
            Event::Trouble(trouble) => (trouble.error.fault, trouble.directive),
            Event::Page(page, _) => panic!("expected trouble, got a page up to {:?}", page.position),
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
