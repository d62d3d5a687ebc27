//! A run made by hand with a row of every kind, for the tests of the files and the reports.

use std::collections::BTreeMap;

use super::schema::*;

/// A discrete GPU with timestamps and measured peaks.
pub(crate) fn gpu_run() -> Run {
    Run { format_version: FORMAT_VERSION, complete: true, environment: environment(), rows: rows() }
}

/// The same cells on a CPU driver without timestamps or peaks.
pub(crate) fn emulated_run() -> Run {
    let mut run = gpu_run();
    let device = &mut run.environment.device;
    device.name = "llvmpipe (LLVM 15.0.6, 256 bits)".to_string();
    device.driver = "llvmpipe".to_string();
    device.driver_info = "Mesa 22.3.6 (LLVM 15.0.6)".to_string();
    device.device_type = "Cpu".to_string();
    device.emulated = true;
    run.environment.timer = Timer { kind: "wall".to_string(), ..run.environment.timer };
    run.environment.peaks.clear();
    run.environment.peaks_omitted.clear();
    for row in &mut run.rows {
        if let Some(rate) = &mut row.rate {
            (rate.bound_by, rate.fraction_of_peak, rate.launch_share) = (None, None, None);
        }
        if let Some(time) = &mut row.time {
            time.timer = "wall".to_string();
        }
    }
    run
}

fn environment() -> Environment {
    Environment {
        fusebench: Tool {
            version: "0.1.0".to_string(),
            commit: "630a092".to_string(),
            dirty: true,
            kernels_hash: "5f1d9c0a".to_string(),
            measure_version: 1,
        },
        device: Device {
            name: "NVIDIA H200".to_string(),
            backend: "vulkan".to_string(),
            driver: "NVIDIA".to_string(),
            driver_info: "570.124.06".to_string(),
            device_type: "DiscreteGpu".to_string(),
            vendor_id: 0x10de,
            device_id: 0x2335,
            features: vec!["shader-f16".to_string(), "subgroup".to_string()],
            limits: BTreeMap::from([("maxComputeWorkgroupStorageSize".to_string(), 49_152)]),
            subgroup_size: [32, 32],
            emulated: false,
        },
        host: Host {
            os: "linux".to_string(),
            arch: "x86_64".to_string(),
            cpu: "Intel Xeon Platinum 8480+".to_string(),
            cores: 16,
            memory_bytes: 137_438_953_472,
        },
        timer: Timer {
            kind: "gpu".to_string(),
            resolution_s: 3.2e-8,
            quantised: false,
            submit_cost_s: 4.1e-5,
        },
        peaks_omitted: vec![OmittedPeak {
            probe: "fma".to_string(),
            dtype: "f16acc".to_string(),
            reason: "unstable: no two of 4 readings agree".to_string(),
        }],
        peaks: vec![
            peak("copy", "f32", "bytes_per_s", 3.907e12, Some(134_217_728.0)),
            peak("read", "f32", "bytes_per_s", 4.21e12, Some(134_217_728.0)),
            peak("fma", "f32", "flops_per_s", 5.413e13, None),
            peak("fma", "f16", "flops_per_s", 1.037e14, None),
            peak("launch_overhead", "f32", "s", 2.4e-6, None),
        ],
        fingerprint: "1f0c55aa-90b1d2e3".to_string(),
        started: "2026-11-23T08:15:42Z".to_string(),
        finished: Some("2026-11-23T08:16:58Z".to_string()),
        arguments: vec!["run".to_string(), "-o".to_string(), "PATH".to_string()],
        preset: "models".to_string(),
        seed: 1,
    }
}

fn peak(probe: &str, dtype: &str, unit: &str, value: f64, bytes: Option<f64>) -> Peak {
    let (probe, dtype, unit) = (probe.to_string(), dtype.to_string(), unit.to_string());
    Peak { probe, dtype, unit, value, bytes }
}

fn rows() -> Vec<Row> {
    let qformer = [("b", 1), ("h", 12), ("q", 32), ("k", 257), ("d", 64)];
    let qformer = |variant, dtype| {
        let row = row("cross_attention", variant, dtype, &qformer, "attend");
        let row = Row { work: work(2.724e7, 1.776e6), ..row };
        Row { model: Some("BLIP-2 Q-Former".to_string()), ..row }
    };
    let norm = |variant, dtype| {
        let row = row("layer_norm", variant, dtype, &[("r", 257), ("d", 1408)], "normalize");
        let bytes = if dtype == "f16" { 1.459e6 } else { 2.906e6 };
        let row = Row { work: work(2.895e6, bytes), ..row };
        Row { model: Some("EVA-CLIP ViT-g".to_string()), ..row }
    };
    let mut gelu = row("linear", "tiled", "f32", &[("m", 576), ("n", 4096), ("k", 1024)], "fuse");
    gelu.work = work(4.844e9, 2.859e7);
    gelu.id.push_str("_gelu");
    gelu.option = Some("gelu".to_string());
    let mut sampled = timed(gelu, [2.913e-4, 2.905e-4, 2.934e-4], "compute", 0.3072);
    sampled.accuracy.as_mut().expect("timed rows are judged").verified = "sampled".to_string();
    let mut tiny = row("film", "direct", "f32", &[("r", 1), ("d", 7)], "fuse");
    tiny.work = work(14.0, 112.0);
    vec![
        timed(qformer("direct", "f32"), [5.123e-5, 5.081e-5, 5.165e-5], "compute", 0.0098),
        timed(qformer("flash", "f32"), [1.231e-5, 1.219e-5, 1.239e-5], "compute", 0.0409),
        refused(
            qformer("flash", "f16"),
            Status::Unsupported,
            "needs shader-f16, which this adapter or its driver does not offer",
        ),
        wrong(qformer("subgroup", "f32")),
        timed(norm("row", "f32"), [7.14e-7, 6.98e-7, 8.36e-7], "memory", 1.042),
        timed(norm("row", "f16"), [5.3e-7, 5.25e-7, 5.36e-7], "memory", 0.7046),
        refused(
            norm("vec4", "f32"),
            Status::Skipped,
            "skipped: its buffers take 68.7 GB and the adapter binds at most 2.15 GB at once",
        ),
        sampled,
        launch_bound(timed(tiny, [5.7e-6, 5.64e-6, 5.75e-6], "launch", 0.4211)),
        refused(
            row("gather", "direct", "f32", &[("r", 576), ("d", 4096)], "resample"),
            Status::Error,
            "device lost: the driver reset it after 2 s | see `dmesg`",
        ),
    ]
}

/// A pipeline under two strategies at two precisions on the same GPU.
pub(crate) fn pipeline_run() -> Run {
    let cell = |strategy, dtype, median: f64, sqnr_db: f64| {
        let axes = [("b", 24), ("t", 50), ("a", 500), ("v", 375), ("l", 5)];
        let row = row("pipeline_mosei_mult", strategy, dtype, &axes, "pipeline");
        let row = Row { work: work(1.61e9, 2.13e7), ..row };
        let row = Row { model: Some("MulT on CMU-MOSEI".to_string()), ..row };
        let seconds = [median, 0.99 * median, 1.01 * median];
        let mut row = timed(row, seconds, "compute", 0.31);
        row.device_bytes = Some(48_300_000);
        row.stages = stages(dtype, median);
        let accuracy = row.accuracy.as_mut().expect("timed rows are judged");
        (accuracy.sqnr_db, accuracy.max_abs) = (sqnr_db, 10_f64.powf(-sqnr_db / 20.0));
        accuracy.against = Some("f64 end to end".to_string());
        row
    };
    let rows = vec![
        cell("mid", "f32", 8.12e-3, 121.0),
        cell("mid", "f16", 5.2e-3, 62.4),
        cell("mid", "i8", 5.9e-3, 38.0),
        cell("late", "f32", 4.4e-3, 124.0),
        cell("late", "i4", 4.42e-3, 17.2),
    ];
    Run { rows, ..gpu_run() }
}

fn stages(dtype: &str, total: f64) -> Vec<StageRecord> {
    let shares = [0.41, 0.25, 0.14, 0.11, 0.06, 0.03];
    let stage = |(index, share): (usize, f64)| StageRecord {
        name: format!("text from audio, level {index}"),
        id: format!("cross_attention/flash/{dtype}/b24h5q50k500d6"),
        work: work(2.7e8, 4.1e6),
        median: Some(share * total),
        share: Some(share),
        device_bytes: 144_000,
        worst_over_bound: Some(0.02),
    };
    shares.into_iter().enumerate().map(stage).collect()
}

/// A cell before anything was found out about it.
pub(crate) fn row(
    kernel: &str,
    variant: &str,
    dtype: &str,
    axes: &[(&str, u64)],
    family: &str,
) -> Row {
    let shape: String = axes.iter().map(|(axis, size)| format!("{axis}{size}")).collect();
    Row {
        id: format!("{kernel}/{variant}/{dtype}/{shape}"),
        kernel: kernel.to_string(),
        variant: variant.to_string(),
        dtype: dtype.to_string(),
        family: family.to_string(),
        shape: axes.iter().map(|(axis, size)| ((*axis).to_string(), *size)).collect(),
        option: None,
        model: None,
        preset: "models".to_string(),
        constants: BTreeMap::new(),
        tuned: false,
        checks: "safe".to_string(),
        status: Status::Skipped,
        reason: None,
        work: work(0.0, 1.887e7),
        time: None,
        rate: None,
        accuracy: None,
        time_trusted: None,
        stages: Vec::new(),
        compile_s: None,
        verify_s: None,
        harness_s: None,
        device_bytes: None,
    }
}

fn refused(row: Row, status: Status, reason: &str) -> Row {
    Row { status, reason: Some(reason.to_string()), ..row }
}

fn wrong(row: Row) -> Row {
    let reason = "G1: an error of 4.210e3 times its bound; element 1531 is 1.250000000e0, \
                  expected 9.312500000e-1 ± 7.4e-5";
    let mut accuracy = accuracy("all");
    accuracy.passed = false;
    accuracy.sqnr_db = 21.37;
    for gate in &mut accuracy.gates {
        (gate.passed, gate.worst) = (gate.gate == "G0", gate.worst * 2e5);
    }
    accuracy.worst_over_bound = Some(4210.0);
    let (rule, inputs) = ("G1".to_string(), "normal".to_string());
    accuracy.failed_by = Some(FailedBy { rule, worst: Some(4210.0), inputs });
    Row { accuracy: Some(accuracy), ..refused(row, Status::Wrong, reason) }
}

/// A cell with a time: median, low and high in seconds.
pub(crate) fn timed(row: Row, seconds: [f64; 3], bound_by: &str, fraction: f64) -> Row {
    let [median, low, high] = seconds;
    let time = Time {
        unit: "s".to_string(),
        median,
        low,
        high,
        confidence: 0.95,
        timer: "gpu".to_string(),
        stopped_by: "target".to_string(),
        samples: vec![median, low, high],
        cold_median: Some(median * 1.37),
        wall_median: median + 4.1e-5,
        cold_samples: vec![median * 1.37],
        min: low,
        batch: 137,
        n_invalid: 0,
        outliers: [3, 1],
        rank_autocorrelation: 0.21,
        canary: vec![(0, 1.001e-3)],
        time_normalised: None,
        notes: Vec::new(),
    };
    let unchecked = Time {
        median: median / 1.12,
        low: low / 1.12,
        high: high / 1.12,
        cold_median: None,
        ..time.clone()
    };
    let rate = Rate {
        flops_per_s: row.work.flops / median,
        bytes_per_s: row.work.bytes / median,
        bound_by: Some(bound_by.to_string()),
        fraction_of_peak: Some(fraction),
        launch_share: Some(0.04),
        footprint_bytes: 1.776e6,
    };
    Row {
        status: Status::Ok,
        time: Some(time),
        rate: Some(rate),
        accuracy: Some(accuracy("all")),
        time_trusted: (row.dtype == "f16").then_some(unchecked),
        stages: Vec::new(),
        compile_s: Some(0.0063),
        verify_s: Some(0.21),
        harness_s: Some(0.04),
        device_bytes: Some(1_776_000),
        ..row
    }
}

fn launch_bound(mut row: Row) -> Row {
    row.rate.as_mut().expect("the row is timed").launch_share = Some(0.4211);
    row.time.as_mut().expect("the row is timed").notes.push("throttled 0.71".to_string());
    row
}

fn accuracy(verified: &str) -> Accuracy {
    let gate = |gate: &str, worst: f64| GateRecord { gate: gate.to_string(), passed: true, worst };
    Accuracy {
        passed: true,
        failed_by: None,
        gates: vec![gate("G0", 0.0), gate("G1", 0.0213), gate("G1p", 0.317), gate("G2", 0.2264)],
        max_abs: 2.384e-7,
        rmse: 3.1e-8,
        nmse: 1.6e-14,
        sqnr_db: 137.9,
        predicted_sqnr_db: Some(135.2),
        cosine: 1.0,
        worst_index: 1531,
        inputs: "normal".to_string(),
        checked: vec!["normal".to_string(), "integers".to_string()],
        verified: verified.to_string(),
        against: None,
        worst_over_bound: Some(0.0213),
        rms_over_predicted: Some(0.68),
        converted: Vec::new(),
        report_only: false,
    }
}

fn work(flops: f64, bytes: f64) -> Work {
    Work { flops, bytes, arithmetic: "f32".to_string() }
}
