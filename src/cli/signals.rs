//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::exit::Code;

/// Cancels `drain` at the first signal from now on. They are waited for on a thread of their own, so that the second
/// one is obeyed whatever the others do.
pub(super) fn watch(drain: CancellationToken) -> io::Result<()> {
    let (ready, registered) = mpsc::sync_channel(1);
    let run = move || {
        let result = wait(drain, &ready);
        if let Err(error) = result {
            drop(ready.send(Err(error)));
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(run)?;
    let lost = |mpsc::RecvError| Err(io::Error::other("the thread ended"));
    registered.recv().unwrap_or_else(lost)
}

fn wait(drain: CancellationToken, ready: &mpsc::SyncSender<io::Result<()>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // It is waited for, so that it is received.
        drop(ready.send(Ok(())));
        let name = next(&mut terminate, &mut interrupt).await;
        info!(signal = name, "draining");
        drain.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        warn!(signal = name, "second signal: drain is cut short");
        leave_now()
    })
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "at once means without waiting for whatever keeps `main` from returning"
)]
fn leave_now() -> ! {
    std::process::exit(i32::from(Code::Temporary as u8))
}
