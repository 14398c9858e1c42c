//! Lists shards, under the limit that the API sets for a whole account.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Backoff;
use crate::dynamo::{self, Describe, Listing, StreamArn, Streams};
use crate::fault::{Directive, Fault, Stage, directive};
use crate::shard::{Shard, ShardId};

/// Between the starts of two calls: eight a second. `DescribeStream` allows ten a second for an account and
/// region (API reference, `DescribeStream`); two are left to everybody else.
const SPACING: Duration = Duration::from_millis(125);

/// How often children are looked for. With pauses from 50 ms to 1 s these are about four seconds, and a child is
/// usually listed within one.
const CHILDREN_TRIES: u32 = 10;

/// How often each page of a full listing is asked for. Many workers with long listings share the account's ten calls a
/// second, so a listing that began anew after every refusal would never come to its end.
const PAGE_TRIES: u32 = 10;

/// Describes streams of one endpoint, for everybody who wants to know: calls keep their distance and their
/// order. Shared by reference; a call that is dropped gives its turn to the next.
pub struct Describer {
    streams: Arc<dyn Streams>,
    /// When the next call may start. The lock is the line: tokio's is fair.
    next: Mutex<Instant>,
}

// === impl Describer ===

impl Describer {
    /// A describer that may call at once.
    pub fn new(streams: Arc<dyn Streams>) -> Self {
        Self { streams, next: Mutex::new(Instant::now()) }
    }

    /// Lists all shards of a stream and gives each page to `on_page` as it comes, so that a listing that fails
    /// half way still told its half.
    ///
    /// # Errors
    /// As [`Streams::describe`], when a page fails again and again or for good.
    pub async fn list(
        &self,
        stream: &StreamArn,
        mut on_page: impl FnMut(Listing),
    ) -> Result<(), dynamo::Error> {
        let mut what = Describe::default();
        loop {
            let listing = self.page(stream, &what).await?;
            let next = listing.next.clone();
            on_page(listing);
            if next.is_none() {
                return Ok(());
            }
            if next == what.after {
                let message = "the next page would start where this one did";
                return Err(dynamo::Error::new("DescribeStream", Fault::Protocol, message));
            }
            what.after = next;
        }
    }

    async fn page(&self, stream: &StreamArn, what: &Describe) -> Result<Listing, dynamo::Error> {
        let mut pauses = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        loop {
            let error = match self.describe(stream, what).await {
                Ok(listing) => return Ok(listing),
                Err(error) => error,
            };
            let directive = directive(error.fault, Stage::Discover);
            let may_pass = matches!(directive, Directive::Retry | Directive::SlowDown);
            if !may_pass || pauses.failures() + 1 == PAGE_TRIES {
                return Err(error);
            }
            tracing::debug!(%error, "a page of a listing is asked for again");
            sleep(pauses.pause()).await;
        }
    }

    /// The children of a shard that has just ended. They may be listed a little later than the end is seen, so
    /// they are asked for several times. None is an answer too: a stream that was switched off has no further
    /// shards. A call that fails counts as one that found none. Who misses a child here finds it by
    /// [`list`](Self::list), as does everybody at an endpoint that lists something else.
    pub async fn children(&self, stream: &StreamArn, shard: &ShardId) -> Vec<Shard> {
        let what = Describe { after: None, children_of: Some(shard.clone()) };
        let mut pauses = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        for tried in 1..=CHILDREN_TRIES {
            match self.describe(stream, &what).await {
                Ok(listing) => {
                    let mut shards = listing.shards;
                    shards.retain(|listed| listed.parent.as_ref() == Some(shard));
                    if !shards.is_empty() {
                        return shards;
                    }
                }
                Err(error) => tracing::debug!(%shard, tried, %error, "failed to look for children"),
            }
            if tried < CHILDREN_TRIES {
                sleep(pauses.pause()).await;
            }
        }
        Vec::new()
    }

    async fn describe(&self, stream: &StreamArn, what: &Describe) -> Result<Listing, dynamo::Error> {
        self.turn().await;
        self.streams.describe(stream, what).await
    }

    async fn turn(&self) {
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + SPACING;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Width;
    use crate::stream::script::{Call, Script, listing, open_shard, shard_names};
    use crate::task::Tasks;

    fn stream() -> StreamArn {
        StreamArn::from("arn:stream")
    }

    fn describer(script: &Arc<Script>) -> Describer {
        Describer::new(Arc::clone(script) as Arc<dyn Streams>)
    }

    fn describes(script: &Script) -> Vec<(Instant, Option<ShardId>)> {
        let calls = script.calls();
        calls
            .into_iter()
            .filter_map(|(when, call)| match call {
                Call::Describe(what) => Some((when, what.after)),
                _ => None,
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_listing_is_paged_through_to_its_end() {
        let script = Script::new();
        let names: Vec<String> = (0..250).map(|number| format!("shard-{number:03}")).collect();
        for (page, chunk) in names.chunks(100).enumerate() {
            let shards = chunk.iter().map(|name| open_shard(name, None)).collect();
            let next = (page < 2).then(|| chunk[chunk.len() - 1].as_str());
            script.lists(listing(shards, next));
        }
        let mut listed = Vec::new();
        describer(&script)
            .list(&stream(), |page| listed.extend(shard_names(&page.shards)))
            .await
            .expect("all pages are given");
        assert_eq!(listed, names);
        let after: Vec<_> = describes(&script).into_iter().map(|(_, after)| after).collect();
        assert_eq!(after, [None, Some("shard-099".into()), Some("shard-199".into())]);
    }

    #[tokio::test(start_paused = true)]
    async fn pages_before_a_fault_were_told() {
        let script = Script::new();
        script.lists(listing(vec![open_shard("a", None)], Some("a")));
        script.fails_to_list(Fault::Denied);
        let mut listed = Vec::new();
        let outcome =
            describer(&script).list(&stream(), |page| listed.extend(shard_names(&page.shards))).await;
        assert_eq!(outcome.map_err(|error| error.fault), Err(Fault::Denied));
        assert_eq!(listed, ["a"]);
    }

    /// Seed 2194 of the simulation: two workers' listings of a dozen pages, which throttled each other for ever.
    #[tokio::test(start_paused = true)]
    async fn a_throttled_listing_goes_on_with_the_page_that_was_refused() {
        let script = Script::new();
        script.lists(listing(vec![open_shard("a", None)], Some("a")));
        for _ in 1..PAGE_TRIES {
            script.fails_to_list(Fault::Throttled(Width::Unknown));
        }
        script.lists(listing(vec![open_shard("b", None)], None));
        let mut listed = Vec::new();
        let outcome =
            describer(&script).list(&stream(), |page| listed.extend(shard_names(&page.shards))).await;
        assert!(outcome.is_ok());
        assert_eq!(listed, ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_never_comes_ends_the_listing() {
        let script = Script::new();
        for _ in 0..PAGE_TRIES {
            script.fails_to_list(Fault::Transient);
        }
        let outcome = describer(&script).list(&stream(), |_| {}).await;
        assert_eq!(outcome.map_err(|error| error.fault), Err(Fault::Transient));
        assert_eq!(describes(&script).len(), PAGE_TRIES as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_that_goes_in_circles_ends() {
        let script = Script::new();
        for _ in 0..3 {
            script.lists(listing(vec![open_shard("a", None)], Some("a")));
        }
        let outcome = describer(&script).list(&stream(), |_| {}).await;
        assert_eq!(outcome.map_err(|error| error.fault), Err(Fault::Protocol));
        assert_eq!(describes(&script).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn children_that_appear_late_are_found_and_others_are_not_mistaken_for_them() {
        let script = Script::new();
        script.lists(listing(vec![], None));
        script.fails_to_list(Fault::Transient);
        script.lists(listing(vec![open_shard("other", Some("elsewhere"))], None));
        script.lists(listing(
            vec![
                open_shard("parent", None),
                open_shard("left", Some("parent")),
                open_shard("right", Some("parent")),
            ],
            None,
        ));
        let children = describer(&script).children(&stream(), &"parent".into()).await;
        assert_eq!(shard_names(&children), ["left", "right"]);
        let Some((_, Call::Describe(what))) = script.calls().pop() else {
            panic!("the last call was no describe");
        };
        assert_eq!(what.children_of, Some("parent".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_without_children_is_given_up_after_some_seconds() {
        let script = Script::new();
        for _ in 0..=CHILDREN_TRIES {
            script.lists(listing(vec![], None));
        }
        let start = Instant::now();
        assert_eq!(describer(&script).children(&stream(), &"last".into()).await, []);
        assert_eq!(describes(&script).len(), CHILDREN_TRIES as usize);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn many_callers_keep_their_distance_and_their_order() {
        let script = Script::new();
        let shared = Arc::new(describer(&script));
        let mut tasks = Tasks::new();
        for number in 0..20 {
            script.lists(listing(vec![], None));
            let shared = Arc::clone(&shared);
            tasks.spawn(tracing::Span::none(), async move {
                shared.list(&stream(), |_| {}).await.expect("a page is given");
                number
            });
        }
        let mut order = Vec::new();
        while let Some(number) = tasks.next().await {
            order.push(number);
        }
        assert_eq!(order, (0..20).collect::<Vec<_>>());
        let calls = describes(&script);
        assert!(calls.windows(2).all(|pair| pair[1].0 - pair[0].0 >= SPACING));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_in_line_holds_nobody_back() {
        let script = Script::new();
        script.lists(listing(vec![], None));
        script.lists(listing(vec![], None));
        let describer = describer(&script);
        describer.list(&stream(), |_| {}).await.expect("a page is given");
        let impatient = tokio::time::timeout(SPACING / 2, describer.list(&stream(), |_| {})).await;
        assert!(impatient.is_err());
        describer.list(&stream(), |_| {}).await.expect("a page is given");
        let calls = describes(&script);
        assert_eq!(calls[1].0 - calls[0].0, SPACING);
    }
}
