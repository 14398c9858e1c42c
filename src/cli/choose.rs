//! What a person means by a name: a replication or a replica of the configuration.

use super::exit::Failure;

/// The one named, or the only one. `flag` is how the name is given.
pub(super) fn pick<'a, T>(
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

#[cfg(test)]
mod tests {
    use super::*;

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
