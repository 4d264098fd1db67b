//! Problems as data: shapes, edges and adversaries that every implementation of the search must get right.
//!
//! Vectors hold small whole numbers unless the case says otherwise, so that every implementation computes the same scores exactly, and ids must
//! agree to the last one, ties included.

use crate::bins::Bins;
use crate::exclusions::Exclusions;
use crate::reference::Rules;
use crate::search::Choice;

/// What the numbers look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Whole numbers from -3 to 3: many ties.
    Whole,
    /// All rows equal: nothing but ties.
    Equal,
    /// Scores rise from row to row: every row enters the list.
    Rising,
    /// Scores fall: only the first k enter.
    Falling,
    /// One row is far above all others.
    Hot,
    /// All scores are negative.
    Negative,
    /// Products are multiples of 2^-140: denormal numbers, exact in f32.
    Denormal,
    /// Gaussian-like fractions, compared with a tolerance.
    Real,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ask {
    /// The best behind so many ranks.
    Best(usize),
    /// A uniform draw.
    Uniform,
    /// A draw of that sharpness around a score of the query's.
    Near(f32),
}

/// One search.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is there for.
    pub name: &'static str,
    /// Queries.
    pub queries: usize,
    /// Rows of each shard.
    pub shards: &'static [usize],
    /// Width.
    pub dimension: usize,
    /// Depth.
    pub k: usize,
    /// The numbers.
    pub values: Values,
    /// Every how many-th row is excluded, shifted by the query; 0 = none, 1 = all.
    pub exclude: usize,
    /// Scores above this are left out; shifted by the query.
    pub ceiling: Option<f32>,
    /// Scores below this are left out; shifted by the query.
    pub floor: Option<f32>,
    /// The best, or a draw.
    pub ask: Ask,
    /// Counts scores.
    pub bins: Option<Bins>,
    /// Rows are stored as f16.
    pub half: bool,
    /// Queries are.
    pub half_queries: bool,
}

/// The plainest case, for others to differ from.
pub const BASE: Case = Case {
    name: "",
    queries: 3,
    shards: &[100],
    dimension: 8,
    k: 5,
    values: Values::Whole,
    exclude: 0,
    ceiling: None,
    floor: None,
    ask: Ask::Best(0),
    bins: None,
    half: false,
    half_queries: false,
};

/// Ends on whole numbers, which are scores here; some lie below and some above.
const BINS: Option<Bins> = Some(Bins { low: -10.0, high: 14.0, count: 8 });

/// The cases, small enough for a software driver.
pub const CASES: &[Case] = &[
    Case { name: "plain", ..BASE },
    Case { name: "k = 1", k: 1, ..BASE },
    Case { name: "k = n", k: 100, ..BASE },
    Case { name: "k above n", k: 128, ..BASE },
    Case { name: "k = 32", k: 32, shards: &[700], ..BASE },
    Case { name: "k = 33", k: 33, shards: &[700], ..BASE },
    Case { name: "the largest list of the small kernel", k: 128, shards: &[700], ..BASE },
    Case { name: "the smallest list of the large kernel", k: 129, shards: &[700], ..BASE },
    Case { name: "k = 1024", k: 1024, shards: &[2100], queries: 2, ..BASE },
    Case { name: "k = 1024 above n", k: 1024, shards: &[300], ..BASE },
    Case { name: "one row", shards: &[1], ..BASE },
    Case { name: "one query", queries: 1, ..BASE },
    Case { name: "one number", dimension: 1, ..BASE },
    Case { name: "three numbers", dimension: 3, ..BASE },
    Case { name: "width 384", dimension: 384, shards: &[130], ..BASE },
    Case { name: "one row more than a cube's block", shards: &[65], queries: 65, ..BASE },
    Case { name: "exactly one block and one slab", shards: &[64], queries: 64, dimension: 16, ..BASE },
    Case { name: "one number more than a slab", queries: 2, dimension: 17, ..BASE },
    Case { name: "one row more than a round", shards: &[1025], ..BASE },
    Case { name: "exactly two rounds", shards: &[2048], ..BASE },
    Case { name: "one row more than 2,048", shards: &[2049], ..BASE },
    Case { name: "queries of many panels, and one that is not full", queries: 515, dimension: 3, exclude: 7, ceiling: Some(3.0), ..BASE },
    Case { name: "more queries than a tile of the GPU", queries: 1030, shards: &[5, 4100], dimension: 2, k: 3, exclude: 4000, ..BASE },
    Case { name: "seven shards, some empty", shards: &[17, 0, 1, 256, 3, 0, 90], ..BASE },
    Case { name: "no rows at all", shards: &[0, 0], ..BASE },
    Case { name: "no shards at all", shards: &[], ..BASE },
    Case { name: "all equal", values: Values::Equal, shards: &[300, 300], k: 40, ..BASE },
    Case { name: "rising", values: Values::Rising, shards: &[600], k: 20, ..BASE },
    Case { name: "rising, long, deep", values: Values::Rising, shards: &[3000, 3000], k: 1000, queries: 1, dimension: 1, ..BASE },
    Case { name: "falling", values: Values::Falling, shards: &[600], k: 20, ..BASE },
    Case { name: "negative", values: Values::Negative, ..BASE },
    Case { name: "denormal", values: Values::Denormal, ..BASE },
    Case { name: "a third excluded", exclude: 3, shards: &[150, 150], ..BASE },
    Case { name: "all excluded", exclude: 1, ..BASE },
    Case { name: "ceiling", ceiling: Some(4.0), ..BASE },
    Case { name: "ceiling below all", ceiling: Some(-1e6), ..BASE },
    Case { name: "ceiling and exclusions over shards", ceiling: Some(2.0), exclude: 2, shards: &[60, 61], k: 30, ..BASE },
    Case { name: "floor", floor: Some(1.0), k: 90, ..BASE },
    Case { name: "floor above all", floor: Some(1e6), ..BASE },
    Case { name: "between floor and ceiling", floor: Some(-2.0), ceiling: Some(2.0), exclude: 4, shards: &[150, 150], k: 200, ..BASE },
    Case { name: "floor above the ceiling", floor: Some(3.0), ceiling: Some(1.0), ..BASE },
    Case { name: "ranks 10 to 30", ask: Ask::Best(10), k: 20, shards: &[300, 20], ..BASE },
    Case { name: "ranks that end behind the last row", ask: Ask::Best(60), k: 60, ..BASE },
    Case { name: "ranks that begin behind the last row", ask: Ask::Best(200), ceiling: Some(1.0), ..BASE },
    Case { name: "the deepest window", ask: Ask::Best(1023), k: 1, shards: &[1500], ..BASE },
    Case { name: "counts", bins: BINS, shards: &[200, 0, 150], exclude: 5, ceiling: Some(2.0), floor: Some(0.0), ..BASE },
    Case { name: "counts of many queries, one bin", bins: Some(Bins { low: -1.0, high: 2.0, count: 1 }), queries: 70, ..BASE },
    Case { name: "counts, most bins", bins: Some(Bins { low: -90.0, high: 90.0, count: Bins::MOST }), k: 1000, shards: &[1200], ..BASE },
    Case { name: "counts, all excluded", bins: BINS, exclude: 1, ..BASE },
    Case { name: "counts, no rows", bins: BINS, shards: &[], ..BASE },
    Case { name: "uniform draw", ask: Ask::Uniform, shards: &[300, 1, 80], k: 12, ..BASE },
    Case { name: "uniform draw of all", ask: Ask::Uniform, k: 100, ..BASE },
    Case { name: "uniform draw of more than there are", ask: Ask::Uniform, k: 100, exclude: 2, floor: Some(0.0), ..BASE },
    Case {
        name: "uniform draw within bounds, counted",
        ask: Ask::Uniform,
        floor: Some(-1.0),
        ceiling: Some(4.0),
        exclude: 3,
        bins: BINS,
        shards: &[700],
        ..BASE
    },
    Case { name: "uniform draw for many queries", ask: Ask::Uniform, queries: 130, shards: &[500], k: 3, ..BASE },
    Case { name: "uniform draw from equal rows", ask: Ask::Uniform, values: Values::Equal, shards: &[400], k: 7, ..BASE },
    Case { name: "draw near a score", ask: Ask::Near(0.05), shards: &[300, 90], k: 12, ..BASE },
    Case {
        name: "draw near a score, narrow, within bounds",
        ask: Ask::Near(2.0),
        floor: Some(-3.0),
        ceiling: Some(3.0),
        exclude: 3,
        shards: &[500],
        k: 9,
        ..BASE
    },
    Case { name: "draw near a score, deep, counted", ask: Ask::Near(0.5), bins: BINS, k: 200, shards: &[700, 300], queries: 20, ..BASE },
    Case { name: "draw near a score of negative ones", ask: Ask::Near(0.01), values: Values::Negative, shards: &[200], ..BASE },
    Case { name: "nine queries", queries: 9, shards: &[200], k: 20, exclude: 6, ..BASE },
    Case { name: "eight queries", queries: 8, shards: &[200], k: 20, exclude: 6, ..BASE },
    Case { name: "a full panel and one query", queries: 33, shards: &[200], dimension: 33, k: 20, ..BASE },
    Case { name: "one hot row", values: Values::Hot, shards: &[300], queries: 40, k: 3, ..BASE },
    Case { name: "fractions of many queries", values: Values::Real, dimension: 40, shards: &[500], queries: 50, k: 10, ..BASE },
    Case { name: "long lists of rows for many queries", shards: &[1500, 1500], queries: 70, dimension: 33, exclude: 9, ..BASE },
    Case { name: "the best of many rows for many queries", shards: &[3000], queries: 66, dimension: 12, k: 1, ceiling: Some(40.0), ..BASE },
    Case { name: "one hot row for many queries", values: Values::Hot, shards: &[1500], queries: 67, k: 2, ..BASE },
    Case { name: "many rows, all equal, for many queries", values: Values::Equal, shards: &[1500], queries: 80, ..BASE },
    Case { name: "fractions of many rows", values: Values::Real, dimension: 70, shards: &[2000], queries: 65, k: 4, ..BASE },
    Case { name: "fractions", values: Values::Real, dimension: 64, shards: &[500], k: 10, ..BASE },
];

/// Cases whose rows are stored as f16.
pub const HALF_CASES: &[Case] = &[
    Case { name: "f16", half: true, ..BASE },
    Case { name: "f16 queries", half_queries: true, ..BASE },
    Case { name: "f16 on both sides", half: true, half_queries: true, dimension: 19, shards: &[77], ..BASE },
    Case { name: "f16, an odd number of numbers", half: true, dimension: 3, shards: &[33, 31], ..BASE },
    Case { name: "f16, many queries", half: true, queries: 70, dimension: 21, shards: &[150, 70], k: 20, ..BASE },
    Case { name: "f16, uniform draw", half: true, ask: Ask::Uniform, shards: &[150], ..BASE },
    Case { name: "f16, two shards, exclusions", half: true, exclude: 3, shards: &[150, 300], k: 20, ..BASE },
];

/// The numbers of a case.
#[derive(Clone, Debug)]
pub struct Problem {
    /// `[queries, dimension]`.
    pub queries: Vec<f32>,
    /// `[rows, dimension]` of all shards.
    pub rows: Vec<f32>,
    /// Excluded ids.
    pub exclusions: Option<Exclusions>,
    /// Ceilings.
    pub ceiling: Option<Vec<f32>>,
    /// Floors.
    pub floor: Option<Vec<f32>>,
    /// Keys of the queries, for draws.
    pub keys: Vec<u64>,
    /// Where to draw most.
    pub centres: Vec<f32>,
}

impl Problem {
    /// What the case asks of these numbers.
    #[must_use]
    pub fn rules(&self, case: &Case) -> Rules<'_> {
        let (seed, keys) = (11, self.keys.as_slice());
        let choice = match case.ask {
            Ask::Best(skip) => Choice::Best { skip },
            Ask::Uniform => Choice::Uniform { seed, keys },
            Ask::Near(sharpness) => Choice::Near { seed, keys, sharpness, centres: &self.centres },
        };
        let [ceiling, floor] = [&self.ceiling, &self.floor].map(Option::as_deref);
        Rules { k: case.k, exclusions: self.exclusions.as_ref(), ceiling, floor, choice, bins: case.bins }
    }
}

impl Case {
    /// Rows of all shards.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shards.iter().sum()
    }

    /// Makes the numbers; the same for the same case and seed.
    #[must_use]
    pub fn problem(&self, seed: u64) -> Problem {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
        let mut random = move || {
            // xorshift64 (Marsaglia 2003): small whole numbers need no better generator.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut whole = move || (random() >> 33) as f32 % 7.0 - 3.0;
        let (rows, width) = (self.rows(), self.dimension);
        let mut fill = |count: usize, value: &dyn Fn(usize, usize, f32) -> f32| -> Vec<f32> {
            (0..count * width).map(|place| value(place / width, place % width, whole())).collect()
        };
        let (queries, rows) = match self.values {
            Values::Whole => (fill(self.queries, &|_, _, v| v), fill(rows, &|_, _, v| v)),
            Values::Equal => (fill(self.queries, &|_, _, v| v), fill(rows, &|_, column, _| (column % 3) as f32)),
            Values::Rising => {
                (fill(self.queries, &|_, _, _| 1.0), fill(rows, &|row, column, _| if column == 0 { row as f32 } else { 0.0 }))
            }
            Values::Falling => {
                (fill(self.queries, &|_, _, _| 1.0), fill(rows, &|row, column, _| if column == 0 { -(row as f32) } else { 0.0 }))
            }
            Values::Hot => {
                (fill(self.queries, &|_, _, v| v.abs() + 1.0), fill(rows, &|row, _, v| if row == rows / 2 { 1000.0 } else { v }))
            }
            Values::Negative => (fill(self.queries, &|_, _, v| v.abs() + 1.0), fill(rows, &|_, _, v| -v.abs() - 1.0)),
            Values::Denormal => (fill(self.queries, &|_, _, v| v * 2f32.powi(-70)), fill(rows, &|_, _, v| v * 2f32.powi(-70))),
            Values::Real => {
                (fill(self.queries, &|_, column, v| (v + 0.1) / (column + 1) as f32), fill(rows, &|row, _, v| v / 3.0 + row as f32 * 1e-4))
            }
        };
        let round = |values: Vec<f32>, half: bool| match half {
            true => values.into_iter().map(|value| burn::tensor::f16::from_f32(value).to_f32()).collect(),
            false => values,
        };
        let (queries, rows): (Vec<f32>, Vec<f32>) = (round(queries, self.half_queries), round(rows, self.half));
        let exclusions = (self.exclude > 0).then(|| {
            let ids = |query: usize| (0..self.rows() as u32).filter(|id| (*id as usize + query).is_multiple_of(self.exclude)).collect();
            Exclusions::from_rows((0..self.queries).map(ids))
        });
        let [ceiling, floor] =
            [self.ceiling, self.floor].map(|bound| bound.map(|bound| (0..self.queries).map(|query| bound + query as f32).collect()));
        let keys = (0..self.queries as u64).map(|query| query * query + seed).collect();
        let centres = (0..self.queries).map(|query| query as f32 - 1.0).collect();
        Problem { queries, rows, exclusions, ceiling, floor, keys, centres }
    }
}
