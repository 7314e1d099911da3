//! `holdfast agent`: the daemon in the foreground, as systemd runs it.

use crate::exit::{self, Failure, Outcome};
use crate::session::{Session, host_name};

pub(crate) async fn run(session: &Session) -> Outcome {
    let config = session.config()?;
    agent_daemon::service::run(&config, &session.world, &host_name(), |line| {
        session.output.say(line);
        session.output.event("agent", serde_json::json!({ "text": line }));
    })
    .await
    .map_err(|error| match error {
        agent_daemon::service::ServiceError::Ops(error) => Failure::from(error),
        agent_daemon::service::ServiceError::Nothing(text) => Failure::new(exit::USAGE, text),
    })?;
    session.output.summary(exit::OK, serde_json::json!({}));
    Ok(exit::OK)
}
