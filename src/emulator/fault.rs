//! Faults by rule: which requests go wrong, in which way, how often.
//!
//! Each request is held against the rules in the order they were added. A [`Fault::Slow`] delays it and the
//! search goes on; the first other rule that fires decides. Chance is drawn from one seeded generator in the
//! order the requests arrive, so a run with the same order of requests has the same faults.

use super::{
    reply::{Reply, qualified},
    request::{Request, is_write},
};
use hyper::StatusCode;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The exception a throttled request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttle {
    /// `ProvisionedThroughputExceededException`.
    ProvisionedThroughputExceeded,
    /// `ThrottlingException`.
    Throttling,
}

/// One entry of `ThrottlingReasons`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// For example `TableWriteKeyRangeThroughputExceeded`.
    pub reason: String,
    /// ARN of the table or index.
    pub resource: String,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Refused with status 400, not applied.
    Throttle {
        /// The exception's kind.
        exception: Throttle,
        /// Given in the body when not empty.
        reasons: Vec<Reason>,
    },
    /// Answered with this status and an `InternalServerError` body, not applied.
    Status(u16),
    /// Kept without an answer for this long, then the connection is dropped; never applied.
    Hang(Duration),
    /// The connection is dropped; not applied.
    ResetBefore,
    /// Applied, then the connection is dropped without an answer.
    ResetAfter,
    /// The connection is dropped at once; applied after this long.
    Late(Duration),
    /// Of a `BatchWriteItem`, about this share (0 to 1) of the items comes back under `UnprocessedItems` and
    /// the rest is applied. When the draw leaves nothing to apply, the whole request is refused with
    /// `ProvisionedThroughputExceededException`, as the service does. Other operations are left alone.
    Unprocessed {
        /// Share of the items that is not applied.
        share: f64,
    },
    /// A write whose body contains this text is refused whole with `ValidationException`.
    Poison {
        /// The text, for example the value of a key.
        marker: String,
    },
    /// Refused with status 400, not applied.
    Refuse {
        /// The exception's name, for example `AccessDeniedException`.
        code: String,
        /// The message in the body.
        message: String,
    },
    /// The endpoint is unreachable: connections are accepted and dropped. With neither operation, table, times
    /// nor probability given, a connection is dropped before a request is read.
    Down,
    /// Applied, and answered with a body that breaks off half-way.
    TruncateBody,
    /// Delayed by this much, then handled as if nothing were wrong.
    Slow(Duration),
}

/// A fault and the requests it strikes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Only this operation, for example `BatchWriteItem`; otherwise every one.
    pub operation: Option<String>,
    /// Only requests that name this table; otherwise any.
    pub table: Option<String>,
    /// What goes wrong.
    pub fault: Fault,
    /// How often at most; otherwise without end.
    pub times: Option<u64>,
    /// Chance from 0 to 1 for each request that matches.
    pub probability: f64,
}

impl Rule {
    /// A rule that strikes every request, always.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self { operation: None, table: None, fault, times: None, probability: 1.0 }
    }

    /// Strikes this operation only.
    #[must_use]
    pub fn on(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_owned());
        self
    }

    /// Strikes requests that name this table only.
    #[must_use]
    pub fn of_table(mut self, table: &str) -> Self {
        self.table = Some(table.to_owned());
        self
    }

    /// Strikes at most this often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Strikes with this chance, 0 to 1.
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    fn strikes(&self, operation: &str, request: &Request) -> bool {
        let suits = match &self.fault {
            Fault::Unprocessed { .. } => operation == "BatchWriteItem",
            Fault::Poison { marker } => {
                is_write(operation) && memchr::memmem::find(&request.body, marker.as_bytes()).is_some()
            }
            _ => true,
        };
        suits
            && self.operation.as_deref().is_none_or(|only| only == operation)
            && self.table.as_ref().is_none_or(|only| request.tables().contains(only))
    }

    fn is_total_outage(&self) -> bool {
        let certain = self.times.is_none() && self.probability >= 1.0;
        self.fault == Fault::Down && certain && self.operation.is_none() && self.table.is_none()
    }
}

/// Names a rule that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(u64);

/// The rules of one region.
#[derive(Debug)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    active: Vec<(RuleId, Rule)>,
    /// How often each rule ever added has fired, by its id.
    fired: Vec<u64>,
    rng: fastrand::Rng,
}

/// What becomes of one request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) delay: Duration,
    pub(super) fault: Option<Fault>,
}

impl Faults {
    pub(super) fn new(rng: fastrand::Rng) -> Self {
        Self { state: Mutex::new(State { active: Vec::new(), fired: Vec::new(), rng }) }
    }

    /// Adds a rule behind those there are.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut state = self.state();
        let id = RuleId(state.fired.len() as u64);
        state.fired.push(0);
        state.active.push((id, rule));
        id
    }

    /// Takes a rule away; its count stays.
    pub fn remove(&self, id: RuleId) {
        self.state().active.retain(|(other, _)| *other != id);
    }

    /// Takes all rules away; their counts stay.
    pub fn clear(&self) {
        self.state().active.clear();
    }

    /// How often a rule has fired.
    pub fn fired(&self, id: RuleId) -> u64 {
        usize::try_from(id.0).ok().and_then(|index| self.state().fired.get(index).copied()).unwrap_or(0)
    }

    /// How often all rules together have fired, those taken away included.
    pub fn fired_in_total(&self) -> u64 {
        self.state().fired.iter().sum()
    }

    /// Whether connections are to be dropped unread; counts as one firing.
    pub(super) fn refuses_connections(&self) -> bool {
        let mut state = self.state();
        let outage = state.active.iter().find(|(_, rule)| rule.is_total_outage()).map(|(id, _)| *id);
        if let Some(id) = outage {
            state.count(id);
        }
        outage.is_some()
    }

    pub(super) fn judge(&self, operation: &str, request: &Request) -> Verdict {
        let mut state = self.state();
        let mut verdict = Verdict::default();
        let mut index = 0;
        while verdict.fault.is_none() && index < state.active.len() {
            let (id, rule) = &state.active[index];
            let (id, probability, strikes) = (*id, rule.probability, rule.strikes(operation, request));
            index += 1;
            if !strikes || state.rng.f64() >= probability {
                continue;
            }
            match state.fire(id, index - 1, &mut index) {
                Fault::Slow(delay) => verdict.delay += delay,
                fault => verdict.fault = Some(fault),
            }
        }
        verdict
    }

    /// Whether an item of a batch is among the `share` that is not applied.
    pub(super) fn holds_back(&self, share: f64) -> bool {
        self.state().rng.f64() < share
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts the rule at `at` and gives its fault; a rule used up is taken away and `next` follows.
    fn fire(&mut self, id: RuleId, at: usize, next: &mut usize) -> Fault {
        self.count(id);
        let rule = &mut self.active[at].1;
        let fault = rule.fault.clone();
        if let Some(times) = &mut rule.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.active.remove(at);
                *next = at;
            }
        }
        fault
    }

    fn count(&mut self, id: RuleId) {
        if let Some(fired) = usize::try_from(id.0).ok().and_then(|index| self.fired.get_mut(index)) {
            *fired += 1;
        }
    }
}

/// A throttled answer, in the shape of the API model.
pub(super) fn throttled(exception: Throttle, reasons: &[Reason]) -> Reply {
    let (code, field) = match exception {
        Throttle::ProvisionedThroughputExceeded => {
            ("ProvisionedThroughputExceededException", "ThrottlingReasons")
        }
        Throttle::Throttling => ("ThrottlingException", "throttlingReasons"),
    };
    let mut body = serde_json::json!({
        "__type": qualified(code),
        "message": "The level of configured throughput for the table or index was exceeded",
    });
    if !reasons.is_empty() {
        let list = reasons
            .iter()
            .map(|Reason { reason, resource }| serde_json::json!({ "reason": reason, "resource": resource }));
        body[field] = list.collect();
    }
    Reply { status: StatusCode::BAD_REQUEST, ..Reply::json(body.to_string()) }
}

#[cfg(test)]
mod tests;
