//! What the rules choose where nothing was tuned, for the shapes that decide how a kernel works.

use fusebench::kernel::Preset;
use fusebench::record::Device;
use fusebench::shader::SUBGROUP_OF_8;
use fusebench::suite::{Item, by_rule, items};

fn device(emulated: bool, features: &[&str]) -> Device {
    let features = features.iter().map(|&name| name.to_owned()).collect();
    Device { emulated, features, ..Device::default() }
}

/// Queries of a decoder over the frames of an encoder.
const LONG: &str = "b1h20q448k1500d64";

fn chosen(kernel: &str, shape: &str, device: &Device) -> &'static str {
    let is_it = |item: &Item| item.name() == kernel && item.shape().to_string() == shape;
    let presets = [Preset::Models, Preset::Sweep, Preset::Smoke].into_iter();
    let alike: Vec<Item> = presets.flat_map(items).filter(is_it).collect();
    assert!(!alike.is_empty(), "{kernel} has no shape {shape}");
    by_rule(&alike, device)
        .unwrap_or_else(|| panic!("no strategy of {kernel} does {shape}"))
        .variant()
}

#[test]
fn untuned_devices_take_what_suits_shape_features_and_kind() {
    // The last one is like SwiftShader, whose subgroups have four invocations.
    let gpu = device(false, &["subgroup", "shader-f16"]);
    let plain_gpu = device(false, &[]);
    let wide_cpu = device(true, &["subgroup", SUBGROUP_OF_8, "shader-f16"]);
    let plain_cpu = device(true, &["subgroup"]);
    for (kernel, shape, on_gpu, on_plain_gpu, on_wide_cpu, on_plain_cpu) in [
        ("linear", "m77n768k768", "split", "split", "broadcast", "register"),
        ("linear", "m1n1024k1280", "matvec", "matvec", "one_row", "register"),
        ("linear", "m576n4096k4096", "tall", "tall", "broadcast", "register"),
        ("linear", "m9000n30k35", "tiled", "tiled", "broadcast", "register"),
        ("layer_norm", "r577d1024", "subgroup", "group", "broadcast", "thread"),
        ("layer_norm", "r257d1408", "subgroups", "group", "broadcast", "thread"),
        ("layer_norm", "r22200d30", "group", "group", "thread", "thread"),
        ("linear_w8a8", "m77n768k768", "tiled_f16", "tiled", "broadcast_f16", "register"),
        ("cross_attention", LONG, "subgroup_tile", "flash_wide", "subgroup_block16", "flash"),
        ("cross_attention", "b1h20q1k1500d64", "split_kv", "split_kv", "subgroup_block", "flash"),
        ("gated_fusion", "m2b128d512", "strip", "strip", "row", "row"),
        ("concat", "b128u512v512", "vector_each", "vector_each", "chunk", "chunk"),
        ("median_filter", "r4480t1500w7", "run", "run", "stream", "run"),
        ("softmax", "r6000n500", "subgroup", "group", "registers", "thread"),
        ("softmax", "r4480n1500", "subgroups", "group", "thread", "thread"),
    ] {
        let found = [&gpu, &plain_gpu, &wide_cpu, &plain_cpu].map(|on| chosen(kernel, shape, on));
        let expected = [on_gpu, on_plain_gpu, on_wide_cpu, on_plain_cpu];
        assert_eq!(
            found, expected,
            "{kernel} {shape}: GPU, without subgroups, CPU, subgroups of 4"
        );
    }
}
