//! Refuses values that make no sense, naming each.

use super::{DEEPEST, DrawConfig, FilterConfig, Merge, NegativesConfig, Short, SourceConfig, SourceKind, WindowOrder};
use crate::error::ConfigError;
use crate::schedule::Schedule;

/// Sources of a union at most: one bit each.
const UNITED: usize = 64;
/// Rows of a queue: every one is a column of every step.
const MOST_QUEUED: usize = 1 << 24;

impl NegativesConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // One number is kept for fills.
        if self.source.len() >= usize::from(u8::MAX) {
            return Err(wrong("source", self.source.len(), "at most 254 sources"));
        }
        for (index, source) in self.source.iter().enumerate() {
            check_source(&format!("source.{index}"), source)?;
        }
        for (name, is) in SINGLE {
            if self.source.iter().filter(|source| is(&source.kind)).count() > 1 {
                return Err(wrong("source", format!("\"{name}\" twice"), "it once at most"));
            }
        }
        for (index, filter) in self.filter.iter().enumerate() {
            check_filter(&format!("filter.{index}"), filter)?;
            self.check_window(&format!("filter.{index}"), filter)?;
        }
        check_draw("draw", &self.draw)?;
        self.check_together()
    }

    fn check_window(&self, field: &str, filter: &FilterConfig) -> Result<(), ConfigError> {
        let FilterConfig::RankWindow { skip, order, .. } = filter else { return Ok(()) };
        if self.below_margin() && *order == WindowOrder::Before {
            let expected = "\"after\": a source with below_margin does not know the ranks before";
            return Err(wrong(&format!("{field}.order"), "\"before\"", expected));
        }
        match self.source.iter().filter_map(|source| source.kind.depth()).find(|depth| depth <= skip) {
            Some(depth) => Err(wrong(&format!("{field}.skip"), skip, &format!("less than the depth of every source, which is {depth}"))),
            None => Ok(()),
        }
    }

    /// What only makes sense beside other settings.
    fn check_together(&self) -> Result<(), ConfigError> {
        if self.slices == 0 {
            return Err(wrong("slices", 0, "at least 1"));
        }
        if !self.decay.factor.is_finite() || self.decay.factor < 1.0 {
            return Err(wrong("decay.factor", self.decay.factor, "a number from 1 up"));
        }
        positive("decay.below", self.decay.below)?;
        if matches!(self.draw, DrawConfig::RankCurve { .. }) && self.below_margin() {
            let expected = "another draw, or sources without below_margin: the curve is one of ranks in the whole corpus";
            return Err(wrong("draw.rule", "\"rank-curve\"", expected));
        }
        let decays = |source: &SourceConfig| matches!(source.kind.refresh(), Some(Schedule::OnDecay(_)));
        for (place, source) in self.source.iter().enumerate().filter(|(_, source)| decays(source)) {
            if matches!(source.draw.as_ref().unwrap_or(&self.draw), DrawConfig::Top {}) {
                let field = if source.draw.is_some() { format!("source.{place}.draw.rule") } else { "draw.rule".to_owned() };
                let moves = format!("refresh = \"on decay …\" of source.{place} moves queries on to their next draw");
                let expected = format!("a draw whose next one is another, for instance \"window\": {moves}");
                return Err(wrong(&field, "\"top\"", &expected));
            }
        }
        if self.merge == Merge::Union {
            if self.source.len() > UNITED {
                return Err(wrong("source", self.source.len(), &format!("at most {UNITED} sources with merge = \"union\"")));
            }
            if self.source.iter().any(decays) {
                return Err(wrong("merge", "\"union\"", "\"shares\": refresh = \"on decay …\" follows the list of one source"));
            }
            if let Some(place) = self.source.iter().position(|source| source.draw.is_some()) {
                return Err(wrong("merge", "\"union\"", &format!("\"shares\": source.{place}.draw draws from the list of one source")));
            }
            if matches!(self.draw, DrawConfig::RankCurve { .. } | DrawConfig::Diverse { .. }) {
                return Err(wrong("merge", "\"union\"", "\"shares\": this draw is prepared list by list"));
            }
        }
        if let Short::Beyond { from, until } = self.short {
            if from == 0 || until < from {
                return Err(wrong("short", format!("from {from} until {until}"), "ranks from 1 up, until at least from"));
            }
            if let Some(depth) = self.source.iter().filter_map(|source| source.kind.depth()).find(|&depth| depth < from) {
                return Err(wrong("short.from", from, &format!("at most the depth of every source, which is {depth}")));
            }
        }
        Ok(())
    }

    fn below_margin(&self) -> bool {
        self.source.iter().any(|source| matches!(source.kind, SourceKind::Dense { below_margin: true, .. }))
    }
}

/// A kind of source by name.
type Kind = (&'static str, fn(&SourceKind) -> bool);

/// Sources that there is one of at most.
const SINGLE: [Kind; 4] = [
    ("in-batch", |kind| matches!(kind, SourceKind::InBatch {})),
    ("per-step", |kind| matches!(kind, SourceKind::PerStep { .. })),
    ("queue", |kind| matches!(kind, SourceKind::Queue { .. })),
    ("generated", |kind| matches!(kind, SourceKind::Generated { .. })),
];

fn check_source(field: &str, source: &SourceConfig) -> Result<(), ConfigError> {
    if let Some(share) = source.share {
        if !source.kind.offers_candidates() {
            return Err(wrong(&format!("{field}.share"), share, "nothing: this source gives columns of the batch, not candidates"));
        }
        if share.ends().iter().any(|end| !end.is_finite() || *end < 0.0) || share.highest() <= 0.0 {
            return Err(wrong(&format!("{field}.share"), share, "a number above 0, or a line between numbers from 0 up"));
        }
    }
    if let Some(pool) = source.pool {
        if source.kind.refresh().is_none() {
            return Err(wrong(&format!("{field}.pool"), pool, "nothing: this source has no lists"));
        }
        if pool.ends().iter().any(|end| !end.is_finite() || *end < 1.0) {
            return Err(wrong(&format!("{field}.pool"), pool, "numbers of candidates from 1 up"));
        }
    }
    if let Some(draw) = &source.draw {
        let field = format!("{field}.draw");
        if source.kind.refresh().is_none() {
            return Err(wrong(&field, "a draw", "nothing: this source has no lists"));
        }
        if matches!(draw, DrawConfig::RankCurve { .. }) {
            return Err(wrong(
                &format!("{field}.rule"),
                "\"rank-curve\"",
                "it in negatives.draw, for all sources: its curve comes from one split",
            ));
        }
        check_draw(&field, draw)?;
    }
    match &source.kind {
        SourceKind::Queue { size, .. } if *size == 0 || *size > MOST_QUEUED => {
            return Err(wrong(&format!("{field}.size"), *size, "1 to 16,777,216 rows"));
        }
        SourceKind::PerStep { depth } if *depth == 0 || *depth > DEEPEST => {
            return Err(wrong(&format!("{field}.depth"), depth, &format!("1 to {DEEPEST}")));
        }
        _ => {}
    }
    let most = if matches!(source.kind, SourceKind::File { .. }) { usize::MAX } else { DEEPEST };
    if let Some(depth) = source.kind.depth().filter(|&depth| depth == 0 || depth > most) {
        return Err(wrong(&format!("{field}.depth"), depth, &format!("1 to {most}")));
    }
    if source.pool.is_some() && matches!(source.kind.refresh(), Some(Schedule::OnDecay(_))) {
        return Err(wrong(&format!("{field}.pool"), "a number", "none: refresh = \"on decay …\" moves on through the whole list"));
    }
    check_refresh(field, source)
}

fn check_refresh(field: &str, source: &SourceConfig) -> Result<(), ConfigError> {
    let Some(refresh) = source.kind.refresh() else { return Ok(()) };
    let refuse = |expected: &str| Err(wrong(&format!("{field}.refresh"), format!("\"{refresh}\""), expected));
    let still = matches!(refresh, Schedule::Once | Schedule::OnDecay(_));
    if matches!(source.kind, SourceKind::Generated { .. }) {
        return match refresh {
            Schedule::Once | Schedule::EverySteps(_) | Schedule::EveryEpochs(_) => Ok(()),
            _ => refuse("\"once\", \"every N steps\" or \"every N epochs\""),
        };
    }
    match source.model() {
        None if !still => refuse(
            "\"once\" or \"on decay every N steps\": these lists do not change while the encoder is trained; only those of from = \"dense\" do",
        ),
        Some(model) if model.is_fixed() && !still => {
            refuse("\"once\" or \"on decay every N steps\": the lists of a model that never changes do not change either")
        }
        _ => Ok(()),
    }
}

fn check_filter(field: &str, filter: &FilterConfig) -> Result<(), ConfigError> {
    let finite = |name: &str, value: &Option<f64>, least: f64| match value {
        Some(value) if !value.is_finite() || *value < least => {
            let expected = if least == 0.0 { "a number from 0 up" } else { "a finite number" };
            Err(wrong(&format!("{field}.{name}"), value, expected))
        }
        _ => Ok(()),
    };
    let ordered = |min: &Option<f64>, max: &Option<f64>| match (min, max) {
        (Some(min), Some(max)) if min > max => Err(wrong(&format!("{field}.min"), min, &format!("at most max, which is {max}"))),
        _ => Ok(()),
    };
    match filter {
        FilterConfig::Judged { .. } | FilterConfig::IdenticalText {} | FilterConfig::Answer {} | FilterConfig::Sieve {} => Ok(()),
        FilterConfig::RankWindow { skip: 0, until: None, .. } => Err(wrong(field, "a window without bounds", "skip, until, or both")),
        FilterConfig::RankWindow { skip, until, .. } => match until {
            Some(until) if until <= skip => Err(wrong(&format!("{field}.until"), until, &format!("more than skip, which is {skip}"))),
            _ => Ok(()),
        },
        FilterConfig::Score { min: None, max: None } => Err(wrong(field, "no bounds", "min, max, or both")),
        FilterConfig::Score { min, max } => {
            finite("min", min, f64::MIN)?;
            finite("max", max, f64::MIN)?;
            ordered(min, max)
        }
        FilterConfig::Margin { relative: None, absolute: None } => Err(wrong(field, "no margin", "relative, absolute, or both")),
        FilterConfig::Margin { relative, absolute } => {
            finite("relative", relative, 0.0)?;
            finite("absolute", absolute, 0.0)
        }
        FilterConfig::Teacher { min: None, max: None, below: None, .. } => Err(wrong(field, "no bounds", "min, max, below, or several")),
        FilterConfig::Teacher { min, max, below, at_least, ceiling, .. } => {
            for (name, value) in [("min", min), ("max", max), ("below", below), ("ceiling", ceiling)] {
                finite(name, value, f64::MIN)?;
            }
            if at_least.is_some() != ceiling.is_some() {
                return Err(wrong(&format!("{field}.at_least"), "one of at_least and ceiling", "both or neither"));
            }
            ordered(min, max)
        }
        FilterConfig::Angle { degrees } if !(*degrees > 0.0 && *degrees <= 180.0) => {
            Err(wrong(&format!("{field}.degrees"), degrees, "more than 0 and at most 180"))
        }
        FilterConfig::Angle { .. } => Ok(()),
    }
}

fn check_draw(field: &str, draw: &DrawConfig) -> Result<(), ConfigError> {
    let some = |name: &str, number: usize| if number == 0 { Err(wrong(&format!("{field}.{name}"), 0, "at least 1")) } else { Ok(()) };
    let weight = |name: &str, value: f64| {
        if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(wrong(&format!("{field}.{name}"), value, "a number from 0 up")) }
    };
    let tempered =
        |temperature: &Option<f64>| temperature.map_or(Ok(()), |temperature| positive(&format!("{field}.temperature"), temperature));
    match draw {
        DrawConfig::Top {} | DrawConfig::Uniform {} => Ok(()),
        DrawConfig::Simans { a, b, temperature, .. } => {
            weight("a", *a)?;
            tempered(temperature)?;
            if b.is_finite() { Ok(()) } else { Err(wrong(&format!("{field}.b"), b, "a finite number")) }
        }
        DrawConfig::Trisampler { candidates, a, temperature } => {
            some("candidates", *candidates)?;
            weight("a", *a)?;
            tempered(temperature)
        }
        DrawConfig::RankCurve { gain_k, depth, .. } => {
            some("depth", depth.unwrap_or(1))?;
            if gain_k.is_finite() && *gain_k > 1.0 { Ok(()) } else { Err(wrong(&format!("{field}.gain_k"), gain_k, "a number above 1")) }
        }
        DrawConfig::MarginBins { bins } => some("bins", *bins),
        DrawConfig::Window { size, .. } => some("size", size.unwrap_or(1)),
        DrawConfig::Diverse { per_visit, visits, random_below, .. } => {
            some("per_visit", *per_visit)?;
            some("visits", *visits)?;
            random_below.map_or(Ok(()), |margin| weight("random_below", margin))
        }
    }
}

fn positive(field: &str, value: f64) -> Result<(), ConfigError> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(wrong(field, value, "a number above 0")) }
}

fn wrong(field: &str, got: impl std::fmt::Display, expected: &str) -> ConfigError {
    ConfigError { field: field.to_owned(), got: got.to_string(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ramp;

    #[test]
    fn a_ramp_runs_from_one_end_to_the_other_and_stays_there() {
        let ramp: NegativesConfig = toml::from_str("[[source]]\nfrom = \"random\"\nshare = { from = 0.2, to = 1.0 }").unwrap();
        let share = ramp.source[0].share();
        for (progress, expected) in [(-1.0, 0.2), (0.0, 0.2), (0.5, 0.6), (1.0, 1.0), (7.0, 1.0)] {
            assert!((share.at(progress) - expected).abs() < 1e-12, "{progress}");
        }
        assert_eq!(Ramp::Fixed(3.0).at(0.4), 3.0);
    }
}
