//! The integration tests: the real command over real files, in temporary folders, on the CPU device.
//!
//! `command`   runs the command; `collections` makes small collections
//! `compare`   recipes side by side, stopped and asked for again
//! `errors`    wrong requests: exit code, one line, the nearest right thing
//! `files`     mine, encode, search, evaluate, export: from files to files
//! `inspect`   the negatives of a query over a run
//! `language_models`   generate and relabel: kills, budgets, keys, and training on what they write
//! `matrix`    the score matrix of a step by hand
//! `parts`     parts that no recipe has by default, and how runs with them resume
//! `recipes_random`   what distinguishes the random recipes
//! `recipes_static`   what distinguishes the static recipes
//! `recipes_synthetic` what distinguishes the recipes with written queries and generated texts
//! `recipes_dynamic`  what distinguishes the dynamic, mitigating and synthetic recipes
//! `recipes_teacher`  what distinguishes those with a cross-encoder of their own
//! `training`  a run and what it leaves behind
//! `software`  the loop on a software GPU
//! `warmup`    compiling and tuning beforehand
//! `resume`    Ctrl-C and kill -9 at any moment, then --resume

mod collections;
mod command;
mod compare;
#[path = "../crates/llm/examples/endpoint/double.rs"]
#[expect(dead_code, reason = "the tests of the crate use more of it")]
mod double;
mod errors;
mod files;
mod inspect;
mod language_models;
mod matrix;
mod parts;
mod recipes_dynamic;
mod recipes_random;
mod recipes_static;
mod recipes_synthetic;
mod recipes_teacher;
mod resume;
mod software;
mod training;
mod warmup;
