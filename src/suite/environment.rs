//! What a result depends on besides the kernels. Strings of hardware and software only: no host
//! or user name, no path, no serial number.

use std::fs;

use crate::gpu::AdapterReport;
use crate::record;

pub fn device(report: &AdapterReport) -> record::Device {
    record::Device {
        name: report.name.clone(),
        backend: report.backend.clone(),
        driver: report.driver.clone(),
        driver_info: report.driver_info.clone(),
        device_type: report.device_type.clone(),
        vendor_id: report.vendor_id,
        device_id: report.device_id,
        features: report.features.clone(),
        limits: report.limits.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
        subgroup_size: report.subgroup_size,
        emulated: report.emulated,
    }
}

pub fn host() -> record::Host {
    record::Host {
        os: operating_system(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: cpu_model().unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_bytes: memory_bytes().unwrap_or(0),
    }
}

/// What the buffers of a comparison may take: a quarter of the memory where it is the host's, and
/// a size that any GPU has elsewhere.
pub fn device_memory_bytes(emulated: bool) -> u64 {
    const ANY_GPU_BYTES: u64 = 2 << 30;
    if emulated { memory_bytes().unwrap_or(4 << 30) / 4 } else { ANY_GPU_BYTES }
}

fn operating_system() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {}", std::env::consts::OS, release.trim()).trim_end().to_owned()
}

fn cpu_model() -> Option<String> {
    if let Ok(text) = fs::read_to_string("/proc/cpuinfo") {
        return field(&text, "model name").map(str::to_owned);
    }
    if cfg!(target_os = "macos") {
        return sysctl("machdep.cpu.brand_string");
    }
    std::env::var("PROCESSOR_IDENTIFIER").ok()
}

fn memory_bytes() -> Option<u64> {
    if let Ok(text) = fs::read_to_string("/proc/meminfo") {
        let kib: u64 = field(&text, "MemTotal")?.trim_end_matches(" kB").parse().ok()?;
        return Some(kib * 1024);
    }
    sysctl("hw.memsize")?.parse().ok()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn sysctl(name: &str) -> Option<String> {
    let output = std::process::Command::new("sysctl").args(["-n", name]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// Bytes of the largest CPU cache, where the system tells.
pub fn last_level_cache_bytes() -> Option<u64> {
    let size = |index: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = fs::read_to_string(path).ok()?;
        let (number, unit) = text.trim().split_at(text.trim().len().checked_sub(1)?);
        let scale = if unit == "M" { 1 << 20 } else { 1 << 10 };
        number.parse::<u64>().ok().map(|number| number * scale)
    };
    (0..8).filter_map(size).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_from_the_kernels_tables() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nMemTotal:       24 kB\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(field(text, "MemTotal"), Some("24 kB"));
        assert_eq!(field(text, "absent"), None);
    }

    #[test]
    fn this_machine_has_a_processor() {
        let host = host();
        assert!(host.cores >= 1 && !host.cpu.is_empty() && !host.os.is_empty());
    }
}
