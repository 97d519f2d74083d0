//! The training loader: batches are asked for ahead, made by threads of their own, and handed over in order.

mod engine;
mod job;
pub mod python;
pub mod raw;
mod shard;

pub use self::engine::Engine;
