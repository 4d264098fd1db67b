//! Nothing but the union of the workspace's dependencies.
//!
//! Cargo resolves features for the packages it is asked to build: `cargo test -p objective` alone would compile burn a second time, with
//! other features of some shared library, which takes a quarter of an hour. Every crate that uses burn depends on this one instead.
