//! Leases: which to take, what a taken one starts, whom one is given up for, and what comes after a shard's task.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, info_span, warn};

use super::super::desired::Wanted;
use super::super::fleet::Want;
use super::super::hold::Hold;
use super::super::plan::Standing;
use super::super::shard::{Built, Exit, Parts};
use super::Running;
use crate::lease::assign::{self, Plan, View};
use crate::lease::load::{self, Meter};
use crate::lease::{self, Claim, Fence, Owner, Row};
use crate::shard::ShardId;

impl Running {
    /// Takes this worker's part of the leases that are free to take.
    pub(super) fn advance(&mut self) {
        if self.discovered_unix_ms.is_some() {
            self.give_orders();
        }
        let (plan, runs_out_in) = self.plan(false);
        self.follow(plan, runs_out_in);
    }

    /// Asks for a lease of a worker that has more. Only right after the rows were read: what others have is known then.
    pub(super) fn even_out(&mut self) {
        let now = Instant::now();
        if !self.setup.fleet.may_want(now) {
            return;
        }
        let Some((shard, from)) = self.plan(true).0.steal else {
            return;
        };
        info!(%shard, from = lease::worker(&from), "asking for a lease, to even the load out");
        self.setup.fleet.want(Want { replication: self.setup.config.name.clone(), shard }, from, now);
    }

    /// Where all leases belong now, and when the first that is held by another runs out if it is not renewed.
    fn plan(&mut self, may_steal: bool) -> (Plan, Option<Duration>) {
        let fleet = &self.setup.fleet;
        if self.discovered_unix_ms.is_none() || !fleet.is_known() {
            return Default::default();
        }
        let (now, me, name) = (Instant::now(), &self.setup.worker, &self.setup.config.name);
        let mut asked_for = fleet.wants(name);
        asked_for.extend(fleet.own_want(name).map(|shard| (shard, me.clone())));
        let wanted = self.wanted();
        let (mut leases, mut runs_out_in) = (Vec::new(), None::<Duration>);
        for row in self.rows.values() {
            let shard = &row.shard;
            let hold = self.holds.get(shard).map(|(hold, _)| hold);
            let mut lease = assign::Lease {
                shard,
                owner: Some(me),
                claim: Claim::Held(self.setup.lease.duration),
                unclaimed_for: Duration::ZERO,
                load: hold.map_or(row.load.unwrap_or(load::IDLE), Hold::load),
                meant_for: hold.and_then(Hold::heir).or_else(|| asked_for.get(shard)).map(Owner::as_str),
            };
            if !self.has(shard) {
                if !self.is_claimable(row, &wanted) {
                    continue;
                }
                lease.owner = row.owner.as_deref();
                lease.claim = self.claims.claim(row, me, self.setup.lease.duration, now);
                lease.unclaimed_for = self.claims.unclaimed_for(shard, now);
                if let Claim::Held(left) = lease.claim {
                    runs_out_in = Some(runs_out_in.map_or(left, |least| least.min(left)));
                }
                if row.owner.is_none() {
                    // Who ends a parent knows its children first, and they need not wait for the others to see them.
                    let near = self.near.contains(shard).then_some(me);
                    lease.meant_for = row.handed_to.as_ref().or(near).map(Owner::as_str);
                }
            }
            leases.push(lease);
        }
        (assign::plan(&View { me, workers: fleet.workers(name), leases, may_steal }), runs_out_in)
    }

    /// Whether a shard's lease is worth having: it can be read, or somebody who may be dead holds it and has not obeyed
    /// a seek.
    fn is_claimable(&self, row: &Row, wanted: &Wanted) -> bool {
        self.replicas.standing(row, &self.rows, &self.lineage) == Standing::Ready
            || (row.owner.is_some() && wanted.is_behind(row))
    }

    /// Does this worker's part.
    fn follow(&mut self, plan: Plan, runs_out_in: Option<Duration>) {
        let now = Instant::now();
        self.setup.fleet.share_out(&self.setup.config.name, plan.shares);
        // A look that is due soon stays due, however often this is called before it.
        self.look_again = self.look_again.filter(|at| *at > now);
        // One that is renewed is seen so by the next round, long before it could run out.
        let soon = runs_out_in.filter(|left| *left < self.setup.lease.renew_interval);
        for left in plan.later.into_iter().map(|(_, left)| left).chain(soon) {
            self.look_by(now + left);
        }
        let wanted = |row: &Row| {
            let mut row = row.clone();
            let closed = self.lineage.get(&row.shard).is_none_or(|shard| shard.closed);
            self.replicas.complete(&mut row, closed, self.setup.clock.unix_ms());
            self.replicas.inherit(&mut row, &self.rows);
            row
        };
        let claims = plan.take.into_iter().map(|(shard, settles)| (wanted(&self.rows[&shard]), settles));
        let claims = claims.collect();
        self.take(claims);
    }

    pub(super) fn start(&mut self, row: Row, settles: bool, sent: Instant) {
        let shard = row.shard.clone();
        let fence = Fence::closed();
        let closes_at = sent + self.setup.lease.fence_span();
        fence.open_until(closes_at);
        self.claims.forget(&shard);
        self.near.remove(&shard);
        self.rows.insert(shard.clone(), row.clone());
        let is_fresh = self.decided.remove(&shard);
        info!(%shard, settles, "lease taken");
        let orders = self.replicas.orders(&self.wanted(), &row, &self.rows, &self.lineage);
        let hold = Hold::new(&self.setup.drain, row.load);
        let meter = Meter::new(row.load, Instant::now());
        let (built, live) = Built::new(Parts {
            row,
            leases: self.leases.clone(),
            lease: self.setup.lease,
            fence,
            settles,
            is_fresh,
            reader: self.setup.config.source.reader,
            source: self.source.clone(),
            describer: Arc::clone(&self.describer),
            channels: self.channels.clone(),
            orders,
            reports: self.reports.0.clone(),
            clock: self.setup.clock,
            metrics: self.metrics.clone(),
            hold: hold.clone(),
            grace: self.setup.grace,
        });
        self.live.insert(shard.clone(), live);
        self.holds.insert(shard.clone(), (hold, meter));
        let span = info_span!("shard", %shard);
        self.shards.spawn(span, async move { (shard, built.run().await) });
    }

    /// A shard's task ended.
    pub(super) async fn ended(&mut self, shard: &ShardId, exit: Exit) {
        self.live.remove(shard);
        let hold = self.holds.remove(shard);
        self.revoke_retries();
        match exit {
            Exit::Ended(row, children) => {
                self.children_unknown |= hold.is_some_and(|(hold, _)| hold.heir().is_some());
                self.rows.insert(shard.clone(), row);
                self.lineage.merge(&children);
                let children: Vec<_> = children.into_iter().map(|child| child.id).collect();
                self.near.extend(children.iter().cloned());
                self.track(children).await;
                self.advance();
            }
            Exit::Idle(row) | Exit::Released(row) => {
                self.rows.insert(shard.clone(), row);
                self.advance();
            }
            Exit::Lost => self.look(),
        }
    }

    /// Another worker came, went, drains, or wants something else.
    pub(super) fn fleet_changed(&mut self) {
        let roster = self.setup.fleet.roster();
        if roster != self.roster {
            self.roster = roster;
            self.look();
        }
        self.setup.fleet.check_want(&self.roster);
        self.answer_wants();
        self.advance();
    }

    /// Gives up the leases that others ask for.
    pub(super) fn answer_wants(&self) {
        for (shard, thief) in self.setup.fleet.wants(&self.setup.config.name) {
            let Some((hold, _)) = self.holds.get(&shard) else {
                continue;
            };
            // While a replica refuses writes nothing settles, and a shard would stand still for nothing.
            let settles = self.channels.iter().all(|channel| channel.gauges.trouble().is_none());
            if settles && hold.hand_over(&thief) {
                self.revoke_retries();
                info!(%shard, to = lease::worker(&thief), "giving a lease up for another worker");
            }
        }
    }

    /// The row of a lease that this worker asks for was seen.
    pub(super) fn check_wanted(&self, shard: &ShardId) {
        let is_wanted = self.setup.fleet.own_want(&self.setup.config.name).as_ref() == Some(shard);
        let Some(row) = self.rows.get(shard).filter(|_| is_wanted) else { return };
        let is_ready = self.replicas.standing(row, &self.rows, &self.lineage) == Standing::Ready;
        let may_come = is_ready && self.setup.fleet.may_come_from(row.owner.as_ref());
        if !may_come && !self.has(shard) {
            self.setup.fleet.drop_want();
        }
    }

    /// Measures what the shards that are read here cost.
    pub(super) fn measure(&mut self) {
        let now = Instant::now();
        for (shard, (hold, meter)) in &mut self.holds {
            if let Some(live) = self.live.get(shard) {
                hold.set_load(meter.read(live.reading.bytes(), now));
            }
        }
    }

    /// Lets rows of ended shards go whose children are being read.
    pub(super) async fn expire(&mut self) {
        let now_unix_ms = self.setup.clock.unix_ms();
        let expiring: Vec<_> = self
            .rows
            .values()
            .filter(|row| !self.live.contains_key(&row.shard))
            .filter_map(|row| {
                let expires = self.replicas.expiry(row, &self.rows, &self.lineage, now_unix_ms)?;
                Some(Row { expires_unix_s: Some(expires), ..row.clone() })
            })
            .collect();
        for mut row in expiring {
            match self.leases.amend(&mut row).await {
                Ok(lease::Renewal::Done) => drop(self.rows.insert(row.shard.clone(), row)),
                Ok(lease::Renewal::Lost) => {}
                Err(error) => return warn!(%error, "row of an ended shard cannot be marked"),
            }
        }
    }
}
