//! The whole answer to a question: a layout, its figures with error bars, and what they rest on.
//!
//! Pure: puts [`crate::fit`], [`crate::uncertainty`], [`crate::plan`] and [`crate::conditions`] together.

use serde::Serialize;

use crate::calibration::{Calibration, Points};
use crate::conditions;
use crate::criterion::{Measured, UserCosts};
use crate::fit::{FitError, Model};
use crate::plan::{Figures, Layout, PlanError, Question};
use crate::uncertainty::{self, Figure};

/// The place in the range of [`crate::usl::Usl::assumed`] that is planned with.
const ASSUMED_SCALING: f64 = 0.5;

/// What is known before anything is asked.
pub(crate) struct Knowledge {
    /// The model of all runs.
    pub(crate) model: Model,
    /// The models of resampled runs.
    pub(crate) resampled: Vec<Model>,
    /// What the models were fitted to.
    pub(crate) points: Points,
    /// What user space costs.
    pub(crate) user: UserCosts,
    /// Benchmarks that were found.
    pub(crate) benchmarks: Vec<Measured>,
    /// What is to be said about them.
    pub(crate) notes: Vec<String>,
}

/// A cost with its error bar, in seconds of CPU.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    /// Its name in the formulas.
    pub(crate) name: &'static str,
    /// What it is a cost of.
    pub(crate) of: &'static str,
    /// The part that benchmarks show.
    pub(crate) user_secs: Option<f64>,
    /// All of it.
    pub(crate) secs: Figure,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    /// What was asked.
    pub(crate) question: Question,
    /// Shards and nodes.
    pub(crate) layout: Layout,
    /// Shards of all nodes.
    pub(crate) shards: Figure,
    /// Nodes.
    pub(crate) nodes: Figure,
    /// What they will do.
    pub(crate) figures: Figures<Figure>,
    /// What things cost.
    pub(crate) costs: Vec<Cost>,
    /// Capacity of shards in a process relative to one: measured numbers of shards and the planned one.
    pub(crate) scaling: Vec<(u32, Figure)>,
    /// The model.
    pub(crate) model: Model,
    /// Models resampled for the error bars.
    pub(crate) resamples: usize,
    /// Ids of the benchmarks that were found.
    pub(crate) benchmarks: Vec<String>,
    /// What was not measured.
    pub(crate) conditions: Vec<String>,
}

impl Knowledge {
    /// Fits the models.
    pub(crate) fn gain(calibration: &Calibration, benchmarks: Vec<Measured>) -> Result<Self, FitError> {
        let points = calibration.points();
        let user = UserCosts::of(&benchmarks);
        let model = Model::fit(&points, &user, ASSUMED_SCALING)?;
        let notes = conditions::of_calibration(calibration, &model, &user);
        let resampled = uncertainty::resampled(&calibration.runs, &benchmarks);
        Ok(Self { model, resampled, points, user, benchmarks, notes })
    }

    /// Answers.
    pub(crate) fn answer(&self, question: Question) -> Result<Answer, PlanError> {
        let layout = question.layout(&self.model)?;
        let samples: Vec<Figures<f64>> =
            self.resampled.iter().map(|model| question.figures(model, &layout)).collect();
        let layouts: Vec<Layout> =
            self.resampled.iter().filter_map(|model| question.layout(model).ok()).collect();
        let whole = |value: u32, figure: fn(&Layout) -> u32| {
            let samples = layouts.iter().map(|layout| f64::from(figure(layout)));
            Figure::of(f64::from(value), samples, 0.0)
        };
        let models_short = self.resampled.len() - layouts.len();
        let mut said = conditions::of_plan(&question, &layout, &self.model, &self.points, models_short);
        let figures = question.figures(&self.model, &layout).with_bars(&samples, &self.model.residuals);
        said.extend(conditions::of_figures(&question, &figures));
        said.extend(self.notes.iter().cloned());
        Ok(Answer {
            question,
            layout,
            shards: whole(layout.shards(), Layout::shards),
            nodes: whole(layout.nodes, |layout| layout.nodes),
            figures,
            costs: self.costs(),
            scaling: self.scaling(layout.shards_per_node),
            model: self.model.clone(),
            resamples: self.resampled.len(),
            benchmarks: self.benchmarks.iter().map(|benchmark| benchmark.id.clone()).collect(),
            conditions: said,
        })
    }

    fn costs(&self) -> Vec<Cost> {
        let cost = |name, of, user_secs, pick: fn(&Model) -> f64| {
            let residual = self.model.residuals.cpu;
            let secs = Figure::of(pick(&self.model), self.resampled.iter().map(pick), residual);
            Cost { name, of, user_secs, secs }
        };
        let user = &self.user;
        vec![
            cost("c_turn", "a turn: wake-up, ring, bookkeeping", None, |model| model.costs.turn),
            cost("c_mail", "a message in a shard", user.mail, |model| model.costs.mail),
            cost("c_message", "a message in the Redis thread", user.message, |model| model.costs.message),
            cost("c_message_byte", "a byte of its data", user.message_byte, |model| model.costs.message_byte),
            cost("c_send", "a send to a connection", user.send, |model| model.costs.send),
            cost("c_delivery", "a message in a send", user.delivery, |model| model.costs.delivery),
            cost("c_byte", "a byte in a send", None, |model| model.costs.byte),
            cost("c_idle", "an idle connection, a second", None, |model| model.costs.idle_connection),
        ]
    }

    fn scaling(&self, planned: u32) -> Vec<(u32, Figure)> {
        let mut counts: Vec<u32> = self.points.loads.iter().map(|point| point.shape.shards).collect();
        counts.extend([1, planned]);
        counts.sort_unstable();
        counts.dedup();
        let capacity = |shards| {
            let samples = self.resampled.iter().map(|model| model.costs.scaling.capacity(shards));
            (shards, Figure::of(self.model.costs.scaling.capacity(shards), samples, 0.0))
        };
        counts.into_iter().map(capacity).collect()
    }
}
