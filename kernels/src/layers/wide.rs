//! The widest vector instructions of the processor, chosen at run time, and the two functions that every layer needs from them.
//!
//! A body is written once, generic over [`Lanes`], and [`widest!`] compiles it for AVX-512, for AVX2 with FMA and for whatever the build targets. Plain loops
//! in a body are vectorised by the compiler; [`Lanes`] is for those that it does not vectorise: products and sums.

#![allow(unsafe_code)]

/// A vector register of 32-bit floats.
pub(crate) trait Lanes: Copy {
    /// Floats in it.
    const COUNT: usize;
    /// Whether the processor multiplies and adds in one instruction; where it does not, `mul_add` is a slow call.
    const FUSED: bool;
    /// Such registers that the processor has.
    const REGISTERS: usize;
    /// # Safety
    /// The processor must have the instructions, here and in all that follow.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// [`Self::COUNT`] floats must be readable at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// [`Self::COUNT`] floats must be writable at `into`.
    unsafe fn store(self, into: *mut f32);
    /// # Safety
    /// See [`Self::splat`].
    unsafe fn add(self, other: Self) -> Self;
    /// The larger of each two.
    /// # Safety
    /// See [`Self::splat`].
    unsafe fn larger(self, other: Self) -> Self;
    /// self x by + plus.
    /// # Safety
    /// See [`Self::splat`].
    unsafe fn times_plus(self, by: Self, plus: Self) -> Self;
}

/// Four floats, which every 64-bit processor has registers for.
impl Lanes for [f32; 4] {
    const COUNT: usize = 4;
    const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 32 } else { 16 };
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises four floats, and an array has their alignment.
        unsafe { *from.cast() }
    }
    #[inline(always)]
    unsafe fn store(self, into: *mut f32) {
        // SAFETY: as above.
        unsafe { *into.cast() = self }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        std::array::from_fn(|lane| if self[lane] > other[lane] { self[lane] } else { other[lane] })
    }
    #[inline(always)]
    unsafe fn times_plus(self, by: Self, plus: Self) -> Self {
        std::array::from_fn(|lane| times_plus::<Self>(self[lane], by[lane], plus[lane]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64 as arch;

    macro_rules! lanes {
        ($register:ident, $count:literal, $registers:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $larger:ident, $times_plus:ident) => {
            // SAFETY (of every body): the caller promises the instructions, and the floats behind a pointer; loads and stores are unaligned.
            impl Lanes for arch::$register {
                const COUNT: usize = $count;
                const FUSED: bool = true;
                const REGISTERS: usize = $registers;
                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    unsafe { arch::$splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    unsafe { arch::$load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, into: *mut f32) {
                    unsafe { arch::$store(into, self) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    unsafe { arch::$add(self, other) }
                }
                #[inline(always)]
                unsafe fn larger(self, other: Self) -> Self {
                    unsafe { arch::$larger(self, other) }
                }
                #[inline(always)]
                unsafe fn times_plus(self, by: Self, plus: Self) -> Self {
                    unsafe { arch::$times_plus(self, by, plus) }
                }
            }
        };
    }
    lanes!(__m512, 16, 32, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_max_ps, _mm512_fmadd_ps);
    lanes!(__m256, 8, 16, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_max_ps, _mm256_fmadd_ps);
}

/// `widest!(fn name(argument: Type, ...) -> Result = body)` defines `name`, which calls `body::<L>(argument, ...)` compiled for the processor it runs on.
/// `body` must be `#[inline(always)]`, or it is compiled for the baseline after all.
macro_rules! widest {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:ident) => {
        $(#[$attribute])*
        #[allow(unsafe_code)]
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn with_avx512($($argument: $type),*) $(-> $result)? {
                    $body::<std::arch::x86_64::__m512>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn with_avx2($($argument: $type),*) $(-> $result)? {
                    $body::<std::arch::x86_64::__m256>($($argument),*)
                }
                let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
                if fused && wide && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
                    // SAFETY: the processor has every instruction set that the function is compiled for.
                    return unsafe { with_avx512($($argument),*) };
                }
                if fused {
                    // SAFETY: as above.
                    return unsafe { with_avx2($($argument),*) };
                }
            }
            $body::<[f32; 4]>($($argument),*)
        }
    };
}
pub(crate) use widest;

/// a x b + c, rounded once where that is fast.
#[inline(always)]
pub(crate) fn times_plus<L: Lanes>(a: f32, b: f32, c: f32) -> f32 {
    if L::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// A polynomial, lowest coefficient first (Horner).
#[inline(always)]
pub(crate) fn polynomial<L: Lanes, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    let mut power = N - 1;
    while power > 0 {
        power -= 1;
        sum = times_plus::<L>(sum, x, coefficients[power]);
    }
    sum
}

/// e^x for x of at most 0, within 2e-7 of the true value relative to it; below -87.3, where e^x leaves the normal numbers, e^-87.3. NaN stays NaN.
#[inline(always)]
#[allow(clippy::excessive_precision, clippy::manual_clamp, reason = "`max` would lose NaN")]
pub(crate) fn exponential<L: Lanes>(x: f32) -> f32 {
    let x = if x < -87.3 { -87.3 } else { x };
    // Adding 1.5 x 2^23 rounds to the nearest whole number and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = times_plus::<L>(x, std::f32::consts::LOG2_E, ROUND);
    let power = rounded - ROUND;
    // ln 2 in two parts, the first with so few digits that its product with the power is exact.
    let rest = times_plus::<L>(power, -0.693_359_375, x);
    let rest = times_plus::<L>(power, 2.121_944_4e-4, rest);
    // Minimax fit of (e^r - 1 - r) / r^2 over half a power of two either side.
    let tail = polynomial::<L, 5>(rest, [0.499_999_934_5, 0.166_665_206_4, 0.041_668_387_4, 0.008_368_715_6, 0.001_381_463_6]);
    let mantissa = times_plus::<L>(rest * rest, tail, rest) + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    mantissa * f32::from_bits(exponent)
}

/// Folds `term(slice, place)` vectors with `join`, four running vectors at a time, and the lanes and the rest with `join_one`. The result depends on the
/// processor's width but on nothing else.
macro_rules! fold {
    ($L:ident, $length:expr, $start:expr, |$at:ident| $term:expr, $join:ident, |$place:ident, $sum:ident| $rest:expr, |$x:ident, $y:ident| $both:expr) => {{
        let step = 4 * $L::COUNT;
        let whole = $length / step * step;
        // SAFETY: the body is compiled for a processor with these lanes, and every load ends at `whole` or before, which no slice ends before.
        let mut $sum = unsafe {
            let mut running = [$L::splat($start); 4];
            for begin in (0..whole).step_by(step) {
                for (part, running) in running.iter_mut().enumerate() {
                    let $at = begin + part * $L::COUNT;
                    *running = running.$join($term);
                }
            }
            let mut lanes = [$start; 16];
            running[0].$join(running[1]).$join(running[2].$join(running[3])).store(lanes.as_mut_ptr());
            let mut all = lanes[0];
            for &$y in &lanes[1..$L::COUNT] {
                let $x = all;
                all = $both;
            }
            all
        };
        for $place in whole..$length {
            $sum = $rest;
        }
        $sum
    }};
}

/// Sum of products.
#[inline(always)]
pub(crate) fn dot<L: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (from_a, from_b) = (a.as_ptr(), b.as_ptr());
    let product = |at: usize| unsafe { L::load(from_a.add(at)).times_plus(L::load(from_b.add(at)), L::splat(0.0)) };
    fold!(L, a.len(), 0.0, |at| product(at), add, |place, sum| times_plus::<L>(a[place], b[place], sum), |x, y| x + y)
}

/// Sum.
#[inline(always)]
pub(crate) fn total<L: Lanes>(a: &[f32]) -> f32 {
    let from = a.as_ptr();
    fold!(L, a.len(), 0.0, |at| L::load(from.add(at)), add, |place, sum| sum + a[place], |x, y| x + y)
}

/// The largest number, or negative infinity when there is none; NaN may be passed over.
#[inline(always)]
pub(crate) fn largest<L: Lanes>(a: &[f32]) -> f32 {
    let from = a.as_ptr();
    let larger = |x: f32, y: f32| if x > y { x } else { y };
    fold!(L, a.len(), f32::NEG_INFINITY, |at| L::load(from.add(at)), larger, |place, sum| larger(sum, a[place]), |x, y| larger(x, y))
}
