//! SIGINT and SIGTERM: the first ends the load, the second ends the demo.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info_span;

use crate::task::Tasks;

/// Cancels `stop` at the first signal and `quit` at the second, for as long as what is returned lives.
pub(super) fn watch(stop: &CancellationToken, quit: &CancellationToken) -> io::Result<Tasks<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, quit) = (stop.clone(), quit.clone());
    let mut tasks = Tasks::new();
    tasks.spawn(info_span!("signals"), async move {
        for asked in [stop, quit] {
            next(&mut interrupt, &mut terminate).await;
            asked.cancel();
        }
    });
    Ok(tasks)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
