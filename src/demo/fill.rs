//! What the source holds before anybody reads its stream: only a copy brings it to the replicas.

use std::ops::Range;

use futures_util::stream::{self, TryStreamExt};

use super::load::{BATCH_ITEMS, Generator, HELD_FROM};
use super::wire::{self, Wire};

/// Batches under way at the same time, as many as there are senders of the load.
const BATCHES: usize = 8;

/// Writes `items` items to `table`, whose keys are those of the load in part.
pub(super) async fn fill(wire: &Wire, table: &str, items: u32, seed: u64) -> Result<(), wire::Error> {
    let mut generator = Generator::new(seed, u8::MAX, table);
    let requests = batches(items).map(|numbers| {
        let request = generator.held(numbers);
        Ok(async move { wire.call(request.operation, request.body).await.map(drop) })
    });
    stream::iter(requests).try_buffer_unordered(BATCHES).try_for_each(async |()| Ok(())).await
}

/// The numbers of the keys, by the batch.
fn batches(items: u32) -> impl Iterator<Item = Range<u32>> {
    let end = HELD_FROM + items;
    (HELD_FROM..end).step_by(BATCH_ITEMS).map(move |start| start..end.min(start + BATCH_ITEMS as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_key_once() {
        for items in [0, 1, 25, 26, 5_000] {
            let numbers: Vec<_> = batches(items).flatten().collect();
            assert_eq!(numbers, (HELD_FROM..HELD_FROM + items).collect::<Vec<_>>());
            assert!(batches(items).all(|batch| (1..=BATCH_ITEMS).contains(&batch.len())));
        }
    }
}
