//! What cases need of a server beyond the two ports: shards that end, calls that fail.

use std::time::Duration;

use super::super::model::{Model, Operation, Rule, Site, Trouble};
use super::subject::{Skipped, Subject};
use crate::fault::{Fault, Width};
use crate::shard::ShardId;

/// What can be done to a server beside the two ports.
pub(super) enum Means {
    /// Everything.
    Model(Model, Site),
    /// Nearly everything.
    #[cfg(feature = "emulator")]
    Emulator(crate::emulator::Emulator),
    /// Nothing: a server by this name at an address.
    Server(&'static str),
}

/// A trouble that a case needs.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    AnswerLost,
    Unprocessed,
    Throttled(Width),
    Late(Duration),
}

const ONE_SHARD: &str = "its streams have one shard for ever";
const NOT_ON_DEMAND: &str = "it does so only when its time has come";
const NEVER_FAILS: &str = "it cannot be made to fail";

// === impl Subject ===

impl Subject {
    /// Splits every open shard of a table's stream, so that one level of children is added.
    pub(super) async fn split(&self, table: &str) -> Result<(), Skipped> {
        match &self.means {
            Means::Model(model, site) => {
                let id = model.table(*site, table).expect("a table of this test");
                for shard in model.open_shards(id) {
                    assert!(model.split(shard), "an open shard is split");
                }
                Ok(())
            }
            #[cfg(feature = "emulator")]
            Means::Emulator(emulator) => {
                let region = &emulator.regions()[0];
                for shard in region.shards(table).await.expect("a stream") {
                    if shard.open {
                        region.split_shard(table, &shard.id).await.expect("it is split");
                    }
                }
                Ok(())
            }
            Means::Server(_) => Err(Skipped(ONE_SHARD)),
        }
    }

    /// Lets every open shard of a table's stream have one child.
    pub(super) async fn roll(&self, table: &str) -> Result<(), Skipped> {
        match &self.means {
            Means::Model(model, site) => {
                let id = model.table(*site, table).expect("a table of this test");
                for shard in model.open_shards(id) {
                    assert!(model.roll(shard), "an open shard is rolled over");
                }
                Ok(())
            }
            #[cfg(feature = "emulator")]
            Means::Emulator(emulator) => {
                emulator.regions()[0].roll_all(table).await.expect("they are rolled over");
                Ok(())
            }
            Means::Server(_) => Err(Skipped(ONE_SHARD)),
        }
    }

    /// Makes all records so far unreadable.
    pub(super) async fn trim(&self, table: &str) -> Result<(), Skipped> {
        match &self.means {
            Means::Model(model, site) => {
                let id = model.table(*site, table).expect("a table of this test");
                model.shards(id).iter().for_each(|shard| model.trim(shard.shard, 0));
                Ok(())
            }
            #[cfg(feature = "emulator")]
            Means::Emulator(emulator) => {
                emulator.regions()[0].trim(table).await.expect("it is trimmed");
                Ok(())
            }
            Means::Server(_) => Err(Skipped(NOT_ON_DEMAND)),
        }
    }

    /// Makes a closed shard vanish.
    pub(super) async fn forget(&self, table: &str, shard: &ShardId) -> Result<(), Skipped> {
        match &self.means {
            Means::Model(model, site) => {
                let id = model.table(*site, table).expect("a table of this test");
                let shards = model.shards(id);
                let state = shards.iter().find(|state| state.id == *shard).expect("a shard of the stream");
                model.forget(state.shard);
                Ok(())
            }
            #[cfg(feature = "emulator")]
            Means::Emulator(emulator) => {
                let region = &emulator.regions()[0];
                region.forget_shard(table, shard.as_str()).await.expect("it vanishes");
                Ok(())
            }
            Means::Server(_) => Err(Skipped(NOT_ON_DEMAND)),
        }
    }

    /// Lets all iterators expire.
    pub(super) fn expire_iterators(&self) -> Result<(), Skipped> {
        match &self.means {
            Means::Model(model, _) => {
                model.expire_iterators();
                Ok(())
            }
            #[cfg(feature = "emulator")]
            Means::Emulator(emulator) => {
                emulator.regions()[0].expire_iterators();
                Ok(())
            }
            Means::Server(_) => Err(Skipped(NOT_ON_DEMAND)),
        }
    }

    /// Replaces a table's stream.
    pub(super) async fn replace_stream(&self, table: &str) -> Result<(), Skipped> {
        match &self.means {
            Means::Model(model, site) => {
                let id = model.table(*site, table).expect("a table of this test");
                model.start_stream(id, crate::record::View::NewAndOldImages, 1);
                Ok(())
            }
            #[cfg(feature = "emulator")]
            Means::Emulator(emulator) => {
                emulator.regions()[0].replace_stream(table).await.expect("it is replaced");
                Ok(())
            }
            Means::Server(_) => Err(Skipped("the ports cannot switch a stream off")),
        }
    }

    /// The next call of an operation meets a trouble.
    pub(super) fn trouble(&self, operation: Operation, wanted: Wanted) -> Result<(), Skipped> {
        match &self.means {
            Means::Model(model, site) => {
                model.rule(Rule::new(wanted.in_the_model()).on(operation).at(*site).times(1));
                Ok(())
            }
            #[cfg(feature = "emulator")]
            Means::Emulator(emulator) => {
                use crate::emulator::Rule;
                let fault = wanted.in_the_emulator();
                emulator.regions()[0].faults().add(Rule::new(fault).on(operation.name()).times(1));
                Ok(())
            }
            Means::Server(_) => Err(Skipped(NEVER_FAILS)),
        }
    }
}

// === impl Wanted ===

impl Wanted {
    fn in_the_model(self) -> Trouble {
        match self {
            Self::AnswerLost => Trouble::AnswerLost,
            Self::Unprocessed => Trouble::Unprocessed,
            Self::Throttled(width) => Trouble::Refused(Fault::Throttled(width)),
            Self::Late(after) => Trouble::LandsAfter(after),
        }
    }

    #[cfg(feature = "emulator")]
    fn in_the_emulator(self) -> crate::emulator::Fault {
        use crate::emulator::{Fault as F, Reason, Throttle};
        match self {
            Self::AnswerLost => F::ResetAfter,
            Self::Unprocessed => F::Unprocessed { share: 0.5 },
            Self::Late(after) => F::Late(after),
            Self::Throttled(width) => {
                let reason = match width {
                    Width::KeyRange => "TableWriteKeyRangeThroughputExceeded",
                    Width::Index => "IndexWriteProvisionedThroughputExceeded",
                    Width::Account => "TableWriteAccountLimitExceeded",
                    Width::Table | Width::Unknown => "TableWriteProvisionedThroughputExceeded",
                };
                let resource = "arn:aws:dynamodb:us-east-1:000000000000:table/any".to_owned();
                let reasons = vec![Reason { reason: reason.to_owned(), resource }];
                F::Throttle { exception: Throttle::Throttling, reasons }
            }
        }
    }
}
