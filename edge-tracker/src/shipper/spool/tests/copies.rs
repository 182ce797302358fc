//! Directories of edges that are copied and restored while they ship to one aggregator: every event is stored once, in
//! any order of connections.

use super::{append_one, open, unconnected};
use crate::shipper::spool::Spool;
use domain::NodeId;
use event_journal::{LaneWriter, OpenJournal, frames};
use event_shipping::{
    Ack, Batch, BatchDecision, ClaimResult, LaneKey, LaneState, LaneTable, Welcome,
    open as open_batch,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const NODE: u16 = 1;

/// A copy of `dir`. It is not made by a child process, which would inherit the journals' locks for a moment.
pub(super) fn copy(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("temporary directory");
    copy_into(dir, copy.path());
    copy
}

fn copy_into(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("readable") {
        let path = entry.expect("readable").path();
        let to = to.join(path.file_name().expect("file name"));
        if path.is_dir() {
            std::fs::create_dir(&to).expect("directory created");
            copy_into(&path, &to);
        } else {
            // The keeper makes segments and renames them meanwhile.
            let _ = std::fs::copy(&path, &to);
        }
    }
}

/// A batch as the aggregator keeps it.
struct AcceptedBatch {
    key: LaneKey,
    skip_through: u64,
    batch: Batch,
}

/// The aggregator, with a table of event numbers.
#[derive(Default)]
struct Aggregator {
    lanes: LaneTable,
    pending: Vec<AcceptedBatch>,
    stored: BTreeMap<u64, u32>,
}

impl Aggregator {
    fn hello(&mut self, spool: &Spool) -> Welcome {
        let hello = spool.hello(NodeId(NODE));
        let answer = |lane| {
            let (state, claim) = self.lanes.hello(NODE, lane);
            assert_ne!(claim, ClaimResult::Ignored);
            state
        };
        Welcome {
            lanes: hello.lanes.iter().map(answer).collect(),
            ..Welcome::default()
        }
    }

    fn offer(&mut self, welcomed: &Welcome, batch: Batch) {
        let header = batch.header;
        let is_its =
            |state: &&LaneState| (state.lane, state.journal) == (header.lane, header.journal);
        let welcomed = welcomed.lanes.iter().find(is_its).expect("introduced");
        match self.lanes.offer(NODE, welcomed, &header).expect("in order") {
            BatchDecision::Accept { skip_through } => {
                let key = header.key(NODE);
                self.pending.push(AcceptedBatch {
                    key,
                    skip_through,
                    batch,
                });
            }
            BatchDecision::Duplicate { .. } => {}
        }
    }

    fn insert(&mut self) {
        for accepted in std::mem::take(&mut self.pending) {
            let (header, mut raw) = (accepted.batch.header, Vec::new());
            open_batch(&header, &accepted.batch.payload, &mut raw).expect("valid");
            for frame in frames(&raw).map(|frame| frame.expect("complete frame")) {
                if frame.seq > accepted.skip_through {
                    let number = frame.payload.first_chunk().expect("number");
                    *self.stored.entry(u64::from_le_bytes(*number)).or_default() += 1;
                }
            }
            self.lanes.take(accepted.key, header.last);
        }
    }
}

/// A process of an edge.
struct Process {
    writer: LaneWriter,
    spool: Spool,
    _keeper: event_journal::SyncThread,
    connection: Option<Welcome>,
    dir: TempDir,
}

impl Process {
    fn start(dir: TempDir) -> Self {
        let OpenJournal {
            mut writers,
            readers,
            ids,
            sync_thread,
            ..
        } = open(dir.path());
        Self {
            writer: writers.remove(0),
            spool: unconnected(ids, readers, 4_096),
            _keeper: sync_thread,
            connection: None,
            dir,
        }
    }

    fn end(self) -> TempDir {
        self.dir
    }

    fn connect(&mut self, aggregator: &mut Aggregator) {
        self.disconnect();
        let welcome = aggregator.hello(&self.spool);
        match self.spool.welcome(&welcome) {
            Ok(()) => self.connection = Some(welcome),
            Err(_) => self.disconnect(),
        }
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.spool.disconnected();
    }

    /// Sends up to `batches`; when the connection then `breaks`, others were on their way.
    fn send(&mut self, aggregator: &mut Aggregator, batches: usize, breaks: bool) {
        let now = Instant::now();
        self.spool.seal_due(now);
        self.spool.seal_due(now + Duration::from_secs(1));
        let Some(welcomed) = self.connection.clone() else {
            return;
        };
        for _ in 0..batches {
            let Some(batch) = self.spool.next_batch() else {
                break;
            };
            aggregator.offer(&welcomed, batch);
        }
        if breaks {
            while self.spool.next_batch().is_some() {}
            self.disconnect();
        }
    }

    fn hear(&mut self, aggregator: &Aggregator) {
        let Some(welcomed) = self.connection.clone() else {
            return;
        };
        for LaneState { lane, journal, .. } in welcomed.lanes {
            let key = LaneKey {
                node: NODE,
                lane,
                journal,
            };
            let Some(state) = aggregator.lanes.state(key) else {
                continue;
            };
            let ack = Ack {
                lane,
                journal,
                taken: state.taken,
            };
            // A copy may have sent events that this process has not sent yet.
            if self.spool.acknowledge(&ack).is_err() {
                return self.disconnect();
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        edge: usize,
        events: usize,
    },
    Connect {
        edge: usize,
    },
    Send {
        edge: usize,
        batches: usize,
        breaks: bool,
    },
    Insert,
    Hear {
        edge: usize,
    },
    Clone {
        edge: usize,
    },
    Restart {
        edge: usize,
    },
    /// The directory is restored from the copy of the last clone.
    Restore {
        edge: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let edge = || 0..3_usize;
    prop_oneof![
        6 => (edge(), 1..12_usize).prop_map(|(edge, events)| Step::Append { edge, events }),
        4 => edge().prop_map(|edge| Step::Connect { edge }),
        6 => (edge(), 1..4_usize, prop::bool::weighted(0.2))
            .prop_map(|(edge, batches, breaks)| Step::Send { edge, batches, breaks }),
        3 => Just(Step::Insert),
        3 => edge().prop_map(|edge| Step::Hear { edge }),
        1 => edge().prop_map(|edge| Step::Clone { edge }),
        1 => edge().prop_map(|edge| Step::Restart { edge }),
        1 => edge().prop_map(|edge| Step::Restore { edge }),
    ]
}

#[derive(Default)]
struct World {
    aggregator: Aggregator,
    processes: Vec<Process>,
    /// The events in the directory of each process.
    written: Vec<BTreeSet<u64>>,
    backup: Option<(TempDir, BTreeSet<u64>)>,
    appended: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        let dir = tempfile::tempdir().expect("temporary directory");
        world.processes.push(Process::start(dir));
        world.written.push(BTreeSet::new());
        world
    }

    fn apply(&mut self, step: &Step) {
        let edges = self.processes.len();
        match *step {
            Step::Append { edge, events } => {
                let edge = edge % edges;
                for _ in 0..events {
                    append_one(&mut self.processes[edge].writer, self.appended, 1_000);
                    self.written[edge].insert(self.appended);
                    self.appended += 1;
                }
            }
            Step::Connect { edge } => self.processes[edge % edges].connect(&mut self.aggregator),
            Step::Send {
                edge,
                batches,
                breaks,
            } => self.processes[edge % edges].send(&mut self.aggregator, batches, breaks),
            Step::Insert => self.aggregator.insert(),
            Step::Hear { edge } => self.processes[edge % edges].hear(&self.aggregator),
            Step::Clone { edge } if edges < 3 => {
                let edge = edge % edges;
                let dir = copy(self.processes[edge].dir.path());
                self.backup = Some((copy(dir.path()), self.written[edge].clone()));
                self.processes.push(Process::start(dir));
                self.written.push(self.written[edge].clone());
            }
            Step::Clone { .. } => {}
            Step::Restart { edge } => {
                let dir = self.processes.remove(edge % edges).end();
                self.processes.insert(edge % edges, Process::start(dir));
            }
            Step::Restore { edge } => {
                if let Some((backup, written)) = self.backup.take() {
                    drop(self.processes.remove(edge % edges).end());
                    self.processes.insert(edge % edges, Process::start(backup));
                    self.written[edge % edges] = written;
                }
            }
        }
    }

    /// Each process connects in turn until nothing is left to be sent.
    fn settle(&mut self) {
        for _ in 0..200 {
            for process in &mut self.processes {
                process.connect(&mut self.aggregator);
                process.send(&mut self.aggregator, 100, false);
                self.aggregator.insert();
                process.hear(&self.aggregator);
            }
            if self.processes.iter().all(|it| it.spool.is_drained()) {
                return;
            }
        }
        panic!("not everything was shipped");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn events_of_copied_directories_are_stored_once(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.apply(step));
        world.settle();
        let stored = &world.aggregator.stored;
        for (number, times) in stored {
            prop_assert_eq!(*times, 1, "event {}", number);
        }
        for written in &world.written {
            let lost: Vec<_> = written.iter().filter(|it| !stored.contains_key(it)).collect();
            prop_assert!(lost.is_empty(), "lost {:?}", lost);
        }
    }
}

#[test]
fn cloned_directories_that_both_run_lose_no_event() {
    let mut world = World::new();
    let steps = [
        Step::Append {
            edge: 0,
            events: 30,
        },
        Step::Clone { edge: 0 },
        Step::Restart { edge: 0 },
        // Both are welcomed before either has sent anything of its own.
        Step::Connect { edge: 0 },
        Step::Connect { edge: 1 },
        Step::Append {
            edge: 0,
            events: 20,
        },
        Step::Append {
            edge: 1,
            events: 20,
        },
        Step::Send {
            edge: 0,
            batches: 30,
            breaks: true,
        },
        Step::Send {
            edge: 1,
            batches: 30,
            breaks: false,
        },
        Step::Insert,
    ];
    steps.iter().for_each(|step| world.apply(step));
    world.settle();
    assert_eq!(world.aggregator.stored.len(), 70);
    assert!(world.aggregator.stored.values().all(|times| *times == 1));
}
