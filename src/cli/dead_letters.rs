//! `dead-letters`: changes that a replica refused, kept with their payload in the control table.

use std::io::{self, BufRead, IsTerminal};

use clap::Subcommand;
use serde::Serialize;
use serde_json::value::RawValue;

use super::exit::{Code, Failure};
use super::input::Input;
use super::output::{Format, Table, print, print_json, rfc3339};
use super::{fleet, runtime};
use crate::change::Op;
use crate::clock::Clock;
use crate::config::{Config, Replica, Replication};
use crate::replica::parked::{Entry, Parked};

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

/// A parked change as it is printed.
#[derive(Debug, Serialize)]
struct Letter {
    id: String,
    key: Box<RawValue>,
    change: &'static str,
    item_bytes: i64,
    reason: String,
    created: Option<String>,
    parked: Option<String>,
    retry_requested: bool,
}

#[derive(Debug, Serialize)]
struct Letters {
    schema_version: u32,
    replication: String,
    replica: String,
    dead_letters: Vec<Letter>,
}

#[derive(Debug, Serialize)]
struct Whole {
    schema_version: u32,
    #[serde(flatten)]
    letter: Letter,
    /// In DynamoDB's JSON; absent for a delete.
    item: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct Changed {
    schema_version: u32,
    /// Those it was done for.
    ids: Vec<String>,
    /// Those that were settled or parked anew in the meantime.
    changed_meanwhile: Vec<String>,
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
        print(format!(
            "replica `{}/{}` has no dead letters",
            replication.name, replica.name
        ))?;
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
    let whole = Whole {
        schema_version: 1,
        letter: Letter::new(entry)?,
        item,
    };
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
        changed.note(entry, parked.remove(entry).await?);
    }
    changed.print(format, "dropped")
}

/// Asks on a terminal, and refuses elsewhere unless it was said beforehand.
fn confirm(entries: &[&Entry], replica: &Replica, yes: bool) -> Result<(), Failure> {
    for entry in entries {
        let change = if entry.is_delete { "delete" } else { "put" };
        eprintln!(
            "would drop {}: the {change} of {} ({} bytes) is never written to `{}`",
            entry.id, entry.key, entry.item_bytes, replica.table
        );
    }
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage("nothing is dropped without --yes".to_owned()));
    }
    eprintln!("type `yes` to drop {}", count(entries.len()));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(Failure::Stream)?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::Usage("nothing is dropped".to_owned()))
    }
}

/// The replica that is meant: the only one, or the named one.
fn choose<'a>(
    config: &'a Config,
    replication: Option<&str>,
    replica: Option<&str>,
) -> Result<(&'a Replication, &'a Replica), Failure> {
    let replication = pick(&config.replications, replication, |it| &it.name, "--replication")?;
    let replica = pick(&replication.replicas, replica, |it| &it.name, "--replica")?;
    Ok((replication, replica))
}

fn pick<'a, T>(
    all: &'a [T],
    name: Option<&str>,
    name_of: impl Fn(&T) -> &String,
    flag: &str,
) -> Result<&'a T, Failure> {
    let names = || {
        let names: Vec<_> = all.iter().map(|it| name_of(it).as_str()).collect();
        names.join(", ")
    };
    match (name, all) {
        (Some(name), _) => all.iter().find(|it| name_of(it) == name).ok_or_else(|| {
            Failure::Usage(format!(
                "{flag} {name}: the configuration has no such name, but {}",
                names()
            ))
        }),
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::Usage(format!("{flag} is needed: one of {}", names()))),
    }
}

fn find_all<'a>(entries: &'a [Entry], ids: &[String]) -> Result<Vec<&'a Entry>, Failure> {
    let mut found: Vec<&Entry> = Vec::new();
    for id in ids {
        let entry = find(entries, id)?;
        if !found.contains(&entry) {
            found.push(entry);
        }
    }
    Ok(found)
}

fn find<'a>(entries: &'a [Entry], id: &str) -> Result<&'a Entry, Failure> {
    let mut matching = entries
        .iter()
        .filter(|entry| !id.is_empty() && entry.id.starts_with(id));
    match (matching.next(), matching.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "`{id}` begins several ids: give more of it"
        ))),
        (None, _) => Err(Failure::Usage(format!(
            "`{id}` is not parked: it may have been settled; see `dynamirror dead-letters list`"
        ))),
    }
}

fn raw(text: &[u8]) -> Result<Box<RawValue>, Failure> {
    serde_json::from_slice(text).map_err(|error| Failure::Stream(error.into()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn count(keys: usize) -> String {
    match keys {
        1 => "1 key".to_owned(),
        keys => format!("{keys} keys"),
    }
}

// === impl Letter ===

impl Letter {
    fn new(entry: &Entry) -> Result<Self, Failure> {
        Ok(Self {
            id: entry.id.clone(),
            key: raw(entry.key.as_bytes())?,
            change: if entry.is_delete { "delete" } else { "put" },
            item_bytes: entry.item_bytes,
            reason: entry.reason.clone(),
            created: rfc3339(entry.created_unix_ms),
            parked: rfc3339(entry.parked_unix_ms),
            retry_requested: entry.retry_wanted,
        })
    }
}

// === impl Changed ===

impl Changed {
    const fn new() -> Self {
        Self {
            schema_version: 1,
            ids: Vec::new(),
            changed_meanwhile: Vec::new(),
        }
    }

    fn note(&mut self, entry: &Entry, done: bool) {
        let list = if done {
            &mut self.ids
        } else {
            &mut self.changed_meanwhile
        };
        list.push(entry.id.clone());
    }

    fn print(&self, format: Format, done: &str) -> Result<Code, Failure> {
        if format == Format::Json {
            print_json(self)?;
        } else {
            print(format!("{}: {done}", count(self.ids.len())))?;
            for id in &self.changed_meanwhile {
                print(format!(
                    "{id}: settled or parked anew in the meantime; left as it is"
                ))?;
            }
        }
        Ok(if self.changed_meanwhile.is_empty() {
            Code::Success
        } else {
            Code::Negative
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::key::Key;

    fn entry(id: &str) -> Entry {
        let key = Bytes::from_static(br#"{"k":{"S":"a"}}"#);
        Entry {
            id: id.to_owned(),
            key: Key::from_json(&key, 0..key.len()).expect("a key"),
            is_delete: false,
            version: "1".to_owned(),
            parts: 1,
            item_bytes: 17,
            reason: "too\n  large".to_owned(),
            created_unix_ms: 0,
            parked_unix_ms: 1_000,
            retry_wanted: false,
        }
    }

    #[test]
    fn the_beginning_of_an_id_is_enough_when_it_is_unique() {
        let entries = [entry("abc1"), entry("abd2")];
        assert_eq!(find(&entries, "abd").expect("unique").id, "abd2");
        assert!(
            find(&entries, "ab")
                .expect_err("two")
                .to_string()
                .contains("several")
        );
        assert!(find(&entries, "x").is_err());
        assert!(find(&entries, "").is_err());
        let twice = ["abc".to_owned(), "abc1".to_owned()];
        assert_eq!(find_all(&entries, &twice).expect("the same").len(), 1);
    }

    #[test]
    fn the_only_one_need_not_be_named() {
        let names = ["a".to_owned(), "b".to_owned()];
        let pick = |all: &'static [&'static str], name: Option<&str>| {
            let _ = &names;
            let all: Vec<String> = all.iter().map(|it| (*it).to_owned()).collect();
            pick(&all, name, |it| it, "--replica").cloned()
        };
        assert_eq!(pick(&["a"], None).expect("the only one"), "a");
        assert_eq!(pick(&["a", "b"], Some("b")).expect("named"), "b");
        let error = pick(&["a", "b"], None).expect_err("which").to_string();
        assert!(error.contains("one of a, b"), "{error}");
        let error = pick(&["a", "b"], Some("c")).expect_err("unknown").to_string();
        assert!(error.contains("but a, b"), "{error}");
    }

    #[test]
    fn a_letter_shows_the_key_as_json() {
        let letter = Letter::new(&entry("abc")).expect("a good entry");
        let json = serde_json::to_value(&letter).expect("plain data");
        assert_eq!(json["key"]["k"]["S"], "a");
        assert_eq!(json["parked"], "1970-01-01T00:00:01Z");
        assert_eq!(one_line(&letter.reason), "too large");
    }
}
