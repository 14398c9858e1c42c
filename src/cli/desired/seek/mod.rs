//! `seek`: a replica goes on from another place in the stream.

mod goal;
mod plan;

use super::{Chosen, Which};
use crate::cli::exit::{Code, Failure};
use crate::cli::input::Input;
use crate::cli::output::{Format, print, print_json};
use crate::cli::{confirm, runtime};
use crate::clock::Clock;
use crate::supervisor::desired::{Seek, Target, obeyed_epoch};
use plan::Plan;

/// All workers obey: they settle what is under way, put every shard where the seek wants it, and go on when all shards
/// are there. It works on a paused replica too, which then goes on from there when it is resumed.
///
/// A seek back applies changes again: readers of the replica may see older values for a while; it ends with the newest.
/// A seek forward passes changes over, which the replica then never gets: it names them, and needs `--yes`.
///
/// It is also the way out of a gap: shards that can still be read are read again, and the rest of those that are gone
/// is given up. Verify or copy the replica then, because it misses changes.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    which: Which,

    /// Where to: `trim_horizon`, a time such as 2026-11-20T08:00:00Z, how long ago, such as `2h`, or a sequence number.
    ///
    /// The stream holds 24 hours. A sequence number needs `--shard`: that shard goes on with the change after it, those
    /// that came from it begin anew, and others stay where they are.
    #[arg(long, value_name = "TIME|trim_horizon|SEQUENCE")]
    to: String,

    /// The shard of a sequence number.
    #[arg(long, value_name = "ID")]
    shard: Option<String>,

    /// Do not ask before changes are passed over.
    #[arg(long)]
    yes: bool,

    /// Only say what would be done, shard by shard.
    #[arg(long)]
    dry_run: bool,

    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Writes what is wanted, when it is meant.
pub(in crate::cli) fn run(args: &Args) -> Result<Code, Failure> {
    let config = args.input.load_quietly()?;
    runtime()?.block_on(async {
        let chosen = Chosen::load(&config, &args.which).await?;
        let now_unix_ms = Clock::System.unix_ms();
        let target = goal::parse(&args.to, args.shard.as_deref(), now_unix_ms)?;
        check(&chosen, &target)?;
        let mut seek = Seek { epoch: epoch(&chosen, now_unix_ms), target, may_skip: true };
        let plan = Plan::new(&chosen, &seek, args.dry_run);
        seek.may_skip = plan.skips();
        if !args.dry_run {
            if seek.may_skip {
                for line in plan.skipped() {
                    eprintln!("{line}");
                }
                confirm::confirm("pass these changes over", "nothing is passed over", args.yes)?;
            }
            for replica in &chosen.replicas {
                let wish = chosen.wish(replica).with_seek(seek.clone(), obeyed_epoch(replica, &chosen.rows));
                chosen.save(replica, &wish).await?;
            }
        }
        match args.output {
            Format::Json => print_json(&plan)?,
            Format::Text => print(plan.text())?,
        }
        Ok(Code::Success)
    })
}

fn check(chosen: &Chosen<'_>, target: &Target) -> Result<(), Failure> {
    let replication = &chosen.replication.name;
    if chosen.rows.is_empty() {
        return Err(Failure::Usage(format!(
            "replication `{replication}` was never started: its setting `start` says where it begins"
        )));
    }
    match target {
        Target::After { shard, .. } if !chosen.rows.iter().any(|row| row.shard == *shard) => {
            Err(Failure::Usage(format!("--shard {shard}: replication `{replication}` has no such shard")))
        }
        _ => Ok(()),
    }
}

/// More than every epoch before: clocks differ.
fn epoch(chosen: &Chosen<'_>, now_unix_ms: i64) -> i64 {
    let wishes = chosen.replicas.iter().map(|replica| chosen.wish(replica).epoch());
    let rows = chosen.rows.iter().flat_map(|row| row.checkpoints.values().map(|checkpoint| checkpoint.epoch));
    wishes.chain(rows).map(|before| before + 1).fold(now_unix_ms, i64::max)
}
