//! A comparison: every recipe with every seed, under one budget, from the same weights, over the same pairs.
//!
//! `arms` are what is set side by side, `request` is what was asked for and the manifest that remembers it, `runs` trains what is missing, `figures` reads one finished run,
//! `table` puts the runs side by side, `pages` writes the table for people, `exports` for other programs. Each run is an ordinary run folder, so a comparison can be
//! stopped at any moment and asked for again.

mod arms;
mod exports;
mod figures;
mod pages;
mod request;
mod runs;
mod table;

pub(crate) use arms::texts;
pub(crate) use exports::write as export;
pub(crate) use pages::{text_table, write};
pub(crate) use request::{Budget, Request, open_folder};
pub(crate) use runs::run_all;
pub(crate) use table::{Measured, Table};
