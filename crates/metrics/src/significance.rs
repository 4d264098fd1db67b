//! Is the difference between two systems on the same queries more than luck: paired randomisation test, paired bootstrap interval
//! and Student's paired t (Smucker, Allan and Carterette, CIKM 2007, compare them for retrieval).
//!
//! Everything is a function of the values and the seed: same input, same digits, on every machine.

/// How [`compare`] samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Seed of both samplings.
    pub seed: u64,
    /// Sign assignments drawn by the randomisation test. With few queries (2^n at most this) all assignments are tried instead.
    pub permutations: u32,
    /// Resamples of the bootstrap.
    pub resamples: u32,
    /// Level of the confidence interval, between 0 and 1.
    pub confidence: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { seed: 0, permutations: 100_000, resamples: 10_000, confidence: 0.95 }
    }
}

/// The outcome of [`compare`]. `difference` is b − a.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Number of paired queries.
    pub queries: usize,
    /// Mean of the first system.
    pub mean_a: f64,
    /// Mean of the second system.
    pub mean_b: f64,
    /// Mean of b − a.
    pub difference: f64,
    /// Percentile bootstrap interval of the difference, at [`Sampling::confidence`].
    pub interval: (f64, f64),
    /// Two-sided p of the randomisation test. When sampled, (1 + as extreme) / (1 + drawn), hence never 0.
    pub p_randomisation: f64,
    /// Student's t of the differences; infinite when they are all equal and not 0, 0 when they are all 0.
    pub t: f64,
    /// Two-sided p of the t test; 1 when there are no two queries.
    pub p_t: f64,
}

/// Why two lists of values cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignificanceError {
    /// The lists differ in length.
    #[error("paired tests need one value per query from both systems; got {a} and {b}")]
    Lengths {
        /// Values of the first system.
        a: usize,
        /// Values of the second.
        b: usize,
    },
    /// No query.
    #[error("no query is common to both systems")]
    Empty,
    /// A value is NaN or infinite.
    #[error("value {position} of system {system} is {value}; expected a finite number")]
    NotFinite {
        /// `a` or `b`.
        system: char,
        /// Index of the value.
        position: usize,
        /// The value.
        value: f64,
    },
    /// A setting is out of range.
    #[error("{name} is {value}; expected {expected}")]
    Setting {
        /// Name of the field of [`Sampling`].
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
}

/// Compares the per-query values of two systems; position i of both lists is the same query
/// (see [`crate::Evaluation::paired`]).
///
/// # Errors
/// Lists of different length or without values, values that are not finite, settings out of range.
pub fn compare(a: &[f64], b: &[f64], sampling: &Sampling) -> Result<Comparison, SignificanceError> {
    check(a, b, sampling)?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let (t, p_t) = student(&differences, mean);
    Ok(Comparison {
        queries: differences.len(),
        mean_a: a.iter().sum::<f64>() / n,
        mean_b: b.iter().sum::<f64>() / n,
        difference: mean,
        interval: bootstrap(&differences, sampling),
        p_randomisation: randomisation(&differences, sampling),
        t,
        p_t,
    })
}

fn check(a: &[f64], b: &[f64], sampling: &Sampling) -> Result<(), SignificanceError> {
    if a.len() != b.len() {
        return Err(SignificanceError::Lengths { a: a.len(), b: b.len() });
    }
    if a.is_empty() {
        return Err(SignificanceError::Empty);
    }
    for (system, values) in [('a', a), ('b', b)] {
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            return Err(SignificanceError::NotFinite { system, position, value: values[position] });
        }
    }
    for (name, value) in [("permutations", sampling.permutations), ("resamples", sampling.resamples)] {
        if value == 0 {
            return Err(SignificanceError::Setting { name, value: 0.0, expected: "at least 1" });
        }
    }
    if !(sampling.confidence > 0.0 && sampling.confidence < 1.0) {
        return Err(SignificanceError::Setting {
            name: "confidence",
            value: sampling.confidence,
            expected: "a number between 0 and 1, e.g. 0.95",
        });
    }
    Ok(())
}

/// Two-sided p: how often is the sum of the differences with random signs as far from 0 as the observed one?
fn randomisation(differences: &[f64], sampling: &Sampling) -> f64 {
    let observed = differences.iter().sum::<f64>().abs();
    // Sums of the same numbers in another order differ in the last bits and must still count as equal.
    let threshold = observed - 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let n = differences.len();
    if n < 32 && 1_u64 << n <= u64::from(sampling.permutations) {
        let all = 1_u64 << n;
        let extreme = (0..all).filter(|&signs| signed_sum(differences, signs).abs() >= threshold).count();
        return extreme as f64 / all as f64;
    }
    let mut random = SplitMix64::new(sampling.seed, 1);
    let extreme = (0..sampling.permutations)
        .filter(|_| {
            let sum: f64 = differences.chunks(64).map(|chunk| signed_sum(chunk, random.next())).sum();
            sum.abs() >= threshold
        })
        .count();
    (1 + extreme) as f64 / (1.0 + f64::from(sampling.permutations))
}

/// Sum of at most 64 values, negated where `signs` has a bit.
fn signed_sum(values: &[f64], signs: u64) -> f64 {
    values.iter().enumerate().map(|(bit, &value)| if signs >> bit & 1 == 1 { -value } else { value }).sum()
}

fn bootstrap(differences: &[f64], sampling: &Sampling) -> (f64, f64) {
    let mut random = SplitMix64::new(sampling.seed, 2);
    let n = differences.len();
    let mut means: Vec<f64> =
        (0..sampling.resamples).map(|_| (0..n).map(|_| differences[random.below(n)]).sum::<f64>() / n as f64).collect();
    means.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - sampling.confidence) / 2.0;
    (quantile(&means, tail), quantile(&means, 1.0 - tail))
}

/// Quantile of ascending values, linear between neighbours.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let position = at * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// t and its two-sided p.
fn student(differences: &[f64], mean: f64) -> (f64, f64) {
    let n = differences.len() as f64;
    if differences.len() < 2 {
        return (0.0, 1.0);
    }
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let error = (variance / n).sqrt();
    if error == 0.0 {
        return if mean == 0.0 { (0.0, 1.0) } else { (f64::INFINITY.copysign(mean), 0.0) };
    }
    let t = mean / error;
    (t, student_tails(t, n - 1.0))
}

/// P(|T| ≥ |t|) for Student's distribution: the regularised incomplete beta function I_x(df/2, 1/2) at x = df / (df + t²).
fn student_tails(t: f64, degrees: f64) -> f64 {
    let x = degrees / (degrees + t * t);
    incomplete_beta(x, degrees / 2.0, 0.5).clamp(0.0, 1.0)
}

/// Regularised incomplete beta function, by its continued fraction on the side where that converges fast (DLMF 8.17.22).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    // Evaluated from the tail: 1 / (1 + d1 / (1 + d2 / (1 + …))). The number of terms needed grows like sqrt(a).
    let terms = 200 + (4.0 * a.max(b).sqrt()) as u32;
    let mut fraction = 1.0;
    for term in (1..=terms).rev() {
        let m = f64::from(term / 2);
        let coefficient = if term % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        fraction = 1.0 + coefficient / fraction;
    }
    front / fraction
}

/// ln Γ(x) for x > 0: Stirling's series (DLMF 5.11.1) after moving x beyond 10.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse * (1.0 / 1680.0 - inverse / 1188.0)))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - shift
}

/// Steele, Lea and Flood's SplitMix64 (OOPSLA 2014): a handful of lines whose output no dependency's update can change.
struct SplitMix64(u64);

impl SplitMix64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Independent streams of one seed.
    fn new(seed: u64, stream: u64) -> Self {
        let mut start = Self(seed ^ stream.wrapping_mul(Self::STEP));
        Self(start.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, by multiplication: the bias of 2^-64 · n is far below what sampling could show.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64, tolerance: f64) {
        assert!((got - expected).abs() <= tolerance, "got {got}, expected {expected} within {tolerance}");
    }

    /// Critical values from printed tables of Student's distribution, and df 1 and 2 in closed form.
    #[test]
    fn student_tails_match_tables() {
        for (t, degrees, p) in
            [(12.706, 1.0, 0.05), (2.228, 10.0, 0.05), (3.169, 10.0, 0.01), (1.697, 30.0, 0.10), (1.984, 100.0, 0.05), (2.576, 1e7, 0.01)]
        {
            close(student_tails(t, degrees), p, 3e-4);
        }
        for t in [0.001, 0.3_f64, 1.0, 4.0, 50.0] {
            close(student_tails(t, 1.0), 1.0 - 2.0 / std::f64::consts::PI * t.atan(), 1e-12);
            close(student_tails(t, 2.0), 1.0 - t / (2.0 + t * t).sqrt(), 1e-12);
            close(student_tails(-t, 2.0), student_tails(t, 2.0), 0.0);
        }
    }

    #[test]
    fn ln_gamma_is_the_factorial() {
        let mut factorial = 1.0_f64;
        for n in 1..20 {
            close(ln_gamma(f64::from(n)), factorial.ln(), 1e-12);
            factorial *= f64::from(n);
        }
        close(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln(), 1e-12);
    }

    /// By hand: of the 8 sign assignments of (1, 2, 3), only +++ and --- reach a sum of 6.
    #[test]
    fn few_queries_are_tested_exactly() {
        let outcome = compare(&[0.0; 3], &[1.0, 2.0, 3.0], &Sampling::default()).unwrap();
        close(outcome.p_randomisation, 0.25, 0.0);
        close(outcome.difference, 2.0, 1e-15);
        close(outcome.t, 12.0_f64.sqrt(), 1e-12);
        close(outcome.p_t, 1.0 - outcome.t / (2.0 + outcome.t * outcome.t).sqrt(), 1e-12);
    }

    fn noise(n: usize, shift: f64, seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut random = SplitMix64::new(seed, 9);
        let mut unit = || random.below(1 << 20) as f64 / f64::from(1 << 20);
        (0..n).map(|_| (unit(), unit() + shift)).unzip()
    }

    #[test]
    fn sampled_and_exact_p_agree() {
        let (a, b) = noise(15, 0.15, 3);
        let exact = compare(&a, &b, &Sampling::default()).unwrap().p_randomisation;
        let sampled = Sampling { permutations: 20_000, ..Sampling::default() };
        // 2^15 assignments are more than 20,000: this one is drawn.
        close(compare(&a, &b, &sampled).unwrap().p_randomisation, exact, 0.02);
    }

    /// Under the null hypothesis p is uniform: about one in ten falls below 0.1, for both tests, and the interval holds 0 in 90 %.
    #[test]
    fn error_rates_are_the_nominal_ones() {
        let sampling = Sampling { permutations: 999, resamples: 999, confidence: 0.9, seed: 4 };
        let mut below = [0, 0, 0];
        for seed in 0..400 {
            let (a, b) = noise(60, 0.0, 100 + seed);
            let outcome = compare(&a, &b, &sampling).unwrap();
            below[0] += usize::from(outcome.p_randomisation <= 0.1);
            below[1] += usize::from(outcome.p_t <= 0.1);
            below[2] += usize::from(outcome.interval.0 > 0.0 || outcome.interval.1 < 0.0);
        }
        // 40 expected of 400, standard deviation 6.
        assert!(below.iter().all(|count| (20..=64).contains(count)), "{below:?}");
    }

    #[test]
    fn a_clear_difference_is_found_and_its_sign_kept() {
        let (a, b) = noise(200, 0.3, 7);
        let outcome = compare(&a, &b, &Sampling::default()).unwrap();
        assert!(outcome.p_randomisation < 1e-4 && outcome.p_t < 1e-4);
        assert!(outcome.interval.0 > 0.2 && outcome.interval.1 < 0.4 && outcome.interval.0 < outcome.difference);
        let swapped = compare(&b, &a, &Sampling::default()).unwrap();
        close(swapped.difference, -outcome.difference, 1e-12);
        close(swapped.t, -outcome.t, 1e-12);
        close(swapped.p_randomisation, outcome.p_randomisation, 0.0);
    }

    #[test]
    fn the_seed_decides_every_digit() {
        let (a, b) = noise(100, 0.05, 1);
        let of = |seed| compare(&a, &b, &Sampling { seed, permutations: 2_000, resamples: 2_000, ..Sampling::default() }).unwrap();
        assert_eq!(of(5), of(5));
        assert_ne!(of(5).interval, of(6).interval);
    }

    #[test]
    fn equal_systems_are_not_different() {
        let values = vec![0.25; 50];
        let outcome = compare(&values, &values, &Sampling::default()).unwrap();
        assert_eq!((outcome.p_randomisation, outcome.p_t, outcome.interval, outcome.t), (1.0, 1.0, (0.0, 0.0), 0.0));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let default = Sampling::default();
        assert_eq!(compare(&[0.0], &[], &default), Err(SignificanceError::Lengths { a: 1, b: 0 }));
        assert_eq!(compare(&[], &[], &default), Err(SignificanceError::Empty));
        assert!(matches!(compare(&[f64::NAN], &[0.0], &default), Err(SignificanceError::NotFinite { system: 'a', position: 0, .. })));
        for sampling in [
            Sampling { permutations: 0, ..default },
            Sampling { resamples: 0, ..default },
            Sampling { confidence: 1.0, ..default },
            Sampling { confidence: f64::NAN, ..default },
        ] {
            assert!(matches!(compare(&[0.0], &[0.0], &sampling), Err(SignificanceError::Setting { .. })));
        }
    }
}
