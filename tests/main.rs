//! The integration tests: the real command over real files, in temporary folders, on the CPU device.
//!
//! `command`   runs the command; `collections` makes small collections
//! `errors`    wrong requests: exit code, one line, the nearest right thing
//! `files`     mine, encode, search, evaluate, export: from files to files
//! `training`  a run and what it leaves behind
//! `software`  the loop on a software GPU
//! `resume`    Ctrl-C and kill -9 at any moment, then --resume

mod collections;
mod command;
mod errors;
mod files;
mod resume;
mod software;
mod training;
