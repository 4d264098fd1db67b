//! The GPUs of this machine: what there is, and what each can do.
//!
//! `adapters` lists without opening; `Adapter::open` gives the burn device; `describe` reads limits from an open device.
//! Hardware goes through the native compiler of its API (SPIR-V on Vulkan). A software Vulkan driver goes through WGSL, see `software`.

use std::fmt;

use burn::BurnConfig;
use burn::tensor::{Device, DeviceType};
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::config::RuntimeConfig;
use burn_cubecl::cubecl::device::WgpuDeviceKind;
use burn_cubecl::cubecl::features::TypeUsage;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};

use crate::software;

/// What an adapter is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    /// A card of its own.
    Discrete,
    /// Part of the processor.
    Integrated,
    /// Passed through by a hypervisor.
    Virtual,
    /// Hardware of an unknown kind.
    Other,
    /// A driver that computes on the CPU, such as Mesa's lavapipe.
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "other",
            Self::Software => "software",
        })
    }
}

/// An adapter that can be opened.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// What it is.
    pub kind: AdapterKind,
    device: Device,
}

/// What an open device offers. Kernels read these, and assume nothing.
#[derive(Clone, Debug)]
pub struct AdapterLimits {
    /// The name the driver gives.
    pub name: String,
    /// The largest piece of memory one kernel argument can be, in bytes.
    pub max_binding_bytes: u64,
    /// Shared memory of one workgroup, in bytes.
    pub shared_memory_bytes: usize,
    /// Invocations of one workgroup.
    pub max_workgroup: u32,
    /// Smallest subgroup size.
    pub subgroup_min: u32,
    /// Largest subgroup size.
    pub subgroup_max: u32,
    /// Whether kernels can compute with 16-bit floats.
    pub f16: bool,
    /// What the search multiplies 16-bit queries and rows by: the shape of its matrix units, or why plain arithmetic units do it.
    pub matrix_units: Result<String, String>,
    /// The shader language kernels are compiled to: `spirv`, `wgsl` or `msl`.
    pub compiler: String,
}

/// Every adapter of this machine, in the driver's order; empty when there is no loader or no driver.
#[must_use]
pub fn adapters() -> Vec<Adapter> {
    Device::enumerate(DeviceType::Wgpu).into_vec().into_iter().map(|device| Adapter { kind: kind(&device), device }).collect()
}

fn kind(device: &Device) -> AdapterKind {
    match cube_device(device) {
        Some(CubeDevice::Wgpu(wgpu)) => match wgpu.kind {
            WgpuDeviceKind::DiscreteGpu(_) => AdapterKind::Discrete,
            WgpuDeviceKind::IntegratedGpu(_) => AdapterKind::Integrated,
            WgpuDeviceKind::VirtualGpu(_) => AdapterKind::Virtual,
            WgpuDeviceKind::Cpu => AdapterKind::Software,
            _ => AdapterKind::Other,
        },
        _ => AdapterKind::Other,
    }
}

/// The CubeCL device behind a burn device, with or without autodiff; `None` on the CPU backend.
pub(crate) fn cube_device(device: &Device) -> Option<CubeDevice> {
    match device.clone().without_autodiff().as_dispatch() {
        burn::backend::DispatchDevice::Cube(device) => Some(device.clone()),
        _ => None,
    }
}

impl Adapter {
    /// The burn device of this adapter through its native compiler, whatever its kind.
    pub(crate) fn native(&self) -> Device {
        without_fusion();
        self.device.clone()
    }

    /// The burn device of this adapter. A software adapter is opened through WGSL, once a process, unless the environment says otherwise: see `software`.
    ///
    /// # Errors
    /// What the driver said when it refused.
    pub fn open(&self) -> Result<Device, software::SoftwareError> {
        match self.kind {
            AdapterKind::Software => software::device(),
            _ => Ok(self.native()),
        }
    }
}

/// Switches burn's fusion of operations off, unless DREDGE_FUSION=on or the user configured burn. Must run before the first tensor.
///
/// burn 0.22.1 fuses some of our losses into kernels that give a wrong value (`debiased`), or panics while it fuses (`hcl`), whatever the driver: see PITFALLS.md.
pub(crate) fn without_fusion() {
    if std::env::var("DREDGE_FUSION").is_ok_and(|fusion| fusion == "on") {
        return;
    }
    let fusion = r#"{"fusion": {"beam_search": {"max_explorations": 0}}}"#;
    if let Ok(config) = serde_json::from_str::<BurnConfig>(fusion) {
        BurnConfig::try_set(config);
    }
}

/// What `device` offers. `None` on the CPU backend. Opens the device.
#[must_use]
pub fn describe(device: &Device) -> Option<AdapterLimits> {
    let client = cube_device(device)?.client();
    let properties = client.properties();
    let hardware = &properties.hardware;
    let compiler = client.name().split(['<', '>']).nth(1).unwrap_or("wgsl").to_owned();
    let half = ElemType::Float(FloatKind::F16);
    Some(AdapterLimits {
        name: properties.identity.name.clone(),
        max_binding_bytes: properties.memory.max_page_size,
        shared_memory_bytes: hardware.max_shared_memory_size,
        max_workgroup: hardware.max_units_per_cube,
        subgroup_min: hardware.plane_size_min,
        subgroup_max: hardware.plane_size_max,
        f16: properties.type_usage(half).contains(TypeUsage::Arithmetic),
        matrix_units: crate::scan::matrix_units(&cube_device(device)?),
        compiler,
    })
}

/// A shard of a store is at most this large, where the adapter does not ask for less: what normalises or reads a shard takes memory of its size, twice that for rows of 16 bits.
const SHARD_BYTES: usize = 512 << 20;

/// Rows of the shards that a store on `device` is best cut into: few, as a search begins and ends its lists, and launches, anew with each, and within memory. At least 1.
#[must_use]
pub fn rows_per_shard(device: &Device, dimension: usize, element_bytes: usize) -> usize {
    // Rows of 16 bits are read and normalised in 32: these, too, are one argument.
    (SHARD_BYTES / (dimension * element_bytes).max(1)).clamp(1, max_rows_per_shard(device, dimension, element_bytes.max(4)))
}

/// Rows of one shard of a store on `device`, at most: what one kernel argument holds, and what kernels can count: SPIR-V takes an index of 32 bits for one with a sign. At least 1.
#[must_use]
pub fn max_rows_per_shard(device: &Device, dimension: usize, element_bytes: usize) -> usize {
    let bytes = describe(device).map_or(u64::MAX, |limits| limits.max_binding_bytes);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    // A dimension of 0 takes no memory.
    let (row, width) = ((dimension * element_bytes).max(1), dimension.max(1));
    (bytes / row).min(i32::MAX as usize / width).min(i32::MAX as usize - 1).max(1)
}
