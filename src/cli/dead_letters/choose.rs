//! What a person means: which replica, and which of its parked changes.

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
            Failure::Usage(format!("{flag} {name}: the configuration has no such name, but {}", names()))
        }),
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::Usage(format!("{flag} is needed: one of {}", names()))),
    }
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

    #[test]
    fn the_only_one_need_not_be_named() {
        let pick = |all: &[&str], name: Option<&str>| {
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
}
