//! Where time goes: each thread adds up what it spends in each stage of the work.

use std::cell::Cell;
use std::ops::{AddAssign, Index};
use std::time::{Duration, Instant};

/// A stage of the way from stored bytes to pixels or shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Bytes from a disk, or the wait for those of a network.
    Read,
    /// From bytes to pixels.
    Decode,
    /// Cutting, resampling, turning.
    Resize,
    /// From pixels to bytes.
    Encode,
    /// Digests, figures and hashes of what is read or decoded.
    Measure,
    /// Laying out, hashing and writing a shard.
    Write,
    /// A worker that has nothing to do until results before its own are taken.
    Blocked,
}

impl Stage {
    pub const ALL: [Stage; 7] = [
        Stage::Read,
        Stage::Decode,
        Stage::Resize,
        Stage::Encode,
        Stage::Measure,
        Stage::Write,
        Stage::Blocked,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Decode => "decode",
            Stage::Resize => "resize",
            Stage::Encode => "encode",
            Stage::Measure => "measure",
            Stage::Write => "write",
            Stage::Blocked => "blocked",
        }
    }
}

/// Time spent, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent([Duration; Stage::ALL.len()]);

impl Index<Stage> for Spent {
    type Output = Duration;

    fn index(&self, stage: Stage) -> &Duration {
        &self.0[stage as usize]
    }
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Spent) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

thread_local! { static SPENT: Cell<Spent> = const { Cell::new(Spent([Duration::ZERO; Stage::ALL.len()])) }; }

/// Does `work` on this thread's account of `stage`. What is timed within it counts there and not here.
pub fn timed<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    let total = |spent: &Spent| spent.0.iter().sum::<Duration>();
    let (before, start) = (total(&SPENT.get()), Instant::now());
    let value = work();
    let mut spent = SPENT.get();
    let within = total(&spent) - before;
    spent.0[stage as usize] += start.elapsed().saturating_sub(within);
    SPENT.set(spent);
    value
}

/// Closes this thread's account and gives what stood in it.
pub fn take() -> Spent {
    SPENT.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_counts_in_one_stage_only() {
        let spin = |least: Duration| {
            let start = Instant::now();
            while start.elapsed() < least {}
        };
        let start = Instant::now();
        timed(Stage::Read, || {
            spin(Duration::from_millis(2));
            timed(Stage::Decode, || spin(Duration::from_millis(3)));
        });
        let all = start.elapsed();
        let spent = take();
        assert!(spent[Stage::Decode] >= Duration::from_millis(3));
        assert!(spent[Stage::Read] >= Duration::from_millis(2));
        assert!(spent[Stage::Read] + spent[Stage::Decode] <= all);
        assert_eq!(take(), Spent::default());
    }
}
