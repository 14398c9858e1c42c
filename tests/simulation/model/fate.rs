//! What becomes of one call, decided when it is sent.

use std::time::Duration;

use tokio::time::Instant;

use super::rule::{Call, Trouble};
use super::world::World;
use crate::dynamo::{Error, ThrottleReason};
use crate::fault::{Fault, Width};

/// The life of one call.
pub(super) struct Fate {
    /// From sending to the effect; `None` when the request never arrives.
    pub(super) lands_after: Option<Duration>,
    pub(super) verdict: Verdict,
    pub(super) answer: Answer,
}

/// What the server does.
#[derive(Clone, Copy)]
pub(super) enum Verdict {
    /// All of it.
    Done,
    /// Nothing, and it says so.
    Refused(Fault),
    /// It fails, after it did this much.
    Failed(Portion),
    /// Some of it, and it says which.
    Unprocessed,
    /// All of it, the second part so much later.
    Torn(Duration),
}

/// How much of a call is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Portion {
    All,
    Some,
    None,
}

/// How the caller learns of it.
pub(super) enum Answer {
    /// So long after the effect.
    Comes(Duration),
    /// So long after sending the caller gets this instead.
    Breaks(Duration, Fault),
}

/// The text of an error that the model makes up.
const MESSAGE: &str = "by the model";

impl World {
    /// Decides about a call that is sent now.
    pub(super) fn fate(&mut self, call: &Call<'_>) -> Fate {
        let now = Instant::now();
        self.history.calls += 1;
        if self.is_cut(call.node, call.site) {
            let trouble = if self.rng.bool() { Trouble::Unreachable } else { Trouble::RequestLost };
            return self.troubled(call, trouble);
        }
        let rng = &mut self.rng;
        let trouble = self.rules.iter_mut().find_map(|(_, rule)| rule.meets(call, now, rng));
        match trouble {
            None => self.untroubled(call, 0, Verdict::Done),
            Some(trouble) => self.troubled(call, trouble),
        }
    }

    fn untroubled(&mut self, call: &Call<'_>, extra_ms: u32, verdict: Verdict) -> Fate {
        // Mostly one of the two ways takes all the time: a timer less for each call.
        let (there, back) = match self.rng.u8(..8) {
            0..4 => (0, self.latency_ms()),
            4..7 => (self.latency_ms(), 0),
            _ => (self.latency_ms(), self.latency_ms()),
        };
        let lands_after = millis(there + extra_ms).min(self.settings.longest_effect);
        let back = millis(back + extra_ms);
        let patience = self.patience(call);
        let answer = if lands_after + back < patience {
            Answer::Comes(back)
        } else {
            Answer::Breaks(patience, Fault::Unanswered)
        };
        Fate { lands_after: Some(lands_after), verdict, answer }
    }

    fn latency_ms(&mut self) -> u32 {
        self.rng.u32(self.settings.latency_ms.clone())
    }

    fn troubled(&mut self, call: &Call<'_>, trouble: Trouble) -> Fate {
        self.history.troubled_calls += 1;
        let longest = self.settings.longest_effect;
        match trouble {
            Trouble::Unreachable => {
                let soon = millis(self.latency_ms());
                Fate {
                    lands_after: None,
                    verdict: Verdict::Done,
                    answer: Answer::Breaks(soon, Fault::Transient),
                }
            }
            Trouble::RequestLost => self.lost(call, None),
            Trouble::AnswerLost => {
                let soon = millis(self.latency_ms()).min(longest);
                self.lost(call, Some(soon))
            }
            Trouble::Late => {
                let fate = self.lost(call, None);
                let Answer::Breaks(hears, _) = fate.answer else { unreachable!("no answer comes") };
                let late = (hears.min(longest) + longest).mul_f64(self.rng.f64());
                Fate { lands_after: Some(late), ..fate }
            }
            Trouble::LandsAfter(late) => self.lost(call, Some(late)),
            Trouble::Refused(fault) => self.untroubled(call, 0, Verdict::Refused(fault)),
            Trouble::Failed => {
                let portion = [Portion::All, Portion::Some, Portion::None][self.rng.usize(..3)];
                self.untroubled(call, 0, Verdict::Failed(portion))
            }
            Trouble::Unprocessed => self.untroubled(call, 0, Verdict::Unprocessed),
            Trouble::Slow(extra_ms) => {
                let extra_ms = self.rng.u32(extra_ms);
                self.untroubled(call, extra_ms, Verdict::Done)
            }
            Trouble::Torn => {
                let fate = self.untroubled(call, 0, Verdict::Done);
                let left = longest.saturating_sub(fate.lands_after.unwrap_or_default());
                let apart = left.mul_f64(self.rng.f64());
                self.torn(call, fate, apart)
            }
        }
    }

    /// The answer waits for the second part, which may be longer than the caller does.
    fn torn(&self, call: &Call<'_>, fate: Fate, apart: Duration) -> Fate {
        let patience = self.patience(call);
        let answer = match fate.answer {
            Answer::Comes(back) if fate.lands_after.unwrap_or_default() + apart + back < patience => {
                Answer::Comes(apart + back)
            }
            _ => Answer::Breaks(patience, Fault::Unanswered),
        };
        Fate { verdict: Verdict::Torn(apart), answer, ..fate }
    }

    /// The caller gets no answer: it waits as long as it can, or its connection breaks at any moment before.
    fn lost(&mut self, call: &Call<'_>, lands_after: Option<Duration>) -> Fate {
        let patience = self.patience(call);
        let hears = if self.rng.bool() { patience } else { patience.mul_f64(self.rng.f64()) };
        Fate { lands_after, verdict: Verdict::Done, answer: Answer::Breaks(hears, Fault::Unanswered) }
    }

    /// How long the caller waits.
    pub(super) fn patience(&self, call: &Call<'_>) -> Duration {
        match call.operation.writes() {
            true => self.settings.write_patience,
            false => self.settings.read_patience,
        }
    }
}

fn millis(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

/// An error as the real client would report it.
pub(super) fn error(operation: &'static str, fault: Fault) -> Error {
    let code = match fault {
        Fault::Throttled(Width::Unknown) => Some("LimitExceededException"),
        Fault::Throttled(_) => Some("ThrottlingException"),
        Fault::Transient | Fault::Unanswered | Fault::Protocol => None,
        Fault::ExpiredIterator => Some("ExpiredIteratorException"),
        Fault::Trimmed => Some("TrimmedDataAccessException"),
        Fault::Missing => Some("ResourceNotFoundException"),
        Fault::Denied => Some("AccessDeniedException"),
        Fault::Conflict => Some("TransactionConflictException"),
        Fault::Invalid => Some("ValidationException"),
    };
    let reason = match fault {
        Fault::Throttled(Width::KeyRange) => Some("TableWriteKeyRangeThroughputExceeded"),
        Fault::Throttled(Width::Table) => Some("TableWriteProvisionedThroughputExceeded"),
        Fault::Throttled(Width::Index) => Some("IndexWriteProvisionedThroughputExceeded"),
        Fault::Throttled(Width::Account) => Some("TableWriteAccountLimitExceeded"),
        _ => None,
    };
    let reasons = reason.map(|reason| match fault {
        Fault::Throttled(width) => {
            ThrottleReason { width, reason: reason.to_owned(), resource: "arn:model".to_owned() }
        }
        _ => unreachable!("only a throttle has a reason"),
    });
    Error {
        code: code.map(str::to_owned),
        reasons: reasons.into_iter().collect(),
        ..Error::new(operation, fault, MESSAGE)
    }
}
