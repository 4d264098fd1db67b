//! Products of matrices that lie in the inner caches, read where they lie: one attention head's few rows and columns, which are too small for a general library, or a block of rows and a panel of weights.

#![allow(unsafe_code)]

use super::wide::Lanes;

/// Where a matrix lies: its first number, and how far it is to the next row and column.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) at: *const f32,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// Where a product goes; columns lie side by side.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) at: *mut f32,
    pub(crate) row: usize,
    /// Adds to what is there instead of replacing it.
    pub(crate) add: bool,
}

/// `into [m, n] (+)= a [m, k] x b [k, n]`; the columns of `b` lie side by side (its `column` is not looked at).
///
/// # Safety
/// All numbers of `a` and `b` must be readable and those of `into` writable and not among them; `into` must be initialised when it is added to.
/// The processor must have the instructions of `L`.
#[inline(always)]
pub(crate) unsafe fn product<L: Lanes>([m, n, k]: [usize; 3], a: View, b: View, into: Target) {
    let mut column = 0;
    // SAFETY: every tile lies within the matrices that the caller promises.
    unsafe {
        while n - column >= 2 * L::COUNT {
            rows::<L, 2>(m, k, a, b.at.add(column), b.row, into.at.add(column), into);
            column += 2 * L::COUNT;
        }
        while n - column >= L::COUNT {
            rows::<L, 1>(m, k, a, b.at.add(column), b.row, into.at.add(column), into);
            column += L::COUNT;
        }
        for column in column..n {
            for row in 0..m {
                let into_at = into.at.add(row * into.row + column);
                let mut sum = if into.add { *into_at } else { 0.0 };
                for place in 0..k {
                    sum += *a.at.add(row * a.row + place * a.column) * *b.at.add(place * b.row + column);
                }
                *into_at = sum;
            }
        }
    }
}

/// All rows of a panel of `V` vectors of columns.
#[inline(always)]
unsafe fn rows<L: Lanes, const V: usize>(m: usize, k: usize, a: View, b: *const f32, b_row: usize, at: *mut f32, into: Target) {
    let mut row = 0;
    // SAFETY: see `product`.
    unsafe {
        macro_rules! tiles {
            ($count:literal) => {
                while m - row >= $count {
                    let a = View { at: a.at.add(row * a.row), ..a };
                    tile::<L, $count, V>(k, a, b, b_row, at.add(row * into.row), into);
                    row += $count;
                }
            };
        }
        // Sums, vectors of `b` and a factor of `a` must all have registers: with sums in memory a product takes several times as long. But fewer sums than an addition takes cycles
        // wait for each other.
        if V == 1 {
            tiles!(12);
        } else if L::REGISTERS >= 32 {
            tiles!(8);
        } else {
            tiles!(6);
        }
        tiles!(4);
        tiles!(2);
        tiles!(1);
    }
}

/// `R` rows of `V` vectors, all sums in registers.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize>(k: usize, a: View, b: *const f32, b_row: usize, at: *mut f32, into: Target) {
    // SAFETY: see `product`.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; R];
        if into.add {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = L::load(at.add(row * into.row + vector * L::COUNT));
                }
            }
        }
        for place in 0..k {
            let mut columns = [L::splat(0.0); V];
            for (vector, column) in columns.iter_mut().enumerate() {
                *column = L::load(b.add(place * b_row + vector * L::COUNT));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = L::splat(*a.at.add(row * a.row + place * a.column));
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = factor.times_plus(columns[vector], *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                sum.store(at.add(row * into.row + vector * L::COUNT));
            }
        }
    }
}
