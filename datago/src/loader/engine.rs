//! Threads that make batches ahead, and a queue that hands them over in the order in which they were asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::job::{Batch, Job, Options};
use crate::error::{Error, Result};
use crate::pool;

/// How often to look up from waiting, to notice Ctrl-C.
const TICK: Duration = Duration::from_millis(100);

#[derive(Default)]
struct State {
    /// Samples that no thread has taken yet.
    tasks: VecDeque<(Arc<Job>, usize)>,
    /// Batches that were not handed over yet.
    jobs: VecDeque<Arc<Job>>,
    stopped: bool,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to do, or nothing any more.
    wake: Condvar,
    /// A batch is done.
    done: Condvar,
    options: Options,
}

pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    process: u32,
}

impl Engine {
    /// `threads` 0: one for each core.
    pub fn start(threads: usize, options: Options) -> Result<Self> {
        let shared =
            Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), done: Condvar::new(), options });
        let spawn = |_| {
            let shared = Arc::clone(&shared);
            let started = Builder::new().name("datago-loader".into()).spawn(move || shared.work());
            started.map_err(|e| Error::Storage(format!("could not start a thread: {e}")))
        };
        let threads = (0..pool::threads(threads, usize::MAX)).map(spawn).collect::<Result<_>>()?;
        Ok(Engine { shared, threads: Mutex::new(threads), process: std::process::id() })
    }

    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// A forked child has none of the threads, and locks that may be held for ever.
    pub fn check_process(&self) -> Result<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(Error::Config(
            "this stream was begun in another process, and its threads are there: begin it in the process that uses \
             it (pass the stream on before its first batch, or make a new one with resume=token)"
                .into(),
        ))
    }

    /// Asks for a batch.
    pub fn submit(&self, job: Job) -> Result<()> {
        let job = Arc::new(job);
        let mut state = self.shared.lock();
        if state.stopped {
            return Err(Error::Config("the stream is closed".into()));
        }
        state.tasks.extend((0..job.len()).map(|index| (Arc::clone(&job), index)));
        state.jobs.push_back(job);
        drop(state);
        self.shared.wake.notify_all();
        Ok(())
    }

    /// The next batch that was asked for. After a timeout it can be waited for again.
    pub fn next(&self, timeout: Option<Duration>, mut tick: impl FnMut() -> Result<()>) -> Result<Batch> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.shared.lock();
        let job = loop {
            match state.jobs.front() {
                _ if state.stopped => return Err(Error::Config("the stream is closed".into())),
                None => return Err(Error::Config("no batch was asked for".into())),
                Some(job) if job.is_done() => break state.jobs.pop_front(),
                Some(_) => {}
            }
            let left = until.map_or(TICK, |until| until.saturating_duration_since(Instant::now()).min(TICK));
            if left.is_zero() {
                let seconds = timeout.unwrap_or_default().as_secs_f64();
                return Err(Error::Timeout(format!(
                    "no batch was ready within {seconds} s; the stream goes on: ask again, or give it longer"
                )));
            }
            let (held, waited) =
                self.shared.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = held;
            if waited.timed_out() {
                drop(state);
                tick()?;
                state = self.shared.lock();
            }
        };
        drop(state);
        match job {
            Some(job) => job.finish(self.shared.options.wanted.payloads.len()),
            None => Err(Error::Config("no batch was asked for".into())),
        }
    }

    /// Lets the threads go, and drops what they had not done.
    pub fn stop(&self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        state.tasks.clear();
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.shared.wake.notify_all();
        self.shared.done.notify_all();
        jobs.iter().for_each(|job| job.stop());
    }

    /// Waits until the threads are gone.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.check_process().is_ok() {
            self.stop();
        }
    }
}

impl Shared {
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let (job, index) = loop {
                if state.stopped {
                    return;
                }
                match state.tasks.pop_front() {
                    Some(task) => break task,
                    None => state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(state);
            if job.make(index, &self.options) {
                // Under the lock, so that who waits either saw it or is woken.
                let _held = self.lock();
                self.done.notify_all();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
