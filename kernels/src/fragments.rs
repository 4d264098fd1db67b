//! The matrix units of an adapter (cooperative matrices of SPIR-V, simdgroup matrices of Metal): products of 16-bit floats, added up in 32 bits.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::{DeviceProperties, ElemType, FloatKind};

/// One product of matrix units, `[m, k] x [k, n]`, by the units of one plane (subgroup).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fragment {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Units of a plane.
    pub(crate) plane: usize,
}

impl std::fmt::Display for Fragment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} x {} x {}", self.m, self.n, self.k)
    }
}

impl Fragment {
    /// The best that the device offers, or why it offers none.
    pub(crate) fn of(properties: &DeviceProperties) -> Result<Self, String> {
        let hardware = &properties.hardware;
        let [half, single] = [FloatKind::F16, FloatKind::F32].map(ElemType::Float);
        // Kernels divide blocks into fragments, and fragments among the units of a plane.
        let fits = |config: &&cubecl::ir::features::MmaConfig| {
            (config.a_type, config.b_type, config.cd_type) == (half, half, single)
                && [config.m, config.n, config.k].iter().all(|side| side.is_power_of_two() && *side >= 4)
        };
        // Square ones share their operands most; 16 is what hardware has.
        let config =
            properties.features.matmul.cmma.iter().filter(fits).max_by_key(|config| (config.m.min(config.n).min(16), config.k.min(16)));
        let Some(config) = config else { return Err("the adapter multiplies no matrices of 16-bit floats into 32-bit sums".to_owned()) };
        let (smallest, largest) = (hardware.plane_size_min as usize, hardware.plane_size_max as usize);
        if smallest != largest {
            return Err(format!("subgroups have {smallest} to {largest} units, and matrix units want to know how many"));
        }
        Ok(Self { m: config.m as usize, n: config.n as usize, k: config.k as usize, plane: largest })
    }
}
