//! The path of a parameter inside its module, kept while a module tree is walked.
//!
//! burn numbers parameters with identifiers that change from process to process; what is written to disk or named in a
//! configuration is the path instead, such as `layers.0.attention.joint.weight`.

/// The names entered so far.
#[derive(Debug, Default)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    /// The dotted form.
    pub(crate) fn dotted(&self) -> String {
        self.0.join(".")
    }
}
