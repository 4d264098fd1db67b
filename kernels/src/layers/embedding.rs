//! Rows of a table by number, sums of rows, and the embedding bag, a mean of rows for each text: all are sums over lists of rows that the host makes, in one direction or in both.
//!
//! A gather's own gradient would add up the places one by one in an order that depends on the device, or have a few units go through all of them. Over lists every sum has one
//! owner and one order.

#![allow(unsafe_code)]

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::wide::{Lanes, widest};
use super::{numbers, tensor};

/// Places of a chunk at least: a row that has many is added up in many of them on a GPU.
const CHUNK: usize = 32;

/// Chunks of as many places as would fill this many: enough for a large card, and no more memory for their sums than it takes.
const CHUNKS: usize = 16_384;

/// Rows of a task on the CPU, about: those that are added up and those that are written. A pass of a refresh on the CPU has some dozen then.
const TASK: usize = 256;

/// Which rows of a tensor are added up into which row of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lists {
    pub(super) extent: Extent,
    /// Ends of the chunks among the places, `[chunks + 1]`; the rows that have a list, ascending; ends of these rows among the chunks, `[rows + 1]`; the places: row by row what is added up, in
    /// this order.
    pub(super) numbers: Vec<i32>,
}

/// How long the parts of [`Lists`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Rows that sums are made for; those that have no list are zeros.
    pub(super) height: usize,
    /// Rows that have a list.
    pub(super) rows: usize,
    /// Chunks of all of them.
    pub(super) chunks: usize,
}

/// What is multiplied by a factor on its way into a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factors {
    None,
    /// Each sum, by its row's.
    OfSums,
    /// Each row that is added up, by its own.
    OfRows,
}

impl Factors {
    /// The same factors in the transposed sums.
    pub(super) fn transposed(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::OfSums => Self::OfRows,
            Self::OfRows => Self::OfSums,
        }
    }
}

impl Lists {
    /// Lists for `height` rows: place i, of row `sources(i)`, is added to row `owners[i]`.
    ///
    /// # Panics
    /// When an owner is no such row, or places are more than 32 bits count.
    pub(super) fn new(owners: impl Iterator<Item = usize> + Clone, height: usize, sources: impl Fn(usize) -> i32) -> Self {
        let (mut counts, mut all) = (vec![0u32; height], 0usize);
        owners.clone().for_each(|owner| {
            counts[owner] += 1;
            all += 1;
        });
        assert!(i32::try_from(all).is_ok(), "sums over {all} rows, and 32-bit integers count them: make smaller batches");
        let most = CHUNK.max(all.div_ceil(CHUNKS));
        let (mut ends, mut rows, mut row_ends) = (vec![0], Vec::new(), vec![0]);
        let mut end = 0;
        // From here on the place that a row fills next.
        for (row, count) in counts.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            let size = std::mem::replace(count, end);
            (0..size).step_by(most).for_each(|at| ends.push((end + size.min(at + most as u32)) as i32));
            end += size;
            rows.push(row as i32);
            row_ends.push(ends.len() as i32 - 1);
        }
        let extent = Extent { height, rows: rows.len(), chunks: ends.len() - 1 };
        let mut numbers: Vec<i32> = ends.into_iter().chain(rows).chain(row_ends).collect();
        let places = numbers.len();
        numbers.resize(places + all, 0);
        for (place, owner) in owners.enumerate() {
            numbers[places + counts[owner] as usize] = sources(place);
            counts[owner] += 1;
        }
        Self { extent, numbers }
    }

    /// No lists, where no gradient will be asked for.
    pub(super) fn none(height: usize) -> Self {
        Self { extent: Extent { height, rows: 0, chunks: 0 }, numbers: vec![0, 0] }
    }

    /// What is added to which row, `[rows that are added to, rows that are added]`.
    pub(super) fn pairs(&self) -> [Vec<i32>; 2] {
        let Extent { rows, chunks, .. } = self.extent;
        let (ends, rest) = self.numbers.split_at(chunks + 1);
        let (owners, rest) = rest.split_at(rows);
        let (row_ends, places) = rest.split_at(rows + 1);
        let length = |row: usize| (ends[row_ends[row + 1] as usize] - ends[row_ends[row] as usize]) as usize;
        [owners.iter().enumerate().flat_map(|(row, &owner)| std::iter::repeat_n(owner, length(row))).collect(), places.to_vec()]
    }

    /// Each place is added to the row with its number.
    pub(super) fn of(ids: &[i32], height: usize) -> Self {
        Self::new(ids.iter().map(|&id| id as usize), height, |place| place as i32)
    }
}

/// The rows of the table.
pub(super) fn rows(table: FlexTensor, ids: FlexTensor) -> FlexTensor {
    Flex::float_select(table, 0, ids)
}

/// Rows added up as [`Lists`] say, `[height, width]`. There is a factor for each sum or each row of the input, as `which` says.
pub(super) fn sums(input: &FlexTensor, factors: &FlexTensor, which: Factors, lists: &FlexTensor, extent: Extent) -> FlexTensor {
    let [input, lists] = [input, lists].map(FlexTensor::to_contiguous);
    let width = input.layout().shape()[1];
    let lists: &[i32] = lists.as_slice().expect("lists are contiguous 32-bit integers");
    let (ends, rest) = lists.split_at(extent.chunks + 1);
    let (owners, rest) = rest.split_at(extent.rows);
    let (row_ends, places) = rest.split_at(extent.rows + 1);
    let end = |row: usize| ends[row_ends[row] as usize] as usize;
    let factors = (which != Factors::None).then(|| factors.to_contiguous());
    let summing = Summing { input: numbers(&input), width, factors: factors.as_ref().map_or(&[], |factors| numbers(factors)), which };
    // Rows of the output for each task, and the lists that make some of them.
    let (mut tasks, mut row, mut list) = (Vec::new(), 0, 0);
    while row < extent.height {
        let ((begin, first), mut cost) = ((row, list), 0);
        while row < extent.height && cost < TASK {
            let listed = if list < extent.rows { owners[list] as usize } else { extent.height };
            let zeros = (listed - row).min(TASK - cost);
            (row, cost) = (row + zeros, cost + zeros);
            if row == listed && listed < extent.height {
                cost += 1 + end(list + 1) - end(list);
                (row, list) = (row + 1, list + 1);
            }
        }
        tasks.push((begin..row, first..list));
    }
    let mut sums: Vec<f32> = Vec::with_capacity(extent.height * width);
    let mut open = &mut sums.spare_capacity_mut()[..extent.height * width];
    let tasks: Vec<_> = tasks
        .into_iter()
        .map(|(rows, lists)| {
            let (own, rest) = std::mem::take(&mut open).split_at_mut(rows.len() * width);
            open = rest;
            (own, rows, lists)
        })
        .collect();
    tasks.into_par_iter().for_each(|(mut own, rows, lists)| {
        let mut begin = rows.start;
        // Zeros are written just before a row is added up, while it is in the cache.
        let mut take = |until: usize| {
            let (rows, rest) = std::mem::take(&mut own).split_at_mut((until - begin) * width);
            (own, begin) = (rest, until);
            rows.iter_mut().for_each(|number| _ = number.write(0.0));
            // SAFETY: written just now.
            unsafe { rows.assume_init_mut() }
        };
        for list in lists {
            let owner = owners[list] as usize;
            take(owner);
            add_up(take(owner + 1), &places[end(list)..end(list + 1)], owner, summing);
        }
        take(rows.end);
    });
    // SAFETY: the tasks' rows are all rows, and every number of them was written.
    unsafe { sums.set_len(extent.height * width) };
    tensor(sums, [extent.height, width])
}

/// What rows are added up from.
#[derive(Clone, Copy)]
struct Summing<'a> {
    input: &'a [f32],
    width: usize,
    factors: &'a [f32],
    which: Factors,
}

widest!(
    /// Adds these rows to the sum of `owner`.
    fn add_up(sum: &mut [f32], places: &[i32], owner: usize, of: Summing<'_>) = add_up_body
);

#[inline(always)]
fn add_up_body<L: Lanes>(sum: &mut [f32], places: &[i32], owner: usize, of: Summing<'_>) {
    let width = sum.len();
    let row = |place: i32| &of.input[place as usize * of.width..][..width];
    let factor = |place: i32| if of.which == Factors::OfRows { of.factors[place as usize] } else { 1.0 };
    // Eight rows at a time, in pairs: the sum is read and written an eighth as often, and rounded as often less.
    let (eights, rest) = places.as_chunks::<8>();
    for &eight in eights {
        let ([a, b, c, d, e, f, g, h], by) = (eight.map(row), eight.map(factor));
        for column in 0..width {
            let first = (a[column] * by[0] + b[column] * by[1]) + (c[column] * by[2] + d[column] * by[3]);
            let second = (e[column] * by[4] + f[column] * by[5]) + (g[column] * by[6] + h[column] * by[7]);
            sum[column] += first + second;
        }
    }
    for &place in rest {
        let (row, by) = (row(place), factor(place));
        for column in 0..width {
            sum[column] += row[column] * by;
        }
    }
    if of.which == Factors::OfSums {
        let by = of.factors[owner];
        for column in 0..width {
            sum[column] *= by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_places_by_owner_in_their_order_and_chunks_of_them() {
        let owners: Vec<i32> = [3, 1, 3].into_iter().chain([1; 33]).collect();
        let Lists { extent, numbers } = Lists::of(&owners, 5);
        assert_eq!(extent, Extent { height: 5, rows: 2, chunks: 3 });
        let ones = [1].into_iter().chain(3..36);
        let expected: Vec<i32> = [0, 32, 34, 36, 1, 3, 0, 2, 3].into_iter().chain(ones).chain([0, 2]).collect();
        assert_eq!(numbers, expected);
        let [owners, rows] = Lists::new([2, 0, 2].into_iter(), 3, |place| 10 * place as i32).pairs();
        assert_eq!((owners, rows), (vec![0, 2, 2], vec![10, 0, 20]));
        let many = Lists::of(&vec![0; 40 * CHUNKS], 1);
        assert_eq!((many.extent.chunks, &many.numbers[..3]), (CHUNKS, &[0, 40, 80][..]));
        assert_eq!(Lists::of(&[], 2), Lists::none(2));
    }
}
