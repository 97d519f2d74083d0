//! Memory that NumPy borrows, used again once nobody has the array any more. Fresh pages from the system cost more than a
//! resample (docs/decisions/2026-11-28-arrays-on-used-memory.md).
#![allow(unsafe_code)]

use std::sync::Mutex;

use numpy::PyArrayDyn;
use numpy::ndarray::{ArrayViewD, IxDyn};
use pyo3::prelude::*;

/// No more than this is kept for later.
const KEPT_BYTES: usize = 256 << 20;

static POOL: Pool = Pool(Mutex::new(Vec::new()));

/// Buffers that nobody has, the one that came back last at the end.
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    // Who can not look at once goes without: a forked child may never get the lock.

    fn take(&self, length: usize) -> Vec<u8> {
        let kept = self.0.try_lock().ok().and_then(|mut kept| {
            let fits = |buffer: &Vec<u8>| buffer.capacity() >= length && buffer.capacity() / 2 <= length;
            kept.iter().rposition(fits).map(|at| kept.remove(at))
        });
        match kept {
            Some(mut buffer) => {
                buffer.resize(length, 0);
                buffer
            }
            None => vec![0; length],
        }
    }

    fn give(&self, buffer: Vec<u8>) {
        if let Ok(mut kept) = self.0.try_lock() {
            kept.push(buffer);
            let mut bytes: usize = kept.iter().map(Vec::capacity).sum();
            while bytes > KEPT_BYTES {
                bytes -= kept.remove(0).capacity();
            }
        }
    }
}

/// A buffer of `length` bytes with anything in it.
pub fn take(length: usize) -> Vec<u8> {
    POOL.take(length)
}

/// The owner of an array's memory, as Python sees it: the array's base.
#[pyclass(frozen, module = "datago._core")]
struct Lent(Vec<u8>);

impl Drop for Lent {
    fn drop(&mut self) {
        POOL.give(std::mem::take(&mut self.0));
    }
}

/// An array of uint8 on `data`, which holds as many bytes as the shape says.
pub fn lend<'py>(py: Python<'py>, data: Vec<u8>, shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    let lent = Bound::new(py, Lent(data))?;
    let view = ArrayViewD::from_shape(IxDyn(shape), &lent.get().0)
        .map_err(|cause| crate::error::Error::Input(format!("pixels do not fit their shape: {cause}")))?;
    // SAFETY: the memory belongs to `lent`, which the array keeps alive as its base. Nothing reads, writes, moves or frees
    // it before `lent` is dropped, when the array and all views of it are gone.
    let array = unsafe { PyArrayDyn::borrow_from_array(&view, lent.clone().into_any()) };
    Ok(array.into_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_came_back_is_taken_again_and_not_for_something_much_smaller() {
        let pool = Pool(Mutex::default());
        let first = pool.take(1_234_567);
        let place = first.as_ptr();
        pool.give(first);
        let small = pool.take(123_456);
        assert_ne!(small.as_ptr(), place);
        let again = pool.take(1_200_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 1_200_000));
    }

    #[test]
    fn no_more_is_kept_than_the_cap() {
        let pool = Pool(Mutex::default());
        for _ in 0..20 {
            pool.give(vec![0; 32 << 20]);
        }
        let kept: usize =
            pool.0.lock().map(|kept| kept.iter().map(Vec::capacity).sum()).unwrap_or(usize::MAX);
        assert!(kept <= KEPT_BYTES, "{kept}");
    }
}
