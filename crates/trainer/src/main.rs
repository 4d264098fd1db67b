//! The command `trainer`: parse, dispatch, print the one line of an error, exit.

mod account;
mod args;
mod batches;
mod batchlog;
mod checkpoint;
mod columns;
mod commands;
mod compare;
mod compared;
mod config;
mod data;
mod device;
mod errors;
mod evaluation;
mod guide;
mod inspect;
mod interrupt;
mod kept_rows;
mod labels;
mod models;
mod output;
mod plan;
mod plot;
mod reading;
mod recipes;
mod report;
mod reranker;
mod rounds;
mod rows;
mod runfolder;
mod runlog;
mod setup;
mod side_files;
mod splits;
mod stage;
mod step;
mod tensorboard;
mod train;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Before anything is allocated: the temporaries of every step are large.
    kernels::keep_freed_memory();
    kernels::keep_tuning();
    let cli = args::Cli::parse();
    output::start_tracing();
    let command = cli.command.unwrap_or_else(|| args::Command::Train(args::TrainArgs::default()));
    match commands::run(command).and_then(|()| output::complete()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(errors::exit_code(&error))
        }
    }
}
