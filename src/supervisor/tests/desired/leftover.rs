//! Rows as others left them: half way through a seek, of shards that no listing shows, with the name of somebody dead.

use std::collections::BTreeMap;

use super::*;
use crate::lease::{Leases, Renewal, Row};
use crate::supervisor::desired::obey;

/// The rows of a world, and who writes them by hand.
async fn rows(world: &World) -> (Leases, Vec<Row>) {
    let leases = Leases::new(Control::new(Arc::clone(&world.tables) as _, "control"), "orders", "hand");
    let rows = leases.load().await.expect("rows");
    (leases, rows)
}

/// The version that a key goes back to.
async fn fallen(world: &World, key: &str) -> u64 {
    let begun = Instant::now();
    while fallen_to(world, key) == u64::MAX {
        assert!(begun.elapsed() < Duration::from_secs(240), "{:?}", world.versions("us", key));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fallen_to(world, key)
}

#[tokio::test(start_paused = true)]
async fn a_seek_that_follows_one_which_some_shards_have_not_obeyed_leaves_nothing_out() {
    let world = World::pair(&["a"]);
    let (one, two) = family(&world).await;
    one.drain().await;
    two.drain().await;
    world.seek(&["us"], Target::TrimHorizon, false).await;
    let wish = world.store().load().await.expect("wishes").of("orders", "us");
    let (leases, rows) = rows(&world).await;
    let first = rows.iter().find(|row| row.shard == "a".into()).expect("the first shard has a row");
    let mut obeyed =
        obey(first, [("us", &wish)], &BTreeMap::new(), true).expect("the beginning is far behind");
    assert_eq!(leases.amend(&mut obeyed).await.expect("written"), Renewal::Done);
    // `b` ended before then, and has the only versions between those of `a` and of `d`.
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.seek(&["us"], Target::Time { unix_ms: START_UNIX_MS + 51_500 }, false).await;
    let _next = world.worker("next").await;
    let since = world.replayed("us", "x", fallen(&world, "x").await, 51).await;
    assert!(since.iter().any(|version| (26..=50).contains(version)), "a shard was left out: {since:?}");
    world.replayed("us", "y", fallen(&world, "y").await, 50).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_read_before_any_listing_shows_it_obeys_a_seek() {
    let world = World::pair(&["a"]);
    let (one, two) = family(&world).await;
    one.drain().await;
    two.drain().await;
    world.source.hide("d");
    let next = world.worker("next").await;
    next.until("all is read", |status| status.replications[0].shards.active == 2).await;
    world.source.put_at("d", "x", 52, world.clock.unix_ms());
    world.arrives("us", "x", 52).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.seek(&["us"], Target::TrimHorizon, false).await;
    world.replayed("us", "x", fallen(&world, "x").await, 52).await;
}

#[tokio::test(start_paused = true)]
async fn the_row_of_an_ended_shard_expires_although_its_last_holder_died_with_it() {
    let world = World::pair(&["a"]);
    let (one, two) = family(&world).await;
    one.drain().await;
    two.drain().await;
    let (leases, rows) = rows(&world).await;
    for row in rows.into_iter().filter(|row| row.state == lease::State::Ended) {
        let held = leases.take(&Row { expires_unix_s: None, ..row }).await.expect("written");
        assert!(held.is_some(), "nobody else writes it");
    }
    let _next = world.worker("next").await;
    let begun = Instant::now();
    let expire =
        |row: &Row| row.state != lease::State::Ended || (row.owner.is_none() && row.expires_unix_s.is_some());
    while !self::rows(&world).await.1.iter().all(expire) {
        assert!(begun.elapsed() < Duration::from_secs(300), "{:#?}", self::rows(&world).await.1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() > world.config("next").lease.duration, "somebody may have held them");
}
