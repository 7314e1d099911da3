//! Death at a named step, for tests: `HOLDFAST_DIE_AT=backup.pack-noted` kills this
//! process with SIGKILL when it first comes there, `..:3` at the third time.
//!
//! What always holds: a release build does not read the variable and has no
//! observer; a name that is no step is an error, so that a test cannot pass by
//! dying nowhere.

use vault_ops::world::World;

use crate::exit::Failure;

/// The world, with death waiting in it if the environment asks for it.
#[cfg(not(debug_assertions))]
pub(crate) fn at_a_named_step(world: World) -> Result<World, Failure> {
    Ok(world)
}

/// The world, with death waiting in it if the environment asks for it.
#[cfg(debug_assertions)]
pub(crate) fn at_a_named_step(world: World) -> Result<World, Failure> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use vault_ops::step::Step;

    use crate::exit;

    let Some(text) = std::env::var_os("HOLDFAST_DIE_AT") else { return Ok(world) };
    let text = text.to_string_lossy();
    let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
    let (Some(fatal), Ok(count)) = (Step::named(name), count.parse::<u64>()) else {
        let names: Vec<&str> = Step::ALL.iter().map(|step| step.name()).collect();
        return Err(Failure::new(
            exit::USAGE,
            format!("HOLDFAST_DIE_AT={text} is no step[:count]; steps are {}", names.join(", ")),
        ));
    };
    let left = AtomicU64::new(count);
    Ok(world.observed_by(Arc::new(move |step| {
        if step == fatal && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let kill = rustix::process::Signal::KILL;
            // Nothing can be done if the system refuses; the test sees that nobody died.
            let _ = rustix::process::kill_process(rustix::process::getpid(), kill);
        }
    })))
}
