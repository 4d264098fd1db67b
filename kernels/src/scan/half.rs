//! 16-bit floats to 32-bit ones, with the processor's instructions where it has them.

#![allow(unsafe_code)]

use burn::tensor::f16;

/// `into[i] = from[i]`, exactly.
pub(crate) fn widen(from: &[f16], into: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions.
            return unsafe { x86::by_16(from, into) };
        }
        if is_x86_feature_detected!("avx") && is_x86_feature_detected!("f16c") {
            // SAFETY: as above.
            return unsafe { x86::by_8(from, into) };
        }
    }
    one_by_one(from, into);
}

fn one_by_one(from: &[f16], into: &mut [f32]) {
    assert_eq!(from.len(), into.len());
    into.iter_mut().zip(from).for_each(|(into, from)| *into = from.to_f32());
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64 as arch;

    use burn::tensor::f16;

    macro_rules! widen {
        ($name:ident, $features:literal, $count:literal, $load:ident, $register:ident, $convert:ident, $store:ident) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(from: &[f16], into: &mut [f32]) {
                assert_eq!(from.len(), into.len());
                let whole = from.len() / $count * $count;
                let (source, target) = (from.as_ptr(), into.as_mut_ptr());
                let mut at = 0;
                // Adapters with closures are not inlined here.
                while at < whole {
                    // SAFETY: both slices are as long, and have as many numbers from here as the registers; an f16 is 16 bits; loads and
                    // stores are unaligned.
                    unsafe { arch::$store(target.add(at), arch::$convert(arch::$load(source.add(at).cast::<arch::$register>()))) };
                    at += $count;
                }
                super::one_by_one(&from[whole..], &mut into[whole..]);
            }
        };
    }
    widen!(by_16, "avx512f,avx", 16, _mm256_loadu_si256, __m256i, _mm512_cvtph_ps, _mm512_storeu_ps);
    widen!(by_8, "avx,f16c", 8, _mm_loadu_si128, __m128i, _mm256_cvtph_ps, _mm256_storeu_ps);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_widens_exactly_at_every_length() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let same = |from: &[f16], into: &[f32]| {
            from.iter().zip(into).all(|(from, into)| from.to_f32() == *into || (from.is_nan() && into.is_nan()))
        };
        let mut into = vec![1.5; all.len()];
        widen(&all, &mut into);
        assert!(same(&all, &into));
        for length in 0..40 {
            let mut into = vec![1.5; length];
            widen(&all[15_000..15_000 + length], &mut into);
            assert!(same(&all[15_000..15_000 + length], &into));
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("f16c") {
            // SAFETY: the processor has the instructions.
            unsafe { x86::by_8(&all, &mut into) };
            assert!(same(&all, &into));
        }
    }
}
