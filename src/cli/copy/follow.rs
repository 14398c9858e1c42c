//! Looks at copies until all have ended.

use std::time::Duration;

use tokio::time::Instant;

use super::Target;
use super::screen::Screen;
use super::view::{self, Pace};
use crate::cli::exit::Failure;
use crate::config::Replication;
use crate::copy::Run;

/// Between two looks. Workers write how far they are every five seconds.
const INTERVAL: Duration = Duration::from_secs(2);

/// After so long without a worker that begins, a person is told.
const WAITED: Duration = Duration::from_secs(15);

/// Follows the copies of `targets`. Ctrl-C ends that, and not the copies.
pub(super) async fn follow(replication: &Replication, targets: &mut [Target<'_>]) -> Result<(), Failure> {
    let mut screen =
        Screen::new(targets.iter().map(|it| format!("{}/{}", replication.name, it.replica.name)));
    let begun = Instant::now();
    let mut first: Vec<Option<(Instant, Run)>> = targets.iter().map(|_| None).collect();
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut hinted = false;
    while targets.iter().any(|it| it.run.as_ref().is_some_and(|run| run.state.is_active())) {
        tokio::select! {
            _ = ticks.tick() => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(Failure::System)?;
                screen.say("the copy goes on without this command; `dynamirror copy` follows it again");
                break;
            }
        }
        let mut waits = false;
        for (index, target) in targets.iter_mut().enumerate() {
            target.run = target.store.load().await?;
            let Some(run) = &target.run else { continue };
            let known =
                first[index].take().filter(|(_, known)| known.id == run.id && known.segments == run.segments);
            let (since, known) = known.unwrap_or_else(|| (Instant::now(), run.clone()));
            let pace = Pace::new(&known, run, since.elapsed());
            screen.show(index, run, &view::line(run, pace));
            waits |= run.state == crate::copy::State::Wanted;
            first[index] = Some((since, known));
        }
        if waits && !hinted && begun.elapsed() > WAITED {
            hinted = true;
            screen.say("no worker has begun yet: does one run? (`dynamirror status`)");
        }
    }
    screen.clear();
    Ok(())
}
