//! How failures become exit codes: a wrong request is 2, a run that failed is 1.

/// The request was wrong: a flag, a configuration value, a path that does not exist. Ends the command with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

impl Usage {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The user pressed Ctrl-C and a checkpoint was written. Ends the command with exit code 1: the run did not finish.
#[derive(Debug, thiserror::Error)]
#[error("interrupted at step {step} of {steps}; a checkpoint is written. Go on with: trainer train --resume {run}")]
pub(crate) struct Interrupted {
    pub(crate) step: usize,
    pub(crate) steps: usize,
    pub(crate) run: String,
}

/// Marks any error as the fault of the request.
pub(crate) trait OrUsage<T> {
    fn or_usage(self) -> Result<T, Usage>;
}

impl<T, E: std::fmt::Display> OrUsage<T> for Result<T, E> {
    fn or_usage(self) -> Result<T, Usage> {
        self.map_err(|error| Usage::new(error.to_string()))
    }
}

/// An error and its causes in one line. Some say themselves what caused them: no cause is said twice.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line.replace('\n', "; ")
}

/// The exit code of a failed command.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Usage>()) { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("disk full").context("a.txt: disk full").context("writing\nlists");
        assert_eq!(chain(&error), "writing; lists: a.txt: disk full");
    }
}
