//! `fusebench devices`.

use super::args::Global;
use super::exit::{Exit, Failure};
use super::output::print;
use super::supervise::Worker;
use crate::record::{Device, Event, Request};

/// Lists every adapter. In a worker, because drivers write to stderr while they are looked for.
pub fn devices(json: bool, global: &Global) -> Result<Exit, Failure> {
    let failure = |reason: String| Failure::environment(format!("cannot list adapters: {reason}"));
    let mut worker = Worker::start(global.verbose).map_err(|error| failure(error.to_string()))?;
    worker.send(&Request::Devices);
    let event = worker.answer(&mut |_| {}).map_err(|loss| failure(loss.reason().to_owned()))?;
    let Event::Devices(devices) = event else { return Err(failure(format!("{event:?}"))) };
    if json {
        let text = serde_json::to_string_pretty(&devices).expect("devices serialise");
        print(&format!("{text}\n"));
    } else {
        devices.iter().enumerate().for_each(|(index, device)| print(&describe(index, device)));
    }
    if devices.is_empty() {
        return Err(Failure::environment(crate::gpu::GpuError::NoAdapter.to_string()));
    }
    Ok(Exit::Fine)
}

fn describe(index: usize, device: &Device) -> String {
    let emulated = if device.emulated { ", CPU-emulated: not comparable with GPUs" } else { "" };
    let [low, high] = device.subgroup_size;
    let subgroup = match (low, high) {
        (0, 0) => "none".to_owned(),
        (low, high) if low == high => low.to_string(),
        (low, high) => format!("{low} to {high}"),
    };
    let features =
        if device.features.is_empty() { "none".into() } else { device.features.join(", ") };
    let clock = if device.features.iter().any(|name| name == "timestamp-query") {
        "device timestamps"
    } else {
        "wall clock"
    };
    let limit = |name: &str| device.limits.get(name).copied().unwrap_or(0);
    let mib = |name: &str| limit(name) as f64 / 1_048_576.0;
    format!(
        "{index}  {}:{}\n   {}{emulated}; driver {} {}\n   features: {features}; subgroup size: \
         {subgroup}; timer: {clock}\n   limits: binding {:.0} MiB, buffer {:.0} MiB, workgroup \
         memory {} KiB, {} invocations\n",
        device.backend,
        device.name,
        device.device_type,
        device.driver,
        device.driver_info,
        mib("maxStorageBufferBindingSize"),
        mib("maxBufferSize"),
        limit("maxComputeWorkgroupStorageSize") / 1024,
        limit("maxComputeInvocationsPerWorkgroup"),
    )
}
