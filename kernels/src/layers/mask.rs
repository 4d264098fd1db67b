//! Which numbers dropout keeps: a function of (key, row, column) and of nothing else, so the backward pass asks again instead of remembering.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::{Device, Distribution, Tensor};

use super::on_cpu;

static THREADS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// Where this thread's sequence of keys stands, for devices that would have to be waited for. Threads that were never seeded begin at different places.
    static KEYS: Cell<u64> = Cell::new(mixed(THREADS.fetch_add(1, Ordering::Relaxed)));
}

/// Seeds all that draws random numbers on the device: its own generator, and the dropout of this thread's layers. Training passes after the same seed drop the same.
pub fn seed(device: &Device, seed: u64) {
    device.seed(seed);
    KEYS.set(mixed(seed));
}

/// splitmix64 (Steele, Lea and Flood 2014): neighbours share nothing.
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// What splitmix64 adds at every draw.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Dropout of one application of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dropout {
    threshold: u32,
    scale: f32,
    key: u64,
}

impl Dropout {
    /// Drops with this probability, in `[0, 1)`; `None` when that is 0. On the CPU the key is drawn from the device's generator, so that seeding the device decides it;
    /// on a GPU, whose numbers would have to be waited for, from the thread's sequence of keys, which [`seed`] sets.
    pub(crate) fn draw(probability: f64, device: &Device) -> Option<Self> {
        if probability == 0.0 {
            return None;
        }
        let device = device.clone().without_autodiff();
        if !on_cpu(&device) {
            let key = KEYS.get().wrapping_add(STEP);
            KEYS.set(key);
            return Some(Self::new(probability, mixed(key)));
        }
        let numbers = Tensor::<1>::random([3], Distribution::Uniform(0.0, 1.0), &device).into_data();
        // 22 bits of each of three numbers, which are multiples of 2^-23 or finer.
        let key = numbers.iter::<f32>().fold(0u64, |key, number| (key << 22) ^ u64::from((number * 4_194_304.0) as u32));
        Some(Self::new(probability, key))
    }

    /// Drops with this probability under a given key.
    pub(crate) fn new(probability: f64, key: u64) -> Self {
        assert!((0.0..1.0).contains(&probability), "the probability of dropout is {probability}, expected a number in [0, 1)");
        Self { threshold: (probability * 4_294_967_296.0) as u32, scale: (1.0 / (1.0 - probability)) as f32, key }
    }

    /// Threshold, scale, and the key's lower and upper half: what a kernel takes.
    pub(crate) fn words(self) -> (u32, f32, u32, u32) {
        (self.threshold, self.scale, self.key as u32, (self.key >> 32) as u32)
    }

    /// The part of the mask in one row.
    pub(crate) fn row(self, row: usize) -> RowMask {
        let bits = mixed(self.key.wrapping_add((row as u64 + 1).wrapping_mul(STEP)));
        RowMask { threshold: self.threshold, scale: self.scale, low: bits as u32, high: (bits >> 32) as u32 }
    }
}

/// One row of a mask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowMask {
    threshold: u32,
    scale: f32,
    low: u32,
    high: u32,
}

impl RowMask {
    /// What the number in this column is multiplied by: 0, or one over the probability of being kept.
    #[inline(always)]
    pub(crate) fn factor(self, column: u32) -> f32 {
        // The finaliser of MurmurHash3 (Appleby 2011) over the column, with half the row's key before it and half in its middle.
        let mut bits = column.wrapping_mul(0x9e37_79b9) ^ self.low;
        bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b) ^ self.high;
        bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
        bits ^= bits >> 16;
        if bits < self.threshold { 0.0 } else { self.scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_a_function_of_key_row_and_column() {
        let mask = Dropout::new(0.3, 11);
        let bits = |mask: Dropout, row: usize| (0..1000).map(|column| mask.row(row).factor(column) != 0.0).collect::<Vec<_>>();
        assert_eq!(bits(mask, 5), bits(mask, 5));
        let agree = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
        // Independent masks agree where both keep or both drop: 0.7^2 + 0.3^2 = 0.58, with a standard deviation of 0.016 over 1000.
        for (a, b) in [(bits(mask, 5), bits(mask, 6)), (bits(mask, 5), bits(Dropout::new(0.3, 12), 5))] {
            assert!((agree(&a, &b) - 0.58).abs() < 0.08, "{}", agree(&a, &b));
        }
        let shifted = bits(mask, 5);
        assert!((agree(&shifted[1..], &shifted[..999]) - 0.58).abs() < 0.08);
    }

    #[test]
    fn the_share_dropped_is_the_probability_in_rows_and_in_columns() {
        let mask = Dropout::new(0.1, 3);
        let dropped = |rows: std::ops::Range<usize>, columns: std::ops::Range<u32>| {
            let count = rows.len() * columns.len();
            let zero = rows.map(|row| columns.clone().filter(|&column| mask.row(row).factor(column) == 0.0).count()).sum::<usize>();
            zero as f64 / count as f64
        };
        // Standard deviation 0.0003 over a million, 0.003 over ten thousand.
        assert!((dropped(0..1000, 0..1000) - 0.1).abs() < 0.0015);
        for place in [0u32, 1, 17, 384] {
            assert!((dropped(0..10_000, place..place + 1) - 0.1).abs() < 0.015);
            assert!((dropped(place as usize..place as usize + 1, 0..10_000) - 0.1).abs() < 0.015);
        }
        assert!((mask.row(0).factor((0..100).find(|&column| mask.row(0).factor(column) > 0.0).unwrap()) - 1.0 / 0.9).abs() < 1e-7);
    }

    #[test]
    fn seeding_the_device_decides_the_key() {
        let device = Device::flex();
        let draw = |seed: u64| {
            device.seed(seed);
            [Dropout::draw(0.1, &device).unwrap(), Dropout::draw(0.1, &device).unwrap()]
        };
        // Other tests draw from the one generator of the process meanwhile, so a few tries are allowed.
        assert!((0..50).any(|_| draw(1) == draw(1)));
        let [first, second] = draw(1);
        assert_ne!(first, second);
        assert_ne!(draw(2)[0], draw(3)[0]);
        assert_eq!(Dropout::draw(0.0, &device), None);
    }
}
