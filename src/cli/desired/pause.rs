//! `pause` and `resume`.

use serde::Serialize;

use super::{Chosen, Which, headroom_seconds};
use crate::cli::exit::{Code, Failure};
use crate::cli::input::Input;
use crate::cli::output::{Format, print, print_json, rfc3339, seconds_since};
use crate::cli::runtime;
use crate::cli::status::{Rows, seconds};
use crate::clock::Clock;
use crate::supervisor::desired::Wish;

/// Workers obey within seconds, whichever hold the shards, and after every restart. While a replica is paused nothing
/// is read for it: what was read is applied and saved, leases are kept, and its lag grows. It resumes where it stopped.
///
/// The stream holds changes for 24 hours: a replica that is paused longer than its headroom loses changes, which then
/// shows as a gap.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    input: Input,

    #[command(flatten)]
    which: Which,

    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,

    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Verb {
    Pause,
    Resume,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    schema_version: u32,
    replication: String,
    dry_run: bool,
    replicas: Vec<Replica>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Replica {
    name: String,
    /// Whether it is paused now, or would be.
    paused: bool,
    /// Whether that is new.
    changed: bool,
    paused_since: Option<String>,
    lag_seconds: Option<f64>,
    /// How long it may stay paused; absent when nothing proves how far it is.
    headroom_seconds: Option<f64>,
}

/// Writes what is wanted, and says what that means.
pub(in crate::cli) fn run(args: &Args, verb: Verb) -> Result<Code, Failure> {
    let config = args.input.load_quietly()?;
    runtime()?.block_on(async {
        let chosen = Chosen::load(&config, &args.which).await?;
        let now_unix_ms = Clock::System.unix_ms();
        let mut replicas = Vec::with_capacity(chosen.replicas.len());
        for replica in &chosen.replicas {
            let before = chosen.wish(replica);
            let after = wanted(&before, verb, now_unix_ms);
            let changed = after != before;
            if changed && !args.dry_run {
                chosen.save(replica, &after).await?;
            }
            replicas.push(shown(&chosen, replica, &after, changed, now_unix_ms));
        }
        let done = Done {
            schema_version: 1,
            replication: chosen.replication.name.clone(),
            dry_run: args.dry_run,
            warnings: if verb == Verb::Pause { warnings(&replicas) } else { Vec::new() },
            replicas,
        };
        match args.output {
            Format::Json => print_json(&done)?,
            Format::Text => print(text(&done))?,
        }
        Ok(Code::Success)
    })
}

/// Who pauses what is paused leaves the time at which it began.
fn wanted(before: &Wish, verb: Verb, now_unix_ms: i64) -> Wish {
    let paused_unix_ms = match verb {
        Verb::Pause => before.paused_unix_ms.or(Some(now_unix_ms)),
        Verb::Resume => None,
    };
    Wish { paused_unix_ms, ..before.clone() }
}

fn shown(chosen: &Chosen<'_>, replica: &str, wish: &Wish, changed: bool, now_unix_ms: i64) -> Replica {
    let rows = Rows::new(&chosen.rows, chosen.replicas.iter().copied());
    let lag_seconds =
        rows.applied_through_unix_ms(replica).map(|through| seconds_since(through, now_unix_ms));
    Replica {
        name: replica.to_owned(),
        paused: wish.is_paused(),
        changed,
        paused_since: wish.paused_unix_ms.and_then(rfc3339),
        lag_seconds,
        headroom_seconds: lag_seconds.map(headroom_seconds),
    }
}

fn warnings(replicas: &[Replica]) -> Vec<String> {
    let warn = |replica: &Replica| match replica.headroom_seconds {
        Some(headroom) if headroom <= 0.0 => {
            format!("replica `{}` is behind what the stream holds: it loses changes already", replica.name)
        }
        Some(headroom) => format!(
            "replica `{}`: resume it within {}: the stream holds 24 hours, and a longer pause is a gap",
            replica.name,
            seconds(headroom)
        ),
        None => format!(
            "replica `{}`: nothing proves how far it is: the stream holds 24 hours, and a longer pause is a gap",
            replica.name
        ),
    };
    replicas.iter().map(warn).collect()
}

fn text(done: &Done) -> String {
    let mut lines = Vec::new();
    for replica in &done.replicas {
        let name = format!("replica `{}/{}`", done.replication, replica.name);
        lines.push(match (replica.paused, replica.changed, done.dry_run) {
            (true, true, false) => format!("{name} pauses: workers stop writing to it within seconds"),
            (false, true, false) => format!("{name} resumes where it stopped, within seconds"),
            (true, true, true) => format!("would pause {name}"),
            (false, true, true) => format!("would resume {name}"),
            (true, false, _) => {
                format!("{name} is paused since {}", replica.paused_since.as_deref().unwrap_or("?"))
            }
            (false, false, _) => format!("{name} is not paused"),
        });
    }
    lines.extend(done.warnings.iter().map(|warning| format!("! {warning}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(paused: bool, changed: bool, headroom_seconds: Option<f64>) -> Replica {
        let name = "us".to_owned();
        Replica { name, paused, changed, paused_since: None, lag_seconds: None, headroom_seconds }
    }

    #[test]
    fn a_second_pause_keeps_the_time_of_the_first() {
        let first = wanted(&Wish::default(), Verb::Pause, 5);
        assert_eq!(first.paused_unix_ms, Some(5));
        assert_eq!(wanted(&first, Verb::Pause, 9), first);
        assert_eq!(wanted(&first, Verb::Resume, 9), Wish::default());
    }

    #[test]
    fn a_pause_tells_how_long_it_may_last() {
        for (headroom, words) in [
            (Some(7_300.0), "within 2 h 1 min"),
            (Some(-1.0), "loses changes already"),
            (None, "nothing proves"),
        ] {
            let replicas = vec![replica(true, true, headroom)];
            let warnings = warnings(&replicas);
            let done = Done {
                schema_version: 1,
                replication: "orders".to_owned(),
                dry_run: false,
                replicas,
                warnings,
            };
            let text = text(&done);
            assert!(text.starts_with("replica `orders/us` pauses") && text.contains(words), "{text}");
        }
    }
}
