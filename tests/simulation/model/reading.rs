//! What `GetShardIterator` and `GetRecords` give.

use std::time::Duration;

use tokio::time::Instant;

use super::history::Read;
use super::shard::Shard;
use super::stream::ShardRef;
use super::world::{Landing, World};
use crate::dynamo::{self, Error, PAGE_RECORDS_MAX, Page, StreamArn};
use crate::fault::Fault;
use crate::record::Record;
use crate::shard::{Position, ShardId};

/// What an iterator's text says.
#[derive(Clone, Copy)]
struct Token {
    shard: ShardRef,
    /// The next record's ordinal.
    ordinal: u64,
    /// Iterators that follow from each other have the same.
    reader: u32,
    epoch: u32,
    /// When it was given out, since the model was made.
    made_ms: u64,
}

/// What a record adds to a page beside its key and its image.
const RECORD_BYTES: usize = 200;

impl World {
    pub(super) fn shard_iterator(
        &mut self,
        landing: &Landing,
        arn: &StreamArn,
        id: &ShardId,
        position: &Position,
    ) -> Result<dynamo::Iterator, Error> {
        let stream = self.find_stream(landing, arn.as_str())?;
        let shard = self.streams[stream].by_id.get(id).copied();
        let shard = shard.ok_or_else(|| landing.error(Fault::Missing))?;
        let shard = ShardRef::new(stream, shard);
        self.refresh(landing, shard)?;
        let knows_times = self.quirks(landing.site).knows_times;
        let at_once = self.quirks(landing.site).refuses_trimmed_at_once;
        let now_unix_ms = self.settings.clock.unix_ms();
        let found = self.shard(shard).find(position, knows_times, now_unix_ms);
        let ordinal = found.map_err(|fault| landing.error(fault))?;
        if ordinal < self.shard(shard).trimmed && at_once {
            return Err(landing.error(Fault::Trimmed));
        }
        self.reader_count += 1;
        let token = Token {
            shard,
            ordinal,
            reader: self.reader_count,
            epoch: self.iterator_epoch,
            made_ms: millis(landing.now(self)),
        };
        Ok(token.text())
    }

    pub(super) fn records(
        &mut self,
        landing: &Landing,
        iterator: &dynamo::Iterator,
        limit: u32,
    ) -> Result<Page, Error> {
        let known = |token: &Token| {
            let stream = self.streams.get(token.shard.stream());
            stream.is_some_and(|stream| stream.site == landing.site)
        };
        let token = Token::parse(&iterator.0).filter(known);
        let token = token.ok_or_else(|| landing.error(Fault::Invalid))?;
        if limit == 0 || limit > PAGE_RECORDS_MAX {
            return Err(landing.error(Fault::Invalid));
        }
        let age_ms = millis(landing.now(self)) - token.made_ms;
        if token.epoch != self.iterator_epoch || age_ms >= millis(self.settings.iterator_lifetime) {
            return Err(landing.error(Fault::ExpiredIterator));
        }
        let arn = self.streams[token.shard.stream()].arn.clone();
        self.find_stream(landing, arn.as_str())?;
        self.refresh(landing, token.shard)?;
        if token.ordinal < self.shard(token.shard).trimmed {
            return Err(landing.error(Fault::Trimmed));
        }
        Ok(self.page(landing, token, limit))
    }

    fn page(&mut self, landing: &Landing, token: Token, limit: u32) -> Page {
        let quirks = self.quirks(landing.site);
        let (most, most_bytes) = (quirks.page_records.min(limit), quirks.page_bytes);
        let (empty, ends) = (quirks.empty_pages, quirks.ends_with_records);
        let waiting = token.ordinal < self.shard(token.shard).end();
        let most = match waiting && self.rng.f64() < empty {
            true => 0,
            false => self.rng.u32(1..=most),
        };
        let (mut records, mut bytes) = (Vec::new(), 0);
        for record in self.shard(token.shard).from(token.ordinal).take(most as usize) {
            let size = size(record);
            if !records.is_empty() && bytes + size > most_bytes {
                break;
            }
            bytes += size;
            records.push(record.clone());
        }
        let count = records.len() as u32;
        let at = landing.now(self);
        self.history.reads.push(Read {
            sent: landing.author.sent - self.began,
            at,
            node: landing.node,
            shard: token.shard,
            reader: token.reader,
            from: token.ordinal,
            records: count,
        });
        let next = Token { ordinal: token.ordinal + u64::from(count), made_ms: millis(at), ..token };
        let shard = self.shard(token.shard);
        let finished = shard.closed_at.is_some() && next.ordinal == shard.end();
        let last = finished && (count == 0 || self.rng.f64() < ends);
        Page { records, bytes, next: (!last).then(|| next.text()) }
    }

    /// Lets time pass for a shard that is about to be read.
    fn refresh(&mut self, landing: &Landing, shard: ShardRef) -> Result<(), Error> {
        let (now, retention) = (Instant::now(), self.settings.retention);
        let shard = &mut self.streams[shard.stream()].shards[shard.shard()];
        if shard.is_gone(now, retention) {
            return Err(landing.error(Fault::Missing));
        }
        shard.age(now, retention);
        Ok(())
    }

    fn shard(&self, shard: ShardRef) -> &Shard {
        &self.streams[shard.stream()].shards[shard.shard()]
    }
}

impl Shard {
    /// The ordinal at a position, which may be trimmed.
    fn find(&self, position: &Position, knows_times: bool, now_unix_ms: i64) -> Result<u64, Fault> {
        match position {
            Position::TrimHorizon => Ok(self.trimmed),
            Position::Latest { .. } => Ok(self.end()),
            Position::At { unix_ms } if !knows_times || *unix_ms > now_unix_ms => Err(Fault::Invalid),
            Position::At { unix_ms } => {
                let earlier = |held: &&super::shard::Held| held.record.created_unix_ms < *unix_ms;
                Ok(self.trimmed + self.records.iter().take_while(earlier).count() as u64)
            }
            // Between two of its numbers reading goes on at the next; a number that is none of its own is refused.
            Position::After(number) => match self.issued.partition_point(|issued| issued <= number) as u64 {
                0 => Err(Fault::Invalid),
                end if end == self.end() && self.issued.last() != Some(number) => Err(Fault::Invalid),
                // The record itself is trimmed: whether one behind it is, too, does not matter.
                behind if behind <= self.trimmed => Ok(behind - 1),
                behind => Ok(behind),
            },
            Position::End => Err(Fault::Invalid),
        }
    }
}

impl Token {
    fn text(self) -> dynamo::Iterator {
        let Self { shard, ordinal, reader, epoch, made_ms } = self;
        let (stream, shard) = (shard.stream(), shard.shard());
        dynamo::Iterator(format!("{stream}/{shard}/{ordinal}/{reader}/{epoch}/{made_ms}"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::parse::<u64>);
        let mut part = || parts.next()?.ok();
        Some(Self {
            shard: ShardRef::new(usize::try_from(part()?).ok()?, usize::try_from(part()?).ok()?),
            ordinal: part()?,
            reader: u32::try_from(part()?).ok()?,
            epoch: u32::try_from(part()?).ok()?,
            made_ms: part()?,
        })
    }
}

fn size(record: &Record) -> usize {
    let image = record.image.as_ref().map_or(0, |image| image.as_bytes().len());
    RECORD_BYTES + record.key.as_bytes().len() + image
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
