//! The steps of a schedule, done.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::proxy::Passing;
use super::schedule::{Break, PROCESSES, Step, Timed, Who};
use super::{Asleep, Soak, fleet};
use crate::support::wait;

impl Soak {
    /// Does one.
    pub(super) async fn step(&mut self, timed: &Timed) {
        for slot in &mut self.slots {
            slot.assert_alive();
        }
        match timed.step {
            Step::Kill { who, rest_ms, same_name } => self.kill(who, rest_ms, same_name).await,
            Step::Stop { who } => self.stop(who).await,
            Step::Continue { more_ms } => self.wake(more_ms).await,
            Step::Freeze { who, ms } => self.freeze(who, ms).await,
            Step::Cut { who, link, how } => self.cut(who, link, how).await,
            Step::Split { table } => {
                let parent = self.world.source_region().split(&self.table(table)).await;
                self.say(&format!("split {}", parent.expect("a shard is split")));
                self.tally.splits += 1;
            }
            Step::Roll { table } => {
                let parent = self.world.source_region().roll(&self.table(table)).await;
                self.say(&format!("roll {}", parent.expect("a shard is rolled over")));
                self.tally.rolls += 1;
            }
            Step::RestartAll => self.restart_all().await,
        }
    }

    fn table(&self, index: usize) -> String {
        self.world.source_table(&self.world.options.shapes[index])
    }

    async fn kill(&mut self, who: Who, rest_ms: u64, same_name: bool) {
        let (slot, held) = self.choose(who).await;
        self.say(&format!("kill {} with {held} leases", self.slots[slot].worker()));
        self.slots[slot].kill();
        self.tally.kills += 1;
        self.tally.kills_at_work += usize::from(held > 0);
        sleep(Duration::from_millis(rest_ms)).await;
        self.slots[slot].start(same_name);
    }

    /// Stops one that has leases, while it writes.
    async fn stop(&mut self, who: Who) {
        let (slot, held) = wait::until("somebody to hold a lease", async || {
            Some(self.choose(who).await).filter(|(_, held)| *held > 0)
        })
        .await;
        let tap = &self.slots[slot].tap;
        let before = tap.writes();
        // It may have lost its shards meanwhile.
        let _ = wait::within(Duration::from_secs(2), async || (tap.writes() > before).then_some(())).await;
        self.slots[slot].stop();
        self.say(&format!("stop {} with {held} leases", self.slots[slot].worker()));
        self.asleep = Some(Asleep { slot, since: Instant::now(), writes: self.writes_but(slot) });
    }

    fn writes_but(&self, slot: usize) -> usize {
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != slot);
        others.map(|(_, slot)| slot.tap.writes()).sum()
    }

    /// Wakes the one that sleeps once its leases are over, others hold them, and write.
    async fn wake(&mut self, more_ms: u64) {
        let Asleep { slot, since, writes } = self.asleep.take().expect("one was stopped");
        let worker = self.slots[slot].worker().to_owned();
        wait::until(&format!("others to take the leases of {worker} and to write"), async || {
            let taken = !self.held().await.contains_key(&worker) && self.writes_but(slot) > writes;
            (taken && since.elapsed() > Duration::from_millis(fleet::LEASE_AND_SETTLE_MS)).then_some(())
        })
        .await;
        sleep(Duration::from_millis(more_ms)).await;
        self.slots[slot].resume();
        self.say(&format!("wake {worker} after {:.1?}", since.elapsed()));
        self.tally.zombies += 1;
    }

    async fn freeze(&mut self, who: Who, ms: u64) {
        let (slot, held) = self.choose(who).await;
        self.say(&format!("freeze {} with {held} leases for {ms} ms", self.slots[slot].worker()));
        self.slots[slot].stop();
        sleep(Duration::from_millis(ms)).await;
        self.slots[slot].resume();
        self.tally.freezes += 1;
    }

    async fn cut(&mut self, who: Who, link: Option<usize>, how: Break) {
        let (slot, held) = self.choose(who).await;
        let slot = &self.slots[slot];
        self.say(&format!("cut {} with {held} leases, link {link:?}, {how:?}", slot.worker()));
        let links = slot.links.iter().enumerate().filter(|(index, _)| link.is_none_or(|it| it == *index));
        let links: Vec<_> = links.map(|(_, link)| link).collect();
        let broken = match how {
            Break::Drop => {
                links.iter().for_each(|link| link.cut());
                None
            }
            Break::Refuse { ms } => Some((Passing::Refused, ms)),
            Break::Stall { ms } => Some((Passing::Stalled, ms)),
        };
        if let Some((passing, ms)) = broken {
            links.iter().for_each(|link| link.set(passing));
            sleep(Duration::from_millis(ms)).await;
            links.iter().for_each(|link| link.set(Passing::Open));
        }
        self.tally.cuts += 1;
    }

    async fn restart_all(&mut self) {
        for index in 0..PROCESSES {
            // Before it has started it would not drain.
            self.slots[index].status().await;
            self.slots[index].terminate();
            let began = Instant::now();
            let code = self.slots[index].ended().await;
            self.say(&format!("drained {} in {:.1?}", self.slots[index].name, began.elapsed()));
            assert_eq!(code, Some(0), "a drain ends with 0");
            self.slots[index].start(false);
            wait::until("the new process to be ready", async || {
                self.slots[index].status().await.ready.then_some(())
            })
            .await;
            self.tally.restarts += 1;
        }
    }
}
