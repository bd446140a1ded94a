//! Runs a pipeline: a thread for each stage, until a stop is requested or a stage fails.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use kafka::{Sink, Source};

use super::{
    ProcessorError,
    pipeline::{Pipeline, Stage, Step},
};

/// How long a stop waits for the work in flight, out of its 5 s in total.
const STOP: Duration = Duration::from_secs(3);

/// Runs until `stop` is set (`Ok`) or a stage fails. The source leaves the group in either case.
pub(crate) fn run<S, K>(pipeline: &Pipeline<S, K>, stop: &AtomicBool) -> Result<(), ProcessorError>
where
    S: Source<Brokers: Send> + Send,
    K: Sink<Membership = S::Membership> + Send,
{
    thread::scope(|scope| {
        // The caller's thread polls.
        for stage in Stage::ALL.into_iter().filter(|&stage| stage != Stage::Poll) {
            let thread = thread::Builder::new().name(stage.name().to_owned());
            if let Err(error) = thread.spawn_scoped(scope, move || run_stage(pipeline, stage, || {})) {
                pipeline.fail(ProcessorError::Panicked(format!("a thread could not be started: {error}")));
            }
        }
        run_stage(pipeline, Stage::Poll, || {
            if stop.load(Ordering::SeqCst) {
                pipeline.stop(STOP);
            }
        });
    });
    pipeline.result()
}

/// Steps one stage until it ends. A panic ends the session.
fn run_stage<S, K>(pipeline: &Pipeline<S, K>, stage: Stage, before_step: impl Fn())
where
    S: Source,
    K: Sink<Membership = S::Membership>,
{
    let stepping = AssertUnwindSafe(|| {
        loop {
            before_step();
            match pipeline.step(stage) {
                Step::Worked => {}
                Step::Wait(wait) => pipeline.wait(stage, wait),
                Step::Ended => break,
            }
        }
    });
    if let Err(panic) = catch_unwind(stepping) {
        pipeline.fail(ProcessorError::Panicked(message(panic.as_ref())));
    }
    pipeline.close(stage);
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "no message".into())
}
