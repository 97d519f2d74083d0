//! Objects of S3 services, read and written natively.

mod ahead;
mod client;
mod explain;
mod parts;
mod upload;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::path::Path;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use tokio::sync::oneshot;

pub use self::ahead::Ahead;
use self::ahead::Arrival;
use self::client::Client;
pub use self::client::network;
pub use self::parts::Parts;
pub use self::upload::upload;
use crate::error::{Error, Result};
use crate::reason::Verdict;

/// The fields of `datago.S3`. It holds credentials: never shown.
#[derive(Clone, PartialEq, Eq, FromPyObject)]
pub struct Settings {
    bucket: String,
    region: String,
    endpoint: Option<String>,
    path_style: bool,
    access_key: Option<String>,
    secret_key: Option<String>,
    session_token: Option<String>,
    timeout: u64,
    attempts: usize,
}

#[derive(FromPyObject)]
struct Object {
    s3: Settings,
    key: String,
}

/// Where an object lies.
pub struct Location {
    client: Arc<Client>,
    key: String,
}

impl Location {
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `s3://bucket/key`, for people.
    pub fn url(&self) -> String {
        format!("s3://{}/{}", self.client.settings.bucket, self.key)
    }

    /// The last part of the key.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }

    /// The key as the client sends it.
    pub fn path(&self) -> Result<Path> {
        path(&self.key).ok_or_else(|| {
            let url = self.url();
            Error::Config(format!(
                "{url} can not be addressed: a key has no empty, '.' or '..' part and no control characters"
            ))
        })
    }
}

/// An object to be read or written.
pub struct Remote {
    pub location: Arc<Location>,
    /// Where its bytes will come from, once they are under way.
    arriving: Mutex<Option<oneshot::Receiver<Arrival>>>,
}

impl Remote {
    /// The object that a `datago.S3Object` names; `None` for anything else.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class = CLASS.import(object.py(), "datago.remote", "S3Object")?;
        if !object.is_instance(class)? {
            return Ok(None);
        }
        let Object { s3, key } = object.extract()?;
        let location = Location { client: client::network()?.client(s3)?, key };
        Ok(Some(Remote { location: Arc::new(location), arriving: Mutex::new(None) }))
    }

    /// The bytes, once they are there. They must have been asked for with [`Ahead::start`].
    pub fn load(&self) -> Verdict<Vec<u8>> {
        let asked = self.arriving().take();
        match asked.and_then(|arriving| arriving.blocking_recv().ok()) {
            Some(arrival) => arrival.map(|arrived| arrived.data),
            None => Err(self.location.unread("it was stopped")),
        }
    }

    /// Lets go of bytes that nobody will ask for any more.
    pub fn forget(&self) {
        self.arriving().take();
    }

    fn arriving(&self) -> MutexGuard<'_, Option<oneshot::Receiver<Arrival>>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key is sent as it is, percent-encoded on the wire. `Path` would drop slashes at its ends, so such a key has none.
fn path(key: &str) -> Option<Path> {
    Path::parse(key).ok().filter(|path| path.as_ref() == key && !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Settings, path};

    impl Settings {
        pub fn example() -> Self {
            Settings {
                bucket: "b".into(),
                region: "us-east-1".into(),
                endpoint: Some("http://host".into()),
                path_style: true,
                access_key: Some("AKID".into()),
                secret_key: Some("canary-key".into()),
                session_token: Some("canary-token".into()),
                timeout: 30,
                attempts: 5,
            }
        }
    }

    #[test]
    fn a_key_is_addressed_as_it_is_or_not_at_all() {
        for key in ["a", "a/b.jpg", "50%/ü #1?.jpg", "a b+c=d&e", "%2F", "...", "~{x}"] {
            assert_eq!(path(key).expect(key).as_ref(), key);
        }
        for key in ["", "/a", "a/", "a//b", "a/../b", "./a", "a\nb"] {
            assert!(path(key).is_none(), "{key:?}");
        }
    }
}
