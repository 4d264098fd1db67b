//! The crate's one integration binary. What each module is for:
//!
//! | module | drives |
//! |---|---|
//! | `golden` | forward pass, poolings, prompts and gradients against PyTorch |
//! | `golden_training` | twenty training steps against PyTorch |
//! | `minilm` | all-MiniLM-L6-v2, where its weights are at hand |
//! | `architectures` | the other families, on models that `scripts/make_architectures.py` writes |
//! | `cross_encoders` | rerankers against sentence-transformers: a BERT that needs no file, and every family on models that `scripts/make_cross_encoder_golden.py` writes |
//! | `reranker` | rerankers without outside files: scores, round trips, gradients, broken folders |
//! | `folders` | layouts, weight files, round trips, and what broken folders say |
//! | `hub` | downloads from a local server that plays the hub |
//! | `training` | devices, dropout, gradients; what a training loop relies on |
#![allow(clippy::print_stderr, missing_docs)]

mod architectures;
mod cross_encoders;
mod folders;
mod golden;
mod golden_training;
mod hub;
mod minilm;
mod reranker;
mod support;
mod training;
