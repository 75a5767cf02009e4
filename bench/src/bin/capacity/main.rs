//! `capacity`: how many shards and nodes a load needs, and what they will do, from measurements of one machine.
//!
//! [`criterion`] reads what user space costs and [`calibration`] reads runs of `loadgen`; [`fit`] makes a [`model`]
//! of them with the contention of [`usl`], and [`uncertainty`] its error bars; [`plan`] searches the layout,
//! [`answer`] puts everything together, [`conditions`] says what was not measured and [`text`] prints it. [`check`]
//! holds the model beside runs it has not seen. Only this file, [`criterion`] and [`calibration`] touch files.

mod answer;
mod args;
mod calibration;
mod check;
mod conditions;
mod criterion;
mod fit;
mod least_squares;
mod model;
mod plan;
mod random;
#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;
mod text;
mod uncertainty;
mod units;
mod usl;
mod wire;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use thiserror::Error;

use crate::answer::Knowledge;
use crate::args::{Args, Task};
use crate::calibration::CalibrationError;
use crate::check::Check;
use crate::criterion::CriterionError;
use crate::fit::FitError;
use crate::plan::PlanError;

/// There is no plan, or the model is too far off.
const EXIT_UNMET: u8 = 1;
/// Arguments or files are wrong.
const EXIT_WRONG: u8 = 2;

/// Why there is no answer.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    #[error(transparent)]
    Criterion(#[from] CriterionError),
    #[error("{}: {source}", path.display())]
    Fit { path: PathBuf, source: FitError },
    #[error(transparent)]
    Plan(#[from] PlanError),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match carry_out(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_UNMET),
        Err(failure) => {
            eprintln!("capacity: {failure}");
            ExitCode::from(if matches!(failure, Failure::Plan(_)) { EXIT_UNMET } else { EXIT_WRONG })
        }
    }
}

/// Answers or checks, and prints the outcome; `false` when the model is too far off.
fn carry_out(args: &Args) -> Result<bool, Failure> {
    let calibration = calibration::read(&args.calibration)?;
    let benchmarks = criterion::read(&args.criterion)?;
    let knowledge = Knowledge::gain(&calibration, benchmarks)
        .map_err(|source| Failure::Fit { path: args.calibration.clone(), source })?;
    match args.task() {
        Task::Check { file, tolerance } => {
            let held_out = calibration::read(&file)?;
            let check = Check::of(&knowledge, &held_out.points(), &held_out.left_out, tolerance);
            print(&check, args.json);
            Ok(check.is_within)
        }
        Task::Plan(question) => {
            print(&knowledge.answer(question)?, args.json);
            Ok(true)
        }
    }
}

fn print<T: Serialize + Display>(outcome: &T, as_json: bool) {
    if as_json {
        println!("{}", serde_json::to_string_pretty(outcome).expect("an outcome is plain data"));
    } else {
        print!("{outcome}");
    }
}
