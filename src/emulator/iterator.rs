//! Shard iterators: opaque text that carries a position, so the emulator keeps no table of them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// What an iterator stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Iterator {
    pub(super) stream_arn: String,
    pub(super) shard_id: String,
    /// Records with a greater sequence number come next.
    pub(super) after_exclusive: u128,
    /// When it was handed out, in the region's milliseconds.
    pub(super) issued_ms: u64,
    /// The region's generation of iterators; an older generation has expired.
    pub(super) epoch: u32,
    /// The `GetShardIterator` call it descends from: one per reader.
    pub(super) chain: u64,
}

impl Iterator {
    pub(super) fn encode(&self) -> String {
        let Self { stream_arn, shard_id, after_exclusive, issued_ms, epoch, chain } = self;
        let inner = format!("{shard_id}|{after_exclusive}|{issued_ms}|{epoch}|{chain}");
        format!("{stream_arn}|1|{}", URL_SAFE_NO_PAD.encode(inner))
    }

    /// Nothing when the text is not one of ours.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let (stream_arn, encoded) = text.split_once("|1|")?;
        let inner = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
        let mut parts = inner.split('|');
        let iterator = Self {
            stream_arn: stream_arn.to_owned(),
            shard_id: parts.next()?.to_owned(),
            after_exclusive: parts.next()?.parse().ok()?,
            issued_ms: parts.next()?.parse().ok()?,
            epoch: parts.next()?.parse().ok()?,
            chain: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(iterator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes(
            shard_id in "shardId-[0-9]{20}-[0-9a-f]{8}",
            after_exclusive: u128,
            issued_ms: u64,
            epoch: u32,
            chain: u64,
        ) {
            let stream_arn = "arn:aws:dynamodb:eu-west-1:000000000000:table/t/stream/2026".to_owned();
            let iterator = Iterator { stream_arn, shard_id, after_exclusive, issued_ms, epoch, chain };
            prop_assert_eq!(Iterator::decode(&iterator.encode()), Some(iterator));
        }

        #[test]
        fn foreign_text_is_refused_and_never_panics(text in ".{0,80}") {
            prop_assert_eq!(Iterator::decode(&text), None);
        }
    }
}
