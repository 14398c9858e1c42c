//! `dead-letters`: changes that a replica refused, kept with their payload in the control table.

mod choose;
mod letter;

use clap::Subcommand;

use super::exit::{Code, Failure};
use super::input::Input;
use super::output::{Format, Table, print, print_json};
use super::{confirm, fleet, runtime};
use crate::change::Op;
use crate::clock::Clock;
use crate::config::{Replica, Replication};
use crate::replica::parked::{Entry, Parked, Removal};
use choose::{choose, find, find_all};
use letter::{Changed, Letter, Letters, Whole, count, one_line, raw};

/// Changes that a replica refused. A later change of the same key is tried in the place of the parked one and
/// settles it; so does a retry that succeeds.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,

    /// The replication; may be left out when there is one alone.
    #[arg(long, value_name = "NAME", global = true)]
    replication: Option<String>,

    /// The replica; may be left out when there is one alone.
    #[arg(long, value_name = "NAME", global = true)]
    replica: Option<String>,

    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t, global = true)]
    output: Format,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List parked keys and why they were refused.
    List,
    /// Show one with its whole item.
    Show {
        /// As `list` shows it, or its beginning.
        id: String,
    },
    /// Ask the worker that runs to write them again; it looks every few seconds.
    Retry {
        /// As `list` shows them, or their beginnings.
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All of this replica.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Forget them: the replica stays without these changes.
    Drop {
        /// As `list` shows them, or their beginnings.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Does what is asked.
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    let config = args.input.load_quietly()?;
    let (replication, replica) = choose(&config, args.replication.as_deref(), args.replica.as_deref())?;
    runtime()?.block_on(async {
        let control = fleet::control(&config).await?;
        let parked = Parked::new(control, &replication.name, &replica.name, Clock::System);
        let entries = parked.list().await?;
        match &args.verb {
            Verb::List => list(args.output, replication, replica, &entries),
            Verb::Show { id } => show(args.output, &parked, find(&entries, id)?).await,
            Verb::Retry { all: true, .. } => {
                let all: Vec<_> = entries.iter().collect();
                retry(args.output, &parked, &all).await
            }
            Verb::Retry { ids, .. } => retry(args.output, &parked, &find_all(&entries, ids)?).await,
            Verb::Drop { ids, yes } => {
                let chosen = find_all(&entries, ids)?;
                confirm(&chosen, replica, *yes)?;
                forget(args.output, &parked, &chosen).await
            }
        }
    })
}

fn list(
    format: Format,
    replication: &Replication,
    replica: &Replica,
    entries: &[Entry],
) -> Result<Code, Failure> {
    let letters = entries.iter().map(Letter::new).collect::<Result<Vec<_>, _>>()?;
    if format == Format::Json {
        print_json(&Letters {
            schema_version: 1,
            replication: replication.name.clone(),
            replica: replica.name.clone(),
            dead_letters: letters,
        })?;
        return Ok(Code::Success);
    }
    if letters.is_empty() {
        print(format!("replica `{}/{}` has no dead letters", replication.name, replica.name))?;
        return Ok(Code::Success);
    }
    let mut table = Table::new(&["ID", "CHANGE", "BYTES", "CREATED", "RETRY", "KEY", "REASON"]);
    for letter in letters {
        table.row(vec![
            letter.id,
            letter.change.to_owned(),
            letter.item_bytes.to_string(),
            letter.created.unwrap_or_default(),
            if letter.retry_requested { "asked" } else { "-" }.to_owned(),
            letter.key.get().to_owned(),
            one_line(&letter.reason),
        ]);
    }
    print(table)?;
    Ok(Code::Success)
}

async fn show(format: Format, parked: &Parked, entry: &Entry) -> Result<Code, Failure> {
    let item = match parked.change(entry).await?.op {
        Op::Put(item) => Some(raw(item.as_bytes())?),
        Op::Delete => None,
    };
    let whole = Whole { schema_version: 1, letter: Letter::new(entry)?, item };
    if format == Format::Json {
        print_json(&whole)?;
        return Ok(Code::Success);
    }
    let letter = &whole.letter;
    let unknown = || "?".to_owned();
    print(format!(
        "id       {}\nkey      {}\nchange   {}\ncreated  {}\nparked   {}\nretry    {}\nreason   {}",
        letter.id,
        letter.key.get(),
        letter.change,
        letter.created.clone().unwrap_or_else(unknown),
        letter.parked.clone().unwrap_or_else(unknown),
        if letter.retry_requested { "asked for" } else { "-" },
        one_line(&letter.reason),
    ))?;
    if let Some(item) = &whole.item {
        print("item")?;
        print(item.get())?;
    }
    Ok(Code::Success)
}

async fn retry(format: Format, parked: &Parked, entries: &[&Entry]) -> Result<Code, Failure> {
    let mut changed = Changed::new();
    for entry in entries {
        changed.note(entry, parked.ask_retry(entry).await?);
    }
    let done = "asked to retry; the worker that writes to the replica does it within seconds";
    changed.print(format, done)
}

async fn forget(format: Format, parked: &Parked, entries: &[&Entry]) -> Result<Code, Failure> {
    let mut changed = Changed::new();
    for entry in entries {
        changed.note(entry, parked.remove(entry).await? == Removal::Removed);
    }
    changed.print(format, "dropped")
}

fn confirm(entries: &[&Entry], replica: &Replica, yes: bool) -> Result<(), Failure> {
    for entry in entries {
        let change = if entry.is_delete { "delete" } else { "put" };
        eprintln!(
            "would drop {}: the {change} of {} ({} bytes) is never written to `{}`",
            entry.id, entry.key, entry.item_bytes, replica.table
        );
    }
    confirm::confirm(&format!("drop {}", count(entries.len())), "nothing is dropped", yes)
}
