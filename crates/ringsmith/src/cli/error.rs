//! What an error says to the person at the terminal.

use std::io::{self, ErrorKind};

/// The chain of causes on one line, with advice where there is something to do.
pub fn describe(error: &anyhow::Error) -> String {
    let said = format!("{error:#}");
    match io_kind(error) {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => format!(
            "{said}\nThe disk is full. Finished stages are safe; free some space and run the same command again."
        ),
        _ => said,
    }
}

/// The reader of stdout has gone.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    io_kind(error) == Some(ErrorKind::BrokenPipe)
}

fn io_kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.chain().find_map(|cause| match cause.downcast_ref::<io::Error>() {
        Some(e) => Some(e.kind()),
        None => cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_full_disk_is_told_from_other_errors() {
        let full =
            Err::<(), _>(io::Error::from(ErrorKind::StorageFull)).context("writing store/x").unwrap_err();
        let said = describe(&full);
        assert!(said.starts_with("writing store/x: ") && said.contains("Finished stages are safe"), "{said}");
        let other = anyhow::anyhow!("no such thing").context("reading y");
        assert_eq!(describe(&other), "reading y: no such thing");
        assert!(!is_broken_pipe(&full) && is_broken_pipe(&io::Error::from(ErrorKind::BrokenPipe).into()));
    }
}
