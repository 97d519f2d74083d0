//! What went wrong with a service, in one line that holds no secret: never a reply's body, which may quote the request.

use std::error::Error as _;

use object_store::Error as Cause;
use object_store::client::{HttpError, HttpErrorKind};

use super::{Location, Settings};
use crate::error::Error;
use crate::reason::{Failure, Reason};

impl Location {
    /// The verdict on an input that could not be read.
    pub fn unreadable(&self, cause: &Cause) -> Failure {
        self.unread(&explain(&self.client.settings, cause))
    }

    pub fn unread(&self, why: &str) -> Failure {
        Failure::new(Reason::Unreadable, format!("Could not read {}: {why}.", self.url()))
    }

    pub fn unwritten(&self, cause: &Cause) -> Error {
        Error::Storage(format!("could not write {}: {}", self.url(), explain(&self.client.settings, cause)))
    }
}

/// One line for one cause.
pub fn explain(settings: &Settings, cause: &Cause) -> String {
    let reply = cause.to_string();
    let code = code(&reply).unwrap_or("no code");
    let text = match (cause, http(cause)) {
        (Cause::NotFound { .. }, _) if code == "NoSuchBucket" => "there is no such bucket".into(),
        (Cause::NotFound { .. }, _) => "there is no such object".into(),
        (Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. }, _) => {
            format!("{} refused the credentials ({code})", service(settings))
        }
        (_, Some(HttpErrorKind::Timeout)) => {
            format!("{} sent nothing for {} s", service(settings), settings.timeout)
        }
        (_, Some(HttpErrorKind::Connect)) => {
            format!("no connection to {}: {}", service(settings), innermost(cause))
        }
        (_, Some(_)) => format!("the connection to {} broke: {}", service(settings), innermost(cause)),
        _ => match status(&reply) {
            Some(status) => format!("{} answered {status} ({code})", service(settings)),
            None => innermost(cause),
        },
    };
    redacted(settings, text)
}

fn service(settings: &Settings) -> &str {
    settings.endpoint.as_deref().unwrap_or("S3")
}

/// What kind of trouble HTTP had, if it was HTTP's.
fn http(cause: &Cause) -> Option<HttpErrorKind> {
    let mut source = cause.source();
    while let Some(inner) = source {
        if let Some(found) = inner.downcast_ref::<HttpError>() {
            return Some(found.kind());
        }
        source = inner.source();
    }
    None
}

/// The first of all causes, which says most in least.
fn innermost(cause: &Cause) -> String {
    let mut text = String::from("no reason was given");
    let mut source = cause.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    // A reply quoted whole says nothing more: its code was looked for before.
    if text.contains('<') { "the answer is no answer of S3".into() } else { text }
}

/// The error code of a reply.
fn code(reply: &str) -> Option<&str> {
    let (_, rest) = reply.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let word = !code.is_empty() && code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    word.then_some(code)
}

/// The HTTP status of a reply.
fn status(reply: &str) -> Option<&str> {
    let (_, rest) = reply.split_once("status code: ")?;
    rest.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Nothing above quotes a secret; this holds even if a library below does one day.
fn redacted(settings: &Settings, text: String) -> String {
    let secrets = [&settings.secret_key, &settings.session_token];
    // No service gives out secrets so short that they could be part of a word.
    let known = secrets.into_iter().flatten().filter(|secret| secret.len() >= 8);
    known.fold(text, |text, secret| text.replace(secret.as_str(), "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_told_by_its_code_and_never_quoted() {
        let body = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>InvalidAccessKeyId</Code>\
                    <AWSAccessKeyId>AKID</AWSAccessKeyId></Error>";
        let denied = Cause::PermissionDenied { path: "k".into(), source: body.into() };
        assert_eq!(
            explain(&Settings::example(), &denied),
            "http://host refused the credentials (InvalidAccessKeyId)"
        );
        let busy = "Server returned non-2xx status code: 503 Service Unavailable: <Code>SlowDown</Code>";
        let busy = Cause::Generic { store: "S3", source: busy.into() };
        assert_eq!(explain(&Settings::example(), &busy), "http://host answered 503 (SlowDown)");
    }

    #[test]
    fn a_code_is_one_word() {
        assert_eq!(code("<Code>NoSuchKey</Code>"), Some("NoSuchKey"));
        for bad in ["", "<Code></Code>", "<Code>a b</Code>", "<Code>x"] {
            assert_eq!(code(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_secret_is_blotted_out_wherever_it_came_from() {
        let odd = Cause::Generic { store: "S3", source: "no canary-key, no canary-token".into() };
        assert_eq!(explain(&Settings::example(), &odd), "no ***, no ***");
    }
}
