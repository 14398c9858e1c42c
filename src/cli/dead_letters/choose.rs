//! What a person means: which replica, and which of its parked changes.

use crate::cli::choose::pick;
use crate::cli::exit::Failure;
use crate::config::{Config, Replica, Replication};
use crate::replica::parked::Entry;

/// The replica that is meant: the only one, or the named one.
pub(super) fn choose<'a>(
    config: &'a Config,
    replication: Option<&str>,
    replica: Option<&str>,
) -> Result<(&'a Replication, &'a Replica), Failure> {
    let replication = pick(&config.replications, replication, |it| &it.name, "--replication")?;
    let replica = pick(&replication.replicas, replica, |it| &it.name, "--replica")?;
    Ok((replication, replica))
}

/// Those that are meant, each once.
pub(super) fn find_all<'a>(entries: &'a [Entry], ids: &[String]) -> Result<Vec<&'a Entry>, Failure> {
    let mut found: Vec<&Entry> = Vec::new();
    for id in ids {
        let entry = find(entries, id)?;
        if !found.contains(&entry) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// The one whose id begins so.
pub(super) fn find<'a>(entries: &'a [Entry], id: &str) -> Result<&'a Entry, Failure> {
    let mut matching = entries.iter().filter(|entry| !id.is_empty() && entry.id.starts_with(id));
    match (matching.next(), matching.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(Failure::Usage(format!("`{id}` begins several ids: give more of it"))),
        (None, _) => Err(Failure::Usage(format!(
            "`{id}` is not parked: it may have been settled; see `dynamirror dead-letters list`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dead_letters::letter::tests::entry;

    #[test]
    fn the_beginning_of_an_id_is_enough_when_it_is_unique() {
        let entries = [entry("abc1"), entry("abd2")];
        assert_eq!(find(&entries, "abd").expect("unique").id, "abd2");
        assert!(find(&entries, "ab").expect_err("two").to_string().contains("several"));
        assert!(find(&entries, "x").is_err());
        assert!(find(&entries, "").is_err());
        let twice = ["abc".to_owned(), "abc1".to_owned()];
        assert_eq!(find_all(&entries, &twice).expect("the same").len(), 1);
    }
}
