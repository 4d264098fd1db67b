//! A software Vulkan driver (Mesa's lavapipe) as a burn device that compiles through WGSL.
//!
//! One binary serves both kinds of GPU: hardware gets CubeCL's native SPIR-V compiler and autotune; software must not, because
//! lavapipe crashes inside its SPIR-V reader on some of those modules (Mesa 22.3 and 25.0). CubeCL falls back to WGSL when the
//! Vulkan instance cannot tell extended features, so the instance is made here by hand for Vulkan 1.0 without extensions.
//!
//! Mesa 26 takes those modules. With DREDGE_SOFTWARE_COMPILER=spirv its lavapipe is driven as hardware is, with 16-bit floats and matrix units, but for
//! the least autotuning: so the path of hardware GPUs is tested where there is none (`scripts/newer-vulkan`).

#![allow(unsafe_code)]

use std::sync::OnceLock;

use burn::tensor::wgpu::WgpuSetup;
use burn::tensor::{Device, read_sync};
use burn_cubecl::cubecl::config::autotune::AutotuneLevel;
use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use wgpu::hal::api::Vulkan;

use crate::adapters::{AdapterKind, adapters};

/// Why there is no software device.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SoftwareError {
    /// No Vulkan loader, or no driver at all.
    #[error("no Vulkan on this machine: {reason} (on Debian: apt-get install libvulkan1 mesa-vulkan-drivers)")]
    NoVulkan {
        /// What the loader said.
        reason: String,
    },
    /// Vulkan is there, a software driver is not.
    #[error("Vulkan has no software driver here (on Debian: apt-get install mesa-vulkan-drivers)")]
    NoSoftwareDriver,
    /// The driver refused the device.
    #[error("the software Vulkan driver refused a device: {reason}")]
    Refused {
        /// What the driver said.
        reason: String,
    },
}

/// The software device of this process, opened at the first call.
///
/// # Errors
/// When there is no Vulkan loader, no software driver, or the driver refuses.
pub fn device() -> Result<Device, SoftwareError> {
    static DEVICE: OnceLock<Result<Device, SoftwareError>> = OnceLock::new();
    DEVICE.get_or_init(open).clone()
}

fn open() -> Result<Device, SoftwareError> {
    configure();
    if std::env::var("DREDGE_SOFTWARE_COMPILER").is_ok_and(|compiler| compiler == "spirv") {
        let adapter = adapters().into_iter().find(|adapter| adapter.kind == AdapterKind::Software);
        return adapter.map(|adapter| adapter.native()).ok_or(SoftwareError::NoSoftwareDriver);
    }
    let instance = instance()?;
    let adapter = read_sync(instance.enumerate_adapters(wgpu::Backends::VULKAN))
        .into_iter()
        .find(|adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu)
        .ok_or(SoftwareError::NoSoftwareDriver)?;
    let unwanted = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | wgpu::Features::all_experimental_mask();
    let request = wgpu::DeviceDescriptor {
        label: Some("dredge software device"),
        required_features: adapter.features().difference(unwanted),
        required_limits: adapter.limits(),
        ..Default::default()
    };
    let refused = |reason: String| SoftwareError::Refused { reason };
    let (device, queue) = read_sync(adapter.request_device(&request)).map_err(|error| refused(error.to_string()))?;
    let setup = WgpuSetup { instance, adapter, device, queue, backend: wgpu::Backend::Vulkan };
    Device::wgpu_options().setup(setup).init().map_err(|error| refused(error.to_string()))
}

/// A Vulkan 1.0 instance without extensions.
fn instance() -> Result<wgpu::Instance, SoftwareError> {
    let version = ash::vk::API_VERSION_1_0;
    let missing = |error: &dyn std::fmt::Display| SoftwareError::NoVulkan { reason: error.to_string() };
    // SAFETY: the loader is a well-behaved library; the raw instance is made from this entry, with this version, no extensions and no
    // flags, which is what `from_raw` is told, and wgpu owns and destroys it from then on (no drop callback).
    unsafe {
        let entry = ash::Entry::load().map_err(|error| missing(&error))?;
        let application = ash::vk::ApplicationInfo::default().api_version(version);
        let create = ash::vk::InstanceCreateInfo::default().application_info(&application);
        let raw = entry.create_instance(&create, None).map_err(|error| missing(&error))?;
        let instance = <Vulkan as wgpu::hal::Api>::Instance::from_raw(
            entry,
            raw,
            version,
            0,
            None,
            Vec::new(),
            wgpu::InstanceFlags::empty(),
            wgpu::MemoryBudgetThresholds::default(),
            false,
            None,
        )
        .map_err(|error| missing(&error))?;
        Ok(wgpu::Instance::from_hal::<Vulkan>(instance))
    }
}

/// The least autotuning, unless the user configured it. Must run before the first tensor.
fn configure() {
    crate::adapters::without_fusion();
    let mut config = CubeClRuntimeConfig::default();
    config.autotune.level = AutotuneLevel::Minimal;
    CubeClRuntimeConfig::try_set(config);
}
