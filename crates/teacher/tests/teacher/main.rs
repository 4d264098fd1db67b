//! The crate's one integration binary. What each module is for:
//!
//! | module | drives |
//! |---|---|
//! | `steps` | scores with and without a cache, training step by step, state, refusals |
//! | `synonyms` | a reranker made from word vectors learns words that never occur on both sides |
//! | `demo` | a reranker for the built-in collection against the encoder that it was made from |
#![allow(clippy::print_stderr, missing_docs)]

mod demo;
mod steps;
mod synonyms;
