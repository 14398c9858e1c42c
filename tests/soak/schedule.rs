//! What is done to a fleet, in which order: drawn from a seed before anything runs.
//!
//! A schedule is a number of rounds of about ten seconds. Each round holds one zombie, three kills, one freeze that
//! may or may not outlast a lease, one broken connection and one change of the shards, in any order that makes
//! sense; every twelfth ends with a rolling restart. How long a step takes depends on the fleet, so a seed decides
//! what happens and not when.

use fastrand::Rng;

/// Processes of a fleet.
pub(crate) const PROCESSES: usize = 3;

/// Replicated tables.
pub(crate) const TABLES: usize = 2;

/// Addresses that each process is connected to: the source, the control table, and two replicas.
pub(crate) const LINKS: usize = 4;

/// Most splits of one table: every open shard is polled several times a second by a debug build.
const SPLITS: usize = 5;

/// Rounds between two rolling restarts.
const ROUNDS_PER_RESTART: usize = 12;

/// Whom a step strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever holds the most leases.
    Busiest,
    /// This one of all that run, counted around.
    Any(usize),
}

/// How a link breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// All connections are reset, and new ones work.
    Drop,
    /// All connections are reset, and new ones too, for this long.
    Refuse { ms: u64 },
    /// Nothing passes for this long. Connections stay, and requests that nobody waits for any more are gone.
    Stall { ms: u64 },
}

/// One thing done to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// SIGKILL; started again after `rest_ms`, under the same name or another.
    Kill { who: Who, rest_ms: u64, same_name: bool },
    /// SIGSTOP.
    Stop { who: Who },
    /// SIGCONT for the one that was stopped, once the others hold all its shards and this much time has passed.
    Continue { more_ms: u64 },
    /// SIGSTOP, and SIGCONT after `ms`.
    Freeze { who: Who, ms: u64 },
    /// One link of a process breaks, or all of them.
    Cut { who: Who, link: Option<usize>, how: Break },
    /// An open shard of a table is split in two.
    Split { table: usize },
    /// An open shard of a table is rolled over.
    Roll { table: usize },
    /// Every process in turn: SIGTERM, its end, and a new one in its place that replicates.
    RestartAll,
}

/// A step and the time before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) after_ms: u64,
    pub(crate) step: Step,
}

/// Draws a schedule.
pub(crate) fn draw(seed: u64, rounds: usize) -> Vec<Timed> {
    let mut draw = Draw { rng: Rng::with_seed(seed), splits: [0; TABLES], steps: Vec::new() };
    let restart = ROUNDS_PER_RESTART.min(rounds) / 2;
    for round in 0..rounds {
        draw.round();
        if round % ROUNDS_PER_RESTART == restart {
            draw.push(Step::RestartAll);
        }
    }
    draw.steps
}

/// How many steps of a schedule `is` holds for.
pub(crate) fn count(schedule: &[Timed], is: impl Fn(&Step) -> bool) -> usize {
    schedule.iter().filter(|timed| is(&timed.step)).count()
}

struct Draw {
    rng: Rng,
    splits: [usize; TABLES],
    steps: Vec<Timed>,
}

impl Draw {
    fn round(&mut self) {
        let mut parts = [0, 1, 2, 3, 4];
        self.rng.shuffle(&mut parts);
        for part in parts {
            match part {
                0 => self.zombie(),
                1 => self.kill(),
                2 => self.freeze(),
                3 => self.cut(),
                _ => self.reshape(),
            }
        }
        self.kill();
    }

    fn push(&mut self, step: Step) {
        self.steps.push(Timed { after_ms: self.rng.u64(50..700), step });
    }

    /// A zombie, and a kill before, during or after its sleep.
    fn zombie(&mut self) {
        let when = self.rng.u8(..3);
        if when == 0 {
            self.kill();
        }
        self.push(Step::Stop { who: Who::Busiest });
        if when == 1 {
            self.kill();
        }
        if self.rng.bool() {
            self.reshape();
        }
        let more_ms = self.rng.u64(..400);
        self.push(Step::Continue { more_ms });
        if when == 2 {
            self.kill();
        }
    }

    fn kill(&mut self) {
        let (rest_ms, same_name) = (self.rng.u64(..600), self.rng.u8(..3) == 0);
        let who = self.who();
        self.push(Step::Kill { who, rest_ms, same_name });
    }

    /// Around the end of the fence and of the lease, where a fault of a moment decides.
    fn freeze(&mut self) {
        let (who, ms) = (self.who(), self.rng.u64(300..4_000));
        self.push(Step::Freeze { who, ms });
    }

    fn cut(&mut self) {
        let who = self.who();
        let link = (self.rng.u8(..3) > 0).then(|| self.rng.usize(..LINKS));
        let ms = self.rng.u64(300..3_000);
        let how = match self.rng.u8(..3) {
            0 => Break::Drop,
            1 => Break::Refuse { ms },
            _ => Break::Stall { ms },
        };
        self.push(Step::Cut { who, link, how });
    }

    fn reshape(&mut self) {
        let table = self.rng.usize(..TABLES);
        let splits = self.rng.u8(..3) == 0 && self.splits[table] < SPLITS;
        self.splits[table] += usize::from(splits);
        self.push(if splits { Step::Split { table } } else { Step::Roll { table } });
    }

    fn who(&mut self) -> Who {
        match self.rng.u8(..3) {
            0 => Who::Any(self.rng.usize(..PROCESSES)),
            _ => Who::Busiest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(draw(7, 12), draw(7, 12));
        assert_ne!(draw(7, 12), draw(8, 12));
    }

    #[test]
    fn each_round_has_three_kills_and_a_zombie_that_wakes_before_the_next_sleeps() {
        for seed in 0..200 {
            for rounds in [1, 11, 40] {
                let schedule = draw(seed, rounds);
                assert_eq!(count(&schedule, |step| matches!(step, Step::Kill { .. })), 3 * rounds);
                assert_eq!(count(&schedule, |step| matches!(step, Step::Cut { .. })), rounds);
                let mut sleeps = false;
                for Timed { step, .. } in &schedule {
                    match step {
                        Step::Stop { .. } => assert!(!std::mem::replace(&mut sleeps, true), "seed {seed}"),
                        Step::Continue { .. } => {
                            assert!(std::mem::replace(&mut sleeps, false), "seed {seed}")
                        }
                        Step::Freeze { .. } | Step::Cut { .. } | Step::RestartAll => {
                            assert!(!sleeps, "seed {seed}");
                        }
                        Step::Kill { .. } | Step::Split { .. } | Step::Roll { .. } => {}
                    }
                }
                assert!(!sleeps, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_schedule_of_two_minutes_restarts_all_once_and_breaks_links_in_every_way() {
        let mut seen = [false; 3];
        for seed in 0..50 {
            let schedule = draw(seed, 11);
            assert_eq!(count(&schedule, |step| *step == Step::RestartAll), 1);
            for Timed { step, .. } in schedule {
                if let Step::Cut { how, .. } = step {
                    let way = match how {
                        Break::Drop => 0,
                        Break::Refuse { .. } => 1,
                        Break::Stall { .. } => 2,
                    };
                    seen[way] = true;
                }
            }
        }
        assert_eq!(seen, [true; 3]);
    }
}
