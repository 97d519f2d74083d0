//! Why a picture could not be used. The codes are part of the public face: never rename one.

use std::io;

/// A stable reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No bytes at all.
    Empty,
    /// The first bytes are of no picture format we know.
    NotAnImage,
    /// A picture, but in a format or a variant of one that we do not decode.
    UnsupportedFormat,
    /// The data ends before the picture does.
    Truncated,
    /// The data contradicts its format.
    Corrupt,
    /// More bytes than the cap.
    TooLarge,
    /// More pixels than the cap.
    TooManyPixels,
    /// More memory or work than the caps, by the headers.
    TooCostly,
    /// Reading failed; trying again may work.
    Unreadable,
    /// A mask does not have the proportions of its picture.
    MaskMismatch,
    /// A decoder panicked: our bug, caught.
    Internal,
}

impl Reason {
    pub fn code(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::NotAnImage => "not_an_image",
            Reason::UnsupportedFormat => "unsupported_format",
            Reason::Truncated => "truncated",
            Reason::Corrupt => "corrupt",
            Reason::TooLarge => "too_large",
            Reason::TooManyPixels => "too_many_pixels",
            Reason::TooCostly => "too_costly",
            Reason::Unreadable => "unreadable",
            Reason::MaskMismatch => "mask_mismatch",
            Reason::Internal => "internal",
        }
    }

    pub fn retryable(self) -> bool {
        self == Reason::Unreadable
    }
}

/// A reason and one sentence for a human.
#[derive(Clone, Debug)]
pub struct Failure {
    pub reason: Reason,
    pub detail: String,
}

impl Failure {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Failure { reason, detail: detail.into() }
    }

    pub fn truncated(detail: impl Into<String>) -> Self {
        Failure::new(Reason::Truncated, detail)
    }

    pub fn corrupt(detail: impl Into<String>) -> Self {
        Failure::new(Reason::Corrupt, detail)
    }

    pub fn unsupported(detail: impl Into<String>) -> Self {
        Failure::new(Reason::UnsupportedFormat, detail)
    }

    /// A decoder reading from memory can run out of bytes or of its budget; anything else is corruption.
    pub fn from_decoder_io(cause: &io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::UnexpectedEof => Failure::truncated("The data ends before the picture does."),
            io::ErrorKind::QuotaExceeded => {
                Failure::new(Reason::TooCostly, format!("The decoder was stopped: {cause}."))
            }
            _ => Failure::corrupt(format!("The decoder stopped: {cause}.")),
        }
    }
}

pub type Verdict<T> = std::result::Result<T, Failure>;

/// Runs `work`; a panic becomes [`Reason::Internal`], so that no picture takes the process with it.
pub fn caught<T>(work: impl FnOnce() -> Verdict<T>) -> Verdict<T> {
    quiet::during(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))).unwrap_or_else(|cause| {
        let text = cause
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| cause.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Err(Failure::new(Reason::Internal, format!("The decoder panicked: {text}.")))
    })
}

/// A caught panic is a result, so it must not also print a backtrace on stderr.
mod quiet {
    use std::cell::Cell;
    use std::sync::Once;

    thread_local! { static QUIET: Cell<bool> = const { Cell::new(false) }; }
    static HOOK: Once = Once::new();

    pub fn during<T>(work: impl FnOnce() -> T) -> T {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if !QUIET.with(Cell::get) {
                    before(info);
                }
            }));
        });
        let outer = QUIET.with(|quiet| quiet.replace(true));
        let value = work();
        QUIET.with(|quiet| quiet.set(outer));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_reason() {
        let verdict: Verdict<()> = caught(|| panic!("boom"));
        let failure = verdict.expect_err("panicked");
        assert_eq!(failure.reason.code(), "internal");
        assert!(failure.detail.contains("boom"));
    }
}
