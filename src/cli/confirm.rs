//! Asks before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal};

use super::exit::Failure;

/// Asks on a terminal, and refuses elsewhere unless it was said beforehand. `deed` is such as `drop 2 keys`, and
/// `refusal` what is told when it is not done, such as `nothing is dropped`.
pub(super) fn confirm(deed: &str, refusal: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{refusal} without --yes")));
    }
    eprintln!("type `yes` to {deed}");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Failure::Stream)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::Usage(refusal.to_owned())) }
}
