//! Who may write what is copied: while one worker may, and as long as what it sent may land, nobody else's write lands.
//!
//! Mostly nothing is copied, and it is the right to write that is judged. Workers are looked at twice a second, and a fence that
//! is open at two looks was open all the time between them, since one that was closed for good is never opened again.
//! Where something is copied, a right that was given up may end at once, because all was answered; then what was copied
//! is judged, write by write.

use std::time::Duration;

use tokio::time::Instant;

use super::fleet::Fleet;
use super::model::{Model, Node};
use super::truth::{Role, Truth};
use crate::lease::Fence;

/// All rights that there were.
pub(super) struct Soles {
    all: Vec<Sole>,
    judged_writes: usize,
    judged_copies: usize,
    /// After a fence closed, an attempt that was begun in time may last, and land after its caller stopped waiting.
    lands_within: Duration,
}

/// One worker's right to write to all replicas of a replication.
struct Sole {
    replication: usize,
    node: Node,
    fence: Fence,
    /// It was seen open from here.
    from: Duration,
    /// To here.
    to: Duration,
    /// Everything that was sent under it was answered before it ended.
    is_settled: bool,
}

/// Between two looks, at most.
const LOOKED_WITHIN: Duration = Duration::from_millis(600);

// === impl Soles ===

impl Soles {
    /// Where something is copied, what was under it is judged by itself.
    pub(super) fn new(longest_effect: Duration, is_copied: bool) -> Self {
        let lands_within = if is_copied { Duration::ZERO } else { 2 * longest_effect };
        Self { all: Vec::new(), judged_writes: 0, judged_copies: 0, lands_within }
    }

    /// A worker gave its right up after all that it sent was answered.
    pub(super) fn settled(&mut self, replication: usize, node: Node) {
        let own = self.all.iter_mut().filter(|sole| sole.node == node && sole.replication == replication);
        own.for_each(|sole| sole.is_settled = true);
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether a worker has the right now.
    pub(super) fn is_given(&self, replication: usize) -> bool {
        let now = Instant::now();
        self.all.iter().any(|sole| sole.replication == replication && sole.fence.is_open(now))
    }

    /// Looks at all workers, and judges what landed since the last look.
    pub(super) fn look(&mut self, fleet: &Fleet, replications: usize, model: &Model, truth: &mut Truth) {
        let (now, at) = (Instant::now(), model.elapsed());
        for running in fleet.running() {
            for replication in 0..replications {
                let affinity = running.affinity(replication);
                if let Some(fence) = affinity.and_then(|it| it.sole()).filter(|fence| fence.is_open(now)) {
                    self.seen(replication, running.node, fence, now, at);
                }
            }
        }
        // Dead ones too: what they sent at the last moment may land.
        self.all.iter_mut().filter(|sole| sole.fence.is_open(now)).for_each(|sole| sole.to = at);
        for replication in 0..replications {
            let open =
                self.all.iter().filter(|sole| sole.replication == replication && sole.fence.is_open(now));
            let names: Vec<_> = open.map(|sole| truth.name(sole.node)).collect();
            if names.len() > 1 {
                let what = format!("r{replication}: {} may all write what is copied", names.join(" and "));
                truth.broken("sole", at, what, None, None);
            }
        }
        self.judge_writes(model, truth);
        self.judge_copies(model, truth);
    }

    /// What can only have been copied was sent by who was alone, and nobody else's write landed while it was under way.
    fn judge_copies(&mut self, model: &Model, truth: &mut Truth) {
        let copied = truth.copied[self.judged_copies..].to_vec();
        self.judged_copies += copied.len();
        for (replication, write) in copied {
            let own = |sole: &Sole| sole.replication == replication && Some(sole.node) == write.node;
            let is_sole =
                self.all.iter().filter(|sole| own(sole)).any(|sole| {
                    sole.from <= write.sent + LOOKED_WITHIN && write.sent <= sole.to + LOOKED_WITHIN
                });
            let other = model.history(|history| {
                let later = history.writes.iter().rev().skip_while(|other| other.landed >= write.landed);
                let mut between = later.take_while(|other| other.landed > write.sent);
                between.find(|other| other.table == write.table && other.node != write.node).cloned()
            });
            let writer = write.node.map_or_else(String::new, |node| truth.name(node));
            let key = write.key.to_string();
            if !is_sole {
                let what = format!("{key}: {writer} copied to r{replication} and was not alone");
                truth.broken("sole", write.landed, what, Some(&key), None);
            }
            if let Some(other) = other {
                let at = other.landed.as_secs_f64();
                let what =
                    format!("{key}: {writer} copied to r{replication} while another wrote, at {at:.3}");
                truth.broken("sole", write.landed, what, Some(&key), None);
            }
        }
    }

    fn seen(&mut self, replication: usize, node: Node, fence: Fence, now: Instant, at: Duration) {
        let is_same =
            |sole: &Sole| sole.replication == replication && sole.node == node && sole.fence.is_open(now);
        if !self.all.iter().any(is_same) {
            self.all.push(Sole { replication, node, fence, from: at, to: at, is_settled: false });
        }
    }

    fn judge_writes(&mut self, model: &Model, truth: &mut Truth) {
        let from = self.judged_writes;
        let writes = model.history(|history| history.writes[from..].to_vec());
        self.judged_writes += writes.len();
        let lands_within = self.lands_within;
        for write in writes {
            let (Some(Role::Replica(replication, _)), Some(node)) = (truth.role(write.table), write.node)
            else {
                continue;
            };
            let others = self.all.iter().filter(|sole| sole.replication == replication && sole.node != node);
            let broken = others.into_iter().find(|sole| {
                let lands = if sole.is_settled { Duration::ZERO } else { lands_within };
                write.landed > sole.from && write.landed < sole.to + lands
            });
            if let Some(sole) = broken {
                let (writer, alone) = (truth.name(node), truth.name(sole.node));
                let (from, to) = (sole.from.as_secs_f64(), sole.to.as_secs_f64());
                let what = format!(
                    "{}: {writer} wrote to r{replication} while {alone} was alone, {from:.3} to {to:.3}",
                    write.key
                );
                truth.broken("sole", write.landed, what, Some(&write.key.to_string()), None);
            }
        }
    }
}
