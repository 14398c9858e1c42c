use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A fleet and its leases, between rounds.
#[derive(Debug, Clone)]
struct Fleet {
    workers: Vec<Owner>,
    /// By shard: who holds it, and its load.
    leases: BTreeMap<ShardId, (Option<Owner>, u64)>,
    /// Who is to hold them all.
    affinity: Option<Owner>,
}

const HELD: Claim = Claim::Held(Duration::from_secs(10));

impl Fleet {
    fn view<'a>(&'a self, me: &'a str) -> View<'a> {
        let lease = |(shard, (owner, load)): (&'a ShardId, &'a (Option<Owner>, u64))| Lease {
            shard,
            owner: owner.as_deref(),
            claim: owner.as_ref().map_or(Claim::Free, |_| HELD),
            unclaimed_for: Duration::ZERO,
            load: *load,
            meant_for: None,
        };
        View {
            me,
            workers: self.workers.iter().map(|worker| (worker.clone(), Share::default())).collect(),
            leases: self.leases.iter().map(lease).collect(),
            may_steal: true,
            affinity: self.affinity.as_deref(),
        }
    }

    fn share(&self, worker: &Owner) -> Share {
        let mut share = Share::default();
        let own = self.leases.values().filter(|(owner, _)| owner.as_ref() == Some(worker));
        own.for_each(|(_, load)| share.add(*load));
        share
    }

    /// Each worker plans by what `seen` says and acts on what is. Says how many leases changed hands.
    fn round(&mut self, seen: impl Fn(usize, &Self) -> Self, late: Duration) -> usize {
        let now = self.clone();
        let mut changed = 0;
        for (index, me) in now.workers.iter().enumerate() {
            let seen = seen(index, &now);
            let mut view = seen.view(me);
            view.leases.iter_mut().for_each(|lease| lease.unclaimed_for = late);
            let plan = plan(&view);
            for (shard, _) in plan.take {
                // The conditional write of who comes second is refused.
                let lease = self.leases.get_mut(&shard).expect("a lease of the view");
                if lease.0.is_none() {
                    lease.0 = Some(me.clone());
                    changed += 1;
                }
            }
            if let Some(heir) = plan.hand_over {
                // They are released, and meant for the heir.
                assert_eq!(Some(&heir), seen.affinity.as_ref());
                for (_, (owner, _)) in
                    self.leases.iter_mut().filter(|(_, lease)| lease.0.as_ref() == Some(me))
                {
                    *owner = None;
                    changed += 1;
                }
            }
            if let Some((shard, from)) = plan.steal {
                let lease = self.leases.get_mut(&shard).expect("a lease of the view");
                if lease.0.as_ref() == Some(&from) {
                    lease.0 = Some(me.clone());
                    changed += 1;
                }
            }
        }
        changed
    }

    /// Rounds until nothing changes any more.
    fn settle(&mut self) -> usize {
        for rounds in 0..1_000 {
            if self.round(|_, now| now.clone(), Duration::ZERO) == 0 {
                return rounds;
            }
        }
        panic!("it never comes to rest: {self:?}");
    }

    fn shares(&self) -> Vec<Share> {
        self.workers.iter().map(|worker| self.share(worker)).collect()
    }
}

fn fleet(loads: impl Strategy<Value = u64>) -> impl Strategy<Value = Fleet> {
    let leases = prop::collection::vec((loads, 0..12usize), 0..40);
    (1..7usize, leases).prop_map(|(workers, leases)| {
        let workers: Vec<_> = (0..workers).map(|index| format!("w{index}/aa")).collect();
        // Some are held by nobody, and some by who is gone.
        let owner = |index: usize| match index {
            0..7 => workers.get(index).cloned(),
            7..9 => Some("gone".to_owned()),
            _ => None,
        };
        let lease = |(index, (load, at)): (usize, &(u64, usize))| {
            (ShardId::from(format!("shard-{index:03}").as_str()), (owner(*at), *load))
        };
        Fleet {
            leases: leases.iter().enumerate().map(lease).collect(),
            workers: workers.clone(),
            affinity: None,
        }
    })
}

fn equal() -> impl Strategy<Value = u64> {
    Just(16_384)
}

fn any_load() -> impl Strategy<Value = u64> {
    prop_oneof![Just(16_384), 16_384..40_000u64, 16_384..2_000_000u64]
}

/// What each worker takes now, in the view of each.
fn takers(fleet: &Fleet) -> BTreeMap<ShardId, Vec<Owner>> {
    let mut takers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for me in &fleet.workers {
        for (shard, _) in plan(&fleet.view(me)).take {
            takers.entry(shard).or_default().push(me.clone());
        }
    }
    takers
}

fn give_up_of_the_gone(mut fleet: Fleet) -> Fleet {
    for (owner, _) in fleet.leases.values_mut() {
        *owner = owner.take().filter(|owner| fleet.workers.contains(owner));
    }
    fleet
}

proptest! {
    #[test]
    fn of_one_view_every_free_lease_has_one_taker_and_no_held_one_has_any(fleet in fleet(any_load())) {
        let takers = takers(&fleet);
        for (shard, (owner, _)) in &fleet.leases {
            let taken_by = takers.get(shard).map_or(0, Vec::len);
            prop_assert_eq!(taken_by, usize::from(owner.is_none()), "{}", shard);
        }
    }

    #[test]
    fn a_free_lease_is_in_the_plan_of_every_worker_now_or_later(fleet in fleet(any_load())) {
        let free = fleet.leases.iter().filter(|(_, (owner, _))| owner.is_none());
        let free: BTreeSet<_> = free.map(|(shard, _)| shard.clone()).collect();
        for me in &fleet.workers {
            let plan = plan(&fleet.view(me));
            let now = plan.take.iter().map(|(shard, _)| shard.clone());
            let later = plan.later.iter().map(|(shard, _)| shard.clone());
            let all: Vec<_> = now.chain(later).collect();
            prop_assert_eq!(all.len(), free.len());
            prop_assert_eq!(&all.into_iter().collect::<BTreeSet<_>>(), &free);
        }
    }

    #[test]
    fn leases_of_equal_load_end_up_fair_within_one(fleet in fleet(equal())) {
        let mut fleet = give_up_of_the_gone(fleet);
        let rounds = fleet.settle();
        prop_assert!(rounds <= fleet.leases.len() + 1, "{} rounds", rounds);
        let counts: Vec<_> = fleet.shares().iter().map(|share| share.leases).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{:?}", counts);
        prop_assert_eq!(counts.iter().sum::<u64>(), fleet.leases.len() as u64);
    }

    #[test]
    fn leases_end_up_even_by_load_and_nothing_moves_any_more(fleet in fleet(any_load())) {
        let mut fleet = give_up_of_the_gone(fleet);
        let rounds = fleet.settle();
        prop_assert!(rounds <= 4 * fleet.leases.len() + 1, "{} rounds", rounds);
        prop_assert!(fleet.leases.values().all(|(owner, _)| owner.is_some()));
        let shares = fleet.shares();
        let most = shares.iter().max().unwrap();
        let least = shares.iter().min().unwrap();
        let fullest = fleet.workers.iter().max_by_key(|worker| fleet.share(worker)).unwrap();
        let own = fleet.leases.values().filter(|(owner, _)| owner.as_ref() == Some(fullest));
        let smallest = own.map(|(_, load)| *load).min().unwrap_or(0);
        // Uneven by a fifth at most, or by what cannot be divided.
        let gap = most.load - least.load;
        prop_assert!(gap < most.load / UNEVEN + 2 || gap < smallest + smallest / 4 + 1, "{:?}", shares);
        prop_assert_eq!(fleet.round(|_, now| now.clone(), Duration::ZERO), 0);
    }

    #[test]
    fn loads_that_change_a_little_move_nothing(fleet in fleet(any_load()), noise in prop::collection::vec(0..50u64, 40)) {
        let mut fleet = give_up_of_the_gone(fleet);
        fleet.settle();
        let before = fleet.shares();
        for ((_, load), noise) in fleet.leases.values_mut().zip(noise) {
            *load += *load * noise / 10_000;
        }
        // A lease that was on the edge may move, once.
        prop_assert!(fleet.settle() <= 1, "{:?} became {:?}", before, fleet.shares());
    }

    #[test]
    fn workers_whose_views_differ_come_to_rest_too(
        fleet in fleet(any_load()),
        stale in prop::collection::vec(any::<bool>(), 24),
    ) {
        let mut fleet = give_up_of_the_gone(fleet);
        let mut before = fleet.clone();
        for round in 0..4 * fleet.leases.len() {
            let old = std::mem::replace(&mut before, fleet.clone());
            let sees_old = |index: usize| stale[(round + 5 * index) % stale.len()];
            fleet.round(|index, now| if sees_old(index) { old.clone() } else { now.clone() }, Duration::ZERO);
        }
        prop_assert!(fleet.leases.values().all(|(owner, _)| owner.is_some()));
        // At rest but for what the last stale look moved.
        prop_assert!(fleet.settle() <= fleet.workers.len(), "{:?}", fleet);
    }

    #[test]
    fn what_the_planned_taker_leaves_is_taken_by_the_others(fleet in fleet(any_load()), dead in 0..7usize) {
        let mut fleet = give_up_of_the_gone(fleet);
        prop_assume!(fleet.workers.len() > 1);
        let dead = fleet.workers[dead % fleet.workers.len()].clone();
        let mut left = fleet.clone();
        for me in fleet.workers.iter().filter(|worker| **worker != dead) {
            let mut view = fleet.view(me);
            view.leases.iter_mut().for_each(|lease| lease.unclaimed_for = TAKEN_BY_OTHERS_AFTER);
            for (shard, _) in plan(&view).take {
                left.leases.get_mut(&shard).expect("a lease of the view").0.get_or_insert(me.clone());
            }
        }
        prop_assert!(left.leases.values().all(|(owner, _)| owner.is_some()));
        fleet.workers.retain(|worker| *worker != dead);
        give_up_of_the_gone(fleet).settle();
    }

    #[test]
    fn while_something_is_copied_one_worker_comes_to_hold_all_and_then_they_are_spread_again(
        fleet in fleet(any_load()),
        at in 0..7usize,
        late in 0..3_000u64,
    ) {
        let mut fleet = give_up_of_the_gone(fleet);
        let holder = fleet.workers[at % fleet.workers.len()].clone();
        fleet.affinity = Some(holder.clone());
        // However long a lease is free, nobody else takes it, nor asks for one.
        for me in fleet.workers.iter().filter(|me| **me != holder) {
            let mut view = fleet.view(me);
            view.leases.iter_mut().for_each(|lease| lease.unclaimed_for = Duration::from_millis(late));
            let expected = Plan { hand_over: Some(holder.clone()), shares: plan(&view).shares, ..Plan::default() };
            prop_assert_eq!(plan(&view), expected);
        }
        prop_assert!(fleet.settle() <= 2, "one round gives up, the next takes");
        prop_assert!(fleet.leases.values().all(|(owner, _)| owner.as_ref() == Some(&holder)));
        let planned = plan(&fleet.view(&holder));
        prop_assert_eq!(planned.shares.values().map(|share| share.leases).sum::<u64>(), fleet.leases.len() as u64);
        fleet.affinity = None;
        fleet.settle();
        let shares = fleet.shares();
        let busy = shares.iter().filter(|share| share.leases > 0).count();
        prop_assert!(busy >= fleet.workers.len().min(fleet.leases.len()), "{:?}", shares);
    }

    #[test]
    fn workers_that_see_the_affinity_late_come_to_rest_too(
        fleet in fleet(any_load()),
        stale in prop::collection::vec(any::<bool>(), 24),
    ) {
        let mut fleet = give_up_of_the_gone(fleet);
        let before = fleet.clone();
        fleet.affinity = Some(fleet.workers[0].clone());
        for round in 0..8 {
            let sees_old = |index: usize| stale[(round + 5 * index) % stale.len()];
            let see = |index: usize, now: &Fleet| match sees_old(index) {
                true => Fleet { leases: now.leases.clone(), ..before.clone() },
                false => now.clone(),
            };
            fleet.round(see, Duration::ZERO);
        }
        fleet.settle();
        prop_assert!(fleet.leases.values().all(|(owner, _)| *owner == fleet.affinity));
    }

    #[test]
    fn a_worker_that_drains_takes_nothing_and_others_plan_for_what_it_holds(fleet in fleet(any_load())) {
        prop_assume!(fleet.workers.len() > 1);
        let drains = fleet.workers[0].clone();
        let mut view = fleet.view(&drains);
        view.workers.remove(&drains);
        prop_assert_eq!(plan(&view), Plan::default());
        view.me = &fleet.workers[1];
        let plan = plan(&view);
        let planned: u64 = plan.shares.values().map(|share| share.leases).sum();
        prop_assert_eq!(planned, fleet.leases.len() as u64);
        prop_assert!(plan.steal.is_none_or(|(_, from)| from != drains));
    }
}

fn lease<'a>(shard: &'a ShardId, owner: Option<&'a str>, load: u64) -> Lease<'a> {
    let claim = owner.map_or(Claim::Free, |_| HELD);
    Lease { shard, owner, claim, unclaimed_for: Duration::ZERO, load, meant_for: None }
}

fn workers(names: &[&str]) -> BTreeMap<Owner, Share> {
    names.iter().map(|name| ((*name).to_owned(), Share::default())).collect()
}

#[test]
fn a_lease_that_was_handed_over_is_left_to_its_heir_for_a_moment_only() {
    let shard = ShardId::from("s");
    let handed = |late| Lease { meant_for: Some("b"), unclaimed_for: late, ..lease(&shard, None, 1) };
    let view = |me, late| View {
        me,
        workers: workers(&["a", "b"]),
        leases: vec![handed(late)],
        may_steal: true,
        affinity: None,
    };
    let soon = Duration::from_millis(300);
    assert_eq!(plan(&view("b", soon)).take, [(shard.clone(), false)]);
    assert_eq!(plan(&view("a", soon)).later, [(shard.clone(), TAKEN_BY_OTHERS_AFTER - soon)]);
    assert_eq!(plan(&view("a", TAKEN_BY_OTHERS_AFTER)).take, [(shard.clone(), false)]);
    // An heir that is gone has no claim.
    let alone = View { workers: workers(&["a"]), ..view("a", soon) };
    assert_eq!(plan(&alone).take, [(shard.clone(), false)]);
}

#[test]
fn who_let_a_lease_run_out_is_given_none() {
    let (one, two) = (ShardId::from("1"), ShardId::from("2"));
    let expired = |shard| Lease { claim: Claim::Expired, ..lease(shard, Some("a"), 1) };
    let leases = vec![expired(&one), expired(&two)];
    let view = View { me: "b", workers: workers(&["a", "b"]), leases, may_steal: true, affinity: None };
    assert_eq!(plan(&view).take, [(one, true), (two, true)]);
}

#[test]
fn a_lease_that_somebody_asked_for_is_asked_for_once() {
    let shards: Vec<_> = ["1", "2", "3"].map(ShardId::from).into();
    let held: Vec<_> = shards.iter().map(|shard| lease(shard, Some("a"), 1_000)).collect();
    let mut view =
        View { me: "b", workers: workers(&["a", "b", "c"]), leases: held, may_steal: true, affinity: None };
    assert_eq!(plan(&view).steal, Some((shards[0].clone(), "a".to_owned())));
    view.me = "c";
    assert_eq!(plan(&view).steal, Some((shards[1].clone(), "a".to_owned())));
    view.leases[1].meant_for = Some("c");
    view.me = "b";
    assert_eq!(plan(&view).steal, Some((shards[0].clone(), "a".to_owned())));
    view.leases[0].meant_for = Some("b");
    assert_eq!(plan(&view).steal, None);
}

#[test]
fn a_lease_with_much_load_weighs_more_than_many_idle_ones() {
    let shards: Vec<_> = (0..8).map(|index| ShardId::from(format!("{index}").as_str())).collect();
    let load = |index| if index == 0 { 1_000_000 } else { 16_384 };
    let free = shards.iter().enumerate().map(|(index, shard)| lease(shard, None, load(index))).collect();
    let view = View { me: "a", workers: workers(&["a", "b"]), leases: free, may_steal: true, affinity: None };
    assert_eq!(plan(&view).take, [(shards[0].clone(), false)]);
}

#[test]
fn what_workers_hold_of_other_replications_counts() {
    let shards: Vec<_> = ["1", "2"].map(ShardId::from).into();
    let leases = shards.iter().map(|shard| lease(shard, None, 1_000)).collect();
    let mut view = View { me: "a", workers: workers(&["a", "b"]), leases, may_steal: true, affinity: None };
    view.workers.insert("a".to_owned(), Share { load: 5_000, leases: 5 });
    assert_eq!(plan(&view).take, []);
    assert_eq!(plan(&view).later.len(), 2);
}
