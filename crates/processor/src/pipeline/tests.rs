//! A session in which no stage can make progress.

use std::{collections::VecDeque, sync::atomic::AtomicUsize};

use contract::{Coordinates, Limits, Record};
use kafka::Polled;

use super::*;
use crate::{
    scripted::{self, Scripted, ScriptedSink},
    start,
};

#[derive(Default)]
struct Counting(AtomicUsize);

impl Observer for Counting {
    fn polled(&self, _: usize, _: Option<&str>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn each_step_of_polling_is_a_sign_of_life_while_there_is_no_room() {
    let records = (0..10).map(|offset| {
        let coordinates = Coordinates { partition: 0, offset, timestamp: 1 };
        Polled::Record(Record { coordinates, key: None, value: None, headers: Vec::new() })
    });
    let mut polled = VecDeque::from([Polled::Assigned(vec![0]), Polled::Nothing]);
    polled.extend(records);
    let source = Scripted { member: true, polled, ..Scripted::default() };
    let folder = tempfile::tempdir().unwrap();
    let log = scripted::log(folder.path());
    let options = SessionOptions {
        accept: Accept::default(),
        plan: start::plan,
        caps: Caps { records: 2, bytes: 1 << 20 },
        batches: 3,
        publish: scripted::publish_options(),
        timing: Timing::default(),
        progress: Arc::default(),
    };
    let decider = Decider::new("c", Limits::default());
    let counting = Arc::new(Counting::default());
    let observer = Arc::clone(&counting) as Arc<dyn Observer>;
    let pipeline = Pipeline::new(source, ScriptedSink::default(), None, &log, &decider, options, &observer);
    // No other stage takes the batches.
    let steps = (0..100).filter(|_| pipeline.step(Stage::Poll) != Step::Ended).count();
    assert_eq!((steps, counting.0.load(Ordering::SeqCst)), (100, 100));
    assert_eq!(pipeline.in_flight.load(Ordering::SeqCst), 1, "there was no room for more");
    assert!(pipeline.step(Stage::Poll) == Step::Wait(StageWait::For(BUSY)));
}
