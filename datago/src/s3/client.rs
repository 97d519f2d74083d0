//! The one network of the process: its threads, and a client for each service and credentials.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, Certificate, ClientOptions, HeaderValue, RetryConfig};
use tokio::runtime::{Builder, Runtime};

use super::Settings;
use crate::error::{Error, Result};

/// Requests are waited for here, nothing is computed.
const THREADS: usize = 2;
/// Credentials that change leave clients behind; the oldest goes first.
const CLIENTS: usize = 16;
const CONNECT: Duration = Duration::from_secs(10);

/// A service as one pair of credentials sees it.
pub struct Client {
    pub settings: Settings,
    pub store: AmazonS3,
}

pub struct Network {
    process: u32,
    pub runtime: Runtime,
    clients: Mutex<VecDeque<Arc<Client>>>,
}

/// The network of this process. A forked child has none of its parent's threads, and gets a network of its own.
pub fn network() -> Result<&'static Network> {
    static CURRENT: Mutex<Option<&'static Network>> = Mutex::new(None);
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if let Some(network) = current.filter(|network| network.process == process) {
        return Ok(network);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("datago-s3")
        .enable_all()
        .build()
        .map_err(|e| Error::Storage(format!("could not start the threads that talk to S3: {e}")))?;
    // Another provider that was there before serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let network: &'static Network =
        Box::leak(Box::new(Network { process, runtime, clients: Mutex::default() }));
    *current = Some(network);
    Ok(network)
}

impl Network {
    /// The client of these settings, which connections are kept for.
    pub fn client(&self, settings: Settings) -> Result<Arc<Client>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clients.iter().find(|client| client.settings == settings) {
            return Ok(Arc::clone(known));
        }
        let client = Arc::new(Client { store: connect(&settings)?, settings });
        clients.push_back(Arc::clone(&client));
        if clients.len() > CLIENTS {
            clients.pop_front();
        }
        Ok(client)
    }
}

fn connect(settings: &Settings) -> Result<AmazonS3> {
    let bad = |cause: &object_store::Error| {
        Error::Config(format!("S3: {}", super::explain::explain(settings, cause)))
    };
    let plain = settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut options = ClientOptions::new()
        .with_user_agent(HeaderValue::from_static(concat!("datago/", env!("CARGO_PKG_VERSION"))))
        .with_connect_timeout(CONNECT.min(Duration::from_secs(settings.timeout)))
        .with_read_timeout(Duration::from_secs(settings.timeout))
        // A large object may take its time, as long as bytes keep coming.
        .with_timeout_disabled()
        .with_allow_http(plain)
        .with_no_system_certificates(plain);
    if !plain {
        for certificate in trusted()? {
            options = options.with_root_certificate(certificate);
        }
    }
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(!by_path(settings))
        .with_client_options(options)
        .with_retry(retries(settings));
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(address(endpoint, settings));
    }
    builder = match (&settings.access_key, &settings.secret_key) {
        (Some(access), Some(secret)) => builder.with_access_key_id(access).with_secret_access_key(secret),
        _ => builder.with_skip_signature(true),
    };
    if let Some(token) = &settings.session_token {
        builder = builder.with_token(token);
    }
    builder.build().map_err(|cause| bad(&cause))
}

/// What is tried again, and how long: only what another attempt may mend (5xx, 408, 429, a connection that broke).
fn retries(settings: &Settings) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        base: 2.,
    };
    RetryConfig {
        backoff,
        max_retries: settings.attempts.saturating_sub(1),
        retry_timeout: Duration::from_secs(180),
    }
}

/// A name with dots is no host that a certificate covers.
fn by_path(settings: &Settings) -> bool {
    settings.path_style || settings.bucket.contains('.')
}

/// The endpoint as the client wants it: with the bucket as its host's first label unless the style is by path.
fn address(endpoint: &str, settings: &Settings) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) if !by_path(settings) => format!("{scheme}://{}.{host}", settings.bucket),
        _ => endpoint.to_owned(),
    }
}

/// Authorities to trust beside the platform's: those of the file that boto3 and the AWS tools read too.
fn trusted() -> Result<Vec<Certificate>> {
    let Some(file) = std::env::var_os("AWS_CA_BUNDLE").filter(|file| !file.is_empty()) else {
        return Ok(Vec::new());
    };
    let shown = file.display();
    let text = std::fs::read(&file).map_err(|e| Error::Config(format!("AWS_CA_BUNDLE, {shown}: {e}")))?;
    Certificate::from_pem_bundle(&text)
        .map_err(|_| Error::Config(format!("AWS_CA_BUNDLE, {shown}: it holds no PEM certificates")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_the_first_label_of_the_host_unless_the_style_is_by_path() {
        let mut settings = Settings::example();
        assert_eq!(address("https://host:1/x", &settings), "https://host:1/x");
        settings.path_style = false;
        assert_eq!(address("https://host:1/x", &settings), "https://b.host:1/x");
        settings.bucket = "a.b".into();
        assert_eq!(address("https://host:1/x", &settings), "https://host:1/x");
    }

    #[test]
    fn a_client_is_kept_for_its_credentials_and_the_oldest_goes_first() {
        let network = network().expect("a network");
        let with = |key: usize| Settings { secret_key: Some(key.to_string()), ..Settings::example() };
        let client = |key| network.client(with(key)).expect("a client");
        let first = client(0);
        assert!(Arc::ptr_eq(&first, &client(0)));
        assert!(!Arc::ptr_eq(&first, &client(1)));
        (2..=CLIENTS).for_each(|key| drop(client(key)));
        assert!(!Arc::ptr_eq(&first, &client(0)));
    }
}
