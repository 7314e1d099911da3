//! Being asked to stop.
//!
//! What always holds: asking once lets each run end at a point of its own
//! choosing; asking again ends the daemon. Either is safe: a run that is dropped
//! half-way has changed nothing that counts, as if the process were killed.

use tokio::sync::{mpsc, watch};

/// Held by a run, to learn that it should end.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: watch::Receiver<bool>,
}

/// Held by the daemon, to ask all runs.
#[derive(Debug)]
pub(crate) struct AskStop {
    tell: watch::Sender<bool>,
}

impl AskStop {
    pub(crate) fn new() -> Self {
        Self { tell: watch::Sender::new(false) }
    }

    pub(crate) fn handle(&self) -> Stop {
        Stop { asked: self.tell.subscribe() }
    }

    pub(crate) fn ask(&self) {
        self.tell.send_replace(true);
    }
}

impl Stop {
    /// Completes once it should end.
    pub async fn asked(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            // The daemon is gone, and this run with it.
            std::future::pending::<()>().await;
        }
    }

    /// Whether it should end.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

/// SIGTERM and SIGINT of this process, one message each.
///
/// # Errors
/// If the system does not let signals be caught.
pub fn signals() -> std::io::Result<mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (tell, told) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if tell.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(told)
}
