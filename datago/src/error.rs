//! The one error type of the crate, and its one conversion to a Python exception.
//!
//! A bad *picture* is never an `Error`: it is a [`crate::reason::Failure`] in the result. An `Error` means the
//! whole call could not do its work.

use std::fmt;
use std::io;
use std::path::Path;

use pyo3::prelude::*;

/// Why a whole call failed, grouped by what a handler would do about it.
#[derive(Debug)]
pub enum Error {
    /// The configuration or an argument is wrong: fix the config.
    Config(String),
    /// The records handed over are wrong: fix the input.
    Input(String),
    /// Reading or writing storage failed: retry.
    Storage(String),
    /// What was stored is not what its digest or its format says.
    Damaged(String),
    /// Nothing came within the time that the caller gave.
    Timeout(String),
    /// An exception raised by Python while we ran, such as `KeyboardInterrupt`.
    Python(PyErr),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The same once more, for another who meets it: a cause that Python raised stays with the first.
    pub fn again(&self) -> Self {
        match self {
            Error::Config(text) => Error::Config(text.clone()),
            Error::Input(text) => Error::Input(text.clone()),
            Error::Damaged(text) => Error::Damaged(text.clone()),
            Error::Timeout(text) => Error::Timeout(text.clone()),
            Error::Storage(text) => Error::Storage(text.clone()),
            Error::Python(cause) => Error::Storage(cause.to_string()),
        }
    }

    /// Names the file and the operation, because an `io::Error` alone names neither.
    pub fn storage(doing: &str, path: &Path, cause: &io::Error) -> Self {
        Error::Storage(format!("could not {doing} {}: {cause}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(text)
            | Error::Input(text)
            | Error::Storage(text)
            | Error::Damaged(text)
            | Error::Timeout(text) => f.write_str(text),
            Error::Python(cause) => write!(f, "{cause}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        let (class, text) = match error {
            Error::Python(cause) => return cause,
            Error::Config(text) => ("ConfigError", text),
            Error::Input(text) => ("InputError", text),
            Error::Storage(text) => ("StorageError", text),
            Error::Damaged(text) => ("CorruptionError", text),
            Error::Timeout(text) => ("StreamTimeoutError", text),
        };
        Python::attach(|py| match py.import("datago.errors").and_then(|m| m.getattr(class)) {
            Ok(kind) => match kind.call1((text,)) {
                Ok(value) => PyErr::from_value(value),
                Err(cause) => cause,
            },
            Err(cause) => cause,
        })
    }
}
