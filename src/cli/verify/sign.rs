//! `verify --signature-only`: whole tables told by a few kilobytes.

use std::path::Path;

use futures_util::future::try_join;
use serde::{Deserialize, Serialize};

use super::build::{Build, Built};
use super::progress::Screen;
use super::{Args, Side};
use crate::cli::exit::{Code, Failure};
use crate::cli::output::{Format, print, print_json, rfc3339};
use crate::clock::Clock;
use crate::config::Replica;
use crate::verify::{self, Signature, join};

/// How items become digests. Signatures of another way cannot be compared.
const DIGESTS: &str = "blake3-128/1";

/// A signature as it is printed and read.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    schema_version: u32,
    table: String,
    taken: Option<String>,
    digests: String,
    /// Attributes that are left out; the replica's mark is not named.
    ignored: Vec<String>,
    items: u64,
    #[serde(flatten)]
    signature: Signature,
}

/// Two signatures, compared.
#[derive(Debug, Serialize)]
struct Compared {
    schema_version: u32,
    replication: String,
    replica: String,
    equal: bool,
    /// Items of both sides, the source's first unless one came from a file, which then is the second.
    items: [u64; 2],
    /// Parts of the key space, by the first eight bits of the keys' digests.
    differing_buckets: Vec<usize>,
}

pub(super) async fn run(args: &Args, build: &mut Build<'_>, replicas: &[&Replica]) -> Result<Code, Failure> {
    let mut all_equal = true;
    for replica in replicas {
        let built = build.parts(replica).await?;
        let screen = Screen::new(&built.parts, built.expected_items);
        let pair = match (args.signature.side, &args.signature.against) {
            (None, _) => {
                let parts = &built.parts;
                let both = try_join(
                    verify::sign(parts, join::Side::Source),
                    verify::sign(parts, join::Side::Replica),
                );
                screen.during(both).await?
            }
            (Some(side), against) => {
                // What cannot be read is told before the scan.
                let other = against.as_deref().map(|path| load(path, &args.scope.ignore)).transpose()?;
                let signature = screen.during(verify::sign(&built.parts, side.into())).await?;
                match other {
                    Some(other) => (signature, other),
                    None => return save(args, &built, side, signature),
                }
            }
        };
        let compared = Compared::new(build, replica, &pair);
        all_equal &= compared.equal;
        match args.output {
            Format::Json => print_json(&compared)?,
            Format::Text => print(compared.text())?,
        }
    }
    Ok(if all_equal { Code::Success } else { Code::Negative })
}

fn save(args: &Args, built: &Built, side: Side, signature: Signature) -> Result<Code, Failure> {
    let table = match side {
        Side::Source => &built.parts.source,
        Side::Replica => &built.parts.replica,
    };
    let saved = Saved {
        schema_version: 1,
        table: table.name.clone(),
        taken: rfc3339(Clock::System.unix_ms()),
        digests: DIGESTS.to_owned(),
        ignored: sorted(&args.scope.ignore),
        items: signature.items(),
        signature,
    };
    match args.output {
        Format::Json => print_json(&saved)?,
        Format::Text => {
            let sum = saved.signature.buckets.iter().fold(0u128, |sum, bucket| sum.wrapping_add(bucket.sum));
            print(format!("{}: {} items, {sum:032x}", saved.table, saved.items))?;
        }
    }
    Ok(Code::Success)
}

fn load(path: &Path, ignored: &[String]) -> Result<Signature, Failure> {
    let text = std::fs::read(path).map_err(|source| Failure::File {
        action: "read the signature",
        path: path.to_owned(),
        source,
    })?;
    let refused = |why: String| Failure::Usage(format!("--against {}: {why}", path.display()));
    let saved: Saved = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
    if saved.schema_version != 1 || saved.digests != DIGESTS {
        return Err(refused(format!("it was made by another version, with `{}` digests", saved.digests)));
    }
    if sorted(&saved.ignored) != sorted(ignored) {
        return Err(refused(format!("it was made with other `--ignore`: {}", saved.ignored.join(", "))));
    }
    Ok(saved.signature)
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names
}

impl From<Side> for join::Side {
    fn from(side: Side) -> Self {
        match side {
            Side::Source => Self::Source,
            Side::Replica => Self::Replica,
        }
    }
}

// === impl Compared ===

impl Compared {
    fn new(build: &Build<'_>, replica: &Replica, pair: &(Signature, Signature)) -> Self {
        let (left, right) = pair;
        let differing_buckets = left.differing(right);
        Self {
            schema_version: 1,
            replication: build.replication().name.clone(),
            replica: replica.name.clone(),
            equal: differing_buckets.is_empty(),
            items: [left.items(), right.items()],
            differing_buckets,
        }
    }

    fn text(&self) -> String {
        let name = format!("replica `{}/{}`", self.replication, self.replica);
        let [left, right] = self.items;
        match self.equal {
            true => format!("{name}: equal, {left} items"),
            false => {
                let buckets: Vec<_> = self.differing_buckets.iter().map(|it| format!("{it:02x}")).collect();
                format!(
                    "{name}: different, {left} and {right} items; in {} of 256 parts of the keys: {}",
                    buckets.len(),
                    buckets.join(" ")
                )
            }
        }
    }
}
