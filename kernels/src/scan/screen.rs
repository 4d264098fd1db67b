//! A look at a block of rows in 16-bit integers, which tells rows that cannot reach any list of a panel from those that may. Only the latter are multiplied in
//! floats, so that lists have the same bits as without it.
//!
//! A row x becomes a = round(s x) and a query q becomes b = round(t q), with s and t so that either norm is at most [`LONGEST`]. Rounding is off by less than [`OFF`]
//! a column, so by Cauchy and Schwarz, in d columns,
//!
//! ```text
//! |s t (q . x) - a . b|  <=  OFF sqrt(d) (|b| + |s x|)  <=  OFF sqrt(d) (2 LONGEST + OFF sqrt(d))
//! ```
//!
//! and the float score, d fused sums, is off from q . x by at most d 2^-24 |q| |x|, a little more than d 2^-24 LONGEST^2 here. A row whose a . b lies further than both
//! below s t times the last key of a list cannot be in it. At 384 columns that is .00064 of the largest product of norms.
//!
//! AVX2 multiplies 16 pairs of such integers and adds neighbours in one instruction, twice as many as floats; the sums take another. AVX-512 has twice as wide
//! floats and, without its neural instructions, gains nothing.

#![allow(unsafe_code)]

use super::sieve::{LANES, ROWS};
use crate::layers::wide::{Lanes, dot, widest};

/// Longest norm of a rounded row or query. No column is longer, nor, with its rounding, more than 16 bits hold; two such vectors have a product within 2^31.
const LONGEST: f64 = 32_700.0;

/// A bound on the rounding of a column, which is off by half, and by some thousandths for the float product before it.
const OFF: f64 = 0.51;

/// Norms outside of this have squares that floats hold badly, or not at all.
const USUAL: std::ops::Range<f64> = 1e-10..1e10;

/// The norm of a float product of a vector with itself may be off by 2^-25 a column.
const WIDEST: usize = 4096;

/// Rows of a tile: sums of so many rows and a panel, two vectors of queries and one of a row fill sixteen registers.
#[cfg(target_arch = "x86_64")]
const TILE: usize = 6;

/// Whether the processor gains by it.
pub(super) fn is_faster() -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::sieve::lanes()[1] == 8 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// How far below a list's last key, times both scales, a product of integers must lie.
fn slack(dimension: usize) -> f64 {
    let (longest, columns) = (LONGEST * 1.001, dimension as f64);
    let rounding = OFF * columns.sqrt();
    rounding * (2.0 * longest + rounding) + 1.01 * columns * f64::from(f32::EPSILON) / 2.0 * longest * longest + 1.0
}

widest! {
    /// The largest squared norm of some rows; NaN if there is a NaN.
    fn largest(rows: &[f32], dimension: usize) -> f32 = largest_body
}

#[inline(always)]
fn largest_body<L: Lanes>(rows: &[f32], dimension: usize) -> f32 {
    let mut most = 0.0f32;
    for row in rows.chunks_exact(dimension) {
        let squares = dot::<L>(row, row);
        // A NaN stays: nothing is larger than it.
        most = if squares <= most { most } else { squares };
        if most.is_nan() {
            break;
        }
    }
    most
}

/// The scale that brings vectors of the largest squared norm to [`LONGEST`], if floats hold that norm.
fn scale(squares: f32) -> Option<f64> {
    let norm = f64::from(squares).sqrt();
    USUAL.contains(&norm).then(|| LONGEST / norm)
}

/// A block of rows, rounded.
pub(super) struct Rows {
    /// `[ROWS, columns]`, zeros behind the dimension and behind the last row.
    values: Vec<i16>,
    /// The dimension, or one more to make pairs.
    columns: usize,
    /// None where floats hold the norms badly.
    pub(super) scale: Option<f64>,
}

impl Rows {
    /// Room for blocks of rows.
    pub(super) fn new(dimension: usize) -> Self {
        let columns = dimension.next_multiple_of(2);
        Self { values: vec![0; ROWS * columns], columns, scale: None }
    }

    /// Takes a block of at most [`ROWS`] rows.
    pub(super) fn round(&mut self, rows: &[f32], dimension: usize) {
        self.scale = scale(largest(rows, dimension));
        let Some(scale) = self.scale else { return };
        for (row, into) in rows.chunks_exact(dimension).zip(self.values.chunks_exact_mut(self.columns)) {
            round(row, scale as f32, into);
        }
        self.values[rows.len() / dimension * self.columns..].fill(0);
    }
}

/// The queries of a panel, rounded.
pub(super) struct Queries {
    /// `[columns / 2, lanes, 2]`: pairs of neighbouring columns.
    pairs: Vec<i16>,
    lanes: usize,
    scales: [f64; LANES],
    slack: f64,
}

impl Queries {
    /// Queries `[count, dimension]` in a panel of eight or sixteen lanes; none for other panels, and where floats hold a norm badly.
    pub(super) fn new(queries: &[f32], dimension: usize, lanes: usize) -> Option<Self> {
        if !matches!(lanes, 8 | 16) || dimension > WIDEST {
            return None;
        }
        let columns = dimension.next_multiple_of(2);
        // Of lanes without a query none lets anything through: their lows are infinite, and must stay so.
        let (mut pairs, mut scales) = (vec![0; columns * lanes], [1.0; LANES]);
        let mut rounded = vec![0; columns];
        for (lane, query) in queries.chunks_exact(dimension).enumerate() {
            scales[lane] = scale(largest(query, dimension))?;
            round(query, scales[lane] as f32, &mut rounded);
            for (pair, values) in rounded.chunks_exact(2).enumerate() {
                pairs[(pair * lanes + lane) * 2..][..2].copy_from_slice(values);
            }
        }
        Some(Self { pairs, lanes, scales, slack: slack(dimension) })
    }

    /// Whether each row may have a score above `low` for any query; a low of NaN lets everything through. None where the rows are not to be rounded.
    pub(super) fn look(&self, rows: &Rows, low: &[f32; LANES]) -> Option<[bool; ROWS]> {
        let scale = rows.scale?;
        let mut least = [i32::MIN; 16];
        for (lane, least) in least.iter_mut().enumerate().take(self.lanes) {
            // A cast cuts off at the ends of integers, where it lets through all or nothing, and makes 0 of NaN.
            let bound = (f64::from(low[lane]) * scale * self.scales[lane] - self.slack).floor();
            *least = if bound.is_nan() { i32::MIN } else { bound as i32 };
        }
        Some(above(&rows.values, &self.pairs, rows.columns, self.lanes, &least))
    }
}

/// `into = round(scale row)`, zeros behind it. No product is beyond 16 bits.
fn round(row: &[f32], scale: f32, into: &mut [i16]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions.
        return unsafe { x86::round(row, scale, into) };
    }
    round_one_by_one(row, scale, into);
}

fn round_one_by_one(row: &[f32], scale: f32, into: &mut [i16]) {
    let (values, rest) = into.split_at_mut(row.len());
    values.iter_mut().zip(row).for_each(|(into, value)| *into = (value * scale).round_ties_even() as i16);
    rest.fill(0);
}

/// Whether any product of a row and a query is above that query's `least`.
fn above(rows: &[i16], pairs: &[i16], columns: usize, lanes: usize, least: &[i32; 16]) -> [bool; ROWS] {
    assert!(rows.len() == ROWS * columns && pairs.len() == columns * lanes && columns.is_multiple_of(2), "a block and a panel");
    assert!(matches!(lanes, 8 | 16), "one or two vectors of queries");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        let mut any = [false; ROWS];
        for (tile, any) in any.chunks_exact_mut(TILE).enumerate() {
            let rows = &rows[tile * TILE * columns..][..TILE * columns];
            // SAFETY: the processor has the instructions, and the sizes are checked above.
            let hits = unsafe {
                match lanes {
                    8 => x86::tile::<1>(rows, pairs, columns, least),
                    _ => x86::tile::<2>(rows, pairs, columns, least),
                }
            };
            any.copy_from_slice(&hits);
        }
        return any;
    }
    above_one_by_one(rows, pairs, columns, lanes, least)
}

/// What the instructions are tested against. No search comes here: where they are missing, nobody looks ([`is_faster`]).
fn above_one_by_one(rows: &[i16], pairs: &[i16], columns: usize, lanes: usize, least: &[i32; 16]) -> [bool; ROWS] {
    let mut any = [false; ROWS];
    for (row, any) in rows.chunks_exact(columns).zip(&mut any) {
        *any = (0..lanes).any(|lane| {
            let query = (0..columns).map(|column| pairs[(column / 2 * lanes + lane) * 2 + column % 2]);
            row.iter().zip(query).map(|(a, b)| i32::from(*a) * i32::from(b)).sum::<i32>() > least[lane]
        });
    }
    any
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64 as arch;

    use super::TILE;

    // Adapters with closures are not inlined here.

    #[target_feature(enable = "avx2")]
    pub(super) fn round(row: &[f32], scale: f32, into: &mut [i16]) {
        assert!(row.len() <= into.len());
        let whole = row.len() / 16 * 16;
        let by = arch::_mm256_set1_ps(scale);
        let mut at = 0;
        while at < whole {
            // SAFETY: both slices have sixteen numbers from here; loads and stores are unaligned.
            unsafe {
                let low = arch::_mm256_cvtps_epi32(arch::_mm256_mul_ps(arch::_mm256_loadu_ps(row.as_ptr().add(at)), by));
                let high = arch::_mm256_cvtps_epi32(arch::_mm256_mul_ps(arch::_mm256_loadu_ps(row.as_ptr().add(at + 8)), by));
                // The pack goes half by half.
                let packed = arch::_mm256_permute4x64_epi64::<0b11_01_10_00>(arch::_mm256_packs_epi32(low, high));
                arch::_mm256_storeu_si256(into.as_mut_ptr().add(at).cast(), packed);
            }
            at += 16;
        }
        super::round_one_by_one(&row[whole..], scale, &mut into[whole..]);
    }

    /// Which of [`TILE`] rows have a product above the least of a query, of `8 V` queries.
    ///
    /// # Safety
    /// `rows` must be `[TILE, columns]`, `pairs` `[columns / 2, 8 V, 2]`, and the columns even.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn tile<const V: usize>(rows: &[i16], pairs: &[i16], columns: usize, least: &[i32; 16]) -> [bool; TILE] {
        let mut sums = [[arch::_mm256_setzero_si256(); V]; TILE];
        let (rows, pairs) = (rows.as_ptr(), pairs.as_ptr());
        let mut column = 0;
        while column < columns {
            let mut queries = [arch::_mm256_setzero_si256(); V];
            for (vector, queries) in queries.iter_mut().enumerate() {
                // SAFETY: the caller promises these sizes; loads are unaligned.
                *queries = unsafe { arch::_mm256_loadu_si256(pairs.add((column / 2 * V + vector) * 16).cast()) };
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let pair = arch::_mm256_set1_epi32(unsafe { rows.add(row * columns + column).cast::<i32>().read_unaligned() });
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = arch::_mm256_add_epi32(*sum, arch::_mm256_madd_epi16(pair, queries[vector]));
                }
            }
            column += 2;
        }
        let mut any = [false; TILE];
        for (row, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                // SAFETY: there are sixteen, and V is at most two.
                let least = unsafe { arch::_mm256_loadu_si256(least.as_ptr().add(8 * vector).cast()) };
                let above = arch::_mm256_cmpgt_epi32(*sum, least);
                any[row] |= arch::_mm256_testz_si256(above, above) == 0;
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    type Random = rand_chacha::ChaCha8Rng;

    /// Rows as embeddings are, and rows of very different norms, of one column, and of zeros.
    fn rows(random: &mut Random, count: usize, dimension: usize, even: bool) -> Vec<f32> {
        let mut rows = Vec::new();
        for row in 0..count {
            let norm = if even { 1.0 } else { 10f32.powf(random.random_range(-4.0..4.0)) };
            let hot = random.random_range(0..dimension);
            let values: Vec<f32> = (0..dimension)
                .map(|column| match row % 16 {
                    _ if even => random.random_range(-1.0..1.0),
                    13 => 0.0,
                    14 => f32::from(column == hot),
                    15 => -f32::from(column == hot),
                    _ => random.random_range(-1.0..1.0),
                })
                .collect();
            let length = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            rows.extend(values.iter().map(|value| value / length * norm));
        }
        rows
    }

    /// The sum that the product of floats takes.
    fn score(row: &[f32], query: &[f32]) -> f32 {
        row.iter().zip(query).fold(0.0, |sum, (a, b)| a.mul_add(*b, sum))
    }

    #[test]
    fn no_row_that_reaches_a_list_is_told_away_and_few_others_are_kept() {
        let mut random = Random::seed_from_u64(7);
        let (mut kept, mut reach, mut asked) = (0, 0, 0);
        for dimension in [1, 2, 7, 16, 33, 384, 1025] {
            for (count, lanes) in [(5, 8), (8, 8), (11, 16), (16, 16)] {
                for (height, even) in [(ROWS, true), (ROWS, false), (1, true), (41, false)] {
                    let (rows, queries) =
                        (rows(&mut random, height, dimension, even), rows(&mut random, count, dimension, even || count == 16));
                    let Some(panel) = Queries::new(&queries, dimension, lanes) else {
                        // A query of zeros.
                        assert!(!even);
                        continue;
                    };
                    let mut block = Rows::new(dimension);
                    block.round(&rows, dimension);
                    let scores: Vec<Vec<f32>> = rows
                        .chunks_exact(dimension)
                        .map(|row| queries.chunks_exact(dimension).map(|query| score(row, query)).collect())
                        .collect();
                    for _ in 0..4 {
                        // Lists of which some row is the last, or would just be in.
                        let mut low = [f32::INFINITY; LANES];
                        for (lane, low) in low.iter_mut().enumerate().take(count) {
                            let last = scores[random.random_range(0..height)][lane];
                            *low = if random.random() { last } else { last.next_down() };
                        }
                        let Some(may) = panel.look(&block, &low) else {
                            assert!(!even);
                            continue;
                        };
                        for (place, scores) in scores.iter().enumerate() {
                            let reaches = scores.iter().zip(low).any(|(score, low)| *score > low);
                            assert!(may[place] || !reaches, "{dimension} columns, row {place}: {scores:?} beside {low:?}");
                            let far = |(lane, score): (usize, &f32)| {
                                let slack = f64::from(low[lane]) - f64::from(*score);
                                slack * block.scale.unwrap() * panel.scales[lane] > 2.0 * panel.slack
                            };
                            assert!(!may[place] || !scores.iter().enumerate().all(far), "{dimension} columns, row {place} is far");
                            if even && dimension == 384 {
                                (kept, reach, asked) = (kept + u32::from(may[place]), reach + u32::from(reaches), asked + 1);
                            }
                        }
                    }
                }
            }
        }
        assert!(reach > 0 && kept < reach + asked / 50, "{kept} of {asked} are kept, {reach} reach a list");
    }

    #[test]
    fn what_floats_hold_badly_is_left_to_them() {
        let one = [1.0f32, 2.0, 2.0];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e25] {
            let rows = [1.0, 2.0, 3.0, 4.0, bad, 5.0, 6.0, 7.0, 8.0];
            let mut block = Rows::new(3);
            block.round(&rows, 3);
            assert!(block.scale.is_none(), "{bad}");
            assert!(Queries::new(&rows, 3, 8).is_none(), "{bad}");
        }
        for small in [0.0, 1e-30, f32::from_bits(1)] {
            let mut block = Rows::new(3);
            block.round(&[small; 9], 3);
            assert!(block.scale.is_none(), "{small}");
            assert!(Queries::new(&[1.0, 1.0, 1.0, small, small, small], 3, 8).is_none(), "{small}");
        }
        let panel = Queries::new(&one, 3, 8).unwrap();
        let mut block = Rows::new(3);
        block.round(&one, 3);
        // No list yet: everything may reach it. A full list of the best there is: nothing.
        assert!(panel.look(&block, &[f32::NAN; LANES]).unwrap()[0]);
        assert_eq!(panel.look(&block, &[f32::INFINITY; LANES]), Some([false; ROWS]));
        assert!(panel.look(&block, &[f32::NEG_INFINITY; LANES]).unwrap()[0]);
        assert!(Queries::new(&[1.0; 3 * 20], 3, 24).is_none() && Queries::new(&vec![1.0; WIDEST + 1], WIDEST + 1, 8).is_none());
    }

    /// Two rows of one column give the largest product there is, which is within 32 bits; and a row of the widest kind the longest sum.
    #[test]
    fn the_largest_products_are_within_their_integers() {
        for dimension in [1, 2, 384, WIDEST] {
            let mut hot = vec![0.0; dimension];
            hot[dimension - 1] = 3.0;
            for row in [hot, vec![0.1; dimension]] {
                let norm = score(&row, &row);
                for (low, reaches) in [(norm * 0.99, true), (norm * 1.02, false), (-norm, true)] {
                    let panel = Queries::new(&row, dimension, 8).unwrap();
                    let mut block = Rows::new(dimension);
                    block.round(&row, dimension);
                    let mut lows = [f32::INFINITY; LANES];
                    lows[0] = low;
                    let may = panel.look(&block, &lows).unwrap();
                    assert_eq!(may[0], reaches, "{dimension} columns, {norm} beside {low}");
                }
            }
        }
    }

    #[test]
    fn the_processors_integers_are_those_of_plain_arithmetic() {
        let mut random = Random::seed_from_u64(3);
        for columns in [2, 14, 16, 50, 384] {
            for lanes in [8, 16] {
                let numbers =
                    |random: &mut Random, count: usize| -> Vec<i16> { (0..count).map(|_| random.random_range(-1500..1500)).collect() };
                let (rows, pairs) = (numbers(&mut random, ROWS * columns), numbers(&mut random, columns * lanes));
                let least: [i32; 16] = std::array::from_fn(|_| random.random_range(0..40_000_000));
                let plain = above_one_by_one(&rows, &pairs, columns, lanes, &least);
                assert_eq!(above(&rows, &pairs, columns, lanes, &least), plain, "{columns} columns, {lanes} lanes");
            }
            let row: Vec<f32> = (0..columns - 1).map(|_| random.random_range(-1.0..1.0)).collect();
            let (mut into, mut plain) = (vec![7; columns], vec![9; columns]);
            round(&row, 32_000.0, &mut into);
            round_one_by_one(&row, 32_000.0, &mut plain);
            assert_eq!(into, plain);
        }
    }
}
