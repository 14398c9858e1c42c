//! The judgement alone, and against a model of a source and a replica that follows it.

use proptest::prelude::*;

use super::*;

fn state(value: u8) -> State {
    (value > 0).then_some(Digest(u128::from(value)))
}

fn seen(before: u8, replica: u8, after: u8) -> Seen {
    Seen { before: state(before), replica: state(replica), after: state(after), steady: true }
}

#[test]
fn what_is_equal_at_last_is_no_difference() {
    assert_eq!(Suspect::default().judge(seen(1, 2, 2)), Verdict::Equal);
    assert_eq!(Suspect::default().judge(seen(1, 0, 0)), Verdict::Equal);
}

#[test]
fn a_difference_must_be_seen_several_times_and_be_the_same() {
    let mut suspect = Suspect::default();
    for pause in 0..CONFIRMATIONS - 1 {
        assert_eq!(suspect.judge(seen(1, 2, 1)), Verdict::Again(FIRST_PAUSE * (1 << pause)));
    }
    assert_eq!(suspect.judge(seen(1, 2, 1)), Verdict::Confirmed);
    let mut unsteady = Suspect::default();
    for round in 0..=CONFIRMATIONS_OF_CHANGING {
        let verdict = unsteady.judge(Seen { steady: round > 0, ..seen(1, 2, 1) });
        assert_eq!(verdict == Verdict::Confirmed, round == CONFIRMATIONS_OF_CHANGING, "round {round}");
    }
    let mut changing = Suspect::new(state(3), state(2));
    for round in 1..=CONFIRMATIONS_OF_CHANGING {
        let verdict = changing.judge(seen(1, 2, 1));
        assert_eq!(verdict == Verdict::Confirmed, round == CONFIRMATIONS_OF_CHANGING, "round {round}");
    }
    let mut toggled = Suspect::default();
    for round in 0..TRIES_MAX {
        let verdict = toggled.judge(if round % 2 == 0 { seen(1, 2, 1) } else { seen(2, 1, 2) });
        assert_eq!(verdict == Verdict::Unstable, round + 1 == TRIES_MAX, "round {round}: {verdict:?}");
    }
}

/// A source that is written to between the steps of a round, and a replica that applies its changes in order, at the
/// latest when a round waits for it.
struct Town {
    /// All states that the item had in the source.
    history: Vec<State>,
    /// How many of them the replica has applied.
    applied: usize,
    /// What is wrong with the replica: it shows this instead.
    broken: Option<State>,
}

impl Town {
    fn source(&self) -> State {
        *self.history.last().expect("it has a state")
    }

    fn replica(&self) -> State {
        self.broken.unwrap_or(self.history[self.applied])
    }

    /// Between two steps the source is written to, and the replica applies some of it.
    fn step(&mut self, write: Option<u8>, apply: usize) {
        self.history.extend(write.map(state));
        self.applied = (self.applied + apply).min(self.history.len() - 1);
    }
}

/// What happens between two steps. Each write makes a state that the item never had: one that is changed and changed
/// back looks unchanged, which is what the second round is for.
fn any_step() -> impl Strategy<Value = (bool, usize)> {
    (prop::bool::weighted(0.3), 0usize..3)
}

fn run(mut town: Town, steps: &[(bool, usize)]) -> Verdict {
    let mut suspect = Suspect::default();
    let mut steps = steps.iter().copied().chain(std::iter::repeat((false, 1)));
    let mut next = 100u8;
    let mut step = |town: &mut Town| {
        let (write, apply) = steps.next().expect("it never ends");
        next = next.saturating_add(u8::from(write));
        town.step(write.then_some(next), apply);
    };
    loop {
        step(&mut town);
        let before = town.source();
        let wanted = town.history.len() - 1;
        step(&mut town);
        town.applied = town.applied.max(wanted);
        let replica = town.replica();
        step(&mut town);
        let after = town.source();
        match suspect.judge(Seen { before, replica, after, steady: true }) {
            Verdict::Again(_) => {}
            verdict => return verdict,
        }
    }
}

proptest! {
    #[test]
    fn a_replica_that_only_lags_is_never_called_different(
        lag in 0usize..4,
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        let history = (1..=4).map(state).collect();
        let town = Town { history, applied: 3 - lag.min(3), broken: None };
        prop_assert!(matches!(run(town, &steps), Verdict::Equal | Verdict::Unstable));
    }

    #[test]
    fn a_wrong_replica_is_found_once_the_source_is_quiet(
        wrong in 0u8..10,
        steps in prop::collection::vec(any_step(), 0..9),
    ) {
        let town = Town { history: vec![state(77)], applied: 0, broken: Some(state(wrong)) };
        // It changes in the first three rounds at most, and seven of ten are left.
        prop_assert_eq!(run(town, &steps), Verdict::Confirmed);
    }
}
