//! Which worker takes which lease: a plan that every worker makes for itself, and all the same one.
//!
//! Nobody leads. Each worker knows who lives, who holds what, and what each lease costs. From that it lays out where all
//! leases of a replication belong, and does its own part of it:
//!
//! 1. A lease that a live worker holds stays there; one that is wanted by, or handed to, another counts as that one's.
//! 2. All others (free, expired, or held by who drains or is gone) go one by one, the costliest first, to the worker that
//!    has least by then. What of it can be taken now, its taker takes at once. Everybody else looks again after
//!    [`TAKEN_BY_OTHERS_AFTER`] and takes what is still there, so that nothing depends on the taker being alive.
//! 3. Then leases move from who has most to who has least, as long as that makes the load more even. Of these moves a
//!    worker makes the first that brings a lease to itself, by asking its holder for it.
//!
//! While something is copied none of this holds: all leases belong to one worker, which takes them without delay, and
//! everybody else gives up what it has (see [`super::affinity`]).
//!
//! Workers look at different moments, so their plans differ now and then. That costs a refused write or a lease that
//! moves twice, never more: leases are taken by conditional writes.
//!
//! Moves end: each makes the sum of the squares of all loads smaller by a part that grows with the lease (a quarter of
//! its load), so what is measured may change a little without moving anything back.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::observer::Claim;
use super::row::Owner;
use crate::shard::ShardId;

/// How long a lease is left to the worker that it is planned for. Workers look at the fleet every half second and at the
/// rows right after, so one that lives has taken its part by then, and one that does not costs a second.
pub const TAKEN_BY_OTHERS_AFTER: Duration = Duration::from_secs(1);

/// Leases move for their load alone when the fullest worker has this part more than the emptiest, or more: loads are
/// measured, and never equal.
const UNEVEN: u64 = 5;

/// What one worker sees.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// Who looks.
    pub me: &'a str,
    /// Live workers that are not draining, this one too unless it is, with what each holds of other replications.
    pub workers: BTreeMap<Owner, Share>,
    /// Leases of shards that can be read.
    pub leases: Vec<Lease<'a>>,
    /// Whether this worker may ask for another's lease now.
    pub may_steal: bool,
    /// Who is to hold all of them, while something is copied (see [`super::affinity`]).
    pub affinity: Option<&'a str>,
}

/// What a worker holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// What it all costs.
    pub load: u64,
    /// How many leases.
    pub leases: u64,
}

/// A lease as it was last seen.
#[derive(Debug, Clone)]
pub struct Lease<'a> {
    /// Its shard.
    pub shard: &'a ShardId,
    /// Who holds it.
    pub owner: Option<&'a str>,
    /// Whether it can be taken.
    pub claim: Claim,
    /// How long it could have been taken.
    pub unclaimed_for: Duration,
    /// What it costs.
    pub load: u64,
    /// Whom it was handed to, or who has asked for it.
    pub meant_for: Option<&'a str>,
}

/// What a worker does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Leases to take now, and whether each must settle first.
    pub take: Vec<(ShardId, bool)>,
    /// Leases that others should take, and how long they are left to them.
    pub later: Vec<(ShardId, Duration)>,
    /// A lease to ask for, and its holder.
    pub steal: Option<(ShardId, Owner)>,
    /// Whom all leases that are held are given up for.
    pub hand_over: Option<Owner>,
    /// What each worker has of this replication when all leases are where they belong now, before any is stolen.
    pub shares: BTreeMap<Owner, Share>,
}

/// A lease and where it belongs.
struct Placed<'a, 'b> {
    lease: &'b Lease<'a>,
    at: Owner,
    /// Whether its holder may be asked for it.
    moves: bool,
}

/// Lays out all leases, and says what `view.me` does of it.
pub fn plan(view: &View<'_>) -> Plan {
    let mut all = view.workers.clone();
    // Who let a lease run out takes no other, until it is heard of again.
    let silent = view.leases.iter().filter(|lease| lease.claim == Claim::Expired).filter_map(|it| it.owner);
    for owner in silent.filter(|owner| *owner != view.me) {
        all.remove(owner);
    }
    if !all.contains_key(view.me) {
        return Plan::default();
    }
    if let Some(owner) = view.affinity {
        return keep_together(view, owner);
    }
    let mut placed = place(view, &mut all);
    let mut plan = Plan::default();
    for Placed { lease, at, .. } in &placed {
        plan.shares.entry(at.clone()).or_default().add(lease.load);
        let shard = lease.shard.clone();
        let left = TAKEN_BY_OTHERS_AFTER.saturating_sub(lease.unclaimed_for);
        match lease.claim {
            Claim::Held(_) => {}
            claim if at == view.me || left.is_zero() => plan.take.push((shard, claim == Claim::Expired)),
            _ => plan.later.push((shard, left)),
        }
    }
    if view.may_steal {
        plan.steal = steal(view.me, &mut placed, &mut all);
    }
    plan
}

/// All leases are one worker's: it takes what it can, and all others give up what they have.
fn keep_together(view: &View<'_>, owner: &str) -> Plan {
    let mut plan = Plan::default();
    let share = plan.shares.entry(owner.to_owned()).or_default();
    view.leases.iter().for_each(|lease| share.add(lease.load));
    if owner == view.me {
        let claimable = view.leases.iter().filter(|lease| !matches!(lease.claim, Claim::Held(_)));
        plan.take = claimable.map(|lease| (lease.shard.clone(), lease.claim == Claim::Expired)).collect();
    } else {
        plan.hand_over = Some(owner.to_owned());
    }
    plan
}

/// Where every lease belongs, and what each worker has then.
fn place<'a, 'b>(view: &'b View<'a>, all: &mut BTreeMap<Owner, Share>) -> Vec<Placed<'a, 'b>> {
    let mut leases: Vec<_> = view.leases.iter().collect();
    leases.sort_by_key(|lease| (Reverse(lease.load), lease.shard));
    let (mut placed, mut open) = (Vec::with_capacity(leases.len()), Vec::new());
    for lease in leases {
        let known = |owner: Option<&str>| owner.filter(|owner| all.contains_key(*owner)).map(str::to_owned);
        let holder = known(lease.owner).filter(|_| matches!(lease.claim, Claim::Held(_)));
        let moves = holder.is_some() && known(lease.meant_for).is_none();
        match known(lease.meant_for).or(holder) {
            Some(at) => {
                all.entry(at.clone()).or_default().add(lease.load);
                placed.push(Placed { lease, at, moves });
            }
            None => open.push(lease),
        }
    }
    for lease in open {
        let at = least(all).expect("this worker at least").clone();
        all.entry(at.clone()).or_default().add(lease.load);
        placed.push(Placed { lease, at, moves: false });
    }
    placed
}

/// Evens the loads out in thought, until a lease comes to `me`.
fn steal(
    me: &str,
    placed: &mut [Placed<'_, '_>],
    all: &mut BTreeMap<Owner, Share>,
) -> Option<(ShardId, Owner)> {
    loop {
        let thief = least(all)?.clone();
        let (victim, index) = best_move(&thief, placed, all)?;
        let lease = placed[index].lease;
        if thief == me {
            return Some((lease.shard.clone(), victim));
        }
        (placed[index].at, placed[index].moves) = (thief.clone(), false);
        all.get_mut(&thief)?.add(lease.load);
        all.get_mut(&victim)?.take(lease.load);
    }
}

/// The lease that makes `thief` and the fullest worker with a lease to move most even.
fn best_move(thief: &str, placed: &[Placed<'_, '_>], all: &BTreeMap<Owner, Share>) -> Option<(Owner, usize)> {
    let to = all.get(thief)?;
    let mut fullest: Vec<_> = all.iter().filter(|(owner, _)| *owner != thief).collect();
    fullest.sort_by_key(|(owner, share)| (Reverse(**share), *owner));
    fullest.into_iter().find_map(|(victim, from)| {
        let own = placed.iter().enumerate().filter(|(_, it)| it.moves && it.at == *victim);
        let worth = own.filter(|(_, it)| from.is_worth_moving(it.lease.load, to));
        let gap = from.load.saturating_sub(to.load);
        let best =
            worth.min_by_key(|(_, it)| (gap.abs_diff(it.lease.load.saturating_mul(2)), it.lease.shard))?;
        Some((victim.clone(), best.0))
    })
}

/// The worker that has least; of several the first by name.
fn least(all: &BTreeMap<Owner, Share>) -> Option<&Owner> {
    all.iter().min_by_key(|(owner, share)| (**share, *owner)).map(|(owner, _)| owner)
}

// === impl Share ===

impl Share {
    /// One lease more.
    pub fn add(&mut self, load: u64) {
        self.load = self.load.saturating_add(load);
        self.leases += 1;
    }

    /// As much more as another has.
    pub fn join(&mut self, other: Self) {
        self.load = self.load.saturating_add(other.load);
        self.leases += other.leases;
    }

    fn take(&mut self, load: u64) {
        self.load = self.load.saturating_sub(load);
        self.leases -= 1;
    }

    /// Whether a lease of this one's should rather be the other's.
    fn is_worth_moving(&self, load: u64, to: &Self) -> bool {
        let with_margin = load.saturating_add((load / 4).max(1));
        let is_better = to.load.saturating_add(with_margin) <= self.load;
        let is_uneven = self.load.saturating_sub(to.load) >= self.load / UNEVEN;
        is_better && (is_uneven || to.leases + 1 < self.leases)
    }
}
