//! Compares two tables item by item, typed, with plain SDK scans: it shares no code with the daemon.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;

use super::shape::Shape;
use super::value::{Item, spell_item};

/// How many differences are spelt out.
const SHOWN: usize = 5;

/// How much of an item is shown.
const SHOWN_CHARS: usize = 600;

/// All items of a table by the spelling of their keys.
pub(crate) async fn items(client: &Client, table: &str, shape: &Shape) -> BTreeMap<String, Item> {
    let mut found = BTreeMap::new();
    let mut after = None;
    loop {
        let page =
            client.scan().table_name(table).consistent_read(true).set_exclusive_start_key(after).send().await;
        let page = page.unwrap_or_else(|error| panic!("scan {table}: {error:?}"));
        for item in page.items.unwrap_or_default() {
            let twice = found.insert(spell_item(&shape.key_of(&item)), item);
            assert!(twice.is_none(), "a scan of {table} gave one key twice");
        }
        after = page.last_evaluated_key;
        if after.is_none() {
            return found;
        }
    }
}

/// What is missing, extra or different in `replica`.
pub(crate) fn differences(source: &BTreeMap<String, Item>, replica: &BTreeMap<String, Item>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, item) in source {
        match replica.get(key) {
            None => found.push(format!("missing {key}")),
            Some(other) => {
                let (expected, got) = (spell_item(item), spell_item(other));
                if expected != got {
                    found.push(format!(
                        "different {key}\n  source:  {}\n  replica: {}",
                        cut(&expected),
                        cut(&got)
                    ));
                }
            }
        }
    }
    let extra = replica.keys().filter(|key| !source.contains_key(*key));
    found.extend(extra.map(|key| format!("extra {key}: {}", cut(&spell_item(&replica[key])))));
    found
}

/// The first few differences, one a line.
pub(crate) fn tell(differences: &[String]) -> String {
    let shown: Vec<_> = differences.iter().take(SHOWN).map(String::as_str).collect();
    format!("{} differences:\n{}", differences.len(), shown.join("\n"))
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}
