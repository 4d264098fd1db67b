//! One file per sub-command; each turns its flags into work and prints the result.

mod compare;
mod devices;
mod encode;
mod evaluate;
mod export;
mod generate;
mod inspect;
mod language_model;
mod mine;
mod recipes;
mod relabel;
mod report;
mod search;
mod train;
mod warmup;

use anyhow::Result;

use crate::args::Command;

/// Runs one sub-command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(args) => train::run(&args),
        Command::Warmup(args) => warmup::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Mine(args) => mine::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Relabel(args) => relabel::run(&args),
        Command::Encode(args) => encode::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Recipes(args) => recipes::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Devices(args) => devices::run(&args),
    }
}
